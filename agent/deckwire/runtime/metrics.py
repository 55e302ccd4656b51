"""The counters in Prometheus' text format, for node_exporter's textfile collector."""

from __future__ import annotations

import re
from collections.abc import Mapping

from deckwire.runtime.status import Status

_GAUGES = re.compile(r"output_.*_(queued|spooled)|fragments_waiting")
"""Counters of capture_stats that also fall."""
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_]")


def exposition(status: Status) -> bytes:
    """All metrics. Their only label is the interface, so their number is bounded."""
    lines: list[str] = []
    _add(lines, "deckwire_up", "gauge", "1 while the agent runs.", {"": 1})
    _add(
        lines,
        "deckwire_problems",
        "gauge",
        "Things that are wrong now; deckwire status says which.",
        {"": len(status.problems)},
    )
    _add(lines, "deckwire_deckies", "gauge", "Deckies watched.", {"": status.deckies})
    _add(
        lines,
        "deckwire_interface_attached",
        "gauge",
        "1 if the programs are attached to the interface.",
        {
            f'{{interface="{_label(name)}"}}': int(not how.startswith("missing"))
            for name, how in status.interfaces.items()
        },
    )
    _add(
        lines,
        "deckwire_status_timestamp_seconds",
        "gauge",
        "When this file was written.",
        {"": round(status.time, 3)},
    )
    for name, value in status.counters.items():
        metric = "deckwire_" + _NOT_IN_A_NAME.sub("_", name)
        text = f"The counter {name} of capture_stats; docs/events.md explains it."
        if _GAUGES.fullmatch(name):
            _add(lines, metric, "gauge", text, {"": value})
        else:
            _add(lines, f"{metric}_total", "counter", text, {"": value})
    return ("\n".join(lines) + "\n").encode()


def _add(lines: list[str], name: str, kind: str, text: str, values: Mapping[str, float]) -> None:
    lines.append(f"# HELP {name} {text}")
    lines.append(f"# TYPE {name} {kind}")
    lines += [f"{name}{labels} {value}" for labels, value in values.items()]


def _label(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

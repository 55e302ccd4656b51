"""Measure what Deckwire costs, against no agent and against a no-op program.

The measurements run in a lab of their own. Markdown goes to standard output, JSON to the file of
--json. Needs root. Figures are only worth quoting from a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import (
    bulk,
    flood_runs,
    handshakes,
    lines,
    live_runs,
    machine,
    observers,
    program_runs,
    readers,
    registry,
    reload,
    rtt,
    sizing,
    startup,
    syns,
    xdp_modes,
)
from bench.figures import Line, markdown, write_json
from deckwire.lab import Lab

Part = Callable[[], list[Line]]


def main() -> int:
    """Run the parts and return 0, also if a goal was missed: the table shows that."""
    arguments = _arguments()
    about = machine.describe()
    missing = observers.missing()
    for name, value in about.items():
        print(f"- {name}: {value}")
    for warning in machine.warnings():
        print(f"- {warning}", flush=True)
    if missing:
        print(f"- not compared, because not installed: {', '.join(missing)}", flush=True)
    results: list[Line] = []
    with Lab() as lab:
        parts = _parts(lab, quick=arguments.quick)
        for name in arguments.only or parts:
            found = parts[name]()
            results += found
            print(f"\n## {name}\n\n{markdown(found)}", flush=True)
    if arguments.json is not None:
        write_json(arguments.json, about, results)
    return 0


def _parts(lab: Lab, *, quick: bool) -> dict[str, Part]:
    """The measurements by name, in order. `quick` runs one short round each, as a check."""
    rounds = 1 if quick else 5
    seconds = 1 if quick else 4
    return {
        "programs": lambda: program_runs.measure(2 if quick else 15, 10_000 if quick else 200_000),
        "bulk": lambda: _bulk(lab, rounds, seconds, 0.1 if quick else 1.0),
        "handshakes": lambda: handshakes.measure(lab, rounds, seconds, 200 if quick else 3_000),
        "syns": lambda: syns.measure(lab, 1 if quick else 7, 20_000 if quick else 200_000),
        "frames": lambda: flood_runs.measure(lab, rounds, 20_000 if quick else 200_000),
        "rtt": lambda: rtt.measure(lab, rounds, 100 if quick else 2_000),
        "start": lambda: startup.measure(lab, 1 if quick else 9),
        "lines": lambda: lines.measure(2 if quick else 50),
        "readers": lambda: readers.measure(2 if quick else 50),
        "registry": lambda: registry.measure(1 if quick else 9),
        "reload": lambda: reload.measure(lab, 10),
        "xdp": lambda: xdp_modes.measure(
            lab, rounds, seconds, 20_000 if quick else 200_000, 100 if quick else 1_000
        ),
        "sizes": lambda: sizing.measure(lab, seconds),
    }


def _bulk(lab: Lab, rounds: int, seconds: int, gigabytes: float) -> list[Line]:
    found = []
    for offloads in (True, False):
        found += bulk.measure(lab, rounds, seconds, gigabytes, offloads=offloads)
    # The last round left offloads off, so the lab sends MTU-size frames here.
    found += live_runs.measure(lab, rounds, seconds, gigabytes / 2)
    lab.set_offloads(True)
    return found


def _arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    names = (
        *("programs", "bulk", "handshakes", "syns", "frames", "rtt", "start", "lines"),
        *("readers", "registry", "reload", "xdp", "sizes"),
    )
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the results to FILE as JSON"
    )
    parser.add_argument(
        "--only", action="append", choices=names, help="run only this part; may be repeated"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one short round, as a check: do not quote its figures"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

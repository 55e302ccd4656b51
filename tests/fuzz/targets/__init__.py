"""The fuzz targets: modules with `seeds()`, and `check(data)`, which raises if a property fails."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol, cast


class Target(Protocol):
    """The functions of the module of a target."""

    seeds: Callable[[], list[bytes]]
    """Return the inputs to start with, which are generated."""
    check: Callable[[bytes], None]
    """Check one input; any exception is a finding."""


NAMES = (
    "stream",
    "records",
    "client_hello",
    "server_hello",
    "certificate_message",
    "fingerprints",
    "ssh",
    "http",
    "payloads",
    "heads",
    "certificate",
    "syn_packet",
    "sample",
    "connection",
    "pipeline",
    "lines",
    "capture_file",
    "segments",
    "deckies",
    "decnet_state",
    "bus",
    "configuration",
    "scans",
    "signatures",
    "rtnetlink",
    "handover",
)


def load(name: str) -> Target:
    """Return the target of this name."""
    return cast(Target, importlib.import_module(f"{__name__}.{name}"))

"""The fuzz targets: modules with `seeds()`, and `check(data)` that raises if a property fails."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol, cast


class Target(Protocol):
    """What a target's module offers."""

    seeds: Callable[[], list[bytes]]
    """Inputs to begin with, made anew by code."""
    check: Callable[[bytes], None]
    """Runs one input; any exception is a finding."""


NAMES = (
    "stream",
    "records",
    "client_hello",
    "server_hello",
    "certificate_message",
    "fingerprints",
    "certificate",
    "syn_packet",
    "sample",
    "connection",
    "pipeline",
    "lines",
    "capture_file",
    "segments",
    "deckies",
    "configuration",
    "signatures",
    "rtnetlink",
    "handover",
)


def load(name: str) -> Target:
    """The target of this name."""
    return cast(Target, importlib.import_module(f"{__name__}.{name}"))

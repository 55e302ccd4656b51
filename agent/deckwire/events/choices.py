"""What the operator chose about the fields of events."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Choices:
    """Settings that change fields; see docs/configuration.md."""

    raw_fingerprints: bool = False
    """Adds ja4_r, ja4_o and ja4_ro to hellos."""
    ja4plus: bool = True
    """Off: contract fields made by JA4+ methods stay empty, added ones vanish."""
    decnet: bool = False
    """The old sniffer's ja4 and ja4s values instead of FoxIO's."""

"""The operator's choices about the fields of events."""

from __future__ import annotations

from dataclasses import dataclass

from deckwire.events.redaction import Redactor


@dataclass(frozen=True, slots=True)
class Choices:
    """Settings that change fields; see docs/configuration.md."""

    raw_fingerprints: bool = False
    """Adds ja4_r, ja4_o and ja4_ro to hellos."""
    ja4plus: bool = True
    """If off, contract fields made by JA4+ methods are empty and added ones are left out."""
    decnet: bool = False
    """Gives the old sniffer's ja4 and ja4s values instead of FoxIO's."""
    sequences: bool = False
    """A SYN whose source turns out to be of another ipid_class or isn_class is no repeat."""
    redactor: Redactor | None = None
    """Replaces credentials in the events of some directions; None: in none."""

"""The techniques of `tcp_anomaly`: what an attacker does to be misread, one name for each."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Technique(StrEnum):
    """The value of the field `technique`."""

    UNANSWERED_HELLO = "unanswered_hello"


class Anomaly(NamedTuple):
    """One finding: a technique, and what shows it."""

    technique: Technique
    evidence: str
    """Text for a person. It may contain bytes from the wire, and the formatter escapes it."""

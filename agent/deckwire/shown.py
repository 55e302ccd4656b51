"""What error messages repeat of an operator's input: short, on one line, printable ASCII."""

from __future__ import annotations

SHOWN_LENGTH = 60
"""Characters of a wrong value that a message repeats."""


def shown(value: object) -> str:
    """A wrong value as Python would write it, cut where it is long."""
    text = ascii(value)
    return text if len(text) <= SHOWN_LENGTH else text[:SHOWN_LENGTH] + "..."


def plain(text: str) -> str:
    """A path or key that leads a message: whole and without quotes, control characters escaped."""
    return ascii(text)[1:-1]

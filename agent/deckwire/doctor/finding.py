"""One fact about this host that matters to `deckwire run`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "missing", "note"]
"""``missing``: `deckwire run` cannot work. ``note``: it can, and the user should know this."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    state: State
    subject: str
    """One word that a script can look for."""
    text: str
    advice: str = ""
    """What to do; empty if nothing needs to be done."""

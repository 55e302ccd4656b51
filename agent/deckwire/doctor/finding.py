"""One thing found out about this host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "missing", "note"]
"""`missing`: `deckwire run` cannot work. `note`: it can, and this is worth knowing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's."""

    state: State
    subject: str
    """One word that a script can look for."""
    text: str
    advice: str = ""
    """What to do; empty if there is nothing to be done."""

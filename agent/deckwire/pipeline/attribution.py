"""The operator's choices about who counts as the attacker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attribution:
    """Which end is src_ip, and which connections have events at all."""

    outbound_peer: bool = False
    """The peer of a connection that a decky opened is src_ip. Nothing of the decky's own stack is
    emitted then."""
    lateral: str = "emit"
    """Events of connections between deckies: ``emit``, ``hold`` or ``drop``."""

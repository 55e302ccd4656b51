"""The kind of link that a SYN or SYN-ACK packet came over, guessed from its MSS."""

from __future__ import annotations

from collections.abc import Mapping

from deckwire.fingerprints.p0f import Observation

_HEADERS = {4: 40, 6: 60}
"""Bytes that a host subtracts from its MTU, by IP version: headers without options (RFC 6691)."""


def mtu(observation: Observation) -> int | None:
    """Return the MTU that the MSS was computed from; None without an MSS."""
    if observation.mss == 0:
        return None
    return observation.mss + _HEADERS[observation.ver]


def link(observation: Observation, links: Mapping[int, str]) -> str | None:
    """Return the label that `links` has for the MTU; None if it has none."""
    size = mtu(observation)
    return None if size is None else links.get(size)

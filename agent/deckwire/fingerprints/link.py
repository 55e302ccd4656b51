"""The kind of link an opening came over, guessed from the MTU that its MSS was made for."""

from __future__ import annotations

from collections.abc import Mapping

from deckwire.fingerprints.p0f import Observation

_HEADERS = {4: 40, 6: 60}
"""Smallest IP and TCP headers together: what a host subtracts from its MTU (RFC 6691)."""


def mtu(observation: Observation) -> int | None:
    """The MTU behind the MSS; None without an MSS."""
    if observation.mss == 0:
        return None
    return observation.mss + _HEADERS[observation.ver]


def link(observation: Observation, links: Mapping[int, str]) -> str | None:
    """The label of a signature file's ``[mtu]`` section; None for an MTU that it does not have."""
    size = mtu(observation)
    return None if size is None else links.get(size)

"""In which order, and how far, a scan went over its targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from deckwire.abi.sources import Target

Place = tuple[bytes, int, int]
"""Decky, protocol and port."""

_STEPS = 4
"""Steps that show an order. Five ports at random are in order once in 60 times."""
_IN_ORDER = 0.9
"""Part of the steps that go one way: frames may overtake each other."""


def place(target: Target) -> Place:
    """The place of a target."""
    return target.decky, target.protocol, target.port


def order(places: Sequence[Place]) -> str:
    """``single``, ``sequential`` or ``random``; "" if too few places were touched to say.

    The ports of each decky show it, or the addresses if each decky has one port. `places` are in
    the order in which they were touched first.
    """
    if len(places) == 1:
        return "single"
    ports: dict[tuple[bytes, int], list[int]] = {}
    for decky, protocol, port in places:
        ports.setdefault((decky, protocol), []).append(port)
    steps = [after > before for each in ports.values() for before, after in pairwise(each)]
    if not steps:
        addresses = list(dict.fromkeys(decky for decky, _, _ in places))
        steps = [after > before for before, after in pairwise(addresses)]
    if len(steps) < _STEPS:
        return ""
    ascending = sum(steps)
    one_way = max(ascending, len(steps) - ascending)
    return "sequential" if one_way >= _IN_ORDER * len(steps) else "random"


def spread(places: Iterable[Place]) -> str:
    """``horizontal`` (over deckies), ``vertical`` (over a decky's ports), ``both``, or "".

    A single target has no spread.
    """
    ports: dict[bytes, set[tuple[int, int]]] = {}
    for decky, protocol, port in places:
        ports.setdefault(decky, set()).add((protocol, port))
    is_vertical = any(len(each) > 1 for each in ports.values())
    if len(ports) > 1:
        return "both" if is_vertical else "horizontal"
    return "vertical" if is_vertical else ""

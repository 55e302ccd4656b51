"""The time to enter the largest allowed number of deckies, and to replace half of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address

from bench.figures import Goal, Line, Spread, ratio
from deckwire.deckies import Decky, Registry, parse_deckies
from deckwire.kernel.loading import LoadRequest, load
from deckwire.limits import DECKIES
from deckwire.tables.deckies import DeckyTables

SECTION = "registry"
_GOAL_S = 0.3
"""The agent does not read the rings during this time."""


def measure(rounds: int) -> list[Line]:
    """Time the changes of the kernel tables, against the time to read the deckies file.

    No program is attached to an interface meanwhile.
    """
    lines = []
    with closing(load(LoadRequest())) as loaded:
        tables = DeckyTables(loaded.maps)
        for family, first in (("IPv4", _v4), ("IPv6", _v6)):
            old, new = _registry(first, 0), _registry(first, DECKIES // 2)
            # The agent does the same, so its garbage collector skips what exists at the start.
            gc.collect()
            gc.freeze()
            text = "".join(f"{decky.address} {decky.name}\n" for decky in new).encode()
            parsed = Spread.of(
                _seconds(lambda text=text: parse_deckies(text, "deckies")) for _ in range(rounds)
            )
            filled, changed = [], []
            for _ in range(rounds):
                tables.replace([])
                filled.append(_seconds(lambda old=old: tables.replace(old.addresses)))
                changed.append(_seconds(lambda new=new: tables.replace(new.addresses)))
            lines += [
                Line(
                    SECTION,
                    f"{what} in the kernel, {family}",
                    Spread.of(times),
                    "s",
                    f"reading the deckies file {parsed.median:.3f} s",
                    parsed.median,
                    ratio(Spread.of(times).median, parsed.median),
                    Goal("≤", _GOAL_S),
                )
                for what, times in (
                    (f"{DECKIES:,} deckies entered", filled),
                    (f"half of {DECKIES:,} deckies replaced", changed),
                )
            ]
            gc.unfreeze()
    return lines


def _registry(address: Callable[[int], IPv4Address | IPv6Address], first: int) -> Registry:
    numbers = range(first, first + DECKIES)
    return Registry(Decky(f"decky-{number}", address(number)) for number in numbers)


def _v4(number: int) -> IPv4Address:
    return IPv4Address(0x0A00_0000 + number)


def _v6(number: int) -> IPv6Address:
    return IPv6Address((0x2001_0DB8 << 96) + number)


def _seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started

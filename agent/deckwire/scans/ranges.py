"""Numbers as compact ranges: ``22,80,443,8000-8100``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

CUT = "..."
"""Ends a list that was too long."""


def ranges(numbers: Iterable[int], most: int) -> str:
    """The numbers in order, each once, in at most `most` characters; a list that is cut says so.

    Only whole ranges are left out. Two neighbours are written one by one.
    """
    text = ""
    for first, last in _runs(sorted(set(numbers))):
        part = f"{first}" if first == last else f"{first}{',' if last == first + 1 else '-'}{last}"
        longer = f"{text},{part}" if text else part
        if len(longer) > most - len(CUT) - 1:
            return f"{text},{CUT}" if text else CUT
        text = longer
    return text


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of numbers that follow each other."""
    at = 0
    while at < len(numbers):
        first = last = numbers[at]
        while at + 1 < len(numbers) and numbers[at + 1] == last + 1:
            at += 1
            last = numbers[at]
        yield first, last
        at += 1

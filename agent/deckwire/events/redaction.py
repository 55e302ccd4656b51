"""Stands keyed hashes in for credentials, so that equal ones can be joined and none be read."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from deckwire.limits import PAYLOAD_FIELD, PAYLOAD_SECRETS

PREFIX = "hmac-sha256:"
REDACTED = ("redacted", True)
"""Of an event in which credentials were replaced."""
_SHORT = 4
"""A shorter credential counts as repeated only where it is a word of its own."""


class Redacted(NamedTuple):
    """Bytes without their credentials."""

    data: bytes
    is_cut: bool
    """They end before a credential, because there were too many."""


@dataclass(frozen=True, slots=True)
class Redactor:
    """Replaces credentials in the events of connections of some directions."""

    key: bytes
    directions: tuple[str, ...]

    def stand_in(self, value: bytes) -> str:
        """What stands for a credential: equal for equal ones under one key."""
        return PREFIX + hmac.digest(self.key, value, "sha256").hex()

    def data(
        self, data: bytes, ranges: Iterable[tuple[int, int]], values: Iterable[bytes]
    ) -> Redacted:
        """Replace ranges of `data`, and `values` wherever they occur: the other end repeats them.

        After PAYLOAD_SECRETS replacements the bytes end before the next one.
        """
        kept, at = bytearray(), 0
        for number, (start, end) in enumerate(_merged([*ranges, *_repeated(data, values)])):
            kept += data[at:start]
            if number == PAYLOAD_SECRETS:
                return Redacted(bytes(kept), is_cut=True)
            kept += self.stand_in(data[start:end]).encode()
            at = end
        return Redacted(bytes(kept + data[at:]), is_cut=False)

    def text(self, text: str, values: Iterable[bytes]) -> str:
        """Replace `values` in the text of a field, which may have been cut inside one."""
        data = text.encode("utf-8", "surrogateescape")
        values = tuple(values)
        ranges = []
        if len(data) >= PAYLOAD_FIELD:
            ranges = [(len(data) - size, len(data)) for size in _begun(data, values)]
        found, _ = self.data(data, ranges, values)
        return found.decode("utf-8", "surrogateescape")


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges in order, those that overlap as one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(one for one in ranges if one[0] < one[1]):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _repeated(data: bytes, values: Iterable[bytes]) -> Iterable[tuple[int, int]]:
    for value in {*values} - {b""}:
        pattern = re.escape(value)
        if len(value) < _SHORT:
            pattern = rb"(?<!\w)" + pattern + rb"(?!\w)"
        for found in re.finditer(pattern, data):
            yield found.span()


def _begun(data: bytes, values: Iterable[bytes]) -> Iterable[int]:
    """How many of the last bytes of `data` begin one of the values."""
    for value in values:
        for size in range(min(len(value), len(data)), 0, -1):
            if data.endswith(value[:size]):
                yield size
                break

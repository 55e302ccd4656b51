"""The ends of a flow key."""

from __future__ import annotations

from deckwire.abi.flow_key import ends
from deckwire.tcp.flow import Ends

LOW, HIGH = bytes(10) + b"\xff\xff\xc0\0\2\x09", bytes(range(16))
KEY = LOW + HIGH + (443).to_bytes(2, "big") + (40_000).to_bytes(2, "big")


def test_who_opened_it_comes_first() -> None:
    assert ends(KEY, 0) == Ends(LOW, 443, HIGH, 40_000)
    assert ends(KEY, 1) == Ends(HIGH, 40_000, LOW, 443)

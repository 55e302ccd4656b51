"""The ends of a flow key."""

from __future__ import annotations

import pytest

from deckwire.abi.flow_key import ends, portless_key
from deckwire.tcp.flow import Ends

LOW, HIGH = bytes(10) + b"\xff\xff\xc0\0\2\x09", bytes(range(16))
KEY = LOW + HIGH + (443).to_bytes(2, "big") + (40_000).to_bytes(2, "big")


def test_who_opened_it_comes_first() -> None:
    assert ends(KEY, 0) == Ends(LOW, 443, HIGH, 40_000)
    assert ends(KEY, 1) == Ends(HIGH, 40_000, LOW, 443)


@pytest.mark.parametrize("low", [bytes([192, 0, 2, 9]), bytes(15) + b"\x01"])
def test_without_ports_the_source_is_an_end_too(low: bytes) -> None:
    mapped = bytes(10) + b"\xff\xff" if len(low) == 4 else b""
    high = low[:-1] + b"\xfe"
    for source, destination in ((low, high), (high, low)):
        key, sender = portless_key(source, destination)
        assert ends(key, sender) == Ends(mapped + source, 0, mapped + destination, 0)

"""The table of half-open connections, on the real map."""

from __future__ import annotations

import pytest

from deckwire.abi import structs as abi
from deckwire.tables.half_open import HalfOpenTable
from tests.support.replaying import ReplayLab

KEY = bytes(range(36))


def half_open(*, client: int = 0, syn_ns: int = 7, answered: bool = False) -> bytes:
    """A struct half_open with a SYN packet, and with a SYN-ACK packet if it was answered."""
    schema = abi.SCHEMAS["half_open"]
    value = schema.parse(b"\xff" * schema.sizeof())
    value.client = client
    value.syn.update({"time_ns": syn_ns, "ip_version": 4})
    value.synack.ip_version = 4 * answered
    data: bytes = schema.build(value)
    return data


@pytest.mark.root
def test_unanswered_gives_half_open_connections_without_a_synack(lab: ReplayLab) -> None:
    lab.frames([], [])
    table = lab.loaded.maps["half_open"]
    half_opens = HalfOpenTable(table)
    table.update(KEY, half_open(client=1, syn_ns=1 << 40))
    table.update(KEY[::-1], half_open(answered=True))
    assert half_opens.size() == 2
    found = [(KEY, 1, 1 << 40)]
    assert list(half_opens.unanswered({KEY[16:32]}, 1 << 40)) == found  # an address
    assert list(half_opens.unanswered({KEY[16:24]}, 0)) == found  # a subnet
    assert list(half_opens.unanswered({KEY[16:32]}, (1 << 40) + 1)) == []
    assert list(half_opens.unanswered({KEY[:16], KEY[:8]}, 0)) == []
    lab.frames([], [])

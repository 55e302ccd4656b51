"""HASSH against its definition. tests/corpus compares it with values of independent tools."""

from __future__ import annotations

import random

from deckwire.fingerprints.hassh import algorithms, hassh
from deckwire.ssh.messages import parse_kexinit
from tests.support.ssh_wire import (
    CLIENT_LISTS,
    SERVER_LISTS,
    client_hassh,
    kexinit,
    server_hassh,
)


def test_each_end_hashes_the_lists_of_its_own_direction() -> None:
    client, server = parse_kexinit(kexinit()), parse_kexinit(kexinit(SERVER_LISTS))
    assert algorithms(server, of_client=False) == b";".join(
        (SERVER_LISTS[0], b"aes256-ctr,aes192-ctr", b"hmac-sha2-256", b"none,zlib")
    )
    assert hassh(algorithms(client, of_client=True)) == client_hassh()
    assert hassh(algorithms(server, of_client=False)) == server_hassh()
    assert client_hassh() != server_hassh(CLIENT_LISTS)


def test_generated_offers() -> None:
    dice = random.Random(20_261_128)
    for _ in range(5_000):
        lists = [
            b",".join(dice.randbytes(dice.randrange(12)) for _ in range(dice.randrange(6)))
            for _ in range(10)
        ]
        parsed = parse_kexinit(kexinit(lists))
        assert hassh(algorithms(parsed, of_client=True)) == client_hassh(lists)
        assert hassh(algorithms(parsed, of_client=False)) == server_hassh(lists)

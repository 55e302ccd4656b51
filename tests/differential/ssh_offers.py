"""Random beginnings of SSH, and their HASSH and HASSHServer."""

from __future__ import annotations

import random
from pathlib import Path

from deckwire.events.event import Event
from deckwire.fingerprints.hassh import algorithms, hassh
from deckwire.ssh.reader import Reader
from tests.differential.comparison import Pair, Subject, read_events, read_with_tshark
from tests.differential.wire import SERVER_PORT, Exchange
from tests.support.ssh_wire import (
    CLIENT_LISTS,
    ECDH_INIT,
    ECDH_REPLY,
    SERVER_LISTS,
    kexinit,
    packet,
)

_NAMES = sorted(
    {name for lists in CLIENT_LISTS + SERVER_LISTS for name in lists.split(b",")} - {b""}
)
_LETTERS = bytes(set(range(0x21, 0x7F)) - {ord(",")})
"""What a name may have (RFC 4251, 6)."""
_HEAD_BYTES = 3_000
"""A beginning longer than that is not sampled as a whole."""


def generated(seed: int, count: int) -> list[Exchange]:
    """Return `count` exchanges; the same seed gives the same exchanges."""
    dice = random.Random(f"ssh {seed}")
    return [
        Exchange(
            f"generated, seed {seed}, number {number}",
            _beginning(dice, ECDH_INIT),
            _beginning(dice, ECDH_REPLY),
        )
        for number in range(count)
    ]


def ours(exchange: Exchange) -> Pair:
    """Return the hashes by our reader."""
    return _hash(exchange.client, of_client=True), _hash(exchange.server, of_client=False)


def tshark(path: Path, count: int) -> list[Pair]:
    """Return the hashes by tshark, which takes the port for one of SSH."""
    fields = ("ssh.kex.hassh", "ssh.kex.hasshserver")
    decode = ("-d", f"tcp.port=={SERVER_PORT},ssh")
    return read_with_tshark(path, count, "ssh.message_code == 20", fields, decode)


def replayed(events: list[Event], count: int) -> list[Pair]:
    """Return the hashes by our replay."""
    places = ("ssh_client_banner", "hassh"), ("ssh_server_banner", "hassh_server")
    return read_events(events, count, places)


def _hash(stream: bytes, *, of_client: bool) -> str:
    reader = Reader()
    reader.feed(stream)
    if reader.kexinit is None:
        return ""
    return hassh(algorithms(reader.kexinit, of_client=of_client))


def _beginning(dice: random.Random, next_message: int) -> bytes:
    """A banner, a KEXINIT and the message after it."""
    while True:
        stream = dice.choice((b"SSH-2.0-", b"SSH-2.0-", b"SSH-1.99-")) + _name(dice)
        stream += dice.choice((b"", b" a comment")) + dice.choice((b"\r\n", b"\n"))
        lists = [_list(dice) for _ in range(10)]
        stream += packet(kexinit(lists, dice.randbytes(16)))
        stream += packet(bytes([next_message]) + dice.randbytes(dice.randrange(32, 300)))
        if len(stream) <= _HEAD_BYTES:
            return stream


def _list(dice: random.Random) -> bytes:
    size = dice.choice((0, 1, 1, 2, 3, 5, 9, 17))
    return b",".join(_name(dice) for _ in range(size))


def _name(dice: random.Random) -> bytes:
    if dice.random() < 0.8:
        return dice.choice(_NAMES)
    return bytes(dice.choices(_LETTERS, k=dice.randrange(1, 65)))


def _no_exclusion(_exchange: Exchange) -> str:
    return ""


def _unchanged(pair: Pair) -> Pair:
    return pair


SSH = Subject(("HASSH", "HASSHServer"), tshark, ours, _no_exclusion, replayed, _unchanged)

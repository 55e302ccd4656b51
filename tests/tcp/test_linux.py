"""This kernel's own TCP decides which bytes of any segments are read, and Stream agrees."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from deckwire.tcp.reassembly import Stream
from tests.support.linux_receiver import LinuxReceiver
from tests.support.tun_peer import Wire, linux_receiver

pytestmark = pytest.mark.root

CONNECTIONS = 400
Segment = tuple[int, bytes, int | None]
"""Offset, payload and urgent pointer."""


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with linux_receiver() as made:
        yield made


def segments(rng: random.Random, *, urgent: bool) -> list[Segment]:
    """Segments in any order that overlap with other bytes; at the end comes all of the stream."""
    length = rng.choice([12, 40, 200])
    made: list[Segment] = []
    for _ in range(rng.randint(2, 14)):
        start = rng.randrange(length) if rng.random() < 0.8 else 0
        end = rng.randint(start, min(length, start + rng.choice([2, 8, 60])))
        pointer = rng.randint(0, 12) if urgent and rng.random() < 0.3 else None
        made.append((start, bytes(rng.randrange(97, 123) for _ in range(end - start)), pointer))
    return [*made, (0, b"-" * length, None), (length, b"the end", None)]


@pytest.mark.parametrize("urgent", [False, True], ids=["plain", "urgent"])
def test_what_this_kernel_reads_is_what_a_stream_reads(wire: Wire, urgent: bool) -> None:
    """Left out are streams in which the kernel's choice depends on its buffers."""
    compared = 0
    for number in range(CONNECTIONS):
        rng = random.Random(f"{urgent} {number}")
        iss = rng.getrandbits(32)
        sent = segments(rng, urgent=urgent)
        connection, stream = wire.connect(iss), Stream(iss + 1)
        joining, apart = LinuxReceiver(), LinuxReceiver(joins=False)
        got = b""
        for start, data, pointer in sent:
            connection.send(start, data, pointer)
            marked = None if pointer is None else start + max(pointer - 1, 0)
            stream.add(iss + 1 + start, data, None, None if marked is None else iss + 1 + marked)
            got += stream.read()
            joining.segment(start, data, marked)
            apart.segment(start, data, marked)
        end, last, _ = sent[-1]
        connection.close(end + len(last))
        if joining.read == apart.read:
            compared += 1
            assert got == connection.read, (number, sent)
    assert compared > CONNECTIONS * 3 // 4

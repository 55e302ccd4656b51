from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from deckwire.kernel import handover
from deckwire.kernel.handover import HandoverError

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Pair]:
    ours, theirs = handover.pair()
    with ours, theirs:
        yield ours, theirs


def test_a_body_arrives_without_descriptors(ends: Pair) -> None:
    handover.send(ends[0], {"do": "load", "n": [1, 2]}, [])
    assert handover.receive(ends[1]) == ({"do": "load", "n": [1, 2]}, [])


def test_more_descriptors_than_fit_into_one_message_arrive_in_order(ends: Pair) -> None:
    files = [os.memfd_create(f"file{n}") for n in range(300)]
    try:
        for n, file in enumerate(files):
            os.write(file, str(n).encode())
        handover.send(ends[0], {}, files)
        _, received = handover.receive(ends[1])
    finally:
        for file in files:
            os.close(file)
    try:
        assert [int(os.pread(fd, 9, 0)) for fd in received] == list(range(300))
        assert not any(os.get_inheritable(fd) for fd in received)
    finally:
        for fd in received:
            os.close(fd)


def test_two_messages_stay_apart(ends: Pair) -> None:
    handover.send(ends[0], {"n": 1}, [])
    handover.send(ends[0], {"n": 2}, [])
    assert [handover.receive(ends[1])[0]["n"] for _ in range(2)] == [1, 2]


def test_the_end_of_the_other_side_is_an_error_of_its_own(ends: Pair) -> None:
    ends[0].close()
    with pytest.raises(HandoverError, match=r"^the other side has ended$"):
        handover.receive(ends[1])


def test_missing_descriptors_are_an_error_and_the_others_are_closed(ends: Pair) -> None:
    before = len(os.listdir("/proc/self/fd"))
    ends[0].send(b'{"fds": 3, "body": {}}')
    socket.send_fds(ends[0], [b"\0"], [0])
    ends[0].shutdown(socket.SHUT_WR)
    with pytest.raises(HandoverError, match="1 of 3"):
        handover.receive(ends[1])
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "data",
    [
        *(b"{", b"[]", b"{}", b"\xff", b"[" * 60_000),
        *(b'{"fds": -1, "body": {}}', b'{"fds": true, "body": {}}', b'{"fds": 0, "body": []}'),
        pytest.param(b" " * handover.BODY_BYTES + b'{"fds": 0, "body": {}}', id="too long"),
        pytest.param(b'{"fds": 0, "body": {}}' + b" " * handover.BODY_BYTES, id="cut"),
    ],
)
def test_a_malformed_message_is_refused(ends: Pair, data: bytes) -> None:
    ends[0].send(data)
    with pytest.raises(HandoverError, match=r"^a malformed message: "):
        handover.receive(ends[1])


def test_a_body_that_is_too_long_is_not_sent(ends: Pair) -> None:
    with pytest.raises(HandoverError, match="at most 65536 can be sent"):
        handover.send(ends[0], {"text": "x" * handover.BODY_BYTES}, [])

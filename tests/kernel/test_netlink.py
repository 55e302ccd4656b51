from __future__ import annotations

import socket
from collections.abc import Callable
from errno import EOPNOTSUPP, EPERM
from struct import pack

import pytest

from deckwire.kernel import netlink
from deckwire.kernel.netlink import (
    MalformedError,
    Message,
    attribute,
    attributes,
    messages,
    number,
    text,
)

NAME = attribute(3, b"eth0\0")


def message(kind: int, body: bytes, sequence: int = 1) -> bytes:
    return pack("=IHHII", 16 + len(body), kind, 0, sequence, 0) + body + bytes(-len(body) % 4)


def test_messages_of_a_datagram_are_walked() -> None:
    datagram = message(16, b"abcde", 9) + message(17, b"", 8)
    assert list(messages(datagram)) == [Message(16, 9, b"abcde"), Message(17, 8, b"")]
    assert list(messages(b"")) == []


@pytest.mark.parametrize("length", [0, 15, 17, 0xFFFF_FFFF])
def test_a_message_of_impossible_length_is_malformed(length: int) -> None:
    walk = messages(message(16, b"") + pack("=IHHII", length, 16, 0, 0, 0))
    assert next(walk) == Message(16, 1, b"")
    with pytest.raises(MalformedError, match=f"a netlink message of {length} bytes"):
        next(walk)


def test_a_header_that_is_cut_is_malformed() -> None:
    with pytest.raises(MalformedError, match="a netlink header of 15 bytes"):
        list(messages(message(16, b"")[:15]))


def test_attributes_are_walked() -> None:
    assert attributes(b"head" + NAME + attribute(4, b""), 4) == {3: b"eth0\0", 4: b""}
    assert attributes(NAME + attribute(3, b"last"), 0) == {3: b"last"}
    assert attributes(attribute(5 | 0x8000, b"nest"), 0) == {5: b"nest"}
    # The kernel may leave the padding of the last one out.
    assert attributes(NAME[:-3], 0) == {3: b"eth0\0"}


@pytest.mark.parametrize("length", [0, 3, 9, 0xFFFF])
def test_an_attribute_of_impossible_length_is_malformed(length: int) -> None:
    with pytest.raises(MalformedError, match=f"a netlink attribute of {length} bytes"):
        attributes(NAME + pack("=HH", length, 1) + bytes(4), 0)


def test_an_attribute_header_that_is_cut_is_malformed() -> None:
    with pytest.raises(MalformedError):
        attributes(NAME + b"\4\0\1", 0)


def test_attributes_are_bounded() -> None:
    payload = b"".join(attribute(n, b"") for n in range(netlink.NETLINK_ATTRIBUTES))
    assert len(attributes(payload, 0)) == netlink.NETLINK_ATTRIBUTES
    with pytest.raises(MalformedError):
        attributes(payload + NAME, 0)


def test_values_are_read_absent_or_malformed() -> None:
    assert number(netlink.U32, pack("=I", 7)) == 7
    assert number(netlink.U32, None) is None
    with pytest.raises(MalformedError):
        number(netlink.U32, b"\7\0\0")
    assert text(b"eth0\0junk") == "eth0"
    assert text(None) == ""


class Kernel:
    """Stands for the kernel's end of a netlink socket, which sends what a test says."""

    def __init__(self, *datagrams: bytes) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for datagram in datagrams:
            self.theirs.send(datagram)


def dump(kernel: Kernel) -> object:
    return netlink.dump(kernel.ours, 18, b"", "a list")


def ask(kernel: Kernel) -> object:
    return netlink.ask(kernel.ours, 18, b"", "a list")


DONE = message(netlink.NLMSG_DONE, bytes(4))


def test_a_list_of_several_datagrams_is_read_to_its_end() -> None:
    kernel = Kernel(message(16, b"a") + message(16, b"b"), message(16, b"c"), DONE)
    assert dump(kernel) == [(16, b"a"), (16, b"b"), (16, b"c")]


def test_a_single_reply_is_its_payload() -> None:
    assert ask(Kernel(message(16, b"abcd"))) == b"abcd"


@pytest.mark.parametrize("ask_kernel", [dump, ask])
def test_an_error_of_the_kernel_is_raised(ask_kernel: Callable[[Kernel], object]) -> None:
    with pytest.raises(PermissionError, match="a list: ") as caught:
        ask_kernel(Kernel(message(netlink.NLMSG_ERROR, pack("=i", -EPERM) + bytes(16))))
    assert caught.value.errno == EPERM


def test_a_list_that_ends_with_an_error_is_incomplete() -> None:
    kernel = Kernel(message(16, b"a"), message(netlink.NLMSG_DONE, pack("=i", -EOPNOTSUPP)))
    with pytest.raises(OSError, match="a list: ") as caught:
        dump(kernel)
    assert caught.value.errno == EOPNOTSUPP


@pytest.mark.parametrize("ask_kernel", [dump, ask])
def test_an_error_without_a_number_is_malformed(ask_kernel: Callable[[Kernel], object]) -> None:
    with pytest.raises(MalformedError):
        ask_kernel(Kernel(message(netlink.NLMSG_ERROR, b"\1")))

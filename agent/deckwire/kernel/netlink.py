"""Netlink messages and attributes: packed, walked, and the errors in them.

Formats are those of <linux/netlink.h>. Every length is checked before it is used. A walk has three
outcomes: it goes on, it ends, or it raises MalformedError.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from errno import EBUSY
from struct import Struct
from typing import NamedTuple

from deckwire.kernel.syscalls import failure
from deckwire.limits import NETLINK_ATTRIBUTES, NETLINK_DATAGRAM_BYTES, NETLINK_DUMPS

NLMSG_ERROR, NLMSG_DONE = 2, 3

S32, U16, U32, U64 = Struct("=i"), Struct("=H"), Struct("=I"), Struct("=Q")

_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP_INTR, _NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
_NLA_TYPE_MASK = 0x3FFF

_HEADER = Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence number, port."""
_ATTRIBUTE = Struct("=HH")
"""nlattr: length with this header, type."""


class MalformedError(OSError):
    """A message or attribute has an impossible length."""


class Message(NamedTuple):
    """One netlink message."""

    kind: int
    sequence: int
    """The sequence number of the request that it replies to."""
    payload: bytes
    is_interrupted: bool = False
    """The list that it belongs to changed while the kernel sent it: some entries may be missing."""


def open_socket(protocol: int, groups: int = 0) -> socket.socket:
    """A socket for the calling thread's network namespace, subscribed to multicast `groups`."""
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    channel.bind((0, groups))
    return channel


def attribute(kind: int, value: bytes) -> bytes:
    """One packed attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def request(channel: socket.socket, kind: int, sequence: int, body: bytes) -> None:
    """Asks the kernel one question."""
    _send(channel, kind, _NLM_F_REQUEST, sequence, body)


def request_dump(channel: socket.socket, kind: int, sequence: int, body: bytes) -> None:
    """Asks the kernel for a list: messages with `sequence`, the last one NLMSG_DONE."""
    _send(channel, kind, _NLM_F_REQUEST | _NLM_F_DUMP, sequence, body)


def ask(channel: socket.socket, kind: int, body: bytes, what: str) -> bytes:
    """The payload of the one message with which the kernel replies.

    Args:
        what: stands in front of an error's text.

    Raises:
        OSError: the kernel refused, or replied with no message.
    """
    request(channel, kind, 1, body)
    for message in messages(channel.recv(NETLINK_DATAGRAM_BYTES)):
        if message.kind == NLMSG_ERROR:
            raise_error(message.payload, what)
        return message.payload
    raise MalformedError(f"{what}: an empty datagram")


def command(channel: socket.socket, kind: int, body: bytes, what: str) -> None:
    """Has the kernel change something. It is done when this returns.

    Args:
        what: stands in front of an error's text.

    Raises:
        OSError: the kernel refused, or did not acknowledge it.
    """
    _send(channel, kind, _NLM_F_REQUEST | _NLM_F_ACK, 1, body)
    for message in messages(channel.recv(NETLINK_DATAGRAM_BYTES)):
        if message.kind == NLMSG_ERROR:
            raise_error(message.payload, what)
            return
    raise MalformedError(f"{what}: no acknowledgement")


def dump(channel: socket.socket, kind: int, body: bytes, what: str) -> list[tuple[int, bytes]]:
    """All messages of a list, as (type, payload). `channel` is subscribed to nothing.

    A list that changed while the kernel sent it is read again, NETLINK_DUMPS times in all.

    Raises:
        OSError: the kernel refused, a message is malformed, or the list changed each time.
    """
    for sequence in range(1, NETLINK_DUMPS + 1):
        found = _dump_once(channel, kind, sequence, body, what)
        if found is not None:
            return found
    raise OSError(EBUSY, f"{what}: it changed each of the {NETLINK_DUMPS} times it was read")


def messages(datagram: bytes) -> Iterator[Message]:
    """The messages of one datagram.

    Raises:
        MalformedError: a message is shorter than its header or reaches beyond the datagram.
    """
    at = 0
    while at < len(datagram):
        left = len(datagram) - at
        if left < _HEADER.size:
            raise MalformedError(f"a netlink header of {left} bytes")
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, at)
        if not _HEADER.size <= length <= left:
            raise MalformedError(f"a netlink message of {length} bytes where {left} are left")
        payload = datagram[at + _HEADER.size : at + length]
        yield Message(kind, sequence, payload, flags & _NLM_F_DUMP_INTR != 0)
        at += _aligned(length)


def attributes(payload: bytes, offset: int) -> dict[int, bytes]:
    """The attributes from `offset` on, by type; the last one of equal types.

    Raises:
        MalformedError: an attribute is shorter than its header or reaches beyond the payload, or
            there are more than NETLINK_ATTRIBUTES.
    """
    found: dict[int, bytes] = {}
    count = 0
    while offset < len(payload):
        left = len(payload) - offset
        count += 1
        if left < _ATTRIBUTE.size or count > NETLINK_ATTRIBUTES:
            raise MalformedError(f"netlink attribute {count} has {left} bytes left")
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        if not _ATTRIBUTE.size <= length <= left:
            raise MalformedError(f"a netlink attribute of {length} bytes where {left} are left")
        found[kind & _NLA_TYPE_MASK] = payload[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(length)
    return found


def number(layout: Struct, value: bytes | None) -> int | None:
    """An attribute's value as a number; None if there is no such attribute.

    Raises:
        MalformedError: the value is shorter than the number.
    """
    if value is None:
        return None
    if len(value) < layout.size:
        raise MalformedError(f"a netlink number of {len(value)} bytes, not {layout.size}")
    return int(layout.unpack_from(value)[0])


def text(value: bytes | None) -> str:
    """An attribute's value as text, up to its zero byte; empty if there is no such attribute."""
    return (value or b"").split(b"\0", 1)[0].decode(errors="replace")


def raise_error(payload: bytes, what: str) -> None:
    """Raises the error that an NLMSG_ERROR or NLMSG_DONE carries, if it does.

    Raises:
        OSError: that error.
    """
    result = number(S32, payload) or 0
    if result < 0:
        raise failure(-result, what)


def _dump_once(
    channel: socket.socket, kind: int, sequence: int, body: bytes, what: str
) -> list[tuple[int, bytes]] | None:
    """A list as `dump` returns it; None if it changed while the kernel sent it."""
    request_dump(channel, kind, sequence, body)
    found: list[tuple[int, bytes]] = []
    interrupted = False
    while True:
        for message in messages(channel.recv(NETLINK_DATAGRAM_BYTES)):
            interrupted |= message.is_interrupted
            if message.kind in (NLMSG_DONE, NLMSG_ERROR):
                raise_error(message.payload, what)
                return None if interrupted else found
            found.append((message.kind, message.payload))


def _send(channel: socket.socket, kind: int, flags: int, sequence: int, body: bytes) -> None:
    channel.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body)


def _aligned(length: int) -> int:
    return (length + 3) & ~3

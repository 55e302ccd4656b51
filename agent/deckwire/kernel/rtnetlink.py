"""Network interfaces, and what hangs on them, as rtnetlink tells it.

Formats are those of <linux/netlink.h>, <linux/rtnetlink.h> and <linux/if_link.h>. Every length
is checked before it is used.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from deckwire.kernel.syscalls import failure
from deckwire.limits import NETLINK_ATTRIBUTES, NETLINK_DATAGRAM_BYTES

NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWQDISC, RTM_GETQDISC = 36, 38
RTM_NEWNSID, RTM_GETNSID = 88, 90
RTMGRP_LINK = 1
IFF_LOOPBACK = 0x8
ARPHRD_ETHER = 1
MACVLAN_MODE_VEPA = 2

_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_LINK_NETNSID = 3, 5, 18, 37
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_IFLA_MACVLAN_MODE = 1
_TCA_KIND = 1
_NETNSA_NSID, _NETNSA_FD = 1, 3
_NLA_TYPE_MASK = 0x3FFF

_HEADER = Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence number, port."""
_IFINFO = Struct("=BxHiII")
"""ifinfomsg: family, type, index, flags, change."""
_ATTRIBUTE = Struct("=HH")
"""nlattr: length with this header, type."""
_S32, _U32 = Struct("=i"), Struct("=I")
_TCMSG = Struct("=B3xiIII")
"""tcmsg: family, ifindex, handle, parent, info."""
_GENMSG = Struct("=Bxxx")


class Interface(NamedTuple):
    """One network interface, or what a message about it said."""

    ifindex: int
    name: str
    kind: str
    """``macvlan``, ``ipvlan``, ``veth``…; empty for hardware."""
    hardware: int
    """ARPHRD_…, 1 for Ethernet."""
    flags: int
    """IFF_…"""
    parent: int | None
    """ifindex of the interface under it."""
    parent_nsid: int | None
    """Id, in the namespace that was asked, of the namespace of that parent; None: the same one."""
    macvlan_mode: int | None
    """IFLA_MACVLAN_MODE, of macvlan and macvtap."""


def open_socket(groups: int = 0) -> socket.socket:
    """A socket for the calling thread's network namespace, subscribed to multicast `groups`."""
    channel = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    channel.bind((0, groups))
    return channel


def messages(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The messages of one datagram, as (type, sequence number, payload); stops at nonsense."""
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, _, sequence, _ = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size or length > len(datagram) - at:
            return
        yield kind, sequence, datagram[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def attributes(payload: bytes, offset: int) -> dict[int, bytes]:
    """The attributes from `offset` on; of equal ones the last, at most NETLINK_ATTRIBUTES."""
    found: dict[int, bytes] = {}
    for _ in range(NETLINK_ATTRIBUTES):
        if offset + _ATTRIBUTE.size > len(payload):
            break
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        if length < _ATTRIBUTE.size or length > len(payload) - offset:
            break
        found[kind & _NLA_TYPE_MASK] = payload[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def parse_interface(payload: bytes) -> Interface | None:
    """The interface of an RTM_NEWLINK or RTM_DELLINK; None if it tells of none.

    Messages of another family than AF_UNSPEC are none: a bridge says RTM_DELLINK of a port that
    leaves it while the interface stays.
    """
    if len(payload) < _IFINFO.size:
        return None
    family, hardware, ifindex, flags, _ = _IFINFO.unpack_from(payload)
    if family != socket.AF_UNSPEC or ifindex <= 0:
        return None
    found = attributes(payload, _IFINFO.size)
    info = attributes(found.get(_IFLA_LINKINFO, b""), 0)
    kind = _text(info.get(_IFLA_INFO_KIND, b""))
    mode = None
    if kind in ("macvlan", "macvtap"):
        data = attributes(info.get(_IFLA_INFO_DATA, b""), 0)
        mode = _number(_U32, data.get(_IFLA_MACVLAN_MODE))
    return Interface(
        ifindex,
        _text(found.get(_IFLA_IFNAME, b"")),
        kind,
        hardware,
        flags,
        _number(_S32, found.get(_IFLA_LINK)) or None,
        _number(_S32, found.get(_IFLA_LINK_NETNSID)),
        mode,
    )


def request_interfaces(channel: socket.socket, sequence: int) -> None:
    """Asks for all interfaces; they come as RTM_NEWLINK with `sequence`, then NLMSG_DONE."""
    body = _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    channel.send(_message(RTM_GETLINK, _NLM_F_REQUEST | _NLM_F_DUMP, sequence, body))


def list_interfaces(channel: socket.socket) -> list[Interface]:
    """All interfaces of the namespace of `channel`, which is subscribed to nothing.

    Raises:
        OSError: the kernel refused.
    """
    request_interfaces(channel, 1)
    found: list[Interface] = []
    while True:
        for kind, _, payload in messages(channel.recv(NETLINK_DATAGRAM_BYTES)):
            if kind == NLMSG_DONE:
                return found
            if kind == NLMSG_ERROR:
                raise _error(payload, "list of interfaces")
            interface = parse_interface(payload) if kind == RTM_NEWLINK else None
            if interface is not None:
                found.append(interface)


def has_filters(channel: socket.socket, ifindex: int) -> bool:
    """Whether an interface has a qdisc that filters can hang on: clsact or ingress.

    Raises:
        OSError: the kernel refused.
    """
    body = _TCMSG.pack(socket.AF_UNSPEC, ifindex, 0, 0, 0)
    channel.send(_message(RTM_GETQDISC, _NLM_F_REQUEST | _NLM_F_DUMP, 1, body))
    found = False
    while True:
        for kind, _, payload in messages(channel.recv(NETLINK_DATAGRAM_BYTES)):
            if kind == NLMSG_DONE:
                return found
            if kind == NLMSG_ERROR:
                raise _error(payload, "list of qdiscs")
            if kind != RTM_NEWQDISC or len(payload) < _TCMSG.size:
                continue
            name = _text(attributes(payload, _TCMSG.size).get(_TCA_KIND, b""))
            index: int = _TCMSG.unpack_from(payload)[1]
            found |= index == ifindex and name in ("clsact", "ingress")


def namespace_id(channel: socket.socket, namespace_fd: int) -> int | None:
    """The id by which the namespace of `channel` knows another one; None if it does not.

    Raises:
        OSError: the kernel refused.
    """
    attribute = _ATTRIBUTE.pack(8, _NETNSA_FD) + _U32.pack(namespace_fd)
    body = _GENMSG.pack(socket.AF_UNSPEC) + attribute
    channel.send(_message(RTM_GETNSID, _NLM_F_REQUEST, 1, body))
    for kind, _, payload in messages(channel.recv(NETLINK_DATAGRAM_BYTES)):
        if kind == NLMSG_ERROR:
            raise _error(payload, "id of a network namespace")
        if kind == RTM_NEWNSID:
            number = _number(_S32, attributes(payload, _GENMSG.size).get(_NETNSA_NSID))
            return number if number is not None and number >= 0 else None
    return None


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def _error(payload: bytes, what: str) -> OSError:
    number = _number(_S32, payload[:4]) or 0
    return failure(-number, what)


def _text(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode(errors="replace")


def _number(layout: Struct, value: bytes | None) -> int | None:
    if value is None or len(value) < layout.size:
        return None
    (number,) = layout.unpack_from(value)
    return int(number)

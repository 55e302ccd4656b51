"""Network interfaces, their qdiscs and filters, as rtnetlink reports them.

Formats are those of <linux/rtnetlink.h>, <linux/if_link.h>, <linux/if_addr.h>,
<linux/pkt_cls.h> and <linux/net_namespace.h>.
"""

from __future__ import annotations

import socket
from struct import Struct
from typing import NamedTuple

from deckwire.kernel import netlink
from deckwire.kernel.netlink import S32, U32, MalformedError, attribute, attributes, number, text

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWQDISC, RTM_GETQDISC = 36, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
RTM_NEWNSID, RTM_GETNSID = 88, 90
RTMGRP_LINK = 1
IFF_UP, IFF_LOOPBACK = 0x1, 0x8
ARPHRD_ETHER = 1
MACVLAN_MODE_VEPA = 2
MACVLAN_MODES = {
    1: "private",
    MACVLAN_MODE_VEPA: "vepa",
    4: "bridge",
    8: "passthru",
    16: "source",
}

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_LINK_NETNSID = 1, 3, 5, 18, 37
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_IFLA_MACVLAN_MODE = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TCA_BPF_NAME = 7
_NETNSA_NSID, _NETNSA_FD = 1, 3

_IFINFO = Struct("=BxHiII")
"""ifinfomsg: family, type, index, flags, change."""
_IFADDRMSG = Struct("=BBBBI")
"""ifaddrmsg: family, prefix length, flags, scope, index."""
_TCMSG = Struct("=B3xiIII")
"""tcmsg: family, ifindex, handle, parent, info."""
_GENMSG = Struct("=Bxxx")
"""rtgenmsg: family."""


class Interface(NamedTuple):
    """One network interface, as a message about it describes it."""

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
    """Id of the parent's namespace in the namespace that was asked; None if that is the same."""
    macvlan_mode: int | None
    """IFLA_MACVLAN_MODE of a macvlan or macvtap."""
    mac: bytes = b""
    """Its hardware address, 6 bytes on Ethernet."""


class BpfFilter(NamedTuple):
    """A filter of an interface that runs a BPF program."""

    handle: int
    info: int
    """Priority and protocol, as the kernel has them."""
    name: str


def open_socket(groups: int = 0) -> socket.socket:
    """A socket for the calling thread's network namespace, subscribed to multicast `groups`."""
    return netlink.open_socket(socket.NETLINK_ROUTE, groups)


def parse_interface(payload: bytes) -> Interface | None:
    """The interface of an RTM_NEWLINK or RTM_DELLINK; None if the message is about none.

    Only messages of the family AF_UNSPEC are about interfaces. A bridge sends an RTM_DELLINK of
    AF_BRIDGE for a port that leaves it, while the interface stays.

    Raises:
        MalformedError: a length in it is impossible.
    """
    if len(payload) < _IFINFO.size:
        raise MalformedError(f"an ifinfomsg of {len(payload)} bytes")
    family, hardware, ifindex, flags, _ = _IFINFO.unpack_from(payload)
    if family != socket.AF_UNSPEC or ifindex <= 0:
        return None
    found = attributes(payload, _IFINFO.size)
    info = attributes(found.get(_IFLA_LINKINFO, b""), 0)
    kind = text(info.get(_IFLA_INFO_KIND))
    mode = None
    if kind in ("macvlan", "macvtap"):
        data = attributes(info.get(_IFLA_INFO_DATA, b""), 0)
        mode = number(U32, data.get(_IFLA_MACVLAN_MODE))
    return Interface(
        ifindex,
        text(found.get(_IFLA_IFNAME)),
        kind,
        hardware,
        flags,
        number(S32, found.get(_IFLA_LINK)) or None,
        number(S32, found.get(_IFLA_LINK_NETNSID)),
        mode,
        found.get(_IFLA_ADDRESS, b""),
    )


def request_interfaces(channel: socket.socket, sequence: int) -> None:
    """Asks for all interfaces; they come as RTM_NEWLINK with `sequence`, then NLMSG_DONE."""
    netlink.request_dump(channel, RTM_GETLINK, sequence, _any_interface())


def list_interfaces(channel: socket.socket) -> list[Interface]:
    """All interfaces of the namespace of `channel`, which is subscribed to nothing.

    Raises:
        OSError: the kernel refused, or a message is malformed.
    """
    listed = netlink.dump(channel, RTM_GETLINK, _any_interface(), "list of interfaces")
    parsed = (parse_interface(payload) for kind, payload in listed if kind == RTM_NEWLINK)
    return [interface for interface in parsed if interface is not None]


def list_addresses(channel: socket.socket) -> list[tuple[int, bytes]]:
    """The addresses of the namespace of `channel`: ifindex, and 4 bytes of IPv4 or 16 of IPv6.

    Raises:
        OSError: the kernel refused, or a message is malformed.
    """
    body = _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    found: list[tuple[int, bytes]] = []
    for kind, payload in netlink.dump(channel, RTM_GETADDR, body, "list of addresses"):
        if kind != RTM_NEWADDR:
            continue
        if len(payload) < _IFADDRMSG.size:
            raise MalformedError(f"an ifaddrmsg of {len(payload)} bytes")
        index: int = _IFADDRMSG.unpack_from(payload)[4]
        named = attributes(payload, _IFADDRMSG.size)
        # Of a link with a peer, IFA_ADDRESS is the peer's.
        address = named.get(_IFA_LOCAL, named.get(_IFA_ADDRESS, b""))
        if len(address) in (4, 16):
            found.append((index, address))
    return found


def has_filters(channel: socket.socket, ifindex: int) -> bool:
    """Whether an interface has a qdisc that can carry filters: clsact or ingress.

    Raises:
        OSError: the kernel refused, or a message is malformed.
    """
    body = _TCMSG.pack(socket.AF_UNSPEC, ifindex, 0, 0, 0)
    found = False
    for kind, payload in netlink.dump(channel, RTM_GETQDISC, body, "list of qdiscs"):
        if kind != RTM_NEWQDISC:
            continue
        if len(payload) < _TCMSG.size:
            raise MalformedError(f"a tcmsg of {len(payload)} bytes")
        name = text(attributes(payload, _TCMSG.size).get(_TCA_KIND))
        index: int = _TCMSG.unpack_from(payload)[1]
        found |= index == ifindex and name in ("clsact", "ingress")
    return found


def bpf_filters(channel: socket.socket, ifindex: int, parent: int) -> list[BpfFilter]:
    """The filters of an interface that run BPF programs, on one of its hooks.

    Raises:
        OSError: the kernel refused, or a message is malformed.
    """
    body = _TCMSG.pack(socket.AF_UNSPEC, ifindex, 0, parent, 0)
    found = []
    for kind, payload in netlink.dump(channel, RTM_GETTFILTER, body, "list of filters"):
        if kind != RTM_NEWTFILTER:
            continue
        if len(payload) < _TCMSG.size:
            raise MalformedError(f"a tcmsg of {len(payload)} bytes")
        about = attributes(payload, _TCMSG.size)
        if text(about.get(_TCA_KIND)) != "bpf":
            continue
        _, _, handle, _, info = _TCMSG.unpack_from(payload)
        options = attributes(about.get(_TCA_OPTIONS, b""), 0)
        found.append(BpfFilter(handle, info, text(options.get(_TCA_BPF_NAME))))
    return found


def delete_filter(channel: socket.socket, ifindex: int, parent: int, one: BpfFilter) -> None:
    """Deletes a filter that bpf_filters() returned.

    Raises:
        OSError: the kernel refused.
    """
    body = _TCMSG.pack(socket.AF_UNSPEC, ifindex, one.handle, parent, one.info)
    body += attribute(_TCA_KIND, b"bpf\0")
    netlink.command(channel, RTM_DELTFILTER, body, "deleting a filter")


def namespace_id(channel: socket.socket, namespace_fd: int) -> int | None:
    """The id by which the namespace of `channel` knows another one; None if it does not.

    Raises:
        OSError: the kernel refused, or the message is malformed.
    """
    body = _GENMSG.pack(socket.AF_UNSPEC) + attribute(_NETNSA_FD, U32.pack(namespace_fd))
    payload = netlink.ask(channel, RTM_GETNSID, body, "id of a network namespace")
    found = number(S32, attributes(payload, _GENMSG.size).get(_NETNSA_NSID))
    return found if found is not None and found >= 0 else None


def _any_interface() -> bytes:
    return _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0)

"""What a network driver can do with XDP, told by the kernel: generic netlink's family netdev.

Formats are those of <linux/genetlink.h> and <linux/netdev.h>; the kernel has the family since
Linux 6.3.
"""

from __future__ import annotations

import socket
from struct import Struct

from deckwire.kernel.rtnetlink import NLMSG_ERROR, attributes, messages
from deckwire.limits import NETLINK_DATAGRAM_BYTES

XDP_BASIC = 1
"""NETDEV_XDP_ACT_BASIC: native XDP."""

_NETLINK_GENERIC = 16
_GENL_ID_CTRL = 16
_CTRL_CMD_GETFAMILY = 3
_CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 1, 2
_NETDEV_CMD_DEV_GET = 1
_NETDEV_A_DEV_IFINDEX, _NETDEV_A_DEV_XDP_FEATURES = 1, 3
_NLM_F_REQUEST = 1

_HEADER = Struct("=IHHIIBBxx")
"""nlmsghdr, then genlmsghdr: command, version."""
_GENERIC_BYTES = 4
_ATTRIBUTE = Struct("=HH")
_U16, _U32, _U64 = Struct("=H"), Struct("=I"), Struct("=Q")


def xdp_features(ifindex: int) -> int | None:
    """NETDEV_XDP_ACT_ bits of an interface of this namespace; None if the kernel does not tell."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as channel:
        name = _attribute(_CTRL_ATTR_FAMILY_NAME, b"netdev\0")
        family = _ask(channel, _GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, name).get(_CTRL_ATTR_FAMILY_ID)
        if family is None or len(family) < _U16.size:
            return None
        (number,) = _U16.unpack_from(family)
        index = _attribute(_NETDEV_A_DEV_IFINDEX, _U32.pack(ifindex))
        told = _ask(channel, number, _NETDEV_CMD_DEV_GET, index).get(_NETDEV_A_DEV_XDP_FEATURES)
        if told is None or len(told) < _U64.size:
            return None
        (features,) = _U64.unpack_from(told)
        return int(features)


def _attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(-len(value) % 4)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + padding


def _ask(channel: socket.socket, family: int, command: int, body: bytes) -> dict[int, bytes]:
    """The attributes of the answer; none if it is an error."""
    size = _HEADER.size + len(body)
    channel.send(_HEADER.pack(size, family, _NLM_F_REQUEST, 1, 0, command, 1) + body)
    for kind, _, payload in messages(channel.recv(NETLINK_DATAGRAM_BYTES)):
        if kind != NLMSG_ERROR:
            return attributes(payload, _GENERIC_BYTES)
    return {}

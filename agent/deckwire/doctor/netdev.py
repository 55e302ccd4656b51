"""The XDP features of a network driver, from the generic netlink family ``netdev``.

Formats are those of <linux/genetlink.h> and <linux/netdev.h>. The kernel has the family since Linux
6.3.
"""

from __future__ import annotations

import socket
from struct import Struct

from deckwire.kernel import netlink
from deckwire.kernel.netlink import U16, U32, U64, attribute, attributes, number

XDP_BASIC = 1
"""NETDEV_XDP_ACT_BASIC: native XDP."""

_NETLINK_GENERIC = 16
_GENL_ID_CTRL = 16
_CTRL_CMD_GETFAMILY = 3
_CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 1, 2
_NETDEV_CMD_DEV_GET = 1
_NETDEV_A_DEV_IFINDEX, _NETDEV_A_DEV_XDP_FEATURES = 1, 3

_HEADER = Struct("=BBxx")
"""genlmsghdr: command, version."""


def xdp_features(ifindex: int) -> int | None:
    """NETDEV_XDP_ACT_ bits of an interface of this namespace; None if it reports none."""
    with netlink.open_socket(_NETLINK_GENERIC) as channel:
        name = attribute(_CTRL_ATTR_FAMILY_NAME, b"netdev\0")
        found = _ask(channel, _GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, name)
        family = number(U16, found.get(_CTRL_ATTR_FAMILY_ID))
        if family is None:
            return None
        index = attribute(_NETDEV_A_DEV_IFINDEX, U32.pack(ifindex))
        found = _ask(channel, family, _NETDEV_CMD_DEV_GET, index)
        return number(U64, found.get(_NETDEV_A_DEV_XDP_FEATURES))


def _ask(channel: socket.socket, family: int, command: int, body: bytes) -> dict[int, bytes]:
    """The attributes of the reply; none if the kernel refused or the reply is malformed."""
    try:
        payload = netlink.ask(channel, family, _HEADER.pack(command, 1) + body, "netdev")
        return attributes(payload, _HEADER.size)
    except OSError:
        return {}

"""Segmentation and receive offloads of an interface, set by the ethtool ioctl."""

from __future__ import annotations

import ctypes
import fcntl
import socket
from errno import EOPNOTSUPP
from struct import Struct

_SIOCETHTOOL = 0x8946
_TSO, _GSO, _GRO = 0x1F, 0x24, 0x2C
"""ETHTOOL_STSO, ETHTOOL_SGSO and ETHTOOL_SGRO of <linux/ethtool.h>."""
_VALUE = Struct("=II")
"""struct ethtool_value: command, data."""
_IFREQ = Struct("16sQ16x")
"""struct ifreq: name, pointer."""


def set_offloads(interface: str, on: bool) -> None:
    """Turns TSO, GSO and GRO of an interface of the caller's network namespace on or off.

    A macvlan's TSO is always on: the parent segments what the macvlan sends.

    Raises:
        OSError: no such interface, or not permitted.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in (_TSO, _GSO, _GRO):
            value = ctypes.create_string_buffer(_VALUE.pack(command, on), _VALUE.size)
            request = _IFREQ.pack(interface.encode(), ctypes.addressof(value))
            try:
                fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
            except OSError as error:
                if command != _TSO or error.errno != EOPNOTSUPP:
                    raise

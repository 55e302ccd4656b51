"""The addresses of this host itself, which its own connections have and forged ones lack."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from typing import NamedTuple

from deckwire.kernel import rtnetlink
from deckwire.kernel.macvlans import MACVLANS
from deckwire.kernel.namespaces import inside
from deckwire.tcp.addresses import MAPPED_PREFIX

_MAC_BYTES, _IPV6_BYTES = 6, 16


class OwnHost(NamedTuple):
    """What frames of this host carry on the watched interfaces."""

    addresses: frozenset[bytes]
    """IP addresses of all its interfaces, 16 bytes each, IPv4 as IPv4-mapped."""
    macs: frozenset[bytes]
    """MAC addresses of the watched interfaces and of its own macvlans on them, 6 bytes each."""


class OwnHostReader:
    """Reads the addresses of the namespace that has the watched interfaces; owns a socket in it."""

    def __init__(self, netns: str | None) -> None:
        """`netns` is a name or a path; None is the caller's namespace. Raises OSError."""
        with inside(netns) if netns is not None else nullcontext():
            self._channel = rtnetlink.open_socket()

    def read(self, targets: Collection[int]) -> OwnHost:
        """The addresses now; `targets` are the ifindexes of the watched interfaces.

        Raises:
            OSError: the kernel refused, or a message is malformed.
        """
        addresses = rtnetlink.list_addresses(self._channel)
        macs = [
            interface.mac
            for interface in rtnetlink.list_interfaces(self._channel)
            if interface.ifindex in targets
            or (
                interface.kind in MACVLANS
                and interface.parent in targets
                and interface.parent_nsid is None
            )
        ]
        return OwnHost(
            frozenset(_mapped(address) for address in addresses),
            frozenset(mac for mac in macs if len(mac) == _MAC_BYTES),
        )

    def close(self) -> None:
        """Close the socket."""
        self._channel.close()


def _mapped(address: bytes) -> bytes:
    return address if len(address) == _IPV6_BYTES else MAPPED_PREFIX + address

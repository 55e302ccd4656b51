"""Interfaces that come and go, from a netlink socket in the namespace that they are in."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from errno import ENOBUFS
from typing import NamedTuple

from deckwire.kernel import netlink, rtnetlink
from deckwire.limits import (
    NETLINK_DATAGRAM_BYTES,
    NETLINK_DATAGRAMS,
    NETLINK_DUMPS,
    NETLINK_QUEUED,
)

SNAPSHOT_SECONDS = 5.0
"""Longest wait for the kernel's next datagram in a snapshot."""


class LinkChange(NamedTuple):
    """One message about an interface: it is there (perhaps changed) or gone."""

    ifindex: int
    name: str
    present: bool


class LinkOverrunError(Exception):
    """Messages were lost or malformed, or a list changed while the kernel sent it.

    Only snapshot() now says which interfaces there are.
    """


class LinkWatch:
    """Owns a netlink socket, given by its descriptor, that is subscribed to RTMGRP_LINK."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, fileno=fd)
        self._socket.setblocking(False)
        self._sequence = 0

    def fileno(self) -> int:
        """For epoll: readable when read() would return a change."""
        return self._socket.fileno()

    def read(self) -> list[LinkChange]:
        """The changes since the last call, from NETLINK_DATAGRAMS datagrams at most.

        Raises:
            LinkOverrunError: some were lost.
        """
        changes: list[LinkChange] = []
        for _ in range(NETLINK_DATAGRAMS):
            try:
                changes.extend(change for _, change in self._receive() if change is not None)
            except BlockingIOError:
                break
        return changes

    def snapshot(self) -> dict[int, str]:
        """All interfaces now, ifindex to name. It includes earlier changes, which are not read.

        Raises:
            LinkOverrunError: NETLINK_DUMPS times messages were lost, or the list changed.
            OSError: the kernel refused or did not reply.
        """
        for _ in range(NETLINK_DUMPS):
            try:
                return self._snapshot()
            except LinkOverrunError:
                continue
        raise LinkOverrunError

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def _snapshot(self) -> dict[int, str]:
        self._sequence += 1
        interfaces: dict[int, str] = {}
        self._drop_queued()
        self._socket.settimeout(SNAPSHOT_SECONDS)
        try:
            rtnetlink.request_interfaces(self._socket, self._sequence)
            while True:
                for done, change in self._receive():
                    if done:
                        return interfaces
                    if change is not None and change.present:
                        interfaces[change.ifindex] = change.name
                    elif change is not None:
                        interfaces.pop(change.ifindex, None)
        finally:
            self._socket.setblocking(False)

    def _drop_queued(self) -> None:
        """Drops what is queued: the list to come is newer and complete.

        After an overrun the socket still holds the messages from before it, without those lost.
        """
        for _ in range(NETLINK_QUEUED):
            try:
                self._socket.recv(1)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != ENOBUFS:
                    raise

    def _receive(self) -> Iterator[tuple[bool, LinkChange | None]]:
        """One datagram's messages: (our list ends here, a change or None)."""
        try:
            datagram, sender = self._socket.recvfrom(NETLINK_DATAGRAM_BYTES)
        except OSError as error:
            if error.errno == ENOBUFS:
                raise LinkOverrunError from error
            raise
        if sender[0] != 0:  # not from the kernel
            return
        try:
            yield from self._changes(datagram)
        except netlink.MalformedError as error:
            raise LinkOverrunError from error

    def _changes(self, datagram: bytes) -> Iterator[tuple[bool, LinkChange | None]]:
        for message in netlink.messages(datagram):
            if message.is_interrupted and message.sequence == self._sequence:
                raise LinkOverrunError
            if message.kind in (netlink.NLMSG_DONE, netlink.NLMSG_ERROR):
                if message.sequence == self._sequence:
                    netlink.raise_error(message.payload, "list of interfaces")
                    yield True, None
            elif message.kind in (rtnetlink.RTM_NEWLINK, rtnetlink.RTM_DELLINK):
                interface = rtnetlink.parse_interface(message.payload)
                if interface is not None:
                    present = message.kind == rtnetlink.RTM_NEWLINK
                    yield False, LinkChange(interface.ifindex, interface.name, present)

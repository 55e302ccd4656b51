"""`deckwire discover`: writes the deckies file from the macvlans that are there."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from ipaddress import IPv4Address, IPv6Address
from types import FrameType

from deckwire.deckies import NAME_LENGTH, Decky
from deckwire.errors import UsageError, plain
from deckwire.kernel import namespaces, rtnetlink
from deckwire.kernel.directory_watch import DirectoryWatch
from deckwire.kernel.macvlan_addresses import MacvlanAddresses, named_directory
from deckwire.kernel.macvlans import MACVLANS
from deckwire.limits import DECKIES, NETLINK_DATAGRAM_BYTES
from deckwire.resilience.report import report
from deckwire.runtime.service_manager import ServiceManager
from deckwire.runtime.status import write_atomically
from deckwire.tcp.addresses import MAPPED_PREFIX

INTERVAL_S = 10.0
"""Seconds between two looks while nothing is known to change."""
_SETTLE_S = 0.3
"""Seconds from a change to the look: changes come in groups."""
_AGAIN_S = 2.0
"""Seconds from that look to the next, because addresses come after interfaces."""
_NO_NAME = re.compile(r"[^!-~]")
"""What a decky's name cannot hold."""


def discover(interfaces: tuple[str, ...], netns: str | None, output: str | None) -> int:
    """Print the deckies once, or keep the file `output` up to date until a signal.

    Returns the exit status: 2 if what was printed may lack deckies.

    Args:
        interfaces: parents of macvlans, or macvlans whose parents are meant.
        netns: the network namespace that has them; None is the caller's.
        output: path of the deckies file.

    Raises:
        UsageError: nothing can be found, or nothing can be written.
    """
    if not interfaces:
        raise UsageError("no interface: nothing to find; name the parent of the macvlans with -i")
    path = None if netns is None else f"{named_directory()}/{netns}"
    if path is not None and not os.path.exists(path):
        raise UsageError(f"no network namespace {plain(str(netns))}; use one of `ip netns list`")
    discovery = Discovery(interfaces, path)
    if output is None:
        try:
            found = discovery.look()
        except OSError as error:
            raise UsageError(f"discover: {error.strerror or error}") from error
        sys.stdout.write(found.decode())
        return 0 if discovery.is_whole else UsageError.status
    with suppress(_Ended):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
        _keep(discovery, output)
    return 0


class NoInterfaceError(UsageError):
    """An interface does not exist."""


class Discovery:
    """Looks for the macvlans of some interfaces in all network namespaces."""

    def __init__(self, interfaces: tuple[str, ...], netns: str | None) -> None:
        """`netns` is the path of the namespace that has them; None for the caller's."""
        self._interfaces = interfaces
        self._netns = netns
        self._reported: set[str] = set()
        """What was wrong at the last look. Each thing is reported when it begins."""
        self.found = 0
        """Addresses found by the last look."""
        self.is_whole = True
        """The last look searched all network namespaces."""

    def look(self) -> bytes:
        """The content of the deckies file now. Faults that spare the rest are reported.

        Raises:
            NoInterfaceError: an interface does not exist.
            OSError: the interfaces' own namespace cannot be looked at.
        """
        with self._inside():
            addresses = MacvlanAddresses(self._parents())
        deckies, faults = {}, []
        for packed, name in sorted(addresses.names.items()):
            try:
                decky = _decky(packed, name)
            except ValueError as error:
                faults.append(f"{error}; this address is left out")
            else:
                deckies[str(decky.address)] = decky.name
        self.found = len(deckies)
        self.is_whole = not addresses.missed
        for packed, other in addresses.rivals.items():
            faults.append(
                f"{_address(packed)} is in {plain(addresses.names[packed])} and in {plain(other)};"
                " the first one counts"
            )
        if addresses.left_out:
            faults.append(f"{addresses.left_out} addresses beyond {DECKIES} are left out")
        if addresses.missed:
            faults.append(
                f"not all network namespaces were searched ({addresses.missed}); grant"
                " CAP_SYS_ADMIN and CAP_SYS_PTRACE, with systemd also RestrictNamespaces=net"
            )
        self._report(faults)
        return (json.dumps(deckies, indent=0) + "\n").encode()

    def open_links(self) -> socket.socket:
        """A socket that is readable when interfaces of the namespace change. Raises OSError."""
        with self._inside():
            links = rtnetlink.open_socket(rtnetlink.RTMGRP_LINK)
        links.setblocking(False)
        return links

    def _report(self, faults: list[str]) -> None:
        for fault in faults:
            if fault not in self._reported:
                report(fault)
        self._reported = set(faults)

    def _inside(self) -> AbstractContextManager[None]:
        return nullcontext() if self._netns is None else namespaces.inside(self._netns)

    def _parents(self) -> set[int]:
        """The ifindexes of the parents."""
        with rtnetlink.open_socket() as channel:
            there = {one.name: one for one in rtnetlink.list_interfaces(channel)}
        parents = set()
        for name in self._interfaces:
            one = there.get(name)
            if one is None:
                raise NoInterfaceError(
                    f"no interface {plain(name)} in this network namespace"
                    f" (there are: {plain(', '.join(there))}); correct the name"
                )
            is_child = one.kind in MACVLANS and one.parent_nsid is None
            parents.add(one.parent if is_child and one.parent is not None else one.ifindex)
        return parents


class _Ended(BaseException):
    """A signal asked for the end."""


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _Ended


def _keep(discovery: Discovery, output: str) -> None:
    """Keep the file up to date until a signal ends it."""
    manager = ServiceManager()
    complaint = ""
    is_first = True
    with closing(DirectoryWatch()) as names, discovery.open_links() as links:
        for _ in _looks(names, links):
            sentence = ""
            try:
                content = discovery.look()
            except (UsageError, OSError) as error:
                sentence = _text(error)
                # A file must be there when the agent starts.
                content = b"" if os.path.exists(output) else b"{}\n"
            try:
                if content:
                    _replace(output, content)
            except OSError as error:
                advice = (
                    "make its directory writable"
                    if isinstance(error, PermissionError | FileNotFoundError)
                    else "name a file in a writable directory"
                )
                line = f"{plain(output)}: {error.strerror}; {advice}"
                if is_first:
                    raise UsageError(line) from error
                sentence = line
            if sentence and sentence != complaint:
                report(f"{sentence}; trying again")
            complaint = sentence
            state = sentence or f"{discovery.found} addresses of deckies"
            if is_first:
                if not sentence:
                    report(f"ready: {state} in {plain(output)}")
                manager.ready(state)
                is_first = False
            else:
                manager.status(state)


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, UsageError) else getattr(error, "strerror", str(error))


def _looks(names: DirectoryWatch, links: socket.socket) -> Iterator[None]:
    """Each time that it gives, it is time to look: at least every INTERVAL_S."""
    poll = select.poll()
    poll.register(names.fileno(), select.POLLIN)
    poll.register(links.fileno(), select.POLLIN)
    directory = named_directory()
    changed = False
    while True:
        # Not there before somebody names the first namespace; iproute2 makes it then.
        if not names.add(directory):
            names.add(os.path.dirname(directory))
        yield
        changed = bool(poll.poll(1_000 * (_AGAIN_S if changed else INTERVAL_S)))
        if changed:
            time.sleep(_SETTLE_S)
            names.drain()
            _drain(links)


def _drain(links: socket.socket) -> None:
    with suppress(BlockingIOError):
        while True:
            try:
                links.recv(NETLINK_DATAGRAM_BYTES)
            except BlockingIOError:
                raise
            except OSError:  # some were lost, which is a change too
                continue


def _replace(path: str, content: bytes) -> None:
    """Write the file if it has another content, so that the agent reads it only then."""
    with suppress(OSError), open(path, "rb") as file:
        if file.read(len(content) + 1) == content:
            return
    write_atomically(path, content)


def _address(packed: bytes) -> IPv4Address | IPv6Address:
    if packed.startswith(MAPPED_PREFIX):
        return IPv4Address(packed[len(MAPPED_PREFIX) :])
    return IPv6Address(packed)


def _decky(packed: bytes, name: str) -> Decky:
    """The decky; ValueError for an address that none can have."""
    return Decky(_NO_NAME.sub("_", name)[:NAME_LENGTH], _address(packed))

"""Macvlans and ipvlans on given interfaces, searched for in every network namespace.

Docker moves a container's macvlan into the container's namespace, where only a search of all of
them finds it. What the search could not look at, it says.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Container, Iterator

from deckwire.kernel import rtnetlink
from deckwire.kernel.rtnetlink import Interface
from deckwire.kernel.syscalls import enter_network_namespace
from deckwire.limits import NETWORK_NAMESPACES

NAMESPACE_DIRECTORIES = ("/run/netns", "/run/docker/netns")

ADVICE = (
    "grant CAP_SYS_ADMIN and CAP_SYS_PTRACE (with systemd also ProtectProc=default and "
    "RestrictNamespaces=net), or check in each container that ip -d link shows macvlan mode bridge"
)
"""What to do about a search that could not look everywhere."""

MACVLANS = ("macvlan", "macvtap")
IPVLANS = ("ipvlan", "ipvtap")
"""Kinds of interfaces."""

_OWN_NAMESPACE = "/proc/thread-self/ns/net"
_OWN_DEVICES = "/proc/thread-self/net/dev"
"""The kernel makes this file anew for each network namespace: its inode tells two of them apart. To
look at that of another process takes no privilege, unlike its namespace."""


class Search:
    """Macvlans and ipvlans on some interfaces of the calling thread's network namespace."""

    # No dataclass: to import those takes 8 ms, and each start waits for it.
    def __init__(self, parents: Container[int]) -> None:
        """Searches at once. `parents` are ifindexes.

        Raises:
            OSError: the namespace of the calling thread itself cannot be looked at.
        """
        self.found: list[Interface] = []
        """Interfaces whose parent is one of them; `parent` is its ifindex."""
        self.searched = 0
        """Network namespaces that were looked at."""
        self._parents = parents
        self._seen: set[int] = set()
        """Namespaces by their inode, bounded: also those that could not be entered."""
        self._known: set[int] = set()
        """Those looked at, by the inode of _OWN_DEVICES."""
        self._closed: dict[int | str, str] = {}
        """What could not be looked at: by that inode, or by a path where it is unknown."""
        self._suppressed = False
        self._beyond = False
        with open(_OWN_NAMESPACE, "rb") as own, rtnetlink.open_socket() as channel:
            status = os.fstat(own.fileno())
            self._device = status.st_dev
            self._seen.add(status.st_ino)
            self._collect(channel, None)
            self._search(own.fileno())

    @property
    def gaps(self) -> str | None:
        """One line about what was not looked at, and what that means; None: it was everything."""
        gaps = []
        if self._closed:
            first = next(iter(self._closed.values()))
            gaps.append(f"{len(self._closed)} could not be opened, the first: {first}")
        if self._suppressed:
            gaps.append("/proc suppresses processes of others")
        if self._beyond:
            gaps.append(f"there are more than {NETWORK_NAMESPACES}")
        if not gaps:
            return None
        return (
            f"not all network namespaces were searched for macvlans ({'; '.join(gaps)}): "
            "VEPA mode or an ipvlan there goes unnoticed"
        )

    def _search(self, own: int) -> None:
        refusal = None
        try:
            # Whoever may not enter its own namespace could not come back to it.
            enter_network_namespace(own)
        except OSError as error:
            refusal = error
        try:
            for path in self._paths():
                self._try(path, own, refusal)
        finally:
            if refusal is None:
                enter_network_namespace(own)
        # Of a namespace that is closed by one way another may have led in.
        for inode in self._known & self._closed.keys():
            del self._closed[inode]
        # The first process is always there.
        self._suppressed = not os.path.exists("/proc/1")

    def _paths(self) -> Iterator[str]:
        for directory in NAMESPACE_DIRECTORIES:
            try:
                names = os.listdir(directory)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._skip(directory, directory, error)
                continue
            yield from (f"{directory}/{name}" for name in names)
        yield from (f"/proc/{name}/ns/net" for name in os.listdir("/proc") if name.isdigit())

    def _try(self, path: str, own: int, refusal: OSError | None) -> None:
        key: int | str = path
        try:
            if path.startswith("/proc/"):
                key = os.stat(path.removesuffix("ns/net") + "net/dev").st_ino
            namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            return
        except OSError as error:
            self._skip(key, path, error)
            return
        try:
            status = os.fstat(namespace)
            # On another device is a file that was left behind under /run/netns.
            if status.st_dev != self._device or status.st_ino in self._seen:
                return
            if len(self._seen) >= NETWORK_NAMESPACES:
                self._beyond = True
                return
            self._seen.add(status.st_ino)
            if refusal is not None:
                raise refusal
            enter_network_namespace(namespace)
            with rtnetlink.open_socket() as channel:
                self._collect(channel, own)
        except OSError as error:
            self._skip(key, path, error)
        finally:
            os.close(namespace)

    def _collect(self, channel: socket.socket, own: int | None) -> None:
        """Looks at one namespace, which knows that of the parents as `own`; None: it is that."""
        nsid = None if own is None else rtnetlink.namespace_id(channel, own)
        if own is None or nsid is not None:
            self.found += [
                interface
                for interface in rtnetlink.list_interfaces(channel)
                if interface.kind in MACVLANS + IPVLANS
                and interface.parent in self._parents
                and interface.parent_nsid == nsid
            ]
        self.searched += 1
        self._known.add(os.stat(_OWN_DEVICES).st_ino)

    def _skip(self, key: int | str, path: str, error: OSError) -> None:
        if key in self._closed:
            return
        if len(self._closed) >= NETWORK_NAMESPACES:
            self._beyond = True
            return
        self._closed[key] = f"{path}: {error.strerror or error}"

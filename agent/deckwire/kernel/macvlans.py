"""Macvlans and ipvlans on given interfaces, searched for in every network namespace.

Docker moves a container's macvlan into the container's namespace. Only a search of all namespaces
finds it there. The search also says what it could not look at.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Container, Iterator, Sequence

from deckwire.kernel import namespaces, rtnetlink
from deckwire.kernel.rtnetlink import Interface
from deckwire.limits import NETWORK_NAMESPACES

NAMESPACE_DIRECTORIES = (namespaces.NAMED, "/run/docker/netns")

ADVICE = (
    "grant CAP_SYS_ADMIN and CAP_SYS_PTRACE (with systemd also ProtectProc=default and "
    "RestrictNamespaces=net), or check in each container that ip -d link shows macvlan mode bridge"
)
"""What to do about a search that could not look everywhere."""

MACVLANS = ("macvlan", "macvtap")
IPVLANS = ("ipvlan", "ipvtap")
"""Kinds of interfaces."""

_OWN_DEVICES = "/proc/thread-self/net/dev"
"""The kernel makes this file anew for each network namespace, so its inode identifies one. Reading
the inode of another process takes no privilege, unlike reading its namespace."""


Visit = Callable[[str, socket.socket, list[Interface]], None]
"""Takes the file of a namespace, "" for the calling thread's own; a socket in it; and what was
found there, which is at least one interface. The thread is in the namespace."""


class Search:
    """Macvlans and ipvlans on some interfaces of the calling thread's network namespace."""

    # No dataclass: importing those takes 8 ms, and each start waits for it.
    def __init__(
        self,
        parents: Container[int],
        visit: Visit | None = None,
        directories: Sequence[str] | None = None,
        *,
        elsewhere: bool = True,
    ) -> None:
        """Searches at once. `parents` are ifindexes; `visit` is called in each namespace.

        `directories` have files of namespaces. They come before processes; None is
        NAMESPACE_DIRECTORIES. Without `elsewhere` only the thread's own namespace is searched.

        Raises:
            OSError: the namespace of the calling thread itself cannot be looked at.
        """
        self.found: list[Interface] = []
        """Interfaces whose parent is one of `parents`; their `parent` is its ifindex."""
        self.searched = 0
        """Network namespaces that were looked at."""
        self._parents = parents
        self._visit = visit
        self._directories = NAMESPACE_DIRECTORIES if directories is None else directories
        self._seen: set[int] = set()
        """Namespaces by inode, bounded, including those that could not be entered."""
        self._known: set[int] = set()
        """Those looked at, by the inode of _OWN_DEVICES."""
        self._closed: dict[int | str, str] = {}
        """Those that could not be looked at: by that inode, or by path if it is unknown."""
        self._processes_invisible = False
        self._too_many = False
        with open(namespaces.OWN, "rb") as own, rtnetlink.open_socket() as channel:
            status = os.fstat(own.fileno())
            self._device = status.st_dev
            self._seen.add(status.st_ino)
            self._collect("", channel, None)
            if elsewhere:
                self._search(own.fileno())

    @property
    def gaps(self) -> str | None:
        """One line about what was not looked at, and its effect; None if everything was."""
        missed = self.missed
        if not missed:
            return None
        return (
            f"not all network namespaces were searched for macvlans ({missed}): "
            "VEPA mode or an ipvlan there goes unnoticed"
        )

    @property
    def missed(self) -> str:
        """What was not looked at; "" if everything was."""
        gaps = []
        if self._closed:
            first = next(iter(self._closed.values()))
            gaps.append(f"{len(self._closed)} could not be opened, the first: {first}")
        if self._processes_invisible:
            gaps.append("/proc does not show processes of others")
        if self._too_many:
            gaps.append(f"there are more than {NETWORK_NAMESPACES}")
        return "; ".join(gaps)

    def _search(self, own: int) -> None:
        refusal = None
        try:
            # A thread that may not enter its own namespace could not come back to it.
            namespaces.enter(own)
        except OSError as error:
            refusal = error
        try:
            for path in self._paths():
                self._try(path, own, refusal)
        finally:
            if refusal is None:
                namespaces.enter(own)
        # A namespace may be closed under one path and open under another.
        for inode in self._known & self._closed.keys():
            del self._closed[inode]
        # The first process always exists.
        self._processes_invisible = not os.path.exists("/proc/1")

    def _paths(self) -> Iterator[str]:
        for directory in self._directories:
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
            if path.endswith("/ns/net"):  # a process's
                key = os.stat(path.removesuffix("ns/net") + "net/dev").st_ino
            namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            return
        except OSError as error:
            self._skip(key, path, error)
            return
        try:
            status = os.fstat(namespace)
            # A file on another device is no namespace, but one that was left in NAMED.
            if status.st_dev != self._device or status.st_ino in self._seen:
                return
            if len(self._seen) >= NETWORK_NAMESPACES:
                self._too_many = True
                return
            self._seen.add(status.st_ino)
            if refusal is not None:
                raise refusal
            namespaces.enter(namespace)
            with rtnetlink.open_socket() as channel:
                self._collect(path, channel, own)
        except OSError as error:
            self._skip(key, path, error)
        finally:
            os.close(namespace)

    def _collect(self, path: str, channel: socket.socket, own: int | None) -> None:
        """Looks at one namespace.

        Args:
            path: its file; "" for the parents' own.
            channel: a socket in it.
            own: descriptor of the parents' namespace; None if it is the same one.
        """
        nsid = None if own is None else rtnetlink.namespace_id(channel, own)
        if own is None or nsid is not None:
            found = [
                interface
                for interface in rtnetlink.list_interfaces(channel)
                if interface.kind in MACVLANS + IPVLANS
                and interface.parent in self._parents
                and interface.parent_nsid == nsid
            ]
            self.found += found
            if self._visit is not None and found:
                self._visit(path, channel, found)
        self.searched += 1
        self._known.add(os.stat(_OWN_DEVICES).st_ino)

    def _skip(self, key: int | str, path: str, error: OSError) -> None:
        if key in self._closed:
            return
        if len(self._closed) >= NETWORK_NAMESPACES:
            self._too_many = True
            return
        self._closed[key] = f"{path}: {error.strerror or error}"

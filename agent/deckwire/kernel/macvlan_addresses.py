"""The addresses of all macvlans on given interfaces, with a name for each network namespace."""

from __future__ import annotations

import os
import re
import socket

from deckwire.kernel import namespaces, rtnetlink
from deckwire.kernel.macvlans import MACVLANS, Search
from deckwire.kernel.rtnetlink import Interface
from deckwire.limits import CGROUP_BYTES, DECKIES
from deckwire.tcp.addresses import MAPPED_PREFIX

_FIRST_PROCESS = "/proc/1/root"
_CONTAINER = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
"""The id of a container in the path of its control group: Docker, Podman, containerd, CRI-O."""
_ID_CHARACTERS = 12
"""As `docker ps` shows an id."""


class MacvlanAddresses:
    """What one search of all network namespaces found.

    Macvlans in the parents' own namespace are left out: they are the host's own.
    """

    def __init__(self, parents: set[int]) -> None:
        """Searches at once. `parents` are ifindexes of the calling thread's namespace.

        Raises:
            OSError: the namespace of the calling thread itself cannot be looked at.
        """
        self.names: dict[bytes, str] = {}
        """The name of the namespace that has an address, by the address in 16 bytes."""
        self.rivals: dict[bytes, str] = {}
        """The name of another namespace that has an address too."""
        self.left_out = 0
        """Addresses beyond DECKIES."""
        # Docker's own directory comes without names of use, so processes are to show those.
        self.missed = Search(parents, self._visit, (named_directory(),)).missed
        """What could not be searched; "" if everything was."""

    def _visit(self, path: str, channel: socket.socket, found: list[Interface]) -> None:
        macvlans = {one.ifindex for one in found if one.kind in MACVLANS}
        if not path or not macvlans:
            return
        name = _name(path)
        for ifindex, address in rtnetlink.list_addresses(channel):
            if ifindex not in macvlans:
                continue
            packed = address if len(address) == 16 else MAPPED_PREFIX + address
            known = self.names.get(packed)
            if known is not None:
                if known != name:
                    self.rivals[packed] = name
            elif len(self.names) >= DECKIES:
                self.left_out += 1
            else:
                self.names[packed] = name


def named_directory() -> str:
    """The directory of the namespaces that have a name, as the first process sees it.

    A name that is given later is a mount, which may not reach the mount namespace of a service.
    Without the right to look there, it is the caller's own directory.
    """
    try:
        os.stat(f"{_FIRST_PROCESS}/run")
    except OSError:
        return namespaces.NAMED
    return _FIRST_PROCESS + namespaces.NAMED


def _name(path: str) -> str:
    """The name of the namespace of a file: its own, its container's, or one by its number."""
    folder, name = os.path.split(path)
    if folder.endswith(namespaces.NAMED):
        return name
    return _container(os.path.join(path.removesuffix("ns/net"), "cgroup")) or (
        f"netns-{os.stat(namespaces.OWN).st_ino}"
    )


def _container(path: str) -> str | None:
    """The short id of the container in a file ``/proc/PID/cgroup``; None if it names none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = _CONTAINER.findall(file.read(CGROUP_BYTES))
    except OSError:  # the process has ended
        return None
    # The last one is the innermost.
    return found[-1][:_ID_CHARACTERS] if found else None

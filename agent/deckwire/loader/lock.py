"""The lock that keeps a second agent off an interface.

It is a Unix socket with an abstract address. Such an address belongs to the network namespace, as
the interface does, and every container that shares the namespace sees it. It is gone with the last
descriptor of the socket, also after SIGKILL.
"""

from __future__ import annotations

import socket
from errno import EADDRINUSE
from struct import Struct

from deckwire.loader.errors import LoaderError

_SOCKETS = "/proc/thread-self/net/unix"
"""The Unix sockets of the calling thread's namespace; ``@`` stands for an abstract address."""
_UCRED = Struct("=iII")
"""struct ucred: process, user, group."""


def claim(ifindex: int, name: str) -> socket.socket:
    """Locks an interface of this namespace for as long as any process has the socket.

    Raises:
        LoaderError: an agent has it.
    """
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    address = f"\0{_label(ifindex)}"
    try:
        lock.bind(address)
    except OSError as error:
        lock.close()
        if error.errno != EADDRINUSE:
            raise
        raise LoaderError(
            f"{name} is already watched by {_holder(address)}: stop that one first", passing=True
        ) from error
    lock.listen()
    return lock


def is_claimed(ifindex: int) -> bool:
    """Whether an agent has locked this interface of the calling thread's namespace."""
    with open(_SOCKETS, errors="replace") as file:
        return any(line.split()[-1:] == [f"@{_label(ifindex)}"] for line in file)


def _label(ifindex: int) -> str:
    return f"deckwire-{ifindex}"


def _holder(address: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as question:
        question.setblocking(False)
        try:
            question.connect(address)
            credentials = question.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        except OSError:
            return "another process"
    pid, uid, _ = _UCRED.unpack(credentials)
    return f"process {pid} (user id {uid})" if pid else "a process of another container"

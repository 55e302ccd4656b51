"""Network namespaces: the files that stand for them, and the calls that enter one.

See network_namespaces(7) and setns(2).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from deckwire.kernel.syscalls import failure

NAMED = "/run/netns"
"""The directory of the namespaces that have a name, as iproute2 and pyroute2 keep them."""
OWN = "/proc/thread-self/ns/net"
"""The file of the calling thread's namespace."""

_CLONE_NEWNET = 0x4000_0000
"""<linux/sched.h>."""

_setns = ctypes.CDLL(None, use_errno=True)["setns"]
_setns.argtypes = (ctypes.c_int, ctypes.c_int)


def path_of(netns: str) -> str:
    """The file of a namespace as the user gave it: a path, or a name in NAMED."""
    return netns if "/" in netns else f"{NAMED}/{netns}"


def enter(fd: int) -> None:
    """Moves the calling thread into the namespace of an open file.

    Raises:
        OSError: it is no network namespace, or CAP_SYS_ADMIN is missing.
    """
    if _setns(fd, _CLONE_NEWNET):
        raise failure(ctypes.get_errno(), "setns")


@contextmanager
def inside(netns: str) -> Iterator[None]:
    """The calling thread is in the namespace until the block ends: sockets made there stay there.

    Args:
        netns: a path, or a name in NAMED.

    Raises:
        OSError: as `enter`, or there is no such file.
    """
    with open(OWN, "rb") as own, open(path_of(netns), "rb") as namespace:
        try:
            # In the block, because a signal handler may raise as soon as the thread has moved.
            enter(namespace.fileno())
            yield
        finally:
            enter(own.fileno())

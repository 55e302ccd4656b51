"""Network namespaces with names that tell who made them, so that none outlives its maker for long.

A name is ``dwlab-PID-START-NUMBER-ROLE``: the process that made it, when that process started (its
id may be another's one day), which of its labs it is and what the namespace stands for. Everything
a lab has on disk is called by the same stem, ``dwlab-PID-START-NUMBER``.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from deckwire.kernel.syscalls import enter_network_namespace

NAMESPACES = Path("/run/netns")
"""Where iproute2 and pyroute2 keep named namespaces."""
RUN = Path("/run")
"""Only root writes here, so a name that can be guessed does no harm."""
PREFIX = "dwlab"
MARK = "DECKWIRE_LAB"
"""Environment variable with the stem: every process of a lab, and their children, have it."""

_STEM = re.compile(rf"({PREFIX}-([0-9]+)-([0-9]+)-[0-9]+)(?:-.+)?")
_ENDING_SECONDS = 5.0
_numbers = itertools.count(1)


class LabError(Exception):
    """The lab cannot be made or does not do what it should; one line for the user."""


def new_stem() -> str:
    """The stem of the names of this process's next lab."""
    pid = os.getpid()
    return f"{PREFIX}-{pid}-{_started(pid)}-{next(_numbers)}"


def path_of(name: str) -> Path:
    """The file that stands for the namespace of this name."""
    return NAMESPACES / name


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """The calling thread is in this namespace: what it opens and starts now belongs there."""
    with (
        open("/proc/thread-self/ns/net", "rb") as own,
        open(path_of(name), "rb") as namespace,
    ):
        try:
            enter_network_namespace(namespace.fileno())
            yield
        finally:
            enter_network_namespace(own.fileno())


def remove(stem: str) -> None:
    """Removes what a lab left: its processes, its namespaces, its directory."""
    _end_processes(stem)
    for name in names(stem):
        _unmount(name)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(RUN / stem)


def remove_stale() -> list[str]:
    """Removes the labs whose makers are gone (killed): their stems."""
    found = [path.name for directory in (NAMESPACES, RUN) for path in directory.glob(f"{PREFIX}-*")]
    matches = [match for name in found if (match := _STEM.fullmatch(name))]
    stale = {stem for stem, pid, start in (m.groups() for m in matches) if _started(pid) != start}
    for stem in sorted(stale):
        remove(stem)
    return sorted(stale)


def names(stem: str) -> list[str]:
    """The namespaces of the lab with this stem."""
    return [path.name for path in NAMESPACES.glob(f"{stem}-*")]


def wait_until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Returns as soon as `condition` holds.

    Raises:
        LabError: it did not within `seconds`; `what` names it.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {seconds:.0f} s")
        # Nothing tells when such a condition changes, so it is asked again.
        time.sleep(0.005)


def _started(pid: int | str) -> str:
    """When the process started, in clock ticks after boot; empty if there is none."""
    try:
        # The name in parentheses may hold anything; field 22 is the 20th behind it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _end_processes(stem: str) -> None:
    """Kills the processes that carry the lab's mark, until none is left."""
    deadline = time.monotonic() + _ENDING_SECONDS
    while time.monotonic() < deadline:
        ended = 0
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                ended += _end_if_marked(int(entry), f"{MARK}={stem}".encode())
        if not ended:
            return


def _end_if_marked(pid: int, mark: bytes) -> bool:
    """By pidfd: the id of a process that ends meanwhile cannot be mistaken for another's."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:  # ended
        return False
    try:
        if mark not in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [], _ENDING_SECONDS)
    except OSError:  # ended
        return False
    finally:
        os.close(handle)
    return True


def _unmount(name: str) -> None:
    from pyroute2 import netns  # noqa: PLC0415 - labs alone need it

    try:
        netns.remove(name)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise

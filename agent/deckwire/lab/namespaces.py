"""The network namespaces of labs. Their names identify the maker, so stale ones can be removed.

A name is ``dwlab-PID-START-NUMBER-ROLE``: the id of the process that made it, the start time of
that process (because ids are reused), which of its labs it is, and the node. All files of a lab
have the same stem, ``dwlab-PID-START-NUMBER``.
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
from collections.abc import Callable
from pathlib import Path

from deckwire.kernel import namespaces

NAMESPACES = Path(namespaces.NAMED)
RUN = Path("/run")
"""Only root writes here, so predictable names do no harm."""
PREFIX = "dwlab"
MARK = "DECKWIRE_LAB"
"""Environment variable with the stem. Every process of a lab inherits it."""
PATIENCE_SECONDS = 120.0
"""Longest wait for what must come. The wait ends as soon as it has come, so a busy machine may take
long, and only a failure takes all of it."""

_STEM = re.compile(rf"({PREFIX}-([0-9]+)-([0-9]+)-[0-9]+)(?:-.+)?")
_ENDING_SECONDS = 5.0
_numbers = itertools.count(1)


class LabError(Exception):
    """The lab cannot be made or does not do what it should: one line for the user."""


def new_stem() -> str:
    """The stem of the names of this process's next lab."""
    pid = os.getpid()
    return f"{PREFIX}-{pid}-{_started(pid)}-{next(_numbers)}"


def remove(stem: str) -> None:
    """Removes what is left of a lab: its processes, its namespaces, its directory."""
    _end_processes(stem)
    for name in names(stem):
        _unmount(name)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(RUN / stem)


def remove_stale() -> list[str]:
    """Removes the labs whose makers have ended (were killed): their stems."""
    found = [path.name for directory in (NAMESPACES, RUN) for path in directory.glob(f"{PREFIX}-*")]
    matches = [match for name in found if (match := _STEM.fullmatch(name))]
    stale = {stem for stem, pid, start in (m.groups() for m in matches) if _started(pid) != start}
    for stem in sorted(stale):
        remove(stem)
    return sorted(stale)


def names(stem: str) -> list[str]:
    """The namespaces of the lab with this stem."""
    return [path.name for path in NAMESPACES.glob(f"{stem}-*")]


def wait_until(
    condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS
) -> None:
    """Returns as soon as `condition` holds.

    Raises:
        LabError: it did not within `seconds`. `what` names the condition.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {seconds:.0f} s")
        # Nothing signals a change of such a condition, so it is checked again.
        time.sleep(0.005)


def _started(pid: int | str) -> str:
    """When the process started, in clock ticks after boot; empty if there is no such process."""
    try:
        # The name in parentheses may hold anything; field 22 is the 20th after it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _end_processes(stem: str) -> None:
    """Kills the processes that have the lab's mark, until none is left.

    A process has no mark for a moment while execve() replaces its memory, so none is left only
    where two searches have found none.
    """
    deadline = time.monotonic() + _ENDING_SECONDS
    without = 0
    while without < 2 and time.monotonic() < deadline:
        ended = 0
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                ended += _end_if_marked(int(entry), f"{MARK}={stem}".encode())
        without = 0 if ended else without + 1


def _end_if_marked(pid: int, mark: bytes) -> bool:
    """Kills one process, by pidfd because its id may be another's when it ends meanwhile."""
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

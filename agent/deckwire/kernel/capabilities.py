"""The capabilities of the calling thread, and those that Deckwire needs (capabilities(7))."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from struct import Struct

from deckwire.kernel.syscalls import failure

_STATUS = "/proc/thread-self/status"
_EFFECTIVE = "CapEff:"

_VERSION = 0x2008_0522
"""_LINUX_CAPABILITY_VERSION_3."""
_HEADER = Struct("=Ii")
_SETS = Struct("=6I")
"""Two times effective, permitted and inheritable: numbers below 32, and the others."""
_LOW = 0xFFFF_FFFF

_PR_SET_NO_NEW_PRIVS = 38
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
"""<linux/prctl.h>."""

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc["prctl"]
_prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
_capget, _capset = _libc["capget"], _libc["capset"]
_capget.argtypes = _capset.argtypes = (ctypes.c_char_p, ctypes.c_char_p)


class Capability(IntEnum):
    """Numbers of <linux/capability.h>."""

    CAP_CHOWN = 0
    CAP_DAC_OVERRIDE = 1
    CAP_FOWNER = 3
    CAP_SETPCAP = 8
    CAP_NET_ADMIN = 12
    CAP_SYS_ADMIN = 21
    CAP_SYS_RESOURCE = 24
    CAP_PERFMON = 38
    CAP_BPF = 39


ATTACHING = (Capability.CAP_NET_ADMIN, Capability.CAP_BPF)
"""Needed to attach programs that are loaded."""
LOADING = (*ATTACHING, Capability.CAP_PERFMON)
"""Needed to load programs, open the perf rings and attach."""

FILES = (Capability.CAP_CHOWN, Capability.CAP_DAC_OVERRIDE, Capability.CAP_FOWNER)
"""Needed to open, make and give away files of any owner."""

_IN_SYS_ADMIN = (Capability.CAP_PERFMON, Capability.CAP_BPF)
"""CAP_SYS_ADMIN includes them, as it did before Linux 5.8 split them off."""


def held() -> frozenset[Capability]:
    """The effective capabilities of the calling thread."""
    with open(_STATUS) as file:
        (line,) = (line for line in file if line.startswith(_EFFECTIVE))
    mask = int(line.removeprefix(_EFFECTIVE), 16)
    return frozenset(one for one in Capability if mask >> one & 1)


def missing(needed: Iterable[Capability], held: frozenset[Capability]) -> list[Capability]:
    """Those of `needed` that are neither held nor included in CAP_SYS_ADMIN, in their order."""
    included = _IN_SYS_ADMIN if Capability.CAP_SYS_ADMIN in held else ()
    return [one for one in needed if one not in held and one not in included]


@contextmanager
def powerless() -> Iterator[None]:
    """The calling thread has no effective capability in the block, and gets them back after it."""
    header = _HEADER.pack(_VERSION, 0)
    before = ctypes.create_string_buffer(_SETS.size)
    _check(_capget(header, before), "capget")
    _, low_permitted, low_inheritable, _, *high = _SETS.unpack(before)
    emptied = _SETS.pack(0, low_permitted, low_inheritable, 0, *high)
    _check(_capset(header, emptied), "capset")
    try:
        yield
    finally:
        _check(_capset(header, before.raw), "capset")


def bound(kept: Collection[Capability] = ()) -> None:
    """Empties the bounding set of the calling thread, but for `kept`, if CAP_SETPCAP is held.

    A bounding set that stays grants nothing by itself.

    Raises:
        OSError: the kernel refused.
    """
    if Capability.CAP_SETPCAP not in held():
        return
    number = 0
    while _prctl(_PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
        if number not in kept:
            _check(_prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), "PR_CAPBSET_DROP")
        number += 1


def give_up(kept: Collection[Capability] = ()) -> None:
    """Takes all capabilities from the calling thread for ever, but for those of `kept`.

    No program that it starts has more. Those of `kept` must be held.

    Raises:
        OSError: the kernel refused, and some may be left.
    """
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    _check(_prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "PR_CAP_AMBIENT")
    bound(kept)
    mask = sum(1 << one for one in kept)
    low, high = mask & _LOW, mask >> 32
    sets = _SETS.pack(low, low, 0, high, high, 0)
    _check(_capset(_HEADER.pack(_VERSION, 0), sets), "capset")


def _check(result: int, what: str) -> None:
    if result < 0:
        raise failure(ctypes.get_errno(), what)

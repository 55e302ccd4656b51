"""The capabilities of this process, and those that Deckwire needs (capabilities(7))."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

_STATUS = "/proc/thread-self/status"
_EFFECTIVE = "CapEff:"


class Capability(IntEnum):
    """Numbers of <linux/capability.h>."""

    CAP_NET_ADMIN = 12
    CAP_SYS_ADMIN = 21
    CAP_SYS_RESOURCE = 24
    CAP_PERFMON = 38
    CAP_BPF = 39


ATTACHING = (Capability.CAP_NET_ADMIN, Capability.CAP_BPF)
"""Needed to attach programs that are loaded."""
LOADING = (*ATTACHING, Capability.CAP_PERFMON)
"""Needed to load programs, open the perf rings and attach."""

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

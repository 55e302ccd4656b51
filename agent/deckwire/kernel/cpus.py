"""The machine's CPUs, as sysfs lists them."""

from __future__ import annotations

_SYSFS = "/sys/devices/system/cpu"


def parse_list(text: str) -> list[int]:
    """The numbers of a kernel list such as ``0-3,5``.

    Raises:
        ValueError: it is no such list.
    """
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def online() -> list[int]:
    """The CPUs that run programs now. Each has a ring."""
    return _listed("online")


def possible() -> int:
    """How many CPUs there may ever be: a per-CPU map has so many values for each key."""
    return len(_listed("possible"))


def _listed(name: str) -> list[int]:
    with open(f"{_SYSFS}/{name}") as file:
        return parse_list(file.read())

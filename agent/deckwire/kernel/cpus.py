"""The machine's CPUs as sysfs lists them."""

from __future__ import annotations

_SYSFS = "/sys/devices/system/cpu"


def parse_list(text: str) -> list[int]:
    """A list of the kernel's such as ``0-3,5`` as numbers.

    Raises:
        ValueError: not such a list.
    """
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def online() -> list[int]:
    """CPUs that run programs now: each has a ring."""
    return _listed("online")


def possible() -> int:
    """CPUs there may ever be: the number of values behind one key of a per-CPU map."""
    return len(_listed("possible"))


def _listed(name: str) -> list[int]:
    with open(f"{_SYSFS}/{name}") as file:
        return parse_list(file.read())

"""The kernel, its settings and the privileges that this process has."""

from __future__ import annotations

import os
import platform
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from deckwire.doctor.finding import Finding

OLDEST_KERNEL = (5, 10)
_MEMLOCK_FREE = (5, 11)
"""From here on BPF maps do not count against RLIMIT_MEMLOCK."""
_PARANOID = 2
"""Highest kernel.perf_event_paranoid that CAP_PERFMON overrides everywhere."""
_GOOD_CLOCKS = ("tsc", "kvm-clock", "arch_sys_counter")

_WHOLE_UID_MAP = ["0", "0", "4294967295"]
"""user_namespaces(7): the mapping of the initial user namespace."""
_CAP_SYS_ADMIN, _CAP_SYS_RESOURCE = 21, 24
_CAPABILITIES = {
    "CAP_NET_ADMIN": (12, "attach to interfaces"),
    "CAP_PERFMON": (38, "open the perf rings"),
    "CAP_BPF": (39, "load programs and make maps"),
}
"""Numbers of <linux/capability.h>; CAP_SYS_ADMIN stands for the last two."""


def kernel_version() -> tuple[int, int]:
    """Major and minor number of the running kernel."""
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def examine_kernel() -> Iterator[Finding]:
    """Version, machine, just-in-time compiler, type information, clock."""
    release = os.uname().release
    if kernel_version() >= OLDEST_KERNEL:
        yield Finding("ok", "kernel", f"Linux {release}, 5.10 or newer is needed")
    else:
        yield Finding(
            "missing", "kernel", f"Linux {release} is older than 5.10", "boot a newer kernel"
        )
    machine = platform.machine()
    if machine == "x86_64":
        yield Finding("ok", "machine", machine)
    else:
        yield Finding("missing", "machine", f"{machine} is not supported", "use an x86_64 host")
    yield _jit()
    if Path("/sys/kernel/btf/vmlinux").exists():
        yield Finding("ok", "btf", "the kernel describes its types, which is not needed")
    else:
        yield Finding("note", "btf", "the kernel does not describe its types; not needed")
    clock = _read("/sys/devices/system/clocksource/clocksource0/current_clocksource") or "unknown"
    if clock in _GOOD_CLOCKS:
        yield Finding("ok", "clock", f"timestamps come from {clock}")
    else:
        yield Finding(
            "note",
            "clock",
            f"timestamps come from {clock}, which is slow to read or coarse",
            "see /sys/devices/system/clocksource/clocksource0/available_clocksource",
        )


def examine_privileges(netns: str | None) -> Iterator[Finding]:
    """Capabilities, locked memory, perf's strictness."""
    status = Path("/proc/self/status").read_text()
    (effective,) = re.findall(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    held = int(effective, 16)
    admin = bool(held >> _CAP_SYS_ADMIN & 1)
    if Path("/proc/self/uid_map").read_text().split() != _WHOLE_UID_MAP:
        yield Finding(
            "missing",
            "userns",
            "this is a user namespace, whose capabilities do not count for BPF",
            "run in the host's user namespace",
        )
    for name, (number, purpose) in _CAPABILITIES.items():
        if held >> number & 1:
            yield Finding("ok", name.lower(), f"held, to {purpose}")
        elif admin and name != "CAP_NET_ADMIN":
            yield Finding("ok", name.lower(), f"CAP_SYS_ADMIN stands for it, to {purpose}")
        else:
            yield Finding(
                "missing", name.lower(), f"needed to {purpose}", "run as root or grant it"
            )
    if admin:
        yield Finding("ok", "cap_sys_admin", "held, to look into other network namespaces")
    elif netns is not None:
        yield Finding(
            "missing",
            "cap_sys_admin",
            f"needed to enter the network namespace {netns}",
            "run as root or grant it",
        )
    else:
        yield Finding(
            "note",
            "cap_sys_admin",
            "needed only for --netns, and to find VEPA macvlans in other network namespaces",
        )
    yield _locked_memory(held)
    level = _read("/proc/sys/kernel/perf_event_paranoid")
    if level is None:
        yield Finding(
            "missing",
            "perf",
            "the kernel has no perf events",
            "use a kernel with CONFIG_PERF_EVENTS",
        )
    elif int(level) > _PARANOID and not admin:
        # Debian's kernels: upstream knows no such level.
        yield Finding(
            "missing",
            "perf",
            f"kernel.perf_event_paranoid is {level}: CAP_PERFMON alone opens no perf ring",
            f"sysctl -w kernel.perf_event_paranoid={_PARANOID}, or grant CAP_SYS_ADMIN",
        )
    else:
        yield Finding(
            "ok",
            "perf",
            f"kernel.perf_event_paranoid is {level}, which our capabilities override",
        )


def _jit() -> Finding:
    level = _read("/proc/sys/net/core/bpf_jit_enable")
    if level is None:
        return Finding("note", "jit", "net.core.bpf_jit_enable cannot be read here")
    if level == "0":
        return Finding(
            "note",
            "jit",
            "BPF programs are interpreted, several times slower",
            "sysctl -w net.core.bpf_jit_enable=1",
        )
    return Finding("ok", "jit", f"BPF programs are compiled, net.core.bpf_jit_enable is {level}")


def _locked_memory(held: int) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    told = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft // 1024} KB"
    if kernel_version() >= _MEMLOCK_FREE:
        return Finding("ok", "memlock", f"{told}; maps do not count against it since Linux 5.11")
    if hard == resource.RLIM_INFINITY or held >> _CAP_SYS_RESOURCE & 1:
        return Finding("ok", "memlock", f"{told}, raised as needed")
    return Finding(
        "missing",
        "memlock",
        f"{told}, and before Linux 5.11 maps count against it",
        "ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit",
    )


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None

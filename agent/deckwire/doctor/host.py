"""The kernel, its settings and the privileges that this process has."""

from __future__ import annotations

import os
import platform
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from deckwire.doctor.finding import Finding
from deckwire.errors import plain
from deckwire.kernel import capabilities
from deckwire.kernel.capabilities import Capability

OLDEST_KERNEL = (5, 10)
_MEMLOCK_FREE = (5, 11)
"""Since this version BPF maps do not count against RLIMIT_MEMLOCK."""
_PARANOID = 2
"""Highest kernel.perf_event_paranoid that CAP_PERFMON overrides on every distribution."""
_GOOD_CLOCKS = ("tsc", "kvm-clock", "arch_sys_counter")

_WHOLE_UID_MAP = ["0", "0", "4294967295"]
"""user_namespaces(7): the mapping of the initial user namespace."""
_PURPOSES = {
    Capability.CAP_NET_ADMIN: "attach to interfaces",
    Capability.CAP_PERFMON: "open the perf rings",
    Capability.CAP_BPF: "load programs and make maps",
}


def kernel_version() -> tuple[int, int]:
    """Major and minor number of the running kernel."""
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def examine_kernel() -> Iterator[Finding]:
    """The findings on version, machine, just-in-time compiler, type information and clock."""
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
        yield Finding("ok", "btf", "the kernel has type information, which is not needed")
    else:
        yield Finding("note", "btf", "the kernel has no type information; it is not needed")
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
    """The findings on capabilities, locked memory and perf's restrictions."""
    held = capabilities.held()
    admin = Capability.CAP_SYS_ADMIN in held
    if Path("/proc/self/uid_map").read_text().split() != _WHOLE_UID_MAP:
        yield Finding(
            "missing",
            "userns",
            "this is a user namespace, whose capabilities BPF does not accept",
            "run in the host's user namespace",
        )
    for needed, purpose in _PURPOSES.items():
        subject = needed.name.lower()
        if needed in held:
            yield Finding("ok", subject, f"held, to {purpose}")
        elif not capabilities.missing([needed], held):
            yield Finding("ok", subject, f"included in CAP_SYS_ADMIN, to {purpose}")
        else:
            yield Finding("missing", subject, f"needed to {purpose}", "run as root or grant it")
    if admin:
        yield Finding("ok", "cap_sys_admin", "held, to enter other network namespaces")
    elif netns is not None:
        yield Finding(
            "missing",
            "cap_sys_admin",
            f"needed to enter the network namespace {plain(netns)}",
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
        # A level of Debian's kernels, which the upstream kernel does not have.
        yield Finding(
            "missing",
            "perf",
            f"kernel.perf_event_paranoid is {level}, at which CAP_PERFMON opens no perf ring",
            f"sysctl -w kernel.perf_event_paranoid={_PARANOID}, or grant CAP_SYS_ADMIN",
        )
    else:
        yield Finding(
            "ok",
            "perf",
            f"kernel.perf_event_paranoid is {level}, which CAP_PERFMON overrides",
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


def _locked_memory(held: frozenset[Capability]) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limit = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft // 1024} KB"
    if kernel_version() >= _MEMLOCK_FREE:
        return Finding("ok", "memlock", f"{limit}; since Linux 5.11 maps do not count against it")
    if hard == resource.RLIM_INFINITY or Capability.CAP_SYS_RESOURCE in held:
        return Finding("ok", "memlock", f"{limit}; it is raised when needed")
    return Finding(
        "missing",
        "memlock",
        f"{limit}, and before Linux 5.11 maps count against it",
        "ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit",
    )


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None

"""A filter of system calls that the capture never makes and an intruder would: seccomp(2).

It is made with libseccomp's own bindings (Debian: python3-seccomp), if they are installed.
"""

from __future__ import annotations

import errno

from deckwire.kernel.syscalls import Command

DENIED = (
    *("execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev"),
    *("setns", "unshare", "mount", "perf_event_open"),
)
DENIED_BPF = (Command.PROG_LOAD, Command.MAP_CREATE)
"""Refused by their number. The capture needs the other commands of bpf(2)."""


def deny() -> bool:
    """Refuses DENIED and DENIED_BPF with EPERM to all threads of this process, for ever.

    Returns:
        False if the bindings are not installed, or the kernel takes no filter.
    """
    try:
        import seccomp  # noqa: PLC0415 - it may not be installed
    except ImportError:
        return False
    refused = seccomp.ERRNO(errno.EPERM)
    try:
        made = seccomp.SyscallFilter(seccomp.ALLOW)
        made.set_attr(seccomp.Attr.CTL_TSYNC, 1)
        for name in DENIED:
            made.add_rule(refused, name)
        for command in DENIED_BPF:
            made.add_rule(refused, "bpf", seccomp.Arg(0, seccomp.EQ, command))
        made.load()
    except (OSError, RuntimeError, ValueError):
        return False
    return True

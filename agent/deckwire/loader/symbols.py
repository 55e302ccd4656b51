"""Empties /proc/kallsyms for the loader, because BCC would read it to no purpose."""

from __future__ import annotations

import ctypes

SYMBOLS = b"/proc/kallsyms"
CLONE_NEWNS = 0x0002_0000
"""<linux/sched.h>."""
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
"""<linux/mount.h>."""

_libc = ctypes.CDLL(None)
_mount = _libc.mount
_mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)


def empty_symbols() -> bool:
    """Makes /proc/kallsyms empty for this process alone. False without CAP_SYS_ADMIN.

    At each compilation BCC searches its 120,000 lines for bpf_probe_read_kernel(), which takes
    0.15 s. If it is not there, BCC writes bpf_probe_read() instead. Our programs call neither.
    """
    return bool(
        _libc.unshare(CLONE_NEWNS) == 0
        # Otherwise the next mount would also appear in the host's /proc.
        and _mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0
        and _mount(b"/dev/null", SYMBOLS, None, MS_BIND, None) == 0
    )

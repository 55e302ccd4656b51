"""Hides the kernel's symbols from BCC, which reads them all for an answer that we do not need."""

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


def hide_symbols() -> bool:
    """Makes /proc/kallsyms empty for this process alone; whether it could, with CAP_SYS_ADMIN.

    With each compilation BCC searches it for bpf_probe_read_kernel(), to say bpf_probe_read()
    where there is none. No program of ours calls either, and 120,000 lines take 0.15 s.
    """
    return bool(
        _libc.unshare(CLONE_NEWNS) == 0
        # Else the host's /proc would get the next one too.
        and _mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0
        and _mount(b"/dev/null", SYMBOLS, None, MS_BIND, None) == 0
    )

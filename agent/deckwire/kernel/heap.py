"""What the C library does with memory that is free again."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of <malloc.h>."""
_BYTES = 131_072
"""glibc's own value of both, at a program's start."""


def give_back() -> None:
    """Free memory goes back to the kernel where it can, as at a program's start.

    Once a large block has been freed, such as a dictionary that has grown, glibc takes blocks of
    that size from the heap instead of the kernel and keeps twice as much at the heap's end. Samples
    of a flood lie between them, and 3 to 6 MB stay resident behind it. To set a value ends that.
    Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _BYTES)
        mallopt(_M_TRIM_THRESHOLD, _BYTES)

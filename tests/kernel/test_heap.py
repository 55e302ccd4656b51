"""What the C library does with memory that is free again, asked of a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import ctypes
from deckwire.kernel.heap import give_back

class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost",
    )]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo2
if {wanted}:
    give_back()
large = bytearray(4_000_000)
del large
before = libc.mallinfo2().hblkhd
again = bytearray(3_000_000)
print(libc.mallinfo2().hblkhd - before >= 3_000_000)
"""


@pytest.mark.parametrize("wanted", [True, False])
def test_large_blocks_come_from_the_kernel_though_larger_ones_were_freed(wanted: bool) -> None:
    program = _PROGRAM.format(wanted=wanted)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{wanted}\n"

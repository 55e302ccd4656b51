"""Loaded BPF programs: run over a frame without a network (SCHED_CLS), or attached."""

from __future__ import annotations

import ctypes
import os
from errno import EINVAL, ENODEV, EPERM
from struct import Struct
from typing import NamedTuple

from deckwire.kernel.syscalls import Command, bpf, call_bpf, failure

TCX_INGRESS, TCX_EGRESS = 46, 47
"""enum bpf_attach_type."""
XDP = 37
"""enum bpf_attach_type."""
XDP_GENERIC, XDP_NATIVE = 1 << 1, 1 << 2
"""XDP_FLAGS_SKB_MODE and XDP_FLAGS_DRV_MODE."""
BEFORE = 1 << 3
"""BPF_F_BEFORE. Without relative_fd it means before all other programs."""

FRAME_BYTES = 16_384
"""Longest frame of a test run. The kernel itself refuses frames above about 3,500 bytes."""

_ATTR = Struct("IiIIQQIIIIQQ")
"""prog_fd, retval, data_size_in, data_size_out, data_in, data_out, repeat, duration,
ctx_size_in, ctx_size_out, ctx_in, ctx_out of union bpf_attr."""
_SIZES, _SIZES_AT = Struct("II"), 8
_REPEAT, _REPEAT_AT = Struct("I"), 32
_RESULT = Struct("4xi28xI")
"""retval and duration."""
_LINK = Struct("IIIIQQ")
"""prog_fd, target_ifindex, attach_type, flags, relative_fd, expected_revision."""

_NO_INTERFACE = 0x7FFF_FFFF
"""The largest ifindex, which no interface gets by itself."""

_SKB = Struct("40xI4xIII92xQ4xI8xI4x")
"""The settable members of struct __sk_buff (<linux/bpf.h>): ifindex (offset 40), cb[0..2] (48),
tstamp (152), gso_segs (164), gso_size (176). All others are 0."""


class TestRun(NamedTuple):
    """The result of a test run."""

    verdict: int
    """The program's return value, signed: -1 is TC_ACT_UNSPEC."""
    duration_ns: int
    """Mean duration of one run."""


class Program:
    """A program, by a file descriptor that this object owns. For one thread."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd
        self._frame = ctypes.create_string_buffer(FRAME_BYTES)
        self._frame_bytes = memoryview(self._frame).cast("B")
        self._skb = ctypes.create_string_buffer(_SKB.size)
        self._attr = ctypes.create_string_buffer(_ATTR.size)
        addresses = ctypes.addressof(self._frame), ctypes.addressof(self._skb)
        _ATTR.pack_into(
            self._attr, 0, fd, 0, 0, 0, addresses[0], 0, 1, 0, _SKB.size, 0, addresses[1], 0
        )

    def test_run(
        self,
        frame: bytes,
        *,
        tstamp: int = 0,
        gso_segs: int = 0,
        gso_size: int = 0,
        ifindex: int = 0,
        cb: tuple[int, int, int] = (0, 0, 0),
        repeat: int = 1,
    ) -> TestRun:
        """Runs the program over an Ethernet frame as if it had just arrived (BPF_PROG_TEST_RUN).

        Args:
            frame: from about 34 to 3,500 bytes.
            tstamp: skb->tstamp in ns, the clock of a program compiled for replay.
            ifindex: the interface of the frame, in the caller's network namespace; 0: loopback.
            cb: the first three words of skb->cb.
            repeat: how often the program runs.

        Raises:
            OSError: EINVAL for a frame that is too short or too long, or the kernel refused.
        """
        if len(frame) > FRAME_BYTES:
            raise failure(EINVAL, f"test run of {self.name} over {len(frame)} bytes")
        self._frame_bytes[: len(frame)] = frame
        attr = self._attr
        # The kernel writes data_size_out, and would take it for our buffer's size the next time.
        _SIZES.pack_into(attr, _SIZES_AT, len(frame), 0)
        _REPEAT.pack_into(attr, _REPEAT_AT, repeat)
        _SKB.pack_into(self._skb, 0, ifindex, *cb, tstamp, gso_segs, gso_size)
        result = call_bpf(Command.PROG_TEST_RUN, attr)
        if result < 0:
            raise failure(-result, f"test run of {self.name} over {len(frame)} bytes")
        return TestRun._make(_RESULT.unpack_from(attr))

    def may_test_run(self) -> bool:
        """Whether the kernel lets the calling thread make test runs. It tries, and runs nothing."""
        try:
            self.test_run(b"")
        except OSError as error:
            return error.errno != EPERM
        return True

    def may_link(self) -> bool:
        """Whether the calling thread may attach by TCX. It tries, with no interface."""
        try:
            os.close(self.link(_NO_INTERFACE, TCX_INGRESS))
        except OSError as error:
            # The kernel looks for the interface after all that it could refuse.
            return error.errno == ENODEV
        return True

    def link(self, ifindex: int, attach_type: int) -> int:
        """Attaches to an interface by TCX, before all other programs: the link's descriptor.

        The kernel detaches the program when the last descriptor of the link is closed, also by
        SIGKILL.

        Raises:
            OSError: EINVAL if the kernel has no TCX (before 6.6), ENODEV if there is no interface.
        """
        attr = ctypes.create_string_buffer(_LINK.size)
        _LINK.pack_into(attr, 0, self.fd, ifindex, attach_type, BEFORE, 0, 0)
        return bpf(Command.LINK_CREATE, attr, f"attaching {self.name} by TCX")

    def link_xdp(self, ifindex: int, flags: int) -> int:
        """Attaches by XDP, at the driver or (in generic mode) before TC: the link's descriptor.

        Raises:
            OSError: EBUSY if another XDP program is attached, EOPNOTSUPP if the driver has no XDP.
        """
        attr = ctypes.create_string_buffer(_LINK.size)
        _LINK.pack_into(attr, 0, self.fd, ifindex, XDP, flags, 0, 0)
        return bpf(Command.LINK_CREATE, attr, f"attaching {self.name} by XDP")

    def close(self) -> None:
        """Closes the file descriptor. The kernel frees the program with its last user."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

"""The perf rings, one a CPU, into which the kernel puts samples. They are read without a library.

struct perf_event_mmap_page and the record formats are those of <linux/perf_event.h>. A ring is a
control page, then a data area whose size is a power of two. The kernel moves the head and we move
the tail. Both are byte counts that never wrap. Under x86-64's memory order plain loads and stores
of eight bytes are enough.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import select
from struct import Struct
from types import TracebackType
from typing import Self

from deckwire.kernel.syscalls import perf_event_open
from deckwire.limits import RING_BYTES_ALL, RING_BYTES_MAX, RING_BYTES_MIN

RECORD_LOST, RECORD_SAMPLE = 2, 9
"""enum perf_event_type."""

WAIT_SECONDS = 0.1
"""Longest sleep of an idle reader, and so the longest wait of a single sample."""

_PERF_TYPE_SOFTWARE, _COUNT_SW_BPF_OUTPUT = 1, 10
_PERF_SAMPLE_RAW = 1 << 10
_FLAG_WATERMARK = 1 << 14
"""A bit of perf_event_attr's flags: wakeup_watermark counts bytes, not events."""
_PERF_FLAG_FD_CLOEXEC = 8
_IOC_ENABLE = 0x2400
_ATTR = Struct("IIQQQQQIIQQ")
"""type, size, config, sample_period, sample_type, read_format, flags, wakeup_watermark, bp_type,
config1, config2: PERF_ATTR_SIZE_VER1."""

_PAGE = mmap.PAGESIZE
_HEAD, _TAIL = 1024 // 8, 1032 // 8
"""data_head and data_tail in the control page, in words of eight bytes."""
_HEADER_BYTES = 8
"""perf_event_header: u32 type, u16 misc, u16 size with this header."""
_RAW_BYTES = 12
"""A sample's record up to its payload: the header, u32 size of the payload."""
_LOST_BYTES, _LOST_AT = 24, 16
"""A record of losses, and the offset of their number: the header, u64 id, u64 lost."""
_LOST = Struct("=Q")


def ring_bytes(wanted: int, cpus: int) -> int:
    """The size of each of `cpus` rings: a power of two near `wanted` bytes, within the bounds."""
    size = max(RING_BYTES_MIN, min(wanted, RING_BYTES_ALL // max(cpus, 1), RING_BYTES_MAX))
    return 1 << (size.bit_length() - 1)


def open_ring(cpu: int, data_bytes: int) -> int:
    """Opens the perf event of `cpu`'s ring: a file descriptor for the map of samples.

    The kernel wakes a reader when a quarter of the ring is full. Until then the reader's timeout
    does.

    Raises:
        OSError: the kernel refused.
    """
    attr = ctypes.create_string_buffer(_ATTR.size)
    _ATTR.pack_into(
        attr,
        0,
        _PERF_TYPE_SOFTWARE,
        _ATTR.size,
        _COUNT_SW_BPF_OUTPUT,
        1,
        _PERF_SAMPLE_RAW,
        0,
        _FLAG_WATERMARK,
        data_bytes // 4,
        0,
        0,
        0,
    )
    fd = perf_event_open(attr, cpu, _PERF_FLAG_FD_CLOEXEC)
    fcntl.ioctl(fd, _IOC_ENABLE, 0)
    return fd


class Rings:
    """The rings of all CPUs. It owns the file descriptors that it gets.

    Raises:
        OSError: a ring could not be mapped. EPERM: perf_event_mlock_kb and RLIMIT_MEMLOCK are
            exceeded, and CAP_IPC_LOCK is missing.
    """

    def __init__(self, fds: list[int], data_bytes: int, cpus: list[int] | None = None) -> None:
        self.filenos = tuple(fds)
        """For epoll or select."""
        self.cpus = tuple(cpus) if cpus is not None else tuple(range(len(fds)))
        """The CPU of each ring."""
        self.lost = dict.fromkeys(self.cpus, 0)
        """Samples that found their CPU's ring full. The kernel reports them with a later sample."""
        self.read = dict.fromkeys(self.cpus, 0)
        """Bytes of the samples that were read from each CPU's ring, with their headers."""
        self.size = data_bytes
        """Bytes of each ring."""
        self.corrupt = 0
        """Times that a ring was skipped up to its head, because a record's size was impossible."""
        self._rings = [_Ring(fd, data_bytes) for fd in fds]
        self._epoll = select.epoll(max(len(fds), 1))
        for fd in fds:
            self._epoll.register(fd, select.EPOLLIN)

    def wait(self, seconds: float = WAIT_SECONDS) -> bool:
        """Sleeps until a ring is a quarter full (True) or `seconds` have passed (False)."""
        return bool(self._epoll.poll(seconds, len(self.filenos)))

    def drain(self) -> list[tuple[int, bytes]]:
        """The samples that are in the rings when this begins, as (CPU, sample), ring by ring.

        A sample is a copy and may end in up to seven bytes of padding. Samples that arrive
        meanwhile wait for the next call, so that a busy CPU does not delay the others.
        """
        heads = [ring.head() for ring in self._rings]
        samples: list[tuple[int, bytes]] = []
        for cpu, ring, head in zip(self.cpus, self._rings, heads, strict=True):
            lost, read, intact = ring.drain(head, cpu, samples)
            self.lost[cpu] += lost
            self.read[cpu] += read
            self.corrupt += not intact
        return samples

    def close(self) -> None:
        """Unmaps the rings and closes their file descriptors."""
        self._epoll.close()
        for ring in self._rings:
            ring.close()
        self._rings = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Ring:
    """One mapped ring."""

    def __init__(self, fd: int, data_bytes: int) -> None:
        self._fd = fd
        self._size = data_bytes
        self._memory = mmap.mmap(fd, _PAGE + data_bytes)
        self._control = memoryview(self._memory)[:_PAGE].cast("Q")
        self._words = memoryview(self._memory)[_PAGE:].cast("I")
        self._last_word = data_bytes // 4 - 1

    def head(self) -> int:
        return self._control[_HEAD]

    def drain(self, head: int, cpu: int, samples: list[tuple[int, bytes]]) -> tuple[int, int, bool]:
        """Appends the samples up to `head`.

        Returns the losses reported, the bytes of all samples, and whether all sizes were possible.
        If not, what was skipped counts as samples.
        """
        memory, words, size = self._memory, self._words, self._size
        tail = self._control[_TAIL]
        offset, left = tail & size - 1, head - tail
        read = left
        lost, intact = 0, True
        append = samples.append
        while left > 0:
            # Records begin at multiples of eight bytes, so no header wraps.
            word = offset >> 2
            kind, length = words[word], words[word + 1] >> 16
            if length < _HEADER_BYTES or length & 7 or length > left:
                intact = False
                break
            end = offset + length
            if end <= size:
                record: mmap.mmap | bytes = memory
                start = _PAGE + offset
            else:
                record = memory[_PAGE + offset :] + memory[_PAGE : _PAGE + end - size]
                start = 0
            if kind == RECORD_SAMPLE:
                raw = words[word + 2 & self._last_word]
                if raw > length - _RAW_BYTES:
                    intact = False
                    break
                start += _RAW_BYTES
                append((cpu, record[start : start + raw]))
            else:
                read -= length
                if kind == RECORD_LOST and length >= _LOST_BYTES:
                    lost += _LOST.unpack_from(record, start + _LOST_AT)[0]
            offset = end & size - 1
            left -= length
        self._control[_TAIL] = head
        return lost, read, intact

    def close(self) -> None:
        self._control.release()
        self._words.release()
        self._memory.close()
        os.close(self._fd)

"""A program that sends another SYN into the programs at each run of one test run.

The frames are made in the kernel, so one system call floods one CPU as fast as it can, and needs no
lock of the interpreter meanwhile.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from struct import Struct, pack, pack_into, unpack

from deckwire.kernel.maps import Map
from deckwire.kernel.programs import Program
from deckwire.kernel.syscalls import Command, bpf
from tests.support.bpf_frames import LINUX_OPTIONS, ethernet, ipv4, tcp

STEP_NS = 1_000
"""Time between two SYNs of a flood by the replay clock."""
SOURCE, DESTINATION, PORTS, SEQ, ACK, FLAGS = 26, 30, 34, 38, 42, 47
"""Offsets of members of the headers in a frame of IPv4 without options."""
_IP, _IP_CHECK, _TCP, _TCP_CHECK = 14, 24, 34, 50
_PROTO_TCP = 6

_SCHED_CLS, _PROG_ARRAY = 3, 3
_PROG = Struct("=IIQQIIQII16s")
_MAP = Struct("=IIIII")
_TAIL_CALL = 12
_DATA, _DATA_END, _TSTAMP = 76, 80, 152
"""Members of struct __sk_buff (<linux/bpf.h>)."""
_SYN, _SYN_ACK = 0x02, 0x12


@contextmanager
def syn_driver(
    target: Program, frame: bytes, *, answered: bool = False, one_source: bool = False
) -> Iterator[Program]:
    """The program. All its SYNs have right checksums.

    Args:
        target: the program that gets each frame.
        frame: of flood_frame(). The frame of each test run must be like it.
        answered: every second frame is the SYN-ACK of the SYN before.
        one_source: all SYNs are from the address in the frame, else each from another one.
    """
    attr = ctypes.create_string_buffer(_MAP.pack(_PROG_ARRAY, 4, 4, 1, 0))
    with Map(bpf(Command.MAP_CREATE, attr, "map of jumps")) as jumps:
        jumps.update(bytes(4), pack("=I", target.fd))
        code = _driver(jumps.fd, frame, answered=answered, one_source=one_source)
        driver = Program("syn_driver", _load(code))
        try:
            yield driver
        finally:
            driver.close()


def flood_frame(destination: str, number: int = 0, port: int = 443) -> bytes:
    """The frame to begin a flood with; another `number` gives other SYNs."""
    syn = tcp(sport=1, dport=port, seq=1, window=1_024, options=LINUX_OPTIONS)
    frame = bytearray(ethernet(ipv4(syn, src="10.0.0.1", dst=destination)))
    pack_into("<I", frame, SEQ, number * 0x9E37_79B1 & 0xFFFF_FFFF)
    return bytes(frame)


def _driver(jumps: int, frame: bytes, *, answered: bool, one_source: bool) -> bytes:
    fixed = bytearray(frame)
    for at, size in ((SOURCE, 4), (PORTS, 2), (SEQ, 4), (_IP_CHECK, 2), (_TCP_CHECK, 2)):
        fixed[at : at + size] = bytes(size)
    new_source = [
        _op(0xBC, 4, 3),
        _op(0x24, 4, 0, 0, 0x9E37_79B1 - (1 << 32)),
        _op(0x63, 7, 4, SOURCE),
        _op(0x72, 7, 0, SOURCE, 10),
    ]
    next_syn = [
        # The next number of a sequence of 2**32 (Numerical Recipes).
        _op(0x61, 3, 7, SEQ),
        _op(0x24, 3, 0, 0, 1_664_525),
        _op(0x04, 3, 0, 0, 1_013_904_223),
        _op(0x63, 7, 3, SEQ),
        *([] if one_source else new_source),
        _op(0xBC, 4, 3),
        _op(0x74, 4, 0, 0, 16),
        _op(0x6B, 7, 4, PORTS),
        *_checksum(fixed[_IP:_TCP], (SOURCE, SOURCE + 2), _IP_CHECK),
        *_checksum(
            fixed[SOURCE:] + pack("!HH", _PROTO_TCP, len(frame) - _TCP),
            (SOURCE, SOURCE + 2, PORTS, SEQ, SEQ + 2),
            _TCP_CHECK,
        ),
    ]
    turn = [
        *(_op(0x61, 3, 7, SOURCE), _op(0x61, 4, 7, DESTINATION)),
        *(_op(0x63, 7, 4, SOURCE), _op(0x63, 7, 3, DESTINATION)),
        *(_op(0x69, 3, 7, PORTS), _op(0x69, 4, 7, PORTS + 2)),
        *(_op(0x6B, 7, 4, PORTS), _op(0x6B, 7, 3, PORTS + 2)),
    ]
    answer = [
        *turn,
        *(_op(0x61, 3, 7, SEQ), _op(0xDC, 3, 0, 0, 32), _op(0x04, 3, 0, 0, 1)),
        *(_op(0xDC, 3, 0, 0, 32), _op(0x63, 7, 3, ACK)),
        _op(0x72, 7, 0, FLAGS, _SYN_ACK),
    ]
    again = [*turn, _op(0x62, 7, 0, ACK, 0), _op(0x72, 7, 0, FLAGS, _SYN)]
    if answered:
        # if it is a SYN: answer, and jump behind the rest
        answer.append(_op(0x05, 0, 0, len(again) + len(next_syn)))
        frames = [_op(0x71, 3, 7, FLAGS), _op(0x55, 3, 0, len(answer), _SYN), *answer]
        frames += [*again, *next_syn]
    else:
        frames = next_syn
    body = [
        *frames,
        *(_op(0x79, 3, 6, _TSTAMP), _op(0x07, 3, 0, 0, STEP_NS), _op(0x7B, 6, 3, _TSTAMP)),
        *(_op(0xBF, 1, 6), _op(0x18, 2, 1, 0, jumps), _op(0), _op(0xB7, 3, 0, 0, 0)),
        _op(0x85, 0, 0, 0, _TAIL_CALL),
    ]
    code = [
        _op(0xBF, 6, 1),
        *(_op(0x61, 7, 6, _DATA), _op(0x61, 8, 6, _DATA_END)),
        *(_op(0xBF, 2, 7), _op(0x07, 2, 0, 0, FLAGS + 7), _op(0x2D, 2, 8, len(body))),
        *body,
        *(_op(0xB7, 0, 0, 0, -1), _op(0x95)),
    ]
    return b"".join(code)


def _checksum(fixed: bytes, changed: Sequence[int], at: int) -> list[bytes]:
    """Instructions that sum `fixed` and the words at `changed` (RFC 1071), and write it to `at`."""
    fold = [_op(0xBC, 5, 4), _op(0x74, 5, 0, 0, 16), _op(0x54, 4, 0, 0, 0xFFFF), _op(0x0C, 4, 5)]
    words = sum(unpack(f"<{len(fixed) // 2}H", fixed))
    code = [_op(0xB4, 4, 0, 0, words)]
    for offset in changed:
        code += [_op(0x69, 5, 7, offset), _op(0x0C, 4, 5)]
    return [*code, *fold, *fold, _op(0xA4, 4, 0, 0, 0xFFFF), _op(0x6B, 7, 4, at)]


def _op(code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    """One struct bpf_insn (<linux/bpf.h>)."""
    return pack("=BBhi", code, src << 4 | dst, offset, immediate)


def _load(code: bytes) -> int:
    instructions = ctypes.create_string_buffer(code, len(code))
    terms = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(1 << 16)
    addresses = [ctypes.addressof(one) for one in (instructions, terms, log)]
    attr = ctypes.create_string_buffer(
        _PROG.pack(
            *(_SCHED_CLS, len(code) // 8, addresses[0], addresses[1]),
            *(1, len(log), addresses[2], 0, 0, b"syn_driver"),
        )
    )
    try:
        return bpf(Command.PROG_LOAD, attr, "loading the driver of SYNs")
    except OSError as error:
        error.add_note(log.value.decode())
        raise

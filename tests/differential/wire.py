"""Write exchanges as captures, each as a whole TCP connection."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

SERVER = bytes([192, 0, 2, 2])
SERVER_TEXT = "192.0.2.2"
SERVER_PORT = 443
MSS = 1_400
_START_S = 1_700_000_000
_STEP_NS = 100_000
_GAP_NS = 10_000_000
"""Time between two connections, long enough for every budget of the agent."""
_FIN, _SYN, _PSH, _ACK = 0x01, 0x02, 0x08, 0x10
_SYN_OPTIONS = bytes.fromhex("020405780402080a000000010000000001030307")


class Exchange(NamedTuple):
    """The bytes that both sides of a connection sent, up to what is encrypted."""

    what: str
    """The source of the exchange, for messages."""
    client: bytes
    server: bytes


def write_pcap(path: Path, exchanges: Iterable[Exchange]) -> None:
    """Write a connection for each exchange, in order: tshark's tcp.stream is the index."""
    time_ns = _START_S * 1_000_000_000
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1))
        for index, exchange in enumerate(exchanges):
            for frame in _frames(index, exchange):
                seconds, fraction = divmod(time_ns, 1_000_000_000)
                file.write(struct.pack("<IIII", seconds, fraction, len(frame), len(frame)) + frame)
                time_ns += _STEP_NS
            time_ns += _GAP_NS


def _frames(index: int, exchange: Exchange) -> Iterable[bytes]:
    address = bytes([10, index >> 16 & 0xFF, index >> 8 & 0xFF, index & 0xFF])
    ports = (20_000 + index % 30_000, SERVER_PORT)
    ends = ((address, SERVER, ports), (SERVER, address, ports[::-1]))
    seqs = [1_000 + 7_919 * index & 0xFFFF_FFFF, 0xFFFF_FF00]

    def frame(sender: int, flags: int, payload: bytes = b"", options: bytes = b"") -> bytes:
        ack = seqs[1 - sender] if flags & _ACK else 0
        made = _frame(*ends[sender], seqs[sender], ack, flags, options, payload)
        seqs[sender] = (seqs[sender] + len(payload) + bool(flags & (_SYN | _FIN))) & 0xFFFF_FFFF
        return made

    yield frame(0, _SYN, options=_SYN_OPTIONS)
    yield frame(1, _SYN | _ACK, options=_SYN_OPTIONS)
    yield frame(0, _ACK)
    for sender, data in enumerate((exchange.client, exchange.server)):
        for at in range(0, len(data), MSS):
            yield frame(sender, _PSH | _ACK, data[at : at + MSS])
    yield frame(0, _FIN | _ACK)
    yield frame(1, _FIN | _ACK)
    yield frame(0, _ACK)


def _frame(
    source: bytes,
    target: bytes,
    ports: tuple[int, int],
    seq: int,
    ack: int,
    flags: int,
    options: bytes,
    payload: bytes,
) -> bytes:
    offset = (20 + len(options)) // 4 << 4
    tcp = struct.pack("!HHIIBBHHH", *ports, seq, ack, offset, flags, 64_240, 0, 0) + options
    size = 20 + len(tcp) + len(payload)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, size, 1, 0x4000, 64, 6, 0) + source + target
    return bytes(12) + b"\x08\0" + ip + tcp + payload

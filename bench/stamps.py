"""The kernel's timestamps of handshake packets at an interface, from a packet socket.

For packet sockets (SO_TIMESTAMPNS) the kernel stamps a packet when it passes it to the driver, or
takes it from the driver. The socket's buffer holds all packets of a measurement and is read
afterwards, so that no process wakes up for them.
"""

from __future__ import annotations

import ctypes
import socket
from struct import Struct, pack, unpack_from
from typing import NamedTuple

from deckwire.lab import Node

_SO_TIMESTAMPNS = 35
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_BUFFER = 256 * 1_048_576
_TIMESPEC = Struct("=qq")
_SYN, _RST, _ACK = 0x02, 0x04, 0x10

# Classic BPF: opcode, jump if true, jump if false, constant.
_LOAD_HALF, _LOAD_BYTE, _IF_EQUAL, _RETURN = 0x28, 0x30, 0x15, 0x06


class RoundTrips(NamedTuple):
    """The round trips of one handshake in microseconds."""

    server: float
    """SYN to SYN-ACK."""
    client: float
    """SYN-ACK to the final ACK."""


class Stamps:
    """Records the handshakes of one IPv4 server port as `interface` of a node sees them."""

    def __init__(self, node: Node, interface: str, port: int) -> None:
        self._port = port
        with node.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        code = _filter(port)
        program = ctypes.create_string_buffer(code, len(code))
        attach = pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(program))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attach)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setblocking(False)
        # ETH_P_ALL: only then a packet socket sees outgoing packets as well.
        self._socket.bind((interface, 3))

    def take(self) -> dict[int, RoundTrips]:
        """The handshakes since the last call, by the client's port."""
        times: dict[int, dict[int, int]] = {}
        while True:
            try:
                frame, extras, _, _ = self._socket.recvmsg(128, 64)
            except BlockingIOError:
                break
            seconds, nanoseconds = _TIMESPEC.unpack(extras[0][2])
            sport, dport = unpack_from("!HH", frame, 34)
            flags = frame[47] & (_SYN | _RST | _ACK)
            port = sport if dport == self._port else dport
            # The first of each kind counts, as it does in the agent.
            times.setdefault(port, {}).setdefault(flags, seconds * 1_000_000_000 + nanoseconds)
        return {
            port: RoundTrips(
                (seen[_SYN | _ACK] - seen[_SYN]) / 1_000,
                (seen[_ACK] - seen[_SYN | _ACK]) / 1_000,
            )
            for port, seen in times.items()
            if seen.keys() >= {_SYN, _SYN | _ACK, _ACK}
        }

    def close(self) -> None:
        self._socket.close()


def _filter(port: int) -> bytes:
    """A filter for TCP over IPv4 without options, from or to `port`: the first 128 bytes."""
    steps = (
        (_LOAD_HALF, 0, 0, 12),
        (_IF_EQUAL, 0, 7, 0x0800),
        (_LOAD_BYTE, 0, 0, 23),
        (_IF_EQUAL, 0, 5, socket.IPPROTO_TCP),
        (_LOAD_HALF, 0, 0, 34),
        (_IF_EQUAL, 2, 0, port),
        (_LOAD_HALF, 0, 0, 36),
        (_IF_EQUAL, 0, 1, port),
        (_RETURN, 0, 0, 128),
        (_RETURN, 0, 0, 0),
    )
    return b"".join(pack("=HBBI", *step) for step in steps)

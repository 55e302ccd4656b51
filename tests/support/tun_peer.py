"""A TCP peer that sends prepared segments to a real listener of this kernel."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from struct import pack, unpack_from

from deckwire.kernel.namespaces import inside
from deckwire.lab.namespaces import PATIENCE_SECONDS
from tests.support.tun import DEVICE, tun_device

SERVER, CLIENT, PORT = "192.0.2.10", "198.51.100.9", 443
_COMMANDS = (
    f"link set {DEVICE} up",
    f"addr add {SERVER}/24 dev {DEVICE}",
    f"route add 198.51.100.0/24 dev {DEVICE}",
)
_SYN, _RST, _PSH, _ACK, _URG = 0x02, 0x04, 0x08, 0x10, 0x20


def _checksum(data: bytes) -> int:
    return ~(int.from_bytes(data + bytes(len(data) % 2), "big") % 0xFFFF) & 0xFFFF


class Wire:
    """A TUN device. This process is the peer, and the kernel is the other end."""

    def __init__(self, device: int, listener: socket.socket) -> None:
        self._device = device
        self._listener = listener
        self._ports = iter(range(10_000, 60_000))

    def connect(self, iss: int) -> Connected:
        port = next(self._ports)
        self.put(port, iss, 0, _SYN)
        irs = self._await_synack(port)
        self.put(port, iss + 1, irs + 1, _ACK)
        accepted, _ = self._listener.accept()
        return Connected(self, accepted, port, iss + 1, irs + 1)

    def put(
        self, port: int, seq: int, ack: int, flags: int, data: bytes = b"", urgent: int = 0
    ) -> None:
        """Send a segment. The write returns after the kernel has processed it."""
        addresses = socket.inet_aton(CLIENT) + socket.inet_aton(SERVER)
        head = pack("!HHIIBBH", port, PORT, seq % 2**32, ack % 2**32, 0x50, flags, 64_000)
        pseudo = addresses + pack("!II", 6, 20 + len(data))
        total = _checksum(pseudo + head + pack("!HH", 0, urgent) + data)
        segment = head + pack("!HH", total, urgent) + data
        ip = pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, 6, 0) + addresses
        os.write(self._device, ip[:10] + pack("!H", _checksum(ip)) + ip[12:] + segment)

    def _await_synack(self, port: int) -> int:
        while select.select([self._device], [], [], PATIENCE_SECONDS)[0]:
            packet = os.read(self._device, 65_535)
            if packet[0] >> 4 == 4 and packet[9] == 6:
                _, to, seq, _, _, flags = unpack_from("!HHIIBB", packet, 20)
                if to == port and flags & _SYN:
                    return int(seq)
        raise TimeoutError("no SYN-ACK")


class Connected:
    """One connection. `read` is the data that its application reads after each segment."""

    def __init__(
        self, wire: Wire, accepted: socket.socket, port: int, first_seq: int, ack: int
    ) -> None:
        self._wire = wire
        self._socket = accepted
        self._socket.setblocking(False)
        self._port, self._first_seq, self._ack = port, first_seq, ack
        self.read = b""

    def send(self, offset: int, data: bytes, urgent: int | None = None) -> None:
        """Send a segment at an offset of the stream, with `urgent` as the urgent pointer."""
        flags = _PSH | _ACK | (0 if urgent is None else _URG)
        self._wire.put(self._port, self._first_seq + offset, self._ack, flags, data, urgent or 0)
        with suppress(BlockingIOError):
            while got := self._socket.recv(65_536):
                self.read += got

    def close(self, offset: int) -> None:
        """Send a reset at the end of the peer's stream, and close the socket."""
        self._wire.put(self._port, self._first_seq + offset, self._ack, _RST | _ACK)
        self._socket.close()


@contextmanager
def linux_receiver() -> Iterator[Wire]:
    """Run a listener in a separate network namespace."""
    with tun_device("tcp", _COMMANDS) as (device, name):
        with inside(name):
            listener = socket.create_server((SERVER, PORT))
        with listener:
            listener.settimeout(PATIENCE_SECONDS)
            yield Wire(device, listener)

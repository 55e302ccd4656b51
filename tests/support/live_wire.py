"""Segments that tcpdump captured at the MACVLAN parent, and a TCP client of prepared segments.

This code parses frames by itself, so that it is independent of the agent.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from struct import Struct, pack, unpack_from
from typing import NamedTuple, Self

from deckwire.lab import Lab, Node
from deckwire.lab.namespaces import PATIENCE_SECONDS, wait_until
from deckwire.lab.network import PARENT

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

_NANOSECONDS = 0xA1B2_3C4D
"""Magic number of a pcap file with times in nanoseconds."""
_RECORD = Struct("=IIII")
_SNAPSHOT = 160
"""Enough for all headers and the first bytes of the payload."""

_END = b"the last frame of the test"
_TAIL = 1_048_576
"""Bytes of the file that are searched for it, because other frames may come after it."""

_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_VNET_HDR = Struct("=BBHHHH")
"""struct virtio_net_hdr of linux/virtio_net.h."""
_NEEDS_CSUM = 1

Flow = tuple[str, int, str, int]
"""Client's address and port, server's address and port."""


class Segment(NamedTuple):
    """One TCP segment, or a super-packet of several segments."""

    time_ns: int
    src: str
    sport: int
    dst: str
    dport: int
    seq: int
    ack: int
    flags: int
    payload_len: int
    """Length of the payload by the IP header."""
    start: bytes
    """The first bytes of the payload, as far as the capture has them."""
    options: bytes = b""
    """The TCP options."""

    def packets(self) -> int:
        """The number of packets on the wire for an MTU of 1,500 and TCP timestamps."""
        room = 1_500 - (40 if ":" in self.src else 20) - 32
        return max(1, -(-self.payload_len // room))


class Tap:
    """tcpdump on the parent for the time of a `with` block. `flows` has its segments after that.

    Its file has the beginnings of all TCP segments, or with `everything` all frames as a whole.
    """

    def __init__(self, lab: Lab, interface: str = PARENT, *, everything: bool = False) -> None:
        self.path = lab.directory / "tap.pcap"
        self._messages = lab.directory / "tap.stderr"
        self._lab = lab
        self._interface = interface
        self._everything = everything
        self.flows: dict[Flow, list[Segment]] = {}

    def __enter__(self) -> Self:
        snapshot = 0 if self._everything else _SNAPSHOT
        which = () if self._everything else ("tcp or udp port 9",)
        with self._messages.open("wb") as messages:
            self._process = self._lab.popen(
                self._lab.host,
                [
                    *("tcpdump", "-i", self._interface, "-w", self.path, "-U", "-n", "-p"),
                    *("--time-stamp-precision=nano", "-s", str(snapshot), "-B", "65536"),
                    *("--immediate-mode", "-Z", "root", *which),
                ],
                stdout=subprocess.DEVNULL,
                stderr=messages,
            )
        wait_until(lambda: "listening on" in self._messages.read_text(), "tcpdump listens")
        return self

    def __exit__(self, *exception: object) -> None:
        # tcpdump drops what is still in its ring when it ends. So wait for a last frame.
        client, decky = self._lab.client, self._lab.deckies[0]
        with client.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.sendto(_END, (decky.v4, 9))
        wait_until(lambda: _END in self.path.read_bytes()[-_TAIL:], "tcpdump has read all")
        self._process.send_signal(signal.SIGINT)
        self._process.wait(PATIENCE_SECONDS)
        messages = self._messages.read_text()
        dropped = re.search(r"(\d+) packets? dropped by kernel", messages)
        assert dropped is not None, messages
        assert dropped[1] == "0", messages
        self.flows = _flows(read_segments(self.path))


def read_segments(path: Path) -> Iterator[Segment]:
    """The TCP segments of a pcap file with Ethernet frames, in this machine's byte order."""
    content = path.read_bytes()
    assert unpack_from("=I", content)[0] == _NANOSECONDS
    at = 24
    while at < len(content):
        seconds, nanoseconds, captured, _ = _RECORD.unpack_from(content, at)
        at += _RECORD.size
        found = parse_frame(content[at : at + captured], seconds * 1_000_000_000 + nanoseconds)
        if found is not None:
            yield found
        at += captured


def parse_frame(frame: bytes, time_ns: int = 0) -> Segment | None:
    """The TCP segment in an Ethernet frame without VLAN tags, or None."""
    (kind,) = unpack_from("!H", frame, 12)
    if kind == 0x0800 and frame[23] == socket.IPPROTO_TCP:
        family, addresses, tcp = socket.AF_INET, 26, 14 + (frame[14] & 15) * 4
        (total,) = unpack_from("!H", frame, 16)
        end = 14 + total
    elif kind == 0x86DD and frame[20] == socket.IPPROTO_TCP:
        family, addresses, tcp = socket.AF_INET6, 22, 54
        (total,) = unpack_from("!H", frame, 18)
        end = 54 + total
    else:
        return None
    if len(frame) < tcp + 20:  # the end of a packet in fragments
        return None
    width = 4 if family == socket.AF_INET else 16
    src = socket.inet_ntop(family, frame[addresses : addresses + width])
    dst = socket.inet_ntop(family, frame[addresses + width : addresses + 2 * width])
    sport, dport, seq, ack, word = unpack_from("!HHIIH", frame, tcp)
    payload = tcp + (word >> 12) * 4
    return Segment(
        time_ns,
        src,
        sport,
        dst,
        dport,
        seq,
        ack,
        word & 0xFFF,
        end - payload,
        frame[payload:end],
        frame[tcp + 20 : payload],
    )


def retransmits(segments: Iterable[Segment]) -> int:
    """The number of segments of one end that begin with bytes sent before (SYN and FIN count).

    Linux probes for a lost tail after a few milliseconds, so idle links have them too.
    """
    found, highest = 0, None
    for segment in segments:
        length = segment.payload_len + bool(segment.flags & SYN) + bool(segment.flags & FIN)
        if length:
            found += highest is not None and _before(segment.seq, highest)
            end = segment.seq + length & 0xFFFF_FFFF
            if highest is None or _before(highest, end):
                highest = end
    return found


def _before(seq: int, other: int) -> bool:
    return 0 < (other - seq & 0xFFFF_FFFF) < 0x8000_0000


def _flows(segments: Iterator[Segment]) -> dict[Flow, list[Segment]]:
    """Segments by connection, from client to server by its SYN. Mid-stream ones are left out."""
    flows: dict[Flow, list[Segment]] = {}
    for segment in segments:
        ends = segment.src, segment.sport, segment.dst, segment.dport
        if segment.flags & (SYN | ACK) == SYN:
            flows.setdefault(ends, []).append(segment)
        elif ends in flows:
            flows[ends].append(segment)
        elif (back := (*ends[2:], *ends[:2])) in flows:
            flows[back].append(segment)
    return flows


def link_socket(lab: Lab, server: Node, address: str) -> tuple[socket.socket, bytes, bytes]:
    """A packet socket at the client's interface, its link address, and that of the server.

    No node has `address`. A neighbour entry on the server gives its link address.
    """
    with lab.client.inside():
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    made.bind((lab.client.interface, 3))
    mac: bytes = made.getsockname()[4]
    _note_neighbour(lab, server, address, mac.hex(":"))
    return made, mac, bytes.fromhex(_link_address(lab, server).replace(":", ""))


def resolve(lab: Lab, *nodes: Node) -> None:
    """Gives these nodes the link addresses of each other, for good.

    Else the kernel keeps the first packets until ARP or neighbour discovery has an answer, and may
    then send them from another CPU than those that come next.
    """
    for node in nodes:
        link = _link_address(lab, node)
        for other in nodes:
            if other is not node:
                for address in (*node.ipv4, *node.ipv6):
                    _note_neighbour(lab, other, address, link)


def _link_address(lab: Lab, node: Node) -> str:
    (link,) = json.loads(lab.run(node, ["ip", "-j", "link", "show", node.interface]).stdout)
    return str(link["address"])


def _note_neighbour(lab: Lab, node: Node, address: str, link: str) -> None:
    entry = ["neigh", "replace", address, "lladdr", link, "dev", node.interface, "nud", "permanent"]
    assert lab.run(node, ["ip", *entry]).returncode == 0


class HandMade:
    """A TCP client over IPv4 whose segments the test makes one by one.

    No node has its address, so the client's kernel drops the replies. A neighbour entry on the
    server gives the link address.
    """

    ADDRESS = "198.18.0.250"
    PORT = 40_000

    def __init__(self, lab: Lab, server: Node, port: int, *, offloads: bool = False) -> None:
        """`offloads`: leave checksums to the network card, as the kernel does.

        The SYN's checksum is then right by chance all the same.
        """
        self._offloads = offloads
        self._peer = server.v4
        self._peer_port = port
        self.first_seq = self._seq = 0x1000_0000
        self._ack = 0
        self._sent = 0
        self._socket, self._mac, self._peer_mac = link_socket(lab, server, self.ADDRESS)
        self._socket.settimeout(PATIENCE_SECONDS)
        self._out = self._socket
        if offloads:
            with lab.client.inside():
                self._out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self._out.bind((lab.client.interface, 3))
            self._out.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):
            self.send(offset=self._sent, flags=RST)
        self._out.close()
        self._socket.close()

    def open(self) -> None:
        """Make the three-way handshake."""
        options = b"\x02\x04\x05\xb4"
        if self._offloads:
            # The ISN that makes the sum of the pseudo-header the checksum of the whole.
            self._seq = 0
            self.first_seq = self._seq = _checksum(self._summed(self._tcp(b"", 0, SYN, options)))
        self.send(flags=SYN, options=options)
        self.accept(self.receive(lambda segment: bool(segment.flags & SYN)))

    def accept(self, synack: Segment, wrong: int = 0) -> None:
        """Acknowledge a SYN-ACK, by so many numbers too high."""
        self._seq = self.first_seq + 1
        self._ack = synack.seq + 1 + wrong & 0xFFFF_FFFF
        self.send()

    def send(
        self, payload: bytes = b"", *, offset: int = 0, flags: int = ACK, options: bytes = b""
    ) -> None:
        """Send one segment with `payload` at `offset` of the stream."""
        self._sent = max(self._sent, offset + len(payload))
        tcp = self._tcp(payload, offset, flags, options)
        ends, header = self._ends, b""
        if self._offloads:
            header = _VNET_HDR.pack(_NEEDS_CSUM, 0, 0, 0, 34, 16)
        else:
            tcp = tcp[:16] + pack("!H", _checksum(self._summed(tcp))) + tcp[18:]
        ip = pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, socket.IPPROTO_TCP, 0) + ends
        ip = ip[:10] + pack("!H", _checksum(ip)) + ip[12:]
        self._out.send(header + self._peer_mac + self._mac + b"\x08\x00" + ip + tcp)

    @property
    def _ends(self) -> bytes:
        return socket.inet_aton(self.ADDRESS) + socket.inet_aton(self._peer)

    def _summed(self, tcp: bytes) -> bytes:
        """What the checksum of a segment is taken of."""
        return self._ends + pack("!HH", socket.IPPROTO_TCP, len(tcp)) + tcp

    def _tcp(self, payload: bytes, offset: int, flags: int, options: bytes) -> bytes:
        """A segment with checksum 0, or with that of the pseudo-header only."""
        words = 5 + len(options) // 4
        seq = self._seq + offset & 0xFFFF_FFFF
        ack = self._ack if flags & ACK else 0
        length = words * 4 + len(payload)
        partial = 0xFFFF ^ _checksum(self._ends + pack("!HH", socket.IPPROTO_TCP, length))
        head = pack("!HHIIHHHH", self.PORT, self._peer_port, seq, ack, words << 12 | flags,
                    64_240, partial if self._offloads else 0, 0)  # fmt: skip
        return head + options + payload

    def receive(self, wanted: Callable[[Segment], bool]) -> Segment:
        """Wait for the next segment of the server for which `wanted` holds."""
        while True:
            segment = parse_frame(self._socket.recv(65_536))
            if segment is not None and segment.dst == self.ADDRESS and wanted(segment):
                return segment


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(unpack_from(f"!{len(data) // 2}H", data + b"\0"))
    if len(data) & 1:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

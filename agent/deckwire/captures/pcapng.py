"""The pcapng format (draft-ietf-opsawg-pcapng): sections, interfaces and packet blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from deckwire.captures.frame import TIME_LIMIT_NS, CaptureError, Frame
from deckwire.captures.source import Source
from deckwire.limits import CAPTURE_BLOCK_BYTES, CAPTURE_FRAME_BYTES, CAPTURE_INTERFACES

MAGIC = bytes.fromhex("0a0d0d0a")
"""Type of a Section Header Block: the same in both byte orders."""
SECTION_HEADER = 0x0A0D0D0A
INTERFACE = 1
OLD_PACKET = 2
SIMPLE_PACKET = 3
ENHANCED_PACKET = 6
PACKET_BLOCKS = frozenset({OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET})

LITTLE_ENDIAN_MARK = bytes.fromhex("4d3c2b1a")
BIG_ENDIAN_MARK = bytes.fromhex("1a2b3c4d")

OPT_END = 0
IF_TSRESOL = 9
IF_TSOFFSET = 14

NS = 1_000_000_000
FRAMING_BYTES = 12
"""Type and total length before the body of a block, and the total length again after it."""
SECTION_BYTES = FRAMING_BYTES + 16


@dataclass(frozen=True, slots=True)
class Interface:
    """The properties of packets from one Interface Description Block."""

    link_type: int
    snap_len: int
    """Largest number of bytes captured of a packet; 0 is no limit."""
    ticks: int
    """Clock ticks per second."""
    offset_ns: int
    """Nanoseconds added to every time of this interface."""


class Layout:
    """The fixed parts of the blocks in the byte order of a section."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.word = Struct(order + "I")
        self.start = Struct(order + "II")  # block type, total length
        self.version = Struct(order + "HH")  # after the byte-order mark
        self.interface = Struct(order + "HHI")  # link type, reserved, snapshot length
        self.enhanced = Struct(order + "IIIII")  # interface, time high, low, captured, wire
        self.old = Struct(order + "HHIIII")  # interface, drops, time high, low, captured, wire
        self.option = Struct(order + "HH")  # code, length
        self.signed = Struct(order + "q")


LITTLE, BIG = Layout("<"), Layout(">")


def frames(source: Source, magic: bytes) -> Iterator[Frame]:
    """Yield the frames of the pcapng file whose `magic` has been read.

    Raises CaptureError where the file cannot be followed any further.
    """
    return _Reader(source, magic).frames()


class _Reader:
    """Reads the blocks and keeps the byte order and the interfaces of the current section."""

    def __init__(self, source: Source, magic: bytes) -> None:
        self._source = source
        self._start = 0
        """Position of the current block, for error messages."""
        self._time_ns = 0
        """Time of the last packet, because Simple Packet Blocks have no time."""
        self._interfaces: list[Interface] = []
        self._layout = LITTLE
        # The section header is read here, so that opening fails if the file is no capture.
        self._section(magic + self._take(4))

    def frames(self) -> Iterator[Frame]:
        while True:
            self._start = self._source.position
            start = self._source.read(self._layout.start.size)
            if not start:
                return
            if len(start) < self._layout.start.size:
                raise self._error("block header cut short")
            if start.startswith(MAGIC):
                self._section(start)
                continue
            kind, total = self._layout.start.unpack(start)
            if kind in PACKET_BLOCKS:
                yield self._packet(kind, self._body(kind, total))
            elif kind == INTERFACE:
                self._describe(self._body(kind, total))
            else:
                self._pass(kind, total)

    # --- framing ----------------------------------------------------------------------------

    def _section(self, start: bytes) -> None:
        """Read the rest of the section header that begins with the eight bytes `start`."""
        mark = self._take(4)
        if mark == LITTLE_ENDIAN_MARK:
            self._layout = LITTLE
        elif mark == BIG_ENDIAN_MARK:
            self._layout = BIG
        else:
            raise self._error("section header without a byte-order mark")
        _, total = self._layout.start.unpack(start)
        self._check_total(SECTION_HEADER, total, SECTION_BYTES)
        major, minor = self._layout.version.unpack(self._take(4))
        if major != 1:
            raise self._error(f"pcapng version {major}.{minor} is not supported, only version 1")
        # Frames do not depend on the section's length and options.
        self._skip(SECTION_HEADER, total - FRAMING_BYTES - 8)
        self._close(SECTION_HEADER, total)
        self._interfaces = []

    def _body(self, kind: int, total: int) -> bytes:
        """Return the body of a block that is parsed, in full and of a bounded size."""
        self._check_total(kind, total, FRAMING_BYTES)
        if total > CAPTURE_BLOCK_BYTES:
            raise self._error(
                f"block of type {kind} has {total} bytes; at most {CAPTURE_BLOCK_BYTES} are read"
            )
        body = self._take(total - FRAMING_BYTES)
        self._close(kind, total)
        return body

    def _pass(self, kind: int, total: int) -> None:
        """Skip a block without packets, whatever its length."""
        self._check_total(kind, total, FRAMING_BYTES)
        self._skip(kind, total - FRAMING_BYTES)
        self._close(kind, total)

    def _check_total(self, kind: int, total: int, least: int) -> None:
        if total < least or total % 4:
            raise self._error(f"block of type {kind} has an impossible length of {total}")

    def _close(self, kind: int, total: int) -> None:
        (again,) = self._layout.word.unpack(self._take(4))
        if again != total:
            raise self._error(
                f"block of type {kind} begins with length {total} and ends with {again}"
            )

    def _take(self, size: int) -> bytes:
        data = self._source.read(size)
        if len(data) < size:
            raise self._error("block cut short")
        return data

    def _skip(self, kind: int, size: int) -> None:
        if not self._source.skip(size):
            raise self._error(f"block of type {kind} cut short")

    def _error(self, reason: str) -> CaptureError:
        return self._source.error(self._start, reason)

    # --- blocks -----------------------------------------------------------------------------

    def _describe(self, body: bytes) -> None:
        """Add the interface of an Interface Description Block (section 4.2)."""
        layout = self._layout
        if len(body) < layout.interface.size:
            raise self._error("interface description too short")
        if len(self._interfaces) >= CAPTURE_INTERFACES:
            raise self._error(f"more than {CAPTURE_INTERFACES} interfaces in a section")
        link_type, _, snap_len = layout.interface.unpack_from(body)
        ticks, offset_s = 1_000_000, 0
        for code, value in self._options(body, layout.interface.size):
            if code == IF_TSRESOL and len(value) == 1:
                exponent = value[0] & 0x7F
                ticks = 2**exponent if value[0] & 0x80 else 10**exponent
            elif code == IF_TSOFFSET and len(value) == layout.signed.size:
                (offset_s,) = layout.signed.unpack(value)
        self._interfaces.append(Interface(link_type, snap_len, ticks, offset_s * NS))

    def _options(self, body: bytes, position: int) -> Iterator[tuple[int, bytes]]:
        option = self._layout.option
        while position + option.size <= len(body):
            code, length = option.unpack_from(body, position)
            position += option.size
            if code == OPT_END:
                return
            if position + length > len(body):
                raise self._error("option reaches beyond its block")
            yield code, body[position : position + length]
            position += length + -length % 4

    def _packet(self, kind: int, body: bytes) -> Frame:
        """Return the frame of an Enhanced (4.3), Simple (4.4) or old Packet Block (appendix A)."""
        if kind == SIMPLE_PACKET:
            return self._simple_packet(body)
        layout = self._layout
        fixed = layout.enhanced if kind == ENHANCED_PACKET else layout.old
        if len(body) < fixed.size:
            raise self._error("packet block too short")
        if kind == ENHANCED_PACKET:
            index, high, low, captured, wire_len = layout.enhanced.unpack_from(body)
        else:
            index, _, high, low, captured, wire_len = layout.old.unpack_from(body)
        interface = self._interface(index)
        self._time_ns = self._time(interface, high << 32 | low)
        return self._frame(interface, body, fixed.size, captured, wire_len)

    def _simple_packet(self, body: bytes) -> Frame:
        size = self._layout.word.size
        if len(body) < size:
            raise self._error("packet block too short")
        interface = self._interface(0)
        (wire_len,) = self._layout.word.unpack_from(body)
        # The block has no captured length: the packet fills it up to the snapshot length.
        captured = min(wire_len, interface.snap_len or wire_len)
        return self._frame(interface, body, size, captured, wire_len)

    def _interface(self, index: int) -> Interface:
        if index >= len(self._interfaces):
            raise self._error(f"packet of interface {index}, which has no description")
        return self._interfaces[index]

    def _time(self, interface: Interface, ticks: int) -> int:
        time_ns = ticks * NS // interface.ticks + interface.offset_ns
        if not 0 <= time_ns < TIME_LIMIT_NS:
            raise self._error("packet time out of range")
        return time_ns

    def _frame(
        self, interface: Interface, body: bytes, position: int, captured: int, wire_len: int
    ) -> Frame:
        if captured > CAPTURE_FRAME_BYTES:
            raise self._error(
                f"packet of {captured} bytes; a frame has at most {CAPTURE_FRAME_BYTES}"
            )
        if position + captured > len(body):
            raise self._error(f"packet of {captured} bytes reaches beyond its block")
        data = body[position : position + captured]
        return Frame(self._time_ns, interface.link_type, data, max(wire_len, captured))

"""The pcap format (draft-ietf-opsawg-pcap) in both byte orders, with its "modified" variant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from deckwire.captures.frame import Frame
from deckwire.captures.source import Source
from deckwire.limits import CAPTURE_FRAME_BYTES

FILE_HEADER_BYTES = 24
MAJOR_VERSION = 2
LINK_TYPE_MASK = 0xFFFF
"""The upper half says whether frames end in an FCS, which IP lengths show anyway."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The properties of a file that its magic number shows."""

    order: str
    """Byte order for struct, ``<`` or ``>``."""
    fraction_ns: int
    """Unit of the fraction field of a record, in nanoseconds."""
    extra: int = 0
    """Bytes after the standard record header; the modified format has interface, protocol, type."""


VARIANTS = {
    bytes.fromhex("d4c3b2a1"): Variant("<", 1_000),
    bytes.fromhex("a1b2c3d4"): Variant(">", 1_000),
    bytes.fromhex("4d3cb2a1"): Variant("<", 1),
    bytes.fromhex("a1b23c4d"): Variant(">", 1),
    bytes.fromhex("34cdb2a1"): Variant("<", 1_000, extra=8),
    bytes.fromhex("a1b2cd34"): Variant(">", 1_000, extra=8),
}
"""By the first four bytes of the file."""


def frames(source: Source, magic: bytes) -> Iterator[Frame]:
    """Yield the frames of the pcap file whose `magic` has been read.

    Raises CaptureError where the file cannot be followed any further.
    """
    variant = VARIANTS[magic]
    header = source.read(FILE_HEADER_BYTES - len(magic))
    if len(header) < FILE_HEADER_BYTES - len(magic):
        raise source.error(0, "file header cut short")
    # Version major and minor, time zone and accuracy (both unused), snapshot length, link type.
    major, minor, _, _, _, link_word = Struct(variant.order + "HHiIII").unpack(header)
    if major != MAJOR_VERSION:
        raise source.error(4, f"pcap version {major}.{minor} is not supported, only version 2")
    return _records(source, variant, link_word & LINK_TYPE_MASK)


def _records(source: Source, variant: Variant, link_type: int) -> Iterator[Frame]:
    record = Struct(f"{variant.order}IIII{variant.extra}x")
    while True:
        start = source.position
        header = source.read(record.size)
        if not header:
            return
        if len(header) < record.size:
            raise source.error(start, "record header cut short")
        seconds, fraction, captured, wire_len = record.unpack(header)
        if captured > CAPTURE_FRAME_BYTES:
            raise source.error(
                start, f"record of {captured} bytes; a frame has at most {CAPTURE_FRAME_BYTES}"
            )
        data = source.read(captured)
        if len(data) < captured:
            raise source.error(start, f"record cut short: {len(data)} of {captured} bytes")
        # 32 bits of seconds and 32 bits of microseconds are less than 2^63 ns.
        time_ns = seconds * 1_000_000_000 + fraction * variant.fraction_ns
        yield Frame(time_ns, link_type, data, max(wire_len, captured))

"""A captured frame, and the error that ends the reading of a capture."""

from __future__ import annotations

from dataclasses import dataclass

from deckwire.errors import plain

TIME_LIMIT_NS = 1 << 63
"""Frame times are below this, because they become times of the kernel's signed 64-bit clock."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as stored in the capture file, with its own link header."""

    time_ns: int
    """Nanoseconds since the epoch, 0 to 2^63 - 1."""
    link_type: int
    """LINKTYPE_ value, e.g. 1 for Ethernet (tcpdump.org/linktypes.html)."""
    data: bytes
    """The captured bytes, fewer than `wire_len` if the snapshot length cut the frame."""
    wire_len: int
    """Length on the wire according to the file, at least ``len(data)``."""


class CaptureError(Exception):
    """A capture cannot be read, or not any further; the text is one line."""

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__(path, offset, reason)
        self.path = path
        self.offset = offset
        """Position in the file of the header that cannot be followed, in bytes."""
        self.reason = reason

    def __str__(self) -> str:
        return f"{plain(self.path)}: at byte {self.offset}: {self.reason}"

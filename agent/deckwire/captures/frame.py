"""One captured frame, and the one error that reading a capture can end in."""

from __future__ import annotations

from dataclasses import dataclass

from deckwire.errors import plain

TIME_LIMIT_NS = 1 << 63
"""Frame times are below this: they become the kernel's signed 64-bit clock."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as the capture file has it, still with its own link header."""

    time_ns: int
    """Nanoseconds since the epoch, 0 to 2^63 - 1."""
    link_type: int
    """LINKTYPE_ value (tcpdump.org/linktypes.html): 1 is Ethernet."""
    data: bytes
    """The bytes captured; fewer than `wire_len` where the snapshot length cut them."""
    wire_len: int
    """Length on the wire as the file claims it, never less than ``len(data)``."""


class CaptureError(Exception):
    """A capture that cannot be read, or not any further; its text is one line."""

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__(path, offset, reason)
        self.path = path
        self.offset = offset
        """Byte position in the file of the header that cannot be followed."""
        self.reason = reason

    def __str__(self) -> str:
        return f"{plain(self.path)}: at byte {self.offset}: {self.reason}"

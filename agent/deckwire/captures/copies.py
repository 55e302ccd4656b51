"""Frames that one capture holds twice, because the packet passed two of its interfaces."""

from __future__ import annotations

from collections import OrderedDict

from deckwire.captures.frame import Frame
from deckwire.captures.linktypes import COOKED, COOKED2, COOKED2_BYTES, COOKED_BYTES
from deckwire.limits import CAPTURE_COPIES, CAPTURE_COPY_NS

_HEADERS = {COOKED: COOKED_BYTES, COOKED2: COOKED2_BYTES}


class Copies:
    """Finds the second one of two such frames, as `tcpdump -i any` writes them.

    Both hold the same IP packet to the byte, its identification and checksums included, within
    CAPTURE_COPY_NS. Their link headers differ, because these name the interface (LINKTYPE_LINUX_
    SLL2) or at least the way through it (LINKTYPE_LINUX_SLL). What comes twice on one interface
    was sent twice. In captures of other link types nobody but the sender decides on the link
    header, so there every frame counts: else a sender could have one of his packets left out.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()
        """Packets of the last CAPTURE_COPY_NS, with time and link header, oldest first."""

    def is_copy(self, frame: Frame) -> bool:
        """Whether the packet of this frame has passed another interface just before."""
        size = _HEADERS.get(frame.link_type)
        if size is None:
            return False
        link, packet = frame.data[:size], frame.data[size:]
        before = self._seen.pop(packet, None)
        if before is not None:
            time_ns, other = before
            if link != other and abs(frame.time_ns - time_ns) <= CAPTURE_COPY_NS:
                self._seen[packet] = before
                return True
        self._seen[packet] = frame.time_ns, link
        while self._is_over(frame.time_ns):
            self._seen.popitem(last=False)
        return False

    def _is_over(self, now_ns: int) -> bool:
        oldest_ns, _ = next(iter(self._seen.values()))
        return len(self._seen) > CAPTURE_COPIES or now_ns - oldest_ns > CAPTURE_COPY_NS

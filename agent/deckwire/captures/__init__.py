"""Read pcap and pcapng files as Ethernet frames of a bounded size."""

from deckwire.captures.addresses import addresses
from deckwire.captures.copies import Copies
from deckwire.captures.file import CaptureFile
from deckwire.captures.frame import CaptureError, Frame
from deckwire.captures.linktypes import ethernet
from deckwire.captures.segments import may_be_fragment, split_segments, tcp_ends

__all__ = [
    "CaptureError",
    "CaptureFile",
    "Copies",
    "Frame",
    "addresses",
    "ethernet",
    "may_be_fragment",
    "split_segments",
    "tcp_ends",
]

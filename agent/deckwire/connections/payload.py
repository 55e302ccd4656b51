"""The first bytes of both ends of a connection that no other reader has taken."""

from __future__ import annotations

from typing import NamedTuple


class Sent(NamedTuple):
    """The first bytes of one end."""

    data: bytes = b""
    is_cut: bool = False
    """The end is known to have sent more than these."""


class PayloadSeen(NamedTuple):
    """The first bytes of both ends. One of them sent at least one."""

    time_ns: int
    """Kernel time of the last segment of them."""
    client: Sent
    """What the end sent that opened the connection."""
    server: Sent

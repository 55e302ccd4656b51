r"""The frames of the bus: ``VERB args\n``, a length of four bytes and a body.

Clients send HELLO, PUB, SUB and BYE. The server sends EVT. Nothing is acknowledged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from deckwire.limits import BUS_BODY_BYTES, BUS_HEADER_BYTES

_LENGTH = Struct(">I")
_TOPIC = re.compile(r"[^\s.]+(\.[^\s.]+)*")


class Frame(NamedTuple):
    """One frame; `argument` is a topic, a pattern or a name."""

    verb: str
    argument: str
    body: bytes = b""


class FrameError(Exception):
    """Bytes that are no frame. What follows them cannot be read either."""


def pack(frame: Frame) -> bytes:
    """The bytes of a frame; FrameError if it exceeds a bound or its argument holds a newline."""
    header = f"{frame.verb} {frame.argument}".rstrip(" ")
    if not header.isascii() or not header.isprintable():
        raise FrameError("the header is not printable ASCII")
    if len(header) >= BUS_HEADER_BYTES or len(frame.body) > BUS_BODY_BYTES:
        raise FrameError("the frame is too large")
    return header.encode() + b"\n" + _LENGTH.pack(len(frame.body)) + frame.body


def is_topic(topic: str) -> bool:
    """Whether this can be a topic: segments between dots, none empty or with a space."""
    return topic.isascii() and topic.isprintable() and _TOPIC.fullmatch(topic) is not None


class Reader:
    """Cuts a stream of bytes into frames. It keeps one frame at most."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take bytes and give the frames that are whole; FrameError ends the stream."""
        self._rest += data
        while (found := self._next()) is not None:
            yield found

    def _next(self) -> Frame | None:
        end = self._rest.find(b"\n", 0, BUS_HEADER_BYTES)
        if end < 0:
            if len(self._rest) >= BUS_HEADER_BYTES:
                raise FrameError("a header without an end")
            return None
        body = end + 1 + _LENGTH.size
        if len(self._rest) < body:
            return None
        (length,) = _LENGTH.unpack_from(self._rest, end + 1)
        if length > BUS_BODY_BYTES:
            raise FrameError("a body that is too long")
        if len(self._rest) < body + length:
            return None
        try:
            verb, _, argument = self._rest[:end].decode("ascii").partition(" ")
        except UnicodeDecodeError as error:
            raise FrameError("a header that is not ASCII") from error
        frame = Frame(verb, argument, bytes(self._rest[body : body + length]))
        del self._rest[: body + length]
        return frame

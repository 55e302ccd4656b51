"""bus.frames and bus.messages: the same frames however the bytes are cut, and checked messages."""

from __future__ import annotations

import json
from ipaddress import ip_address

from deckwire.bus.frames import Frame, FrameError, Reader, is_topic, pack
from deckwire.bus.messages import (
    CONTROL_TOPIC,
    Announcement,
    StopRequest,
    envelope,
    parse_event,
    traffic_topic,
)
from deckwire.limits import BUS_BODY_BYTES, BUS_HEADER_BYTES
from tests.fuzz.feed import Feed
from tests.fuzz.lines import check_message

_PIECES = 64
_ORCHESTRATOR = "orchestrator.traffic.ssh"


def seeds() -> list[bytes]:
    announced = {"src_decky": "web", "dst_ip": "198.51.100.8", "dst_port": 22}
    frames = [
        Frame("HELLO", "sniffer"),
        Frame("SUB", "orchestrator.traffic.*"),
        _event(_ORCHESTRATOR, announced),
        _event(_ORCHESTRATOR, {**announced, "dst_ip": "2001:DB8::1", "dst_port": "22"}),
        _event(CONTROL_TOPIC, {"action": "stop"}),
        Frame("EVT", CONTROL_TOPIC, b"[" * 200),
        Frame("EVT", _ORCHESTRATOR, b'{"payload": {"dst_port": 1' + b"0" * 60 + b"}}"),
        Frame("BYE", ""),
    ]
    packed = [pack(frame) for frame in frames]
    stream = b"".join(packed)
    large = b"EVT a\n" + (BUS_BODY_BYTES + 1).to_bytes(4, "big")
    return [
        *(bytes([size]) + stream for size in (0, 6, 255)),
        *(b"\xff" + one for one in packed),
        b"\x20" + large,
        b"\xff" + b"x" * BUS_HEADER_BYTES,
    ]


def check(data: bytes) -> None:
    feed = Feed(data)
    size = feed.number(1) + 1
    stream = feed.rest()
    # Pieces of one byte show no more, and take long.
    size = max(size, len(stream) // _PIECES)
    frames, is_sound = _read([stream])
    assert (frames, is_sound) == _read(
        [stream[at : at + size] for at in range(0, len(stream), size)]
    )
    _check_bytes(frames, stream)
    for frame in frames:
        _check_message(frame)
        _check_topic(frame.argument)


def _event(topic: str, payload: dict[str, object]) -> Frame:
    return Frame("EVT", topic, envelope(topic, "x", 1.5, payload))


def _read(pieces: list[bytes]) -> tuple[list[Frame], bool]:
    """The frames of a stream, and whether all of it could be frames."""
    reader, found = Reader(), []
    try:
        for piece in pieces:
            for frame in reader.feed(piece):
                found.append(frame)
    except FrameError as error:
        check_message(str(error))
        return found, False
    return found, True


def _check_bytes(frames: list[Frame], stream: bytes) -> None:
    """Assert that the frames are those of the stream, from its first byte on."""
    at = 0
    for frame in frames:
        end = stream.index(b"\n", at)
        assert end - at < BUS_HEADER_BYTES
        words = stream[at:end].decode("ascii").split(" ", 1)
        assert [frame.verb, frame.argument] == [*words, ""][:2]
        at = end + 5 + len(frame.body)
        assert stream[end + 1 : at] == len(frame.body).to_bytes(4, "big") + frame.body


def _check_message(frame: Frame) -> None:
    message = parse_event(frame)
    if message is None:
        return
    assert frame.verb == "EVT"
    payload = json.loads(frame.body)["payload"]
    if isinstance(message, StopRequest):
        assert (frame.argument, payload["action"]) == (CONTROL_TOPIC, "stop")
        return
    assert isinstance(message, Announcement)
    assert frame.argument.startswith("orchestrator.traffic.")
    assert message.decky == payload["src_decky"]
    assert message.address == str(ip_address(payload["dst_ip"]))
    assert 0 < message.port < 65_536
    assert message.port == int(payload["dst_port"])


def _check_topic(name: str) -> None:
    """Assert that any name gives a topic that a frame can have, or none."""
    topic = traffic_topic(name)
    if topic is None:
        return
    assert is_topic(topic)
    assert topic.count(".") == 2
    if len(topic) < BUS_HEADER_BYTES - 4:
        frame = Frame("PUB", topic, envelope(topic, "x", 0.0, {"name": name}))
        assert _read([pack(frame)]) == ([frame], True)

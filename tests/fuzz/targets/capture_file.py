"""captures.CaptureFile: frames within their bounds, then the end or a CaptureError of one line."""

from __future__ import annotations

from deckwire.captures import CaptureError, CaptureFile, Frame, ethernet
from deckwire.captures.frame import TIME_LIMIT_NS
from deckwire.limits import CAPTURE_FRAME_BYTES
from tests.fuzz.files import MemoryFile
from tests.fuzz.lines import check_message
from tests.fuzz.material import pcap, pcapng, tcp_frame

_FILE = MemoryFile()


def seeds() -> list[bytes]:
    frames = [tcp_frame(b"x" * 40), tcp_frame(ip_version=6, tags=1)]
    made = [
        pcap(*frames),
        pcap(*frames, order="big"),
        pcap(*frames, nanoseconds=True),
        pcapng(*frames),
        pcapng(frames[0]) + pcapng(frames[1]),
    ]
    modified = bytes.fromhex("34cdb2a1") + made[0][4:40] + bytes(8) + made[0][40:]
    return [*made, modified, b"\x1f\x8b\0\0", made[0][:30], made[3][:150]]


def check(data: bytes) -> None:
    frames: list[Frame] = []
    path = _FILE.hold(data)
    try:
        with CaptureFile(path) as capture:
            for frame in capture:
                frames.append(frame)
            assert capture.position == len(data)
    except CaptureError as error:
        _check_error(error, path, len(data))
    assert sum(len(frame.data) for frame in frames) <= len(data)
    for frame in frames:
        assert 0 <= frame.time_ns < TIME_LIMIT_NS
        assert len(frame.data) <= CAPTURE_FRAME_BYTES
        assert len(frame.data) <= frame.wire_len
        framed = ethernet(frame)
        assert framed is None or len(framed) <= len(frame.data) + 14


def _check_error(error: CaptureError, path: str, size: int) -> None:
    check_message(str(error))
    assert str(error).startswith(f"{path}: at byte ")
    assert 0 <= error.offset <= size

"""CaptureFile reads generated files, mutated files and the corpus."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import tracemalloc
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deckwire.captures import CaptureError, CaptureFile, Frame
from deckwire.limits import CAPTURE_BLOCK_BYTES, CAPTURE_FRAME_BYTES, CAPTURE_INTERFACES
from tests.support.shared import CORPUS, needs_corpus

TIME_NS = 1_700_000_000_123_456_789

# --- writing captures ---------------------------------------------------------------------------


def pcap_header(order: str = "<", magic: int = 0xA1B2C3D4, link_type: int = 1) -> bytes:
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65_535, link_type)


def pcap_record(
    data: bytes,
    time_ns: int = TIME_NS,
    order: str = "<",
    *,
    unit_ns: int = 1_000,
    wire_len: int | None = None,
    extra: bytes = b"",
) -> bytes:
    seconds, rest = divmod(time_ns, 1_000_000_000)
    wire = len(data) if wire_len is None else wire_len
    return struct.pack(order + "IIII", seconds, rest // unit_ns, len(data), wire) + extra + data


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    total = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + total + body + total


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = "<", major: int = 1, options: bytes = b"") -> bytes:
    body = struct.pack(order + "IHHq", 0x1A2B3C4D, major, 0, -1)
    return block(0x0A0D0D0A, body + options, order)


def interface(
    order: str = "<", link_type: int = 1, snap_len: int = 0, options: bytes = b""
) -> bytes:
    return block(1, struct.pack(order + "HHI", link_type, 0, snap_len) + options, order)


def enhanced(
    data: bytes,
    ticks: int,
    order: str = "<",
    *,
    index: int = 0,
    wire_len: int | None = None,
    options: bytes = b"",
) -> bytes:
    wire = len(data) if wire_len is None else wire_len
    fixed = struct.pack(order + "IIIII", index, ticks >> 32, ticks & 0xFFFF_FFFF, len(data), wire)
    return block(6, fixed + data + bytes(-len(data) % 4) + options, order)


def old_packet(data: bytes, ticks: int, order: str = "<", index: int = 0) -> bytes:
    fixed = struct.pack(
        order + "HHIIII", index, 0, ticks >> 32, ticks & 0xFFFF_FFFF, len(data), len(data)
    )
    return block(2, fixed + data, order)


def simple(data: bytes, wire_len: int, order: str = "<") -> bytes:
    return block(3, struct.pack(order + "I", wire_len) + data, order)


def read(path: Path, content: bytes) -> tuple[list[Frame], CaptureError | None]:
    """Return the frames of a file with `content`, and the error that ended them."""
    path.write_bytes(content)
    frames: list[Frame] = []
    failure = None
    try:
        with CaptureFile(path) as capture:
            for frame in capture:
                frames.append(frame)
            assert capture.position == capture.size == len(content)
    except CaptureError as error:
        failure = error
    if failure is not None:
        assert str(failure).isprintable()
        assert 0 <= failure.offset <= len(content)
    return frames, failure


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "capture"


# --- pcap ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize(
    ("magic", "unit_ns", "extra"),
    [(0xA1B2C3D4, 1_000, b""), (0xA1B23C4D, 1, b""), (0xA1B2CD34, 1_000, b"\x01" * 8)],
    ids=["microseconds", "nanoseconds", "modified"],
)
def test_the_frames_of_a_pcap_file_are_read(
    path: Path, order: str, magic: int, unit_ns: int, extra: bytes
) -> None:
    first, second = bytes(range(60)), b"x" * 1514
    content = pcap_header(order, magic, link_type=113)
    content += pcap_record(first, TIME_NS, order, unit_ns=unit_ns, extra=extra)
    content += pcap_record(
        second, TIME_NS + 5_000, order, unit_ns=unit_ns, wire_len=9_000, extra=extra
    )
    time_ns = TIME_NS // unit_ns * unit_ns
    assert read(path, content) == (
        [Frame(time_ns, 113, first, 60), Frame(time_ns + 5_000, 113, second, 9_000)],
        None,
    )


def test_a_pcap_file_may_have_no_frames(path: Path) -> None:
    assert read(path, pcap_header()) == ([], None)


def test_fcs_bits_are_not_part_of_the_link_type(path: Path) -> None:
    frames, error = read(path, pcap_header(link_type=0x2400_0001) + pcap_record(b"x" * 60))
    assert error is None
    assert frames[0].link_type == 1


def test_the_wire_length_is_at_least_the_captured_length(path: Path) -> None:
    frames, _ = read(path, pcap_header() + pcap_record(b"x" * 60, wire_len=4))
    assert frames[0].wire_len == 60


@given(cut=st.integers(1, 75))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_a_truncated_pcap_file_yields_its_whole_frames(path: Path, cut: int) -> None:
    content = pcap_header() + pcap_record(b"a" * 60) + pcap_record(b"b" * 60)
    frames, error = read(path, content[:-cut])
    assert [frame.data for frame in frames] == [b"a" * 60]
    assert error is not None
    assert "cut short" in error.reason
    assert error.offset == 24 + 76


def test_the_length_of_a_pcap_record_is_bounded(path: Path) -> None:
    record = struct.pack("<IIII", 0, 0, CAPTURE_FRAME_BYTES + 1, CAPTURE_FRAME_BYTES + 1)
    frames, error = read(path, pcap_header() + pcap_record(b"x" * 60) + record)
    assert len(frames) == 1
    assert error is not None
    assert str(CAPTURE_FRAME_BYTES) in error.reason


def test_the_largest_frame_is_read(path: Path) -> None:
    frames, error = read(path, pcap_header() + pcap_record(b"x" * CAPTURE_FRAME_BYTES))
    assert error is None
    assert len(frames[0].data) == CAPTURE_FRAME_BYTES


# --- pcapng -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
def test_all_packet_blocks_of_pcapng_are_read(path: Path, order: str) -> None:
    micros = TIME_NS // 1_000
    content = (
        section(order, options=option(4, b"writer", order))
        + interface(order, snap_len=96)
        + interface(order, link_type=276, options=option(2, b"any", order))
        + enhanced(b"e" * 61, micros, order, options=option(1, b"comment", order))
        + block(0x0BAD, b"unknown block", order)
        + old_packet(b"o" * 62, micros + 1, order, index=1)
        + simple(b"s" * 96, 1_500, order)
        + block(5, bytes(8), order)
    )
    time_ns = micros * 1_000
    assert read(path, content) == (
        [
            Frame(time_ns, 1, b"e" * 61, 61),
            Frame(time_ns + 1_000, 276, b"o" * 62, 62),
            Frame(time_ns + 1_000, 1, b"s" * 96, 1_500),
        ],
        None,
    )


def test_each_section_has_its_byte_order_and_interfaces(path: Path) -> None:
    content = (
        section("<")
        + interface("<", link_type=101)
        + enhanced(b"a" * 20, 1, "<")
        + section(">")
        + interface(">", link_type=0)
        + enhanced(b"b" * 20, 2, ">")
    )
    frames, error = read(path, content)
    assert error is None
    assert [(f.link_type, f.time_ns) for f in frames] == [(101, 1_000), (0, 2_000)]
    frames, error = read(path, section() + interface() + section() + enhanced(b"a" * 20, 1))
    assert not frames
    assert error is not None
    assert "interface 0" in error.reason


@pytest.mark.parametrize(
    ("resolution", "ticks", "time_ns"),
    [
        (0, 5, 5_000_000_000),
        (3, 1_500, 1_500_000_000),
        (9, TIME_NS, TIME_NS),
        (12, 5_000_999, 5_000),
        (0x80, 7, 7_000_000_000),
        (0x80 | 10, 1_024 * 3 + 512, 3_500_000_000),
        (0x80 | 32, (9 << 32) + (1 << 31), 9_500_000_000),
        (127, 2**64 - 1, 0),
        (0xFF, 2**64 - 1, 2**64 * 10**9 // 2**127),
    ],
)
def test_a_time_has_the_resolution_of_its_interface(
    path: Path, resolution: int, ticks: int, time_ns: int
) -> None:
    options = option(9, bytes([resolution])) + option(0, b"")
    content = section() + interface(options=options) + enhanced(b"x" * 20, ticks)
    frames, error = read(path, content)
    assert error is None
    assert frames[0].time_ns == time_ns


def test_a_time_has_the_offset_of_its_interface(path: Path) -> None:
    options = option(9, b"\x09") + option(14, struct.pack("<q", -100))
    content = section() + interface(options=options)
    frames, error = read(path, content + enhanced(b"x" * 20, 100_000_000_007))
    assert error is None
    assert frames[0].time_ns == 7
    frames, error = read(path, content + enhanced(b"x" * 20, 99_999_999_999))
    assert not frames
    assert error is not None
    assert "time" in error.reason


def test_options_after_the_end_of_options_are_ignored(path: Path) -> None:
    options = option(0, b"") + option(9, b"\x00")
    frames, _ = read(path, section() + interface(options=options) + enhanced(b"x" * 20, 4))
    assert frames[0].time_ns == 4_000


def test_a_time_beyond_63_bits_is_an_error(path: Path) -> None:
    options = option(9, b"\x00")
    _, error = read(path, section() + interface(options=options) + enhanced(b"x" * 20, 2**63))
    assert error is not None
    assert "time" in error.reason


GOOD = section() + interface() + enhanced(b"x" * 60, 1)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (struct.pack("<III", 6, 8, 8), "impossible length"),
        (struct.pack("<III", 6, 34, 34), "impossible length"),
        (struct.pack("<II", 6, CAPTURE_BLOCK_BYTES + 4), "at most"),
        (struct.pack("<II", 0x0BAD, 0xFFFF_FFFC) + bytes(100_000), "cut short"),
        (block(6, bytes(16)), "too short"),
        (block(1, bytes(4)), "too short"),
        (block(3, b""), "too short"),
        (enhanced(b"x" * 20, 1, index=1), "interface 1"),
        (enhanced(b"x" * 20, 1)[:-4] + bytes(4), "ends with 0"),
        (block(6, struct.pack("<IIIII", 0, 0, 0, 21, 21) + b"x" * 20), "beyond its block"),
        (block(6, struct.pack("<IIIII", 0, 0, 0, 2**32 - 1, 60)), "a frame has at most"),
        (block(1, struct.pack("<HHIHH", 1, 0, 0, 9, 100)), "beyond its block"),
        (section()[:8] + b"abcd" + section()[12:], "byte-order mark"),
        (section(major=2), "version 2"),
        (b"\x06\x00", "header cut short"),
        (interface() * CAPTURE_INTERFACES, "interfaces"),
    ],
)
def test_a_broken_block_ends_the_frames(path: Path, broken: bytes, reason: str) -> None:
    frames, error = read(path, GOOD + broken)
    assert [frame.data for frame in frames] == [b"x" * 60]
    assert error is not None
    assert reason in error.reason
    assert error.offset >= len(GOOD)


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"\xd4\xc3", "neither"),
        (b"GET / HTTP/1.1\r\n", "neither"),
        (b"\x1f\x8b\x08\x00rest", "gzip"),
        (pcap_header()[:20], "cut short"),
        (pcap_header()[:4] + b"\x01\x00" + pcap_header()[6:], "version 1"),
        (b"\x0a\x0d\x0d\x0a\x1c\x00", "cut short"),
        (section()[:20], "cut short"),
    ],
)
def test_opening_a_file_that_is_no_capture_fails(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    with pytest.raises(CaptureError) as caught:
        CaptureFile(path)
    assert reason in caught.value.reason
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_directory_are_reported(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="No such file"):
        CaptureFile(tmp_path / "none")
    with pytest.raises(CaptureError, match="Is a directory"):
        CaptureFile(tmp_path)


def test_an_error_stays_on_one_line_for_any_path(tmp_path: Path) -> None:
    with pytest.raises(CaptureError) as caught:
        CaptureFile(tmp_path / "a\nb\x1b[31m")
    assert str(caught.value).isprintable()


def test_a_pipe_is_read() -> None:
    reader, writer = os.pipe()
    os.write(writer, pcap_header() + pcap_record(b"x" * 60))
    os.close(writer)
    with CaptureFile(f"/dev/fd/{reader}") as capture:
        assert capture.size == 0
        assert [frame.data for frame in capture] == [b"x" * 60]
    os.close(reader)


def test_the_position_advances_with_the_frames(path: Path) -> None:
    path.write_bytes(pcap_header() + pcap_record(b"x" * 60) * 3)
    with CaptureFile(path) as capture:
        assert [capture.position for _ in capture] == [100, 176, 252]


# --- hostile bytes ------------------------------------------------------------------------------

SAMPLES = [
    pcap_header(">") + pcap_record(b"x" * 60, order=">") * 3,
    section() + interface() + enhanced(b"x" * 60, 1) + old_packet(b"y" * 9, 2) + simple(b"z", 1),
    section(">") + interface(">") + enhanced(b"x" * 60, 1, ">") + section() + interface(),
]


@given(
    sample=st.sampled_from([*SAMPLES, b"\xd4\xc3\xb2\xa1", b"\x0a\x0d\x0d\x0a"]),
    changes=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=8)), max_size=6),
    tail=st.binary(max_size=100),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
def test_a_mutated_capture_raises_only_capture_errors(
    path: Path, sample: bytes, changes: list[tuple[int, bytes]], tail: bytes
) -> None:
    content = bytearray(sample)
    for position, new in changes:
        content[position : position + len(new)] = new
    frames, _ = read(path, bytes(content) + tail)
    assert sum(len(frame.data) for frame in frames) <= len(content) + len(tail)


def test_memory_does_not_grow_with_the_file(path: Path) -> None:
    skipped = block(0x0BAD, bytes(8 << 20))
    path.write_bytes(section() + interface() + skipped + enhanced(b"x" * 60_000, 1) * 200)
    tracemalloc.start()
    try:
        with CaptureFile(path) as capture:
            count = sum(1 for _ in capture)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 200
    assert peak < 1 << 20


# --- the corpus ---------------------------------------------------------------------------------


def corpus_entries() -> list[dict[str, object]]:
    entries: list[dict[str, object]] = json.loads((CORPUS / "index.json").read_text())
    return entries


@needs_corpus
def test_the_corpus_has_the_expected_numbers_of_packets() -> None:
    wrong = []
    for entry in corpus_entries():
        with CaptureFile(CORPUS / "pcap" / str(entry["pcap"])) as capture:
            frames = list(capture)
        link_types = sorted({frame.link_type for frame in frames})
        if (len(frames), link_types) != (entry["packets"], entry["link_types"]):
            wrong.append(entry["pcap"])
    assert not wrong


@needs_corpus
@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark not installed")
def test_corpus_times_and_lengths_are_those_of_tshark() -> None:
    entries = corpus_entries()
    by_format = [e for e in entries if str(e["pcap"]).endswith("ng")][:2] + entries[:2]
    for entry in by_format:
        path = CORPUS / "pcap" / str(entry["pcap"])
        fields = ["frame.time_epoch", "frame.cap_len", "frame.len"]
        command = ["tshark", "-n", "-r", str(path), "-T", "fields"]
        output = subprocess.run(
            [*command, *(word for name in fields for word in ("-e", name))],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        expected = [line.split("\t") for line in output.splitlines()]
        with CaptureFile(path) as capture:
            for frame, (epoch, captured, wire) in zip(capture, expected, strict=True):
                assert frame.time_ns == int(Decimal(epoch) * 1_000_000_000)
                assert (len(frame.data), frame.wire_len) == (int(captured), int(wire))

"""Faults that fuzzing and differential tests found, one test each."""

from __future__ import annotations

from pathlib import Path

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.samples import MalformedSample, SegmentSample, decode
from deckwire.config import ConfigError, read_config
from deckwire.fingerprints import p0f_db
from tests.fuzz.material import ring_records, segment_record, struct_bytes, syn_packets


def test_an_error_about_a_label_stays_on_one_line() -> None:
    content = b"classes = unix\n[tcp:request]\nlabel = s:!:Too\x1b[2J\rl:\nsig = x\n"
    with pytest.raises(p0f_db.SignatureError) as raised:
        p0f_db.parse(content, "p")
    assert str(raised.value).isprintable()


def test_the_length_of_a_socket_path_includes_the_directory_of_the_file(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    path = folder / "deckwire.toml"
    path.write_text('output = "unix:events"\n')
    with pytest.raises(ConfigError, match="a socket's has at most 107 bytes"):
        read_config(path)


def test_a_syn_packet_without_an_ip_version_is_rejected() -> None:
    head = ring_records()[0][: abi.SAMPLE_HEAD_BYTES]
    both = syn_packets()
    both["syn"].ip_version = 37
    with pytest.raises(MalformedSample, match="syn_packet_malformed"):
        decode(head + struct_bytes("half_open", **both))


def test_a_client_that_is_neither_end_is_unknown() -> None:
    record = bytearray(segment_record(b"x", sender=0, seq=1, time_ns=2))
    before = abi.SCHEMAS["sample_head"].parse(bytes(record))
    before.client = 77
    record[: abi.SAMPLE_HEAD_BYTES] = abi.SCHEMAS["sample_head"].build(before)
    sample = decode(bytes(record))
    assert isinstance(sample, SegmentSample)
    assert sample.client == abi.CLIENT_UNKNOWN

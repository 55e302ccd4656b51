"""What fuzzing and the differential runs have found: one named case each."""

from __future__ import annotations

from pathlib import Path

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.samples import MalformedSample, SegmentSample, decode
from deckwire.config import ConfigError, read_config
from deckwire.fingerprints import p0f_db
from tests.fuzz.material import openings, ring_records, segment_record, struct_bytes


def test_a_signature_files_label_stays_on_the_messages_line() -> None:
    content = b"classes = unix\n[tcp:request]\nlabel = s:!:Too\x1b[2J\rl:\nsig = x\n"
    with pytest.raises(p0f_db.SignatureError) as raised:
        p0f_db.parse(content, "p")
    assert str(raised.value).isprintable()


def test_a_sockets_path_is_measured_behind_the_files_directory(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    path = folder / "deckwire.toml"
    path.write_text('output = "unix:events"\n')
    with pytest.raises(ConfigError, match="the path of a socket has at most 107 bytes"):
        read_config(path)


def test_an_opening_of_no_ip_version_is_refused() -> None:
    head = ring_records()[0][: abi.SAMPLE_HEAD_BYTES]
    both = openings()
    both["syn"].ip_version = 37
    with pytest.raises(MalformedSample, match="syn_packet_malformed"):
        decode(head + struct_bytes("half_open", **both))


def test_a_client_of_neither_side_is_unknown() -> None:
    record = bytearray(segment_record(b"x", sender=0, seq=1, time_ns=2))
    before = abi.SCHEMAS["sample_head"].parse(bytes(record))
    before.client = 77
    record[: abi.SAMPLE_HEAD_BYTES] = abi.SCHEMAS["sample_head"].build(before)
    sample = decode(bytes(record))
    assert isinstance(sample, SegmentSample)
    assert sample.client == abi.CLIENT_UNKNOWN

"""What fuzzing and the differential runs have found: one named case each."""

from __future__ import annotations

from pathlib import Path

import pytest

from deckwire.config import ConfigError, read_config
from deckwire.fingerprints import p0f_db


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

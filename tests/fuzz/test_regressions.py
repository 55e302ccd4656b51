"""What fuzzing and the differential runs have found: one named case each."""

from __future__ import annotations

import pytest

from deckwire.fingerprints import p0f_db


def test_a_signature_files_label_stays_on_the_messages_line() -> None:
    content = b"classes = unix\n[tcp:request]\nlabel = s:!:Too\x1b[2J\rl:\nsig = x\n"
    with pytest.raises(p0f_db.SignatureError) as raised:
        p0f_db.parse(content, "p")
    assert str(raised.value).isprintable()

from __future__ import annotations

import pytest

from deckwire.payloads.vnc import read_vnc

ANSWER = bytes(range(16))


@pytest.mark.parametrize(
    ("client", "server", "secrets"),
    [
        (b"RFB 003.008\n\2" + ANSWER, b"RFB 003.008\n\1\2", [ANSWER]),
        (b"RFB 003.003\n" + ANSWER, b"RFB 003.008\n\0\0\0\2", [ANSWER]),
        (b"RFB 003.008\n\1\1", b"RFB 003.008\n\1\1", []),
        (b"RFB 003.003\n\1", b"RFB 003.008\n\0\0\0\1", []),
        (b"RFB 003.008\n", b"", []),
    ],
)
def test_version_and_the_answer_to_a_challenge(
    client: bytes, server: bytes, secrets: list[bytes]
) -> None:
    found = read_vnc(client, server)
    assert found.fields == (("vnc_version", client[4:11].decode()),)
    assert [client[at:end] for _, at, end in found.secrets] == secrets


def test_a_silent_client_has_no_version() -> None:
    assert read_vnc(b"", b"RFB 003.008\n").fields == ()

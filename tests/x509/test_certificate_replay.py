"""Certificates through the real programs: the self_signed field of their events."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.conversation import CLIENT, CLIENT6, DECKY, DECKY6, Conversation
from tests.support.emitted import one
from tests.support.flights import client_hello, message, record, server_hello, vector
from tests.support.replaying import ReplayLab
from tests.x509.test_self_signature import CHECKED, OPEN, certificate

pytestmark = pytest.mark.root

EVENT = "tls_certificate"
ENDS = [(CLIENT, DECKY), (CLIENT6, DECKY6), (DECKY, CLIENT), (DECKY6, CLIENT6)]


def talk(der: bytes, ends: tuple[str, str], size: int) -> Conversation:
    """A server shows this certificate in segments of `size` bytes."""
    chain = message(11, vector(3, vector(3, der)))
    flight = record(message(2, server_hello())) + record(chain) + record(message(14, b""))
    conversation = Conversation(*ends).open().send(record(message(1, client_hello())))
    return conversation.answer(flight, size).close()


@pytest.mark.parametrize("size", [1_400, 100])
@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("kind", ["rsa, sha1", "explicit p-256"])
def test_old_signatures_are_checked(
    lab: ReplayLab, tmp_path: Path, kind: str, ends: tuple[str, str], size: int
) -> None:
    frames = talk(certificate(tmp_path, CHECKED[kind]), ends, size).frames
    emitted = one(lab.frames(frames, [end for end in ends if end in (DECKY, DECKY6)]), EVENT)
    assert emitted["self_signed"] is True


@pytest.mark.parametrize("ends", ENDS)
def test_what_cannot_be_checked_is_not_said(
    lab: ReplayLab, tmp_path: Path, ends: tuple[str, str]
) -> None:
    frames = talk(certificate(tmp_path, OPEN["sm2"]), ends, 1_400).frames
    emitted = one(lab.frames(frames, [end for end in ends if end in (DECKY, DECKY6)]), EVENT)
    assert "self_signed" not in emitted
    assert emitted["subject_cn"] == "decoy"


def test_another_issuer_is_no_question(lab: ReplayLab, tmp_path: Path) -> None:
    """SM2 signs it, which cannot be checked: the names say enough."""
    distinguish = "-sm3 -sigopt distid:1234567812345678"
    for command in (
        f"req -x509 -nodes -subj /CN=root -newkey sm2 {distinguish} -keyout key -out root",
        f"req -nodes -subj /CN=leaf -newkey sm2 {distinguish} -keyout /dev/null -out request",
        "x509 -req -in request -vfyopt distid:1234567812345678 -CA root -CAkey key"
        f" {distinguish} -set_serial 1 -outform DER -out leaf",
    ):
        openssl = ["openssl", *command.split()]
        subprocess.run(openssl, check=True, capture_output=True, cwd=tmp_path)
    frames = talk((tmp_path / "leaf").read_bytes(), (CLIENT, DECKY), 1_400).frames
    assert one(lab.frames(frames, [DECKY]), EVENT)["self_signed"] is False

"""The agent remembers what the kernel may suppress of SSH."""

from __future__ import annotations

import pytest

from deckwire.connections import suppressed_head
from deckwire.connections.suppressed_head import EmittedHeads


def test_a_head_is_recalled_by_its_signature() -> None:
    emitted = EmittedHeads()
    emitted.remember(1, b"SSH-2.0-a\n")
    emitted.remember(2, b"SSH-2.0-b\n")
    assert [emitted.recall(n) for n in (1, 2, 3)] == [b"SSH-2.0-a\n", b"SSH-2.0-b\n", None]


def test_the_least_recently_used_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppressed_head, "EMITTED_HEADS", 2)
    emitted = EmittedHeads()
    for signature in (1, 2):
        emitted.remember(signature, b"SSH-")
    emitted.recall(1)
    emitted.remember(3, b"SSH-")
    assert [emitted.recall(n) for n in (1, 2, 3)] == [b"SSH-", None, b"SSH-"]
    assert len(emitted) == 2


def test_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppressed_head, "EMITTED_HEADS_BYTES", 100_000)
    emitted = EmittedHeads()
    for signature in range(1, 101):
        assert emitted.remember(signature, bytes(3_000))
    assert len(emitted) <= 33
    assert not emitted.remember(200, bytes(10_000))

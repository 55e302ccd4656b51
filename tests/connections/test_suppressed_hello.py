"""The agent remembers the ClientHellos that the kernel may suppress."""

from __future__ import annotations

import pytest

from deckwire.abi.hashes import session_id_hash
from deckwire.abi.samples import SuppressedHello
from deckwire.connections import suppressed_hello
from deckwire.connections.suppressed_hello import EmittedHellos
from deckwire.limits import EMITTED_HELLO_BYTES
from deckwire.tls.messages import parse_client_hello
from tests.support.flights import client_hello

HELLO, OTHER = (parse_client_hello(client_hello(suites=suites)) for suites in (b"\0\1", b"\0\2"))


def test_a_hello_is_recalled_by_its_signature() -> None:
    emitted = EmittedHellos()
    emitted.remember(1, HELLO)
    emitted.remember(2, OTHER)
    emitted.remember(1, OTHER)
    assert (emitted.recall(1), emitted.recall(2), emitted.recall(3)) == (OTHER, OTHER, None)


def test_the_least_recently_used_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppressed_hello, "EMITTED_HELLOS", 2)
    emitted = EmittedHellos()
    emitted.remember(1, HELLO)
    emitted.remember(2, OTHER)
    emitted.recall(1)
    emitted.remember(3, HELLO)
    assert [emitted.recall(n) for n in (1, 2, 3)] == [HELLO, None, HELLO]
    assert len(emitted) == 2


@pytest.mark.parametrize("size", [1, 8, 9, 31, 32])
def test_a_session_id_is_recognised_by_its_hash(size: int) -> None:
    seed, session_id = 0x5EED, bytes(range(1, size + 1))
    suppressed = SuppressedHello(1, session_id_hash(session_id, seed), 0, seed)
    assert suppressed.has_session_id(session_id)
    assert not suppressed.has_session_id(session_id[:-1] + b"\0")
    assert not suppressed.has_session_id(session_id[:-1])


def test_an_empty_session_id_is_never_recognised() -> None:
    assert not SuppressedHello(1, 0, 0, 0x5EED).has_session_id(b"")


def test_a_hello_that_takes_much_memory_is_not_remembered() -> None:
    emitted = EmittedHellos()
    large = parse_client_hello(client_hello(suites=bytes(900)))
    assert large.memory > EMITTED_HELLO_BYTES
    assert emitted.remember(1, HELLO)
    assert not emitted.remember(2, large)
    assert emitted.recall(2) is None

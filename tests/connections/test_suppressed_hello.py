"""What the agent remembers of ClientHellos that the kernel may hide."""

from __future__ import annotations

import pytest

from deckwire.connections import suppressed_hello as suppressed_hello
from deckwire.connections.suppressed_hello import EmittedHellos, SuppressedHello, session_id_hash
from deckwire.limits import TOLD_HELLO_BYTES
from deckwire.tls.messages import parse_client_hello
from tests.support.flights import client_hello

HELLO, OTHER = (parse_client_hello(client_hello(suites=suites)) for suites in (b"\0\1", b"\0\2"))


def test_a_hello_is_recalled_by_its_signature() -> None:
    told = EmittedHellos()
    told.remember(1, HELLO)
    told.remember(2, OTHER)
    told.remember(1, OTHER)
    assert (told.recall(1), told.recall(2), told.recall(3)) == (OTHER, OTHER, None)


def test_the_one_not_seen_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppressed_hello, "EMITTED_HELLOS", 2)
    told = EmittedHellos()
    told.remember(1, HELLO)
    told.remember(2, OTHER)
    told.recall(1)
    told.remember(3, HELLO)
    assert [told.recall(n) for n in (1, 2, 3)] == [HELLO, None, HELLO]
    assert len(told) == 2


@pytest.mark.parametrize("size", [1, 8, 9, 31, 32])
def test_a_session_id_is_known_by_its_hash(size: int) -> None:
    seed, session_id = 0x5EED, bytes(range(1, size + 1))
    hidden = SuppressedHello(1, session_id_hash(session_id, seed), 0, seed)
    assert hidden.has_session_id(session_id)
    assert not hidden.has_session_id(session_id[:-1] + b"\0")
    assert not hidden.has_session_id(session_id[:-1])


def test_no_session_id_is_nobodys() -> None:
    assert not SuppressedHello(1, 0, 0, 0x5EED).has_session_id(b"")


def test_a_hello_that_takes_much_memory_is_not_remembered() -> None:
    told = EmittedHellos()
    large = parse_client_hello(client_hello(suites=bytes(900)))
    assert large.memory > TOLD_HELLO_BYTES
    assert told.remember(1, HELLO)
    assert not told.remember(2, large)
    assert told.recall(2) is None

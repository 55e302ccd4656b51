from __future__ import annotations

from deckwire.events.memo import Described
from deckwire.limits import HELLO_CACHED_BYTES
from deckwire.tls.hello_cache import is_short
from deckwire.tls.messages import ClientHello, parse_client_hello
from tests.support.flights import client_hello, u16


def hello(suite: int = 1, padding: int = 0) -> ClientHello:
    return parse_client_hello(client_hello((21, bytes(padding)), suites=u16(suite)))


class Counted:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, hello: ClientHello) -> tuple[int, ...]:
        self.calls += 1
        return hello.cipher_suites


def test_one_object_is_described_once() -> None:
    describe = Counted()
    described = Described(describe)
    one, other = hello(), hello()
    assert one == other
    assert described(one) == described(one) == (1,)
    assert describe.calls == 1
    described(other)
    assert describe.calls == 2


def test_a_reused_id_is_never_a_dead_object() -> None:
    described = Described(Counted(), entries=1)
    for suite in range(1, 200):
        assert described(hello(suite)) == (suite,)
    assert len(described) == 1


def test_a_refused_object_is_not_kept() -> None:
    described = Described(Counted(), keeps=is_short)
    assert described(hello(7, padding=HELLO_CACHED_BYTES)) == (7,)
    assert len(described) == 0

"""The fields of a ClientHello, and that remembering them changes none."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deckwire.events.choices import Choices
from deckwire.events.client import ClientCache, describe, wire_text
from deckwire.limits import CLIENT_CACHED_ITEMS, CLIENT_CACHED_TEXT
from deckwire.tls.errors import Malformed
from deckwire.tls.messages import ClientHello, parse_client_hello
from tls.flights import client_hello, handshake, u16, vector

CHOICES = [Choices(), Choices(raw_fingerprints=True), Choices(decnet=True)]


def real(version: ssl.TLSVersion) -> bytes:
    """The body of a hello by OpenSSL."""
    return handshake(version).client[9:][: int.from_bytes(handshake(version).client[6:9], "big")]


TLS12, TLS13 = real(ssl.TLSVersion.TLSv1_2), real(ssl.TLSVersion.TLSv1_3)


def hello(*extensions: tuple[int, bytes], suites: bytes = u16(0x1301)) -> ClientHello:
    return parse_client_hello(client_hello(*extensions, suites=suites))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_cache_never_tells_the_fields_of_another_hello(data: st.DataObject) -> None:
    """Hellos that differ in one place each, through one cache."""
    choices = data.draw(st.sampled_from(CHOICES))
    cache = ClientCache(choices)
    for _ in range(4):
        body = bytearray(data.draw(st.sampled_from([TLS12, TLS13])))
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.booleans())
        end = data.draw(st.integers(34, len(body))) if cut else len(body)
        try:
            parsed = parse_client_hello(bytes(body[:end]), cut=cut)
        except Malformed:
            continue
        assert cache.describe(parsed) == describe(parsed, choices)


@pytest.mark.parametrize("body", [TLS12, TLS13])
def test_what_differs_from_hello_to_hello_of_one_client_is_one_entry(body: bytes) -> None:
    cache = ClientCache(Choices())
    first = cache.describe(parse_client_hello(body))
    again = parse_client_hello(body[:2] + bytes(32) + body[34:])
    assert again.random != parse_client_hello(body).random
    assert cache.describe(again) is first
    assert len(cache) == 1


def test_session_ids_and_tickets_count_by_presence() -> None:
    cache = ClientCache(Choices())
    for ticket in (b"one", b"another"):
        for session_id in (b"\1" * 32, b"\2" * 32):
            cache.describe(parse_client_hello(client_hello((35, ticket), session_id=session_id)))
    assert len(cache) == 1
    cache.describe(hello((35, b"")))
    assert len(cache) == 2


def test_the_one_silent_for_longest_makes_room() -> None:
    cache = ClientCache(Choices(), entries=2)
    one, two, three = (hello(suites=u16(n)) for n in (1, 2, 3))
    kept = cache.describe(one)
    cache.describe(two)
    assert cache.describe(one) is kept
    cache.describe(three)
    assert len(cache) == 2
    assert cache.describe(one) is kept


@pytest.mark.parametrize(
    "extensions",
    [
        [(n, b"") for n in range(100, 100 + CLIENT_CACHED_ITEMS)],
        [(10, vector(2, u16(*range(CLIENT_CACHED_ITEMS))))],
        [(0, vector(2, b"\0" + vector(2, b"a" * (CLIENT_CACHED_TEXT + 1))))],
        [(16, vector(2, (b"\xff" + b"a" * 255) * 5))],
    ],
)
def test_long_hellos_are_not_kept(extensions: list[tuple[int, bytes]]) -> None:
    cache = ClientCache(Choices())
    long = hello(*extensions)
    assert cache.describe(long) == describe(long, Choices())
    assert len(cache) == 0


def test_bytes_that_are_not_utf8_can_be_had_back() -> None:
    assert wire_text(b"\xff\x00\xc3\xa9").encode("utf-8", "surrogateescape") == b"\xff\x00\xc3\xa9"

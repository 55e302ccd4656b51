from __future__ import annotations

import random
import ssl
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deckwire.events import client as client_fields
from deckwire.events import server as server_fields
from deckwire.events.choices import Choices
from deckwire.limits import HELLO_CACHED_BYTES, HELLO_LAYOUTS
from deckwire.tls.errors import Malformed
from deckwire.tls.hello_cache import (
    Bearing,
    HelloCache,
    Recognition,
    client_bearing,
    server_bearing,
    session_id,
)
from deckwire.tls.messages import HELLO_RETRY_REQUEST, parse_client_hello, parse_server_hello
from tests.support.flights import client_hello, handshake, server_hello, u16, vector

CHOICES = Choices(raw_fingerprints=True)


def told(bearing: Bearing | None) -> bytes | None:
    return None if bearing is None else bearing.described


def body(flight: bytes) -> bytes:
    """The first message's body of a flight by OpenSSL."""
    return flight[9:][: int.from_bytes(flight[6:9], "big")]


VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
CLIENTS = [body(handshake(version).client) for version in VERSIONS]
SERVERS = [body(handshake(version).server) for version in VERSIONS]


def share(*keys: tuple[int, bytes]) -> tuple[int, bytes]:
    return 51, vector(2, b"".join(u16(group) + vector(2, key) for group, key in keys))


KINDS = [
    client_hello(
        share((29, b"a" * 9), (23, b"b" * 20)), (35, b"ticket"), (16, vector(2, vector(1, b"h2")))
    ),
    client_hello(
        (44, b"cookie"), (51, u16(29)), (35, b""), (41, b"identity"), session_id=b"\1" * 8
    ),
    client_hello((0x1A1A, b"\0"), (0xFE0D, b"inner"), (21, bytes(9))),
    client_hello(),
]


def told_client(hello: Any) -> Any:
    return client_fields.describe(hello, CHOICES)


def told_server(hello: Any) -> Any:
    return server_fields.describe(hello, CHOICES), hello.is_hello_retry_request, hello.trailing


def outcome(parse: Callable[[bytes], Any], told: Callable[[Any], Any], data: bytes) -> Any:
    try:
        return told(parse(data))
    except Malformed:
        return "malformed"


@settings(max_examples=400)
@given(st.data())
def test_a_cache_never_tells_the_fields_of_another_hello(data: st.DataObject) -> None:
    """Hellos that differ from real ones in a place or two, all through one cache."""
    cache = HelloCache()
    for _ in range(5):
        for originals, cached, parse, told in (
            (CLIENTS, cache.client, parse_client_hello, told_client),
            (SERVERS, cache.server, parse_server_hello, told_server),
        ):
            changed = bytearray(data.draw(st.sampled_from(originals)))
            for _ in range(data.draw(st.integers(0, 2))):
                at = data.draw(st.integers(0, len(changed) - 1))
                changed[at] = data.draw(st.integers(0, 255))
            end = data.draw(st.one_of(st.just(len(changed)), st.integers(0, len(changed))))
            wire = bytes(changed[:end]) + data.draw(st.sampled_from([b"", b"", b"\0"]))
            assert outcome(cached, told, wire) == outcome(parse, told, wire)


@settings(max_examples=400)
@given(st.data())
def test_a_kind_recognised_by_the_last_of_its_length_is_its_own(data: st.DataObject) -> None:
    """Also where bytes change that the layout stands in: lengths, kinds, a retry's random."""
    bearing_of, originals = data.draw(
        st.sampled_from([(client_bearing, CLIENTS + KINDS), (server_bearing, SERVERS)])
    )
    recognition = Recognition(bearing_of)
    original = data.draw(st.sampled_from(originals))
    for _ in range(6):
        changed = bytearray(original)
        for at in data.draw(st.lists(st.integers(0, len(changed) - 1), max_size=3)):
            changed[at] = data.draw(st.integers(0, 3) | st.integers(0, 255))
        if data.draw(st.booleans()):
            changed[2:34] = data.draw(st.sampled_from([HELLO_RETRY_REQUEST, bytes(32)]))
        assert recognition(bytes(changed)) == told(bearing_of(bytes(changed)))


@pytest.mark.parametrize("original", CLIENTS + KINDS)
def test_only_what_counts_is_compared(original: bytes) -> None:
    bearing = client_bearing(original)
    assert bearing is not None
    changed = bytearray(original)
    for start, end in bearing.opaque:
        changed[start:end] = bytes(byte ^ 0xFF for byte in changed[start:end])
    asked: list[bytes] = []

    def bearing_of(wire: bytes) -> Bearing | None:
        asked.append(wire)
        return client_bearing(wire)

    recognition = Recognition(bearing_of)
    assert recognition(original) == recognition(bytes(changed)) == bearing.described
    assert asked == [original]


def test_layouts_are_bounded() -> None:
    recognition = Recognition(client_bearing)
    for length in range(3 * HELLO_LAYOUTS):
        assert recognition(client_hello((0xFF00, bytes(length))))
        assert len(recognition) <= HELLO_LAYOUTS


@pytest.mark.parametrize("bearing", [client_bearing, server_bearing])
@given(wire=st.binary(max_size=300))
def test_no_bytes_upset_it(bearing: Callable[[bytes], Bearing | None], wire: bytes) -> None:
    found = bearing(wire)
    assert found is None or len(found.described) <= len(wire) + 2


@pytest.mark.parametrize("original", CLIENTS)
def test_clients_of_a_kind_are_one_object(original: bytes) -> None:
    cache = HelloCache()
    first = cache.client(original)
    assert cache.client(original[:2] + bytes(32) + original[34:]) is first
    assert len(cache) == 1


@pytest.mark.parametrize("original", SERVERS)
def test_servers_of_a_kind_are_one_object(original: bytes) -> None:
    cache = HelloCache()
    first = cache.server(original)
    assert cache.server(original[:2] + bytes(32) + original[34:]) is first
    assert not first.is_hello_retry_request
    assert cache.server(original[:2] + HELLO_RETRY_REQUEST + original[34:]).is_hello_retry_request


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ([share((29, b"a" * 32))], [share((29, b"b" * 32))], True),
        ([share((29, b"a" * 32))], [share((23, b"a" * 32))], False),
        ([share((29, b"a"), (23, b"b"))], [share((29, b"a"))], False),
        ([(35, b"ticket")], [(35, b"another one")], True),
        ([(35, b"ticket")], [(35, b"")], False),
        ([(41, b"identity")], [(41, b"other")], True),
        ([(41, b"identity")], [], False),
        ([(21, bytes(9))], [(21, bytes(200))], True),
        ([(0xFE0D, b"inner")], [(0xFE0D, b"outer hello")], True),
        ([(0x0A0A, b"")], [(0xFAFA, b"\0")], True),
        ([(0x0A0A, b"")], [], True),
        ([(5, b"\1")], [(5, b"\2")], False),
        ([(16, vector(2, vector(1, b"h2")))], [(16, vector(2, vector(1, b"h3")))], False),
        ([(18, b""), (23, b"")], [(23, b""), (18, b"")], False),
        ([share((29, b"a"), (41, b"b"))], [share((29, b"a")), (41, b"identity")], False),
        ([(51, u16(0x0101)), (41, b"")], [share((0x0029, b"a"))], False),
    ],
)
def test_what_counts_is_what_is_told(one: Any, other: Any, alike: bool) -> None:
    bearings = {told(client_bearing(client_hello(*extensions))) for extensions in (one, other)}
    assert None not in bearings
    assert (len(bearings) == 1) is alike


def test_session_ids_count_by_presence_and_can_be_read() -> None:
    with_ids = [client_hello(session_id=bytes([n]) * 32) for n in (1, 2)]
    assert told(client_bearing(with_ids[0])) == told(client_bearing(with_ids[1]))
    assert told(client_bearing(with_ids[0])) != told(client_bearing(client_hello()))
    assert [session_id(wire) for wire in with_ids] == [b"\1" * 32, b"\2" * 32]
    assert session_id(server_hello(session_id=b"\3" * 8)) == b"\3" * 8


@pytest.mark.parametrize(("cached", "build"), [("client", client_hello), ("server", server_hello)])
def test_a_session_id_that_is_too_long_is_malformed_each_time(
    cached: str, build: Callable[..., bytes]
) -> None:
    take = getattr(HelloCache(), cached)
    take(build(session_id=bytes(32)))
    with pytest.raises(Malformed):
        take(build(session_id=bytes(33)))


def test_early_drafts_have_no_session_id() -> None:
    draft = b"\x7f\x12" + bytes(32) + u16(0x1301) + vector(2, b"")
    assert parse_server_hello(draft).session_id == session_id(draft) == b""
    assert server_bearing(draft) is None


@pytest.mark.parametrize("build", [client_hello, server_hello])
def test_of_a_cut_hello_the_session_id_is_what_is_there(build: Callable[..., bytes]) -> None:
    whole = build(session_id=bytes(range(32)))
    for end in range(len(whole)):
        assert session_id(whole[:end]) == bytes(range(32))[: max(end - 35, 0)]


def test_the_one_seen_longest_ago_makes_room() -> None:
    cache = HelloCache(entries=2)
    one, two, three = (client_hello(suites=u16(n)) for n in (1, 2, 3))
    kept = cache.client(one)
    cache.client(two)
    assert cache.client(one) is kept
    cache.client(three)
    assert len(cache) == 2
    assert cache.client(one) is kept


_MADE_FOR_IT: dict[str, Callable[[int], bytes]] = {
    "usual": lambda n: client_hello((0, vector(2, b"\0" + vector(2, b"%020d" % n)))),
    "cipher suites": lambda n: client_hello(suites=random.Random(n).randbytes(1_800)),
    "extensions": lambda n: client_hello(
        *((kind, b"") for kind in random.Random(n).sample(range(20_000, 60_000), 400))
    ),
    "extensions with a body": lambda n: client_hello(
        *((kind, b"xy") for kind in random.Random(n).sample(range(20_000, 60_000), 300))
    ),
    "protocols": lambda n: client_hello(
        (16, vector(2, b"".join(b"\2" + random.Random(n + i).randbytes(2) for i in range(600))))
    ),
    "groups": lambda n: client_hello((10, vector(2, random.Random(n).randbytes(1_800)))),
}


@pytest.mark.parametrize("kind", _MADE_FOR_IT)
def test_memory_is_what_the_bound_says(kind: str) -> None:
    """Of hellos that are all different, whatever stands in them."""
    bodies = [_MADE_FOR_IT[kind](n) for n in range(400)]
    held = 1_048_576
    tracemalloc.start()
    try:
        cache = HelloCache(held=held)
        for body in bodies:
            cache.client(body)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0 < len(cache) <= len(bodies)
    assert used < 1.1 * held


def test_the_estimate_of_memory_is_near_the_truth() -> None:
    usual = _MADE_FOR_IT["usual"]
    bodies = [usual(n) for n in range(400)]
    tracemalloc.start()
    try:
        cache = HelloCache()
        estimates = [cache.client(body).memory for body in bodies]
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache) == len(bodies)
    assert 0.9 * used < sum(estimates) < 3 * used


def test_long_hellos_are_not_kept() -> None:
    cache = HelloCache()
    wire = client_hello((21, bytes(HELLO_CACHED_BYTES)))
    assert cache.client(wire) == parse_client_hello(wire)
    assert len(cache) == 0

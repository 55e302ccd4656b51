"""The hello cache returns a hello only for bytes that give the same fields."""

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
    HelloCache,
    Key,
    RepeatedKeys,
    client_key,
    server_key,
    session_id,
)
from deckwire.tls.messages import (
    HELLO_RETRY_REQUEST,
    parse_certificate,
    parse_client_hello,
    parse_server_hello,
)
from tests.support.flights import client_hello, handshake, server_hello, u16, vector

CHOICES = Choices(raw_fingerprints=True)


def body(flight: bytes) -> bytes:
    """Return the body of the first message in a flight."""
    return flight[9:][: int.from_bytes(flight[6:9], "big")]


VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
CLIENTS = [body(handshake(version).client) for version in VERSIONS]
SERVERS = [body(handshake(version).server) for version in VERSIONS]


def share(*keys: tuple[int, bytes]) -> tuple[int, bytes]:
    """Return the key_share extension of a ClientHello."""
    return 51, vector(2, b"".join(u16(group) + vector(2, key) for group, key in keys))


CLIENTS += [
    client_hello(
        share((29, b"a" * 9), (23, b"b" * 20)), (35, b"ticket"), (16, vector(2, vector(1, b"h2")))
    ),
    client_hello(
        (44, b"cookie"), (51, u16(29)), (35, b""), (41, b"identity"), session_id=b"\1" * 8
    ),
    client_hello((0x1A1A, b"\0"), (0xFE0D, b"inner"), (21, bytes(9))),
    client_hello(),
]
SERVERS += [
    server_hello((51, u16(29)), (43, u16(0x0304)), random=HELLO_RETRY_REQUEST),
    server_hello((0x1A1A, b""), (51, u16(29) + vector(2, b"a" * 9)), (35, b"")),
]
# Tests are named by number, because the hellos of a library have other bytes each time.
KEYED_CLIENTS = [wire for wire in CLIENTS if client_key(wire)]
KEYED = [(client_key, wire) for wire in KEYED_CLIENTS] + [(server_key, wire) for wire in SERVERS]


def client_outcome(hello: Any) -> Any:
    return client_fields.describe(hello, CHOICES)


def server_outcome(hello: Any) -> Any:
    described = server_fields.describe(hello, CHOICES)
    return described, hello.is_hello_retry_request, hello.trailing, hello.has_pre_shared_key


def value(key: Key | None) -> bytes | None:
    return None if key is None else key.value


def outcome(parse: Callable[[bytes], Any], fields: Callable[[Any], Any], data: bytes) -> Any:
    try:
        return fields(parse(data))
    except Malformed:
        return "malformed"


@settings(max_examples=600)
@given(st.data())
def test_a_cached_hello_has_the_fields_of_a_parsed_one(data: st.DataObject) -> None:
    """Hellos that differ from each other in a few bytes go through one cache."""
    cache = HelloCache()
    originals, cached, parse, fields = data.draw(
        st.sampled_from(
            [
                (CLIENTS, cache.client, parse_client_hello, client_outcome),
                (SERVERS, cache.server, parse_server_hello, server_outcome),
            ]
        )
    )
    original = data.draw(st.sampled_from(originals))
    for _ in range(8):
        changed = bytearray(original)
        for at in data.draw(st.lists(st.integers(0, len(changed) - 1), max_size=2)):
            changed[at] = data.draw(st.integers(0, 3) | st.integers(0, 255))
        if data.draw(st.booleans()):
            changed[2:34] = data.draw(st.sampled_from([HELLO_RETRY_REQUEST, bytes(32)]))
        end = data.draw(st.one_of(st.just(len(changed)), st.integers(0, len(changed))))
        wire = bytes(changed[:end]) + data.draw(st.sampled_from([b"", b"", b"\0"]))
        assert outcome(cached, fields, wire) == outcome(parse, fields, wire)


@pytest.mark.parametrize("key_of", [client_key, server_key])
@given(wire=st.binary(max_size=300))
def test_any_bytes_have_a_bounded_key_or_none(
    key_of: Callable[[bytes], Key | None], wire: bytes
) -> None:
    key = key_of(wire)
    assert key is None or len(key.value) <= len(wire) + 2


@settings(max_examples=600)
@given(st.data())
def test_a_repeated_key_is_the_key_itself(data: st.DataObject) -> None:
    """The changed bytes include lengths, types and the random value of a retry request."""
    key_of, originals = data.draw(st.sampled_from([(client_key, CLIENTS), (server_key, SERVERS)]))
    repeated = RepeatedKeys(key_of)
    original = data.draw(st.sampled_from(originals))
    for _ in range(6):
        changed = bytearray(original)
        for at in data.draw(st.lists(st.integers(0, len(changed) - 1), max_size=3)):
            changed[at] = data.draw(st.integers(0, 3) | st.integers(0, 255))
        if data.draw(st.booleans()):
            changed[2:34] = data.draw(st.sampled_from([HELLO_RETRY_REQUEST, bytes(32)]))
        assert repeated.value(bytes(changed)) == value(key_of(bytes(changed)))


@pytest.mark.parametrize(("key_of", "original"), KEYED, ids=range(len(KEYED)))
def test_ignored_bytes_need_no_new_key(
    key_of: Callable[[bytes], Key | None], original: bytes
) -> None:
    key = key_of(original)
    assert key is not None
    changed = bytearray(original)
    for start, end in key.ignored[1:]:  # all but the random value, which may be a retry request's
        changed[start:end] = bytes(byte ^ 0xFF for byte in changed[start:end])
    computed: list[bytes] = []

    def compute(wire: bytes) -> Key | None:
        computed.append(wire)
        return key_of(wire)

    repeated = RepeatedKeys(compute)
    assert repeated.value(original) == repeated.value(bytes(changed)) == key.value
    assert computed == [original]


def test_lengths_of_hellos_evict_one_at_a_time() -> None:
    repeated = RepeatedKeys(client_key)
    for length in range(3 * HELLO_LAYOUTS):
        assert repeated.value(client_hello((0xFF00, bytes(length))))
        assert len(repeated) == min(length + 1, HELLO_LAYOUTS)


@pytest.mark.parametrize("original", KEYED_CLIENTS, ids=range(len(KEYED_CLIENTS)))
def test_equal_client_hellos_are_one_object(original: bytes) -> None:
    cache = HelloCache()
    first = cache.client(original)
    assert cache.client(original[:2] + bytes(32) + original[34:]) is first
    assert len(cache) == 1


@pytest.mark.parametrize("original", SERVERS, ids=range(len(SERVERS)))
def test_equal_server_hellos_are_one_object(original: bytes) -> None:
    cache = HelloCache()
    first = cache.server(original[:2] + b"a" * 32 + original[34:])
    assert cache.server(original[:2] + bytes(32) + original[34:]) is first
    assert not first.is_hello_retry_request
    assert cache.server(original[:2] + HELLO_RETRY_REQUEST + original[34:]).is_hello_retry_request


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ([share((29, b"a" * 32))], [share((29, b"b" * 32))], True),
        ([share((29, b"a" * 32))], [share((23, b"a" * 32))], True),
        ([share((29, b"a"), (23, b"b"))], [share((29, b"a"))], True),
        ([share((29, b"a"))], [], False),
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
    ],
)
def test_a_client_key_holds_what_events_use(one: Any, other: Any, equal: bool) -> None:
    keys = {value(client_key(client_hello(*extensions))) for extensions in (one, other)}
    assert None not in keys
    assert (len(keys) == 1) is equal


@pytest.mark.parametrize("key_share", [u16(29), b"", b"\0", share((29, b"a"))[1][:-1]])
def test_a_malformed_key_share_has_no_key(key_share: bytes) -> None:
    wire = client_hello((51, key_share))
    assert client_key(wire) is None
    assert parse_client_hello(wire).malformed_extensions == (51,)


def test_grease_in_a_server_hello_counts() -> None:
    """JA3S keeps the GREASE that JA3 drops."""
    cache = HelloCache()
    wires = [server_hello((23, b"")), server_hello((0x0A0A, b""), (23, b""))]
    hellos = [cache.server(wire) for wire in wires]
    assert hellos == [parse_server_hello(wire) for wire in wires]


def test_a_key_share_of_a_server_counts_by_presence() -> None:
    one, other = (server_hello((51, u16(29) + vector(2, key))) for key in (b"a", b"b"))
    assert value(server_key(one)) == value(server_key(other))
    assert value(server_key(one)) != value(server_key(server_hello()))


def test_session_ids_count_by_presence_and_can_be_read() -> None:
    with_ids = [client_hello(session_id=bytes([n]) * 32) for n in (1, 2)]
    assert value(client_key(with_ids[0])) == value(client_key(with_ids[1]))
    assert value(client_key(with_ids[0])) != value(client_key(client_hello()))
    assert [session_id(wire) for wire in with_ids] == [b"\1" * 32, b"\2" * 32]
    assert session_id(server_hello(session_id=b"\3" * 8)) == b"\3" * 8


def test_a_session_id_that_is_too_long_is_never_taken_for_a_shorter_one() -> None:
    cache = HelloCache()
    cache.client(client_hello(session_id=bytes(32)))
    assert cache.client(client_hello(session_id=bytes(33))).session_id == bytes(33)
    cache.server(server_hello(session_id=bytes(32)))
    assert cache.server(server_hello(session_id=bytes(33))).session_id == bytes(33)


def test_early_drafts_have_no_session_id() -> None:
    draft = b"\x7f\x12" + bytes(32) + u16(0x1301) + vector(2, b"")
    assert parse_server_hello(draft).session_id == session_id(draft) == b""
    assert server_key(draft) is None


@pytest.mark.parametrize("build", [client_hello, server_hello])
def test_a_cut_hello_has_the_start_of_its_session_id(build: Callable[..., bytes]) -> None:
    whole = build(session_id=bytes(range(32)))
    for end in range(len(whole)):
        assert session_id(whole[:end]) == bytes(range(32))[: max(end - 35, 0)]


def test_the_least_recently_used_hello_is_evicted() -> None:
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


def test_many_different_hellos_evict_one_at_a_time() -> None:
    cache = HelloCache(entries=50)
    usual = client_hello()
    kept = cache.client(usual)
    for number in range(500):
        cache.client(client_hello((0xFF00, number.to_bytes(2, "big"))))
        assert len(cache) == min(number + 2, 50)
        assert cache.client(usual) is kept


def test_long_hellos_are_not_kept() -> None:
    cache = HelloCache()
    wire = client_hello((21, bytes(HELLO_CACHED_BYTES)))
    assert cache.client(wire) == parse_client_hello(wire)
    assert len(cache) == 0


def test_a_chain_that_comes_again_is_the_same_object() -> None:
    cache = HelloCache()
    first = vector(3, vector(3, b"leaf") + vector(3, b"authority"))
    other = vector(3, vector(3, b"fake") + vector(3, b"authority"))
    chain = cache.chain(first)
    assert chain == parse_certificate(first)
    assert cache.chain(bytes(bytearray(first))) is chain
    assert cache.chain(other) == parse_certificate(other)
    assert cache.chain(first) == chain


@pytest.mark.parametrize("malformed", [b"", vector(3, vector(3, b"")), b"\0\0\4\0\0\1"])
def test_a_malformed_chain_is_refused_each_time(malformed: bytes) -> None:
    cache = HelloCache()
    for _ in range(2):
        with pytest.raises(Malformed):
            cache.chain(malformed)
        cache.chain(vector(3, vector(3, b"leaf")))

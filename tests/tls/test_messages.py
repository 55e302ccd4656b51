"""Hellos and Certificate messages: from OpenSSL, built by hand, cut, and mutated."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.limits import CERTIFICATES
from deckwire.tls.errors import Malformed
from deckwire.tls.messages import (
    CertificateMessage,
    ClientHello,
    ServerHello,
    parse_certificate,
    parse_client_hello,
    parse_server_hello,
)
from deckwire.tls.records import RecordReader
from tests.support.flights import (
    NAME,
    client_hello,
    extension_block,
    handshake,
    identity,
    server_hello,
    u16,
    vector,
)

TLS12 = ssl.TLSVersion.TLSv1_2
TLS13 = ssl.TLSVersion.TLSv1_3


def bodies(flight: bytes, kind: int) -> list[bytes]:
    return [m.body for m in RecordReader().feed(flight) if m.type == kind]


REAL = bodies(handshake(TLS13).client, 1)[0]


def test_a_client_hello_of_openssl_is_parsed() -> None:
    hello = parse_client_hello(REAL)
    assert hello.legacy_version == 0x0303
    assert REAL[2:34] == hello.random
    assert len(hello.session_id) == 32
    assert set(hello.cipher_suites) >= {0x1301, 0x1302, 0x1303}
    assert hello.server_name == NAME.encode()
    assert hello.alpn == (b"h2", b"http/1.1")
    assert hello.supported_versions == (0x0304,)
    assert hello.supported_groups[:2] == (29, 23)
    assert hello.ec_point_formats == (0, 1, 2)
    assert hello.signature_algorithms[0] == 0x0403
    assert hello.has_session_ticket is False
    assert (hello.has_pre_shared_key, hello.has_early_data) == (False, False)
    assert hello.has_encrypted_client_hello is False
    assert (hello.malformed_extensions, hello.trailing, hello.cut) == ((), 0, False)
    assert REAL.endswith(extension_block(*hello.extensions))


def test_resumption_shows_in_hellos_of_openssl() -> None:
    flight = handshake(TLS12, resumed=True)
    client = parse_client_hello(bodies(flight.client, 1)[0])
    server = parse_server_hello(bodies(flight.server, 2)[0])
    assert client.has_session_ticket
    assert server.session_id == client.session_id != b""
    assert not bodies(flight.server, 11)


def test_a_server_hello_of_openssl_is_parsed() -> None:
    hello = parse_server_hello(bodies(handshake(TLS12).server, 2)[0])
    assert hello.legacy_version == 0x0303
    assert hello.cipher_suite in {0xC02B, 0xC02C, 0xCCA9}
    assert hello.alpn == b"http/1.1"
    assert hello.selected_version is None
    assert (hello.has_pre_shared_key, hello.is_hello_retry_request) == (False, False)
    hello = parse_server_hello(bodies(handshake(TLS13).server, 2)[0])
    assert (hello.legacy_version, hello.selected_version) == (0x0303, 0x0304)
    assert hello.alpn is None


def test_a_hello_retry_request_of_openssl_is_recognised() -> None:
    flight = handshake(TLS13, retry=True)
    hello = parse_server_hello(bodies(flight.server, 2)[0])
    assert hello.is_hello_retry_request


def test_certificate_messages_of_openssl_are_parsed() -> None:
    flight = handshake(TLS12, mutual=True)
    der = identity()[1]
    for side in flight:
        (body,) = bodies(side, 11)
        message = parse_certificate(body)
        assert message == CertificateMessage((der,), chain_length=1)


def test_a_hello_may_have_no_extensions() -> None:
    hello = parse_client_hello(client_hello(version=0x0300, suites=u16(4, 5, 10)))
    assert (hello.legacy_version, hello.cipher_suites) == (0x0300, (4, 5, 10))
    assert (hello.extensions, hello.alpn, hello.server_name) == ((), (), None)
    server = parse_server_hello(server_hello(version=0x0301))
    assert (server.legacy_version, server.extensions) == (0x0301, ())


@pytest.mark.parametrize("size", [33, 255])
def test_a_session_id_that_is_too_long_leaves_the_rest_of_a_client_hello_readable(
    size: int,
) -> None:
    extensions = ((0, vector(2, b"\0" + vector(2, b"decoy.example"))), (23, b""))
    usual = parse_client_hello(client_hello(*extensions))
    odd = parse_client_hello(client_hello(*extensions, session_id=bytes(size)))
    assert odd.session_id == bytes(size)
    assert (odd.server_name, odd.cipher_suites) == (usual.server_name, usual.cipher_suites)
    assert odd.extensions == usual.extensions


def test_empty_lists_pass() -> None:
    hello = parse_client_hello(client_hello(suites=b"", compression=b"") + b"\0\0")
    assert (hello.cipher_suites, hello.extensions) == ((), ())


def test_bytes_after_the_extensions_are_counted() -> None:
    assert parse_client_hello(client_hello((23, b"")) + b"abc").trailing == 3
    assert parse_server_hello(server_hello((23, b"")) + b"a").trailing == 1


def test_offers_show_in_extensions() -> None:
    hello = parse_client_hello(
        client_hello((35, b"ticket"), (41, b""), (42, b""), (0xFE0D, b"x"), (0, b""))
    )
    assert hello.has_session_ticket
    assert hello.has_pre_shared_key
    assert hello.has_early_data
    assert hello.has_encrypted_client_hello
    assert hello.server_name is None


def host(name: bytes, kind: int = 0) -> bytes:
    return bytes([kind]) + vector(2, name)


GOOD_BODIES: list[tuple[int, bytes, str, object]] = [
    (0, vector(2, host(b"a.example")), "server_name", b"a.example"),
    (0, vector(2, host(b"x", 7) + host(b"a") + host(b"b")), "server_name", b"a"),
    (0, vector(2, host(b"x", 7)), "server_name", None),
    (10, vector(2, u16(0x0A0A, 29)), "supported_groups", (0x0A0A, 29)),
    (11, vector(1, b"\0\1"), "ec_point_formats", (0, 1)),
    (13, vector(2, u16(0x0403)), "signature_algorithms", (0x0403,)),
    (16, vector(2, vector(1, b"h2") + vector(1, b"")), "alpn", (b"h2", b"")),
    (16, vector(2, b""), "alpn", ()),
    (43, vector(1, u16(0x7F1C, 0x0304)), "supported_versions", (0x7F1C, 0x0304)),
]
KEY_SHARES = vector(2, u16(0x11EC) + vector(2, bytes(1216)) + u16(29) + vector(2, bytes(32)))


@pytest.mark.parametrize(("kind", "body", "field", "value"), GOOD_BODIES)
def test_an_extension_body_is_parsed(kind: int, body: bytes, field: str, value: object) -> None:
    hello = parse_client_hello(client_hello((kind, body)))
    assert getattr(hello, field) == value
    assert hello.malformed_extensions == ()


@pytest.mark.parametrize(
    ("body", "malformed"),
    [(KEY_SHARES, ()), (KEY_SHARES[:-1], (51,)), (KEY_SHARES + b"\0", (51,)), (b"", (51,))],
)
def test_a_key_share_is_checked(body: bytes, malformed: tuple[int, ...]) -> None:
    assert parse_client_hello(client_hello((51, body))).malformed_extensions == malformed


@pytest.mark.parametrize(("kind", "body", "field", "value"), GOOD_BODIES)
@pytest.mark.parametrize("harm", [lambda b: b[:-1], lambda b: b + b"\0", lambda _: b""])
def test_a_malformed_extension_does_not_lose_the_hello(
    kind: int, body: bytes, field: str, value: object, harm: Callable[[bytes], bytes]
) -> None:
    harmed = harm(body)
    hello = parse_client_hello(client_hello((kind, harmed), (23, b"")))
    assert hello.malformed_extensions == (kind,)
    assert getattr(hello, field) in ((), None)
    assert hello.extensions == ((kind, harmed), (23, b""))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (10, vector(2, b"\0\x1d\0")),
        (13, vector(2, b"\4")),
        (16, vector(2, b"\5h2")),
        (0, vector(2, b"\0\0\5abc")),
        (0, vector(2, b"\0\0")),
        (51, vector(2, u16(29) + b"\0\x20abc")),
    ],
)
def test_a_list_whose_items_do_not_fit_is_malformed(kind: int, body: bytes) -> None:
    assert parse_client_hello(client_hello((kind, body))).malformed_extensions == (kind,)


def test_the_last_of_a_repeated_extension_counts() -> None:
    hello = parse_client_hello(
        client_hello(
            (10, vector(2, u16(23))),
            (11, vector(1, b"\0")),
            (10, vector(2, u16(24, 25))),
            (11, vector(1, b"\1\2")),
        )
    )
    assert hello.supported_groups == (24, 25)
    assert hello.ec_point_formats == (1, 2)
    assert [kind for kind, _ in hello.extensions] == [10, 11, 10, 11]


def test_only_extension_13_gives_signature_algorithms() -> None:
    other = vector(2, u16(0x0804))
    hello = parse_client_hello(client_hello((34, other), (50, other)))
    assert hello.signature_algorithms == ()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "ClientHello too short"),
        (client_hello(suites=b"\x13\x01\x13"), "odd length of a vector of 16-bit values"),
        (client_hello() + b"\0", "vector too short"),
        (client_hello((23, b""))[:-1], "vector too short"),
        (client_hello() + vector(2, b"\0\x17\0\5abc"), "vector item too long"),
        (client_hello() + vector(2, b"\0\x17\0"), "vector item too long"),
    ],
)
def test_a_malformed_client_hello_is_rejected(body: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_client_hello(body)
    assert caught.value.reason == reason


def test_a_prefix_of_a_hello_is_malformed() -> None:
    without_extensions = len(REAL) - len(extension_block(*parse_client_hello(REAL).extensions))
    for length in range(len(REAL)):
        if length == without_extensions:
            assert parse_client_hello(REAL[:length]).extensions == ()
        else:
            with pytest.raises(Malformed):
                parse_client_hello(REAL[:length])


@pytest.mark.parametrize(
    "body",
    [REAL, client_hello(*((kind, b) for kind, b, _, _ in GOOD_BODIES), (51, KEY_SHARES))],
)
def test_a_cut_hello_is_parsed_up_to_the_cut(body: bytes) -> None:
    whole = parse_client_hello(body)
    seen = 0
    for length in range(34):
        with pytest.raises(Malformed):
            parse_client_hello(body[:length], cut=True)
    for length in range(34, len(body)):
        hello = parse_client_hello(body[:length], cut=True)
        assert hello.cut
        assert (hello.legacy_version, hello.random) == (whole.legacy_version, whole.random)
        for name in ("session_id", "cipher_suites", "extensions"):
            part = getattr(hello, name)
            assert part == getattr(whole, name)[: len(part)]
        assert len(hello.extensions) >= seen
        seen = len(hello.extensions)
        assert hello.malformed_extensions == ()
        assert hello.trailing == 0
    assert seen == len(whole.extensions) - 1


@pytest.mark.parametrize("version", [0x7F0E, 0x7F12, 0x7F15])
def test_an_early_draft_has_a_short_server_hello(version: int) -> None:
    body = u16(version) + bytes(range(32)) + u16(0x1301)
    body += extension_block((51, u16(29) + vector(2, bytes(32))))
    hello = parse_server_hello(body)
    assert (hello.legacy_version, hello.cipher_suite) == (version, 0x1301)
    assert hello.session_id == b""
    assert hello.extensions == ((51, u16(29) + vector(2, bytes(32))),)


def test_a_later_draft_has_the_server_hello_of_tls_12() -> None:
    hello = parse_server_hello(server_hello((43, u16(0x7F1C)), session_id=b"abc", suite=0x1302))
    assert (hello.selected_version, hello.session_id) == (0x7F1C, b"abc")
    assert hello.cipher_suite == 0x1302


def test_extensions_of_a_server_hello_are_parsed() -> None:
    hello = parse_server_hello(server_hello((41, u16(0)), (35, b""), (16, b"\0\3\2h2")))
    assert hello.has_pre_shared_key
    assert hello.alpn == b"h2"


def test_a_malformed_extension_of_a_server_hello_is_left_out() -> None:
    two = vector(2, vector(1, b"h2") + vector(1, b"h3"))
    hello = parse_server_hello(server_hello((16, two), (43, b"\3"), (51, b"\0")))
    assert (hello.alpn, hello.selected_version) == (None, None)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "ServerHello of an unknown version"),
        (server_hello(version=0x1603), "ServerHello of an unknown version"),
        (server_hello()[:-1], "ServerHello too short"),
        (server_hello() + b"\0\4\0\x17\0\1", "vector item too long"),
    ],
)
def test_a_malformed_server_hello_is_rejected(body: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_server_hello(body)
    assert caught.value.reason == reason


def test_a_long_chain_is_kept_in_part_and_counted() -> None:
    ders = [bytes([n]) * (n + 1) for n in range(CERTIFICATES + 3)]
    message = parse_certificate(vector(3, b"".join(vector(3, der) for der in ders)))
    assert message.certificates == tuple(ders[:CERTIFICATES])
    assert message.chain_length == CERTIFICATES + 3


def test_a_cut_chain_gives_its_complete_certificates() -> None:
    ders = (b"first", b"second", b"third")
    body = vector(3, b"".join(vector(3, der) for der in ders))
    for length in range(len(body)):
        certificates = parse_certificate(body[:length], cut=True).certificates
        assert certificates == tuple(
            der
            for n, der in enumerate(ders)
            if 3 + sum(3 + len(d) for d in ders[: n + 1]) <= length
        )
    assert parse_certificate(body, cut=True) == parse_certificate(body)


def test_an_empty_chain_passes() -> None:
    assert parse_certificate(vector(3, b"")) == CertificateMessage((), chain_length=0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\0\0", "vector too short"),
        (vector(3, vector(3, b"abc"))[:-1], "vector too short"),
        (vector(3, vector(3, b"abc")) + b"\0", "bytes after a vector"),
        (vector(3, b"\0\0\4abc"), "vector item too long"),
        (vector(3, b"\0\0"), "vector item too long"),
        (vector(3, b"\0\0\0"), "empty certificate"),
        (vector(3, b"\1\0\0"), "vector item too long"),
    ],
)
def test_a_malformed_certificate_message_is_rejected(body: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_certificate(body)
    assert caught.value.reason == reason


SEEDS = [
    REAL,
    client_hello(*((kind, b) for kind, b, _, _ in GOOD_BODIES), (51, KEY_SHARES)),
    bodies(handshake(TLS13).server, 2)[0],
    bodies(handshake(TLS12).server, 2)[0],
    bodies(handshake(TLS12).server, 11)[0],
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a message of SEEDS with a few bytes changed, removed or inserted."""
    body = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(body)))
        stop = at + draw(st.integers(0, 3))
        body[at:stop] = draw(st.binary(max_size=3))
    return bytes(body)


@given(mutated() | st.binary(max_size=200))
def test_any_input_is_parsed_or_malformed(body: bytes) -> None:
    parsers: list[tuple[Callable[[bytes], object], type]] = [
        (parse_client_hello, ClientHello),
        (lambda b: parse_client_hello(b, cut=True), ClientHello),
        (parse_server_hello, ServerHello),
        (parse_certificate, CertificateMessage),
        (lambda b: parse_certificate(b, cut=True), CertificateMessage),
    ]
    for parse, result in parsers:
        with contextlib.suppress(Malformed):
            assert isinstance(parse(body), result)


@given(mutated())
def test_a_whole_hello_parses_the_same_as_cut(body: bytes) -> None:
    try:
        whole = parse_client_hello(body)
    except Malformed:
        return
    cut = parse_client_hello(body, cut=True)
    for name in ClientHello.__dataclass_fields__:
        if name != "cut":
            assert getattr(cut, name) == getattr(whole, name)

"""The ClientHello of SSL 2.0."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.tls.errors import Malformed
from deckwire.tls.messages import parse_ssl2_client_hello
from deckwire.tls.ssl2 import begins_ssl2, read_hello
from tests.support.flights import SSL2

BODY = SSL2[2:]


def test_version_and_cipher_specs() -> None:
    hello = parse_ssl2_client_hello(BODY)
    assert (hello.legacy_version, hello.ssl2, hello.cut) == (0x0301, True, False)
    assert hello.cipher_suites == (0x2F, 0x35, 0x0A, 0x010080, 0x0700C0, 0xFF, 0x0102)


def test_its_beginning() -> None:
    assert begins_ssl2(b"") is None
    assert [begins_ssl2(SSL2[:n]) for n in range(1, 7)] == [None] * 4 + [True] * 2
    for other in (b"\x16", b"\x80\x2e\x02", b"\x80\x2e\x01\x02\x00", b"\x80\x05\x01\x03\x01"):
        assert begins_ssl2(other) is False
    assert begins_ssl2(b"\x80\x2e\x01\x00\x02") is True


@given(st.binary(max_size=8))
def test_its_beginning_never_changes(data: bytes) -> None:
    verdicts = [begins_ssl2(data[:n]) for n in range(len(data) + 1)]
    decided = [verdict for verdict in verdicts if verdict is not None]
    assert len(set(decided)) <= 1
    assert verdicts == [None] * (len(verdicts) - len(decided)) + decided


@pytest.mark.parametrize("body", [b"", BODY[:8], BODY[:-1], BODY + b"x"])
def test_lengths_must_fit(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_hello(body)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_hello_or_malformed(body: bytes) -> None:
    try:
        version, specs = read_hello(body)
    except Malformed:
        return
    assert version == int.from_bytes(body[1:3], "big")
    assert all(0 <= spec < 1 << 24 for spec in specs)

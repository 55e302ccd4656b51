"""JA4H against its definition. tests/corpus compares it with values of independent tools."""

from __future__ import annotations

import random

import pytest

from deckwire.fingerprints.ja4h import ja4h
from deckwire.http.reader import RequestReader
from tests.support.http_wire import HEADERS, expected_ja4h, generated, request

NOTHING = "0" * 12


def fingerprint(data: bytes) -> str:
    (found,) = RequestReader().feed(data)
    return ja4h(found)


def test_a_published_value() -> None:
    """From the captures of FoxIO: ja4-CVE-2018-6794.pcap has these header names."""
    names = (b"Host", b"User-Agent", b"Accept")
    start, *hashes = fingerprint(request(headers=[(name, b"x") for name in names])).split("_")
    assert start == "ge11nn030000"
    assert hashes[1:] == [NOTHING, NOTHING]


def test_generated_requests() -> None:
    dice = random.Random(20_261_128)
    for _ in range(5_000):
        method, version, headers = generated(dice)
        data = request(method=method, version=version, headers=headers)
        assert fingerprint(data) == expected_ja4h(method, version, headers), data


@pytest.mark.parametrize(
    ("language", "part"),
    [
        (b"en-US,en;q=0.5", "enus"),
        (b"en;q=0.8", "en00"),
        (b"de", "de00"),
        (b" fr , de", "fr00"),
        (b"*", "*000"),
        (b"", "0000"),
        (b"zh-Hant-TW", "zhha"),
    ],
)
def test_a_language_ends_at_a_comma_or_a_semicolon(language: bytes, part: str) -> None:
    data = request(headers=[*HEADERS, (b"Accept-Language", language)])
    assert fingerprint(data)[8:12] == part


@pytest.mark.parametrize(
    ("method", "part"),
    [(b"GET", "ge"), (b"M-SEARCH", "ms"), (b"X", "x0"), (b"\xff\x01", "00"), (b"gEt", "ge")],
)
def test_a_method_counts_by_its_first_two_letters(method: bytes, part: str) -> None:
    assert fingerprint(request(method=method))[:2] == part


def test_the_order_of_cookies_does_not_matter_and_that_of_headers_does() -> None:
    one = fingerprint(request(headers=[*HEADERS, (b"Cookie", b"a=1; b=2")]))
    other = fingerprint(request(headers=[*HEADERS, (b"cookie", b"b=2"), (b"COOKIE", b"a=1")]))
    assert one == other
    assert one.startswith("ge11cn03")
    assert fingerprint(request(headers=HEADERS[::-1])) != fingerprint(request())


def test_without_headers_all_hashes_are_zeros() -> None:
    assert fingerprint(request(headers=())) == f"ge11nn000000_{NOTHING}_{NOTHING}_{NOTHING}"

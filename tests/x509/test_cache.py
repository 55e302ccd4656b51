"""Certificates that come again are described once."""

from __future__ import annotations

import struct

import pytest

from deckwire.x509 import cache as cache_module
from deckwire.x509.cache import CertificateCache
from deckwire.x509.certificate import Certificate, describe
from tests.x509.test_certificate import by_hand, rdn, tlv


def test_cache_gives_the_same_value_and_evicts_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[bytes] = []

    def counting(der: bytes) -> Certificate:
        described.append(der)
        return describe(der)

    monkeypatch.setattr(cache_module, "describe", counting)
    cache = CertificateCache(entries=2)
    a, b, c = (struct.pack(">I", number) for number in range(3))
    for der in (a, b, a, c, a):
        assert cache.describe(der) == describe(der)
    assert described == [a, b, c]
    cache.describe(b)
    assert described == [a, b, c, b]
    assert len(cache) == 2


def test_cache_does_not_keep_huge_texts() -> None:
    cache = CertificateCache()
    described = cache.describe(by_hand(subject=rdn(tlv(0x0C, b"a" * 20_000))))
    assert len(described.subject_cn) == 20_000
    assert len(cache) == 0

"""Names of TLS code points, and GREASE."""

from __future__ import annotations

import re
import subprocess

import pytest

from deckwire.tls.cipher_suites import CIPHER_SUITES
from deckwire.tls.code_points import is_grease
from deckwire.tls.registry import cipher_suite_name, group_name, is_post_quantum, version_name


@pytest.mark.parametrize(
    ("version", "name"),
    [
        (0x0002, "SSL 2.0"),
        (0x0300, "SSL 3.0"),
        (0x0301, "TLS 1.0"),
        (0x0302, "TLS 1.1"),
        (0x0303, "TLS 1.2"),
        (0x0304, "TLS 1.3"),
        (0x7F12, "TLS 1.3 (draft 18)"),
        (0x0A0B, "0x0a0b"),
        (0, "0x0000"),
    ],
)
def test_a_version_has_a_name_or_hex_digits(version: int, name: str) -> None:
    assert version_name(version) == name


@pytest.mark.parametrize(
    ("suite", "name"),
    [
        (0x0000, "TLS_NULL_WITH_NULL_NULL"),
        (0x000A, "TLS_RSA_WITH_3DES_EDE_CBC_SHA"),
        (0x00FF, "TLS_EMPTY_RENEGOTIATION_INFO_SCSV"),
        (0x1301, "TLS_AES_128_GCM_SHA256"),
        (0x5600, "TLS_FALLBACK_SCSV"),
        (0xC02F, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        (0xCCA9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
        (0x0A0A, "0x0a0a"),
        (0xFFFF, "0xffff"),
    ],
)
def test_a_cipher_suite_has_a_name_or_hex_digits(suite: int, name: str) -> None:
    assert cipher_suite_name(suite) == name


def test_openssl_has_the_same_names_for_its_cipher_suites() -> None:
    command = ["openssl", "ciphers", "-V", "-stdname", "ALL:COMPLEMENTOFALL"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    theirs = {
        int(high + low, 16): name
        for high, low, name in re.findall(r"0x(..),0x(..) - (TLS_\w+)", listing)
    }
    assert len(theirs) > 50
    assert {suite: cipher_suite_name(suite) for suite in theirs} == theirs


def test_each_cipher_suite_has_a_name_of_its_own() -> None:
    assert len(set(CIPHER_SUITES.values())) == len(CIPHER_SUITES)
    assert all(re.fullmatch(r"TLS_[A-Za-z0-9_]+", name) for name in CIPHER_SUITES.values())
    assert not any(is_grease(suite) for suite in CIPHER_SUITES)


@pytest.mark.parametrize(
    ("group", "name", "post_quantum"),
    [
        (0x0017, "secp256r1", False),
        (0x001D, "x25519", False),
        (0x0100, "ffdhe2048", False),
        (0x0201, "MLKEM768", True),
        (0x11EB, "SecP256r1MLKEM768", True),
        (0x11EC, "X25519MLKEM768", True),
        (0x11ED, "SecP384r1MLKEM1024", True),
        (0x6399, "X25519Kyber768Draft00", True),
        (0x1A1A, "0x1a1a", False),
    ],
)
def test_a_group_has_a_name_or_hex_digits(group: int, name: str, post_quantum: bool) -> None:
    assert group_name(group) == name
    assert is_post_quantum(group) is post_quantum


def test_grease_is_the_sixteen_values_of_rfc_8701() -> None:
    grease = [value for value in range(0x10000) if is_grease(value)]
    assert grease == [int(f"{n:x}a{n:x}a", 16) for n in range(16)]

"""Certificates that openssl makes: it still has what the library no longer signs with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deckwire.x509.certificate import Certificate, describe
from deckwire.x509.self_signature import made_by

RSA, DSA, EC = "1.2.840.113549.1.1.1", "1.2.840.10040.4.1", "1.2.840.10045.2.1"
PSS, ED25519 = "1.2.840.113549.1.1.10", "1.3.101.112"

CURVE = "-pkeyopt ec_paramgen_curve:"
EXPLICIT = "-pkeyopt ec_param_enc:explicit"
BRAINPOOL = "brainpoolP256r1"
PSS_SHA1 = "-sigopt rsa_padding_mode:pss"
LEGACY = "-provider legacy -provider default"

CHECKED = {
    "rsa, md5": "-newkey rsa:2048 -md5",
    "rsa of 512 bits, md5": "-newkey rsa:512 -md5",
    "rsa, sha1": "-newkey rsa:2048 -sha1",
    "rsa, ripemd": "-newkey rsa:2048 -ripemd160",
    "rsa, sha224": "-newkey rsa:2048 -sha224",
    "rsa, sha512-256": "-newkey rsa:2048 -sha512-256",
    "rsa, sha3": "-newkey rsa:2048 -sha3-256",
    "rsa of 4096 bits": "-newkey rsa:4096 -sha256",
    "pss, sha1": f"-newkey rsa:2048 -sha1 {PSS_SHA1}",
    "pss, sha256": f"-newkey rsa:2048 -sha256 {PSS_SHA1} -sigopt rsa_pss_saltlen:20",
    "pss, another mask": f"-newkey rsa:2048 -sha256 {PSS_SHA1} -sigopt rsa_mgf1_md:sha1",
    "pss key": "-newkey rsa-pss -pkeyopt rsa_keygen_bits:2048 -sha384",
    "ec, sha1": f"-newkey ec {CURVE}P-256 -sha1",
    "ec, sha224": f"-newkey ec {CURVE}P-256 -sha224",
    "ec, sha512": f"-newkey ec {CURVE}P-256 -sha512",
    "ec, sha3": f"-newkey ec {CURVE}P-384 -sha3-384",
    "brainpool": f"-newkey ec {CURVE}{BRAINPOOL} -sha256",
    "explicit p-256": f"-newkey ec {CURVE}P-256 {EXPLICIT} -sha256",
    "explicit p-521, sha1": f"-newkey ec {CURVE}P-521 {EXPLICIT} -sha1",
    "explicit brainpool": f"-newkey ec {CURVE}{BRAINPOOL} {EXPLICIT} -sha256",
    "explicit secp256k1": f"-newkey ec {CURVE}secp256k1 {EXPLICIT} -sha256",
    "ed25519": "-newkey ed25519",
    "ed448": "-newkey ed448",
}
OPEN = {
    "sm2": "-newkey sm2 -sm3 -sigopt distid:1234567812345678",
    "a small curve": f"-newkey ec {CURVE}secp160r1 -sha1",
    "explicit, without a known name": f"-newkey ec {CURVE}secp160r1 {EXPLICIT} -sha1",
    "md4": f"{LEGACY} -newkey rsa:2048 -md4",
}


def certificate(directory: Path, request: str) -> bytes:
    """A self-signed certificate in DER, as ``openssl req`` makes it with these arguments."""
    command = "openssl req -x509 -nodes -subj /CN=decoy -keyout /dev/null -outform DER"
    made = subprocess.run(
        [*command.split(), *request.split()], capture_output=True, check=True, cwd=directory
    )
    return made.stdout


def broken(der: bytes) -> Certificate:
    """The description of the same certificate with one bit of its signature changed."""
    return describe(der[:-1] + bytes([der[-1] ^ 1]))


@pytest.mark.parametrize("request_", CHECKED.values(), ids=CHECKED)
def test_the_key_is_asked(tmp_path: Path, request_: str) -> None:
    der = certificate(tmp_path, request_)
    assert describe(der).self_signed is True
    assert broken(der).self_signed is False


@pytest.mark.parametrize("hash_name", ["sha1", "sha256"])
def test_dsa(tmp_path: Path, hash_name: str) -> None:
    subprocess.run(
        ["openssl", "dsaparam", "-out", tmp_path / "dsa", "1024"], check=True, capture_output=True
    )
    der = certificate(tmp_path, f"-newkey dsa:dsa -{hash_name}")
    assert describe(der).self_signed is True
    assert broken(der).self_signed is False


@pytest.mark.parametrize("request_", OPEN.values(), ids=OPEN)
def test_what_cannot_be_checked_is_not_said(tmp_path: Path, request_: str) -> None:
    der = certificate(tmp_path, request_)
    assert describe(der).self_signed is None
    assert broken(der).self_signed is None
    assert describe(der).quality == "complete"


def test_a_curve_written_out_is_named(tmp_path: Path) -> None:
    der = certificate(tmp_path, CHECKED["explicit p-256"])
    assert describe(der).key == "ec-p256"


def test_another_generator_is_another_curve(tmp_path: Path) -> None:
    """Whoever chooses the generator has a key for any point (CVE-2020-0601)."""
    der = certificate(tmp_path, CHECKED["explicit p-256"])
    generator = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
    assert der.count(generator) == 1
    at = der.index(generator)
    forged = der[:at] + bytes([generator[0] ^ 1]) + der[at + 1 :]
    said = describe(forged)
    assert said.self_signed is None
    assert said.key == EC


def test_unused_bits_make_no_signature(tmp_path: Path) -> None:
    der = certificate(tmp_path, CHECKED["ed25519"])
    at = len(der) - 64 - 1
    assert der[at] == 0
    assert describe(der[:at] + b"\1" + der[at + 1 :]).self_signed is None


@pytest.mark.parametrize(
    ("signature", "key", "possible"),
    [
        ("1.2.840.113549.1.1.5", RSA, True),
        ("1.2.840.113549.1.1.5", PSS, True),
        ("1.2.840.113549.1.1.5", EC, False),
        ("1.2.840.10045.4.1", RSA, False),
        ("1.2.840.10040.4.3", DSA, True),
        ("1.2.840.10040.4.3", EC, False),
        (PSS, RSA, True),
        (PSS, EC, False),
        (PSS, ED25519, False),
        (ED25519, ED25519, True),
        ("1.2.840.10045.4.1", ED25519, False),
        ("1.2.3", RSA, True),
        ("1.2.3", ED25519, True),
    ],
)
def test_which_key_makes_which_signature(signature: str, key: str, possible: bool) -> None:
    assert made_by(signature, key) is possible

"""Fingerprints equal the expected values of the capture corpus, without reading any packets.

The plain forms hold everything that a fingerprint is computed from. The tests rebuild hello values
from them.
"""

import hashlib
import json
import re

import pytest

from deckwire.fingerprints.ja3 import ja3, ja3_full, ja3s, ja3s_full
from deckwire.fingerprints.ja4 import ja4, ja4_o, ja4_r, ja4_ro
from deckwire.fingerprints.ja4plus import ja4s, ja4s_r, ja4x
from deckwire.x509.certificate import describe
from tests.support.shared import CORPUS

EXPECTED = sorted((CORPUS / "expected").glob("*.json"))

pytestmark = pytest.mark.skipif(not EXPECTED, reason="the capture corpus is not here")

VERSIONS = {"13": 0x0304, "12": 0x0303, "11": 0x0302, "10": 0x0301, "s3": 0x0300, "00": 0x7F1C}


def streams():
    for path in EXPECTED:
        for stream in json.loads(path.read_text())["streams"]:
            if stream["transport"] == "tcp":
                yield stream


def numbers(text: str, separator: str, base: int) -> tuple[int, ...]:
    return tuple(int(item, base) for item in text.split(separator)) if text else ()


def protocol(tag: str) -> bytes:
    """Return a protocol name with this tag; hex digits of an unprintable name also make a name."""
    return b"" if tag == "00" else tag.encode()


def test_ja4_of_the_corpus(client_hello):
    checked = 0
    for stream in streams():
        if not {"ja4", "ja4_r", "ja4_o", "ja4_ro"} <= stream.keys():
            continue
        a, ciphers, extensions, *algorithms = stream["ja4_ro"].split("_")
        hello = client_hello(
            supported_versions=(VERSIONS[a[1:3]],),
            cipher_suites=(0x0A0A, *numbers(ciphers, ",", 16)),
            extensions=(*numbers(extensions, ",", 16), 0xFAFA),
            signature_algorithms=numbers("".join(algorithms), ",", 16),
            alpn=(protocol(a[8:10]),),
        )
        assert ja4_ro(hello) == stream["ja4_ro"]
        assert ja4_r(hello) == stream["ja4_r"]
        assert ja4_o(hello) == stream["ja4_o"]
        assert ja4(hello) == stream["ja4"]
        checked += 1
    assert checked > 100


def test_ja3_of_the_corpus(client_hello):
    checked = 0
    for stream in streams():
        if "ja3_full" not in stream:
            continue
        version, *lists = stream["ja3_full"].split(",")
        ciphers, extensions, groups, formats = (numbers(text, "-", 10) for text in lists)
        hello = client_hello(
            legacy_version=int(version),
            cipher_suites=ciphers,
            extensions=extensions,
            supported_groups=groups,
            ec_point_formats=formats,
        )
        assert ja3_full(hello) == stream["ja3_full"]
        assert ja3(hello) == stream["ja3"]
        checked += 1
    assert checked > 100


def test_ja3s_and_ja4s_of_the_corpus(server_hello):
    checked = 0
    for stream in streams():
        if not {"ja4s", "ja4s_r", "ja3s", "ja3s_full"} <= stream.keys():
            continue
        a, cipher, extensions = stream["ja4s_r"].split("_")
        hello = server_hello(
            legacy_version=int(stream["ja3s_full"].split(",")[0]),
            selected_version=VERSIONS[a[1:3]],
            cipher_suite=int(cipher, 16),
            extensions=numbers(extensions, ",", 16),
            alpn=protocol(a[5:7]),
        )
        assert ja4s_r(hello) == stream["ja4s_r"]
        assert ja4s(hello) == stream["ja4s"]
        assert ja3s_full(hello) == stream["ja3s_full"]
        assert ja3s(hello) == stream["ja3s"]
        checked += 1
    assert checked > 100


def test_ja4x_of_the_corpus():
    checked = 0
    for stream in streams():
        for certificate in stream.get("certs", ()):
            parts = [
                tuple(part.split(",")) if part else () for part in certificate["ja4x_r"].split("_")
            ]
            assert ja4x(*parts) == certificate["ja4x"]
            checked += 1
    assert checked > 100


def test_certificates_within_one_segment_of_the_corpus():
    expected = {
        certificate["sha256"]: certificate
        for stream in streams()
        for certificate in stream.get("certs", ())
    }
    found = set()
    for path in EXPECTED:
        if '"certs"' not in path.read_text():
            continue
        capture = (CORPUS / "pcap" / path.stem).read_bytes()
        for match in re.finditer(rb"\x30\x82(..)\x30\x82", capture, re.DOTALL):
            der = capture[match.start() : match.start() + 4 + int.from_bytes(match[1], "big")]
            certificate = expected.get(hashlib.sha256(der).hexdigest())
            if certificate is None or certificate["sha256"] in found:
                continue
            described = describe(der)
            oids = (described.issuer_oids, described.subject_oids, described.extension_oids)
            assert ja4x(*oids) == certificate["ja4x"]
            for text, pairs in (
                (described.issuer, certificate["issuer"]),
                (described.subject, certificate["subject"]),
            ):
                for kind, value in pairs:
                    if kind in ("CN", "C", "L", "ST", "O", "OU") and value.isalnum():
                        assert f"{kind}={value}" in text
            common_names = [value for kind, value in certificate["subject"] if kind == "CN"]
            assert described.subject_cn == next(iter(common_names), "")
            found.add(certificate["sha256"])
    assert len(found) > 50

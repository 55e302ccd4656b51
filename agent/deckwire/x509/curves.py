"""Elliptic curves that a key writes out in full (RFC 3279, 2.3.5) instead of naming them.

Libraries refuse such keys. If the numbers are those of a named curve, the key is rebuilt with the
name. Any other curve stays unknown, because whoever chooses the generator can forge signatures
(CVE-2020-0601).
"""

from __future__ import annotations

from hashlib import sha256

from deckwire.limits import CURVE_NUMBER_BYTES
from deckwire.x509 import der as asn1
from deckwire.x509.der import DerError

_PRIME_FIELD = bytes.fromhex("2a8648ce3d0101")

_NAMED = {
    "4a56a9f1a450c2cc271924af5db9fce6": "1.2.840.10045.3.1.1",
    "80ac16f02d66e73bf6b9045b907c3827": "1.3.132.0.33",
    "bd887186150d3c4b6346456218c7cce9": "1.2.840.10045.3.1.7",
    "be2d78be63d1ed8edf6103b5f17fff18": "1.3.132.0.34",
    "c5906216571e0e763c28c724ba80e651": "1.3.132.0.35",
    "6c9bc889520ca2130d0dbb25457ed0a9": "1.3.132.0.10",
    "d7ad545ce869a33728e37fa6d644919c": "1.3.36.3.3.2.8.1.1.7",
    "5a54b4f27213ead080128ddbb4e9e3c4": "1.3.36.3.3.2.8.1.1.11",
    "c58db45163a53cf86bd3d3ef8f9f4976": "1.3.36.3.3.2.8.1.1.13",
}
"""Object identifiers, in dotted decimal, by `_fingerprint` of their numbers."""


def named(parameters: bytes) -> str | None:
    """The object identifier of the curve that has these numbers, in dotted decimal.

    `parameters` is the content of an ECParameters. None for a curve without a known name.

    Raises:
        DerError: the bytes are no ECParameters.
    """
    fields = asn1.elements(parameters)
    asn1.take(fields, asn1.INTEGER)
    field = asn1.elements(asn1.take(fields, asn1.SEQUENCE))
    if asn1.take(field, asn1.OID) != _PRIME_FIELD:
        return None
    p = _number(asn1.take(field, asn1.INTEGER))
    coefficients = asn1.elements(asn1.take(fields, asn1.SEQUENCE))
    a = _number(asn1.take(coefficients, asn1.OCTET_STRING))
    b = _number(asn1.take(coefficients, asn1.OCTET_STRING))
    point = asn1.take(fields, asn1.OCTET_STRING)
    n = _number(asn1.take(fields, asn1.INTEGER))
    size = (p.bit_length() + 7) // 8
    # SEC 1, 2.3.3: the first byte shows whether y follows, or gives its lowest bit.
    if point[:1] in (b"\2", b"\3") and len(point) == 1 + size:
        odd = point[0] & 1
    elif point[:1] == b"\4" and len(point) == 1 + 2 * size:
        odd = point[-1] & 1
    else:
        return None
    return _NAMED.get(_fingerprint(p, a, b, _number(point[1 : 1 + size]), odd, n))


def _number(octets: bytes) -> int:
    # An INTEGER may have one more byte for its sign.
    if len(octets) > CURVE_NUMBER_BYTES + 1:
        raise DerError("longer than the numbers of any curve")
    return int.from_bytes(octets, "big")


def _fingerprint(*numbers: int) -> str:
    """Hash p, a, b, the generator's x and the lowest bit of its y, and n."""
    return sha256(",".join([f"{number:x}" for number in numbers]).encode()).hexdigest()[:32]

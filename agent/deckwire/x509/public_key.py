"""The public key of a certificate and the algorithm of its signature, by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from deckwire.limits import VERIFY_EXPONENT_BITS, VERIFY_KEY_BITS
from deckwire.x509 import curves
from deckwire.x509 import der as asn1
from deckwire.x509.der import DerError

RSA, DSA, EC = "1.2.840.113549.1.1.1", "1.2.840.10040.4.1", "1.2.840.10045.2.1"
"""Algorithms of keys (RFC 3279, 2.3)."""
RSA_PSS = "1.2.840.113549.1.1.10"
"""An algorithm both of keys and of signatures (RFC 4055)."""

_DSA_ORDER_BITS = (160, 224, 256)
"""Bits of q (FIPS 186-4, 4.2). With other sizes, the library rejects every signature."""

_CURVES = {
    "1.3.132.0.33": "p224",
    "1.2.840.10045.3.1.7": "p256",
    "1.3.132.0.34": "p384",
    "1.3.132.0.35": "p521",
    "1.2.840.10045.3.1.1": "p192",
    "1.3.132.0.10": "secp256k1",
    "1.3.36.3.3.2.8.1.1.7": "brainpoolP256r1",
    "1.3.36.3.3.2.8.1.1.11": "brainpoolP384r1",
    "1.3.36.3.3.2.8.1.1.13": "brainpoolP512r1",
}

# Key and signature algorithms in one (RFC 8410, RFC 9881).
_KEYS = {
    "1.3.101.110": "x25519",
    "1.3.101.111": "x448",
    "1.3.101.112": "ed25519",
    "1.3.101.113": "ed448",
    "2.16.840.1.101.3.4.3.17": "ml-dsa-44",
    "2.16.840.1.101.3.4.3.18": "ml-dsa-65",
    "2.16.840.1.101.3.4.3.19": "ml-dsa-87",
}

_SIGNATURES = {
    "1.2.840.113549.1.1.2": "md2WithRSAEncryption",
    "1.2.840.113549.1.1.4": "md5WithRSAEncryption",
    "1.2.840.113549.1.1.5": "sha1WithRSAEncryption",
    "1.2.840.113549.1.1.10": "rsassaPss",
    "1.2.840.113549.1.1.11": "sha256WithRSAEncryption",
    "1.2.840.113549.1.1.12": "sha384WithRSAEncryption",
    "1.2.840.113549.1.1.13": "sha512WithRSAEncryption",
    "1.2.840.113549.1.1.14": "sha224WithRSAEncryption",
    "1.2.840.10040.4.3": "dsa-with-sha1",
    "2.16.840.1.101.3.4.3.1": "dsa-with-sha224",
    "2.16.840.1.101.3.4.3.2": "dsa-with-sha256",
    "1.2.840.10045.4.1": "ecdsa-with-SHA1",
    "1.2.840.10045.4.3.1": "ecdsa-with-SHA224",
    "1.2.840.10045.4.3.2": "ecdsa-with-SHA256",
    "1.2.840.10045.4.3.3": "ecdsa-with-SHA384",
    "1.2.840.10045.4.3.4": "ecdsa-with-SHA512",
    **_KEYS,
}


class PublicKey(NamedTuple):
    """A public key, as far as its name and its cost are concerned."""

    name: str
    algorithm: str
    """The object identifier in dotted decimal; "" if there is none."""
    verifiable: bool
    """Whether it is cheap enough to verify a signature with: VERIFY_KEY_BITS."""
    der: bytes = b""
    """The SubjectPublicKeyInfo, its curve named if it was written out."""


def public_key(info: bytes) -> PublicKey:
    """Name the key in the content of a SubjectPublicKeyInfo (RFC 5280, 4.1.2.7)."""
    der = asn1.element(asn1.SEQUENCE, info)
    oid = ""
    try:
        fields = asn1.elements(info)
        algorithm = asn1.elements(asn1.take(fields, asn1.SEQUENCE))
        oid = asn1.dotted_or_hex(asn1.take(algorithm, asn1.OID))
        if oid in (RSA, RSA_PSS):
            # The bit string's first byte counts its unused bits.
            numbers, _ = asn1.read(asn1.take(fields, asn1.BIT_STRING), 1)
            both = asn1.elements(numbers.content)
            bits = _bit_length(asn1.take(both, asn1.INTEGER))
            affordable = bits <= VERIFY_KEY_BITS and _is_small_exponent(both)
            return PublicKey(f"rsa{bits}", oid, affordable, der)
        if oid == DSA:
            parameters = asn1.elements(asn1.take(algorithm, asn1.SEQUENCE))
            bits = _bit_length(asn1.take(parameters, asn1.INTEGER))
            affordable = bits <= VERIFY_KEY_BITS and _is_usual_order(parameters)
            return PublicKey(f"dsa{bits}", oid, affordable, der)
        if oid == EC:
            return _ec_key(next(algorithm, None), fields, der)
    except DerError:
        return PublicKey(oid, oid, False)
    return PublicKey(_KEYS.get(oid, oid), oid, oid in _KEYS, der)


def _is_small_exponent(numbers: Iterator[asn1.Element]) -> bool:
    exponent = next(numbers, None)
    return exponent is not None and _bit_length(exponent.content) <= VERIFY_EXPONENT_BITS


def _is_usual_order(parameters: Iterator[asn1.Element]) -> bool:
    order = next(parameters, None)
    return order is not None and _bit_length(order.content) in _DSA_ORDER_BITS


def _ec_key(curve: asn1.Element | None, fields: Iterator[asn1.Element], der: bytes) -> PublicKey:
    """A key on an elliptic curve, which `curve` names or writes out (RFC 3279, 2.3.5)."""
    if curve is None:
        raise DerError("no curve")
    if curve.tag == asn1.OID:
        oid = asn1.dotted_or_hex(curve.content)
    elif curve.tag == asn1.SEQUENCE:
        found = curves.named(curve.content)
        if found is None:
            raise DerError("a curve without a name")
        oid = found
        algorithm = asn1.element(asn1.OID, asn1.oid(EC)) + asn1.element(asn1.OID, asn1.oid(oid))
        point = asn1.element(asn1.BIT_STRING, asn1.take(fields, asn1.BIT_STRING))
        der = asn1.element(asn1.SEQUENCE, asn1.element(asn1.SEQUENCE, algorithm) + point)
    else:
        raise DerError("not a curve")
    return PublicKey(f"ec-{_CURVES.get(oid, oid)}", EC, True, der)


def _bit_length(integer: bytes) -> int:
    return int.from_bytes(integer, "big").bit_length()


def signature_name(identifier: bytes) -> str:
    """Name the algorithm of a signature; "" if `identifier` has no object identifier."""
    try:
        oid = asn1.dotted_or_hex(asn1.take(asn1.elements(identifier), asn1.OID))
    except DerError:
        return ""
    return _SIGNATURES.get(oid, oid)

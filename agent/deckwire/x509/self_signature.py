"""Whether a certificate's own key made its signature (RFC 5280, 4.1.1): yes, no, or unknown.

The library refuses certificates that are unsafe today, but peers still send them. So this module
verifies with the key alone, and with any hash that can be computed. The result is unknown if the
library cannot load the key or lacks the algorithm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from deckwire.x509 import der as asn1
from deckwire.x509.der import DerError
from deckwire.x509.public_key import DSA, EC, RSA, RSA_PSS

_PKCS1 = "1.2.840.113549.1.1"
_NIST_HASHES = "2.16.840.1.101.3.4.2"
_NIST_SIGNATURES = "2.16.840.1.101.3.4.3"

_HASHES = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "1.3.36.3.2.1": "ripemd160",
    "1.2.156.10197.1.401": "sm3",
    f"{_NIST_HASHES}.1": "sha256",
    f"{_NIST_HASHES}.2": "sha384",
    f"{_NIST_HASHES}.3": "sha512",
    f"{_NIST_HASHES}.4": "sha224",
    f"{_NIST_HASHES}.5": "sha512_224",
    f"{_NIST_HASHES}.6": "sha512_256",
    f"{_NIST_HASHES}.7": "sha3_224",
    f"{_NIST_HASHES}.8": "sha3_256",
    f"{_NIST_HASHES}.9": "sha3_384",
    f"{_NIST_HASHES}.10": "sha3_512",
}
"""Names of hashlib, by object identifier."""
_HASH_OIDS = {name: oid for oid, name in _HASHES.items()}

_SIGNATURES = {
    # No library has MD2, and OpenSSL signs MD4 under the name of another hash.
    f"{_PKCS1}.2": (RSA, ""),
    f"{_PKCS1}.3": (RSA, ""),
    f"{_PKCS1}.4": (RSA, "md5"),
    f"{_PKCS1}.5": (RSA, "sha1"),
    f"{_PKCS1}.11": (RSA, "sha256"),
    f"{_PKCS1}.12": (RSA, "sha384"),
    f"{_PKCS1}.13": (RSA, "sha512"),
    f"{_PKCS1}.14": (RSA, "sha224"),
    f"{_PKCS1}.15": (RSA, "sha512_224"),
    f"{_PKCS1}.16": (RSA, "sha512_256"),
    "1.3.14.3.2.29": (RSA, "sha1"),
    "1.3.36.3.3.1.2": (RSA, "ripemd160"),
    "1.2.156.10197.1.504": (RSA, "sm3"),
    f"{_NIST_SIGNATURES}.13": (RSA, "sha3_224"),
    f"{_NIST_SIGNATURES}.14": (RSA, "sha3_256"),
    f"{_NIST_SIGNATURES}.15": (RSA, "sha3_384"),
    f"{_NIST_SIGNATURES}.16": (RSA, "sha3_512"),
    "1.2.840.10040.4.3": (DSA, "sha1"),
    "1.3.14.3.2.27": (DSA, "sha1"),
    f"{_NIST_SIGNATURES}.1": (DSA, "sha224"),
    f"{_NIST_SIGNATURES}.2": (DSA, "sha256"),
    f"{_NIST_SIGNATURES}.3": (DSA, "sha384"),
    f"{_NIST_SIGNATURES}.4": (DSA, "sha512"),
    f"{_NIST_SIGNATURES}.5": (DSA, "sha3_224"),
    f"{_NIST_SIGNATURES}.6": (DSA, "sha3_256"),
    f"{_NIST_SIGNATURES}.7": (DSA, "sha3_384"),
    f"{_NIST_SIGNATURES}.8": (DSA, "sha3_512"),
    "1.2.840.10045.4.1": (EC, "sha1"),
    "1.2.840.10045.4.3.1": (EC, "sha224"),
    "1.2.840.10045.4.3.2": (EC, "sha256"),
    "1.2.840.10045.4.3.3": (EC, "sha384"),
    "1.2.840.10045.4.3.4": (EC, "sha512"),
    f"{_NIST_SIGNATURES}.9": (EC, "sha3_224"),
    f"{_NIST_SIGNATURES}.10": (EC, "sha3_256"),
    f"{_NIST_SIGNATURES}.11": (EC, "sha3_384"),
    f"{_NIST_SIGNATURES}.12": (EC, "sha3_512"),
}
"""The key algorithm and the hash of each signature algorithm; "" for a hash not computed here."""

_OF_SIZE: dict[int, Callable[[], hashes.HashAlgorithm]] = {
    20: hashes.SHA1,
    28: hashes.SHA224,
    32: hashes.SHA256,
    48: hashes.SHA384,
    64: hashes.SHA512,
}
"""A hash of each size. DSA and ECDSA sign a number, so the library needs only its length."""
_IN_PSS: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1,
    "sha224": hashes.SHA224,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
    "sha3_224": hashes.SHA3_224,
    "sha3_256": hashes.SHA3_256,
    "sha3_384": hashes.SHA3_384,
    "sha3_512": hashes.SHA3_512,
}
_MGF1 = f"{_PKCS1}.8"
_PSS_HASH, _PSS_MASK, _PSS_SALT = (asn1.context(number, constructed=True) for number in range(3))
_PSS_SALT_BYTES = 20
"""The default of the parameters, as SHA-1 is for the hash and the mask (RFC 4055, 3.1)."""
_PSS_SALT_OCTETS = 3
"""Longest INTEGER that is read as the length of the salt. No key has room for a longer salt."""


class _Unknown(Exception):
    """It cannot be decided here whether the signature verifies."""


class _Signed(NamedTuple):
    """The parts of a Certificate."""

    message: bytes
    """The bytes of the TBSCertificate, with tag and length."""
    algorithm: str
    """The signature algorithm, in dotted decimal."""
    parameters: asn1.Element | None
    signature: bytes


def verifies(certificate: bytes, public_key: bytes, key_algorithm: str) -> bool | None:
    """Whether the key made the certificate's signature; None if that cannot be checked.

    `public_key` is a SubjectPublicKeyInfo in DER, `key_algorithm` its algorithm in dotted decimal.
    The caller bounds the cost of the key: see limits.VERIFY_KEY_BITS.
    """
    try:
        signed = _signed(certificate)
        if not made_by(signed.algorithm, key_algorithm):
            return False
        return _verify(load_der_public_key(public_key), signed)
    except InvalidSignature:
        return False
    except (_Unknown, DerError, UnsupportedAlgorithm, InternalError, ValueError, TypeError):
        return None


def made_by(signature_algorithm: str, key_algorithm: str) -> bool:
    """Whether such a key can make such a signature; True if that is unknown."""
    if key_algorithm not in (RSA, RSA_PSS, DSA, EC):
        # A key of another kind makes signatures of the same name, or unknown ones.
        return signature_algorithm not in _SIGNATURES and signature_algorithm != RSA_PSS
    if signature_algorithm == RSA_PSS:
        return key_algorithm in (RSA, RSA_PSS)
    maker = _SIGNATURES.get(signature_algorithm, (key_algorithm, ""))[0]
    return maker == (RSA if key_algorithm == RSA_PSS else key_algorithm)


def _signed(certificate: bytes) -> _Signed:
    outer, _ = asn1.read(certificate)
    _, end = asn1.read(outer.content)
    fields = asn1.elements(outer.content[end:])
    identifier = asn1.take(fields, asn1.SEQUENCE)
    bits = asn1.take(fields, asn1.BIT_STRING)
    if bits[:1] != b"\0":
        # The first byte counts unused bits, and a signature has whole bytes.
        raise DerError("not a signature")
    algorithm = asn1.elements(identifier)
    oid = asn1.dotted(asn1.take(algorithm, asn1.OID))
    return _Signed(outer.content[:end], oid, next(algorithm, None), bits[1:])


def _verify(key: object, signed: _Signed) -> bool:
    """Verify the signature: True, or InvalidSignature."""
    if signed.algorithm == RSA_PSS and isinstance(key, rsa.RSAPublicKey):
        digest, mask, salt_bytes = _pss(signed.parameters)
        scheme = padding.PSS(padding.MGF1(mask), salt_bytes)
        key.verify(signed.signature, signed.message, scheme, digest)
        return True
    known = _SIGNATURES.get(signed.algorithm)
    if known is None:
        return _verify_whole(key, signed)
    digest_name = known[1]
    value = _digest(digest_name, signed.message)
    if isinstance(key, rsa.RSAPublicKey):
        # The library gets no hash algorithm, so it refuses none.
        info = key.recover_data_from_signature(signed.signature, padding.PKCS1v15(), None)
        return info in _digest_infos(digest_name, value)
    of_size = _OF_SIZE.get(len(value))
    if of_size is None:
        raise _Unknown
    if isinstance(key, dsa.DSAPublicKey):
        key.verify(signed.signature, value, Prehashed(of_size()))
        return True
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signed.signature, value, ec.ECDSA(Prehashed(of_size())))
        return True
    raise _Unknown


def _verify_whole(key: object, signed: _Signed) -> bool:
    """Verify with a key that takes the message itself: Ed25519, Ed448, ML-DSA."""
    verify = getattr(key, "verify", None)
    if verify is None or isinstance(
        key, (rsa.RSAPublicKey, dsa.DSAPublicKey, ec.EllipticCurvePublicKey)
    ):
        raise _Unknown
    verify(signed.signature, signed.message)
    return True


def _digest(name: str, message: bytes) -> bytes:
    try:
        return hashlib.new(name, message, usedforsecurity=False).digest()
    except ValueError as error:
        raise _Unknown from error


def _digest_infos(name: str, value: bytes) -> tuple[bytes, bytes]:
    """The two encodings of a DigestInfo that RFC 8017, appendix A.2.4, allows."""
    oid = asn1.element(asn1.OID, asn1.oid(_HASH_OIDS[name]))
    octets = asn1.element(asn1.OCTET_STRING, value)
    with_null, without = (
        asn1.element(asn1.SEQUENCE, asn1.element(asn1.SEQUENCE, oid + null) + octets)
        for null in (asn1.element(asn1.NULL, b""), b"")
    )
    return with_null, without


def _pss(
    parameters: asn1.Element | None,
) -> tuple[hashes.HashAlgorithm, hashes.HashAlgorithm, int]:
    """Read the hash, the hash of the mask and the bytes of salt (RFC 4055, 3.1)."""
    if parameters is None or parameters.tag != asn1.SEQUENCE:
        raise _Unknown
    digest, mask, salt_bytes = "sha1", "sha1", _PSS_SALT_BYTES
    for tag, content in asn1.elements(parameters.content):
        if tag == _PSS_HASH:
            digest = _hash_named(asn1.elements(asn1.take(asn1.elements(content), asn1.SEQUENCE)))
        elif tag == _PSS_MASK:
            function = asn1.elements(asn1.take(asn1.elements(content), asn1.SEQUENCE))
            if asn1.dotted(asn1.take(function, asn1.OID)) != _MGF1:
                raise _Unknown
            mask = _hash_named(asn1.elements(asn1.take(function, asn1.SEQUENCE)))
        elif tag == _PSS_SALT:
            salt = asn1.take(asn1.elements(content), asn1.INTEGER)
            if len(salt) > _PSS_SALT_OCTETS:
                raise _Unknown
            salt_bytes = int.from_bytes(salt, "big")
    if digest not in _IN_PSS or mask not in _IN_PSS:
        raise _Unknown
    return _IN_PSS[digest](), _IN_PSS[mask](), salt_bytes


def _hash_named(algorithm: Iterator[asn1.Element]) -> str:
    return _HASHES.get(asn1.dotted(asn1.take(algorithm, asn1.OID)), "")

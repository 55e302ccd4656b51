"""X.509 certificates (RFC 5280) as they pass on the wire: described in text, never trusted.

The texts come from a DER walk of our own, which reads what it can of a broken certificate
too and keeps the bytes' own order and wording. The cryptography library judges whether the whole
is a certificate; deckwire/self_signature.py asks its key whether it made the signature.
"""

from __future__ import annotations

import hashlib
import ipaddress
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import islice
from operator import attrgetter
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from deckwire.limits import (
    CERTIFICATE_ATTRIBUTES,
    CERTIFICATE_CACHE,
    CERTIFICATE_CACHE_BYTES,
    CERTIFICATE_CACHED_BYTES,
    CERTIFICATE_EXTENSIONS,
    CERTIFICATE_SANS,
    VERIFY_EXPONENT_BITS,
    VERIFY_KEY_BITS,
)
from deckwire.resilience.sized_cache import SizedCache
from deckwire.x509 import curves, self_signature
from deckwire.x509 import der as asn1
from deckwire.x509.der import DerError
from deckwire.x509.self_signature import DSA, EC, RSA, RSA_PSS

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Certificate:
    """The contents of one certificate; absent or unreadable parts are "" or empty tuples.

    Texts come from the peer and are not escaped. Bytes that are not UTF-8 are surrogate escapes.
    """

    sha256: str
    """The SHA-256 of the whole certificate, in lower-case hex."""
    malformed: bool
    """It breaks RFC 5280 somewhere. The other fields hold what could be read."""
    subject_cn: str
    """The first commonName of the subject, not escaped."""
    subject: str
    """All attributes in order of appearance, ``K=value`` joined ``, ``, values escaped (RFC 4514).

    K is one of CN C L ST O OU, or the object identifier in dotted decimal.
    """
    issuer: str
    """All attributes of the issuer, written as in `subject`."""
    not_before: str
    """The UTCTime or GeneralizedTime as sent, e.g. ``261124025926Z``."""
    not_after: str
    sans: tuple[str, ...]
    """Alternative names: DNS, e-mail, URI and IP as they are; ``DirName:``, ``RID:`` and
    ``OtherName:`` (object identifier, ``=``, value if text) in front of the others."""
    self_signed: bool | None
    """Issuer and subject are the same name, encoded alike as RFC 5280, 4.1.2.6 wants, and the
    signature verifies with the certificate's own key. None if that cannot be found out: the names
    could not be read, or they are the same and the signature cannot be checked."""
    serial: str
    """Lower-case hex of the two's complement integer, without the sign byte of a positive one."""
    key: str
    """``rsa2048``, ``dsa2048``, ``ec-p256``, ``ed25519``, ``ml-dsa-44``, …; else the algorithm's
    object identifier."""
    signature_algorithm: str
    """E.g. ``sha256WithRSAEncryption``; else the object identifier."""
    structured: bool
    """Names and extensions were read completely, so the object identifiers below are all."""
    issuer_oids: tuple[str, ...]
    """Attribute types in order of appearance, as the hex of their DER content, e.g. ``550403``."""
    subject_oids: tuple[str, ...]
    extension_oids: tuple[str, ...]

    @property
    def quality(self) -> str:
        """``malformed`` or ``complete``."""
        return "malformed" if self.malformed else "complete"


def describe(certificate: bytes) -> Certificate:
    """Describe one DER certificate; any bytes give a value. Pure; see also `CertificateCache`."""
    parts = _split(certificate)
    issuer, issuer_whole = _until_error(_attributes(parts.issuer), CERTIFICATE_ATTRIBUTES)
    subject, subject_whole = _until_error(_attributes(parts.subject), CERTIFICATE_ATTRIBUTES)
    times, times_whole = _until_error(_times(parts.validity), 2)
    extensions, extensions_whole = _until_error(
        _extensions(parts.extensions), CERTIFICATE_EXTENSIONS
    )
    first_of_kind = dict(reversed(extensions))
    sans, sans_whole = _alternative_names(first_of_kind.get(_SUBJECT_ALT_NAME))
    key = _key(parts.public_key)
    with warnings.catch_warnings():
        # Peers still send what the library deprecates, and the operator needs no warning of it.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        self_signed = _self_signed(certificate, parts, key)
        readable = _is_readable(certificate)

    structured = parts.complete and issuer_whole and subject_whole and extensions_whole
    well_formed = (
        readable
        and structured
        and times_whole
        and len(times) == 2
        and sans_whole
        and len(first_of_kind) == len(extensions)
        and all(attribute.clean for attribute in (*issuer, *subject))
    )
    return Certificate(
        sha256=hashlib.sha256(certificate).hexdigest(),
        malformed=not well_formed,
        subject_cn=next((each.text for each in subject if each.oid == _COMMON_NAME), ""),
        subject=_name_text(subject),
        issuer=_name_text(issuer),
        not_before=times[0] if times else "",
        not_after=times[1] if len(times) == 2 else "",
        sans=sans,
        self_signed=self_signed,
        serial=_integer(parts.serial).hex(),
        key=key.name,
        signature_algorithm=_algorithm(parts.signature_algorithm),
        structured=structured,
        issuer_oids=tuple([each.oid.hex() for each in issuer]),
        subject_oids=tuple([each.oid.hex() for each in subject]),
        extension_oids=tuple([oid.hex() for oid, _ in extensions]),
    )


def is_kept(certificate: Certificate) -> bool:
    """Whether its texts are short enough to be cached: CERTIFICATE_CACHED_BYTES."""
    return memory(certificate) <= CERTIFICATE_CACHED_BYTES


class CertificateCache:
    """Calls `describe`, and keeps the last results by the SHA-256 of the certificate.

    Servers send the same few certificates all the time. One whose texts are longer than
    CERTIFICATE_CACHED_BYTES is not kept, and all together take CERTIFICATE_CACHE_BYTES at most.
    """

    def __init__(
        self, entries: int = CERTIFICATE_CACHE, held: int = CERTIFICATE_CACHE_BYTES
    ) -> None:
        self._known: SizedCache[bytes, Certificate] = SizedCache(entries, held)

    def __len__(self) -> int:
        return len(self._known)

    def describe(self, certificate: bytes) -> Certificate:
        """Describe one certificate, as the function `describe` does."""
        digest = hashlib.sha256(certificate).digest()
        known = self._known.get(digest)
        if known is not None:
            return known
        described = describe(certificate)
        size = memory(described)
        if size <= CERTIFICATE_CACHED_BYTES:
            self._known.keep(digest, described, size)
        return described


# --- structure ------------------------------------------------------------------------------

_VERSION = asn1.context(0, constructed=True)
_UNIQUE_IDS = (asn1.context(1, constructed=False), asn1.context(2, constructed=False))
_EXTENSIONS = asn1.context(3, constructed=True)


@dataclass(slots=True)
class _Parts:
    """The contents of the parts of a TBSCertificate, as far as they could be read."""

    serial: bytes = b""
    signature_algorithm: bytes = b""
    issuer: bytes = b""
    validity: bytes = b""
    subject: bytes = b""
    named: bool = False
    """Issuer and subject were found."""
    public_key: bytes = b""
    extensions: bytes = b""
    complete: bool = False


def _split(certificate: bytes) -> _Parts:
    """Take Certificate and TBSCertificate apart (RFC 5280, 4.1) up to where they are broken."""
    parts = _Parts()
    try:
        # If the certificate was cut off, its beginning is read.
        outer, _ = asn1.read(certificate, clip=True)
        inner, _ = asn1.read(outer.content, clip=True)
        if (outer.tag, inner.tag) != (asn1.SEQUENCE, asn1.SEQUENCE):
            raise DerError("not a certificate")
        has_version = inner.content[:1] == bytes([_VERSION])
        fields = asn1.elements(inner.content)
        if has_version:
            asn1.take(fields, _VERSION)
        parts.serial = asn1.take(fields, asn1.INTEGER)
        parts.signature_algorithm = asn1.take(fields, asn1.SEQUENCE)
        parts.issuer = asn1.take(fields, asn1.SEQUENCE)
        parts.validity = asn1.take(fields, asn1.SEQUENCE)
        parts.subject = asn1.take(fields, asn1.SEQUENCE)
        parts.named = True
        parts.public_key = asn1.take(fields, asn1.SEQUENCE)
        for field in islice(fields, len(_UNIQUE_IDS) + 1):
            if field.tag == _EXTENSIONS:
                parts.extensions = asn1.take(asn1.elements(field.content), asn1.SEQUENCE)
            elif field.tag not in _UNIQUE_IDS:
                raise DerError("unknown part")
        parts.complete = next(fields, None) is None
    except DerError:
        pass
    return parts


def _until_error(items: Iterator[_T], limit: int) -> tuple[list[_T], bool]:
    """The items before the first broken one, at most `limit`, and whether those are all."""
    found: list[_T] = []
    try:
        for item in items:
            if len(found) == limit:
                return found, False
            found.append(item)
    except DerError:
        return found, False
    return found, True


def _times(validity: bytes) -> Iterator[str]:
    for tag, content in asn1.elements(validity):
        if tag not in (asn1.UTC_TIME, asn1.GENERALIZED_TIME):
            raise DerError("not a time")
        yield _utf8(content)


def _extensions(extensions: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The object identifier and value of each extension (RFC 5280, 4.1)."""
    for tag, content in asn1.elements(extensions):
        if tag != asn1.SEQUENCE:
            raise DerError("not an extension")
        fields = asn1.elements(content)
        oid = asn1.take(fields, asn1.OID)
        value = next(fields, None)
        if value is not None and value.tag == asn1.BOOLEAN:
            value = next(fields, None)
        if value is None or value.tag != asn1.OCTET_STRING:
            raise DerError("extension without a value")
        yield oid, value.content


def _integer(content: bytes) -> bytes:
    """An INTEGER's content without the zero byte that only says "positive"."""
    return content[1:] if len(content) > 1 and content[0] == 0 else content


# --- names ----------------------------------------------------------------------------------

_COMMON_NAME = b"\x55\x04\x03"
_ATTRIBUTES = {
    _COMMON_NAME: "CN",
    b"\x55\x04\x06": "C",
    b"\x55\x04\x07": "L",
    b"\x55\x04\x08": "ST",
    b"\x55\x04\x0a": "O",
    b"\x55\x04\x0b": "OU",
}

# Strings that should be ASCII are often UTF-8.
_ENCODINGS = {
    asn1.UTF8_STRING: "utf-8",
    asn1.PRINTABLE_STRING: "utf-8",
    asn1.IA5_STRING: "utf-8",
    asn1.NUMERIC_STRING: "utf-8",
    asn1.VISIBLE_STRING: "utf-8",
    asn1.TELETEX_STRING: "utf-8",
    asn1.BMP_STRING: "utf-16-be",
    asn1.UNIVERSAL_STRING: "utf-32-be",
}

_RFC4514_SPECIAL = str.maketrans({c: f"\\{c}" for c in '"+,;<>\\'} | {"\0": "\\00"})


class _Attribute(NamedTuple):
    oid: bytes
    type: str
    text: str
    is_text: bool
    """Else `text` is ``#`` and the hex of the value's DER (RFC 4514, 2.4)."""
    clean: bool
    """Whether object identifier and string are well formed."""


def _attributes(name: bytes) -> Iterator[_Attribute]:
    """The attributes of a distinguished name (RFC 5280, 4.1.2.4), those of one RDN in turn."""
    for tag, rdn in asn1.elements(name):
        if tag != asn1.SET or not rdn:
            raise DerError("not a relative distinguished name")
        for attribute in asn1.elements(rdn):
            if attribute.tag != asn1.SEQUENCE:
                raise DerError("not an attribute")
            fields = asn1.elements(attribute.content)
            oid = asn1.take(fields, asn1.OID)
            value = next(fields, None)
            if value is None:
                raise DerError("attribute without a value")
            kind = _ATTRIBUTES.get(oid) or _dotted(oid)
            text, is_text, clean = _string(value)
            yield _Attribute(oid, kind, text, is_text, clean and not kind.startswith("#"))


def _string(value: asn1.Element) -> tuple[str, bool, bool]:
    """Text of a value, whether it is a string, and whether it is a sound one or no string."""
    encoding = _ENCODINGS.get(value.tag)
    if encoding is None:
        return _hex_form(value), False, True
    try:
        return value.content.decode(encoding), True, True
    except UnicodeDecodeError:
        if value.tag == asn1.TELETEX_STRING:
            # T.61 by its name, but Latin-1 in practice.
            return value.content.decode("latin-1"), True, True
        if encoding == "utf-8":
            return _utf8(value.content), True, False
        return _hex_form(value), False, False


def _name_text(attributes: list[_Attribute]) -> str:
    return ", ".join(
        [f"{each.type}={_rfc4514(each.text) if each.is_text else each.text}" for each in attributes]
    )


def _rfc4514(value: str) -> str:
    """Escape an attribute value (RFC 4514, 2.4)."""
    escaped = value.translate(_RFC4514_SPECIAL)
    if escaped[:1] in (" ", "#"):
        escaped = f"\\{escaped}"
    # The last space of a value of one space is the first, too, and was escaped as such.
    if len(value) > 1 and escaped[-1] == " ":
        escaped = f"{escaped[:-1]}\\ "
    return escaped


def _hex_form(value: asn1.Element) -> str:
    return f"#{value.tag:02x}{asn1.length_octets(len(value.content)).hex()}{value.content.hex()}"


def _utf8(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _dotted(oid: bytes) -> str:
    """Write an object identifier in dotted decimal, or ``#`` and its hex if it is none."""
    try:
        return asn1.dotted(oid)
    except DerError:
        return f"#{oid.hex()}"


# --- alternative names ----------------------------------------------------------------------

_SUBJECT_ALT_NAME = b"\x55\x1d\x11"

# GeneralName's tags (RFC 5280, 4.2.1.6).
_OTHER_NAME = asn1.context(0, constructed=True)
_RFC822_NAME = asn1.context(1, constructed=False)
_DNS_NAME = asn1.context(2, constructed=False)
_X400_ADDRESS = asn1.context(3, constructed=True)
_DIRECTORY_NAME = asn1.context(4, constructed=True)
_EDI_PARTY_NAME = asn1.context(5, constructed=True)
_URI = asn1.context(6, constructed=False)
_IP_ADDRESS = asn1.context(7, constructed=False)
_REGISTERED_ID = asn1.context(8, constructed=False)

_OTHER_NAME_VALUE = asn1.context(0, constructed=True)


def _alternative_names(extension: bytes | None) -> tuple[tuple[str, ...], bool]:
    """The names before the first broken one, and whether those are all."""
    if extension is None:
        return (), True
    names, whole = _until_error(_general_names(extension), CERTIFICATE_SANS + 1)
    if len(names) > CERTIFICATE_SANS:
        return (*names[:CERTIFICATE_SANS], "..."), True
    return tuple(names), whole


def _general_names(extension: bytes) -> Iterator[str]:
    budget = CERTIFICATE_ATTRIBUTES
    for tag, content in asn1.elements(asn1.take(asn1.elements(extension), asn1.SEQUENCE)):
        if tag in (_DNS_NAME, _RFC822_NAME, _URI):
            yield _utf8(content)
        elif tag == _IP_ADDRESS:
            yield _ip_address(content)
        elif tag == _DIRECTORY_NAME:
            attributes = _directory_name(content, budget)
            budget -= len(attributes)
            yield f"DirName:{_name_text(attributes)}"
        elif tag == _REGISTERED_ID:
            yield f"RID:{asn1.dotted(content)}"
        elif tag == _OTHER_NAME:
            yield f"OtherName:{_other_name(content)}"
        elif tag == _X400_ADDRESS:
            yield "X400Name"
        elif tag == _EDI_PARTY_NAME:
            yield "EdiPartyName"
        else:
            raise DerError("not a general name")


def _ip_address(content: bytes) -> str:
    if len(content) not in (4, 16):
        raise DerError("not an address")
    return str(ipaddress.ip_address(content))


def _directory_name(content: bytes, limit: int) -> list[_Attribute]:
    name = asn1.take(asn1.elements(content), asn1.SEQUENCE)
    attributes, whole = _until_error(_attributes(name), limit)
    if not whole:
        raise DerError("broken or overlong directory name")
    return attributes


def _other_name(content: bytes) -> str:
    fields = asn1.elements(content)
    oid = asn1.dotted(asn1.take(fields, asn1.OID))
    value, _ = asn1.read(asn1.take(fields, _OTHER_NAME_VALUE))
    text, is_text, _ = _string(value)
    return f"{oid}={text}" if is_text else oid


# --- algorithms -----------------------------------------------------------------------------

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


class _Key(NamedTuple):
    name: str
    algorithm: str
    """The object identifier in dotted decimal; "" if there is none."""
    verifiable: bool
    """Whether it is cheap enough to verify a signature with: VERIFY_KEY_BITS."""
    der: bytes = b""
    """The SubjectPublicKeyInfo, its curve named if it was written out."""


def _key(public_key: bytes) -> _Key:
    """Name a SubjectPublicKeyInfo (RFC 5280, 4.1.2.7)."""
    der = asn1.element(asn1.SEQUENCE, public_key)
    oid = ""
    try:
        fields = asn1.elements(public_key)
        algorithm = asn1.elements(asn1.take(fields, asn1.SEQUENCE))
        oid = _dotted(asn1.take(algorithm, asn1.OID))
        if oid in (RSA, RSA_PSS):
            # The bit string's first byte counts its unused bits.
            numbers, _ = asn1.read(asn1.take(fields, asn1.BIT_STRING), 1)
            both = asn1.elements(numbers.content)
            bits = _bit_length(asn1.take(both, asn1.INTEGER))
            affordable = bits <= VERIFY_KEY_BITS and _is_small_exponent(both)
            return _Key(f"rsa{bits}", oid, affordable, der)
        if oid == DSA:
            parameters = asn1.elements(asn1.take(algorithm, asn1.SEQUENCE))
            bits = _bit_length(asn1.take(parameters, asn1.INTEGER))
            affordable = bits <= VERIFY_KEY_BITS and _is_usual_order(parameters)
            return _Key(f"dsa{bits}", oid, affordable, der)
        if oid == EC:
            return _ec_key(next(algorithm, None), fields, der)
    except DerError:
        return _Key(oid, oid, False)
    return _Key(_KEYS.get(oid, oid), oid, oid in _KEYS, der)


def _is_small_exponent(numbers: Iterator[asn1.Element]) -> bool:
    exponent = next(numbers, None)
    return exponent is not None and _bit_length(exponent.content) <= VERIFY_EXPONENT_BITS


def _is_usual_order(parameters: Iterator[asn1.Element]) -> bool:
    order = next(parameters, None)
    return order is not None and _bit_length(order.content) in _DSA_ORDER_BITS


def _ec_key(curve: asn1.Element | None, fields: Iterator[asn1.Element], der: bytes) -> _Key:
    """A key on an elliptic curve, which `curve` names or writes out (RFC 3279, 2.3.5)."""
    if curve is None:
        raise DerError("no curve")
    if curve.tag == asn1.OID:
        oid = _dotted(curve.content)
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
    return _Key(f"ec-{_CURVES.get(oid, oid)}", EC, True, der)


def _bit_length(integer: bytes) -> int:
    return int.from_bytes(integer, "big").bit_length()


def _algorithm(identifier: bytes) -> str:
    """Name an AlgorithmIdentifier; "" if it has no object identifier."""
    try:
        oid = _dotted(asn1.take(asn1.elements(identifier), asn1.OID))
    except DerError:
        return ""
    return _SIGNATURES.get(oid, oid)


# --- the self-signature      ----------------------------------------------------------------


def _is_readable(certificate: bytes) -> bool:
    try:
        x509.load_der_x509_certificate(certificate)
    except (ValueError, x509.InvalidVersion):
        return False
    return True


def _self_signed(certificate: bytes, parts: _Parts, key: _Key) -> bool | None:
    """See Certificate.self_signed."""
    if not parts.named:
        return None
    if parts.issuer != parts.subject:
        return False
    if not key.verifiable:
        return None
    return self_signature.verifies(certificate, key.der, key.algorithm)


_values = attrgetter(*(field.name for field in fields(Certificate)))


def memory(certificate: Certificate) -> int:
    """Bytes of memory that the texts of a description take."""
    return sum(
        sum(map(sys.getsizeof, value)) if isinstance(value, tuple) else sys.getsizeof(value)
        for value in _values(certificate)
    )

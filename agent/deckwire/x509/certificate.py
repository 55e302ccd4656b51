"""X.509 certificates (RFC 5280) as they pass on the wire: described in text, never trusted.

The texts come from a DER walk of our own. It reads what it can of a broken certificate too, and
keeps the order and wording of the bytes. The cryptography library judges whether the whole is a
certificate. `self_signature` finds out whether the certificate's own key made the signature. Both
are imported with the first certificate, because the library takes 9 MB of memory.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from deckwire.limits import CERTIFICATE_ATTRIBUTES, CERTIFICATE_EXTENSIONS
from deckwire.x509 import der as asn1
from deckwire.x509.alternative_names import SUBJECT_ALT_NAME, alternative_names
from deckwire.x509.der import DerError
from deckwire.x509.names import COMMON_NAME, attributes, name_text, utf8
from deckwire.x509.public_key import PublicKey, public_key, signature_name

_VERSION = asn1.context(0, constructed=True)
_UNIQUE_IDS = (asn1.context(1, constructed=False), asn1.context(2, constructed=False))
_EXTENSIONS = asn1.context(3, constructed=True)


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
    """Describe one DER certificate; any bytes give a value. Pure: `cache` keeps results."""
    parts = _split(certificate)
    issuer, issuer_whole = asn1.until_error(attributes(parts.issuer), CERTIFICATE_ATTRIBUTES)
    subject, subject_whole = asn1.until_error(attributes(parts.subject), CERTIFICATE_ATTRIBUTES)
    times, times_whole = asn1.until_error(_times(parts.validity), 2)
    extensions, extensions_whole = asn1.until_error(
        _extensions(parts.extensions), CERTIFICATE_EXTENSIONS
    )
    first_of_kind = dict(reversed(extensions))
    sans, sans_whole = alternative_names(first_of_kind.get(SUBJECT_ALT_NAME))
    key = public_key(parts.public_key)
    self_signed, readable = _judge(certificate, parts, key)
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
        subject_cn=next((each.text for each in subject if each.oid == COMMON_NAME), ""),
        subject=name_text(subject),
        issuer=name_text(issuer),
        not_before=times[0] if times else "",
        not_after=times[1] if len(times) == 2 else "",
        sans=sans,
        self_signed=self_signed,
        serial=_integer(parts.serial).hex(),
        key=key.name,
        signature_algorithm=signature_name(parts.signature_algorithm),
        structured=structured,
        issuer_oids=tuple([each.oid.hex() for each in issuer]),
        subject_oids=tuple([each.oid.hex() for each in subject]),
        extension_oids=tuple([oid.hex() for oid, _ in extensions]),
    )


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


def _times(validity: bytes) -> Iterator[str]:
    for tag, content in asn1.elements(validity):
        if tag not in (asn1.UTC_TIME, asn1.GENERALIZED_TIME):
            raise DerError("not a time")
        yield utf8(content)


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


def _judge(certificate: bytes, parts: _Parts, key: PublicKey) -> tuple[bool | None, bool]:
    """What needs the library: Certificate.self_signed, and whether it reads the certificate."""
    from cryptography import x509  # noqa: PLC0415 - 9 MB, and many agents see no certificate
    from cryptography.utils import CryptographyDeprecationWarning  # noqa: PLC0415

    with warnings.catch_warnings():
        # Peers still send what the library deprecates, and the operator needs no warning of it.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        self_signed = _self_signed(certificate, parts, key)
        try:
            x509.load_der_x509_certificate(certificate)
        except (ValueError, x509.InvalidVersion):
            return self_signed, False
    return self_signed, True


def _self_signed(certificate: bytes, parts: _Parts, key: PublicKey) -> bool | None:
    """See Certificate.self_signed."""
    if not parts.named:
        return None
    if parts.issuer != parts.subject:
        return False
    if not key.verifiable:
        return None
    from deckwire.x509.self_signature import verifies  # noqa: PLC0415 - it imports the library

    return verifies(certificate, key.der, key.algorithm)

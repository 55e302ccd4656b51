"""The alternative names of a certificate, as text (RFC 5280, 4.2.1.6)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from deckwire.limits import CERTIFICATE_ATTRIBUTES, CERTIFICATE_SANS
from deckwire.x509 import der as asn1
from deckwire.x509.der import DerError
from deckwire.x509.names import Attribute, attributes, name_text, string, utf8

SUBJECT_ALT_NAME = b"\x55\x1d\x11"
"""The extension's object identifier, as content."""

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


def alternative_names(extension: bytes | None) -> tuple[tuple[str, ...], bool]:
    """The names in the extension before the first broken one, and whether those are all.

    At most CERTIFICATE_SANS names; ``...`` stands for those after them.
    """
    if extension is None:
        return (), True
    names, whole = asn1.until_error(_general_names(extension), CERTIFICATE_SANS + 1)
    if len(names) > CERTIFICATE_SANS:
        return (*names[:CERTIFICATE_SANS], "..."), True
    return tuple(names), whole


def _general_names(extension: bytes) -> Iterator[str]:
    budget = CERTIFICATE_ATTRIBUTES
    for tag, content in asn1.elements(asn1.take(asn1.elements(extension), asn1.SEQUENCE)):
        if tag in (_DNS_NAME, _RFC822_NAME, _URI):
            yield utf8(content)
        elif tag == _IP_ADDRESS:
            yield _ip_address(content)
        elif tag == _DIRECTORY_NAME:
            name = _directory_name(content, budget)
            budget -= len(name)
            yield f"DirName:{name_text(name)}"
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


def _directory_name(content: bytes, limit: int) -> list[Attribute]:
    name = asn1.take(asn1.elements(content), asn1.SEQUENCE)
    found, whole = asn1.until_error(attributes(name), limit)
    if not whole:
        raise DerError("broken or overlong directory name")
    return found


def _other_name(content: bytes) -> str:
    fields = asn1.elements(content)
    oid = asn1.dotted(asn1.take(fields, asn1.OID))
    value, _ = asn1.read(asn1.take(fields, _OTHER_NAME_VALUE))
    text, is_text, _ = string(value)
    return f"{oid}={text}" if is_text else oid

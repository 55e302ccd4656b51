"""Distinguished names and strings of certificates, as text (RFC 5280, 4.1.2.4; RFC 4514)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from deckwire.x509 import der as asn1
from deckwire.x509.der import DerError

COMMON_NAME = b"\x55\x04\x03"
_ATTRIBUTES = {
    COMMON_NAME: "CN",
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


class Attribute(NamedTuple):
    """One attribute of a name."""

    oid: bytes
    type: str
    text: str
    is_text: bool
    """Else `text` is ``#`` and the hex of the value's DER (RFC 4514, 2.4)."""
    clean: bool
    """Whether object identifier and string are well formed."""


def attributes(name: bytes) -> Iterator[Attribute]:
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
            kind = _ATTRIBUTES.get(oid) or asn1.dotted_or_hex(oid)
            text, is_text, clean = string(value)
            yield Attribute(oid, kind, text, is_text, clean and not kind.startswith("#"))


def string(value: asn1.Element) -> tuple[str, bool, bool]:
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
            return utf8(value.content), True, False
        return _hex_form(value), False, False


def name_text(attributes: list[Attribute]) -> str:
    """All attributes in order, ``K=value`` joined ``, ``, values escaped (RFC 4514)."""
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


def utf8(content: bytes) -> str:
    """Text of a string; bytes that are not UTF-8 become surrogate escapes."""
    return content.decode("utf-8", "surrogateescape")

"""JA4, the fingerprint of a TLS ClientHello (FoxIO, BSD-3-Clause, no patent claim).

The other methods of the JA4 family stand under another licence: see `ja4plus`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence

from deckwire.tls.grease import is_grease
from deckwire.tls.messages import ClientHello, ExtensionType

EMPTY = "000000000000"
"""The hash of a list without items."""

_NOT_HASHED = frozenset({int(ExtensionType.SERVER_NAME), int(ExtensionType.ALPN)})

_VERSIONS = {
    0x0304: "13",
    0x0303: "12",
    0x0302: "11",
    0x0301: "10",
    0x0300: "s3",
    0x0002: "s2",
    0xFEFF: "d1",
    0xFEFD: "d2",
    0xFEFC: "d3",
}

_ALPHANUMERIC = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def ja4(hello: ClientHello) -> str:
    """JA4 as commonly stored: hashes of the sorted lists, 36 characters."""
    return _hashed(hello, in_wire_order=False)


def ja4_r(hello: ClientHello) -> str:
    """The sorted lists of `ja4` in plain text."""
    return "_".join(_parts(hello, in_wire_order=False))


def ja4_o(hello: ClientHello) -> str:
    """As `ja4`, of the lists in wire order with server_name and ALPN kept."""
    return _hashed(hello, in_wire_order=True)


def ja4_ro(hello: ClientHello) -> str:
    """The lists of `ja4_o` in plain text."""
    return "_".join(_parts(hello, in_wire_order=True))


def short_hash(text: str) -> str:
    """First 12 hex digits of the SHA-256 of `text`; zeros, not the hash of nothing, for ""."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:12] if text else EMPTY


def hex_list(values: Sequence[int]) -> str:
    """16-bit values as four lower-case hex digits each, joined with commas."""
    return struct.pack(f">{len(values)}H", *values).hex(",", 2)


def without_grease(values: Iterable[int]) -> list[int]:
    """`values` in their order, without the reserved ones of RFC 8701."""
    return [value for value in values if not is_grease(value)]


def count_tag(number: int) -> str:
    """Two decimal digits, at most ``99``."""
    return f"{min(number, 99):02d}"


def version_tag(version: int) -> str:
    """The two characters for a TLS or DTLS version on the wire; ``00`` for an unknown one."""
    return _VERSIONS.get(version, "00")


def offered_version(hello: ClientHello) -> int:
    """The highest version offered, by number, GREASE aside.

    A supported_versions extension that offers none (only GREASE, or unreadable) counts as absent:
    the definition is silent there.
    """
    return max(without_grease(hello.supported_versions), default=hello.legacy_version)


def alpn_tag(protocol: bytes | None) -> str:
    """First and last character of an ALPN protocol name; ``00`` for none or an empty one.

    Unless both are ASCII letters or digits: the first hex digit of the first byte and the last
    hex digit of the last byte.
    """
    if not protocol:
        return "00"
    first, last = protocol[0], protocol[-1]
    if first in _ALPHANUMERIC and last in _ALPHANUMERIC:
        return chr(first) + chr(last)
    return f"{first >> 4:x}{last & 0x0F:x}"


def _hashed(hello: ClientHello, *, in_wire_order: bool) -> str:
    a, ciphers, c = _parts(hello, in_wire_order=in_wire_order)
    # Signature algorithms come in an extension: without an extension there is nothing to hash.
    return f"{a}_{short_hash(ciphers)}_{short_hash(c)}"


def _parts(hello: ClientHello, *, in_wire_order: bool) -> tuple[str, str, str]:
    """The parts a, b and c, the latter two before hashing."""
    ciphers = without_grease(hello.cipher_suites)
    extensions = without_grease([kind for kind, _ in hello.extensions])
    algorithms = without_grease(hello.signature_algorithms)
    a = "".join(
        (
            "t",
            version_tag(offered_version(hello)),
            "d" if ExtensionType.SERVER_NAME in extensions else "i",
            count_tag(len(ciphers)),
            count_tag(len(extensions)),
            alpn_tag(next(iter(hello.alpn), None)),
        )
    )
    if not in_wire_order:
        ciphers.sort()
        extensions = sorted([kind for kind in extensions if kind not in _NOT_HASHED])
    c = hex_list(extensions)
    if algorithms:
        c = f"{c}_{hex_list(algorithms)}"
    return a, hex_list(ciphers), c

"""JA4, the fingerprint of a TLS ClientHello (FoxIO, BSD-3-Clause, no patent claim).

The other methods of the JA4 family have another licence: see `ja4plus`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence

from deckwire.tls.code_points import (
    DTLS10,
    DTLS12,
    DTLS13,
    SSL20,
    SSL30,
    TLS10,
    TLS11,
    TLS12,
    TLS13,
    ExtensionType,
    is_grease,
)
from deckwire.tls.messages import ClientHello

EMPTY = "000000000000"
"""The hash of an empty list."""

_NOT_HASHED = frozenset({ExtensionType.SERVER_NAME, ExtensionType.ALPN})

STABLE_LEAVES_OUT = frozenset(
    {
        ExtensionType.PADDING,
        ExtensionType.SESSION_TICKET,
        ExtensionType.PRE_SHARED_KEY,
        ExtensionType.EARLY_DATA,
    }
)
"""Extensions that come and go between the first and a resumed handshake of one client."""

_VERSIONS = {
    TLS13: "13",
    TLS12: "12",
    TLS11: "11",
    TLS10: "10",
    SSL30: "s3",
    SSL20: "s2",
    DTLS10: "d1",
    DTLS12: "d2",
    DTLS13: "d3",
}

_ALPHANUMERIC = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def ja4(hello: ClientHello) -> str:
    """Return JA4, hashes of the sorted lists: 36 characters."""
    return _hashed(hello, in_wire_order=False)


def ja4_stable(hello: ClientHello) -> str:
    """Return JA4 without the extensions of STABLE_LEAVES_OUT, neither counted nor hashed.

    A first, a resumed and a 0-RTT handshake of one client then have the same value.
    """
    return _hashed(hello, in_wire_order=False, leave_out=STABLE_LEAVES_OUT)


def ja4_r(hello: ClientHello) -> str:
    """Return JA4_r, the sorted lists of `ja4` in plain text."""
    return "_".join(_parts(hello, in_wire_order=False))


def ja4_o(hello: ClientHello) -> str:
    """Return JA4_o: like `ja4`, but with lists in wire order that keep server_name and ALPN."""
    return _hashed(hello, in_wire_order=True)


def ja4_ro(hello: ClientHello) -> str:
    """Return JA4_ro, the lists of `ja4_o` in plain text."""
    return "_".join(_parts(hello, in_wire_order=True))


def short_hash(text: str) -> str:
    """Return the first 12 hex digits of the SHA-256 of `text`; EMPTY for ""."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:12] if text else EMPTY


def hex_list(values: Sequence[int]) -> str:
    """Return 16-bit values as four lower-case hex digits each, joined with commas."""
    return struct.pack(f">{len(values)}H", *values).hex(",", 2)


def without_grease(values: Iterable[int]) -> list[int]:
    """Return `values` in their order, without the reserved values of RFC 8701."""
    return [value for value in values if not is_grease(value)]


def count_tag(number: int) -> str:
    """Return a count as two decimal digits, at most ``99``."""
    return f"{min(number, 99):02d}"


def version_tag(version: int) -> str:
    """Return the two characters for a TLS or DTLS version; ``00`` for an unknown version."""
    return _VERSIONS.get(version, "00")


def offered_version(hello: ClientHello) -> int:
    """Return the version offered with the highest number, without GREASE.

    A supported_versions extension without a version (only GREASE, or malformed) counts as absent,
    because the definition does not cover it.
    """
    return max(without_grease(hello.supported_versions), default=hello.legacy_version)


def alpn_tag(protocol: bytes | None) -> str:
    """Return the first and last character of an ALPN protocol name; ``00`` without a name.

    If one of the two is not an ASCII letter or digit, the tag is the first hex digit of the first
    byte and the last hex digit of the last byte.
    """
    if not protocol:
        return "00"
    first, last = protocol[0], protocol[-1]
    if first in _ALPHANUMERIC and last in _ALPHANUMERIC:
        return chr(first) + chr(last)
    return f"{first >> 4:x}{last & 0x0F:x}"


def _hashed(
    hello: ClientHello, *, in_wire_order: bool, leave_out: frozenset[int] = frozenset()
) -> str:
    a, ciphers, c = _parts(hello, in_wire_order=in_wire_order, leave_out=leave_out)
    # Signature algorithms are in an extension, so c is empty if the hello has no extensions.
    return f"{a}_{short_hash(ciphers)}_{short_hash(c)}"


def _parts(
    hello: ClientHello, *, in_wire_order: bool, leave_out: frozenset[int] = frozenset()
) -> tuple[str, str, str]:
    """Return the parts ja4_a, ja4_b and ja4_c, the last two before hashing."""
    ciphers = without_grease(hello.cipher_suites)
    kinds = [kind for kind, _ in hello.extensions if kind not in leave_out]
    extensions = without_grease(kinds)
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

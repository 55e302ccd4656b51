"""JA3 and JA3S, the MD5 fingerprints of client and server hellos (Salesforce, BSD-3-Clause)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from deckwire.tls.code_points import is_grease
from deckwire.tls.messages import ClientHello, ServerHello


def ja3_full(hello: ClientHello) -> str:
    """Return ``version,ciphers,extensions,groups,point formats`` in decimal.

    Lists keep wire order and lose GREASE. The version is legacy_version, also in TLS 1.3. A list
    that the hello does not have is an empty field.
    """
    return ",".join(
        (
            str(hello.legacy_version),
            _dashed(hello.cipher_suites),
            _dashed([kind for kind, _ in hello.extensions]),
            _dashed(hello.supported_groups),
            "-".join(map(str, hello.ec_point_formats)),
        )
    )


def ja3s_full(hello: ServerHello) -> str:
    """Return ``version,cipher,extensions`` in decimal and wire order.

    GREASE stays, as in the original implementation.
    """
    extensions = "-".join([str(kind) for kind, _ in hello.extensions])
    return f"{hello.legacy_version},{hello.cipher_suite},{extensions}"


def ja3(hello: ClientHello) -> str:
    """Return the MD5 of `ja3_full`, 32 lower-case hex digits."""
    return _md5(ja3_full(hello))


def ja3s(hello: ServerHello) -> str:
    """Return the MD5 of `ja3s_full`, 32 lower-case hex digits."""
    return _md5(ja3s_full(hello))


def _dashed(values: Iterable[int]) -> str:
    return "-".join([str(value) for value in values if not is_grease(value)])


def _md5(text: str) -> str:
    return hashlib.md5(text.encode("ascii"), usedforsecurity=False).hexdigest()

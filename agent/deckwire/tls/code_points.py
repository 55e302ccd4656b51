"""The numbers of TLS that the agent acts on: versions, record, message and extension types, GREASE.

Source: IANA, "Transport Layer Security (TLS) Parameters" and "TLS ExtensionType Values".
`registry` has the names of versions, cipher suites and groups.
"""

from __future__ import annotations

from typing import Final

SSL20 = 0x0002
SSL30 = 0x0300
TLS10 = 0x0301
TLS11 = 0x0302
TLS12 = 0x0303
TLS13 = 0x0304
"""Versions as they stand on the wire, in legacy_version and in supported_versions."""

DTLS10 = 0xFEFF
DTLS12 = 0xFEFD
DTLS13 = 0xFEFC
"""Versions of DTLS. The agent reads TCP only, but a ClientHello may offer any version."""

DRAFT_MAJOR = 0x7F
"""High byte of the versions of TLS 1.3 drafts; the low byte is the draft's number."""

# Classes of plain numbers: comparing with a member of an IntEnum takes several times as long.


class ContentType:
    """Record types: those of a clear-text flight, and the two that end it (RFC 8446, B.1)."""

    CHANGE_CIPHER_SPEC: Final = 20
    ALERT: Final = 21
    HANDSHAKE: Final = 22
    APPLICATION_DATA: Final = 23
    HEARTBEAT: Final = 24


class HandshakeType:
    """Handshake messages that the agent parses (RFC 8446, B.3)."""

    CLIENT_HELLO: Final = 1
    SERVER_HELLO: Final = 2
    CERTIFICATE: Final = 11
    CLIENT_KEY_EXCHANGE: Final = 16
    SSL2_CLIENT_HELLO: Final = 0x100
    """The hello of SSL 2.0: no number on the wire, which is 1 there too."""


class ExtensionType:
    """Extensions that the agent parses, or whose presence counts (RFC 8446, 4.2)."""

    SERVER_NAME: Final = 0
    SUPPORTED_GROUPS: Final = 10
    EC_POINT_FORMATS: Final = 11
    SIGNATURE_ALGORITHMS: Final = 13
    ALPN: Final = 16
    PADDING: Final = 21
    SESSION_TICKET: Final = 35
    PRE_SHARED_KEY: Final = 41
    EARLY_DATA: Final = 42
    SUPPORTED_VERSIONS: Final = 43
    COOKIE: Final = 44
    KEY_SHARE: Final = 51
    ENCRYPTED_CLIENT_HELLO: Final = 0xFE0D


GREASE = frozenset(0x0A0A + 0x1010 * n for n in range(16))
"""Sixteen reserved values that clients add to their lists to keep servers tolerant (RFC 8701).

They are the same for cipher suites, extensions, groups, versions and signature algorithms."""


def is_grease(value: int) -> bool:
    """Return whether a 16-bit value is one of GREASE."""
    return value in GREASE

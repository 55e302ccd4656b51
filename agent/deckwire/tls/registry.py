"""Names of TLS code points: versions, cipher suites and named groups (IANA TLS parameters)."""

from __future__ import annotations

from deckwire.tls.cipher_suites import CIPHER_SUITES
from deckwire.tls.code_points import DRAFT_MAJOR, SSL20, SSL30, TLS10, TLS11, TLS12, TLS13

_VERSIONS = {
    SSL20: "SSL 2.0",
    SSL30: "SSL 3.0",
    TLS10: "TLS 1.0",
    TLS11: "TLS 1.1",
    TLS12: "TLS 1.2",
    TLS13: "TLS 1.3",
}

_CLASSIC_GROUPS = {
    0x0001: "sect163k1",
    0x0002: "sect163r1",
    0x0003: "sect163r2",
    0x0004: "sect193r1",
    0x0005: "sect193r2",
    0x0006: "sect233k1",
    0x0007: "sect233r1",
    0x0008: "sect239k1",
    0x0009: "sect283k1",
    0x000A: "sect283r1",
    0x000B: "sect409k1",
    0x000C: "sect409r1",
    0x000D: "sect571k1",
    0x000E: "sect571r1",
    0x000F: "secp160k1",
    0x0010: "secp160r1",
    0x0011: "secp160r2",
    0x0012: "secp192k1",
    0x0013: "secp192r1",
    0x0014: "secp224k1",
    0x0015: "secp224r1",
    0x0016: "secp256k1",
    0x0017: "secp256r1",
    0x0018: "secp384r1",
    0x0019: "secp521r1",
    0x001A: "brainpoolP256r1",
    0x001B: "brainpoolP384r1",
    0x001C: "brainpoolP512r1",
    0x001D: "x25519",
    0x001E: "x448",
    0x001F: "brainpoolP256r1tls13",
    0x0020: "brainpoolP384r1tls13",
    0x0021: "brainpoolP512r1tls13",
    0x0022: "GC256A",
    0x0023: "GC256B",
    0x0024: "GC256C",
    0x0025: "GC256D",
    0x0026: "GC512A",
    0x0027: "GC512B",
    0x0028: "GC512C",
    0x0029: "curveSM2",
    0x0100: "ffdhe2048",
    0x0101: "ffdhe3072",
    0x0102: "ffdhe4096",
    0x0103: "ffdhe6144",
    0x0104: "ffdhe8192",
    0xFF01: "arbitrary_explicit_prime_curves",
    0xFF02: "arbitrary_explicit_char2_curves",
}

_POST_QUANTUM_GROUPS = {
    0x0200: "MLKEM512",
    0x0201: "MLKEM768",
    0x0202: "MLKEM1024",
    0x11EB: "SecP256r1MLKEM768",
    0x11EC: "X25519MLKEM768",
    0x11ED: "SecP384r1MLKEM1024",
    0x11EE: "curveSM2MLKEM768",
    # Experiments and drafts: never registered, but released software uses them.
    0x023A: "kyber512",
    0x023C: "kyber768",
    0x023D: "kyber1024",
    0x2F39: "x25519_kyber512",
    0x2F3A: "p256_kyber512",
    0x2F3C: "p384_kyber768",
    0x2F3D: "p521_kyber1024",
    0x4138: "CECPQ2",
    0x6399: "X25519Kyber768Draft00",
    0x639A: "SecP256r1Kyber768Draft00",
    0xFE30: "X25519Kyber512Draft00",
    0xFE31: "X25519Kyber768Draft00Old",
    0xFE32: "P256Kyber768Draft00",
}

_GROUPS = _CLASSIC_GROUPS | _POST_QUANTUM_GROUPS


def version_name(version: int) -> str:
    """Return e.g. "TLS 1.2", "TLS 1.3 (draft 18)", and hex such as "0x0a0b" if unknown."""
    if version >> 8 == DRAFT_MAJOR:
        return f"TLS 1.3 (draft {version & 0xFF})"
    return _VERSIONS.get(version, f"0x{version:04x}")


def cipher_suite_name(suite: int) -> str:
    """Return the IANA name, e.g. "TLS_AES_128_GCM_SHA256"; hex if it has none."""
    return CIPHER_SUITES.get(suite, f"0x{suite:04x}")


def group_name(group: int) -> str:
    """Return the name of a supported group, e.g. "x25519"; hex if it has none."""
    return _GROUPS.get(group, f"0x{group:04x}")


def is_post_quantum(group: int) -> bool:
    """Return whether a supported group is known to include a post-quantum key exchange."""
    return group in _POST_QUANTUM_GROUPS

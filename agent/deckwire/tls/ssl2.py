"""The ClientHello of SSL 2.0, in which clients may offer SSL 3.0 and TLS (RFC 5246, E.2)."""

from __future__ import annotations

from struct import Struct

from deckwire.tls.errors import Malformed

SSL2_HEADER_BYTES = 2
_PREFIX_BYTES = 5
_CLIENT_HELLO = 1
_FIXED = Struct(">BHHHH")
"""Message type, version, and the lengths of cipher specs, session id and challenge."""
_SPEC_BYTES = 3
_LEAST = _FIXED.size + _SPEC_BYTES


def begins_ssl2(prefix: bytes) -> bool | None:
    """Return whether bytes begin a record with a ClientHello of SSL 2.0; None if more are needed.

    The version must be 2.0, or one with the major number 3.
    """
    if not prefix:
        return None
    if not prefix[0] & 0x80:
        return False
    if len(prefix) < _PREFIX_BYTES:
        return None if prefix[2:3] in {b"", b"\x01"} else False
    if prefix[2] != _CLIENT_HELLO or ssl2_length(prefix) < _LEAST:
        return False
    return prefix[3] == 3 or prefix[3:5] == b"\0\2"


def ssl2_length(data: bytes, at: int = 0) -> int:
    """Return the length of the record that begins at `at`, without its header of two bytes."""
    return int.from_bytes(data[at : at + SSL2_HEADER_BYTES], "big") & 0x7FFF


def read_hello(body: bytes) -> tuple[int, tuple[int, ...]]:
    """Return version and cipher specs of a hello from its record's content; raises Malformed.

    A spec is a number of 24 bits; those below 0x10000 are cipher suites of TLS.
    """
    if len(body) < _FIXED.size:
        raise Malformed("ClientHello of SSL 2.0 too short")
    _, version, specs, session_id, challenge = _FIXED.unpack_from(body)
    if specs % _SPEC_BYTES or _FIXED.size + specs + session_id + challenge != len(body):
        raise Malformed("lengths of a ClientHello of SSL 2.0 do not fit")
    ends = range(_FIXED.size, _FIXED.size + specs, _SPEC_BYTES)
    return version, tuple(int.from_bytes(body[at : at + _SPEC_BYTES], "big") for at in ends)

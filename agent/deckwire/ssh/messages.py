"""KEXINIT (RFC 4253, 7.1): the algorithms that one end offers."""

from __future__ import annotations

import struct
from typing import NamedTuple

from construct import Bytes, ConstructError, Int8ub, Int32ub, Struct, this

from deckwire.schema import Compiled

KEXINIT = 20
_COOKIE_BYTES = 16
_LISTS = (
    *("kex", "host_keys", "ciphers_to_server", "ciphers_to_client"),
    *("macs_to_server", "macs_to_client", "compressions_to_server", "compressions_to_client"),
    *("languages_to_server", "languages_to_client"),
)
_LENGTHS = tuple(f"{name}_length" for name in _LISTS)
_FIXED_BYTES = 1 + _COOKIE_BYTES + 4 * len(_LISTS) + 1 + 4

_SCHEMA = Compiled(
    Struct(
        "message" / Int8ub,
        "cookie" / Bytes(_COOKIE_BYTES),
        *(
            field
            for name, length in zip(_LISTS, _LENGTHS, strict=True)
            for field in (length / Int32ub, name / Bytes(this[length]))
        ),
        "first_packet_follows" / Int8ub,
        "reserved" / Int32ub,
    )
)


class MalformedKexInit(Exception):
    """Bytes that are no KEXINIT."""


class KexInit(NamedTuple):
    """The name lists of a KEXINIT, as they were sent: names joined with ``,``.

    Those of languages are left out, because nobody fills them.
    """

    kex: bytes
    host_keys: bytes
    ciphers_to_server: bytes
    ciphers_to_client: bytes
    macs_to_server: bytes
    macs_to_client: bytes
    compressions_to_server: bytes
    compressions_to_client: bytes

    @property
    def is_strict(self) -> bool:
        """Whether it offers strict key exchange (OpenSSH's answer to CVE-2023-48795)."""
        return self._has(b"kex-strict-c-v00@openssh.com", b"kex-strict-s-v00@openssh.com")

    @property
    def has_extensions(self) -> bool:
        """Whether it takes EXT_INFO messages (RFC 8308, 2.1)."""
        return self._has(b"ext-info-c", b"ext-info-s")

    def _has(self, *names: bytes) -> bool:
        return not {*names}.isdisjoint(self.kex.split(b","))


def parse_kexinit(payload: bytes) -> KexInit:
    """Parse the payload of a packet; MalformedKexInit if it is no KEXINIT, whole and alone."""
    try:
        fields = _SCHEMA.parse(payload)
    except (ConstructError, struct.error, ValueError) as error:
        raise MalformedKexInit("too short") from error
    # The compiled schema does not notice a list that is shorter than its length says.
    if _FIXED_BYTES + sum([fields[length] for length in _LENGTHS]) != len(payload):
        raise MalformedKexInit("its lengths do not add up")
    if fields.message != KEXINIT:
        raise MalformedKexInit("another message")
    return KexInit(*[fields[name] for name in KexInit._fields])

"""KEXINIT (RFC 4253, 7.1): the algorithms that one end offers."""

from __future__ import annotations

from typing import NamedTuple

KEXINIT = 20
_NUMBER = bytes([KEXINIT])
_FIRST_BYTES = 1 + 16
"""The number of the message, and the cookie."""
_LISTS = 10
_LAST_BYTES = 1 + 4
"""first_kex_packet_follows, and a reserved number."""


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
    if payload[:1] != _NUMBER:
        raise MalformedKexInit("another message")
    lists = []
    end = _FIRST_BYTES
    for _ in range(_LISTS):
        start = end + 4
        end = start + int.from_bytes(payload[end:start], "big")
        lists.append(payload[start:end])
    # Where this holds, all lengths and lists are inside the payload.
    if end + _LAST_BYTES != len(payload):
        raise MalformedKexInit("its lengths do not add up")
    return KexInit(*lists[: len(KexInit._fields)])

"""A bounded cache of described certificates."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import fields
from operator import attrgetter

from deckwire.limits import CERTIFICATE_CACHE, CERTIFICATE_CACHE_BYTES, CERTIFICATE_CACHED_BYTES
from deckwire.resilience.sized_cache import SizedCache
from deckwire.x509.certificate import Certificate, describe

_values = attrgetter(*(field.name for field in fields(Certificate)))


def memory(certificate: Certificate) -> int:
    """Bytes of memory that the texts of a description take."""
    return sum(
        sum(map(sys.getsizeof, value)) if isinstance(value, tuple) else sys.getsizeof(value)
        for value in _values(certificate)
    )


def is_kept(certificate: Certificate) -> bool:
    """Whether its texts are short enough to be cached: CERTIFICATE_CACHED_BYTES."""
    return memory(certificate) <= CERTIFICATE_CACHED_BYTES


class CertificateCache:
    """Calls `describe`, and keeps the last results by the SHA-256 of the certificate.

    Servers send the same few certificates all the time. One whose texts are longer than
    CERTIFICATE_CACHED_BYTES is not kept, and all together take CERTIFICATE_CACHE_BYTES at most.
    """

    def __init__(
        self, entries: int = CERTIFICATE_CACHE, held: int = CERTIFICATE_CACHE_BYTES
    ) -> None:
        self._known: SizedCache[bytes, Certificate] = SizedCache(entries, held)
        self._last: tuple[bytes, Certificate] | None = None
        """The certificate found last, whose SHA-256 is not computed again."""

    def __len__(self) -> int:
        return len(self._known)

    def describe(self, certificate: bytes) -> Certificate:
        """Describe one certificate, as the function `describe` does."""
        if self._last is not None and self._last[0] == certificate:
            return self._last[1]
        digest = hashlib.sha256(certificate).digest()
        known = self._known.get(digest)
        if known is not None:
            self._last = certificate, known
            return known
        described = describe(certificate)
        size = memory(described)
        if size <= CERTIFICATE_CACHED_BYTES:
            self._known.keep(digest, described, size)
        return described

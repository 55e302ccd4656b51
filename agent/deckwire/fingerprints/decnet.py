"""The ja4 and ja4s of DECNET's old sniffer, for ``compat = "decnet"``.

They resemble FoxIO's methods but match no public database. With them an installation can compare
new events with those that it stored before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from deckwire.fingerprints.ja4 import count_tag, offered_version, without_grease
from deckwire.tls.code_points import SSL30, TLS10, TLS11, TLS12, TLS13
from deckwire.tls.messages import ClientHello, ServerHello

_VERSIONS = {
    TLS13: "13",
    TLS12: "12",
    TLS11: "11",
    TLS10: "10",
    SSL30: "s3",
    0x0200: "s2",  # the old sniffer swapped the bytes of SSL 2.0
}


def ja4(hello: ClientHello) -> str:
    """Return the old ja4: decimal lists, all extensions, signature algorithms sorted.

    An empty list gives the hash of the empty text, ``e3b0c44298fc``.
    """
    version = offered_version(hello)
    ciphers = without_grease(hello.cipher_suites)
    extensions = without_grease(kind for kind, _ in hello.extensions)
    algorithms = without_grease(hello.signature_algorithms)
    suffix = f"_{_sorted_list(algorithms)}" if algorithms else ""
    return (
        f"t{_VERSIONS.get(version, '00')}{'d' if hello.server_name else 'i'}"
        f"{count_tag(len(ciphers))}{count_tag(len(extensions))}"
        f"{_alpn_tag(next(iter(hello.alpn), None))}"
        f"_{_hash(_sorted_list(ciphers))}_{_hash(_sorted_list(extensions) + suffix)}"
    )


def ja4s(hello: ServerHello) -> str:
    """Return the old ja4s: one hash of the cipher suite and the sorted extensions, in decimal."""
    version = hello.selected_version or hello.legacy_version
    extensions = without_grease(kind for kind, _ in hello.extensions)
    return (
        f"t{_VERSIONS.get(version, '00')}{count_tag(len(extensions))}{_alpn_tag(hello.alpn)}"
        f"_{_hash(f'{hello.cipher_suite},{_sorted_list(extensions)}')}"
    )


def _alpn_tag(protocol: bytes | None) -> str:
    text = (protocol or b"").decode("ascii", "replace")
    return text[0] + text[-1] if text else "00"


def _sorted_list(values: Iterable[int]) -> str:
    return ",".join(map(str, sorted(values)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:12]

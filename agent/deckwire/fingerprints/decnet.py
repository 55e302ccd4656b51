"""The ja4 and ja4s of the sniffer that Deckwire replaces, for ``compat = "decnet"``.

They resemble FoxIO's but agree with no public database; installations that stored them keep
their history comparable with these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from deckwire.fingerprints.ja4 import count_tag, offered_version, without_grease
from deckwire.tls.messages import ClientHello, ServerHello

_VERSIONS = {
    0x0304: "13",
    0x0303: "12",
    0x0302: "11",
    0x0301: "10",
    0x0300: "s3",
    0x0200: "s2",
}


def ja4(hello: ClientHello) -> str:
    """The old ja4: decimal lists, all extensions, signature algorithms sorted.

    An empty list gives the hash of nothing, ``e3b0c44298fc``.
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
    """The old ja4s: cipher suite and sorted extensions in one hash of decimal numbers."""
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

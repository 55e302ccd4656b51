"""A ServerHello in the fields of events: computed once for all connections it is the answer of."""

from __future__ import annotations

from dataclasses import dataclass

from deckwire.events.choices import Choices
from deckwire.events.client import wire_text
from deckwire.events.place import Fields
from deckwire.fingerprints import decnet, ja3, ja4plus
from deckwire.tls.messages import ServerHello
from deckwire.tls.registry import cipher_suite_name, version_name


@dataclass(frozen=True, slots=True)
class Server:
    """The finished fields of one ServerHello or HelloRetryRequest; text may be hostile."""

    ja3s: str
    ja4s: str
    ja4s_r: str
    tls_version: str
    """The one chosen."""
    choice_fields: Fields
    """cipher, and alpn_selected where it is in the clear."""
    hrr: bool


def describe(hello: ServerHello, choices: Choices) -> Server:
    """Pure: equal hellos give equal fields."""
    ja4s = ja4s_r = ""
    if choices.ja4plus:
        ja4s = decnet.ja4s(hello) if choices.decnet else ja4plus.ja4s(hello)
        ja4s_r = ja4plus.ja4s_r(hello)
    fields: Fields = [("cipher", cipher_suite_name(hello.cipher_suite))]
    if hello.alpn is not None:
        fields.append(("alpn_selected", wire_text(hello.alpn)))
    return Server(
        ja3s=ja3.ja3s(hello),
        ja4s=ja4s,
        ja4s_r=ja4s_r,
        tls_version=version_name(hello.selected_version or hello.legacy_version),
        choice_fields=fields,
        hrr=hello.is_hello_retry_request,
    )

"""The fields of a ServerHello, computed once for all connections with an equal one."""

from __future__ import annotations

from dataclasses import dataclass

from deckwire.events.choices import Choices
from deckwire.events.client import wire_text
from deckwire.events.context import Fields
from deckwire.events.event import Block
from deckwire.fingerprints import decnet, ja4plus
from deckwire.fingerprints.ja3 import ja3s as ja3s_of
from deckwire.tls.messages import ServerHello
from deckwire.tls.registry import cipher_suite_name, version_name

_FIELDS_MEMORY = 3_000
"""Bytes of memory of the fields without lists."""


@dataclass(frozen=True, slots=True)
class Server:
    """The finished fields of one ServerHello or HelloRetryRequest. Their text may be hostile."""

    ja3s: str
    ja4s: str
    raw: Block
    """ja4s_r."""
    prints: Block
    """ja3s, ja4s, and the tls_version that the server chose."""
    choice: Block
    """cipher, and alpn_selected if it was sent in clear text."""
    hrr: bool


def describe(hello: ServerHello, choices: Choices) -> Server:
    """Compute the fields; equal hellos give equal fields."""
    ja4s = ja4s_r = ""
    if choices.ja4plus:
        ja4s = decnet.ja4s(hello) if choices.decnet else ja4plus.ja4s(hello)
        ja4s_r = ja4plus.ja4s_r(hello)
    fields: Fields = [("cipher", cipher_suite_name(hello.cipher_suite))]
    if hello.alpn is not None:
        fields.append(("alpn_selected", wire_text(hello.alpn)))
    ja3s = ja3s_of(hello)
    version = version_name(hello.selected_version or hello.legacy_version)
    return Server(
        ja3s=ja3s,
        ja4s=ja4s,
        raw=Block((("ja4s_r", ja4s_r),)),
        prints=Block((("ja3s", ja3s), ("ja4s", ja4s), ("tls_version", version))),
        choice=Block(fields),
        hrr=hello.is_hello_retry_request,
    )


def memory(hello: ServerHello) -> int:
    """Bytes of memory that a hello takes with its fields, at most."""
    return hello.memory + _FIELDS_MEMORY + 2 * hello.size

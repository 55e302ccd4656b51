"""The fields of a ClientHello, computed once for its hello event and its session event."""

from __future__ import annotations

from dataclasses import dataclass

from deckwire.events.choices import Choices
from deckwire.events.context import Fields
from deckwire.events.event import Block
from deckwire.fingerprints import decnet, ja3, ja4
from deckwire.tls.code_points import TLS13, is_grease
from deckwire.tls.messages import ClientHello
from deckwire.tls.registry import group_name, is_post_quantum, version_name

_FIELDS_MEMORY, _DECIMAL_MEMORY, _TEXT_MEMORY = 2_000, 14, 96
"""Bytes of memory: of the fields without lists, of a number in a list, of a protocol name.

A number is kept as a value and as decimal text.
"""


@dataclass(frozen=True, slots=True)
class Client:
    """The finished fields of one ClientHello. Their text may be hostile."""

    ja3: str
    """Empty if the hello was cut, because half a list has no fingerprint, and for SSL 2.0."""
    ja4: str
    prints: Fields
    """ja3, ja4 and sni alone."""
    fingerprint: str
    """What the hello's event is deduplicated by, in addition to the decky."""
    names: tuple[str, ...]
    """SNI and protocols, as far as they belong to the dedup keys, without a bare ``|``."""
    sni: str
    hello: Block
    """Fields of the hello event: ja3 to resumption, with tls_version."""
    session: Block
    """The same for the session event: without tls_version, which is the server's there."""
    stable: Block
    """ja4_stable; empty if the hello has no JA4."""
    raw: Block
    """ja4_r, ja4_o and ja4_ro if the operator wants them."""
    marks: Block
    """ech and pq if the client offers them."""
    malformed: bool
    """An extension's body is malformed, or bytes follow the last extension."""


def describe(hello: ClientHello, choices: Choices) -> Client:
    """Compute the fields; equal hellos give equal fields."""
    raw: tuple[tuple[str, str], ...] = ()
    printed = not (hello.cut or hello.ssl2)
    if choices.raw_fingerprints and printed:
        raw = (
            ("ja4_r", ja4.ja4_r(hello)),
            ("ja4_o", ja4.ja4_o(hello)),
            ("ja4_ro", ja4.ja4_ro(hello)),
        )
    hello_ja3 = hello_ja4 = ""
    if printed:
        hello_ja3 = ja3.ja3(hello)
        hello_ja4 = decnet.ja4(hello) if choices.decnet else ja4.ja4(hello)
    stable = [("ja4_stable", ja4.ja4_stable(hello))] if hello_ja4 else []
    # Empty if the hello was cut before the versions.
    version = "" if _version_is_missing(hello) else version_name(offered_version(hello))
    prints: Fields = [("ja3", hello_ja3), ("ja4", hello_ja4)]
    offer = _offer(hello)
    sni = wire_text(hello.server_name or b"")
    # The old sniffer's keys had neither.
    names = () if choices.decnet else (key_part(sni), *[key_part(wire_text(p)) for p in hello.alpn])
    return Client(
        ja3=hello_ja3,
        ja4=hello_ja4,
        prints=[*prints, offer[0]],
        fingerprint="|".join((hello_ja3, hello_ja4, *names)),
        names=names,
        sni=sni,
        hello=Block([*prints, ("tls_version", version), *offer]),
        session=Block(prints + offer),
        stable=Block(stable),
        raw=Block(raw),
        marks=Block(_marks(hello)),
        malformed=hello.malformed,
    )


def memory(hello: ClientHello) -> int:
    """Bytes of memory that a hello takes with its fields, at most."""
    numbers = len(hello.cipher_suites) + len(hello.extensions)
    return (
        hello.memory
        + _FIELDS_MEMORY
        + 2 * hello.size
        + _DECIMAL_MEMORY * numbers
        + _TEXT_MEMORY * len(hello.alpn)
    )


def offered_version(hello: ClientHello) -> int:
    """The highest version offered. TLS 1.3 itself is higher than its drafts."""
    if TLS13 in hello.supported_versions:
        return TLS13
    return ja4.offered_version(hello)


def wire_text(wire: bytes) -> str:
    """Decode wire bytes. Those that are not UTF-8 become surrogates, written as ``\\xNN`` later."""
    return wire.decode("utf-8", "surrogateescape")


def key_part(text: str) -> str:
    """Text of a peer as one part of a dedup key: no other parts make the same key."""
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _offer(hello: ClientHello) -> Fields:
    fields: Fields = [
        ("sni", wire_text(hello.server_name or b"")),
        ("alpn", tuple([wire_text(protocol) for protocol in hello.alpn])),
        ("raw_ciphers", _decimal(hello.cipher_suites)),
        ("raw_extensions", _decimal([kind for kind, _ in hello.extensions])),
    ]
    resumption = _resumption(hello)
    if resumption:
        fields.append(("resumption", resumption))
    return fields


def _marks(hello: ClientHello) -> Fields:
    fields: Fields = [("ech", True)] if hello.has_encrypted_client_hello else []
    post_quantum = [group for group in hello.supported_groups if is_post_quantum(group)]
    if post_quantum:
        fields.append(("pq", group_name(post_quantum[0])))
    return fields


def _version_is_missing(hello: ClientHello) -> bool:
    return hello.cut and not hello.supported_versions


def _resumption(hello: ClientHello) -> tuple[str, ...]:
    # With TLS 1.3, a session id is only for middleboxes (RFC 8446, D.4).
    session_id = (
        bool(hello.session_id) and not _version_is_missing(hello) and offered_version(hello) < TLS13
    )
    offers = (
        ("session_ticket", hello.has_session_ticket),
        ("psk", hello.has_pre_shared_key),
        ("early_data_0rtt", hello.has_early_data),
        ("session_id", session_id),
    )
    return tuple([name for name, offered in offers if offered])


def _decimal(values: tuple[int, ...] | list[int]) -> str:
    return "-".join([str(value) for value in values if not is_grease(value)])

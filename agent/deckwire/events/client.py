"""A ClientHello in the fields of events: computed once, told with the hello and the session."""

from __future__ import annotations

from dataclasses import dataclass

from deckwire.events.choices import Choices
from deckwire.events.context import Fields
from deckwire.events.event import Block
from deckwire.fingerprints import decnet, ja3, ja4
from deckwire.tls.grease import is_grease
from deckwire.tls.messages import ClientHello
from deckwire.tls.registry import group_name, is_post_quantum, version_name

_TLS13 = 0x0304
_FIELDS_MEMORY, _DECIMAL_MEMORY, _TEXT_MEMORY = 2_000, 14, 96
"""Bytes of a hello's fields without its lists, and of what stands in these: a number in decimal, as
a value and as it is written, and the name of a protocol."""


@dataclass(frozen=True, slots=True)
class Client:
    """The finished fields of one ClientHello; text may be hostile."""

    ja3: str
    """"" of a hello that was cut: half a list has no fingerprint."""
    ja4: str
    fingerprint: str
    """What the hello's event is deduplicated by."""
    hello: Block
    """As the hello's event tells it: ja3 to resumption, tls_version among them."""
    session: Block
    """The same as the session's event tells it: without tls_version, which is the server's."""
    raw: Block
    """ja4_r, ja4_o and ja4_ro if they are wanted."""
    marks: Block
    """ech and pq, if they are offered."""
    malformed: bool
    """Some extension's body is not what it should be, or bytes stand behind the last one."""


def describe(hello: ClientHello, choices: Choices) -> Client:
    """Pure: equal hellos give equal fields."""
    raw: tuple[tuple[str, str], ...] = ()
    if choices.raw_fingerprints and not hello.cut:
        raw = (
            ("ja4_r", ja4.ja4_r(hello)),
            ("ja4_o", ja4.ja4_o(hello)),
            ("ja4_ro", ja4.ja4_ro(hello)),
        )
    hello_ja3 = "" if hello.cut else ja3.ja3(hello)
    hello_ja4 = "" if hello.cut else (decnet.ja4(hello) if choices.decnet else ja4.ja4(hello))
    # "" of a hello that was cut before it told.
    version = "" if _version_is_missing(hello) else version_name(offered_version(hello))
    prints: Fields = [("ja3", hello_ja3), ("ja4", hello_ja4)]
    offer = _offer(hello)
    return Client(
        ja3=hello_ja3,
        ja4=hello_ja4,
        fingerprint=f"{hello_ja3}|{hello_ja4}",
        hello=Block([*prints, ("tls_version", version), *offer]),
        session=Block(prints + offer),
        raw=Block(raw),
        marks=Block(_marks(hello)),
        malformed=_is_malformed(hello),
    )


def memory(hello: ClientHello) -> int:
    """Bytes that a hello takes with its fields, estimated from above."""
    numbers = len(hello.cipher_suites) + len(hello.extensions)
    return (
        hello.memory
        + _FIELDS_MEMORY
        + 2 * hello.size
        + _DECIMAL_MEMORY * numbers
        + _TEXT_MEMORY * len(hello.alpn)
    )


def offered_version(hello: ClientHello) -> int:
    """The highest version offered; TLS 1.3 itself is higher than its drafts."""
    if _TLS13 in hello.supported_versions:
        return _TLS13
    return ja4.offered_version(hello)


def wire_text(wire: bytes) -> str:
    """Bytes that are not UTF-8 stand as surrogates: the formats write them as ``\\xNN``."""
    return wire.decode("utf-8", "surrogateescape")


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


def _is_malformed(hello: ClientHello) -> bool:
    return bool(hello.malformed_extensions or hello.trailing)


def _resumption(hello: ClientHello) -> tuple[str, ...]:
    # A session id beside TLS 1.3 is for middleboxes alone (RFC 8446, D.4).
    session_id = (
        bool(hello.session_id)
        and not _version_is_missing(hello)
        and offered_version(hello) < _TLS13
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

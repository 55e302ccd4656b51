"""tls_certificate: the clear-text chain of TLS 1.2 and older."""

from __future__ import annotations

from typing import NamedTuple

from deckwire.events.choices import Choices
from deckwire.events.context import REVERSED, Context, Fields, Parts
from deckwire.events.event import INFORMATIONAL, Block, Event, Headline, word
from deckwire.fingerprints import ja4plus
from deckwire.x509.certificate import Certificate


class Leaf(NamedTuple):
    """The fields of a leaf certificate, computed once for all messages that begin with it."""

    ja4x: str
    """"" without the methods of JA4+, or if the certificate's structure could not be read."""
    before_sni: Block
    after_sni: Block
    details: Block


def describe(leaf: Certificate, choices: Choices) -> Leaf:
    """Compute the fields; equal certificates give equal fields."""
    before_sni: Fields = [
        ("subject_cn", leaf.subject_cn),
        ("issuer", leaf.issuer),
    ]
    if leaf.self_signed is not None:
        before_sni.append(("self_signed", leaf.self_signed))
    before_sni += [("not_before", leaf.not_before), ("not_after", leaf.not_after)]
    if leaf.sans:
        before_sni.append(("sans", leaf.sans))
    after_sni: Fields = []
    if leaf.subject:
        after_sni.append(("subject", leaf.subject))
    ja4x = ""
    if choices.ja4plus and leaf.structured:
        ja4x = _ja4x(leaf)
        after_sni.append(("ja4x", ja4x))
    details: Fields = [("cert_sha256", leaf.sha256), *_readable(leaf)]
    return Leaf(ja4x, Block(before_sni), Block(after_sni), Block(details))


def headline(
    context: Context, time_ns: int, leaf: Certificate, choices: Choices, *, proven: bool = True
) -> Headline:
    """Everything that deduplication needs of the event."""
    return Headline(
        "tls_certificate",
        time_ns,
        context.host,
        context.source,
        f"{leaf.subject_cn}|{leaf.issuer}" if choices.decnet else leaf.sha256,
        INFORMATIONAL,
        leaf.subject_cn,
        None,
        proven,
    )


def certificate_event(
    headline: Headline,
    context: Context,
    leaf: Leaf,
    chain: tuple[Certificate, ...],
    *,
    chain_length: int | None,
    from_client: bool,
    quality: str,
    sni: str,
    choices: Choices,
    unseen: bool = False,
    is_reversed: bool = False,
) -> Event:
    """Make the event for one Certificate message. The first of `chain` is the leaf.

    `leaf` has the leaf's fields. `chain_length` may exceed the certificates kept. It is None if
    the message was cut; then only the certificates that came whole are known. `from_client` is by
    the roles of TLS. `is_reversed` says that its client did not open the connection.
    """
    parts: Parts = [context.addresses(), leaf.before_sni]
    if sni:
        parts.append(("sni", sni))
    parts.append(leaf.after_sni)
    structured = chain_length is not None and all(each.structured for each in chain)
    if choices.ja4plus and structured:
        parts.append(("ja4x_chain", (leaf.ja4x, *map(_ja4x, chain[1:]))))
    parts.append(leaf.details)
    if chain_length is not None:
        parts.append(("chain_length", chain_length))
    parts += [
        word("side", "client" if from_client else "server"),
        word("quality", "malformed" if chain[0].malformed else quality),
    ]
    if is_reversed:
        parts.append(REVERSED)
    parts.append(context.tail(unseen=unseen))
    # One packet can have several messages.
    return headline.event(parts, f"{context.conn_id} {from_client} {chain[0].sha256}")


def _ja4x(certificate: Certificate) -> str:
    return ja4plus.ja4x(
        certificate.issuer_oids, certificate.subject_oids, certificate.extension_oids
    )


def _readable(leaf: Certificate) -> Fields:
    """Fields that every sound certificate has and a malformed one may lack."""
    named = (
        ("serial", leaf.serial),
        ("key", leaf.key),
        ("signature_algorithm", leaf.signature_algorithm),
    )
    return [(name, value) for name, value in named if value]

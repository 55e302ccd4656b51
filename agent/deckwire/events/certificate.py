"""tls_certificate: the clear-text chain of TLS 1.2 and older."""

from __future__ import annotations

from deckwire.certificate import Certificate
from deckwire.event import Event, Headline
from deckwire.events.choices import Choices
from deckwire.events.place import Fields, Place
from deckwire.fingerprints import ja4plus


def headline(place: Place, time_ns: int, leaf: Certificate) -> Headline:
    """What it is deduplicated by."""
    return Headline(
        "tls_certificate",
        time_ns,
        place.host,
        place.source,
        f"{leaf.subject_cn}|{leaf.issuer}",
    )


def certificate_event(
    told: Headline,
    place: Place,
    chain: tuple[Certificate, ...],
    *,
    chain_length: int | None,
    from_client: bool,
    quality: str,
    sni: str,
    choices: Choices,
) -> Event:
    """One Certificate message, leaf first.

    `chain_length` may be more than was kept; it is None of a message that was cut, of which only
    the certificates that came whole are known.
    """
    leaf = chain[0]
    fields = place.addresses()
    fields += [
        ("subject_cn", leaf.subject_cn),
        ("issuer", leaf.issuer),
        ("self_signed", leaf.self_signed),
        ("not_before", leaf.not_before),
        ("not_after", leaf.not_after),
    ]
    if leaf.sans:
        fields.append(("sans", leaf.sans))
    if sni:
        fields.append(("sni", sni))
    if leaf.subject:
        fields.append(("subject", leaf.subject))
    if choices.ja4plus:
        prints = tuple(
            [ja4plus.ja4x(c.issuer_oids, c.subject_oids, c.extension_oids) for c in chain]
        )
        fields.append(("ja4x", prints[0]))
        if chain_length is not None:
            fields.append(("ja4x_chain", prints))
    fields.append(("cert_sha256", leaf.sha256))
    fields += _readable(leaf)
    if chain_length is not None:
        fields.append(("chain_length", chain_length))
    fields += [
        ("side", "client" if from_client else "server"),
        ("quality", "malformed" if leaf.malformed else quality),
    ]
    fields += place.tail()
    return told.event(fields)


def _readable(leaf: Certificate) -> Fields:
    """What every sound certificate has and a malformed one may lack."""
    named = (
        ("serial", leaf.serial),
        ("key", leaf.key),
        ("signature_algorithm", leaf.signature_algorithm),
    )
    return [(name, value) for name, value in named if value]

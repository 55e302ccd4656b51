"""tcp_handshake: a three-way handshake that completed, with its round trips."""

from __future__ import annotations

from deckwire.event import Event, Headline
from deckwire.events.answer import Answerer
from deckwire.events.choices import Choices
from deckwire.events.latency import ja4l_fields, rtt_fields
from deckwire.events.place import Parts, Place
from deckwire.handshake import Handshake


def headline(place: Place, time_ns: int) -> Headline:
    """What it is deduplicated by."""
    return Headline(
        "tcp_handshake",
        time_ns,
        place.host,
        place.source,
        f"{place.destination}|{place.ends.server_port}",
    )


def handshake_event(
    told: Headline,
    place: Place,
    handshake: Handshake,
    choices: Choices,
    answerer: Answerer | None = None,
) -> Event:
    """One connection that was opened; `told` has the final ACK's wall-clock time.

    `answerer` is who sent the SYN-ACK, if one was seen.
    """
    parts: Parts = [place.addresses()]
    if answerer is not None:
        parts.append(answerer.ja4ts)
    parts += reversed(rtt_fields(handshake.rtt_client_us, handshake.rtt_server_us).fields)
    if choices.ja4plus:
        parts += reversed(ja4l_fields(handshake).fields)
    if handshake.syn is not None:
        parts.append(("client_ttl", handshake.syn.ttl))
    if handshake.synack is not None:
        parts.append(("server_ttl", handshake.synack.ttl))
    if handshake.syn is not None:
        parts.append(("syn_retransmits", handshake.syn_retransmits))
    if handshake.synack is not None:
        parts.append(("synack_retransmits", handshake.synack_retransmits))
    if answerer is not None:
        parts.append(answerer.system)
    parts.append(place.tail())
    return told.event(parts)

"""tcp_handshake: a three-way handshake that completed, with its round trips."""

from __future__ import annotations

from deckwire.event import Event, Headline
from deckwire.events.choices import Choices
from deckwire.events.latency import ja4l_fields, rtt_fields
from deckwire.events.place import Place
from deckwire.fingerprints import ja4plus, tcp_options
from deckwire.fingerprints.identity import Answer
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
    answer: Answer | None = None,
) -> Event:
    """One connection that was opened; `told` has the final ACK's wall-clock time.

    `answer` is who sent the SYN-ACK, if one was seen.
    """
    fields = place.addresses()
    if choices.ja4plus and handshake.synack is not None:
        options = tcp_options.read(handshake.synack.options)
        fields.append(("ja4ts", ja4plus.ja4t(handshake.synack.window, options)))
    fields += reversed(rtt_fields(handshake.rtt_client_us, handshake.rtt_server_us))
    if choices.ja4plus:
        fields += reversed(ja4l_fields(handshake))
    if handshake.syn is not None:
        fields.append(("client_ttl", handshake.syn.ttl))
    if handshake.synack is not None:
        fields.append(("server_ttl", handshake.synack.ttl))
    if handshake.syn is not None:
        fields.append(("syn_retransmits", handshake.syn_retransmits))
    if handshake.synack is not None:
        fields.append(("synack_retransmits", handshake.synack_retransmits))
    if answer is not None:
        fields.append(("server_p0f_sig", answer.p0f_sig))
        if answer.os is not None:
            fields.append(("server_os", answer.os))
        if answer.os_class is not None:
            fields.append(("server_os_class", answer.os_class))
    fields += place.tail()
    return told.event(fields)

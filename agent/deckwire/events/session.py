"""tls_session: the choice of a TLS server."""

from __future__ import annotations

from deckwire.events.choices import Choices
from deckwire.events.client import Client
from deckwire.events.context import Context, Parts
from deckwire.events.event import INFORMATIONAL, WARNING, Event, Headline
from deckwire.events.latency import ja4l_fields, kept_fields
from deckwire.events.server import Server
from deckwire.events.server_stack import ja4ts_field
from deckwire.tcp.handshake import Handshake


def headline(
    context: Context,
    time_ns: int,
    server: Server,
    client: Client | None,
    choices: Choices,
    *,
    proven: bool = True,
) -> Headline:
    """Everything that deduplication needs of the event. What anybody can forge is no warning."""
    ja3 = ja4 = sni = ""
    names: tuple[str, ...] = ()
    if client is not None:
        ja3, ja4, sni, names = client.ja3, client.ja4, client.sni, client.names
    fingerprint = "|".join((ja3, server.ja3s, ja4, server.ja4s, *names))
    return Headline(
        "tls_session",
        time_ns,
        context.host,
        context.source,
        context.fingerprint(fingerprint, choices),
        WARNING if proven else INFORMATIONAL,
        sni,
        proven=proven,
    )


def session_event(
    headline: Headline,
    context: Context,
    server: Server,
    *,
    client: Client | None,
    resumed: bool | None,
    handshake: Handshake,
    choices: Choices,
    unseen: bool = False,
) -> Event:
    """Make the event for the first ServerHello or HelloRetryRequest of a connection.

    `client` has the fields of the ClientHello, if that is known. `resumed` is None if unknown.
    """
    parts: Parts = [context.addresses(), server.prints]
    if client is not None:
        parts.append(client.session)
    parts += [kept_fields(handshake), server.choice]
    if resumed is not None:
        parts.append(("resumed", resumed))
    if server.hrr:
        parts.append(("hrr", True))
    if choices.ja4plus:
        parts += [("ja4s_r", server.ja4s_r), ja4l_fields(handshake)]
        if (synack := handshake.whole_synack) is not None:
            parts.append(ja4ts_field(synack))
    parts.append(context.tail(unseen=unseen))
    return headline.event(parts)

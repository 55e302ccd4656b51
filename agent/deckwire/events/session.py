"""tls_session: the choice of a TLS server."""

from __future__ import annotations

from deckwire.events.choices import Choices
from deckwire.events.client import Client
from deckwire.events.context import REVERSED, Context, Parts
from deckwire.events.event import INFORMATIONAL, WARNING, Event, Headline, word
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
        None,
        proven,
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
    after_retry: Server | None = None,
    is_reversed: bool = False,
) -> Event:
    """Make the event for the first ServerHello or HelloRetryRequest of a connection.

    `client` has the fields of the ClientHello, if that is known. `resumed` is None if unknown.
    `after_retry` has those of the ServerHello after a HelloRetryRequest. `is_reversed` says that
    the TLS client did not open the connection.
    """
    parts: Parts = [context.addresses(), server.prints]
    if client is not None:
        parts.append(client.session)
    parts.append(kept_fields(handshake))
    if client is not None:
        parts.append(client.stable)
    parts.append(server.choice)
    if resumed is not None:
        parts.append(word("resumed", resumed))
    if server.hrr:
        parts.append(("hrr", True))
    if after_retry is not None:
        parts.append(("ja3s_after_retry", after_retry.ja3s))
    if choices.ja4plus:
        if after_retry is not None:
            parts.append(("ja4s_after_retry", after_retry.ja4s))
        parts += [server.raw, ja4l_fields(handshake)]
        if (synack := handshake.whole_synack) is not None:
            parts.append(ja4ts_field(synack))
    if is_reversed:
        parts.append(REVERSED)
    parts.append(context.tail(unseen=unseen))
    return headline.event(parts, context.conn_id)

"""tls_client_hello: the offer of a TLS client."""

from __future__ import annotations

from deckwire.events.choices import Choices
from deckwire.events.client import Client
from deckwire.events.context import REVERSED, Context, Parts
from deckwire.events.event import INFORMATIONAL, Event, Headline, word
from deckwire.events.latency import ja4l_fields, kept_fields, rtt_fields
from deckwire.tcp.handshake import Handshake


def headline(
    context: Context, time_ns: int, client: Client, choices: Choices, *, proven: bool = True
) -> Headline:
    """Everything that deduplication needs of the event."""
    return Headline(
        "tls_client_hello",
        time_ns,
        context.host,
        context.source,
        context.fingerprint(client.fingerprint, choices),
        INFORMATIONAL,
        client.sni,
        None,
        proven,
    )


def hello_event(
    headline: Headline,
    context: Context,
    client: Client,
    *,
    quality: str,
    offset: int | None,
    handshake: Handshake,
    choices: Choices,
    unseen: bool = False,
    is_reversed: bool = False,
) -> Event:
    """Make the event for one ClientHello.

    `offset` is the number of bytes that the client sent before it; None if that is unknown.
    `is_reversed` says that the TLS client did not open the connection.
    """
    parts: Parts = [
        context.addresses(),
        client.hello,
        kept_fields(handshake),
        client.stable,
        client.raw,
        word("quality", "malformed" if client.malformed else quality),
        client.marks,
        rtt_fields(handshake.rtt_client_us, handshake.rtt_server_us),
    ]
    if choices.ja4plus:
        parts.append(ja4l_fields(handshake))
    if offset:
        parts.append(("starttls", True))
    if is_reversed:
        parts.append(REVERSED)
    parts.append(context.tail(unseen=unseen))
    return headline.event(parts, context.conn_id)

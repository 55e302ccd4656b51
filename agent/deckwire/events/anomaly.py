"""tcp_anomaly: somebody sent what is there to be misread."""

from __future__ import annotations

from deckwire.events.client import Client
from deckwire.events.context import UNSEEN, Context, Parts
from deckwire.events.event import INFORMATIONAL, WARNING, Event, Headline
from deckwire.tcp.anomaly import BELIEVED, Anomaly


def headline(
    context: Context, time_ns: int, anomaly: Anomaly, *, proven: bool, client: Client | None = None
) -> Headline:
    """Everything that deduplication needs of the event.

    Anybody can forge a packet of no connection, so that alone is no warning. `proven` is whether
    the handshake of the connection was seen. `client` is as in `anomaly_event`.
    """
    prints = f"|{client.ja3}|{client.ja4}|{client.sni}" if client is not None else ""
    return Headline(
        "tcp_anomaly",
        time_ns,
        context.host,
        context.source,
        f"{context.destination}|{anomaly.technique}{prints}",
        WARNING if proven else INFORMATIONAL,
        anomaly.technique.value if client is None else client.sni,
        proven=proven,
    )


def anomaly_event(
    headline: Headline,
    context: Context,
    anomaly: Anomaly,
    *,
    from_client: bool | None,
    client: Client | None,
    unseen: bool,
    has_ports: bool = True,
) -> Event:
    """Make the event for one anomaly.

    `from_client` is None if it is not of one frame. `client` has the fields of a ClientHello that
    was not believed. Without ports, the packet belongs to no connection.
    """
    parts: Parts = [context.addresses() if has_ports else context.bare_addresses()]
    parts += [
        ("technique", anomaly.technique.value),
        ("evidence", anomaly.evidence),
        ("believed", BELIEVED[anomaly.technique]),
    ]
    if from_client is not None:
        parts.append(("sender", "client" if from_client else "server"))
    if client is not None:
        parts += client.prints
    if has_ports:
        parts.append(context.tail(unseen=unseen))
    else:
        parts += [UNSEEN, ("direction", context.direction)]
    # One packet can show several anomalies.
    return headline.event(parts, f"{context.conn_id} {anomaly.technique} {anomaly.evidence}")

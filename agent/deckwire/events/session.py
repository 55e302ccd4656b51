"""tls_session: what a server chose."""

from __future__ import annotations

from deckwire.event import WARNING, Event
from deckwire.events.choices import Choices
from deckwire.events.client import Client, wire_text
from deckwire.events.latency import ja4l_fields, kept_fields
from deckwire.events.place import Place
from deckwire.fingerprints import decnet, ja3, ja4plus, tcp_options
from deckwire.handshake import Handshake
from deckwire.tls.messages import ClientHello, ServerHello
from deckwire.tls.registry import cipher_suite_name, version_name

_TLS13 = 0x0304


def session_event(
    place: Place,
    time_ns: int,
    server: ServerHello,
    *,
    offer: tuple[ClientHello, Client] | None,
    handshake: Handshake,
    choices: Choices,
) -> Event:
    """The first ServerHello or HelloRetryRequest, and the hello it answers if that is known."""
    ja3s = ja3.ja3s(server)
    ja4s = ""
    if choices.ja4plus:
        ja4s = decnet.ja4s(server) if choices.decnet else ja4plus.ja4s(server)
    version = server.selected_version or server.legacy_version
    fields = place.addresses()
    fields += [("ja3s", ja3s), ("ja4s", ja4s), ("tls_version", version_name(version))]
    client = offer[1] if offer is not None else None
    if client is not None:
        fields += [("ja3", client.ja3), ("ja4", client.ja4)]
        fields += client.offer_fields()
    fields += kept_fields(handshake)
    fields.append(("cipher", cipher_suite_name(server.cipher_suite)))
    if server.alpn is not None:
        fields.append(("alpn_selected", wire_text(server.alpn)))
    resumed = _resumed(server, offer[0] if offer is not None else None)
    if resumed is not None:
        fields.append(("resumed", resumed))
    if server.is_hello_retry_request:
        fields.append(("hrr", True))
    if choices.ja4plus:
        fields.append(("ja4s_r", ja4plus.ja4s_r(server)))
        fields += ja4l_fields(handshake)
        if handshake.synack is not None:
            options = tcp_options.walk(handshake.synack.options)
            fields.append(("ja4ts", ja4plus.ja4t(handshake.synack.window, options)))
    fields += place.tail()
    prints = (client.ja3, ja3s, client.ja4, ja4s) if client else ("", ja3s, "", ja4s)
    return Event(
        name="tls_session",
        time_ns=time_ns,
        host=place.host,
        fields=tuple(fields),
        severity=WARNING,
        source=place.source,
        fingerprint="|".join(prints),
    )


def _resumed(server: ServerHello, client: ClientHello | None) -> bool | None:
    """Whether an older session goes on; None where it does not show."""
    if server.is_hello_retry_request:
        return None
    if (server.selected_version or server.legacy_version) >= _TLS13:
        return server.has_pre_shared_key
    if client is None:
        return None
    # Tickets too: a server that takes one echoes the session id sent with it (RFC 5077, 3.4).
    return bool(client.session_id) and server.session_id == client.session_id

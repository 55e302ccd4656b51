"""tcp_payload: the first bytes of a connection that is neither TLS, SSH nor HTTP."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from deckwire.connections.payload import Sent
from deckwire.events.choices import Choices
from deckwire.events.client import wire_text
from deckwire.events.context import Context, Fields, Parts
from deckwire.events.event import INFORMATIONAL, Event, Headline
from deckwire.events.redaction import REDACTED, Redactor
from deckwire.limits import PAYLOAD_TEXT
from deckwire.payloads.finding import CLIENT, CREDENTIAL_FIELDS, SERVER, Field, Secret, Value
from deckwire.payloads.http_secrets import read_http
from deckwire.payloads.table import recognise

FIELDS = (
    *("login_user", "login_password", "login_attempts", "login_method", "database", "application"),
    *("request_line", "user_agent", "rdp_cookie", "rdp_token", "rdp_protocols", "smb_dialects"),
    *("telnet_options", "telnet_terminal", "redis_commands", "adb_banner", "adb_services"),
    *("mqtt_version", "mqtt_client_id", "postgres_request", "mysql_version", "ldap_operations"),
    *("vnc_version", "socks_command", "socks_target", "rmi_protocol", "t3_version", "java_objects"),
    *("modbus_unit", "modbus_functions", "s7_tsap", "s7_functions"),
)
"""Fields of single protocols, in the order of the catalogue."""
_OF_CLIENT = (
    *("payload", "payload_text", "payload_length", "payload_sha256"),
    "payload_cut",
)
_OF_SERVER = (
    *("server_payload", "server_payload_text", "server_payload_length", "server_payload_sha256"),
    "server_payload_cut",
)
_HTTP = b"HTTP/1."
_ORDER = {name: place for place, name in enumerate(FIELDS)}


@dataclass(frozen=True, slots=True)
class Payload:
    """The first bytes of both ends with what they show, ready for an event."""

    protocol: str
    """"" if no row of the table fits."""
    fields: tuple[Field, ...]
    client: Sent
    server: Sent
    lengths: tuple[int, int]
    """Bytes of client and server that were kept, before anything was replaced in them."""
    redacted: bool
    """Something was replaced."""


def describe(client: Sent, server: Sent, redactor: Redactor | None = None) -> Payload:
    """Recognise the protocol; with `redactor`, replace the credentials."""
    found = recognise(client.data, server.data)
    protocol, fields, secrets = found or ("", (), ())
    lengths = len(client.data), len(server.data)
    fields = tuple(sorted(fields, key=lambda field: _ORDER[field[0]]))
    if redactor is not None and protocol != "http" and _has_http(client.data, server.data):
        # It may be behind a proxy's request, or behind a line that is none of HTTP.
        secrets += read_http(client.data, server.data).secrets
    if redactor is None or not secrets:
        return Payload(protocol, fields, client, server, lengths, redacted=False)
    values = _values(fields, secrets, (client.data, server.data))

    def clean(sent: Sent, side: int) -> Sent:
        ranges = [(start, end) for at, start, end in secrets if at == side]
        data, is_cut = redactor.data(sent.data, ranges, values)
        return Sent(data, sent.is_cut or is_cut)

    return Payload(
        protocol,
        tuple([(name, _clean(name, value, redactor, values)) for name, value in fields]),
        clean(client, CLIENT),
        clean(server, SERVER),
        lengths,
        redacted=True,
    )


def headline(context: Context, time_ns: int, payload: Payload, *, proven: bool = True) -> Headline:
    """Everything that deduplication needs of the event."""
    digest = sha256(payload.client.data).hexdigest()
    fingerprint = f"{context.ends.server_port}|{digest}"
    label = payload.protocol or wire_text(payload.client.data[:PAYLOAD_TEXT])
    facts = time_ns, context.host, context.source, fingerprint, INFORMATIONAL, label
    return Headline("tcp_payload", *facts, proven=proven)


def payload_event(
    headline: Headline, context: Context, payload: Payload, *, unseen: bool = False
) -> Event:
    """Make the event. An end that sent nothing has no fields."""
    parts: Parts = [context.addresses()]
    if payload.protocol:
        parts.append(("protocol", payload.protocol))
    parts += payload.fields
    parts += _of_end(_OF_CLIENT, payload.client, payload.lengths[CLIENT])
    parts += _of_end(_OF_SERVER, payload.server, payload.lengths[SERVER])
    if payload.redacted:
        parts.append(REDACTED)
    parts.append(context.tail(unseen=unseen))
    return headline.event(parts, context.conn_id)


def redactor_for(context: Context, choices: Choices) -> Redactor | None:
    """What replaces credentials in the events of a connection; None if they stay."""
    redactor = choices.redactor
    return redactor if redactor is not None and context.direction in redactor.directions else None


def _has_http(*ends: bytes) -> bool:
    return any(_HTTP in data for data in ends)


def _of_end(names: tuple[str, ...], sent: Sent, length: int) -> Fields:
    if not length:
        return []
    values = (
        b64encode(sent.data).decode(),
        wire_text(sent.data)[:PAYLOAD_TEXT],
        length,
        sha256(sent.data).hexdigest(),
    )
    fields: Fields = []
    fields += zip(names, values, strict=False)
    if sent.is_cut:
        fields.append((names[-1], True))
    return fields


def _values(
    fields: Iterable[Field], secrets: Iterable[Secret], sides: tuple[bytes, bytes]
) -> frozenset[bytes]:
    """The credentials as they were sent and as they were meant."""
    values = {sides[side][start:end] for side, start, end in secrets}
    for name, value in fields:
        if name in CREDENTIAL_FIELDS and isinstance(value, str):
            values.add(value.encode("utf-8", "surrogateescape"))
    return frozenset(values)


def _clean(name: str, value: Value, redactor: Redactor, values: frozenset[bytes]) -> Value:
    """The value of a field without credentials."""
    if isinstance(value, tuple):
        return tuple([redactor.text(one, values) for one in value])
    if not isinstance(value, str):
        return value
    if name in CREDENTIAL_FIELDS:
        return redactor.stand_in(value.encode("utf-8", "surrogateescape"))
    return redactor.text(value, values)

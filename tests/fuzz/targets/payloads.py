"""payloads.table and events.tcp_payload: any bytes are read, and no credential is left."""

from __future__ import annotations

from collections.abc import Iterator

from deckwire.connections.payload import Sent
from deckwire.events.redaction import Redactor
from deckwire.events.tcp_payload import FIELDS, Payload, describe
from deckwire.limits import PAYLOAD_BYTES
from deckwire.payloads.finding import CREDENTIAL_FIELDS, Secret, Value
from deckwire.payloads.http_secrets import read_http
from deckwire.payloads.table import ROWS, recognise
from tests.fuzz.feed import Feed
from tests.support import payload_wire as wire

_REDACTOR = Redactor(bytes(32), ("outbound",))
_PROTOCOLS = {row.protocol for row in ROWS}
_SHORT = 4
_HTTP = b"HTTP/1."


def seeds() -> list[bytes]:
    ends = [
        (wire.TELNET_CLIENT, wire.TELNET_SERVER),
        (wire.SIP, b""),
        (wire.SOCKS4, b""),
        (wire.SOCKS4A, b""),
        (wire.SOCKS5_LOGIN, b"\5\2\1\0"),
        (wire.rdp(b"Cookie: mstshash=admin\r\n", 3), b""),
        (wire.smb1(b"NT LM 0.12"), b""),
        (wire.smb2(0x0202, 0x0311), b""),
        (wire.resp(b"AUTH", b"default", b"hunter2") + wire.resp(b"INFO"), b"+OK\r\n"),
        (b"AUTH hunter2\r\nINFO\r\n", b"-ERR x\r\n"),
        (wire.mqtt(b"id", b"me", b"secret", version=5, will=True), b""),
        (
            wire.POSTGRES_TLS
            + wire.postgres_start(user="bobby", database="shop")
            + wire.postgres_answer(b"hunter2\0"),
            b"N" + wire.postgres_challenge(3),
        ),
        (wire.mysql_login(b"root", b"hunter2", b"shop"), wire.MYSQL_GREETING),
        (wire.ldap_bind(b"cn=admin", b"hunter2"), b""),
        (wire.adb(b"CNXN", b"host::\0") + wire.adb(b"OPEN", b"shell:id\0"), b""),
        (wire.modbus(3) + wire.modbus(43), b""),
        (wire.s7_connect() + wire.s7_job(4), b""),
        (wire.JRMI + b"P\xac\xed\0\5", b""),
        (b"t3 12.2.1\nAS:255\n\n", b""),
        (b"RFB 003.003\n" + bytes(16), b"RFB 003.008\n\0\0\0\2"),
        (b"USER bobby\r\nPASS hunter2\r\n", b"220 x\r\n331 bobby?\r\n"),
        (b"AUTH PLAIN " + wire.base64(b"\0bobby\0hunter2") + b"\r\n", b"220 x\r\n"),
        (b"a LOGIN bobby {7}\r\nhunter2\r\n", b"* OK x\r\n"),
        (b"USER bobby\r\nPASS hunter2\r\n", b"+OK x\r\n"),
        (b"POST /?user=bobby HTTP/1.1\r\nCookie: a=b\r\n\r\npassword=hunter2", b""),
    ]
    return [len(server).to_bytes(2) + server + client for client, server in ends]


def check(data: bytes) -> None:
    feed = Feed(data)
    server = feed.counted(2)[:PAYLOAD_BYTES]
    client = feed.rest()[:PAYLOAD_BYTES]
    plain = describe(Sent(client), Sent(server))
    assert plain.lengths == (len(client), len(server))
    secrets: tuple[Secret, ...] = ()
    if plain.protocol:
        found = recognise(client, server)
        assert found is not None
        assert found.protocol == plain.protocol
        assert found.protocol in _PROTOCOLS
        names = [name for name, _ in plain.fields]
        assert names == [name for name in FIELDS if name in names]
        secrets = found.secrets
    if plain.protocol != "http" and (_HTTP in client or _HTTP in server):
        secrets += read_http(client, server).secrets
    if not secrets:
        # Then nothing is replaced, so there may be no field of a credential.
        assert not _credentials(plain)
        return
    sides = client, server
    for side, start, end in secrets:
        assert 0 <= start <= end <= len(sides[side])
    redacted = describe(Sent(client), Sent(server), _REDACTOR)
    texts = [redacted.client.data, redacted.server.data, *_texts(redacted)]
    values = [sides[side][start:end] for side, start, end in secrets]
    # Those that were sent in Base64 or in pieces, too.
    values += [str(value).encode("utf-8", "surrogateescape") for value in _credentials(plain)]
    for secret in values:
        # A shorter one may be in a hash by chance.
        if len(secret) >= 2 * _SHORT and not secret.startswith(b"hmac"):
            assert not any(secret in text for text in texts)
    for value in _credentials(redacted):
        assert isinstance(value, str)
        assert value.startswith("hmac-sha256:")


def _credentials(payload: Payload) -> list[Value]:
    return [value for name, value in payload.fields if name in CREDENTIAL_FIELDS]


def _texts(payload: Payload) -> Iterator[bytes]:
    """The texts of its fields, each one of a list too."""
    for _, value in payload.fields:
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, str):
                yield one.encode("utf-8", "surrogateescape")

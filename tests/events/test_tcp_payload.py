from __future__ import annotations

import json
from base64 import b64decode
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.connections.payload import Sent
from deckwire.events.catalogue import CATALOGUE
from deckwire.events.choices import Choices
from deckwire.events.context import locate
from deckwire.events.event import Event
from deckwire.events.redaction import PREFIX, Redactor
from deckwire.events.tcp_payload import (
    FIELDS,
    describe,
    headline,
    payload_event,
    redactor_for,
)
from deckwire.limits import LINE_BYTES, PAYLOAD_BYTES
from deckwire.output.ecs import EcsFormat
from deckwire.output.json_lines import JsonFormat
from deckwire.output.syslog import SyslogFormat
from deckwire.tcp.flow import Ends
from tests.payloads.test_table import CASES
from tests.support import payload_wire as wire
from tests.support.event_samples import (
    ADDRESSES,
    CLIENT,
    DECKY,
    OTHER_DECKY,
    REGISTRY,
    TAIL,
    TIME_NS,
    context,
    names,
    packed,
    value,
)

REDACTOR = Redactor(bytes(32), ("outbound", "lateral"))


def event(
    client: bytes, server: bytes = b"", redactor: Redactor | None = None, *, cut: bool = False
) -> Event:
    payload = describe(Sent(client, cut), Sent(server, cut), redactor)
    return payload_event(headline(context(), TIME_NS, payload), context(), payload)


def test_its_fields_stand_in_the_order_of_the_catalogue() -> None:
    declared = [one.name for one in CATALOGUE["tcp_payload"].fields]
    assert declared[declared.index("login_user") : declared.index("payload")] == list(FIELDS)


def test_the_bytes_of_both_ends() -> None:
    found = event(b"\0hello \xff\r\n", b"bye", cut=True)
    sent = ["payload", "payload_text", "payload_length", "payload_sha256", "payload_cut"]
    assert names(found) == [*ADDRESSES, *sent, *(f"server_{name}" for name in sent), *TAIL]
    assert b64decode(str(value(found, "payload"))) == b"\0hello \xff\r\n"
    assert value(found, "payload_text") == "\0hello \udcff\r\n"
    assert value(found, "payload_length") == 10
    assert value(found, "payload_sha256") == sha256(b"\0hello \xff\r\n").hexdigest()
    assert value(found, "server_payload_length") == 3
    assert found.severity == 6


def test_an_end_that_sent_nothing_has_no_fields() -> None:
    assert "payload" not in names(event(b"", b"220 x\r\n"))
    assert "server_payload" not in names(event(b"x"))


def test_the_fields_of_a_protocol() -> None:
    found = event(wire.mqtt(b"id", b"me", b"secret"))
    fields = dict(found.fields)
    assert (fields["protocol"], fields["login_user"]) == ("mqtt", "me")
    assert "redacted" not in fields


def test_the_dedup_key_is_the_port_and_the_bytes_of_the_client() -> None:
    digest = sha256(b"x").hexdigest()
    assert event(b"x").fingerprint == event(b"x", b"y").fingerprint == f"443|{digest}"
    assert event(b"").fingerprint == f"443|{sha256(b'').hexdigest()}"


def test_the_port_is_the_servers_if_the_peer_is_the_source() -> None:
    ends = Ends(packed(DECKY), 40_000, packed(CLIENT), 80)
    turned = locate(REGISTRY, ends, peer_first=True)
    assert turned is not None
    payload = describe(Sent(b"x", False), Sent(b"", False))
    assert str(headline(turned, TIME_NS, payload).fingerprint).startswith("80|")


@pytest.mark.parametrize(
    ("client", "server", "wanted"),
    [
        (CLIENT, DECKY, False),
        (DECKY, CLIENT, True),
        (DECKY, OTHER_DECKY, True),
    ],
)
def test_credentials_are_replaced_by_direction(client: str, server: str, *, wanted: bool) -> None:
    choices = Choices(redactor=REDACTOR)
    assert (redactor_for(context(client, server), choices) is not None) == wanted
    assert redactor_for(context(client, server), Choices()) is None


SECRETS = {
    "ftp/smtp": (b"USER bobby\r\nPASS hunter2\r\n", b"220 x\r\n331 password of bobby\r\n"),
    "ftp/smtp plain": (
        b"EHLO me\r\nAUTH PLAIN " + wire.base64(b"\0bobby\0hunter2") + b"\r\n",
        b"220 x\r\n",
    ),
    "pop3": (b"USER bobby\r\nPASS hunter2\r\n", b"+OK x\r\n+OK bobby, now your password\r\n"),
    "imap": (b"a LOGIN bobby hunter2\r\n", b"* OK x\r\n"),
    "telnet": (b"bobby\r\nhunter2\r\n", b"\xff\xfb\1login: bobby\r\nPassword: "),
    "telnet without prompts": (b"\xff\xfd\3bobby\r\nhunter2\r\n", b""),
    "redis": (wire.resp(b"AUTH", b"bobby", b"hunter2"), b"+OK\r\n"),
    "mqtt": (wire.mqtt(b"client-of-bobby", b"bobby", b"hunter2"), b""),
    "ldap": (wire.ldap_bind(b"cn=bobby", b"hunter2"), b""),
    "rtsp/sip": (
        b"OPTIONS sip:100@192.0.2.7 SIP/2.0\r\nAuthorization: Basic "
        + wire.base64(b"bobby:hunter2")
        + b"\r\n\r\n",
        b"",
    ),
    "postgres": (
        wire.postgres_start(user="bobby", database="bobby") + wire.postgres_answer(b"hunter2\0"),
        wire.postgres_challenge(3),
    ),
    "mysql": (wire.mysql_login(b"bobby", b"hunter2-scrambled"), wire.MYSQL_GREETING),
    "socks5": (b"\5\1\2\1\5bobby\7hunter2\5\1\0\1\xc0\0\2\1\0\x50", b""),
    "http": (b"GET /?user=bobby&password=hunter2 HTTP/1.1\r\n\r\n", b""),
    "socks4 with HTTP behind it": (
        b"\4\1\0\x50\xc0\0\2\1\0GET / HTTP/1.1\r\nCookie: sid=hunter2bobby\r\n\r\n",
        b"\0\x5a\0\0\0\0\0\0HTTP/1.1 200 OK\r\nSet-Cookie: sid=hunter2bobby\r\n\r\n",
    ),
    "rdp": (wire.rdp(b"Cookie: mstshash=bobby\r\n", 3), b""),
    "irc": (b"PASS hunter2\r\nNICK bobby\r\nUSER bobby 0 * :bobby\r\n", b":x 001 bobby :Hi\r\n"),
    "xmpp": (
        b"<stream:stream to='x'><auth mechanism='PLAIN'>"
        + wire.base64(b"\0bobby\0hunter2")
        + b"</auth>",
        b"",
    ),
}


def everything(found: Event) -> str:
    """All that the event has, and what its Base64 has."""
    fields = dict(found.fields)
    raw = b"".join(b64decode(fields.get(n, "")) for n in ("payload", "server_payload"))  # type: ignore[arg-type]
    return f"{fields!r} {found.fingerprint!r} {found.label!r} {raw!r}"


@pytest.mark.parametrize("case", SECRETS)
@pytest.mark.parametrize("length", [0, 1, 3, 9])
def test_no_credential_is_left(case: str, length: int) -> None:
    """Also if the client's last bytes were cut off."""
    client, server = SECRETS[case]
    plain = everything(event(client, server))
    coded = [wire.base64(s).decode() for s in (b"\0bobby\0hunter2", b"bobby:hunter2")]
    assert any(secret in plain for secret in ("bobby", "hunter2"))
    found = event(client[: len(client) - length], server, REDACTOR)
    shown = everything(found)
    assert value(found, "redacted") is True
    assert dict(found.fields)["protocol"] == case.split(" ", maxsplit=1)[0]
    for secret in ("bobby", "hunter2", "hunter", *coded):
        assert secret not in shown, shown
    assert PREFIX in shown
    assert value(found, "payload_length") == len(client) - length


def test_equal_credentials_have_equal_stand_ins() -> None:
    first = dict(event(b"USER a\r\nPASS hunter2\r\n", b"220 x\r\n", REDACTOR).fields)
    second = dict(event(wire.mqtt(b"i", b"b", b"hunter2"), b"", REDACTOR).fields)
    assert first["login_password"] == second["login_password"]
    assert first["login_password"] == REDACTOR.stand_in(b"hunter2")
    raw = b64decode(str(first["payload"]))
    assert str(first["login_password"]).encode() in raw
    assert first["payload_sha256"] == sha256(raw).hexdigest()


def test_without_credentials_nothing_changes() -> None:
    assert event(b"hello", b"", REDACTOR) == event(b"hello")


BYTES = st.one_of(
    st.binary(max_size=PAYLOAD_BYTES),
    st.sampled_from([end for ends in CASES.values() for end in ends]),
    st.sampled_from([b"PASS aaaa\r\n" * 46, b"\xff" * 512, b"\x01" * 512, b'"]\\' * 170]),
)


@given(BYTES, BYTES, st.sampled_from([None, REDACTOR]))
def test_every_format_has_room_for_it(client: bytes, server: bytes, redactor: Any) -> None:
    found = event(client, server, redactor)
    syslog, as_json, ecs = [
        form.line(found) for form in (SyslogFormat(), JsonFormat(), EcsFormat())
    ]
    assert max(len(syslog), len(as_json), len(ecs)) <= LINE_BYTES
    # The field that says that the line was too long.
    assert b' cut="true"' not in syslog
    assert "cut" not in json.loads(as_json)["fields"]
    assert "cut" not in json.loads(ecs)["deckwire"]

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.limits import PAYLOAD_BYTES
from deckwire.payloads.finding import CLIENT, CREDENTIAL_FIELDS
from deckwire.payloads.table import ROWS, recognise
from tests.support import payload_wire as wire
from tests.support.shared import SHARED

CASES = {
    "rdp": (wire.rdp(b"Cookie: mstshash=admin\r\n", 3), b""),
    "rdp without cookie": (wire.rdp(protocols=1), b""),
    "rdp without anything": (wire.rdp(), b""),
    "s7": (wire.s7_connect() + wire.s7_job(4), b""),
    "s7 in the middle": (wire.s7_job(4), b""),
    "smb": (wire.smb1(b"NT LM 0.12"), b""),
    "smb version 2": (wire.smb2(0x0202, 0x0311), b""),
    "smb by NetBIOS": (b"\x81\0\0\x44 " + b"CK" * 16 + b"\0 " + b"AA" * 16 + b"\0", b""),
    "redis": (wire.resp(b"INFO"), b""),
    "redis inline": (b"INFO\r\n", b""),
    "redis by its server": (b"hello\r\n", b"-ERR unknown command 'hello'\r\n"),
    "mqtt": (wire.mqtt(b"id", b"u", b"p"), b""),
    "postgres": (wire.postgres_start(user="postgres"), b""),
    "postgres with TLS": (wire.POSTGRES_TLS, b"N"),
    "mysql": (b"", wire.MYSQL_GREETING),
    "mysql refuses": (b"", wire.mysql_packet(0, b"\xff\x6a\x04Host '192.0.2.9' is not allowed")),
    "vnc": (b"", b"RFB 003.008\n"),
    "adb": (wire.adb(b"CNXN", b"host::\0"), b""),
    "ldap": (wire.ldap_bind(b"cn=admin", b"secret"), b""),
    "socks4": (wire.SOCKS4, b""),
    "socks5": (wire.SOCKS5_LOGIN, b""),
    "modbus": (wire.modbus(3), b""),
    "telnet": (wire.TELNET_CLIENT, wire.TELNET_SERVER),
    "telnet without options": (b"root\n", b"Welcome\r\nlogin: "),
    "telnet by its server": (b"", b"\xff\xfd\x18"),
    "rtsp/sip": (wire.SIP, b""),
    "rtsp/sip by its server": (b"", b"SIP/2.0 401 Unauthorized\r\n"),
    "rmi": (wire.JRMI, b""),
    "t3": (b"t3 12.2.1\nAS:255\nHL:19\n\n", b""),
    "ftp/smtp": (b"", b"220 ready\r\n"),
    "ftp/smtp by its client": (b"EHLO me\r\n", b""),
    "pop3": (b"USER me\r\n", b"+OK ready\r\n"),
    "imap": (b"", b"* OK ready\r\n"),
    "imap by its client": (b"a1 LOGIN me secret\r\n", b""),
    "irc": (b"NICK me\r\nUSER me 0 * :me\r\n", b""),
    "memcached": (b"stats\r\n", b""),
    "memcached in binary": (b"\x80\x10\0\0\0\0" + bytes(18), b""),
    "http2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""),
    "tls": (b"\x15\3\1\0\2\2\x28", b""),
    "ajp": (b"\x12\x34\0\1\x0a", b""),
    "dns-tcp": (b"\0\x1d\xab\xcd\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1", b""),
}


@pytest.mark.parametrize("case", CASES)
def test_a_protocol_is_recognised_by_its_bytes(case: str) -> None:
    found = recognise(*CASES[case])
    assert found is not None
    assert found.protocol == case.split(" ", maxsplit=1)[0]


@pytest.mark.parametrize(
    "client",
    [
        *(b"", b"\0", b"\xff", b"hello\r\n", b"\r\n\r\n", bytes(64), b"\xff" * 64, b"A" * 512),
        # None of these is more than a few bytes of the protocol that comes to mind.
        *(b"\5\1", b"\4\1", b"\x10\x0c", b"\3\0\0\x0b", b"RFB", b"JRMI", b"\x30\x0c", b"* OK"),
        # Modbus with a length and functions that it does not have.
        *(b"\0\1\0\0\0\1\1\3", b"\0\1\0\0\0\6\1\x83\0\0\0\1"),
        b"\x30\x0c\2\1\1\x01\7",
    ],
)
def test_other_bytes_have_no_protocol(client: bytes) -> None:
    assert recognise(client, b"") is None


EXPECTED = SHARED / "protocols" / "expected" / "protocol.json"


def expected() -> list[dict[str, Any]]:
    return json.loads(EXPECTED.read_text()) if EXPECTED.exists() else []


@pytest.mark.skipif(not expected(), reason="the captures of other protocols are not installed")
def test_all_first_bytes_of_captures_are_recognised() -> None:
    wrong = []
    for entry in expected():
        ends = bytes.fromhex(entry["client_hex"]), bytes.fromhex(entry["server_hex"])
        found = recognise(*ends)
        if found is None or found.protocol != entry["value"]:
            wrong.append((entry["pcap"], entry["value"], found))
    assert wrong == []


BEGINNINGS = st.sampled_from([case for case in CASES.values() if case[0] or case[1]])


def check(client: bytes, server: bytes) -> None:
    """What holds for any bytes."""
    found = recognise(client, server)
    if found is None:
        return
    assert found.protocol in {row.protocol for row in ROWS}
    names = [name for name, _ in found.fields]
    assert len(set(names)) == len(names)
    sides = client, server
    for side, start, end in found.secrets:
        assert 0 <= start <= end <= len(sides[side])
    for name, value in found.fields:
        assert value != "" or name in CREDENTIAL_FIELDS
        assert value != ()
        assert len(str(value)) <= 16 * 140, name


@given(st.binary(max_size=PAYLOAD_BYTES), st.binary(max_size=PAYLOAD_BYTES))
def test_any_bytes_are_read(client: bytes, server: bytes) -> None:
    check(client, server)


@given(BEGINNINGS, st.integers(0, 600), st.binary(max_size=64), st.integers(0, 600))
def test_any_change_of_a_protocol_is_read(
    ends: tuple[bytes, bytes], at: int, change: bytes, length: int
) -> None:
    client, server = ends
    changed = (client[:at] + change + client[at + len(change) :])[:length]
    check(changed, server)
    check(client, (server[:at] + change)[:length])


@given(BEGINNINGS, st.integers(0, 600))
def test_what_was_cut_is_no_value(ends: tuple[bytes, bytes], length: int) -> None:
    """A password that is not there as a whole is not shown in part."""
    whole, cut = recognise(*ends), recognise(ends[CLIENT][:length], ends[1])
    if whole is None or cut is None or whole.protocol != cut.protocol:
        return
    passwords = dict(whole.fields).get("login_password"), dict(cut.fields).get("login_password")
    assert passwords[1] in (None, passwords[0])

"""The table of protocols, in the order in which they are tried."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from deckwire.payloads.adb import read_adb
from deckwire.payloads.finding import CLIENT, SERVER, Field, Finding, Secret
from deckwire.payloads.http_secrets import read_http
from deckwire.payloads.industry import read_modbus, read_s7
from deckwire.payloads.java import read_rmi, read_t3
from deckwire.payloads.ldap import read_ldap
from deckwire.payloads.logins import read_commands, read_imap, read_irc, read_xmpp
from deckwire.payloads.mqtt import read_mqtt
from deckwire.payloads.redis import read_redis
from deckwire.payloads.sip import read_sip
from deckwire.payloads.socks import read_socks4, read_socks5
from deckwire.payloads.sql import read_mysql, read_postgres
from deckwire.payloads.telnet import read_telnet
from deckwire.payloads.vnc import read_vnc
from deckwire.payloads.windows import read_rdp, read_smb

Read = Callable[[bytes, bytes], Finding | None]
"""Takes the bytes of client and server. None: it is another protocol after all."""


def _nothing(_client: bytes, _server: bytes) -> Finding:
    return Finding()


class Row(NamedTuple):
    """A protocol, and how one end begins that speaks it."""

    protocol: str
    side: int
    """CLIENT or SERVER: whose bytes show it."""
    pattern: re.Pattern[bytes]
    read: Read


class Recognised(NamedTuple):
    """A protocol and its facts."""

    protocol: str
    fields: tuple[Field, ...]
    """Each name once."""
    secrets: tuple[Secret, ...]


def _rows(protocol: str, read: Read, *, client: bytes = b"", server: bytes = b"") -> list[Row]:
    return [
        Row(protocol, side, re.compile(pattern, re.DOTALL), read)
        for side, pattern in ((CLIENT, client), (SERVER, server))
        if pattern
    ]


_END = rb"(?:\r?\n|$)"
_POSTGRES_START = rb"\0\0..\0\x03\0[\0-\x02](?:user|database|application_name|[a-z_]+)\0"

# A binary protocol comes before lines of text, what both ends show before what one end shows, and
# a fixed beginning before a loose one. Redis and memcached come behind FTP and the mail protocols,
# because their commands in lines have no form of their own.
ROWS: tuple[Row, ...] = (
    *_rows("ssh", _nothing, client=rb"SSH-\d", server=rb"SSH-\d"),
    *_rows(
        "tls", _nothing, client=rb"[\x14-\x17]\x03[\0-\x04]", server=rb"[\x15\x16]\x03[\0-\x04]"
    ),
    *_rows("http2", _nothing, client=rb"PRI \* HTTP/2"),
    *_rows(
        "rtsp/sip",
        read_sip,
        client=rb"(?:[A-Z_]{3,20} [^\r\n ]+ (?:RTSP|SIP)/\d|(?:RTSP|SIP)/\d\.\d \d)",
        server=rb"(?:[A-Z_]{3,20} [^\r\n ]+ (?:RTSP|SIP)/\d|(?:RTSP|SIP)/\d\.\d \d)",
    ),
    *_rows(
        "http",
        read_http,
        client=rb"[A-Za-z_-]{3,20} [^\r\n]* HTTP/\d|(?:GET|POST|HEAD|PUT|OPTIONS) /",
        server=rb"HTTP/\d\.\d \d{3}",
    ),
    *_rows("s7", read_s7, client=rb"\x03\0..(?:.\xe0.{5}[\xc0-\xc2]|\x02\xf0\x80\x32)"),
    *_rows("rdp", read_rdp, client=rb"\x03\0..[\x06-\xff]\xe0\0\0..[\0-\x0f]"),
    *_rows(
        "smb",
        read_smb,
        client=rb"(?:\x81\0\0\x44.{68})?\0...[\xfd-\xff]SMB|\x81\0\0\x44\x20[A-P]{32}",
        server=rb"\0...[\xfd-\xff]SMB",
    ),
    *_rows(
        "mqtt",
        read_mqtt,
        client=rb"\x10(?:[\0-\x7f]|[\x80-\xff]{1,3}[\0-\x7f])\0(?:\x04MQTT|\x06MQIsdp)",
    ),
    *_rows(
        "postgres",
        read_postgres,
        client=rb"\0\0\0(?:\x08\x04\xd2\x16[\x2f\x30]|\x10\x04\xd2\x16\x2e)|" + _POSTGRES_START,
    ),
    *_rows(
        "mysql",
        read_mysql,
        server=rb"..\0\0\x0a\d+\.\d[^\0]*\0|..\0\0\xff[\x69\x6a\x10]\x04(?:#.{5})?[A-Z]",
    ),
    *_rows("vnc", read_vnc, client=rb"RFB \d{3}\.\d{3}\n", server=rb"RFB \d{3}\.\d{3}\n"),
    *_rows(
        "adb",
        read_adb,
        client=rb"CNXN.{16}\xbc\xb1\xa7\xb1|OPEN.{16}\xb0\xaf\xba\xb1|AUTH.{16}\xbe\xaa\xab\xb7",
        server=rb"CNXN.{16}\xbc\xb1\xa7\xb1|AUTH.{16}\xbe\xaa\xab\xb7",
    ),
    *_rows("rmi", read_rmi, client=rb"JRMI\0[\x01\x02][KLM]"),
    *_rows("t3", read_t3, client=rb"t3s? \d+\.\d+"),
    *_rows("bittorrent", _nothing, client=rb"\x13BitTorrent protocol"),
    *_rows("ajp", _nothing, client=rb"\x12\x34..[\x02\x07-\x0a]", server=rb"AB..[\x03-\x09]"),
    *_rows(
        "mongodb",
        _nothing,
        client=rb"..[\0-\x02]\0.{4}\0{4}(?:\xd4|\xdd|\xdc|\xd1|\xd2)\x07\0\0",
    ),
    *_rows(
        "ldap", read_ldap, client=rb"\x30(?:[\x05-\x7f]|\x81.|\x82..|\x84\0\0..)\x02[\x01-\x04]"
    ),
    *_rows(
        "socks5",
        read_socks5,
        client=rb"\x05(?:\x01[\0-\x0a]|\x02[\0-\x0a]{2}|\x03[\0-\x0a]{3}|\x04[\0-\x0a]{4})"
        rb"(?:$|\x05[\x01-\x03]\0|\x01[\x01-\xff])",
    ),
    *_rows("socks4", read_socks4, client=rb"\x04[\x01\x02].{6}[\x20-\x7e]*\0"),
    *_rows(
        "dns-tcp",
        _nothing,
        client=rb"..(?:..)[\0\x01][\0\x10\x20\x30]\0[\x01\x02]\0\0\0[\0-\x05]\0[\0-\x05]"
        rb"(?:\0|[\x01-\x3f][\x21-\x7e])",
    ),
    *_rows("modbus", read_modbus, client=rb"..\0\0\0[\x02-\xfe].[\x01-\x7f]"),
    *_rows(
        "telnet",
        read_telnet,
        client=rb"(?:\xff[\xf1-\xfa]|\xff[\xfb-\xfe][\0-\x31\x45-\x5d\x8a-\x8c\xff])",
        server=rb"[\r\n]*(?:\xff\xfa|\xff[\xfb-\xfe][\0-\x31\x45-\x5d\x8a-\x8c\xff])",
    ),
    *_rows(
        "xmpp",
        read_xmpp,
        client=rb"(?:<\?xml [^>]*\?>\s*)?<stream:stream",
        server=rb"(?:<\?xml [^>]*\?>\s*)?<stream:stream",
    ),
    *_rows(
        "irc",
        read_irc,
        client=rb"(?:CAP LS[^\r\n]*\r?\n)?(?:PASS [^\r\n]*\r?\n)?"
        rb"(?:NICK [^\r\n]+\r?\n|USER \S+ \S+ \S+ :|CAP LS)",
        server=rb":[\w.-]+ (?:NOTICE|\d{3}) ",
    ),
    *_rows("imap", read_imap, server=rb"\* (?:OK|PREAUTH|BYE)\b"),
    *_rows("redis", read_redis, client=rb"\*\d{1,3}\r?\n\$\d+\r?\n"),
    *_rows("pop3", read_commands, server=rb"\+OK(?: |\r?\n[^$])(?!PONG)"),
    *_rows(
        "ftp/smtp",
        read_commands,
        client=rb"(?i:EHLO|HELO|LHLO) \S+|(?i:USER) [^\r\n]+" + _END,
        server=rb"(?:120|220|421|530|554)[ -]",
    ),
    *_rows("pop3", read_commands, client=rb"(?i:CAPA|STLS|APOP \S+ [0-9a-f]{32})" + _END),
    *_rows(
        "imap",
        read_imap,
        client=rb"[A-Za-z]{0,8}[.\d]{1,8} "
        rb"(?i:CAPABILITY|LOGIN|AUTHENTICATE|STARTTLS|ID|NOOP|LOGOUT)[ \r\n]",
    ),
    *_rows(
        "memcached",
        _nothing,
        client=rb"stats(?: \w+)?\r?\n"
        rb"|(?:set|add|replace|append|prepend) \S+(?: \d+){3}(?: noreply)?\r?\n"
        rb"|version\r\n|flush_all\r?\n|gets? [^\r\n]+\r\n|\x80[\0-\x22]..[\0-\x20]\0",
        server=rb"STAT \w+ |VERSION \d[\w.-]*\r\n|VALUE \S+ \d+ \d+",
    ),
    *_rows(
        "redis",
        read_redis,
        client=rb"(?i:INFO|PING|COMMAND|FLUSHALL|FLUSHDB|CONFIG (?:GET|SET)|SLAVEOF|REPLICAOF|KEYS"
        rb"|AUTH|SELECT|CLIENT|EVAL|MODULE LOAD|HELLO \d|SET|GET|DBSIZE|MONITOR)"
        rb"(?: [^\r\n]*)?\r?\n",
        server=rb"-NOAUTH |-ERR |-DENIED |-WRONGPASS |\+PONG\r\n|\$\d+\r\n# Server",
    ),
    *_rows(
        "telnet",
        read_telnet,
        server=rb"[\x20-\x7e\s\x1b]*(?i:login|user ?name|password) ?: ?(?:$|[\r\n\xff])",
    ),
)
"""Each name is exactly one of docs/events.md. The first row that fits decides."""


def recognise(client: bytes, server: bytes) -> Recognised | None:
    """The protocol of a connection's first bytes; None if no row fits.

    `client` are the bytes of the end that opened the connection.
    """
    sides = (client, server)
    for protocol, side, pattern, read in ROWS:
        if pattern.match(sides[side]) is None:
            continue
        found = read(client, server)
        if found is not None:
            fields = dict(reversed(found.fields))
            return Recognised(protocol, tuple(reversed(fields.items())), found.secrets)
    return None

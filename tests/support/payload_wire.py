"""First bytes of other protocols than TLS, SSH and HTTP, as clients and servers send them."""

from __future__ import annotations

from base64 import b64encode


def u16(number: int) -> bytes:
    return number.to_bytes(2)


def u32(number: int) -> bytes:
    return number.to_bytes(4)


def tpkt(body: bytes) -> bytes:
    """RFC 1006, 6."""
    return b"\3\0" + u16(4 + len(body)) + body


def rdp(line: bytes = b"", protocols: int | None = None) -> bytes:
    """An X.224 connection request ([MS-RDPBCGR] 2.2.1.1)."""
    asked = b"" if protocols is None else b"\1\0\x08\0" + protocols.to_bytes(4, "little")
    rest = b"\xe0\0\0\0\0\0" + line + asked
    return tpkt(bytes([len(rest)]) + rest)


def s7_connect(tsap: bytes = b"\1\2") -> bytes:
    parameters = b"\xc0\1\x0a\xc1\2\1\0\xc2" + bytes([len(tsap)]) + tsap
    rest = b"\xe0\0\0\0\1\0" + parameters
    return tpkt(bytes([len(rest)]) + rest)


def s7_job(function: int) -> bytes:
    return tpkt(b"\2\xf0\x80\x32\1\0\0\0\1\0\x08\0\0" + bytes([function]) + bytes(7))


def smb1(*dialects: bytes) -> bytes:
    names = b"".join(b"\2" + name + b"\0" for name in dialects)
    packet = b"\xffSMBr" + bytes(27) + b"\0" + len(names).to_bytes(2, "little") + names
    return u32(len(packet)) + packet


def smb2(*dialects: int) -> bytes:
    count = len(dialects).to_bytes(2, "little")
    packet = b"\xfeSMB" + b"\x40\0" + bytes(58) + b"\x24\0" + count + bytes(32)
    packet += b"".join(dialect.to_bytes(2, "little") for dialect in dialects)
    return u32(len(packet)) + packet


def resp(*words: bytes) -> bytes:
    parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%s" % (len(words), parts)


def text(value: bytes) -> bytes:
    return u16(len(value)) + value


def mqtt(
    name: bytes,
    user: bytes | None = None,
    password: bytes | None = None,
    *,
    version: int = 4,
    will: bool = False,
) -> bytes:
    """CONNECT (MQTT 3.1.1, 3.1; MQTT 5, 3.1)."""
    flags = 2 | (0x80 * (user is not None)) | (0x40 * (password is not None)) | (4 * will)
    protocol = b"MQIsdp" if version == 3 else b"MQTT"
    more = b"\0" if version == 5 else b""
    body = text(protocol) + bytes([version, flags]) + u16(60) + more + text(name)
    if will:
        body += more + text(b"gone") + text(b"bye")
    for value in (user, password):
        if value is not None:
            body += text(value)
    assert len(body) < 128
    return b"\x10" + bytes([len(body)]) + body


def postgres_start(**parameters: str) -> bytes:
    body = b"\0\3\0\0"
    for name, value in parameters.items():
        body += name.encode() + b"\0" + value.encode() + b"\0"
    body += b"\0"
    return u32(4 + len(body)) + body


def postgres_answer(body: bytes) -> bytes:
    return b"p" + u32(4 + len(body)) + body


def postgres_challenge(kind: int, more: bytes = b"") -> bytes:
    return b"R" + u32(8 + len(more)) + u32(kind) + more


POSTGRES_TLS = b"\0\0\0\x08\x04\xd2\x16\x2f"


def mysql_packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


MYSQL_GREETING = mysql_packet(
    0, b"\x0a8.0.36\0" + bytes(4) + b"saltsalt\0" + bytes(18) + b"salt" * 3 + b"\0"
)

MYSQL_SALTED = mysql_packet(
    0,
    b"\x0a8.0.36\0\1\0\0\0saltsalt\0\xff\xf7\x21\2\0\xff\xdf\x15"
    + bytes(10)
    + b"salt" * 3
    + b"\0mysql_native_password\0",
)
"""A greeting with its flags (CLIENT_SSL is not among them), charset and method."""


def mysql_login(
    user: bytes, answer: bytes, database: bytes = b"", plugin: bytes = b"mysql_native_password"
) -> bytes:
    flags = 0x8_0200 | (0x8 if database else 0)
    body = flags.to_bytes(4, "little") + bytes(28) + user + b"\0"
    body += bytes([len(answer)]) + answer
    body += database + b"\0" if database else b""
    return mysql_packet(1, body + plugin + b"\0")


def ber(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = bytes([len(body)]) if len(body) < 0x80 else b"\x82" + u16(len(body))
    return bytes([tag]) + size + body


def ldap_bind(name: bytes, password: bytes) -> bytes:
    bind = ber(0x60, b"\2\1\3", ber(4, name), ber(0x80, password))
    return ber(0x30, b"\2\1\1", bind)


LDAP_REFUSED = ber(0x30, b"\2\1\1", ber(0x61, b"\x0a\1\x31", ber(4), ber(4)))
"""The answer to a bind as the first message: invalidCredentials (RFC 4511, 4.1.9)."""


def adb(command: bytes, body: bytes) -> bytes:
    magic = bytes(byte ^ 0xFF for byte in command)
    return command + bytes(8) + len(body).to_bytes(4, "little") + bytes(4) + magic + body


def modbus(function: int, unit: int = 1, number: int = 7) -> bytes:
    body = bytes([unit, function]) + bytes(4)
    return u16(number) + b"\0\0" + u16(len(body)) + body


SOCKS4 = b"\4\1\0\x50\xc0\0\2\1me\0"
SOCKS4A = b"\4\1\1\xbb\0\0\0\1\0host.example\0"
SOCKS5_LOGIN = b"\5\2\0\2" + b"\1\4root\6secret" + b"\5\1\0\3\x0chost.example\0\x50"

TELNET_CLIENT = b"\xff\xfd\3\xff\xfb\x18\xff\xfa\x18\0xterm\xff\xf0root\r\0xc3511\r\0sh\r\0"
TELNET_SERVER = b"\xff\xfd\x18\xff\xfb\1\r\nlogin: root\r\nPassword: \r\n$ "


def base64(value: bytes) -> bytes:
    return b64encode(value)


SIP = (
    b"REGISTER sip:192.0.2.7 SIP/2.0\r\nUser-Agent: friendly-scanner\r\n"
    b'Authorization: Digest username="100", realm="r", response="0123456789abcdef"\r\n\r\n'
)
JRMI = b"JRMI\0\2K"

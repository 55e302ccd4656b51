"""RDP and SMB: what a client proposes first ([MS-RDPBCGR] 2.2.1.1, [MS-CIFS], [MS-SMB2])."""

from __future__ import annotations

import re
from contextlib import suppress

from deckwire.limits import PAYLOAD_LIST
from deckwire.payloads.cursor import Cursor, Cut
from deckwire.payloads.finding import CLIENT, Field, Finding, Secret, shown

# --- RDP ---

_COOKIE = re.compile(rb"Cookie: mstshash=([^\r\n]*)")
_TOKEN = re.compile(rb"(?:Cookie: msts=|tsv://|mth://)[^\r\n]*")
_REQUEST = re.compile(rb"\x01[\x00-\xff]\x08\x00([\x00-\xff]{4})")
_X224_BYTES = 11
_PROTOCOLS = ("tls", "credssp", "rdstls", "credssp_ex", "rdsaad")
"""Names of the bits of requestedProtocols. None of them: RDP's own security."""


def read_rdp(client: bytes, _server: bytes) -> Finding:
    """Read the cookie or the token, and the security protocols that the client asks for."""
    fields: list[Field] = []
    secrets: list[Secret] = []
    size = int.from_bytes(client[2:4])
    request = client[:size]
    at = _X224_BYTES
    cookie, token = _COOKIE.match(request, at), _TOKEN.match(request, at)
    if cookie is not None:
        if cookie[1]:
            fields.append(("rdp_cookie", shown(cookie[1])))
            secrets.append(Secret(CLIENT, *cookie.span(1)))
    elif token is not None:
        fields.append(("rdp_token", shown(token[0])))
    line = cookie or token
    if line is not None:
        at = line.end() + len(b"\r\n")
    asked = _REQUEST.match(request, at)
    if asked is not None:
        bits = int.from_bytes(asked[1], "little")
        names = [name for n, name in enumerate(_PROTOCOLS) if bits & 1 << n]
        fields.append(("rdp_protocols", tuple(names or ["rdp"])))
    return Finding(tuple(fields), tuple(secrets))


# --- SMB ---

_SESSION_REQUEST = 0x81
_SMB1, _SMB2 = b"\xffSMB", b"\xfeSMB"
_NEGOTIATE_1, _NEGOTIATE_2 = 0x72, 0
_NAMES = {
    0x0202: "2.0.2",
    0x0210: "2.1",
    0x02FF: "2.???",
    0x0300: "3.0",
    0x0302: "3.0.2",
    0x0311: "3.1.1",
}


def read_smb(client: bytes, _server: bytes) -> Finding:
    """Read the dialects that the client proposes, as far as they go."""
    cursor = Cursor(client)
    dialects: list[str] = []
    with suppress(Cut):
        if client[:1] == bytes([_SESSION_REQUEST]):
            # NetBIOS names of both ends (RFC 1002, 4.3.2).
            cursor.take(2)
            cursor.take(cursor.number(2))
        cursor.take(4)
        magic = cursor.take(4)
        if magic == _SMB1:
            if cursor.number(1) == _NEGOTIATE_1:
                cursor.take(27)
                cursor.take(2 * cursor.number(1))
                end = cursor.number(2, "little")
                end += cursor.at
                while cursor.at < end and len(dialects) < PAYLOAD_LIST:
                    cursor.take(1)
                    dialects.append(shown(cursor.until_nul()))
        elif magic == _SMB2:
            cursor.take(8)
            if cursor.number(2, "little") == _NEGOTIATE_2:
                cursor.take(50 + 2)
                count = cursor.number(2, "little")
                cursor.take(32)
                for _ in range(min(count, PAYLOAD_LIST)):
                    dialect = cursor.number(2, "little")
                    dialects.append(_NAMES.get(dialect, f"0x{dialect:04x}"))
    return Finding((("smb_dialects", tuple(dialects)),) if dialects else ())

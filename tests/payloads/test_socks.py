from __future__ import annotations

import pytest

from deckwire.payloads.socks import read_socks4, read_socks5
from tests.support.payload_wire import SOCKS4, SOCKS4A, SOCKS5_LOGIN


@pytest.mark.parametrize(
    ("client", "fields"),
    [
        (SOCKS4, {"login_user": "me", "socks_target": "192.0.2.1:80"}),
        (SOCKS4A, {"socks_target": "host.example:443"}),
        (SOCKS4A[:-1], {}),
    ],
)
def test_socks4(client: bytes, fields: dict[str, object]) -> None:
    assert dict(read_socks4(client, b"").fields) == {"socks_command": "connect"} | fields


@pytest.mark.parametrize(
    ("client", "fields"),
    [
        (
            SOCKS5_LOGIN,
            {
                "login_user": "root",
                "login_password": "secret",
                "socks_command": "connect",
                "socks_target": "host.example:80",
            },
        ),
        (
            b"\5\1\0\5\2\0\4\x20\1\x0d\xb8" + bytes(11) + b"\1\0\x50",
            {"socks_command": "bind", "socks_target": "[2001:db8::1]:80"},
        ),
        (b"\5\1\0\5\3\0\1\xc0\0\2\1\0\x50", {"socks_command": "udp_associate"}),
        (b"\5\1\0\5\7\0\7", {"socks_command": "7"}),
        (b"\5\1\0", {}),
        (SOCKS5_LOGIN[:14], {"login_user": "root"}),
    ],
)
def test_socks5(client: bytes, fields: dict[str, object]) -> None:
    found = dict(read_socks5(client, b"").fields)
    assert fields.items() <= found.items()
    assert found.keys() - fields.keys() <= {"socks_target"}


def test_a_login_is_secret() -> None:
    found = read_socks5(SOCKS5_LOGIN, b"")
    assert [SOCKS5_LOGIN[at:end] for _, at, end in found.secrets] == [b"root", b"secret"]

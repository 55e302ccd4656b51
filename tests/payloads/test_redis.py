from __future__ import annotations

import pytest

from deckwire.payloads.redis import read_redis
from tests.support.payload_wire import resp


@pytest.mark.parametrize(
    ("client", "fields", "secrets"),
    [
        (resp(b"INFO"), {"redis_commands": ("INFO",)}, []),
        (
            resp(b"AUTH", b"hunter2") + resp(b"CONFIG", b"SET", b"dir", b"/var/spool/cron"),
            {
                "login_password": "hunter2",
                "redis_commands": ("AUTH hunter2", "CONFIG SET dir /var/spool/cron"),
            },
            [b"hunter2"],
        ),
        (
            b"auth default hunter2\r\nPING\r\n",
            {
                "login_user": "default",
                "login_password": "hunter2",
                "redis_commands": ("auth default hunter2", "PING"),
            },
            [b"default", b"hunter2"],
        ),
        (
            resp(b"HELLO", b"3", b"AUTH", b"me", b"secret", b"SETNAME"),
            {
                "login_user": "me",
                "login_password": "secret",
                "redis_commands": ("HELLO 3 AUTH me secret SETNAME",),
            },
            [b"me", b"secret"],
        ),
        (
            b"CONFIG SET requirepass new\r\n",
            {"redis_commands": ("CONFIG SET requirepass new",)},
            [b"new"],
        ),
        (
            b"ACL SETUSER bob on >pw ~*\r\n",
            {"redis_commands": ("ACL SETUSER bob on >pw ~*",)},
            [b">pw"],
        ),
        # What was cut is a secret without a value.
        (
            resp(b"AUTH", b"hunter2")[:-5],
            {"redis_commands": ("AUTH hunt",)},
            [b"hunt"],
        ),
        (b"AUTH hunt", {"redis_commands": ("AUTH hunt",)}, [b"hunt"]),
        (b"*3\r\n$x\r\n", {}, []),
        (b"*1\r\n$999999999\r\nA", {"redis_commands": ("A",)}, []),
    ],
)
def test_commands_and_credentials(
    client: bytes, fields: dict[str, object], secrets: list[bytes]
) -> None:
    found = read_redis(client, b"")
    assert dict(found.fields) == fields
    assert [client[at:end] for _, at, end in found.secrets] == secrets


def test_the_list_is_bounded() -> None:
    (field,) = read_redis(b"PING\r\n" * 80, b"").fields
    assert field == ("redis_commands", ("PING",) * 16)

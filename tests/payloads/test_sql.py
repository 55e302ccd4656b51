from __future__ import annotations

import pytest

from deckwire.payloads.sql import read_mysql, read_postgres
from tests.support.payload_wire import (
    MYSQL_GREETING,
    POSTGRES_TLS,
    mysql_login,
    mysql_packet,
    postgres_answer,
    postgres_challenge,
    postgres_start,
)

START = postgres_start(user="oryx", database="store", application_name="psql")
LOGIN = {"login_user": "oryx", "database": "store", "application": "psql"}


@pytest.mark.parametrize(
    ("client", "server", "fields", "secrets"),
    [
        (
            START + postgres_answer(b"hunter2\0"),
            postgres_challenge(3),
            {**LOGIN, "login_password": "hunter2", "login_method": "password"},
            [b"oryx", b"hunter2"],
        ),
        (
            START + postgres_answer(b"md50123\0"),
            postgres_challenge(5, b"salt"),
            {**LOGIN, "login_method": "md5"},
            [b"oryx", b"md50123\0"],
        ),
        (
            POSTGRES_TLS + START + postgres_answer(b"SCRAM-SHA-256\0\0\0\0\4n,,x"),
            b"N" + postgres_challenge(10, b"SCRAM-SHA-256\0\0"),
            {**LOGIN, "postgres_request": "ssl", "login_method": "sasl"},
            [b"oryx", b"SCRAM-SHA-256\0\0\0\0\4n,,x"],
        ),
        (POSTGRES_TLS, b"S", {"postgres_request": "ssl"}, []),
        (POSTGRES_TLS + b"\x16\3\1\0\5hello", b"S", {"postgres_request": "ssl"}, []),
        # What was cut is a secret without a value.
        (postgres_start(user="oryx")[:-3], b"", {}, [b"ory"]),
        (
            START + postgres_answer(b"hunter2\0")[:-3],
            postgres_challenge(3),
            {**LOGIN, "login_method": "password"},
            [b"oryx", b"hunte"],
        ),
        (b"\0\0\0\x08\0\3\0\0", b"", {}, []),
        (b"\0\0\0\0\0\3\0\0", b"", {}, []),
    ],
)
def test_postgres(
    client: bytes, server: bytes, fields: dict[str, object], secrets: list[bytes]
) -> None:
    found = read_postgres(client, server)
    assert dict(found.fields) == fields
    assert [client[at:end] for _, at, end in found.secrets] == secrets


GREETED = {"mysql_version": "8.0.36"}


@pytest.mark.parametrize(
    ("client", "fields", "secrets"),
    [
        (
            mysql_login(b"root", b"\x81" * 20, b"shop"),
            {"login_user": "root", "database": "shop", "login_method": "mysql_native_password"},
            [b"root", b"\x81" * 20],
        ),
        (
            mysql_login(b"root", b"hunter2\0", plugin=b"mysql_clear_password"),
            {
                "login_user": "root",
                "login_password": "hunter2",
                "login_method": "mysql_clear_password",
            },
            [b"root", b"hunter2\0"],
        ),
        (
            mysql_login(b"root", b"") + mysql_packet(3, b"hunter2\0"),
            {"login_user": "root", "login_method": "mysql_native_password"},
            [b"root", b"hunter2\0"],
        ),
        (mysql_login(b"root", b"")[:38], {}, [b"ro"]),
        (b"", {}, []),
        # Of TLS the greeting is answered with flags alone.
        (mysql_packet(1, b"\x85\xae\xff\x19" + bytes(28)) + b"\x16\3\1", {}, []),
    ],
)
def test_mysql(client: bytes, fields: dict[str, object], secrets: list[bytes]) -> None:
    found = read_mysql(client, MYSQL_GREETING)
    assert dict(found.fields) == GREETED | fields
    assert [client[at:end] for _, at, end in found.secrets] == secrets

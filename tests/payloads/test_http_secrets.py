from __future__ import annotations

import pytest

from deckwire.payloads.http_secrets import header_values, places, read_http
from tests.support.payload_wire import base64

BASIC = b"Basic " + base64(b"admin:hunter2")


@pytest.mark.parametrize(
    ("client", "secrets"),
    [
        (b"GET / HTTP/1.1\r\nAuthorization: " + BASIC + b"\r\nAccept: */*\r\n\r\n", {BASIC}),
        (b"GET / HTTP/1.1\r\nproxy-authorization:Bearer abc\r\n\r\n", {b"Bearer abc"}),
        (b"GET / HTTP/1.1\r\nCookie: a=b;\r\n c=d\r\nHost: x\r\n\r\n", {b"a=b;", b" c=d"}),
        (b"GET / HTTP/1.1\r\nX-Api-Key: k1\r\nX-Auth-Token: t1\r\n\r\n", {b"k1", b"t1"}),
        (b"GET /?user=me&x=1&password=s%20s HTTP/1.1\r\n\r\n", {b"me", b"s%20s"}),
        (b"GET http://me:secret@192.0.2.1/ HTTP/1.1\r\n\r\n", {b"me:secret"}),
        (b"POST / HTTP/1.1\r\n\r\nlog=me&pwd=secret&go=1", {b"me", b"secret"}),
        (
            b'POST / HTTP/1.1\r\n\r\n{"username": "me", "password":"s\\"s", "n": 1}',
            {b"me", b's\\"s'},
        ),
        (b'POST / HTTP/1.1\r\n\r\n{"pin": 1234}', {b"1234"}),
        (
            b"POST / HTTP/1.1\r\n\r\n--x\r\nContent-Disposition: form-data; "
            b'name="password"\r\n\r\nsecret\r\n--x--',
            {b"secret"},
        ),
        (b'POST / HTTP/1.1\r\n\r\n{"password":"cut', {b"cut"}),
        (b"GET /index.html HTTP/1.1\r\nHost: x\r\nUser-Agent: curl\r\n\r\n", set()),
    ],
)
def test_credentials_of_a_request(client: bytes, secrets: set[bytes]) -> None:
    found = read_http(client, b"")
    assert found.fields == ()
    assert {client[at:end] for _, at, end in found.secrets} == secrets


def test_cookies_of_an_answer() -> None:
    server = b"HTTP/1.1 200 OK\r\nSet-Cookie: sid=1; Path=/\r\n\r\n"
    (secret,) = read_http(b"", server).secrets
    assert (secret.side, server[secret.start : secret.end]) == (1, b"sid=1; Path=/")


def test_values_of_headers_as_sent_and_as_meant() -> None:
    headers = [(b"Host", b"x"), (b"Authorization", BASIC), (b"COOKIE ", b"sid=1"), (b"Cookie", b"")]
    assert header_values(headers) == {BASIC, b"admin", b"hunter2", b"sid=1"}


def test_places_in_a_target() -> None:
    target = b"http://me:secret@192.0.2.1/?q=1&token=t1"
    assert [target[start:end] for start, end in places(target)] == [b"t1", b"me:secret"]

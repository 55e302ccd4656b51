"""http.reader, ja4h, http_redaction: the same facts however the bytes are cut; bounds hold."""

from __future__ import annotations

import re

from deckwire.events.http_redaction import without_credentials
from deckwire.events.redaction import Redactor
from deckwire.fingerprints.ja4h import ja4h
from deckwire.http.reader import AnswerReader, Outcome, Request, RequestReader
from deckwire.limits import HEAD_BYTES, HTTP_BODY_BYTES, HTTP_METHOD_BYTES
from deckwire.payloads.http_secrets import header_values, places
from tests.fuzz.feed import Feed
from tests.support.http_wire import HEADERS, answer, request

_PIECES = 16
"""Smaller pieces of a long stream show no more, and take long."""
_JA4H = re.compile("[a-z0]{2}[0-9]{2}[cn][rn][0-9]{2}.{4}(_[0-9a-f]{12}){3}", re.DOTALL)
_METHODS = (b"GET", b"HEAD", b"CONNECT", b"")
_REDACTOR = Redactor(bytes(32), ("outbound",))
_LONG = 8


def seeds() -> list[bytes]:
    chunks = b"3;x\r\nabc\r\n0\r\nA: b\r\n\r\n"
    hard = [*HEADERS, (b"Cookie", b"a=1; b"), (b"Accept-Language", b"de-DE;q=1")]
    login = [*HEADERS, (b"Authorization", b"Basic Ym9iYnk6aHVudGVyMg=="), (b"Cookie", b"abcdefgh")]
    streams = [
        *(request(), request(b"http://a/b?c=d", headers=hard), request(body=b"x" * 600)),
        request(b"/?user=bobby-b&x=abcdefgh", headers=login, body=b'{"password": "hunter-22"}'),
        request(headers=[(b"Transfer-Encoding", b"gzip, chunked")]) + chunks + request(b"/2"),
        *(b"GET /old\n", b"CONNECT a:1 HTTP/1.0\n\n\0\1", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        *(b"GET / HTTP/1.1\na:\n b\nno colon\n\n", b"\n" * 20),
        *(answer(), b"HTTP/1.1 100 x\n\n" + answer(b"204 x", body=b"") + answer()),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + answer(),
    ]
    return [bytes([size]) + stream for size in (0, 20, 255) for stream in streams]


def check(data: bytes) -> None:
    feed = Feed(data)
    size = feed.number(1) + 1
    stream = feed.rest()
    size = max(size, len(stream) // _PIECES)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    found = _requests([stream])
    assert found == _requests(pieces)
    for one in found:
        assert 0 < len(one.line.method) <= HTTP_METHOD_BYTES
        assert one.line.target
        assert len(one.body) <= HTTP_BODY_BYTES
        for name, value in one.headers:
            assert name in stream
            assert b"\n" not in name + value
        if one.whole:
            assert _JA4H.fullmatch(ja4h(one))
    # The others are read by the same code, and a thousand of them take long.
    for one in found[:2]:
        _check_redacted(one)
    method = _METHODS[size % len(_METHODS)]
    assert _answers([stream], method) == _answers(pieces, method)


def _check_redacted(request: Request) -> None:
    shown = _shown(request)
    values = header_values(request.headers)
    values |= {text[start:end] for text in shown for start, end in places(text)}
    # A shorter one may be in a hash by chance.
    secrets = [one for one in values if len(one) >= _LONG and not one.startswith(b"hmac")]
    if not secrets:
        return
    for text in _shown(without_credentials(request, _REDACTOR)):
        assert not any(secret in text for secret in secrets)


def _shown(request: Request) -> list[bytes]:
    """What an event has of a request, but for the names of its headers."""
    headers = [request.headers.get(name) for name in (b"host", b"user-agent", b"referer")]
    found = [value for value in headers if value is not None]
    return [request.line.method, request.line.target, request.body, *found]


def _requests(pieces: list[bytes]) -> list[Request]:
    reader = RequestReader()
    found: list[Request] = []
    for piece in pieces:
        before = reader.outcome
        found += reader.feed(piece)
        # What was decided stays decided.
        assert before is Outcome.NEED_MORE or reader.outcome is before
        assert reader.held <= HEAD_BYTES + HTTP_BODY_BYTES
    found += reader.finish()
    assert reader.outcome is not Outcome.NEED_MORE
    assert (reader.outcome is Outcome.DONE) == bool(found)
    return found


def _answers(pieces: list[bytes], method: bytes) -> list[object]:
    reader = AnswerReader(lambda: method)
    found = [one for piece in pieces for one in reader.feed(piece)]
    found += reader.finish()
    assert reader.held == 0
    for one in found:
        assert 0 <= one.status <= 999
    return found

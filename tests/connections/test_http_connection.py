"""Requests and answers of a connection from bytes in order: what belongs together, and when."""

from __future__ import annotations

from deckwire.connections.http_connection import HttpConnection, HttpSeen
from tests.support.http_wire import answer, request

OPENER, OTHER = 0, 1


def said(seen: list[HttpSeen]) -> list[tuple[bytes, int | None]]:
    return [
        (one.request.line.target, None if one.answer is None else one.answer.status) for one in seen
    ]


def test_a_request_waits_for_its_answer() -> None:
    watched = HttpConnection(OPENER)
    assert watched.feed(OPENER, request(b"/1"), 5) == []
    assert watched.is_http
    (seen,) = watched.feed(OTHER, answer(b"404 x"), 9)
    assert (seen.time_ns, seen.sender, seen.reversed, seen.number) == (5, OPENER, False, 0)
    assert said([seen]) == [(b"/1", 404)]
    assert watched.finish(10) == []


def test_answers_follow_the_order_of_requests() -> None:
    watched = HttpConnection(OPENER)
    watched.feed(OPENER, request(b"/1") + request(b"/2") + request(b"/3"), 1)
    seen = watched.feed(OTHER, answer(b"201 x") + answer(b"202 x"), 2)
    seen += watched.finish(3)
    assert said(seen) == [(b"/1", 201), (b"/2", 202), (b"/3", None)]
    assert [one.number for one in seen] == [0, 1, 2]


def test_an_answer_that_is_no_http_ends_the_waiting() -> None:
    watched = HttpConnection(OPENER)
    watched.feed(OPENER, request(), 1)
    assert said(watched.feed(OTHER, b"SSH-2.0-x\r\n", 2)) == [(b"/", None)]
    assert said(watched.feed(OPENER, request(b"/2"), 3)) == [(b"/2", None)]


def test_an_answer_before_the_end_of_its_request_waits() -> None:
    watched = HttpConnection(OPENER)
    asked = request(b"/", method=b"POST", body=b"x" * 100)
    assert watched.feed(OPENER, asked[:-50], 1) == []
    assert watched.feed(OTHER, answer(b"400 x"), 2) == []
    assert said(watched.feed(OPENER, asked[-50:], 3)) == [(b"/", 400)]


def test_an_answer_may_come_in_single_bytes() -> None:
    watched = HttpConnection(OPENER)
    watched.feed(OPENER, request(), 1)
    seen = [one for byte in answer() for one in watched.feed(OTHER, bytes([byte]), 2)]
    assert said(seen) == [(b"/", 200)]


def test_roles_may_be_reversed() -> None:
    watched = HttpConnection(OPENER)
    watched.feed(OTHER, request(), 1)
    (seen,) = watched.feed(OPENER, answer(), 2)
    assert (seen.sender, seen.reversed) == (OTHER, True)


def test_both_ends_may_send_requests() -> None:
    watched = HttpConnection(OPENER)
    seen = watched.feed(OPENER, request(b"/a"), 1) + watched.feed(OTHER, request(b"/b"), 2)
    seen += watched.finish(3)
    assert sorted(said(seen), key=str) == [(b"/a", None), (b"/b", None)]


def test_other_protocols_are_over_at_once() -> None:
    watched = HttpConnection(OPENER)
    assert watched.feed(OPENER, b"\x03\x00\n", 1) == []
    assert not watched.is_over
    assert watched.feed(OTHER, b"220 ready\r\n", 2) == []
    assert watched.is_over
    assert not watched.is_http
    assert watched.finish(3) == []


def test_memory_is_counted() -> None:
    watched = HttpConnection(OPENER)
    empty = watched.held
    watched.feed(OPENER, request(b"/", method=b"POST", body=b"x" * 600), 1)
    watched.feed(OTHER, b"HTTP/", 1)
    assert watched.held > empty + 512
    watched.finish(2)
    assert watched.held == empty

"""Requests and answers from the bytes of one direction, whatever the pieces are."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.http.reader import Answer, AnswerReader, Outcome, Request, RequestReader
from deckwire.limits import HEAD_BYTES, HTTP_BODY_BYTES
from tests.support.http_wire import HEADERS, answer, request

CHUNKED = (b"Transfer-Encoding", b"chunked")


def requests(*pieces: bytes) -> list[Request]:
    """What is read of the pieces, and of the end after them."""
    reader = RequestReader()
    found = [one for piece in pieces for one in reader.feed(piece)]
    return found + reader.finish()


def answers(*pieces: bytes, method: bytes = b"GET") -> list[Answer]:
    reader = AnswerReader(lambda: method)
    found = [one for piece in pieces for one in reader.feed(piece)]
    return found + reader.finish()


def outcome(data: bytes) -> Outcome:
    reader = RequestReader()
    reader.feed(data)
    return reader.outcome


# --- requests ---


def test_a_request_is_read() -> None:
    reader = RequestReader()
    (found,) = reader.feed(request(b"/a?b=c"))
    assert (found.line.method, found.line.target, found.line.version) == (b"GET", b"/a?b=c", "1.1")
    assert found.headers.fields == HEADERS
    assert (found.whole, found.body, found.body_length) == (True, b"", 0)
    assert reader.outcome is Outcome.NEED_MORE
    assert reader.held == 0
    assert reader.finish() == []


@pytest.mark.parametrize(
    ("line", "method", "target", "version"),
    [
        (b"GET http://a/b HTTP/1.1", b"GET", b"http://a/b", "1.1"),
        (b"CONNECT a:443 HTTP/1.0", b"CONNECT", b"a:443", "1.0"),
        (b"OPTIONS * HTTP/1.1", b"OPTIONS", b"*", "1.1"),
        (b"\x01\xff! /x HTTP/1.1", b"\x01\xff!", b"/x", "1.1"),
        (b"GET /a b HTTP/1.1 HTTP/1.1", b"GET", b"/a b HTTP/1.1", "1.1"),
        (b"GET\t/ HTTP/1.1 ", b"GET", b"/", "1.1"),
        (b"GET / HTTP/9.9", b"GET", b"/", "9.9"),
        (b"GET /old", b"GET", b"/old", "0.9"),
    ],
)
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_request_lines(line: bytes, method: bytes, target: bytes, version: str, end: bytes) -> None:
    (found,) = requests(end + line + end + end)
    assert found.line == (method, target, version)


@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"OPTIONS sip:a SIP/2.0\r\n",
        b"USER anonymous\r\n",
        b"GET HTTP/1.1\r\n",
        b"GET  HTTP/1.1\r\n",
        b"GET /a HTTP/11\r\n",
        b"GET /a HTTP/1.1x\r\n",
        b"HEAD /\r\n",
        b"a" * 65 + b" / HTTP/1.1\r\n",
        bytes(30) + b"\n",
    ],
)
def test_other_first_lines_are_none(data: bytes) -> None:
    assert outcome(data) is Outcome.NOT_HTTP
    assert requests(data) == []


def test_headers_keep_their_names_and_order() -> None:
    data = b"GET / HTTP/1.1\r\nb: 1\r\nB : 2 \r\nno colon\r\nA:\r\n\tfolded\r\n  more\r\n\r\n"
    (found,) = requests(data)
    assert found.headers.fields == (
        (b"b", b"1"),
        (b"B ", b"2"),
        (b"A", b" folded more"),
    )
    assert found.headers.get(b"b") == b"1"
    assert found.headers.get(b"c") is None


def test_a_body_is_kept_up_to_its_bound() -> None:
    (short,) = requests(request(body=b"x=1"))
    assert (short.body, short.body_length) == (b"x=1", 3)
    reader = RequestReader()
    data = request(body=b"y" * 2_000)
    (long,) = reader.feed(data[:-1_400])
    assert (long.body, long.body_length) == (b"y" * HTTP_BODY_BYTES, 2_000)
    (after,) = reader.feed(data[-1_400:] + request(b"/next"))
    assert after.line.target == b"/next"


def test_a_body_in_chunks_is_put_together() -> None:
    data = request(headers=[*HEADERS, CHUNKED])
    data += b"3;ext=1\r\nabc\r\n0a\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n" + request(b"/next")
    first, second = requests(data)
    assert (first.body, first.body_length) == (b"abc0123456789", 13)
    assert second.line.target == b"/next"


@pytest.mark.parametrize("size", [b"x", b"-1", b"", b"1" * 16, b"0x1"])
def test_a_malformed_chunk_ends_the_reading(size: bytes) -> None:
    data = request(headers=[CHUNKED]) + size + b"\r\nabc\r\n" + request(b"/next")
    (found,) = requests(data)
    assert found.body_length is None


@pytest.mark.parametrize("length", [b"x", b"-1", b"1, 2", b"9" * 19, b"\xb2", b""])
def test_a_length_that_is_none_leaves_the_end_unknown(length: bytes) -> None:
    data = request(headers=[(b"Content-Length", length)]) + b"body"
    (found,) = requests(data)
    assert (found.body, found.body_length) == (b"body", None)


def test_several_requests_follow_each_other() -> None:
    data = b"".join([request(b"/%d" % n) for n in range(9)])
    assert [one.line.target for one in requests(data)] == [b"/%d" % n for n in range(9)]


def test_what_follows_a_tunnel_is_not_read() -> None:
    reader = RequestReader()
    assert len(reader.feed(request(b"a:1", method=b"CONNECT") + b"\x00\x01\n")) == 1
    assert reader.outcome is Outcome.DONE
    assert reader.feed(request()) == []


def test_a_head_that_was_cut_counts_as_far_as_it_goes() -> None:
    (found,) = requests(request()[:-20])
    assert (found.line.target, found.whole, found.body_length) == (b"/", False, None)
    assert found.headers.fields == HEADERS[:1]
    assert requests(b"GET / HTTP/1.1") == []


def test_a_head_beyond_the_bound_counts_as_far_as_it_goes() -> None:
    reader = RequestReader()
    data = request(headers=[(b"X-%d" % n, b"v" * 90) for n in range(80)])
    found = [one for at in range(0, len(data), 100) for one in reader.feed(data[at : at + 100])]
    assert [one.whole for one in found] == [False]
    assert reader.outcome is Outcome.DONE
    assert reader.held == 0


# --- answers ---


def test_answers_are_read_without_their_bodies() -> None:
    data = answer(b"404 Not Found", body=b"HTTP/1.1 200 OK\r\n\r\n") + answer()
    assert [(one.status, one.headers.get(b"server")) for one in answers(data)] == [
        (404, b"nginx"),
        (200, b"nginx"),
    ]


def test_interim_answers_do_not_count() -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: a\r\n\r\n" + answer()
    assert [one.status for one in answers(data)] == [200]


@pytest.mark.parametrize(
    ("method", "status", "count"),
    [
        (b"HEAD", b"200 OK", 2),
        (b"GET", b"304 Not Modified", 2),
        (b"GET", b"204 No Content", 2),
        (b"GET", b"200 OK", 1),
        (b"CONNECT", b"200 OK", 1),
        (b"GET", b"101 Switching Protocols", 1),
        (b"CONNECT", b"407 x", 1),
    ],
)
def test_which_answers_have_a_body(method: bytes, status: bytes, count: int) -> None:
    """One without a length lasts until the connection ends."""
    data = b"HTTP/1.1 " + status + b"\r\n\r\n" + answer()
    assert len(answers(data, method=method)) == count


def test_an_answer_that_was_cut_has_a_status() -> None:
    (found,) = answers(b"HTTP/1.0 302 Found\r\nServer: a\r\nLoc")
    assert (found.status, found.headers.get(b"server")) == (302, b"a")
    assert answers(b"HTTP/1.1 20") == []
    assert answers(b"HTTP/1.1 100 Continue\r\nX") == []


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1 2000 x", b"HTTP/1 200 x", b"ICY 200 OK", b"HTTP/1.1 x"]
)
def test_other_first_lines_are_no_answers(line: bytes) -> None:
    assert answers(line + b"\r\n\r\n") == []


# --- properties ---

streams = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [
                *(request(), request(b"/x", body=b"abc"), request(headers=[CHUNKED])),
                *(b"3\r\nabc\r\n0\r\n\r\n", b"\r\n", b"GET /\n", b"A B HTTP/1.1\n"),
                *(answer(), b"HTTP/1.1 100 x\r\n\r\n", b"Content-Length: 5\r\n", b": \n", b"\n\n"),
                *(b"ffffffff\r\n", b"Transfer-Encoding: chunked\r\n"),
            ]
        ),
    ),
    max_size=30,
).map(b"".join)


@given(streams, st.lists(st.integers(0, 6_000), max_size=20))
def test_pieces_do_not_matter(stream: bytes, cuts: list[int]) -> None:
    ends = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(ends)]
    whole = b"".join(pieces)
    assert requests(whole) == requests(*pieces)
    assert answers(whole) == answers(*pieces)


@given(streams)
def test_memory_is_bounded(stream: bytes) -> None:
    reader = RequestReader()
    for at in range(0, len(stream), 7):
        for found in reader.feed(stream[at : at + 7]):
            assert len(found.body) <= HTTP_BODY_BYTES
            assert found.line.method
            assert found.line.target
        assert reader.held <= HEAD_BYTES + HTTP_BODY_BYTES
    reader.finish()
    assert reader.held == 0
    assert reader.outcome is not Outcome.NEED_MORE

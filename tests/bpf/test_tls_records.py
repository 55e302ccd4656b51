"""Which payload is sampled: from the first byte of a hello to the last clear-text record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.samples import AnomalySample, SackSample
from deckwire.tcp.anomaly import Technique
from tests.support.bpf_frames import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    CLIENT_HELLO,
    LINUX_OPTIONS,
    SERVER_HELLO,
    TALK6,
    Talk,
    hello,
    record,
)
from tests.support.bpf_harness import MS, SECOND, Kernel, Wait, segments
from tests.support.flights import SSL2

pytestmark = pytest.mark.root

Steps = Sequence[bytes | Wait]

WINDOW = 16_384
"""Bytes after a hole that may still belong to a hello: TLS_UNDECIDED_BYTES."""
CLIENT_BYTES, SERVER_BYTES = 1_048_576, 524_288
ADMIT_BYTES = 65_536
"""Bytes of a client that cost its source as much as a handshake."""
ORPHANS, HOLES = 2, 4
SCATTERED = 65_536
"""Bytes before their turn: TLS_SCATTERED_BYTES."""
PREFIX = 6
"""Bytes that show a hello."""
PLAIN = b"EHLO example\r\n"
MSS = 1_400


class Case(NamedTuple):
    about: str
    steps: Callable[[Talk], Steps]
    """After the handshake."""
    sampled: Sequence[bytes]
    starts: Sequence[int | None] = ()
    """The relative seq where TLS starts, for each sample. Empty: not checked."""


def client(talk: Talk, data: bytes, size: int, seq: int = 1) -> Steps:
    """The client's data in segments of at most `size` bytes."""
    return [talk.c("A", seq + at, 1, data[at : at + size]) for at in range(0, len(data), size)]


def acknowledged(talk: Talk, data: bytes, size: int) -> Steps:
    """The same, and the server acknowledges each segment: a window of 64 KB does not bound it."""
    return [
        frame
        for at in range(0, len(data), size)
        for frame in (talk.c("A", 1 + at, 1, data[at : at + size]), talk.s("A", 1, 1 + at + size))
    ]


def server(talk: Talk, data: bytes, size: int, seq: int = 1, ack: int = 1) -> Steps:
    return [talk.s("A", seq + at, ack, data[at : at + size]) for at in range(0, len(data), size)]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def one_by_one(data: bytes) -> bytes:
    """The content of a record, in records of one byte."""
    return b"".join(record(22, data[at : at + 1]) for at in range(5, len(data)))


BIG = hello(1, 2_000)
DENSE = one_by_one(hello(1, 20_000))
CHAIN = SERVER_HELLO + record(22, b"\x0b" + bytes(3_000))

EMPTY = record(22, b"")

HELLO_DONE = record(22, b"\x0e\0\0\0")
SHARED_DONE = record(22, b"\x0e\0\0\0\x0e\0\0\0")

RUN = bytes(3_000)
"""Bulk data: 22 segments of it are more than TLS_RUN_BYTES."""


def run(talk: Talk, segments: int, last: str = "A") -> Steps:
    """A write of that many segments, the last with other flags. The server acknowledges it."""
    frames = [talk.c("A", 1 + n * len(RUN), 1, RUN) for n in range(segments - 1)]
    frames.insert(10, talk.s("A", 1, 1 + 10 * len(RUN)))
    return [*frames, talk.c(last, 1 + (segments - 1) * len(RUN), 1, RUN)]


def after_run(talk: Talk, segments: int) -> Steps:
    """A hello after a run."""
    return client(talk, CLIENT_HELLO, MSS, 1 + segments * len(RUN))


CASES = [
    # --- where a hello begins ---
    Case("a ClientHello", lambda t: client(t, CLIENT_HELLO, MSS), [CLIENT_HELLO], [1]),
    Case(
        "of a version that nobody knows",
        lambda t: client(t, record(22, CLIENT_HELLO[5:], 0x03FF), MSS),
        [record(22, CLIENT_HELLO[5:], 0x03FF)],
        [1],
    ),
    Case(
        "after empty records",
        lambda t: client(t, EMPTY * 2 + CLIENT_HELLO + APPLICATION_DATA, MSS),
        [EMPTY * 2 + CLIENT_HELLO],
        [1],
    ),
    Case(
        "after an empty record of three segments",
        lambda t: client(t, EMPTY + CLIENT_HELLO, 2),
        cut(EMPTY + CLIENT_HELLO, 2),
        [None, None, 1, *[None] * 100],
    ),
    Case("in two segments", lambda t: client(t, BIG, MSS), cut(BIG, MSS), [1, None]),
    Case(
        "in segments of one byte",
        lambda t: client(t, CLIENT_HELLO, 1),
        cut(CLIENT_HELLO, 1),
        [*[None] * 5, 1, *[None] * 194],
    ),
    Case(
        "cut after the record header",
        lambda t: [t.c("A", 1, 1, CLIENT_HELLO[:5]), t.c("A", 6, 1, CLIENT_HELLO[5:])],
        [CLIENT_HELLO[:5], CLIENT_HELLO[5:]],
        [None, 1],
    ),
    Case(
        "its segments swapped",
        lambda t: list(reversed(client(t, BIG, MSS))),
        [BIG[MSS:], BIG[:MSS]],
        [None, 1],
    ),
    Case(
        "the first segment last of four",
        lambda t: [client(t, BIG, 500)[n] for n in (1, 2, 3, 0)],
        [BIG[500:1_000], BIG[1_000:1_500], BIG[1_500:], BIG[:500]],
        [None, None, None, 1],
    ),
    Case(
        "sent twice",
        lambda t: [*client(t, BIG, MSS), *client(t, BIG, MSS)],
        [*cut(BIG, MSS), *cut(BIG, MSS)],
    ),
    Case(
        "over several records",
        lambda t: client(t, record(22, CLIENT_HELLO[5:100]) + record(22, CLIENT_HELLO[100:]), MSS),
        [record(22, CLIENT_HELLO[5:100]) + record(22, CLIENT_HELLO[100:])],
        [1],
    ),
    Case(
        "in records of one byte",
        lambda t: client(t, one_by_one(CLIENT_HELLO), MSS),
        [one_by_one(CLIENT_HELLO)],
        [1],
    ),
    Case(
        "after plain text: STARTTLS",
        lambda t: [
            *client(t, PLAIN, MSS),
            *server(t, b"220 go ahead\r\n", MSS),
            *client(t, CLIENT_HELLO, MSS, 1 + len(PLAIN)),
        ],
        [CLIENT_HELLO],
        [1 + len(PLAIN)],
    ),
    Case(
        "after plain text, in segments of one byte",
        lambda t: [*client(t, PLAIN, MSS), *client(t, CLIENT_HELLO, 1, 1 + len(PLAIN))],
        cut(CLIENT_HELLO, 1),
        [*[None] * 5, 1 + len(PLAIN), *[None] * 194],
    ),
    Case(
        "in the middle of a long write: nobody begins there",
        lambda t: [*run(t, 22), *after_run(t, 22)],
        [],
    ),
    Case(
        "in the middle of one that is not so long",
        lambda t: [*run(t, 21), *after_run(t, 21)],
        [CLIENT_HELLO],
    ),
    Case(
        "after a long write",
        lambda t: [*run(t, 22, "PA"), *after_run(t, 22)],
        [CLIENT_HELLO],
    ),
    Case(
        "after a long write that was answered",
        lambda t: [*run(t, 22), t.s("A", 1, 1, b"go ahead"), *after_run(t, 22)],
        [CLIENT_HELLO],
    ),
    Case(
        "after a long write that was answered before its last segment",
        lambda t: [*run(t, 21), t.s("A", 1, 1, b"go ahead"), run(t, 22)[-1], *after_run(t, 22)],
        [],
    ),
    Case(
        "after a long write whose last segment is missing",
        lambda t: [*run(t, 22), t.s("A", 1, 1 + 23 * len(RUN)), *after_run(t, 23)],
        [CLIENT_HELLO],
    ),
    Case(
        "right after a byte that could have begun one",
        lambda t: [t.c("A", 1, 1, b"\x16"), *client(t, CLIENT_HELLO, MSS, 2)],
        [b"\x16", CLIENT_HELLO],
        [None, 2],
    ),
    Case(
        "after five bytes that could have begun one",
        lambda t: [t.c("A", 1, 1, CLIENT_HELLO[:5]), *client(t, CLIENT_HELLO, MSS, 6)],
        [CLIENT_HELLO[:5], CLIENT_HELLO],
        [None, 6],
    ),
    Case(
        "after an alert",
        lambda t: client(t, ALERT + CLIENT_HELLO, MSS),
        [ALERT + CLIENT_HELLO],
        [1],
    ),
    Case(
        "again, after a HelloRetryRequest",
        lambda t: [
            *client(t, CLIENT_HELLO, MSS),
            *server(t, SERVER_HELLO, MSS, 1, 201),
            *client(t, CLIENT_HELLO, MSS, 201),
        ],
        [CLIENT_HELLO, SERVER_HELLO, CLIENT_HELLO],
        [1, 1, None],
    ),
    # --- behind other bytes of its segment ---
    *[
        Case(
            f"behind {about}",
            lambda t, before=before: client(t, before + CLIENT_HELLO, 9_999),
            [before + CLIENT_HELLO],
            [1 + len(before)],
        )
        for about, before in (
            ("a header of PROXY, version 1", b"PROXY TCP4 192.0.2.1 192.0.2.2 5 443\r\n"),
            ("one of version 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)),
            ("a line before STARTTLS", b"STARTTLS\r\n"),
            ("bytes that begin like a record", b"\x16\x16\x03\x16\x03\x01\xff\xff"),
            ("the header of a TDS packet", b"\x12\x01\0\xd0\0\0\0\0"),
            ("2,000 other bytes", bytes(2_000)),
            ("a byte that is cut off where a search pauses", bytes(2_047) + b"\x16" + bytes(50)),
            ("as many bytes as are searched at once, in odd steps", b"\x16" + bytes(2_047)),
            ("two records of ChangeCipherSpec", CHANGE_CIPHER_SPEC * 2),
        )
    ],
    Case(
        "behind a line, in two segments",
        lambda t: client(t, PLAIN + BIG, MSS),
        cut(PLAIN + BIG, MSS),
        [1 + len(PLAIN), None],
    ),
    Case(
        "cut after its first byte",
        lambda t: [t.c("A", 1, 1, PLAIN + b"\x16"), *client(t, CLIENT_HELLO[1:], MSS, 16)],
        [PLAIN + b"\x16", CLIENT_HELLO[1:]],
        [None, 15],
    ),
    Case(
        "behind a second line, after a hello that the server did not take",
        lambda t: [
            *client(t, CLIENT_HELLO, MSS),
            *server(t, PLAIN, MSS, 1, 201),
            *client(t, PLAIN + CLIENT_HELLO, MSS, 201),
            *server(t, PLAIN + SERVER_HELLO, MSS, 15, 415),
        ],
        [CLIENT_HELLO, PLAIN, PLAIN + CLIENT_HELLO, PLAIN + SERVER_HELLO],
        [1, None, 215, 29],
    ),
    *[
        Case(
            f"behind a line that bytes of {about} came before",
            lambda t, part=part: [
                t.c("A", 1, 1, part),
                *client(t, PLAIN + BIG, MSS, 1 + len(part)),
            ],
            [part, *cut(PLAIN + BIG, MSS)],
            [None, 1 + len(part) + len(PLAIN), None],
        )
        for about, part in (
            ("a record", b"\x16"),
            ("its version", b"\x16\x03"),
            ("its length", b"\x16\x03\x01\x02"),
            ("an alert", b"\x15\x03\x03"),
            ("SSL 2.0", b"\x80\x2e\x01"),
        )
    ],
    Case(
        "behind a line, and a byte of a record that ended the line before",
        lambda t: [
            *client(t, PLAIN + b"\x16", MSS),
            *client(t, PLAIN + BIG, MSS, 2 + len(PLAIN)),
        ],
        [PLAIN + b"\x16", *cut(PLAIN + BIG, MSS)],
        [None, 2 + 2 * len(PLAIN), None],
    ),
    *[
        Case(
            f"behind a line, {about}, after a hello that the server did not take",
            lambda t, parts=parts: [
                *client(t, CLIENT_HELLO, MSS),
                *server(t, PLAIN, MSS, 1, 201),
                *[
                    t.c("A", 201 + sum(map(len, parts[:n])), 15, part)
                    for n, part in enumerate(parts)
                ],
            ],
            [CLIENT_HELLO, PLAIN, *parts],
            [1, None, *[None] * (len(parts) - 2), 201 + len(b"".join(parts)) - len(BIG), None],
        )
        for about, parts in (
            ("with a byte of a record before it", [b"\x16", PLAIN + BIG[:900], BIG[900:]]),
            ("which begins like a record", [b"\x16" + PLAIN + BIG[:900], BIG[900:]]),
            ("which has a record's version", [b"\x17\3\3\xff" + PLAIN + BIG[:900], BIG[900:]]),
        )
    ],
    Case(
        "after much, in a long segment: that is not searched",
        lambda t: [
            *run(t, 30, "PA"),
            *client(t, bytes(2_000) + CLIENT_HELLO, 3_000, 1 + 30 * len(RUN)),
        ],
        [],
    ),
    Case(
        "after much, in a short segment",
        lambda t: [*run(t, 30, "PA"), *client(t, PLAIN + CLIENT_HELLO, MSS, 1 + 30 * len(RUN))],
        [PLAIN + CLIENT_HELLO],
    ),
    *[
        Case(
            f"behind a line, in the segment of {about}",
            lambda t, before=before: client(t, before + PLAIN + BIG, 1_000),
            [
                *[(before + PLAIN + BIG)[:1_000]] * 2,
                *cut((before + PLAIN + BIG)[1_000:], 1_000),
            ],
            [1, 1 + len(before) + len(PLAIN), None, None],
        )
        for about, before in (
            ("a hello that was not answered", CLIENT_HELLO),
            ("one and a ChangeCipherSpec", CLIENT_HELLO + CHANGE_CIPHER_SPEC),
            ("one in tiny records", one_by_one(CLIENT_HELLO[:120])),
            ("an alert", ALERT * 9),
        )
    ],
    Case(
        "behind a line, in the segment of application data that nothing answered",
        lambda t: client(t, CLIENT_HELLO + APPLICATION_DATA + PLAIN + BIG, 1_000),
        [
            CLIENT_HELLO,
            (CLIENT_HELLO + APPLICATION_DATA + PLAIN + BIG)[:1_000],
            *cut((CLIENT_HELLO + APPLICATION_DATA + PLAIN + BIG)[1_000:], 1_000),
        ],
        [1, 1 + len(CLIENT_HELLO + APPLICATION_DATA + PLAIN), None, None],
    ),
    *[
        Case(
            f"after {about} that no end has begun TLS with",
            lambda t, before=before: [
                *client(t, before, MSS),
                *client(t, BIG, MSS, 1 + len(before)),
            ],
            [taken, *cut(BIG, MSS)],
            [1, 1 + len(before), None],
        )
        for about, before, taken in (
            ("an alert and data", ALERT + APPLICATION_DATA, ALERT),
            ("a ServerHello and data", SERVER_HELLO + APPLICATION_DATA, SERVER_HELLO),
            ("a ServerHello and its end", SERVER_HELLO + HELLO_DONE, SERVER_HELLO),
            (
                "a ServerHello and a ChangeCipherSpec before data",
                SERVER_HELLO + CHANGE_CIPHER_SPEC + APPLICATION_DATA,
                SERVER_HELLO,
            ),
        )
    ],
    Case(
        "after an alert in segments of one byte: it begins a hello too",
        lambda t: [
            *client(t, ALERT + CLIENT_HELLO, 1),
            *server(t, b"500 what?", MSS),
        ],
        [*cut(ALERT + CLIENT_HELLO, 1), b"500 what?"],
    ),
    # --- other forms ---
    Case("of SSL 2.0", lambda t: client(t, SSL2, MSS), [SSL2], [1]),
    Case("of SSL 2.0, byte by byte", lambda t: client(t, SSL2, 1), cut(SSL2, 1)),
    Case(
        "random bytes that begin like one of SSL 2.0",
        lambda t: client(t, b"\x80\x2e\x01\x03\x01\x00\x10" + bytes(50), MSS),
        [],
    ),
    Case(
        "of 20,000 bytes in records of one byte, until it is answered",
        lambda t: [
            *acknowledged(t, DENSE, MSS),
            *server(t, SERVER_HELLO, MSS, 1, 1 + len(DENSE)),
            *client(t, APPLICATION_DATA, MSS, 1 + len(DENSE)),
        ],
        [*cut(DENSE, MSS), SERVER_HELLO],
    ),
    Case(
        "of the end that did not open the connection",
        lambda t: [
            *server(t, CLIENT_HELLO, MSS),
            *client(t, SERVER_HELLO + HELLO_DONE + hello(2), MSS, 1),
        ],
        [CLIENT_HELLO, SERVER_HELLO],
        [1, 1],
    ),
    # --- what is not TLS ---
    Case("plain text", lambda t: client(t, PLAIN * 300, MSS), []),
    Case("nothing but zeros", lambda t: client(t, bytes(10_000), MSS), []),
    Case(
        "an SSH banner both ways",
        lambda t: [*server(t, b"SSH-2.0-OpenSSH_9.2\r\n", MSS), *client(t, b"SSH-2.0-Go\r\n", MSS)],
        [],
    ),
    Case("application data from the start", lambda t: client(t, APPLICATION_DATA, MSS), []),
    Case("version 2.0", lambda t: client(t, record(22, CLIENT_HELLO[5:], 0x0200), MSS), []),
    Case(
        "an empty record and nonsense: the agent decides",
        lambda t: client(t, EMPTY + bytes(50), MSS),
        [EMPTY + bytes(50)],
        [1],
    ),
    Case(
        "an empty record after plain text",
        lambda t: [*client(t, PLAIN, MSS), *client(t, EMPTY + bytes(50), MSS, 1 + len(PLAIN))],
        [],
    ),
    Case(
        "version 3.255: servers take any minor one",
        lambda t: client(t, record(22, CLIENT_HELLO[5:], 0x03FF), MSS),
        [record(22, CLIENT_HELLO[5:], 0x03FF)],
        [1],
    ),
    Case(
        "a record that is too long",
        lambda t: client(t, b"\x16\x03\x01\x48\x01\x01" + bytes(50), MSS),
        [],
    ),
    Case(
        "the longest record",
        lambda t: client(t, b"\x16\x03\x01\x48\x00\x01" + bytes(50), MSS),
        [b"\x16\x03\x01\x48\x00\x01" + bytes(50)],
    ),
    Case("another handshake message", lambda t: client(t, hello(11), MSS), []),
    Case(
        "an alert after plain text",
        lambda t: [*client(t, PLAIN, MSS), *client(t, ALERT, MSS, 1 + len(PLAIN))],
        [],
    ),
    Case(
        "plain text that begins like a record",
        lambda t: [t.c("A", 1, 1, b"\x16\x03"), t.c("A", 3, 1, PLAIN), t.c("A", 17, 1, PLAIN)],
        [b"\x16\x03"],
    ),
    # --- the other direction ---
    Case(
        "a ServerHello",
        lambda t: [*client(t, CLIENT_HELLO, MSS), *server(t, SERVER_HELLO, MSS)],
        [CLIENT_HELLO, SERVER_HELLO],
        [1, 1],
    ),
    Case(
        "a ServerHello before the client said anything that we saw",
        lambda t: server(t, SERVER_HELLO, MSS),
        [SERVER_HELLO],
        [1],
    ),
    Case(
        "an alert before the ServerHello",
        lambda t: [*client(t, CLIENT_HELLO, MSS), *server(t, ALERT + SERVER_HELLO, MSS)],
        [CLIENT_HELLO, ALERT + SERVER_HELLO],
        [1, 1],
    ),
    Case(
        "an alert in a segment of its own before the ServerHello",
        lambda t: [
            *client(t, CLIENT_HELLO, MSS),
            *server(t, ALERT, MSS),
            *server(t, SERVER_HELLO, MSS, 8),
        ],
        [CLIENT_HELLO, ALERT, SERVER_HELLO],
        [1, 1, None],
    ),
    Case(
        "a fatal alert instead of a ServerHello",
        lambda t: [*client(t, CLIENT_HELLO, MSS), *server(t, ALERT, MSS)],
        [CLIENT_HELLO, ALERT],
        [1, 1],
    ),
    Case(
        "plain text in answer to a ClientHello",
        lambda t: [
            *client(t, CLIENT_HELLO, MSS),
            *server(t, b"HTTP/1.0 400\r\n\r\n", MSS),
            *server(t, PLAIN, MSS, 17),
        ],
        [CLIENT_HELLO, b"HTTP/1.0 400\r\n\r\n"],
        [1, None],
    ),
    Case(
        "the reverse opens after the server's plain text",
        lambda t: [
            *server(t, b"220 ready\r\n", MSS),
            *client(t, PLAIN, MSS),
            *server(t, b"220 go ahead\r\n", MSS, 12),
            *client(t, CLIENT_HELLO, MSS, 1 + len(PLAIN)),
            *server(t, CHAIN, MSS, 26),
        ],
        [CLIENT_HELLO, *cut(CHAIN, MSS)],
        [1 + len(PLAIN), 26, None, None],
    ),
    Case(
        "a ServerHello whose segments are swapped",
        lambda t: [*client(t, CLIENT_HELLO, MSS), *reversed(server(t, CHAIN, MSS))],
        [CLIENT_HELLO, *reversed(cut(CHAIN, MSS))],
        [1, None, None, 1],
    ),
    # --- where it ends ---
    Case(
        "ChangeCipherSpec in the same segment",
        lambda t: [
            *client(t, CLIENT_HELLO, MSS),
            *server(t, SERVER_HELLO + CHANGE_CIPHER_SPEC + APPLICATION_DATA, MSS),
            *server(t, APPLICATION_DATA, MSS, 276),
        ],
        [CLIENT_HELLO, SERVER_HELLO],
    ),
    Case(
        "application data in the same segment",
        lambda t: [
            *client(t, CLIENT_HELLO, MSS),
            *server(t, SERVER_HELLO + APPLICATION_DATA, MSS),
            *server(t, APPLICATION_DATA, MSS, 270),
        ],
        [CLIENT_HELLO, SERVER_HELLO],
    ),
    Case(
        "ChangeCipherSpec in a segment of its own",
        lambda t: [
            *client(t, CLIENT_HELLO, MSS),
            *server(t, SERVER_HELLO, MSS, 1, 201),
            *client(t, CHANGE_CIPHER_SPEC + APPLICATION_DATA, MSS, 201),
            *client(t, CLIENT_HELLO, MSS, 276),
        ],
        [CLIENT_HELLO, SERVER_HELLO],
    ),
    Case(
        "not for a client that was not answered: its hello was perhaps none to the server",
        lambda t: [
            *client(t, CLIENT_HELLO, MSS),
            *client(t, CHANGE_CIPHER_SPEC + APPLICATION_DATA, MSS, 201),
            *client(t, CLIENT_HELLO, MSS, 276),
        ],
        [CLIENT_HELLO, CLIENT_HELLO],
        [1, 276],
    ),
    Case(
        "not after a server's ChangeCipherSpec: a HelloRetryRequest may be before it",
        lambda t: [
            *client(t, CLIENT_HELLO, MSS),
            *server(t, SERVER_HELLO + CHANGE_CIPHER_SPEC, MSS, 1, 201),
            *server(t, SERVER_HELLO + APPLICATION_DATA, MSS, 207, 201),
        ],
        [CLIENT_HELLO, SERVER_HELLO + CHANGE_CIPHER_SPEC, SERVER_HELLO],
    ),
    Case(
        "handshake, ChangeCipherSpec and an encrypted handshake record: TLS 1.2",
        lambda t: [
            *client(t, CLIENT_HELLO, MSS),
            *server(t, SERVER_HELLO, MSS, 1, 201),
            *client(t, hello(16, 66) + CHANGE_CIPHER_SPEC + hello(1), MSS, 201),
        ],
        [CLIENT_HELLO, SERVER_HELLO, hello(16, 66)],
    ),
    Case(
        "after a ServerHelloDone",
        lambda t: [
            *client(t, CLIENT_HELLO, MSS),
            *server(t, SERVER_HELLO + HELLO_DONE + hello(2), MSS),
            *server(t, record(22, b"\x04" + bytes(60)), MSS, 1 + 409),
        ],
        [CLIENT_HELLO, SERVER_HELLO],
    ),
    Case(
        "not after a client's, nor after one that shares its record",
        lambda t: [
            *client(t, CLIENT_HELLO + HELLO_DONE + hello(1), MSS),
            *server(t, SERVER_HELLO + SHARED_DONE + hello(2), MSS),
        ],
        [CLIENT_HELLO + HELLO_DONE + hello(1), SERVER_HELLO + SHARED_DONE + hello(2)],
    ),
    Case(
        "the ciphered record's header split over two segments",
        lambda t: [
            *client(t, CLIENT_HELLO + APPLICATION_DATA[:3], MSS),
            *server(t, SERVER_HELLO, MSS, 1, 204),
            *client(t, APPLICATION_DATA[3:] + CLIENT_HELLO, MSS, 204),
        ],
        [CLIENT_HELLO + APPLICATION_DATA[:3], SERVER_HELLO],
    ),
    Case(
        "a clear record's header split over two segments",
        lambda t: [
            *client(t, CLIENT_HELLO + hello(16, 80)[:3], MSS),
            *client(t, hello(16, 80)[3:] + APPLICATION_DATA, MSS, 204),
        ],
        [CLIENT_HELLO + hello(16, 80)[:3], hello(16, 80)[3:]],
        [1, None],
    ),
    Case(
        "the middle of a record needs no header",
        lambda t: [
            *client(t, CLIENT_HELLO, MSS),
            *server(t, SERVER_HELLO + record(22, bytes(5_000)) + APPLICATION_DATA, 1_000),
        ],
        [
            CLIENT_HELLO,
            *cut(SERVER_HELLO + record(22, bytes(5_000)), 1_000),
        ],
    ),
    Case(
        "nonsense where a record should begin",
        lambda t: client(t, CLIENT_HELLO + PLAIN, MSS),
        [CLIENT_HELLO + PLAIN],
    ),
    Case(
        "a second TLS within the first one's stream: after nonsense a hello may begin again",
        lambda t: [
            *client(t, CLIENT_HELLO + PLAIN, MSS),
            *client(t, CLIENT_HELLO, MSS, 201 + len(PLAIN)),
        ],
        [CLIENT_HELLO + PLAIN, CLIENT_HELLO],
        [1, 201 + len(PLAIN)],
    ),
    Case(
        "a heartbeat ends it",
        lambda t: client(t, CLIENT_HELLO + record(24, bytes(20)), MSS),
        [CLIENT_HELLO],
    ),
    Case(
        "a FIN in the hello's segment",
        lambda t: [t.c("FPA", 1, 1, CLIENT_HELLO)],
        [CLIENT_HELLO],
        [1],
    ),
    # --- holes ---
    Case(
        "plain text after a hole: undecided, it may be part of a hello",
        lambda t: [t.c("A", 500, 1, PLAIN)],
        [PLAIN],
        [None],
    ),
    Case(
        "undecided to the last byte of the window",
        lambda t: [t.c("A", 1 + WINDOW, 1, PLAIN)],
        [PLAIN],
    ),
    Case(
        "one byte beyond it: nothing is decided by it, and the decky waits for what is before",
        lambda t: [t.c("A", 2 + WINDOW, 1, PLAIN), t.c("A", 16, 1, PLAIN), *client(t, BIG, MSS)],
        [PLAIN, PLAIN, *cut(BIG, MSS)],
    ),
    Case(
        "beyond the window, and the bytes before it are acknowledged: then all is plain",
        lambda t: [t.s("A", 1, 20_000), t.c("A", 20_000, 1, PLAIN), t.c("A", 20_014, 1, PLAIN)],
        [],
    ),
    # --- urgent data ---
    Case(
        "an urgent byte: all is sampled from there on, and the agent takes it out",
        lambda t: [
            t.c("AU", 1, 1, b"\0" + CLIENT_HELLO, urgent=1),
            t.c("A", 202, 1, APPLICATION_DATA),
        ],
        [b"\0" + CLIENT_HELLO, APPLICATION_DATA],
    ),
    Case(
        "an urgent byte in a record that has begun",
        lambda t: [t.c("A", 1, 1, BIG[:500]), t.c("AU", 501, 1, BIG[500:] + b"!", urgent=7)],
        [BIG[:500], BIG[500:] + b"!"],
        [1, None],
    ),
    Case(
        "a pointer without data",
        lambda t: [t.c("AU", 1, 1, urgent=3), *client(t, PLAIN, MSS)],
        [b"", PLAIN],
    ),
    Case(
        "a pointer without data, when all is plain",
        lambda t: [*client(t, PLAIN, MSS), t.c("AU", 15, 1, urgent=3)],
        [b""],
    ),
    Case(
        "a pointer in encrypted data: without bytes",
        lambda t: [
            *client(t, CLIENT_HELLO, MSS),
            *server(t, SERVER_HELLO, MSS),
            t.c("A", 201, 1, APPLICATION_DATA),
            t.c("AU", 201 + len(APPLICATION_DATA), 1, b"\x17\3\3\0\1x", urgent=3),
            t.c("A", 207 + len(APPLICATION_DATA), 1, b"\x17\3\3\0\1x"),
        ],
        [CLIENT_HELLO, SERVER_HELLO, b""],
    ),
    # --- what cannot use up the budget ---
    Case(
        "a segment behind a hole, 200 times",
        lambda t: [*[t.c("A", 1_001, 1, BIG[1_000:])] * 200, t.c("A", 1, 1, BIG[:1_000])],
        [*[BIG[1_000:]] * 200, BIG[:1_000]],
    ),
    Case(
        "a record body with a hole in it",
        lambda t: [
            *client(t, CLIENT_HELLO, MSS),
            *[server(t, CHAIN, 1_000)[n] for n in (0, 2, 3)],
        ],
        [CLIENT_HELLO, *[cut(CHAIN, 1_000)[n] for n in (0, 2, 3)]],
    ),
]


@pytest.mark.parametrize("talk", [Talk(client_iss=0xFFFF_FFF0), TALK6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("case", CASES, ids=[case.about for case in CASES])
def test_what_is_sampled(kernel: Kernel, case: Case, talk: Talk) -> None:
    kernel.feed(*talk.opened(), *case.steps(talk))
    found = segments(kernel.samples())
    assert [sample.payload for sample in found] == list(case.sampled)
    if case.starts:
        client_end = kernel.flow().totals.client
        starts = []
        for sample in found:
            iss = talk.client_iss if sample.sender == client_end else talk.server_iss
            start = sample.start_seq
            starts.append(None if start is None else (start - iss) & 0xFFFF_FFFF)
        assert starts == list(case.starts)
    raised = kernel.raised()
    assert not {"tls_not_admitted", "tls_over_budget"} & set(raised)


@pytest.mark.parametrize(
    ("data", "unread"),
    [
        (record(22, CLIENT_HELLO[5:], 0x0101), 1),
        (record(22, SERVER_HELLO[5:], 0xFEFF), 1),
        (record(22, b"\x0b" + bytes(50), 0x0101), 0),
        (record(23, bytes(50), 0x0101), 0),
        (PLAIN, 0),
        (CLIENT_HELLO, 0),
    ],
)
def test_a_hello_of_a_version_that_is_not_read_is_counted(
    kernel: Kernel, data: bytes, unread: int
) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), *client(talk, data, MSS), *server(talk, data, MSS))
    assert kernel.raised().get("tls_unread", 0) == 2 * unread


@pytest.mark.parametrize(
    ("before", "cut"),
    [
        (b"\x16" * 2_000, 0),
        (b"\x16\3" * 300, 0),
        (b"\x16\3" * 1_000, 1),
        (b"\x16\3\0" * 600, 1),
        (bytes(2_048) + b"\x16\3" * 300, 1),
    ],
)
def test_a_search_that_is_not_done_to_the_end_is_counted(
    kernel: Kernel, before: bytes, cut: int
) -> None:
    """So many bytes that resemble a record cost too much."""
    talk = Talk()
    kernel.feed(*talk.opened(), *client(talk, PLAIN + before + CLIENT_HELLO, 9_999))
    assert kernel.raised().get("tls_search_cut", 0) == cut
    assert len(segments(kernel.samples())) == 1 - cut


def test_a_search_of_a_frame_that_was_cut_off_is_not_counted(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, PLAIN * 100)[:300])
    assert "tls_search_cut" not in kernel.raised()


@pytest.mark.parametrize("records", [8, 9, 135, 136, 137, 264, 265, 550])
def test_the_end_of_many_tiny_records_is_found(kernel: Kernel, records: int) -> None:
    """A line and another hello are behind them."""
    talk = Talk()
    kernel.feed(*talk.opened())
    begun = one_by_one(hello(1, 9_000))[: 6 * records]
    kernel.feed(talk.c("PA", 1, 1, begun + PLAIN + CLIENT_HELLO[:100]))
    found = segments(kernel.samples())
    assert [sample.start_seq - sample.seq for sample in found] == [0, len(begun) + len(PLAIN)]
    kernel.feed(talk.c("PA", 101 + len(begun) + len(PLAIN), 1, CLIENT_HELLO[100:]))
    (rest,) = segments(kernel.samples())
    assert rest.payload == CLIENT_HELLO[100:]
    assert not {"tls_over_budget", "tls_search_cut"} & set(kernel.raised())


def test_more_tiny_records_than_are_read_are_reported(tiny: Kernel) -> None:
    """Two passes are made here."""
    talk = Talk()
    tiny.feed(*talk.opened(), talk.c("PA", 1, 1, one_by_one(hello(1, 9_000))[: 6 * 600]))
    assert tiny.raised()["tls_over_budget"] == 1
    (anomaly,) = [each for each in tiny.samples() if isinstance(each, AnomalySample)]
    assert anomaly.anomaly.technique is Technique.EXCESS_HANDSHAKE


@pytest.mark.parametrize("by", [client, server])
@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("before", range(6))
def test_a_header_is_judged_by_its_bytes_of_all_segments(
    kernel: Kernel, before: int, size: int, by: Callable[[Talk, bytes, int], Steps]
) -> None:
    """In segments that end in a byte like a record's first, wherever the header is split."""
    talk = Talk()
    first = b"\x16" * (40 + before)
    data = record(22, b"\1\0\1\2" + first) + record(22, b"\x16" * 25) + record(22, b"\x16" * 22)
    kernel.feed(*talk.opened(), *by(talk, data, size))
    assert b"".join(sample.payload for sample in segments(kernel.samples())) == data


@pytest.mark.parametrize("seed", range(4))
def test_a_hello_is_found_at_any_offset(kernel: Kernel, seed: int) -> None:
    """Behind bytes of which some begin like a record, so that the steps have all lengths."""
    random = Random(seed)
    offsets = random.sample(range(1, 3_000), 400)
    for number, offset in enumerate(offsets):
        talk = Talk(client=f"198.51.100.{1 + number % 250}", client_port=20_000 + number)
        before = bytearray(random.choices(b"\0\x15\x17\x80\x96", k=offset))
        for _ in range(random.randrange(8)):
            before[random.randrange(offset)] = 0x16
        kernel.feed(*talk.opened(), talk.c("PA", 1, 1, bytes(before) + CLIENT_HELLO))
    starts = [sample.start_seq - sample.seq for sample in segments(kernel.samples())]
    assert starts == offsets


def test_a_sample_names_its_connection(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, CLIENT_HELLO), talk.s("PA", 1, 201, ALERT))
    _, handshake, first, second = kernel.samples()
    for sample, time_ns in ((first, kernel.now_ns - MS), (second, kernel.now_ns)):
        (segment,) = segments([sample])
        assert (segment.key, segment.born_ns) == (handshake.key, handshake.born_ns)
        assert segment.time_ns == time_ns
        assert not segment.midstream
    hello_sample, alert = segments([first, second])
    assert hello_sample.sender == hello_sample.client == alert.client != alert.sender
    assert (hello_sample.seq, alert.seq) == (talk.client_iss + 1, talk.server_iss + 1)


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        pytest.param([SERVER_HELLO + CHANGE_CIPHER_SPEC], [False], id="ChangeCipherSpec"),
        pytest.param([SERVER_HELLO + APPLICATION_DATA], [True], id="application data"),
        pytest.param([SERVER_HELLO, SERVER_HELLO], [False, False], id="more to come"),
        pytest.param([SERVER_HELLO + PLAIN], [False], id="nonsense: TLS may begin again"),
        pytest.param([SERVER_HELLO, APPLICATION_DATA], [False], id="in the next segment"),
        pytest.param(
            [SERVER_HELLO + ALERT[:3], ALERT[3:] + APPLICATION_DATA], [False, True], id="split"
        ),
    ],
)
def test_the_last_sample_in_the_clear_says_so(
    kernel: Kernel, answer: list[bytes], ends: list[bool]
) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, CLIENT_HELLO))
    kernel.samples()
    seq = 1
    for data in answer:
        kernel.feed(talk.s("PA", seq, 201, data))
        seq += len(data)
    assert [sample.ends for sample in segments(kernel.samples())] == ends


# --- mid-stream connections ---


def test_a_midstream_clienthello_shows_who_the_client_is(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(
        talk.c("PA", 500, 700, CLIENT_HELLO),
        talk.s("PA", 700, 700, SERVER_HELLO + APPLICATION_DATA),
    )
    first, second = segments(kernel.samples())
    assert first.midstream
    assert first.client == first.sender == second.client != second.sender
    assert (first.payload, second.payload) == (CLIENT_HELLO, SERVER_HELLO)
    assert (first.start_seq, second.start_seq) == (first.seq, second.seq)
    assert second.seq == talk.server_iss + 700
    (midstream,) = kernel.table("midstream_flows")
    assert midstream.totals.client == first.client


def test_a_midstream_serverhello_shows_who_the_client_is(kernel: Kernel) -> None:
    kernel.feed(Talk().s("PA", 500, 700, SERVER_HELLO))
    (sample,) = segments(kernel.samples())
    assert sample.client == 1 - sample.sender


def test_a_hello_of_a_client_seen_alone(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(talk.c("S"), talk.c("A", 1, 1), *client(talk, BIG, MSS))
    found = segments(kernel.samples())
    assert [sample.payload for sample in found] == cut(BIG, MSS)
    assert found[0].midstream


def test_few_segments_after_holes_of_a_midstream_connection_are_sampled(kernel: Kernel) -> None:
    """A hello may follow missed bytes: two segments are sampled, after four holes."""
    talk = Talk()
    seq = 1
    found = []
    for _ in range(HOLES + 3):
        seq += 10_000
        for _ in range(ORPHANS + 2):
            kernel.feed(talk.c("A", seq, 1, PLAIN))
            seq += len(PLAIN)
        found.append(len(segments(kernel.samples())))
    assert found == [ORPHANS] * HOLES + [0] * 3


def test_a_midstream_hello_after_many_holes_is_still_found(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(talk.c("A", 1, 1, PLAIN))
    for n in range(10):
        kernel.feed(talk.c("A", 1_000 * (n + 1), 1, PLAIN))
    kernel.samples()
    kernel.feed(talk.c("A", 50_000, 1, CLIENT_HELLO))
    (sample,) = segments(kernel.samples())
    assert sample.payload == CLIENT_HELLO
    assert sample.start_seq == sample.seq


AHEAD = 65_536
"""Bytes that the decky has not acknowledged, and that the agent may put in order."""


@pytest.mark.parametrize("size", [1, 7, 100])
def test_all_that_comes_before_its_turn_is_sampled(kernel: Kernel, size: int) -> None:
    """The decky waits for the bytes before it. No other than these shows where TLS begins."""
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, PLAIN), talk.s("PA", 1, 15, b"220 ready\r\n"))
    kernel.samples()
    parts = client(talk, CLIENT_HELLO, size, 15)
    kernel.feed(*reversed(parts))
    found = segments(kernel.samples())
    assert [sample.payload for sample in found] == list(reversed(cut(CLIENT_HELLO, size)))
    assert [sample.start_seq for sample in found[:-1]] == [None] * (len(found) - 1)
    begins = talk.client_iss + 15 & 0xFFFF_FFFF
    assert found[-1].start_seq == (begins if size >= PREFIX else None)


def test_what_comes_before_its_turn_begins_no_tls(kernel: Kernel) -> None:
    """What comes in front of it may show that it is the middle of a hello."""
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, PLAIN), talk.c("PA", 300, 1, CLIENT_HELLO))
    (early,) = segments(kernel.samples())
    assert (early.payload, early.start_seq) == (CLIENT_HELLO, None)
    kernel.feed(*client(talk, hello(1, 485), 100, 15)[:4])
    first, *more = segments(kernel.samples())
    assert first.start_seq == first.seq
    assert [sample.start_seq for sample in more] == [None] * 3


def test_what_comes_too_far_before_its_turn_is_not_sampled(kernel: Kernel) -> None:
    talk, scaled = Talk(), {"options": LINUX_OPTIONS}
    kernel.feed(talk.c("S", **scaled), talk.s("SA", 0, 1, **scaled), talk.c("A", 1, 1))
    kernel.feed(talk.c("PA", 1, 1, PLAIN), talk.s("A", 1, 15, window=1_000))
    kernel.feed(talk.c("A", 16 + AHEAD, 1, CLIENT_HELLO))
    assert segments(kernel.samples()) == []
    assert kernel.raised()["tls_search_cut"] == 1
    kernel.feed(talk.c("A", 15 + AHEAD, 1, b"x"))
    assert [sample.payload for sample in segments(kernel.samples())] == [b"x"]


def test_nor_in_the_middle_of_a_long_write(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), *run(talk, 22))
    kernel.feed(talk.c("A", 11 + 22 * len(RUN), 1, PLAIN))
    assert segments(kernel.samples()) == []
    assert "tls_over_budget" not in kernel.raised()


# --- bounds ---


def test_a_client_has_its_budget_of_bytes(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened())
    endless = b"".join(record(22, bytes(16_000)) for _ in range(70))
    total = 0
    for step in acknowledged(talk, CLIENT_HELLO + endless, 2_048):
        kernel.feed(step)
        total += sum(len(sample.payload) for sample in segments(kernel.samples()))
    assert total == CLIENT_BYTES
    assert kernel.raised()["tls_over_budget"] == 1


def scattered(kernel: Kernel, talk: Talk, seq: int, ack: int) -> tuple[int, int]:
    """Bytes before their turn, until one is not sampled; the next number, and those sampled."""
    total = 0
    while not kernel.raised().get("tls_search_cut"):
        kernel.feed(
            *(talk.c("PA", seq + 10, ack, bytes(3_000)), talk.c("PA", seq, ack, bytes(10))),
            talk.s("A", ack, seq + 3_010),
        )
        seq += 3_010
        found = segments(kernel.samples())
        total += sum(len(sample.payload) for sample in found if len(sample.payload) > 10)
    return seq, total


def test_bytes_before_their_turn_have_a_budget_that_the_peer_renews(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, PLAIN))
    kernel.samples()
    seq, total = scattered(kernel, talk, 15, 1)
    assert total == SCATTERED
    kernel.feed(talk.s("PA", 1, seq, b"220 ready\r\n"))
    kernel.feed(talk.c("PA", seq + 100, 12, CLIENT_HELLO[100:]))
    (sample,) = segments(kernel.samples())
    assert sample.payload == CLIENT_HELLO[100:]
    kernel.feed(talk.c("PA", seq, 12, CLIENT_HELLO[:100]))
    (sample,) = segments(kernel.samples())
    assert sample.start_seq == sample.seq
    assert "tls_over_budget" not in kernel.raised()


def test_a_server_has_more(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, CLIENT_HELLO))
    kernel.samples()
    size, total = 3_072, 0
    records = [hello(2, size), *[record(22, bytes(size - 5))] * 179]
    for n, data in enumerate(records):
        kernel.feed(talk.s("A", 1 + size * n, 201, data))
        total += sum(len(sample.payload) for sample in segments(kernel.samples()))
    assert SERVER_BYTES - size < total <= SERVER_BYTES
    assert kernel.raised()["tls_over_budget"] == 1


def test_a_direction_has_its_number_of_samples(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened())
    endless = hello(1, 16_000)
    count = 0
    for step in client(talk, endless, 3)[:4_200]:
        kernel.feed(step)
        if kernel.run % 200 == 0:
            count += len(segments(kernel.samples()))
    count += len(segments(kernel.samples()))
    assert count == 4_096
    assert kernel.raised()["tls_over_budget"] == 1


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["IPv4", "IPv6"])
def test_a_source_has_its_budget_of_connections(kernel: Kernel, talk: Talk) -> None:
    kernel.settings(handshake_cost_ns=SECOND, handshake_burst_ns=3 * SECOND)
    admitted = []
    for port in range(5):
        one = replace(talk, client_port=30_000 + port)
        kernel.feed(*one.opened(), *client(one, BIG, MSS), *server(one, SERVER_HELLO, MSS))
        admitted.append(len(segments(kernel.samples())))
    assert admitted == [3, 3, 3, 0, 0]
    assert kernel.raised()["tls_not_admitted"] == 2
    other = replace(talk, client="2001:db8:99::1" if ":" in talk.client else "203.0.113.99")
    kernel.feed(*other.opened(), *client(other, CLIENT_HELLO, MSS))
    assert len(segments(kernel.samples())) == 1
    late = replace(talk, client_port=30_099)
    kernel.feed(Wait(SECOND), *late.opened(), *client(late, CLIENT_HELLO, MSS))
    assert len(segments(kernel.samples())) == 1


def test_a_long_hello_costs_its_source_more(kernel: Kernel) -> None:
    kernel.settings(handshake_cost_ns=SECOND, handshake_burst_ns=3 * SECOND)
    talk = Talk()
    kernel.feed(*talk.opened())
    endless = b"".join(record(22, bytes(16_000)) for _ in range(20))
    total = 0
    for step in acknowledged(talk, CLIENT_HELLO + endless, 2_048):
        kernel.feed(step)
        total += sum(len(sample.payload) for sample in segments(kernel.samples()))
    assert total == 3 * ADMIT_BYTES - 2_048
    assert kernel.raised()["tls_not_admitted"] == 1


def test_ipv6_sources_share_their_budget_by_64_bits(kernel: Kernel) -> None:
    kernel.settings(handshake_cost_ns=SECOND, handshake_burst_ns=SECOND)
    for host in (1, 2):
        one = replace(TALK6, client=f"2001:db8:5:6::{host}")
        kernel.feed(*one.opened(), *client(one, CLIENT_HELLO, MSS))
    assert len(segments(kernel.samples())) == 1
    assert kernel.raised()["tls_not_admitted"] == 1


def test_an_admitted_connection_sends_all_its_samples(kernel: Kernel) -> None:
    """The server's answer is not charged to the server."""
    kernel.settings(handshake_cost_ns=SECOND, handshake_burst_ns=SECOND)
    talk = Talk()
    kernel.feed(*talk.opened(), *client(talk, BIG, 100), *server(talk, CHAIN, 100))
    assert len(segments(kernel.samples())) == 20 + -(-len(CHAIN) // 100)


def test_plain_text_costs_no_budget(kernel: Kernel) -> None:
    kernel.settings(handshake_cost_ns=SECOND, handshake_burst_ns=SECOND)
    for port in range(5):
        talk = Talk(client_port=30_000 + port)
        kernel.feed(*talk.opened(), talk.c("PA", 1, 1, PLAIN))
    talk = Talk(client_port=30_100)
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, CLIENT_HELLO))
    assert len(segments(kernel.samples())) == 1


def test_flags_say_who_was_admitted(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, PLAIN))
    assert kernel.flow().totals.flags == 0
    kernel.feed(talk.c("PA", 1 + len(PLAIN), 1, CLIENT_HELLO))
    flags = kernel.flow().totals.flags
    assert flags
    assert not flags & abi.FLOW_MIDSTREAM


# --- what a decky says that it holds out of order ---

STAMPED = b"\x01\x01" + b"\x08\x0a" + bytes(8)
TWO_BLOCKS = b"\x01\x01\x05\x12" + bytes(range(16))


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("stamped", [True, False])
def test_an_ack_with_sack_blocks_is_sampled_behind_a_hole(
    kernel: Kernel, talk: Talk, stamped: bool
) -> None:
    stamps = STAMPED if stamped else b""
    opening = LINUX_OPTIONS if stamped else b""
    syn, synack = talk.c("S", options=opening), talk.s("SA", 0, 1, options=opening)
    kernel.feed(syn, synack, talk.c("A", 1, 1, options=stamps))
    kernel.feed(talk.s("A", 1, 1, options=stamps + TWO_BLOCKS))
    kernel.submitted()
    kernel.feed(talk.c("A", 101, 1, CLIENT_HELLO[100:], stamps), talk.s("A", 1, 1, options=stamps))
    assert kernel.submitted() == "segment:100"
    kernel.feed(talk.s("A", 1, 1, options=stamps + TWO_BLOCKS))
    (sample,) = kernel.samples()
    assert isinstance(sample, SackSample)
    assert sample.ack == talk.client_iss + 1
    assert sample.blocks == ((0x00010203, 0x04050607), (0x08090A0B, 0x0C0D0E0F))
    kernel.feed(talk.c("A", 1, 1, CLIENT_HELLO[:100], stamps))
    kernel.submitted()
    kernel.feed(talk.s("A", 1, 201, options=stamps + TWO_BLOCKS))
    assert kernel.submitted() == ""


def test_such_acks_are_bounded(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("A", 101, 1, CLIENT_HELLO[100:]))
    kernel.feed(*[talk.s("A", 1, 1, options=TWO_BLOCKS)] * 1_030)
    assert sum(isinstance(each, SackSample) for each in kernel.samples()) == 1_024

"""TLS after the first lines of another protocol: both hellos are reported in full."""

from __future__ import annotations

import ssl
from base64 import b64decode
from dataclasses import replace
from random import Random
from struct import pack

import pytest

from tests.support.bpf_frames import record
from tests.support.conversation import DECKY, Conversation
from tests.support.emitted import names, of, one
from tests.support.flights import handshake
from tests.support.replaying import ReplayLab

pytestmark = pytest.mark.root

C, S = 0, 1
Lines = list[tuple[int, bytes]]


def ldap(tag: int, body: bytes) -> bytes:
    """An LDAPMessage (RFC 4511, 4.1.1) with message id 1."""
    content = b"\x02\x01\x01" + bytes([tag, len(body)]) + body
    return bytes([0x30, len(content)]) + content


MYSQL_GREETING = (
    b"\x0a8.0.36\0" + pack("<I", 42) + b"12345678\0" + pack("<HBHH", 0xFFFF, 255, 2, 0xDFFF)
)
"""Protocol::HandshakeV10, with CLIENT_SSL among the capabilities."""

PREAMBLES: dict[str, Lines] = {
    "smtp": [
        (S, b"220 mx.example ESMTP\r\n"),
        (C, b"EHLO client.example\r\n"),
        (S, b"250-mx.example\r\n250-PIPELINING\r\n250 STARTTLS\r\n"),
        (C, b"STARTTLS\r\n"),
        (S, b"220 2.0.0 Ready to start TLS\r\n"),
    ],
    "imap": [
        (S, b"* OK IMAP4rev1 ready\r\n"),
        (C, b"a1 CAPABILITY\r\n"),
        (S, b"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\na1 OK done\r\n"),
        (C, b"a2 STARTTLS\r\n"),
        (S, b"a2 OK Begin TLS negotiation now\r\n"),
    ],
    "pop3": [
        (S, b"+OK POP3 ready <1.2@mx.example>\r\n"),
        (C, b"CAPA\r\n"),
        (S, b"+OK\r\nUSER\r\nSTLS\r\n.\r\n"),
        (C, b"STLS\r\n"),
        (S, b"+OK Begin TLS negotiation\r\n"),
    ],
    "ftp": [
        (S, b"220 FTP server ready\r\n"),
        (C, b"AUTH TLS\r\n"),
        (S, b"234 AUTH TLS successful\r\n"),
    ],
    "xmpp": [
        (
            C,
            b"<?xml version='1.0'?><stream:stream to='chat.example' xmlns='jabber:client'"
            b" xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>",
        ),
        (
            S,
            b"<?xml version='1.0'?><stream:stream from='chat.example' id='1' version='1.0'"
            b" xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
            b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>"
            b"<required/></starttls></stream:features>",
        ),
        (C, b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
        (S, b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
    ],
    "ldap": [
        (C, ldap(0x77, b"\x80\x161.3.6.1.4.1.1466.20037")),
        (S, ldap(0x78, b"\x0a\x01\x00\x04\x00\x04\x00")),
    ],
    "mysql": [
        (S, pack("<I", len(MYSQL_GREETING)) + MYSQL_GREETING),
        # SSLRequest: capabilities, largest packet, character set, 23 bytes of nothing.
        (C, b"\x20\0\0\1" + pack("<IIB23x", 0x0000_0A85, 1 << 24, 255)),
    ],
    "postgres": [(C, pack("!II", 8, 80_877_103)), (S, b"S")],
    "rdp": [
        # TPKT and X.224 connection request that asks for TLS or CredSSP ([MS-RDPBCGR], 2.2.1.1).
        (
            C,
            b"\x03\0\0\x2b\x26\xe0\0\0\0\0\0Cookie: mstshash=admin\r\n"
            + b"\x01\x00\x08\x00\x03\x00\x00\x00",
        ),
        (S, b"\x03\0\0\x13\x0e\xd0\0\0\x124\0" + b"\x02\x1f\x08\x00\x01\x00\x00\x00"),
    ],
    "http connect": [
        (C, b"CONNECT decoy.example:443 HTTP/1.1\r\nHost: decoy.example:443\r\n\r\n"),
        (S, b"HTTP/1.1 200 Connection established\r\n\r\n"),
    ],
    "socks4": [
        (C, b"\x04\x01\x01\xbb\xcb\x00\x71\x05root\x00"),
        (S, b"\x00\x5a\x01\xbb\xcb\x00\x71\x05"),
    ],
    "socks5": [
        (C, b"\x05\x01\x00"),
        (S, b"\x05\x00"),
        (C, b"\x05\x01\x00\x03\x0ddecoy.example\x01\xbb"),
        (S, b"\x05\x00\x00\x01\xcb\x00\x71\x05\x01\xbb"),
    ],
}

LABELS = {"smtp": "ftp/smtp", "ftp": "ftp/smtp"}
"""What the bytes are called, if not by the name of the preamble."""

VERSIONS = {
    "tls12": handshake(ssl.TLSVersion.TLSv1_2),
    "tls13": handshake(ssl.TLSVersion.TLSv1_3),
}


def after(preamble: Lines, version: str, size: int) -> Conversation:
    conversation = Conversation().open()
    for sender, line in preamble:
        (conversation.send, conversation.answer)[sender](line)
    flight = VERSIONS[version]
    return conversation.send(flight.client, size).answer(flight.server, size).close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocol", PREAMBLES)
@pytest.mark.parametrize("size", [1_400, 90])
def test_both_hellos_are_reported_in_full(
    lab: ReplayLab, protocol: str, version: str, size: int
) -> None:
    direct = lab.frames(after([], version, 1_400).frames, [DECKY])
    events = lab.frames(after(PREAMBLES[protocol], version, size).frames, [DECKY])
    # What came before TLS is an event of its own, and nothing of TLS is in it.
    before = "http_request" if protocol == "http connect" else "tcp_payload"
    assert [name for name in names(events) if name != before] == names(direct)
    found = one(events, before)
    if before == "tcp_payload":
        assert found.get("protocol") == LABELS.get(protocol, protocol)
        for name, sender in (("payload", C), ("server_payload", S)):
            lines = b"".join(line for end, line in PREAMBLES[protocol] if end == sender)
            assert b64decode(found.get(name, "")) == lines
        assert "payload_cut" not in found
    hello, session = one(events, "tls_client_hello"), one(events, "tls_session")
    assert hello.pop("starttls") is True
    assert hello["quality"] == ("complete" if size == 1_400 else "reassembled")
    for name, event in (("tls_client_hello", hello), ("tls_session", session)):
        expected = one(direct, name)
        assert "starttls" not in expected
        same = expected.keys() - {"time_ns", "quality"}
        assert {n: event[n] for n in same} == {n: expected[n] for n in same}
    if version == "tls12":
        certificate = one(events, "tls_certificate")
        assert certificate["subject_cn"] == "decoy.example"
        assert certificate["sni"] == "decoy.example"


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_capture_that_lost_a_line_of_the_preamble(lab: ReplayLab, lost: int) -> None:
    """The hello comes behind a hole and is reported all the same."""
    conversation = after(PREAMBLES["smtp"], "tls12", 1_400)
    del conversation.frames[3 + lost]
    events = lab.frames(conversation.frames, [DECKY])
    assert one(events, "tls_client_hello")["sni"] == "decoy.example"
    assert one(events, "tls_session")["sni"] == "decoy.example"


@pytest.mark.parametrize(
    "decoy",
    [
        b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03\r\n",
        b"\x16\x03\x01\x00\x01\x01\r\n",
        b"\x15\x03\x01\x00\x02\x01\x00\r\n",
    ],
)
def test_a_line_that_looks_like_tls_does_not_keep_the_hello_from_being_read(
    lab: ReplayLab, decoy: bytes
) -> None:
    lines = PREAMBLES["smtp"]
    preamble = [*lines[:1], (C, decoy), (S, b"500 5.5.2 Error: bad syntax\r\n"), *lines[1:]]
    events = lab.frames(after(preamble, "tls12", 1_400).frames, [DECKY])
    hello = one(events, "tls_client_hello")
    assert (hello["sni"], hello["starttls"]) == ("decoy.example", True)
    assert one(events, "tls_session")["ja3"] == hello["ja3"]


LINE = b"\r\nSTARTTLS\r\n"
REAL = VERSIONS["tls12"].client
OTHER = REAL.replace(b"decoy.example", b"other.example")
"""A whole flight, with a hello of another name."""
HELLO = OTHER[: 5 + int.from_bytes(OTHER[3:5], "big")]
ANSWER = VERSIONS["tls12"].server[: 5 + int.from_bytes(VERSIONS["tls12"].server[3:5], "big")]
REFUSED, READY = (S, b"500 5.5.2 Error: bad syntax\r\n"), (S, b"220 go ahead\r\n")
BOTH = (S, REFUSED[1] + READY[1])


def as_line(*records: bytes) -> Lines:
    """Records as a line, which the server refuses, and then TLS."""
    return [(C, b"".join(records) + b"\r\n"), REFUSED, (C, LINE), READY, (C, REAL)]


def at_once(*segments: bytes) -> Lines:
    """Segments that the client sends before the server says anything."""
    return [*((C, each) for each in segments), BOTH]


def tiny(data: bytes) -> bytes:
    """The handshake messages of a record, in records of one byte."""
    return b"".join(record(22, data[at : at + 1]) for at in range(5, len(data)))


DONE, ALERT, DATA = record(22, b"\x0e\0\0\0"), record(21, b"\2\0"), record(23, bytes(32))
HEARTBEAT, SPEC_CHANGE = record(24, bytes(20)), record(20, b"\1")

ANSWERED_AMONG_OTHERS: dict[str, Lines] = {
    "a line and another one behind it": [(C, REAL), (C, LINE + OTHER)],
    "the same in one segment": [(C, REAL + LINE + OTHER)],
    "a flight as a line": as_line(OTHER),
    "one that has only begun": at_once(OTHER, LINE + REAL),
    "in one segment": at_once(OTHER + LINE + REAL),
    "a hello as a line": at_once(HELLO + LINE + REAL),
    "and data": as_line(HELLO, DATA),
    "and data, at once": at_once(HELLO + DATA[:5] + LINE + REAL),
    "and data in the next segment": at_once(HELLO, DATA[:5] + LINE + REAL),
    "and a ChangeCipherSpec": at_once(HELLO, SPEC_CHANGE + LINE + REAL),
    "in tiny records": as_line(tiny(HELLO)),
    "in tiny records, with data": as_line(tiny(HELLO), DATA),
    "both in tiny records": [*as_line(tiny(OTHER))[:-1], (C, tiny(REAL))],
    "in tiny records, at once": at_once(tiny(OTHER), LINE + REAL),
    "in tiny records of one segment": at_once(tiny(OTHER) + LINE + REAL),
    "a byte of a record": at_once(b"\x16", LINE + REAL),
    "an alert and data": as_line(ALERT, DATA),
    "a ServerHello and data": as_line(ANSWER, DATA),
    "a ServerHello, a ChangeCipherSpec and data": as_line(ANSWER, SPEC_CHANGE, DATA),
    "a ServerHello and a heartbeat": as_line(ANSWER, HEARTBEAT),
    "a server's flight": as_line(ANSWER, DONE),
    "a ServerHello and a hello": as_line(ANSWER, HELLO, DATA),
    "a hello and a ServerHello": as_line(HELLO, ANSWER, DATA),
    "a server's flight, later": [(C, b"NOOP\r\n"), (S, b"250 OK\r\n"), *as_line(ANSWER, DONE)],
}


@pytest.mark.parametrize("size", [1_400, 100, 7, 1])
@pytest.mark.parametrize("turns", ANSWERED_AMONG_OTHERS.values(), ids=ANSWERED_AMONG_OTHERS)
def test_of_several_hellos_the_answered_one_is_reported(
    lab: ReplayLab, turns: Lines, size: int
) -> None:
    """Whatever the client sends before or behind it, and however that is cut into segments."""
    conversation = Conversation().open()
    for sender, data in turns:
        if sender == C:
            conversation.send(data, size)
        else:
            conversation.answer(data)
    conversation.answer(VERSIONS["tls12"].server).close()
    events = lab.frames(conversation.frames, [DECKY])
    hello = one(events, "tls_client_hello")
    assert hello["sni"] == "decoy.example"
    assert hello["quality"] in {"complete", "reassembled"}
    assert one(events, "tls_session")["sni"] == "decoy.example"
    sent = b"".join(data for sender, data in turns if sender == C)
    others = [event["sni"] for event in of(events, "tcp_anomaly") if "sni" in event]
    assert others == ["other.example"] * (HELLO in sent or tiny(HELLO) in sent)


# --- segments out of order ---


def shuffled(conversation: Conversation, pieces: list[bytes], order: list[int]) -> Conversation:
    """The client's pieces, sent in this order."""
    first = len(conversation.frames)
    for piece in pieces:
        conversation.send(piece)
    sent = conversation.frames[first:]
    for frame, index in zip(sent, order, strict=True):
        conversation.frames[first] = replace(sent[index], time_ns=frame.time_ns)
        first += 1
    return conversation


EARLY = {
    "its beginning": ([LINE, REAL[:100], REAL[100:]], [1, 0, 2]),
    "all of it": ([HELLO, LINE, REAL], [0, 2, 1]),
    "its beginning, after another one": ([HELLO, LINE, REAL[:100], REAL[100:]], [0, 2, 1, 3]),
    "both its parts": ([HELLO, LINE, REAL[:100], REAL[100:]], [0, 2, 3, 1]),
    "the end of a line": ([HELLO, LINE[:5], LINE[5:] + REAL[:100], REAL[100:]], [0, 2, 1, 3]),
    "what follows three bytes": ([LINE, REAL[:3], REAL[3:100], REAL[100:]], [0, 2, 1, 3]),
    "every part": ([LINE, REAL[:3], REAL[3:100], REAL[100:]], [3, 2, 1, 0]),
    "every part, after another one": ([HELLO, LINE, REAL[:3], REAL[3:]], [0, 3, 2, 1]),
    "every part, and of another one": (
        [HELLO[:50], HELLO[50:], LINE, REAL[:3], REAL[3:]],
        [4, 3, 2, 1, 0],
    ),
}


@pytest.mark.parametrize(("pieces", "order"), EARLY.values(), ids=EARLY)
def test_a_hello_that_comes_before_the_line_in_front_of_it(
    lab: ReplayLab, pieces: list[bytes], order: list[int]
) -> None:
    conversation = shuffled(Conversation().open(), pieces, order).answer(BOTH[1])
    conversation.answer(VERSIONS["tls12"].server).close()
    events = lab.frames(conversation.frames, [DECKY])
    hello = one(events, "tls_client_hello")
    assert (hello["sni"], hello["quality"]) == ("decoy.example", "reassembled")
    assert one(events, "tls_session")["sni"] == "decoy.example"
    others = [event["sni"] for event in of(events, "tcp_anomaly") if "sni" in event]
    assert others == ["other.example"] * (HELLO in b"".join(pieces))


@pytest.mark.parametrize("before", ["nothing", "lines", "another hello"])
@pytest.mark.parametrize("size", [1, 3, 7, 50, 100])
@pytest.mark.parametrize("order", ["backwards", "even, odd", "odd, even", "any", "any other"])
def test_a_hello_in_any_order_of_its_segments(
    lab: ReplayLab, before: str, size: int, order: str
) -> None:
    """Only the segments before one show whether it is the beginning of TLS."""
    conversation = Conversation().open()
    turns = {
        "nothing": [],
        "lines": [(C, b"EHLO x\r\n"), (S, b"250 OK\r\n"), (C, LINE), READY],
        "another hello": as_line(HELLO)[:-1],
    }
    for sender, data in turns[before]:
        (conversation.send, conversation.answer)[sender](data)
    pieces = [REAL[at : at + size] for at in range(0, len(REAL), size)]
    numbers = list(range(len(pieces)))
    if order == "backwards":
        numbers.reverse()
    elif order == "even, odd":
        numbers = numbers[::2] + numbers[1::2]
    elif order == "odd, even":
        numbers = numbers[1::2] + numbers[::2]
    else:
        Random(order).shuffle(numbers)
    shuffled(conversation, pieces, numbers).answer(VERSIONS["tls12"].server).close()
    events = lab.frames(conversation.frames, [DECKY])
    hello = one(events, "tls_client_hello")
    assert (hello["sni"], hello["quality"]) == ("decoy.example", "reassembled")
    assert one(events, "tls_session")["sni"] == "decoy.example"


def test_a_hello_in_the_middle_of_a_long_write_leaves_a_session_without_a_client(
    lab: ReplayLab,
) -> None:
    """Nobody looks for it there: segments of more than 64 KB without PSH."""
    conversation = Conversation().open()
    written = b"NOOP\r\n" * 12_000 + LINE + REAL
    for at in range(0, len(written), 1_400):
        conversation.add(C, "A", 1 + at, 1, written[at : at + 1_400])
        if at % 28_000 == 0:
            conversation.add(S, "A", 1, 1 + min(at + 1_400, len(written)))
    conversation.add(S, "PA", 1, 1 + len(written), VERSIONS["tls12"].server)
    events = lab.frames(conversation.frames, [DECKY])
    assert of(events, "tls_client_hello") == []
    session = one(events, "tls_session")
    assert "ja3s" in session
    assert "ja3" not in session

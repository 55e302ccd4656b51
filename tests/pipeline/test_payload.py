"""From frames to tcp_payload, through the real programs."""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha256
from typing import Any

import pytest

from deckwire.config import Settings
from deckwire.events.redaction import PREFIX
from tests.support import payload_wire as wire
from tests.support.conversation import CLIENT as PEER
from tests.support.conversation import CLIENT6, DECKY, DECKY6, DECKY_B, Conversation, in_time
from tests.support.declared import check_declared
from tests.support.emitted import names, of, one
from tests.support.flights import handshake
from tests.support.replaying import ReplayLab

pytestmark = pytest.mark.root

LOGIN = b"USER bobby\r\nPASS hunter2\r\n"
GREETING = b"220 ready\r\n"


def talk(client: str = PEER, server: str = DECKY, **how: Any) -> Conversation:
    """A login by FTP, in two writes, after the server's greeting."""
    conversation = Conversation(client, server, server_port=4_711, **how).open()
    line = LOGIN.index(b"\n") + 1
    conversation.answer(GREETING).send(LOGIN[:line]).send(LOGIN[line:])
    return conversation.close()


def payload(lab: ReplayLab, conversation: Conversation, **how: Any) -> dict[str, Any]:
    """The only tcp_payload, whose fields are as declared."""
    events = lab.frames(conversation.frames, [DECKY], **how)
    check_declared([event for event in events if event.name == "tcp_payload"])
    return one(events, "tcp_payload")


@pytest.mark.parametrize(
    ("client", "server", "direction"),
    [
        (PEER, DECKY, "inbound"),
        (CLIENT6, DECKY6, "inbound"),
        (DECKY, PEER, "outbound"),
        (DECKY6, CLIENT6, "outbound"),
        (DECKY, DECKY_B, "lateral"),
    ],
)
def test_the_first_bytes_of_both_ends(
    lab: ReplayLab, client: str, server: str, direction: str
) -> None:
    events = lab.frames(talk(client, server).frames, [DECKY, DECKY_B, DECKY6])
    found = one(events, "tcp_payload")
    assert (found["src_ip"], found["dst_ip"], found["dst_port"]) == (client, server, 4_711)
    assert (found["direction"], found["protocol"]) == (direction, "ftp/smtp")
    assert found["payload_length"] == len(LOGIN)
    assert b64decode(found["server_payload"]) == GREETING
    assert "payload_cut" not in found
    if direction == "inbound":
        assert (found["login_user"], found["login_password"]) == ("bobby", "hunter2")
        assert b64decode(found["payload"]) == LOGIN
        assert found["payload_sha256"] == sha256(LOGIN).hexdigest()
    else:
        # The operator's own.
        assert found["redacted"] is True
        assert found["login_password"].startswith(PREFIX)
        assert b"hunter2" not in b64decode(found["payload"])


def test_all_credentials_may_be_replaced_or_none(lab: ReplayLab) -> None:
    frames = talk(DECKY, PEER).frames
    outbound = one(lab.frames(frames, [DECKY], Settings(dedup_ttl=0.0, redact=())), "tcp_payload")
    assert (outbound["login_user"], outbound["login_password"]) == ("bobby", "hunter2")
    wanted = Settings(dedup_ttl=0.0, redact=("inbound",))
    inbound = one(lab.frames(talk().frames, [DECKY], wanted), "tcp_payload")
    assert inbound["login_password"].startswith(PREFIX)


def test_more_than_is_kept_is_cut(lab: ReplayLab) -> None:
    found = payload(lab, Conversation().open().send(bytes(range(256)) * 8).close())
    assert b64decode(found["payload"]) == bytes(range(256)) * 2
    assert (found["payload_length"], found["payload_cut"]) == (512, True)
    assert "server_payload" not in found
    assert "protocol" not in found


def test_writes_of_single_bytes_use_up_the_budget(lab: ReplayLab) -> None:
    conversation = Conversation().open()
    for byte in b"\0" + bytes(range(39)):
        conversation.send(bytes([byte]))
    found = payload(lab, conversation.close())
    assert 0 < found["payload_length"] < 40
    assert found["payload_cut"] is True


def test_all_of_512_bytes_is_not_cut(lab: ReplayLab) -> None:
    found = payload(lab, Conversation().open().send(b"\1" * 512).close())
    assert found["payload_length"] == 512
    assert "payload_cut" not in found


def test_a_long_head_is_an_event_before_the_connection_ends(lab: ReplayLab) -> None:
    conversation = Conversation().open().send(b"\1" * 600).answer(b"\2" * 600)
    conversation.send(b"\3" * 9_000)
    events = lab.frames(conversation.close().frames, [DECKY])
    assert names(events).index("tcp_payload") < names(events).index("tcp_flow_timing")
    found = one(events, "tcp_payload")
    assert (found["payload_cut"], found["server_payload_cut"]) == (True, True)


def test_capitals_without_http_keep_512_bytes(lab: ReplayLab) -> None:
    found = payload(lab, Conversation().open().send(b"ABC" + b"\1" * 2_000).close())
    assert (found["payload_length"], found["payload_cut"]) == (512, True)


@pytest.mark.parametrize("first", [1, 2, 5, 6, 40])
def test_tls_is_no_payload(lab: ReplayLab, first: int) -> None:
    """Also if its first bytes do not show yet that they are TLS."""
    flight = handshake()
    conversation = Conversation().open().send(flight.client[:first]).send(flight.client[first:])
    events = lab.frames(conversation.answer(flight.server).close().frames, [DECKY])
    assert of(events, "tls_client_hello")
    assert not of(events, "tcp_payload")


def test_a_record_that_is_no_hello_is_a_payload(lab: ReplayLab) -> None:
    found = payload(lab, Conversation().open().send(b"\x16\3\1").close())
    assert b64decode(found["payload"]) == b"\x16\3\1"


def test_ssh_is_no_payload(lab: ReplayLab) -> None:
    conversation = Conversation().open().send(b"\r\n").answer(b"SSH-2.0-x\r\n")
    events = lab.frames(conversation.close().frames, [DECKY])
    assert of(events, "ssh_server_banner")
    assert not of(events, "tcp_payload")


def test_it_can_be_turned_off(lab: ReplayLab) -> None:
    events = lab.frames(talk().frames, [DECKY], Settings(dedup_ttl=0.0, heads=("ssh",)))
    assert not of(events, "tcp_payload")


def test_a_silent_connection_has_none(lab: ReplayLab) -> None:
    assert not of(lab.frames(Conversation().open().close().frames, [DECKY]), "tcp_payload")


def test_a_spray_is_one_event_for_each_port(lab: ReplayLab) -> None:
    talks = [
        talk(PEER, decky, client_port=40_000 + n) for n, decky in enumerate([DECKY, DECKY_B, DECKY])
    ]
    events = lab.frames(in_time(*talks), [DECKY, DECKY_B], Settings(dedup_ttl=300.0))
    assert len(of(events, "tcp_payload")) == 1
    (summary,) = [s for s in of(events, "dedup_summary") if s["event"] == "tcp_payload"]
    assert (summary["count"], summary["deckies"]) == (2, 2)
    assert summary["key"] == f"4711|{sha256(LOGIN).hexdigest()}"


@pytest.mark.parametrize(
    ("client", "server", "protocol", "field", "value"),
    [
        (wire.rdp(b"Cookie: mstshash=a\r\n", 1), b"", "rdp", "rdp_cookie", "a"),
        (wire.resp(b"INFO"), b"$1\r\n", "redis", "redis_commands", ("INFO",)),
        (wire.adb(b"OPEN", b"shell:id\0"), b"", "adb", "adb_services", ("shell:id",)),
        (wire.TELNET_CLIENT, wire.TELNET_SERVER, "telnet", "login_password", "xc3511"),
        (b"x", wire.MYSQL_GREETING, "mysql", "mysql_version", "8.0.36"),
    ],
)
def test_fields_of_protocols(
    lab: ReplayLab, client: bytes, server: bytes, protocol: str, field: str, value: object
) -> None:
    conversation = Conversation().open().answer(server) if server else Conversation().open()
    found = payload(lab, conversation.send(client).close())
    assert (found["protocol"], found[field]) == (protocol, value)


def test_a_request_behind_that_of_a_proxy_is_a_payload(lab: ReplayLab) -> None:
    conversation = Conversation().open().send(wire.SOCKS4).answer(b"\0\x5a" + bytes(6))
    conversation.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").answer(b"HTTP/1.1 200 OK\r\n\r\n")
    events = lab.frames(conversation.close().frames, [DECKY])
    assert one(events, "tcp_payload")["protocol"] == "socks4"
    assert not of(events, "http_request")


@pytest.mark.parametrize("end", ["payload", "server_payload"])
def test_bytes_before_tls_in_the_first_segment_are_read(lab: ReplayLab, end: str) -> None:
    hello, _ = handshake()
    line = b"STARTTLS now\r\n"
    opened = Conversation(PEER, DECKY, server_port=4_711).open()
    opened = opened.send(line + hello) if end == "payload" else opened.answer(line + hello)
    events = lab.frames(opened.close().frames, [DECKY])
    found = one(events, "tcp_payload")
    assert b64decode(found[end]) == line
    assert "tls_client_hello" in names(events)


def test_bytes_before_tls_are_left_out_if_no_head_is_wanted(lab: ReplayLab) -> None:
    hello, _ = handshake()
    opened = Conversation(PEER, DECKY, server_port=4_711).open().send(b"STARTTLS\r\n" + hello)
    events = lab.frames(opened.close().frames, [DECKY], Settings(dedup_ttl=0.0, heads=()))
    assert "tls_client_hello" in names(events)
    assert "tcp_payload" not in names(events)
    assert lab.last is not None
    assert lab.last.stats.sums()["heads_opened"] == 0


def test_bytes_of_a_connection_whose_beginning_was_not_seen_are_none(lab: ReplayLab) -> None:
    hello, _ = handshake()
    opened = Conversation(PEER, DECKY, server_port=4_711).open()
    talk = opened.send(LOGIN + hello).close()
    assert not of(lab.frames(talk.frames[3:], [DECKY]), "tcp_payload")

"""From frames to the events of HTTP, through the real programs."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace
from typing import Any

import pytest

from deckwire.config import Settings
from deckwire.events.event import Event
from tests.support.conversation import CLIENT as PEER
from tests.support.conversation import CLIENT6, DECKY, DECKY6, DECKY_B, Conversation, in_time
from tests.support.declared import check_declared
from tests.support.emitted import names, of, one
from tests.support.flights import client_hello, message, record
from tests.support.http_wire import HEADERS, answer, expected_ja4h, request
from tests.support.replaying import ReplayLab
from tests.support.ssh_wire import SERVER_BANNER

pytestmark = pytest.mark.root

AS_PEER = Settings(dedup_ttl=0.0, outbound_source="peer")
FORM = b"user=root&password=x"


def conversation(client: str = PEER, server: str = DECKY, **how: Any) -> Conversation:
    return Conversation(client, server, server_port=8_080, **how).open()


def http(events: list[Event]) -> list[dict[str, Any]]:
    """The fields of the events of HTTP, which are as declared."""
    found = [event for event in events if event.name == "http_request"]
    check_declared(found)
    # Not by `of`: there is a field `host`.
    return [dict(event.fields) for event in found]


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
def test_a_request_has_an_event(lab: ReplayLab, client: str, server: str, direction: str) -> None:
    asked = request(
        b"/login?a=b", method=b"POST", body=FORM, headers=[*HEADERS, (b"Referer", b"r")]
    )
    talk = conversation(client, server).send(asked).answer(answer(b"401 No")).close()
    plain = Settings(dedup_ttl=0.0, redact=())
    (fields,) = http(lab.frames(talk.frames, [DECKY, DECKY_B, DECKY6], plain))
    assert (fields["src_ip"], fields["dst_ip"], fields["dst_port"]) == (client, server, 8_080)
    assert fields["direction"] == direction
    assert (fields["method"], fields["path"], fields["version"]) == ("POST", "/login?a=b", "1.1")
    assert (fields["host"], fields["user_agent"]) == ("decky.example", "curl/7.88.1")
    assert fields["referer"] == "r"
    assert fields["header_order"] == ("Host", "User-Agent", "Accept", "Referer", "Content-Length")
    assert (b64decode(fields["body"]), fields["body_length"]) == (FORM, len(FORM))
    assert (fields["status"], fields["server"]) == (401, "nginx")
    names_sent = [(name.encode(), b"") for name in fields["header_order"]]
    assert fields["ja4h"] == expected_ja4h(b"POST", b"1.1", names_sent)
    assert not {"role_reversed", "handshake"} & fields.keys()


@pytest.mark.parametrize("client", [PEER, CLIENT6])
def test_bytes_that_begin_like_a_hello_do_not_conceal_a_request(
    lab: ReplayLab, client: str
) -> None:
    hello = b"\x16\3\1\0\x40\1"
    asked = request(b"/x", headers=[*HEADERS, (b"X", hello)], body=bytes(100))
    server = DECKY if client == PEER else DECKY6
    talk = conversation(client, server).send(asked).answer(answer()).close()
    (fields,) = http(lab.frames(talk.frames, [DECKY, DECKY6]))
    assert (fields["method"], fields["path"], fields["host"]) == ("GET", "/x", "decky.example")
    # The head was cut there.
    assert "header_order" not in fields


def test_the_tls_side_opens_nothing_for_it(lab: ReplayLab) -> None:
    lab.frames(conversation().send(request()).answer(answer()).close().frames, [DECKY])
    assert lab.last is not None
    sums = lab.last.stats.sums()
    assert (sums["heads_opened"], sums["tls_connections"], sums["tls_malformed"]) == (1, 0, 0)


def test_split_segments_and_several_requests(lab: ReplayLab) -> None:
    talk = conversation()
    for number in range(4):
        talk.send(request(b"/%d" % number), 33).answer(answer(b"20%d OK" % number))
    fields = http(lab.frames(talk.close().frames, [DECKY]))
    assert [(one["path"], one["status"]) for one in fields] == [
        (f"/{number}", 200 + number) for number in range(4)
    ]


def test_pipelined_requests_get_their_own_answers(lab: ReplayLab) -> None:
    asked = request(b"/1", method=b"HEAD") + request(b"/2")
    answered = answer(b"301 x", body=b"").replace(b"Length: 0", b"Length: 9") + answer(b"404 x")
    talk = conversation().send(asked).answer(answered).close()
    fields = http(lab.frames(talk.frames, [DECKY]))
    assert [(one["path"], one["status"]) for one in fields] == [("/1", 301), ("/2", 404)]


def test_segments_out_of_order(lab: ReplayLab) -> None:
    asked = request(b"/order")
    talk = conversation().send(asked[:20]).send(asked[20:])
    first, second = talk.frames[-2:]
    talk.frames[-2:] = (
        replace(second, time_ns=first.time_ns),
        replace(first, time_ns=second.time_ns),
    )
    (fields,) = http(lab.frames(talk.close().frames, [DECKY]))
    assert fields["path"] == "/order"
    assert "ja4h" in fields


def test_a_request_without_an_answer_is_reported_at_the_end(lab: ReplayLab) -> None:
    (fields,) = http(lab.frames(conversation().send(request()).close().frames, [DECKY]))
    assert not {"status", "server"} & fields.keys()


def test_a_head_that_never_ends_is_reported_as_far_as_it_goes(lab: ReplayLab) -> None:
    """Slow clients of this kind occupy a server."""
    talk = conversation().send(b"GET /slow HTTP/1.1\r\nHost: a\r\nX-a: b\r\n").reset()
    (fields,) = http(lab.frames(talk.frames, [DECKY]))
    assert (fields["path"], fields["host"]) == ("/slow", "a")
    assert not {"ja4h", "header_order", "body_length"} & fields.keys()


def test_a_tunnel_has_the_request_and_the_hello(lab: ReplayLab) -> None:
    talk = conversation().send(request(b"a:443", method=b"CONNECT")).answer(answer(body=b""))
    events = lab.frames(talk.send(record(message(1, client_hello()))).close().frames, [DECKY])
    (fields,) = http(events)
    assert (fields["method"], fields["path"], fields["status"]) == ("CONNECT", "a:443", 200)
    assert "tls_client_hello" in names(events)


def test_a_request_to_an_ssh_server(lab: ReplayLab) -> None:
    talk = conversation().answer(SERVER_BANNER + b"\r\n").send(request()).close()
    events = lab.frames(talk.frames, [DECKY])
    (fields,) = http(events)
    assert "status" not in fields
    assert one(events, "ssh_server_banner")["ssh_version"] == SERVER_BANNER.decode()


def test_roles_may_be_reversed(lab: ReplayLab) -> None:
    talk = conversation().answer(request()).send(answer()).close()
    (fields,) = http(lab.frames(talk.frames, [DECKY]))
    assert (fields["role_reversed"], fields["status"], fields["src_ip"]) == (True, 200, PEER)


@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\n\r\n",
        b"USER anonymous\r\n",
        b"\x03\0\0\x13\x0e",
    ],
)
def test_other_protocols_have_no_request(lab: ReplayLab, data: bytes) -> None:
    events = lab.frames(conversation().send(data).close().frames, [DECKY])
    assert "http_request" not in names(events)


def test_http_can_be_turned_off(lab: ReplayLab) -> None:
    talk = conversation().send(request()).close()
    how = Settings(dedup_ttl=0.0, heads=("ssh",))
    assert "http_request" not in names(lab.frames(talk.frames, [DECKY], how))


def test_without_ja4plus_there_is_no_ja4h(lab: ReplayLab) -> None:
    talk = conversation().send(request()).close()
    (fields,) = http(lab.frames(talk.frames, [DECKY], Settings(dedup_ttl=0.0, ja4plus=False)))
    assert "ja4h" not in fields
    assert "header_order" in fields


def test_data_of_a_syn_is_read(lab: ReplayLab) -> None:
    asked = request(b"/fast")
    talk = Conversation(PEER, DECKY, server_port=80).syn(data=asked)
    talk.add(1, "SA", 0, 1 + len(asked), b"", talk.options)
    talk.sent[0] += len(asked)
    (fields,) = http(lab.frames(talk.ack().answer(answer()).close().frames, [DECKY]))
    assert (fields["path"], fields["status"]) == ("/fast", 200)


def test_repeats_are_suppressed_by_their_key(lab: ReplayLab) -> None:
    asked = [
        request(b"/a?x=1"),
        request(b"/a?x=2"),
        request(b"/a?y=1"),
        request(b"/a?x=3", body=b"b"),
    ]
    talks = [
        conversation(client_port=40_000 + n).send(one).answer(answer()).close()
        for n, one in enumerate(asked)
    ]
    how = Settings(dedup_ttl=300.0)
    events = lab.frames(in_time(*talks), [DECKY], how)
    assert [fields["path"] for fields in http(events)] == ["/a?x=1", "/a?y=1", "/a?x=3"]
    (summary,) = [s for s in of(events, "dedup_summary") if s["event"] == "http_request"]
    assert (summary["count"], summary["key"]) == (1, f"{DECKY}|8080|GET|/a?x|")


def test_with_the_peer_as_source_the_fields_of_the_decky_have_names_of_their_own(
    lab: ReplayLab,
) -> None:
    talk = conversation(DECKY, PEER).send(request(b"/arm7")).answer(answer()).close()
    (fields,) = http(lab.frames(talk.frames, [DECKY], AS_PEER))
    assert (fields["src_ip"], fields["path"], fields["server"]) == (PEER, "/arm7", "nginx")
    assert fields["decky_user_agent"] == "curl/7.88.1"
    assert {"decky_ja4h", "decky_header_order"} <= fields.keys()
    assert not {"user_agent", "ja4h", "header_order"} & fields.keys()


def test_what_a_decky_requests_has_no_credentials(lab: ReplayLab) -> None:
    """By default those of an attacker are shown, and those of the deckies replaced."""
    sent = request(b"/?token=abcdefgh", headers=[(b"Host", b"x"), (b"Cookie", b"sid=abcdefgh")])
    for ends, is_own in (((PEER, DECKY), False), ((DECKY, PEER), True)):
        talk = Conversation(*ends, server_port=80).open().send(sent).answer(answer())
        found = one(lab.frames(talk.close().frames, [DECKY]), "http_request")
        assert ("abcdefgh" in found["path"]) is not is_own
        assert found.get("redacted", False) is is_own
        assert ("ja4h" in found) is not is_own

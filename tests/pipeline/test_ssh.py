"""From frames to the events of SSH, through the real programs."""

from __future__ import annotations

from typing import Any

import pytest

from deckwire.config import Settings
from deckwire.events.event import Event
from deckwire.events.names import SSH_EVENTS
from tests.support.conversation import CLIENT as PEER
from tests.support.conversation import CLIENT6, DECKY, DECKY6, DECKY_B, Conversation, in_time
from tests.support.declared import check_declared
from tests.support.emitted import names, of, one
from tests.support.replaying import ReplayLab
from tests.support.ssh_wire import (
    CLIENT,
    CLIENT_BANNER,
    CLIENT_LISTS,
    SERVER,
    SERVER_BANNER,
    client_hassh,
    kexinit,
    packet,
    server_hassh,
)

pytestmark = pytest.mark.root

AS_PEER = Settings(dedup_ttl=0.0, outbound_source="peer")
LINE = CLIENT_BANNER + b"\r\n"


def talk(
    client: str = PEER, server: str = DECKY, *, is_reversed: bool = False, **how: Any
) -> Conversation:
    """An SSH connection up to NEWKEYS, with segments as programs send them."""
    conversation = Conversation(client, server, server_port=22, **how).open()
    sends = [conversation.send, conversation.answer]
    first, second = reversed(sends) if is_reversed else sends
    line, answer = CLIENT.index(b"\n") + 1, SERVER.index(b"\n") + 1
    second(SERVER[:answer])
    first(CLIENT[:line])
    offer = line + len(packet(kexinit()))
    first(CLIENT[line:offer], 300)
    second(SERVER[answer:], 500)
    first(CLIENT[offer:])
    return conversation.close()


def ssh(events: list[Event]) -> list[Event]:
    """The events of SSH, whose fields are as declared."""
    found = [event for event in events if event.name in SSH_EVENTS]
    check_declared(found)
    return found


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
def test_both_ends_have_an_event(lab: ReplayLab, client: str, server: str, direction: str) -> None:
    events = lab.frames(talk(client, server).frames, [DECKY, DECKY_B, DECKY6])
    mine, theirs = one(events, "ssh_client_banner"), one(events, "ssh_server_banner")
    assert len(ssh(events)) == 2
    for fields in (mine, theirs):
        assert (fields["src_ip"], fields["dst_ip"]) == (client, server)
        assert (fields["direction"], fields["dst_port"]) == (direction, 22)
        assert "role_reversed" not in fields
    assert (mine["ssh_version"], mine["hassh"]) == (CLIENT_BANNER.decode(), client_hassh())
    assert mine["hassh_algorithms"].encode() == b";".join(CLIENT_LISTS[at] for at in (0, 2, 4, 6))
    assert (mine["strict_kex"], mine["ext_info"]) == (True, True)
    assert theirs["ssh_version"] == SERVER_BANNER.decode()
    assert theirs["hassh_server"] == server_hassh()
    assert theirs["strict_kex"] is True
    assert "ext_info" not in theirs
    assert {event.name: event.severity for event in ssh(events)} == {
        "ssh_client_banner": 4,
        "ssh_server_banner": 6,
    }


def test_the_tls_side_opens_nothing_for_it(lab: ReplayLab) -> None:
    lab.frames(talk().frames, [DECKY])
    assert lab.last is not None
    sums = lab.last.stats.sums()
    assert (sums["heads_opened"], sums["tls_connections"], sums["tls_malformed"]) == (1, 0, 0)


def test_roles_may_be_reversed(lab: ReplayLab) -> None:
    events = ssh(lab.frames(talk(is_reversed=True).frames, [DECKY]))
    mine, theirs = one(events, "ssh_client_banner"), one(events, "ssh_server_banner")
    assert (mine["hassh"], theirs["hassh_server"]) == (client_hassh(), server_hassh())
    assert (mine["role_reversed"], theirs["role_reversed"]) == (True, True)
    assert mine["src_ip"] == theirs["src_ip"] == PEER


@pytest.mark.parametrize("is_reversed", [False, True], ids=["usual roles", "reversed roles"])
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_with_the_peer_as_source_no_banner_of_the_decky_is_filed_under_it(
    lab: ReplayLab, direction: str, is_reversed: bool
) -> None:
    ends = (PEER, DECKY) if direction == "inbound" else (DECKY, PEER)
    events = ssh(lab.frames(talk(*ends, is_reversed=is_reversed).frames, [DECKY], AS_PEER))
    # The peer is the SSH client in an inbound connection with the usual roles, and so on.
    peer_is_client = (direction == "inbound") != is_reversed
    expected = ["ssh_client_banner"] if peer_is_client else ["ssh_server_banner"]
    if (direction, is_reversed) == ("inbound", False):
        # The decky's answer, as everywhere.
        expected.append("ssh_server_banner")
    assert sorted(names(events)) == expected
    for event in events:
        fields = dict(event.fields)
        assert (fields["src_ip"], fields["dst_ip"]) == (PEER, DECKY)


@pytest.mark.parametrize(
    ("sent", "version"),
    [
        (b"SSH-2.0-scan\r\n", "SSH-2.0-scan"),
        (b"SSH-1.5-old\n", "SSH-1.5-old"),
        (b"SSH-2.0-no end", "SSH-2.0-no end"),
    ],
)
def test_a_banner_alone_is_an_event_without_a_hash(
    lab: ReplayLab, sent: bytes, version: str
) -> None:
    conversation = Conversation(server_port=22).open().send(sent).close()
    banner = one(ssh(lab.frames(conversation.frames, [DECKY])), "ssh_client_banner")
    assert banner["ssh_version"] == version
    assert not {name for name in banner if name.startswith("hassh")}


def test_a_cut_offer_has_no_hash(lab: ReplayLab) -> None:
    conversation = Conversation(server_port=22).open().send(LINE).send(packet(kexinit())[:-9])
    banner = one(lab.frames(conversation.close().frames, [DECKY]), "ssh_client_banner")
    assert banner["ssh_version"] == CLIENT_BANNER.decode()
    assert "hassh" not in banner


def test_hostile_bytes_of_a_banner_are_kept(lab: ReplayLab) -> None:
    conversation = Conversation(server_port=22).open().send(b'SSH-2.0-"]\x1b[2J\xff\0\r\n').close()
    banner = one(lab.frames(conversation.frames, [DECKY]), "ssh_client_banner")
    assert banner["ssh_version"].encode("utf-8", "surrogateescape") == b'SSH-2.0-"]\x1b[2J\xff\0'


def test_a_brute_force_is_one_event_for_each_decky(lab: ReplayLab) -> None:
    talks = [
        talk(PEER, decky, client_port=40_000 + n)
        for n, decky in enumerate([DECKY, DECKY, DECKY_B, DECKY])
    ]
    how = Settings(dedup_ttl=300.0)
    events = lab.frames(in_time(*talks), [DECKY, DECKY_B], how)
    assert sorted(banner["dst_ip"] for banner in of(events, "ssh_client_banner")) == [
        DECKY,
        DECKY_B,
    ]
    summaries = [s for s in of(events, "dedup_summary") if s["event"] == "ssh_client_banner"]
    assert sum(summary["count"] for summary in summaries) == 2

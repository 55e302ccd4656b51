"""What DECNET's files get is what DECNET's collector and ingester read."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.config import Settings, merge
from deckwire.events.event import STAMP, Event, Field
from deckwire.events.names import DECNET_EVENTS, EVENTS
from deckwire.output.outputs import read_outputs
from deckwire.output.sinks.fanout import Fanout
from deckwire.runtime.preparation import open_outputs
from tests.support.conversation import DECKY, Conversation
from tests.support.decnet_lines import check_pair, parse_line, parse_record, read_whole
from tests.support.flights import handshake
from tests.support.replaying import SETTINGS, ReplayLab
from tests.support.shared import CORPUS, captures, expected

_EACH = 12
"""One capture in so many is written to files."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads programs")


class Files:
    """DECNET's two files in a folder, and one with all events, all written by the profile."""

    def __init__(self, folder: Path) -> None:
        self.log, self.twin = folder / "decnet.log", folder / "decnet.json"
        self.all = folder / "all.log"
        options = {"profile": "decnet", "output": (f"file:{self.log}", f"file:{self.all}")}
        self.settings: Settings = merge({}, options)

    def write(self, events: Sequence[Event]) -> list[dict[str, object]]:
        """Write events and return DECNET's records, after a look at each line and record."""
        fanout = Fanout(open_outputs(self.settings))
        fanout.start()
        for event in events:
            assert fanout.offer(event)
        fanout.close(60)
        assert fanout.losses() == {}
        lines, records = read_whole(self.log.read_bytes()), read_whole(self.twin.read_bytes())
        assert len(read_whole(self.all.read_bytes())) == len(events)
        return [check_pair(*pair) for pair in zip(lines, records, strict=True)]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture(scope="module")
def lab() -> Iterator[ReplayLab]:
    with ReplayLab() as found:
        yield found


def check_attacker(record: dict[str, object]) -> None:
    """The attacker is the whole address of the packet, in its shortest form."""
    fields = record["fields"]
    assert isinstance(fields, dict)
    assert record["attacker_ip"] == fields["src_ip"]
    assert str(ipaddress.ip_address(str(record["attacker_ip"]))) == record["attacker_ip"]


@needs_root
@pytest.mark.root
@pytest.mark.parametrize(("decky", "peer"), [(DECKY, None), ("2001:db8::a", "2001:db8::c:1")])
def test_a_handshake_is_read_whole(
    lab: ReplayLab, files: Files, decky: str, peer: str | None
) -> None:
    flight = handshake(ssl.TLSVersion.TLSv1_2)
    talk = Conversation() if peer is None else Conversation(client=peer, server=decky)
    frames = talk.open().send(flight.client).answer(flight.server).close().frames
    events = lab.frames(frames, [decky])
    records = files.write(events)
    of_tls = set(DECNET_EVENTS) - {"ssh_client_banner"}
    assert Counter(record["event_type"] for record in records) == Counter(of_tls)
    assert {event.name for event in events} - of_tls == {"tcp_handshake"}
    for record in records:
        check_attacker(record)
        assert record["service"] == "sniffer"
        assert record["decky"] == "d-0"
        if peer is not None:
            assert record["attacker_ip"] == peer


@needs_root
@pytest.mark.root
@pytest.mark.skipif(not captures(), reason="the capture corpus is not installed")
def test_every_line_of_captures_is_read_whole(lab: ReplayLab, files: Files) -> None:
    """Some captures, because tests/corpus looks at the lines of all."""
    events: list[Event] = []
    for name in (*captures()[::_EACH], "foxio-ssh2.pcapng"):
        streams = [s for s in expected(name)["streams"] if s["transport"] == "tcp"]
        deckies = sorted({s["dst"] for s in streams})
        # Fewer events than a sink's queue holds.
        events += lab.capture(CORPUS / "pcap" / name, deckies, SETTINGS)[:500]
    assert len(events) > 100
    wanted = [event for event in events if event.name in DECNET_EVENTS]
    records = files.write(events)
    assert [record["event_type"] for record in records] == [event.name for event in wanted]
    assert {record["event_type"] for record in records} == set(DECNET_EVENTS)
    for record, event in zip(records, wanted, strict=True):
        check_attacker(record)
        assert record["attacker_ip"] == event.source
        fields = record["fields"]
        assert isinstance(fields, dict)
        names = [name for name, _ in (*event.fields, *event.stamp)]
        assert names == list(fields) or "cut" in fields
        assert list(fields)[-3:] == list(STAMP)
    assert any(":" in str(record["attacker_ip"]) for record in records)


texts = st.one_of(st.text(max_size=40), st.text('"\\]\n=[ \x1b', max_size=40))
values = st.one_of(texts, st.integers(), st.booleans(), st.lists(texts, max_size=3).map(tuple))
fields = st.dictionaries(st.sampled_from(["sni", "alpn", "issuer", "n", "ja4"]), values)
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(st.lists(st.tuples(st.sampled_from(EVENTS), addresses, fields, st.text(max_size=12))))
def test_any_events_leave_whole_lines_and_records_of_decnets_events_alone(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[str, str, dict[str, object], str]],
) -> None:
    files = Files(tmp_path_factory.mktemp("lines"))
    events = []
    for number, (name, address, given_, host) in enumerate(drawn):
        parts: list[Field] = [("src_ip", address), *given_.items()]  # type: ignore[list-item]
        events.append(Event(name, number, host, tuple(parts)))
    records = files.write(events)
    sources = [event.fields[0][1] for event in events if event.name in DECNET_EVENTS]
    assert [record["attacker_ip"] for record in records] == sources


@pytest.mark.parametrize(
    "line",
    [
        '<134>1 2026-11-24T03:01:26.453503+00:00 web sniffer - tls_session [x@1 src_ip="1.2.3.4"]',
        '<134>1 2026-11-24T03:01:26.453503+00:00 web sniffer 7 tls_session [relay@55555 a="b"]',
        '<134>1 2026-11-24T03:01:26.453503+00:00 web sniffer - tls_session [relay@55555 a="\\]"]',
        "<134>1 2026-11-24T03:01:26.453503+00:00 web sniffer - tls_session [relay@55555 a=b]",
        "nonsense",
    ],
)
def test_the_stand_in_refuses_what_the_collector_cannot_read(line: str) -> None:
    with pytest.raises(AssertionError):
        parse_line(line)


def test_the_stand_in_refuses_what_the_ingester_cannot_store() -> None:
    good = {
        "timestamp": "2026-11-24 03:01:26",
        "decky": "web",
        "service": "sniffer",
        "event_type": "tls_session",
        "attacker_ip": "192.0.2.1",
        "fields": {"n": "1"},
        "msg": "",
        "raw_line": "x",
    }
    assert parse_record(json.dumps(good)) == good
    for wrong in (
        {**good, "fields": {"n": 1}},
        {**good, "timestamp": "2026-11-24T03:01:26"},
        {**good, "attacker_ip": None},
        {key: value for key, value in good.items() if key != "decky"},
        {**good, "event": "tls_session"},
    ):
        with pytest.raises((AssertionError, ValueError)):
            parse_record(json.dumps(wrong))


def test_the_profile_writes_where_decnet_reads() -> None:
    assert read_outputs(["file:/var/log/decnet/decnet.log"], "")[0].to == (
        merge({}, {"profile": "decnet"}).outputs[0].to
    )

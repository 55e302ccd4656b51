"""tcp_anomaly against docs/events.md."""

from __future__ import annotations

import pytest

from deckwire.events.anomaly import anomaly_event, headline
from deckwire.events.client import describe
from deckwire.events.event import INFORMATIONAL, WARNING, Event
from deckwire.output.syslog import SyslogFormat
from deckwire.tcp.anomaly import BELIEVED, Anomaly, Technique
from deckwire.tls.messages import ClientHello, parse_client_hello
from tests.support.event_samples import (
    ADDRESSES,
    CHOICES,
    CLIENT,
    DECKY,
    TAIL,
    TIME_NS,
    context,
    names,
    value,
)
from tests.support.flights import client_hello, vector

SEEN = ["technique", "evidence", "believed"]


def make(
    technique: Technique = Technique.REFUSED_RST,
    evidence: str = "flags R",
    *,
    from_client: bool | None = True,
    hello: ClientHello | None = None,
    has_ports: bool = True,
    proven: bool = True,
) -> Event:
    anomaly = Anomaly(technique, evidence)
    where = context()
    return anomaly_event(
        headline(where, TIME_NS, anomaly, proven=proven),
        where,
        anomaly,
        from_client=from_client,
        client=None if hello is None else describe(hello, CHOICES),
        has_ports=has_ports,
        unseen=not proven,
    )


def test_fields_and_severity() -> None:
    event = make()
    assert names(event) == [*ADDRESSES, *SEEN, "sender", *TAIL]
    assert event.severity == WARNING
    assert value(event, "technique") == "refused_rst"
    assert value(event, "believed") == BELIEVED[Technique.REFUSED_RST]


@pytest.mark.parametrize(("from_client", "word"), [(True, "client"), (False, "server")])
def test_the_sender(from_client: bool, word: str) -> None:
    assert value(make(from_client=from_client), "sender") == word


def test_what_is_of_no_single_frame_has_no_sender() -> None:
    assert names(make(from_client=None)) == [*ADDRESSES, *SEEN, *TAIL]


def test_another_hello_has_its_fingerprints() -> None:
    hello = parse_client_hello(client_hello((0, vector(2, b"\0" + vector(2, b"a.example")))))
    event = make(Technique.CONTESTED_HELLO, hello=hello)
    assert names(event) == [*ADDRESSES, *SEEN, "sender", "ja3", "ja4", "sni", *TAIL]
    assert value(event, "sni") == "a.example"
    assert value(event, "ja4") == describe(hello, CHOICES).ja4


def test_a_packet_without_ports_has_no_connection() -> None:
    event = make(Technique.TOO_MANY_HEADERS, has_ports=False)
    assert names(event) == ["src_ip", "dst_ip", *SEEN, "sender", "handshake", "direction"]


def test_anybody_can_forge_a_packet_of_no_connection() -> None:
    event = make(proven=False)
    assert names(event) == [*ADDRESSES, *SEEN, "sender", "handshake", *TAIL]
    assert value(event, "handshake") == "unseen"
    assert event.severity == INFORMATIONAL


def test_it_is_deduplicated_by_source_decky_and_technique() -> None:
    event = make(evidence="flags R seq 1")
    assert (event.source, event.fingerprint) == (CLIENT, f"{DECKY}|refused_rst")
    assert make(evidence="flags R seq 2").fingerprint == event.fingerprint


def test_hostile_evidence_stays_in_its_value() -> None:
    line = SyslogFormat().line(make(evidence='x"] \n<132>1 forged'))
    assert line.count(b"\n") <= 1
    assert b'forged"' in line

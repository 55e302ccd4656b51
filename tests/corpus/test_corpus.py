"""Every fingerprint of every TCP stream in the capture corpus equals that of independent tools.

Every event of the captures also makes a line and a record that DECNET reads whole.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest

from deckwire.abi import structs as abi
from deckwire.events.event import Event
from tests.support.declared import check_declared
from tests.support.decnet_lines import check_events
from tests.support.fingerprint_frames import syns_of
from tests.support.replaying import SETTINGS, ReplayLab
from tests.support.sequences import Four, sequence_fields, shown
from tests.support.shared import CORPUS, captures, expected

pytestmark = pytest.mark.root

FIELDS = (
    *("ja3", "ja3s", "ja4", "ja4_r", "ja4_o", "ja4_ro", "ja4s", "ja4s_r", "ja4x"),
    *("ja4t", "ja4ts", "ja4l_c", "ja4l_s", "sni", "alpn"),
)

TUNNELS = {
    "foxio-gre-erspan-vxlan.pcap": "GRE, ERSPAN, VXLAN",
    "ndpi-6in4tunnel.pcap": "6in4",
    "ndpi-false_positives.pcapng": "GTP",
    "ndpi-http_origin_different_than_host.pcap": "GTP",
    "ndpi-tls_change_cipher.pcap": "GTP",
}
"""Captures whose connections are inside a tunnel.

The BPF programs read the outer IP header. It has no address of a decky, so there are no events.
"""

EDITED = "arkime-badcurveball.pcap"

MISSING = {
    # The server's SYN-ACK was captured, but no ACK and no TLS followed. The fields ja4ts and ja4l_s
    # belong to the events tcp_handshake and tls_session, which need one of the two.
    ("made1-synack-retransmit-rst.pcap", 0): ("ja4ts", "ja4l_s"),
    ("ndpi-sites.pcapng", 12): ("ja4ts", "ja4l_s"),
    ("ndpi-sites.pcapng", 18): ("ja4ts", "ja4l_s"),
    ("ndpi-sites.pcapng", 20): ("ja4ts", "ja4l_s"),
    ("ndpi-sites.pcapng", 28): ("ja4ts", "ja4l_s"),
    ("ndpi-whatsapp_login_call.pcap", 12): ("ja4ts", "ja4l_s"),
    # The capture lost the server's flight. The client's certificate acknowledges it, and so bytes
    # that were never sent as far as the capture shows.
    ("ndpi-tls_client_certificate_with_missing_server_one.pcapng", 0): ("ja4x",),
    ("ndpi-tls_client_certificate_with_missing_server_one.pcapng", 1): ("ja4x",),
    # The capture was edited: its SYN has a right checksum and its ClientHello a wrong one. A server
    # would not have answered. With checksums off, all is there.
    (EDITED, 0): ("ja3", "ja4", "ja4_r", "ja4_o", "ja4_ro", "sni", "alpn"),
}
"""Known differences: the fields that a stream of a capture lacks, by capture and stream number."""


_IDS: dict[str, tuple[str, int, str]] = {}
"""What an id of any capture is about."""


def fields_by_stream(events: list[Event]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the first value of each field by 4-tuple, and ja4x of all certificates."""
    streams: dict[tuple[Any, ...], dict[str, Any]] = defaultdict(dict)
    for event in events:
        fields = dict(event.fields)
        four = tuple(fields[name] for name in ("src_ip", "src_port", "dst_ip", "dst_port"))
        stream = streams[four]
        for name, value in fields.items():
            if name == "ja4x_chain":
                stream.setdefault("ja4x", []).extend(value)
            elif name in {"sni", "alpn"} and event.name != "tls_client_hello":
                continue
            elif name != "ja4x":
                stream.setdefault(name, value)
    return streams


def comparable(value: Any) -> Any:
    """Return a value of an event as in the corpus, which has protocol names as Latin-1."""
    if isinstance(value, tuple):
        return [text.encode("utf-8", "surrogateescape").decode("latin-1") for text in value]
    return value


def sequence_differences(name: str, events: list[Event]) -> tuple[list[str], int]:
    """Return a line for each event of a SYN with other classes, and the number of right ones."""
    expected_fields = sequence_fields(syns_of(CORPUS / "pcap" / name))
    found: dict[Four, list[dict[str, object]]] = defaultdict(list)
    for event in events:
        if event.name == "tcp_syn_fingerprint":
            fields = dict(event.fields)
            four: Any = tuple(fields[n] for n in ("src_ip", "src_port", "dst_ip", "dst_port"))
            found[four].append(shown(fields))
    wrong = [
        f"{four}: {got}, not {expected_fields[four]}"
        for four, got in found.items()
        if got != expected_fields[four]
    ]
    return wrong, sum(bool(fields) for got in found.values() for fields in got)


def check_ids(events: list[Event]) -> None:
    """Events have ids of their own. Only an event that two captures have may have one id twice."""
    assert len({event.event_id for event in events}) == len(events)
    for event in events:
        about = event.name, event.time_ns, event.subject
        assert _IDS.setdefault(event.event_id, about) == about


def differences(name: str, lab: ReplayLab) -> tuple[list[str], dict[str, int]]:
    """Return a line for each unexpected field, and the number of expected ones by field."""
    document = expected(name)
    streams = [s for s in document["streams"] if s["transport"] == "tcp"]
    events = lab.capture(CORPUS / "pcap" / name, sorted({s["dst"] for s in streams}))
    check_events(events)
    check_declared(events)
    check_ids(events)
    found = fields_by_stream(events)
    wrong: list[str] = []
    right: dict[str, int] = defaultdict(int)
    for stream in streams:
        got = found[stream["src"], stream["sport"], stream["dst"], stream["dport"]]
        for field in FIELDS:
            if field not in stream:
                continue
            accepted = [stream[field]]
            accepted += [entry["value"] for entry in stream.get("accept", {}).get(field, [])]
            value = comparable(got.get(field))
            if value in accepted:
                right[field] += 1
            elif field not in MISSING.get((name, stream["stream"]), ()):
                wrong.append(f"stream {stream['stream']}: {field}={value!r}, not {accepted[0]!r}")
    more, right["isn_class"] = sequence_differences(name, events)
    return wrong + more, right


@pytest.mark.skipif(not captures(), reason="the capture corpus is not installed")
@pytest.mark.parametrize("name", [name for name in captures() if name not in TUNNELS])
def test_all_fields_of_all_streams_are_as_expected(
    name: str, lab: ReplayLab, score: dict[str, dict[str, int]]
) -> None:
    wrong, right = differences(name, lab)
    score[name] = right
    assert not wrong, "\n".join([name, *wrong])


@pytest.mark.skipif(not captures(), reason="the capture corpus is not installed")
@pytest.mark.parametrize("name", sorted(TUNNELS))
def test_a_capture_with_a_tunnel_loses_no_sample(name: str, lab: ReplayLab) -> None:
    differences(name, lab)
    assert lab.last is not None
    sums = lab.last.stats.sums()
    assert sums["samples_lost"] == 0
    assert sums["samples_received"] == sums["samples_submitted"]


@pytest.mark.skipif(not captures(), reason="the capture corpus is not installed")
def test_a_capture_that_is_replayed_again_gives_the_same_ids(lab: ReplayLab) -> None:
    """And so does one whose repeats are suppressed: it gives fewer, its summaries apart."""
    suppressing = replace(SETTINGS, dedup_ttl=300.0)
    for name in captures()[::9]:
        deckies = sorted({s["dst"] for s in expected(name)["streams"] if s["transport"] == "tcp"})
        first, again, fewer = (
            [
                event.event_id
                for event in lab.capture(CORPUS / "pcap" / name, deckies, settings)
                if event.name != "dedup_summary"
            ]
            for settings in (SETTINGS, SETTINGS, suppressing)
        )
        assert first == again
        assert set(fewer) <= set(first)


@pytest.mark.skipif(not captures(), reason="the capture corpus is not installed")
def test_with_checksums_off_an_edited_capture_gives_all_fields(lab: ReplayLab) -> None:
    settings = lab.loaded.maps["settings"]
    ((slot, value),) = settings.items()
    settings.update(slot, abi.SETTINGS.build({**abi.SETTINGS.parse(value), "checksums": 0}))
    _, right = differences(EDITED, lab)
    settings.update(slot, value)
    assert {*right} >= {*MISSING[EDITED, 0]}


@pytest.mark.skipif(not captures(), reason="the capture corpus is not installed")
def test_each_known_difference_still_exists(lab: ReplayLab) -> None:
    """A field that is no longer missing must be removed from MISSING."""
    for (name, number), fields in MISSING.items():
        stream = next(
            s
            for s in expected(name)["streams"]
            if s["transport"] == "tcp" and s["stream"] == number
        )
        events = lab.capture(CORPUS / "pcap" / name, [stream["dst"]])
        got = fields_by_stream(events)[
            stream["src"], stream["sport"], stream["dst"], stream["dport"]
        ]
        for field in fields:
            assert field not in got, (name, number, field)

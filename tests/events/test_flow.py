"""tcp_flow_timing against docs/events.md."""

from __future__ import annotations

from typing import Any

import pytest

from deckwire.events.event import INFORMATIONAL
from deckwire.events.flow import flow_event, headline, is_probe
from deckwire.fingerprints.scanners import Tool
from deckwire.tcp.flow import FlowRecord, FlowSums, SideRecord
from tests.support.event_samples import ADDRESSES, MS, TAIL, context, names, params

KEPT = [
    *ADDRESSES,
    *("packets", "bytes", "duration_s", "mean_iat_ms", "min_iat_ms", "max_iat_ms", "retransmits"),
]
ADDED = [
    *("retransmits_server", "bytes_client", "bytes_server", "packets_client", "packets_server"),
    "close",
]


def record(**changes: Any) -> FlowRecord:
    """Seven packets in 1.2345 s; end 1 opened it."""
    whole = FlowRecord(
        born_ns=10 * MS,
        last_ns=1_244_500_000,
        min_iat_ns=123_456,
        max_iat_ns=1_000_000_000,
        close="fin",
        midstream=False,
        end_sent=True,
        client=1,
        sides=(SideRecord(3, 2_000, 2), SideRecord(4, 517, 1)),
        rtt_client_us=30_100,
        rtt_server_us=2_400,
        rtt_min_us=None,
    )
    return whole._replace(**changes)


HEADLINE = headline(context(), 9, record())


def test_a_summary_gets_its_figures() -> None:
    assert HEADLINE.sums == FlowSums(7, 2_517, 1_234_500_000, 2_517)
    assert HEADLINE.label == "198.51.100.7:443"
    jumped = headline(context(), 9, record(timed=False))
    assert jumped.sums == FlowSums(7, 2_517, None, 2_517)
    assert jumped.sums.plus(HEADLINE.sums) == FlowSums(14, 5_034, 1_234_500_000, 2_517)


def test_fields_in_order() -> None:
    event = flow_event(HEADLINE, context(), record(), 1, "fin")
    assert names(event) == [*KEPT, *ADDED, "rtt_client_us", "rtt_server_us", *TAIL]
    assert (event.name, event.severity, event.host) == (
        "tcp_flow_timing",
        INFORMATIONAL,
        "web-1",
    )
    assert (event.time_ns, event.source, event.fingerprint) == (
        9,
        "192.0.2.9",
        "198.51.100.7|443",
    )


def test_a_tool_stands_before_the_context() -> None:
    event = flow_event(
        HEADLINE, context(), record(), 1, "rst", Tool("nmap", "connect scan; no data")
    )
    assert names(event)[-2 - len(TAIL) :] == ["tool", "tool_evidence", *TAIL]
    printed = params(event)
    assert (printed["tool"], printed["tool_evidence"]) == ("nmap", "connect scan; no data")


def test_texts() -> None:
    printed = params(flow_event(HEADLINE, context(), record(), 1, "fin"))
    assert [printed[name] for name in [*KEPT[4:], *ADDED]] == [
        *("7", "2517", "1.234", "205.75", "0.12", "1000.0", "1"),
        *("2", "517", "2000", "4", "3", "fin"),
    ]


def test_the_client_may_be_either_end() -> None:
    printed = params(flow_event(HEADLINE, context(), record(client=0), 0, "rst"))
    assert (printed["packets_client"], printed["bytes_client"], printed["retransmits"]) == (
        "3",
        "2000",
        "2",
    )
    assert printed["retransmits_server"] == "1"


def test_one_packet_has_no_intervals() -> None:
    single = record(
        born_ns=5,
        last_ns=5,
        min_iat_ns=None,
        max_iat_ns=None,
        sides=(SideRecord(1, 10, 0), SideRecord(0, 0, 0)),
    )
    printed = params(flow_event(HEADLINE, context(), single, 0, "idle"))
    figures = [printed[n] for n in ("duration_s", "mean_iat_ms", "min_iat_ms", "max_iat_ms")]
    assert figures == ["0.0"] * 4


TIMES = ("duration_s", "mean_iat_ms", "min_iat_ms", "max_iat_ms")


def without(*left_out: str) -> list[str]:
    return [name for name in [*KEPT, *ADDED] if name not in left_out]


def test_intervals_that_were_not_measured_are_left_out() -> None:
    stepped = record(min_iat_ns=None, max_iat_ns=None, rtt_client_us=None, rtt_server_us=None)
    event = flow_event(HEADLINE, context(), stepped, 1, "fin")
    assert names(event) == [*without("min_iat_ms", "max_iat_ms"), *TAIL]
    assert params(event)["duration_s"] == "1.234"


@pytest.mark.parametrize(
    "timeless",
    [
        record().without_times(),
        record(rtt_client_us=None, rtt_server_us=None)._replace(last_ns=9 * MS),
        record(rtt_client_us=None, rtt_server_us=None, min_iat_ns=None)._replace(last_ns=10 * MS),
    ],
    ids=["the clock jumped", "the last stamp is the earliest", "no stamp after the first"],
)
def test_a_duration_that_nobody_knows_is_left_out(timeless: FlowRecord) -> None:
    event = flow_event(HEADLINE, context(), timeless, 1, "fin")
    assert names(event) == [*without(*TIMES), *TAIL]


@pytest.mark.parametrize(
    ("client", "unknown"),
    [(0, ("retransmits_server", "bytes_server")), (1, ("retransmits", "bytes_client"))],
)
def test_figures_of_an_unseen_end_are_left_out(client: int, unknown: tuple[str, ...]) -> None:
    sides = SideRecord(7, 2_000, 2), SideRecord(0, 0, 0)
    half = record(sides=sides, rtt_client_us=None, rtt_server_us=None)
    event = flow_event(HEADLINE, context(), half, client, "idle")
    assert names(event) == [*without(*unknown), *TAIL]
    assert sorted(params(event)[f"packets_{end}"] for end in ("client", "server")) == ["0", "7"]


def test_unknown_round_trips_are_left_out() -> None:
    event = flow_event(
        HEADLINE, context(), record(rtt_client_us=None, rtt_server_us=None), 1, "idle"
    )
    assert names(event) == [*KEPT, *ADDED, *TAIL]
    half = flow_event(HEADLINE, context(), record(rtt_client_us=None), 1, "idle")
    assert names(half) == [*KEPT, *ADDED, "rtt_server_us", *TAIL]


def test_the_shortest_round_trip_is_there_if_one_was_measured() -> None:
    event = flow_event(HEADLINE, context(), record(rtt_min_us=0), 1, "fin")
    assert names(event) == [*KEPT, *ADDED, "rtt_client_us", "rtt_server_us", "rtt_min_us", *TAIL]
    assert params(event)["rtt_min_us"] == "0"


@pytest.mark.parametrize(
    ("packets", "retransmits", "duration_ns", "probe"),
    [
        (3, 0, 999_999_999, True),
        (4, 0, 1, False),
        (3, 1, 1, False),
        (3, 0, 1_000_000_000, False),
    ],
)
def test_scan_probes(packets: int, retransmits: int, duration_ns: int, probe: bool) -> None:
    sides = SideRecord(packets - 1, 0, retransmits), SideRecord(1, 0, 0)
    touched = record(born_ns=0, last_ns=duration_ns, sides=sides)
    assert is_probe(touched) is probe

"""Samples of anomalies: what they say, and that a flood of them costs the agent nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deckwire.abi.flow_key import ends
from deckwire.abi.samples import AnomalySample
from deckwire.tables.suppression import Suppression
from deckwire.tcp.anomaly import Technique
from tests.support.bpf_frames import CLIENT6, DECKY6, DECKY6_B, TCP, Talk, ethernet, extension, ipv6
from tests.support.bpf_harness import MS, SECOND, Kernel, Wait

pytestmark = pytest.mark.root

DSTOPTS = 60
CLIENT_BYTES = 1_048_576
"""Handshake bytes of a client: TLS_CLIENT_BYTES."""
TOO_MANY = 20
"""More extension headers than any bound allows."""


def headers(source: str = CLIENT6, target: str = DECKY6) -> bytes:
    """A frame with too many extension headers."""
    payload = bytes(20)
    following = TCP
    for _ in range(TOO_MANY):
        payload = extension(DSTOPTS, following, payload)
        following = DSTOPTS
    return ethernet(ipv6(payload, source, target, next_header=DSTOPTS))


def anomalies(kernel: Kernel) -> list[AnomalySample]:
    return [sample for sample in kernel.samples() if isinstance(sample, AnomalySample)]


def test_a_packet_without_ports(kernel: Kernel) -> None:
    kernel.feed(headers())
    (sample,) = anomalies(kernel)
    assert sample.anomaly.technique is Technique.TOO_MANY_HEADERS
    assert sample.sender == sample.client
    client = ends(sample.key, sample.client)
    assert (client.client_port, client.server_port) == (0, 0)
    assert client.client[-1] != client.server[-1]
    assert sample.anomaly.evidence == "the TCP header was not read"
    assert kernel.raised() == {"ignored_ext_headers": 1, "anomalies": 1}
    kernel.check()


def test_a_frame_of_no_decky_is_no_anomaly(kernel: Kernel) -> None:
    kernel.feed(headers(target="2001:db8::dead"))
    assert not anomalies(kernel)
    assert "anomalies" not in kernel.raised()


@pytest.mark.parametrize("first_client", [True, False])
def test_a_segment_of_a_connection_says_what_was_expected(
    kernel: Kernel, first_client: bool
) -> None:
    """More handshake bytes than a direction may have: the only such segment without a rule."""
    ports = (40_000, 443) if first_client else (443, 40_000)
    talk = Talk(client_port=ports[0], server_port=ports[1])
    record = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc" + bytes(0x4000 - 4)
    kernel.feed(*talk.opened())
    found = []
    for at in range(1, CLIENT_BYTES + 2 * len(record), len(record)):
        for start in range(0, len(record), 2_048):
            part = record[start : start + 2_048]
            end = at + start + len(part)
            kernel.feed(talk.c("A", at + start, 1, part), talk.s("A", 1, end))
        found += anomalies(kernel)
    (sample,) = found
    assert sample.anomaly.technique is Technique.EXCESS_HANDSHAKE
    assert sample.sender == sample.client == kernel.flow().totals.client
    assert sample.born_ns == kernel.flow().totals.born_ns
    assert "flags A seq " in sample.anomaly.evidence
    assert ", expected seq " in sample.anomaly.evidence
    kernel.check()


def test_a_flood_ends_in_the_kernel(kernel: Kernel) -> None:
    """The agent decides once; then the slot of the signature counts the rest."""
    kernel.feed(headers())
    (first,) = anomalies(kernel)
    suppression: Suppression[str] = Suppression(kernel.loaded.maps["anomaly_seen"])
    suppression.open(first.signature, "window", first.time_ns + 300 * SECOND)
    kernel.feed(Wait(2 * SECOND), *[headers()] * 1_000)
    assert not anomalies(kernel)
    assert kernel.raised()["anomalies_suppressed"] == 1_000
    (counted,) = suppression.over(None)
    assert (counted.events, counted.window) == (1_000, "window")
    kernel.check()


def test_a_lost_sample_suppresses_for_a_second_only(kernel: Kernel) -> None:
    kernel.feed(headers(), headers(), Wait(SECOND + MS), headers())
    assert len(anomalies(kernel)) == 2
    assert kernel.raised()["anomalies_suppressed"] == 1


def test_another_decky_and_another_source_are_anomalies_of_their_own(kernel: Kernel) -> None:
    kernel.feed(headers(), headers(target=DECKY6_B), headers("2001:db8:1::a"))
    found = anomalies(kernel)
    assert len({sample.signature for sample in found}) == len(found) == 3


def test_forged_sources_share_one_budget(kernel: Kernel) -> None:
    """Each has a slot of its own, so only the budget bounds them: 200 at once, 100 a second."""
    sources = [f"2001:db8:{number:x}::1" for number in range(1, 1_001)]
    kernel.feed(*[headers(source) for source in sources])
    found = len(anomalies(kernel))
    assert 200 <= found <= 301
    assert kernel.raised()["anomalies_over_budget"] >= 600
    kernel.check()


def test_a_source_has_a_tenth_of_the_budget(kernel: Kernel) -> None:
    """An IPv6 attacker owns a /64: its addresses share a budget, and leave the rest to others."""
    kernel.feed(*[headers(f"2001:db8:1::{number:x}") for number in range(1, 201)])
    assert 20 <= len(anomalies(kernel)) <= 23
    kernel.feed(headers("2001:db8:2::1"))
    assert len(anomalies(kernel)) == 1


def test_without_dedup_only_the_budget_bounds(kernel: Kernel) -> None:
    kernel.settings(dedup=0)
    kernel.feed(headers(), headers())
    assert len(anomalies(kernel)) == 2


def test_nothing_else_changes(kernel: Kernel) -> None:
    talk = replace(Talk(client=CLIENT6, server=DECKY6))
    kernel.feed(*talk.opened())
    before = kernel.flow()
    kernel.feed(headers())
    assert kernel.flow() == before


@pytest.mark.parametrize(
    ("frame", "is_anomaly"),
    [
        (Talk().c("A", 1, 500), False),
        (Talk().c("A", 1, 1 + 64_240), False),
        (Talk().c("A", 1, 2 + 64_240), True),
        (Talk().c("PA", 1, 500, b"x"), True),
        (Talk().c("FA", 1, 500), True),
    ],
    ids=["an ACK", "of all the window", "beyond the window", "with data", "with a FIN"],
)
def test_an_ack_before_its_segment_is_no_anomaly(
    kernel: Kernel, frame: bytes, is_anomaly: bool
) -> None:
    """A capture may have them in this order. It is not believed, until the segment comes."""
    kernel.feed(*Talk().opened(), frame)
    assert kernel.raised()["refused_ack_unsent"] == 1
    assert bool(anomalies(kernel)) == is_anomaly

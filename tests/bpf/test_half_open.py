"""From a SYN to a connection: which packet enters which table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.flow_key import ends
from deckwire.abi.samples import HandshakeSample, SegmentSample, SynSample
from deckwire.tcp.addresses import address_text
from tests.support.bpf_frames import (
    CLIENT,
    CLIENT6,
    CLIENT_HELLO,
    DECKY,
    DECKY6,
    LINUX_OPTIONS,
    SERVER_HELLO,
    TALK6,
    Talk,
)
from tests.support.bpf_harness import (
    MS,
    SECOND,
    SMALL_TABLES,
    START_NS,
    Kernel,
    Wait,
    ports,
    segments,
)
from tests.support.flights import SSL2

pytestmark = pytest.mark.root

Steps = Sequence[bytes | Wait]

CLOCK_WRAPS_NS = 2**32 << 20
"""When half_open_clock() begins anew: after 52 days."""

TALKS = {
    "IPv4": Talk(),
    "IPv6": TALK6,
    "client at the other end of the key": Talk(client_port=443, server_port=40_000),
    "equal ports": Talk(client_port=53, server_port=53),
    "equal ports, other order": Talk(DECKY, CLIENT, client_port=53, server_port=53),
    "IPv6, equal ports": replace(TALK6, client_port=53, server_port=53),
    "IPv6, equal ports, other order": Talk(DECKY6, CLIENT6, client_port=53, server_port=53),
    "sequence numbers that wrap": Talk(client_iss=0xFFFF_FFFF, server_iss=0xFFFF_FFFF),
}


class Case(NamedTuple):
    about: str
    steps: Callable[[Talk], Steps]
    samples: str
    raised: dict[str, int]
    """Every counter that is not zero, except those of samples."""
    sizes: tuple[int, int, int]
    """Entries in half_open, flows and midstream_flows afterwards."""


HALF = {"half_open_inserts": 1}
BEGUN = {
    "half_open_inserts": 1,
    "half_open_deletes": 1,
    "handshakes": 1,
    "flow_inserts": 1,
}

CASES = [
    Case("a SYN", lambda t: [t.c("S")], "syn", {"frames_syn": 1, **HALF}, (1, 0, 0)),
    Case(
        "a SYN and its SYN-ACK",
        lambda t: [t.c("S"), t.s("SA", 0, 1)],
        "syn",
        {"frames_syn": 1, "frames_synack": 1, **HALF},
        (1, 0, 0),
    ),
    Case(
        "a handshake",
        lambda t: t.opened(),
        "syn handshake",
        {"frames_syn": 1, "frames_synack": 1, "frames_flow": 1, **BEGUN},
        (0, 1, 0),
    ),
    Case(
        "a handshake whose SYN was not seen",
        lambda t: t.opened()[1:],
        "handshake",
        {"frames_synack": 1, "frames_flow": 1, **BEGUN},
        (0, 1, 0),
    ),
    Case(
        "a handshake whose final ACK was not seen: data completes it",
        lambda t: [t.c("S"), t.s("SA", 0, 1), t.c("PA", 1, 1, b"data")],
        "syn handshake",
        {"frames_syn": 1, "frames_synack": 1, "frames_flow": 1, **BEGUN},
        (0, 1, 0),
    ),
    Case(
        "data that overtakes the final ACK",
        lambda t: [t.c("S"), t.s("SA", 0, 1), t.c("PA", 9, 1, b"data"), t.c("A", 1, 1)],
        "syn handshake segment:4",
        {"frames_syn": 1, "frames_synack": 1, "frames_flow": 2, **BEGUN},
        (0, 1, 0),
    ),
    Case(
        "a server that speaks first, the final ACK not seen: acknowledging its data completes",
        lambda t: [
            t.c("S"),
            t.s("SA", 0, 1),
            t.s("PA", 1, 1, b"220 ready\r\n"),
            t.c("A", 1, 12),
            t.c("PA", 1, 12, b"EHLO\r\n"),
        ],
        "syn handshake",
        {
            "frames_syn": 1,
            "frames_synack": 1,
            "frames_midstream": 1,
            "frames_flow": 2,
            "midstream_inserts": 1,
            "midstream_deletes": 1,
            **BEGUN,
        },
        (0, 1, 0),
    ),
    Case(
        "a server that speaks first: acknowledging more than it said completes nothing",
        lambda t: [
            t.c("S"),
            t.s("SA", 0, 1),
            t.s("PA", 1, 1, b"220 ready\r\n"),
            t.c("A", 1, 13),
        ],
        "syn",
        {
            "frames_syn": 1,
            "frames_synack": 1,
            "frames_midstream": 2,
            "midstream_inserts": 1,
            **HALF,
        },
        (1, 0, 1),
    ),
    # --- what does not complete a handshake ---
    Case(
        "a spoofed SYN and an ACK that guesses too low",
        lambda t: [t.c("S"), t.s("SA", 0, 1), t.c("A", 1, 0)],
        "syn",
        {"frames_syn": 1, "frames_synack": 1, "frames_unattached": 1, **HALF},
        (1, 0, 0),
    ),
    Case(
        "a spoofed SYN and an ACK that guesses too high",
        lambda t: [t.c("S"), t.s("SA", 0, 1), t.c("A", 1, 2)],
        "syn",
        {"frames_syn": 1, "frames_synack": 1, "frames_unattached": 1, **HALF},
        (1, 0, 0),
    ),
    Case(
        "a spoofed ACK without any SYN-ACK in sight",
        lambda t: [t.c("S"), t.c("A", 1, 1)],
        "syn",
        {"frames_syn": 1, "frames_unattached": 1, **HALF},
        (1, 0, 0),
    ),
    Case(
        "an ACK out of nowhere",
        lambda t: [t.c("A", 1, 1)],
        "",
        {"frames_unattached": 1},
        (0, 0, 0),
    ),
    Case(
        "an ACK whose seq lies before what the server expects",
        lambda t: [t.c("S"), t.s("SA", 0, 1), t.c("A", 0, 1)],
        "syn",
        {"frames_syn": 1, "frames_synack": 1, "frames_unattached": 1, **HALF},
        (1, 0, 0),
    ),
    Case(
        "an ACK whose seq lies a megabyte ahead",
        lambda t: [t.c("S"), t.s("SA", 0, 1), t.c("A", 2 + (1 << 20), 1)],
        "syn",
        {"frames_syn": 1, "frames_synack": 1, "frames_unattached": 1, **HALF},
        (1, 0, 0),
    ),
    Case(
        "the server's own ACK",
        lambda t: [t.c("S"), t.s("SA", 0, 1), t.s("A", 1, 1)],
        "syn",
        {"frames_syn": 1, "frames_synack": 1, "frames_unattached": 1, **HALF},
        (1, 0, 0),
    ),
    Case(
        "a SYN scan: the client's RST",
        lambda t: [t.c("S"), t.s("SA", 0, 1), t.c("R", 1)],
        "syn",
        {"frames_syn": 1, "frames_synack": 1, "frames_unattached": 1, **HALF},
        (1, 0, 0),
    ),
    Case(
        "a client that resets with the right acknowledgement",
        lambda t: [t.c("S"), t.s("SA", 0, 1), t.c("RA", 1, 1)],
        "syn",
        {"frames_syn": 1, "frames_synack": 1, "frames_unattached": 1, **HALF},
        (1, 0, 0),
    ),
    Case(
        "a closed port",
        lambda t: [t.c("S"), t.s("RA", 0, 1)],
        "syn",
        {"frames_syn": 1, "frames_unattached": 1, **HALF},
        (1, 0, 0),
    ),
    Case(
        "FIN, NULL and Xmas scans",
        lambda t: [t.c("F"), t.c(""), t.c("FPU"), t.s("RA", 0, 0)],
        "",
        {"frames_unattached": 4},
        (0, 0, 0),
    ),
    Case(
        "SYN-ACKs out of nowhere: backscatter",
        lambda t: [t.s("SA", 0, 1), t.s("SA", 99, 1)],
        "",
        {"frames_synack": 2, "half_open_others": 1, **HALF},
        (1, 0, 0),
    ),
    # --- SYN-ACKs ---
    Case(
        "a SYN-ACK that acknowledges another SYN",
        lambda t: [t.c("S"), t.s("SA", 0, 2), t.c("A", 2, 1)],
        "syn",
        {
            "frames_syn": 1,
            "frames_synack": 1,
            "synack_unmatched": 1,
            "frames_unattached": 1,
            **HALF,
        },
        (1, 0, 0),
    ),
    Case(
        "a SYN-ACK of the client itself",
        lambda t: [t.c("S"), t.c("SA", 0, 1)],
        "syn",
        {"frames_syn": 1, "frames_synack": 1, "synack_unmatched": 1, **HALF},
        (1, 0, 0),
    ),
    Case(
        "a SYN-ACK that acknowledges the SYN's data (RFC 7413)",
        lambda t: [t.c("S", 0, None, b"early"), t.s("SA", 0, 6), t.c("A", 6, 1)],
        "syn handshake",
        {"frames_syn": 1, "frames_synack": 1, "frames_flow": 1, **BEGUN},
        (0, 1, 0),
    ),
    Case(
        "a SYN-ACK that does not take the SYN's data",
        lambda t: [t.c("S", 0, None, b"early"), t.s("SA", 0, 1), t.c("PA", 1, 1, b"early")],
        "syn handshake",
        {"frames_syn": 1, "frames_synack": 1, "frames_flow": 1, **BEGUN},
        (0, 1, 0),
    ),
    Case(
        "a second SYN-ACK with another iss: the last one is acknowledged",
        lambda t: [t.c("S"), t.s("SA", 700, 1), t.s("SA", 0, 1), t.c("A", 1, 1)],
        "syn handshake",
        {
            "frames_syn": 1,
            "frames_synack": 2,
            "frames_flow": 1,
            "half_open_others": 1,
            **BEGUN,
        },
        (0, 1, 0),
    ),
    Case(
        "a second SYN-ACK with another iss: the first one is acknowledged",
        lambda t: [t.c("S"), t.s("SA", 0, 1), t.s("SA", 700, 1), t.c("A", 1, 1)],
        "syn handshake",
        {
            "frames_syn": 1,
            "frames_synack": 2,
            "frames_flow": 1,
            "half_open_others": 2,
            **BEGUN,
        },
        (0, 1, 0),
    ),
    Case(
        "two SYN-ACKs by turns: the first one is acknowledged",
        lambda t: [
            t.c("S"),
            *[t.s("SA", 0, 1), t.s("SA", 700, 1)] * 2,
            t.c("PA", 1, 1, b"data"),
        ],
        "syn handshake",
        {
            "frames_syn": 1,
            "frames_synack": 4,
            "frames_flow": 1,
            "half_open_others": 2,
            **BEGUN,
        },
        (0, 1, 0),
    ),
    # --- several SYNs ---
    Case(
        "a second SYN that nobody answers",
        lambda t: [t.c("S"), t.c("S", 777), *t.opened()[1:]],
        "syn handshake",
        {
            "frames_syn": 2,
            "syn_suppressed": 1,
            "frames_synack": 1,
            "frames_flow": 1,
            "half_open_others": 2,
            **BEGUN,
        },
        (0, 1, 0),
    ),
    Case(
        "a second SYN behind the SYN-ACK",
        lambda t: [t.c("S"), t.s("SA", 0, 1), t.c("S", 777), t.c("A", 1, 1)],
        "syn handshake",
        {
            "frames_syn": 2,
            "syn_suppressed": 1,
            "frames_synack": 1,
            "frames_flow": 1,
            "half_open_others": 1,
            **BEGUN,
        },
        (0, 1, 0),
    ),
    Case(
        "two SYNs, both answered: the first one's SYN-ACK is acknowledged",
        lambda t: [
            t.c("S"),
            t.s("SA", 0, 1),
            t.c("S", 777),
            t.s("SA", 700, 778),
            t.c("A", 1, 1),
        ],
        "syn handshake",
        {
            "frames_syn": 2,
            "syn_suppressed": 1,
            "frames_synack": 2,
            "frames_flow": 1,
            "half_open_others": 3,
            **BEGUN,
        },
        (0, 1, 0),
    ),
    Case(
        "two SYNs, both answered: the second one's SYN-ACK is acknowledged",
        lambda t: [
            t.c("S"),
            t.s("SA", 0, 1),
            t.c("S", 777),
            t.s("SA", 700, 778),
            t.c("A", 778, 701),
        ],
        "syn handshake",
        {
            "frames_syn": 2,
            "syn_suppressed": 1,
            "frames_synack": 2,
            "frames_flow": 1,
            "half_open_others": 2,
            **BEGUN,
        },
        (0, 1, 0),
    ),
    Case(
        "a SYN-ACK before its SYN",
        lambda t: [t.s("SA", 0, 1), t.c("S"), t.c("A", 1, 1)],
        "syn handshake",
        {"frames_syn": 1, "frames_synack": 1, "frames_flow": 1, **BEGUN},
        (0, 1, 0),
    ),
    Case(
        "the SYN-ACK of another SYN before this one",
        lambda t: [t.s("SA", 700, 778), *t.opened()],
        "syn handshake",
        {
            "frames_syn": 1,
            "frames_synack": 2,
            "frames_flow": 1,
            "half_open_others": 2,
            **BEGUN,
        },
        (0, 1, 0),
    ),
    # --- what begins nothing mid-stream ---
    Case(
        "payload without an ACK",
        lambda t: [t.c("P", 100, None, b"x"), t.s("", 100, None, b"x"), t.c("FPU", 1, None, b"x")],
        "",
        {"frames_unattached": 3},
        (0, 0, 0),
    ),
    Case(
        "payload with a RST",
        lambda t: [t.c("RA", 100, 100, b"x")],
        "",
        {"frames_unattached": 1},
        (0, 0, 0),
    ),
    # --- repeated ---
    Case(
        "a SYN sent three times",
        lambda t: [t.c("S"), Wait(SECOND), t.c("S"), Wait(2 * SECOND), t.c("S")],
        "syn",
        {"frames_syn": 3, "syn_retransmits": 2, **HALF},
        (1, 0, 0),
    ),
    Case(
        "a SYN-ACK sent three times",
        lambda t: [t.c("S"), *[t.s("SA", 0, 1)] * 3, t.c("A", 1, 1)],
        "syn handshake",
        {"frames_syn": 1, "frames_synack": 3, "frames_flow": 1, **BEGUN},
        (0, 1, 0),
    ),
    Case(
        "a SYN-ACK repeated although the handshake is complete",
        lambda t: [*t.opened(), t.s("SA", 0, 1), t.c("A", 1, 1)],
        "syn handshake",
        {"frames_syn": 1, "frames_synack": 2, "frames_flow": 2, **BEGUN},
        (0, 1, 0),
    ),
    Case(
        "a new SYN in place of an old one",
        lambda t: [t.c("S"), t.c("S", 777), t.s("SA", 0, 778), t.c("A", 778, 1)],
        "syn handshake",
        {
            "frames_syn": 2,
            "syn_suppressed": 1,
            "frames_synack": 1,
            "frames_flow": 1,
            "half_open_others": 1,
            **BEGUN,
        },
        (0, 1, 0),
    ),
    # --- one direction only ---
    Case(
        "client to server only",
        lambda t: [
            t.c("S"),
            t.c("A", 1, 1),
            t.c("PA", 1, 1, b"GET /\r\n\r\n"),
            t.c("A", 10, 500),
        ],
        "syn",
        {
            "frames_syn": 1,
            "frames_unattached": 1,
            "frames_midstream": 2,
            "midstream_inserts": 1,
            **HALF,
        },
        (1, 0, 1),
    ),
    Case(
        "server to client only",
        lambda t: [t.s("SA", 0, 1), t.s("A", 1, 10), t.s("PA", 1, 10, b"HTTP/1.0 200\r\n")],
        "",
        {
            "frames_synack": 1,
            "frames_unattached": 1,
            "frames_midstream": 1,
            "midstream_inserts": 1,
            **HALF,
        },
        (1, 0, 1),
    ),
    Case(
        "no SYN: only payload begins a mid-stream connection",
        lambda t: [t.c("A", 100, 100), t.s("FA", 100, 100), t.c("PA", 100, 101, b"x")],
        "segment:1",
        {"frames_unattached": 2, "frames_midstream": 1, "midstream_inserts": 1},
        (0, 0, 1),
    ),
]


@pytest.mark.parametrize("talk", TALKS.values(), ids=TALKS)
@pytest.mark.parametrize("case", CASES, ids=[case.about for case in CASES])
def test_what_becomes_of_a_half_open_connection(kernel: Kernel, case: Case, talk: Talk) -> None:
    kernel.feed(*case.steps(talk))
    assert kernel.submitted() == case.samples
    assert kernel.raised() == case.raised
    assert kernel.sizes() == case.sizes


@pytest.mark.parametrize("talk", TALKS.values(), ids=TALKS)
def test_a_handshake_is_sampled_with_its_times(kernel: Kernel, talk: Talk) -> None:
    syn, synack, ack = talk.opened()
    kernel.feed(syn, Wait(30 * MS), synack, Wait(7 * MS), ack)
    syn_sample, sample = kernel.samples()
    assert isinstance(syn_sample, SynSample)
    assert isinstance(sample, HandshakeSample)
    assert sample.born_ns == syn_sample.time_ns == syn_sample.born_ns == START_NS + MS
    assert sample.time_ns == sample.born_ns + 37 * MS
    assert sample.key == syn_sample.key
    assert sample.client == syn_sample.client
    assert (sample.syn_sampled, sample.signature) == (True, syn_sample.signature)
    assert sample.handshake.syn == syn_sample.syn
    assert sample.handshake.synack is not None
    assert sample.handshake.synack.time_ns == sample.born_ns + 30 * MS
    assert (sample.handshake.rtt_server_us, sample.handshake.rtt_client_us) == (30_000, 7_000)
    totals = kernel.flow().totals
    assert totals.born_ns == sample.born_ns
    assert (totals.last_ns, totals.established_ns) == (sample.time_ns, sample.time_ns)
    assert (totals.min_iat_ns, totals.max_iat_ns) == (7 * MS, 30 * MS)
    assert totals.client == sample.client
    assert (kernel.client_side().packets, kernel.server_side().packets) == (2, 1)


def test_ends_are_those_of_the_frames(kernel: Kernel) -> None:
    for talk in TALKS.values():
        kernel.reset()
        kernel.feed(talk.c("S"))
        (sample,) = kernel.samples()
        assert isinstance(sample, SynSample)
        found = ends(sample.key, sample.client)
        assert (address_text(found.client), address_text(found.server)) == (
            talk.client,
            talk.server,
        )
        assert (found.client_port, found.server_port) == (talk.client_port, talk.server_port)
        low, high = ports(sample.key)
        assert low <= high


def test_a_handshake_without_its_syn_is_born_with_the_syn_ack(kernel: Kernel) -> None:
    kernel.feed(*Talk().opened()[1:])
    (sample,) = kernel.samples()
    assert isinstance(sample, HandshakeSample)
    assert sample.born_ns == START_NS + MS
    assert sample.handshake.syn is None
    assert (sample.syn_sampled, sample.signature) == (False, 0)
    assert kernel.flow().totals.rtt_server_us == abi.RTT_UNKNOWN
    assert (kernel.client_side().packets, kernel.server_side().packets) == (1, 1)


def test_retransmits_of_syn_and_syn_ack_are_counted(kernel: Kernel) -> None:
    talk = Talk()
    syn, synack, ack = talk.opened()
    kernel.feed(syn, syn, syn, synack, synack, ack)
    sample = kernel.samples()[-1]
    assert isinstance(sample, HandshakeSample)
    assert (sample.handshake.syn_retransmits, sample.handshake.synack_retransmits) == (2, 1)
    client, server = kernel.client_side(), kernel.server_side()
    assert (client.packets, client.retransmits) == (4, 2)
    assert (server.packets, server.retransmits) == (2, 1)
    kernel.feed(synack)
    server = kernel.server_side()
    assert (server.packets, server.retransmits) == (3, 2)
    assert kernel.flow().synack.retransmits == 2


def test_retransmits_stop_counting_at_255(kernel: Kernel) -> None:
    syn, synack, ack = Talk().opened()
    kernel.feed(*[syn] * 300, *[synack] * 300, ack, synack)
    sample = kernel.samples()[-1]
    assert isinstance(sample, HandshakeSample)
    assert (sample.handshake.syn_retransmits, sample.handshake.synack_retransmits) == (255, 255)


def test_the_repeated_syn_keeps_the_first_ones_time(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(talk.c("S"), Wait(SECOND), talk.c("S"))
    (half_open,) = kernel.table("half_open")
    assert half_open.syn.time_ns == START_NS + MS
    assert half_open.last_ns == START_NS + MS + SECOND


def test_the_same_syn_an_hour_later_is_sampled_again(kernel: Kernel) -> None:
    """Scanners derive ports and sequence numbers from the target (Mirai, masscan, ZMap)."""
    talk = Talk()
    kernel.feed(talk.c("S"), Wait(3_600 * SECOND), talk.c("S"))
    assert kernel.submitted() == "syn syn"
    assert "syn_retransmits" not in kernel.raised()


@pytest.mark.parametrize(
    ("gap_ns", "repeated"),
    [(63 * SECOND, True), (130 * SECOND - 1, True), (130 * SECOND, False)],
    ids=["Linux's longest gap", "just in time", "too late"],
)
def test_how_late_a_syn_may_be_repeated(kernel: Kernel, gap_ns: int, repeated: bool) -> None:
    talk = Talk()
    kernel.feed(talk.c("S"), Wait(100 * SECOND), talk.c("S"), Wait(gap_ns), talk.c("S"))
    assert kernel.submitted() == ("syn" if repeated else "syn syn")
    assert kernel.raised()["syn_retransmits"] == 1 + repeated


def test_data_of_a_syn_is_counted(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(talk.c("S", 0, None, b"early"), talk.s("SA", 0, 6), talk.c("PA", 6, 1, b"more"))
    side = kernel.client_side()
    assert (side.bytes, side.packets, side.retransmits) == (9, 2, 0)


def test_data_of_a_syn_that_was_not_accepted_moves_nothing(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(talk.c("S", 0, None, b"early"), talk.s("SA", 0, 1), talk.c("PA", 1, 1, b"late"))
    side = kernel.client_side()
    assert (side.bytes, side.packets, side.retransmits) == (9, 2, 0)
    assert kernel.sent_by(client=True) == talk.client_iss + 5


INBOUND = {"IPv4": Talk(), "IPv6": TALK6}
OUTBOUND = {
    "IPv4": Talk(DECKY, CLIENT, client_port=45_000),
    "IPv6": Talk(DECKY6, CLIENT6, client_port=45_000),
}
"""A decky is the client."""
both_ways = pytest.mark.parametrize(
    "talk",
    [*INBOUND.values(), *OUTBOUND.values()],
    ids=[f"{way}, {name}" for way in ("inbound", "outbound") for name in INBOUND],
)


def opened_by(kernel: Kernel, talk: Talk) -> HandshakeSample:
    """The sample of the only handshake, which that client began."""
    (sample,) = (one for one in kernel.samples() if isinstance(one, HandshakeSample))
    found = ends(sample.key, sample.client)
    assert (address_text(found.client), found.client_port) == (talk.client, talk.client_port)
    (flow,) = kernel.table("flows")
    assert flow.totals.client == sample.client
    return sample


@both_ways
def test_times_and_counts_are_those_of_the_acknowledged_syn_ack(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(
        talk.c("S"),
        Wait(3 * MS),
        talk.s("SA", 0, 1, options=LINUX_OPTIONS),
        Wait(5 * MS),
        talk.s("SA", 700, 1),
        Wait(7 * MS),
        talk.c("A", 1, 1),
    )
    sample = opened_by(kernel, talk)
    assert (sample.handshake.rtt_server_us, sample.handshake.rtt_client_us) == (3_000, 12_000)
    assert sample.handshake.synack is not None
    assert sample.handshake.synack.options == LINUX_OPTIONS
    assert sample.handshake.synack_retransmits == 0
    server = kernel.server_side()
    assert (server.packets, server.retransmits) == (1, 0)
    assert kernel.sent_by(client=False) == talk.server_iss + 1


@both_ways
def test_times_and_options_are_those_of_the_answered_syn(kernel: Kernel, talk: Talk) -> None:
    """The other SYN comes before and behind it, with other options; it is repeated as well."""
    kernel.feed(
        talk.c("S", 777),
        talk.c("S", options=LINUX_OPTIONS),
        talk.c("S", 777),
        talk.c("S", options=LINUX_OPTIONS),
        talk.c("S", 999),
        Wait(3 * MS),
        talk.s("SA", 0, 1),
        talk.c("S", 555),
        Wait(7 * MS),
        talk.c("A", 1, 1),
    )
    sample = opened_by(kernel, talk)
    assert sample.handshake.syn is not None
    assert sample.handshake.syn.options == LINUX_OPTIONS
    assert sample.handshake.syn_retransmits == 1
    assert sample.born_ns == START_NS + 2 * MS
    assert (sample.handshake.rtt_server_us, sample.handshake.rtt_client_us) == (6_000, 8_000)
    client = kernel.client_side()
    assert (client.packets, client.retransmits) == (3, 1)


@pytest.mark.parametrize(
    ("gap_ns", "rtt_server_us"),
    [(SECOND, 1_000_000), (SECOND + MS, None)],
    ids=["swapped", "too far apart to be merely swapped"],
)
@both_ways
def test_a_syn_behind_its_syn_ack(
    kernel: Kernel, talk: Talk, gap_ns: int, rtt_server_us: int | None
) -> None:
    kernel.feed(
        talk.s("SA", 0, 1),
        Wait(gap_ns),
        talk.c("S", options=LINUX_OPTIONS),
        Wait(7 * MS),
        talk.c("A", 1, 1),
    )
    sample = opened_by(kernel, talk)
    assert sample.handshake.syn is not None
    assert sample.handshake.syn.options == LINUX_OPTIONS
    assert sample.handshake.rtt_server_us == rtt_server_us
    if rtt_server_us is not None:
        assert sample.handshake.rtt_client_us == 7_000
        assert sample.born_ns == START_NS + MS


def test_an_attempt_is_forgotten_when_no_packet_of_it_can_come(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(talk.c("S"), Wait(131 * SECOND), talk.c("S", 777), *talk.opened()[1:])
    assert not kernel.table("flows")
    assert kernel.raised()["synack_unmatched"] == 1


@both_ways
@pytest.mark.parametrize(
    ("flags", "data", "completes"),
    [("PA", b"xyz", True), ("FA", b"x", True), ("PA", b"x", False), ("FA", b"", False)],
)
def test_the_final_ack_may_begin_with_the_syn(
    kernel: Kernel, talk: Talk, flags: str, data: bytes, completes: bool
) -> None:
    """Linux takes a segment of which any number is in the window of the SYN-ACK."""
    kernel.feed(talk.c("S"), talk.s("SA", 0, 1), talk.c(flags, 0, 1, data))
    assert kernel.raised().get("handshakes", 0) == completes


# --- data in the SYN (RFC 7413) ---

RECORD = len(CLIENT_HELLO)
UNDECIDED = 16_384
"""Bytes that may still belong to a hello: TLS_UNDECIDED_BYTES."""


@both_ways
def test_a_hello_in_the_syn_is_sampled_with_it(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(
        talk.c("S", 0, None, CLIENT_HELLO),
        talk.s("SA", 0, 1 + RECORD),
        talk.c("A", 1 + RECORD, 1),
        talk.s("PA", 1, 1 + RECORD, SERVER_HELLO),
        talk.c("PA", 1 + RECORD, 1 + len(SERVER_HELLO), b"\x17\3\3\0\1x"),
    )
    data, syn, handshake, answer = kernel.samples()
    assert isinstance(data, SegmentSample)
    assert (data.syn_data, data.payload) == (True, CLIENT_HELLO)
    assert data.seq == data.start_seq == talk.client_iss + 1
    assert isinstance(syn, SynSample)
    assert isinstance(handshake, HandshakeSample)
    assert handshake.handshake.syn_data_taken == RECORD
    assert isinstance(answer, SegmentSample)
    assert (answer.payload, answer.start_seq) == (SERVER_HELLO, talk.server_iss + 1)
    assert data.born_ns == handshake.born_ns == answer.born_ns
    assert kernel.client_side().retransmits == 0


@both_ways
def test_a_hello_that_the_syn_begins_goes_on_behind_it(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(
        talk.c("S", 0, None, CLIENT_HELLO[:100]),
        talk.s("SA", 0, 101),
        talk.c("PA", 101, 1, CLIENT_HELLO[100:]),
        talk.s("PA", 1, 1 + RECORD, SERVER_HELLO),
    )
    assert kernel.submitted() == (
        f"segment:100 syn handshake segment:{RECORD - 100} segment:{len(SERVER_HELLO)}"
    )


@both_ways
def test_a_hello_that_was_not_taken_with_the_syn_is_sampled_again(
    kernel: Kernel, talk: Talk
) -> None:
    kernel.feed(
        talk.c("S", 0, None, CLIENT_HELLO),
        talk.s("SA", 0, 1),
        talk.c("PA", 1, 1, SERVER_HELLO),
    )
    data, _, handshake, again = kernel.samples()
    assert isinstance(data, SegmentSample)
    assert isinstance(handshake, HandshakeSample)
    assert handshake.handshake.syn_data_taken == 0
    assert isinstance(again, SegmentSample)
    assert (again.syn_data, again.payload) == (False, SERVER_HELLO)


@both_ways
@pytest.mark.parametrize(
    "before",
    [b"\x16\x03\x01\0\0", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n", bytes(3_000)],
    ids=["an empty record", "a line", "3,000 bytes"],
)
def test_a_hello_behind_other_bytes_of_the_syn_is_sampled(
    kernel: Kernel, talk: Talk, before: bytes
) -> None:
    size = len(before) + RECORD
    kernel.feed(
        talk.c("S", 0, None, before + CLIENT_HELLO),
        talk.s("SA", 0, 1 + size),
        talk.c("A", 1 + size, 1),
        talk.s("PA", 1, 1 + size, SERVER_HELLO),
        talk.c("PA", 1 + size, 1 + len(SERVER_HELLO), CLIENT_HELLO),
    )
    data, _, handshake, answer, later = kernel.samples()
    assert isinstance(data, SegmentSample)
    assert (data.syn_data, data.payload) == (True, before + CLIENT_HELLO)
    assert data.start_seq == talk.client_iss + 1 + len(before)
    assert isinstance(handshake, HandshakeSample)
    assert isinstance(answer, SegmentSample)
    assert (answer.payload, answer.start_seq) == (SERVER_HELLO, talk.server_iss + 1)
    assert isinstance(later, SegmentSample)
    assert later.start_seq is None


@both_ways
def test_a_hello_of_ssl_2_in_the_syn_is_sampled(kernel: Kernel, talk: Talk) -> None:
    size = len(SSL2)
    kernel.feed(
        talk.c("S", 0, None, SSL2),
        talk.s("SA", 0, 1 + size),
        talk.c("A", 1 + size, 1),
        talk.s("PA", 1, 1 + size, SERVER_HELLO),
    )
    data, _, _, answer = kernel.samples()
    assert isinstance(data, SegmentSample)
    assert (data.payload, data.start_seq) == (SSL2, talk.client_iss + 1)
    assert isinstance(answer, SegmentSample)
    assert answer.start_seq == talk.server_iss + 1


@both_ways
@pytest.mark.parametrize("size", range(1, 6))
def test_a_syn_with_the_first_bytes_of_a_hello_decides_nothing(
    kernel: Kernel, talk: Talk, size: int
) -> None:
    """The agent gets them, and those after them."""
    kernel.feed(
        talk.c("S", 0, None, CLIENT_HELLO[:size]),
        talk.s("SA", 0, 1 + size),
        talk.c("PA", 1 + size, 1, CLIENT_HELLO[size:]),
        talk.s("PA", 1, 1 + RECORD, SERVER_HELLO),
    )
    data, _, _, rest, answer = kernel.samples()
    assert isinstance(data, SegmentSample)
    assert (data.syn_data, data.payload, data.start_seq) == (True, CLIENT_HELLO[:size], None)
    assert isinstance(rest, SegmentSample)
    assert (rest.payload, rest.start_seq) == (CLIENT_HELLO[size:], None)
    assert isinstance(answer, SegmentSample)
    assert answer.start_seq == talk.server_iss + 1


def test_data_behind_such_a_syn_has_the_budget_of_undecided_bytes(kernel: Kernel) -> None:
    talk, size = Talk(), 1_000
    kernel.feed(talk.c("S", 0, None, b"\x16"), talk.s("SA", 0, 2))
    for at in range(2, 40_000, size):
        kernel.feed(talk.c("PA", at, 1, bytes(size)), talk.s("A", 1, at + size))
    sampled = sum(len(each.payload) for each in segments(kernel.samples()))
    assert sampled == UNDECIDED


@pytest.mark.parametrize("data", [b"GET / HTTP/1.0\r\n", b"x" + CLIENT_HELLO[:5], SERVER_HELLO])
def test_other_data_of_a_syn_is_not_sampled(kernel: Kernel, data: bytes) -> None:
    talk = Talk()
    kernel.feed(talk.c("S", 0, None, data), talk.s("SA", 0, 1 + len(data)))
    kernel.feed(talk.c("A", 1 + len(data), 1), talk.c("PA", 1 + len(data), 1, CLIENT_HELLO))
    assert kernel.submitted() == f"syn handshake segment:{RECORD}"


def test_data_of_spoofed_syns_has_the_budget_of_syns(kernel: Kernel) -> None:
    kernel.settings(syn_burst_ns=8 * MS, syn_cost_ns=4 * MS, dedup=0)
    for port in range(2_000, 2_010):
        kernel.feed(Wait(0), replace(Talk(), client_port=port).c("S", 0, None, CLIENT_HELLO))
    kernel.feed()
    assert len(kernel.samples()) == 2
    assert kernel.raised()["tls_not_admitted"] > 0


# --- both ends send a SYN ---


@pytest.mark.parametrize("talk", OUTBOUND.values(), ids=OUTBOUND)
def test_a_server_that_splits_its_syn_ack(kernel: Kernel, talk: Talk) -> None:
    """It answers the decky's SYN with one of its own. The decky still is the client."""
    kernel.feed(
        talk.c("S", options=LINUX_OPTIONS),
        Wait(3 * MS),
        talk.s("S"),
        talk.c("SA", 0, 1),
        talk.s("A", 1, 1),
        Wait(7 * MS),
        talk.c("PA", 1, 1, b"data"),
    )
    sample = opened_by(kernel, talk)
    assert sample.handshake.syn is not None
    assert sample.handshake.syn.options == LINUX_OPTIONS
    assert sample.handshake.rtt_server_us == 3_000
    assert kernel.sent_by(client=True) == talk.client_iss + 5
    assert kernel.sent_by(client=False) == talk.server_iss + 1


@pytest.mark.parametrize(
    "talk",
    [*OUTBOUND.values(), *INBOUND.values()],
    ids=[f"the {one} was first, {name}" for one in ("decky", "peer") for name in INBOUND],
)
def test_a_simultaneous_open(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(talk.c("S"), talk.s("S"))
    synacks = [talk.c("SA", 0, 1), talk.s("SA", 0, 1)]
    # What the decky accepts is seen before what the other end does: it is near.
    kernel.feed(*(synacks if talk.client in (DECKY, DECKY6) else reversed(synacks)))
    kernel.feed(*synacks, talk.s("A", 1, 1), talk.c("A", 1, 1), talk.c("PA", 1, 1, b"data"))
    sample = opened_by(kernel, talk)
    assert sample.handshake.syn is not None
    assert sample.handshake.synack is not None
    # ... and again, inside the connection
    kernel.feed(*synacks, talk.s("A", 1, 5), talk.c("A", 5, 1))
    assert kernel.submitted() == ""
    assert kernel.sizes()[1:] == (1, 0)


@pytest.mark.parametrize("talk", OUTBOUND.values(), ids=OUTBOUND)
def test_an_earlier_syn_of_the_peer_does_not_make_it_the_client(kernel: Kernel, talk: Talk) -> None:
    """It even uses the number of that SYN for its SYN-ACK."""
    kernel.feed(talk.s("S"), Wait(SECOND), *talk.opened())
    opened_by(kernel, talk)


# --- inside an open connection ---


@pytest.mark.parametrize("midstream", [False, True], ids=["seen from its start", "mid-stream"])
@pytest.mark.parametrize("talk", INBOUND.values(), ids=INBOUND)
def test_a_syn_ack_of_the_peer_does_not_make_the_decky_the_client(
    kernel: Kernel, talk: Talk, midstream: bool
) -> None:
    frames = [*talk.opened(), talk.c("PA", 1, 1, b"data"), talk.s("A", 1, 5)]
    kernel.feed(*frames[3 if midstream else 0 :])
    kernel.samples()
    kernel.feed(talk.c("SA", 4, 1), talk.s("A", 1, 5), talk.s("PA", 1, 5, b"more"))
    assert not [one for one in kernel.samples() if isinstance(one, HandshakeSample)]
    assert kernel.sizes() == ((0, 0, 1) if midstream else (0, 1, 0))
    counts = kernel.raised()
    assert counts["synack_unmatched" if midstream else "refused_synack"] == 1
    assert ("frames_refused" in counts) is not midstream


@pytest.mark.parametrize("talk", INBOUND.values(), ids=INBOUND)
def test_a_syn_inside_a_connection_is_an_attempt_only(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(*talk.opened(), talk.c("S", 777), talk.s("A", 1, 1), talk.c("A", 778, 1))
    kernel.feed(talk.c("PA", 1, 1, b"data"), *talk.closed(5, 1))
    assert kernel.submitted() == "syn handshake end:fin"
    assert "flow_reopened" not in kernel.raised()


@pytest.mark.parametrize("talk", INBOUND.values(), ids=INBOUND)
def test_the_deckys_syn_ack_makes_it_a_connection(kernel: Kernel, talk: Talk) -> None:
    later = replace(talk, client_iss=talk.client_iss + 777, server_iss=9_000_000)
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, b"data"), *later.opened())
    assert kernel.submitted() == "syn handshake end:idle handshake"
    assert kernel.raised()["flow_reopened"] == 1


# --- what begins nothing ---


@pytest.mark.parametrize("talk", INBOUND.values(), ids=INBOUND)
@pytest.mark.parametrize("ack", [0, 2, 9_999, 1 << 30])
def test_a_wrong_ack_of_the_deckys_syn_ack_begins_nothing(
    kernel: Kernel, talk: Talk, ack: int
) -> None:
    """The decky resets it, and waits on."""
    kernel.feed(talk.c("S"), talk.s("SA", 0, 1), talk.c("PA", 1, ack, b"decoy"))
    assert kernel.sizes() == (1, 0, 0)
    kernel.feed(talk.c("PA", 1, 1, b"true"))
    assert kernel.submitted() == "syn handshake"
    assert kernel.client_side().bytes == 4


@pytest.mark.parametrize("talk", OUTBOUND.values(), ids=OUTBOUND)
def test_a_decky_is_not_judged(kernel: Kernel, talk: Talk) -> None:
    """It acknowledges bytes of its server that the capture lacks."""
    kernel.feed(talk.c("S"), talk.s("SA", 0, 1), talk.c("PA", 1, 99, b"data"))
    assert kernel.sizes() == (1, 0, 1)


def test_a_wrong_ack_is_not_held_against_a_later_connection(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(
        talk.c("S"), talk.s("SA", 0, 1), Wait(131 * SECOND), talk.c("PA", 500, 700, b"data")
    )
    assert kernel.sizes() == (1, 0, 1)


def test_a_midstream_connection_of_one_direction_keeps_its_syn(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(
        talk.c("S", options=LINUX_OPTIONS), talk.c("A", 1, 1), talk.c("PA", 1, 1, b"GET /\r\n")
    )
    (midstream,) = kernel.table("midstream_flows")
    assert midstream.totals.flags & abi.FLOW_MIDSTREAM
    assert midstream.totals.born_ns == START_NS + MS
    assert midstream.syn.options_len == len(LINUX_OPTIONS)
    assert midstream.totals.established_ns == 0
    side = midstream.totals.side[midstream.totals.client]
    assert (side.packets, side.bytes, side.retransmits) == (2, 7, 0)


def test_a_midstream_connection_without_a_syn_knows_no_client(kernel: Kernel) -> None:
    kernel.feed(Talk().c("PA", 100, 100, b"x"))
    (midstream,) = kernel.table("midstream_flows")
    assert midstream.totals.client == abi.CLIENT_UNKNOWN
    assert (midstream.syn.ip_version, midstream.synack.ip_version) == (0, 0)
    assert midstream.totals.min_iat_ns == 2**64 - 1


def test_a_midstream_connection_that_completes_keeps_its_bytes(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(
        talk.c("S"), talk.s("SA", 0, 1), talk.s("PA", 1, 1, b"220 ready\r\n"), talk.c("A", 1, 12)
    )
    side = kernel.server_side()
    assert (side.packets, side.bytes, side.retransmits) == (2, 11, 0)
    assert not kernel.flow().totals.flags & abi.FLOW_MIDSTREAM


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["IPv4", "IPv6"])
def test_spoofed_syns_enter_half_open_only(kernel: Kernel, talk: Talk) -> None:
    """More of them than half_open holds evict only each other."""
    kernel.feed(*talk.opened())
    size = SMALL_TABLES["MAX_HALF_OPEN"]
    for port in range(2_000, 2_000 + size + 500):
        kernel.feed(replace(talk, client_port=port).c("S"))
    half_open, flows, midstream = kernel.sizes()
    assert 0 < half_open <= size
    assert (flows, midstream) == (1, 0)
    raised = kernel.raised()
    assert raised["half_open_inserts"] == size + 501
    assert "half_open_failed" not in raised


def test_between_deckies_one_conversation_is_one_connection(kernel: Kernel) -> None:
    talk = Talk(DECKY, "198.51.100.8")
    kernel.feed(*talk.opened(), *talk.closed())
    assert kernel.submitted() == "syn handshake end:fin"


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("offset_s", [-30, 20], ids=["before", "after"])
def test_a_new_attempt_takes_a_free_way_at_any_time(
    kernel: Kernel, talk: Talk, offset_s: int
) -> None:
    kernel.settings(dedup=0, syn_cost_ns=1)
    kernel.now_ns = CLOCK_WRAPS_NS + offset_s * SECOND
    for n in range(200):
        kernel.feed(replace(talk, client_port=20_000 + n).c("S"))
    assert "half_open_evicted" not in kernel.raised()
    assert kernel.sizes()[0] == 200

"""From a SYN to a connection: which packet enters which table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.flow_key import ends
from deckwire.abi.samples import HandshakeSample, SynSample
from deckwire.tcp.addresses import address_text
from tests.support.bpf_frames import CLIENT, CLIENT6, DECKY, DECKY6, LINUX_OPTIONS, TALK6, Talk
from tests.support.bpf_harness import MS, SECOND, START_NS, Kernel, Wait, ports

pytestmark = pytest.mark.root

Steps = Sequence[bytes | Wait]

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
        {"frames_synack": 2, **HALF},
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
        "a second SYN-ACK with another iss: the last one counts",
        lambda t: [t.c("S"), t.s("SA", 700, 1), t.s("SA", 0, 1), t.c("A", 1, 1)],
        "syn handshake",
        {"frames_syn": 1, "frames_synack": 2, "frames_flow": 1, **BEGUN},
        (0, 1, 0),
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


def test_data_of_a_syn_that_was_not_accepted_counts_as_not_sent(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(talk.c("S", 0, None, b"early"), talk.s("SA", 0, 1), talk.c("PA", 1, 1, b"early"))
    side = kernel.client_side()
    assert (side.bytes, side.packets, side.retransmits) == (10, 2, 0)


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
    size = kernel.loaded.maps["half_open"].max_entries
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

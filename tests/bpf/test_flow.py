"""Connections: their ends, their counts, and the tables that hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.samples import (
    EndSample,
    HandshakeSample,
    SegmentSample,
    flow_handshake_sample,
    flow_record,
)
from deckwire.deckies import Decky, parse_address
from deckwire.kernel.maps import UPDATE_EXIST
from deckwire.tables.tables import Tables
from tests.support.bpf_frames import (
    APPLICATION_DATA,
    CLIENT,
    CLIENT6,
    CLIENT_HELLO,
    DECKY,
    DECKY6,
    DECKY6_B,
    DECKY_B,
    SERVER_HELLO,
    TALK6,
    Talk,
    ethernet,
    hello,
    ipv4,
    tcp,
)
from tests.support.bpf_harness import MS, SECOND, START_NS, ZERO, Kernel, Wait, ports

pytestmark = pytest.mark.root

Steps = Sequence[bytes | Wait]

TALKS = {
    "IPv4": Talk(),
    "IPv6": TALK6,
    "client at the other end of the key": Talk(client_port=443, server_port=40_000),
    "sequence numbers that wrap": Talk(client_iss=0xFFFF_FFFD, server_iss=0xFFFF_FFFD),
}
EITHER_TALK = pytest.mark.parametrize("talk", TALKS.values(), ids=TALKS)


ANY_TALK = pytest.mark.parametrize(
    "talk",
    [
        *TALKS.values(),
        Talk(client_port=443),
        Talk(CLIENT, "10.0.0.7", 443, 443),
        replace(TALK6, client_port=443),
        Talk(CLIENT6, "2001:db8:1::7", 443, 443),
        Talk(CLIENT6, "2001:db8::9", 443, 443),
        Talk("2001:db8:2::9", "2001:db8:1::9", 443, 443),
    ],
    ids=str,
)
"""Every order of ports and addresses."""


class Ending(NamedTuple):
    about: str
    steps: Callable[[Talk], Steps]
    """After the handshake."""
    samples: str
    """After ``syn handshake``."""
    late: int = 0
    """Frames that are counted as late."""


ENDINGS = [
    Ending("nothing", lambda t: [], ""),
    Ending("both close, the client first", lambda t: list(t.closed()), "end:fin"),
    Ending(
        "both close, the server first",
        lambda t: [t.s("FA", 1, 1), t.c("FA", 1, 2), t.s("A", 2, 2)],
        "end:fin",
    ),
    Ending(
        "both close with four frames",
        lambda t: [t.c("FA", 1, 1), t.s("A", 1, 2), t.s("FA", 1, 2), t.c("A", 2, 2)],
        "end:fin",
    ),
    Ending(
        "both close at once",
        lambda t: [t.c("FA", 1, 1), t.s("FA", 1, 1), t.c("A", 2, 2), t.s("A", 2, 2)],
        "end:fin",
    ),
    Ending(
        "both close with data in the FIN",
        lambda t: [
            t.c("PFA", 1, 1, b"bye"),
            t.s("PFA", 1, 5, b"good bye"),
            t.c("A", 5, 10),
        ],
        "end:fin",
    ),
    Ending("only the client closes", lambda t: [t.c("FA", 1, 1), t.s("A", 1, 2)], ""),
    Ending(
        "the server's FIN is never acknowledged", lambda t: [t.c("FA", 1, 1), t.s("FA", 1, 2)], ""
    ),
    Ending(
        "an acknowledgement of the data but not of the FIN",
        lambda t: [t.c("FA", 1, 1), t.s("FA", 1, 1), t.c("A", 2, 2), t.s("A", 2, 1)],
        "",
    ),
    Ending(
        "late frames after both closed",
        lambda t: [*t.closed(), t.c("A", 2, 2), t.s("FA", 1, 2), t.c("PA", 1, 1, b"x")],
        "end:fin",
        3,
    ),
    Ending("the client resets", lambda t: [t.c("R", 1)], "end:rst"),
    Ending("the client resets, with an ACK", lambda t: [t.c("RA", 1, 1)], "end:rst"),
    Ending("the server resets", lambda t: [t.s("RA", 1, 1)], "end:rst"),
    Ending(
        "the client resets although the server's FIN is out",
        lambda t: [t.s("FA", 1, 1), t.c("RA", 1, 2)],
        "end:rst",
    ),
    Ending(
        "a reset that answers data: its seq is what was acknowledged",
        lambda t: [
            t.s("PA", 1, 1, b"hello"),
            t.c("A", 1, 6),
            t.c("PA", 9, 6, b"more"),
            t.s("A", 6, 1),
            t.c("R", 1),
        ],
        "segment:4 end:rst",
    ),
    Ending("a reset one byte ahead", lambda t: [t.c("R", 2)], "anomaly:refused_rst"),
    Ending("a reset one byte below", lambda t: [t.c("RA", 0, 1)], "anomaly:refused_rst"),
    Ending("a blind reset", lambda t: [t.c("R", 0x4000_0000)], "anomaly:refused_window"),
    Ending("a blind reset with seq 0", lambda t: [t.c("R", -t.client_iss)], "anomaly:refused_rst"),
    Ending("a blind reset of the server with seq 0", lambda t: [t.s("R", -t.server_iss)], ""),
    Ending(
        "late frames after a reset",
        lambda t: [t.c("R", 1), t.s("PA", 1, 1, b"x"), t.c("R", 1)],
        "end:rst",
        2,
    ),
]


@EITHER_TALK
@pytest.mark.parametrize("case", ENDINGS, ids=[case.about for case in ENDINGS])
def test_how_connections_end(kernel: Kernel, case: Ending, talk: Talk) -> None:
    kernel.feed(*talk.opened(), *case.steps(talk))
    assert kernel.submitted() == f"syn handshake {case.samples}".strip()
    assert kernel.raised().get("frames_late", 0) == case.late
    assert kernel.sizes() == (0, 1, 0)
    assert bool(kernel.flow().totals.end_sent) == ("end" in case.samples)


def test_the_end_is_sampled_with_all_counts(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(
        *talk.opened(),
        Wait(50 * MS),
        talk.c("PA", 1, 1, b"GET /\r\n"),
        Wait(2 * MS),
        talk.s("A", 1, 8),
        talk.s("PA", 1, 8, bytes(1_000)),
        talk.s("PA", 1_001, 8, bytes(500)),
        talk.s("PA", 1_001, 8, bytes(500)),
        talk.c("A", 8, 1_501),
        *talk.closed(8, 1_501),
    )
    end = kernel.samples()[-1]
    assert isinstance(end, EndSample)
    record = end.record
    assert record.born_ns == START_NS + MS
    assert record.last_ns == end.time_ns == kernel.now_ns
    assert (record.min_iat_ns, record.max_iat_ns) == (MS, 50 * MS)
    assert (record.close, record.midstream) == ("fin", False)
    assert record.sides[record.client][:4] == (6, 7, 0, 7)
    assert record.sides[1 - record.client][:4] == (6, 2_000, 1, 1_500)
    assert (record.rtt_server_us, record.rtt_client_us) == (1_000, 1_000)


BULK = bytes(3_000)
"""More than TLS_SEARCH_BYTES."""
MSS_BYTES = 1_448
RUN = 22
"""Segments of it that are more than TLS_RUN_BYTES: no hello is searched for in what follows."""


class Timing(NamedTuple):
    about: str
    steps: Callable[[Talk], Steps]
    """After the handshake, each a millisecond after the one before."""
    rtt_min_us: int | None


TIMINGS = [
    Timing("nothing sent", lambda t: [t.s("A", 1, 1), t.c("A", 1, 1)], None),
    Timing("data and its ACK", lambda t: [data(t, 1), Wait(5 * MS), ack(t, 11)], 5_000),
    Timing("an ACK that is data too", lambda t: [data(t, 1), t.c("PA", 1, 11, b"x")], 1_000),
    Timing("an ACK of a part", lambda t: [data(t, 1), ack(t, 10), ack(t, 11)], 2_000),
    Timing("an ACK of more", lambda t: [data(t, 1), data(t, 11), ack(t, 21)], 2_000),
    Timing("no ACK", lambda t: [data(t, 1), t.c("", 1)], None),
    Timing("not acknowledged", lambda t: [data(t, 1), ack(t, 1)], None),
    Timing("sent again", lambda t: [data(t, 1), data(t, 1), ack(t, 11)], None),
    Timing("a part sent again", lambda t: [data(t, 1), data(t, 6), ack(t, 16)], None),
    Timing("after a hole", lambda t: [data(t, 2), ack(t, 12)], None),
    Timing("the client's data", lambda t: [t.c("PA", 1, 1, b"x"), t.s("A", 1, 2)], None),
    Timing(
        "bulk data after it is not timed",
        lambda t: [
            *(data(t, 1), Wait(5 * MS), ack(t, 11)),
            *(*bulk(t, 11, RUN), ack(t, 11 + RUN * len(BULK))),
            *(*bulk(t, 11 + RUN * len(BULK), 1), ack(t, 11 + (RUN + 1) * len(BULK))),
        ],
        5_000,
    ),
    Timing(
        "what follows a silence is",
        lambda t: [
            *(data(t, 1), Wait(5 * MS), ack(t, 11)),
            *(Wait(SECOND + 1), data(t, 11), Wait(2 * MS), ack(t, 21)),
            *(Wait(SECOND + 1), data(t, 21), Wait(7 * MS), ack(t, 31)),
        ],
        2_000,
    ),
    Timing(
        "sent again, then new data after a silence",
        lambda t: [
            *(data(t, 1), data(t, 1), ack(t, 11)),
            *(Wait(2 * SECOND), data(t, 11), Wait(3 * MS), ack(t, 21)),
        ],
        3_000,
    ),
    Timing(
        "handshake bytes",
        lambda t: [
            *(t.c("PA", 1, 1, hello(1)), t.s("PA", 1, 1 + len(hello(1)), SERVER_HELLO)),
            *(Wait(4 * MS), t.c("A", 1 + len(hello(1)), 1 + len(SERVER_HELLO))),
        ],
        4_000,
    ),
]


def data(talk: Talk, seq: int) -> bytes:
    """Ten bytes from the server."""
    return talk.s("PA", seq, 1, b"220 ready\n")


def bulk(talk: Talk, seq: int, segments: int) -> list[bytes]:
    """Long segments from the server."""
    return [talk.s("A", seq + n * len(BULK), 1, BULK) for n in range(segments)]


def ack(talk: Talk, number: int) -> bytes:
    return talk.c("A", 1, number)


@EITHER_TALK
@pytest.mark.parametrize("timing", TIMINGS, ids=lambda timing: timing.about)
def test_the_least_round_trip_of_the_servers_data(
    kernel: Kernel, talk: Talk, timing: Timing
) -> None:
    kernel.feed(*talk.opened(), *timing.steps(talk), talk.c("RA", 1, 1), talk.s("RA", 1, 1))
    found = kernel.flow().totals.rtt_min_us
    assert found == (abi.RTT_UNKNOWN if timing.rtt_min_us is None else timing.rtt_min_us)


def test_a_midstream_connection_has_no_round_trip_time(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(data(talk, 1), ack(talk, 11))
    (midstream,) = kernel.table("midstream_flows")
    assert midstream.totals.rtt_min_us == abi.RTT_UNKNOWN


def test_late_frames_change_nothing(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), *talk.closed())
    before = kernel.flow()
    kernel.feed(talk.c("PA", 1, 1, b"late"), talk.c("R", 2), talk.s("A", 2, 2))
    assert kernel.flow() == before
    assert kernel.submitted() == "syn handshake end:fin"


# --- the same 4-tuple again ---


@EITHER_TALK
@pytest.mark.parametrize("ended", ["fin", "rst", "open", "half closed"])
def test_a_new_handshake_on_the_same_ports_ends_the_old_connection(
    kernel: Kernel, talk: Talk, ended: str
) -> None:
    again = replace(talk, client_iss=0x7000_0000, server_iss=0x7100_0000)
    endings: dict[str, Steps] = {
        "fin": list(talk.closed()),
        "rst": [talk.c("R", 1)],
        "open": [],
        "half closed": [talk.c("FA", 1, 1)],
    }
    kernel.feed(*talk.opened(), *endings[ended], Wait(2 * SECOND), *again.opened())
    kernel.feed(again.c("PA", 1, 1, b"new"))
    assert (
        kernel.submitted()
        == {
            "fin": "syn handshake end:fin syn handshake",
            "rst": "syn handshake end:rst syn handshake",
            "open": "syn handshake syn end:idle handshake",
            "half closed": "syn handshake syn end:fin handshake",
        }[ended]
    )
    raised = kernel.raised()
    assert (raised["handshakes"], raised["flow_inserts"], raised["flow_reopened"]) == (2, 1, 1)
    assert "frames_late" not in raised
    flow = kernel.flow()
    assert (flow.syn.seq, flow.synack.seq) == (again.client_iss, again.server_iss)
    assert kernel.client_side().bytes == 3
    assert flow.totals.flags == 0


@EITHER_TALK
def test_a_syn_alone_ends_nothing(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(*talk.opened(), talk.c("S", 5_000), talk.c("PA", 1, 1, b"old"))
    assert kernel.submitted() == "syn handshake"
    assert kernel.sizes() == (1, 1, 0)
    assert kernel.client_side().bytes == 3


@EITHER_TALK
def test_a_syn_and_its_syn_ack_end_nothing_yet(kernel: Kernel, talk: Talk) -> None:
    again = replace(talk, client_iss=0x7000_0000, server_iss=0x7100_0000)
    kernel.feed(*talk.opened(), *again.opened()[:2], talk.c("PA", 1, 1, b"old"))
    assert kernel.submitted() == "syn handshake"
    assert kernel.client_side().bytes == 3
    kernel.feed(again.opened()[2])
    assert kernel.submitted() == "end:idle handshake"
    assert kernel.client_side().bytes == 0


def test_a_handshake_on_the_ports_of_a_midstream_connection_ends_it(kernel: Kernel) -> None:
    """Its end is sampled when its ports are used again."""
    talk = Talk()
    kernel.feed(talk.s("PA", 7_000, 7_000, b"old"), *talk.opened())
    assert kernel.submitted() == "segment:3 syn end:idle handshake"
    assert kernel.sizes() == (0, 1, 0)


def test_midstream_connections_end_as_others_do(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(talk.c("PA", 1, 1, b"x"), talk.s("PA", 1, 2, b"y"), *talk.closed(2, 2))
    assert kernel.submitted() == "segment:1 segment:1 end:fin"
    kernel.feed(talk.c("PA", 1, 1, b"late"), talk.s("FA", 2, 3))
    assert kernel.raised() == {
        "frames_midstream": 5,
        "frames_late": 2,
        "midstream_inserts": 1,
    }
    assert kernel.sizes() == (0, 0, 1)


def test_a_half_open_connection_that_was_reset_does_not_complete(kernel: Kernel) -> None:
    """The server spoke first, the client reset, and an ACK follows all the same."""
    talk = Talk()
    kernel.feed(
        *talk.opened()[:2], talk.s("PA", 1, 1, b"220 ready\r\n"), talk.c("R", 1), talk.c("A", 1, 12)
    )
    assert "handshake" not in kernel.submitted()


@pytest.mark.parametrize(
    ("steps", "end"),
    [
        pytest.param(lambda t: [t.c("R", 2)], "end:rst", id="of the side that was seen"),
        pytest.param(lambda t: [t.s("R", 1)], "end:rst", id="of the side that was not"),
        pytest.param(lambda t: [t.c("R", -t.client_iss)], "", id="blind, with seq 0"),
    ],
)
def test_resets_of_midstream_connections(
    kernel: Kernel, steps: Callable[[Talk], Steps], end: str
) -> None:
    talk = Talk()
    kernel.feed(talk.c("PA", 1, 1, b"x"), *steps(talk))
    assert kernel.submitted() == f"segment:1 {end}".strip()


# --- accounts ---


def test_both_directions_are_kept_apart(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(
        *talk.opened(),
        talk.c("PA", 1, 1, b"abc"),
        talk.s("PA", 1, 4, b"defgh"),
        talk.s("PA", 1, 4, b"defgh"),
    )
    client, server = kernel.client_side(), kernel.server_side()
    assert (client.packets, client.bytes, client.retransmits) == (3, 3, 0)
    assert (server.packets, server.bytes, server.retransmits) == (3, 10, 1)


@pytest.mark.parametrize("back_ns", [1, 300_000, MS])
def test_packets_that_two_cpus_swapped_are_so_far_apart(kernel: Kernel, back_ns: int) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), Wait(-back_ns), talk.c("PA", 1, 1, b"x"))
    totals = kernel.flow().totals
    assert (totals.min_iat_ns, totals.max_iat_ns) == (back_ns, MS)
    assert totals.last_ns == START_NS + 3 * MS


@pytest.mark.parametrize("back_ns", [MS + 1, 5 * SECOND])
def test_a_clock_that_steps_back_leaves_intervals_unknown(kernel: Kernel, back_ns: int) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), Wait(-back_ns), talk.c("PA", 1, 1, b"x"), talk.c("FA", 2, 1))
    totals = kernel.flow().totals
    assert totals.max_iat_ns == abi.INTERVALS_UNKNOWN
    ((_, value),) = kernel.loaded.maps["flows"].items()
    record = flow_record(value)
    assert (record.min_iat_ns, record.max_iat_ns) == (None, None)


def test_a_reply_before_what_it_answers_has_no_round_trip(kernel: Kernel) -> None:
    talk = Talk()
    syn, synack, ack = talk.opened()
    kernel.feed(syn, Wait(-1_000), synack, Wait(2 * MS), ack)
    totals = kernel.flow().totals
    assert totals.rtt_server_us == abi.RTT_UNKNOWN
    assert totals.rtt_client_us == 2_000


def test_a_final_ack_before_the_syn_ack_has_no_round_trip(kernel: Kernel) -> None:
    talk = Talk()
    syn, synack, ack = talk.opened()
    kernel.feed(syn, synack, Wait(-1), ack, Wait(2 * MS), talk.s("PA", 1, 1, b"x"))
    kernel.feed(Wait(-MS), talk.c("A", 1, 2))
    totals = kernel.flow().totals
    assert totals.rtt_server_us == 1_000
    assert totals.rtt_client_us == totals.rtt_min_us == abi.RTT_UNKNOWN


# --- VEPA ---


@pytest.mark.parametrize(
    ("talk", "echoes"),
    [
        pytest.param(Talk(DECKY, DECKY_B), True, id="between deckies"),
        pytest.param(Talk(DECKY6, DECKY6_B), True, id="between deckies, IPv6"),
        pytest.param(Talk(), False, id="from outside"),
        pytest.param(Talk(DECKY, "203.0.113.5"), False, id="to the outside"),
        pytest.param(TALK6, False, id="from outside, IPv6"),
    ],
)
def test_the_vepa_echo_of_a_lateral_frame_is_counted_once(
    kernel: Kernel, talk: Talk, echoes: bool
) -> None:
    kernel.settings(vepa=1)
    kernel.loaded.maps["vepa_parents"].update((1).to_bytes(4, "little"), b"\1")
    for frame in [*talk.opened(), *talk.closed()]:
        kernel.feed(frame, egress=True)
        if echoes:
            kernel.feed(frame)
    raised = kernel.raised()
    assert raised.get("ignored_vepa_echo", 0) == (6 if echoes else 0)
    assert kernel.submitted() == "syn handshake end:fin"
    kernel.feed(talk.c("S", 9_999))
    assert kernel.raised().get("frames_syn", 0) == (1 if echoes else 2)


def test_lateral_frames_on_another_interface_are_no_echo(kernel: Kernel) -> None:
    kernel.settings(vepa=1)
    kernel.loaded.maps["vepa_parents"].update((77).to_bytes(4, "little"), b"\1")
    kernel.feed(*Talk(DECKY, DECKY_B).opened())
    assert kernel.submitted() == "syn handshake"


# --- bounds ---


def test_a_full_table_keeps_its_connections_and_counts_the_rest(tiny: Kernel) -> None:
    talks = [Talk(client_port=30_000 + n) for n in range(7)]
    for talk in talks:
        tiny.feed(*talk.opened())
    raised = tiny.raised()
    assert (raised["handshakes"], raised["flow_inserts"]) == (4, 4)
    assert (raised["flow_insert_failed"], raised["frames_unattached"]) == (3, 3)
    assert tiny.sizes() == (3, 4, 0)
    for talk in talks[:4]:
        tiny.feed(talk.c("PA", 1, 1, b"x"), *talk.closed(2))
    assert tiny.submitted().count("end:fin") == 4


@ANY_TALK
def test_the_agent_finds_a_connection_by_its_ends(kernel: Kernel, talk: Talk) -> None:
    tables = Tables(kernel.loaded.maps)
    tables.deckies.replace([Decky("decky", parse_address(talk.server)).packed])
    kernel.feed(*talk.opened())
    sample = next(one for one in kernel.samples() if isinstance(one, HandshakeSample))
    (flow,) = tables.flows.every_flow()
    assert flow.key == sample.key
    assert tables.flows.handshake(sample.key, sample.born_ns, midstream=False) == sample.handshake


@ANY_TALK
def test_bulk_data_needs_no_jump(kernel: Kernel, talk: Talk) -> None:
    decky = Decky("decky", parse_address(talk.server))
    Tables(kernel.loaded.maps).deckies.replace([decky.packed])
    works = kernel.loaded.maps["works"]
    kernel.feed(*talk.opened())
    assert any(map(any, works.lookup_cpus(ZERO)))
    works.update(ZERO, bytes(works.value_size))
    end = 1 + RUN * len(BULK)
    kernel.feed(talk.c("A", 1, 1), *bulk(talk, 1, RUN), ack(talk, end))
    assert kernel.raised()["frames_flow"] == RUN + 3
    assert kernel.server_side().bytes == end - 1
    assert any(map(any, works.lookup_cpus(ZERO)))  # the first data may be TLS, and is timed
    works.update(ZERO, bytes(works.value_size))
    kernel.feed(*bulk(talk, end, 1), ack(talk, end + len(BULK)), talk.s("A", end + len(BULK), 1))
    assert kernel.raised()["frames_flow"] == RUN + 6
    assert kernel.server_side().bytes == (RUN + 1) * len(BULK)
    assert not any(map(any, works.lookup_cpus(ZERO)))


@EITHER_TALK
def test_a_long_write_of_short_segments_needs_no_jump(kernel: Kernel, talk: Talk) -> None:
    works = kernel.loaded.maps["works"]
    end = 1 + RUN * len(BULK)
    kernel.feed(*talk.opened(), *bulk(talk, 1, RUN), ack(talk, end))
    works.update(ZERO, bytes(works.value_size))
    for seq in range(end, end + 20 * MSS_BYTES, MSS_BYTES):
        segment = talk.s("A", seq, 1, bytes(MSS_BYTES))
        kernel.feed(segment, ack(talk, seq + MSS_BYTES))
    assert not any(map(any, works.lookup_cpus(ZERO)))


@EITHER_TALK
def test_encrypted_data_needs_no_jump(kernel: Kernel, talk: Talk) -> None:
    """However short it is: what comes after the handshake is not searched."""
    works = kernel.loaded.maps["works"]
    answer = SERVER_HELLO + APPLICATION_DATA
    hello_end, answer_end = 1 + len(CLIENT_HELLO), 1 + len(answer)
    kernel.feed(
        *talk.opened(),
        talk.c("PA", 1, 1, CLIENT_HELLO),
        talk.s("PA", 1, hello_end, answer),
        talk.c("PA", hello_end, answer_end, APPLICATION_DATA),
    )
    end = hello_end + len(APPLICATION_DATA)
    works.update(ZERO, bytes(works.value_size))
    kernel.feed(
        talk.s("A", answer_end, end),
        talk.s("PA", answer_end, end, b"short"),
        talk.c("PA", end, answer_end, b"short"),
        talk.c("A", end + 5, answer_end + 5, bytes(1_400)),
    )
    assert not any(map(any, works.lookup_cpus(ZERO)))


def test_a_handshake_completes_once_the_table_has_room(tiny: Kernel) -> None:
    talks = [Talk(client_port=30_000 + n, client_iss=1_000 + n) for n in range(5)]
    for talk in talks:
        tiny.feed(*talk.opened())
    flows = tiny.loaded.maps["flows"]
    flows.delete(next(flows.items())[0])
    tiny.feed(talks[4].c("PA", 1, 1, b"x"))
    assert tiny.raised()["handshakes"] == 5
    (last,) = [flow for flow in tiny.table("flows") if flow.syn.seq == talks[4].client_iss]
    assert last.totals.side[last.totals.client].bytes == 1


def test_midstream_connections_evict_only_each_other(tiny: Kernel) -> None:
    talk = Talk()
    tiny.feed(*talk.opened())
    for port in range(20_000, 21_000):
        tiny.feed(Talk(client_port=port).c("A", 1, 1, b"x"))
        if port % 100 == 0:
            tiny.samples()
    half_open, flows, midstream = tiny.sizes()
    assert (half_open, flows) == (0, 1)
    assert 0 < midstream <= 256
    assert tiny.raised()["midstream_inserts"] == 1_000


@pytest.mark.parametrize(
    ("others", "capped"),
    [
        pytest.param([Talk(client_port=40_003)], True, id="the same address"),
        pytest.param([Talk("203.0.113.77")], False, id="another address"),
    ],
)
def test_a_source_has_its_share_of_the_connections(
    kernel: Kernel, others: list[Talk], capped: bool
) -> None:
    kernel.settings(flows_per_source=3)
    for port in range(3):
        kernel.feed(*Talk(client_port=40_000 + port).opened())
    for talk in others:
        kernel.feed(*talk.opened())
    raised = kernel.raised()
    assert raised.get("flow_source_capped", 0) == raised.get("frames_unattached", 0) == capped
    assert kernel.sizes() == (int(capped), 4 - capped, 0)


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["IPv4", "IPv6"])
def test_a_handshake_of_a_source_at_its_share_is_sampled_once(kernel: Kernel, talk: Talk) -> None:
    kernel.settings(flows_per_source=1, dedup=0)
    kernel.feed(*talk.opened())
    late = replace(talk, client_port=40_001)
    kernel.feed(*late.opened(), late.c("A", 1, 1), late.c("PA", 1, 1, hello(1)))
    *_, sampled, segment = kernel.samples()
    assert isinstance(sampled, HandshakeSample)
    assert isinstance(segment, SegmentSample)
    assert segment.midstream
    assert segment.born_ns == sampled.born_ns
    assert kernel.raised()["flow_source_capped"] == 3
    # ... and not again when there is room
    kernel.settings(flows_per_source=2, dedup=0)
    kernel.feed(late.c("A", 206, 1))
    assert kernel.submitted() == ""
    assert kernel.raised()["handshakes"] == 2
    assert kernel.sizes() == (0, 2, 0)


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["IPv4", "IPv6"])
def test_a_handshake_that_a_full_table_has_no_room_for_is_sampled(tiny: Kernel, talk: Talk) -> None:
    tiny.settings(dedup=0)
    for port in range(6):
        tiny.feed(*replace(talk, client_port=40_000 + port).opened())
    assert tiny.submitted() == " ".join(["syn handshake"] * 6)
    assert tiny.raised()["flow_insert_failed"] == 2
    assert tiny.sizes() == (2, 4, 0)


def test_ipv6_sources_share_by_64_bits(kernel: Kernel) -> None:
    kernel.settings(flows_per_source=2)
    for host in range(1, 4):
        kernel.feed(*replace(TALK6, client=f"2001:db8:1:1::{host}").opened())
    kernel.feed(*replace(TALK6, client="2001:db8:1:2::1").opened())
    assert kernel.raised()["flow_source_capped"] == 1
    assert kernel.sizes() == (1, 3, 0)


def test_a_source_at_its_share_may_reuse_its_ports(kernel: Kernel) -> None:
    kernel.settings(flows_per_source=1)
    talk = Talk()
    kernel.feed(*talk.opened(), *talk.closed())
    kernel.feed(*replace(talk, client_iss=70_000, server_iss=80_000).opened())
    raised = kernel.raised()
    assert (raised["handshakes"], raised["flow_reopened"]) == (2, 1)
    assert "flow_source_capped" not in raised


def test_the_agents_recount_lifts_the_cap(kernel: Kernel) -> None:
    kernel.settings(flows_per_source=1)
    kernel.feed(*Talk().opened())
    sources = kernel.loaded.maps["sources"]
    ((slot, _),) = [entry for entry in sources.items() if any(entry[1])]
    sources.update(slot, bytes(sources.value_size), UPDATE_EXIST)
    kernel.feed(*Talk(client_port=40_001).opened())
    assert kernel.raised()["handshakes"] == 2


# --- full rings ---


def fill(kernel: Kernel) -> int:
    """Fills this CPU's ring with SYN samples. Returns how many found it full."""
    lost = 0
    for n in range(2_000):
        # Each with another signature and its own place in half_open.
        kernel.feed(ethernet(ipv4(tcp(sport=1_024 + n, window=n + 1))))
        lost = kernel.counters().get("samples_lost", 0) if n % 100 == 99 else lost
        if lost:
            break
    return lost


def test_an_end_that_finds_the_ring_full_stays_for_the_sweep(tiny: Kernel) -> None:
    tiny.settings(dedup=0, syn_cost_ns=1)
    talk = Talk(client_port=60_000)
    tiny.feed(*talk.opened(), *talk.closed()[:2])
    assert fill(tiny)
    tiny.feed(talk.closed()[2])
    totals = tiny.flow().totals
    assert totals.close == abi.CLOSES.index("fin")
    assert not totals.end_sent


@pytest.mark.parametrize("sampled", [True, False], ids=["SYN sampled", "SYN lost too"])
def test_a_handshake_that_finds_the_ring_full_is_marked_for_the_sweep(
    tiny: Kernel, sampled: bool
) -> None:
    tiny.settings(dedup=0, syn_cost_ns=1)
    talk = Talk(client_port=60_000)
    if sampled:
        tiny.feed(talk.c("S"))
    assert fill(tiny)
    tiny.feed(*talk.opened()[sampled:])
    ((_, value),) = tiny.loaded.maps["flows"].items()
    assert tiny.flow().synack.ip_flags & abi.HANDSHAKE_LOST
    found = flow_handshake_sample(value)
    assert found.syn_sampled == sampled
    assert (found.time_ns, found.handshake.established_ns) == (tiny.now_ns, tiny.now_ns)
    assert found.handshake.syn is not None
    assert found.born_ns == found.handshake.syn.time_ns
    assert ports(found.key) == (443, 60_000)
    assert found.client == 1


def test_a_syn_that_finds_the_ring_full_is_not_marked_as_sampled(tiny: Kernel) -> None:
    tiny.settings(dedup=0, syn_cost_ns=1)
    tiny.feed(Talk().c("S"))  # with it the kernel reports the losses of earlier tests
    tiny.samples()
    lost_before = sum(tiny.loaded.rings.lost.values())
    assert fill(tiny)
    talk = Talk(client_port=60_000)
    tiny.feed(talk.c("S"))
    counted = tiny.counters()["samples_lost"]
    sampled = [entry.syn_sampled for entry in tiny.table("half_open") if entry.syn.window == 64_240]
    assert sorted(sampled) == [0, 1]
    tiny.samples()
    tiny.feed(*talk.opened()[1:])
    assert tiny.submitted() == "handshake"
    assert tiny.counters()["samples_lost"] == counted
    assert sum(tiny.loaded.rings.lost.values()) - lost_before == counted


def test_a_reset_whose_sample_was_lost_stays_a_reset(tiny: Kernel) -> None:
    tiny.settings(dedup=0, syn_cost_ns=1)
    talk = Talk(client_port=60_000)
    tiny.feed(*talk.opened(), talk.s("FA", 1, 1))
    assert fill(tiny)
    tiny.feed(talk.c("RA", 1, 2))
    tiny.samples()
    again = replace(talk, client_iss=70_000, server_iss=80_000)
    tiny.feed(*again.opened())
    assert tiny.submitted() == "syn end:rst handshake"

"""Round trips between stamps of whole microseconds, as every JA4L tool counts them."""

from __future__ import annotations

import pytest

from deckwire.tcp.handshake import Handshake
from deckwire.tcp.syn_packet import ACK, SYN
from tests.support.fingerprint_frames import syn


@pytest.mark.parametrize(
    ("syn_ns", "synack_ns", "ack_ns", "server_us", "client_us"),
    [
        (0, 2_400_000, 32_500_000, 2_400, 30_100),
        (999, 1_000, 1_999, 1, 0),
        (1_000, 1_999, 2_000, 0, 1),
        (5_000, 5_000, 5_000, 0, 0),
        (9_000, 4_000, 1_000, None, None),
        (9_000, 8_999, 10_000, None, 2),
        (9_000, 10_000, 9_500, 1, None),
        (0, 0, 2_000_000_000_000, 0, 2_000_000_000),
    ],
)
def test_round_trips(
    syn_ns: int, synack_ns: int, ack_ns: int, server_us: int | None, client_us: int | None
) -> None:
    handshake = Handshake(syn(time_ns=syn_ns), syn(time_ns=synack_ns), ack_ns)
    assert (handshake.rtt_server_us, handshake.rtt_client_us) == (server_us, client_us)


def test_times_across_a_jump_of_the_clock_are_dropped() -> None:
    def jumped_at(jump_ns: int) -> Handshake:
        made = Handshake(syn(time_ns=1_000), syn(time_ns=3_000), 6_000)
        return made.keep_even(lambda start_ns, end_ns: not start_ns < jump_ns <= end_ns)

    whole, early, late = (jumped_at(jump_ns) for jump_ns in (500, 2_000, 4_000))
    assert (whole.rtt_server_us, whole.rtt_server_ns, whole.rtt_client_us) == (2, 2_000, 3)
    assert (early.rtt_server_us, early.rtt_server_ns, early.rtt_client_us) == (None, None, 3)
    assert (late.rtt_server_us, late.rtt_server_ns, late.rtt_client_us) == (2, 2_000, None)


def test_what_was_not_seen_gives_no_round_trip() -> None:
    assert Handshake().rtt_server_us is None
    assert Handshake().rtt_client_us is None
    assert Handshake(syn=syn()).rtt_server_us is None
    assert Handshake(synack=syn()).rtt_server_us is None
    assert Handshake(synack=syn()).rtt_client_us is None
    assert Handshake(established_ns=5).rtt_client_us is None


@pytest.mark.parametrize(
    ("payload_len", "acked", "taken"),
    [(0, 1, 0), (200, 1, 0), (200, 101, 100), (200, 201, 200), (200, 999, 200)],
)
@pytest.mark.parametrize("seq", [7, 0xFFFF_FFFF])
def test_the_syn_ack_shows_how_much_of_the_syns_data_was_taken(
    payload_len: int, acked: int, taken: int, seq: int
) -> None:
    first = syn(time_ns=0, seq=seq, payload_len=payload_len)
    synack = syn(time_ns=1, ack=(seq + acked) & 0xFFFF_FFFF, flags=SYN | ACK)
    assert Handshake(first, synack).syn_data_taken == taken
    assert Handshake(first).syn_data_taken == Handshake(None, synack).syn_data_taken == 0


def test_only_a_syn_ack_with_all_its_options_is_whole() -> None:
    synack = syn(time_ns=1, flags=SYN | ACK)
    assert Handshake(syn(time_ns=0), synack).whole_synack is synack
    assert Handshake(syn(time_ns=0), syn(time_ns=1, flags=SYN)).whole_synack is None
    assert (
        Handshake(syn(time_ns=0), syn(time_ns=1, flags=SYN | ACK, options_cut=True)).whole_synack
        is None
    )
    assert Handshake(syn(time_ns=0)).whole_synack is None


def test_where_the_bytes_of_each_end_begin() -> None:
    opened, answered = syn(seq=0xFFFF_FFFF), syn(seq=7, ack=9)
    both = Handshake(opened, answered)
    assert (both.first_seq(of_client=True), both.first_seq(of_client=False)) == (0, 8)
    assert Handshake(synack=answered).first_seq(of_client=True) == 9
    assert Handshake(opened).first_seq(of_client=False) is None
    assert Handshake().first_seq(of_client=True) is None

"""Connections whose handshake was not seen: what a blind forger gains, and what proves them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.hashes import service_signature
from deckwire.abi.samples import EndSample, flow_record
from deckwire.tables.suppression import Suppression
from tests.support.bpf_frames import CLIENT_HELLO, DECKY, SERVER_HELLO, TALK6, Talk
from tests.support.bpf_harness import MS, SECOND, SETTINGS, Kernel, Wait, segments

pytestmark = pytest.mark.root

TALKS = pytest.mark.parametrize("talk", [Talk(), TALK6, Talk(client_port=443, server_port=40_000)])


@TALKS
def test_a_lone_hello_is_unproven(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(talk.c("PA", 1, 1, CLIENT_HELLO))
    (sample,) = segments(kernel.samples())
    assert (sample.midstream, sample.proven) == (True, False)


@TALKS
def test_what_the_other_end_acknowledges_is_proven(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(
        talk.c("PA", 1, 1, CLIENT_HELLO),
        talk.s("PA", 1, 1 + len(CLIENT_HELLO), SERVER_HELLO),
    )
    hello, answer = segments(kernel.samples())
    assert (hello.proven, answer.proven) == (False, True)


@pytest.mark.parametrize(
    ("flags", "ack"),
    [("RA", 1 + len(CLIENT_HELLO)), ("A", 1), ("A", 2 + len(CLIENT_HELLO)), ("R", 1)],
    ids=["a closed port", "nothing of it", "more than it", "no ACK"],
)
def test_what_proves_nothing(kernel: Kernel, flags: str, ack: int) -> None:
    talk = Talk()
    kernel.feed(talk.c("PA", 1, 1, CLIENT_HELLO), talk.s(flags, 1, ack))
    (flow,) = kernel.table("midstream_flows")
    assert not flow.totals.flags & abi.FLOW_PROVEN


def test_an_acknowledgement_of_no_payload_proves_nothing(kernel: Kernel) -> None:
    """Both numbers are then the forger's own."""
    talk = Talk()
    kernel.feed(talk.c("PA", 1, 1, CLIENT_HELLO), talk.c("PA", 1 + len(CLIENT_HELLO), 1, b"x"))
    (flow,) = kernel.table("midstream_flows")
    assert not flow.totals.flags & abi.FLOW_PROVEN


def test_forged_ones_share_a_budget(kernel: Kernel) -> None:
    kernel.settings(midstream_cost_ns=10 * MS, midstream_burst_ns=100 * MS)
    for number in range(200):
        talk = Talk(client=f"192.0.2.{number}")
        kernel.feed(talk.c("PA", 1, 1, CLIENT_HELLO))
    assert 10 <= len(kernel.samples()) <= 31
    assert kernel.raised()["midstream_over_budget"] >= 160
    proven = Talk(client="198.51.100.200")
    kernel.feed(*proven.opened(), proven.c("PA", 1, 1, CLIENT_HELLO))
    assert len(segments(kernel.samples())) == 1
    kernel.check()


def test_a_proven_one_needs_no_budget(kernel: Kernel) -> None:
    kernel.settings(midstream_cost_ns=SECOND, midstream_burst_ns=SECOND)
    talk = Talk()
    kernel.feed(
        talk.c("PA", 1, 1, CLIENT_HELLO),
        talk.s("PA", 1, 1 + len(CLIENT_HELLO), SERVER_HELLO),
    )
    assert len(segments(kernel.samples())) == 2
    assert "midstream_over_budget" not in kernel.raised()


def test_ends_are_not_suppressed_with_those_of_proven_ones(kernel: Kernel) -> None:
    """They have a window of their own in the agent, so the kernel must not merge them."""
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, b"a line"), *talk.closed(7))
    (end,) = [sample for sample in kernel.samples() if isinstance(sample, EndSample)]
    suppression: Suppression[str] = Suppression(kernel.loaded.maps["service_seen"])
    signature = service_signature(end.key, end.record.client, SETTINGS["seed"], abi.SERVICE_FLOW)
    suppression.open(signature, "window", kernel.now_ns + 300 * SECOND)
    forged = replace(talk, client_port=talk.client_port + 1)
    lines = [forged.c("PA", 1 + 6 * n, 1, b"a line") for n in range(5)]
    kernel.feed(Wait(2 * SECOND), *lines, forged.c("R", 31, 0))
    (end,) = [sample for sample in kernel.samples() if isinstance(sample, EndSample)]
    assert (end.record.unseen, end.record.proven) == (True, False)
    assert kernel.raised().get("ends_suppressed", 0) == 0


def test_a_full_table_makes_no_connection_unseen(tiny: Kernel) -> None:
    """Its handshake completed, so nobody forged it."""
    tiny.settings(dedup=0)
    for number in range(10):
        talk = Talk(client_port=41_000 + number)
        tiny.feed(*talk.opened(), talk.c("PA", 1, 1, b"a line"))
    tiny.samples()
    found = [flow_record(value) for _, value in tiny.loaded.maps["midstream_flows"].items()]
    assert found
    assert not any(record.unseen for record in found)
    assert all(record.proven and record.midstream for record in found)


def test_the_decky_of_a_forged_one_is_its_own(kernel: Kernel) -> None:
    kernel.feed(Talk(server=DECKY).c("PA", 1, 1, CLIENT_HELLO))
    (sample,) = segments(kernel.samples())
    assert sample.hello == 0, "the kernel hashes no hello of it: no window may open"


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["IPv4", "IPv6"])
def test_a_decky_that_goes_on_did_not_take_the_reset(kernel: Kernel, talk: Talk) -> None:
    """The RST has a wrong checksum, perhaps, which nobody compares here."""
    kernel.feed(talk.c("PA", 1, 1, b"one"), talk.s("PA", 1, 4, b"two"), talk.c("R", 4))
    kernel.feed(talk.c("PA", 4, 4, b"three"), talk.s("A", 4, 9))
    kernel.samples()
    kernel.feed(talk.c("PA", 9, 4, CLIENT_HELLO))
    assert [sample.payload for sample in segments(kernel.samples())] == [CLIENT_HELLO]
    raised = kernel.raised()
    assert (raised["frames_late"], raised["flows_resumed"]) == (1, 1)
    kernel.feed(talk.s("R", 4))
    (end,) = kernel.samples()
    assert isinstance(end, EndSample)
    assert sum(end.record.resumed) == 1


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["IPv4", "IPv6"])
def test_a_reset_before_the_final_ack_conceals_no_handshake(kernel: Kernel, talk: Talk) -> None:
    """With Fast Open, the server has answered already. The decky drops the RST."""
    kernel.feed(talk.c("S", 0, None, b"x" * 10), talk.s("SA", 0, 11))
    kernel.feed(talk.s("PA", 1, 11, b"answer"), talk.c("R", 11))
    kernel.feed(talk.c("PA", 11, 7, b"more"), talk.s("A", 7, 15), talk.c("PA", 15, 7, CLIENT_HELLO))
    raised = kernel.raised()
    assert (raised["flows_resumed"], raised["handshakes"]) == (1, 1)
    assert [one.payload for one in segments(kernel.samples())][-1:] == [CLIENT_HELLO]


def test_the_peer_opens_nothing_again_that_a_decky_has_reset(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(talk.c("PA", 1, 1, b"one"), talk.s("PA", 1, 4, b"two"), talk.s("R", 4))
    kernel.feed(Wait(SECOND), talk.c("PA", 4, 9, b"three"))
    assert "flows_resumed" not in kernel.raised()


@TALKS
@pytest.mark.parametrize("acked", [0, 5, 70_000])
def test_a_syn_with_data_conceals_only_what_may_answer_it(
    kernel: Kernel, talk: Talk, acked: int
) -> None:
    """An attacker sends it on the 4-tuple of a connection that is older than the capture."""
    kernel.feed(talk.c("S", 0, None, b"data"), talk.s("PA", 500, 1 + acked, b"x"))
    assert kernel.raised().get("midstream_inserts", 0) == (acked > 4)

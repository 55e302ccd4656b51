"""Frames from outside with the address of a decky: what shows that they are forged."""

from __future__ import annotations

import pytest

from deckwire.abi.samples import AnomalySample, EndSample
from deckwire.tcp.anomaly import Technique
from tests.support.bpf_frames import CLIENT, DECKY, DECKY_B, TALK6, Talk
from tests.support.bpf_harness import Kernel

pytestmark = pytest.mark.root

INBOUND = [Talk(), TALK6, Talk(client_port=443, server_port=40_000)]
LINE = b"a line\r\n"
FORGED = pytest.mark.parametrize(
    ("flags", "data"), [("A", b""), ("PA", LINE), ("R", b""), ("RA", b""), ("FA", b"")]
)


def opened(kernel: Kernel, talk: Talk) -> None:
    """Open a connection; the decky's SYN-ACK leaves by this host."""
    syn, synack, ack = talk.opened()
    kernel.feed(syn)
    kernel.feed(synack, egress=True)
    kernel.feed(ack)
    kernel.samples()


@FORGED
@pytest.mark.parametrize("talk", INBOUND, ids=["v4", "v6", "other end"])
def test_a_neighbour_cannot_speak_for_a_decky(
    kernel: Kernel, talk: Talk, flags: str, data: bytes
) -> None:
    opened(kernel, talk)
    before = kernel.flow()
    kernel.feed(talk.s(flags, 1, 1, data))
    (sample,) = kernel.samples()
    assert isinstance(sample, AnomalySample)
    assert sample.anomaly.technique is Technique.FORGED_SOURCE
    assert sample.sender != sample.client
    assert kernel.flow() == before
    counts = kernel.raised()
    assert counts["refused_forged"] == counts["frames_refused"] == counts["anomalies"] == 1
    kernel.check()


def test_the_deckys_own_frames_are_believed(kernel: Kernel) -> None:
    talk = Talk()
    opened(kernel, talk)
    kernel.feed(talk.s("PA", 1, 1, LINE), talk.s("R", 1 + len(LINE), 1), egress=True)
    (sample,) = kernel.samples()
    assert isinstance(sample, EndSample)
    assert "anomalies" not in kernel.raised()


def test_a_decky_that_connects_out_is_not_spoken_for_either(kernel: Kernel) -> None:
    talk = Talk(client=DECKY, server=CLIENT)
    syn, synack, ack = talk.opened()
    kernel.feed(syn, egress=True)
    kernel.feed(synack)
    kernel.feed(ack, egress=True)
    kernel.samples()
    kernel.feed(talk.c("R", 1, 1))
    (sample,) = kernel.samples()
    assert isinstance(sample, AnomalySample)
    kernel.feed(talk.s("PA", 1, 1, LINE))
    assert kernel.flow().totals.close == 0


def test_a_mirror_port_sees_both_ends_by_ingress(kernel: Kernel) -> None:
    """Nothing there shows who sent a frame."""
    talk = Talk()
    kernel.feed(*talk.opened(), talk.s("PA", 1, 1, LINE), talk.c("A", 1, 1 + len(LINE)))
    assert "anomalies" not in kernel.raised()
    assert kernel.server_side().bytes == len(LINE)


def test_between_two_deckies_a_neighbour_can_speak_for_either(kernel: Kernel) -> None:
    """The limit that docs/security.md names: macvlan hands such frames to ingress itself."""
    talk = Talk(client=DECKY_B, server=DECKY)
    kernel.feed(*talk.opened(), talk.s("PA", 1, 1, LINE))
    assert kernel.server_side().bytes == len(LINE)
    assert "anomalies" not in kernel.raised()


def test_before_a_decky_has_sent_anything_a_neighbour_can_speak_for_it(kernel: Kernel) -> None:
    """Of a mid-stream connection, the decky's first frame shows where it is."""
    talk = Talk()
    kernel.feed(talk.c("PA", 1, 1, LINE), talk.s("PA", 1, 1 + len(LINE), LINE))
    assert "anomalies" not in kernel.raised()
    kernel.feed(talk.s("A", 1 + len(LINE), 1 + len(LINE)), egress=True)
    kernel.feed(talk.s("PA", 1 + len(LINE), 1 + len(LINE), LINE))
    assert kernel.raised()["anomalies"] == 1

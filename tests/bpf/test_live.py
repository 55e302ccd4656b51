"""The programs on an interface, with the kernel's clock.

What a test run cannot make: offloaded VLAN tags, frames shorter than an IP header or longer than
a page, and the XDP assist.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.samples import HandshakeSample, SynSample, decode
from deckwire.kernel.loading import Loaded, LoadRequest, detach, load
from deckwire.lab.namespaces import PATIENCE_SECONDS
from tests.support.bpf_frames import (
    APPLICATION_DATA,
    DECKY,
    DECKY6,
    DECKY6_B,
    DECKY_B,
    LINUX_OPTIONS,
    QINQ,
    STRANGER,
    TALK6,
    VLAN,
    Talk,
    ethernet,
    hello,
    ipv4,
    ipv6,
    tcp,
)
from tests.support.bpf_harness import SETTINGS, SMALL_TABLES, Kernel, segments, word
from tests.support.bpf_wire import WATCHED, Wire

pytestmark = pytest.mark.root

MTU = {"off": 65_535, "generic": 9_000, "native": 1_500}
"""Native XDP of a veth wants a packet in a page."""


class Live(Kernel):
    """A kernel that gets its frames from an interface."""

    def __init__(self, loaded: Loaded, wire: Wire) -> None:
        super().__init__(loaded)
        self.wire = wire
        self.xdp = loaded.xdp
        self._sent: list[bytes] = []

    def send(self, *frames: bytes, out: bool = False) -> None:
        """Sends the frames and waits until the programs have counted them."""
        (self.wire.send_out if out else self.wire.send)(frames)
        self.run += len(frames)
        self._sent += frames
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.seen() < self.run:
            assert time.monotonic() < deadline, f"{self.seen()} of {self.run} frames counted"
            os.sched_yield()

    def seen(self) -> int:
        counters = self.counters()
        return sum(counters.get(name, 0) for name in abi.FRAME_COUNTERS)

    def emitted(self) -> str:
        return " ".join(map(word, self.samples()))

    def _check_sample(self, sample: object, data: bytes) -> None:
        assert decode(data) == sample


@pytest.fixture(scope="module", params=["off", "generic", "native"])
def attached(request: pytest.FixtureRequest) -> Iterator[tuple[Loaded, Wire]]:
    """By what XDP does."""
    wire = Wire(MTU[request.param])
    try:
        loaded = load(
            LoadRequest(
                interfaces=(WATCHED,),
                netns=wire.name,
                xdp=request.param,
                settings=SETTINGS,
                table_sizes=SMALL_TABLES,
            )
        )
        (attachment,) = loaded.attachments
        assert attachment.xdp == request.param, attachment.notes
        yield loaded, wire
        detach(loaded)
        loaded.close()
    finally:
        wire.close()


@pytest.fixture
def live(attached: tuple[Loaded, Wire]) -> Iterator[Live]:
    live = Live(*attached)
    live.reset()
    yield live
    live.check()


def noted(live: Live, count: int) -> dict[str, int]:
    """What XDP adds to the counters for so many SYNs."""
    return {} if live.xdp == "off" else {"syn_noted": count}


SYN = tcp(options=LINUX_OPTIONS)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(ethernet(ipv4(SYN)), id="IPv4"),
        pytest.param(ethernet(ipv6(SYN)), id="IPv6"),
        pytest.param(ethernet(ipv4(SYN), tags=[(VLAN, 5)]), id="IPv4, one tag"),
        pytest.param(ethernet(ipv6(SYN), tags=[(VLAN, 5)]), id="IPv6, one tag"),
        pytest.param(ethernet(ipv4(SYN), tags=[(QINQ, 5), (VLAN, 6)]), id="IPv4, two tags"),
        pytest.param(ethernet(ipv6(SYN), tags=[(QINQ, 5), (VLAN, 6)]), id="IPv6, two tags"),
    ],
)
def test_a_syn_is_sampled_whatever_tags_it_carries(live: Live, frame: bytes) -> None:
    """The kernel takes the outer tag out of the frame before TC sees it."""
    before = time.monotonic_ns()
    live.send(frame)
    (sample,) = live.samples()
    assert isinstance(sample, SynSample)
    assert before < sample.time_ns < time.monotonic_ns()
    assert sample.syn.options == LINUX_OPTIONS
    assert (sample.syn.seq, sample.syn.window, sample.syn.payload_len) == (1_000, 64_240, 0)
    assert live.raised() == {"frames_syn": 1, "half_open_inserts": 1, **noted(live, 1)}
    (half_open,) = live.table("half_open")
    assert (half_open.noted, half_open.signature) == (0, sample.signature)


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["IPv4", "IPv6"])
def test_a_connection_from_its_syn_to_its_end(live: Live, talk: Talk) -> None:
    payload = hello(1, 600)
    syn, synack, ack = talk.opened()
    live.send(syn)
    live.send(synack, out=True)
    live.send(ack, talk.c("PA", 1, 1, payload))
    fin, answer, last = talk.closed(601, 1)
    live.send(fin)
    live.send(answer, out=True)
    live.send(last)
    samples = sorted(live.samples(), key=lambda sample: sample.time_ns)
    assert [word(sample) for sample in samples] == ["syn", "handshake", "segment:600", "end:fin"]
    (segment,) = segments(samples)
    assert segment.payload == payload
    handshake = samples[1]
    assert isinstance(handshake, HandshakeSample)
    assert handshake.syn_sampled
    assert handshake.handshake.rtt_server_us is not None
    assert live.raised() == {
        "frames_syn": 1,
        "frames_synack": 1,
        "frames_flow": 5,
        "half_open_inserts": 1,
        "half_open_deletes": 1,
        "handshakes": 1,
        "flow_inserts": 1,
        **noted(live, 1),
    }


@pytest.mark.parametrize("out", [False, True], ids=["in", "out"])
def test_what_the_programs_do_is_no_part_of_the_time_on_the_wire(live: Live, *, out: bool) -> None:
    """A frame has been on the wire before them on its way in, and is after them on its way out."""
    talk = Talk(DECKY, DECKY_B)
    live.send(talk.c("S"), out=out)
    (sample,) = live.samples()
    recorded = live.sources()[DECKY].first_ns
    assert (recorded < sample.time_ns) is out


def test_all_samples_of_an_outbound_connection_agree_when_it_began(live: Live) -> None:
    talk = Talk(DECKY, STRANGER)
    (syn, synack, ack), (fin, answer, last) = talk.opened(), talk.closed()
    live.send(syn, out=True)
    live.send(synack)
    live.send(ack, fin, out=True)
    live.send(answer)
    live.send(last, out=True)
    samples = live.samples()
    assert sorted(map(word, samples)) == ["end:fin", "handshake", "syn"]
    assert len({sample.born_ns for sample in samples}) == 1
    (opened,) = [sample for sample in samples if isinstance(sample, HandshakeSample)]
    assert opened.handshake.synack is not None
    assert opened.born_ns < opened.handshake.synack.time_ns < opened.time_ns


@pytest.mark.parametrize(
    "tags", [[], [(VLAN, 5)], [(QINQ, 5), (VLAN, 6)]], ids=["no tag", "one tag", "two tags"]
)
def test_payload_is_found_after_tags(live: Live, tags: list[tuple[int, int]]) -> None:
    payload = hello(1, 900)
    packet = ipv4(tcp(payload, flags="PA", seq=5, ack=5))
    live.send(ethernet(packet, tags=tags))
    (segment,) = segments(live.samples())
    assert segment.payload == payload


def test_frames_of_every_short_length_are_counted_once(live: Live) -> None:
    """A veth carries them from the Ethernet header on; the kernel drops a tag without a type."""
    tagged = ethernet(ipv4(SYN), tags=[(VLAN, 1), (VLAN, 2)])
    for whole, shortest in ((Talk().c("S"), 15), (TALK6.c("S"), 15), (tagged, 20)):
        live.reset()
        live.send(*(whole[:length] for length in range(shortest, len(whole) + 1)))
        raised = live.raised()
        assert raised["foreign_not_ip"] >= 14
        # Cut in the TCP options: still a SYN, and then a repeated one.
        assert raised["frames_syn"] == 1 + raised.get("syn_retransmits", 0)
        assert live.emitted() == "syn"
        live.check()


def test_a_repeated_syn_is_a_retransmission(live: Live) -> None:
    live.send(ethernet(ipv4(SYN)), ethernet(ipv4(SYN)))
    assert live.emitted() == "syn"
    assert live.raised() == {
        "frames_syn": 2,
        "syn_retransmits": 1,
        "half_open_inserts": 1,
        **noted(live, 1),
    }


def test_all_but_bare_syns_to_a_decky_are_left_to_tc(live: Live) -> None:
    frames = [
        ethernet(ipv4(SYN, options=bytes(4))),
        ethernet(ipv4(tcp(flags="SA"), "192.0.2.44")),
        ethernet(ipv4(SYN, DECKY, STRANGER)),
        ethernet(ipv4(tcp(offset=4))),
        ethernet(ipv4(SYN, STRANGER, "192.0.2.44")),
    ]
    live.send(*frames)
    assert "syn_noted" not in live.raised()
    assert live.emitted() == "syn syn"
    assert live.raised()["ignored_tcp_malformed"] == live.raised()["foreign_no_decky"] == 1


def test_the_options_of_a_syn_are_those_that_it_carries(live: Live) -> None:
    for length in range(0, 44, 4):
        options = bytes(range(1, length + 1))
        live.send(ethernet(ipv4(tcp(options=options, sport=1_000 + length))))
    found = [sample.syn.options for sample in live.samples() if isinstance(sample, SynSample)]
    assert sorted(found) == [bytes(range(1, length + 1)) for length in range(0, 44, 4)]


def test_long_frames_are_sampled_up_to_their_bound(live: Live) -> None:
    """They lie in several pages, and only the first is in the linear data."""
    mtu = MTU[live.xdp]
    payload = hello(1, min(mtu, 16_000) - 40)
    live.send(ethernet(ipv4(tcp(payload, flags="PA", seq=5, ack=5))))
    (segment,) = segments(live.samples())
    assert segment.payload == payload
    if mtu < 60_000:
        return
    talk = Talk(client_port=40_001)
    body = b"".join(hello(11, 10_000) for _ in range(5))
    live.send(talk.c("PA", 1, 1, hello(1, 10_000) + body))
    (segment,) = segments(live.samples())
    assert (segment.payload, segment.claimed) == ((hello(1, 10_000) + body)[:32_768], 60_000)
    live.send(talk.c("PA", 60_001, 1, APPLICATION_DATA + bytes(50_000)))
    assert live.emitted() == ""


def test_lateral_frames_are_seen_at_ingress(live: Live) -> None:
    for talk in (Talk(DECKY, DECKY_B), Talk(DECKY6, DECKY6_B)):
        live.send(*talk.opened())
        live.send(*talk.closed())
    live.samples()
    raised = live.raised()
    assert (raised["handshakes"], raised["frames_flow"]) == (2, 8)

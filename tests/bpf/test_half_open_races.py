"""Handshakes on one CPU while another CPU floods the same table with SYNs.

A program makes the flood inside the kernel, so both CPUs are in the table all the time. Every
handshake has numbers, windows, options and times of its own, so any part of another one shows.

`DECKWIRE_RACE_HANDSHAKES` makes the tests longer: 300000 handshakes meet 10 million SYNs.
"""

from __future__ import annotations

import os
from contextlib import closing
from struct import pack, pack_into
from threading import Thread

import pytest

from deckwire.abi.samples import HandshakeSample, decode
from deckwire.kernel.programs import Program
from tests.support.bpf_frames import DECKY, DECKY_B, LINUX_OPTIONS, Talk
from tests.support.bpf_harness import MS, SECOND, SMALL_TABLES, START_NS, Kernel
from tests.support.syn_driver import PORTS, SEQ, SOURCE, STEP_NS, flood_frame, syn_driver

pytestmark = pytest.mark.root

HANDSHAKES = int(os.environ.get("DECKWIRE_RACE_HANDSHAKES", "3000"))
ROUND = 50
"""Handshakes of one round."""
FLOOD = 1_700
"""SYNs of the flood in one round. With the handshakes they fit into the larger table."""
REPEAT = 20
"""Runs of a rival SYN in one system call."""
ROUND_NS = 10 * MS
FRAME_NS = 1_000 * STEP_NS
"""Time between two frames of a handshake, by the replay clock."""

_WINDOW, _OPTIONS = 48, 54
"""Offsets in a frame of IPv4."""
_STAMP = _OPTIONS + 8
_PORT = 443
_MAPPED = bytes(10) + b"\xff\xff"
"""Before an IPv4 address in a flow key."""

Facts = tuple[object, ...]


class Handshakes:
    """Makes handshakes frame by frame, and knows what their samples must have."""

    def __init__(self, kernel: Kernel) -> None:
        talk = Talk("192.0.0.0", DECKY, server_port=_PORT)
        self._program = Program("handshakes", os.dup(kernel.loaded.programs["tc_ingress"].fd))
        self._templates = [
            talk.c("S", options=LINUX_OPTIONS),
            talk.s("SA", options=LINUX_OPTIONS),
            talk.c("A"),
        ]

    def close(self) -> None:
        self._program.close()

    def make(self, number: int, begun_ns: int) -> tuple[int, list[bytes], Facts]:
        """The time of a handshake's SYN, its frames, and the facts of its sample.

        No two have the same numbers, times and options.
        """
        syn, synack, ack = (bytearray(one) for one in self._templates)
        client = pack("!I", 0x0A40_0000 | number >> 14)
        port = 1_024 + number % 16_384
        client_iss = number * 0x9E37_79B1 % 2**32
        server_iss = (client_iss ^ 0x5A5A_5A5A) * 3 % 2**32
        stamp = pack("!I", client_iss ^ 0x00FF_FF00)
        window = 2 + 2 * (number % 30_000)
        for frame in (syn, ack):
            frame[SOURCE : SOURCE + 4] = client
            pack_into("!H", frame, PORTS, port)
        synack[SOURCE + 4 : SOURCE + 8] = client
        pack_into("!H", synack, PORTS + 2, port)
        following = (client_iss + 1) % 2**32
        pack_into("!I", syn, SEQ, client_iss)
        pack_into("!II", synack, SEQ, server_iss, following)
        pack_into("!II", ack, SEQ, following, (server_iss + 1) % 2**32)
        for frame, value in ((syn, window), (synack, window + 1)):
            pack_into("!H", frame, _WINDOW, value)
            frame[_STAMP : _STAMP + 4] = stamp
        options = bytes(syn[_OPTIONS:])
        key = _MAPPED + bytes(synack[SOURCE : SOURCE + 4]) + _MAPPED + client
        key += pack("!HH", _PORT, port)
        times = [begun_ns + FRAME_NS * step for step in range(3)]
        facts = (
            *(key, times[0], times[2]),
            (times[0], client_iss, 0, window, options),
            (times[1], server_iss, following, window + 1, options),
        )
        return begun_ns, [bytes(one) for one in (syn, synack, ack)], facts

    def send(self, frame: bytes, now_ns: int) -> None:
        """Run the programs over a frame, on the CPU of the calling thread."""
        self._program.test_run(frame, tstamp=now_ns)


def facts_of(sample: HandshakeSample) -> Facts:
    packets = (sample.handshake.syn, sample.handshake.synack)
    return (
        *(sample.key, sample.born_ns, sample.time_ns),
        *(
            None if one is None else (one.time_ns, one.seq, one.ack, one.window, one.options)
            for one in packets
        ),
    )


class Flood:
    """SYNs of other connections, sent by a thread on the second CPU."""

    def __init__(self, driver: Program) -> None:
        self._driver = driver
        self.sent = 0

    def send(self, syns: int, now_ns: int) -> Thread:
        """Begin to send. The thread ends with the last SYN."""

        def run() -> None:
            os.sched_setaffinity(0, {_cpus()[1]})
            frame = flood_frame(DECKY_B, self.sent)
            self._driver.test_run(frame, tstamp=now_ns, repeat=syns)
            self.sent += syns

        thread = Thread(target=run)
        thread.start()
        return thread


def _cpus() -> list[int]:
    return sorted(os.sched_getaffinity(os.getpid()) | set(range(os.cpu_count() or 1)))[:2]


@pytest.fixture(params=["a table that holds them all", "a table for a few"])
def racing(request: pytest.FixtureRequest) -> Kernel:
    if len(_cpus()) < 2:
        pytest.skip("one CPU")
    roomy = request.param == "a table that holds them all"
    kernel: Kernel = request.getfixturevalue("kernel" if roomy else "tiny")
    # Only the handshakes are sampled, and each is.
    kernel.settings(dedup=0, syn_cost_ns=SECOND, syn_burst_ns=0, flows_per_source=2**31)
    return kernel


def test_handshakes_during_a_flood_are_whole_or_counted(racing: Kernel) -> None:
    """None has a part of another. If the table holds all, those missing are counted as failed."""
    kernel = racing
    roomy = kernel.loaded.maps["flows"].max_entries > ROUND
    now_ns, missing = START_NS, 0
    with (
        syn_driver(kernel.loaded.programs["tc_ingress"], flood_frame(DECKY_B)) as driver,
        closing(Handshakes(kernel)) as handshakes,
    ):
        flood = Flood(driver)
        for first in range(0, HANDSHAKES, ROUND):
            made = [
                handshakes.make(number, now_ns + FRAME_NS * (number - first) // ROUND)
                for number in range(first, first + ROUND)
            ]
            flooding = flood.send(FLOOD, now_ns)
            if roomy:  # many at once, so that each waits in the table for long
                order = [(step, one) for step in range(3) for one in made]
            else:
                order = [(step, one) for one in made for step in range(3)]
            for step, (begun_ns, frames, _) in order:
                handshakes.send(frames[step], begun_ns + FRAME_NS * step)
            flooding.join()
            missing += _check(kernel, [facts for _, _, facts in made])
            now_ns += ROUND_NS
    kernel.run += 3 * HANDSHAKES + flood.sent
    counters = kernel.counters()
    lost = counters.get("half_open_failed", 0)
    if not roomy:
        lost += counters["half_open_evicted"]
    assert missing <= lost
    assert counters["frames_syn"] == HANDSHAKES + flood.sent
    held, _, _ = kernel.sizes()
    gone = counters["half_open_deletes"] + counters.get("half_open_evicted", 0)
    assert counters["half_open_inserts"] == held + gone


@pytest.mark.parametrize("change", [0x55, 0], ids=["another SYN", "the same SYN"])
def test_a_rival_syn_on_the_other_cpu_changes_no_handshake(kernel: Kernel, change: int) -> None:
    """A SYN of the same 4-tuple, again and again, while the handshake is made."""
    if len(_cpus()) < 2:
        pytest.skip("one CPU")
    kernel.settings(dedup=0, syn_cost_ns=SECOND, syn_burst_ns=0, flows_per_source=2**31)
    tc_ingress = kernel.loaded.programs["tc_ingress"]
    now_ns, missing = START_NS, 0
    with (
        closing(Program("rival", os.dup(tc_ingress.fd))) as program,
        closing(Handshakes(kernel)) as handshakes,
    ):
        for first in range(0, HANDSHAKES // 10, ROUND):
            made = [handshakes.make(number, now_ns) for number in range(first, first + ROUND)]
            rival = Rival(program, change)
            for begun_ns, frames, _ in made:
                rival.turn_to(frames[0], begun_ns)
                for step, frame in enumerate(frames):
                    handshakes.send(frame, begun_ns + FRAME_NS * step)
            kernel.run += rival.stop() + 3 * ROUND
            missing += _check(kernel, [facts for _, _, facts in made])
            now_ns += ROUND_NS
    assert missing <= kernel.counters().get("half_open_failed", 0)


class Rival:
    """Sends a changed SYN of one 4-tuple at a time, in a thread on the second CPU."""

    def __init__(self, program: Program, change: int) -> None:
        self._program = program
        self._change = change
        self._turn: tuple[bytes, int] | None = None
        self._stopped = False
        self._sent = 0
        self._thread = Thread(target=self._run)
        self._thread.start()

    def turn_to(self, syn: bytes, now_ns: int) -> None:
        """Send the rival of this SYN from now on."""
        rival = bytearray(syn)
        for at in (SEQ, _WINDOW, _STAMP):
            rival[at] ^= self._change
        self._turn = (bytes(rival), now_ns)

    def stop(self) -> int:
        """How many SYNs were sent."""
        self._stopped = True
        self._thread.join()
        return self._sent

    def _run(self) -> None:
        os.sched_setaffinity(0, {_cpus()[1]})
        while not self._stopped:
            if self._turn is not None:
                syn, now_ns = self._turn
                self._program.test_run(syn, tstamp=now_ns, repeat=REPEAT)
                self._sent += REPEAT


def _check(kernel: Kernel, made: list[Facts]) -> int:
    """Compare the samples with the handshakes that were made: how many are not there as a whole."""
    expected = {facts[0]: facts for facts in made}
    parts = 0
    for _, data in kernel.loaded.rings.drain():
        kernel.received += 1
        sample = decode(data)
        assert isinstance(sample, HandshakeSample)
        facts = expected.pop(sample.key)
        if sample.handshake.syn is None:  # evicted before the SYN-ACK came
            key, _, ack_ns, _, synack = facts
            assert isinstance(synack, tuple)
            facts = (key, synack[0], ack_ns, None, synack)
            parts += 1
        assert facts_of(sample) == facts
    flows = kernel.loaded.maps["flows"]
    for key, _ in list(flows.items()):
        flows.delete(key)
    return len(expected) + parts


# --- which attempts a flood evicts ---


@pytest.mark.parametrize(
    ("answered", "turns"), [(False, 10), (True, 0.5)], ids=["no answers", "answered too"]
)
def test_a_flood_leaves_answered_handshakes_alone(
    kernel: Kernel, answered: bool, turns: float
) -> None:
    """SYNs without an answer fill the table ten times; answered ones fill half of it."""
    kernel.settings(dedup=0, syn_cost_ns=SECOND, syn_burst_ns=0, flows_per_source=2**31)
    tc_ingress = kernel.loaded.programs["tc_ingress"]
    count = 100
    flood = int(SMALL_TABLES["MAX_HALF_OPEN"] * turns) * (2 if answered else 1)
    with (
        syn_driver(tc_ingress, flood_frame(DECKY_B)) as before,
        syn_driver(tc_ingress, flood_frame(DECKY_B), answered=answered) as driver,
        closing(Handshakes(kernel)) as handshakes,
    ):
        # The table is full of older ones.
        before.test_run(
            flood_frame(DECKY_B), tstamp=START_NS, repeat=2 * SMALL_TABLES["MAX_HALF_OPEN"]
        )
        begun_ns = START_NS + 60 * SECOND
        made = [handshakes.make(number, begun_ns) for number in range(count)]
        for step in range(2):
            for _, frames, _ in made:
                handshakes.send(frames[step], begun_ns + FRAME_NS * step)
        driver.test_run(flood_frame(DECKY_B, 1), tstamp=begun_ns + 2 * FRAME_NS, repeat=flood)
        for _, frames, _ in made:
            handshakes.send(frames[2], begun_ns + FRAME_NS * 2)
    kernel.run += 2 * SMALL_TABLES["MAX_HALF_OPEN"] + flood + 3 * count
    assert _check(kernel, [facts for _, _, facts in made]) == 0

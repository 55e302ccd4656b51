"""Nanoseconds a packet for each program and path, by test runs against a no-op program.

If a frame leaves the tables unchanged, the kernel runs the program over it many times and returns
the mean. If a frame changes them (a new SYN, a hello), thousands of different frames run once each.
The no-op program runs over the same frames. These figures include cold caches and the granularity
of the clock, and their rows say so.

SYNs of a flood are made in the kernel, one behind the other, while all tables are full. Their rows
are the ones to compare: tables that were just made give out their memory in order.

Every path names the counter that its frames raise. The counter is checked, because a frame on
another path would give a wrong figure.
"""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from ssl import TLSVersion
from struct import Struct, pack
from typing import NamedTuple

from bench import cpu
from bench.figures import Goal, Line, Spread, ratio
from bench.noop import SCHED_CLS, XDP, load_clock, load_noop
from deckwire.abi import structs as abi
from deckwire.abi.samples import SegmentSample, decode
from deckwire.deckies import Decky
from deckwire.kernel.loading import Loaded, LoadRequest, load
from deckwire.kernel.programs import Program
from deckwire.kernel.syscalls import Command, bpf
from deckwire.tables.tables import Tables
from tests.support.bpf_frames import (
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    CLIENT6,
    CLIENT_HELLO,
    DECKY,
    DECKY6,
    ETH_ARP,
    LINUX_OPTIONS,
    SERVER_HELLO,
    STRANGER,
    STRANGER6,
    TIMESTAMP,
    UDP,
    Talk,
    ethernet,
    ipv4,
    ipv6,
    tcp,
)
from tests.support.flights import handshake
from tests.support.syn_driver import flood_frame, syn_driver

SECTION = "ns a packet (test runs)"

_SETTINGS = {
    "seed": 0x5EED,
    "syn_cost_ns": 1_000_000,
    "syn_burst_ns": 2_000_000_000,
    # Admit the bytes of every handshake: the budget is not measured here.
    "handshake_cost_ns": 0,
    "handshake_burst_ns": 2_000_000_000,
    "midstream_cost_ns": 0,
    "midstream_burst_ns": 0,
    "flows_per_source": 65_536,
    "dedup": 1,
    "vepa": 0,
    "sequences": 0,
    "heads": 14,
    "own_host": 0,
    "checksums": 1,
}
_TEST_RUN = Struct("=IIIIQQII")
"""prog_fd, retval, data_size_in, data_size_out, data_in, data_out, repeat, duration."""
_ZERO = bytes(4)
_NEVER_NS = 1 << 62
_ETH_LLDP = 0x88CC
_ICMP = 1
_XDP = "xdp_ingress"
_OPTIONS = b"\x01\x01" + TIMESTAMP
"""The options of every Linux segment: two NOPs, timestamps."""
_DATA = bytes(range(256)) * 6
_MSS4, _MSS6 = 1_448, 1_428
_BULK4, _BULK6 = Goal("≤", 75), Goal("≤", 79)
"""The floor of a program that accounts a bulk segment, and 5 % more. On the faster machine of
docs/performance.md it is 71 ns: parsing 7, clock 30, look-up 22, account 12. IPv6 has a hash of 4
more."""
_SAMPLED_WRITES = 4
"""Writes of a client of which all payload is sampled."""
_MIDSTREAM_BEFORE = 50
_FULL = 200_000
"""SYNs that fill all tables."""
_RING_SYNS = 500
"""SYNs whose samples have room in a ring."""
_SAMPLED_RUNS = 10
"""Runs of so many SYNs in one round."""
_SAMPLED = 0.99
"""The least share of SYNs from random sources that are sampled."""


@dataclass(frozen=True, slots=True)
class Path:
    """One path through a program: the frames before it, and the frame that runs repeatedly."""

    what: str
    counter: str
    """The field of struct counters that each run raises; empty if none."""
    frame: bytes
    before: Sequence[bytes] = ()
    goal: Goal | None = None
    hook: str = "tc_ingress"
    note: str = ""


class _Side(NamedTuple):
    """The kernel side, and its tables as the agent reads and writes them."""

    loaded: Loaded
    tables: Tables


def measure(rounds: int, repeat: int) -> list[Line]:
    """Run every path `repeat` times a round, in turn with the no-op program."""
    # Nothing is attached without interfaces. The mode only makes it load the XDP program.
    loaded = load(LoadRequest(settings=_SETTINGS, xdp="generic"))
    noop, noop_xdp = load_noop(SCHED_CLS), load_noop(XDP)
    cpu.pin(0, cpu.CLIENTS)
    try:
        side = _Side(loaded, Tables(loaded.maps))
        _watch_deckies(side.tables)
        lines = [_clock(noop, rounds, repeat)]
        lines += [
            _repeated(side, noop_xdp if path.hook == _XDP else noop, path, rounds, repeat)
            for path in _paths()
        ]
        lines += _varied(side, noop, rounds)
        lines += _floods(side, noop, rounds, repeat)
        return lines
    finally:
        cpu.pin(0, cpu.ALL)
        noop.close()
        noop_xdp.close()
        loaded.close()


def _paths() -> Iterator[Path]:
    yield Path("not IP", "foreign_not_ip", ethernet(bytes(46), _ETH_LLDP))
    stranger4 = ethernet(ipv4(tcp(_DATA[:_MSS4]), dst=STRANGER))
    stranger6 = ethernet(ipv6(tcp(_DATA[:_MSS6]), dst=STRANGER6))
    yield Path("not a decky, v4", "foreign_no_decky", stranger4, goal=Goal("≤", 12))
    yield Path("not a decky, v6", "foreign_no_decky", stranger6, goal=Goal("≤", 20))
    yield Path("not a decky, v4, egress", "foreign_no_decky", stranger4, hook="tc_egress")
    yield from _probes()
    again = "the same segment each time, so counted as a retransmission"
    for family, talk, size, goal in (
        ("v4", Talk(), _MSS4, _BULK4),
        ("v6", Talk(CLIENT6, DECKY6), _MSS6, _BULK6),
    ):
        syn_packet, seq, ack = _tls_connection(talk)
        data = _DATA[:size]
        yield Path(
            f"ACK of a known connection, {family}",
            "frames_flow",
            talk.c("A", seq, ack, options=_OPTIONS),
            syn_packet,
        )
        yield Path(
            f"bulk segment of a known connection, {family}, to the decky",
            "frames_flow",
            talk.c("A", seq, ack, data, _OPTIONS),
            syn_packet,
            goal,
            note=again,
        )
        yield Path(
            f"bulk segment of a known connection, {family}, from the decky, egress",
            "frames_flow",
            talk.s("A", ack, seq, data, _OPTIONS),
            syn_packet,
            goal,
            hook="tc_egress",
            note=again,
        )
    talk = Talk(client_port=40_004)
    writes = [
        talk.c("PA", 1 + n * _MSS4, 1, _DATA[:_MSS4], _OPTIONS) for n in range(_SAMPLED_WRITES + 1)
    ]
    yield Path(
        "first segment of a write without TLS, v4: searched for a hello",
        "frames_flow",
        writes.pop(),
        [*talk.opened(), *writes],
        note=again,
    )
    yield Path(
        "ACK of no connection",
        "frames_unattached",
        Talk(client_port=40_002).c("A", 1, 1, options=_OPTIONS),
    )
    syn = Talk(client_port=40_003).c("S", options=LINUX_OPTIONS)
    yield Path("retransmitted SYN", "syn_retransmits", syn, [syn])
    bulk = Talk().c("A", 1, 1, _DATA[:_MSS4], _OPTIONS)
    yield Path("XDP assist, not a SYN", "", bulk, hook=_XDP)
    yield Path("XDP assist, SYN already known", "", syn, hook=_XDP)


def _probes() -> Iterator[Path]:
    """One source probes one target again and again. SYNs are with the rest of TCP."""
    datagram = pack("!HHHH", 50_000, 53, 8 + 32, 0) + bytes(32)
    echo = pack("!BBHHH", 8, 0, 0, 1, 1) + bytes(32)
    yield Path("UDP probe, v4", "ignored_not_tcp", ethernet(ipv4(datagram, protocol=UDP)))
    yield Path("UDP probe, v6", "ignored_not_tcp", ethernet(ipv6(datagram, next_header=UDP)))
    yield Path("ICMP echo request", "ignored_not_tcp", ethernet(ipv4(echo, protocol=_ICMP)))
    yield Path("FIN probe", "frames_unattached", Talk(client_port=40_004).c("F", 1))
    arp = pack("!HHBBH", 1, 0x0800, 6, 4, 1) + bytes(6) + ip_address(STRANGER).packed + bytes(6)
    wanted, other = (arp + ip_address(one).packed + bytes(18) for one in (DECKY, STRANGER))
    yield Path("ARP request for a decky", "foreign_not_ip", ethernet(wanted, ETH_ARP))
    yield Path("ARP request for another", "foreign_not_ip", ethernet(other, ETH_ARP))


def _exchange(talk: Talk, seq: int, data: bytes) -> list[bytes]:
    return [talk.c("A", seq, seq, data, _OPTIONS), talk.s("A", seq, seq, data, _OPTIONS)]


def _tls_connection(talk: Talk) -> tuple[list[bytes], int, int]:
    """Frames of a TCP and TLS handshake up to application data, and the next seq of each end."""
    encrypted = CHANGE_CIPHER_SPEC + APPLICATION_DATA
    c1 = 1 + len(CLIENT_HELLO)
    s1 = 1 + len(SERVER_HELLO + encrypted)
    frames = [
        *talk.opened(),
        talk.c("PA", 1, 1, CLIENT_HELLO),
        talk.s("PA", 1, c1, SERVER_HELLO + encrypted),
        talk.c("PA", c1, s1, encrypted),
    ]
    return frames, c1 + len(encrypted), s1


def _watch_deckies(tables: Tables) -> None:
    deckies = [Decky("decky", ip_address(address)) for address in (DECKY, DECKY6)]
    tables.deckies.replace([decky.packed for decky in deckies])


def _clock(noop: Program, rounds: int, repeat: int) -> Line:
    """The cost of reading the clock. It is part of every figure for TCP of a decky."""
    frame = ethernet(ipv4(tcp(_DATA[:_MSS4])))
    with closing(load_clock()) as clock:
        baselines = [_run_tc(noop, frame, repeat) for _ in range(rounds)]
        figures = [_run_tc(clock, frame, repeat) - baseline for baseline in baselines]
    return _line("reading the clock only", figures, baselines)


@contextmanager
def _raises(tables: Tables, counter: str, runs: int, share: float = 1) -> Iterator[None]:
    """Check that this share of the runs inside raises `counter`: they take the intended path."""
    before = tables.counters()
    yield
    after = tables.counters()
    raised = {name: after[name] - count for name, count in before.items() if after[name] != count}
    due = range(round(share * runs), runs + 1) if counter else (0,)
    assert raised.get(counter, 0) in due, (counter, runs, raised)


def _repeated(side: _Side, noop: Program, path: Path, rounds: int, repeat: int) -> Line:
    program = side.loaded.programs[path.hook]
    for frame in path.before:
        side.loaded.programs["tc_ingress"].test_run(frame)
    run = _run_xdp if path.hook == _XDP else _run_tc
    run(program, path.frame, repeat)
    figures, baselines = [], []
    with _raises(side.tables, path.counter, rounds * repeat):
        for _ in range(rounds):
            side.loaded.rings.drain()
            baseline = run(noop, path.frame, repeat)
            figures.append(run(program, path.frame, repeat) - baseline)
            baselines.append(baseline)
    return _line(path.what, figures, baselines, path.goal, path.note)


def _run_tc(program: Program, frame: bytes, repeat: int) -> int:
    return program.test_run(frame, repeat=repeat).duration_ns


def _run_xdp(program: Program, frame: bytes, repeat: int) -> int:
    """Run without a context: the kernel takes a zeroed one as a frame with no linear byte."""
    data = ctypes.create_string_buffer(frame, len(frame))
    attr = ctypes.create_string_buffer(_TEST_RUN.size)
    _TEST_RUN.pack_into(attr, 0, program.fd, 0, len(frame), 0, ctypes.addressof(data), 0, repeat, 0)
    bpf(Command.PROG_TEST_RUN, attr, f"test run of {program.name}")
    return int(_TEST_RUN.unpack_from(attr)[-1])


def _line(
    what: str,
    figures: Sequence[int],
    baselines: Sequence[int],
    goal: Goal | None = None,
    note: str = "",
) -> Line:
    spread, baseline = Spread.of(figures), statistics.median(baselines)
    whole = spread.median + baseline
    return Line(
        SECTION,
        f"{what}, above a no-op program",
        spread,
        "ns",
        f"no-op program {baseline:.0f} ns",
        baseline,
        ratio(whole, baseline),
        goal,
        note,
    )


# --- frames that change the tables ----------------------------------------------------------


def _varied(side: _Side, noop: Program, rounds: int) -> Iterator[Line]:
    yield _midstream(side, noop, 2_000 * rounds)
    frames = [_spoofed_syn(n) for n in range(2_000 * rounds)]
    with _settings(side.loaded, syn_cost_ns=1_000_000_000_000):
        yield _once_each(side, noop, "new SYN, over the budget", "syn_over_budget", frames)
    with _settings(side.loaded, syn_cost_ns=0):
        sampled = [_spoofed_syn(n) for n in range(10_000_000, 10_000_000 + len(frames))]
        yield _once_each(side, noop, "new SYN, sampled", "samples_wanted", sampled)

    talks = [Talk(client_port=1_024 + n) for n in range(1_000 * rounds)]
    yield _once_each(
        side,
        noop,
        "ACK that completes a handshake, sampled",
        "handshakes",
        [talk.c("A", 1, 1, options=_OPTIONS) for talk in talks],
        lambda n: [talks[n].c("S", options=LINUX_OPTIONS), talks[n].s("SA", 0, 1)],
    )
    hello = handshake(TLSVersion.TLSv1_3).client
    hello = hello[: 5 + int.from_bytes(hello[3:5], "big")]
    what = f"segment with a ClientHello of {len(hello)} bytes"
    first, alike = talks[: len(talks) // 2], talks[len(talks) // 2 :]
    yield _once_each(
        side,
        noop,
        f"{what}, sampled",
        "samples_wanted",
        [talk.c("PA", 1, 1, hello, _OPTIONS) for talk in first],
    )
    side.loaded.rings.drain()
    side.loaded.programs["tc_ingress"].test_run(alike.pop().c("PA", 1, 1, hello, _OPTIONS))
    (sample,) = (decode(data) for _, data in side.loaded.rings.drain())
    if not isinstance(sample, SegmentSample):
        raise TypeError(f"the hello is a {type(sample).__name__}")
    side.tables.hellos.open(sample.hello, ("", "", ""), _NEVER_NS)
    yield _once_each(
        side,
        noop,
        f"{what}, suppressed",
        "hellos_suppressed",
        [talk.c("PA", 1, 1, hello, _OPTIONS) for talk in alike],
    )


def _midstream(side: _Side, noop: Program, runs: int) -> Line:
    """Each segment goes on where the one before ended: others would be searched for a hello."""
    talk, data = Talk(client_port=40_001), _DATA[:_MSS4]
    # Both directions, until the connection cannot be TLS any more.
    for n in range(_MIDSTREAM_BEFORE):
        for frame in _exchange(talk, 1 + n * _MSS4, data):
            side.loaded.programs["tc_ingress"].test_run(frame)
    acked = 1 + _MIDSTREAM_BEFORE * _MSS4
    frames = [talk.c("A", acked + n * _MSS4, acked, data, _OPTIONS) for n in range(runs)]
    what = "bulk segment of a mid-stream connection"
    return _once_each(side, noop, what, "frames_midstream", frames)


def _spoofed_syn(number: int) -> bytes:
    source = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return ethernet(ipv4(tcp(options=LINUX_OPTIONS, seq=number * 7_919), src=source))


def _once_each(
    side: _Side,
    noop: Program,
    what: str,
    counter: str,
    frames: Sequence[bytes],
    before: Callable[[int], Sequence[bytes]] = lambda _: (),
) -> Line:
    program = side.loaded.programs["tc_ingress"]
    figures, baselines = [], []
    with _raises(side.tables, counter, len(frames)):
        for number, frame in enumerate(frames):
            for earlier in before(number):
                program.test_run(earlier)
            baseline = noop.test_run(frame).duration_ns
            figures.append(program.test_run(frame).duration_ns - baseline)
            baselines.append(baseline)
            if not number % 500:
                side.loaded.rings.drain()
    # A few single runs are interrupted, so the spread is that of the middle half.
    quarter = len(figures) // 4
    middle = sorted(figures)[quarter : len(figures) - quarter]
    return _line(what, middle, baselines, note="different frames, each run once; middle half")


# --- floods ---------------------------------------------------------------------------------


def _floods(side: _Side, noop: Program, rounds: int, repeat: int) -> Iterator[Line]:
    """SYNs of which each has a source of its own, or all have the same.

    One source has so few ports that each 4-tuple has an attempt already: both attempts are kept.
    """
    target = side.loaded.programs["tc_ingress"]
    frame = flood_frame(DECKY)
    for one_source, sources in (
        (False, "each of a new source"),
        (True, "of one source, on 4-tuples that have another"),
    ):
        with (
            syn_driver(target, frame, one_source=one_source) as driver,
            syn_driver(noop, frame, one_source=one_source) as baseline,
            _settings(side.loaded, syn_cost_ns=1_000_000_000_000, dedup=0),
        ):
            _flood(driver, _FULL, 0)
            figures, baselines = [], []
            with _raises(side.tables, "syn_over_budget", rounds * repeat):
                for number in range(1, rounds + 1):
                    baselines.append(_flood(baseline, repeat, number))
                    figures.append(_flood(driver, repeat, number) - baselines[-1])
            what = f"flood of SYNs over the budget, {sources}, tables full"
            yield _line(what, figures, baselines)
    with (
        syn_driver(target, frame) as driver,
        syn_driver(noop, frame) as baseline,
        _settings(side.loaded, syn_cost_ns=0),
    ):
        figures, baselines = [], []
        # Two of them may have the same source by chance: its second SYN is suppressed.
        with _raises(side.tables, "samples_wanted", rounds * _SAMPLED_RUNS * _RING_SYNS, _SAMPLED):
            for number in range(rounds):
                baselines.append(_flood(baseline, _RING_SYNS, number))
                taken = []
                for run in range(_SAMPLED_RUNS):
                    taken.append(_flood(driver, _RING_SYNS, -1 - number * _SAMPLED_RUNS - run))
                    side.loaded.rings.drain()
                figures.append(round(statistics.median(taken)) - baselines[-1])
        yield _line("SYNs that are sampled, each of a new source, tables full", figures, baselines)


def _flood(driver: Program, syns: int, number: int) -> int:
    return driver.test_run(flood_frame(DECKY, number), repeat=syns).duration_ns


@contextmanager
def _settings(loaded: Loaded, **changes: int) -> Iterator[None]:
    table = loaded.maps["settings"]
    table.update(_ZERO, abi.SETTINGS.build({**_SETTINGS, **changes}))
    yield
    table.update(_ZERO, abi.SETTINGS.build(_SETTINGS))

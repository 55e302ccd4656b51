"""The XDP assist against the agent without it: throughput, CPU per SYN, round-trip errors."""

from __future__ import annotations

from collections import defaultdict

from bench import cpu, rtt
from bench.bulk import interleaved, throughput_lines
from bench.figures import Line, Spread, ratio
from bench.observers import NONE, watching
from bench.packets import Burst, spoofed_syns
from bench.syns import one_burst
from deckwire.lab import Lab

SECTION = "XDP modes"
MODES = ("off", "generic", "native")


def measure(lab: Lab, rounds: int, seconds: int, syns: int, connections: int) -> list[Line]:
    """Measure every mode in every round."""
    lines = []
    for offloads in (True, False):
        lab.set_offloads(offloads)
        lines += _throughput(lab, rounds, seconds, offloads)
    lab.set_offloads(True)
    return [*lines, *_syns(lab, rounds, syns), *_round_trips(lab, rounds, connections)]


def _throughput(lab: Lab, rounds: int, seconds: int, offloads: bool) -> list[Line]:
    names = [NONE, *(f"deckwire --xdp={mode}" for mode in MODES)]
    found = interleaved(lab, names, rounds, ["-t", str(seconds)])
    return throughput_lines(found, offloads, SECTION)


def _syns(lab: Lab, rounds: int, count: int) -> list[Line]:
    burst = Burst(lab, spoofed_syns(lab, lab.deckies[0], count))
    costs: dict[str, list[float]] = defaultdict(list)
    cpu.pin(0, cpu.CLIENTS)
    try:
        burst.send()
        for number in range(rounds):
            for at in range(len(MODES)):
                mode = MODES[(number + at) % len(MODES)]
                with watching(lab, "deckwire", [f"--xdp={mode}"]):
                    costs[mode].append(1e6 * one_burst(burst) / count)
    finally:
        cpu.pin(0, cpu.ALL)
        burst.close()
    base = Spread.of(costs["off"]).median
    return [
        _against_off("CPU a SYN, sending included", Spread.of(costs[mode]), base, mode)
        for mode in MODES
    ]


def _round_trips(lab: Lab, rounds: int, connections: int) -> list[Line]:
    errors: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for mode in MODES:
            errors[mode].append(max(rtt.agent_errors(lab, connections, [f"--xdp={mode}"])))
    base = Spread.of(errors["off"]).median
    return [
        _against_off(
            "error of round-trip times, p99, worse side", Spread.of(errors[mode]), base, mode
        )
        for mode in MODES
    ]


def _against_off(what: str, spread: Spread, base: float, mode: str) -> Line:
    return Line(
        SECTION,
        f"{what}: --xdp {mode}",
        spread,
        "µs",
        f"--xdp off {base:.2f} µs",
        base,
        ratio(spread.median, base),
    )

"""Floods of SYNs: the cost of each, whether all are counted, and the memory they take."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

from bench import cpu
from bench.figures import Goal, Line, Spread, ratio
from bench.observers import DECKWIRE, NONE, NOOP, watching
from bench.packets import Burst, spoofed_syns
from deckwire.lab import Lab

SECTION = "CPU added per SYN"
_EVENT = "tcp_syn_fingerprint"

Memory = list[tuple[int, int]]
"""Bytes before and after, of each round."""


def measure(lab: Lab, rounds: int, count: int) -> list[Line]:
    """Send `count` SYNs a round past each observer, to a decky without a route to their sources.

    First each SYN has its own source, which no table or budget knows. Then all have the same
    source: the agent emits an event for the first, and the kernel suppresses the others.
    """
    names = [NONE, NOOP, DECKWIRE]
    lines: list[Line] = []
    for sources, where in ((count, "from as many sources"), (1, "from one source")):
        burst = Burst(lab, spoofed_syns(lab, lab.deckies[0], count, sources))
        cpu.pin(0, cpu.CLIENTS)
        try:
            burst.send()
            busy, counted, emitted, resident, kernel = _interleaved(lab, burst, names, rounds)
        finally:
            cpu.pin(0, cpu.ALL)
            burst.close()
        what = f"{count:,} SYNs {where}"
        goal = Goal("≤", 0.8) if sources == count else None
        lines += [*_added_lines(busy, count, what, goal), _counted_line(counted, count, where)]
        lines.append(_emitted_line(emitted, where))
        if sources == count:
            lines += _memory(resident, kernel)
    return lines


def _added_lines(
    busy: dict[str, list[float]], count: int, what: str, goal: Goal | None
) -> list[Line]:
    """The CPU time that each observer adds to a SYN, within a round."""
    none = busy[NONE]
    base = 1e6 * Spread.of(none).median / count
    lines = []
    for name, watched in busy.items():
        if name == NONE:
            continue
        added = Spread.of(
            1e6 * (seconds - before) / count for seconds, before in zip(watched, none, strict=True)
        )
        lines.append(
            Line(
                SECTION,
                f"{what}: {name}",
                added,
                "µs",
                f"no agent {base:.2f} µs a SYN, sending included",
                base,
                ratio(base + added.median, base),
                goal if name == DECKWIRE else None,
            )
        )
    return lines


def one_burst(burst: Burst) -> float:
    """CPU seconds of the whole machine from the first SYN until their work is done."""
    before = cpu.busy_seconds()
    burst.send()
    time.sleep(0.5)
    return cpu.busy_seconds() - before


def _interleaved(
    lab: Lab, burst: Burst, names: Sequence[str], rounds: int
) -> tuple[dict[str, list[float]], list[int], list[tuple[int, int]], Memory, Memory]:
    busy: dict[str, list[float]] = defaultdict(list)
    counted: list[int] = []
    emitted: list[tuple[int, int]] = []
    resident: Memory = []
    kernel: Memory = []
    for number in range(rounds):
        for at in range(len(names)):
            name = names[(number + at) % len(names)]
            with watching(lab, name) as agent:
                before = (agent.resident_bytes(), agent.map_bytes()) if agent else (0, 0)
                busy[name].append(one_burst(burst))
                if agent is not None:
                    resident.append((before[0], agent.resident_bytes()))
                    kernel.append((before[1], agent.map_bytes()))
                    sums = agent.stop()
                    counted.append(sums["frames_syn"])
                    # Of a new source two may be sampled. The agent suppresses the repeated one.
                    events = agent.counted()[_EVENT] + sums["events_suppressed"]
                    emitted.append((events, sums["frames_syn"] - _without(sums)))
    return busy, counted, emitted, resident, kernel


def _without(sums: dict[str, int]) -> int:
    """SYNs of which no sample was due."""
    return sums["syn_retransmits"] + sums["syn_suppressed"] + sums["syn_over_budget"]


def _counted_line(counted: Sequence[int], count: int, where: str) -> Line:
    shares = Spread.of(100 * min(number / count, 1.0) for number in counted)
    return Line(
        SECTION,
        f"SYNs counted, {where}",
        shares,
        "%",
        f"{count:,} sent",
        count,
        shares.median / 100,
        Goal("≥", 100),
    )


def _emitted_line(emitted: Sequence[tuple[int, int]], where: str) -> Line:
    """A table that mixes up SYNs may count them all and yet lose their events."""
    shares = Spread.of(100 * min(events / due, 1.0) for events, due in emitted)
    due = Spread.of(due for _, due in emitted).median
    return Line(
        SECTION,
        f"SYN events emitted or suppressed, {where}",
        shares,
        "%",
        f"{due:,.0f} SYNs within the budget",
        due,
        shares.median / 100,
        Goal("≥", 100),
    )


def _memory(resident: Memory, kernel: Memory) -> list[Line]:
    lines = []
    for what, pairs, goal in (
        ("resident memory of the agent", resident, Goal("≤", 60)),
        ("kernel memory of its maps", kernel, None),
    ):
        before = Spread.of(a / 1e6 for a, _ in pairs)
        after = Spread.of(b / 1e6 for _, b in pairs)
        base = f"before the flood {before.median:.1f} MB"
        lines.append(
            Line("memory", f"{what}, before", before, "MB", base, before.median, 1.0, goal)
        )
        grown = ratio(after.median, before.median)
        lines.append(
            Line("memory", f"{what}, after", after, "MB", base, before.median, grown, goal)
        )
    return lines

"""Bulk traffic: the throughput that remains if unpaced, and the CPU it costs if paced.

In each round every observer watches one transfer. The order changes from round to round. Ratios and
differences are taken within a round, against its transfer without an agent. So a machine that slows
down for a minute does not distort one row of the table.
"""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from bench import cpu, observers
from bench.figures import Goal, Line, Spread, ratio
from bench.observers import DECKWIRE, NONE, NOOP, watching
from deckwire.lab import Lab, Node
from deckwire.lab.namespaces import LabError, wait_until
from deckwire.lab.servers import is_listening

THROUGHPUT, CPU = "bulk throughput, unpaced", "CPU added per GB of bulk, paced"
FRAMES = {True: "super-packets", False: "MTU-size frames"}
"""What the lab sends with offloads on, and off."""

_PORT = 5_201
_GOALS = {
    (THROUGHPUT, True): Goal("≥", 0.97),
    (THROUGHPUT, False): Goal("≥", 0.90),
}
_PACE = {True: "4G", False: "1G"}
"""Bits a second. Both are well below the unpaced throughput of their kind of frame."""


class Transfer(NamedTuple):
    """One transfer by iperf3, from the client to a decky."""

    bits_per_second: float
    busy_per_gb: float
    """CPU seconds of the whole machine for each 10^9 bytes."""


def measure(lab: Lab, rounds: int, seconds: int, gigabytes: float, *, offloads: bool) -> list[Line]:
    """Measure unpaced transfers of `seconds` each and paced transfers of `gigabytes` each."""
    lab.set_offloads(offloads)
    names = [NONE, NOOP, DECKWIRE, *observers.installed()]
    unpaced = interleaved(lab, names, rounds, ["-t", str(seconds)])
    size = str(round(gigabytes * 1e9))
    paced = interleaved(lab, names, rounds, ["-n", size, "-b", _PACE[offloads]])
    return [
        *throughput_lines(unpaced, offloads),
        *_cpu_lines(paced, offloads),
    ]


def interleaved(
    lab: Lab, names: Sequence[str], rounds: int, options: Sequence[str]
) -> dict[str, list[Transfer]]:
    """Transfers of each observer, one a round. A name may carry options for the agent."""
    found: dict[str, list[Transfer]] = defaultdict(list)
    for number in range(rounds):
        for at in range(len(names)):
            name = names[(number + at) % len(names)]
            observer, _, given = name.partition(" --")
            with watching(lab, observer, [f"--{given}"] if given else []):
                found[name].append(transfer(lab, lab.deckies[0], options))
    return found


def throughput_lines(
    found: dict[str, list[Transfer]], offloads: bool, section: str = THROUGHPUT
) -> list[Line]:
    """The throughput with each observer, as a share of the throughput without one."""
    none = [transfer.bits_per_second for transfer in found[NONE]]
    gigabits = Spread.of(none).median / 1e9
    lines = []
    for name, transfers in found.items():
        if name == NONE:
            continue
        shares = Spread.of(
            transfer.bits_per_second / base for transfer, base in zip(transfers, none, strict=True)
        )
        lines.append(
            Line(
                section,
                f"throughput, {FRAMES[offloads]}: {name}",
                shares,
                "",
                f"no agent {gigabits:.1f} Gbit/s",
                gigabits,
                shares.median,
                _GOALS[THROUGHPUT, offloads] if name == DECKWIRE else None,
            )
        )
    return lines


def _cpu_lines(found: dict[str, list[Transfer]], offloads: bool) -> list[Line]:
    none = [transfer.busy_per_gb for transfer in found[NONE]]
    base = Spread.of(none).median

    def added(name: str) -> Spread:
        return Spread.of(
            transfer.busy_per_gb - before
            for transfer, before in zip(found[name], none, strict=True)
        )

    noop = added(NOOP)
    lines = []
    for name in found:
        if name == NONE:
            continue
        spread = added(name)
        # The goal allows for the noise that a no-op program shows.
        goal = Goal("≤", max(noop.median, 0.0) + 0.1) if name == DECKWIRE and not offloads else None
        lines.append(
            Line(
                CPU,
                f"CPU a GB, {FRAMES[offloads]} at {_PACE[offloads]}bit/s: {name}",
                spread,
                "s",
                f"no agent {base:.2f} s a GB",
                base,
                ratio(base + spread.median, base),
                goal,
            )
        )
    return lines


def transfer(lab: Lab, decky: Node, options: Sequence[str]) -> Transfer:
    """Run iperf3 with these options from the client to the decky."""
    server = lab.popen(
        decky, ["iperf3", "-s", "-1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    cpu.pin(server.pid, cpu.SERVERS)
    wait_until(lambda: is_listening(server.pid, _PORT), "iperf3 listens")
    (processor,) = cpu.CLIENTS
    argv = ["taskset", "-c", str(processor), "iperf3", "-c", decky.v4, "-J", *options]
    before = cpu.busy_seconds()
    done = lab.run(lab.client, argv, seconds=120)
    busy = cpu.busy_seconds() - before
    with suppress(KeyError, json.JSONDecodeError):
        received = json.loads(done.stdout)["end"]["sum_received"]
        server.wait(10)
        return Transfer(received["bits_per_second"], busy / received["bytes"] * 1e9)
    raise LabError(f"iperf3: {done.stdout[-200:]}{done.stderr[-200:]}")

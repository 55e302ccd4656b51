"""Compare our fingerprints with tshark's: JA3 and JA3S, HASSH and HASSHServer.

Thousands of hellos and KEXINITs are generated; hellos of real stacks come with them. As root, a
part of them is also replayed: through BPF programs, reassembly and events.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.differential import comparison, ssh_offers, stacks, wire
from tests.differential.comparison import TLS, Subject
from tests.differential.generated import generated
from tests.differential.ssh_offers import SSH

BATCH = 1_000
SHOWN = 5


def main() -> int:
    """Run all comparisons; return exit status 1 if there was a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5_000, help="number of generated exchanges")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for stack, make in stacks.ALL.items():
            failed += _compare(TLS, stack, make(), Path(folder))
        for subject, make_some in ((TLS, generated), (SSH, ssh_offers.generated)):
            for at in range(0, arguments.cases, BATCH):
                count = min(BATCH, arguments.cases - at)
                exchanges = make_some(arguments.seed + at, count)
                what = f"generated {at + count}"
                failed += _compare(subject, what, exchanges, Path(folder), at == 0)
    return 1 if failed else 0


def _compare(
    subject: Subject,
    what: str,
    exchanges: list[wire.Exchange],
    folder: Path,
    with_replay: bool = True,
) -> int:
    """Compare and print a line; return the number of differences."""
    if not exchanges:
        print(f"{what:16} not installed")
        return 0
    path = folder / "exchanges.pcap"
    wire.write_pcap(path, exchanges)
    theirs = subject.tshark(path, len(exchanges))
    report = comparison.compare(subject, exchanges, theirs)
    different = report.different
    replay = "not replayed"
    if with_replay and os.geteuid() == 0:
        wrong = _replay(subject, path, exchanges)
        different += wrong
        replay = f"{len(exchanges)} replayed, {len(wrong)} different"
    client, server = subject.names
    rules = ", ".join(f"{count} {rule}" for rule, count in sorted(report.excluded.items()))
    print(
        f"{what:16} {report.clients:6} {client} and {report.servers:6} {server} equal,"
        f" {len(report.different)} different"
        f"{', excluded: ' + rules if rules else ''}; {replay}",
        flush=True,
    )
    for text in different[:SHOWN]:
        print(text)
    return len(different)


def _replay(subject: Subject, path: Path, exchanges: list[wire.Exchange]) -> list[str]:
    from tests.support.replaying import ReplayLab  # noqa: PLC0415 - loads programs, which takes root

    with ReplayLab() as lab:
        events = lab.capture(path, [wire.SERVER_TEXT])
    found = subject.replayed(events, len(exchanges))
    return [
        f"{exchange.what}, replayed\n  parsed   {wanted}\n  replayed {got}"
        for exchange, got in zip(exchanges, found, strict=True)
        if got != (wanted := subject.emitted(subject.ours(exchange)))
    ]


if __name__ == "__main__":
    sys.exit(main())

"""What an attacker can do to Deckwire at full speed, on a lab of its own, beside real sessions.

Markdown goes to standard output, JSON to the file of --json. Needs root.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

# The tests are no installed package.
from bench import (  # noqa: E402
    crowd,
    flood_handshake,
    flood_hello,
    flood_memory,
    flood_syn,
    handshakes,
    machine,
    soak,
)
from bench.figures import Line, markdown, write_json  # noqa: E402
from deckwire.lab import Lab  # noqa: E402

SOURCES = 250
"""Addresses of the client, each a source of its own."""
HANDSHAKE_SOURCES = 600, 4_000
"""Of a flood of completed handshakes: each of them far from its share of the table."""


def main() -> int:
    """The exit status: 0 also where a goal was not reached, which the table says."""
    arguments = _arguments()
    quick = arguments.quick
    about = machine.describe()
    for name, value in about.items():
        print(f"- {name}: {value}")
    for warning in machine.warnings():
        print(f"- {warning}", flush=True)
    sessions = 50 if quick else 200
    lines: list[Line] = []
    with Lab(clients=SOURCES) as lab:
        handshakes.serve_tls(lab, lab.deckies[1])
        parts = {
            "syn": lambda: flood_syn.measure(lab, sessions, 20_000 if quick else 200_000),
            "hello": lambda: flood_hello.measure(lab, sessions),
            "memory": lambda: flood_memory.measure(lab, 5 if quick else 75),
            "crowd": lambda: crowd.measure(lab, sessions, 2_000 if quick else 100_000, 5_000),
            "handshake": lambda: _handshakes(lab, quick),
            "soak": lambda: soak.measure(lab, arguments.minutes),
        }
        for name in arguments.only or parts:
            found = parts[name]()
            lines += found
            print(f"\n## {name}\n\n{markdown(found)}", flush=True)
    if arguments.json is not None:
        write_json(arguments.json, about, lines)
    return 0


def _handshakes(lab: Lab, quick: bool) -> list[Line]:
    lines: list[Line] = []
    for sources in HANDSHAKE_SOURCES:
        lines += flood_handshake.measure(lab, sources, 9_000, 3 if quick else 60, 20)
    return lines


def _arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="results for programs")
    parser.add_argument(
        "--only",
        action="append",
        choices=("syn", "hello", "memory", "crowd", "handshake", "soak"),
        help="only this part",
    )
    parser.add_argument("--minutes", type=float, default=10, help="length of the soak")
    parser.add_argument("--quick", action="store_true", help="small: no figures to quote")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

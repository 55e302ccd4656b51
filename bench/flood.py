"""Measure Deckwire under floods at full speed, while clients make real TLS sessions.

The measurements run in a lab of their own. Markdown goes to standard output, JSON to the file of
--json. Needs root.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import (
    crowd,
    flood_forged,
    flood_handshake,
    flood_heads,
    flood_hello,
    flood_memory,
    flood_probes,
    flood_syn,
    handshakes,
    machine,
    soak,
)
from bench.figures import Line, markdown, write_json
from deckwire.lab import Lab

PARTS = "syn", "hello", "memory", "crowd", "forged", "heads", "probes", "handshake", "soak"
SOURCES = 250
"""Addresses of the client. Each one is a separate source."""
HANDSHAKE_SOURCES = 48, 4_000
"""Sources of a flood of completed handshakes. None comes near its share of the table."""


def main() -> int:
    """Run the parts and return 0, also if a goal was missed: the table shows that."""
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
            "forged": lambda: flood_forged.measure(lab, sessions, 5 if quick else 20),
            "heads": lambda: flood_heads.measure(lab, sessions, 5 if quick else 20),
            "probes": lambda: flood_probes.measure(
                SOURCES, sessions, 5 if quick else 20, arguments.minutes
            ),
            "handshake": lambda: _handshakes(lab, sessions, quick),
            "soak": lambda: soak.measure(lab, arguments.minutes),
        }
        for name in arguments.only or parts:
            found = parts[name]()
            lines += found
            print(f"\n## {name}\n\n{markdown(found)}", flush=True)
    if arguments.json is not None:
        write_json(arguments.json, about, lines)
    return 0


def _handshakes(lab: Lab, sessions: int, quick: bool) -> list[Line]:
    lines: list[Line] = []
    for sources in HANDSHAKE_SOURCES:
        lines += flood_handshake.measure(lab, sources, 9_000, 3 if quick else 60, sessions)
    return lines


def _arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the results to FILE as JSON"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=PARTS,
        help="run only this part; may be repeated",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=10,
        help="length of the soak, and of the mixed probes, in minutes (default 10)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small floods, as a check: do not quote the figures"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

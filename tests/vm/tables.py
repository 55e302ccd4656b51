"""Writes what virtual machines told into a document's tables.

Usage: python tests/vm/tables.py DOCUMENT LOGS MACHINE... LOGS holds MACHINE.rows (of
tests/vm/verifier.py) and MACHINE.result (of vm-test.sh). A table stands between two lines
`<!-- NAME -->` and `<!-- end of NAME -->`; NAME is verifier or results. Machines that are not
named lose their column and their row, so that a table is always of one run.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple


class Verified(NamedTuple):
    """A row that a machine printed: one program on one kernel."""

    release: str
    bcc: str
    program: str
    instructions: str
    processed: str
    milliseconds: str


class TableError(Exception):
    """The document has no such table."""


def verified(path: Path) -> list[Verified]:
    """The rows of a machine; none if it failed before."""
    lines = path.read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [Verified(*cells) for cells in rows if len(cells) == len(Verified._fields)]


def table(head: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def verifier_table(machines: dict[str, list[Verified]]) -> str:
    """A row for each program, a column for each machine."""
    programs = list(dict.fromkeys(row.program for rows in machines.values() for row in rows))
    head = ["program"]
    columns: list[dict[str, str]] = []
    for machine, rows in machines.items():
        if rows:
            release = rows[0].release.removesuffix("-cloud-amd64")
            head.append(f"{release}, BCC {rows[0].bcc}")
        else:
            head.append(machine)
        columns.append(
            {
                row.program: f"{row.instructions}: {row.processed} in {row.milliseconds} ms"
                for row in rows
            }
        )
    return table(
        head, [[name, *(column.get(name, "-") for column in columns)] for name in programs]
    )


def results_table(logs: Path, machines: list[str]) -> str:
    """A row for each machine: passed or failed, seconds from boot to end, pytest's last line."""
    rows = []
    for machine in machines:
        told, _, tests = (logs / f"{machine}.result").read_text().partition(" s  ")
        rows.append([*told.split(), tests.strip().replace("|", "\\|")])
    return table(["kernel", "result", "seconds", "tests"], rows)


def replaced(text: str, name: str, content: str) -> str:
    """The document with another table.

    Raises:
        TableError: its two lines are missing.
    """
    between = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->\n)", re.DOTALL)
    told, count = between.subn(lambda _: f"\n{content}\n", text)
    if count != 1:
        raise TableError(f"{count} tables {name} in the document, not 1")
    return told


def main(document: Path, logs: Path, machines: list[str]) -> None:
    """Replace both tables."""
    counts = {machine: verified(logs / f"{machine}.rows") for machine in machines}
    text = replaced(document.read_text(), "verifier", verifier_table(counts))
    document.write_text(replaced(text, "results", results_table(logs, machines)))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    except TableError as error:
        sys.exit(f"tables.py: {error}")

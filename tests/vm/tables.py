"""Write the results of virtual machines into the tables of a document.

Usage: python tests/vm/tables.py DOCUMENT LOGS MACHINE... LOGS contains MACHINE.rows (written by
tests/vm/verifier.py) and MACHINE.result (written by vm-test.sh). A table is between two lines
`<!-- NAME -->` and `<!-- end of NAME -->`; NAME is verifier or results. Machines that are not named
lose their column and their row, so that a table always shows one run.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple


class Verified(NamedTuple):
    """The verifier's counts of one program on one kernel, as printed by verifier.py."""

    release: str
    bcc: str
    program: str
    instructions: str
    processed: str
    milliseconds: str


class TableError(Exception):
    """The document does not have the table exactly once."""


def verified(path: Path) -> list[Verified]:
    """The rows of a machine; empty if it failed before it printed any."""
    lines = path.read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [Verified(*cells) for cells in rows if len(cells) == len(Verified._fields)]


def table(head: list[str], rows: list[list[str]]) -> str:
    """The table in Markdown."""
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
        outcome, _, tests = (logs / f"{machine}.result").read_text().partition(" s  ")
        rows.append([*outcome.split(), tests.strip().replace("|", "\\|")])
    return table(["kernel", "result", "seconds", "tests"], rows)


def replaced(text: str, name: str, content: str) -> str:
    """The document with new content in the table `name`.

    Raises:
        TableError: the two lines of the table are missing, or there are several.
    """
    between = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->\n)", re.DOTALL)
    changed, count = between.subn(lambda _: f"\n{content}\n", text)
    if count != 1:
        raise TableError(f"{count} tables {name} in the document, not 1")
    return changed


def main(document: Path, logs: Path, machines: list[str]) -> None:
    """Replace both tables of the document."""
    counts = {machine: verified(logs / f"{machine}.rows") for machine in machines}
    text = replaced(document.read_text(), "verifier", verifier_table(counts))
    document.write_text(replaced(text, "results", results_table(logs, machines)))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    except TableError as error:
        sys.exit(f"tables.py: {error}")

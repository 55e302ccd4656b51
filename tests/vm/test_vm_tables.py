"""Tests of the tables that tests/vm/tables.py writes into a document."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TABLES = Path(__file__).with_name("tables.py")
DOCUMENT = """\
Before.
<!-- verifier -->
| old |
<!-- end of verifier -->
Between.
<!-- results -->
<!-- end of results -->
After.
"""


def write(document: Path, *machines: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, TABLES, document, document.parent, *machines]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_failed_machines_keep_their_row_and_column(tmp_path: Path) -> None:
    document = tmp_path / "kernels.md"
    document.write_text(DOCUMENT)
    (tmp_path / "6.1.rows").write_text(
        "| 6.1.0-56-cloud-amd64 | 0.26.0 | `one` | 313 | 996 | 3 |\n"
    )
    (tmp_path / "6.1.result").write_text("6.1          passed    704 s  12 passed in 3.1s\n")
    (tmp_path / "7.3.rows").write_text("")
    (tmp_path / "7.3.result").write_text("7.3          failed      0 s  \n")
    done = write(document, "6.1", "7.3")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        document.read_text()
        == """\
Before.
<!-- verifier -->

| program | 6.1.0-56, BCC 0.26.0 | 7.3 |
| --- | --- | --- |
| `one` | 313: 996 in 3 ms | - |

<!-- end of verifier -->
Between.
<!-- results -->

| kernel | result | seconds | tests |
| --- | --- | --- | --- |
| 6.1 | passed | 704 | 12 passed in 3.1s |
| 7.3 | failed | 0 |  |

<!-- end of results -->
After.
"""
    )


def test_a_document_without_the_tables_is_not_changed(tmp_path: Path) -> None:
    document = tmp_path / "kernels.md"
    document.write_text("Nothing.\n")
    (tmp_path / "6.1.rows").touch()
    (tmp_path / "6.1.result").write_text("6.1 passed 1 s  1 passed in 1s\n")
    done = write(document, "6.1")
    assert (done.returncode, done.stderr) == (
        1,
        "tables.py: 0 tables verifier in the document, not 1\n",
    )
    assert document.read_text() == "Nothing.\n"

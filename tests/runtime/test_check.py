"""`deckwire check-config`: one line for each fault, and nothing is started or made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RIGHT = """
interface = "eth0"
deckies = "deckies.txt"
output = ["stdout", "file:new.log", "relp:logs.example:2514", "udp:[::1]:514", "unix:/dev/log"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deckies.txt").write_text("192.0.2.10 web\n")
    return tmp_path


def checked(folder: Path, content: str) -> tuple[int, list[str]]:
    """Exit status and lines of the check. Lines of a fault come without path and prefix."""
    path = folder / "deckwire.toml"
    path.write_text(content)
    before = sorted(folder.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "deckwire", "check-config", path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "STATE_DIRECTORY": ""},
    )
    assert sorted(folder.rglob("*")) == before
    if done.returncode == 0:
        assert done.stderr == ""
        return 0, done.stdout.splitlines()
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert all(line.startswith("deckwire: ") for line in lines)
    return done.returncode, [
        line.removeprefix("deckwire: ").removeprefix(f"{path}: ") for line in lines
    ]


def test_a_right_file_has_one_line(folder: Path) -> None:
    assert checked(folder, RIGHT) == (0, [f"{folder}/deckwire.toml: no fault found"])


def test_each_fault_of_a_key_has_its_line(folder: Path) -> None:
    status, lines = checked(
        folder,
        """
interface = ["eth0", "a/b", "eth0"]
decky = ["10.0.0.1=a", "10.0.0.1=b"]
output = ["stdout", "tcp:logs", "file:x,mode=9"]
dedup_ttl = -1
nonsense = 1
[budgets]
syn_burst = 0
other = 1
""",
    )
    assert status == 2
    starts = (
        "interface: 'a/b' is no interface name",
        "decky: 10.0.0.1 is named both a and b",
        "output: output 'tcp:logs'",
        "output: output 'file:x'",
        "dedup_ttl: -1 is out of range",
        "nonsense: unknown key",
        "budgets: syn_burst: 0 is out of range",
        "budgets: unknown key 'other'",
    )
    assert len(lines) == len(starts), lines
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_files_and_outputs_are_looked_at(folder: Path) -> None:
    (folder / "deckies.txt").write_text("192.0.2.999 web\n")
    (folder / "empty").touch()
    status, lines = checked(
        folder,
        """
deckies = "deckies.txt"
p0f_db = "absent"
format = "json"
output = ["file:no/such/log", "file:.", "file:decnet.json", "https://h/x,token_file=empty"]
""",
    )
    assert status == 2
    expected = (
        "no interface: nothing to watch",
        f"{folder}/deckies.txt:1: '192.0.2.999' is not",
        f"{folder}/absent: ",
        f"output 'file:{folder}/no/such/log': "[:60],
        "Is a directory",
        "decnet.json is read by DECNET",
        "holds no token",
    )
    assert len(lines) == len(expected), lines
    for line, part in zip(lines, expected, strict=True):
        assert part in line, line


def test_a_file_that_cannot_be_read_has_one_line(folder: Path) -> None:
    status, lines = checked(folder, "interface = [")
    assert (status, len(lines)) == (2, 1)
    assert lines[0].startswith("not TOML")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "deckwire", "check-config", folder / "absent"],
        capture_output=True,
        text=True,
        check=False,
    )
    line = f"deckwire: {folder}/absent: No such file or directory\n"
    assert (done.returncode, done.stderr) == (2, line)

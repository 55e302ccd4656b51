"""The demo from end to end as users run it, and interrupted at several moments."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from deckwire.lab import remove_stale
from deckwire.lab.namespaces import MARK, NAMESPACES, PATIENCE_SECONDS, RUN

pytestmark = pytest.mark.root

DEMO = [sys.executable, "-m", "deckwire", "demo"]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def leftovers(pid: int) -> list[str]:
    """The files and processes of the demo with this process id."""
    stem = f"dwlab-{pid}-"
    found = [str(path) for path in (*NAMESPACES.glob(f"{stem}*"), *RUN.glob(f"{stem}*"))]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word.startswith(f"{MARK}={stem}".encode()) for word in environment):
                found.append(f"process {entry.name}")
    return found


def links() -> str:
    return subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    yield process
    process.kill()
    process.wait()
    remove_stale()
    process.communicate()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """The demo's output up to the line with these words."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    pytest.fail(f"{words!r} is not in {''.join(lines)}")


def test_the_demo_shows_everything_in_plain_text(demo: subprocess.Popen[str]) -> None:
    before = links()
    stdout, stderr = demo.communicate(timeout=5 * PATIENCE_SECONDS)
    assert (demo.returncode, stderr) == (0, "")
    for label in ("SYN", "HANDSHAKE", "HELLO", "SESSION", "CERT", "FLOW", "PAYLOAD"):
        assert re.search(rf"^  {label} +(web|mail|files)-01 +from 198\.18\.0\.\d", stdout, re.M)
    assert re.search(r"^  HELLO +files-01 +LATERAL  from 198\.18\.1\.1 ", stdout, re.M)
    assert re.search(r"^  HELLO +files-01 +from 2001:db8::c:1 ", stdout, re.M)
    assert re.search(r"^  HELLO +mail-01 .*  after STARTTLS", stdout, re.M)
    assert re.search(r"^  CERT .*  www\.example\.com  self-signed  rsa2048  until 20", stdout, re.M)
    assert re.search(r"^  CERT .*  files\.example\.com  self-signed  ec-p256 ", stdout, re.M)
    assert re.search(r"^<134>1 20\S+ web-01 sniffer - tls_client_hello \[decnet@", stdout, re.M)
    assert re.findall("  Lateral movement noticed: .*", stdout) == [
        "  Lateral movement noticed: web-01 -> files-01."
    ]
    # Every event has a row of its own in the summary.
    found = re.search(r"What was seen: (\d+) events.*\n((?:  +\d+ .*\n)+)", stdout)
    assert found is not None
    total, rows = found.groups()
    assert sum(int(row.split()[0]) for row in rows.splitlines()) == int(total)
    assert "Lost: 0." in stdout
    assert "all expected events" not in stdout
    assert stdout.endswith("Everything expected was seen; the lab is removed.\n")
    assert stdout.isascii()
    assert "\x1b" not in stdout
    assert not [line for line in stdout.splitlines() if line != line.rstrip()]
    assert not leftovers(demo.pid)
    assert links() == before


@pytest.mark.parametrize(
    ("moment", "number", "status"),
    [
        ("The agent:", signal.SIGINT, 130),
        ("Python script", signal.SIGINT, 130),
        ("ready", signal.SIGTERM, 128 + signal.SIGTERM),
    ],
)
def test_nothing_is_left_after_a_signal(
    demo: subprocess.Popen[str], moment: str, number: signal.Signals, status: int
) -> None:
    read_until(demo, moment)
    assert leftovers(demo.pid)
    demo.send_signal(number)
    _, stderr = demo.communicate(timeout=PATIENCE_SECONDS)
    assert demo.returncode == status
    assert "Traceback" not in stderr
    assert not leftovers(demo.pid)


def test_the_next_demo_removes_what_a_killed_one_left(demo: subprocess.Popen[str]) -> None:
    read_until(demo, "ready")
    demo.kill()
    demo.wait()
    left = leftovers(demo.pid)
    assert [name for name in left if name.startswith("process")]
    again = subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True)
    read_until(again, f"Removed dwlab-{demo.pid}-")
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=PATIENCE_SECONDS)
    assert not leftovers(demo.pid)
    assert not leftovers(again.pid)


def test_a_closed_pipe_ends_the_demo_cleanly(demo: subprocess.Popen[str]) -> None:
    read_until(demo, "ready")
    assert demo.stdout is not None
    demo.stdout.close()
    assert demo.wait(PATIENCE_SECONDS) == 1
    assert demo.stderr is not None
    assert demo.stderr.read() == ""
    assert not leftovers(demo.pid)


def test_a_narrow_terminal_gets_colours_and_whole_lines() -> None:
    columns = 44
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    ours_alone = ("NO_COLOR", "COLUMNS", "LINES")
    environment = {name: value for name, value in os.environ.items() if name not in ours_alone}
    process = subprocess.Popen(
        DEMO,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**environment, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    pieces = []
    try:
        while piece := os.read(ours, 65_536):
            pieces.append(piece)
    except OSError:  # EIO: the other end is closed
        pass
    finally:
        os.close(ours)
    assert process.wait(PATIENCE_SECONDS) == 0
    text = b"".join(pieces).decode()
    assert COLOUR.search(text)
    events = text.partition("The same as a syslog server")[0]
    lines = [COLOUR.sub("", line).rstrip("\r") for line in events.split("\n")]
    assert max(map(len, lines)) <= columns
    assert any(line.startswith(("    ja4 t13d", "    t13d")) for line in lines)


def test_without_root_there_is_one_line() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", *DEMO],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("deckwire: ")
    assert "sudo" in done.stderr
    assert len(done.stderr.splitlines()) == 1

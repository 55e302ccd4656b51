"""Lines appended to a file: rotation, full disks, and what takes the file's place."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.sinks import file
from deckwire.output.sinks.file import FileSink
from tests.support.rsyslog_server import wait_until


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    path.write_bytes(b"before\n")
    sink = FileSink(str(path))
    sink.start()
    assert sink.offer(b"one")
    assert sink.offer("zwölf".encode())
    sink.close(PATIENCE_SECONDS)
    assert path.read_bytes() == "before\none\nzwölf\n".encode()


def test_reopen_leaves_a_rotated_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "LOOK_S", float("inf"))
    path, rotated = tmp_path / "events.log", tmp_path / "events.log.1"
    sink = FileSink(str(path))
    sink.start()
    sink.offer(b"one")
    wait_until(lambda: sink.counters().written == 1, "the first line is written")
    path.rename(rotated)
    sink.offer(b"two")
    wait_until(lambda: sink.counters().written == 2, "the second line is written")
    sink.reopen()
    wait_until(path.exists, "the file is there again, even without a line")
    sink.offer(b"three")
    sink.close(PATIENCE_SECONDS)
    assert rotated.read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"


def test_a_torn_last_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    path.write_bytes(b"whole\ntor")
    sink = FileSink(str(path))
    sink.start()
    sink.offer(b"next")
    sink.close(PATIENCE_SECONDS)
    assert path.read_bytes() == b"whole\ntor\nnext\n"


def test_the_last_line_may_be_ended_by_an_output_that_is_being_replaced(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    path.write_bytes(b"who")
    sink = FileSink(str(path))
    with path.open("ab") as before:
        before.write(b"le\n")
    sink.start()
    sink.offer(b"next")
    sink.close(PATIENCE_SECONDS)
    assert path.read_bytes() == b"whole\nnext\n"


def test_a_full_disk_is_counted_and_waited_for() -> None:
    sink = FileSink("/dev/full", capacity=2)
    sink.offer(b"one")
    sink.offer(b"two")
    sink.start()
    wait_until(lambda: sink.counters().errors.get("write_error", 0) >= 2, "it is tried again")
    assert not sink.offer(b"three")
    sink.close(0)
    counters = sink.counters()
    assert counters.dropped == {"write_error": 1, "unsent": 2}
    assert counters.last_error == "file:/dev/full: No space left on device"


def test_a_path_that_cannot_be_opened_is_rejected_at_once(tmp_path: Path, short_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileSink(str(tmp_path / "absent" / "events.log"))
    with pytest.raises(IsADirectoryError):
        FileSink(str(tmp_path))
    put_socket(short_path / "socket")
    with pytest.raises(OSError, match="a socket, not a file"):
        FileSink(str(short_path / "socket"))


def test_lines_wait_while_the_directory_is_gone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = FileSink(str(folder / "events.log"), capacity=3)
    sink.start()
    folder.rename(tmp_path / "moved")
    sink.reopen()
    wait_until(lambda: sink.counters().errors, "the failure is counted")
    for line in (b"one", b"two", b"three"):
        assert sink.offer(line)
    wait_until(lambda: sink.counters().errors.get("connect_error", 0) > 1, "it is tried again")
    assert not sink.offer(b"four")
    assert (tmp_path / "moved" / "events.log").read_bytes() == b""
    folder.mkdir()
    sink.close(PATIENCE_SECONDS)
    assert (folder / "events.log").read_bytes() == b"one\ntwo\nthree\n"
    counters = sink.counters()
    assert (counters.written, counters.dropped) == (3, {"connect_error": 1})
    assert capfd.readouterr().err.splitlines() == [
        f"deckwire: output file:{folder}/events.log: No such file or directory;"
        " make it, or its directory, again; not opened again",
        f"deckwire: output file:{folder}/events.log: No such file or directory;"
        " make it, or its directory, again; its lines wait",
        f"deckwire: output file:{folder}/events.log: works again",
    ]


def test_a_deleted_file_is_made_anew_and_no_line_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the path is not looked at before the write."""
    monkeypatch.setattr(file, "LOOK_S", float("inf"))
    path = tmp_path / "events.log"
    sink = FileSink(str(path))
    sink.start()
    sink.offer(b"deleted with the file")
    wait_until(lambda: sink.counters().written == 1, "the first line is written")
    path.unlink()
    for number in range(300):
        assert sink.offer(b"%d" % number)
    sink.close(PATIENCE_SECONDS)
    assert path.read_bytes().split() == [b"%d" % number for number in range(300)]
    counters = sink.counters()
    assert (counters.written, counters.dropped, counters.errors) == (301, {}, {})


def test_a_renamed_file_is_left_without_a_reopen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "LOOK_S", 0.0)
    path, renamed = tmp_path / "events.log", tmp_path / "renamed"
    sink = FileSink(str(path))
    sink.start()
    sink.offer(b"one")
    wait_until(lambda: sink.counters().written == 1, "the first line is written")
    path.rename(renamed)
    sink.offer(b"two")
    sink.close(PATIENCE_SECONDS)
    assert (renamed.read_bytes(), path.read_bytes()) == (b"one\n", b"two\n")


def test_the_path_is_looked_at_from_time_to_time(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    sink = FileSink(str(path))
    sink.start()
    sink.offer(b"first")
    wait_until(lambda: sink.counters().written == 1, "the first line is written")
    path.rename(tmp_path / "renamed")
    wait_until(lambda: sink.offer(b"more") and path.exists(), "the file is made anew")
    sink.close(PATIENCE_SECONDS)
    written = sink.counters().written
    assert len((path.read_bytes() + (tmp_path / "renamed").read_bytes()).split()) == written


def put_symlink(path: Path) -> None:
    path.symlink_to("elsewhere")


def put_directory(path: Path) -> None:
    path.mkdir()


def put_pipe(path: Path) -> None:
    os.mkfifo(path)


def put_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(str(path))


@pytest.mark.parametrize(
    ("put", "problem"),
    [
        (put_symlink, "a symbolic link is in its place"),
        (put_directory, "a directory is in its place"),
        (put_pipe, "a named pipe is in its place"),
        (put_socket, "a socket is in its place"),
    ],
)
def test_a_thing_in_place_of_the_file_gets_no_line(
    short_path: Path,
    put: Callable[[Path], None],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(file, "LOOK_S", 0.0)
    path = short_path / "log"
    sink = FileSink(str(path))
    sink.start()
    sink.offer(b"one")
    wait_until(lambda: sink.counters().written == 1, "the first line is written")
    path.unlink()
    put(path)
    sink.offer(b"two")
    wait_until(lambda: sum(sink.counters().errors.values()) > 1, "it is tried again")
    assert sink.counters().queued == 1
    assert not (short_path / "elsewhere").exists()
    if put is put_directory:
        path.rmdir()
    else:
        path.unlink()
    sink.close(PATIENCE_SECONDS)
    assert path.read_bytes() == b"two\n"
    counters = sink.counters()
    assert (counters.written, counters.dropped) == (2, {})
    assert capfd.readouterr().err.splitlines() == [
        f"deckwire: output file:{path}: {problem};"
        " put back what was there, or restart Deckwire if this is meant; its lines wait",
        f"deckwire: output file:{path}: works again",
    ]


def test_a_symbolic_link_that_was_there_first_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "LOOK_S", 0.0)
    link = tmp_path / "link"
    link.symlink_to("one")
    sink = FileSink(str(link))
    sink.start()
    sink.offer(b"1")
    wait_until(lambda: sink.counters().written == 1, "the first line is written")
    link.unlink()
    link.symlink_to("two")
    sink.offer(b"2")
    sink.close(PATIENCE_SECONDS)
    assert [(tmp_path / name).read_bytes() for name in ("one", "two")] == [b"1\n", b"2\n"]


UNPRIVILEGED = """
import os, sys, time
from deckwire.output.sinks import file
file.LOOK_S = 0.0
sink = file.FileSink(sys.argv[1])
sink.start()
sink.offer(b"one")
while sink.counters().written < 1:
    time.sleep(0.001)
print("written", flush=True)
sys.stdin.readline()
sink.offer(b"two")
while not sink.counters().errors:
    time.sleep(0.001)
print("failed", flush=True)
sys.stdin.readline()
sink.close(120)
assert sink.counters().written == 2, sink.counters()
"""


@pytest.mark.root
def test_a_lost_permission_is_reported_and_waited_for(short_path: Path) -> None:
    """Root may do everything, so another user's process writes."""
    short_path.chmod(0o755)
    folder = short_path / "logs"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    path = folder / "log"
    with subprocess.Popen(
        [sys.executable, "-c", UNPRIVILEGED, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        user=65534,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "written\n"
        os.chown(folder, 0, 0)
        folder.chmod(0)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "failed\n"
        folder.chmod(0o755)
        _, errors = process.communicate("\n", 20)
    assert process.returncode == 0, errors
    assert path.read_bytes() == b"one\ntwo\n"
    assert errors.splitlines() == [
        f"deckwire: output file:{path}: Permission denied;"
        " let Deckwire write there; its lines wait",
        f"deckwire: output file:{path}: works again",
    ]


Rotate = Callable[[Path, str], None]


@pytest.fixture
def logrotate(tmp_path: Path) -> Rotate:
    """Rotates a file now, with these directives."""
    program = shutil.which("logrotate", path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("logrotate is not installed; `make setup` installs it")

    def rotate(path: Path, directives: str) -> None:
        config = tmp_path / "logrotate.conf"
        config.write_text(f"{path} {{\nsu root root\nrotate 99\n{directives}\n}}\n")
        # It reads none that others may write to.
        config.chmod(0o600)
        subprocess.run([program, "--force", "-s", tmp_path / "state", config], check=True)

    return rotate


def rotations(path: Path) -> list[Path]:
    """The file and what was rotated, oldest first."""
    older = sorted(path.parent.glob("events.log.*"), key=lambda one: -int(one.suffix[1:]))
    return [*older, path]


@pytest.mark.root
@pytest.mark.parametrize("directive", ["create", "nocreate"])
@pytest.mark.parametrize("hup", [True, False])
def test_logrotate_that_renames_loses_no_line(
    tmp_path: Path, logrotate: Rotate, directive: str, hup: bool
) -> None:
    path = tmp_path / "events.log"
    sink = FileSink(str(path))
    sink.start()
    number = 0
    for turn in range(4):
        for _ in range(500):
            assert sink.offer(b"%d" % number)
            number += 1
        logrotate(path, directive)
        if hup:
            sink.reopen()
        wait_until(lambda: sink.offer(b"") and path.exists() and path.stat().st_size, "a new file")
        assert len(rotations(path)) == turn + 2
    sink.close(PATIENCE_SECONDS)
    lines = b"".join(one.read_bytes() for one in rotations(path)).split()
    assert lines == [b"%d" % one for one in range(number)]
    counters = sink.counters()
    assert (counters.written, counters.dropped, counters.errors) == (counters.offered, {}, {})


@pytest.mark.root
def test_logrotate_that_copies_and_truncates_is_written_after(
    tmp_path: Path, logrotate: Rotate
) -> None:
    """No hole is left in place of the copied lines. Lines written meanwhile would be lost."""
    path = tmp_path / "events.log"
    sink = FileSink(str(path))
    sink.start()
    for turn in range(3):
        for number in range(100):
            assert sink.offer(b"%d" % (100 * turn + number))
        wait_until(lambda: not sink.counters().queued, "all lines are written")
        logrotate(path, "copytruncate")
        assert path.read_bytes() == b""
    sink.offer(b"300")
    sink.close(PATIENCE_SECONDS)
    lines = b"".join(one.read_bytes() for one in rotations(path)).split(b"\n")
    assert lines == [*(b"%d" % number for number in range(301)), b""]


def test_a_named_pipe_gets_every_line_through_several_readers(tmp_path: Path) -> None:
    """Lines wait for a first reader, and each reader gets what the one before left unread."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    lines = [b"%05d" % number + b"x" * 995 for number in range(300)]
    sink = FileSink(str(path))
    sink.start()
    for line in lines:
        assert sink.offer(line)
    wait_until(lambda: sink.counters().errors, "nobody reads yet")
    got = b""
    for part in (1_500, 20_003, 50_000):
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        until = len(got) + part
        while len(got) < until:
            try:
                got += os.read(reader, 1_000)
            except BlockingIOError:
                wait_until(lambda at=reader: select.select([at], [], [], 0)[0], "more comes")
        before = sink.counters().errors.get("write_error", 0)
        os.close(reader)
        wait_until(
            lambda n=before: sink.counters().errors.get("write_error", 0) > n, "it is noticed"
        )
    with path.open("rb", buffering=0) as last:
        closing = threading.Thread(target=sink.close, args=(20,))
        closing.start()
        while piece := last.read(65_536):
            got += piece
        closing.join(PATIENCE_SECONDS)
    assert got.split() == lines
    assert sink.counters().dropped == {}


def test_lines_left_in_a_named_pipe_are_counted_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = FileSink(str(path))
    sink.start()
    for number in range(10):
        sink.offer(b"%04d" % number)
    wait_until(lambda: sink.counters().written == 10, "the lines are in the pipe")
    assert os.read(reader, 17) == b"0000\n0001\n0002\n00"
    os.close(reader)
    sink.close(PATIENCE_SECONDS)
    counters = sink.counters()
    assert (counters.written, counters.dropped) == (3, {"in_doubt": 7})


def test_character_devices_can_be_named(tmp_path: Path) -> None:
    sink = FileSink("/dev/null")
    sink.start()
    sink.offer(b"one")
    sink.close(PATIENCE_SECONDS)
    assert (sink.counters().written, sink.counters().dropped) == (1, {})
    program = (
        "from deckwire.output.sinks import file\n"
        "sink = file.FileSink('/dev/stderr')\n"
        "sink.start(); sink.offer(b'one'); sink.offer(b'two'); sink.close(120)\n"
        "assert sink.counters().written == 2, sink.counters()"
    )
    run = [sys.executable, "-c", program]
    assert subprocess.run(run, stderr=subprocess.PIPE, check=True).stderr == b"one\ntwo\n"
    for deleted in (False, True):
        with (tmp_path / "errors").open("w+b") as errors:
            if deleted:
                (tmp_path / "errors").unlink()
            subprocess.run(run, stderr=errors, check=True)
            errors.seek(0)
            assert errors.read() == b"one\ntwo\n"

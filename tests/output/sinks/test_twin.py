"""A log and its twin."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deckwire.events.event import Event
from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.sinks import file
from deckwire.output.sinks.opened_file import OpenedFile
from deckwire.output.sinks.owner import Creation, Owner
from deckwire.output.sinks.stream_writer import LineWriter
from deckwire.output.sinks.twin import TwinSink, twin_path
from deckwire.output.syslog import RELAY_SD_ID, SyslogFormat
from tests.support.decnet_lines import check_pair, read_whole
from tests.support.rsyslog_server import wait_until
from tests.support.shared import CHECKOUT

FORM = SyslogFormat(sd_id=RELAY_SD_ID)


def made(number: int) -> bytes:
    """A line with this number."""
    fields = (("src_ip", "192.0.2.1"), ("n", number))
    return FORM.line(Event("tls_session", number, "web", fields))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "decnet.log"


@pytest.fixture
def twin(tmp_path: Path) -> Path:
    return tmp_path / "decnet.json"


def numbers(log: Path, twin: Path) -> list[int]:
    """The numbers of all lines, after a look at each and its record."""
    lines, records = read_whole(log.read_bytes()), read_whole(twin.read_bytes())
    assert len(lines) == len(records)
    return [
        int(check_pair(line, record)["fields"]["n"])
        for line, record in zip(lines, records, strict=True)
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/log/decnet/decnet.log", "/var/log/decnet/decnet.json"),
        ("events", "events.json"),
        ("a.b/events", "a.b/events.json"),
        ("a.tar.log", "a.tar.json"),
        (".log", ".log.json"),
    ],
)
def test_the_twin_has_the_logs_name_and_its_own_suffix(path: str, expected: str) -> None:
    assert twin_path(path) == expected


def test_a_log_cannot_be_its_own_twin() -> None:
    with pytest.raises(ValueError, match=r"the log's own name ends in \.json"):
        twin_path("a/decnet.json")


def test_each_line_is_followed_by_its_record(log: Path, twin: Path) -> None:
    sink = TwinSink(str(log))
    sink.start()
    assert all(sink.offer(made(number)) for number in range(300))
    sink.close(PATIENCE_SECONDS)
    assert numbers(log, twin) == list(range(300))
    assert sink.counters().written == 300


def test_line_and_record_alternate_and_each_is_one_write(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, bytes]] = []
    real = os.write

    def write(fd: int, data: memoryview) -> int:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        if name.startswith("decnet."):
            written.append((name, bytes(data)))
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    sink = TwinSink(str(log))
    sink.start()
    for number in range(20):
        sink.offer(made(number))
    sink.close(PATIENCE_SECONDS)
    assert [name for name, _ in written] == ["decnet.log", "decnet.json"] * 20
    assert all(data.endswith(b"\n") and data.count(b"\n") == 1 for _, data in written)


def test_both_are_reopened(log: Path, twin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "LOOK_S", float("inf"))
    sink = TwinSink(str(log))
    sink.start()
    sink.offer(made(0))
    wait_until(lambda: sink.counters().written == 1, "the first line is written")
    for path in (log, twin):
        path.rename(f"{path}.1")
    sink.reopen()
    wait_until(lambda: log.exists() and twin.exists(), "both are there again")
    sink.offer(made(1))
    sink.close(PATIENCE_SECONDS)
    assert numbers(log, twin) == [1]
    assert numbers(Path(f"{log}.1"), Path(f"{twin}.1")) == [0]


@pytest.mark.parametrize("rotated", ["log", "twin"])
def test_one_of_them_renamed_without_a_signal_is_noticed(
    log: Path, twin: Path, rotated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "LOOK_S", 0.0)
    path = log if rotated == "log" else twin
    sink = TwinSink(str(log))
    sink.start()
    sink.offer(made(0))
    wait_until(lambda: sink.counters().written == 1, "the first line is written")
    path.rename(f"{path}.1")
    sink.offer(made(1))
    sink.close(PATIENCE_SECONDS)
    assert len(read_whole(path.read_bytes())) == 1
    assert len(read_whole((twin if path is log else log).read_bytes())) == 2


@pytest.mark.parametrize("deleted", ["log", "twin"])
def test_a_deleted_one_is_made_anew_and_the_other_repeats_nothing(
    log: Path, twin: Path, deleted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "LOOK_S", float("inf"))
    path, other = (log, twin) if deleted == "log" else (twin, log)
    sink = TwinSink(str(log))
    sink.start()
    sink.offer(made(0))
    wait_until(lambda: sink.counters().written == 1, "the first line is written")
    path.unlink()
    for number in range(1, 200):
        sink.offer(made(number))
    sink.close(PATIENCE_SECONDS)
    assert len(read_whole(path.read_bytes())) == 199
    assert len(read_whole(other.read_bytes())) == 200
    assert (sink.counters().written, sink.counters().dropped) == (200, {})


def test_truncating_a_copied_file_leaves_no_hole(log: Path, twin: Path) -> None:
    """logrotate's copytruncate, which DECNET uses for its log."""
    sink = TwinSink(str(log))
    sink.start()
    sink.offer(made(0))
    wait_until(lambda: sink.counters().written == 1, "the first line is written")
    os.truncate(log, 0)
    os.truncate(twin, 0)
    sink.offer(made(1))
    sink.close(PATIENCE_SECONDS)
    assert numbers(log, twin) == [1]


def test_a_disk_that_fills_between_line_and_record_repeats_no_line(log: Path, twin: Path) -> None:
    """The twin takes a part of its first record; the rest follows when there is room."""
    sink = TwinSink(str(log))
    room = [10]
    real = sink._files[1].writer._write  # type: ignore[union-attr]

    def write(data: memoryview) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = real(data[: room[0]])
        room[0] -= taken
        return taken

    sink._files[1].writer = LineWriter(write)
    for number in range(3):
        sink.offer(made(number))
    sink.start()
    wait_until(lambda: sink.counters().errors.get("write_error", 0) >= 2, "it is tried again")
    assert len(read_whole(log.read_bytes())) == 1
    assert len(twin.read_bytes()) == 10
    assert sink.counters().written == 0
    room[0] = 1 << 30
    sink.close(PATIENCE_SECONDS)
    assert numbers(log, twin) == [0, 1, 2]
    assert sink.counters().written == 3


ON_A_FULL_DISK = """
import os, sys
from pathlib import Path
from tests.output.sinks.test_twin import TwinSink, made, wait_until
log, twin = Path(sys.argv[1], "decnet.log"), Path(sys.argv[1], "decnet.json")
sink = TwinSink(str(log))
sink.start()
copied = {log: b"", twin: b""}
for number in range(200):
    assert sink.offer(made(number))
def is_done():
    failed = sink.counters().errors.get("write_error", 0)
    if failed > is_done.failed:
        is_done.failed = failed
        for path in copied:
            copied[path] += path.read_bytes()
            os.truncate(path, 0)
    return sink.counters().written == 200
is_done.failed = 0
wait_until(is_done, "all lines are written")
sink.close(120)
assert is_done.failed
for path in copied:
    sys.stdout.buffer.write(copied[path] + path.read_bytes() + b"\\0")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a small disk")
def test_a_full_disk_costs_no_line_and_no_record(log: Path, twin: Path) -> None:
    """Both files are copied and truncated whenever it is full, as an operator would do."""
    mounting = f'mount -t tmpfs -o size=32k none {log.parent} && exec "$@"'
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", mounting, "sh"),
            *(sys.executable, "-c", ON_A_FULL_DISK, str(log.parent)),
        ],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        check=True,
    )
    contents = done.stdout.split(b"\0")
    for path, content in zip((log, twin), contents, strict=False):
        path.write_bytes(content)
    assert numbers(log, twin) == list(range(200))


@pytest.mark.parametrize("broken", ["log", "twin"])
def test_a_failure_names_the_file_that_fails(
    log: Path, twin: Path, broken: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = log if broken == "log" else twin
    sink = TwinSink(str(log))
    sink.start()
    path.rename(f"{path}.1")
    path.mkdir()
    sink.offer(made(0))
    sink.reopen()
    wait_until(lambda: len(sink.counters().errors) == 2, "opening fails at both occasions")
    path.rmdir()
    sink.close(PATIENCE_SECONDS)
    assert numbers(log, twin) == [0]
    named = "" if broken == "log" else f" its twin {twin}:"
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 3
    for line in lines[:2]:
        assert line.startswith(f"deckwire: output file:{log}:{named} a directory is in its place; ")
    assert lines[2] == f"deckwire: output file:{log}: works again"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives files away")
def test_both_have_the_same_owner_and_mode(log: Path, twin: Path) -> None:
    TwinSink(str(log), creation=Creation(Owner(4242, 4343), 0o664)).close(0)
    for path in (log, twin):
        status = path.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (4242, 4343, 0o664)


def test_a_pipe_has_no_twin(log: Path) -> None:
    os.mkfifo(log)
    with pytest.raises(OSError, match="a log with a twin must be a file"):
        TwinSink(str(log))


def test_nothing_stays_open_if_the_twin_cannot_be_opened(
    log: Path, twin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    real = OpenedFile.close
    monkeypatch.setattr(OpenedFile, "close", lambda one: closed.append(one.path) or real(one))
    twin.symlink_to("absent/twin")
    with pytest.raises(FileNotFoundError):
        TwinSink(str(log))
    assert str(log) in closed
    assert str(log) not in {
        os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
    }

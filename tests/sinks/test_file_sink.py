from __future__ import annotations

import os
from pathlib import Path

import pytest
from rsyslog_server import wait_until

from deckwire.sinks.file import FileSink


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    path.write_bytes(b"before\n")
    sink = FileSink(str(path))
    sink.start()
    assert sink.offer(b"one")
    assert sink.offer("zwölf".encode())
    sink.close(20)
    assert path.read_bytes() == "before\none\nzwölf\n".encode()


def test_a_rotated_file_is_left_on_reopen(tmp_path: Path) -> None:
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
    sink.close(20)
    assert rotated.read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"


def test_if_reopening_fails_the_open_file_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = FileSink(str(folder / "events.log"))
    sink.start()
    folder.rename(tmp_path / "moved")
    sink.reopen()
    wait_until(lambda: sink.counters().errors, "the failure is counted")
    sink.offer(b"one")
    sink.close(20)
    assert (tmp_path / "moved" / "events.log").read_bytes() == b"one\n"
    assert sink.counters().errors == {"reopen_error": 1}


def test_a_torn_last_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    path.write_bytes(b"whole\ntor")
    sink = FileSink(str(path))
    sink.start()
    sink.offer(b"next")
    sink.close(20)
    assert path.read_bytes() == b"whole\ntor\nnext\n"


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


def test_what_cannot_be_opened_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileSink(str(tmp_path / "absent" / "events.log"))
    with pytest.raises(IsADirectoryError):
        FileSink(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="neither a file nor a character device"):
        FileSink(str(tmp_path / "pipe"))

"""A spool keeps lines in order, within its bound, over kills, full disks and damage."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.limits import SPOOL_REFUSED_LINES
from deckwire.output.spool.spool import Spool

LINES = [b"line %d" % number for number in range(100)]
ROOM = 10_000_000


def texts(spool: Spool, after: int = 0, limit: int = 1_000_000) -> list[bytes]:
    return [line.text for line in spool.after(after, limit)]


@pytest.fixture
def aside() -> list[str]:
    return []


@pytest.fixture
def spool(tmp_path: Path, aside: list[str]) -> Iterator[Spool]:
    made = Spool(str(tmp_path / "spool" / "one.sqlite"), ROOM, aside.append)
    yield made
    made.close()


def test_lines_come_back_in_order_until_they_are_removed(spool: Spool) -> None:
    assert spool.append(LINES) == 100
    assert texts(spool) == LINES
    assert texts(spool, limit=7) == LINES[:7]
    fortieth = spool.after(0, 40)[-1].number
    assert texts(spool, after=fortieth) == LINES[40:]
    assert spool.remove_through(fortieth) == 40
    assert (texts(spool), spool.lines) == (LINES[40:], 60)
    assert spool.remove_through(fortieth) == 0


def test_numbers_are_never_used_twice(spool: Spool) -> None:
    spool.append(LINES[:3])
    last = spool.after(0, 3)[-1].number
    spool.remove_through(last)
    spool.close()
    spool.append(LINES[3:4])
    assert spool.after(0, 1)[0].number == last + 1


def test_lines_are_there_after_a_restart(spool: Spool, tmp_path: Path, aside: list[str]) -> None:
    spool.append(LINES)
    spool.close()
    again = Spool(str(tmp_path / "spool" / "one.sqlite"), ROOM, aside.append)
    assert again.open() == 100
    assert again.open() == 0
    assert texts(again) == LINES
    again.close()


def test_committed_lines_survive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "killed.sqlite"
    program = (
        "import sys; from deckwire.output.spool.spool import Spool\n"
        f"spool = Spool({str(path)!r}, {ROOM}, print)\n"
        "for number in range(10**9):\n"
        "    assert spool.append([b'%d' % number]) == 1\n"
        "    print(number, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(50):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        committed = 49 + len(writer.stdout.read().splitlines())
    spool = Spool(str(path), ROOM, print)
    kept = texts(spool)
    assert kept == [b"%d" % number for number in range(len(kept))]
    assert len(kept) > committed
    spool.close()


def test_a_full_spool_keeps_the_oldest_lines_and_has_room_again(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "small.sqlite"), 200_000, print)
    line = b"x" * 1_000
    kept = 0
    while count := spool.append([line] * 10):
        kept += count
    assert 100 < kept < 200
    assert spool.append([line]) == 0
    assert (tmp_path / "small.sqlite").stat().st_size < 220_000
    assert spool.remove_through(spool.after(0, 100)[-1].number) == 100
    assert spool.append([line] * 10) == 10
    spool.close()


def test_only_the_owner_can_read_it(spool: Spool, tmp_path: Path) -> None:
    spool.append(LINES)
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    for file in (tmp_path / "spool").iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


@pytest.mark.parametrize("damage", ["text", "middle"])
def test_a_damaged_database_is_moved_aside(
    spool: Spool, tmp_path: Path, aside: list[str], damage: str
) -> None:
    spool.append(LINES * 100)
    spool.close()
    path = tmp_path / "spool" / "one.sqlite"
    content = path.read_bytes()
    bad = b"no database" * 100 if damage == "text" else content[:4096] + os.urandom(len(content))
    path.write_bytes(bad)
    assert texts(spool) == []
    assert spool.append(LINES) == 100
    assert texts(spool) == LINES
    (name,) = aside
    # SQLite may have written to the first page before it met the damage.
    assert Path(name).read_bytes()[4096:] == bad[4096:]


def test_numbers_go_on_in_the_database_after_a_damaged_one(spool: Spool, tmp_path: Path) -> None:
    """A late acknowledgement of a line in the damaged one removes no other line."""
    spool.append(LINES)
    last = spool.after(0, 100)[-1].number
    spool.close()
    (tmp_path / "spool" / "one.sqlite").write_bytes(b"no database" * 100)
    assert texts(spool) == []
    assert spool.append(LINES[:3]) == 3
    assert spool.remove_through(last) == 0
    assert [line.number for line in spool.after(last, 10)] == [last + 1, last + 2, last + 3]


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = Spool(str(tmp_path / "file" / "one.sqlite"), ROOM, print)
    with pytest.raises(OSError, match="file"):
        spool.append(LINES)
    (tmp_path / "file").unlink()
    assert spool.append(LINES) == 100
    spool.close()


def test_a_database_in_use_is_an_os_error_and_works_afterwards(
    spool: Spool, tmp_path: Path
) -> None:
    spool.append(LINES[:1])
    other = sqlite3.connect(tmp_path / "spool" / "one.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OSError, match="locked") as caught:
        spool.append(LINES[1:2])
    assert caught.value.errno == errno.EBUSY
    other.execute("ROLLBACK")
    other.close()
    assert spool.append(LINES[1:]) == 99
    assert texts(spool) == LINES


def test_refused_lines_are_kept_up_to_a_bound(spool: Spool, tmp_path: Path) -> None:
    spool.append([b"%d" % number for number in range(SPOOL_REFUSED_LINES + 5)])
    lines = spool.after(0, SPOOL_REFUSED_LINES + 4)
    assert spool.set_aside_through(lines[2].number, "answers 400") == 3
    assert spool.set_aside_through(lines[-1].number, "answers 413") == SPOOL_REFUSED_LINES + 1
    assert spool.lines == 1
    spool.close()
    with sqlite3.connect(tmp_path / "spool" / "one.sqlite") as database:
        kept = database.execute("SELECT reason, text FROM refused ORDER BY number").fetchall()
    assert len(kept) == SPOOL_REFUSED_LINES
    assert kept[0] == ("answers 413", b"4")


def test_the_file_of_an_emptied_spool_shrinks(spool: Spool, tmp_path: Path) -> None:
    spool.append([b"x" * 1_000] * 1_000)
    while spool.lines:
        spool.remove_through(spool.after(0, 100)[-1].number)
    spool.close()
    assert (tmp_path / "spool" / "one.sqlite").stat().st_size < 200_000


@given(st.lists(st.one_of(st.binary(max_size=50), st.none()), max_size=60))
def test_it_is_a_queue(tmp_path_factory: pytest.TempPathFactory, steps: list[bytes | None]) -> None:
    """Bytes are appended, None removes the first line: the spool equals a list."""
    spool = Spool(str(tmp_path_factory.mktemp("spool") / "one.sqlite"), ROOM, print)
    model: list[bytes] = []
    for step in steps:
        if step is not None:
            assert spool.append([step]) == 1
            model.append(step)
        elif model:
            assert spool.remove_through(spool.after(0, 1)[0].number) == 1
            del model[0]
        assert texts(spool) == model
        assert spool.lines == len(model)
    spool.close()

"""Lines in one SQLite database, in order, until they are acknowledged."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from deckwire.limits import SPOOL_BYTES_MIN, SPOOL_REFUSED_LINES

_SCHEMA = (
    # Before the first table: SQLite cannot add it later.
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    # A power failure may cost the last commits, a kill of the process none.
    "PRAGMA synchronous = NORMAL",
    f"PRAGMA journal_size_limit = {SPOOL_BYTES_MIN}",
    "CREATE TABLE IF NOT EXISTS line (number INTEGER PRIMARY KEY AUTOINCREMENT, text BLOB)",
    "CREATE TABLE IF NOT EXISTS refused (number INTEGER PRIMARY KEY, reason TEXT, text BLOB)",
)
_MODE = 0o600
_BUSY_S = 0.5
"""Seconds to wait for another program that reads the database."""
_FREE_PAGES = 1_024
"""Free pages that a spool in use keeps, to be written again."""
_VACUUM_PAGES = 512
"""Free pages given back to the file system in one go."""
_ROW_BYTES = 16
"""What a row takes in addition to its text, at least."""

_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.ENOENT,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_LOCKED: errno.EBUSY,
    sqlite3.SQLITE_IOERR: errno.EIO,
}
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class SpoolError(OSError):
    """The database or its disk failed."""


class SpooledLine(NamedTuple):
    """A line and its number. Numbers grow; none is used twice."""

    number: int
    text: bytes


class Spool:
    """Keeps lines on disk. Two threads may use it: one appends, the other reads and removes.

    Every method but `close` opens the database if it is not open, and raises SpoolError if that, or
    the database, fails. The next call tries again. A damaged database is renamed, and a new one
    is begun.
    """

    def __init__(self, path: str, max_bytes: int, moved_aside: Callable[[str], None]) -> None:
        """`max_bytes` bounds the file. `moved_aside` gets the new path of a damaged database."""
        self._path = path
        self._max_bytes = max_bytes
        self._moved_aside = moved_aside
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._lines = 0
        self._last = 0
        """The last number that was used."""

    @property
    def lines(self) -> int:
        """Lines that wait, as of the last call."""
        return self._lines

    def open(self) -> int:
        """Open the database, if it is not open, and return how many lines it had then; else 0."""
        with self._lock:
            before = self._database
            with self._opened():
                return self._lines if before is None else 0

    def append(self, lines: Sequence[bytes]) -> int:
        """Commit as many lines as there is room for, and return how many, from the first on."""
        with self._lock, self._opened() as database:
            room = self._max_bytes - _bytes_used(database)
            count = 0
            for line in lines:
                room -= len(line) + _ROW_BYTES
                if room < 0:
                    break
                count += 1
            if count:
                with database:
                    database.executemany(
                        "INSERT INTO line (text) VALUES (?)", ((line,) for line in lines[:count])
                    )
                self._lines += count
                self._last += count
            return count

    def after(self, number: int, limit: int) -> list[SpooledLine]:
        """The next lines after this number, in order, `limit` at most."""
        with self._lock, self._opened() as database:
            rows = database.execute(
                "SELECT number, text FROM line WHERE number > ? ORDER BY number LIMIT ?",
                (number, limit),
            )
            return [SpooledLine(*row) for row in rows]

    def remove_through(self, number: int) -> int:
        """Remove the lines up to this number, and return how many there were."""
        with self._lock, self._opened() as database:
            return self._remove(database, number)

    def set_aside_through(self, number: int, reason: str) -> int:
        """Move the lines up to this number into the table `refused`, and return how many.

        The table keeps the newest SPOOL_REFUSED_LINES.
        """
        with self._lock, self._opened() as database:
            with database:
                database.execute(
                    "INSERT OR REPLACE INTO refused SELECT number, ?, text FROM line"
                    " WHERE number <= ?",
                    (reason, number),
                )
                database.execute(
                    "DELETE FROM refused WHERE number NOT IN"
                    " (SELECT number FROM refused ORDER BY number DESC LIMIT ?)",
                    (SPOOL_REFUSED_LINES,),
                )
            return self._remove(database, number)

    def close(self) -> None:
        """Close the database; the lines stay."""
        with self._lock:
            self._close()

    def _remove(self, database: sqlite3.Connection, number: int) -> int:
        with database:
            removed = database.execute("DELETE FROM line WHERE number <= ?", (number,)).rowcount
        self._lines -= removed
        (free,) = database.execute("PRAGMA freelist_count").fetchone()
        if free > (_FREE_PAGES if self._lines else 0):
            # The file would stay as large as it ever was. execute() would free one page only,
            # because each one is a row without columns.
            database.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
        return removed

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The open database, with SQLite's and the system's errors as SpoolError."""
        try:
            yield self._database or self._open_or_begin()
        except sqlite3.Error as error:
            code = _code(error)
            self._close()
            if code in _DAMAGED:
                self._move_aside()
            number = _ERRNO.get(code, errno.EIO)
            raise SpoolError(number, f"{self._path}: {error}") from error
        except OSError as error:
            raise SpoolError(error.errno, error.strerror, error.filename) from error

    def _open_or_begin(self) -> sqlite3.Connection:
        """Open the database; if it is damaged, rename it and begin a new one."""
        try:
            return self._open()
        except sqlite3.Error as error:
            if _code(error) not in _DAMAGED:
                raise
        self._move_aside()
        return self._open()

    def _open(self) -> sqlite3.Connection:
        folder = os.path.dirname(self._path) or "."
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE))
        # The lock of this class keeps its two threads apart.
        database = sqlite3.connect(self._path, timeout=_BUSY_S, check_same_thread=False)
        try:
            for statement in _SCHEMA:
                database.execute(statement).fetchall()
            (self._lines,) = database.execute("SELECT count(*) FROM line").fetchone()
            self._last = _continued(database, self._last)
        except sqlite3.Error:
            database.close()
            raise
        self._database = database
        return database

    def _close(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None

    def _move_aside(self) -> None:
        aside = f"{self._path}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        os.replace(self._path, aside)
        for ending in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.replace(self._path + ending, aside + ending)
        self._lines = 0
        self._moved_aside(aside)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _continued(database: sqlite3.Connection, last: int) -> int:
    """The last number that was used, here or in a database that was moved aside.

    An acknowledgement of an old line must not remove a new one.
    """
    row = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'line'").fetchone()
    if row is not None:
        return max(last, int(row[0]))
    with database:
        database.execute("INSERT INTO sqlite_sequence VALUES ('line', ?)", (last,))
    return last


def _bytes_used(database: sqlite3.Connection) -> int:
    """Bytes of the database that rows take. The file does not shrink when rows go."""
    pages, free, size = (
        database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)

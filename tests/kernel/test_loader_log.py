from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deckwire.kernel import loader_log
from deckwire.kernel.loader_log import NAME, keep


@pytest.fixture
def printed() -> Iterator[int]:
    fd = os.memfd_create("printed")
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOGS_DIRECTORY", f"{tmp_path}:/nowhere")
    return tmp_path


def test_the_newest_stands_alone(printed: int, logs: Path) -> None:
    for text in (b"first", b"second"):
        os.pwrite(printed, text, 0)
        assert keep(printed) == logs / NAME
    assert (logs / NAME).read_bytes() == b"second"
    assert os.listdir(logs) == [NAME]
    assert (logs / NAME).stat().st_mode & 0o077 == 0


def test_the_end_is_kept(printed: int, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_log, "LOG_BYTES", 100_000)
    os.pwrite(printed, b"begin" + b"x" * 100_000 + b"end", 0)
    keep(printed)
    assert (logs / NAME).read_bytes() == b"x" * 99_997 + b"end"


def test_nothing_printed_is_no_file(printed: int, logs: Path) -> None:
    assert keep(printed) is None
    assert os.listdir(logs) == []


def test_somebodys_link_is_replaced_not_followed(printed: int, logs: Path) -> None:
    (logs / "precious").write_text("precious")
    (logs / NAME).symlink_to(logs / "precious")
    os.pwrite(printed, b"log", 0)
    assert keep(printed) == logs / NAME
    assert (logs / "precious").read_text() == "precious"
    assert (logs / NAME).read_text() == "log"


def test_a_place_that_cannot_be_had_is_done_without(printed: int, logs: Path) -> None:
    (logs / NAME).mkdir()
    os.pwrite(printed, b"log", 0)
    assert keep(printed) is None
    assert os.listdir(logs) == [NAME]


def test_a_directory_that_is_missing_is_done_without(
    printed: int, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGS_DIRECTORY", str(logs / "none"))
    os.pwrite(printed, b"log", 0)
    assert keep(printed) is None


def test_without_systemd_it_is_among_the_temporary_files(
    printed: int, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOGS_DIRECTORY")
    monkeypatch.setattr(tempfile, "tempdir", str(logs))
    os.pwrite(printed, b"log", 0)
    assert keep(printed) == logs / NAME

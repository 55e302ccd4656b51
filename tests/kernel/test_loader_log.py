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


def test_only_the_newest_log_is_kept(printed: int, logs: Path) -> None:
    for text in (b"first", b"second"):
        os.pwrite(printed, text, 0)
        assert keep(printed) == logs / NAME
    assert (logs / NAME).read_bytes() == b"second"
    assert os.listdir(logs) == [NAME]
    assert (logs / NAME).stat().st_mode & 0o077 == 0


def test_the_end_of_a_long_log_is_kept(
    printed: int, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_log, "LOG_BYTES", 100_000)
    os.pwrite(printed, b"begin" + b"x" * 100_000 + b"end", 0)
    keep(printed)
    assert (logs / NAME).read_bytes() == b"x" * 99_997 + b"end"


def test_without_output_there_is_no_file(printed: int, logs: Path) -> None:
    assert keep(printed) is None
    assert os.listdir(logs) == []


def test_a_link_of_somebody_else_is_replaced_not_followed(printed: int, logs: Path) -> None:
    (logs / "precious").write_text("precious")
    (logs / NAME).symlink_to(logs / "precious")
    os.pwrite(printed, b"log", 0)
    assert keep(printed) == logs / NAME
    assert (logs / "precious").read_text() == "precious"
    assert (logs / NAME).read_text() == "log"


def test_a_directory_with_the_name_of_the_log_is_left_alone(printed: int, logs: Path) -> None:
    (logs / NAME).mkdir()
    os.pwrite(printed, b"log", 0)
    assert keep(printed) is None
    assert os.listdir(logs) == [NAME]


def test_without_the_directory_no_log_is_kept(
    printed: int, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGS_DIRECTORY", str(logs / "none"))
    os.pwrite(printed, b"log", 0)
    assert keep(printed) is None


def test_without_systemd_the_log_is_a_temporary_file(
    printed: int, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOGS_DIRECTORY")
    monkeypatch.setattr(tempfile, "tempdir", str(logs))
    os.pwrite(printed, b"log", 0)
    assert keep(printed) == logs / NAME

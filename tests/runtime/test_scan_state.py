"""ScanState: a slow scan is one scan over a restart, whatever becomes of the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deckwire.limits import SCANS_FILE_BYTES
from deckwire.runtime.scan_state import NAME, ScanState
from tests.pipeline.test_scanning import Watching, ports
from tests.support.emitted import of


def state(folder: Path, watching: Watching) -> ScanState:
    return ScanState(str(folder), watching.scanning, watching.clock)


def suspended(folder: Path) -> Watching:
    before = Watching()
    before.sweep(5, ports(1, 2, 3, 4, 5))
    state(folder, before).suspend()
    before.scanning.finish()
    assert [each["phase"] for each in of(before.events, "scan_summary")] == ["begun"]
    return before


def test_a_scan_goes_on_after_a_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = suspended(tmp_path)
    after = Watching()
    after.sweep(60)
    state(tmp_path, after).read()
    after.sweep(65, ports(6, 7))
    after.scanning.finish()
    (begun,) = of(before.events, "scan_summary")
    (ended,) = of(after.events, "scan_summary")
    assert ended["scan_id"] == begun["scan_id"]
    assert (ended["phase"], ended["ports"], ended["probes"]) == ("ended", "1-7", 7)
    assert ended["first_seen"] == begun["first_seen"]
    assert capsys.readouterr().err == ""


def test_a_scan_that_ended_meanwhile_is_reported(tmp_path: Path) -> None:
    suspended(tmp_path)
    after = Watching()
    after.sweep(4_000)
    state(tmp_path, after).read()
    after.sweep(4_001)
    assert [each["phase"] for each in of(after.events, "scan_summary")] == ["ended"]


def test_a_first_start_has_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state(tmp_path, Watching()).read()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "it is no JSON; scans from before the start are new ones"),
        (b'{"version": 99}', "another version wrote it; scans"),
        (b'{"version": 1, "scans": [7, 8]}', "2 of its scans cannot be read; they are new ones"),
        (b" " * (SCANS_FILE_BYTES + 1), "it is larger than 16777216 bytes; scans"),
    ],
    ids=["empty", "version", "entries", "large"],
)
def test_a_wrong_file_has_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, line: str
) -> None:
    (tmp_path / NAME).write_bytes(content)
    watching = Watching()
    state(tmp_path, watching).read()
    assert len(watching.scanning) == 0
    (shown,) = capsys.readouterr().err.splitlines()
    assert shown.startswith(f"deckwire: {tmp_path / NAME}: {line}")


def test_a_file_that_cannot_be_written_ends_the_scans_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watching = Watching()
    watching.sweep(5, ports(22))
    absent = state(tmp_path / "absent", watching)
    assert not absent.write()
    absent.suspend()
    watching.scanning.finish()
    assert [each["phase"] for each in of(watching.events, "scan_summary")] == ["ended"]
    (shown,) = capsys.readouterr().err.splitlines()
    assert "No such file or directory; make it writable" in shown


def test_the_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    suspended(tmp_path)
    assert os.listdir(tmp_path) == [NAME]

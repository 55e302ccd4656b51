"""The status file: written as a whole, read back, and doubted when it is old or odd."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from deckwire.errors import UsageError
from deckwire.runtime.status import (
    STALE_S,
    STATUS_NAME,
    Status,
    growth,
    read_status,
    show_status,
    write_atomically,
    write_status,
)


def status(**changes: object) -> Status:
    now = time.time()
    made = Status(
        version="0.1.0",
        pid=4711,
        time=now,
        since=now - 90_061,
        deckies=3,
        interfaces={"parent0": "attached (tcx)"},
        outputs={"stdout": "", "tcp:logs.example:514": ""},
        problems=[],
        counters={"events_emitted": 12, "events_suppressed": 34, "events_dropped": 0},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_status_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = status()
    write_status(str(tmp_path), written)
    assert read_status(str(tmp_path)) == written
    assert [file.name for file in tmp_path.iterdir()] == [STATUS_NAME]


def test_a_healthy_agent_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_status(str(tmp_path), status())
    assert show_status(str(tmp_path), as_json=False) == 0
    assert capsys.readouterr().out == (
        "deckwire 0.1.0, process 4711, up 1 day, 1:01:01\n"
        "deckies: 3\n"
        "interface parent0: attached (tcx)\n"
        "output stdout: works\n"
        "output tcp:logs.example:514: works\n"
        "events: 12 emitted, 34 suppressed, 0 dropped\n"
    )


def test_a_problem_is_shown_and_is_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = "tcp:logs.example:514: Connection refused"
    problem = f"output {failure}"
    write_status(str(tmp_path), status(outputs={"tcp:x": failure}, problems=[problem]))
    assert show_status(str(tmp_path), as_json=False) == 1
    shown = capsys.readouterr().out
    assert f"output {failure}\n" in shown
    assert shown.endswith(f"problem: {problem}\n")


def test_an_old_status_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_status(str(tmp_path), status(time=time.time() - STALE_S - 5))
    assert show_status(str(tmp_path), as_json=True) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem.startswith("the agent has written nothing for 3")


def test_json_has_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = status()
    write_status(str(tmp_path), written)
    assert show_status(str(tmp_path), as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == asdict(written)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"version": 1}',
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps(asdict(status()) | {"time": "now"}).encode(),
        json.dumps(asdict(status()) | {"problems": [1]}).encode(),
        json.dumps(asdict(status()) | {"interfaces": []}).encode(),
        json.dumps(asdict(status()) | {"more": 1}).encode(),
    ],
)
def test_a_file_that_is_no_status_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATUS_NAME).write_bytes(content)
    with pytest.raises(UsageError, match="no status of this version") as caught:
        read_status(str(tmp_path))
    assert caught.value.status == 2


def test_no_agent_is_one_line_and_status_1(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no agent runs") as caught:
        read_status(str(tmp_path))
    assert caught.value.status == 1


def test_a_directory_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="Not a directory; name the agent's runtime directory"):
        read_status(str(tmp_path / "file"))


def test_control_characters_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_status(str(tmp_path), status(problems=["\x1b[2J evil \n line"]))
    show_status(str(tmp_path), as_json=False)
    assert capsys.readouterr().out.endswith("problem: \\x1b[2J evil \\n line\n")


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(str(path), b"old")
    with path.open("rb") as reader:
        write_atomically(str(path), b"newer")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"newer"


def test_a_full_disk_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(str(path), b"old")
    (tmp_path / "file.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_atomically(str(path), b"new")
    assert path.read_bytes() == b"old"


def test_what_cannot_be_replaced_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        write_atomically(str(tmp_path / "folder"), b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_growth_is_what_has_risen() -> None:
    assert growth({"a": 3, "b": 5, "c": 1}, {"a": 3, "b": 2}) == {"b": 3, "c": 1}

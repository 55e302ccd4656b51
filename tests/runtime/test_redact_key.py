from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from deckwire.config import Settings
from deckwire.errors import UsageError
from deckwire.events.redaction import Redactor
from deckwire.limits import REDACT_KEY_FILE_BYTES
from deckwire.runtime.check import faults
from deckwire.runtime.redact_key import open_redactor


def opened(**settings: object) -> Redactor:
    redactor = open_redactor(Settings(**settings))  # type: ignore[arg-type]
    assert redactor is not None
    return redactor


def test_without_a_direction_there_is_none(tmp_path: Path) -> None:
    assert open_redactor(Settings(redact=(), state_dir=str(tmp_path))) is None
    assert not any(tmp_path.iterdir())


def test_a_key_is_made_once_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    first, second = (opened(state_dir=str(folder)) for _ in range(2))
    assert first == second
    assert first.directions == ("outbound", "lateral")
    (file,) = folder.iterdir()
    assert file.name == "redact.key"
    assert (len(file.read_bytes()), stat.S_IMODE(file.stat().st_mode)) == (32, 0o600)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert first.key == file.read_bytes()
    assert opened(state_dir=str(tmp_path / "other")).key != first.key


def test_agents_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    keys: list[bytes] = []
    barrier = threading.Barrier(2)

    def start() -> None:
        barrier.wait()
        keys.append(opened(state_dir=str(tmp_path)).key)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 2
    assert set(keys) == {(tmp_path / "redact.key").read_bytes()}
    assert len(list(tmp_path.iterdir())) == 1


def test_without_a_state_directory_it_is_of_the_process() -> None:
    assert opened(state_dir=None).key != opened(state_dir=None).key


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"k" * 40)
    found = opened(redact_key=str(file), state_dir=str(tmp_path / "state"))
    assert found.key == b"k" * 40
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("size", "why"), [(0, "shorter"), (31, "shorter"), (REDACT_KEY_FILE_BYTES + 1, "longer")]
)
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, size: int, why: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(bytes(size))
    with pytest.raises(UsageError, match=f"{file}: {why} than a key"):
        opened(redact_key=str(file))


def test_a_check_makes_no_key_and_finds_a_missing_one(tmp_path: Path) -> None:
    state = tmp_path / "state"
    file = tmp_path / "deckwire.toml"
    text = f'interface = "eth0"\ndecky = "192.0.2.7"\nstate_dir = "{state}"\n'
    file.write_text(text)
    assert [*faults(str(file))] == []
    assert not state.exists()
    file.write_text(text + 'redact_key = "gone"\nredact = ["sideways"]\n')
    (fault,) = faults(str(file))
    assert fault.endswith(
        "redact: 'sideways' is unknown; use inbound, outbound, lateral, or an empty list"
    )
    file.write_text(text + 'redact_key = "gone"\n')
    (fault,) = faults(str(file))
    assert fault == f"{tmp_path}/gone: No such file or directory"

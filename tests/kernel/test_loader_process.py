from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import deckwire
from deckwire.kernel import loader_process
from deckwire.kernel.loader_process import LoadError, start_loader
from deckwire.kernel.loading import LoadRequest, begin, finish, load
from deckwire.lab.namespaces import wait_until
from tests.kernel.conftest import PROGRAMS

SLOW = {"dataclasses", "inspect", "pathlib", "tempfile", "ipaddress"}
"""Modules of Python that take milliseconds each. No start may wait for them."""


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGS_DIRECTORY", str(tmp_path))


def test_an_unused_loader_ends_with_its_block() -> None:
    before = children(), set(os.listdir("/proc/self/fd"))
    with start_loader():
        assert children() != before[0]
    assert (children(), set(os.listdir("/proc/self/fd"))) == before


@pytest.mark.root
def test_a_crash_of_the_loader_is_reported_with_its_traceback() -> None:
    with pytest.raises(
        LoadError,
        match=r"^the loader failed: it ended without a reply \(the other side has ended\)",
    ) as caught:
        load(LoadRequest(source=PROGRAMS, jumps=(), table_sizes={"MAX_NUMBERS": "x"}))
    assert caught.value.log is not None
    assert "ValueError" in caught.value.log.read_text()


@pytest.mark.root
def test_the_loader_runs_no_start_up_code_of_other_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(3)")
    monkeypatch.syspath_prepend(str(tmp_path))
    load(LoadRequest(source=PROGRAMS, jumps=(), ring_bytes=1 << 17)).close()


@pytest.mark.root
def test_a_loader_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_process, "LOADER_SECONDS", 0.01)
    before = children()
    with pytest.raises(LoadError, match="did not answer within"):
        load(LoadRequest(source=PROGRAMS, jumps=()))
    assert children() == before


@pytest.mark.root
def test_the_loader_ignores_signals_meant_for_the_agent() -> None:
    """From its first moment on, and it still replies."""
    request = LoadRequest(source=PROGRAMS, jumps=(), ring_bytes=1 << 17)
    with start_loader(compiles=True) as loader:
        (pid,) = children()
        hit(pid)
        begin(loader, request)
        hit(pid)
        finish(loader, request).close()


def hit(pid: str) -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        os.kill(int(pid), number)


def test_starting_a_loader_leaves_the_signal_mask_of_the_caller() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with start_loader():
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_loader_that_will_compile_loads_the_compiler_before_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It surely will if no object was kept."""
    shutil.copytree(
        Path(deckwire.__file__).parent,
        tmp_path / "deckwire",
        ignore=shutil.ignore_patterns("objects"),
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with start_loader(compiles=True):
        (loader,) = children()
        maps = Path("/proc", loader, "maps")
        wait_until(lambda: "libbcc.so" in maps.read_text(), "the loader has bcc")


def test_the_loader_imports_nothing_slow_but_the_compiler() -> None:
    script = "import sys, deckwire.loader.service; print(*sys.modules)"
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-c", script],
        env=os.environ | {"PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    assert not SLOW & set(done.stdout.split())


@pytest.mark.root
def test_a_request_that_is_too_long_is_one_line() -> None:
    names = tuple(f"eth{number}" for number in range(10_000))
    with pytest.raises(LoadError, match=r"^the request is too long: .*; name fewer interfaces$"):
        load(LoadRequest(interfaces=names, source=PROGRAMS, jumps=()))


def children() -> list[str]:
    return (Path("/proc/thread-self") / "children").read_text().split()

"""Signals while the agent starts have the same effect as later, at every stage."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from deckwire.lab import Lab
from deckwire.lab.namespaces import PATIENCE_SECONDS, wait_until
from deckwire.lab.network import PARENT
from tests.support.hooks import HAS_TCX, filters, tcx
from tests.support.watching import PROGRAM, with_request

pytestmark = pytest.mark.root

NOTHING: dict[str, list[int]] = {"ingress": [], "egress": []}
LATER = "later0"


@contextmanager
def blocked(number: signal.Signals) -> Iterator[None]:
    """Start processes with the signal blocked, as the systemd unit does with ``env``."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Starting:
    """`deckwire run` from its first moment on, in a separate process group."""

    def __init__(
        self, lab: Lab, folder: Path, *options: str, program: tuple[str, ...] = PROGRAM
    ) -> None:
        self.lab = lab
        self.messages = folder / "stderr"
        argv = [*program, "run", "--netns", lab.host.netns, *options]
        with blocked(signal.SIGHUP), self.messages.open("wb") as stderr:
            self.process: subprocess.Popen[bytes] = lab.popen(
                None,
                [*argv, "--deckies", str(lab.deckies_file())],
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        self.met: set[int] = set()
        """Its child processes seen so far."""

    def messages_text(self) -> str:
        return self.messages.read_text()

    def children(self) -> set[int]:
        pid = self.process.pid
        with suppress(FileNotFoundError):
            self.met |= set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
        return self.met

    def handles(self) -> bool:
        """Whether it has set its signal handlers."""
        _, _, rest = Path(f"/proc/{self.process.pid}/status").read_text().partition("SigCgt:\t")
        return bool(rest) and bool(int(rest.split()[0], 16) >> (signal.SIGTERM - 1) & 1)

    def compiles(self) -> bool:
        """Whether its loader has loaded the compiler."""
        for pid in self.children():
            with suppress(FileNotFoundError, ProcessLookupError):
                if "libbcc.so" in Path(f"/proc/{pid}/maps").read_text():
                    return True
        return False

    def attached(self) -> bool:
        shown = filters(self.lab).values()
        return tcx(self.lab.host) != NOTHING or any("deckwire" in text for text in shown)

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the whole group with the loader, as ^C and `systemctl kill` do."""
        self.children()
        os.killpg(self.process.pid, number)

    def assert_clean_end(self) -> None:
        assert self.process.wait(PATIENCE_SECONDS) == 0, self.messages_text()
        assert not [
            line for line in self.messages_text().splitlines() if not line.startswith("deckwire: ")
        ]
        assert not self.attached()
        wait_until(
            lambda: not [pid for pid in self.met if Path(f"/proc/{pid}").exists()],
            "its loader is gone",
        )


COMPILED = {"table_sizes": {"MAX_HALF_OPEN": 4_096}}
"""A LoadRequest for which no object was compiled before."""

STAGES: dict[str, Callable[[Starting], object]] = {
    "handlers": Starting.handles,
    "loader": Starting.children,
    "compiler": Starting.compiles,
    "attached": Starting.attached,
}


def test_sighup_during_the_start_is_a_reload_after_it(lab: Lab, tmp_path: Path) -> None:
    agent = Starting(lab, tmp_path, "-i", PARENT)

    def ready() -> bool:
        agent.signal_group(signal.SIGHUP)
        return "ready" in agent.messages_text() or agent.process.poll() is not None

    wait_until(ready, "it is ready")
    assert agent.process.poll() is None, agent.messages_text()
    wait_until(lambda: "deckies read again" in agent.messages_text(), "it has reloaded")
    assert len(agent.met) == 1
    agent.signal_group(signal.SIGTERM)
    agent.assert_clean_end()


def test_one_sighup_after_the_handlers_are_set_is_enough(lab: Lab, tmp_path: Path) -> None:
    agent = Starting(lab, tmp_path, "-i", PARENT)
    wait_until(agent.handles, "the handlers are set")
    agent.signal_group(signal.SIGHUP)
    wait_until(lambda: "deckies read again" in agent.messages_text(), "it has reloaded")
    assert agent.messages_text().index("ready") < agent.messages_text().index("deckies read again")
    agent.signal_group(signal.SIGTERM)
    agent.assert_clean_end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize("stage", STAGES)
def test_a_signal_to_end_leaves_nothing_at_each_stage(
    lab: Lab, tmp_path: Path, stage: str, number: signal.Signals
) -> None:
    program = with_request(COMPILED) if stage == "compiler" else PROGRAM
    agent = Starting(lab, tmp_path, "-i", PARENT, program=program)
    wait_until(lambda: STAGES[stage](agent), stage)
    agent.signal_group(number)
    agent.assert_clean_end()


@pytest.mark.parametrize("stage", ["compiler", "attached"])
def test_filters_are_removed_after_a_signal(lab: Lab, tmp_path: Path, stage: str) -> None:
    """Filters outlive the loader, so a signal must not end it while it attaches."""
    request = {"attach": "clsact", **(COMPILED if stage == "compiler" else {})}
    agent = Starting(lab, tmp_path, "-i", PARENT, program=with_request(request))
    wait_until(lambda: STAGES[stage](agent), stage)
    agent.signal_group(signal.SIGTERM)
    agent.signal_group(signal.SIGHUP)
    agent.assert_clean_end()


def test_signals_work_while_the_agent_waits_for_an_interface(lab: Lab, tmp_path: Path) -> None:
    agent = Starting(lab, tmp_path, "-i", LATER, "--wait-interface")
    wait_until(lambda: f"waiting: no interface {LATER}" in agent.messages_text(), "it waits")
    agent.signal_group(signal.SIGHUP)
    wait_until(lambda: "deckies read again" in agent.messages_text(), "it has reloaded")
    assert "ready" not in agent.messages_text()
    agent.signal_group(signal.SIGINT)
    agent.assert_clean_end()


@pytest.mark.skipif(not HAS_TCX, reason="this kernel has no TCX")
def test_the_agent_ends_although_its_loader_hangs(lab: Lab, tmp_path: Path) -> None:
    *python, code, request = with_request(COMPILED)
    patience = "from deckwire.kernel import signals; signals.ENDING_SECONDS = 0.5\n"
    agent = Starting(lab, tmp_path, "-i", PARENT, program=(*python, patience + code, request))
    wait_until(agent.compiles, "the loader has the compiler")
    (loader,) = agent.children()
    os.kill(loader, signal.SIGSTOP)
    agent.signal_group(signal.SIGTERM)
    agent.assert_clean_end()

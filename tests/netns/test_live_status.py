"""The state of a live agent, as `deckwire status`, systemd and Prometheus see it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess
from deckwire.lab.namespaces import wait_until
from deckwire.lab.network import PARENT
from tests.runtime.test_metrics import PROMTOOL, metrics
from tests.support.side_veth import SIDE, add_side_veth

pytestmark = pytest.mark.root


def shown(folder: Path) -> tuple[int, dict[str, object]]:
    """Exit status of `deckwire status --json`, and what it printed."""
    argv = [sys.executable, "-P", "-m", "deckwire", "status", "--json", "--runtime-dir", folder]
    done = subprocess.run(argv, capture_output=True, check=False)
    return done.returncode, json.loads(done.stdout or "{}")


def test_status_follows_a_missing_interface(lab: Lab, tmp_path: Path) -> None:
    prom = tmp_path / "deckwire.prom"
    options = ["-i", SIDE, "--wait-interface", "--runtime-dir", tmp_path, "--metrics", prom]
    agent = AgentProcess(lab, PARENT, options)
    wait_until(lambda: shown(tmp_path)[1], "the agent wrote its status")
    code, status = shown(tmp_path)
    assert (code, status["problems"], status["deckies"]) == (1, [f"{SIDE} is missing"], 6)
    assert status["pid"] == agent.process.pid
    add_side_veth(lab, lab.deckies[0])
    wait_until(lambda: shown(tmp_path)[0] == 0, "the interface is there")
    found = metrics(prom.read_bytes())
    assert found["deckwire_deckies"] == "6"
    assert found["deckwire_problems"] == "0"
    if PROMTOOL is not None:
        argv = [PROMTOOL, "check", "metrics"]
        checked = subprocess.run(argv, input=prom.read_bytes(), capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, b"")
    agent.stop()
    assert shown(tmp_path)[0] == 1
    assert not (tmp_path / "status.json").exists()
    assert not prom.exists()


def test_systemd_hears_of_each_state(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")

        def hears(word: str, times: int = 1) -> bool:
            try:
                while True:
                    heard.extend(manager.recv(65_536).decode().split("\n"))
            except BlockingIOError:
                return heard.count(word) >= times

        agent = AgentProcess(lab)
        wait_until(lambda: hears("READY=1"), "it is ready")
        wait_until(lambda: hears("WATCHDOG=1", 3), "it feeds the watchdog")
        agent.process.send_signal(signal.SIGHUP)
        wait_until(lambda: hears("RELOADING=1"), "it reloads")
        wait_until(lambda: hears("READY=1", 2), "the reload is done")
        agent.stop()
        wait_until(lambda: hears("STOPPING=1"), "it stops")
    (sentence, *_) = [line for line in heard if line.startswith("STATUS=")]
    assert sentence.startswith("STATUS=watching 6 deckies on ")

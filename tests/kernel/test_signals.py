"""Requests by signals. Handlers belong to the process, so each test starts its own process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deckwire.lab.namespaces import PATIENCE_SECONDS

PRELUDE = """
import os, signal, sys
from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.kernel import signals
def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)
"""
BLOCK = "signal.pthread_sigmask(signal.SIG_BLOCK, signals.ALL)\n"
HEAVY = {"click", "tomllib", "socket", "subprocess", "threading", "ctypes", "deckwire.cli"}


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", PRELUDE + script],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def passes(script: str) -> None:
    done = run(script)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_request_to_stop_is_remembered(number: str) -> None:
    passes(
        "requests = signals.arm()\n"
        "assert not requests.stopping\n"
        f"send(signal.{number})\n"
        "assert requests.stopping and not requests.reloading\n"
        "assert signals.arm() is requests\n"
    )


def test_a_request_to_reload_is_remembered() -> None:
    passes(
        "requests = signals.arm()\n"
        "send(signal.SIGHUP, signal.SIGHUP)\n"
        "assert requests.reloading and not requests.stopping\n"
    )


def test_signals_blocked_by_the_parent_process_are_not_lost() -> None:
    passes(
        BLOCK + "send(signal.SIGHUP, signal.SIGTERM)\n"
        "requests = signals.arm()\n"
        "assert requests.reloading and requests.stopping\n"
        "assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(signals.ALL)\n"
    )


def test_waiting_ends_when_the_descriptor_is_readable() -> None:
    """Also when the process is to stop, and when other signals come."""
    passes(
        "requests = signals.arm()\n"
        "ours, theirs = os.pipe()\n"
        "assert requests.wait(ours, 0.01)\n"
        "signal.signal(signal.SIGALRM, lambda *_: os.write(theirs, b'x'))\n"
        "send(signal.SIGHUP)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05)\n"
        "assert requests.wait(ours, 60)\n"
        "assert os.read(ours, 1) == b'x'\n"
        "send(signal.SIGTERM)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05)\n"
        "assert requests.wait(ours, 60)\n"
    )


def test_waiting_in_vain_ends_soon_when_the_process_is_to_stop() -> None:
    passes(
        "requests = signals.arm()\n"
        "signals.ENDING_SECONDS = 0.01\n"
        "ours, theirs = os.pipe()\n"
        "handler = signal.signal(signal.SIGALRM, lambda *_: send(signal.SIGTERM))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05)\n"
        "assert not requests.wait(ours, 3_600)\n"
        "assert not requests.wait(ours, 3_600)\n"
    )


def test_disarmed_signals_do_not_change_the_exit_status() -> None:
    done = run("signals.arm(); signals.disarm(); send(*signals.ALL); sys.exit(7)")
    assert (done.returncode, done.stderr) == (7, "")


def test_the_handlers_are_set_before_heavy_imports() -> None:
    script = (
        "import sys; before = set(sys.modules)\n"
        "import deckwire.entry; from deckwire.kernel import signals\n"
        "print(*set(sys.modules) - before)\n"
    )
    argv = [sys.executable, "-P", "-c", script]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    assert "deckwire.kernel.signals" in done.stdout.split()
    assert not HEAVY & set(done.stdout.split())


def test_the_handlers_are_set_before_the_command_line_is_imported() -> None:
    done = run(
        "sys.argv = ['deckwire', 'run', '--help']\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'deckwire.cli':\n"
        "            print(*(callable(signal.getsignal(number)) for number in signals.ALL))\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import deckwire.entry\n"
        "deckwire.entry.main()\n"
    )
    # For SIGINT Python itself sets a handler.
    assert done.stdout.splitlines()[0] == "True True True"


@pytest.mark.parametrize(("command", "armed"), [("run", True), ("replay", False)])
def test_only_run_takes_signals_as_requests(command: str, armed: bool) -> None:
    done = run(
        f"sys.argv = ['deckwire', {command!r}, '--help']\n"
        "import atexit, deckwire.entry\n"
        "atexit.register(lambda: print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN))\n"
        "deckwire.entry.main()\n"
    )
    assert done.stdout.splitlines()[-1] == str(armed)

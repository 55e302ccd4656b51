from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
import ctypes, json, os, socket, struct, sys, threading
from deckwire.kernel import syscall_filter, syscalls
if "missing" in sys.argv:
    sys.modules["seccomp"] = None
held, results = threading.Event(), []

def refused(function):
    try:
        function()
    except PermissionError:
        return True
    except OSError:
        pass
    return False

def bpf(command):
    # The kernel refuses an empty request with another error.
    result = syscalls.call_bpf(command, ctypes.create_string_buffer(8))
    if result < 0:
        raise OSError(-result, "bpf")

def attempts():
    return [
        refused(lambda: os.execv("/bin/false-is-not-run", ["x"])),
        refused(lambda: os.posix_spawn("/bin/true", ["true"], {})),
        refused(lambda: bpf(syscalls.Command.PROG_LOAD)),
        refused(lambda: bpf(syscalls.Command.MAP_CREATE)),
        refused(lambda: syscalls.perf_event_open(ctypes.create_string_buffer(112), -1, 0)),
        refused(lambda: bpf(syscalls.Command.MAP_LOOKUP)),
        refused(lambda: bpf(syscalls.Command.LINK_CREATE)),
        refused(lambda: open("/dev/null").close()),
    ]

def other():
    held.wait()
    results.append(attempts())

thread = threading.Thread(target=other)
thread.start()
denied = syscall_filter.deny()
held.set()
thread.join()
# Threads can still be made, and connections.
threading.Thread(target=lambda: results.append(attempts())).start()
[one.join() for one in threading.enumerate() if one is not threading.current_thread()]
socket.socket().close()
modes = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("Seccomp:")]
print(json.dumps([denied, modes, attempts(), *results]))
"""
REFUSED = [True] * 5 + [False] * 3


def run(*words: str) -> Any:
    argv = [sys.executable, "-c", SCRIPT, *words]
    return json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others may not call bpf(2) anyway")
def test_only_what_an_intruder_needs_is_refused_to_all_threads() -> None:
    pytest.importorskip("seccomp", reason="needs python3-seccomp")
    assert run() == [True, [2], REFUSED, REFUSED, REFUSED]


def test_without_the_bindings_nothing_is_filtered() -> None:
    denied, modes, *_ = run("missing")
    assert (denied, modes) == (False, [0])

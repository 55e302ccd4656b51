"""The loader as the agent sees it: a process that is started, asked once, and ends.

The loader (deckwire/loader) is a process of its own because compiling with BCC takes 130 MB that
the agent would never give back. Each start of the agent waits for it, so this module imports
little.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deckwire.kernel import handover, loader_log, signals

LOADER_SECONDS = 300.0
"""Longest that a loader may take, on a slow machine under load."""

_PROGRAM = "from deckwire.loader.service import serve; serve()"
"""Not ``-m``, which takes 8 ms more."""


class LoadError(Exception):
    """The programs could not be loaded or attached: one line, ``what: why; what to do``."""

    def __init__(self, line: str, log: Path | None = None, *, passing: bool = False) -> None:
        super().__init__(f"{line}; the whole log is in {log}" if log else line)
        self.passing = passing
        """The next attempt may succeed although nobody changes anything."""
        self.log = log
        """File with the output of compiler, verifier and loader, if there is one."""


@contextmanager
def start_loader(seconds: float | None = None, *, compiles: bool = False) -> Iterator[Loader]:
    """Starts a loader, and ends it with the block. It starts up while the caller goes on.

    Args:
        seconds: longest time until its reply; LOADER_SECONDS if None.
        compiles: it will be asked to compile, so it loads the compiler at once.

    Raises:
        OSError: it could not be started.
    """
    _raise_open_files()
    ours, theirs = handover.pair()
    seconds = LOADER_SECONDS if seconds is None else seconds
    # For the output of bcc, clang and the kernel. The loader reads it from its standard error.
    messages = os.memfd_create("deckwire-loader")
    started = time.monotonic_ns()
    try:
        with ours:
            with theirs:
                words = ["compile"] if compiles else []
                process = spawn(_PROGRAM, theirs, messages, *words)
            try:
                yield Loader(process, ours, messages, started, seconds)
            finally:
                process.kill()
                process.wait()
    finally:
        os.close(messages)


def spawn(
    program: str, channel: socket.socket, printed: int, *words: str
) -> subprocess.Popen[bytes]:
    """Starts a process of Deckwire's own that serves requests.

    Args:
        program: its Python program. Its first argument is the channel's descriptor.
        printed: the file for what it prints, or subprocess.DEVNULL.
        words: its further arguments.

    Raises:
        OSError: it could not be started.
    """
    with _blocked_signals():
        return subprocess.Popen(
            # -P: import nothing from the working directory. -S: the path is known, and the
            # start-up code of other packages takes time.
            [sys.executable, "-P", "-S", "-c", program, str(channel.fileno()), *words],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            pass_fds=[channel.fileno()],
        )


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Blocks the signals that are requests to the agent, also in a process started meanwhile.

    A signal to the whole service or terminal is meant for the agent. The agent then ends the loader
    or waits for it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals.ALL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Loader:
    """The agent's end of one loader process, which serves one request."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        channel: socket.socket,
        messages: int,
        started: int,
        seconds: float,
    ) -> None:
        self._process = process
        self._channel = channel
        self._messages = messages
        self._seconds = seconds
        self.started_ns = started
        """Nanoseconds by CLOCK_MONOTONIC."""

    def fileno(self) -> int:
        """For poll: readable when receive() need not wait."""
        return self._channel.fileno()

    def seconds_left(self) -> float:
        """How long its reply may still take."""
        return max(0.0, self._seconds - (time.monotonic_ns() - self.started_ns) / 1e9)

    def ask(self, body: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
        """Sends the request and waits for the reply. Raises what send() and receive() raise."""
        self.send(body, fds)
        return self.receive()

    def send(self, body: dict[str, Any], fds: list[int]) -> None:
        """Sends the request, and returns at once.

        Raises:
            LoadError: the loader has ended, or the request is too long.
        """
        try:
            handover.send(self._channel, body, fds)
        except handover.HandoverError as error:
            raise LoadError(f"the request is too long: {error}; name fewer interfaces") from error
        except OSError as error:
            raise self._ended(error) from error

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """Waits for the reply and its descriptors, which the caller owns.

        Raises:
            LoadError: the loader replied with an error, crashed, or took too long.
        """
        # A timeout of zero would mean not to wait at all, which fails with another error.
        self._channel.settimeout(max(self.seconds_left(), 0.001))
        try:
            reply, fds = handover.receive(self._channel)
        except (handover.HandoverError, OSError) as error:
            raise self._ended(error) from error
        # By itself it would end later, because it would free all that clang allocated.
        self._process.kill()
        if "error" in reply:
            log = loader_log.keep(self._messages)
            raise LoadError(reply["error"], log, passing=reply["passing"])
        return reply, fds

    def _ended(self, error: Exception) -> LoadError:
        self._process.kill()
        line = _ending(self._process.wait(), error, self._seconds)
        # It ran out of time or memory, or was killed.
        return LoadError(line, loader_log.keep(self._messages), passing=True)


def _raise_open_files() -> None:
    """Each CPU's ring and each map need a descriptor, more than the soft limit of 1,024 allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _ending(status: int, error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return (
            f"the loader failed: it did not answer within {seconds:.0f} s; "
            "try again when the machine is less busy"
        )
    if status < 0 and status != -signal.SIGKILL:
        return f"the loader failed: {signal.Signals(-status).name} ended it; try again"
    return f"the loader failed: it ended without a reply ({error}); try again"

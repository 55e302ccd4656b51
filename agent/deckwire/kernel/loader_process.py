"""The process that compiles and loads: starting it, asking it, and what became of it.

The loader (deckwire/loader) is a process of its own because compiling with BCC takes 130 MB that
the agent would never give back. A start waits for it, so this module imports little.
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

from deckwire.kernel import handover, loader_log
from deckwire.runtime import signals

LOADER_SECONDS = 120.0
"""Longest that a loader may take, on a machine under load."""

_PROGRAM = "from deckwire.loader.service import serve; serve()"
"""No module for -m, which takes 8 ms of its own."""


class LoadError(Exception):
    """The program could not be loaded or attached: one line of what, where and what to do."""

    def __init__(self, line: str, log: Path | None = None, *, passing: bool = False) -> None:
        super().__init__(f"{line}; the whole log is in {log}" if log else line)
        self.passing = passing
        """The next attempt may succeed although nobody changes anything."""
        self.log = log
        """File of all that compiler, verifier and loader printed, if there is one."""


@contextmanager
def start_loader(seconds: float | None = None, *, compiles: bool = False) -> Iterator[Loader]:
    """A loader that comes up while the caller still makes up its mind; gone when the block ends.

    Args:
        seconds: longest that it may take for an answer; LOADER_SECONDS if None.
        compiles: it will be asked for that, so it gets the compiler ready at once.

    Raises:
        OSError: it could not be started.
    """
    _raise_open_files()
    ours, theirs = handover.pair()
    seconds = LOADER_SECONDS if seconds is None else seconds
    # What bcc, clang and the kernel print: the loader reads it back from its standard error.
    messages = os.memfd_create("deckwire-loader")
    started = time.monotonic_ns()
    try:
        with ours:
            with theirs, _blocked_signals():
                process = subprocess.Popen(
                    # -P: never from the directory that the agent happens to be started in. -S:
                    # the path is known, and what else packages do at every start takes time.
                    [
                        *(sys.executable, "-P", "-S", "-c", _PROGRAM, str(theirs.fileno())),
                        *(["compile"] if compiles else []),
                    ],
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    stdin=subprocess.DEVNULL,
                    stdout=messages,
                    stderr=messages,
                    pass_fds=[theirs.fileno()],
                )
            try:
                yield Loader(process, ours, messages, started, seconds)
            finally:
                process.kill()
                process.wait()
    finally:
        os.close(messages)


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """The signals that ask something of the agent are blocked, and so in a process started now.

    Whoever sends one to the whole service or terminal means the agent, which ends the loader or
    waits for it.
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
        """By the monotonic clock."""

    def fileno(self) -> int:
        """For poll: readable when hear() need not wait."""
        return self._channel.fileno()

    def seconds_left(self) -> float:
        """How long it may still take for its answer."""
        return max(0.0, self._seconds - (time.monotonic_ns() - self.started_ns) / 1e9)

    def ask(self, body: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
        """Its answer to a request; raises as tell() and hear()."""
        self.emit(body, fds)
        return self.hear()

    def emit(self, body: dict[str, Any], fds: list[int]) -> None:
        """Sends it the request, and returns at once.

        Raises:
            LoadError: the loader is gone.
        """
        try:
            handover.send(self._channel, body, fds)
        except OSError as error:
            raise self._ended(error) from error

    def hear(self) -> tuple[dict[str, Any], list[int]]:
        """Waits for its answer, and the descriptors with it.

        Raises:
            LoadError: the loader told an error, crashed, or took too long.
        """
        # Zero would mean not to wait at all, which fails with another error.
        self._channel.settimeout(max(self.seconds_left(), 0.001))
        try:
            answer, fds = handover.receive(self._channel)
        except (handover.HandoverError, OSError) as error:
            raise self._ended(error) from error
        # Its own way out, freeing all that clang made, would take longer.
        self._process.kill()
        if "error" in answer:
            log = loader_log.keep(self._messages)
            raise LoadError(answer["error"], log, passing=answer["passing"])
        return answer, fds

    def _ended(self, error: Exception) -> LoadError:
        self._process.kill()
        line = _ending(self._process.wait(), error, self._seconds)
        # It ran out of time or memory, or was killed.
        return LoadError(line, loader_log.keep(self._messages), passing=True)


def _raise_open_files() -> None:
    """A ring for each CPU, a descriptor for each map: the soft limit of 1,024 is soon met."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _ending(status: int, error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"the loader did not answer within {seconds:.0f} s"
    if status < 0 and status != -signal.SIGKILL:
        return f"the loader was ended by {signal.Signals(-status).name}"
    return f"the loader ended without an answer ({error})"

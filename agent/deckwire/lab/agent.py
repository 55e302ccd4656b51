"""The agent on a lab as users run it: ``deckwire run`` in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

from deckwire.lab.namespaces import PATIENCE_SECONDS, LabError
from deckwire.lab.network import PARENT, Lab

_READY = "ready"
_LAST_LINES = 5

JsonEvent = dict[str, Any]
"""One event as `--format json` writes it: ts, host, event, severity, fields."""


class AgentProcess:
    """A running agent. It is ready when this is made, and ends with the lab if not before.

    Args:
        interface: one of the lab's host.
        options: more options of `deckwire run`; the agent knows the lab without them.
        program: the command that stands for `deckwire`.
        ready: the agent is ready when it writes a line with this to standard error.
        seconds: longest wait for that; None: until it is ready or has ended.

    Raises:
        LabError: it did not become ready. The message has its last lines.
    """

    def __init__(
        self,
        lab: Lab,
        interface: str = PARENT,
        options: Sequence[str | os.PathLike[str]] = (),
        *,
        program: Sequence[str] = (sys.executable, "-P", "-m", "deckwire"),
        ready: str = _READY,
        seconds: float | None = PATIENCE_SECONDS,
    ) -> None:
        self.events: list[JsonEvent] = []
        self.messages: list[str] = []
        """The lines that it wrote to standard error."""
        self._changed = threading.Condition()
        self._reading = 2
        self.process: subprocess.Popen[str] = lab.popen(
            None,
            [
                *(*program, "run"),
                *("-i", interface, "--netns", lab.host.netns, "--deckies", lab.deckies_file()),
                *("--format", "json", *options),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for pipe, take in (
            (self.process.stdout, lambda line: self.events.append(json.loads(line))),
            (self.process.stderr, self.messages.append),
        ):
            threading.Thread(target=self._read, args=(pipe, take), daemon=True).start()
        self.wait(
            lambda: any(ready in line for line in self.messages), "the agent is ready", seconds
        )

    def wait(
        self,
        condition: Callable[[], object],
        what: str,
        seconds: float | None = PATIENCE_SECONDS,
    ) -> None:
        """Returns as soon as `condition`, about events and messages, holds.

        Raises:
            LabError: it did not within `seconds` (None: without a limit), or the agent ended.
                `what` names the condition.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            while not condition():
                if not self._reading:
                    raise LabError(f"{what}: the agent ended: {self.last_words()}")
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise LabError(f"{what}: not within {seconds:.0f} s: {self.last_words()}")
                self._changed.wait(left)

    def find(self, event: str, **fields: object) -> list[JsonEvent]:
        """The events of this name so far whose fields have these values."""
        return [
            found
            for found in list(self.events)
            if found["event"] == event
            and all(found["fields"].get(name) == value for name, value in fields.items())
        ]

    def expect(
        self, event: str, *, seconds: float = PATIENCE_SECONDS, **fields: object
    ) -> JsonEvent:
        """Waits for an event of this name whose fields have these values: the first one.

        Raises:
            LabError: it did not come within `seconds`.
        """
        shown = ", ".join(f"{name}={value}" for name, value in fields.items())
        self.wait(lambda: self.find(event, **fields), f"event {event} ({shown})", seconds)
        return self.find(event, **fields)[0]

    def stop(
        self, number: signal.Signals = signal.SIGTERM, seconds: float = PATIENCE_SECONDS
    ) -> int:
        """Ends it by a signal: its exit status. `events` is complete when this returns."""
        self.process.send_signal(number)
        with self._changed:
            if not self._changed.wait_for(lambda: not self._reading, seconds):
                raise LabError(f"the agent ends: not within {seconds:.0f} s: {self.last_words()}")
        return self.process.wait()

    def last_words(self) -> str:
        """The end of what it wrote to standard error, on one line."""
        return " | ".join(self.messages[-_LAST_LINES:]) or "it wrote nothing"

    def _read(self, pipe: IO[str], take: Callable[[str], None]) -> None:
        try:
            with pipe:
                for line in pipe:
                    # An agent that is killed may write a part of its last line.
                    if line.endswith("\n"):
                        take(line[:-1])
                    with self._changed:
                        self._changed.notify_all()
        finally:
            with self._changed:
                self._reading -= 1
                self._changed.notify_all()

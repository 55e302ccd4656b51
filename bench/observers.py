"""Observers of a measurement: none, a no-op program, Deckwire, other sniffers."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench import noop
from bench.cpu import process_seconds
from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess
from deckwire.lab.namespaces import LabError, wait_until
from deckwire.lab.network import PARENT

NONE, NOOP, DECKWIRE = "no agent", "no-op TCX", "deckwire"
TCPDUMP_128, TCPDUMP, P0F = "tcpdump -s128", "tcpdump", "p0f"

_SNIFFERS = {
    TCPDUMP_128: ("tcpdump", "-s", "128", "-w", "/dev/null", "-n", "-Z", "root", "-i", PARENT),
    TCPDUMP: ("tcpdump", "-w", "/dev/null", "-n", "-Z", "root", "-i", PARENT),
    # p0f refuses to write to anything but a regular file.
    P0F: ("p0f", "-o", "p0f.log", "-i", PARENT),
}

_EVENT = re.compile(r"^<\d+>1 (\S+) \S+ \S+ - (\S+) \[")
_NAME = re.compile(rb"^<\d+>1 \S+ \S+ \S+ - (\S+) \[", re.MULTILINE)
_FIELD = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Event = tuple[str, dict[str, str]]
"""The name of an event and its fields, its time among them as ``timestamp``."""


class Agent:
    """`deckwire run` as users run it. It writes syslog lines to a file.

    The file is read after the measurement. Reading it earlier would cost CPU time that is not the
    agent's.
    """

    def __init__(
        self, lab: Lab, options: Sequence[str] = (), environment: Sequence[str] = ()
    ) -> None:
        """`environment`: more variables for it, each as ``NAME=value``."""
        self._path = lab.directory / f"events-{time.monotonic_ns()}"
        prefix = ["/usr/bin/env", *environment] if environment else []
        started = time.monotonic()
        self._agent = AgentProcess(
            lab,
            options=["--format", "syslog", "--output", f"file:{self._path}", *options],
            program=(*prefix, sys.executable, "-P", "-m", "deckwire"),
        )
        self.ready_seconds = time.monotonic() - started
        """Seconds from the start of the process to its message that it is ready."""
        self.pid = self._agent.process.pid
        self._sums: dict[str, int] | None = None
        self._counted: Counter[str] = Counter()
        self._counted_to = 0

    def seconds(self) -> float:
        """CPU time used so far."""
        return process_seconds(self.pid)

    def resident_bytes(self) -> int:
        """Resident memory of the agent."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        return int(found[1]) * 1024 if found else 0

    def map_bytes(self) -> int:
        """Kernel memory of all its maps, as the kernel accounts it."""
        maps: dict[str, int] = {}
        for entry in Path(f"/proc/{self.pid}/fdinfo").iterdir():
            with contextlib.suppress(FileNotFoundError):
                text = entry.read_text()
                number = re.search(r"^map_id:\s+(\d+)", text, re.MULTILINE)
                memory = re.search(r"^memlock:\s+(\d+)", text, re.MULTILINE)
                if number and memory:
                    maps[number[1]] = int(memory[1])
        return sum(maps.values())

    def events(self) -> Iterator[Event]:
        """The events in the file so far."""
        with self._path.open(errors="replace") as lines:
            for line in lines:
                name = _EVENT.match(line)
                if name and line.endswith("\n"):
                    yield name[2], dict(_FIELD.findall(line)) | {"timestamp": name[1]}

    def counted(self) -> Counter[str]:
        """The number of each event in the file so far."""
        with self._path.open("rb") as lines:
            lines.seek(self._counted_to)
            new = lines.read()
        new = new[: new.rfind(b"\n") + 1]
        self._counted_to += len(new)
        self._counted.update(name.decode() for name in _NAME.findall(new))
        return self._counted

    def wait_for(self, condition: Callable[[Counter[str]], bool], seconds: float = 10.0) -> bool:
        """Wait until `condition` holds for counted(). False if it does not within `seconds`."""
        with contextlib.suppress(LabError):
            wait_until(lambda: condition(self.counted()), "events", seconds)
            return True
        return False

    def status(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._agent.process.poll()

    def end(self, seconds: float = 20.0) -> int:
        """Send SIGTERM if it still runs, and return the exit status."""
        return self._agent.stop(seconds=seconds)

    def last_words(self) -> str:
        """The last lines of its standard error."""
        return self._agent.last_words()

    def last_sums(self) -> dict[str, int]:
        """The sums of its last capture_stats; empty if it emitted none.

        They are in several events if one line has no room for all.
        """
        sums: dict[str, int] = {}
        for name, fields in self.events():
            if name == "capture_stats":
                if fields.get("part", "1") == "1":
                    sums = {}
                sums |= {name: int(text) for name, text in fields.items() if text.isdigit()}
        return sums

    def stop(self) -> dict[str, int]:
        """End it if it still runs, and return the sums of its last capture_stats event."""
        if self._sums is None:
            status = self.end()
            if status:
                raise LabError(f"the agent ended with {status}: {self.last_words()}")
            self._sums = self.last_sums()
        return self._sums


def missing() -> list[str]:
    """The sniffers that are not installed."""
    return sorted({argv[0] for argv in _SNIFFERS.values() if shutil.which(argv[0]) is None})


def installed() -> list[str]:
    """The sniffers that are installed."""
    return [name for name, argv in _SNIFFERS.items() if shutil.which(argv[0])]


@contextlib.contextmanager
def watching(
    lab: Lab, name: str, options: Sequence[str] = (), environment: Sequence[str] = ()
) -> Iterator[Agent | None]:
    """Run an observer; it is ready on entry. `options` and `environment` are for the agent."""
    if name == NONE:
        yield None
    elif name == NOOP:
        with noop.attached(lab):
            yield None
    elif name in _SNIFFERS:
        process = sniffer(lab, name)
        try:
            yield None
            if process.poll() is not None:
                raise LabError(f"{name} ended with {process.returncode} while it was measured")
        finally:
            process.terminate()
            process.wait()
    else:
        agent = Agent(lab, options, environment)
        try:
            yield agent
        finally:
            agent.stop()


def sniffer(lab: Lab, name: str) -> subprocess.Popen[bytes]:
    """Start a sniffer and wait until its packet socket is open."""
    process = lab.popen(
        lab.host,
        _SNIFFERS[name],
        cwd=lab.directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    sockets = Path(f"/proc/{process.pid}/net/packet")
    wait_until(lambda: len(sockets.read_text().splitlines()) > 1, f"{name} captures")
    return process

"""The state of a running agent, as a file that `deckwire status` and others read."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta

from deckwire.errors import UsageError, plain
from deckwire.limits import STATUS_BYTES

STATUS_NAME = "status.json"
"""The file's name in the runtime directory."""
INTERVAL_S = 10.0
"""Seconds between two writings."""
STALE_S = 30.0
"""Seconds after which a file says nothing about now."""
_MODE = 0o644


@dataclass(frozen=True, slots=True)
class Status:
    """One look at the agent."""

    version: str
    pid: int
    time: float
    """Seconds since the epoch when it was written."""
    since: float
    """Seconds since the epoch when the agent was ready."""
    deckies: int
    interfaces: dict[str, str]
    """How each one is attached, or why it is not."""
    outputs: dict[str, str]
    """The last failure of each one, or "" if it works."""
    problems: list[str] = field(default_factory=list)
    """What is wrong now, one sentence each; empty if all is well."""
    counters: dict[str, int] = field(default_factory=dict)
    """Those of capture_stats."""

    def sentence(self) -> str:
        """The state in one line."""
        if self.problems:
            return "degraded: " + "; ".join(self.problems)
        emitted = self.counters.get("events_emitted", 0)
        return f"watching {self.deckies} deckies on {', '.join(self.interfaces)}: {emitted} events"


def write_atomically(path: str, content: bytes) -> None:
    """Replace a file as a whole, so that no reader sees a part. Raises OSError."""
    new = f"{path}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
    try:
        # A full disk may take a part of it: then nothing is replaced.
        with open(fd, "wb") as file:
            file.write(content)
        os.replace(new, path)
    except OSError:
        with suppress(OSError):
            os.unlink(new)
        raise


def write_status(folder: str, status: Status) -> None:
    """Write the status into the runtime directory. Raises OSError."""
    text = json.dumps(asdict(status), indent=1) + "\n"
    write_atomically(os.path.join(folder, STATUS_NAME), text.encode())


def remove_status(folder: str) -> None:
    """The agent ends: no status is better than an old one."""
    with suppress(OSError):
        os.unlink(os.path.join(folder, STATUS_NAME))


def read_status(folder: str) -> Status:
    """Read what the agent wrote. Raises UsageError with the line for the user."""
    path = os.path.join(folder, STATUS_NAME)
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(STATUS_BYTES))
        return _checked(Status(**found))
    except FileNotFoundError:
        raise NotRunningError(f"{plain(path)}: no agent runs with this directory") from None
    except PermissionError as error:
        raise UsageError(f"{plain(path)}: {error.strerror}; run it as root") from error
    except OSError as error:
        advice = "name the agent's runtime directory"
        raise UsageError(f"{plain(path)}: {error.strerror}; {advice}") from error
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        raise UsageError(f"{plain(path)}: no status of this version of Deckwire") from None


def _checked(status: Status) -> Status:
    """Raise TypeError unless each field has its type: anybody may have written the file."""
    texts = [status.version, *status.problems, *status.interfaces, *status.outputs]
    texts += [*status.interfaces.values(), *status.outputs.values(), *status.counters]
    numbers = [status.pid, status.time, status.since, status.deckies, *status.counters.values()]
    if not all(isinstance(text, str) for text in texts) or not all(
        isinstance(number, int | float) for number in numbers
    ):
        raise TypeError
    return status


def show_status(folder: str, *, as_json: bool) -> int:
    """Print the status for a person or, as JSON, for a program; return the exit status."""
    status = read_status(folder)
    age_s = max(0.0, time.time() - status.time)
    problems = list(status.problems)
    if age_s > STALE_S:
        problems.insert(0, f"the agent has written nothing for {age_s:.0f} s")
    if as_json:
        print(json.dumps(asdict(status) | {"problems": problems}, indent=1))
        return 1 if problems else 0
    lines = [f"deckwire {status.version}, process {status.pid}, up {_duration(status)}"]
    lines.append(f"deckies: {status.deckies}")
    lines += [f"interface {name}: {how}" for name, how in status.interfaces.items()]
    lines += [f"output {failure or f'{name}: works'}" for name, failure in status.outputs.items()]
    counters = status.counters
    made = ", ".join(
        f"{counters.get(f'events_{fate}', 0)} {fate}"
        for fate in ("emitted", "suppressed", "dropped")
    )
    lines.append(f"events: {made}")
    lines += [f"problem: {problem}" for problem in problems]
    for line in lines:
        print(plain(line))
    return 1 if problems else 0


def _duration(status: Status) -> str:
    return str(timedelta(seconds=round(status.time - status.since)))


class NotRunningError(UsageError):
    """There is no status to read."""

    status = 1


def growth(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """What grew since, by name."""
    return {
        name: value - before.get(name, 0)
        for name, value in now.items()
        if value > before.get(name, 0)
    }

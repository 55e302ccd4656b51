"""The unit of deploy/, as an administrator installs it, in a container with its own systemd."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deckwire.lab.namespaces import PATIENCE_SECONDS
from tests.systemd.container import Container, lacking

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
PARANOIA = Path("/proc/sys/kernel/perf_event_paranoid")

PARENT = "parent0"
DECKY = "192.0.2.10"
CONFIG = Path("/etc/deckwire/deckwire.toml")
LOG = Path("/var/log/deckwire/events.log")

INSTALL = f"""
checkout={shlex.quote(str(CHECKOUT))} venv={shlex.quote(sys.prefix)}
mkdir -p opt/deckwire opt/source etc/deckwire
# The unit does not see /home, where a checkout may be.
mount --bind -o ro "$venv" opt/deckwire
mount --bind -o ro "$checkout" opt/source
cat >run/deckwire-program <<-END
	#!/opt/deckwire/bin/python
	import sys
	sys.path.insert(0, "/opt/source/agent")
	from deckwire.entry import main
	main()
END
chmod 755 run/deckwire-program
mount --bind run/deckwire-program opt/deckwire/bin/deckwire
mkdir -p etc/sysusers.d
cp opt/source/deploy/deckwire.service etc/systemd/system/
cp opt/source/deploy/deckwire.sysusers etc/sysusers.d/deckwire.conf
systemd-sysusers --root="$PWD"
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if HERE in item.path.parents]
    if ours and (reason := lacking() or _too_paranoid()):
        for item in ours:
            item.add_marker(pytest.mark.skip(reason=reason))


def _too_paranoid() -> str | None:
    if int(PARANOIA.read_text()) <= 2:
        return None
    return f"needs {PARANOIA} at 2 or less: sysctl -p deploy/deckwire-sysctl.conf"


class Service:
    """A unit of Deckwire in the container."""

    def __init__(
        self, container: Container, unit: str = "deckwire.service", config: Path = CONFIG
    ) -> None:
        self.container = container
        self._unit = unit
        self._config = config
        self._cursor = self._last_entry()["__CURSOR"]

    def configure(self, text: str) -> None:
        """Writes the configuration file."""
        self.path(self._config).write_text(text)

    def path(self, path: Path) -> Path:
        """A file of the container, as this process names it."""
        return Path(f"/proc/{self.container.pid}/root{path}")

    def start(self) -> None:
        """Starts it. It is not ready yet when this returns."""
        self.systemctl("start", "--no-block")
        self.wait_for(
            lambda: self.show("MainPID") != "0" or self.show("ActiveState") == "failed",
            "its process runs, or has failed",
        )

    def wait_shielded(self) -> str:
        """Waits until SIGHUP cannot end it any more: its process id.

        systemd starts a process of its own, which SIGHUP ends. Only then it becomes the unit's.
        """

        def is_shielded() -> bool:
            folder = self.path(Path("/proc")) / self.show("MainPID")
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if b"/bin/deckwire\0" in (folder / "cmdline").read_bytes():
                    masks = dict(
                        line.split(":\t") for line in (folder / "status").read_text().splitlines()
                    )
                    either = int(masks["SigBlk"], 16) | int(masks["SigCgt"], 16)
                    return bool(either >> (signal.SIGHUP - 1) & 1)
            return False

        self.wait_for(is_shielded, "SIGHUP is blocked or handled")
        return self.show("MainPID")

    @contextlib.contextmanager
    def started_idle(self) -> Iterator[None]:
        """Starts it. Inside ``with`` its first process does nothing, the second is the program."""
        unit = self.systemctl("cat")
        command = re.findall("^ExecStart=(/.*)$", unit, re.MULTILINE)[-1]
        mine, drop_ins = "/run/deckwire-first", f"/run/systemd/system/{self._unit}.d"
        self.container.run("mkdir", "-m", "777", mine)
        self.container.run("mkdir", "-p", drop_ins)
        self.path(Path(mine, "program")).write_text(
            f"mkdir {mine}/once || exec {command}\nexec sleep 600\n"
        )
        self.path(Path(drop_ins, "first.conf")).write_text(
            f"[Service]\nType=simple\nWatchdogSec=0\nReadWritePaths={mine}\n"
            f"ExecStart=\nExecStart=/bin/sh {mine}/program\n"
        )
        self.container.run("systemctl", "daemon-reload")
        try:
            self.start()
            self.wait_for(self.path(Path(mine, "once")).exists, "its process idles")
            yield
        finally:
            self.stop()
            self.container.run("rm", "-rf", drop_ins, mine)
            self.container.run("systemctl", "daemon-reload")

    def stop(self) -> None:
        self.systemctl("stop")

    def systemctl(self, *words: str) -> str:
        return self.container.run("systemctl", *words, self._unit)

    def show(self, name: str) -> str:
        """One property of the unit."""
        return self.systemctl("show", f"--property={name}", "--value").strip()

    def said(self) -> list[str]:
        """The lines that the program wrote to the journal since this object was made."""
        entries = self._entries()
        return [e["MESSAGE"] for e in entries if e.get("_SYSTEMD_UNIT") == self._unit]

    def wait_said(self, *parts: str, times: int = 1) -> None:
        """Waits until so many lines have all of these parts."""

        def is_there() -> bool:
            return sum(all(part in line for part in parts) for line in self.said()) >= times

        self.wait_for(is_there, f"the service says {parts}")

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Returns as soon as `condition` holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, (
                f"not within {PATIENCE_SECONDS:.0f} s: {what}: {self.said()}"
            )
            # Each check starts processes, which would slow the service down.
            time.sleep(0.1)

    def _entries(self) -> list[dict[str, Any]]:
        # Without a filter: with one journalctl leaves out the first entry after the cursor.
        words = ("--no-pager", "-o", "json", f"--after-cursor={self._cursor}")
        self.container.run("journalctl", "--sync")
        printed = self.container.run("journalctl", *words, check=False)
        return [json.loads(line) for line in printed.splitlines()]

    def _last_entry(self) -> dict[str, Any]:
        printed = self.container.run("journalctl", "--no-pager", "-n", "1", "-o", "json")
        return dict(json.loads(printed))


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    with Container(INSTALL) as made:
        yield made


@pytest.fixture
def parent(container: Container) -> Iterator[str]:
    """The name of an Ethernet device in the container."""
    container.run("ip", "link", "add", PARENT, "type", "veth", "peer", "name", "peer0")
    for name in (PARENT, "peer0"):
        container.run("ip", "link", "set", name, "up")
    yield PARENT
    container.run("ip", "link", "del", PARENT, check=False)


@pytest.fixture
def service(container: Container, parent: str) -> Iterator[Service]:
    """The service, configured but not started."""
    made = Service(container)
    made.configure(
        f'interface = "{parent}"\ndecky = "{DECKY}=web"\noutput = "file:{LOG}"\n'
        "stats_interval = 0.5\n"
    )
    yield made
    made.stop()
    # Unchecked, because a unit that did not fail is not loaded any more.
    container.status("systemctl", "reset-failed", "deckwire.service")
    container.run("rm", "-f", LOG)

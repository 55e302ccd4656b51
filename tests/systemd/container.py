"""A real systemd in namespaces of its own, on an overlay of this machine's root."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from deckwire.kernel.syscalls import enter_network_namespace
from deckwire.lab.namespaces import wait_until

HERE = Path(__file__).parent
SYSTEMD = Path("/lib/systemd/systemd")
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--cgroup", "--net")


def lacking() -> str | None:
    """Why there can be no container here; None if there can."""
    if os.geteuid():
        return "needs root: makes namespaces and mounts"
    if not SYSTEMD.exists():
        return f"needs systemd ({SYSTEMD}): apt install systemd"
    if _control_groups() is None:
        return "needs a mounted cgroup2 file system"
    done = subprocess.run(
        ["unshare", *NAMESPACES, "mount", "--make-rprivate", "/"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"needs namespaces: {done.stderr.strip()}" if done.returncode else None


class Container:
    """A context manager: systemd runs inside ``with``, and nothing is left behind it.

    `setup` are lines of shell that run in the new root, as the working directory, before systemd
    starts. Mounts made there are the container's own. If this process is killed the kernel ends
    the container; an empty directory and control groups may then be left.
    """

    def __init__(self, setup: str) -> None:
        self._setup = setup
        self._closing = contextlib.ExitStack()
        self.pid = 0
        """Of its process 1, as this machine counts."""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as closing:
            directory = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="dwsystemd")))
            (directory / "setup").write_text(self._setup)
            (directory / "root").mkdir()
            group = self._make_group(closing)
            # In the group before the namespace begins there, so that it sees no other.
            join = f'echo $$ >{shlex.quote(str(group / "cgroup.procs"))}; exec "$@"'
            log = closing.enter_context((directory / "log").open("w+"))
            process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "bash", "-c", join, "-"),
                    *("unshare", *NAMESPACES, "--fork", "--kill-child=KILL"),
                    *("bash", HERE / "init.sh", directory / "root", directory / "setup"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            closing.callback(self._end, process)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

            def is_up() -> bool:
                if process.poll() is not None:
                    log.seek(0)
                    raise RuntimeError(f"no container: {log.read()}")
                self.pid = int((children.read_text().split() or ["0"])[0])
                return bool(self.pid) and self._is_systemd() and self._is_running()

            wait_until(is_up, "systemd is up", 60)
            self._closing = closing.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    def run(self, *argv: str | os.PathLike[str], check: bool = True) -> str:
        """A command in the container, as root: what it printed."""
        done = self.status(*argv)
        if check and done.returncode:
            raise AssertionError(f"{argv}: {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def status(self, *argv: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
        """A command in the container, as root."""
        return subprocess.run(
            ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-C", "--", *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in the container's network namespace."""
        with open("/proc/thread-self/ns/net") as own, open(f"/proc/{self.pid}/ns/net") as theirs:
            try:
                enter_network_namespace(theirs.fileno())
                yield
            finally:
                enter_network_namespace(own.fileno())

    def _is_systemd(self) -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/comm").read_text() == "systemd\n"
        return False

    def _is_running(self) -> bool:
        return self.status("systemctl", "is-active", "probe.target").stdout == "active\n"

    def _make_group(self, closing: contextlib.ExitStack) -> Path:
        groups = _control_groups()
        assert groups is not None
        group = Path(tempfile.mkdtemp(prefix="dwsystemd-", dir=groups))
        closing.callback(_remove_group, group)
        return group

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Kills process 1, and with it everything in the container: its mounts go with the last."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        with contextlib.suppress(OSError):
            for pid in children.read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        process.kill()
        process.wait()


def _control_groups() -> Path | None:
    """Where the machine has its cgroup2 file system."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    return None


def _remove_group(group: Path) -> None:
    """Removes a tree of control groups, when their processes have ended."""

    def is_gone() -> bool:
        for path, _, _ in os.walk(group, topdown=False):
            # A process that was killed may be there for a moment yet.
            with contextlib.suppress(OSError):
                os.rmdir(path)
        return not group.exists()

    wait_until(is_gone, f"{group} can be removed")

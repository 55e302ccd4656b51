"""A real systemd in namespaces of its own, on an overlay of a root that stays as it is."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from deckwire.kernel import namespaces
from deckwire.lab.namespaces import PATIENCE_SECONDS, wait_until

HERE = Path(__file__).parent
SYSTEMD = Path("/lib/systemd/systemd")
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--cgroup", "--net")


def lacking() -> str | None:
    """Why no container can run here; None if one can."""
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
    """A context manager: systemd runs inside ``with``, and nothing of it is left afterwards.

    `setup` is a shell script. It runs before systemd starts, with the new root as its working
    directory. Mounts made there are the container's own. `base` is the root below the overlay: this
    machine's, or the directory of another system with systemd. If this process is killed, the
    kernel ends the container. An empty directory and control groups may then be left.
    """

    def __init__(self, setup: str, base: Path = Path("/")) -> None:
        self._setup = setup
        self._base = base
        self._closing = contextlib.ExitStack()
        self.pid = 0
        """Of its process 1, in this machine's namespace."""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as closing:
            directory = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="dwsystemd")))
            root, setup = directory / "root", directory / "setup"
            root.mkdir()
            setup.write_text(self._setup)
            group = self._make_group(closing)
            # It joins the group first, so that its cgroup namespace begins there.
            join = f'echo $$ >{shlex.quote(str(group / "cgroup.procs"))}; exec "$@"'
            log = closing.enter_context((directory / "log").open("w+"))
            process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "bash", "-c", join, "-"),
                    *("unshare", *NAMESPACES, "--fork", "--kill-child=KILL"),
                    *("bash", HERE / "init.sh", self._base, root, setup),
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

            wait_until(is_up, "systemd is up")
            self._closing = closing.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    def run(
        self,
        *argv: str | os.PathLike[str],
        check: bool = True,
        seconds: float = PATIENCE_SECONDS,
    ) -> str:
        """Runs a command in the container as root, so long at most: its output."""
        done = self.status(*argv, seconds=seconds)
        if check and done.returncode:
            raise AssertionError(f"{argv}: {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def status(
        self, *argv: str | os.PathLike[str], seconds: float = PATIENCE_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in the container as root, so long at most: its output and status."""
        return subprocess.run(
            ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-C", "--", *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """The calling thread is in the container's network namespace."""
        return namespaces.inside(f"/proc/{self.pid}/ns/net")

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
        """Kills process 1, and so every process and mount in the container."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        with contextlib.suppress(OSError):
            for pid in children.read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        process.kill()
        process.wait()


def _control_groups() -> Path | None:
    """The mount point of the machine's cgroup2 file system."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount_point, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(mount_point)
    return None


def _remove_group(group: Path) -> None:
    """Removes a tree of control groups as soon as their processes have ended."""

    def is_gone() -> bool:
        for path, _, _ in os.walk(group, topdown=False):
            # A process that was killed may exist for a moment longer.
            with contextlib.suppress(OSError):
                os.rmdir(path)
        return not group.exists()

    wait_until(is_gone, f"{group} can be removed")

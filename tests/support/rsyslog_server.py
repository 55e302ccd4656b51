"""A real rsyslog for one test, and how to wait for a condition."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.sinks.sink import Sink

# Debian puts it where only root's PATH looks.
RSYSLOGD = shutil.which("rsyslogd", path="/usr/sbin:/sbin:/usr/bin")
MODULES = Path("/usr/lib/x86_64-linux-gnu/rsyslog")

CONFIG = """\
global(workDirectory="{folder}" parser.escapeControlCharactersOnReceive="on")
main_queue(queue.type="Direct")
module(load="imuxsock" SysSock.Use="off")
module(load="imudp")
module(load="imtcp")
module(load="imptcp")
input(type="imuxsock" Socket="{folder}/datagram" UseSpecialParser="off" IgnoreTimestamp="off"
  RateLimit.Interval="0")
input(type="imptcp" Path="{folder}/stream" Unlink="on")
input(type="imudp" Address="127.0.0.1" Port="{port}")
input(type="imtcp" Address="127.0.0.1" Port="{port}" KeepAlive="on")
template(name="raw" type="string" string="%rawmsg%\\n")
template(name="parsed" type="string"
  string="%pri%|%timereported:::date-rfc3339%|%hostname%|%app-name%|%msgid%|%structured-data%\\n")
action(type="omfile" File="{folder}/raw.log" Template="raw" FlushOnTXEnd="on")
action(type="omfile" File="{folder}/parsed.log" Template="parsed" FlushOnTXEnd="on")
"""


def is_settled(sink: Sink) -> bool:
    """Whether the receiver is sure to have read all that was offered."""
    counters = sink.counters()
    return not counters.queued and not sink._unsettled_lines()


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Poll until `condition` holds; fail the test with `what` after PATIENCE_SECONDS."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {PATIENCE_SECONDS} s in vain until {what}")
        time.sleep(0.005)


class Rsyslog:
    """One rsyslogd whose configuration, sockets and files are in a folder."""

    def __init__(self, folder: Path, more: str = "") -> None:
        """`more` is added to the configuration; {folder} and {more_port} in it are filled in."""
        self.folder = folder
        self.port = free_port()
        self.more_port = free_port()
        self._config = folder / "rsyslog.conf"
        values = {"folder": folder, "port": self.port, "more_port": self.more_port}
        self._config.write_text((CONFIG + more).format(**values))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert RSYSLOGD is not None
        with (self.folder / "stderr").open("ab") as stderr:
            self._process = subprocess.Popen(
                [RSYSLOGD, "-n", "-f", self._config, "-i", self.folder / "pid"], stderr=stderr
            )
        wait_until(self._is_ready, f"rsyslogd is ready: {(self.folder / 'stderr').read_text()}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def raw(self) -> list[bytes]:
        """The lines as rsyslog received them, without its own reports."""
        return self._lines("raw.log", b" rsyslogd ")

    def parsed(self) -> list[bytes]:
        """The fields that rsyslog's RFC 5424 parser found in them."""
        return self._lines("parsed.log", b"|rsyslogd|")

    def _lines(self, name: str, own: bytes) -> list[bytes]:
        path = self.folder / name
        if not path.exists():
            return []
        lines = path.read_bytes().split(b"\n")[:-1]
        return [line for line in lines if own not in line and b"rsyslogd:" not in line]

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "stderr").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
                datagram.connect(str(self.folder / "datagram"))
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                stream.connect(str(self.folder / "stream"))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port that is free for TCP and UDP on 127.0.0.1."""
    while True:
        with (
            socket.create_server(("127.0.0.1", 0)) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            port: int = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port

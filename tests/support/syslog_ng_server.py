"""A real syslog-ng for one test, which receives RFC 5425."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

from deckwire.lab.namespaces import PATIENCE_SECONDS
from tests.support.rsyslog_server import free_port, wait_until
from tests.support.unpacked import environment, syslog_ng

SYSLOG_NG = syslog_ng()

CONFIG = """\
@version: 3.35
options {{ keep-hostname(yes); use-dns(no); stats-freq(0); }};
source deckwire {{
    syslog(ip("127.0.0.1") port({port}) transport("tls") flags(store-raw-message)
        tls(cert-file("{folder}/server.crt") key-file("{folder}/server.key")
            peer-verify(optional-untrusted)));
}};
destination raw {{ file("{folder}/raw.log" template("$RAWMSG\\n")); }};
log {{ source(deckwire); destination(raw); }};
"""


class SyslogNg:
    """One syslog-ng whose configuration and files are in a folder, with its certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._config = folder / "syslog-ng.conf"
        self._config.write_text(CONFIG.format(folder=folder, port=self.port))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert SYSLOG_NG is not None
        with (self.folder / "stderr").open("ab") as stderr:
            self._process = subprocess.Popen(
                [
                    *(*SYSLOG_NG, "--foreground", "--no-caps", "--cfgfile", self._config),
                    *("--persist-file", self.folder / "persist"),
                    *("--pidfile", self.folder / "pid", "--control", self.folder / "control"),
                ],
                stderr=stderr,
                env=environment(),
            )
        wait_until(self._is_ready, "syslog-ng is ready")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def raw(self) -> list[bytes]:
        """The lines as syslog-ng received them."""
        path = self.folder / "raw.log"
        return path.read_bytes().split(b"\n")[:-1] if path.exists() else []

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "stderr").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

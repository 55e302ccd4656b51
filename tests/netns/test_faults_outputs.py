"""A failing output blocks neither the agent nor other outputs, and its losses are counted."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest

from deckwire.errors import shown
from deckwire.lab import Lab, Node
from deckwire.lab.namespaces import PATIENCE_SECONDS, wait_until
from deckwire.lab.network import PARENT
from deckwire.lab.servers import http_server
from tests.support.watching import EVERYTHING, PROGRAM, SyslogAgent, fetch_plain, lines_of

pytestmark = pytest.mark.root

CONNECTIONS = 40
LINES = 4 * CONNECTIONS
"""Four events of each connection: SYN, handshake, request and end."""
FILL = "filler"
PAGE = 4_096
"""The allocation unit of tmpfs."""


@pytest.fixture
def web(lab: Lab) -> Node:
    """A decky with a web page."""
    http_server(lab, lab.deckies[0])
    return lab.deckies[0]


def visit(lab: Lab, web: Node) -> None:
    for _ in range(CONNECTIONS):
        fetch_plain(lab.client, web.v4)


def wait_emitted(path: Path, event: str, times: int) -> None:
    def emitted() -> bool:
        return path.read_bytes().count(f" - {event} [".encode()) >= times

    wait_until(emitted, f"{times} {event} in {path.name}")


def lost_at_outputs(agent: SyslogAgent) -> dict[str, int]:
    """The lost lines by cause, as the agent reports them at its end."""
    found = re.findall(r"lost at the outputs: (\d+) lines, (\S+)", agent.messages.read_text())
    return {cause: int(lines) for lines, cause in found}


def test_a_disk_that_was_full_gets_every_line_whole(lab: Lab, web: Node, tmp_path: Path) -> None:
    disk = lab.directory / "disk"
    disk.mkdir()
    # The file system is mounted in a separate mount namespace for the agent.
    mounting = f'mount -t tmpfs -o size=128k none {disk} && exec {shlex.join(PROGRAM)} "$@"'
    agent = SyslogAgent(
        lab,
        tmp_path,
        *(*EVERYTHING, "--output", "stdout", "--output", f"file:{disk}/log"),
        program=["unshare", "--mount", "sh", "-c", mounting, "deckwire"],
    )
    inside = Path(f"/proc/{agent.process.pid}/root{disk}")
    fill(inside / FILL, but=PAGE)
    visit(lab, web)
    # The one free page ends in the middle of a line.
    wait_emitted(agent.printed, "tcp_flow_timing", CONNECTIONS)
    wait_until(lambda: (inside / "log").stat().st_size == PAGE, "the disk is full")
    assert (inside / "log").read_bytes() == agent.printed.read_bytes()[:PAGE]
    (inside / FILL).unlink()
    wait_emitted(inside / "log", "tcp_flow_timing", CONNECTIONS)
    kept = (inside / "log").read_bytes()
    agent.stop()
    assert kept.splitlines() == lines_of(agent.printed)[:LINES]
    assert lost_at_outputs(agent) == {}


def fill(path: Path, but: int) -> None:
    """Fill the disk except for `but` bytes."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE))
        except OSError:
            file.truncate(os.fstat(file.fileno()).st_size - but)


def test_a_disk_that_stays_full_is_reported_at_the_end(lab: Lab, web: Node, tmp_path: Path) -> None:
    agent = SyslogAgent(
        lab, tmp_path, *EVERYTHING, "--output", "file:/dev/full", "--output", "stdout"
    )
    visit(lab, web)
    wait_emitted(agent.printed, "tcp_flow_timing", CONNECTIONS)
    agent.stop()
    lines = lines_of(agent.printed)
    assert lost_at_outputs(agent) == {"file_unsent": len(lines)}
    assert len(lines) == LINES + 1


class Receiver:
    """A TCP listener on the client, in a namespace with very small TCP buffers."""

    def __init__(self, lab: Lab) -> None:
        # The setting changes only the client's namespace. The agent that sends runs there too.
        done = lab.run(lab.client, ["sysctl", "-qw", "net.ipv4.tcp_wmem=4096 4096 4096"])
        assert done.returncode == 0, done.stderr
        with lab.client.inside():
            self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.listener.settimeout(PATIENCE_SECONDS)
        self.output = f"tcp:127.0.0.1:{self.listener.getsockname()[1]}"
        self.program = ["nsenter", f"--net=/run/netns/{lab.client.netns}", *PROGRAM]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.listener.close()


def start_sending(lab: Lab, folder: Path, receiver: Receiver) -> SyslogAgent:
    outputs = ["--output", receiver.output, "--output", "stdout"]
    return SyslogAgent(lab, folder, *EVERYTHING, *outputs, program=receiver.program)


def test_a_slow_receiver_delays_no_other_output_and_gets_every_line(
    lab: Lab, web: Node, tmp_path: Path
) -> None:
    with Receiver(lab) as receiver:
        agent = start_sending(lab, tmp_path, receiver)
        visit(lab, web)
        # The other output has every event before one byte is read here.
        wait_emitted(agent.printed, "tcp_flow_timing", CONNECTIONS)
        connection, _ = receiver.listener.accept()
        with connection:
            received = b""
            while received.count(b" - tcp_flow_timing [") < CONNECTIONS:
                received += connection.recv(1_000)
            agent.process.send_signal(signal.SIGTERM)
            while piece := connection.recv(65_536):
                received += piece
    assert agent.process.wait(PATIENCE_SECONDS) == 0
    assert frames(received) == lines_of(agent.printed)
    assert lost_at_outputs(agent) == {}


def frames(stream: bytes) -> list[bytes]:
    """The frames of a stream with octet counting (RFC 6587, 3.4.1)."""
    found = []
    while stream:
        length, _, rest = stream.partition(b" ")
        found.append(rest[: int(length)])
        stream = rest[int(length) :]
    return found


def test_the_agent_ends_although_a_receiver_reads_nothing(
    lab: Lab, web: Node, tmp_path: Path
) -> None:
    """Queued lines are reported as lost: received and lost lines add up to all lines."""
    with Receiver(lab) as receiver:
        agent = start_sending(lab, tmp_path, receiver)
        visit(lab, web)
        agent.stop()
        connection, _ = receiver.listener.accept()
        received = b""
        with connection:
            while piece := connection.recv(65_536):
                received += piece
    lines = lines_of(agent.printed)
    whole = [frame for frame in frames(received) if frame.endswith(b"]")]
    lost = lost_at_outputs(agent)["tcp_unsent"]
    assert lost > LINES // 2
    assert whole == lines[: len(whole)]
    assert len(whole) + lost == len(lines) == LINES + 1


def test_a_closed_standard_output_stops_no_other_output(
    lab: Lab, web: Node, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    process = lab.popen(
        None,
        [
            *(*PROGRAM, "run", "-i", PARENT, "--netns", lab.host.netns, *EVERYTHING),
            *("--deckies", lab.deckies_file(), "--output", "stdout", "--output", f"file:{log}"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert b"ready" in process.stderr.readline()
    fetch_plain(lab.client, web.v4)
    assert process.stdout.readline()
    process.stdout.close()
    visit(lab, web)
    wait_emitted(log, "tcp_flow_timing", CONNECTIONS + 1)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    lines = log.read_bytes()
    assert lines.count(b" - tcp_flow_timing [") == CONNECTIONS + 1
    lost = re.search(rb"lost at the outputs: (\d+) lines, stdout_closed", messages)
    assert lost is not None, messages
    reported = sum(
        int(count)
        for count in re.findall(
            rb' - capture_loss \[\S+ cause="output_stdout_closed" count="(\d+)"', lines
        )
    )
    # The closed output also loses the events about the loss and the final sums.
    assert 0 < reported <= int(lost[1])


def test_an_output_that_cannot_be_opened_refuses_the_start(lab: Lab) -> None:
    argv = [
        *(sys.executable, "-P", "-m", "deckwire", "run", "-i", PARENT),
        *("--netns", lab.host.netns, "--decky", lab.deckies[0].v4),
        *("--output", f"file:{lab.directory}/missing/log"),
    ]
    done = lab.run(None, argv)
    assert (done.returncode, done.stdout) == (2, "")
    path = f"{lab.directory}/missing/log"
    line = f"deckwire: output {shown(f'file:{path}')}: {path}: No such file or directory\n"
    assert done.stderr == line

"""What the agent may do after its start, and that it needs no more."""

from __future__ import annotations

import os
import pwd
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from deckwire.errors import shown
from deckwire.kernel.capabilities import FILES
from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.namespaces import wait_until
from deckwire.lab.network import PARENT
from deckwire.lab.servers import http_server
from tests.support import intruder
from tests.support.hooks import HAS_TCX, filters, tcx
from tests.support.side_veth import (
    BACK,
    DECKY_ADDRESS,
    GONE,
    SIDE,
    add_side_veth,
    ip,
    visit,
    wait_reported,
)
from tests.support.watching import EVERYTHING, PROGRAM, assert_nothing_lost

pytestmark = pytest.mark.root

USER = "nobody"
SECONDS = 600.0
"""Longest wait for any condition: an emulated CPU is about 25 times slower."""

needs_tcx = pytest.mark.skipif(not HAS_TCX, reason="this kernel has no TCX")


@pytest.fixture
def web(lab: Lab) -> Node:
    """A decky with a web page."""
    http_server(lab, lab.deckies[0])
    return lab.deckies[0]


@pytest.fixture
def logs(lab: Lab) -> Path:
    """A directory that belongs to USER."""
    folder = lab.directory / "logs"
    folder.mkdir()
    found = pwd.getpwnam(USER)
    os.chown(folder, found.pw_uid, found.pw_gid)
    return folder


def tried(agent: AgentProcess) -> dict[str, str]:
    return intruder.attempts(
        agent.process.send_signal,
        lambda: agent.messages,
        lambda condition: agent.wait(condition, "it has tried", SECONDS),
    )


def hooks(lab: Lab, interface: str) -> tuple[int, int]:
    """The number of our TCX programs and of our filters on an interface."""
    shown = "".join(filters(lab, interface).values())
    programs = [one for hook in tcx(lab.host, interface).values() for one in hook]
    return len(programs), shown.count("deckwire_")


@pytest.mark.parametrize("attach", [pytest.param("auto", marks=needs_tcx), "clsact"])
def test_the_agent_has_no_rights_and_goes_on_working(
    lab: Lab, web: Node, logs: Path, attach: str
) -> None:
    """It reads its rings and files, attaches again, and opens its files again, as USER."""
    add_side_veth(lab, web)
    log = logs / "events.log"
    deckies = lab.deckies_file()
    agent = AgentProcess(
        lab,
        SIDE,
        [
            *(*EVERYTHING, "--user", USER, "--decky", f"{DECKY_ADDRESS}={web.name}"),
            *("--output", "stdout", "--output", f"file:{log}", "--runtime-dir", logs),
        ],
        program=intruder.program(attach),
        seconds=None,
    )
    found = pwd.getpwnam(USER)
    threads = intruder.statuses(agent.process.pid)
    for status in threads:
        assert set(status["Uid"].split()) == {str(found.pw_uid)}
        assert set(status["Gid"].split()) == {str(found.pw_gid)}
        assert {int(group) for group in status["Groups"].split()} == {found.pw_gid}
        assert (status["CapBnd"], status["NoNewPrivs"]) == (status["CapPrm"], "1")
        assert status["Seccomp"] == ("2" if intruder.IS_FILTERED else "0")
    expected = intruder.expected(filters=attach == "clsact")
    assert intruder.rights(threads, agent.process.pid) == expected
    results = tried(agent)
    assert intruder.done(results) == set()
    visit(lab, agent, lab.host, DECKY_ADDRESS, SECONDS)
    assert (log.stat().st_uid, log.stat().st_gid) == (found.pw_uid, found.pw_gid)
    assert (logs / "status.json").stat().st_uid == found.pw_uid
    # An interface that comes back.
    ip(lab, lab.host, "link", "del", SIDE)
    wait_reported(agent, GONE, seconds=SECONDS)
    add_side_veth(lab, web, index=2_001)
    wait_reported(agent, BACK, seconds=SECONDS)
    assert hooks(lab, SIDE) == ((2, 0) if attach == "auto" else (0, 2))
    visit(lab, agent, lab.host, DECKY_ADDRESS, SECONDS)
    # A log that is rotated, and a file of deckies that changes.
    log.rename(logs / "events.log.1")
    deckies.write_text("192.0.2.77 other\n")
    agent.process.send_signal(signal.SIGHUP)
    wait_reported(agent, "deckies read again: 2", seconds=SECONDS)
    wait_until(log.exists, "the log is open again", SECONDS)
    visit(lab, agent, lab.host, DECKY_ADDRESS, SECONDS)
    assert tried(agent) == results
    assert agent.stop(seconds=SECONDS) == 0, agent.last_words()
    assert_nothing_lost(agent)
    assert len(agent.find("tcp_handshake")) == 3
    assert hooks(lab, SIDE) == (0, 0)
    assert (logs / "events.log.1").stat().st_size
    assert log.stat().st_size


def test_root_keeps_what_it_needs_for_files(lab: Lab, web: Node, logs: Path) -> None:
    """Without a user: its log belongs to the owner of the directory, and can be rotated."""
    log = logs / "events.log"
    options = [*EVERYTHING, "--output", "stdout", "--output", f"file:{log}"]
    agent = AgentProcess(lab, options=options, program=intruder.program(), seconds=None)
    threads = intruder.statuses(agent.process.pid)
    expected = intruder.expected(filters=not HAS_TCX, kept=FILES)
    assert intruder.rights(threads, agent.process.pid) == expected
    results = tried(agent)
    assert {results[name] for name in ("load a program", "make a map", "change jumps")} == {"EPERM"}
    assert {results[name] for name in ("open a raw socket", "mount", "enter a namespace")} == {
        "EPERM"
    }
    log.rename(logs / "events.log.1")
    agent.process.send_signal(signal.SIGHUP)
    wait_until(log.exists, "the log is open again", SECONDS)
    # It gets its owner after it was made.
    owner = logs.stat().st_uid
    wait_until(lambda: log.stat().st_uid == owner, "the log has its owner", SECONDS)
    visit(lab, agent, lab.client, web.v4, SECONDS)
    assert agent.stop(seconds=SECONDS) == 0, agent.last_words()
    assert_nothing_lost(agent)


def refused(
    lab: Lab,
    options: Sequence[str | os.PathLike[str]],
    *prefix: str,
    program: Sequence[str] = PROGRAM,
) -> str:
    """Start an agent that refuses its options: its line."""
    argv = [*prefix, *program, "run", "-i", PARENT, "--netns", lab.host.netns, *options]
    done = lab.run(None, argv, seconds=SECONDS)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert tcx(lab.host) == {"ingress": [], "egress": []}
    return done.stderr.removeprefix("deckwire: ").rstrip()


def test_a_file_that_the_user_cannot_open_is_one_line(lab: Lab, logs: Path) -> None:
    decky = ("--decky", lab.deckies[0].v4, "--user", USER)
    log, ours = logs / "events.log", lab.directory / "ours.log"
    log.touch(mode=0o600)
    advice = f"Permission denied for user {USER}; let {USER} open it, or set another user"
    output = f"file:{log}"
    assert refused(lab, [*decky, "--output", output]) == f"output {shown(output)}: {log}: {advice}"
    # One that it could not make again.
    output = f"file:{ours}"
    assert refused(lab, [*decky, "--output", output]) == f"output {shown(output)}: {ours}: {advice}"
    assert not ours.exists()
    deckies = lab.deckies_file()
    deckies.chmod(0o600)
    assert refused(lab, ["--deckies", deckies, "--user", USER]) == f"{deckies}: {advice}"
    # An installation from which it could import nothing later.
    closed = lab.directory / "closed"
    closed.mkdir(mode=0o700)
    python = closed / "python"
    python.symlink_to(sys.executable)
    modules = f"PYTHONPATH={os.pathsep.join(filter(None, sys.path))}"
    program = [str(python), *PROGRAM[1:]]
    assert refused(lab, decky, "env", modules, program=program) == f"{python}: {advice}"


def test_a_user_that_nobody_can_become_is_one_line(lab: Lab) -> None:
    decky = ("--decky", lab.deckies[0].v4)
    line = refused(lab, [*decky, "--user", "dw-none"])
    assert line == "--user: this host has no user 'dw-none'; make it, or name another"
    line = refused(lab, [*decky, "--user", "root"])
    assert line == "--user: 'root' has the user id of root; name another user, or leave it out"
    line = refused(lab, [*decky, "--user", USER], "setpriv", "--reuid=1", "--clear-groups")
    assert line.startswith(f"user {USER}: only root can become another user; start Deckwire as")
    line = refused(lab, [*decky, "--user", USER], "setpriv", "--bounding-set=-setgid")
    assert line.startswith(f"cannot become user {USER}: Operation not permitted; grant CAP_SETUID")

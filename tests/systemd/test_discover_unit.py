"""The unit of the discovery: it finds containers, the agent reads its file, and it is confined."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.conftest import PARENT, Service
from tests.systemd.container import Container

pytestmark = pytest.mark.root

UNIT = "deckwire-discover.service"
FILE = Path("/run/deckwire-discover/deckies.json")
CAPABILITIES = 1 << 21 | 1 << 19
"""CAP_SYS_ADMIN and CAP_SYS_PTRACE."""


@pytest.fixture
def discover(container: Container, service: Service) -> Iterator[Service]:
    """The unit, installed and configured but not started. The agent's is configured to use it."""
    container.run("cp", f"/opt/source/deploy/{UNIT}", "/etc/systemd/system/")
    container.run("systemctl", "daemon-reload")
    service.configure(f'interface = "{PARENT}"\ndeckies = "{FILE}"\n')
    made = Service(container, UNIT)
    yield made
    made.stop()
    container.status("systemctl", "reset-failed", UNIT)


def add_decky(container: Container, netns: list[str], address: str) -> None:
    """Make a macvlan on PARENT and move it into a namespace, as Docker does."""
    container.run("ip", "link", "add", "dw9", "link", PARENT, "type", "macvlan", "mode", "bridge")
    container.run("ip", "link", "set", "dw9", "netns", netns[-1])
    for words in (["addr", "add", address, "dev", "dw9"], ["link", "set", "dw9", "up"]):
        container.run(*netns[:-1], "ip", *words)


def test_it_finds_named_and_anonymous_namespaces_and_the_agent_reads_them(
    discover: Service, service: Service, container: Container
) -> None:
    discover.start()
    discover.wait_said("ready: 0 addresses")
    pid = discover.show("MainPID")
    text = container.run("cat", f"/proc/{pid}/status")
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert "0" not in status["Uid"].split()
    assert {int(status[name], 16) for name in ("CapEff", "CapBnd")} == {CAPABILITIES}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    service.start()
    service.wait_said("ready: watching 0 deckies")
    # Both come after the unit has started.
    container.run("ip", "netns", "add", "mail")
    container.run("systemd-run", "--unit=dw-web", "-p", "PrivateNetwork=yes", "sleep", "600")
    web = container.run("systemctl", "show", "-p", "MainPID", "--value", "dw-web").strip()
    try:
        add_decky(container, ["ip", "netns", "exec", "mail", "mail"], "192.0.2.20/24")
        add_decky(container, ["nsenter", "-n", "-t", web, web], "192.0.2.21/24")
        path = discover.path(FILE)
        discover.wait_for(
            lambda: {"192.0.2.20", "192.0.2.21"} <= json.loads(path.read_text()).keys(),
            "both are found",
        )
        found = json.loads(path.read_text())
        assert found["192.0.2.20"] == "mail"
        assert found["192.0.2.21"].startswith("netns-")
        service.wait_said("deckies read again: ")
    finally:
        container.run("systemctl", "stop", "dw-web")
        container.run("ip", "netns", "del", "mail")
    discover.wait_for(lambda: json.loads(path.read_text()) == {}, "both are gone")
    discover.stop()
    assert discover.show("Result") == "success"
    assert container.run("journalctl", "-q", "-u", UNIT, "-p", "warning") == ""


def test_systemd_analyze_has_no_objection(discover: Service, container: Container) -> None:
    unit = f"/etc/systemd/system/{UNIT}"
    done = container.status("systemd-analyze", "verify", unit)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "deckwire" in line]
    assert (done.returncode, ours) == (0, [])

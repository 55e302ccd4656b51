"""The drop-in for DECNET's sniffer unit: start, reload, stop by the bus, crash, and its logs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deckwire.kernel.capabilities import LOADING
from tests.decnet.consumer import write_state
from tests.support import intruder
from tests.support.bus_server import BusServer
from tests.support.hooks import HAS_TCX
from tests.systemd.conftest import PARENT, Service
from tests.systemd.container import Container

pytestmark = pytest.mark.root

UNIT = "decnet-sniffer.service"
CONFIG = Path("/etc/decnet/sniffer.toml")
HOME = Path("/opt/decnet")
STATE = HOME / "decnet-state.json"
LOG, TWIN = Path("/var/log/decnet/decnet.log"), Path("/var/log/decnet/decnet.json")
SOCKET = Path("/run/decnet/bus.sock")

DECNETS_UNIT = f"""
[Unit]
Description=DECNET sniffer
[Service]
Type=simple
User=decnet
Group=decnet
WorkingDirectory={HOME}
ExecStart=/bin/false
AmbientCapabilities=CAP_NET_RAW CAP_NET_ADMIN
CapabilityBoundingSet=CAP_NET_RAW CAP_NET_ADMIN
NoNewPrivileges=yes
ProtectSystem=full
PrivateTmp=yes
Restart=on-failure
RestartSec=1
[Install]
WantedBy=multi-user.target
"""
"""A stand-in for the unit that DECNET installs. The drop-in replaces what it starts."""
WEB, MAIL = {"name": "web", "ip": "192.0.2.10"}, {"name": "mail", "ip": "192.0.2.11"}


@pytest.fixture(scope="module")
def decnet(container: Container) -> Container:
    """DECNET's user, directories and unit, with the drop-in."""
    container.run("useradd", "--system", "--user-group", "decnet")
    for folder in (CONFIG.parent, HOME, LOG.parent, SOCKET.parent):
        container.run("mkdir", "-p", folder)
        container.run("chown", "decnet:decnet", folder)
    unit = Path(f"/proc/{container.pid}/root/etc/systemd/system/{UNIT}")
    unit.write_text(DECNETS_UNIT)
    container.run("cp", "-r", f"/opt/source/deploy/{UNIT}.d", "/etc/systemd/system/")
    container.run("systemctl", "daemon-reload")
    return container


@pytest.fixture
def bus(decnet: Container) -> Iterator[BusServer]:
    with BusServer(Path(f"/proc/{decnet.pid}/root{SOCKET}")) as made:
        yield made


@pytest.fixture
def sniffer(decnet: Container, parent: str) -> Iterator[Service]:
    """The unit, configured but not started."""
    made = Service(decnet, UNIT, CONFIG)
    made.configure("stats_interval = 1\n")
    write_state(made.path(STATE), [WEB], interface=parent)
    yield made
    made.stop()
    decnet.status("systemctl", "reset-failed", UNIT)
    decnet.run("rm", "-f", LOG, TWIN, STATE)


def ready(sniffer: Service, bus: BusServer) -> str:
    """Start it and wait until it is ready and on the bus: its process id."""
    sniffer.start()
    sniffer.wait_said("ready: watching 1 decky")
    bus.wait(lambda: bus.subscribed("system.sniffer.control"), "it is on the bus")
    return sniffer.show("MainPID")


def test_systemd_analyze_has_no_objection(decnet: Container) -> None:
    done = decnet.status("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}")
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "decnet" in line]
    assert (done.returncode, ours) == (0, [])


def test_it_runs_as_decnets_user_without_capabilities(
    sniffer: Service, decnet: Container, bus: BusServer
) -> None:
    pid = ready(sniffer, bus)
    uid = decnet.run("id", "-u", "decnet").strip()
    threads = intruder.statuses(int(pid), sniffer.path(Path("/proc")))
    for status in threads:
        assert set(status["Uid"].split()) == {uid}
        assert int(status["CapBnd"], 16) == intruder.mask(*LOADING)
        assert status["NoNewPrivs"] == "1"
    assert intruder.rights(threads, int(pid)) == intruder.expected(filters=not HAS_TCX)
    # DECNET finds its processes by these words.
    command = decnet.run("cat", f"/proc/{pid}/cmdline")
    assert "decnet" in command
    assert "sniffer" in command


def test_decnets_other_workers_append_to_the_logs(
    sniffer: Service, decnet: Container, bus: BusServer
) -> None:
    ready(sniffer, bus)
    for path in (LOG, TWIN):
        owner = decnet.run("stat", "-c", "%A %U %G", path).strip()
        assert owner == "-rw-r----- decnet decnet"
        decnet.run(
            "setpriv", "--reuid=decnet", "--regid=decnet", "--clear-groups", "tee", "-a", path
        )


def test_a_change_of_the_state_is_read(sniffer: Service, bus: BusServer) -> None:
    pid = ready(sniffer, bus)
    write_state(sniffer.path(STATE), [WEB, MAIL, {"name": "no address"}], interface=PARENT)
    sniffer.wait_said("deckies read again: 2")
    sniffer.wait_said("config.deckies[2]: ip is missing")
    assert sniffer.show("MainPID") == pid


def test_sighup_during_the_start_is_a_reload_after_it(sniffer: Service, bus: BusServer) -> None:
    sniffer.start()
    pid = sniffer.wait_shielded()
    sniffer.systemctl("kill", "--signal=HUP")
    sniffer.wait_said("deckies read again: 1")
    assert sniffer.show("MainPID") == pid


def test_sighup_before_the_program_runs_is_followed_by_a_restart(
    sniffer: Service, bus: BusServer
) -> None:
    with sniffer.started_idle():
        sniffer.systemctl("kill", "--signal=HUP")
        sniffer.wait_said("ready: watching 1 decky")
        assert sniffer.show("NRestarts") == "1"


def test_a_stop_by_the_bus_ends_the_unit(sniffer: Service, bus: BusServer) -> None:
    ready(sniffer, bus)
    bus.send("system.sniffer.control", {"action": "stop"})
    sniffer.wait_for(lambda: sniffer.show("ActiveState") == "inactive", "the unit has ended")
    sniffer.wait_said("stopping: the bus asks for it")
    assert sniffer.show("Result") == "success"
    assert sniffer.show("ExecMainStatus") == "0"
    assert sniffer.show("NRestarts") == "0"


def test_a_crash_is_followed_by_a_restart(sniffer: Service, bus: BusServer) -> None:
    pid = ready(sniffer, bus)
    sniffer.systemctl("kill", "--signal=KILL", "--kill-whom=main")
    sniffer.wait_said("ready: watching 1 decky", times=2)
    assert sniffer.show("MainPID") not in (pid, "0")
    assert sniffer.show("NRestarts") == "1"

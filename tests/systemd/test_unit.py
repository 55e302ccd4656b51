"""The service under systemd: start, reload, crash, wrong settings, end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from deckwire.kernel.capabilities import LOADING
from tests.support import intruder
from tests.support.hooks import HAS_TCX, tcx
from tests.systemd.conftest import CONFIG, LOG, PARENT, Service
from tests.systemd.container import Container

pytestmark = pytest.mark.root

NOBODY = 65_534


def is_attached(container: Container) -> bool:
    """Whether programs of ours are on the interface."""
    if HAS_TCX:
        return all(tcx(container, PARENT).values())  # type: ignore[arg-type]
    shown = [
        container.run("tc", "filter", "show", "dev", PARENT, hook) for hook in ("ingress", "egress")
    ]
    return all("deckwire" in text for text in shown)


def ready(service: Service) -> str:
    """Starts it and waits until it is ready: its process id."""
    service.start()
    service.wait_said("ready: watching 1 decky")
    return service.show("MainPID")


def test_the_service_runs_confined_and_leaves_nothing(
    service: Service, container: Container
) -> None:
    pid = ready(service)
    assert is_attached(container)
    uid = container.run("id", "-u", "deckwire").strip()
    assert uid != "0"
    threads = intruder.statuses(int(pid), service.path(Path("/proc")))
    for status in threads:
        assert set(status["Uid"].split()) == {uid}
        # Nobody without CAP_SETPCAP can change it. It grants nothing.
        assert int(status["CapBnd"], 16) == intruder.mask(*LOADING)
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert intruder.rights(threads, int(pid)) == intruder.expected(filters=not HAS_TCX)
    service.stop()
    assert service.show("Result") == "success"
    assert service.show("ExecMainStatus") == "0"
    assert not is_attached(container)
    assert container.run("journalctl", "-q", "-u", "deckwire", "-p", "warning") == ""
    assert "ready" in container.run("journalctl", "-q", "-t", "deckwire", "-n", "1", "-o", "cat")


@pytest.fixture(params=["auto", "clsact"])
def intruded(service: Service, request: pytest.FixtureRequest) -> Iterator[Service]:
    """The service with an agent that tries what an intruder could do. One has a helper."""
    program = service.path(Path("/run/deckwire-program"))
    before = program.read_text()
    head, _, _ = before.partition("from deckwire.entry")
    program.write_text(f"{head}sys.argv.insert(1, '{request.param}')\n{intruder.INTRUDER}")
    yield service
    service.stop()
    program.write_text(before)


def test_an_intruder_gets_no_further(intruded: Service, container: Container) -> None:
    ready(intruded)

    def send(number: signal.Signals) -> None:
        intruded.systemctl("kill", f"--signal={number.name}", "--kill-whom=main")

    results = intruder.attempts(
        send,
        intruded.said,
        lambda condition: intruded.wait_for(condition, "it has tried"),
    )
    assert intruder.done(results) == set()
    come_back(intruded, container)


def come_back(service: Service, container: Container) -> None:
    """Delete the interface, make it again, and wait until it is attached again."""
    container.run("ip", "link", "del", PARENT)
    service.wait_said("parent0 is gone; it is attached again when it comes back")
    container.run("ip", "link", "add", PARENT, "type", "veth", "peer", "name", "peer0")
    service.wait_said("ready: parent0 attached again (")


def test_an_interface_that_comes_back_is_attached_again(
    service: Service, container: Container
) -> None:
    pid = ready(service)
    come_back(service, container)
    assert is_attached(container)
    assert service.show("MainPID") == pid


def test_a_reload_rereads_the_deckies_and_reopens_the_file(
    service: Service, container: Container
) -> None:
    deckies = CONFIG.parent / "deckies.txt"
    container.run("sh", "-c", f"echo 192.0.2.20 mail >{deckies}")
    service.configure(f'interface = "{PARENT}"\ndeckies = "{deckies}"\noutput = "file:{LOG}"\n')
    pid = ready(service)
    container.run("mv", LOG, f"{LOG}.1")
    service.systemctl("reload")
    service.wait_said("deckies read again: 1")
    service.wait_for(lambda: not container.status("test", "-e", LOG).returncode, "a new file")
    assert service.show("MainPID") == pid


def test_sighup_during_the_start_is_a_reload_after_it(
    service: Service, container: Container
) -> None:
    """`systemctl kill` sends it to the loader too."""
    deckies = CONFIG.parent / "deckies.txt"
    container.run("sh", "-c", f"echo 192.0.2.20 mail >{deckies}")
    service.configure(f'interface = "{PARENT}"\ndeckies = "{deckies}"\noutput = "file:{LOG}"\n')
    service.start()
    pid = service.wait_shielded()
    service.systemctl("kill", "--signal=HUP")
    while not any("ready" in line for line in service.said()):
        service.systemctl("kill", "--signal=HUP")
        assert service.show("MainPID") == pid
    service.wait_said("deckies read again: 1")
    assert service.show("MainPID") == pid
    assert service.show("NRestarts") == "0"
    assert is_attached(container)


def test_sighup_before_the_program_runs_is_followed_by_a_restart(
    service: Service, container: Container
) -> None:
    """As for a moment at each start, the unit's process is not yet the program."""
    with service.started_idle():
        service.systemctl("kill", "--signal=HUP")
        service.wait_said("ready: watching 1 decky")
        assert service.show("NRestarts") == "1"


def test_a_stop_during_the_start_is_clean(service: Service, container: Container) -> None:
    service.start()
    service.systemctl("kill", "--signal=HUP")
    service.stop()
    assert service.show("Result") == "success"
    assert not is_attached(container)
    assert not any("Traceback" in line for line in service.said())


def test_a_crash_is_followed_by_a_restart(service: Service, container: Container) -> None:
    pid = ready(service)
    service.systemctl("kill", "--signal=KILL", "--kill-whom=main")
    service.wait_said("ready: watching 1 decky", times=2)
    assert service.show("MainPID") not in (pid, "0")
    assert service.show("NRestarts") == "1"
    assert is_attached(container)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ('interface = "parent0"\ndecky = "192.0.2.300"\n', "'192.0.2.300' is not an IPv4"),
        ('interface = "lo"\ndecky = "192.0.2.10"\n', "lo is the loopback"),
    ],
    ids=["address", "interface"],
)
def test_a_wrong_setting_is_one_line_and_no_restart(
    service: Service, config: str, line: str
) -> None:
    service.configure(config)
    service.start()
    service.wait_for(lambda: service.show("ActiveState") == "failed", "it has given up")
    assert service.show("SubState") == "failed"
    assert service.show("ExecMainStatus") == "2"
    assert service.show("NRestarts") == "0"
    (said,) = service.said()
    assert line in said


def test_a_reason_that_can_pass_is_followed_by_a_restart(
    service: Service, container: Container
) -> None:
    """Another agent watches the interface until it is stopped."""
    ready(service)
    container.run("cp", "/etc/systemd/system/deckwire.service", "/run/systemd/system/other.service")
    container.run("systemctl", "daemon-reload")
    container.run("systemctl", "start", "--no-block", "other.service")

    def restarts() -> str:
        words = ("show", "--property=NRestarts", "--value", "other.service")
        return container.run("systemctl", *words).strip()

    try:
        service.wait_for(lambda: restarts() == "1", "the other is restarted")
        service.stop()
        service.wait_for(lambda: is_attached(container), "the other one has attached")
    finally:
        container.run("systemctl", "stop", "other.service")


def test_a_missing_interface_is_waited_for(service: Service, container: Container) -> None:
    container.run("ip", "link", "del", PARENT)
    service.start()
    service.wait_said("waiting: no interface parent0 in this network namespace")
    pid = service.show("MainPID")
    service.systemctl("reload")
    service.wait_for(lambda: not container.status("test", "-s", LOG).returncode, "statistics")
    container.run("ip", "link", "add", PARENT, "type", "veth", "peer", "name", "peer0")
    service.wait_said("ready: parent0 attached (")
    assert is_attached(container)
    assert service.show("MainPID") == pid
    said = [line.split()[1] for line in service.said()]
    # One line says that the unit may not look into the namespaces of containers.
    assert [word for word in said if word != "not"] == ["waiting:", "configuration", "ready:"]


def test_waiting_for_an_interface_ends_cleanly(service: Service, container: Container) -> None:
    container.run("ip", "link", "del", PARENT)
    service.start()
    service.wait_said("waiting: no interface parent0")
    service.stop()
    assert service.show("Result") == "success"
    assert len(service.said()) == 1


def test_only_the_group_reads_the_log(service: Service, container: Container) -> None:
    ready(service)
    service.wait_for(lambda: not container.status("test", "-s", LOG).returncode, "a line")
    gid = container.run("id", "-g", "deckwire").strip()

    def reads(groups: str) -> bool:
        who = (f"--reuid={NOBODY}", f"--regid={NOBODY}", groups)
        return not container.status("setpriv", *who, "cat", LOG).returncode

    assert reads(f"--groups={gid}")
    assert not reads("--clear-groups")
    modes = container.run("stat", "-c", "%A %U %G", LOG.parent, LOG).splitlines()
    assert modes == ["drwxr-x--- deckwire deckwire", "-rw-r----- deckwire deckwire"]


def test_systemd_analyze_has_no_objection(container: Container) -> None:
    unit = "/etc/systemd/system/deckwire.service"
    done = container.status("systemd-analyze", "verify", unit)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "deckwire" in line]
    assert (done.returncode, ours) == (0, [])
    security = container.status(
        *("systemd-analyze", "security", "--no-pager", "--offline=yes", "--threshold=20", unit)
    )
    assert security.returncode == 0, security.stdout

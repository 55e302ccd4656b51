"""The life of the package on a host: install, use, upgrade, remove, purge.

The tests of one release share a host and depend on each other, in the order of this file.
deb-test.sh names the packages and the roots in environment variables.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deckwire import compiled
from tests.support.shared import CORPUS, captures, expected, needs_corpus
from tests.systemd.container import Container

DEB = Path(os.environ["DECKWIRE_DEB_TEST"])
PREVIOUS = Path(os.environ["DECKWIRE_DEB_PREVIOUS"])
WHEEL = Path(os.environ["DECKWIRE_DEB_WHEEL"])
ROOTS = [Path(root) for root in os.environ["DECKWIRE_DEB_ROOTS"].split(":")]

LONG_S = 600
"""Longest run of apt: it unpacks 600 MB."""
SECONDS = 120
"""Longest wait for anything else."""
UNIT = "deckwire.service"
LOG = "/var/log/deckwire/events.log"
CONFIG = "/etc/deckwire/deckwire.toml"
PACKAGE = "/usr/lib/python3/dist-packages/deckwire"
COMPILED = "compiled modules"
PURE = "pure modules (none are compiled for this Python)"
CAPTURES = [name for name in captures() if "ml-dsa" not in name]
"""Debian's cryptography cannot check signatures of ML-DSA."""

pytestmark = pytest.mark.timeout(1_800)

SETUP = f"""
mkdir -p run/debs
cp {shlex.quote(str(DEB))} run/debs/new.deb
cp {shlex.quote(str(PREVIOUS))} run/debs/old.deb
cp {shlex.quote(str(WHEEL))} run/debs/
mkdir -p run/corpus
[ ! -d {shlex.quote(str(CORPUS))} ] || mount --bind -o ro {shlex.quote(str(CORPUS))} run/corpus
"""

NETWORK = """
ip netns add web
ip netns add attacker
ip link add parent0 type veth peer name peer0 netns attacker
ip link set parent0 up
ip link add link parent0 name eth0 netns web type macvlan mode bridge
ip -n web addr add 192.0.2.10/24 dev eth0
ip -n web link set eth0 up
ip -n attacker addr add 192.0.2.66/24 dev peer0
ip -n attacker link set peer0 up
"""


@pytest.fixture(scope="module", params=ROOTS, ids=lambda root: root.name)
def host(request: pytest.FixtureRequest) -> Iterator[Container]:
    with Container(SETUP, base=request.param) as made:
        yield made


def install(host: Container, name: str) -> str:
    apt = "DEBIAN_FRONTEND=noninteractive apt-get -y install"
    return host.run("sh", "-c", f"{apt} /run/debs/{name} 2>&1", seconds=LONG_S)


def wait_for(condition: Callable[[], object], what: str, host: Container) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: {host.run('journalctl', '--no-pager', '-n', '30')}")
        time.sleep(0.1)


def is_active(host: Container) -> bool:
    return host.status("systemctl", "is-active", UNIT).stdout.strip() == "active"


def main_pid(host: Container) -> str:
    return host.run("systemctl", "show", "-P", "MainPID", UNIT).strip()


def version(host: Container) -> str:
    return host.run("deckwire", "--version").rstrip()


def form(host: Container) -> str:
    """What `deckwire --version` must say of the hot modules."""
    ask = "import sys; print(sys.implementation.cache_tag)"
    built = subprocess.check_output(["/usr/bin/python3", "-c", ask], text=True)
    return COMPILED if host.run("python3", "-c", ask) == built else PURE


def files(host: Container) -> list[str]:
    """Everything that has the program's name."""
    found = host.run(
        *("find", "/", "-xdev", "(", "-path", "/proc", "-o", "-path", "/sys", "-o", "-path"),
        *("/run/debs", ")", "-prune", "-o", "-iname", "*deckwire*", "-print"),
    )
    return sorted(found.splitlines())


def test_it_installs_and_starts_nothing(host: Container) -> None:
    install(host, "old.deb")
    assert not is_active(host)
    assert host.status("systemctl", "is-enabled", UNIT).stdout.strip() == "disabled"
    user = host.run("getent", "passwd", "deckwire").strip().split(":")
    assert user[-1].endswith("nologin")
    assert int(user[2]) < 1_000
    conffiles = host.run("dpkg-query", "-W", "-f", "${Conffiles}", "deckwire")
    named = {line.split()[0] for line in conffiles.splitlines() if line.strip()}
    assert {CONFIG, "/etc/deckwire/deckies.txt", "/etc/logrotate.d/deckwire"} <= named
    assert "/opt/" not in host.run("systemctl", "cat", UNIT)
    verified = host.status("systemd-analyze", "verify", "--man=no", UNIT)
    said = [line for line in (verified.stdout + verified.stderr).splitlines() if "deckwire" in line]
    assert (verified.returncode, said) == (0, [])


def test_without_settings_it_says_what_to_do(host: Container) -> None:
    host.run("systemctl", "start", UNIT, check=False)
    assert host.run("systemctl", "show", "-P", "ExecMainStatus", UNIT).strip() == "2"
    said = host.run("journalctl", "--no-pager", "-o", "cat", "-t", "deckwire").splitlines()
    (line,) = [line for line in said if line.startswith("deckwire: ")]
    assert "interface" in line
    host.run("systemctl", "reset-failed", UNIT)


def test_the_service_watches_the_deckies(host: Container) -> None:
    host.run("sh", "-ec", NETWORK)
    host.run("sh", "-c", f"sed -i 's/^#interface = .*/interface = \"parent0\"/' {CONFIG}")
    host.run("sh", "-c", "echo '192.0.2.10 web' >>/etc/deckwire/deckies.txt")
    host.run("systemctl", "enable", "--now", UNIT, seconds=SECONDS)
    assert is_active(host)

    def seen() -> bool:
        host.status("ip", "netns", "exec", "attacker", "curl", "-m1", "http://192.0.2.10/")
        return "tcp_syn_fingerprint" in host.run("sh", "-c", f"cat {LOG} || true")

    wait_for(seen, "an event of the SYN", host)
    assert "parent0" in host.run("deckwire", "status")


def test_logrotate_rotates_the_log_of_a_running_agent(host: Container) -> None:
    host.run("logrotate", "--force", "/etc/logrotate.d/deckwire")
    lines = host.run("cat", f"{LOG}.1").splitlines()
    assert lines

    def goes_on() -> bool:
        host.status("ip", "netns", "exec", "attacker", "curl", "-m1", "http://192.0.2.10:81/")
        return not host.status("test", "-s", LOG).returncode

    wait_for(goes_on, "the new log has a line", host)
    modes = host.run("stat", "-c", "%A %U %G", LOG, f"{LOG}.1").splitlines()
    assert modes == ["-rw-r----- deckwire deckwire"] * 2


def test_an_upgrade_restarts_it_and_keeps_the_settings(host: Container) -> None:
    before = main_pid(host)
    install(host, "new.deb")
    assert is_active(host)
    assert main_pid(host) not in (before, "0")
    assert host.run("systemctl", "is-enabled", UNIT).strip() == "enabled"
    assert 'interface = "parent0"' in host.run("cat", CONFIG)
    installed = host.run("dpkg-query", "-W", "-f", "${Version}", "deckwire")
    built = subprocess.check_output(["dpkg-deb", "-f", DEB, "Version"], text=True).strip()
    assert installed == built


def test_the_hot_modules_run_compiled_for_the_python_of_the_build(host: Container) -> None:
    assert version(host).endswith(f", {form(host)}")


def test_the_service_runs_the_compiled_modules(host: Container) -> None:
    mapped = host.run("cat", f"/proc/{main_pid(host)}/maps")
    assert (f"{PACKAGE}/extension/" in mapped) == (form(host) == COMPILED)


def test_an_edited_source_runs(host: Container) -> None:
    source = f"{PACKAGE}/tls/wire.py"
    host.run("cp", "-p", source, "/run/wire.py")
    host.run("sh", "-c", f"echo '# edited' >>{source}")
    edited = "pure modules (deckwire.tls.wire is not what was compiled)"
    assert version(host).endswith(edited if form(host) == COMPILED else PURE)
    host.run("cp", "-p", "/run/wire.py", source)
    assert version(host).endswith(form(host))


def test_doctor_finds_all_that_is_needed(host: Container) -> None:
    done = host.status("deckwire", "doctor", seconds=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "missing" not in done.stdout


@needs_corpus
def test_replay_emits_the_events_of_this_checkout(host: Container) -> None:
    """Here its sources run."""
    servers = {stream["dst"] for name in CAPTURES for stream in expected(name)["streams"]}
    options = ["replay", "--dedup-ttl", "0", "--sensor", "host"]
    options += [word for address in sorted(servers) for word in ("--decky", address)]
    here = subprocess.run(
        [
            *(sys.executable, "-m", "deckwire", *options),
            *(str(CORPUS / "pcap" / name) for name in CAPTURES),
        ],
        env=os.environ | {compiled.PURE: "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    there = host.status(
        *("deckwire", *options, *(f"/run/corpus/pcap/{name}" for name in CAPTURES)),
        seconds=LONG_S,
    )
    assert (there.returncode, emitted(there.stdout)) == (0, emitted(here.stdout))
    assert here.stdout.count("\n") > 1_000


def emitted(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if " - capture_stats [" not in line]


def test_the_demo_shows_every_attack(host: Container) -> None:
    # The lab sets kernel settings of its own network namespaces.
    script = "mount -o remount,bind,rw /proc/sys && exec deckwire demo"
    done = host.status("unshare", "--mount", "sh", "-c", script, seconds=LONG_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Scanners recognised by their SYNs alone: nmap." in done.stdout
    assert "Lost: 0." in done.stdout


def test_removal_stops_it_and_keeps_settings_and_logs(host: Container) -> None:
    host.run("apt-get", "-y", "remove", "deckwire", seconds=LONG_S)
    assert host.status("pgrep", "-u", "deckwire").returncode == 1
    assert "deckwire" not in host.run("tc", "filter", "show", "dev", "parent0", "ingress")
    assert host.status("test", "-e", "/usr/bin/deckwire").returncode == 1
    for kept in (CONFIG, LOG):
        host.run("test", "-s", kept)


def test_a_purge_leaves_the_user_alone(host: Container) -> None:
    host.run("apt-get", "-y", "purge", "deckwire", seconds=LONG_S)
    assert files(host) == []
    host.run("getent", "passwd", "deckwire")


def test_check_config_finds_that_the_interface_alone_is_missing(host: Container) -> None:
    """Before the first start of what was just installed."""
    install(host, "new.deb")
    done = host.status("deckwire", "check-config")
    (line,) = done.stderr.splitlines()
    assert (done.returncode, "interface" in line) == (2, True)
    host.run("apt-get", "-y", "purge", "deckwire", seconds=LONG_S)


def test_the_wheel_works_with_the_packages_of_the_system(host: Container) -> None:
    apt = "DEBIAN_FRONTEND=noninteractive apt-get -y install python3-venv"
    host.run("sh", "-c", apt, seconds=LONG_S)
    host.run("python3", "-m", "venv", "--system-site-packages", "/opt/wheel", seconds=SECONDS)
    host.run(
        *("/opt/wheel/bin/pip", "install", "--no-index", f"/run/debs/{WHEEL.name}"),
        seconds=SECONDS,
    )
    assert "deckwire" in host.run("/opt/wheel/bin/deckwire", "--version")
    done = host.status("/opt/wheel/bin/deckwire", "doctor", seconds=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr

"""`deckwire discover` on a lab: named and anonymous namespaces, IPv4 and IPv6."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from deckwire.deckies import parse_deckies
from deckwire.kernel import macvlan_addresses
from deckwire.lab import Lab
from deckwire.lab.namespaces import PATIENCE_SECONDS, wait_until
from deckwire.lab.network import HOST_INTERFACE, PARENT

pytestmark = pytest.mark.root

DISCOVER = (sys.executable, "-P", "-m", "deckwire", "discover")


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Its host has a macvlan too, which is no decky."""
    with Lab(host_macvlan=True) as made:
        yield made


@contextmanager
def anonymous(lab: Lab) -> Iterator[int]:
    """A process in a network namespace without a name: its id."""
    process = lab.popen(
        None, ["unshare", "--net", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def add_macvlan(lab: Lab, process: int, *addresses: str) -> None:
    """Make one on the lab's parent in the namespace of a process."""
    argv = ["ip", "-n", lab.host.netns, "link", "add", "link", PARENT, "name", "dw9"]
    subprocess.run([*argv, "netns", str(process), "type", "macvlan", "mode", "bridge"], check=True)
    for words in (
        *(("addr", "add", one, "dev", "dw9", "nodad") for one in addresses if ":" in one),
        *(("addr", "add", one, "dev", "dw9") for one in addresses if ":" not in one),
        ("link", "set", "dw9", "up"),
    ):
        subprocess.run(["nsenter", "-t", str(process), "-n", "ip", *words], check=True)


def link_local(argv: list[str], interface: str) -> str:
    argv = [*argv, "ip", "-6", "-o", "addr", "show", "dev", interface, "scope", "link"]
    words = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    return words[3].split("/")[0]


def expected(lab: Lab) -> dict[str, str]:
    """The addresses of the lab's deckies."""
    found = {}
    for decky in lab.deckies:
        own = link_local(["ip", "netns", "exec", decky.netns], decky.interface)
        found |= dict.fromkeys((*decky.ipv4, *decky.ipv6, own), decky.netns)
    return found


def of_lab(lab: Lab, *options: object) -> list[str]:
    return [*DISCOVER, "-i", PARENT, "--netns", lab.host.netns, *map(str, options)]


def printed(lab: Lab) -> dict[str, str]:
    done = subprocess.run(of_lab(lab), capture_output=True, check=True)
    assert len(parse_deckies(done.stdout, "f")) == done.stdout.count(b":\x20")
    found: dict[str, str] = json.loads(done.stdout)
    assert done.stderr == b""
    return found


def test_all_addresses_of_named_and_anonymous_namespaces_are_found(lab: Lab) -> None:
    named = expected(lab)
    wait_until(lambda: printed(lab) == named, "the named ones are found")
    with anonymous(lab) as process:
        add_macvlan(lab, process, "198.18.1.77/16", "2001:db8:18::77/64")
        own = link_local(["nsenter", "-t", str(process), "-n"], "dw9")
        inode = os.stat(f"/proc/{process}/ns/net").st_ino
        one = dict.fromkeys(("198.18.1.77", "2001:db8:18::77", own), f"netns-{inode}")
        found = printed(lab)
        assert found == named | one
        keys = [ip_address(address) for address in found]
        assert len(keys) == len(set(keys))
    # A macvlan stands for its parent.
    argv = [*DISCOVER, "-i", HOST_INTERFACE, "--netns", lab.host.netns]
    done = subprocess.run(argv, capture_output=True, check=True)
    assert json.loads(done.stdout) == named


def test_the_file_follows_changes_and_is_replaced_as_a_whole(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "deckies.json"
    process = lab.popen(None, of_lab(lab, "-o", path), stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("deckwire: ready: ")
        named = expected(lab)
        wait_until(lambda: json.loads(path.read_text()) == named, "the file has them")
        before = path.stat()
        with anonymous(lab) as other:
            add_macvlan(lab, other, "198.18.1.77/16")
            wait_until(lambda: "198.18.1.77" in path.read_text(), "the file has the new one")
            after = path.stat()
            assert after.st_ino != before.st_ino
            assert after.st_mode & 0o777 == 0o644
        wait_until(lambda: json.loads(path.read_text()) == named, "it is gone again")
        # A file that somebody removes comes back.
        path.unlink()
        wait_until(path.exists, "the file is made again")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stderr.read() == ""
    assert [entry.name for entry in tmp_path.iterdir()] == ["deckies.json"]


def test_without_ptrace_only_named_namespaces_are_found_and_a_line_says_so(lab: Lab) -> None:
    argv = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-all", *of_lab(lab)]
    with anonymous(lab) as process:
        add_macvlan(lab, process, "198.18.1.77/16")
        named = expected(lab)
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)) == (2, named)
    assert done.stderr.startswith("deckwire: not all network namespaces were searched (")
    assert done.stderr.endswith("RestrictNamespaces=net\n")
    assert done.stderr.count("\n") == 1


def test_a_missing_interface_leaves_a_file_for_the_agent(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "deckies.json"
    argv = [*DISCOVER, "-i", "absent0", "--netns", lab.host.netns]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("deckwire: no interface absent0 in this network namespace")
    process = lab.popen(None, [*argv, "-o", path], stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stderr is not None
        assert "no interface absent0" in process.stderr.readline()
        assert path.read_text() == "{}\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "no interface: nothing to find"),
        (["-i", PARENT, "--netns", "absent"], "no network namespace absent"),
        (["-i", PARENT, "-c", "/absent"], "/absent: No such file"),
        (["-i", "lo", "-o", "/absent/file"], "/absent/file: No such file or directory; make"),
        (["-i", "lo", "-o", "/usr"], "/usr: Is a directory; name a file"),
    ],
)
def test_what_cannot_be_done_costs_one_line(options: list[str], line: str) -> None:
    done = subprocess.run([*DISCOVER, *options], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"deckwire: {line}")


def test_the_configuration_file_names_the_interface(lab: Lab, tmp_path: Path) -> None:
    config = tmp_path / "deckwire.toml"
    config.write_text(f'interface = "{PARENT}"\nnetns = "{lab.host.netns}"\n')
    done = subprocess.run([*DISCOVER, "-c", config], capture_output=True, check=True)
    wait_until(lambda: printed(lab) == expected(lab), "they are found")
    assert set(json.loads(done.stdout)) >= {decky.v4 for decky in lab.deckies}


CONTAINER = "4f1c0e" + "0" * 57 + "b"


@pytest.mark.parametrize(
    ("groups", "name"),
    [
        (f"0::/system.slice/docker-{CONTAINER}.scope\n", CONTAINER[:12]),
        (f"12:cpu:/docker/{CONTAINER}\n0::/\n", CONTAINER[:12]),
        (f"0::/kubepods/pod1/{'a' * 64}/cri-containerd-{CONTAINER}.scope\n", CONTAINER[:12]),
        (f"0::/machine.slice/libpod-{CONTAINER}.scope/container\n", CONTAINER[:12]),
        ("0::/user.slice/user-0.slice\n", None),
        (f"0::/{'a' * 65}\n", None),
        ("", None),
        (None, None),
    ],
)
def test_a_container_is_named_by_its_control_group(
    tmp_path: Path, groups: str | None, name: str | None
) -> None:
    path = tmp_path / "cgroup"
    if groups is not None:
        path.write_text(groups)
    assert macvlan_addresses._container(str(path)) == name

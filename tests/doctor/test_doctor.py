"""The doctor's lines and exit status, on this host and with privileges or software removed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import deckwire
from deckwire.doctor import host, software
from deckwire.doctor.finding import Finding
from deckwire.doctor.interface import examine_interface
from deckwire.doctor.netdev import xdp_features
from deckwire.kernel import rtnetlink
from deckwire.lab import Lab
from deckwire.loader.kept_objects import any_kept

DOCTOR = [sys.executable, "-m", "deckwire", "doctor"]
LINE = re.compile(r"(ok|missing|note) +([a-z_]+) +(.+)")


@pytest.fixture(autouse=True)
def _needs_root(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("root") and os.geteuid():
        pytest.skip("needs root")


def doctor(*options: str, prefix: list[str] | None = None) -> tuple[int, dict[str, str], str]:
    """Exit status, state by subject, and all that was printed."""
    done = subprocess.run(
        [*(prefix or []), *DOCTOR, *options], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    if done.returncode:
        assert lines.pop().startswith("deckwire run cannot work here: ")
    matches = [LINE.fullmatch(line) for line in lines]
    assert all(matches), done.stdout
    states = {match[2]: match[1] for match in matches if match}
    return done.returncode, states, done.stdout


@pytest.mark.root
def test_nothing_is_missing_for_root_and_the_columns_are_aligned() -> None:
    status, states, text = doctor()
    assert status == 0
    assert "missing" not in states.values()
    expected = {"kernel", "machine", "jit", "btf", "clock", "cap_net_admin", "cap_perfmon"}
    expected |= {"cap_bpf", "cap_sys_admin", "memlock", "perf", "python", "package", "bcc"}
    assert states.keys() == expected | {"modules", "headers", "trial", "tcx", "seccomp"}
    way = "loaded, as kept at the installation," if any_kept() else "compiled and loaded"
    assert re.search(rf"^ok +trial +the programs were {way} in \d+ ms$", text, re.M)
    starts = {re.match(r"\S+ +\S+ +", line).end() for line in text.splitlines()}  # type: ignore[union-attr]
    assert starts == {22}


def test_without_privileges_it_names_what_is_missing() -> None:
    prefix = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    status, states, text = doctor(prefix=prefix)
    assert status == 1
    for subject in ("cap_net_admin", "cap_perfmon", "cap_bpf", "trial"):
        assert states[subject] == "missing"
    assert states["kernel"] == states["bcc"] == "ok"
    assert states["cap_sys_admin"] == "note"
    assert text.splitlines()[-1].endswith("cap_net_admin, cap_perfmon, cap_bpf, trial")


@pytest.mark.root
def test_a_missing_capability_is_named() -> None:
    prefix = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-all"]
    status, states, text = doctor(prefix=prefix)
    assert status == 1
    missing = {subject for subject, state in states.items() if state == "missing"}
    assert missing == {"cap_net_admin", "trial"}
    assert "CAP_NET_ADMIN missing" in text


@pytest.mark.root
def test_bpf_and_perfmon_do_without_sys_admin_but_netns_does_not() -> None:
    prefix = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all"]
    status, states, _ = doctor(prefix=prefix)
    assert (status, states["cap_sys_admin"], states["trial"]) == (0, "note", "ok")
    status, states, _ = doctor("--netns", "anything", prefix=prefix)
    assert (status, states["cap_sys_admin"]) == (1, "missing")


@pytest.mark.root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_the_capabilities_of_a_user_namespace_do_not_count() -> None:
    prefix = ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    status, states, _ = doctor(prefix=prefix)
    assert status == 1
    assert states["userns"] == states["trial"] == "missing"
    assert states["cap_bpf"] == "ok"


@pytest.mark.root
def test_a_python_without_bcc_is_reported(tmp_path: Path) -> None:
    (tmp_path / "bcc.py").write_text("raise ImportError('No module named bcc, as it were')\n")
    package = tmp_path / "deckwire"
    shutil.copytree(Path(deckwire.__file__).parent, package)
    prefix = ["env", f"PYTHONPATH={tmp_path}"]
    if any_kept():
        status, states, text = doctor(prefix=prefix)
        assert (status, states["bcc"], states["trial"]) == (0, "note", "ok")
        shutil.rmtree(package / "objects")
    status, states, text = doctor(prefix=prefix)
    assert status == 1
    assert states["bcc"] == states["trial"] == "missing"
    assert "as it were" in text
    assert "python3-bpfcc" in text


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(deckies=["one"], host_macvlan=True) as made:
        yield made


def facts(name: str, lab: Lab, netns: str | None = None) -> dict[str, Finding]:
    found = examine_interface(name, netns or lab.host.netns)
    return {finding.subject: finding for finding in found}


@pytest.mark.root
def test_a_macvlan_is_followed_to_its_parent(lab: Lab) -> None:
    found = facts("host0", lab)
    assert found["interface"].state == "ok"
    assert found["interface"].text == (
        "host0 is a macvlan in bridge mode; its parent parent0 is watched, a veth, "
        "parent of host0, eth0"
    )
    assert found["link"] == Finding("ok", "link", "parent0 is up")
    assert "parent0" in found["xdp"].text
    assert "agent" not in found


@pytest.mark.root
def test_the_macvlans_of_a_parent_are_listed(lab: Lab) -> None:
    assert facts("parent0", lab)["interface"].text == "parent0 is a veth, parent of host0, eth0"
    here = facts("client0", lab, lab.client.netns)["interface"]
    assert here.text == "client0 is a veth, without a macvlan"


@pytest.mark.root
def test_macvlans_in_other_namespaces_are_searched_for(lab: Lab) -> None:
    found = facts("parent0", lab)["namespaces"]
    assert found.state == "ok"
    # One of the host itself, one of a decky.
    assert found.text.endswith(" searched, 2 macvlans on parent0, none in VEPA mode")


@pytest.mark.root
def test_namespaces_that_cannot_be_searched_are_noted(lab: Lab) -> None:
    """Without CAP_SYS_PTRACE that is a container whose namespace has no name."""
    wait = ["unshare", "--net", "sh", "-c", "echo; exec sleep 600"]
    with subprocess.Popen(wait, stdout=subprocess.PIPE) as nameless:
        assert nameless.stdout is not None
        nameless.stdout.readline()
        prefix = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-all"]
        try:
            status, states, text = doctor("-i", "parent0", "--netns", lab.host.netns, prefix=prefix)
        finally:
            nameless.kill()
    assert (status, states["namespaces"]) == (0, "note")
    assert re.search(r"\(\d+ could not be opened, the first: /proc/\d+/ns/net: Permission", text)
    assert "grant CAP_SYS_ADMIN and CAP_SYS_PTRACE" in text


@pytest.mark.root
def test_a_link_that_is_down_is_noted_and_left_as_it_is(lab: Lab) -> None:
    lab.run(lab.client, ["ip", "link", "add", "dummy0", "type", "veth"])
    try:
        before = lab.run(lab.client, ["ip", "-d", "link", "show", "dummy0"]).stdout
        status, states, text = doctor("-i", "dummy0", "--netns", lab.client.netns)
        assert (status, states["interface"], states["link"]) == (0, "ok", "note")
        assert "ip link set dummy0 up" in text
        assert lab.run(lab.client, ["ip", "-d", "link", "show", "dummy0"]).stdout == before
    finally:
        lab.run(lab.client, ["ip", "link", "del", "dummy0"])


@pytest.mark.root
def test_the_kernel_reports_the_xdp_features_of_a_driver(lab: Lab) -> None:
    with lab.host.inside(), rtnetlink.open_socket() as channel:
        indexes = {entry.name: entry.ifindex for entry in rtnetlink.list_interfaces(channel)}
        features = {name: xdp_features(index) for name, index in indexes.items()}
        assert xdp_features(0x7FFF_FFFF) is None
    if host.kernel_version() < (6, 3):
        assert set(features.values()) == {None}
    else:
        assert features["parent0"]
        assert features["host0"] == 0


def test_an_older_kernel_and_another_machine_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    old = os.uname_result(("Linux", "n", "5.9.16-amd64", "v", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: old)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    found = {finding.subject: finding.state for finding in host.examine_kernel()}
    assert found["kernel"] == found["machine"] == "missing"


def test_missing_packages_are_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = ["no-such-package>=3", 'only-for-tests>=1; extra == "dev"']
    monkeypatch.setattr(software, "requires", lambda _: wanted)
    missing = [finding for finding in software.examine_software() if finding.state == "missing"]
    assert [finding.text for finding in missing] == ["no-such-package"]
    assert missing[0].advice.endswith("pip install 'no-such-package>=3'")


def test_the_doctor_itself_imports_nothing_heavy() -> None:
    program = (
        "import sys, deckwire.doctor\n"
        "print([name for name in ('bcc', 'pyroute2', 'cryptography') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.root
def test_addresses_of_a_decky_that_the_registry_lacks_are_noted(lab: Lab) -> None:
    """Those of interfaces without an address in the registry are no decky's."""
    decky = lab.deckies[0]
    where = ("-i", "parent0", "--netns", lab.host.netns)
    addresses = {
        word.split("/")[0]
        for word in lab.run(decky, ["ip", "-o", "addr", "show", "dev", "eth0"]).stdout.split()
        if "/" in word
    }
    assert {decky.v4, decky.v6} < addresses, "and a link-local one"
    _, states, text = doctor(*where, "--decky", f"{decky.v4}=web")
    assert states["addresses"] == "note"
    (line,) = (line for line in text.splitlines() if " addresses " in line)
    for address in addresses - {decky.v4}:
        assert f"{address} of web" in line
    assert lab.host.v4 not in line

    every = [word for address in addresses for word in ("--decky", f"{address}=web")]
    assert doctor(*where, *every)[1]["addresses"] == "ok"
    assert doctor(*where, "--decky", "203.0.113.77")[1]["addresses"] == "note"
    assert "addresses" not in doctor(*where)[1]


@pytest.mark.root
def test_deckies_of_a_file_are_examined_and_errors_are_one_line(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "deckies"
    file.write_text(f"{lab.deckies[0].v6} web\n")
    where = ("-i", "parent0", "--netns", lab.host.netns)
    _, states, text = doctor(*where, "--deckies", str(file))
    assert states["addresses"] == "note"
    assert f"{lab.deckies[0].v4} of web" in text
    for wrong in (
        (*where, "--decky", "x=y"),
        (*where, "--deckies", str(tmp_path / "none")),
        ("--decky", "192.0.2.1"),
    ):
        done = subprocess.run([*DOCTOR, *wrong], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1

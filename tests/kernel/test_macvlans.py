"""The search for macvlans in all network namespaces, with and without leave to look at them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from deckwire.kernel import macvlans
from deckwire.kernel.macvlans import Search
from deckwire.kernel.rtnetlink import MACVLAN_MODE_VEPA
from tests.support.kernel_namespaces import Namespace, ip

pytestmark = pytest.mark.root

WITHOUT_PTRACE = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-all")
WITHOUT_ADMIN = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all")
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

SEARCH = """
import json, sys
from deckwire.kernel import macvlans
from deckwire.kernel.syscalls import enter_network_namespace
namespace, parent, *directories = sys.argv[1:]
if directories:
    macvlans.NAMESPACE_DIRECTORIES = tuple(directories)
if namespace:
    with open(f"/run/netns/{namespace}", "rb") as file:
        enter_network_namespace(file.fileno())
search = macvlans.Search((int(parent),))
print(json.dumps({"found": [e.name for e in search.found], "searched": search.searched,
                  "closed": list(search._closed.values()), "gaps": search.gaps}))
"""


def search(
    prefix: Sequence[str], netns: str = "", parent: int = 1, *directories: str | Path
) -> dict[str, Any]:
    """A Search by a process with these privileges, for children of an interface in `netns`."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", SEARCH, netns, str(parent), *map(str, directories)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def anonymous_namespace() -> Iterator[int]:
    """A process in a network namespace that has no name: its id."""
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def add_macvlan(namespace: Namespace, name: str, to: str) -> None:
    """One in VEPA mode on dw0, moved into another namespace."""
    namespace.ip("link", "add", name, "link", "dw0", "type", "macvlan", "mode", "vepa")
    namespace.ip("link", "set", name, "netns", to)


def test_macvlans_are_found_in_named_and_nameless_namespaces(namespace: Namespace) -> None:
    parent = namespace.ifindex()
    with anonymous_namespace() as process:
        add_macvlan(namespace, "here0", namespace.name)
        add_macvlan(namespace, "named0", namespace.peer)
        add_macvlan(namespace, "deck0", str(process))
        made = namespace.run(lambda: Search((parent,)))
        assert sorted(entry.name for entry in made.found) == ["deck0", "here0", "named0"]
        assert {entry.macvlan_mode for entry in made.found} == {MACVLAN_MODE_VEPA}
        assert {entry.parent for entry in made.found} == {parent}
        assert made.gaps is None
        assert made.searched >= 3
        # It comes back.
        where = os.stat("/proc/thread-self/ns/net").st_ino
        Search((parent,))
        assert os.stat("/proc/thread-self/ns/net").st_ino == where


def test_processes_that_may_not_be_looked_at_are_told(namespace: Namespace) -> None:
    """Without CAP_SYS_PTRACE the namespaces of containers stay closed, if they have no name."""
    parent = namespace.ifindex()
    with anonymous_namespace() as process:
        add_macvlan(namespace, "named0", namespace.peer)
        add_macvlan(namespace, "deck0", str(process))
        found = search(WITHOUT_PTRACE, namespace.name, parent)
    assert found["found"] == ["named0"]
    assert f"/proc/{process}/ns/net: Permission denied" in found["closed"]
    first = f"({len(found['closed'])} could not be opened, the first: {found['closed'][0]}): VEPA"
    assert first in found["gaps"]


def test_namespaces_that_may_not_be_entered_are_told(namespace: Namespace) -> None:
    directory = Path("/run/netns")
    found = search(WITHOUT_ADMIN, "", 1, directory)
    assert found["searched"] == 1
    for name in (namespace.name, namespace.peer):
        assert f"{directory}/{name}: setns: Operation not permitted" in found["closed"]
    assert f"({len(found['closed'])} could not be opened, the first: " in found["gaps"]


def test_a_directory_that_may_not_be_read_is_told() -> None:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        closed = Path(folder) / "netns"
        closed.mkdir(mode=0o700)
        found = search(NOBODY, "", 1, closed)
    assert f"the first: {closed}: Permission denied" in found["gaps"]


def test_what_has_ended_or_is_looked_at_by_another_way_is_no_gap(tmp_path: Path) -> None:
    """Nor is a file that stands where namespaces are mounted."""
    (tmp_path / "left-behind").touch()
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # and stays a zombie
        assert search((), "", 1, tmp_path)["gaps"] is None
    named = Path("/run/netns")
    with anonymous_namespace() as process:
        here = search(WITHOUT_PTRACE, "", 1, tmp_path)
        ip("netns", "attach", f"dwname{process}", str(process))
        try:
            there = search(WITHOUT_PTRACE, "", 1, named)
        finally:
            ip("netns", "del", f"dwname{process}")
    closed = f"/proc/{process}/ns/net: Permission denied"
    assert closed in here["closed"]
    assert closed not in there["closed"]


def test_processes_that_proc_hides_are_told() -> None:
    """As under ProtectProc=invisible and noaccess of systemd."""
    for hidepid, gap in ("invisible", "(/proc suppresses "), ("noaccess", "/ns/net: Operation not"):
        mount = f'mount -t proc -o hidepid={hidepid} proc /proc && exec "$@"'
        prefix = ["unshare", "--mount", "sh", "-c", mount, "sh", *NOBODY]
        gaps = search(prefix, "", 1, "/nowhere")["gaps"]
        assert gap in gaps


def test_namespaces_beyond_the_bound_are_told(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(macvlans, "NETWORK_NAMESPACES", 2)
    made = namespace.run(lambda: Search((1,)))
    assert made.searched == 2
    assert made.gaps is not None
    assert "there are more than 2): " in made.gaps

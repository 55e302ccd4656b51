"""The search for macvlans in all network namespaces, with and without the privileges for it."""

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
from deckwire.kernel import macvlans, namespaces
namespace, parent, *directories = sys.argv[1:]
if directories:
    macvlans.NAMESPACE_DIRECTORIES = tuple(directories)
if namespace:
    with open(f"/run/netns/{namespace}", "rb") as file:
        namespaces.enter(file.fileno())
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
    """Makes one in VEPA mode on dw0 and moves it into another namespace."""
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
        # The thread comes back to its namespace.
        where = os.stat("/proc/thread-self/ns/net").st_ino
        Search((parent,))
        assert os.stat("/proc/thread-self/ns/net").st_ino == where


def test_processes_without_permission_are_reported_as_gaps(namespace: Namespace) -> None:
    """Without CAP_SYS_PTRACE, namespaces of containers cannot be opened if they have no name."""
    parent = namespace.ifindex()
    with anonymous_namespace() as process:
        add_macvlan(namespace, "named0", namespace.peer)
        add_macvlan(namespace, "deck0", str(process))
        found = search(WITHOUT_PTRACE, namespace.name, parent)
    assert found["found"] == ["named0"]
    assert f"/proc/{process}/ns/net: Permission denied" in found["closed"]
    first = f"({len(found['closed'])} could not be opened, the first: {found['closed'][0]}): VEPA"
    assert first in found["gaps"]


def test_namespaces_without_permission_are_reported_as_gaps(namespace: Namespace) -> None:
    directory = Path("/run/netns")
    found = search(WITHOUT_ADMIN, "", 1, directory)
    assert found["searched"] == 1
    for name in (namespace.name, namespace.peer):
        assert f"{directory}/{name}: setns: Operation not permitted" in found["closed"]
    assert f"({len(found['closed'])} could not be opened, the first: " in found["gaps"]


def test_an_unreadable_directory_is_reported_as_a_gap() -> None:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        closed = Path(folder) / "netns"
        closed.mkdir(mode=0o700)
        found = search(NOBODY, "", 1, closed)
    assert f"the first: {closed}: Permission denied" in found["gaps"]


def test_an_ended_process_and_a_namespace_reached_by_name_are_no_gaps(tmp_path: Path) -> None:
    """A file in the directory of namespaces that is none is no gap either."""
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


def test_processes_invisible_in_proc_are_reported_as_gaps() -> None:
    """As under ProtectProc=invisible and noaccess of systemd."""
    for hidepid, gap in (
        ("invisible", "(/proc does not show "),
        ("noaccess", "/ns/net: Operation not"),
    ):
        mount = f'mount -t proc -o hidepid={hidepid} proc /proc && exec "$@"'
        prefix = ["unshare", "--mount", "sh", "-c", mount, "sh", *NOBODY]
        gaps = search(prefix, "", 1, "/nowhere")["gaps"]
        assert gap in gaps


def test_namespaces_beyond_the_bound_are_reported_as_gaps(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(macvlans, "NETWORK_NAMESPACES", 2)
    made = namespace.run(lambda: Search((1,)))
    assert made.searched == 2
    assert made.gaps is not None
    assert "there are more than 2): " in made.gaps

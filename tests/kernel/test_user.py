from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deckwire.kernel.user import User

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that every user can enter: pytest's own are closed."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def run(script: str, *argv: str | Path) -> Any:
    head = "import json, os, sys, threading\nfrom deckwire.kernel.user import User\n"
    done = subprocess.run(
        [sys.executable, "-c", head + script, *argv], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def test_a_user_has_its_main_group() -> None:
    assert User.named("nobody") == User("nobody", NOBODY.pw_uid, NOBODY.pw_gid)


@pytest.mark.parametrize("name", ["dw-none", "", "a\0b", "\udcff"])
def test_a_user_that_does_not_exist_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="this host has no user ") as caught:
        User.named(name)
    assert str(caught.value).isascii()


def test_root_is_no_user_to_become() -> None:
    with pytest.raises(ValueError, match="has the user id of root; name another"):
        User.named("root")


@as_root
def test_files_are_opened_and_made_with_the_rights_of_the_user(folder: Path) -> None:
    closed, open_to_all = folder / "closed", folder / "open"
    closed.write_text("x")
    closed.chmod(0o600)
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    script = """
folder = sys.argv[1]
ids = os.getresuid(), os.getresgid(), os.getgroups()
with User.named("nobody").acting():
    try:
        open(folder + "/closed")
        opened = True
    except PermissionError:
        opened = False
    open(folder + "/open/new", "w").close()
made = os.stat(folder + "/open/new")
same = ids == (os.getresuid(), os.getresgid(), os.getgroups())
open(folder + "/closed").close()
print(json.dumps([opened, made.st_uid, made.st_gid, same]))
"""
    assert run(script, folder) == [False, NOBODY.pw_uid, NOBODY.pw_gid, True]


@as_root
def test_the_whole_process_becomes_the_user_for_ever() -> None:
    script = """
go, gone = threading.Event(), threading.Event()
ids = []
def other():
    go.wait()
    ids.append((os.getresuid(), os.getresgid(), os.getgroups()))
thread = threading.Thread(target=other)
thread.start()
User.named("nobody").become()
go.set()
thread.join()
ids.append((os.getresuid(), os.getresgid(), os.getgroups()))
# It is this user now, so nothing is left to do.
User.named("nobody").need_reachable()
User.named("nobody").become()
with User.named("nobody").acting():
    pass
try:
    os.setresuid(0, 0, 0)
    ids.append("root again")
except PermissionError:
    pass
print(json.dumps(ids))
"""
    script = "from deckwire.kernel.capabilities import give_up\n" + script.replace(
        "become()\ngo.set()", "become()\ngive_up()\ngo.set()"
    )
    expected = [[NOBODY.pw_uid] * 3, [NOBODY.pw_gid] * 3, [NOBODY.pw_gid]]
    assert run(script) == [expected, expected]


@as_root
def test_the_calling_thread_can_keep_capabilities() -> None:
    script = """
from deckwire.kernel.capabilities import Capability, give_up, held
User.named("nobody").become()
give_up([Capability.CAP_BPF])
print(json.dumps([os.getuid(), *held()]))
"""
    assert run(script) == [NOBODY.pw_uid, 39]


@as_root
def test_only_root_can_become_another_user() -> None:
    script = """
os.setresuid(1, 1, 1)
try:
    User.named("nobody").need_reachable()
    print(json.dumps(""))
except ValueError as error:
    print(json.dumps(str(error)))
"""
    assert run(script).startswith("user nobody: only root can become another user; start Deckwire")

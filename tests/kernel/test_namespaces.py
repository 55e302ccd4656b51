from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deckwire.kernel import namespaces
from tests.support.kernel_namespaces import Namespace

pytestmark = pytest.mark.root


def current() -> int:
    return os.stat(namespaces.OWN).st_ino


def test_a_slash_distinguishes_a_path_from_a_name() -> None:
    assert namespaces.path_of("decoys") == "/run/netns/decoys"
    assert namespaces.path_of("/proc/1/ns/net") == "/proc/1/ns/net"


def test_a_block_is_in_the_namespace_and_the_thread_comes_back(namespace: Namespace) -> None:
    before = current()
    for netns in (namespace.name, f"/run/netns/{namespace.name}"):
        with namespaces.inside(netns):
            assert current() == os.stat(f"/run/netns/{namespace.name}").st_ino
            assert {name for _, name in socket.if_nameindex()} == {"lo", "dw0"}
        assert current() == before


def test_the_thread_comes_back_after_an_exception(namespace: Namespace) -> None:
    before = current()
    with pytest.raises(ZeroDivisionError), namespaces.inside(namespace.name):
        raise ZeroDivisionError
    assert current() == before


def test_a_namespace_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(FileNotFoundError), namespaces.inside("dwkern-none"):
        pytest.fail("there is none")


def test_a_file_that_is_no_namespace_is_an_error(tmp_path: Path) -> None:
    before = current()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="setns: Invalid"), namespaces.inside(f"{tmp_path}/file"):
        pytest.fail("it is none")
    assert current() == before


def test_without_cap_sys_admin_entering_is_an_error(namespace: Namespace) -> None:
    script = (
        "import sys\n"
        "from deckwire.kernel import namespaces\n"
        "try:\n"
        "    with namespaces.inside(sys.argv[1]): pass\n"
        "except PermissionError as error: print(error.strerror)\n"
    )
    prefix = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all"]
    done = subprocess.run(
        [*prefix, sys.executable, "-c", script, namespace.name],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "setns: Operation not permitted\n"

from __future__ import annotations

import os
import socket

import pytest

from deckwire.kernel import namespaces
from deckwire.kernel.namespace_thread import NamespaceThread
from tests.support.kernel_namespaces import Namespace

pytestmark = pytest.mark.root


def names() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def test_it_stays_in_the_namespace_and_the_caller_does_not(namespace: Namespace) -> None:
    before = os.stat(namespaces.OWN).st_ino
    thread = NamespaceThread(namespace.name)
    assert thread.run(names) == {"lo", "dw0"}
    namespace.ip("link", "set", "dw0", "name", "dw9")
    assert thread.run(names) == {"lo", "dw9"}
    assert os.stat(namespaces.OWN).st_ino == before


def test_what_a_function_raises_is_raised_in_the_caller(namespace: Namespace) -> None:
    thread = NamespaceThread(namespace.name)
    with pytest.raises(ZeroDivisionError):
        thread.run(lambda: 1 // 0)
    assert thread.run(names) == {"lo", "dw0"}


def test_a_namespace_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        NamespaceThread("dwkern-none")

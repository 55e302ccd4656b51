from __future__ import annotations

import select
import socket
import subprocess
from collections.abc import Iterator

import pytest

from deckwire.kernel import rtnetlink
from deckwire.kernel.link_watch import LinkChange, LinkOverrunError, LinkWatch
from deckwire.lab.namespaces import PATIENCE_SECONDS
from tests.support.kernel_namespaces import Namespace

pytestmark = pytest.mark.root


@pytest.fixture
def watch(namespace: Namespace) -> Iterator[LinkWatch]:
    channel = namespace.run(lambda: rtnetlink.open_socket(rtnetlink.RTMGRP_LINK))
    made = LinkWatch(channel.detach())
    yield made
    made.close()


def test_without_changes_nothing_is_read(watch: LinkWatch) -> None:
    assert watch.read() == []


def test_an_interface_that_goes_and_comes_back_is_reported(
    watch: LinkWatch, namespace: Namespace
) -> None:
    old = namespace.ifindex()
    namespace.ip("link", "del", "dw0")
    assert select.select([watch], [], [], PATIENCE_SECONDS)[0] == [watch]
    assert watch.read()[-1] == LinkChange(old, "dw0", False)
    namespace.add_veth()
    new = namespace.ifindex()
    assert new != old
    assert set(watch.read()) == {LinkChange(new, "dw0", True)}


def test_a_new_name_is_reported(watch: LinkWatch, namespace: Namespace) -> None:
    namespace.ip("link", "set", "dw0", "down")
    namespace.ip("link", "set", "dw0", "name", "other")
    assert watch.read()[-1] == LinkChange(namespace.ifindex("other"), "other", True)


def test_a_port_that_leaves_its_bridge_is_not_gone(watch: LinkWatch, namespace: Namespace) -> None:
    try:
        namespace.ip("link", "add", "br0", "type", "bridge")
    except subprocess.CalledProcessError:
        pytest.skip("no bridges in this kernel")
    namespace.ip("link", "set", "dw0", "master", "br0")
    namespace.ip("link", "set", "dw0", "nomaster")
    assert all(change.present for change in watch.read())


def test_a_snapshot_has_all_interfaces(watch: LinkWatch, namespace: Namespace) -> None:
    namespace.ip("link", "del", "dw0")
    namespace.add_veth()
    new = namespace.ifindex()
    assert watch.snapshot() == {1: "lo", new: "dw0"}
    # The kernel may report the carrier of the new interface later.
    assert set(watch.read()) <= {LinkChange(new, "dw0", True)}


def test_lost_messages_raise_and_a_snapshot_recovers(
    watch: LinkWatch, namespace: Namespace
) -> None:
    with socket.socket(fileno=socket.dup(watch.fileno())) as channel:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        for n in range(20):
            namespace.ip("link", "set", "dw0", "mtu", str(1_400 + n))
        with pytest.raises(LinkOverrunError):
            watch.read()
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
    assert watch.snapshot() == {1: "lo", namespace.ifindex(): "dw0"}


def test_a_snapshot_that_changed_meanwhile_is_taken_again(
    watch: LinkWatch, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace.add_pairs(20)
    requests = []
    request = rtnetlink.request_interfaces

    def change_after(channel: socket.socket, sequence: int) -> None:
        request(channel, sequence)
        requests.append(sequence)
        if len(requests) == 1:
            namespace.ip("link", "del", "a0")

    monkeypatch.setattr(rtnetlink, "request_interfaces", change_after)
    names = set(watch.snapshot().values())
    assert len(requests) == 2
    assert {"lo", "dw0", "a19", "b19"} <= names
    assert not {"a0", "b0"} & names

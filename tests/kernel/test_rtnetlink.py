from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from errno import EBUSY
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.kernel import netlink, rtnetlink
from deckwire.kernel.netlink import MalformedError, attribute
from deckwire.kernel.rtnetlink import Interface, parse_interface
from deckwire.limits import NETLINK_DUMPS
from tests.support.kernel_namespaces import Namespace


def link(ifindex: int, *parts: bytes, family: int = 0, flags: int = 1) -> bytes:
    return pack("=BxHiII", family, 1, ifindex, flags, 0) + b"".join(parts)


def test_a_macvlan_has_its_parent_and_mode() -> None:
    data = attribute(2, attribute(1, pack("=I", rtnetlink.MACVLAN_MODE_VEPA)))
    payload = link(
        7,
        attribute(3, b"deck0\0"),
        attribute(5, pack("=i", 2)),
        attribute(37, pack("=i", 4)),
        attribute(18 | 0x8000, attribute(1, b"macvlan\0") + data),
    )
    assert parse_interface(payload) == Interface(7, "deck0", "macvlan", 1, 1, 2, 4, 2)


def test_a_plain_interface_has_neither() -> None:
    payload = link(2, attribute(3, b"eth0\0"))
    assert parse_interface(payload) == Interface(2, "eth0", "", 1, 1, None, None, None)


def test_data_of_another_kind_is_no_macvlan_mode() -> None:
    data = attribute(2, attribute(1, pack("=I", 2)))
    payload = link(7, attribute(18, attribute(1, b"vlan\0") + data))
    interface = parse_interface(payload)
    assert interface is not None
    assert (interface.kind, interface.macvlan_mode) == ("vlan", None)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(link(0), id="no index"),
        pytest.param(link(-3), id="negative index"),
        pytest.param(link(7, family=socket.AF_BRIDGE), id="bridge port"),
    ],
)
def test_a_message_about_no_interface_is_none(payload: bytes) -> None:
    assert parse_interface(payload) is None


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(link(7)[:-1], id="short header"),
        pytest.param(link(7, attribute(5, b"\2\0\0")), id="short parent"),
        pytest.param(link(7, attribute(18, b"\0\1\0")), id="short nest"),
        pytest.param(link(7, pack("=HH", 12, 3) + b"eth0"), id="name beyond the message"),
    ],
)
def test_an_impossible_length_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_interface(payload)


@given(st.binary(max_size=300))
def test_random_bytes_are_parsed_or_malformed(datagram: bytes) -> None:
    with contextlib.suppress(MalformedError):
        for message in netlink.messages(datagram):
            parse_interface(message.payload)
    with contextlib.suppress(MalformedError):
        parse_interface(link(1) + datagram)


def test_the_loopback_is_listed_without_privileges() -> None:
    with rtnetlink.open_socket() as channel:
        found = {entry.name: entry for entry in rtnetlink.list_interfaces(channel)}
    assert found["lo"].ifindex == 1
    assert found["lo"].flags & rtnetlink.IFF_LOOPBACK


def test_an_interface_without_a_qdisc_has_no_filters() -> None:
    with rtnetlink.open_socket() as channel:
        assert rtnetlink.has_filters(channel, 1) is False


PAIRS = 60
"""Pairs of interfaces that fill several datagrams of 32 KB."""


class Interrupted(socket.socket):
    """A netlink socket that changes the interfaces after each datagram, so many times."""

    change: Callable[[], object]
    times = 0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        datagram = super().recv(size, flags)
        if self.times:
            self.times -= 1
            self.change()
        return datagram


@pytest.fixture
def restless(namespace: Namespace) -> Interrupted:
    """Such a socket, in a namespace whose interfaces fill several datagrams."""
    namespace.add_pairs(PAIRS)
    channel = namespace.run(rtnetlink.open_socket)
    made = Interrupted(socket.AF_NETLINK, socket.SOCK_RAW, fileno=channel.detach())
    numbers = iter(range(PAIRS, 10_000))

    def change() -> None:
        number = next(numbers)
        namespace.ip("link", "del", f"a{number - PAIRS}")
        namespace.ip("link", "add", f"a{number}", "type", "veth", "peer", "name", f"b{number}")

    made.change = change
    return made


@pytest.mark.root
def test_a_list_that_changed_meanwhile_is_read_again(restless: Interrupted) -> None:
    restless.times = 1
    with restless:
        names = [interface.name for interface in rtnetlink.list_interfaces(restless)]
    assert restless.times == 0
    assert sorted(names) == sorted(set(names))
    assert {"lo", "dw0", "a1", "b1", f"a{PAIRS}", f"b{PAIRS}"} <= set(names)
    assert "a0" not in names


@pytest.mark.root
def test_a_list_that_changes_each_time_is_an_error(restless: Interrupted) -> None:
    restless.times = 1_000
    with restless, pytest.raises(OSError, match="list of interfaces: it changed") as caught:
        rtnetlink.list_interfaces(restless)
    assert caught.value.errno == EBUSY
    assert 1_000 - restless.times > NETLINK_DUMPS

from __future__ import annotations

import socket
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.kernel import rtnetlink
from deckwire.kernel.rtnetlink import Interface, attributes, messages, parse_interface


def attribute(kind: int, value: bytes) -> bytes:
    return pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def link(ifindex: int, *parts: bytes, family: int = 0, flags: int = 1) -> bytes:
    return pack("=BxHiII", family, 1, ifindex, flags, 0) + b"".join(parts)


def test_a_macvlan_is_told_with_its_parent_and_mode() -> None:
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


def test_another_kinds_data_is_not_a_macvlan_mode() -> None:
    data = attribute(2, attribute(1, pack("=I", 2)))
    payload = link(7, attribute(18, attribute(1, b"vlan\0") + data))
    interface = parse_interface(payload)
    assert interface is not None
    assert (interface.kind, interface.macvlan_mode) == ("vlan", None)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(link(7)[:-1], id="short header"),
        pytest.param(link(0), id="no index"),
        pytest.param(link(-3), id="negative index"),
        pytest.param(link(7, family=socket.AF_BRIDGE), id="bridge port"),
    ],
)
def test_what_tells_of_no_interface_is_none(payload: bytes) -> None:
    assert parse_interface(payload) is None


def test_impossible_lengths_end_the_walk() -> None:
    good = attribute(3, b"eth0\0")
    assert attributes(good + pack("=HH", 3, 1), 0) == {3: b"eth0\0"}
    assert attributes(good + pack("=HH", 400, 1) + bytes(8), 0) == {3: b"eth0\0"}
    message = pack("=IHHII", 16, 16, 0, 9, 0)
    assert list(messages(message + pack("=IHHII", 15, 16, 0, 0, 0))) == [(16, 9, b"")]
    assert list(messages(message + pack("=IHHII", 17, 16, 0, 0, 0))) == [(16, 9, b"")]


def test_attributes_are_bounded() -> None:
    payload = b"".join(attribute(n, b"") for n in range(1, 1_000))
    assert len(attributes(payload, 0)) == rtnetlink.NETLINK_ATTRIBUTES


@given(st.binary(max_size=300))
def test_no_bytes_harm_the_parser(datagram: bytes) -> None:
    for _, _, payload in messages(datagram):
        parse_interface(payload)
    parse_interface(link(1) + datagram)


def test_the_loopback_is_listed_without_privileges() -> None:
    with rtnetlink.open_socket() as channel:
        found = {entry.name: entry for entry in rtnetlink.list_interfaces(channel)}
    assert found["lo"].ifindex == 1
    assert found["lo"].flags & rtnetlink.IFF_LOOPBACK

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.tcp.community_id import community_id

MAPPED = bytes(10) + b"\xff\xff"
ports = st.integers(0, 65_535)
ipv4 = st.binary(min_size=4, max_size=4).map(lambda address: MAPPED + address)


def packed(address: str) -> bytes:
    """As the kernel side holds it."""
    short = ip_address(address).packed
    return short if len(short) == 16 else MAPPED + short


@pytest.mark.parametrize(
    ("src", "dst", "sport", "dport", "expected"),
    [
        ("128.232.110.120", "66.35.250.204", 34855, 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (
            "2001:470:e5bf:dead:4957:2174:e82c:4887",
            "2607:f8b0:400c:c03::1a",
            63943,
            25,
            "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
        ),
    ],
    ids=["ipv4", "ipv6"],
)
def test_published_vectors(src: str, dst: str, sport: int, dport: int, expected: str) -> None:
    assert community_id(packed(src), packed(dst), sport, dport) == expected


@pytest.mark.parametrize(
    ("src", "dst", "sport", "dport", "protocol", "expected"),
    [
        ("192.168.1.52", "8.8.8.8", 54585, 53, 17, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
        ("192.168.170.8", "192.168.170.56", 7, 80, 132, "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ="),
    ],
    ids=["udp", "sctp"],
)
def test_published_vectors_of_other_protocols(
    src: str, dst: str, sport: int, dport: int, protocol: int, expected: str
) -> None:
    assert community_id(packed(src), packed(dst), sport, dport, protocol) == expected


@pytest.mark.parametrize("address", [ipv4, st.binary(min_size=16, max_size=16)])
@given(data=st.data(), sport=ports, dport=ports)
def test_both_directions_are_one_connection(
    address: st.SearchStrategy[bytes], data: st.DataObject, sport: int, dport: int
) -> None:
    src, dst = data.draw(address), data.draw(address)
    assert community_id(src, dst, sport, dport) == community_id(dst, src, dport, sport)


@given(sport=ports, dport=ports)
def test_ports_decide_the_order_between_equal_addresses(sport: int, dport: int) -> None:
    address = packed("127.0.0.1")
    one, other = (
        community_id(address, address, sport, dport),
        community_id(address, address, dport, sport),
    )
    assert one == other


def test_one_mapped_address_alone_stays_ipv6() -> None:
    mapped, plain = packed("10.0.0.1"), packed("fd00::1")
    assert community_id(mapped, plain, 1, 2) == community_id(plain, mapped, 2, 1)


def test_different_connections_have_different_names() -> None:
    src, dst = packed("10.0.0.1"), packed("10.0.0.2")
    names = {community_id(src, dst, sport, 443) for sport in range(1000, 1100)}
    assert len(names) == 100

"""ignore: rules match what they say, and a wrong one has one clear line."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.events.ignore import IgnoreRules, Traffic, read_rules
from deckwire.limits import IGNORE_RULES, IGNORE_VALUES
from tests.support.scanning import packed

SEEN = Traffic("tcp_flow_timing", packed("192.0.2.5"), packed("198.51.100.7"), 443, 6, "inbound")


def rules(*tables: dict[str, Any]) -> IgnoreRules:
    return IgnoreRules(read_rules(list(tables)))


@pytest.mark.parametrize(
    ("table", "matches"),
    [
        ({"source": "192.0.2.5"}, True),
        ({"source": "192.0.2.4/31"}, True),
        ({"source": "192.0.2.6"}, False),
        ({"source": ["10.0.0.0/8", "192.0.0.0/8"]}, True),
        ({"source": "0.0.0.0/0"}, True),
        # No IPv6 network has an IPv4 address, although those are kept in mapped form.
        ({"source": "::/0"}, False),
        ({"source": "::ffff:0:0/96"}, False),
        ({"source": "2001:db8::/32"}, False),
        ({"destination": "198.51.100.0/24"}, True),
        ({"destination": "192.0.2.5"}, False),
        ({"port": 443}, True),
        ({"port": "400-500"}, True),
        ({"port": [22, "444-500"]}, False),
        ({"protocol": "tcp"}, True),
        ({"protocol": 6}, True),
        ({"protocol": ["udp", "icmp"]}, False),
        ({"direction": "inbound"}, True),
        ({"direction": ["outbound", "lateral"]}, False),
        ({"event": "tcp_*"}, True),
        ({"event": "tcp_flow_timing"}, True),
        ({"event": ["tls_*", "scan_summary"]}, False),
        ({"source": "192.0.2.5", "port": 443, "event": "*"}, True),
        ({"source": "192.0.2.5", "port": 22}, False),
    ],
)
def test_what_a_rule_matches(table: dict[str, Any], matches: bool) -> None:
    assert (rules(table).counter(SEEN) is not None) is matches
    assert (IgnoreRules(read_rules(table)).counter(SEEN) is not None) is matches


def test_the_first_rule_that_matches_counts() -> None:
    found = rules({"source": "10.0.0.1"}, {"port": 443}, {"port": 443, "name": "web"})
    assert found.counter(SEEN) == "ignored_rule_2"
    assert rules({"port": 1}, {"port": 443, "name": "web"}).counter(SEEN) == "ignored_rule_web"
    assert not IgnoreRules()
    assert len(found) == 3


Address = st.one_of(
    st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(0, 2**128 - 1).map(IPv6Address)
)


@given(Address, Address, st.integers(0, 128))
def test_networks_are_those_of_the_standard_library(
    base: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address, bits: int
) -> None:
    network: IPv4Network | IPv6Network = ip_network((base, min(bits, base.max_prefixlen)), False)
    rule = rules({"source": str(network)})
    for address in (base, other):
        raw = address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed
        found = rule.counter(SEEN._replace(source=raw)) is not None
        is_mapped = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
        assert found is (address in network and not is_mapped)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (7, "7 is no table; use [[ignore]] with name, source, destination, port,"),
        ({}, "a rule without conditions would ignore everything; name a source"),
        ({"name": "a"}, "a rule without conditions would ignore everything"),
        ({"src": "192.0.2.1"}, "unknown key src; use name, source,"),
        ({"a\nb": 1}, "unknown key a\\nb; use"),
        ({"source": "192.0.2.300"}, "source: '192.0.2.300' is no network; use an address or"),
        ({"source": 7}, "source: 7 is no network"),
        ({"source": "192.0.2.1/24"}, "source: '192.0.2.1/24' has bits after its prefix; use"),
        ({"source": []}, "source: the list is empty; leave the key out"),
        ({"source": ["::/0"] * (IGNORE_VALUES + 1)}, "source: 1025 values are too many"),
        ({"port": 65_536}, "port: 65536 is no port; use 0 to 65535, or a range"),
        ({"port": "9-8"}, "port: '9-8' is no port"),
        ({"port": True}, "port: True is no port"),
        ({"port": "٢"}, "port: '\\u0662' is no port"),
        ({"protocol": "ospf"}, "protocol: 'ospf' is unknown; use tcp, udp, icmp, icmpv6, sctp,"),
        ({"protocol": 0}, "protocol: 0 is unknown"),
        ({"direction": "in"}, "direction: 'in' is unknown; use inbound, outbound, lateral"),
        ({"event": "capture_stats"}, "event: 'capture_stats' matches no event of a peer; use"),
        ({"event": 7}, "event: 7 matches no event"),
        ({"name": "A", "port": 1}, "name: 'A' cannot be part of a counter's name; use a letter"),
        ({"name": "a" * 33, "port": 1}, "name: 'aaaa"),
        ([{"port": 1}] * (IGNORE_RULES + 1), "257 rules are too many; use at most 256"),
    ],
)
def test_a_wrong_rule_has_one_line(value: object, line: str) -> None:
    with pytest.raises(ValueError, match=re.escape(line)) as caught:
        read_rules(value)
    message = str(caught.value)
    assert message.startswith(line)
    assert message.isprintable()

"""Rules of the operator about what is no attack: no event is emitted of it, and it is counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import ip_network
from typing import NamedTuple, TypeVar

from deckwire.errors import plain, shown
from deckwire.events.names import IGNORABLE_EVENTS
from deckwire.limits import IGNORE_RULES, IGNORE_VALUES

DIRECTIONS = ("inbound", "outbound", "lateral")
PROTOCOLS = {
    "tcp": 6,
    "udp": 17,
    "icmp": 1,
    "icmpv6": 58,
    "sctp": 132,
    "arp": 0,
}
"""Names of protocols in a rule. ARP is none over IP; its number is the one of `Target`."""

KEYS = ("name", "source", "destination", "port", "protocol", "direction", "event")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_MAPPED_BITS = 96
_MAPPED = 0xFFFF
"""The first 96 bits of an IPv4-mapped address."""
_KEY_LENGTH = 60
_T = TypeVar("_T")


class Network(NamedTuple):
    """Addresses in 16 bytes as numbers, IPv4 as IPv4-mapped."""

    first: int
    mask: int
    is_ipv4: bool

    def has(self, address: int) -> bool:
        """Whether an address is in it. No IPv6 network has an IPv4 address."""
        return address & self.mask == self.first and (address >> 32 == _MAPPED) is self.is_ipv4


class Traffic(NamedTuple):
    """What an event is about, as far as rules ask for it."""

    event: str
    source: bytes
    """The address in `src_ip`, in 16 bytes."""
    destination: bytes
    port: int
    """Of the end that was addressed; 0 if there is none."""
    protocol: int
    direction: str


@dataclass(frozen=True, slots=True)
class IgnoreRule:
    """One rule. All that it names must match; what it does not name matches anything."""

    name: str = ""
    """Names its counter; "" if its number does."""
    sources: tuple[Network, ...] = ()
    destinations: tuple[Network, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    """First and last of each range."""
    protocols: tuple[int, ...] = ()
    directions: tuple[str, ...] = ()
    events: tuple[str, ...] = ()

    def matches(self, traffic: Traffic) -> bool:
        """Whether an event of this traffic is to be ignored."""
        return (
            (not self.events or traffic.event in self.events)
            and (not self.directions or traffic.direction in self.directions)
            and (not self.protocols or traffic.protocol in self.protocols)
            and (not self.ports or any(low <= traffic.port <= high for low, high in self.ports))
            and _within(self.sources, traffic.source)
            and _within(self.destinations, traffic.destination)
        )


class Match(NamedTuple):
    """The first rule that matches an event's traffic."""

    counter: str
    """The counter of the rule."""
    any_port: bool
    """Whether the same holds for any other port."""


class IgnoreRules:
    """All rules in their order. It is false if there is none."""

    def __init__(self, rules: Sequence[IgnoreRule] = ()) -> None:
        self._rules = tuple(
            (f"ignored_rule_{rule.name or number}", rule) for number, rule in enumerate(rules, 1)
        )

    def __len__(self) -> int:
        return len(self._rules)

    def match(self, traffic: Traffic) -> Match | None:
        """The first rule that matches; None if the traffic is not ignored."""
        any_port = True
        for counter, rule in self._rules:
            any_port = any_port and not rule.ports
            if rule.matches(traffic):
                return Match(counter, any_port)
        return None

    def counter(self, traffic: Traffic) -> str | None:
        """The counter of the first rule that matches; None if the traffic is not ignored."""
        found = self.match(traffic)
        return None if found is None else found.counter


def read_rules(value: object) -> tuple[IgnoreRule, ...]:
    """The rules of a configuration: a table, or a list of them; ValueError for the user."""
    tables = value if isinstance(value, list | tuple) else [value]
    if len(tables) > IGNORE_RULES:
        raise ValueError(f"{len(tables)} rules are too many; use at most {IGNORE_RULES}")
    return tuple(_rule(table) for table in tables)


def _rule(table: object) -> IgnoreRule:
    if not isinstance(table, Mapping):
        raise ValueError(f"{shown(table)} is no table; use [[ignore]] with {', '.join(KEYS)}")
    if unknown := next((key for key in table if key not in KEYS), None):
        raise ValueError(f"unknown key {plain(str(unknown)[:_KEY_LENGTH])}; use {', '.join(KEYS)}")
    if not set(table) - {"name"}:
        raise ValueError("a rule without conditions would ignore everything; name a source")
    return IgnoreRule(
        name=_name(table["name"]) if "name" in table else "",
        sources=_each(table, "source", _network),
        destinations=_each(table, "destination", _network),
        ports=_each(table, "port", _ports),
        protocols=_each(table, "protocol", _protocol),
        directions=_each(table, "direction", _direction),
        events=tuple(name for names in _each(table, "event", _events) for name in names),
    )


def _each(table: Mapping[str, object], key: str, read: Callable[[object], _T]) -> tuple[_T, ...]:
    """The value at a key, or each of a list; () without the key."""
    if key not in table:
        return ()
    value = table[key]
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        raise ValueError(f"{key}: the list is empty; leave the key out to match everything")
    if len(values) > IGNORE_VALUES:
        raise ValueError(f"{key}: {len(values)} values are too many; use at most {IGNORE_VALUES}")
    try:
        return tuple(read(one) for one in values)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(
            f"name: {shown(value)} cannot be part of a counter's name; use a letter, then at most"
            " 31 of a to z, 0 to 9 and _"
        )
    return value


def _network(value: object) -> Network:
    try:
        network = ip_network(value if isinstance(value, str) else "")
    except ValueError as error:
        why = "has bits after its prefix" if "host bits" in str(error) else "is no network"
        raise ValueError(
            f"{shown(value)} {why}; use an address or a network such as 192.0.2.0/24"
        ) from None
    first, mask = int(network.network_address), int(network.netmask)
    is_ipv4 = network.version == 4
    if is_ipv4:
        first |= _MAPPED << 32
        mask |= ((1 << _MAPPED_BITS) - 1) << 32
    return Network(first, mask, is_ipv4)


def _ports(value: object) -> tuple[int, int]:
    wrong = ValueError(f"{shown(value)} is no port; use 0 to 65535, or a range such as 8000-8100")
    if isinstance(value, int) and not isinstance(value, bool):
        low = high = value
    elif isinstance(value, str) and (
        found := re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", value, re.A)
    ):
        low, high = int(found[1]), int(found[2] or found[1])
    else:
        raise wrong
    if not 0 <= low <= high <= 65_535:
        raise wrong
    return low, high


def _protocol(value: object) -> int:
    if isinstance(value, str) and value in PROTOCOLS:
        return PROTOCOLS[value]
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 255:
        return value
    raise ValueError(f"{shown(value)} is unknown; use {', '.join(PROTOCOLS)}, or 1 to 255")


def _direction(value: object) -> str:
    if isinstance(value, str) and value in DIRECTIONS:
        return value
    raise ValueError(f"{shown(value)} is unknown; use {', '.join(DIRECTIONS)}")


def _events(value: object) -> tuple[str, ...]:
    names = tuple(
        name for name in IGNORABLE_EVENTS if isinstance(value, str) and fnmatchcase(name, value)
    )
    if not names:
        raise ValueError(
            f"{shown(value)} matches no event of a peer; use names with * and ? of"
            f" {', '.join(IGNORABLE_EVENTS)}"
        )
    return names


def _within(networks: Collection[Network], address: bytes) -> bool:
    if not networks:
        return True
    number = int.from_bytes(address, "big")
    return any(network.has(number) for network in networks)

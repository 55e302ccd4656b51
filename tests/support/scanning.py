"""Records of sources as the kernel side gives them, made by a test."""

from __future__ import annotations

from collections.abc import Iterable

from deckwire.abi.sources import Answer, ProbeKind, Source, Target
from deckwire.deckies import parse_address
from deckwire.tcp.addresses import MAPPED_PREFIX

S = 1_000_000_000
OPEN, CLOSED = 1 << Answer.OPEN, 1 << Answer.CLOSED
ATTACKER = "203.0.113.9"
DECKIES = ("192.0.2.10", "192.0.2.11", "192.0.2.12")


def packed(address: str) -> bytes:
    raw = parse_address(address).packed
    return raw if len(raw) == 16 else MAPPED_PREFIX + raw


def target(
    port: int,
    decky: str = DECKIES[0],
    *,
    protocol: int = 6,
    kind: ProbeKind = ProbeKind.SYN,
    answers: int = 0,
    first_ns: int = S,
) -> Target:
    return Target(packed(decky), protocol, port, 1 << kind, answers, first_ns)


def source(
    targets: Iterable[Target] = (),
    address: str = ATTACKER,
    *,
    probes: dict[ProbeKind, int] | None = None,
    first_ns: int = S,
    last_ns: int | None = None,
    proven: bool = False,
    lost: int = 0,
    mac: bytes = b"",
) -> Source:
    """A record; by default it has one probe for each target, of its kind."""
    found = tuple(targets)
    if probes is None:
        probes = {}
        for each in found:
            for kind in ProbeKind:
                if each.kinds >> kind & 1:
                    probes[kind] = probes.get(kind, 0) + 1
    last_ns = (
        max((each.first_ns for each in found), default=first_ns) if last_ns is None else last_ns
    )
    return Source(packed(address), mac, first_ns, last_ns, probes, proven, found, lost)

"""decky_mismatch: a decky shows an attacker that it is not what it plays."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from deckwire.events.event import WARNING, Event, Field, Headline


class Mismatch(StrEnum):
    """The value of the field `mismatch`. docs/events.md explains each."""

    SYSTEM = "system"
    TTL = "ttl"
    IP_ID = "ip_id"
    PORT_OPEN = "port_open"
    PORT_CLOSED = "port_closed"
    SHARED_CLOCK = "shared_clock"
    SHARED_IP_ID = "shared_ip_id"
    SHARED_ISN = "shared_isn"


class Finding(NamedTuple):
    """One contradiction, and what shows it."""

    mismatch: Mismatch
    evidence: str
    claimed: str = ""
    """What the registry says of the decky; "" if it does not matter."""
    port: int | None = None
    others: tuple[str, ...] = ()
    """The deckies with which it shares something."""


_OTHERS = 16
"""Names that the field shared_with lists."""


def headline(decky: str, address: str, time_ns: int, finding: Finding) -> Headline:
    """Everything that deduplication needs of the event."""
    port = "" if finding.port is None else finding.port
    return Headline(
        "decky_mismatch",
        time_ns,
        decky,
        address,
        f"{finding.mismatch}|{port}",
        WARNING,
        f"{finding.mismatch} {port}".rstrip(),
    )


def mismatch_event(headline: Headline, finding: Finding) -> Event:
    """Make the event for one finding."""
    parts: list[Field] = [("dst_ip", headline.source)]
    if finding.port is not None:
        parts.append(("dst_port", finding.port))
    parts.append(("mismatch", finding.mismatch.value))
    if finding.claimed:
        parts.append(("claimed", finding.claimed))
    parts.append(("evidence", finding.evidence))
    if finding.others:
        parts.append(("shared_with", finding.others[:_OTHERS]))
    return headline.event(parts, f"{headline.source} {finding.mismatch} {finding.port}")

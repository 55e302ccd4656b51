"""tcp_flow_timing: a connection's figures at its end."""

from __future__ import annotations

from deckwire.event import Event, Headline
from deckwire.events.latency import rtt_fields
from deckwire.events.place import Parts, Place
from deckwire.fingerprints.scanners import Tool
from deckwire.flow import FlowRecord

PROBE_PACKETS = 4
PROBE_NS = 1_000_000_000
"""Fewer packets within less time are a probe; bpf/limits.h has the same."""


def is_probe(record: FlowRecord) -> bool:
    """A scanner's touch: too little for figures, counted but not told."""
    first, second = record.sides
    return (
        first.packets + second.packets < PROBE_PACKETS
        and first.retransmits + second.retransmits == 0
        and record.last_ns - record.first_ns < PROBE_NS
    )


def headline(place: Place, time_ns: int) -> Headline:
    """What it is deduplicated by."""
    return Headline(
        "tcp_flow_timing",
        time_ns,
        place.host,
        place.source,
        f"{place.destination}|{place.ends.server_port}",
    )


def flow_event(
    told: Headline,
    place: Place,
    record: FlowRecord,
    client: int,
    close: str,
    tool: Tool | None = None,
) -> Event:
    """One connection that the end `client` opened; `told` has its last packet's wall time.

    `tool` made it: known of those that belong to a scan.
    """
    sent, answered = record.sides[client], record.sides[1 - client]
    packets = sent.packets + answered.packets
    duration_ns = max(record.last_ns - record.first_ns, 0)
    single = packets < 2
    min_ns = 0 if single or record.min_iat_ns > record.max_iat_ns else record.min_iat_ns
    parts: Parts = [
        place.addresses(),
        ("packets", packets),
        ("bytes", sent.bytes + answered.bytes),
        ("duration_s", round(duration_ns / 1e9, 3)),
        ("mean_iat_ms", 0.0 if single else round(duration_ns / (packets - 1) / 1e6, 2)),
        ("min_iat_ms", round(min_ns / 1e6, 2)),
        ("max_iat_ms", 0.0 if single else round(record.max_iat_ns / 1e6, 2)),
        ("retransmits", sent.retransmits),
        ("retransmits_server", answered.retransmits),
        ("bytes_client", sent.bytes),
        ("bytes_server", answered.bytes),
        ("packets_client", sent.packets),
        ("packets_server", answered.packets),
        ("close", close),
        rtt_fields(record.rtt_client_us, record.rtt_server_us),
    ]
    if record.rtt_min_us is not None:
        parts.append(("rtt_min_us", record.rtt_min_us))
    if tool is not None:
        parts += [("tool", tool.name), ("tool_evidence", tool.evidence)]
    parts.append(place.tail())
    return told.event(parts)

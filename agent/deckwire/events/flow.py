"""tcp_flow_timing: the figures of a connection, emitted at its end."""

from __future__ import annotations

from deckwire.events.context import Context, Fields, Parts
from deckwire.events.event import INFORMATIONAL, Block, Event, Headline, word
from deckwire.events.latency import rtt_fields
from deckwire.fingerprints.scanners import Tool
from deckwire.tcp.flow import FlowRecord, sums_of

PROBE_PACKETS = 4
PROBE_NS = 1_000_000_000
"""Fewer packets within less time are a probe; bpf/limits.h has the same."""


def is_probe(record: FlowRecord) -> bool:
    """Whether the connection is a scan probe, which is counted but gives no event."""
    first, second = record.sides
    return (
        first.packets + second.packets < PROBE_PACKETS
        and first.retransmits + second.retransmits == 0
        and record.last_ns - record.born_ns < PROBE_NS
    )


def headline(context: Context, time_ns: int, record: FlowRecord) -> Headline:
    """Everything that deduplication needs of the event."""
    return Headline(
        "tcp_flow_timing",
        time_ns,
        context.host,
        context.source,
        f"{context.destination}|{context.ends.server_port}",
        INFORMATIONAL,
        context.service,
        sums_of(record),
        record.proven,
    )


def flow_event(
    headline: Headline,
    context: Context,
    record: FlowRecord,
    client: int,
    close: str,
    tool: Tool | None = None,
) -> Event:
    """Make the event for one connection that the end `client` opened.

    `headline` has the wall-clock time of its last packet. `tool` is the scanner that made it, if
    the connection belongs to a known scan.
    """
    parts: Parts = [
        context.addresses(),
        # A block of numbers is written in half the time of so many fields.
        Block(_figures(record, client), plain=True),
        word("close", close),
        rtt_fields(record.rtt_client_us, record.rtt_server_us),
    ]
    if record.rtt_min_us is not None:
        parts.append(("rtt_min_us", record.rtt_min_us))
    if tool is not None:
        parts += [("tool", tool.name), ("tool_evidence", tool.evidence)]
    parts.append(context.tail(unseen=record.unseen))
    return headline.event(parts, context.conn_id)


def _figures(record: FlowRecord, client: int) -> Fields:
    """What was counted and timed, as far as it is known."""
    packets, size, retransmits, accepted, _ = record.sides[client]
    packets_back, size_back, retransmits_back, accepted_back, _ = record.sides[1 - client]
    figures: Fields = [
        ("packets", packets + packets_back),
        ("bytes", size + size_back),
        *_times(record),
    ]
    # If no packet of an end was seen, it is unknown what that end sent.
    if packets:
        figures.append(("retransmits", retransmits))
    if packets_back:
        figures.append(("retransmits_server", retransmits_back))
    if packets:
        figures.append(("bytes_client", size))
    if packets_back:
        figures.append(("bytes_server", size_back))
    if accepted is not None:
        figures.append(("bytes_accepted_client", accepted))
    if accepted_back is not None:
        figures.append(("bytes_accepted_server", accepted_back))
    figures += (("packets_client", packets), ("packets_server", packets_back))
    return figures


def _times(record: FlowRecord) -> Fields:
    """duration_s and the inter-arrival times, as far as the packets' time stamps show them."""
    first, second = record.sides
    packets = first.packets + second.packets
    if packets < 2:
        return [(name, 0.0) for name in ("duration_s", "mean_iat_ms", "min_iat_ms", "max_iat_ms")]
    duration_ns = record.last_ns - record.born_ns
    least_ns, most_ns = record.min_iat_ns, record.max_iat_ns
    # If no stamp is later than the first one, there is a duration only if all are the same.
    if not record.timed or duration_ns < 0 or (not duration_ns and least_ns is None):
        return []
    times: Fields = [
        ("duration_s", round(duration_ns / 1e9, 3)),
        ("mean_iat_ms", round(duration_ns / (packets - 1) / 1e6, 2)),
    ]
    if least_ns is not None and most_ns is not None:
        times += [
            ("min_iat_ms", round(least_ns / 1e6, 2)),
            ("max_iat_ms", round(most_ns / 1e6, 2)),
        ]
    return times

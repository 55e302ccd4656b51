"""scan_summary: what one source has probed, on all deckies together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from deckwire.abi.sources import ProbeKind
from deckwire.events.context import Fields
from deckwire.events.event import WARNING, Event
from deckwire.events.timestamp import timestamp
from deckwire.limits import SCAN_NAMES, SCAN_PORTS
from deckwire.scans.order import Place, order, spread
from deckwire.scans.ranges import ranges
from deckwire.scans.scan import Scan
from deckwire.scans.tracker import Report
from deckwire.tcp.addresses import address_text

KINDS = {
    ProbeKind.SYN: "syn",
    ProbeKind.CONNECT: "connect",
    ProbeKind.FIN: "fin",
    ProbeKind.NULL: "null",
    ProbeKind.XMAS: "xmas",
    ProbeKind.MAIMON: "maimon",
    ProbeKind.ACK: "ack",
    ProbeKind.WINDOW: "window",
    ProbeKind.SYN_ACK: "synack",
    ProbeKind.RST: "rst",
    ProbeKind.UDP: "udp",
    ProbeKind.ICMP_ECHO: "icmp_echo",
    ProbeKind.ICMP_TIMESTAMP: "icmp_timestamp",
    ProbeKind.ICMP_OTHER: "icmp_other",
    ProbeKind.ICMP6: "icmpv6",
    ProbeKind.ARP: "arp",
    ProbeKind.SCTP: "sctp",
    ProbeKind.OTHER: "other",
    ProbeKind.MALFORMED: "malformed",
}
"""The names of probes in the field `kinds`."""

_LETTERS = {6: "T", 17: "U", 132: "S"}
"""nmap's letters of the protocols that have ports."""
_NS = 1_000_000_000


def scan_event(
    report: Report,
    *,
    host: str,
    time_ns: int,
    wall_ns: Callable[[int], int],
    even: bool,
    name_of: Callable[[bytes], str | None],
) -> Event:
    """Make the event for one report.

    Args:
        report: what is to be reported.
        host: the agent's host, which the event has as HOSTNAME.
        time_ns: the wall-clock time of the event.
        wall_ns: converts a time of the samples' clock.
        even: whether that clock ran evenly during the scan.
        name_of: the name of a decky by its address.
    """
    scan = report.scan
    places = [place for place, _, _ in scan.targets()]
    source = address_text(scan.address)
    fields: Fields = [("src_ip", source)]
    if scan.mac:
        fields.append(("src_mac", scan.mac.hex(":")))
    fields += [("phase", report.phase.value), ("scan_id", scan.scan_id)]
    fields.append(("kinds", tuple(KINDS[kind] for kind in scan.kinds())))
    deckies = scan.deckies()
    fields.append(("deckies", len(deckies)))
    names = (name_of(decky) or address_text(decky) for decky in deckies[:SCAN_NAMES])
    fields.append(("names", tuple(names)))
    if touched := ports_text(places):
        fields.append(("ports", touched))
    fields += [("targets", scan.estimate), ("ports_exact", scan.exact)]
    fields.append(("probes", scan.probes.total()))
    fields.append(("first_seen", timestamp(wall_ns(scan.first_ns))))
    fields.append(("last_seen", timestamp(wall_ns(scan.last_ns))))
    if even and scan.last_ns > scan.first_ns:
        seconds = (scan.last_ns - scan.first_ns) / _NS
        fields.append(("rate", round(scan.probes.total() / seconds, 3)))
    fields += _known(("order", order(places)))
    fields += _answers(scan)
    author = scan.author
    fields += _known(("tool", author.tool), ("tool_evidence", author.evidence))
    fields += _known(("os", author.os), ("ja4t", author.ja4t), ("spread", spread(places)))
    fields.append(("spoofable", not scan.proven))
    return Event(
        "scan_summary",
        time_ns,
        host,
        tuple(fields),
        WARNING,
        source,
        proven=scan.proven,
        subject=f"{scan.scan_id} {report.phase} {scan.estimate}",
    )


def ports_text(places: Iterable[Place]) -> str:
    """The ports as compact ranges; nmap's letter before each protocol if there are several."""
    ports: dict[str, set[int]] = {}
    for _, protocol, port in places:
        if protocol in _LETTERS:
            ports.setdefault(_LETTERS[protocol], set()).add(port)
    if len(ports) < 2:
        return "".join(ranges(each, SCAN_PORTS) for each in ports.values())
    room = SCAN_PORTS // len(ports) - len("T:,")
    return ",".join(f"{letter}:{ranges(ports[letter], room)}" for letter in sorted(ports))


def _answers(scan: Scan) -> Fields:
    is_open, is_closed, silent = scan.answered()
    fields: Fields = [("open", len(is_open)), ("closed", len(is_closed)), ("silent", silent)]
    return fields + _known(("open_ports", ports_text(is_open)))


def _known(*fields: tuple[str, str]) -> Fields:
    """The fields whose values are known."""
    return [(name, value) for name, value in fields if value]

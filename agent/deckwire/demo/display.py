"""Events for people to read, each on one line if the terminal is wide enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from deckwire.events.event import STAMP
from deckwire.lab.agent import JsonEvent

Fields = dict[str, Any]
Parts = Iterator[tuple[str, str]]
"""Pieces of text, each with its style."""

_STRONG, _DIM, _PLAIN, _ALARM = "bold", "dim", "", "bold red"
_GAP = "  "
_HEAD_COLUMNS = 22
"""Columns of indentation, label and decky before an event's details."""
_NARROW = 70
"""On a terminal with fewer columns the details begin on the line after the head."""
_STATISTICS = ("frames", "handshakes", "samples_received", "events_emitted", "events_suppressed")


def heading(console: Console, title: str, detail: str = "") -> None:
    """Prints the title of what comes next."""
    console.print()
    console.print(Text.assemble((f"* {title}", "bold blue"), (f"  {detail}" * bool(detail), _DIM)))


def show_event(console: Console, event: JsonEvent) -> None:
    """Prints one event, the most important details first."""
    label, style, describe = _KINDS.get(event["event"], (event["event"], _DIM, _anything))
    fields = {name: value for name, value in event["fields"].items() if name not in STAMP}
    # Text from the network is put into Text objects, which have no markup.
    parts = [Text(text, style=part) for text, part in describe(fields)]
    if "src_ip" in fields:
        parts.insert(0, Text(f"from {fields['src_ip']}", style=_DIM))
    if fields.get("direction") == "lateral":
        parts.insert(0, Text("LATERAL", style=_ALARM))
    head = Text.assemble(_GAP, (f"{label:10}", style), (event["host"], "cyan"))
    narrow = console.width < _NARROW
    indent = " " * (2 * len(_GAP) if narrow else _HEAD_COLUMNS)
    first, *rest = _packed(console, parts, max(1, console.width - len(indent)))
    if narrow:
        rest.insert(0, first)
    else:
        head.pad_right(len(indent) - head.cell_len)
        head.append_text(first)
    console.print(head, soft_wrap=True)
    for line in rest:
        console.print(Text.assemble(indent, line), soft_wrap=True)


def _packed(console: Console, parts: Iterable[Text], width: int) -> list[Text]:
    """Lines of at most `width` columns. A part that is too long is cut into lines."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + len(_GAP) + part.cell_len <= width:
            lines[-1] = Text.assemble(lines[-1], _GAP, part)
        else:
            # Hashes have no spaces to break at.
            lines.extend(part.wrap(console, width, overflow="fold"))
    return lines or [Text()]


def _syn(fields: Fields) -> Parts:
    if "tool" in fields:
        yield f"scanner: {fields['tool']}", _ALARM
    else:
        yield fields.get("os") or fields["os_guess"], _STRONG
    yield f"port {fields['dst_port']}", _PLAIN
    yield f"ttl {fields['ttl']}", _DIM
    yield from _named(fields, "ja4t")


def _handshake(fields: Fields) -> Parts:
    yield f"port {fields['dst_port']}", _PLAIN
    if "rtt_server_us" in fields:
        yield f"decky answered in {fields['rtt_server_us']} us", _PLAIN
    if "rtt_client_us" in fields:
        yield f"client is {fields['rtt_client_us']} us away", _PLAIN
    yield from _named(fields, "ja4ts")


def _hello(fields: Fields) -> Parts:
    yield fields["sni"] or "no name", _STRONG
    yield fields["tls_version"], _PLAIN
    if fields.get("starttls"):
        yield "after STARTTLS", "magenta"
    if fields["alpn"]:
        yield f"alpn {','.join(fields['alpn'])}", _PLAIN
    yield from _named(fields, "ja4", "ja3")


def _session(fields: Fields) -> Parts:
    yield fields["tls_version"], _STRONG
    if "cipher" in fields:
        yield fields["cipher"], _PLAIN
    yield from _named(fields, "ja4s", "ja3s")


def _certificate(fields: Fields) -> Parts:
    yield fields["subject_cn"] or "no name", _STRONG
    yield ("self-signed" if fields.get("self_signed") else f"issued by {fields['issuer']}"), _PLAIN
    if "key" in fields:
        yield fields["key"], _PLAIN
    yield f"until {_date(fields['not_after'])}", _DIM
    yield from _named(fields, "ja4x")


def _flow(fields: Fields) -> Parts:
    if "tool" in fields:
        yield f"scanner: {fields['tool']}", _ALARM
    yield f"{fields['packets']} packets", _PLAIN
    yield f"{fields['bytes']} bytes", _PLAIN
    yield f"{fields['duration_s']} s", _PLAIN
    yield f"every {fields['mean_iat_ms']} ms", _DIM
    yield f"{fields['retransmits']} retransmitted", _DIM
    yield f"ended by {fields['close']}", _DIM


def _initiated(fields: Fields) -> Parts:
    yield f"opens {fields.get('dst_decky', fields['dst_ip'])}", _STRONG
    transport = fields.get("transport", "tcp")
    if "dst_port" in fields:
        yield f"port {fields['dst_port']}" + ("/udp" if transport == "udp" else ""), _PLAIN
    else:
        yield transport, _PLAIN
    yield from _named(fields, "ja4t")


def _payload(fields: Fields) -> Parts:
    yield fields.get("protocol", "no known protocol"), _STRONG
    yield f"port {fields['dst_port']}", _PLAIN
    for name in ("payload_text", "server_payload_text"):
        if name in fields:
            yield f"{name.removesuffix('_text')} {fields[name]}", _DIM


def _scan(fields: Fields) -> Parts:
    if "tool" in fields:
        yield f"scanner: {fields['tool']}", _ALARM
    yield f"scan {fields['phase']}: {', '.join(fields['kinds'])}", _STRONG
    yield f"{fields['targets']} targets on {', '.join(fields['names'])}", _PLAIN
    if "ports" in fields:
        yield f"ports {fields['ports']}", _PLAIN
    yield f"open {fields.get('open_ports', 'none')}", _PLAIN
    yield f"{fields['probes']} probes", _DIM


def _suppressed(fields: Fields) -> Parts:
    yield f"{fields['count']} more {fields['event']}", _PLAIN
    yield f"alike: {fields['key']}", _DIM


def _statistics(fields: Fields) -> Parts:
    found = [name for name in _STATISTICS if name in fields]
    for name in found:
        yield f"{name} {fields[name]}", _PLAIN
    yield f"and {len(fields) - len(found)} more counters", _DIM


def _anything(fields: Fields) -> Parts:
    for name, value in fields.items():
        yield f"{name} {value}", _PLAIN


def _date(asn1: str) -> str:
    """Year, month and day of an ASN.1 time. UTCTime has two digits for the year."""
    century = "20" if len(asn1) == len("YYMMDDHHMMSSZ") else ""
    digits = century + asn1
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}"


def _named(fields: Fields, *names: str) -> Parts:
    """Fingerprints with their names. One that the event does not have is left out."""
    for name in names:
        if fields.get(name):
            yield f"{name} {fields[name]}", "yellow"


_KINDS: dict[str, tuple[str, str, Callable[[Fields], Parts]]] = {
    "tcp_syn_fingerprint": ("SYN", "bold green", _syn),
    "tcp_handshake": ("HANDSHAKE", "green", _handshake),
    "tls_client_hello": ("HELLO", "bold magenta", _hello),
    "tls_session": ("SESSION", "magenta", _session),
    "tls_certificate": ("CERT", "magenta", _certificate),
    "tcp_flow_timing": ("FLOW", "green", _flow),
    "decky_initiated": ("INITIATED", _ALARM, _initiated),
    "tcp_payload": ("PAYLOAD", "green", _payload),
    "scan_summary": ("SCAN", _ALARM, _scan),
    "dedup_summary": ("DEDUP", _DIM, _suppressed),
    "capture_stats": ("STATS", _DIM, _statistics),
    "capture_loss": ("LOSS", _ALARM, _anything),
}

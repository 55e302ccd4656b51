"""The demo's summary: what was seen, what was lost, what to do next."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text

from deckwire.demo.display import Fields, heading
from deckwire.events.event import Event
from deckwire.events.names import CONNECTION_EVENTS
from deckwire.lab import Lab
from deckwire.lab.agent import JsonEvent
from deckwire.output.syslog import SyslogFormat

LATERAL = "a lateral event"

_MEANINGS = {
    "tcp_syn_fingerprint": "a SYN packet: its system, scanner, distance",
    "tcp_handshake": "a connection was made: round-trip times to decky and client",
    "tls_client_hello": "the client's TLS: JA3, JA4, the name it asked for",
    "tls_session": "the decky's choice: JA3S, JA4S, version, cipher",
    "tls_certificate": "the decky's certificate, which TLS 1.2 and older show in clear text",
    "tcp_flow_timing": "the whole connection: packets, bytes, pace, how it ended",
    "decky_initiated": "a decky sent something on its own: an intruder may be at work on it",
    "tcp_payload": "first bytes that are neither TLS, SSH nor HTTP: protocol, logins",
    "scan_summary": "what each source has probed, as its scan begins, grows and ends",
    "dedup_summary": "how many repeats of an event were suppressed",
    "capture_stats": "all counters of the capture, losses included",
}
_LOSSES = ("samples_lost", "events_dropped", "flow_insert_failed", "half_open_failed")

_NEXT = """\
deckwire doctor -i eth0     # does this host have all that is needed?
deckwire run -i eth0 --decky 192.0.2.10=web --decky 192.0.2.11=mail
deckwire run -i eth0 --deckies deckies.txt --output unix:/dev/log"""


class Summary:
    """Collects who attacked with which program, and summarises the events."""

    def __init__(self, lab: Lab) -> None:
        self.names: dict[str, str] = {}
        """The program of each attacker, by address."""
        self._deckies = {
            address: decky.name for decky in lab.deckies for address in (*decky.ipv4, *decky.ipv6)
        }

    def missing(self, events: Iterable[JsonEvent]) -> list[str]:
        """What the demo should have shown and did not."""
        seen = {event["event"] for event in events}
        missing = [name for name in CONNECTION_EVENTS if name not in seen]
        return missing if self._lateral(events) else [*missing, LATERAL]

    def show(self, console: Console, events: Sequence[JsonEvent], status: int) -> None:
        """Prints the summary of an agent that ended with `status`."""
        sources = {event["fields"]["src_ip"] for event in events if "src_ip" in event["fields"]}
        hosts = {event["host"] for event in events} & set(self._deckies.values())
        heading(
            console,
            f"What was seen: {len(events)} events from {len(sources)} addresses "
            f"on {len(hosts)} deckies",
        )
        counts = Counter(event["event"] for event in events)
        _rows(
            console,
            ((str(counts[name]), name, meaning) for name, meaning in _MEANINGS.items()),
        )
        heading(console, "Who is who: each client's JA4, which does not depend on its address")
        _rows(console, self._clients(events))
        tools = sorted({event["fields"]["tool"] for event in events if "tool" in event["fields"]})
        if tools:
            console.print(Text(f"  Scanners recognised by their SYNs alone: {', '.join(tools)}."))
        for source, target in self._lateral(events):
            console.print(
                Text(f"  Lateral movement noticed: {source} -> {target}.", style="bold red")
            )
        self._losses(console, events)
        self._line(console, events)
        heading(console, "On your own network: eth0 is the parent of your MACVLAN")
        for line in _NEXT.splitlines():
            console.print(Text(f"  {line}"), soft_wrap=True)
        console.print()
        if missing := self.missing(events):
            console.print(Text(f"Not seen: {', '.join(missing)}.", style="bold red"))
        elif status:
            console.print(Text(f"The agent ended with status {status}.", style="bold red"))
        else:
            console.print(Text("Everything expected was seen; the lab is removed.", "bold green"))

    def _clients(self, events: Iterable[JsonEvent]) -> Iterable[tuple[str, ...]]:
        programs: dict[str, set[str]] = defaultdict(set)
        visited: dict[str, set[str]] = defaultdict(set)
        for event in events:
            if event["event"] == "tls_client_hello" and event["fields"]["ja4"]:
                ja4, source = event["fields"]["ja4"], event["fields"]["src_ip"]
                programs[ja4].add(self.names.get(source, source))
                visited[ja4].add(event["host"])
        for ja4, names in programs.items():
            yield ja4, "/".join(sorted(names)), f"seen on {', '.join(sorted(visited[ja4]))}"

    def _lateral(self, events: Iterable[JsonEvent]) -> list[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for event in events:
            fields = event["fields"]
            if fields.get("direction") == "lateral":
                # HOSTNAME is not always the target: decky_initiated has the source.
                target = self._deckies.get(fields.get("dst_ip", "")) or event["host"]
                found.add((self._deckies.get(fields["src_ip"], "?"), target))
        return sorted(found)

    def _losses(self, console: Console, events: Iterable[JsonEvent]) -> None:
        stats = [event["fields"] for event in events if event["event"] == "capture_stats"]
        if not stats:
            console.print(Text("  The agent emitted no statistics.", style="bold red"))
            return
        last: Fields = {}
        for fields in stats:
            # Several events have the counters of one instant, if a line has no room for all.
            last = fields if fields.get("part", 1) == 1 else last | fields
        losses = {name: last[name] for name in _LOSSES if last[name]}
        if losses:
            listed = ", ".join(f"{name} {count}" for name, count in losses.items())
            console.print(Text(f"  Lost: {listed}.", style="bold red"))
        else:
            console.print(
                Text(
                    f"  The kernel saw {last['frames']} frames and passed "
                    f"{last['samples_received']} samples to the agent. Lost: 0."
                )
            )

    def _line(self, console: Console, events: Iterable[JsonEvent]) -> None:
        hellos = (event for event in events if event["event"] == "tls_client_hello")
        if hello := next(hellos, None):
            heading(console, "The same as a syslog server gets it (RFC 5424), one event a line")
            line = SyslogFormat().line(_event(hello)).decode()
            console.print(Text(line, style="yellow"), soft_wrap=True)


def _event(parsed: JsonEvent) -> Event:
    """The event of a JSON line. Both formats escape text alike, so it is the same event."""
    time = datetime.fromisoformat(parsed["ts"])
    return Event(
        parsed["event"],
        int(time.timestamp()) * 1_000_000_000 + time.microsecond * 1_000,
        parsed["host"],
        tuple(
            (name, tuple(value) if isinstance(value, list) else value)
            for name, value in parsed["fields"].items()
        ),
        parsed["severity"],
    )


def _rows(console: Console, rows: Iterable[tuple[str, ...]]) -> None:
    """Prints aligned columns, without spaces at the end of a line."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        console.print(Text(f"  {'  '.join(cells).rstrip()}"))

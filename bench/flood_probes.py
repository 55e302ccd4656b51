"""Floods of probes from spoofed sources, with real sessions, real scans and a correct fleet.

The agent runs with its default settings. Ten deckies are what the registry says of them, so
whatever is reported as a giveaway of theirs is wrong.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import ip_address
from socket import AF_INET6, create_server
from struct import pack
from typing import NamedTuple

from bench import handshakes, spoofed, visits
from bench.figures import Goal, Line, Spread, ratio
from bench.observers import Agent
from bench.packets import Burst, link_address
from bench.spoofed import GHOSTS, LINUX_OPTIONS, SYN
from deckwire.lab import Lab
from deckwire.lab.namespaces import LabError
from deckwire.lab.network import CLIENT_INTERFACE

SECTION = "floods of probes, default settings"
FLEET = tuple(f"right-{number}" for number in range(10))

_RATE, _MIXED_RATE = 50_000, 5_000
"""Frames a second."""
_FRAMES = 100_000
"""Frames of a burst, which is repeated."""
_AT_ONCE, _AT_ONCE_PORTS, _AT_ONCE_RATE = 1_000, 3, 5_000
"""Sources that scan at once, ports of each decky that one of them probes, frames a second."""
_FIN, _NULL, _XMAS, _ACK = 0x01, 0x00, 0x29, 0x10
_GIVEAWAYS = ("decky_mismatch", "decky_initiated")
_SCAN_SECONDS = 600


class Scan(NamedTuple):
    """A real scan of the whole fleet."""

    argv: tuple[str, ...]
    """`{source}` is its address. The addresses of the deckies come after it."""
    targets: int


def _nmap(*options: str) -> tuple[str, ...]:
    return ("nmap", "-n", "-Pn", "-T4", "-e", CLIENT_INTERFACE, "-S", "{source}", *options)


_PORTS = "1-29,443"
_ARP_SCAN = ("arp-scan", "-q", "-I", CLIENT_INTERFACE, "--arpspa", "{source}", "-r", "2")
_SCANS = {
    "syn": Scan(_nmap("-sS", "--max-retries", "2", "-p", _PORTS), 30 * len(FLEET)),
    "fin": Scan(_nmap("-sF", "--max-retries", "2", "-p", _PORTS), 30 * len(FLEET)),
    "udp": Scan(_nmap("-sU", "--max-retries", "1", "-p", "1-5"), 5 * len(FLEET)),
    "icmp_echo": Scan(("fping", "-q", "-r", "1", "-i", "1", "-S", "{source}"), len(FLEET)),
    "arp": Scan(_ARP_SCAN, len(FLEET)),
}
_OTHERS = (
    _nmap("-O", "-p", _PORTS),
    _nmap("-sO", "--max-retries", "1", "-p", "1,6,17,47,89"),
    _nmap("-sY", "--max-retries", "1", "-p", "1-5"),
    ("nmap", "-n", "-Pn", "-T4", "-sV", "--version-light", "-p", "443"),
    ("nmap", "-n", "-Pn", "-T4", "-sT", "-p", _PORTS),
    ("nmap", "-n", "-sn", "-PE", "-PP", "--disable-arp-ping"),
)
"""Further attacks of the mixture."""
_PROGRAMS_THAT_FAIL = ("fping",)
"""Their status says whether all hosts answered."""

Attack = Callable[[threading.Event, threading.Event], int]


def measure(sources: int, sessions: int, seconds: float, minutes: float) -> list[Line]:
    """Run each flood, with `sessions` within `seconds`, then a mixture for `minutes`.

    They have a lab of their own, whose client has `sources` addresses.
    """
    lines = []
    with Lab(FLEET, clients=sources) as lab, ExitStack() as serving:
        options = _serve(lab, serving)
        for what, frames in _floods(lab).items():
            name = f"{_RATE:,} {what} a second"
            attack = _with(lab, frames, _RATE, _scan)
            lines += _around(lab, name, sessions, seconds, attack, options, _scans_found)
        name = f"scans by {_AT_ONCE:,} sources at once"
        attack = _at_once(lab)
        lines += _around(lab, name, sessions, seconds, attack, options, _sources_found)
        name = f"{minutes:g} minutes of mixed attacks"
        mixture = itertools.chain.from_iterable(zip(*_floods(lab).values(), strict=True))
        attack = _with(lab, mixture, _MIXED_RATE, _mix)
        lines += _around(lab, name, sessions, 60 * minutes, attack, options, _scans_found)
    return lines


def _serve(lab: Lab, serving: ExitStack) -> list[str]:
    """Open the port of each decky; the agent's options that describe the fleet."""
    handshakes.serve_tls(lab, lab.deckies[1])
    for decky in lab.deckies:
        # Replies to spoofed sources go to the client, which drops them.
        for family, via in (("-4", lab.client.v4), ("-6", lab.client.v6)):
            lab.run(decky, ["ip", family, "route", "replace", "default", "via", via])
        if decky is not lab.deckies[1]:
            with decky.inside():
                serving.enter_context(
                    create_server(("::", visits.PORT), family=AF_INET6, dualstack_ipv6=True)
                )
    path = lab.directory / "fleet.json"
    path.write_text(
        json.dumps(
            {
                address: {"name": decky.name, "os": "linux", "services": ["https"]}
                for decky in lab.deckies
                for address in (*decky.ipv4, *decky.ipv6)
            }
        )
    )
    ghosts = [word for address in GHOSTS for word in ("--decky", f"{address}=ghost")]
    return ["--deckies", str(path), *ghosts]


def _floods(lab: Lab) -> dict[str, Iterator[bytes]]:
    """Endless frames of each kind of probe."""
    ends = lab.deckies[0].v4, lab.deckies[0].v6
    flags = itertools.cycle((_FIN, _NULL, _XMAS, _ACK))
    return {
        "SYNs": spoofed.frames_of(lab, lambda: (SYN, LINUX_OPTIONS, b""), *ends),
        "FIN, null, Xmas and ACK probes": spoofed.frames_of(
            lab, lambda: (next(flags), b"", b""), *ends
        ),
        "UDP datagrams": spoofed.packets(lab, spoofed.datagram, *ends),
        "ICMP echo requests": spoofed.packets(lab, spoofed.echo, *ends),
        # Of a decky, Linux would remember each sender, and forget the real clients for them.
        "ARP requests and neighbour solicitations": spoofed.resolutions(lab, *GHOSTS),
    }


def _around(
    lab: Lab,
    what: str,
    sessions: int,
    seconds: float,
    attack: Attack,
    options: list[str],
    found: Callable[[Lab, Agent, str], Line],
) -> list[Line]:
    def more(agent: Agent) -> list[Line]:
        return [found(lab, agent, what), _giveaways(agent, what)]

    return visits.around(lab, SECTION, what, sessions, seconds, attack, options, more=more)


def _with(
    lab: Lab,
    frames: Iterable[bytes],
    rate: int,
    scan: Callable[[Lab, threading.Event, threading.Event], None],
) -> Attack:
    """A flood that lasts until the sessions are over and `scan` returns."""

    def attack(begun: threading.Event, over: threading.Event) -> int:
        burst = Burst(lab, list(itertools.islice(frames, _FRAMES)))
        try:
            with ThreadPoolExecutor(1) as pool:
                scans: Future[None] = pool.submit(scan, lab, begun, over)
                try:
                    sent = burst.repeat(rate, begun, lambda: over.is_set() and scans.done())
                finally:
                    # The scans wait for it, and the pool for them.
                    begun.set()
            scans.result()
        finally:
            burst.close()
        return sent

    return attack


def _scan(lab: Lab, begun: threading.Event, _over: threading.Event) -> None:
    """Run each scan once."""
    begun.wait()
    for source, scan in zip(_scanners(lab), _SCANS.values(), strict=False):
        _run(lab, scan.argv, source)


def _mix(lab: Lab, begun: threading.Event, over: threading.Event) -> None:
    """Run the scans once, and further attacks until the sessions are over."""
    _scan(lab, begun, over)
    for argv in itertools.cycle((*_OTHERS, *(scan.argv for scan in _SCANS.values()))):
        if over.is_set():
            break
        _run(lab, argv, _scanners(lab)[-1])


def _run(lab: Lab, argv: Iterable[str], source: str) -> None:
    words = [word.format(source=source) for word in argv]
    words += [decky.v4 for decky in lab.deckies]
    done = lab.run(lab.client, words, seconds=_SCAN_SECONDS)
    if done.returncode and words[0] not in _PROGRAMS_THAT_FAIL:
        raise LabError(f"{words[0]}: {done.stderr.strip()}")


def _scanners(lab: Lab) -> list[str]:
    """The address of each scan, and one of further attacks. None makes a session."""
    return list(lab.client.ipv4[-len(_SCANS) - 1 :])


def _at_once(lab: Lab) -> Attack:
    """Scans of the fleet by many sources. Each of them sends a frame in turn."""
    mac = link_address(lab, lab.client)
    links = {decky.name: link_address(lab, decky) + mac for decky in lab.deckies}
    sources = [ip_address(text).packed for text in _sources()]
    frames = []
    for port in range(1, _AT_ONCE_PORTS + 1):
        for decky in lab.deckies:
            servers = {len(packed): packed for packed in map(_packed, (decky.v4, decky.v6))}
            for number, source in enumerate(sources):
                server = servers[len(source)]
                ends = pack("!HHII", 40_000 + port, port, number * 2_654_435_761 % 2**32, 0)
                segment = spoofed.tcp(source, server, ends, SYN, LINUX_OPTIONS)
                link = links[decky.name]
                frames.append(spoofed.packet(link, source, server, spoofed.TCP, segment))

    def attack(begun: threading.Event, over: threading.Event) -> int:
        burst = Burst(lab, frames)
        begun.set()
        try:
            sent = burst.once(_AT_ONCE_RATE)
        finally:
            burst.close()
        over.wait()
        return sent

    return attack


def _packed(address: str) -> bytes:
    return ip_address(address).packed


def _sources() -> list[str]:
    """Addresses that no node has, of IPv4 and IPv6 in turn."""
    return [
        f"2001:db8:f000::{number + 1:x}" if number % 2 else f"10.9.{number >> 8}.{number & 255}"
        for number in range(_AT_ONCE)
    ]


# --- what was reported --------------------------------------------------------------------------


def _scans_found(lab: Lab, agent: Agent, what: str) -> Line:
    found = _summaries(agent)
    whole, note = 0, []
    for source, (kind, scan) in zip(_scanners(lab), _SCANS.items(), strict=False):
        is_whole, shown = _judged(found[source], scan.targets, kind)
        whole += is_whole
        note.append(shown)
    return _share(f"real scans reported whole, during {what}", whole, len(_SCANS), ", ".join(note))


def _sources_found(_lab: Lab, agent: Agent, what: str) -> Line:
    found = _summaries(agent)
    targets = _AT_ONCE_PORTS * len(FLEET)
    judged = [_judged(found[source], targets, "syn")[0] for source in _sources()]
    present = sum(1 for source in _sources() if found[source])
    return _share(
        f"scans reported whole, {what}", sum(judged), _AT_ONCE, f"{present:,} sources have events"
    )


def _summaries(agent: Agent) -> dict[str, list[dict[str, str]]]:
    """The scan_summary events of each source."""
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for name, fields in agent.events():
        if name == "scan_summary":
            found[fields["src_ip"]].append(fields)
    return found


def _judged(summaries: list[dict[str, str]], targets: int, kind: str) -> tuple[bool, str]:
    """Whether these are the events of one scan that has ended with so many targets."""
    if not summaries:
        return False, f"{kind} none"
    last = summaries[-1]
    is_one = len({fields["scan_id"] for fields in summaries}) == 1
    seen = kind in last["kinds"].split(",")
    is_whole = is_one and seen and last["phase"] == "ended" and int(last["targets"]) >= targets
    return is_whole, f"{kind} {last['targets']} of {targets} targets"


def _giveaways(agent: Agent, what: str) -> Line:
    found = [(name, fields) for name, fields in agent.events() if name in _GIVEAWAYS]
    note = ""
    if found:
        name, fields = found[0]
        note = f"{name}: {fields.get('evidence') or fields.get('dst_ip', '')}"
    return Line(
        SECTION,
        f"giveaways reported of {len(FLEET)} correct deckies, during {what}",
        Spread.of([len(found)]),
        "",
        "0",
        0,
        1,
        Goal("≤", 0),
        note,
    )


def _share(what: str, number: int, goal: int, note: str) -> Line:
    return Line(
        SECTION,
        what,
        Spread.of([number]),
        "",
        f"{goal:,} made",
        goal,
        ratio(number, goal),
        Goal("≥", goal),
        note,
    )

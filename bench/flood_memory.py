"""The memory that floods from spoofed sources cost the agent, with its default settings.

Each packet opens its own suppression window, so this is the cost of everything kept by source. SYNs
go to a decky that answers them. ClientHellos are mid-stream and go to an address that no node has:
there no reset ends the connection in the agent's tables.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from socket import AF_INET, AF_INET6, inet_pton
from struct import pack

from bench.figures import Goal, Line, Spread, ratio
from bench.flood_hello import client_hello
from bench.observers import Agent
from bench.packets import Burst, link_address
from bench.real_sessions import LOSSES
from deckwire.lab import Lab

SECTION = "memory after floods, default settings"
RATE = 3_000
"""Packets a second."""

GHOSTS = "198.18.9.9", "2001:db8::9:9"
"""Deckies whose addresses no node has, of IPv4 and IPv6."""

_TICK_SECONDS = 0.1
_DRAIN_SECONDS = 5.0
_PORT = 443
_SYN, _PSH_ACK = 0x02, 0x18
_ETH_IPV4, _ETH_IPV6, _TCP = 0x0800, 0x86DD, 6
_HELLO_BYTES = 517
_LONGEST_NAME = 253
"""Characters of the longest host name (RFC 1035, 3.1)."""
_OPTIONS = bytes.fromhex("020405b40402080a000010010000000001030307")
"""The options of Linux: MSS, SACK, timestamps, NOP, window scale."""
_GOAL = Goal("≤", 70)

Segment = tuple[int, bytes, bytes]
"""Flags, options and payload of a TCP segment."""


def measure(lab: Lab, seconds: float) -> list[Line]:
    """Run each kind of flood for `seconds`. Each packet has its own source, v4 and v6 in turn."""
    target = lab.deckies[0]
    # Replies to the spoofed sources go to the client, which drops them.
    lab.run(target, ["ip", "-4", "route", "replace", "default", "via", lab.client.v4])
    lab.run(target, ["ip", "-6", "route", "replace", "default", "via", lab.client.v6])
    answering = target.v4, target.v6
    return [
        _line(lab, what, make, answering if answered else GHOSTS, seconds)
        for what, (make, answered) in _KINDS.items()
    ]


def _line(
    lab: Lab, what: str, make: Callable[[], Segment], servers: tuple[str, str], seconds: float
) -> Line:
    agent = Agent(lab, [word for each in GHOSTS for word in ("--decky", f"{each}=ghost")])
    before = agent.resident_bytes() / 1e6
    sent = 0
    frames = frames_of(lab, make, *servers)
    started = due = time.monotonic()
    while due < started + seconds:
        burst = Burst(lab, list(itertools.islice(frames, round(RATE * _TICK_SECONDS))))
        sent += burst.send()
        burst.close()
        due += _TICK_SECONDS
        time.sleep(max(due - time.monotonic(), 0))
    took = time.monotonic() - started
    time.sleep(_DRAIN_SECONDS)
    after = agent.resident_bytes() / 1e6
    sums = agent.stop()
    lost = {name: sums[name] for name in (*LOSSES, "dedup_evicted") if sums.get(name)}
    return Line(
        SECTION,
        f"resident memory, {sent:,} {what} at {sent / took:,.0f} a second",
        Spread.of([after]),
        "MB",
        f"before {before:.1f} MB",
        before,
        ratio(after, before),
        _GOAL,
        ", ".join(
            [
                f"{sums['events_emitted']:,} events",
                *(f"{name} {count:,}" for name, count in lost.items()),
            ]
        ),
    )


def frames_of(lab: Lab, make: Callable[[], Segment], v4: str, v6: str) -> Iterator[bytes]:
    """Endless frames to these two addresses, with correct checksums, the same at each run."""
    link = link_address(lab, lab.deckies[0]) + link_address(lab, lab.client)
    server4, server6 = inet_pton(AF_INET, v4), inet_pton(AF_INET6, v6)
    chosen = random.Random(1)
    while True:
        # No node of the lab has an address in 10.0.0.0/8 or 2001:db8:f000::/36.
        source = b"\x0a" + chosen.randbytes(3)
        segment = _segment(source, server4, chosen.randbytes(10), *make())
        head = pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, _TCP, 0)
        check = _checksum(head + source + server4)
        yield b"".join((link, pack("!H", _ETH_IPV4), head[:10], check, source, server4, segment))
        source = b"\x20\x01\x0d\xb8\xf0" + chosen.randbytes(11)
        segment = _segment(source, server6, chosen.randbytes(10), *make())
        head = pack("!IHBB", 6 << 28, len(segment), _TCP, 64)
        yield b"".join((link, pack("!H", _ETH_IPV6), head, source, server6, segment))


def _segment(
    source: bytes, server: bytes, numbers: bytes, flags: int, options: bytes, payload: bytes
) -> bytes:
    """TCP from `source` to the port of the deckies; `numbers` are its source port, seq and ack."""
    sport = 1_024 + int.from_bytes(numbers[:2]) % 60_000
    ack = numbers[6:] if flags != _SYN else bytes(4)
    window = 64_240
    words = (20 + len(options)) // 4 << 12 | flags
    head = pack("!HH4s4sHHHH", sport, _PORT, numbers[2:6], ack, words, window, 0, 0)
    segment = b"".join((head, options, payload))
    check = _checksum(b"".join((source, server, pack("!HH", _TCP, len(segment)), segment)))
    return segment[:16] + check + segment[18:]


def _checksum(data: bytes) -> bytes:
    """RFC 1071: the sum of words in ones' complement is the remainder by 65,535."""
    total = int.from_bytes(data + b"\0" * (len(data) % 2)) % 0xFFFF
    return (0xFFFF - total).to_bytes(2)


def _equal_syns() -> Callable[[], Segment]:
    return lambda: (_SYN, _OPTIONS, b"")


def _varied_syns() -> Callable[[], Segment]:
    """SYNs with NOPs and unknown option kinds: most options fit into 40 bytes that way."""
    chosen = random.Random(2)

    def make() -> Segment:
        options = b""
        while len(options) < 38:
            options += chosen.choice((b"\x01", bytes((chosen.randrange(30, 250), 2)), b"\x04\x02"))
        return _SYN, options.ljust(40, b"\x01"), b""

    return make


def spoofed_hellos() -> Callable[[], Segment]:
    """The maker of mid-stream segments with a ClientHello."""
    hello = client_hello(_HELLO_BYTES)
    return lambda: (_PSH_ACK, b"", hello)


def _varied_hellos() -> Callable[[], Segment]:
    """ClientHellos of 1,400 bytes, each with another name, cipher suites and extensions."""
    chosen = random.Random(3)

    def make() -> Segment:
        name = chosen.randbytes(_LONGEST_NAME).translate(_LETTERS)
        suites = chosen.randbytes(2 * 200)
        extensions = [pack("!HHHBH", 0, 5 + len(name), 3 + len(name), 0, len(name)) + name]
        # Extensions without a body, of kinds that are not assigned.
        kinds = chosen.sample(range(20_000, 65_000), 120)
        extensions += [pack("!HH", kind, 0) for kind in kinds]
        body = b"".join(extensions)
        message = b"".join(
            (
                *(b"\x03\x03", chosen.randbytes(32), b"\0", pack("!H", len(suites)), suites),
                *(b"\x01\0", pack("!H", len(body)), body),
            )
        )
        message = b"\x01" + len(message).to_bytes(3) + message
        return _PSH_ACK, b"", pack("!BHH", 22, 0x0301, len(message)) + message

    return make


_LETTERS = bytes(ord("a") + byte % 26 for byte in range(256))

_KINDS: dict[str, tuple[Callable[[], Segment], bool]] = {
    "spoofed SYNs": (_equal_syns(), True),
    "spoofed SYNs, each with different options,": (_varied_syns(), True),
    "spoofed mid-stream ClientHellos": (spoofed_hellos(), False),
    "spoofed mid-stream ClientHellos, each different,": (_varied_hellos(), False),
}
"""The maker of the segments, and whether a decky replies."""

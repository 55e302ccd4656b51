"""Compare fingerprints of the same captures: by tshark, by our parsers and by our replay."""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from deckwire.events.event import Event
from deckwire.fingerprints import ja3
from deckwire.tls.code_points import HandshakeType
from deckwire.tls.errors import Malformed
from deckwire.tls.messages import parse_client_hello, parse_server_hello
from deckwire.tls.records import RecordReader
from tests.differential.hellos import EC_POINT_FORMATS, SUPPORTED_GROUPS
from tests.differential.wire import Exchange

Pair = tuple[str, str]
"""The fingerprints of client and server; "" if there is none."""


class Subject(NamedTuple):
    """What is compared."""

    names: Pair
    """What the fingerprints of client and server are called."""
    tshark: Callable[[Path, int], list[Pair]]
    """Gives tshark's for so many connections of a capture."""
    ours: Callable[[Exchange], Pair]
    """Gives those of our parsers."""
    exclusion: Callable[[Exchange], str]
    """Says why an exchange cannot be compared; "" if it can."""
    replayed: Callable[[list[Event], int], list[Pair]]
    """Gives those of the events of a replay, in the order in which write_pcap numbers clients."""
    emitted: Callable[[Pair], Pair]
    """Turns fingerprints of our parsers into those of events."""


class Report(NamedTuple):
    """The result of a comparison."""

    clients: int
    """Number of equal fingerprints of clients."""
    servers: int
    """Number of equal ones of servers."""
    excluded: Counter[str]
    """Number of exchanges not compared, by the rule that excludes them."""
    different: list[str]


def compare(subject: Subject, exchanges: list[Exchange], theirs: list[Pair]) -> Report:
    """Compare our fingerprints with theirs by index; count the exchanges that a rule excludes."""
    clients, servers, excluded, different = 0, 0, Counter[str](), []
    for exchange, their in zip(exchanges, theirs, strict=True):
        rule = subject.exclusion(exchange)
        our = subject.ours(exchange)
        if rule:
            excluded[rule] += 1
        elif our == their and any(our):
            clients += bool(our[0])
            servers += bool(our[1])
        else:
            different.append(
                f"{exchange.what}\n  ours   {our}\n  tshark {their}\n"
                f"  client {exchange.client.hex()}\n  server {exchange.server.hex()}"
            )
    return Report(clients, servers, excluded, different)


def exclusion(exchange: Exchange) -> str:
    """Return why this exchange cannot be compared; "" if it can.

    JA3 does not define the result for a ClientHello with two supported_groups or ec_point_formats,
    which RFC 8446, 4.2 forbids. tshark joins both lists; we use the last, like Salesforce's code.
    """
    body = _first(exchange.client, HandshakeType.CLIENT_HELLO)
    if body is not None:
        kinds = Counter(kind for kind, _ in parse_client_hello(body).extensions)
        if max(kinds[SUPPORTED_GROUPS], kinds[EC_POINT_FORMATS]) > 1:
            return "supported_groups or ec_point_formats repeated"
    return ""


def ours(exchange: Exchange) -> Pair:
    """Return the full strings by our record reader and message parsers."""
    full = ["", ""]
    try:
        body = _first(exchange.client, HandshakeType.CLIENT_HELLO)
        if body is not None:
            full[0] = ja3.ja3_full(parse_client_hello(body))
        body = _first(exchange.server, HandshakeType.SERVER_HELLO)
        if body is not None:
            full[1] = ja3.ja3s_full(parse_server_hello(body))
    except Malformed as error:
        full.append(error.reason)
    return full[0], full[1]


def tshark(path: Path, count: int) -> list[Pair]:
    """Return the full strings by tshark for the first `count` TCP connections of the capture.

    The first hello of each direction counts, as in ours.
    """
    fields = ("tls.handshake.ja3_full", "tls.handshake.ja3s_full")
    return read_with_tshark(path, count, "tls.handshake.type <= 2", fields)


def read_with_tshark(
    path: Path, count: int, wanted: str, fields: Pair, options: Sequence[str] = ()
) -> list[Pair]:
    """Return the first value of both fields for the first `count` TCP connections of the capture.

    `wanted` is a display filter.
    """
    command = ["tshark", "-n", "-r", str(path), *options, "-Y", wanted, "-T", "fields"]
    command += ["-E", "occurrence=f"]
    for field in ("tcp.stream", *fields):
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [["", ""] for _ in range(count)]
    for line in done.stdout.splitlines():
        stream, *values = line.split("\t")
        for side, text in enumerate(values):
            if text and not found[int(stream)][side]:
                found[int(stream)][side] = text
    return [(client, server) for client, server in found]


def replayed(events: list[Event], count: int) -> list[Pair]:
    """Return the MD5s by our replay, in the order in which write_pcap numbers the clients."""
    return read_events(events, count, (("tls_client_hello", "ja3"), ("tls_session", "ja3s")))


def read_events(events: list[Event], count: int, places: Sequence[tuple[str, str]]) -> list[Pair]:
    """Return the values of client and server; `places` has the event and the field of each."""
    found = [["", ""] for _ in range(count)]
    for event in events:
        fields = dict(event.fields)
        for side, (name, field) in enumerate(places):
            if event.name == name and field in fields:
                octets = bytes(map(int, str(fields["src_ip"]).split(".")))
                found[int.from_bytes(octets[1:], "big")][side] = str(fields[field])
    return [(client, server) for client, server in found]


def md5s(pair: Pair) -> Pair:
    """Return the MD5s of full strings."""
    client, server = (
        hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() if text else ""
        for text in pair
    )
    return client, server


def _first(records: bytes, kind: int) -> bytes | None:
    messages = RecordReader().feed(records)
    return next((each.body for each in messages if each.type == kind), None)


TLS = Subject(("JA3", "JA3S"), tshark, ours, exclusion, replayed, md5s)

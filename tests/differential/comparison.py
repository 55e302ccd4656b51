"""JA3 and JA3S of the same captures by three readers: tshark, our parsers, our whole replay."""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from deckwire.events.event import Event
from deckwire.fingerprints import ja3
from deckwire.tls.errors import Malformed
from deckwire.tls.messages import parse_client_hello, parse_server_hello
from deckwire.tls.records import HandshakeType, RecordReader
from tests.differential.hellos import EC_POINT_FORMATS, SUPPORTED_GROUPS
from tests.differential.wire import Exchange

Pair = tuple[str, str]
"""Full strings of JA3 and JA3S; "" where there is none."""


class Report(NamedTuple):
    """What comparing came to."""

    clients: int
    """JA3s that are equal."""
    servers: int
    """JA3Ss that are equal."""
    excluded: Counter[str]
    """Exchanges not compared, by the rule that leaves them out."""
    different: list[str]


def compare(exchanges: list[Exchange], theirs: list[Pair]) -> Report:
    """Ours against theirs, by index; an exchange that a rule leaves out is counted under it."""
    clients, servers, excluded, different = 0, 0, Counter[str](), []
    for exchange, their in zip(exchanges, theirs, strict=True):
        rule = exclusion(exchange)
        our = ours(exchange)
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
    """Why this exchange cannot be compared; "" if it can.

    JA3 says nothing about a ClientHello with two supported_groups or two ec_point_formats, which
    RFC 8446, 4.2 forbids: tshark joins both lists, we take the last as salesforce's code does.
    """
    body = _first(exchange.client, HandshakeType.CLIENT_HELLO)
    if body is not None:
        kinds = Counter(kind for kind, _ in parse_client_hello(body).extensions)
        if max(kinds[SUPPORTED_GROUPS], kinds[EC_POINT_FORMATS]) > 1:
            return "supported_groups or ec_point_formats repeated"
    return ""


def ours(exchange: Exchange) -> Pair:
    """By our record reader and message parsers."""
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
    """By tshark, for the first `count` TCP connections of the capture.

    Of each direction the first hello counts, as it does with us.
    """
    fields = ("tcp.stream", "tls.handshake.ja3_full", "tls.handshake.ja3s_full")
    command = ["tshark", "-n", "-r", str(path), "-Y", "tls.handshake.type <= 2", "-T", "fields"]
    command += ["-E", "occurrence=f"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [["", ""] for _ in range(count)]
    for line in done.stdout.splitlines():
        stream, *full = line.split("\t")
        for side, text in enumerate(full):
            if text and not found[int(stream)][side]:
                found[int(stream)][side] = text
    return [(client, server) for client, server in found]


def replayed(events: list[Event], count: int) -> list[Pair]:
    """By our replay: MD5s, by the order in which write_pcap numbers the clients."""
    found = [["", ""] for _ in range(count)]
    for event in events:
        if event.name not in ("tls_client_hello", "tls_session"):
            continue
        fields = dict(event.fields)
        index = int.from_bytes(bytes(map(int, str(fields["src_ip"]).split(".")))[1:], "big")
        side = event.name == "tls_session"
        found[index][side] = str(fields["ja3s" if side else "ja3"])
    return [(client, server) for client, server in found]


def md5s(pair: Pair) -> Pair:
    """The fingerprints of full strings."""
    client, server = (
        hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() if text else ""
        for text in pair
    )
    return client, server


def _first(records: bytes, kind: int) -> bytes | None:
    messages = RecordReader().feed(records)
    return next((each.body for each in messages if each.type == kind), None)

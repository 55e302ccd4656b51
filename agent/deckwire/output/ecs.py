"""Events in Elastic Common Schema, one JSON object a line.

Names of fields are those of the catalogue. What Elastic Common Schema has no name for is in
``deckwire``. An empty value is left out.

A line is made of members: the JSON text of each value by its whole name, such as ``source.ip``.
Events with the same names have one shape, so their objects are nested only once.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any

from deckwire import __version__
from deckwire.events.catalogue import CATALOGUE
from deckwire.events.declaration import DeclaredEvent
from deckwire.events.event import SCHEMA, Block, Event, Part, Value
from deckwire.events.timestamp import timestamp
from deckwire.limits import LINE_BYTES, SHAPES
from deckwire.output.json_lines import value_text

ECS_VERSION = "8.11.0"

_OF_A_DECKY = "decky_"
"""Begins the name of a field about a decky that opened the connection."""
_TLS_EVENTS = ("tls_client_hello", "tls_session", "tls_certificate")
_SSH_EVENTS = ("ssh_client_banner", "ssh_server_banner")
_HASHES = (
    *("tls.client.ja3", "tls.client.ja4", "tls.server.ja3s", "tls.server.ja4s"),
    *("tls.server.hash.sha256", "tls.client.hash.sha256", "deckwire.ja3", "deckwire.ja4"),
)
_OF_AN_END = ("ip", "port", "domain", "bytes", "packets")

_VERSION = re.compile(r"(TLS|SSL) (\d\.\d)( .+)?")
_ASN1_TIME = re.compile(r"(\d{2}|\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z", re.ASCII)
_NS = 1_000_000_000

Members = dict[str, str]
Values = Mapping[str, Value]
"""Values by their whole names in Elastic Common Schema."""
Write = Callable[[Any], Values]
"""Gives the values for a value of Deckwire."""


class EcsFormat:
    """``{"@timestamp": …, "event": {…}, "source": {…}, …}``."""

    def __init__(self) -> None:
        self._heads = {name: _head(event) for name, event in CATALOGUE.items()}
        self._writers = {name: _writers(event) for name, event in CATALOGUE.items()}
        self._shape = lru_cache(maxsize=SHAPES)(_shape)

    def line(self, event: Event) -> bytes:
        """The event in at most LINE_BYTES bytes of UTF-8, without control characters or newline.

        A longer event loses fields from its end, in the order of the catalogue, and
        ``deckwire.cut`` says so.
        """
        line = self._line(event, event.parts)
        if len(line) <= LINE_BYTES:
            return line
        fields = event.fields

        def cut(kept: int) -> bytes:
            return self._line(event, fields[:kept], is_cut=True)

        many = bisect_left(range(len(fields)), True, key=lambda kept: len(cut(kept)) > LINE_BYTES)
        return cut(max(0, many - 1))

    def _line(self, event: Event, parts: tuple[Part, ...], *, is_cut: bool = False) -> bytes:
        members = {
            "@timestamp": f'"{timestamp(event.time_ns)}"',
            **self._heads[event.name],
            "event.severity": str(event.severity),
        }
        if is_cut:
            members["deckwire.cut"] = "true"
        if event.event_id:
            members["event.id"] = f'"{event.event_id}"'
            members["observer.name"] = value_text(event.sensor)
        for part in parts:
            if type(part) is Block:
                if part.members is None:
                    part.members = self._written(event.name, part.fields)
                members |= part.members
            else:
                members |= self._written(event.name, (part,))
        of_connection = CATALOGUE[event.name].of_connection
        if event.host:
            host = "deckwire.decky" if of_connection else "observer.hostname"
            members[host] = value_text(event.host)
        if of_connection:
            members = _complete(members, event)
        template, pick = self._shape(tuple(members))
        text: str = template % pick(members)
        return text.encode()

    def _written(self, event: str, fields: tuple[tuple[str, Value], ...]) -> Members:
        writers = self._writers[event]
        members: Members = {}
        for name, value in fields:
            if value in ("", ()):
                continue
            write = writers.get(name)
            if write is None:
                write = writers[name] = _unlisted(event, name, writers)
            for path, one in write(value).items():
                members[path] = value_text(one)
        return members


def _head(event: DeclaredEvent) -> Members:
    """The members that all events of a kind share."""
    return {
        "ecs.version": value_text(ECS_VERSION),
        "event.kind": value_text("event"),
        "event.category": value_text(("network",)),
        "event.type": value_text(event.kinds),
        "event.module": value_text("deckwire"),
        "event.dataset": value_text(f"deckwire.{event.name}"),
        "event.action": value_text(event.name),
        "observer.type": value_text("sensor"),
        "observer.product": value_text("Deckwire"),
        "observer.version": value_text(__version__),
        "deckwire.schema": value_text(SCHEMA),
    }


def _shape(paths: tuple[str, ...]) -> tuple[str, itemgetter[Any]]:
    """A template for members with these names, and what picks their texts in its order."""
    tree: dict[str, Any] = {}
    for path in paths:
        *outer, last = path.split(".")
        inside = tree
        for one in outer:
            inside = inside.setdefault(one, {})
        inside[last] = path
    order: list[str] = []

    def nested(inside: dict[str, Any]) -> str:
        members = []
        for name, found in inside.items():
            if isinstance(found, str):
                order.append(found)
                members.append(f'"{name}": %s')
            else:
                members.append(f'"{name}": {nested(found)}')
        return f"{{{', '.join(members)}}}"

    template = nested(tree)
    return template, itemgetter(*order)


def _complete(members: Members, event: Event) -> Members:
    """Add what follows from the fields of a connection's event."""
    members.setdefault("network.transport", '"tcp"')
    members["network.type"] = '"ipv6"' if ":" in event.source else '"ipv4"'
    if event.turned:
        members = _turn(members)
    client, server = ("destination", "source") if event.turned else ("source", "destination")
    if event.name in _TLS_EVENTS:
        members["network.protocol"] = '"tls"'
        if members.get("deckwire.side") == '"client"':
            # A client's certificate was put at the server.
            members = {
                path.replace("tls.server.", "tls.client."): text for path, text in members.items()
            }
        if (name := members.get("tls.client.server_name")) is not None:
            # It is the name of the server of TLS.
            members[f"{client if 'deckwire.tls_client' in members else server}.domain"] = name
    elif event.name in _SSH_EVENTS:
        members["network.protocol"] = '"ssh"'
    elif event.name == "http_request":
        members["network.protocol"] = '"http"'
    for role, end in (("client", client), ("server", server)):
        for name in _OF_AN_END:
            if (text := members.get(f"{end}.{name}")) is not None:
                members[f"{role}.{name}"] = text
    source, destination = members.get("source.ip", ""), members.get("destination.ip", "")
    both = f"{source}, {destination}" if source != destination else source
    members["related.ip"] = f"[{both}]"
    hashes = [members[path] for path in _HASHES if path in members]
    if hashes:
        members["related.hash"] = f"[{', '.join(hashes)}]"
    return members


def _turn(members: Members) -> Members:
    """Exchange the figures of both ends: those of the client were put at the source."""
    ends = {"source": "destination", "destination": "source"}
    turned = {}
    for path, text in members.items():
        end, _, name = path.partition(".")
        if name in ("bytes", "packets"):
            path = f"{ends.get(end, end)}.{name}"  # noqa: PLW2901 - another name for the same
        turned[path] = text
    return turned


# --- values ---


def _writers(event: DeclaredEvent) -> dict[str, Write]:
    """How each field of an event is written, by its name."""
    return {one.name: _SPECIAL.get(one.ecs) or _plainly(one.ecs) for one in event.fields}


def _unlisted(event: str, name: str, writers: Mapping[str, Write]) -> Write:
    """How a field that the catalogue does not name is written."""
    if CATALOGUE[event].has_counters:
        return _plainly(f"deckwire.stats.{name}")
    if name.startswith(_OF_A_DECKY):
        declared = {one.name: one.ecs for one in CATALOGUE[event].fields}
        plain = name.removeprefix(_OF_A_DECKY)
        if not declared.get(plain, "deckwire.").startswith("deckwire."):
            return writers[plain]
    return _plainly(f"deckwire.{name}")


def _plainly(path: str) -> Write:
    return lambda value: {path: value}


def _direction(text: str) -> Values:
    return {"network.direction": "internal" if text == "lateral" else text}


def _duration(seconds: float) -> Values:
    return {"event.duration": round(seconds * _NS)}


def _version(text: str) -> Values:
    """The number of a version. A draft and an unknown version have their text too."""
    found = _VERSION.fullmatch(text)
    if found is None:
        return {"deckwire.tls_version": text}
    values = {"tls.version": found[2], "tls.version_protocol": found[1].lower()}
    return values | {"deckwire.tls_version": text} if found[3] else values


def _date(name: str) -> Write:
    """An ASN.1 time in ISO 8601. UTCTime has two digits for the year (RFC 5280, 4.1.2.5.1)."""

    def write(text: str) -> Values:
        found = _ASN1_TIME.fullmatch(text)
        if found is not None:
            year, month, day, hour, minute, second = map(int, found.groups())
            if len(found[1]) == len("YY"):
                year += 1900 if year >= 50 else 2000
            try:
                date = datetime(year, month, day, hour, minute, second)
            except ValueError:
                pass
            else:
                return {f"tls.server.{name}": f"{date.isoformat()}Z"}
        return {f"deckwire.{name}": text}

    return write


_SPECIAL: dict[str, Write] = {
    "network.direction": _direction,
    "event.duration": _duration,
    "tls.version": _version,
    "tls.server.not_before": _date("not_before"),
    "tls.server.not_after": _date("not_after"),
    "tls.server.hash.sha256": lambda text: {"tls.server.hash.sha256": text.upper()},
    "tls.server.x509.serial_number": lambda text: {"tls.server.x509.serial_number": text.upper()},
    "tls.server.x509.subject.common_name": lambda text: {
        "tls.server.x509.subject.common_name": (text,)
    },
}

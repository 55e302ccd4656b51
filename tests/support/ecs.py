"""Checks lines of Elastic Common Schema against its list of fields."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from deckwire.events.event import Event
from deckwire.limits import LINE_BYTES
from deckwire.output.ecs import ECS_VERSION, EcsFormat

LIST = Path(__file__).parents[1] / "schema" / "ecs_fields.tsv"
USED_BY_OTHERS = frozenset({"tls.client.ja4", "tls.server.ja4s"})
"""Names that the list lacks. Other programs write JA4 there."""

_format = EcsFormat()
_ALLOWED = {
    "event.kind": {"event"},
    "event.category": {"network"},
    "event.type": {"connection", "end", "info", "protocol", "start"},
    "network.direction": {"inbound", "outbound", "internal"},
    "network.type": {"ipv4", "ipv6"},
}


@cache
def ecs_fields() -> dict[str, tuple[str, bool]]:
    """The type of each field, and whether it is an array."""
    rows = (line.split("\t") for line in LIST.read_text().splitlines() if line[0] != "#")
    return {name: (kind, array == "array") for name, kind, array in rows}


def flat(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            assert value, path + name
            yield from flat(value, f"{path}{name}.")
        else:
            yield path + name, value


def check_ecs(events: Iterable[Event]) -> None:
    """Check the lines of events that were emitted."""
    for event in events:
        line = _format.line(event)
        assert len(line) <= LINE_BYTES
        assert line.decode().isprintable()
        found = dict(flat(json.loads(line)))
        assert found["ecs.version"] == ECS_VERSION
        assert found["event.id"] == event.event_id
        assert found["event.action"] == event.name
        for name, value in found.items():
            check_value(name, value)


def check_value(name: str, value: Any) -> None:
    values = value if isinstance(value, list) else [value]
    assert values, name
    assert value != "", name
    if name.startswith("deckwire."):
        return
    if name in USED_BY_OTHERS:
        kind, array = "keyword", False
    else:
        kind, array = ecs_fields()[name]
    assert isinstance(value, list) == array, (name, value)
    for one in values:
        assert one in _ALLOWED.get(name, {one}), (name, one)
        match kind:
            case "keyword" | "wildcard":
                assert type(one) is str, (name, one)
            case "long":
                assert type(one) is int, (name, one)
            case "boolean":
                assert type(one) is bool, (name, one)
            case "ip":
                assert str(ip_address(one)) == one
            case "date":
                assert datetime.fromisoformat(one.replace("Z", "+00:00")).tzinfo
            case _:
                raise AssertionError((name, kind))
    if "hash.sha256" in name:
        assert re.fullmatch("[0-9A-F]{64}", value)

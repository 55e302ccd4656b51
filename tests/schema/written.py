"""What is written from the catalogue of events: the tables of docs/events.md and JSON Schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deckwire.events.catalogue import CATALOGUE, EVERYWHERE
from deckwire.events.declaration import Declared, DeclaredEvent, Type
from deckwire.events.event import SCHEMA
from deckwire.events.turned import NAMES, RENAMED
from tests.support.shared import CHECKOUT

PAGE = CHECKOUT / "docs" / "events.md"
FOLDER = CHECKOUT / "docs" / "schema"

_TABLE = re.compile(r"(<!-- fields of (\w+): make schema -->\n).*?(<!-- end -->\n)", re.DOTALL)
_TYPES: dict[Type, dict[str, Any]] = {
    Type.TEXT: {"type": "string"},
    Type.INTEGER: {"type": "integer", "minimum": 0},
    Type.NUMBER: {"type": "number", "minimum": 0},
    Type.BOOLEAN: {"type": "boolean"},
    Type.LIST: {"type": "array", "items": {"type": "string"}},
    Type.INTEGER_OR_EMPTY: {"anyOf": [{"type": "integer"}, {"const": ""}]},
}
_BOUNDS: dict[str, dict[str, Any]] = {
    "event_id": {"pattern": "^[0-9a-f]{32}$"},
    "schema": {"const": SCHEMA},
    "cut": {"const": True},
    "src_port": {"maximum": 65_535},
    "dst_port": {"maximum": 65_535},
}
"""What a schema says of a field in addition to its type."""
_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$"


def texts() -> Iterator[tuple[Path, str]]:
    """Every file that is written, and what it must contain."""
    yield PAGE, _page(PAGE.read_text())
    for event in CATALOGUE.values():
        text = json.dumps(schema(event), indent=2, ensure_ascii=False) + "\n"
        yield FOLDER / f"{event.name}.json", text


def schema(event: DeclaredEvent) -> dict[str, Any]:
    """The JSON Schema of the event's line in the format `json`."""
    always = [one.name for one in event.fields if not one.optional]
    # A line that was cut may lack any of its own fields. Fields about a decky may have other names.
    renamed = [[names.get(name, name) for name in always] for names in RENAMED.values()]
    sets = [always, *renamed, ["cut"]]
    fields: dict[str, Any] = {
        "type": "object",
        "properties": dict(_properties(event)),
        "additionalProperties": {"type": "integer", "minimum": 0} if event.has_counters else False,
        "required": [one.name for one in EVERYWHERE if not one.optional],
        "anyOf": [{"required": names} for at, names in enumerate(sets) if names not in sets[:at]],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": event.name,
        "description": f"A line of Deckwire's format json, schema version {SCHEMA}.",
        "type": "object",
        "properties": {
            "ts": {"type": "string", "pattern": _TIME},
            "host": {"type": "string"},
            "event": {"const": event.name},
            "severity": {"enum": list(event.severities)},
            "fields": fields,
        },
        "required": ["ts", "host", "event", "severity", "fields"],
        "additionalProperties": False,
    }


def _properties(event: DeclaredEvent) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in (*event.fields, *EVERYWHERE):
        meaning = f"{one.meaning}, in {one.unit}" if one.unit else one.meaning
        kind = {**_TYPES[one.type], "description": _plain(meaning)}
        if one.values:
            kind["enum"] = list(one.values)
        kind |= _BOUNDS.get(one.name, {})
        yield one.name, kind
        name = NAMES.get(one.name, one.name)
        if name.startswith("decky_") and "direction" in {each.name for each in event.fields}:
            text = f'{one.name} of the decky, with outbound_source = "peer"'
            yield name, {**kind, "description": text}


def _plain(markdown: str) -> str:
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", markdown).replace("`", "")


def _page(text: str) -> str:
    """The page with its tables as they must be."""

    def table(found: re.Match[str]) -> str:
        name = found[2]
        fields = EVERYWHERE if name == "everything" else CATALOGUE[name].fields
        since = min(one.since for one in fields)
        rows = ["| field | type | ECS | what |", "|---|---|---|---|"]
        rows += [_row(one, since) for one in fields]
        if since > 1:
            rows = [f"Since schema {since}.", "", *rows]
        return found[1] + "".join(f"{row}\n" for row in rows) + found[3]

    return _TABLE.sub(table, text)


def tables(text: str) -> set[str]:
    """The events whose tables a page has, and ``everything``."""
    return {name for _, name, _ in _TABLE.findall(text)}


def _row(one: Declared, since: int) -> str:
    """The row of a field of an event that came with schema `since`."""
    kind = f"{one.type}, {one.unit}" if one.unit else str(one.type)
    if one.since > since:
        kind += f", since schema {one.since}"
    ecs = "" if one.ecs == f"deckwire.{one.name}" else f"`{one.ecs}`"
    meaning = one.meaning
    if one.values and "](#" not in meaning and not any(f"`{v}`" in meaning for v in one.values):
        meaning += ": " + ", ".join(f"`{value}`" for value in one.values)
    name = f"{one.name} ○" if one.optional else one.name
    return f"| {name} | {kind} | {ecs} | {meaning} |"

"""The catalogue is complete and consistent, and what is written from it is current."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

import deckwire
from deckwire.abi.structs import SEQUENCE_CLASSES
from deckwire.events.catalogue import CATALOGUE, EVERYWHERE
from deckwire.events.declaration import Type
from deckwire.events.event import SCHEMA, STAMP
from deckwire.events.names import CONNECTION_EVENTS, EVENTS
from deckwire.events.turned import NAMES
from deckwire.runtime.budgets import BUDGETS
from tests.schema.written import FOLDER, PAGE, schema, tables, texts
from tests.support.declared import validator

ALL = [one for event in CATALOGUE.values() for one in (*event.fields, *EVERYWHERE)]


def test_it_has_every_event_in_order() -> None:
    assert tuple(CATALOGUE) == EVENTS


def test_the_last_fields_are_those_of_every_event() -> None:
    assert tuple(one.name for one in EVERYWHERE if not one.optional) == STAMP


@pytest.mark.parametrize("event", CATALOGUE)
def test_no_event_has_a_field_twice(event: str) -> None:
    names = [one.name for one in (*CATALOGUE[event].fields, *EVERYWHERE)]
    assert len(set(names)) == len(names)
    paths = [one.ecs for one in (*CATALOGUE[event].fields, *EVERYWHERE)]
    assert len(set(paths)) == len(paths)


def test_a_name_has_one_type_in_all_events() -> None:
    """Otherwise an index of all events could not have them."""
    types: dict[str, set[Type]] = defaultdict(set)
    for one in ALL:
        types[one.name].add(one.type)
        types[one.ecs].add(one.type)
    assert {name for name, found in types.items() if len(found) > 1} == set()


def test_every_field_has_its_meaning_and_its_version() -> None:
    assert [one.name for one in ALL if not one.meaning or "|" in one.meaning] == []
    assert all(1 <= one.since <= SCHEMA for one in ALL)


def test_lists_of_values_are_those_of_the_source() -> None:
    values = {one.name: one.values for one in ALL if one.values}
    assert values["budget"] == tuple(BUDGETS.values())
    assert values["ipid_class"] == values["isn_class"] == tuple(filter(None, SEQUENCE_CLASSES))


def test_renamed_fields_exist() -> None:
    events = (*CONNECTION_EVENTS, "http_request")
    fields = {one.name for name in events for one in CATALOGUE[name].fields}
    assert set(NAMES) <= fields


def test_every_field_is_made_somewhere() -> None:
    """A field that no module names would be a mistake in the catalogue."""
    texts = {
        node.value
        for path in Path(deckwire.__file__).parent.rglob("*.py")
        if path.name != "catalogue.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
    }
    declared = {one.name for event in CATALOGUE.values() for one in event.fields}
    assert declared - texts == set()


def test_the_page_has_a_table_for_each_event() -> None:
    assert tables(PAGE.read_text()) == {*CATALOGUE, "everything"}


def test_what_is_written_is_current() -> None:
    old = [str(path) for path, text in texts() if not path.exists() or path.read_text() != text]
    assert old == [], "run `make schema`"
    assert {path.stem for path in FOLDER.iterdir()} == set(CATALOGUE)


def line(**fields: object) -> dict[str, object]:
    stamp = {"sensor": "s", "event_id": "0f" * 16, "schema": SCHEMA}
    return {
        "ts": "2026-11-24T03:01:26.453503+00:00",
        "host": "h",
        "event": "capture_loss",
        "severity": 4,
        "fields": {"cause": "rings_corrupt", "count": 1, **stamp} | fields,
    }


def test_a_schema_refuses_what_it_should() -> None:
    check = validator("capture_loss").is_valid
    good = line()
    assert check(good)
    assert not check({**good, "severity": 6})
    assert not check({**good, "event": "capture_budget"})
    assert not check({**good, "more": 1})
    assert not check(line(count="1"))
    assert not check(line(count=-1))
    assert not check(line(event_id="0F" * 16))
    assert not check(line(cut=False))
    assert not check(line(more=1))
    for name in ("count", "sensor"):
        fields = dict(good["fields"])  # type: ignore[call-overload]
        del fields[name]
        assert not check({**good, "fields": fields})
        assert check({**good, "fields": {**fields, "cut": True}}) is (name == "count")
    assert not validator("tcp_flow_timing").is_valid({**good, "event": "tcp_flow_timing"})


def test_a_schema_has_every_field_and_its_meaning() -> None:
    found = schema(CATALOGUE["tcp_handshake"])["properties"]["fields"]["properties"]
    assert found["rtt_client_us"]["description"].endswith("in µs")
    assert found["direction"]["enum"] == ["inbound", "outbound", "lateral"]
    assert {one.name for one in CATALOGUE["tcp_handshake"].fields} <= set(found)

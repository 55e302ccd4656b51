"""Checks lines against the catalogue of events and the JSON Schemas written from it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache

from jsonschema import Draft202012Validator

from deckwire.events.catalogue import CATALOGUE, EVERYWHERE
from deckwire.events.event import Event
from deckwire.events.turned import NAMES
from deckwire.output.json_lines import JsonFormat
from deckwire.output.syslog import SyslogFormat
from tests.support.ecs import check_ecs
from tests.support.shared import CHECKOUT

_json, _syslog = JsonFormat(), SyslogFormat()
_PARAM = re.compile(r' (\w+)="(?:[^"\\\]]|\\.)*"')


@cache
def validator(event: str) -> Draft202012Validator:
    """The validator of an event's lines, from the file in docs/schema."""
    document = json.loads((CHECKOUT / "docs" / "schema" / f"{event}.json").read_text())
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document)


def check_declared(events: Sequence[Event]) -> None:
    """Check the lines of events that were emitted."""
    for event in events:
        line = json.loads(_json.line(event))
        faults = [
            f"{fault.json_path}: {fault.message}"
            for fault in validator(event.name).iter_errors(line)
        ]
        assert not faults, (faults, line)
        names = list(line["fields"])
        assert _PARAM.findall(_syslog.line(event).decode()) == names or "cut" in names
        check_order(event.name, names)
    check_ecs(events)


def check_order(event: str, names: list[str]) -> None:
    """Check that fields stand in the order of the catalogue. Counters come before the others."""
    declared = [one.name for one in (*CATALOGUE[event].fields, *EVERYWHERE)]
    if CATALOGUE[event].has_counters:
        counters = [name for name in names if name not in declared]
        assert names[: len(counters)] == counters
        names = names[len(counters) :]
    places = [_place(declared, name) for name in names]
    assert places == sorted(places), names


def _place(declared: list[str], name: str) -> int:
    if name in declared and name not in NAMES.values():
        return declared.index(name)
    # A field about the decky of an outbound connection, at the place of the one that it replaces.
    old = next((before for before, after in NAMES.items() if after == name), name)
    return declared.index(old if old in declared else name)

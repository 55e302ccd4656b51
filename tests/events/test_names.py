"""The list of all events is the one of the source and of the documentation."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import deckwire
from deckwire.events.names import DECNET_EVENTS, EVENTS
from tests.support.shared import CHECKOUT


def made_in_the_source() -> set[str]:
    """The names with which Event and Headline are called."""
    names = set()
    for path in Path(deckwire.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("Event", "Headline")
            ):
                continue
            given = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "name")]
            names |= {one.value for one in given if isinstance(one, ast.Constant)}
    return names


def test_every_event_of_the_source_has_its_name_here() -> None:
    assert made_in_the_source() == set(EVENTS)


def test_every_name_is_in_the_documentation() -> None:
    named = set(re.findall(r"[a-z0-9_]+", (CHECKOUT / "docs/events.md").read_text()))
    assert set(EVENTS) <= named
    assert len(set(EVENTS)) == len(EVENTS)


def test_decnet_knows_some_of_them() -> None:
    assert set(DECNET_EVENTS) < set(EVENTS)

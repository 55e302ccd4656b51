"""Events as one JSON object a line (RFC 8259)."""

from __future__ import annotations

from functools import lru_cache
from math import isfinite

from deckwire.events.event import SCHEMA, Block, Event, Field, Value
from deckwire.events.timestamp import timestamp
from deckwire.limits import LINE_BYTES, VALUE_BYTES
from deckwire.output.escape import Escape, fitting, text

_TAIL = "}}"
_AFTER_ID = f'", "schema": {SCHEMA}'
_CUT = ', "cut": true'
_CUT_LIST = ', "..."'
_SPECIAL = {'"': '\\"', "\\": "\\\\"}


class JsonFormat:
    r"""``{"ts": …, "host": …, "event": …, "severity": …, "fields": {…}}``.

    Numbers and booleans keep their type; tuples become lists. Text is escaped as in syslog, so a
    parsed value is the same in both formats: a newline is the four characters ``\x0a``.
    """

    def line(self, event: Event) -> bytes:
        """The event in at most LINE_BYTES bytes of UTF-8, without control characters or newline.

        A longer event loses whole fields from its end, and `cut` says so. The stamp stays.
        """
        head = (
            f'{{"ts": "{timestamp(event.time_ns)}", "host": {_text(event.host)},'
            f' "event": {_text(event.name)}, "severity": {event.severity}, "fields": {{'
        )
        members = [
            (part.text if part.writer is self else self._written(part))
            if type(part) is Block
            else _member(part)
            for part in event.parts
        ]
        if event.event_id:
            members.append(f"{_stamp(event.sensor)}{event.event_id}{_AFTER_ID}")
        line = f"{head}{', '.join(filter(None, members))}{_TAIL}".encode()
        if len(line) <= LINE_BYTES:
            return line
        one_by_one = map(_next_member, range(len(event.fields)), event.fields)
        tail = f", {members[-1]}{_TAIL}" if event.event_id else _TAIL
        room = LINE_BYTES - len(head.encode()) - len(tail.encode())
        return f"{head}{fitting(one_by_one, room, _CUT)}{tail}".encode()

    def _written(self, block: Block) -> str:
        block.text = ", ".join(map(_member, block.fields))
        block.writer = self
        return block.text


@lru_cache(maxsize=1)
def _stamp(sensor: str) -> str:
    """What precedes the event's id."""
    return f'{_member(("sensor", sensor))}, "event_id": "'


def _member(field: Field) -> str:
    name, value = field
    return f'"{name}": {value_text(value)}'


_escape = Escape(_SPECIAL)
# There is room for an item's quotes and for the marker, so that the first item always fits.
_escape_item = Escape(_SPECIAL, VALUE_BYTES - 2 * len(_CUT_LIST))


def value_text(value: Value) -> str:
    """The value as JSON, in at most VALUE_BYTES bytes and with nothing that a terminal obeys."""
    # Members of an enumeration are text too.
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, tuple):
        return _list(value)
    if isinstance(value, float) and not isfinite(value):
        return _text(str(value))
    return text(value)


def _next_member(at: int, field: Field) -> str:
    return f"{', ' if at else ''}{_member(field)}"


def _text(value: str) -> str:
    return f'"{_escape(value)}"'


def _next_item(at: int, value: str) -> str:
    return f'{", " if at else ""}"{_escape_item(value)}"'


def _list(values: tuple[str, ...]) -> str:
    """The items that fit into VALUE_BYTES; a list that was cut ends in the item ``...``."""
    items = map(_next_item, range(len(values)), values)
    return f"[{fitting(items, VALUE_BYTES - 2, _CUT_LIST)}]"

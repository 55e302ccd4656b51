"""A block that is written once must read as if it were written each time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.events.event import Block, Event, Field, Part
from deckwire.output.ecs import EcsFormat
from deckwire.output.json_lines import JsonFormat
from deckwire.output.sinks.fanout import Format
from deckwire.output.syslog import RELAY_SD_ID, SyslogFormat

FORMATS: list[Format] = [SyslogFormat(), SyslogFormat(sd_id=RELAY_SD_ID), JsonFormat(), EcsFormat()]
TEXT = st.one_of(
    st.text(st.characters(codec=None), max_size=20),
    st.sampled_from(
        ['"]\\', "\n", "\x1b[2J", "a" * 3_000, "\udcff" * 700, "]" * 2_000, "é" * 1_500]
    ),
)
VALUE = st.one_of(TEXT, st.integers(), st.floats(), st.booleans(), st.lists(TEXT).map(tuple))
RUNS = st.lists(st.tuples(st.booleans(), st.lists(VALUE, max_size=4)), max_size=6)


def event(parts: list[Part]) -> Event:
    return Event("tls_client_hello", 0, "web-1", tuple(parts))


@given(RUNS)
def test_blocks_read_like_their_fields(runs: list[tuple[bool, list[Field]]]) -> None:
    parts: list[Part] = []
    number = 0
    for as_block, values in runs:
        fields = [(f"f{number + at}", value) for at, value in enumerate(values)]
        number += len(fields)
        parts += [Block(fields)] if as_block else fields
    blocks, plain = event(parts), event([])
    plain = plain._replace(parts=blocks.fields)
    assert plain.fields == blocks.fields
    # Each format finds what another has written last, then what it has written itself.
    for form in FORMATS:
        assert form.line(blocks) == form.line(plain) == form.line(blocks)


@pytest.mark.parametrize("form", FORMATS)
def test_a_block_is_written_once(form: Format) -> None:
    block = Block((("sni", "a"), ("alpn", ("h2",))))
    first = form.line(event([block, ("n", 1)]))
    written = block.text
    assert form.line(event([("n", 0), block])) != first
    assert block.text is written
    assert written.encode() in first

from __future__ import annotations

import struct

import pytest
from construct import Array, Bytes, Int8ul, Int16ub, Int16ul, Int32ul, Int64sl, Int64ul
from construct import Struct as Schema
from hypothesis import given
from hypothesis import strategies as st

from deckwire import abi
from deckwire.flat import Flat

SCHEMA = Schema(
    "one" / Int64ul,
    "two" / Int64sl,
    "three" / Bytes(5),
    "four" / Int8ul,
    "five" / Int16ul,
    "six" / Int32ul,
)
NAMES = ("sample_head", "opening", "half_open", "flow_totals", "flow_side")
FLATS = (abi.SAMPLE_HEAD, abi.OPENING, abi.HALF_OPEN, abi.FLOW_TOTALS, abi.FLOW_SIDE)


@given(st.binary(min_size=28, max_size=40), st.integers(0, 12))
def test_it_reads_what_the_schema_reads(data: bytes, at: int) -> None:
    flat = Flat("Record", SCHEMA)
    assert flat.size == SCHEMA.sizeof()
    if len(data) - at < flat.size:
        with pytest.raises(struct.error):
            flat.parse(data, at)
        return
    expected = SCHEMA.parse(data[at:])
    found = flat.parse(data, at)
    assert {name: getattr(found, name) for name in found._fields} == {
        name: value for name, value in expected.items() if name != "_io"
    }


@pytest.mark.parametrize(("name", "flat"), list(zip(NAMES, FLATS, strict=True)))
def test_the_structs_of_samples_have_the_size_of_their_schemas(name: str, flat: Flat) -> None:
    schema = abi.SCHEMAS[name]
    assert flat.size == schema.sizeof()
    data = bytes(range(256)) * 2
    found, expected = flat.parse(data), schema.parse(data)
    numbers = [field for field, value in expected.items() if isinstance(value, int)]
    assert numbers
    assert [getattr(found, field) for field in numbers] == [expected[field] for field in numbers]


@pytest.mark.parametrize(
    "field", ["x" / Int16ub, "x" / Array(2, Int8ul), "x" / Schema("y" / Int8ul)]
)
def test_no_other_schema_is_taken(field: object) -> None:
    with pytest.raises(TypeError):
        Flat("Record", Schema(field))

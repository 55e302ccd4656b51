from __future__ import annotations

import struct

import pytest
from construct import (
    Array,
    Bytes,
    Construct,
    CString,
    FormatField,
    Int8ul,
    Int16ub,
    Int16ul,
    Int32ul,
    Int64sl,
    Int64ul,
)
from construct import Struct as Schema
from hypothesis import given
from hypothesis import strategies as st

from deckwire.abi import structs as abi
from deckwire.abi.members import Flat, members, offset

SCHEMA = Schema(
    "one" / Int64ul,
    "two" / Int64sl,
    "three" / Bytes(5),
    "four" / Int8ul,
    "five" / Int16ul,
    "six" / Int32ul,
)
NESTED = Schema(
    "head" / Int8ul,
    "pair" / Array(2, Schema("low" / Int16ul, "high" / Int32ul)),
    "inner" / Schema("text" / Bytes(3), "last" / Int64ul),
)
LEAVES = (
    *("head", "pair.0.low", "pair.0.high", "pair.1.low", "pair.1.high"),
    *("inner.text", "inner.last"),
)


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


@pytest.mark.parametrize("name", abi.SCHEMAS)
def test_members_see_the_structs_of_the_kernel_as_their_schemas_do(name: str) -> None:
    schema = abi.SCHEMAS[name]
    assert members(schema).size == schema.sizeof()
    numbers = [field.name for field in schema.subcons if isinstance(field.subcon, FormatField)]
    data = bytes((7 * at) % 256 for at in range(schema.sizeof()))
    expected = schema.parse(data)
    assert members(schema, *numbers).unpack(data) == tuple(expected[name] for name in numbers)
    for at, field in enumerate(schema.subcons):
        assert offset(schema, field.name) == sum(f.sizeof() for f in schema.subcons[:at])


@given(st.sets(st.sampled_from(LEAVES)), st.binary(min_size=24, max_size=24))
def test_members_are_read_wherever_they_stand(wanted: set[str], data: bytes) -> None:
    names = [name for name in LEAVES if name in wanted]

    def member(name: str) -> object:
        value = NESTED.parse(data)
        for part in name.split("."):
            value = value[int(part) if part.isdigit() else part]
        return value

    assert members(NESTED, *names).unpack(data) == tuple(map(member, names))


def test_offsets_are_of_members_and_of_the_structs_around_them() -> None:
    assert [offset(NESTED, name) for name in LEAVES] == [0, 1, 3, 7, 9, 13, 16]
    assert (offset(NESTED, "pair"), offset(NESTED, "pair.1"), offset(NESTED, "inner")) == (1, 7, 13)


@pytest.mark.parametrize("names", [("tail",), ("pair",), ("hea",), ("inner.last", "head")])
def test_members_that_are_not_there_in_this_order(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="no member"):
        members(NESTED, *names)


def test_an_absent_member_is_refused() -> None:
    with pytest.raises(ValueError, match="no member hea"):
        offset(NESTED, "hea")


@pytest.mark.parametrize(
    "field", ["x" / Int16ub, "x" / Array(2, Int8ul), "x" / Schema("y" / Int8ul)]
)
def test_no_other_schema_is_taken(field: object) -> None:
    with pytest.raises(TypeError):
        Flat("Record", Schema(field))


@pytest.mark.parametrize("kind", [Int16ub, CString("ascii")])
def test_members_take_no_other_schema(kind: Construct) -> None:
    with pytest.raises(TypeError):
        members(Schema("x" / Int8ul, "y" / kind))

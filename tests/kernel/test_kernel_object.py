from __future__ import annotations

import json
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.kernel.maps import MapShape
from deckwire.loader.kernel_object import (
    LOAD_64,
    MAP_FD,
    KernelObject,
    MalformedObjectError,
    ProgramCode,
)


def instruction(code: int, source: int = 0, immediate: int = 0) -> bytes:
    return pack("=BBhi", code, source << 4, 0, immediate)


MOVE, EXIT = 0xB7, 0x95
OF_MAP_FIVE = instruction(LOAD_64, MAP_FD, 5) + instruction(0)
OF_NO_MAP = instruction(LOAD_64, 0, 5) + instruction(0)
"""A constant of 64 bits that happens to be a descriptor's number."""
CODE = instruction(MOVE, 0, 5) + OF_MAP_FIVE + OF_NO_MAP + OF_MAP_FIVE + instruction(EXIT)


def test_a_map_is_known_by_its_number_and_not_by_a_descriptor() -> None:
    code = ProgramCode.of("f", 3, CODE, {4: 0, 5: 1})
    assert code.uses == ((1, 1), (5, 1))
    assert len(code.instructions) == len(CODE)
    assert code.with_descriptors([4, 5]) == CODE
    assert code.with_descriptors([8, 9]) == CODE.replace(
        OF_MAP_FIVE, instruction(LOAD_64, MAP_FD, 9) + instruction(0)
    )


@pytest.mark.parametrize(
    ("source", "descriptor"), [(MAP_FD, 6), (2, 5)], ids=["unknown map", "address of a value"]
)
def test_what_cannot_be_kept_is_refused(source: int, descriptor: int) -> None:
    code = instruction(LOAD_64, source, descriptor) + instruction(0)
    with pytest.raises(MalformedObjectError, match=r"^f: "):
        ProgramCode.of("f", 3, code, {5: 0})


OBJECT = KernelObject(
    "0.26.0",
    "GPL",
    {"first": (0, 8), "second": (8, 4)},
    (MapShape("a", 2, 4, 8, 16, 0), MapShape("a_long_name_of_a_map", 4, 4, 4, 0, 0)),
    (ProgramCode.of("f", 3, CODE, {5: 1}),),
)


def test_a_file_gives_the_object_back() -> None:
    assert KernelObject.from_json(OBJECT.to_json()) == OBJECT


WHOLE = OBJECT.to_json()


@pytest.mark.parametrize("size", range(0, len(WHOLE), 7))
def test_a_cut_file_is_malformed(size: int) -> None:
    with pytest.raises(MalformedObjectError):
        KernelObject.from_json(WHOLE[:size])


@given(
    st.sampled_from(sorted({*json.loads(WHOLE)} - {"compiler", "terms"})),
    st.none() | st.integers() | st.text(min_size=1) | st.lists(st.integers(), min_size=1),
)
def test_a_file_with_a_wrong_member_is_malformed(member: str, value: object) -> None:
    body = json.loads(WHOLE)
    body[member] = value
    with pytest.raises(MalformedObjectError):
        KernelObject.from_json(json.dumps(body).encode())

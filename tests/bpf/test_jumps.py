"""Each tail call in the programs goes to one program, so that the kernel makes it a direct jump."""

from __future__ import annotations

from struct import iter_unpack
from typing import NamedTuple

import pytest

from deckwire.kernel.loading import LoadRequest
from deckwire.loader.module import compile_module

pytestmark = pytest.mark.root

_TAIL_CALL = (0x85, 12)
"""The opcode of a call, and the number of bpf_tail_call()."""
_SET, _INDEX = 0xB7, 3
"""The opcode that sets a register to a constant, and the register of the index."""
_CALL, _EXIT = 0x85, 0x95
_JUMPS, _WRITES = (5, 6), (0, 1, 4, 7)
"""Classes of opcodes: jumps by 64 and by 32 bits, and those that write their first register."""


class _Instruction(NamedTuple):
    opcode: int
    registers: int
    offset: int
    constant: int


def _instructions(bytecode: bytes) -> list[_Instruction]:
    return [_Instruction(*fields) for fields in iter_unpack("=BBhi", bytecode)]


def _targets(code: list[_Instruction]) -> set[int]:
    """Where a jump leads, by number."""
    return {
        number + 1 + one.offset
        for number, one in enumerate(code)
        if one.opcode & 7 in _JUMPS and one.opcode not in (_CALL, _EXIT)
    }


def _writes_index(one: _Instruction) -> bool:
    return one.opcode & 7 in _WRITES and one.registers & 0xF == _INDEX


def test_each_tail_call_has_a_constant_index() -> None:
    """The index is set in the instructions right before the call, which no jump leads into."""
    request = LoadRequest()
    module = compile_module(request.body())
    calls = 0
    for name in (*request.programs, *request.jumps):
        code = _instructions(module.dump_func(name))
        targets = _targets(code)
        for number, one in enumerate(code):
            if (one.opcode, one.constant) != _TAIL_CALL:
                continue
            calls += 1
            at = number
            while not _writes_index(code[at]):
                assert at not in targets, (name, number)
                at -= 1
            assert code[at].opcode == _SET, (name, number)
    assert calls

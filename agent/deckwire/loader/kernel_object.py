"""A kernel object: compiled programs and the maps that they use, as plain data.

It has all that bpf(2) is given. An instruction that loads the address of a map has the map's number
here, where the kernel wants a file descriptor of this process.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from struct import Struct
from typing import NamedTuple
from zlib import compress, decompress

from deckwire.kernel.maps import MapShape

INSTRUCTION_BYTES = 8
LOAD_64, MAP_FD = 0x18, 1
"""BPF_LD | BPF_IMM | BPF_DW, and BPF_PSEUDO_MAP_FD in its source register (<linux/bpf.h>)."""
_HEAD = Struct("=BBhi")
"""code, registers (the source in the upper half), offset, immediate: struct bpf_insn."""
_IMMEDIATE, _IMMEDIATE_AT = Struct("=i"), 4


class MalformedObjectError(Exception):
    """The data is no kernel object."""


class ProgramCode(NamedTuple):
    """What BPF_PROG_LOAD is given."""

    name: str
    kind: int
    """enum bpf_prog_type."""
    instructions: bytes
    """Instructions of INSTRUCTION_BYTES. Each that loads a map's address has 0 in its place."""
    uses: tuple[tuple[int, int], ...]
    """The number of such an instruction, and that of the map in KernelObject.maps."""

    @staticmethod
    def of(name: str, kind: int, code: bytes, numbers: Mapping[int, int]) -> ProgramCode:
        """The code with numbers of maps in place of descriptors.

        Args:
            name: of the function.
            kind: enum bpf_prog_type.
            code: the instructions as a process would load them.
            numbers: the maps' numbers by their descriptors in that process.

        Raises:
            MalformedObjectError: an instruction refers to what is not a map of `numbers`.
        """
        instructions = bytearray(code)
        uses = []
        at = 0
        while at < len(code):
            opcode, registers, _, immediate = _HEAD.unpack_from(code, at)
            if opcode == LOAD_64:
                source = registers >> 4
                if source == MAP_FD and immediate in numbers:
                    uses.append((at // INSTRUCTION_BYTES, numbers[immediate]))
                    _IMMEDIATE.pack_into(instructions, at + _IMMEDIATE_AT, 0)
                elif source:
                    raise MalformedObjectError(f"{name}: an address of kind {source} at {at}")
                # The instruction behind it has the upper 32 bits.
                at += INSTRUCTION_BYTES
            at += INSTRUCTION_BYTES
        return ProgramCode(name, kind, bytes(instructions), tuple(uses))

    def with_descriptors(self, fds: Sequence[int]) -> bytes:
        """The instructions to load, given the descriptors of the object's maps, in their order."""
        code = bytearray(self.instructions)
        for instruction, number in self.uses:
            at = instruction * INSTRUCTION_BYTES + _IMMEDIATE_AT
            _IMMEDIATE.pack_into(code, at, fds[number])
        return bytes(code)


class KernelObject(NamedTuple):
    """Programs and maps."""

    compiler: str
    """The version of BCC that made it."""
    terms: str
    """The licence that the kernel is given."""
    settings: Mapping[str, tuple[int, int]]
    """Offset and size of each member of struct settings, in bytes."""
    maps: tuple[MapShape, ...]
    """With whole names. A map with no max_entries has one for each possible CPU."""
    programs: tuple[ProgramCode, ...]

    def to_json(self) -> bytes:
        """The contents of its file. from_json() reads it back."""
        programs = [
            (name, kind, b64encode(compress(code, 9)).decode(), uses)
            for name, kind, code, uses in self.programs
        ]
        return json.dumps({**self._asdict(), "programs": programs}, indent=0).encode()

    @staticmethod
    def from_json(data: bytes) -> KernelObject:
        """Reads what to_json() wrote.

        Raises:
            MalformedObjectError: it is something else.
        """
        try:
            body = json.loads(data)
            maps = tuple(MapShape(str(name), *map(int, sizes)) for name, *sizes in body["maps"])
            programs = tuple(
                ProgramCode(
                    str(name),
                    int(kind),
                    decompress(b64decode(code)),
                    tuple((int(at), int(number)) for at, number in uses),
                )
                for name, kind, code, uses in body["programs"]
            )
            settings = {name: (at, size) for name, (at, size) in body["settings"].items()}
            return KernelObject(body["compiler"], body["terms"], settings, maps, programs)
        except Exception as error:
            raise MalformedObjectError(f"{type(error).__name__}: {error}") from error

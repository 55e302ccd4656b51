"""bpf/abi.h and bpf/limits.h against their mirrors in Python.

The compiler itself is asked: a program made of expressions such as ``sizeof(struct flow)`` is
loaded and run, and leaves their values in a map.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from struct import pack, unpack
from typing import Any

import construct
import pytest

from deckwire import limits
from deckwire.abi import structs as abi
from deckwire.events.flow import PROBE_NS, PROBE_PACKETS
from deckwire.kernel.loading import LoadRequest, bpf_directory, load
from deckwire.tables import suppression
from deckwire.tables.tables import OpenFlow
from deckwire.tcp.flow import ends, flow_id

pytestmark = pytest.mark.root

CONSTANTS = {
    "IP_FLAG_DF": abi.IP_FLAG_DF,
    "IP_FLAG_RESERVED": abi.IP_FLAG_RESERVED,
    "OPENING_CUT": abi.OPENING_CUT,
    "MAX_TCP_OPTIONS": abi.TCP_OPTIONS_BYTES,
    "SAMPLE_SYN": abi.SAMPLE_SYN,
    "SAMPLE_HANDSHAKE": abi.SAMPLE_HANDSHAKE,
    "SAMPLE_SEGMENT": abi.SAMPLE_SEGMENT,
    "SAMPLE_END": abi.SAMPLE_END,
    "SAMPLE_TLS_STARTS": abi.SAMPLE_TLS_STARTS,
    "SAMPLE_FLOW_MIDSTREAM": abi.SAMPLE_FLOW_MIDSTREAM,
    "SAMPLE_TLS_ENDS": abi.SAMPLE_TLS_ENDS,
    "CLIENT_UNKNOWN": abi.CLIENT_UNKNOWN,
    "RTT_UNKNOWN": abi.RTT_UNKNOWN,
    "INTERVALS_UNKNOWN": abi.INTERVALS_UNKNOWN,
    "FLOW_MIDSTREAM": abi.FLOW_MIDSTREAM,
    "FLOW_END_SENT": abi.FLOW_END_SENT,
    "SERVICE_HANDSHAKE": suppression.SERVICE_HANDSHAKE,
    "SERVICE_FLOW": suppression.SERVICE_FLOW,
    "PROBE_PACKETS": PROBE_PACKETS,
    "PROBE_NS": PROBE_NS,
    "CLOSE_NONE": abi.CLOSE_NONE,
    "CLOSE_FIN": abi.CLOSES.index("fin"),
    "CLOSE_RST": abi.CLOSES.index("rst"),
    "CLOSE_IDLE": abi.CLOSES.index("idle"),
    "CLOSE_EVICTED": abi.CLOSES.index("evicted"),
    "CLOSE_REMOVED": abi.CLOSES.index("removed"),
    "CLOSE_SHUTDOWN": abi.CLOSES.index("shutdown"),
    "MAX_FLOWS": limits.FLOWS,
    "MAX_DECKIES": limits.DECKIES,
    "DECKY_BITS": limits.DECKY_BITS,
    "TLS_MAX_RECORD": limits.RECORD_BYTES,
    "TLS_CLIENT_BYTES": limits.STREAM_BYTES,
    "TLS_SERVER_BYTES": limits.HANDSHAKE_BYTES,
}
"""What C and Python must agree on, by its name in the headers."""

SIZES = {
    "flow_key": abi.FLOW_KEY_BYTES,
    "flow_id": len(flow_id(bytes(abi.FLOW_KEY_BYTES), 0)),
    "syn_packet": abi.SYN_PACKET_BYTES,
    "half_open": abi.HALF_OPEN_BYTES,
    "flow_totals": abi.FLOW_TOTALS_BYTES,
    "flow": abi.FLOW_BYTES,
    "sample_head": abi.SAMPLE_HEAD_BYTES,
    "counters": abi.COUNTERS_BYTES,
    "seen": abi.SEEN.size,
    "source": abi.SOURCE_BYTES,
    "half_open_sample": abi.SAMPLE_HEAD_BYTES + abi.HALF_OPEN_BYTES,
    "end_sample": abi.SAMPLE_HEAD_BYTES + abi.FLOW_TOTALS_BYTES,
}
"""By the struct's name."""

OFFSETS = {
    ("half_open_sample", "head"): 0,
    ("half_open_sample", "half_open"): abi.SAMPLE_HEAD_BYTES,
    ("end_sample", "head"): 0,
    ("end_sample", "totals"): abi.SAMPLE_HEAD_BYTES,
    ("flow", "totals"): 0,
    ("flow", "totals.born_ns"): 0,
    ("flow_totals", "side"): 56,  # a cache line each
    ("flow_totals", "side[1]"): 56 + 64,
    ("flow_key", "addr[1]"): 16,
    ("flow_key", "port"): 32,
    ("flow_key", "port[1]"): 34,
}
"""Places that are read without a schema, by struct and member."""


class Compiler:
    """Values of C expressions, as the compiler of the programs sees them."""

    def __init__(self, expressions: list[str], source: Path) -> None:
        stores = "\n".join(
            f"\tslot = {slot}; value = {expression}; values.update(&slot, &value);"
            for slot, expression in enumerate(expressions)
        )
        source.write_text(
            '#include "limits.h"\n#include "abi.h"\n#include "tls.h"\n'
            f'BPF_TABLE("array", __u32, __u64, values, {len(expressions)});\n'
            "BPF_PERF_OUTPUT(samples);\n"
            "int tc_ingress(struct __sk_buff *skb)\n{\n\t__u32 slot;\n\t__u64 value;\n\n"
            f"{stores}\n\treturn -1;\n}}\n"
        )
        loaded = load(LoadRequest(source=source, programs=("tc_ingress",), jumps=()))
        try:
            loaded.programs["tc_ingress"].test_run(bytes(60))
            values = dict(loaded.maps["values"].items())
        finally:
            loaded.close()
        self.values: dict[str, int] = {}
        for slot, expression in enumerate(expressions):
            (self.values[expression],) = unpack("=Q", values[pack("=I", slot)])

    def place(self, struct: str, member: str) -> tuple[int, int]:
        """Offset and size."""
        return self.values[offset_of(struct, member)], self.values[size_of(struct, member)]


def offset_of(struct: str, member: str) -> str:
    return f"__builtin_offsetof(struct {struct}, {member})"


def size_of(struct: str, member: str) -> str:
    return f"sizeof(((struct {struct} *)0)->{member})"


def is_signed(struct: str, member: str) -> str:
    return f"(typeof(((struct {struct} *)0)->{member}))-1 < 1"


def fields(name: str) -> Iterator[tuple[str, Any]]:
    """Names and schemas of the fields of abi.SCHEMAS[name]."""
    for part in abi.SCHEMAS[name].subcons:
        yield part.name, part.subcon


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    expressions = [*CONSTANTS, *(f"sizeof(struct {name})" for name in {*SIZES, *abi.SCHEMAS})]
    members = [(name, field) for name in abi.SCHEMAS for field, _ in fields(name)]
    for struct, member in {*members, *OFFSETS}:
        expressions += [offset_of(struct, member), size_of(struct, member)]
    for name in abi.SCHEMAS:
        expressions += [
            is_signed(name, field)
            for field, part in fields(name)
            if isinstance(part, construct.FormatField)
        ]
    return Compiler(expressions, tmp_path_factory.mktemp("abi") / "expressions.c")


@pytest.mark.parametrize("name", abi.SCHEMAS)
def test_a_schema_is_its_struct(name: str, compiler: Compiler) -> None:
    """Field by field, without a gap: so the struct has no field that the schema lacks."""
    offset = 0
    for field, part in fields(name):
        assert compiler.place(name, field) == (offset, part.sizeof()), field
        if isinstance(part, construct.FormatField):
            assert part.fmtstr[0] == "<"
            signed = bool(compiler.values[is_signed(name, field)])
            assert signed == part.fmtstr[1].islower(), field
        offset += part.sizeof()
    assert compiler.values[f"sizeof(struct {name})"] == offset


@pytest.mark.parametrize(
    ("name", "field", "part"),
    [
        ("half_open", "syn", "syn_packet"),
        ("half_open", "synack", "syn_packet"),
        ("flow_totals", "side", "flow_side"),
        ("flow", "totals", "flow_totals"),
        ("flow", "syn", "syn_packet"),
        ("flow", "synack", "syn_packet"),
        ("source", "handshakes", "budget"),
    ],
)
def test_nested_schemas_are_those_of_the_nested_structs(name: str, field: str, part: str) -> None:
    schema = dict(fields(name))[field]
    assert getattr(schema, "subcon", schema) is abi.SCHEMAS[part]
    text = (bpf_directory() / "abi.h").read_text()
    body = re.search(rf"^struct {name} \{{(.*?)^\}}", text, re.DOTALL | re.MULTILINE)
    assert body is not None
    assert re.search(rf"struct {part} {field}(\[2\])?;", body[1])


def test_no_struct_of_the_header_is_without_a_mirror() -> None:
    text = (bpf_directory() / "abi.h").read_text()
    named = set(re.findall(r"^struct (\w+) \{", text, re.MULTILINE))
    # Made of others, or never leaving the kernel side.
    named -= {"half_open_sample", "end_sample", "option_walk", "record_walk", "hello_walk"}
    assert named == set(abi.SCHEMAS)


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name: str, compiler: Compiler) -> None:
    assert compiler.values[f"sizeof(struct {name})"] == SIZES[name]


@pytest.mark.parametrize(("struct", "member"), OFFSETS)
def test_places_that_are_read_without_a_schema(
    struct: str, member: str, compiler: Compiler
) -> None:
    assert compiler.place(struct, member)[0] == OFFSETS[struct, member]


def test_a_sweep_reads_the_members_that_it_means() -> None:
    flow = abi.SCHEMAS["flow"].parse(bytes(abi.FLOW_BYTES))
    flow.totals.last_ns = 2**63 + 5
    flow.totals.close = abi.CLOSES.index("rst")
    flow.totals.flags = abi.FLOW_END_SENT
    flow.totals.source_slot = 0xFEDC_BA98
    value = abi.SCHEMAS["flow"].build(flow)
    state = OpenFlow(b"", value, False).state
    assert state == (2**63 + 5, abi.CLOSES.index("rst"), abi.FLOW_END_SENT, 0xFEDC_BA98)
    assert (state.closed, state.end_sent) == (True, True)
    assert OpenFlow(b"", bytes(abi.FLOW_BYTES), False).state == (0, False, False, 0)


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_the_same_on_both_sides(name: str, compiler: Compiler) -> None:
    assert compiler.values[name] == CONSTANTS[name]


def test_counters_are_those_of_the_struct_in_its_order() -> None:
    text = (bpf_directory() / "abi.h").read_text()
    body = text[text.index("struct counters {") :]
    assert tuple(re.findall(r"__u64 (\w+);", body[: body.index("\n};")])) == abi.COUNTERS


def test_the_ends_of_a_key_are_where_they_are_read() -> None:
    key = bytes(range(32)) + pack("!HH", 5, 6)
    assert ends(key, 0) == (key[:16], 5, key[16:32], 6)
    assert ends(key, 1) == (key[16:32], 6, key[:16], 5)


def test_direct_mapped_tables_are_powers_of_two() -> None:
    text = (bpf_directory() / "limits.h").read_text()
    for name, digits in re.findall(r"#define (\w+_SLOTS) (\d+)", text):
        assert int(digits).bit_count() == 1, name

"""The headers in bpf/ against their mirrors in Python, by the compiler of the programs.

A test program evaluates expressions such as ``sizeof(struct flow)`` and writes their values into
a map.
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
from deckwire.abi.flow_key import ends
from deckwire.abi.hashes import flow_id
from deckwire.abi.sources import REFUSED_SHIFT, Answer, ProbeKind
from deckwire.events.flow import PROBE_NS, PROBE_PACKETS
from deckwire.fingerprints import scanners
from deckwire.kernel.loading import JUMPS, LoadRequest, bpf_directory, load
from deckwire.tables.flows import OpenFlow
from deckwire.tcp import options, syn_packet
from deckwire.tcp.anomaly import KERNEL_TECHNIQUES
from deckwire.tls.messages import SESSION_ID_BYTES, ExtensionType
from deckwire.tls.records import (
    HELLO_PREFIX_BYTES,
    RECORD_HEADER_BYTES,
    ContentType,
    HandshakeType,
)
from tests.support.bpf_syn_traits import TRAITS, SynCase

pytestmark = pytest.mark.root

CONSTANTS = {
    "IP_FLAG_DF": abi.IP_FLAG_DF,
    "IP_FLAG_RESERVED": abi.IP_FLAG_RESERVED,
    "SYN_OPTIONS_CUT": abi.SYN_OPTIONS_CUT,
    "IP_FLAG_REASSEMBLED": abi.IP_FLAG_REASSEMBLED,
    "MAX_TCP_OPTIONS": abi.TCP_OPTIONS_BYTES,
    "SAMPLE_SYN": abi.SAMPLE_SYN,
    "SAMPLE_HANDSHAKE": abi.SAMPLE_HANDSHAKE,
    "SAMPLE_SEGMENT": abi.SAMPLE_SEGMENT,
    "SAMPLE_END": abi.SAMPLE_END,
    "SAMPLE_FRAGMENT": abi.SAMPLE_FRAGMENT,
    "SAMPLE_REASSEMBLED": abi.SAMPLE_REASSEMBLED,
    "REASSEMBLED_INGRESS": abi.REASSEMBLED_INGRESS,
    "SAMPLE_ANOMALY": abi.SAMPLE_ANOMALY,
    "SEQUENCE_UNKNOWN": abi.SEQUENCE_CLASSES.index(""),
    **{f"SEQUENCE_{name.upper()}": code for code, name in enumerate(abi.SEQUENCE_CLASSES) if name},
    "TECHNIQUE_NONE": KERNEL_TECHNIQUES.index(None),
    **{
        f"TECHNIQUE_{technique.name}": code
        for code, technique in enumerate(KERNEL_TECHNIQUES)
        if technique is not None
    },
    "SAMPLE_TLS_STARTS": abi.SAMPLE_TLS_STARTS,
    "SAMPLE_FLOW_MIDSTREAM": abi.SAMPLE_FLOW_MIDSTREAM,
    "SAMPLE_TLS_ENDS": abi.SAMPLE_TLS_ENDS,
    "SAMPLE_HELLO_SUPPRESSED": abi.SAMPLE_HELLO_SUPPRESSED,
    "SAMPLE_SACK": abi.SAMPLE_SACK,
    "SAMPLE_SYN_DATA": abi.SAMPLE_SYN_DATA,
    "SAMPLE_HEAD": abi.SAMPLE_HEAD,
    "HEAD_SHARED": abi.HEAD_SHARED,
    **{f"HEAD_{name.upper()}": code for code, name in enumerate(abi.HEAD_KINDS)},
    "SYN_KNOWN": abi.SYN_KNOWN,
    "HANDSHAKE_LOST": abi.HANDSHAKE_LOST,
    "CLIENT_UNKNOWN": abi.CLIENT_UNKNOWN,
    "RTT_UNKNOWN": abi.RTT_UNKNOWN,
    "INTERVALS_UNKNOWN": abi.INTERVALS_UNKNOWN,
    "FLOW_MIDSTREAM": abi.FLOW_MIDSTREAM,
    "SAMPLE_FLOW_PROVEN": abi.SAMPLE_FLOW_PROVEN,
    "FLOW_PROVEN": abi.FLOW_PROVEN,
    "RULES_RESUMED": abi.RULES_RESUMED,
    "SERVICE_HANDSHAKE": abi.SERVICE_HANDSHAKE,
    "SERVICE_FLOW": abi.SERVICE_FLOW,
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
    "TLS_AHEAD_BYTES": limits.STREAM_BYTES,
    "TLS_SERVER_BYTES": limits.HANDSHAKE_BYTES,
    "TCP_FIN": syn_packet.FIN,
    "TCP_SYN": syn_packet.SYN,
    "TCP_RST": syn_packet.RST,
    "TCP_PSH": syn_packet.PSH,
    "TCP_ACK": syn_packet.ACK,
    "TCP_URG": syn_packet.URG,
    "OPTION_END": options.EOL,
    "OPTION_NOP": options.NOP,
    "OPTION_TIMESTAMP": options.TIMESTAMPS,
    "TLS_CHANGE_CIPHER_SPEC": ContentType.CHANGE_CIPHER_SPEC,
    "TLS_ALERT": ContentType.ALERT,
    "TLS_HANDSHAKE": ContentType.HANDSHAKE,
    "TLS_HEARTBEAT": ContentType.HEARTBEAT,
    "TLS_CLIENT_HELLO": HandshakeType.CLIENT_HELLO,
    "TLS_SERVER_HELLO": HandshakeType.SERVER_HELLO,
    "TLS_HEADER_LEN": RECORD_HEADER_BYTES,
    "TLS_PREFIX_LEN": HELLO_PREFIX_BYTES,
    "MAX_SESSION_ID": SESSION_ID_BYTES,
    "EXTENSION_SESSION_TICKET": ExtensionType.SESSION_TICKET,
    "EXTENSION_PRE_SHARED_KEY": ExtensionType.PRE_SHARED_KEY,
    "EXTENSION_KEY_SHARE": ExtensionType.KEY_SHARE,
    "EXTENSION_ENCRYPTED_CLIENT_HELLO": ExtensionType.ENCRYPTED_CLIENT_HELLO,
    "TLS_DIRECTION_SAMPLES": limits.STREAM_PIECES,
    "SIDE_FIN": abi.SIDE_FIN,
    "SIDE_FIN_ACKED": abi.SIDE_FIN_ACKED,
    "SIDE_ACKED": abi.SIDE_ACKED,
    **{f"PROBE_{kind.name}": kind.value for kind in ProbeKind},
    "PROBE_KINDS": len(ProbeKind),
    **{f"ANSWER_{answer.name}": answer.value for answer in Answer},
    "REFUSED_SHIFT": REFUSED_SHIFT,
    "PROBE_PROVEN": abi.PROBE_PROVEN,
    "PROBE_PROTO_ARP": abi.PROBE_PROTO_ARP,
    "PROBE_PROTO_BROKEN": abi.PROBE_PROTO_BROKEN,
    "HALF_OPEN_SETS": abi.HALF_OPEN_SETS,
    "HALF_OPEN_WAYS": abi.HALF_OPEN_WAYS,
    "PROBE_INLINE": abi.PROBE_INLINE,
    "PROBE_WAYS": abi.PROBE_WAYS,
    "PROBE_SOURCE_WAYS": abi.PROBE_SOURCE_WAYS,
    "SEQUENCE_SAMPLES": abi.SEQUENCE_SAMPLES,
}
"""Constants that C and Python share, by their names in the headers."""

KERNEL_ONLY = {
    *("HANDSHAKE_PENDING", "FLOW_ADMITTED", "FLOW_TLS_CUT", "FLOW_HELLO_SUPPRESSED"),
    *("RULES_JUDGED", "RULES_SUMMED", "RULES_LOCAL", "RULES_RESET", "RULES_DOUBTED"),
    *("OFFER_SCALE", "OFFER_SIGNED", "OFFER_SACK", "OFFER_STAMPED", "OFFER_HELLO"),
    *("HALF_OTHERS", "HALF_REPORTED", "SYN_UNDECIDED", "SYN_HEAD"),
    *("BITS_MATCHED", "BITS_HOLES", "BITS_HOLE", "BITS_HEAD"),
}
"""Constants of abi.h that the agent does not use: flags in bytes of the structs."""

SIZES = {
    "flow_key": abi.FLOW_KEY_BYTES,
    "flow_id": len(flow_id(bytes(abi.FLOW_KEY_BYTES), 0)),
    "syn_packet": abi.SYN_PACKET_BYTES,
    "half_open": abi.HALF_OPEN_BYTES,
    "half_open_entry": abi.HALF_OPEN_ENTRY_BYTES,
    "half_open_sets": abi.HALF_OPEN_SETS_BYTES,
    "half_open_entries": abi.HALF_OPEN_ENTRIES_BYTES,
    "flow_totals": abi.FLOW_TOTALS_BYTES,
    "flow": abi.FLOW_BYTES,
    "sample_head": abi.SAMPLE_HEAD_BYTES,
    "counters": abi.COUNTERS_BYTES,
    "seen": abi.SEEN.size,
    "source": abi.SOURCE_BYTES,
    "probe_source": abi.PROBE_SOURCE_BYTES,
    "probe_target": abi.PROBE_TARGET_BYTES,
    "target_set": abi.TARGET_SET_BYTES,
    "begun": abi.BEGUN_BYTES,
    "half_open_sample": abi.HALF_OPEN_SAMPLE_BYTES,
    "anomaly_sample": abi.ANOMALY_SAMPLE_BYTES,
    "end_sample": abi.END_SAMPLE_BYTES,
}
"""Sizes by the name of the struct."""

OFFSETS = {
    ("half_open_sample", "half_open.syn"): abi.HALF_OPEN_SAMPLE_SYN,
    ("half_open_sample", "half_open.synack"): abi.HALF_OPEN_SAMPLE_SYNACK,
    ("end_sample", "totals"): abi.SAMPLE_HEAD_BYTES,
    ("sample_head", "kind"): abi.SAMPLE_KIND,
    ("flow", "totals"): 0,
    ("flow", "syn"): abi.FLOW_SYN,
    ("flow", "synack"): abi.FLOW_SYNACK,
    ("flow", "key"): abi.FLOW_KEY,
    ("syn_packet", "ip_version"): abi.SYN_PACKET_IP_VERSION,
    ("flow_totals", "side"): 56,  # a cache line each
    ("flow_totals", "side[1]"): 56 + 64,
    ("flow_key", "addr[1]"): 16,
    ("probe_source", "target"): abi.PROBE_SOURCE_TARGET,
    ("target_set", "target"): abi.PROBE_TARGET_BYTES,  # so the map is one array of targets
    ("probe_target", "owner"): abi.PROBE_OWNER,
    ("probe_target", "source"): abi.PROBE_OWNER_SOURCE,
    ("begun", "last_ns"): abi.BEGUN_LAST_NS,
    ("flow_key", "port"): 32,
    ("flow_key", "port[1]"): 34,
}
"""Offsets that are used without a schema, by struct and member."""


class Compiler:
    """Values of C expressions, as the compiler of the programs sees them."""

    def __init__(self, expressions: list[str], source: Path) -> None:
        stores = "\n".join(
            f"\tslot = {slot}; value = {expression}; values.update(&slot, &value);"
            for slot, expression in enumerate(expressions)
        )
        source.write_text(
            '#include "limits.h"\n#include "abi.h"\n#include "syn.h"\n'
            '#include "tls_records.h"\n#include "client_hello.h"\n#include "half_open_table.h"\n'
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


def traits_of(case: SynCase) -> str:
    """syn_traits() of the packet that `case` describes."""
    members = "".join(f".{name} = {value}, " for name, value in case.members.items())
    return f"({{ struct packet p = {{ {members} }}; syn_traits(&p); }})"


def header(name: str) -> str:
    """The text of a header in bpf/."""
    return (bpf_directory() / name).read_text()


def enumerators(name: str, enum: str) -> list[str]:
    """The names in an enum of a header, in their order."""
    body = re.search(rf"^enum {enum} \{{(.*?)^\}};", header(name), re.DOTALL | re.MULTILINE)
    assert body is not None
    return re.findall(r"^\t([A-Z]\w+)", body[1], re.MULTILINE)


def fields(name: str) -> Iterator[tuple[str, Any]]:
    """Names and schemas of the fields of abi.SCHEMAS[name]."""
    for part in abi.SCHEMAS[name].subcons:
        yield part.name, part.subcon


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    expressions = [*CONSTANTS, *TRAITS, "ZMAP_IP_ID", "SCAPY_IP_ID"]
    for cases in TRAITS.values():
        expressions += map(traits_of, cases)
    expressions += [f"sizeof(struct {name})" for name in {*SIZES, *abi.SCHEMAS}]
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


@pytest.mark.parametrize("name", abi.SCHEMAS)
def test_nested_schemas_are_those_of_the_nested_structs(name: str) -> None:
    body = re.search(rf"^struct {name} \{{(.*?)^\}}", header("abi.h"), re.DOTALL | re.MULTILINE)
    assert body is not None
    nested = {
        field: part for part, field in re.findall(r"struct (\w+) (\w+)(?:\[\w+\])?;", body[1])
    }
    assert "struct" not in re.sub(
        r"struct \w+ \w+(\[\w+\])?;|/\*.*?\*/", "", body[1], flags=re.DOTALL
    )
    for field, schema in fields(name):
        part = nested.pop(field, None)
        if isinstance(schema, construct.Bytes):
            # A flow key stays whole: it is what tables are indexed by.
            assert part in (None, "flow_key"), field
            continue
        inner = getattr(schema, "subcon", schema)
        assert isinstance(inner, construct.Struct) == (part is not None), field
        assert part is None or inner is abi.SCHEMAS[part], field
    assert not nested


def test_every_struct_of_the_header_has_a_schema() -> None:
    named = re.findall(r"^struct (\w+) \{", header("abi.h"), re.MULTILINE)
    assert set(named) == set(abi.SCHEMAS)


def test_every_kind_of_sample_has_its_struct(compiler: Compiler) -> None:
    kinds = [compiler.values[name] for name in enumerators("abi.h", "sample_kind")]
    assert kinds == list(abi.SAMPLES)
    named = re.findall(r"^struct (\w+_sample|sample_\w+) \{", header("abi.h"), re.MULTILINE)
    assert set(named) == set(abi.SAMPLES.values())
    for name in abi.SAMPLES.values():
        first, schema = next(fields(name))
        assert name == "sample_head" or (first, schema) == ("head", abi.SCHEMAS["sample_head"])


def test_every_constant_of_the_header_is_compared() -> None:
    named = re.findall(r"^#define ([A-Z]\w+) ", header("abi.h"), re.MULTILINE)
    for enum in re.findall(r"^enum (\w+) \{", header("abi.h"), re.MULTILINE):
        named += enumerators("abi.h", enum)
    assert {*named} - KERNEL_ONLY <= {*CONSTANTS}
    assert {*named} >= KERNEL_ONLY


def test_the_jumps_are_in_the_order_of_their_slots() -> None:
    slots = enumerators("maps.h", "jump")
    assert slots.pop() == "JUMPS"
    assert [slot.replace("JUMP_", "decky_").lower() for slot in slots] == list(JUMPS)


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name: str, compiler: Compiler) -> None:
    assert compiler.values[f"sizeof(struct {name})"] == SIZES[name]


def test_a_connection_fits_into_512_bytes_of_the_kernel(compiler: Compiler) -> None:
    """`flows` allocates each entry, and a larger one would take 1,024.

    Before the key, the kernel has 48 bytes (struct htab_elem in kernel/bpf/hashtab.c). From 6.1 on
    8 more are in front (LLIST_NODE_SZ in kernel/bpf/memalloc.c).
    """
    key, value = (compiler.values[f"sizeof(struct {name})"] for name in ("flow_id", "flow"))
    assert 8 + 48 + key + value <= 512


@pytest.mark.parametrize(("struct", "member"), OFFSETS)
def test_offsets_that_are_used_without_a_schema(
    struct: str, member: str, compiler: Compiler
) -> None:
    assert compiler.place(struct, member)[0] == OFFSETS[struct, member]


def test_a_sweep_reads_the_right_members() -> None:
    flow = abi.SCHEMAS["flow"].parse(bytes(abi.FLOW_BYTES))
    flow.totals.last_ns = 2**63 + 5
    flow.totals.close = abi.CLOSES.index("rst")
    flow.totals.end_sent = 1
    flow.totals.source_slot = 0xFEDC
    flow.synack.ip_flags = abi.HANDSHAKE_LOST | abi.IP_FLAG_DF
    value = abi.SCHEMAS["flow"].build(flow)
    state = OpenFlow(b"", value, False).state
    assert state == (
        *(2**63 + 5, abi.CLOSES.index("rst"), 0xFEDC, 1),
        abi.HANDSHAKE_LOST | abi.IP_FLAG_DF,
    )
    assert state == abi.FLOW_STATE.unpack(value)
    assert state.closed
    assert OpenFlow(b"", bytes(abi.FLOW_BYTES), False).state == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_the_same_on_both_sides(name: str, compiler: Compiler) -> None:
    assert compiler.values[name] == CONSTANTS[name]


def test_counters_are_those_of_the_struct_in_its_order() -> None:
    text = header("abi.h")
    body = text[text.index("struct counters {") :]
    assert tuple(re.findall(r"__u64 (\w+);", body[: body.index("\n};")])) == abi.COUNTERS


def test_the_ends_of_a_key_are_where_they_are_read() -> None:
    key = bytes(range(32)) + pack("!HH", 5, 6)
    assert ends(key, 0) == (key[:16], 5, key[16:32], 6)
    assert ends(key, 1) == (key[16:32], 6, key[:16], 5)


def test_direct_mapped_tables_are_powers_of_two() -> None:
    tables = re.findall(r"#define (\w+_SLOTS) (\d+)", header("limits.h"))
    assert tables
    for name, digits in tables:
        assert int(digits).bit_count() == 1, name


# --- traits of a SYN's signature ---


def test_every_trait_has_its_counterpart(compiler: Compiler) -> None:
    assert enumerators("syn.h", "syn_trait") == list(TRAITS)
    bits = [compiler.values[name] for name in TRAITS]
    assert bits == [1 << n for n in range(len(bits))]


@pytest.mark.parametrize("name", TRAITS)
def test_the_kernel_and_the_agent_see_the_same_trait(name: str, compiler: Compiler) -> None:
    for case, present in zip(TRAITS[name], (True, False), strict=True):
        assert bool(compiler.values[traits_of(case)] & compiler.values[name]) is present
        assert case.seen_by_the_agent() is present


def test_the_identifications_of_tools_are_those_that_the_agent_looks_for(
    compiler: Compiler,
) -> None:
    named = {compiler.values["ZMAP_IP_ID"], compiler.values["SCAPY_IP_ID"]}
    assert {0, *named} == scanners.TOOL_IP_IDS

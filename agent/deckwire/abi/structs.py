"""The structs of bpf/abi.h as construct schemas, field by field.

The agent reads samples and map values by `members` of the schemas, with one unpack. Callers check
lengths, because a compiled schema does not check short reads.
"""

from __future__ import annotations

from construct import Array, Bytes, Int8ul, Int16ul, Int32ul, Int64sl, Int64ul, Struct

from deckwire.abi.members import Flat, members, offset
from deckwire.limits import DECKY_BITS

FLOW_KEY_BYTES = 36
TCP_OPTIONS_BYTES = 40

IP_FLAG_DF, IP_FLAG_RESERVED, SYN_OPTIONS_CUT, IP_FLAG_REASSEMBLED = 0x1, 0x2, 0x4, 0x8
SYN_KNOWN, HANDSHAKE_LOST = 0x10, 0x20

SAMPLE_SYN, SAMPLE_HANDSHAKE, SAMPLE_SEGMENT, SAMPLE_END = 1, 2, 3, 4
SAMPLE_FRAGMENT, SAMPLE_ANOMALY, SAMPLE_SACK = 5, 6, 7
SAMPLE_TLS_STARTS, SAMPLE_FLOW_MIDSTREAM, SAMPLE_TLS_ENDS = 0x1, 0x2, 0x4
SAMPLE_HELLO_SUPPRESSED, SAMPLE_FLOW_PROVEN = 0x8, 0x10
SAMPLE_REASSEMBLED, SAMPLE_HEAD, SAMPLE_SYN_DATA = 0x20, 0x40, 0x80
HEAD_SHARED = 0x80
"""With SAMPLE_HEAD: the reader of TLS needs the sample too."""
HEAD_KINDS = ("undecided", "ssh", "http", "payload")
"""enum head_kind. Bit n of the setting `heads` is that of number n; after the first, the order is
that of options.HEADS."""
HEAD_SSH, BITS_HEAD, TLS_WATCH = 1, 6, 1
"""Of an end that speaks SSH, tls_header has its chain in the state TLS_WATCH."""
SSH_STATE, SSH_FINISHED = 0xFF, 3
"""Parts of a chain: its lowest bits, and their value once nothing more is of interest."""
REASSEMBLED_INGRESS = 0x1
"""In skb->cb[0] of a test run of the program `reassembled`."""

SEQUENCE_CLASSES = ("", "zero", "constant", "incremental", "random")
"""enum sequence_class; "" if nothing is known."""
SEQUENCE_SAMPLES = 8
"""SYNs of a source whose numbers are kept."""
HALF_OPEN_SETS, HALF_OPEN_WAYS = 8, 16
"""Sets in a group of half-open connections, and entries in a set."""
PROBE_PROVEN = 0x1
PROBE_PROTO_ARP, PROBE_PROTO_BROKEN = 0, 255
"""Protocols of targets that are none over IP."""
PROBE_INLINE, PROBE_WAYS = 4, 7
"""Targets in the slot of a source; targets in a set of further ones."""
PROBE_SOURCE_WAYS = 4
"""Sources in a set, which share a mark."""
SERVICE_HANDSHAKE, SERVICE_FLOW = 1, 2
"""enum service_event: completed handshakes, ends of connections."""

CLIENT_UNKNOWN = 2
RTT_UNKNOWN = 0xFFFF_FFFF
INTERVALS_UNKNOWN = 0xFFFF_FFFF_FFFF_FFFF

FLOW_MIDSTREAM, FLOW_PROVEN = 0x4, 0x40
RULES_RESUMED = 0x20
"""Of an end's rules: from this bit on, how often its RST ended the connection and was not taken."""
SIDE_FIN, SIDE_FIN_ACKED, SIDE_ACKED = 0x2, 0x4, 0x20
CLOSE_NONE = 0
CLOSES = ("", "fin", "rst", "idle", "evicted", "removed", "shutdown")
"""enum flow_close, as events name it."""

_flow_key = Struct(
    "addr" / Array(2, Bytes(16)),
    "port" / Array(2, Int16ul),
)
_flow_id = Struct(
    "ends" / Int64ul,
    "port" / Bytes(4),
    "version" / Int32ul,
)
_syn_packet = Struct(
    "time_ns" / Int64ul,
    "seq" / Int32ul,
    "ack" / Int32ul,
    "flow_label" / Int32ul,
    "payload_len" / Int32ul,
    "window" / Int16ul,
    "ip_id" / Int16ul,
    "urgent" / Int16ul,
    "flags" / Int16ul,
    "ip_options_len" / Int16ul,
    "ttl" / Int8ul,
    "tos" / Int8ul,
    "ip_version" / Int8ul,
    "ip_flags" / Int8ul,
    "options_len" / Int8ul,
    "retransmits" / Int8ul,
    "options" / Bytes(TCP_OPTIONS_BYTES),
)
_half_open = Struct(
    "signature" / Int64ul,
    "last_ns" / Int64ul,
    "min_iat_ns" / Int64ul,
    "max_iat_ns" / Int64ul,
    "syn" / _syn_packet,
    "synack" / _syn_packet,
    "client" / Int8ul,
    "syn_sampled" / Int8ul,
    "noted" / Int8ul,
    "syn_suppressed" / Int8ul,
    "flags" / Int8ul,
    "rules" / Int8ul,
    "syn_record" / Int16ul,
)
_half_open_entry = Struct(
    "half" / _half_open,
    "key" / Bytes(FLOW_KEY_BYTES),
    "generation" / Int32ul,
)
_half_open_set = Struct(
    "tag" / Array(HALF_OPEN_WAYS, Int32ul),
    "time" / Array(HALF_OPEN_WAYS, Int32ul),
)
_flow_side = Struct(
    "packets" / Int64ul,
    "bytes" / Int64ul,
    "retransmits" / Int32ul,
    "ts_recent" / Int32ul,
    "hole_start" / Int32ul,
    "hole_end" / Int32ul,
    "timed_end" / Int32ul,
    "fin_seq" / Int32ul,
    "tls_seq" / Int32ul,
    "tls_bytes" / Int32ul,
    "tls_header" / Int64ul,
    "tls_samples" / Int16ul,
    "tls_state" / Int8ul,
    "tls_bits" / Int8ul,
    "tls_orphans" / Int8ul,
    "head" / Int8ul,
    "flags" / Int8ul,
    "offers" / Int8ul,
)
_flow_end = Struct(
    "acked" / Int32ul,
    "edge" / Int32ul,
    "sent" / Int32ul,
)
_flow_totals = Struct(
    "last_ns" / Int64ul,
    "min_iat_ns" / Int64ul,
    "max_iat_ns" / Int64ul,
    "client" / Int8ul,
    "close" / Int8ul,
    "flags" / Int8ul,
    "no_bulk" / Int8ul,
    "last_sender" / Int8ul,
    "timed" / Int8ul,
    "rules" / Bytes(2),
    "end" / Array(2, _flow_end),
    "side" / Array(2, _flow_side),
    "born_ns" / Int64ul,
    "established_ns" / Int64ul,
    "rtt_server_us" / Int32ul,
    "rtt_client_us" / Int32ul,
    "rtt_min_us" / Int32ul,
    "source_slot" / Int16ul,
    "ends" / Int8ul,
    "end_sent" / Int8ul,
    "timed_ns" / Int64ul,
)
_flow = Struct(
    "totals" / _flow_totals,
    "syn" / _syn_packet,
    "synack" / _syn_packet,
    "hello" / Int64ul,
    "session_id" / Int64ul,
    "hello_end" / Int32ul,
    "key" / Bytes(FLOW_KEY_BYTES),
)
_sample_head = Struct(
    "time_ns" / Int64ul,
    "born_ns" / Int64ul,
    "hello" / Int64ul,
    "before" / Int64ul,
    "key" / Bytes(FLOW_KEY_BYTES),
    "seq" / Int32ul,
    "start_seq" / Int32ul,
    "payload_len" / Int32ul,
    "payload_off" / Int16ul,
    "copied" / Int16ul,
    "kind" / Int8ul,
    "sender" / Int8ul,
    "client" / Int8ul,
    "flags" / Int8ul,
    "urgent" / Int16ul,
    "tcp_flags" / Int16ul,
    # Of a segment it is `head`: enum head_kind, HEAD_SHARED.
    "ipid_class" / Int8ul,
    "ipid_samples" / Int8ul,
    "isn_class" / Int8ul,
    "isn_samples" / Int8ul,
)
_seen = Struct(
    "signature" / Int64ul,
    "expires_ns" / Int64ul,
    "decided" / Int64ul,
    "suppressed" / Int64ul,
    "first_ns" / Int64ul,
    "last_ns" / Int64ul,
    "deckies" / Int64ul,
)
_flow_sums = Struct(
    "packets" / Int64ul,
    "bytes" / Int64ul,
    "longest_ns" / Int64ul,
    "largest" / Int64ul,
)
_token_bucket = Struct(
    "filled_ns" / Int64ul,
    "tokens_ns" / Int64sl,
)
_source = Struct(
    "handshakes" / _token_bucket,
    "flows" / Int64ul,
)
_probe_target = Struct(
    "decky" / Int64ul,
    "where" / Int32ul,
    "owner" / Int32ul,
    "first_ns" / Int64ul,
    "kinds" / Int32ul,
    "source" / Int16ul,
    "answers" / Int8ul,
    "refused" / Int8ul,
)
_probe_source = Struct(
    "addr" / Bytes(16),
    "first_ns" / Int64ul,
    "last_ns" / Int64ul,
    "generation" / Int32ul,
    "targets" / Int32ul,
    "kinds" / Int32ul,
    "repeated" / Int32ul,
    "mac" / Bytes(6),
    "flags" / Int8ul,
    "syns" / Int8ul,
    "changes" / Int16ul,
    "first_ip_id" / Int16ul,
    "targets_lost" / Int32ul,
    "seq" / Array(SEQUENCE_SAMPLES, Int32ul),
    "target" / Array(PROBE_INLINE, _probe_target),
    "ip_id" / Array(SEQUENCE_SAMPLES, Int16ul),
    "probes" / Array(20, Int32ul),
)
_target_set = Struct(
    "lock" / Int32ul,
    "pad" / Array(7, Int32ul),
    "target" / Array(PROBE_WAYS, _probe_target),
)
_begun = Struct(
    "decky" / Bytes(16),
    "peer" / Bytes(16),
    "first_ns" / Int64ul,
    "last_ns" / Int64ul,
    "link" / Int64ul,
    "lock" / Int32ul,
    "count" / Int32ul,
    "decky_port" / Int16ul,
    "port" / Int16ul,
    "protocol" / Int8ul,
    "turn" / Int8ul,
    "pad" / Bytes(2),
)
_decky_filter = Struct(
    "bits" / Bytes(DECKY_BITS // 8),
)
_ring = Struct(
    "read" / Int64ul,
    "half" / Int64ul,
)
_slot = Struct(
    "slot" / Int32ul,
)
_settings = Struct(
    "seed" / Int64ul,
    "syn_cost_ns" / Int64ul,
    "syn_burst_ns" / Int64ul,
    "handshake_cost_ns" / Int64ul,
    "handshake_burst_ns" / Int64ul,
    "midstream_cost_ns" / Int64ul,
    "midstream_burst_ns" / Int64ul,
    "flows_per_source" / Int64ul,
    "dedup" / Int64ul,
    "vepa" / Int64ul,
    "own_host" / Int64ul,
    "checksums" / Int64ul,
    "sequences" / Int64ul,
    "heads" / Int64ul,
)

COUNTERS = (
    "foreign_not_ip",
    "foreign_no_decky",
    "foreign_vlan_tags",
    "ignored_not_tcp",
    "ignored_fragment_first",
    "ignored_fragment_later",
    "ignored_ip_malformed",
    "ignored_tcp_malformed",
    "ignored_vepa_echo",
    "ignored_own_host",
    "ignored_ext_headers",
    "frames_syn",
    "frames_synack",
    "frames_flow",
    "frames_midstream",
    "frames_late",
    "frames_refused",
    "frames_unattached",
    "packets_reassembled",
    "samples_wanted",
    "samples_submitted",
    "samples_lost",
    "samples_bytes",
    "samples_deferred",
    "syn_noted",
    "syn_retransmits",
    "syn_suppressed",
    "syn_over_budget",
    "syn_seen_overwrites",
    "half_open_inserts",
    "half_open_deletes",
    "half_open_failed",
    "half_open_evicted",
    "half_open_others",
    "synack_unmatched",
    "handshakes",
    "flow_inserts",
    "flow_insert_failed",
    "flow_source_capped",
    "flow_reopened",
    "midstream_inserts",
    "midstream_deletes",
    "midstream_failed",
    "handshakes_suppressed",
    "ends_suppressed",
    "hellos_suppressed",
    "heads_suppressed",
    "heads_left_out",
    "tls_not_admitted",
    "tls_over_budget",
    "tls_unread",
    "tls_search_cut",
    "fragments_over_budget",
    "fragments_too_long",
    "midstream_over_budget",
    "anomalies",
    "anomalies_suppressed",
    "anomalies_over_budget",
    "refused_forged",
    "refused_window",
    "refused_no_ack",
    "refused_ack_unsent",
    "refused_ack_old",
    "refused_rst",
    "refused_synack",
    "refused_after_fin",
    "refused_signature",
    "refused_timestamp",
    "refused_checksum",
    "refused_ip_checksum",
    "segments_old",
    "flows_resumed",
    "probes",
    "probes_unrecorded",
    "probe_sources_evicted",
    "probe_targets_lost",
    "datagrams_begun",
    "datagrams_begun_lost",
    "datagrams_uncertain",
)
"""struct counters in order; docs/events.md explains each."""

FRAME_COUNTERS = COUNTERS[: COUNTERS.index("packets_reassembled")]
"""Each frame, and each packet put together from fragments, raises exactly one of these."""

_counters = Struct(*(name / Int64ul for name in COUNTERS))

_half_open_sample = Struct(
    "head" / _sample_head,
    "half_open" / _half_open,
)
_end_sample = Struct(
    "head" / _sample_head,
    "totals" / _flow_totals,
    "isn" / Array(2, Int32ul),
)
_fragment_sample = Struct(
    "head" / _sample_head,
    "frame_len" / Int32ul,
    "l3_off" / Int16ul,
    "ingress" / Int8ul,
    "pad" / Int8ul,
)
_anomaly_sample = Struct(
    "head" / _sample_head,
    "signature" / Int64ul,
    "ack" / Int32ul,
    "expected_seq" / Int32ul,
    "expected_ack" / Int32ul,
    "tcp_flags" / Int16ul,
    "technique" / Int8ul,
    "known" / Int8ul,
)

SCHEMAS = {
    "flow_key": _flow_key,
    "flow_id": _flow_id,
    "syn_packet": _syn_packet,
    "half_open": _half_open,
    "half_open_entry": _half_open_entry,
    "half_open_set": _half_open_set,
    "flow_side": _flow_side,
    "flow_end": _flow_end,
    "flow_totals": _flow_totals,
    "flow": _flow,
    "sample_head": _sample_head,
    "seen": _seen,
    "flow_sums": _flow_sums,
    "token_bucket": _token_bucket,
    "source": _source,
    "probe_target": _probe_target,
    "probe_source": _probe_source,
    "target_set": _target_set,
    "begun": _begun,
    "decky_filter": _decky_filter,
    "ring": _ring,
    "settings": _settings,
    "counters": _counters,
    "half_open_sample": _half_open_sample,
    "end_sample": _end_sample,
    "fragment_sample": _fragment_sample,
    "anomaly_sample": _anomaly_sample,
}
"""Schemas by the name of the struct in bpf/abi.h, not compiled."""

SAMPLES = {
    SAMPLE_SYN: "half_open_sample",
    SAMPLE_HANDSHAKE: "half_open_sample",
    SAMPLE_SEGMENT: "sample_head",
    SAMPLE_END: "end_sample",
    SAMPLE_FRAGMENT: "fragment_sample",
    SAMPLE_ANOMALY: "anomaly_sample",
    SAMPLE_SACK: "sample_head",
}
"""The struct at the start of each kind of sample. In samples of segments, fragments and
SACKs, the frame follows it."""

SEEN = Flat("Seen", _seen)
FLOW_SUMS = Flat("FlowSums", _flow_sums)
SETTINGS = _settings.compile()

SYN_PACKET_BYTES: int = _syn_packet.sizeof()
HALF_OPEN_BYTES: int = _half_open.sizeof()
HALF_OPEN_ENTRY_BYTES: int = _half_open_entry.sizeof()
HALF_OPEN_SETS_BYTES: int = HALF_OPEN_SETS * _half_open_set.sizeof()
"""Of the sets of a group."""
HALF_OPEN_ENTRIES_BYTES: int = HALF_OPEN_SETS * HALF_OPEN_WAYS * HALF_OPEN_ENTRY_BYTES
"""Of the entries of a group."""
FLOW_TOTALS_BYTES: int = _flow_totals.sizeof()
FLOW_BYTES: int = _flow.sizeof()
SAMPLE_HEAD_BYTES: int = _sample_head.sizeof()
COUNTERS_BYTES: int = _counters.sizeof()
SOURCE_BYTES: int = _source.sizeof()
HALF_OPEN_SAMPLE_BYTES: int = _half_open_sample.sizeof()
FRAGMENT_SAMPLE_BYTES: int = _fragment_sample.sizeof()
ANOMALY_SAMPLE_BYTES: int = _anomaly_sample.sizeof()
END_SAMPLE_BYTES: int = _end_sample.sizeof()

# The members of samples that the agent reads, in one unpack: samples.py names the values the same.
SEGMENT = members(
    _sample_head,
    *("time_ns", "born_ns", "hello", "before", "key", "seq", "start_seq", "payload_len"),
    "payload_off",
    *("copied", "sender", "client", "flags", "urgent", "tcp_flags", "ipid_class"),
)
SACK = members(
    _sample_head, "time_ns", "born_ns", "key", "seq", "start_seq", "payload_off", "sender"
)
HALF_OPEN_SAMPLE = members(
    _half_open_sample,
    *("head.time_ns", "head.born_ns", "head.hello", "head.key", "head.flags"),
    *("head.ipid_class", "head.ipid_samples", "head.isn_class", "head.isn_samples"),
    *("half_open.signature", "half_open.client", "half_open.syn_sampled"),
)
FRAGMENT = members(_fragment_sample, "head.time_ns", "frame_len", "l3_off", "ingress")
ANOMALY = members(
    _anomaly_sample,
    *("head.time_ns", "head.born_ns", "head.key", "head.seq", "head.payload_len", "head.sender"),
    *("head.client", "signature", "ack", "expected_seq", "expected_ack", "tcp_flags", "technique"),
    "known",
)
END = members(_end_sample, "head.time_ns", "head.born_ns", "head.key", "isn.0", "isn.1")
SYN_PACKET = members(
    _syn_packet,
    *("time_ns", "seq", "ack", "flow_label", "payload_len", "window", "ip_id", "urgent", "flags"),
    *("ip_options_len", "ttl", "tos", "ip_version", "ip_flags", "options_len", "retransmits"),
    "options",
)
FLOW_TOTALS = members(
    _flow_totals,
    *("last_ns", "min_iat_ns", "max_iat_ns", "client", "close", "flags", "rules"),
    *("end.0.acked", "end.1.acked"),
    *("side.0.packets", "side.0.bytes", "side.0.retransmits", "side.0.tls_header"),
    *("side.0.tls_samples", "side.0.tls_state", "side.0.tls_bits", "side.0.flags"),
    *("side.1.packets", "side.1.bytes", "side.1.retransmits", "side.1.tls_header"),
    *("side.1.tls_samples", "side.1.tls_state", "side.1.tls_bits", "side.1.flags"),
    *("born_ns", "established_ns", "rtt_server_us", "rtt_client_us", "rtt_min_us"),
    "end_sent",
)
FLOW_HELLO = members(_flow, "hello", "session_id", "hello_end")
FLOW_OPENINGS = members(
    _flow, "totals.client", "syn.seq", "syn.ip_version", "synack.seq", "synack.ack"
)
"""The members that give the initial sequence numbers."""
ESTABLISHED = members(_flow_totals, "established_ns")

# The members of map values that the agent reads without the rest.
FLOW_OPENED = members(_flow, "totals.client", "syn.payload_len", "syn.ip_flags")
"""The client, and of its SYN the bytes of data and the flags (SYN_KNOWN)."""
FLOW_BORN = members(_flow, "totals.born_ns")
FLOW_STATE = members(
    _flow,
    *("totals.last_ns", "totals.close", "totals.source_slot", "totals.end_sent"),
    "synack.ip_flags",
)
"""The members that a sweep decides by."""
HALF_OPEN_STATE = members(
    _half_open_entry,
    *("half.syn.time_ns", "half.synack.ip_version", "half.client", "key", "generation"),
)
"""Among them the time of the SYN, whether a SYN-ACK was seen (0: none), and who sent the SYN."""
HALF_OPEN_TAGS = members(_half_open_set, *(f"tag.{way}" for way in range(HALF_OPEN_WAYS)))
"""One for each entry of a set, in their order; 0: it is free."""
SOURCE = members(_source, "handshakes.filled_ns", "handshakes.tokens_ns", "flows")
"""Every member: a value is written back with another count of connections."""
RING = members(_ring, "read", "half")
SEEN_COUNT = members(_seen, "signature", "suppressed")
SEEN_END = members(_seen, "signature", "expires_ns")
COUNTER_VALUES = members(_counters, *COUNTERS)

PROBE_TARGET = members(_probe_target, "decky", "where", "first_ns", "kinds", "answers", "refused")
PROBE_SOURCE = members(
    _probe_source,
    *("addr", "first_ns", "last_ns", "targets", "kinds", "repeated", "mac", "flags"),
    "targets_lost",
)
PROBE_SEQUENCES = members(
    _probe_source,
    *("syns", "first_ip_id"),
    *(f"seq.{number}" for number in range(SEQUENCE_SAMPLES)),
    *(f"ip_id.{number}" for number in range(SEQUENCE_SAMPLES)),
)
PROBE_COUNTS = members(_probe_source, *(f"probes.{kind}" for kind in range(20)))
PROBE_GENERATION = members(_probe_source, "generation")
PROBE_TARGETS = members(_probe_source, "targets")
PROBE_GLANCE = members(_probe_source, "addr", "last_ns", "generation", "targets", "flags")
PROBE_NEWS = members(
    _probe_source, "generation", "targets", "kinds", "flags", "changes", "targets_lost"
)
"""What is more than another probe of the same kind and target, with the targets in the slot."""
BEGUN = members(
    _begun,
    *("decky", "peer", "first_ns", "last_ns", "link", "lock", "count"),
    *("decky_port", "port", "protocol", "turn"),
)

# The members of map keys.
SLOT = members(_slot, "slot")
"""The key of every array: the number of an entry."""
FLOW_ID = members(_flow_id, "ends", "port", "version")
ADDRESSES = members(_flow_key, "addr.0", "addr.1")
ADDRESS = tuple(members(_flow_key, f"addr.{end}") for end in (0, 1))
"""One address of a flow key, by end."""
ENDS = members(_flow_key, "addr.0", "addr.1", "port.0", "port.1")
"""Both addresses and both ports of a flow key. The ports are swapped: the kernel keeps them in
network byte order."""

# Offsets of members.
SAMPLE_KIND = offset(_sample_head, "kind")
HALF_OPEN_SAMPLE_SYN = offset(_half_open_sample, "half_open.syn")
HALF_OPEN_SAMPLE_SYNACK = offset(_half_open_sample, "half_open.synack")
FLOW_SYN = offset(_flow, "syn")
FLOW_SYN_FLAGS = offset(_flow, "syn.ip_flags")
FLOW_CLIENT = offset(_flow, "totals.client")
FLOW_SYNACK = offset(_flow, "synack")
PROBE_SOURCE_TARGET = offset(_probe_source, "target")
PROBE_OWNER = offset(_probe_target, "owner")
PROBE_OWNER_SOURCE = offset(_probe_target, "source")
BEGUN_LAST_NS = offset(_begun, "last_ns")
BEGUN_BYTES: int = _begun.sizeof()
PROBE_SOURCE_BYTES: int = _probe_source.sizeof()
PROBE_TARGET_BYTES: int = _probe_target.sizeof()
TARGET_SET_BYTES: int = _target_set.sizeof()
FLOW_KEY = offset(_flow, "key")
FLOW_KEY_PORTS = offset(_flow_key, "port")
SYN_PACKET_IP_VERSION = offset(_syn_packet, "ip_version")
"""0 if there is no packet, else its IP version."""

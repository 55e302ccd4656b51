"""Every bound that an attacker can push against, in one place; bpf/limits.h has the kernel's.

A value that is not one of these is not bounded by the network. Nothing here is tuned by the peer.
"""

from __future__ import annotations

# --- TCP reassembly (one direction of one connection) ---------------------------------------
STREAM_BYTES = 65_536
"""Bytes kept per direction, in order and out of order together."""
STREAM_PIECES = 512
"""Out-of-order pieces kept per direction; 1-byte segments in order are merged and cost none."""

# --- connections whose handshake bytes are being read -----------------------------------------
CONNECTIONS = 8_192
"""Connections with TLS under way; the one silent for longest makes room, counted."""
CONNECTIONS_BYTES = 16 * 1_048_576
"""Bytes that all of them may hold together: payload, and hellos as they were read."""
STRAY_CONNECTIONS = 1_024
"""Those among them that were met in the middle, which any source can forge."""
STRAY_CONNECTIONS_BYTES = 2 * 1_048_576
"""The same of these."""
EARLY_PIECES = 64
"""Segments kept of a direction before it is known where its TLS begins."""
RECENT_HANDSHAKES = 8_192
"""Openings kept from a handshake's end to its first TLS segment; older ones are read back."""
CONTEXTS = 2_048
"""Places of connections kept between the events of one."""
STACKS = 1_024
"""Fields of SYNs kept by the kernel's signature."""
SYSTEMS = 1_024
"""Systems of SYNs and SYN-ACKs kept by all that a signature looks at."""
OPTION_WALKS = 1_024
"""Options of SYNs and SYN-ACKs whose reading is kept."""
LATENCIES = 1_024
"""Round trips whose fields are kept between the events of a connection, of each kind."""
TEXT_CACHE = 4_096
"""Addresses whose text is kept."""

# --- connect scans ----------------------------------------------------------------------------
SCAN_SOURCES = 1_024
"""Sources of which touched services are kept; the one silent for longest makes room, counted."""
SCAN_SERVICES = 64
"""Services kept of one source: evidence counts no further."""
SCAN_TOUCHES = 4_096
"""Connections that wait for a verdict; beyond it those waiting longest are told, counted."""

# --- the kernel's tables, as far as the agent must know their sizes (bpf/limits.h) -------------
FLOWS = 262_144
DECKY_BITS = 65_536
"""Bits of the kernel's sketch of all deckies."""

# --- TLS ------------------------------------------------------------------------------------
RECORD_BYTES = 16_384 + 2_048
"""Largest record that is not malformed (RFC 5246, 6.2.3: 2^14 plus 2,048 of expansion)."""
HANDSHAKE_BYTES = 524_288
"""Largest handshake message reassembled from records: chains of hundreds of KB exist."""
RECORDS = 2_048
"""Records read in one direction; a hello of 1.7 KB cut into 1-byte records still passes."""
HANDSHAKE_MESSAGES = 64
"""Handshake messages read in one direction; a full handshake has fewer than ten."""
CERTIFICATES = 16
"""Certificates read of one Certificate message; the rest of a longer chain is counted."""

EMITTED_HELLOS = 4_096
"""ClientHellos that the kernel may hide and the agent still knows; values are shared with the
cache of parsed ones while that has them."""
TOLD_HELLOS_BYTES = 8 * 1_048_576
"""Bytes that they take, shared or not."""
TOLD_HELLO_BYTES = 8_192
"""One that takes more is never hidden: few of them would make room for all others."""
HELLO_CACHE = 2_048
"""Parsed hellos kept, of clients and of servers each."""
HELLO_CACHE_BYTES = 3 * 1_048_576
"""Bytes that they take, of each side: usual ones 2 to 4 KB, one made for it 24 times its length."""
HELLO_LAYOUTS = 256
"""Lengths of hellos of which the last one's layout is kept, of clients and of servers each."""
HELLO_CACHED_BYTES = 4_096
"""Longest hello that is kept."""

DESCRIBED_CACHE = 512
"""Things of each kind whose finished fields are kept: hellos of each side, none longer than
HELLO_CACHED_BYTES, certificates within CERTIFICATE_CACHED_BYTES, stacks of SYNs and SYN-ACKs."""
DESCRIBED_BYTES = 2 * 1_048_576
"""Bytes that the things of each kind take with their fields."""

# --- X.509 ----------------------------------------------------------------------------------
CERTIFICATE_CACHE = 2_048
"""Parsed certificates kept by SHA-256."""
CERTIFICATE_CACHE_BYTES = 4 * 1_048_576
"""Bytes that their texts take."""
VERIFY_KEY_BITS = 8_192
"""Largest key with which a self-signature is verified: verification cost grows with its cube."""
VERIFY_EXPONENT_BITS = 64
"""Largest RSA exponent with which one is verified: OpenSSL bounds it so for large keys."""
CURVE_NUMBER_BYTES = 66
"""Longest number of an elliptic curve that a key writes out: those of P-521."""
JA4X_CACHE = 256
"""Lists of object identifiers of certificates whose JA4X is kept."""
CERTIFICATE_CACHED_BYTES = 16_384
"""A certificate whose texts need more memory than this is described anew each time."""
CERTIFICATE_ATTRIBUTES = 256
"""Attributes read of one distinguished name, and of all names in one list of alternative names
together; a longer name is malformed."""
CERTIFICATE_EXTENSIONS = 256
"""Extensions read of one certificate; a longer list is malformed."""
CERTIFICATE_SANS = 512
"""Alternative names read of one certificate; a longer list is told cut, ending in ``...``."""
OID_BYTES = 64
"""Longest object identifier written in dotted form: its numbers have no limit of their own."""

# --- events ---------------------------------------------------------------------------------
LINE_BYTES = 8_000
"""Longest syslog line; fields behind the cut are dropped and the line says so."""
VALUE_BYTES = 2_048
"""Longest value of one field, after escaping; a cut value ends in ``...``."""
HEADERS = 4_096
"""Heads of syslog lines kept, by decky and event."""
ESCAPE_CACHE = 4_096
"""Characters whose escaped form is remembered."""
DEDUP_ENTRIES = 43_690
"""Dedup windows open at once; the oldest of those that have suppressed nothing makes room. A third
of 131,072: of more, that come and go, Python's dictionary is twice as large."""
DEDUP_BYTES = 10 * 1_048_576
"""Bytes that open dedup windows take; one of an IPv4 SYN takes 240, or 580 once it suppresses."""
DEDUP_KEY = 256
"""Characters of a dedup key's fingerprint kept; the rest of a longer one is hashed."""
DEDUP_HOSTS = 32_768
"""Deckies remembered over all open windows together, where a window has more than one; beyond it
their counts are lower bounds."""
DEDUP_SUMMARIES = 8_192
"""Windows that have closed before their time and wait to be summed up, a second at most."""
SINK_QUEUE = 8_192
"""Lines waiting in front of one sink; beyond that they are dropped and counted."""
SINK_UNCONFIRMED = 65_536
"""Lines written to one receiver that it may not have yet; beyond that, more wait in the queue."""

# --- mistakes of ours that a peer may have found ------------------------------------------------
FAILURE_KINDS = 64
"""Kinds of them that are reported, a line each; all are counted."""
FAILURE_TEXT = 200
"""Characters of an exception's text that the line repeats."""

# --- registry -------------------------------------------------------------------------------
DECKIES = 65_536
"""Deckies in the registry, IPv4 and IPv6 together."""
DECKIES_FILE_BYTES = 16_777_216
"""Largest deckies file that is read: 256 bytes a decky."""
CONFIG_FILE_BYTES = 1_048_576
"""Largest configuration file that is read."""

# --- capture files --------------------------------------------------------------------------
CAPTURE_FRAME_BYTES = 262_144
"""Longest frame taken from a capture: the largest snapshot length libpcap allows on a network."""
CAPTURE_BLOCK_BYTES = 524_288
"""Longest pcapng block that is held in memory: a frame with room for its options."""
CAPTURE_REORDER_NS = 1_000_000_000
"""A frame may be stamped so long before the latest one; further back the clock was set."""
CAPTURE_AHEAD_NS = 10_000_000_000
"""A frame stamped so long after the latest one is believed at once; a later one if the next decky's
frame does not go back."""
CAPTURE_SILENCE_NS = 30 * 86_400_000_000_000
"""Longest silence of all deckies that is believed: beyond it the clock was set."""
CAPTURE_RUNS = 65_536
"""Jumps of a capture's clock that are kept, to tell frame times by."""
CAPTURE_INTERFACES = 4_096
"""Interfaces described in one pcapng section."""
SUPER_PACKET_BYTES = 524_280
"""Longest IP packet that is cut into segments: Linux's GSO_MAX_SIZE, 8 * 65,535."""
SUPER_PACKET_HEADER_BYTES = 256
"""Longest headers, Ethernet to TCP, repeated in front of every segment cut."""

# --- perf rings -----------------------------------------------------------------------------
RING_BYTES = 1_048_576
"""Default size of one CPU's ring."""
RING_BYTES_MIN = 131_072
"""Smallest ring: two records of the largest size, 64 KB."""
RING_BYTES_MAX = 67_108_864
"""Largest ring of one CPU."""
RING_BYTES_ALL = 134_217_728
"""All rings together, on hosts with many CPUs."""

# --- netlink --------------------------------------------------------------------------------
NETLINK_DATAGRAM_BYTES = 131_072
"""Longest datagram read; the kernel's dumps come in 32 KB at most."""
NETLINK_DATAGRAMS = 64
"""Datagrams read in one go, so that interfaces that flap do not stop the agent."""
NETLINK_QUEUED = 4_096
"""Datagrams that a socket's buffer can hold at most: what a snapshot drops unread before it."""
NETLINK_ATTRIBUTES = 256
"""Attributes read of one message or nest."""
NETLINK_SNAPSHOTS = 4
"""Times that a list of interfaces is begun again because messages were lost."""
NETWORK_NAMESPACES = 4_096
"""Network namespaces searched for macvlans of a parent."""

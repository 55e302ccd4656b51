"""Every bound on what an attacker can make grow. Those of the kernel side are in bpf/limits.h.

No option changes a value here. RING_BYTES, DEDUP_KEYS and SPOOL_BYTES are defaults of settings.
"""

from __future__ import annotations

# --- TCP reassembly (one direction of one connection) ---------------------------------------
STREAM_BYTES = 65_536
"""Bytes kept per direction, in order and out of order together."""
STREAM_PIECES = 4_096
"""Out-of-order pieces kept per direction. The kernel side sends as many samples of a direction
(TLS_DIRECTION_SAMPLES), so a peer cannot reach this bound before that one."""
STREAM_CUTS = 64
"""Ranges per direction whose bytes a capture left out, and which are remembered."""

# --- IP fragments (bpf/limits.h bounds their samples) ------------------------------------------
FRAGMENT_DATAGRAMS = 2_048
"""Datagrams that wait for fragments. The oldest is evicted and counted."""
FRAGMENT_BYTES = 4 * 1_048_576
"""Bytes of memory of all of them: Linux's own bound for a network namespace."""
FRAGMENT_SOURCE_DATAGRAMS = 64
"""Datagrams of one source among them: an IPv4 address, an IPv6 /64. Its oldest is evicted."""
FRAGMENT_SOURCE_BYTES = 1_048_576
"""Bytes of memory of one source's. A datagram of 64 KB in fragments of 16 bytes has room."""
TEST_RUN_BYTES = 3_400
"""Longest frame that every kernel accepts in a test run. Larger TCP packets are cut."""
FRAGMENTED_CONNECTIONS = 4_096
"""Connections whose fragments are counted for their events. The one silent for longest is
evicted; its later events count from 0."""
FRAGMENTED_NS = 300_000_000_000
"""A connection that sent no fragment for this long counts from 0."""

# --- connections whose handshake bytes are being read -----------------------------------------
CONNECTIONS = 8_192
"""Connections with TLS under way. The one silent for longest is evicted and counted."""
CONNECTIONS_BYTES = 16 * 1_048_576
"""Bytes of memory for all of them: payload, overhead of waiting pieces, parsed hellos."""
MIDSTREAM_CONNECTIONS = 1_024
"""Mid-stream connections among them, which any source can forge."""
MIDSTREAM_CONNECTIONS_BYTES = 2 * 1_048_576
"""Bytes of memory for all mid-stream ones among them."""
RECENT_HANDSHAKES = 8_192
"""Handshakes kept until their first TLS segment. Older ones are read from the kernel's map."""
RECENT_ENDS = 4_096
"""Connections whose ends are remembered, so that none is reported twice."""
SYN_DATA = 1_024
"""Payloads of SYNs held until a SYN-ACK acknowledges them."""
SYN_DATA_BYTES = 2 * 1_048_576
"""Bytes that they take."""
SWEPT_HANDSHAKES = 4_096
"""Handshakes whose samples were lost, and which one sweep reports."""
URGENT_CONNECTIONS = 1_024
"""Connections with urgent bytes. The one silent for longest is evicted; then its urgent bytes count
as accepted ones."""
URGENT_MARKS = 16
"""Urgent bytes of one direction that are remembered. More count as accepted ones."""
CONTEXTS = 2_048
"""Contexts of connections kept between the events of one connection."""
STACKS = 1_024
"""Fields of SYN packets kept by the kernel's signature."""
SYSTEMS = 1_024
"""Identities of SYN and SYN-ACK packets kept by all traits that a signature uses."""
SERVED_PAIRS = 1_024
"""Clients and deckies whose part of the kernel's signature of a service is kept."""
OPTION_WALKS = 1_024
"""TCP options of SYN and SYN-ACK packets kept in parsed form."""
LATENCIES = 1_024
"""Fields of round-trip times kept between the events of a connection, for each kind."""
WORDS = 256
"""Fields whose values are of few words, kept with their written form. Also the kept addresses of
link layers."""
TEXT_CACHE = 4_096
"""Addresses kept with their text."""

# --- connect scans ----------------------------------------------------------------------------
SCAN_SOURCES = 1_024
"""Sources kept with their touched services. The one silent for longest is evicted and counted."""
SCAN_SERVICES = 64
"""Services kept of one source. More add no evidence."""
SCAN_TOUCHES = 4_096
"""Connections that wait for a verdict. Beyond this, the oldest are emitted early and counted."""

# --- deckies that give themselves away --------------------------------------------------------
ANSWERING_DECKIES = 4_096
"""Deckies whose SYN-ACK packets are compared with the system that they play. The one silent for
longest is evicted, and counted anew."""
PROBED_PORTS = 4_096
"""Ports of deckies whose answers to SYN scans are compared with their services, open ones and
closed ones each. The one that was touched first is evicted."""
CLOCK_STAMPS = 4_096
"""TCP timestamps of SYN-ACK packets that are compared, one of each decky and client. The oldest is
evicted."""
ANSWERS_COMPARED = 64
"""SYN-ACK packets of all deckies whose IP identifications and sequence numbers are compared."""
UPTIME_SOURCES = 2_048
"""Sources whose TCP timestamps are kept. The one silent for longest is evicted."""
UPTIME_STAMPS = 8
"""Timestamps kept of one source."""

# --- scans: what each source has probed ---------------------------------------------------------
SCAN_STARTS = 2_048
"""Sources kept that have touched few targets and completed no handshake. Anybody can forge them.
The one silent for longest is evicted: its scan ends, and is counted."""
SCANS = 2_048
"""Scans kept of sources that completed no handshake. No source of SCAN_STARTS evicts one."""
SCANS_PROVEN = 4_096
"""Sources kept that completed a handshake. No other source evicts one."""
SCAN_TARGETS = 4_096
"""Targets kept of one scan. More are counted."""
SCAN_TARGETS_ALL = 65_536
"""Targets kept of all scans together. A target takes 170 bytes at most."""
SCAN_AUTHORS = 2_048
"""Sources whose tool and system are kept until the next look at the kernel's table."""
SCAN_RESTS = 2_048
"""Scans that have ended, whose counts may still be in the kernel's table."""
SCAN_PORTS = 1_024
"""Characters of a list of ports in an event."""
SCAN_NAMES = 16
"""Deckies that an event of a scan names."""
SCAN_EVENTS = 4_096
"""Events of scans at once, if nothing proves their sources. Half of them are for scans that have
begun."""
SCAN_EVENTS_A_SECOND = 100
"""How fast that allowance grows again."""
SCAN_BEGINNINGS = 1_024
"""Sources that completed no handshake and are new, taken at once from the kernel's table. Half of
them are for those with many targets."""
SCAN_BEGINNINGS_A_SECOND = 256
"""How fast that allowance grows again. The others wait in the kernel's table."""
SCANS_SAVED = 2_048
"""Scans in the file that survives a restart: those that were active last."""
SCANS_FILE_BYTES = 16 * 1_048_576
"""Largest file of scans that is read."""
IGNORE_RULES = 256
"""Rules in the configuration about what is ignored."""
IGNORE_VALUES = 1_024
"""Networks, ports or names in one list of such a rule."""

# --- sources of probes (bpf/limits.h bounds the kernel's table) ---------------------------------
READ_SETS = 1_024
"""Sets of four sources that one look at the kernel's table reads. The next one goes on with the
others, so a look at a full table takes four seconds: less than PROBE_MANY_NS."""
READ_SOURCES = 1_024
"""Sources with a handshake or many targets in them after which no further set is read."""
READ_TARGETS = 8_192
"""Targets of all of them after which no further set is read."""

# --- connections between deckies --------------------------------------------------------------
LATERAL_HELD = 1_024
"""Events held until the bus may have announced their connections. Beyond this, the oldest is
emitted early and counted."""
LATERAL_ANNOUNCED = 4_096
"""Announced connections that are remembered. An evicted one counts as unannounced."""
LATERAL_ANNOUNCEMENTS = 256
"""Announcements compared with events that come after them."""

# --- DECNET's bus -----------------------------------------------------------------------------
BUS_HEADER_BYTES = 4_096
"""Longest header line of a frame, with its newline."""
BUS_BODY_BYTES = 1_048_576
"""Longest body of a frame."""
BUS_INBOX = 256
"""Messages from the bus that wait for the agent; more are dropped and counted."""

# --- the kernel's tables, as far as the agent must know their sizes (bpf/limits.h) -------------
FLOWS = 262_144
OWN_ADDRESSES = 1_024
"""Addresses of this host that the kernel knows."""
OWN_MACS = 64
"""MAC addresses of this host that the kernel knows."""
DECKY_BITS = 65_536
"""Bits of the kernel's Bloom filter of all deckies."""

# --- TLS ------------------------------------------------------------------------------------
RECORD_BYTES = 16_384 + 2_048
"""Largest record that is not malformed (RFC 5246, 6.2.3: 2^14 plus 2,048 of expansion)."""
HANDSHAKE_BYTES = 524_288
"""Largest handshake message reassembled from records: chains of hundreds of KB exist."""
RECORDS = 262_144
"""Records read in one direction. The kernel samples fewer of a client, even if all are empty."""
OFFERED_HELLOS = 4
"""ClientHellos of one end that may still be answered. An older one counts as unanswered."""
SEARCHED_HELLOS = 16
"""Places at which a search looks for a hello, of those that look like the beginning of one."""
HANDSHAKE_MESSAGES = 64
"""Handshake messages read in one direction; a full handshake has fewer than ten."""
CERTIFICATES = 16
"""Certificates read of one Certificate message; the rest of a longer chain is counted."""

EMITTED_HELLOS = 4_096
"""ClientHellos that the kernel may suppress and the agent still knows. Values are shared with the
cache of parsed ones while that has them."""
EMITTED_HELLOS_BYTES = 8 * 1_048_576
"""Bytes that they take, shared or not."""
EMITTED_HELLO_BYTES = 8_192
"""A larger one is never suppressed, because few of them would evict all others."""
HELLO_CACHE = 2_048
"""Parsed hellos kept, of clients and of servers each."""
HELLO_CACHE_BYTES = 3 * 1_048_576
"""Bytes for each side. Usual ones take 2 to 4 KB, a crafted one 24 times its length."""
HELLO_CACHED_BYTES = 4_096
"""Longest hello that is cached."""
HELLO_LAYOUTS = 64
"""Lengths of hellos for each side whose last hello is compared first."""

DESCRIBED_CACHE = 512
"""Objects of each kind kept with their finished fields: hellos up to HELLO_CACHED_BYTES,
certificates up to CERTIFICATE_CACHED_BYTES, stacks of SYN and of SYN-ACK packets."""
DESCRIBED_BYTES = 2 * 1_048_576
"""Bytes that the objects of each kind take with their fields."""

# --- first bytes ----------------------------------------------------------------------------
HEADS = 4_096
"""Connections whose first bytes are being read. The one silent for longest is evicted and
counted."""
HEADS_BYTES = 8 * 1_048_576
"""Bytes of memory for all of them."""
EMITTED_HEADS = 4_096
"""Beginnings of SSH that the kernel may suppress and the agent still knows."""
EMITTED_HEADS_BYTES = 4 * 1_048_576
"""Bytes of memory that they take."""
HEAD_BYTES = 4_096
"""Bytes of one direction that are kept: as many as the kernel samples of HTTP."""
SSH_BANNER_BYTES = 255
"""Bytes of a banner that are kept: RFC 4253, 4.2 allows no more, with its line's end."""
SSH_HEAD_BYTES = 4_096
"""Bytes of one direction that are read. The kernel samples fewer."""
SSH_PACKET_BYTES = 35_000
"""Longest packet that is not malformed (RFC 4253, 6.1)."""
HTTP_METHOD_BYTES = 64
"""Longest method of a request; those in use have up to 17."""
HTTP_LENGTH_DIGITS = 18
"""Digits of a Content-Length that is read as a number: it stays below 2^63."""
HTTP_CHUNK_DIGITS = 15
"""Hexadecimal digits of the length of a chunk, for the same reason."""
HTTP_BODY_BYTES = 512
"""Bytes of a request's body that are kept."""

# --- first bytes of other protocols -----------------------------------------------------------
PAYLOAD_BYTES = 512
"""First bytes of a direction that are kept. The kernel samples as many."""
PAYLOAD_TEXT = 128
"""Characters of them that an event has as text."""
PAYLOAD_FIELD = 128
"""Bytes of one name in them that an event has in a field of its own."""
PAYLOAD_LIST = 16
"""Names that one field of a list has: options, commands, dialects."""
PAYLOAD_SECRETS = 8
"""Credentials in one direction that are replaced. The bytes end before the next one."""
REDACT_KEY_BYTES = 32
"""Shortest key for values that stand for credentials, and the length of one that is made."""
REDACT_KEY_FILE_BYTES = 4_096
"""Longest file of such a key."""

# --- X.509 ----------------------------------------------------------------------------------
CERTIFICATE_CACHE = 2_048
"""Parsed certificates kept by SHA-256."""
CERTIFICATE_CACHE_BYTES = 4 * 1_048_576
"""Bytes that their texts take."""
VERIFY_KEY_BITS = 8_192
"""Largest key with which a self-signature is verified: verification cost grows with its cube."""
VERIFY_EXPONENT_BITS = 64
"""Largest RSA exponent with which one is verified, as OpenSSL has it for large keys."""
CURVE_NUMBER_BYTES = 66
"""Longest number of an elliptic curve that a key writes out: that of P-521."""
CERTIFICATE_CACHED_BYTES = 16_384
"""A certificate whose texts take more memory is not cached."""
CERTIFICATE_ATTRIBUTES = 256
"""Attributes read of one distinguished name, and of all names in one list of alternative names
together; a longer name is malformed."""
CERTIFICATE_EXTENSIONS = 256
"""Extensions read of one certificate; a longer list is malformed."""
CERTIFICATE_SANS = 512
"""Alternative names read of one certificate. A longer list is cut and ends in ``...``."""
OID_BYTES = 64
"""Longest object identifier written in dotted form: its numbers have no limit of their own."""

# --- events ---------------------------------------------------------------------------------
LINE_BYTES = 8_000
"""Longest line; a longer one loses whole fields from its end, and a field `cut` says so."""
VALUE_BYTES = 2_048
"""Longest value of one field after escaping; a value that was cut ends in ``...``."""
STATS_BYTES = 7_000
"""Longest text of the counters in one capture_stats event; more of them make another event."""
RECENT_EVENTS = 512
"""Events whose ids are kept at least, so that an equal one gets another id."""
SHAPES = 128
"""Sets of names that fields have together, whose template is cached, for each format."""
HEADERS = 4_096
"""Headers of syslog lines that are cached, by severity, decky and event."""
ESCAPE_CACHE = 4_096
"""Characters whose escaped form is cached."""
DEDUP_ENTRIES = 43_690
"""Dedup windows open at once. The oldest that has suppressed nothing is evicted. It is a third of
131,072: with more that come and go, Python's dictionary is twice as large."""
DEDUP_BYTES = 10 * 1_048_576
"""Bytes of all open dedup windows. One of an IPv4 SYN takes 240, or 580 once it suppresses."""
DEDUP_KEY = 256
"""Characters of a dedup key's fingerprint kept; the rest of a longer one is hashed."""
DEDUP_KEYS = 64
"""Distinct keys of one source and event whose windows may be open (`dedup_keys`)."""
DEDUP_KEY_SLOTS = 32_768
"""Counts of open windows, by hashed source and event. Those that share a slot share the bound."""
DEDUP_LABELS = 32
"""Suppressed names that the summary of one source and event lists."""
DEDUP_LABEL = 64
"""Characters of such a name kept."""
DEDUP_HOSTS = 32_768
"""Deckies remembered in all open windows that have more than one. Beyond this, their counts are
lower bounds."""
DEDUP_SUMMARIES = 8_192
"""Evicted windows whose summaries wait to be emitted, a second at most."""
SINK_QUEUE = 8_192
"""Lines in the queue of one sink; more are dropped and counted."""
SINK_UNCONFIRMED = 65_536
"""Lines written to one receiver and not confirmed; more wait in the queue."""
SPOOL_BYTES = 268_435_456
"""Default size of one output's spool; while it is full, new lines wait in the output's queue."""
SPOOL_BYTES_MIN = 1_048_576
"""Smallest size of a spool."""
SPOOL_REFUSED_LINES = 10_000
"""Lines kept of those that a receiver refused for good; the oldest are dropped."""
RELP_FRAME_BYTES = 131_072
"""Longest answer of a RELP receiver; a longer one ends the connection."""
RELP_WINDOW = 1_024
"""Lines sent to a RELP receiver and not acknowledged."""
HTTP_BATCH_LINES = 500
"""Lines in one request."""
HTTP_ANSWER_BYTES = 65_536
"""Bytes read of one answer; the connection of a longer one is closed."""
STATUS_BYTES = 1_048_576
"""Bytes read of a status file."""

# --- exceptions that a peer may provoke -----------------------------------------------------
FAILURE_KINDS = 64
"""Kinds of exceptions that are reported, each in one line; all are counted."""
FAILURE_TEXT = 200
"""Characters of an exception's text that the line repeats."""

# --- registry -------------------------------------------------------------------------------
DECKIES = 65_536
"""Deckies in the registry, IPv4 and IPv6 together."""
DECKIES_FAULTS = 32
"""Deckies left out of DECNET's state that are reported one by one; the rest as a number."""
DECKIES_FILE_BYTES = 16_777_216
"""Largest deckies file that is read: 256 bytes for each of DECKIES."""
CONFIG_FILE_BYTES = 1_048_576
"""Largest configuration file that is read."""

# --- capture files --------------------------------------------------------------------------
CAPTURE_FRAME_BYTES = 262_144
"""Longest frame taken from a capture: the largest snapshot length libpcap allows on a network."""
CAPTURE_BLOCK_BYTES = 524_288
"""Longest pcapng block that is held in memory: a frame with room for its options."""
CAPTURE_REORDER_NS = 1_000_000_000
"""How long before the latest frame one may be stamped. Further back, the clock was set."""
CAPTURE_AHEAD_NS = 10_000_000_000
"""How long after the latest frame a stamp is believed at once. A later one is believed if the next
frame of a decky does not go back."""
CAPTURE_COPY_NS = 1_000_000
"""How far apart two frames of one packet are, which a capture of all interfaces holds twice."""
CAPTURE_COPIES = 1_024
"""Packets that are kept to find such frames."""
CAPTURE_SILENCE_NS = 30 * 86_400_000_000_000
"""Longest silence of all deckies that is believed. Beyond this, the clock was set."""
CAPTURE_RUNS = 65_536
"""Jumps of a capture's clock that are kept, to convert frame times."""
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
NETLINK_DUMPS = 4
"""Times that a list is read because messages were lost or it changed meanwhile."""
NETWORK_NAMESPACES = 4_096
"""Network namespaces searched for macvlans of a parent."""
CGROUP_BYTES = 65_536
"""Bytes read of a process's list of control groups."""

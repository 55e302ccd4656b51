/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Every bound on the kernel side that the network can push. The agent's bounds
 * are in agent/deckwire/limits.py. Tests override table sizes with -D.
 */
#ifndef DECKWIRE_LIMITS_H
#define DECKWIRE_LIMITS_H

/* Entries in the decky table of each address family. */
#ifndef MAX_DECKIES
#define MAX_DECKIES 65536
#endif

/* Bits in the Bloom filter of deckies. A power of two: 8 KB fit in a cache. */
#define DECKY_BITS 65536

/*
 * Half-open connections: a multiple of 128, up to 8,388,608. New ones evict the
 * oldest of 32: 79,872 last 130 ms at 500,000 SYN/s. For how long an answered
 * one passes for younger, and how far ahead of a frame's time that of an entry
 * may be (answered, on another CPU, or in a capture), in units of 1.05 ms.
 */
#ifndef MAX_HALF_OPEN
#define MAX_HALF_OPEN 79872
#endif
#define HALF_OPEN_SETS 8
#define HALF_OPEN_WAYS 16
#define HALF_OPEN_ANSWERED 1024
#define HALF_OPEN_AHEAD 65536

/* How often a program begins anew because another CPU changed the attempt. */
#define HALF_OPEN_RESTARTS 3

/*
 * Further attempts on 4-tuples that have one in half_open: other SYNs and other
 * SYN-ACKs. An LRU.
 */
#ifndef MAX_OTHER_HALF_OPEN
#define MAX_OTHER_HALF_OPEN 4096
#endif

/* Connections with a complete handshake. Inserts beyond it fail, counted. */
#ifndef MAX_FLOWS
#define MAX_FLOWS 262144
#endif

/* Mid-stream connections. An LRU of their own. */
#ifndef MAX_MIDSTREAM
#define MAX_MIDSTREAM 16384
#endif

/* Slots of the tables without keys. Powers of two. */
#ifndef SYN_SEEN_SLOTS
#define SYN_SEEN_SLOTS 16384
#endif
#ifndef SERVICE_SEEN_SLOTS
#define SERVICE_SEEN_SLOTS 16384
#endif
#ifndef HELLO_SEEN_SLOTS
#define HELLO_SEEN_SLOTS 16384
#endif
#ifndef ANOMALY_SEEN_SLOTS
#define ANOMALY_SEEN_SLOTS 4096
#endif
#ifndef SOURCE_SLOTS
#define SOURCE_SLOTS 16384
#endif

/* Addresses and MAC addresses of the host itself. */
#define MAX_OWN_ADDRESSES 1024
#define MAX_OWN_MACS 64

/* Parents of macvlans in VEPA mode. */
#define MAX_VEPA_PARENTS 64

/* Headers read in one packet: in-band VLAN tags, IPv6 extension headers. */
#define MAX_VLAN_TAGS 2
#define MAX_EXT_HEADERS 16

/* In-band tags in all if the others have VLAN 0: what fits in 1,500 bytes. */
#define MAX_PRIORITY_TAGS 368

/*
 * Samples of IP fragments: the bytes that a source and all may take of the
 * rings in a second, and at once. A fragment costs its bytes and those of its
 * record before them. All of a burst fit into half of a ring of the default
 * size, and a quarter wakes the agent.
 */
#ifndef FRAGMENT_SLOTS
#define FRAGMENT_SLOTS 4096
#endif
#define FRAGMENT_HEAD_BYTES 128
#define FRAGMENT_SOURCE_RATE 1250000
#define FRAGMENT_SOURCE_BURST 262144
#define FRAGMENT_RATE 2500000
#define FRAGMENT_BURST 524288

/* CPUs with a ring whose second half is for what no sweep makes good. */
#define RING_SLOTS 1024

/* A longer one is not sampled. A ring's records end at 64 KB. */
#define FRAGMENT_BYTES 32768

/*
 * Handshake bytes sampled in one direction. Servers send certificate chains of
 * hundreds of KB. OpenSSL takes a ClientHello of 131,396 bytes in records of
 * one byte each. Each TLS_ADMIT_BYTES cost the source as much as a handshake.
 */
#define TLS_CLIENT_BYTES 1048576
#define TLS_SERVER_BYTES 524288
#define TLS_ADMIT_BYTES 65536

/* How far ahead of a hole in clear-text records a segment is sampled. */
#define TLS_AHEAD_BYTES 65536

/*
 * Bytes sampled in one direction while no TLS record is known to have begun,
 * and how far ahead of its beginning they may be. The second number is of those
 * among which the agent finds the beginning, since the other end said something
 * last: they may be TLS_AHEAD_BYTES ahead.
 */
#define TLS_UNDECIDED_BYTES 16384
#define TLS_SCATTERED_BYTES 65536

/* Samples of one direction, and payload bytes in one sample. */
#define TLS_DIRECTION_SAMPLES 4096
#define TLS_SEGMENT_BYTES 32768

/*
 * After this many bytes in one direction, a segment that continues a write is
 * not searched for TLS.
 */
#define TLS_RUN_BYTES 65536

/*
 * Segments up to this length, a power of two, are searched for a hello behind
 * other bytes at any time. A search takes TLS_SEARCH_STEPS steps of
 * TLS_SEARCH_STEP bytes or less, and is done TLS_SEARCHES times. Bytes that
 * resemble a record take one step for two of them.
 */
#define TLS_SEARCH_BYTES 2048
#define TLS_SEARCH_STEP 32
#define TLS_SEARCH_STEPS 128
#define TLS_SEARCHES 3

/* ACKs with SACK blocks sampled of one decky in one connection. */
#define TLS_SACKS 1024

/*
 * Record headers of any kind that are read at once in a segment, and behind
 * them those of clear text, in TLS_PASSES passes. A hello of OpenSSL in records
 * of one byte has 243 of them in a segment of 1,460 bytes.
 */
#define TLS_HEADERS 8
#define TLS_PASSED_HEADERS 128
#ifndef TLS_PASSES
#define TLS_PASSES 16
#endif

/*
 * The longest ClientHello, with its record header, that is hashed: a power of
 * two. The walk over it takes one step for eight bytes or for a header.
 */
#define HELLO_BYTES 1024
#define HELLO_STEPS 160

/* Segments sampled after a hole, and holes of one connection that get them. */
#define TLS_ORPHANS 2
#define TLS_HOLES 4

/*
 * Segments sampled where the agent finds the beginning of TLS: after an urgent
 * pointer, and where a hello may have come before what is in front of it.
 */
#define TLS_AGENT_ORPHANS 64

/*
 * The first bytes sampled in one direction, in units: of SSH, of HTTP, and of
 * anything else. A segment uses up those that it fills, and one at least.
 * Behind a KEXINIT, two or three are left.
 */
#define HEAD_UNIT 32
#define HEAD_SSH_UNITS 96
#define HEAD_HTTP_UNITS 128
#define HEAD_PAYLOAD_UNITS 16
#define HEAD_REST_UNITS 3

/*
 * The longest segment of SSH that is hashed: a power of two. The walk over it
 * takes one step for eight bytes, or for the end of a line.
 */
#define SSH_SEGMENT_BYTES 2048
#define SSH_STEPS 288

/* After a silence this long, the next segment may start an RTT measurement. */
#define RTT_PAUSE_NS 1000000000ULL

/* Two CPUs may swap packets of a connection: their times differ by no more. */
#define SWAPPED_NS 1000000ULL

/*
 * A checksum is taken over so many bytes at a time, a power of two, and over no
 * more than so many pieces: longer segments exist only merged.
 */
#define CHECKSUM_PIECE 512
#define CHECKSUM_PIECES 20

/* The greatest scale of a window (RFC 7323, 2.3). */
#define MAX_SCALE 14

/* A decky that sends new data this long after a RST did not take the RST. */
#define RESUME_NS 10000000ULL

/* A scan probe has fewer packets and takes less time. */
#define PROBE_PACKETS 4
#define PROBE_NS 1000000000ULL

/* How long the kernel suppresses a SYN before the agent has decided. */
#define SYN_TENTATIVE_NS 1000000000ULL

/*
 * Samples of anomalies: 100 a second in all and 10 of one source, and twice as
 * many at once. Each costs a part of a second.
 */
#define ANOMALY_COST_NS 10000000ULL
#define ANOMALY_SOURCE_COST_NS 100000000ULL
#define ANOMALY_BURST_NS 2000000000ULL

/*
 * A SYN with the same port and sequence number after this time begins a new
 * connection. Linux gives up after 64 s at most, and scanners derive both
 * fields from the target.
 */
#define SYN_RETRANSMIT_NS 130000000000ULL

/*
 * A capture that has a SYN-ACK before its SYN has merely swapped the two, if
 * they are no further apart. Linux repeats a SYN after more than this.
 */
#define SYN_SWAPPED_NS 1000000000ULL

/*
 * How far the seq of a final ACK may be ahead: a SYN-ACK may acknowledge data
 * in the SYN (RFC 7413), and segments before the ACK may be lost.
 */
#define HANDSHAKE_SEQ_WINDOW (1 << 20)

/*
 * How many of a source's last SYNs are kept: a power of two. Fewer SYNs than
 * the least show nothing. A counter that other connections move too advances
 * by no more than the step between two SYNs.
 */
#define SEQUENCE_SAMPLES 8
#define SEQUENCE_LEAST 4
#define SEQUENCE_STEP 4096

/*
 * Sources of probes: sets of four slots, a power of two. A set that is full
 * gives the slot of the source that was silent for longest to a new one, but
 * one with more targets than PROBE_INLINE, or one that completed a handshake,
 * only after it was silent for so long: the agent has read it by then.
 */
#ifndef PROBE_SOURCE_SETS
#define PROBE_SOURCE_SETS 4096
#endif
#define PROBE_SOURCE_WAYS 4
#define PROBE_MANY_NS 5000000000ULL
#define PROBE_PROVEN_NS 600000000000ULL

/* The time of a refusal is kept in units of 8.6 s, as far as a byte goes. */
#define REFUSED_SHIFT 33

/*
 * Targets of one source: the first ones have room in its slot, the others in
 * sets of their own, in one of two sets by hash. All of a source's first
 * PROBE_SOURCE_TARGETS are kept while the table is less than a quarter full.
 */
#define PROBE_INLINE 4
#define PROBE_SOURCE_TARGETS 4096
#ifndef PROBE_TARGET_SETS
#define PROBE_TARGET_SETS 8192
#endif
#define PROBE_WAYS 7

/* Times that a set is tried which another CPU is changing. */
#define PROBE_TRIES 4

/*
 * Datagrams and echo requests that deckies sent: slots, a power of two, and for
 * how long a reply is no probe.
 */
#ifndef ASKED_SLOTS
#define ASKED_SLOTS 4096
#endif
#define ASKED_NS 60000000000ULL

/*
 * What deckies sent first to whom: slots, a power of two, and how long one is
 * kept after its last datagram: the agent has read it by then.
 */
#ifndef BEGUN_SLOTS
#define BEGUN_SLOTS 4096
#endif
#define BEGUN_KEEP_NS 5000000000ULL

#endif

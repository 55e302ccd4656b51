/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Every bound that the network can push against on the kernel side, in one
 * place; agent/deckwire/limits.py has the agent's. The table sizes can be
 * overridden with -D so that tests reach them.
 */
#ifndef DECKWIRE_LIMITS_H
#define DECKWIRE_LIMITS_H

/* Entries of each address family's decky table. */
#ifndef MAX_DECKIES
#define MAX_DECKIES 65536
#endif

/* Bits of the sketch of all deckies, a power of two: 8 KB stay in a cache. */
#define DECKY_BITS 65536

/* Half-open attempts: an LRU, 65,536 hold 130 ms of 500,000 SYN/s. */
#ifndef MAX_HALF_OPEN
#define MAX_HALF_OPEN 65536
#endif

/* Connections whose handshake completed: inserts beyond it fail, counted. */
#ifndef MAX_FLOWS
#define MAX_FLOWS 262144
#endif

/* Connections met in the middle: an LRU of their own. */
#ifndef MAX_MIDSTREAM
#define MAX_MIDSTREAM 16384
#endif

/* Direct-mapped tables: powers of two. */
#ifndef SYN_SEEN_SLOTS
#define SYN_SEEN_SLOTS 65536
#endif
#ifndef SERVICE_SEEN_SLOTS
#define SERVICE_SEEN_SLOTS 16384
#endif
#ifndef HELLO_SEEN_SLOTS
#define HELLO_SEEN_SLOTS 16384
#endif
#ifndef SCAN_SLOTS
#define SCAN_SLOTS 16384
#endif
#ifndef SOURCE_SLOTS
#define SOURCE_SLOTS 16384
#endif

/* Parents in VEPA mode. */
#define MAX_VEPA_PARENTS 64

/* Headers walked in one packet: VLAN tags in-band, IPv6 extension headers. */
#define MAX_VLAN_TAGS 2
#define MAX_EXT_HEADERS 8

/* Handshake bytes of one direction: sampled in all, of a server more, for
 * chains of hundreds of KB exist; past a hole or before the first byte;
 * samples; bytes of one. */
#define TLS_CLIENT_BYTES 65536
#define TLS_SERVER_BYTES 524288
#define TLS_UNDECIDED_BYTES 16384
#define TLS_DIRECTION_SAMPLES 4096
#define TLS_SEGMENT_BYTES 32768

/* From so many bytes on a direction's segment is not looked into if it goes on
 * with what the one before it began. */
#define TLS_RUN_BYTES 65536

/* Clear-text record headers walked in a segment. */
#define TLS_HEADERS 8

/* Longest ClientHello, with its record header, that is compared with those
 * told before: a power of two; and steps of eight bytes or a header each. */
#define HELLO_BYTES 1024
#define HELLO_STEPS 160

/* Orphans sampled after a hole, and holes that earn them in a connection. */
#define TLS_ORPHANS 2
#define TLS_HOLES 4

/* After so long a silence a segment's way and back is measured. */
#define RTT_PAUSE_NS 1000000000ULL

/* Packets of a connection that two CPUs handle at a time are stamped so far
 * apart at most. */
#define SWAPPED_NS 1000000ULL

/* Fewer packets within less time are a scanner's probe. */
#define PROBE_PACKETS 4
#define PROBE_NS 1000000000ULL

/* The kernel's own tentative SYN suppression, until the agent has decided. */
#define SYN_TENTATIVE_NS 1000000000ULL

/* A SYN that repeats port and sequence number later than any system does
 * (Linux waits 64 s at most) is a new attempt: scanners derive both from the
 * target. */
#define SYN_RETRANSMIT_NS 130000000000ULL

/* A SYN-ACK may answer data of the SYN (RFC 7413), an ACK may carry data
 * behind lost segments: how far a final ACK's seq may lie ahead. */
#define HANDSHAKE_SEQ_WINDOW (1 << 20)

#endif

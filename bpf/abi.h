/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The whole ABI between the kernel side and the agent: what stands in the
 * maps and what a sample carries. agent/deckwire/abi.py mirrors it with
 * construct; tests/bpf/test_abi.py holds the two together.
 *
 * Host byte order unless a field says __be. No implicit padding.
 */
#ifndef DECKWIRE_ABI_H
#define DECKWIRE_ABI_H

/*
 * Both directions of a connection share one key: the end with the lower port
 * (of equal ones the lower address, as raw words) is end 0. IPv4 addresses are
 * v4-mapped.
 */
#include "limits.h"

struct flow_key {
	__be32 addr[2][4];
	__be16 port[2];
};

/*
 * What the table of connections goes by: it hashes in half the time of a
 * flow_key, and takes no cache line between the entry's head and its value.
 * IPv4: the addresses themselves. IPv6: a seeded hash of them, so two
 * connections pass for one if they share both ports and 64 bits that nobody
 * outside can aim at.
 */
struct flow_id {
	__u64 ends;
	__be16 port[2];
	__u32 version;
};

#define IP_FLAG_DF 0x1
#define IP_FLAG_RESERVED 0x2
#define OPENING_CUT 0x4 /* the frame ends before the options do */
#define MAX_TCP_OPTIONS 40

/* What one SYN or SYN-ACK said. ip_version 0: none was seen. */
struct syn_packet {
	__u64 time_ns;
	__u32 seq;
	__u32 ack;
	__u32 flow_label;
	__u32 payload_len;
	__u16 window;
	__u16 ip_id;
	__u16 urgent;
	__u16 flags; /* low twelve bits of the data-offset word */
	__u16 ip_options_len;
	__u8 ttl;
	__u8 tos;
	__u8 ip_version;
	__u8 ip_flags;
	__u8 options_len;
	__u8 retransmits;
	__u8 options[MAX_TCP_OPTIONS];
};

/* An attempt: from a SYN (or a visible SYN-ACK) to the final ACK. */
struct half_open {
	__u64 signature; /* seeded hash of what tells SYNs apart */
	__u64 last_ns;
	__u64 min_iat_ns;
	__u64 max_iat_ns;
	struct syn_packet syn;
	struct syn_packet synack;
	__u8 client;	     /* the end that sent the SYN */
	__u8 syn_sampled;    /* a sample of the SYN reached the ring */
	__u8 noted;	     /* by XDP: TC has not counted the SYN yet */
	__u8 syn_suppressed; /* the agent had told one like it */
	__u8 pad[4];
};

enum tls_state {
	TLS_START,  /* first byte not seen: in-order bytes will decide */
	TLS_WATCH,  /* not TLS so far: a record may still begin */
	TLS_PREFIX, /* some bytes of a hello's prefix matched */
	TLS_OPEN,   /* clear-text records: tls_seq is the next header's */
	TLS_DONE,   /* encrypted, over budget or not admitted */
};

#define SIDE_SEEN 0x1
#define SIDE_FIN 0x2
#define SIDE_FIN_ACKED 0x4
#define SIDE_HOLE 0x8
#define SIDE_ACKED 0x20	    /* last_ack is there */
#define SIDE_TLS_FRESH 0x10 /* the next record header starts TLS */
#define SIDE_PUSHED 0x40    /* its last payload was the end of a write */

/* What one end of a connection sent; one cache line. */
struct flow_side {
	__u64 packets;
	__u64 bytes;
	__u32 retransmits;
	__u32 next_seq;	  /* behind the highest byte seen */
	__u32 hole_start; /* bytes missed so far: [start, end) */
	__u32 hole_end;
	__u32 last_ack;
	__u32 fin_seq;
	__u32 tls_seq; /* next byte the matcher or the walk wants */
	__u32 tls_bytes;
	__u64 tls_header; /* bytes of a header that segments split */
	__u16 tls_samples;
	__u8 tls_state;
	__u8 tls_matched; /* bytes held in tls_header */
	__u8 tls_orphans;
	__u8 tls_holes;
	__u8 flags;
	__u8 pad;
};

enum flow_close {
	CLOSE_NONE,
	CLOSE_FIN,
	CLOSE_RST,
	CLOSE_IDLE,
	CLOSE_EVICTED,
	CLOSE_REMOVED,
	CLOSE_SHUTDOWN,
};

#define CLIENT_UNKNOWN 2

#define FLOW_PENDING 0x1   /* a SYN-ACK on the same 4-tuple was seen */
#define FLOW_ADMITTED 0x2  /* its handshake samples have a budget */
#define FLOW_MIDSTREAM 0x4 /* begun before we watched */
#define FLOW_END_SENT 0x8  /* its end reached the ring, or need not be told */
#define FLOW_TLS_CUT 0x10  /* handshake bytes are missing among the samples */
#define FLOW_HELLO_SUPPRESSED                                                  \
	0x20 /* no sample of its ClientHello: hello_seen */

#define RTT_UNKNOWN 0xffffffff
#define INTERVALS_UNKNOWN 0xffffffffffffffffULL /* in max_iat_ns */

/*
 * What is told of a connection at its end. The directions come in on different
 * CPUs, and what both write costs each a transfer of its cache line: it stands
 * in one, behind the end of the key, each side in its own. Lines begin 56 bytes
 * into the value, for that is where Linux 6.1 and newer put it (a word of the
 * allocator, struct htab_elem and a flow_id before it).
 */
struct flow_totals {
	__u64 born_ns; /* with the key it identifies the connection for ever */
	/* of both directions */
	__u64 last_ns;
	__u64 min_iat_ns;
	__u64 max_iat_ns;
	__u8 client;
	__u8 close;
	__u8 flags;
	__u8 fin;	   /* of any side; alone, for it is stored, not ORed */
	__u32 source_slot; /* where sources counts it; midstream: 0 */
	__u8 talker;	   /* the end that sent payload last */
	__u8 timed;	   /* a segment of the server's waits for its ACK: */
	__u8 pad[2];
	__u32 timed_end; /* seq behind it */
	__u64 timed_ns;	 /* when it was sent */
	/* of each */
	struct flow_side side[2];
	/* of the beginning */
	__u64 first_ns;
	__u64 established_ns; /* the final ACK, 0 if not seen */
	__u32 rtt_server_us;  /* SYN to SYN-ACK, or RTT_UNKNOWN */
	__u32 rtt_client_us;  /* SYN-ACK to the final ACK */
	__u32 rtt_min_us;     /* least of the segments timed, or RTT_UNKNOWN */
	__u32 pad2;
};

/* A connection, with the openings that it began with. */
struct flow {
	struct flow_totals totals;
	struct syn_packet syn;
	struct syn_packet synack;
	__u64 hello; /* seeded hash of the ClientHello and who sent it, or 0 */
	__u64 session_id; /* seeded hash of the one in it; 0: none */
	__u32 hello_end;  /* seq of the byte behind it */
	struct flow_key key;
};

enum sample_kind {
	SAMPLE_SYN = 1,	  /* head, half_open */
	SAMPLE_HANDSHAKE, /* head, half_open; time_ns is the ACK's */
	SAMPLE_SEGMENT,	  /* head, frame up to the cut */
	SAMPLE_END,	  /* head, flow_totals */
};

#define SAMPLE_TLS_STARTS 0x1	  /* a TLS record begins at start_seq */
#define SAMPLE_TLS_ENDS 0x4	  /* nothing in the clear follows it */
#define SAMPLE_FLOW_MIDSTREAM 0x2 /* look it up among the midstream */
#define SAMPLE_HELLO_SUPPRESSED                                                \
	0x8 /* there is no sample of it: see struct flow                       \
	     */

struct sample_head {
	__u64 time_ns;
	__u64 born_ns;
	__u64 hello; /* of a segment that is one, or of the hidden one */
	struct flow_key key;
	__u32 seq;
	__u32 start_seq;
	__u32 payload_len; /* by the IP length */
	__u16 payload_off; /* in the frame behind the head */
	__u16 copied;	   /* payload bytes in this sample */
	__u8 kind;
	__u8 sender; /* the end that sent the frame */
	__u8 client;
	__u8 flags;
};

/* What the scratch map holds and perf_submit sends, head first. */
struct half_open_sample {
	struct sample_head head;
	struct half_open half_open;
};

struct end_sample {
	struct sample_head head;
	struct flow_totals totals;
};

/*
 * One slot of syn_seen, service_seen or hello_seen: events of this signature
 * need no sample until it expires. The agent writes it when it has told one.
 */
struct seen {
	__u64 signature;
	__u64 expires_ns;
	__u64 decided; /* by the agent; else a guess until it is */
	__u64 suppressed;
	__u64 first_ns; /* of the suppressed */
	__u64 last_ns;
	__u64 deckies; /* one bit a decky, by a hash: a sketch */
};

/*
 * A token bucket that counts in time: a record costs 1 s / rate, the bucket
 * holds burst times that. Racy by design: two CPUs may spend one token twice.
 */
struct token_bucket {
	__u64 filled_ns;
	__s64 tokens_ns;
};

/* One slot of sources: IPv6 by /64. */
struct source {
	struct token_bucket handshakes;
	__u64 flows; /* present in flows; recounted at each sweep */
};

/* One slot of scans: what SYNs touched, suppressed ones too, by source. */
struct scan {
	__u64 tag; /* seeded hash of the source */
	__u64 first_ns;
	__u64 last_ns;
	__u64 syns;
	__u64 ports[4]; /* one bit a destination port, by a hash: a sketch */
	__u64 deckies;	/* likewise */
	__be32 addr[4];
};

/* What the entries of service_seen hide. */
enum service_event {
	SERVICE_HANDSHAKE = 1,
	SERVICE_FLOW,
};

/* Written once by the loader. */
struct settings {
	__u64 seed;
	__u64 syn_cost_ns;
	__u64 syn_burst_ns;
	__u64 handshake_cost_ns;
	__u64 handshake_burst_ns;
	__u64 flows_per_source;
	__u64 dedup; /* 0: everything is told */
	__u64 vepa;  /* 1: vepa_parents has entries */
};

/* Where the hash of a SYN's options stands, byte by byte. */
struct option_walk {
	__u64 hash;
	__u32 at;	 /* the byte under the cursor */
	__u32 next;	 /* where the next option starts */
	__u32 timestamp; /* where the timestamp option starts */
	__u32 own;	 /* any bit of the sender's timestamp */
	__u32 echo;	 /* any bit of the echoed one */
	__u32 pad;
};

/*
 * A bit for each decky, by a hash: a frame both of whose addresses have none
 * is of no decky, without a look-up. Bytes, which BCC takes for one text: for
 * each element of another array it compiles code that prints it.
 */
struct decky_filter {
	__u8 bits[DECKY_BITS / 8];
};

/* Where the walk over a segment's record headers stands. */
struct record_walk {
	__u32 pos;	 /* of the next header, in the payload */
	__u32 avail;	 /* payload bytes in the frame */
	__u32 cut;	 /* bytes worth a sample */
	__u32 start_seq; /* where TLS begins, if flags says so */
	__u32 restarted;
	__u32 flags;
};

/* Where the hash of a ClientHello stands, and the hello. */
struct hello_walk {
	__u64 hash;
	__u64 session_id; /* hash of it; 0: none */
	__u32 at;	  /* the byte under the cursor */
	__u32 content;	  /* bytes from there on that are hashed whole */
	__u32 keys_end;	  /* in key_share: the byte behind it */
	__u32 end;	  /* of the hello */
	__u8 bytes[HELLO_BYTES + 8];
};

/*
 * Conservation: each frame raises exactly one counter of the first group, so
 * their sum is the number of frames that the hooks saw.
 */
struct counters {
	/* not ours */
	__u64 foreign_not_ip;
	__u64 foreign_no_decky;
	/* a decky's, ignored by cause */
	__u64 ignored_not_tcp;
	__u64 ignored_fragment_first;
	__u64 ignored_fragment_later;
	__u64 ignored_ip_malformed;
	__u64 ignored_tcp_malformed;
	__u64 ignored_vepa_echo;
	/* accounted */
	__u64 frames_syn;
	__u64 frames_synack;
	__u64 frames_flow;
	__u64 frames_midstream;
	__u64 frames_late;
	__u64 frames_unattached;

	/* samples wanted = submitted + lost */
	__u64 samples_wanted;
	__u64 samples_submitted;
	__u64 samples_lost;

	/* SYNs: frames_syn = retransmits + suppressed + over budget + wanted */
	__u64 syn_noted; /* by XDP before TC counted them */
	__u64 syn_retransmits;
	__u64 syn_suppressed;
	__u64 syn_over_budget;
	__u64 syn_seen_overwrites;
	__u64 scan_overwrites;

	/* tables */
	__u64 half_open_inserts;
	__u64 half_open_deletes;
	__u64 half_open_failed;
	__u64 synack_unmatched;
	__u64 handshakes;
	__u64 flow_inserts;
	__u64 flow_insert_failed;
	__u64 flow_source_capped;
	__u64 flow_reopened;
	__u64 midstream_inserts;
	__u64 midstream_deletes;
	__u64 midstream_failed;

	/* samples not wanted: the agent had told the same of the service */
	__u64 handshakes_suppressed;
	__u64 ends_suppressed;
	__u64 hellos_suppressed;

	/* handshake bytes */
	__u64 tls_not_admitted;
	__u64 tls_over_budget;
};

#endif

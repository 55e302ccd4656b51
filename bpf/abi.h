/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The interface between the kernel side and the agent: the samples in the perf
 * rings, and the map values that the agent reads or writes. Nothing else is
 * defined here. agent/deckwire/abi/structs.py mirrors this file, and
 * tests/abi/test_abi.py compares the two.
 *
 * Fields are in host byte order unless their type is __be. Padding is explicit.
 */
#ifndef DECKWIRE_ABI_H
#define DECKWIRE_ABI_H

#include "limits.h"

/*
 * The 4-tuple of a connection. Both directions share one key: end 0 has the
 * lower port, or the lower address (as raw words) if the ports are equal. IPv4
 * addresses are v4-mapped.
 */
struct flow_key {
	__be32 addr[2][4];
	__be16 port[2];
};

/*
 * The key of the flows map. It hashes in half the time of a flow_key, and it
 * adds no cache line between the head and the value of an entry. For IPv4, ends
 * holds the two addresses. For IPv6, ends is a seeded hash of them: two
 * connections collide if they share both ports and 64 bits that nobody outside
 * can choose.
 */
struct flow_id {
	__u64 ends;
	__be16 port[2];
	__u32 version;
};

#define IP_FLAG_DF 0x1
#define IP_FLAG_RESERVED 0x2
#define SYN_OPTIONS_CUT 0x4	/* the frame ends before the options do */
#define IP_FLAG_REASSEMBLED 0x8 /* from fragments: never used for intervals */
#define SYN_KNOWN 0x10		/* with HANDSHAKE_LOST: the SYN has its event */
#define HANDSHAKE_LOST 0x20 /* of a SYN-ACK: the ring had no room for both */
/* of a connection's SYN: another attempt on its 4-tuple has a SYN-ACK */
#define HANDSHAKE_PENDING 0x40
#define MAX_TCP_OPTIONS 40

/* The fields of one SYN or SYN-ACK. ip_version is 0 if none was seen. */
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

/* A half-open connection: from a SYN (or a lone SYN-ACK) to the final ACK. */
struct half_open {
	__u64 signature; /* of the SYN, by syn_signature() */
	__u64 last_ns;
	__u64 min_iat_ns;
	__u64 max_iat_ns;
	struct syn_packet syn;
	struct syn_packet synack;
	__u8 client;	     /* the end that sent the SYN */
	__u8 syn_sampled;    /* a sample of the SYN reached the ring */
	__u8 noted;	     /* by XDP: TC has not counted the SYN yet */
	__u8 syn_suppressed; /* the agent had emitted an equal one */
	__u8 flags;	     /* HALF_* */
	__u8 rules;	     /* RULES_*: bits 0 to 3 of end 0, 4 to 7 of 1 */
	__u16 syn_record;    /* where a hello in its data ends, SYN_* or 0 */
};

/* The entries of one hash: tags in a cache line, and times in another. */
struct half_open_set {
	__u32 tag[HALF_OPEN_WAYS];  /* hash of the 4-tuple; 0: free */
	__u32 time[HALF_OPEN_WAYS]; /* last change, by half_open_clock() */
};

/* An entry of the table of half-open connections. */
struct half_open_entry {
	struct half_open half;
	struct flow_key key;
	__u32 generation; /* odd while it is written */
};

#define SYN_UNDECIDED 0xffff /* the data ends before a hello shows */
#define SYN_HEAD 0xfff0	     /* plus enum head_kind: a head, and no hello */

#define HALF_OTHERS 0x1	  /* other_half_open may have more of the 4-tuple */
#define HALF_REPORTED 0x2 /* its handshake is, although flows had no room */

/* Which rules hold for what an end sends. See receiver.h. */
#define RULES_JUDGED 0x1 /* it sends to a decky (open: of known window) */
#define RULES_SUMMED 0x2 /* it opened with a right checksum */
#define RULES_LOCAL 0x4	 /* its frames pass the egress hook */
#define RULES_RESET 0x8	 /* it sent the RST that ended the connection */

/* in a connection only: a segment of it was refused that may have been taken */
#define RULES_DOUBTED 0x10

/* from this bit on: how often its RST ended the connection, and was not taken
 */
#define RULES_RESUMED 0x20

/* The options that both ends agreed on, in flow_side.offers. */
#define OFFER_SCALE 0x0f  /* of the windows that it announces */
#define OFFER_SIGNED 0x10 /* it signs its segments: MD5 or AO */
#define OFFER_SACK 0x20
#define OFFER_STAMPED 0x40 /* timestamps; ts_recent is valid */
#define OFFER_HELLO 0x80   /* no option: a ClientHello began at this end */

/* Parts of tls_bits. */
#define BITS_MATCHED 0x07 /* bytes in tls_header */
#define BITS_HOLES 0x38	  /* holes that got segments after them */
#define BITS_HOLE 0x08	  /* one of them */
#define BITS_HEAD 6	  /* from this bit on: enum head_kind */

/* What the first bytes of an end look like. */
enum head_kind {
	HEAD_UNDECIDED,
	HEAD_SSH,
	HEAD_HTTP,    /* three capitals */
	HEAD_PAYLOAD, /* anything else, or bytes that are not wanted */
};

/* The packets of one end. One cache line. */
struct flow_side {
	__u64 packets;
	__u64 bytes;
	__u32 retransmits;
	__u32 ts_recent;  /* its last timestamp that its peer took */
	__u32 hole_start; /* bytes not seen yet: [start, end) */
	__u32 hole_end;
	__u32 timed_end; /* one past the last seq of its timed segment */
	__u32 fin_seq;
	__u32 tls_seq; /* of the next byte that tls_scan() needs */
	__u32 tls_bytes;
	__u64 tls_header; /* the bytes so far of a header in two segments,
			   * or the chain of SSH: see head_chain()
			   */
	__u16 tls_samples;
	__u8 tls_state;	  /* enum tls_state */
	__u8 tls_bits;	  /* BITS_* */
	__u8 tls_orphans; /* segments wanted after a hole */
	__u8 head;	  /* units wanted of its first bytes */
	__u8 flags;	  /* SIDE_* */
	__u8 offers;	  /* OFFER_*, and the scale of its window */
};

/*
 * What one end announced to the other. Both directions read it. On two CPUs
 * they would overwrite each other's values: each field only moves forward.
 */
struct flow_end {
	__u32 acked; /* the next byte that it waits for, by its last ACK */
	__u32 edge;  /* one past the last byte that its window admits */
	__u32 sent;  /* one past the highest byte of its own */
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

/*
 * Flags of a connection. Two CPUs that write them at once may lose a bit, so
 * none is here that both write for one reason. What is left:
 * ADMITTED costs or spares a token. TLS_CUT needs a lost sample too: the agent
 * then holds what it has up to its bounds. HELLO_SUPPRESSED is set before the
 * server has sent anything. PROVEN is set again by the next segment that proves
 * as much. A lost HANDSHAKE_PENDING would not heal, so it is not here.
 */
#define FLOW_ADMITTED 0x2  /* its source had budget for its samples */
#define FLOW_MIDSTREAM 0x4 /* its SYN was not seen */
#define FLOW_TLS_CUT 0x10  /* handshake bytes are missing in the samples */
#define FLOW_HELLO_SUPPRESSED 0x20 /* its ClientHello was not sampled */
#define FLOW_PROVEN 0x40 /* mid-stream, but both ends take part in it */

#define RTT_UNKNOWN 0xffffffff
#define INTERVALS_UNKNOWN 0xffffffffffffffffULL /* in max_iat_ns */

/*
 * The account of a connection, up to its end.
 *
 * The two directions run on different CPUs. A cache line that both write moves
 * between them, so all such fields share one line, the one where the key ends,
 * and each side has its own. A line begins 56 bytes into the value, because
 * Linux 6.1 and newer store the value there (after a word of the allocator,
 * struct htab_elem and a flow_id).
 */
struct flow_totals {
	/* both directions */
	__u64 last_ns;
	__u64 min_iat_ns;
	__u64 max_iat_ns;
	__u8 client;
	__u8 close;	  /* enum flow_close */
	__u8 flags;	  /* FLOW_* */
	__u8 no_bulk;	  /* a FIN, HANDSHAKE_PENDING: stored, not ORed */
	__u8 last_sender; /* the end that sent payload last */
	__u8 timed;	  /* a segment of the server waits for its ACK */
	__u8 rules[2];	  /* RULES_* of each end */
	struct flow_end end[2];
	/* each direction */
	struct flow_side side[2];
	/* the handshake */
	__u64 born_ns;	      /* together with the key it is unique for ever */
	__u64 established_ns; /* time of the final ACK, 0 if not seen */
	__u32 rtt_server_us;  /* SYN to SYN-ACK, or RTT_UNKNOWN */
	__u32 rtt_client_us;  /* SYN-ACK to the final ACK, or RTT_UNKNOWN */
	__u32 rtt_min_us;     /* least of the timed segments, or RTT_UNKNOWN */
	/* one word: see claim_end() */
	__u16 source_slot; /* the slot of sources that counts it, or 0 */
	__u8 ends;	   /* CPUs that have found its end */
	__u8 end_sent;	   /* it is in the ring, or was suppressed */
	__u64 timed_ns;	   /* when the timed segment was sent */
};

/* A connection, with the packets that opened it. */
struct flow {
	struct flow_totals totals;
	struct syn_packet syn;
	struct syn_packet synack;
	__u64 hello; /* seeded hash of the ClientHello and its sender, or 0 */
	__u64 session_id; /* seeded hash of its session id, or 0 */
	__u32 hello_end;  /* one past its last seq */
	struct flow_key key;
};

enum sample_kind {
	SAMPLE_SYN = 1,	  /* half_open_sample */
	SAMPLE_HANDSHAKE, /* half_open_sample; time_ns is the final ACK's */
	SAMPLE_SEGMENT,	  /* sample_head, then the frame up to the cut */
	SAMPLE_END,	  /* end_sample */
	SAMPLE_FRAGMENT,  /* fragment_sample, then the frame */
	SAMPLE_ANOMALY,	  /* anomaly_sample */
	SAMPLE_SACK,	  /* sample_head; ACK in seq, options from start_seq */
};

#define SAMPLE_TLS_STARTS 0x1	    /* a TLS record begins at start_seq */
#define SAMPLE_FLOW_MIDSTREAM 0x2   /* of a mid-stream connection */
#define SAMPLE_TLS_ENDS 0x4	    /* the direction is encrypted after it */
#define SAMPLE_HELLO_SUPPRESSED 0x8 /* its ClientHello was not sampled */
#define SAMPLE_REASSEMBLED 0x20 /* of a packet put together from fragments */
#define SAMPLE_SYN_DATA                                                        \
	0x80 /* of a SYN: counts if a SYN-ACK acknowledges it                  \
	      */
#define SAMPLE_FLOW_PROVEN 0x10 /* mid-stream, but not forged blindly */
#define SAMPLE_HEAD 0x40 /* start_seq is of the end's first byte; see head */

/* How the values of a field follow each other in a source's last SYNs. */
enum sequence_class {
	SEQUENCE_UNKNOWN,
	SEQUENCE_ZERO,
	SEQUENCE_CONSTANT,
	SEQUENCE_INCREMENTAL,
	SEQUENCE_RANDOM,
};

#define HEAD_SHARED                                                            \
	0x80 /* with SAMPLE_HEAD: the reader of TLS needs it too               \
	      */

struct sample_head {
	__u64 time_ns;
	__u64 born_ns;
	/*
	 * Hash of the ClientHello in it, or of a suppressed one; of a head of
	 * SSH, that of all that its end has sent up to the end of this segment.
	 * Of a SYN or a handshake it is the link: the client's MAC address in
	 * the lower 48 bits, above them the outermost VLAN.
	 */
	__u64 hello;
	__u64 before; /* of SSH: the same hash of what was suppressed, or 0 */
	struct flow_key key;
	__u32 seq;
	__u32 start_seq;
	__u32 payload_len; /* by the IP length */
	__u16 payload_off; /* in the frame after the head */
	__u16 copied;	   /* payload bytes in this sample */
	__u8 kind;	   /* enum sample_kind */
	__u8 sender;	   /* the end that sent the frame */
	__u8 client;
	__u8 flags;	 /* SAMPLE_* */
	__u16 urgent;	 /* the urgent pointer */
	__u16 tcp_flags; /* low twelve bits of the data-offset word */
	union {
		__u8 head; /* of a segment: enum head_kind, HEAD_SHARED */
		/* of SYN and handshake: enum sequence_class, number of SYNs */
		__u8 ipid_class;
	};
	__u8 ipid_samples;
	__u8 isn_class;
	__u8 isn_samples;
};

struct half_open_sample {
	struct sample_head head;
	struct half_open half_open;
};

struct end_sample {
	struct sample_head head;
	struct flow_totals totals;
	__u32 isn[2]; /* of the ends, in their order; 0 in mid-stream ones */
};

/* An IP fragment. In the head, only time_ns and kind are set. */
struct fragment_sample {
	struct sample_head head;
	__u32 frame_len; /* of the frame after it */
	__u16 l3_off;	 /* of the IP header, in the frame */
	__u8 ingress;	 /* 1: seen at ingress, 0: at egress */
	__u8 pad;
};

/*
 * In skb->cb[0] of a test run of the program `reassembled`: the packet's
 * fragments came in. cb[1] and cb[2] have the halves of the seed, lower first.
 */
#define REASSEMBLED_INGRESS 0x1

/*
 * Techniques of tcp_anomaly that the kernel side sees, in the order of the
 * agent's tcp/anomaly.py, which says what each is.
 */
enum technique {
	TECHNIQUE_NONE,
	TECHNIQUE_REFUSED_WINDOW,
	TECHNIQUE_REFUSED_ACK,
	TECHNIQUE_REFUSED_FLAGS,
	TECHNIQUE_REFUSED_RST,
	TECHNIQUE_REFUSED_CHECKSUM,
	TECHNIQUE_REFUSED_OPTION,
	TECHNIQUE_REFUSED_TIMESTAMP,
	TECHNIQUE_DATA_AFTER_FIN,
	TECHNIQUE_FORGED_SYNACK,
	TECHNIQUE_FORGED_SOURCE,
	TECHNIQUE_TOO_MANY_HEADERS,
	TECHNIQUE_EXCESS_HANDSHAKE,
};

/*
 * A frame that the decky does not take, or that should not exist. Without TCP
 * in it, the ports in the head's key are 0.
 */
struct anomaly_sample {
	struct sample_head head; /* client is the sender if it is not known */
	__u64 signature;	 /* of client, server and technique */
	__u32 ack;
	__u32 expected_seq; /* the highest seq of the sender, plus one */
	__u32 expected_ack; /* the highest seq of the other end, plus one */
	__u16 tcp_flags;
	__u8 technique; /* enum technique */
	__u8 known;	/* 1: of a connection; expected_* are valid */
};

/*
 * One slot of syn_seen, service_seen, hello_seen or anomaly_seen. Events of
 * this signature need no sample until it expires. The agent writes it after it
 * has emitted one.
 */
struct seen {
	__u64 signature;
	__u64 expires_ns;
	__u64 decided; /* 1: written by the agent; 0: tentative */
	__u64 suppressed;
	__u64 first_ns; /* of the suppressed ones */
	__u64 last_ns;
	__u64 deckies; /* a Bloom filter of the deckies that they went to */
};

/* The connections that one slot of service_seen suppressed. */
struct flow_sums {
	__u64 packets;
	__u64 bytes;
	__u64 longest_ns;
	__u64 largest; /* bytes of one connection */
};

/* What an entry of service_seen suppresses. */
enum service_event {
	SERVICE_HANDSHAKE = 1,
	SERVICE_FLOW,
};

/*
 * A token bucket that counts in time: a token costs 1 s / rate, and the bucket
 * holds burst times that. It is racy by design: two CPUs may spend one token
 * twice.
 */
struct token_bucket {
	__u64 filled_ns;
	__s64 tokens_ns;
};

/* One slot of sources. An IPv6 source is a /64. */
struct source {
	struct token_bucket handshakes;
	__u64 flows; /* entries of flows; each sweep of the agent recounts */
};

/* What a probe is, by its packet: bit numbers of probe_target.kinds. */
enum probe_kind {
	PROBE_SYN,
	PROBE_CONNECT, /* a handshake was completed */
	PROBE_FIN,
	PROBE_NULL,
	PROBE_XMAS,
	PROBE_MAIMON,
	PROBE_ACK,
	PROBE_WINDOW, /* never set: its packets are those of PROBE_ACK */
	PROBE_SYN_ACK,
	PROBE_RST,
	PROBE_UDP,
	PROBE_ICMP_ECHO,
	PROBE_ICMP_TIMESTAMP,
	PROBE_ICMP_OTHER,
	PROBE_ICMP6,
	PROBE_ARP, /* or a neighbour solicitation */
	PROBE_SCTP,
	PROBE_OTHER,
	PROBE_MALFORMED,
	PROBE_KINDS,
};

/* What a decky answered: bit numbers of probe_target.answers. */
enum probe_answer {
	ANSWER_OPEN,
	ANSWER_CLOSED,
	ANSWER_REFUSED, /* by the RST that a SYN to a closed port gets */
	/* how that RST looks over IPv4: with what its TTL may begin, ... */
	ANSWER_TTL_64,
	ANSWER_TTL_128,
	ANSWER_TTL_255,
	ANSWER_NO_ID, /* ... and whether its IP identification is 0 */
	ANSWER_ID,
};

/* Protocols in probe_target.where that are none over IP. */
#define PROBE_PROTO_ARP 0
#define PROBE_PROTO_BROKEN 255 /* the IP header is malformed */

/* A decky, protocol and port that a source has touched. */
struct probe_target {
	__u64 decky; /* probe_hash() of its address */
	__u32 where; /* protocol << 16 | port */
	__u32 owner; /* in a target_set: generation of the source; 0: free */
	__u64 first_ns;
	__u32 kinds;
	__u16 source; /* in a target_set: slot of the source */
	__u8 answers;
	__u8 refused; /* when last, in REFUSED_SHIFT units after first_ns */
};

#define PROBE_PROVEN 0x1 /* it completed a handshake */

/*
 * One slot of probe_sources: what an address has sent to deckies. Its first
 * targets are here, so that a flood from forged sources fills no other table.
 * The first probe of a source touches the first two cache lines only.
 */
struct probe_source {
	__be32 addr[4];
	__u64 first_ns;
	__u64 last_ns;
	__u32 generation; /* odd while another source takes the slot over */
	__u32 targets;	  /* that are kept */
	__u32 kinds;	  /* of its probes */
	__u32 repeated;	  /* kinds with more than one: their counts are valid */
	__u8 mac[6];	  /* of the frame that came last */
	__u8 flags;	  /* PROBE_PROVEN */
	__u8 syns;	  /* in seq and ip_id: see sequences_add() */
	__u16 changes;	  /* of targets outside of it */
	__u16 first_ip_id; /* of its first SYN, if that is the only one */
	__u32 targets_lost;
	__u32 seq[SEQUENCE_SAMPLES]; /* of its last SYNs, as ip_id */
	struct probe_target target[PROBE_INLINE];
	__u16 ip_id[SEQUENCE_SAMPLES];
	__u32 probes[20]; /* by enum probe_kind */
};

/* One slot of probe_targets: the further targets of all sources. */
struct target_set {
	__u32 lock;
	__u32 pad[7];
	struct probe_target target[PROBE_WAYS];
};

/*
 * One slot of begun_by_deckies: what a decky has sent to one port of one peer,
 * without answering anything of that peer.
 */
struct begun {
	__be32 decky[4];
	__be32 peer[4];
	__u64 first_ns;
	__u64 last_ns;
	__u64 link; /* of the first one: as in the head of a SYN's sample */
	__u32 lock;
	__u32 count;	  /* datagrams; 0: the slot is free */
	__u16 decky_port; /* of the first one; 0 without ports */
	__u16 port;
	__u8 protocol;
	__u8 turn; /* of those that have had the slot, modulo 256 */
	__u8 pad[2];
};

/*
 * The Bloom filter of deckies. A frame is foreign, without a map look-up, if
 * neither address has its bit set. The array is of bytes because BCC prints
 * those as text; for each element of another array it compiles code.
 */
struct decky_filter {
	__u8 bits[DECKY_BITS / 8];
};

/* How far the agent has read the ring of one CPU. */
struct ring {
	__u64 read; /* as counters.samples_bytes */
	__u64 half; /* bytes of half of the ring; 0: nothing is deferred */
};

/* Written by the loader at the start, and by the agent at a reload. */
struct settings {
	__u64 seed;
	__u64 syn_cost_ns;
	__u64 syn_burst_ns;
	__u64 handshake_cost_ns;
	__u64 handshake_burst_ns;
	__u64 midstream_cost_ns;
	__u64 midstream_burst_ns;
	__u64 flows_per_source;
	__u64 dedup;	 /* 0: nothing is suppressed */
	__u64 vepa;	 /* 1: vepa_parents has entries */
	__u64 own_host;	 /* 1: own_macs has entries */
	__u64 checksums; /* 0: none is checked */
	__u64 sequences; /* 1: a SYN of another class is no repeat */
	__u64 heads; /* the kinds sampled: bit n is that of enum head_kind */
};

/*
 * Conservation: each frame raises exactly one of the counters down to
 * frames_unattached. So does each packet that the agent reassembles: less
 * packets_reassembled, their sum is the number of frames at the hooks.
 */
struct counters {
	/* no decky involved */
	__u64 foreign_not_ip;
	__u64 foreign_no_decky;
	__u64 foreign_vlan_tags; /* more than are read: addresses unknown */
	/* to or from a decky, ignored by cause */
	__u64 ignored_not_tcp;
	__u64 ignored_fragment_first;
	__u64 ignored_fragment_later;
	__u64 ignored_ip_malformed;
	__u64 ignored_tcp_malformed;
	__u64 ignored_vepa_echo;
	__u64 ignored_own_host;
	__u64 ignored_ext_headers; /* more than MAX_EXT_HEADERS */
	/* accounted */
	__u64 frames_syn;
	__u64 frames_synack;
	__u64 frames_flow;
	__u64 frames_midstream;
	__u64 frames_late;
	__u64 frames_refused; /* what the decky's TCP drops: sum of refused_* */
	__u64 frames_unattached;

	/* each of them has raised one of those above as well */
	__u64 packets_reassembled;

	/* wanted = submitted + lost */
	__u64 samples_wanted;
	__u64 samples_submitted;
	__u64 samples_lost;
	__u64 samples_bytes; /* that the submitted ones took in the rings */
	/* not wanted: half of the ring is taken, and a sweep makes them good */
	__u64 samples_deferred;

	/* frames_syn = retransmits + suppressed + over budget + wanted */
	__u64 syn_noted; /* by XDP, before TC */
	__u64 syn_retransmits;
	__u64 syn_suppressed;
	__u64 syn_over_budget;
	__u64 syn_seen_overwrites;

	/* tables */
	__u64 half_open_inserts;
	__u64 half_open_deletes;
	__u64 half_open_failed;
	__u64 half_open_evicted;
	__u64 half_open_others; /* attempts kept in other_half_open */
	__u64 synack_unmatched;
	__u64 handshakes;
	__u64 flow_inserts;
	__u64 flow_insert_failed;
	__u64 flow_source_capped;
	__u64 flow_reopened;
	__u64 midstream_inserts;
	__u64 midstream_deletes;
	__u64 midstream_failed;

	/* samples suppressed: the agent had emitted an equal event */
	__u64 handshakes_suppressed;
	__u64 ends_suppressed;
	__u64 hellos_suppressed;
	__u64 heads_suppressed; /* what one end of SSH says, to its KEXINIT */

	/* ends whose head was cut short, because half of the ring was taken */
	__u64 heads_left_out;

	/* handshake bytes */
	__u64 tls_not_admitted;
	__u64 tls_over_budget;
	__u64 tls_unread;     /* looks like a handshake of another version */
	__u64 tls_search_cut; /* too much resembles a hello, or is too early */

	/* ignored_fragment_* = these + fragment samples wanted */
	__u64 fragments_over_budget;
	__u64 fragments_too_long;
	/* samples of connections whose handshake was not seen */
	__u64 midstream_over_budget;

	/* anomalies = suppressed + over budget + wanted */
	__u64 anomalies;
	__u64 anomalies_suppressed;
	__u64 anomalies_over_budget;
	/* refused for a decky, by rule: enum refusal */
	__u64 refused_forged;
	__u64 refused_window;
	__u64 refused_no_ack;
	__u64 refused_ack_unsent;
	__u64 refused_ack_old;
	__u64 refused_rst;
	__u64 refused_synack;
	__u64 refused_after_fin;
	__u64 refused_signature;
	__u64 refused_timestamp;
	__u64 refused_checksum;
	__u64 refused_ip_checksum;
	__u64 segments_old;  /* accepted before: counted, but change nothing */
	__u64 flows_resumed; /* open again, as the decky went on */

	/* probes, of which unrecorded ones had no room for their source */
	__u64 probes;
	__u64 probes_unrecorded;
	__u64 probe_sources_evicted;
	__u64 probe_targets_lost; /* touches of a target without room */

	/* of deckies, of which uncertain ones may answer a forgotten probe */
	__u64 datagrams_begun;
	__u64 datagrams_begun_lost;
	__u64 datagrams_uncertain;
};

#endif

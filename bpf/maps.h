/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* The maps. Only capture.c uses them: BCC rewrites map calls only there. */
#ifndef DECKWIRE_MAPS_H
#define DECKWIRE_MAPS_H

#include "limits.h"
#include "abi.h"
#include "net.h"
#include "syn.h"
#include "tls_records.h"
#include "client_hello.h"
#include "ssh_head.h"
#include "receiver.h"
#include "probes.h"
#include "half_open_table.h"
#include "sequences.h"

struct decky6 {
	__be32 addr[4];
};

struct own_mac {
	__u8 addr[8]; /* 6 bytes, then zeros */
};

/* Written by the agent. The value only marks the address as a decky's. */
BPF_F_TABLE("hash", __be32, __u8, deckies4, MAX_DECKIES, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct decky6, __u8, deckies6, MAX_DECKIES,
	    BPF_F_NO_PREALLOC);
BPF_TABLE("array", __u32, struct decky_filter, decky_filter, 1);
BPF_TABLE("hash", __u32, __u8, vepa_parents, MAX_VEPA_PARENTS);

/*
 * The host itself, if its connections are to be ignored: written by the agent.
 * An address alone can be forged, so its MAC address must match too.
 */
BPF_TABLE("hash", struct decky6, __u8, own_addresses, MAX_OWN_ADDRESSES);
BPF_TABLE("hash", struct own_mac, __u8, own_macs, MAX_OWN_MACS);

/* Spoofed SYNs stay in half_open. Only a real handshake moves to flows. */
BPF_TABLE("array", __u32, struct half_open_lock, half_open_locks,
	  HALF_OPEN_GROUPS);
/* BPF_F_MMAPABLE, here and below: values begin with a cache line */
BPF_F_TABLE("array", __u32, struct half_open_sets, half_open_sets,
	    HALF_OPEN_GROUPS, BPF_F_MMAPABLE);
/* without it: the agent would have these 19 MB in its memory */
BPF_TABLE("array", __u32, struct half_open_entries, half_open,
	  HALF_OPEN_GROUPS);
/*
 * Attempts on a 4-tuple of which half_open has another: the one that is
 * acknowledged becomes the connection. Keyed by the number that the next packet
 * of the handshake acknowledges.
 */
struct attempt_key {
	struct flow_key key;
	__u32 seq;	/* of the SYN-ACK if there is one, else of the SYN */
	__u32 answered; /* 1: of the SYN-ACK */
};
BPF_TABLE("lru_hash", struct attempt_key, struct half_open, other_half_open,
	  MAX_OTHER_HALF_OPEN);
BPF_F_TABLE("hash", struct flow_id, struct flow, flows, MAX_FLOWS,
	    BPF_F_NO_PREALLOC);
BPF_TABLE("lru_hash", struct flow_key, struct flow, midstream_flows,
	  MAX_MIDSTREAM);

/*
 * A signature has one of two slots, by its seeded hash. The agent reads and
 * writes them in place.
 */
BPF_F_TABLE("array", __u32, struct seen, syn_seen, SYN_SEEN_SLOTS,
	    BPF_F_MMAPABLE);
BPF_F_TABLE("array", __u32, struct seen, service_seen, SERVICE_SEEN_SLOTS,
	    BPF_F_MMAPABLE);
BPF_F_TABLE("array", __u32, struct flow_sums, service_sums, SERVICE_SEEN_SLOTS,
	    BPF_F_MMAPABLE);
BPF_F_TABLE("array", __u32, struct seen, hello_seen, HELLO_SEEN_SLOTS,
	    BPF_F_MMAPABLE);
BPF_F_TABLE("array", __u32, struct seen, anomaly_seen, ANOMALY_SEEN_SLOTS,
	    BPF_F_MMAPABLE);
BPF_TABLE("array", __u32, struct source, sources, SOURCE_SLOTS);
BPF_TABLE("array", __u32, struct token_bucket, syn_budget, 1);
BPF_TABLE("array", __u32, struct token_bucket, midstream_budget, 1);
BPF_TABLE("array", __u32, struct token_bucket, anomaly_budget, 1);
BPF_TABLE("array", __u32, struct token_bucket, anomaly_sources, SOURCE_SLOTS);

/*
 * Probes by source. Each change of a source or of its targets sets the mark of
 * its set. The agent clears a mark before it reads the set.
 */
BPF_F_TABLE("array", __u32, struct source_set, source_sets, PROBE_SOURCE_SETS,
	    BPF_F_MMAPABLE);
BPF_F_TABLE("array", __u32, struct probe_source, probe_sources,
	    PROBE_SOURCE_SETS *PROBE_SOURCE_WAYS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", __u32, struct target_set, probe_targets, PROBE_TARGET_SETS,
	    BPF_F_MMAPABLE);
BPF_F_TABLE("array", __u32, __u64, probe_marks, PROBE_SOURCE_SETS,
	    BPF_F_MMAPABLE);
BPF_TABLE("array", __u32, struct asked, asked_by_deckies, ASKED_SLOTS);
BPF_F_TABLE("array", __u32, struct begun, begun_by_deckies, BEGUN_SLOTS,
	    BPF_F_MMAPABLE);

/* Samples of IP fragments: the budget of each source, and that of all. */
BPF_TABLE("array", __u32, struct token_bucket, fragment_sources,
	  FRAGMENT_SLOTS);
BPF_TABLE("array", __u32, struct token_bucket, fragment_budget, 1);

/* By CPU; written by the agent when it has read a ring. */
BPF_F_TABLE("array", __u32, struct ring, rings, RING_SLOTS, BPF_F_MMAPABLE);

BPF_TABLE("array", __u32, struct settings, settings, 1);
BPF_TABLE("percpu_array", __u32, struct counters, counters, 1);

/*
 * Samples and connections are built here. They are larger than the stack. A
 * test run of the agent has entries of its own: before Linux 6.11, a frame that
 * arrives on the CPU meanwhile interrupts it.
 */
enum scratch {
	SCRATCH_FRAME,
	SCRATCH_REASSEMBLED,
	SCRATCHES,
};
BPF_TABLE("percpu_array", __u32, struct half_open_sample, half_open_scratch,
	  SCRATCHES);
/* The copy of an entry of half_open, and where that is. */
struct half_open_copy {
	struct half_open_entry entry;
	__u32 slot;
	__u32 index;
};
BPF_TABLE("percpu_array", __u32, struct half_open_copy, half_open_copies,
	  SCRATCHES);
BPF_TABLE("percpu_array", __u32, struct end_sample, end_scratch, SCRATCHES);
BPF_TABLE("percpu_array", __u32, struct flow, flow_scratch, SCRATCHES);
BPF_TABLE("percpu_array", __u32, struct anomaly_sample, anomaly_scratch,
	  SCRATCHES);

BPF_TABLE("percpu_array", __u32, struct option_walk, option_walks, SCRATCHES);
BPF_TABLE("percpu_array", __u32, struct record_walk, record_walks, SCRATCHES);
BPF_TABLE("percpu_array", __u32, struct hello_walk, hello_walks, SCRATCHES);
BPF_TABLE("percpu_array", __u32, struct segment_walk, segment_walks, SCRATCHES);
BPF_TABLE("percpu_array", __u32, struct ssh_walk, ssh_walks, SCRATCHES);

/* One frame on its way from program to program. */
struct work {
	struct packet packet;
	struct flow_key key;
	struct flow_id id;
	__u32 sender;
	__u64 now;
	__s32 proto;	 /* after the IP header, or a negative verdict */
	__s32 ethertype; /* after the tags, if decky_tags has read them */
	__u32 l3_off;	 /* the same: the offset of the IP header; else 0 */
	__u32 vlans; /* tags that decky_tags has read, but those of VLAN 0 */
	__u8 ingress;
	__u8 parsed;	      /* packet, key, id, sender and now are valid */
	__u8 handshake_tried; /* by decky_handshake */
	__u8 hashed;	      /* by decky_hello */
	__u8 reassembled;     /* the agent made the packet from fragments */
	__u8 repeats;	      /* the suppressed hello, to the byte */
	__u8 checked;	      /* enum judgement, by decky_check */
	__u8 unknown;	      /* decky_packet has found no connection of it */
	__u8 to_decky;	      /* where it was looked up: the receiver is one */
	__u8 search_tried;    /* it was asked whether to search */
	__u8 searched;	      /* by decky_search */
	__u8 again;	      /* how often its rest was gone on with */
	__u8 technique;	      /* enum technique, for decky_anomaly */
	__u8 cause;	      /* enum touch_cause, for decky_probe */
	__u8 half_open;	      /* by decky_handshake: of an attempt to connect */
	__u8 options_read;    /* by decky_options */
	__u8 head_read;	      /* by decky_head, with the next two */
	__u8 head_known;      /* suppressed: as in struct record_walk */
	__u32 packet_end;     /* seq behind a KEXINIT that has begun */
	__u64 chain;	      /* of its end, with this segment: ssh_head.h */
	__u8 closed;	      /* the connection had ended before */
	__u8 continues;	      /* the segment continues a long write */
	__u8 early;	      /* enum earliness */
	__u8 begun;	      /* by decky_probe: a decky sends it on its own */
	__u8 new_source;      /* by decky_probe: it has no record before */
	__u8 restarts;	      /* of decky_syn or decky_synack */
	__s32 ahead;	      /* its distance from sent, or AHEAD_REPEATED */
	__u32 found;  /* offset of a hello in the payload, or NOT_FOUND */
	__u32 rest;   /* the same of what was not read so far */
	__u32 source; /* by decky_probe: the source's slot, or NO_SOURCE */
	__u32 source_generation;
	__u64 tick; /* of time_ns: see coarse_time() */
	__u64 time_ns;
	struct touch touch;	      /* by decky_probe */
	struct half_open_place place; /* of a SYN, by decky_probe */
};
BPF_TABLE("percpu_array", __u32, struct work, works, SCRATCHES);

enum jump {
	JUMP_PACKET,
	JUMP_SYN,
	JUMP_SYNACK,
	JUMP_HANDSHAKE,
	JUMP_HELLO,
	JUMP_CHECK,
	JUMP_FRAGMENT,
	JUMP_TAGS,
	JUMP_SEARCH,
	JUMP_ANOMALY,
	JUMP_PROBE,
	JUMP_OPTIONS,
	JUMP_BEGUN,
	JUMP_HEAD,
	JUMP_REST,
	JUMPS,
};
BPF_PROG_ARRAY(jumps, JUMPS);

BPF_PERF_OUTPUT(samples);

#endif

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

struct decky6 {
	__be32 addr[4];
};

/* Written by the agent. The value only marks the address as a decky's. */
BPF_F_TABLE("hash", __be32, __u8, deckies4, MAX_DECKIES, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct decky6, __u8, deckies6, MAX_DECKIES,
	    BPF_F_NO_PREALLOC);
BPF_TABLE("array", __u32, struct decky_filter, decky_filter, 1);
BPF_TABLE("hash", __u32, __u8, vepa_parents, MAX_VEPA_PARENTS);

/* Spoofed SYNs stay in half_open. Only a real handshake moves to flows. */
BPF_TABLE("lru_hash", struct flow_key, struct half_open, half_open,
	  MAX_HALF_OPEN);
BPF_F_TABLE("hash", struct flow_id, struct flow, flows, MAX_FLOWS,
	    BPF_F_NO_PREALLOC);
BPF_TABLE("lru_hash", struct flow_key, struct flow, midstream_flows,
	  MAX_MIDSTREAM);

/*
 * Direct-mapped by a seeded hash, so an overwrite is seen and counted. The
 * agent reads and writes them in place.
 */
BPF_F_TABLE("array", __u32, struct seen, syn_seen, SYN_SEEN_SLOTS,
	    BPF_F_MMAPABLE);
BPF_F_TABLE("array", __u32, struct seen, service_seen, SERVICE_SEEN_SLOTS,
	    BPF_F_MMAPABLE);
BPF_F_TABLE("array", __u32, struct seen, hello_seen, HELLO_SEEN_SLOTS,
	    BPF_F_MMAPABLE);
BPF_TABLE("array", __u32, struct source, sources, SOURCE_SLOTS);
BPF_TABLE("array", __u32, struct token_bucket, syn_budget, 1);

BPF_TABLE("array", __u32, struct settings, settings, 1);
BPF_TABLE("percpu_array", __u32, struct counters, counters, 1);

/* Samples and connections are built here. They are larger than the stack. */
BPF_TABLE("percpu_array", __u32, struct half_open_sample, half_open_scratch, 1);
BPF_TABLE("percpu_array", __u32, struct end_sample, end_scratch, 1);
BPF_TABLE("percpu_array", __u32, struct flow, flow_scratch, 1);

BPF_TABLE("percpu_array", __u32, struct option_walk, option_walks, 1);
BPF_TABLE("percpu_array", __u32, struct record_walk, record_walks, 1);
BPF_TABLE("percpu_array", __u32, struct hello_walk, hello_walks, 1);

/* One frame on its way from program to program. */
struct work {
	struct packet packet;
	struct flow_key key;
	struct flow_id id;
	__u32 sender;
	__u64 now;
	__s32 proto; /* after the IP header, or a negative verdict */
	__u8 ingress;
	__u8 parsed;	      /* packet, key, id, sender and now are valid */
	__u8 handshake_tried; /* by decky_handshake */
	__u8 hashed;	      /* by decky_hello */
	__u8 searched;	      /* by decky_search */
	__u32 found; /* offset of a hello in the payload, or NOT_FOUND */
};
BPF_TABLE("percpu_array", __u32, struct work, works, 1);

enum jump {
	JUMP_PACKET,
	JUMP_SYN,
	JUMP_SYNACK,
	JUMP_HANDSHAKE,
	JUMP_HELLO,
	JUMP_SEARCH,
	JUMPS,
};
BPF_PROG_ARRAY(jumps, JUMPS);

BPF_PERF_OUTPUT(samples);

#endif

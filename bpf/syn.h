/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What a SYN or SYN-ACK says: its fields, its options, and the signature of a
 * SYN.
 */
#ifndef DECKWIRE_SYN_H
#define DECKWIRE_SYN_H

#include "limits.h"
#include "abi.h"
#include "hash.h"
#include "net.h"

#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_TIMESTAMP 8
#define OPTION_TIMESTAMP_LEN 10

/* All fields but the options. */
static __always_inline void syn_packet_begin(struct syn_packet *syn,
					     const struct packet *p, __u64 now)
{
	syn->time_ns = now;
	syn->seq = p->seq;
	syn->ack = p->ack;
	syn->flow_label = p->flow_label;
	syn->payload_len = p->payload_len;
	syn->window = p->window;
	syn->ip_id = p->ip_id;
	syn->urgent = p->urgent;
	syn->flags = p->flags;
	syn->ip_options_len = p->ip_options_len;
	syn->ttl = p->ttl;
	syn->tos = p->tos;
	syn->ip_version = p->ip_version;
	syn->ip_flags = p->ip_flags;
	syn->retransmits = 0;
	syn->options_len = 0;
	__builtin_memset(syn->options, 0, sizeof(syn->options));
}

static __always_inline void syn_packet_fill(struct __sk_buff *skb,
					    struct syn_packet *syn,
					    const struct packet *p, __u64 now)
{
	__u64 last = p->tcp_len - sizeof(struct tcp_header) - 1;

	syn_packet_begin(syn, p, now);
	/*
	 * It wraps if there are no options. The asm keeps the bound below:
	 * clang drops one that it can prove, and the verifier needs it.
	 */
	asm volatile("" : "+r"(last));
	if (last >= MAX_TCP_OPTIONS)
		return;
	if (bpf_skb_load_bytes(skb, p->l4_off + sizeof(struct tcp_header),
			       syn->options, last + 1))
		syn->ip_flags |= SYN_OPTIONS_CUT;
	else
		syn->options_len = last + 1;
}

/* The options of a SYN in linear data. */
static __always_inline void copy_options(struct syn_packet *syn,
					 const __u8 *from, __u32 len,
					 const void *end)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < MAX_TCP_OPTIONS; i++) {
		/* else clang compares by !=, which 5.10 cannot follow */
		asm volatile("" : "+r"(i));
		if (i >= len || (const void *)(from + i + 1) > end)
			return;
		syn->options[i] = from[i];
		syn->options_len = i + 1;
	}
}

/* The state of options_hash(). Its bytes hold a timestamp at the very end. */
struct option_walk {
	__u32 at;   /* where the option under the cursor starts */
	__u32 own;  /* the sender's timestamps, ORed */
	__u32 echo; /* the echoed ones, ORed */
	__u32 pad;
	union {
		__u8 bytes[MAX_TCP_OPTIONS + 16];
		__u64 words[MAX_TCP_OPTIONS / 8 + 2];
	};
};

/*
 * Hashes the options without timestamp values, so that all SYNs of one stack
 * hash alike. What follows the end of the list counts too. The walk is in a map
 * value and is read back in each step: the states that the verifier compares at
 * the head of the loop stay equal.
 */
static __always_inline __u64 options_hash(volatile struct option_walk *walk,
					  const struct syn_packet *syn,
					  __u64 seed)
{
	volatile __u32 *stamps;
	__u32 at, kind, len;
	__u64 hash = seed;

	walk->at = 0;
	walk->own = 0;
	walk->echo = 0;
	__builtin_memcpy((void *)walk->bytes, syn->options, MAX_TCP_OPTIONS);
	walk->words[MAX_TCP_OPTIONS / 8] = 0;
	walk->words[MAX_TCP_OPTIONS / 8 + 1] = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < MAX_TCP_OPTIONS; i++) {
		at = walk->at;
		if (at >= syn->options_len || at >= MAX_TCP_OPTIONS)
			break;
		kind = walk->bytes[at];
		len = 1;
		if (kind == OPTION_END)
			break;
		if (kind != OPTION_NOP) {
			len = walk->bytes[at + 1];
			if (len < 2)
				break;
		}
		walk->at = at + len;
		if (kind == OPTION_TIMESTAMP && len == OPTION_TIMESTAMP_LEN) {
			stamps = (volatile __u32 *)&walk->bytes[at + 2];
			walk->own |= stamps[0];
			walk->echo |= stamps[1];
			stamps[0] = 0;
			stamps[1] = 0;
		}
	}
#pragma unroll
	for (int i = 0; i < MAX_TCP_OPTIONS / 8; i++)
		if (i * 8 < syn->options_len)
			hash = absorb(hash, walk->words[i]);
	return absorb(hash, (__u64)syn->options_len << 8 | (walk->own ? 2 : 0) |
				    (walk->echo ? 1 : 0));
}

/*
 * Traits of fields that differ from SYN to SYN: the signature holds these
 * instead of the fields. The agent's fingerprints/scanners.py and
 * fingerprints/p0f.py look for the same traits.
 */
enum syn_trait {
	TRAIT_ZMAP_IP_ID = 0x1,
	TRAIT_MASSCAN_IP_ID = 0x2, /* destination ^ port ^ seq, folded */
	TRAIT_MIRAI_SEQ = 0x4,	   /* the destination address */
	TRAIT_ZERO_SEQ = 0x8,
	TRAIT_ACK_NUMBER = 0x10,
	TRAIT_IP_ID = 0x20,
	TRAIT_FLOW_LABEL = 0x40,
	TRAIT_URGENT = 0x80,
	TRAIT_PAYLOAD = 0x100,
	TRAIT_SCAPY_IP_ID = 0x200,
};

#define ZMAP_IP_ID 54321
#define SCAPY_IP_ID 1

static __always_inline __u32 syn_traits(const struct packet *p)
{
	__u32 dst = be32(p->daddr[3]), traits = 0;

	if (p->ip_id == ZMAP_IP_ID)
		traits |= TRAIT_ZMAP_IP_ID;
	if (p->ip_id == (__u16)(dst ^ be16(p->dport) ^ p->seq))
		traits |= TRAIT_MASSCAN_IP_ID;
	if (p->seq == dst)
		traits |= TRAIT_MIRAI_SEQ;
	if (!p->seq)
		traits |= TRAIT_ZERO_SEQ;
	if (p->ack)
		traits |= TRAIT_ACK_NUMBER;
	if (p->ip_id)
		traits |= TRAIT_IP_ID;
	if (p->flow_label)
		traits |= TRAIT_FLOW_LABEL;
	if (p->urgent)
		traits |= TRAIT_URGENT;
	if (p->payload_len)
		traits |= TRAIT_PAYLOAD;
	if (p->ip_id == SCAPY_IP_ID)
		traits |= TRAIT_SCAPY_IP_ID;
	return traits;
}

/*
 * The seeded hash of a SYN's addresses and of all that os, tool, options_sig
 * and ja4t derive from: two SYNs with one signature make one event. It must
 * never be coarser than the agent's dedup key. A SYN of a decky has another
 * event, for each port that it asks for.
 */
static __always_inline __u64 syn_signature(volatile struct option_walk *walk,
					   const struct packet *p,
					   const struct syn_packet *syn,
					   __u64 seed, int of_decky)
{
	__u64 hash = options_hash(walk, syn, seed);

	hash = absorb(hash, (__u64)p->window << 48 | (__u64)p->ttl << 40 |
				    (__u64)p->tos << 32 |
				    (__u64)p->flags << 16 | syn_traits(p));
	hash = absorb(hash, (__u64)(of_decky ? p->dport : 0) << 32 |
				    (__u64)p->ip_options_len << 16 |
				    p->ip_version << 8 | syn->ip_flags);
	if (p->ip_version == 4)
		return absorb(hash, (__u64)p->saddr[3] << 32 | p->daddr[3]);
	hash = absorb_address(hash, p->saddr);
	return absorb_address(hash, p->daddr);
}

#endif

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * IP fragments that may belong to a decky's TCP. They are sampled within a
 * budget. The agent puts them together as Linux does, and runs the program
 * `reassembled` over the packet that they make.
 */
#ifndef DECKWIRE_FRAGMENTS_H
#define DECKWIRE_FRAGMENTS_H

#include "limits.h"
#include "abi.h"
#include "hash.h"
#include "net.h"
#include "token_bucket.h"

/* Is this a test run of the agent? Its mark has the seed, which is secret. */
static __always_inline int is_reassembled(struct __sk_buff *skb, __u64 seed)
{
	return skb->cb[1] == (__u32)seed && skb->cb[2] == seed >> 32;
}

static __always_inline int is_fragment(int verdict)
{
	return verdict == PARSE_FRAGMENT_FIRST ||
	       verdict == PARSE_FRAGMENT_LATER;
}

/* The budget of a source: an IPv6 attacker owns at least a /64. */
static __always_inline __u32 fragment_slot(const struct packet *p, __u64 seed)
{
	__u64 hash = absorb(seed, (__u64)p->saddr[0] << 32 | p->saddr[1]);

	if (p->ip_version == 4)
		hash = absorb(hash, p->saddr[3]);
	return (hash >> 32) & (FRAGMENT_SLOTS - 1);
}

/* The bytes of the frame that a sample needs: not those after the packet. */
static __always_inline __u32 fragment_len(const struct packet *p,
					  __u32 frame_len)
{
	__u32 len = p->l3_off + p->l3_len;

	return len < frame_len ? len : frame_len;
}

/* Takes a sample of so many bytes out of a bucket, which counts in time. */
static __always_inline int fragment_take(struct token_bucket *bucket, __u32 len,
					 __u64 now, __u32 rate, __u32 burst)
{
	__u64 byte_ns = 1000000000ULL / rate;

	return token_bucket_take(bucket, now,
				 (len + FRAGMENT_HEAD_BYTES) * byte_ns,
				 burst * byte_ns);
}

/* Does the budget of the source, and that of all, have room for this one? */
static __always_inline int fragment_admit(struct token_bucket *source,
					  struct token_bucket *all, __u32 len,
					  __u64 now)
{
	return fragment_take(source, len, now, FRAGMENT_SOURCE_RATE,
			     FRAGMENT_SOURCE_BURST) &&
	       fragment_take(all, len, now, FRAGMENT_RATE, FRAGMENT_BURST);
}

static __always_inline void
fragment_sample_begin(struct fragment_sample *sample, const struct packet *p,
		      __u32 len, __u8 ingress, __u64 now)
{
	__builtin_memset(sample, 0, sizeof(*sample));
	sample->head.time_ns = now;
	sample->head.kind = SAMPLE_FRAGMENT;
	sample->frame_len = len;
	sample->l3_off = p->l3_off;
	sample->ingress = ingress;
}

#endif

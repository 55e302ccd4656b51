/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The first bytes of each end of a connection, as long as no TLS begins: which
 * are sampled. SSH (RFC 4253, 4.2 and 7.1) has banners and KEXINITs in the
 * clear.
 */
#ifndef DECKWIRE_HEADS_H
#define DECKWIRE_HEADS_H

#include "limits.h"
#include "abi.h"
#include "net.h"
#include "tls_records.h"

#define SSH_BANNER 0x2d485353U /* "SSH-", read as a little-endian word */
#define SSH_KEXINIT 20

/* Notes what an end's first bytes look like, and how many are wanted. */
static __always_inline void head_decide(struct flow_side *side, __u32 kind,
					__u32 units)
{
	side->tls_bits =
		(side->tls_bits & ~(3 << BITS_HEAD)) | kind << BITS_HEAD;
	side->head = units;
}

/*
 * Do three capitals come first? A segment of fewer bytes counts by those that
 * it has: the rest follows.
 */
static __always_inline int has_capitals(__u64 first, __u32 avail)
{
	__u32 word = first & 0xffffff;

	if (avail < 3)
		word |= 0x414141U << (8 * avail) & 0xffffff;
	/* the highest bit of each byte: from 'A' on, not beyond 'Z', no more */
	return ((word + 0x3f3f3f) & ~(word + 0x252525) & ~word & 0x808080) ==
	       0x808080;
}

static __always_inline int wants_head(__u64 wanted, __u32 kind)
{
	return wanted >> kind & 1;
}

/* What these first bytes look like, of those kinds that are wanted. */
static __always_inline __u32 kind_of_head(__u64 first, __u32 avail,
					  __u64 wanted)
{
	if ((__u32)first == SSH_BANNER && wants_head(wanted, HEAD_SSH))
		return HEAD_SSH;
	if (has_capitals(first, avail) && wants_head(wanted, HEAD_HTTP))
		return HEAD_HTTP;
	return HEAD_PAYLOAD;
}

static __always_inline __u32 units_of_head(__u32 kind, __u64 wanted)
{
	if (kind == HEAD_SSH)
		return HEAD_SSH_UNITS;
	if (kind == HEAD_HTTP)
		return HEAD_HTTP_UNITS;
	return wants_head(wanted, HEAD_PAYLOAD) ? HEAD_PAYLOAD_UNITS : 0;
}

/*
 * The units that a segment uses up: those that it fills, and one at least. So a
 * head of n units has the first n of its end, unless segments are smaller.
 */
static __always_inline __u32 units_of(__u32 bytes)
{
	return bytes < HEAD_UNIT ? 1 : bytes / HEAD_UNIT;
}

/* A banner of SSH opens the other end's head, because some are misspelled. */
static __always_inline void head_open_peer(struct flow_side *peer)
{
	if (head_kind(peer) != HEAD_SSH && head_kind(peer) != HEAD_HTTP)
		head_decide(peer, HEAD_SSH, HEAD_SSH_UNITS);
}

/*
 * The first bytes of an end decide how many of it are sampled. No head is
 * filled twice: not by the other end's banner either.
 */
static __always_inline void head_begin(volatile struct record_walk *walk,
				       const struct flow *flow,
				       struct flow_side *side,
				       struct flow_side *peer, __u64 wanted)
{
	__u32 kind = kind_of_head(walk->first, walk->avail, wanted);

	/* its own banner changes nothing then, and a misspelled one neither */
	if (head_kind(side) != HEAD_SSH || kind == HEAD_HTTP)
		head_decide(side, kind, units_of_head(kind, wanted));
	/* only a SYN shows where its end begins */
	if (kind == HEAD_SSH && !(flow->totals.flags & FLOW_MIDSTREAM))
		head_open_peer(peer);
}

/* The first bytes of a client came with its SYN: used of them were sampled. */
static __always_inline void head_begin_in_syn(struct flow_side *side,
					      struct flow_side *peer,
					      __u32 kind, __u32 used)
{
	__u32 units = units_of_head(kind, 1 << HEAD_PAYLOAD);

	used = units_of(used);
	head_decide(side, kind, used < units ? units - used : 0);
	if (kind == HEAD_SSH)
		head_open_peer(peer);
}

/*
 * Adds to walk->cut what is wanted of the first bytes of an end. What may be
 * TLS as well is a sample for both readers.
 */
static __always_inline void head_scan(volatile struct record_walk *walk,
				      const struct flow *flow,
				      struct flow_side *side,
				      struct flow_side *peer, __u64 wanted)
{
	__u64 first = walk->first;
	__u32 units, left, cut;

	if (walk->flags & SAMPLE_TLS_STARTS) {
		head_decide(side, HEAD_PAYLOAD, 0);
		head_decide(peer, HEAD_PAYLOAD, 0);
		return;
	}
	if (walk->decided)
		head_begin(walk, flow, side, peer, wanted);
	left = side->head;
	if (side->tls_state == TLS_START ||
	    (side->tls_state == TLS_PREFIX && walk->at_start)) {
		/* the agent sees by the bytes before it what it is */
		if (!walk->cut)
			return;
		walk->head = HEAD_SHARED;
		walk->flags |= SAMPLE_HEAD;
		return;
	}
	/* what is only repeated uses up nothing, or it could use up all */
	if (!left || walk->ahead == AHEAD_REPEATED ||
	    side->tls_state > TLS_PREFIX)
		return;
	/* after a KEXINIT, the beginning of a packet shows who the client is */
	if (head_kind(side) == HEAD_SSH &&
	    prefix_byte(first, 5) == SSH_KEXINIT) {
		units = be32((__be32)first) / HEAD_UNIT + HEAD_REST_UNITS;
		if (units < left)
			left = units;
	}
	units = units_of(walk->avail);
	cut = walk->avail;
	if (units > left) {
		units = left;
		cut = left * HEAD_UNIT;
	}
	side->head = left - units;
	if (walk->known) {
		if (walk->known > 1)
			side->head = 0;
		return;
	}
	walk->head = head_kind(side);
	walk->flags |= SAMPLE_HEAD;
	if (walk->cut)
		walk->head |= HEAD_SHARED;
	else
		walk->cut = cut;
}

/* Are these bytes wanted for the head alone, because no TLS is in sight? */
static __always_inline int
is_head_alone(const volatile struct record_walk *walk)
{
	return walk->flags & SAMPLE_HEAD && !(walk->head & HEAD_SHARED);
}

#endif

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The first bytes of SSH, in both directions (RFC 4253, 4.2 and 7.1): banners
 * and KEXINITs are in the clear.
 */
#ifndef DECKWIRE_HEADS_H
#define DECKWIRE_HEADS_H

#include "limits.h"
#include "abi.h"
#include "net.h"
#include "tls_records.h"

#define SSH_BANNER 0x2d485353U /* "SSH-", read as a little-endian word */
#define SSH_KEXINIT 20

/* Wants the first bytes of an end, once: a second banner refills nothing. */
static __always_inline void head_open(struct flow_side *side)
{
	if (has_head(side))
		return;
	side->tls_holes |= HEAD_OPENED;
	side->tls_orphans = HEAD_SSH_UNITS;
}

/*
 * Sets walk->cut for a segment in which nothing else is worth a sample. An end
 * that begins with a banner opens the heads of both, because some clients
 * misspell theirs.
 */
static __always_inline void head_scan(volatile struct record_walk *walk,
				      const struct flow *flow,
				      struct flow_side *side,
				      struct flow_side *peer)
{
	__u64 first = walk->first;
	__u32 units, left;

	if (walk->at_start && (__u32)first == SSH_BANNER) {
		head_open(side);
		/* only a SYN shows where its end begins */
		if (!(flow->totals.flags & FLOW_MIDSTREAM))
			head_open(peer);
	}
	left = side->tls_orphans;
	if (!has_head(side) || !left || walk->cut ||
	    side->tls_state != TLS_WATCH)
		return;
	/* after a KEXINIT, the beginning of a packet shows who the client is */
	if (prefix_byte(first, 5) == SSH_KEXINIT) {
		units = be32((__be32)first) / HEAD_UNIT + HEAD_REST_UNITS;
		if (units < left)
			left = units;
	}
	units = (walk->avail + HEAD_UNIT - 1) / HEAD_UNIT;
	if (units > left)
		units = left;
	side->tls_orphans = left - units;
	walk->cut = walk->avail < units * HEAD_UNIT ? walk->avail
						    : units * HEAD_UNIT;
	walk->flags |= SAMPLE_HEAD;
}

#endif

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* The head of every sample, and the count of samples. */
#ifndef DECKWIRE_SAMPLE_H
#define DECKWIRE_SAMPLE_H

#include "abi.h"
#include "net.h"

static __always_inline void sample_begin(struct sample_head *head,
					 enum sample_kind kind,
					 const struct packet *p,
					 const struct flow_key *key,
					 __u8 sender, __u64 now)
{
	__builtin_memset(head, 0, sizeof(*head));
	head->time_ns = now;
	head->key = *key;
	head->seq = p->seq;
	head->payload_len = p->payload_len;
	head->kind = kind;
	head->sender = sender;
	if (p->ip_flags & IP_FLAG_REASSEMBLED)
		head->flags = SAMPLE_REASSEMBLED;
	head->urgent = p->urgent;
	head->tcp_flags = p->flags;
}

/* Counts a sample by what its submission returned. 1 if it is in the ring. */
static __always_inline int sample_sent(struct counters *c, int error)
{
	c->samples_wanted++;
	if (error)
		c->samples_lost++;
	else
		c->samples_submitted++;
	return !error;
}

#endif

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The beginning of a connection and the account of its packets. Pure; the
 * caller owns the map values.
 */
#ifndef DECKWIRE_FLOW_H
#define DECKWIRE_FLOW_H

#include "limits.h"
#include "syn.h"
#include "net.h"
#include "abi.h"
#include "seq.h"

/*
 * The intervals between any two packets of one connection. Two CPUs may swap
 * packets that they handle at a time. Stamps further back than that are wrong
 * in a way that nobody knows, and so are the least and the greatest interval.
 */
static __always_inline void note_interval(__u64 now, __u64 *last, __u64 *min,
					  __u64 *max)
{
	__s64 interval = now - *last;

	if (interval < -(__s64)SWAPPED_NS) {
		*max = INTERVALS_UNKNOWN;
		return;
	}
	if (interval < 0)
		interval = -interval;
	else
		*last = now;
	if ((__u64)interval < *min)
		*min = interval;
	if ((__u64)interval > *max)
		*max = interval;
}

static __always_inline void side_begin(struct flow_side *side,
				       const struct syn_packet *o)
{
	side->packets = 1 + o->retransmits;
	side->bytes = o->payload_len;
	side->retransmits = o->retransmits;
	side->next_seq = o->seq + 1 + o->payload_len;
	side->tls_seq = o->seq + 1;
	side->tls_state = TLS_START;
	side->flags = SIDE_SEEN;
}

/* A side whose SYN we did not see: its first segment is behind a hole. */
static __always_inline void side_begin_unseen(struct flow_side *side)
{
	side->tls_state = TLS_WATCH;
}

/* A connection as the attempt left it; born_ns is the attempt's. */
static __always_inline void flow_begin(struct flow *flow,
				       const struct half_open *half)
{
	__u8 client = half->client & 1;

	__builtin_memset(flow, 0, sizeof(*flow));
	flow->totals.client = client;
	flow->syn = half->syn;
	flow->synack = half->synack;
	flow->totals.last_ns = half->last_ns;
	flow->totals.min_iat_ns = half->min_iat_ns;
	flow->totals.max_iat_ns = half->max_iat_ns;
	if (half->syn.ip_version)
		flow->totals.born_ns = half->syn.time_ns;
	else
		flow->totals.born_ns = half->synack.time_ns;
	flow->totals.first_ns = flow->totals.born_ns;
	flow->totals.rtt_server_us = RTT_UNKNOWN;
	flow->totals.rtt_client_us = RTT_UNKNOWN;
	flow->totals.rtt_min_us = RTT_UNKNOWN;
	if (half->syn.ip_version && half->synack.ip_version)
		flow->totals.rtt_server_us =
			rtt_us(half->syn.time_ns, half->synack.time_ns);
	if (half->syn.ip_version)
		side_begin(&flow->totals.side[client], &half->syn);
	else
		side_begin_unseen(&flow->totals.side[client]);
	if (half->synack.ip_version) {
		side_begin(&flow->totals.side[!client], &half->synack);
		flow->totals.side[!client].last_ack = half->synack.ack;
		flow->totals.side[!client].flags |= SIDE_ACKED;
		if (!half->syn.ip_version) {
			/* the SYN-ACK tells where the client begins */
			flow->totals.side[client].flags = SIDE_SEEN;
			flow->totals.side[client].next_seq = half->synack.ack;
			flow->totals.side[client].tls_seq = half->synack.ack;
			flow->totals.side[client].tls_state = TLS_START;
		}
	} else {
		side_begin_unseen(&flow->totals.side[!client]);
	}
}

/*
 * Round trips while the connection lives: from data of the server to the
 * client's ACK of it, one at a time. Bytes that are sent again time nothing
 * (Karn, RFC 6298, 3). Only what needs more than an account comes here, and
 * what follows a silence: bulk data does not pay for it.
 */
static __always_inline void time_segment(struct flow_totals *totals,
					 const struct packet *p, __u32 sender,
					 __u64 now, __s32 ahead)
{
	__u32 us;

	if (totals->client == CLIENT_UNKNOWN)
		return;
	if (sender != totals->client) {
		if (!p->payload_len)
			return;
		if (ahead < 0) {
			totals->timed = 0;
		} else if (!ahead && !totals->timed) {
			totals->timed_end = p->seq + p->payload_len;
			totals->timed_ns = now;
			totals->timed = 1;
		}
		return;
	}
	if (!totals->timed || !(p->flags & TCP_ACK) ||
	    seq_diff(p->ack, totals->timed_end) < 0)
		return;
	us = rtt_us(totals->timed_ns, now);
	if (us < totals->rtt_min_us)
		totals->rtt_min_us = us;
	totals->timed = 0;
}

/* Super-packets count as the packets they stand for. */
static __always_inline __u32 packets_of(struct __sk_buff *skb,
					const struct packet *p)
{
	__u32 segs = skb->gso_segs, size = skb->gso_size;

	if (segs)
		return segs;
	if (size && p->payload_len > size)
		return (p->payload_len + size - 1) / size;
	return 1;
}

#endif

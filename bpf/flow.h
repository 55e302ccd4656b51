/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* A connection: its beginning, the account of its packets, its end. */
#ifndef DECKWIRE_FLOW_H
#define DECKWIRE_FLOW_H

#include "limits.h"
#include "abi.h"
#include "net.h"
#include "half_open.h"
#include "receiver.h"
#include "seq.h"
#include "timing.h"
#include "tls_records.h"
#include "heads.h"

static __always_inline void side_begin(struct flow_totals *totals, __u8 end,
				       const struct syn_packet *syn)
{
	struct flow_side *side = &totals->side[end & 1];

	side->packets = 1 + syn->retransmits;
	side->bytes = syn->payload_len;
	side->retransmits = syn->retransmits;
	totals->end[end & 1].sent = syn->seq + 1;
	side->tls_seq = syn->seq + 1;
	side->tls_state = TLS_START;
	side->flags = SIDE_SEEN;
}

/*
 * A client whose SYN had data that the server took (RFC 7413). Both sides are
 * in the state that they have after a sampled segment with these bytes.
 */
static __always_inline void side_begin_with_data(struct flow_side *side,
						 struct flow_side *peer,
						 const struct half_open *half)
{
	__u32 taken = half->synack.ack - half->syn.seq - 1;

	if (!half->syn_record) {
		side->tls_state = TLS_WATCH;
		head_decide(side, HEAD_PAYLOAD, 0);
		return;
	}
	side->tls_samples = 1;
	side->tls_bytes = taken;
	if (half->syn_record >= SYN_HEAD && half->syn_record != SYN_UNDECIDED) {
		side->tls_state = TLS_WATCH;
		head_begin_in_syn(side, peer, half->syn_record & 3, taken);
		return;
	}
	if (half->syn_record == SYN_UNDECIDED) {
		/* the agent has the first bytes, and needs the next ones */
		side->tls_seq = half->syn.seq + 1;
		return;
	}
	side->tls_state = TLS_OPEN;
	side->offers |= OFFER_HELLO;
	side->tls_seq = half->syn.seq + 1 + half->syn_record;
	peer->tls_state = TLS_OPEN;
	peer->flags |= SIDE_TLS_FRESH;
}

/* A side whose SYN we did not see: its first segment comes after a hole. */
static __always_inline void side_begin_unseen(struct flow_side *side)
{
	side->tls_state = TLS_WATCH;
	/* nor did we see its first bytes */
	head_decide(side, HEAD_PAYLOAD, 0);
}

/*
 * The server's SYN-ACK. It shows where the client begins, and which data of the
 * SYN was accepted: all other data counts as not sent.
 */
static __always_inline void side_begin_answer(struct flow_totals *totals,
					      __u8 client,
					      const struct half_open *half)
{
	struct flow_end *own = &totals->end[!(client & 1)];
	struct flow_end *peer = &totals->end[client & 1];
	struct flow_side *side = &totals->side[client & 1];

	side_begin(totals, !client, &half->synack);
	totals->side[!(client & 1)].flags |= SIDE_ACKED;
	side->flags |= SIDE_ACKED;
	own->acked = half->synack.ack;
	own->edge = half->synack.ack + half->synack.window;
	peer->acked = half->synack.seq + 1;
	peer->edge = half->synack.seq + 1 + half->syn.window;
	peer->sent = half->synack.ack;
	side->flags |= SIDE_SEEN;
	side->tls_seq = half->synack.ack;
	side->tls_state = TLS_START;
	head_decide(side, HEAD_UNDECIDED, 0);
}

/* A connection that was half-open. It takes over all that was recorded. */
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
	flow->totals.born_ns = half_open_born(half);
	flow->totals.rtt_server_us = RTT_UNKNOWN;
	flow->totals.rtt_client_us = RTT_UNKNOWN;
	flow->totals.rtt_min_us = RTT_UNKNOWN;
	if (half->syn.ip_version && half->synack.ip_version &&
	    !((half->syn.ip_flags | half->synack.ip_flags) &
	      IP_FLAG_REASSEMBLED))
		flow->totals.rtt_server_us =
			rtt_us(half->syn.time_ns, half->synack.time_ns);
	if (half->syn.ip_version)
		side_begin(&flow->totals, client, &half->syn);
	else
		side_begin_unseen(&flow->totals.side[client]);
	if (half->synack.ip_version) {
		side_begin_answer(&flow->totals, client, half);
		if (half->syn.ip_version &&
		    half->synack.ack != half->syn.seq + 1)
			side_begin_with_data(&flow->totals.side[client],
					     &flow->totals.side[!client], half);
	} else {
		side_begin_unseen(&flow->totals.side[!client]);
	}
}

/* Has another segment completed the handshake of this connection already? */
static __always_inline int is_same_handshake(const struct flow *present,
					     const struct flow *fresh)
{
	return present->totals.born_ns == fresh->totals.born_ns &&
	       present->synack.seq == fresh->synack.seq;
}

/* The SYN came late, after data of the server: see precedes_synack(). */
static __always_inline void flow_add_syn(struct flow *flow,
					 const struct half_open *half)
{
	struct flow_side *side = &flow->totals.side[half->client & 1];

	if (flow->syn.ip_version || !half->syn.ip_version)
		return;
	flow->syn = half->syn;
	side->packets += 1 + half->syn.retransmits;
	side->bytes += half->syn.payload_len;
	side->retransmits += half->syn.retransmits;
}

/* A mid-stream connection of which nothing was recorded. */
static __always_inline void flow_begin_midstream(struct flow *flow, __u64 now)
{
	__builtin_memset(flow, 0, sizeof(*flow));
	flow->totals.born_ns = now;
	flow->totals.last_ns = now;
	flow->totals.min_iat_ns = -1;
	flow->totals.rtt_server_us = RTT_UNKNOWN;
	flow->totals.rtt_client_us = RTT_UNKNOWN;
	flow->totals.rtt_min_us = RTT_UNKNOWN;
	flow->totals.client = CLIENT_UNKNOWN;
	side_begin_unseen(&flow->totals.side[0]);
	side_begin_unseen(&flow->totals.side[1]);
}

/*
 * Round-trip times of an open connection: from data of the server to the
 * client's ACK of it, one at a time. Retransmissions are not timed (Karn,
 * RFC 6298, 3). flow_bulk() does not call this, so bulk data costs nothing.
 */
static __always_inline void time_segment(struct flow_totals *totals,
					 const struct packet *p, __u32 sender,
					 __u64 now, __s32 ahead)
{
	struct flow_side *server = &totals->side[!(totals->client & 1)];
	__u32 us;

	if (totals->client == CLIENT_UNKNOWN)
		return;
	if (p->ip_flags & IP_FLAG_REASSEMBLED) {
		totals->timed = 0;
		return;
	}
	if (sender != totals->client) {
		if (!p->payload_len)
			return;
		if (ahead < 0) {
			totals->timed = 0;
		} else if (!ahead && !totals->timed) {
			server->timed_end = p->seq + p->payload_len;
			totals->timed_ns = now;
			totals->timed = 1;
		}
		return;
	}
	if (!totals->timed || !(p->flags & TCP_ACK) ||
	    seq_diff(p->ack, server->timed_end) < 0)
		return;
	us = rtt_us(totals->timed_ns, now);
	if (us < totals->rtt_min_us)
		totals->rtt_min_us = us;
	totals->timed = 0;
}

/* A super-packet counts as the packets that it was made of. */
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

/*
 * Is this the SYN-ACK of an open connection, sent again? Where both ends have
 * sent a SYN, the client's is repeated as a SYN-ACK too.
 */
static __always_inline int
repeats_handshake(const struct flow *flow, const struct packet *p, __u8 sender)
{
	const struct syn_packet *syn =
		sender == flow->totals.client ? &flow->syn : &flow->synack;

	return flow->totals.close == CLOSE_NONE && flow->synack.ip_version &&
	       syn->ip_version && syn->seq == p->seq;
}

/* A SYN-ACK that is repeated although the handshake is complete. */
static __always_inline void flow_repeat_handshake(struct flow *flow,
						  const struct packet *p,
						  __u8 sender, __u64 now)
{
	struct flow_side *side = &flow->totals.side[sender & 1];

	note_packet(p, now, &flow->totals.last_ns, &flow->totals.min_iat_ns,
		    &flow->totals.max_iat_ns);
	side->packets++;
	side->retransmits++;
	if (sender != flow->totals.client && flow->synack.retransmits < 255)
		flow->synack.retransmits++;
}

/* Flags of the segments that flow_bulk() takes. */
static __always_inline int is_plain(const struct packet *p)
{
	return (p->flags & (TCP_SYN | TCP_ACK | TCP_FIN | TCP_RST | TCP_URG)) ==
	       TCP_ACK;
}

/*
 * Accounts a segment of a known connection that needs nothing else. Most
 * segments are such. 0 if it may need more: nothing has changed then. One that
 * was searched begins and holds no hello.
 */
static __always_inline int flow_bulk(struct __sk_buff *skb, struct counters *c,
				     const struct packet *p, struct flow *flow,
				     __u32 sender, __u64 now, int ingress,
				     int searched)
{
	struct flow_side *side = &flow->totals.side[sender & 1];
	const struct flow_side *peer = &flow->totals.side[!(sender & 1)];
	struct flow_end *own = &flow->totals.end[sender & 1];

	if (flow->totals.close | flow->totals.no_bulk | flow->totals.timed)
		return 0;
	if (!plainly_good(&flow->totals, p, sender, ingress))
		return 0;
	/* see sample_sack() */
	if (has_sack(side, p) && wants_sack(side, peer))
		return 0;
	if (!(side->flags & SIDE_SEEN) ||
	    (__s64)(now - flow->totals.last_ns) > (__s64)RTT_PAUSE_NS)
		return 0;
	if (side->tls_state != TLS_DONE && p->payload_len &&
	    (side->tls_state != TLS_WATCH || is_wanted(side) ||
	     (seq_diff(p->seq, own->sent) > 0 && wants_after_hole(side)) ||
	     ((seq_diff(p->seq, own->sent) > 0 ||
	       has_hole(side, &flow->totals.end[!(sender & 1)])) &&
	      !in_run(&flow->totals, sender)) ||
	     (!searched && !continues_run(&flow->totals, p, sender) &&
	      (is_searchable(side, p) ||
	       may_begin_record(skb, p->l4_off + p->tcp_len)))))
		return 0;
	if (p->payload_len)
		note_run(&flow->totals, p, sender);
	c->frames_flow++;
	note_interval(now, &flow->totals.last_ns, &flow->totals.min_iat_ns,
		      &flow->totals.max_iat_ns);
	side->packets += packets_of(skb, p);
	side->bytes += p->payload_len;
	side_account(side, own, p);
	note_ack(side, own, p);
	return 1;
}

/*
 * Could anybody have forged this connection, blindly? The handshake was not
 * seen, and no end has acknowledged what the other one sent.
 */
static __always_inline int is_unproven(const struct flow_totals *totals)
{
	return (totals->flags & (FLOW_MIDSTREAM | FLOW_PROVEN)) ==
	       FLOW_MIDSTREAM;
}

/*
 * Does this segment show that both ends take part in a mid-stream connection?
 * It acknowledges the other end's payload to the byte, and is no RST, with
 * which a closed port answers payload.
 */
static __always_inline int proves(const struct flow_totals *totals,
				  __u32 sender, const struct packet *p)
{
	return (p->flags & (TCP_ACK | TCP_RST)) == TCP_ACK &&
	       totals->side[!(sender & 1)].bytes &&
	       p->ack == totals->end[!(sender & 1)].sent;
}

/* May this segment hold the first payload of a client whose SYN we saw? */
static __always_inline int may_be_hello(const struct flow *flow,
					const struct packet *p, __u8 sender)
{
	const struct flow_side *side = &flow->totals.side[sender & 1];

	return sender == flow->totals.client && p->payload_len &&
	       !(p->flags & TCP_RST) && flow->totals.close == CLOSE_NONE &&
	       side->tls_state == TLS_START && !side->tls_samples &&
	       !(flow->totals.flags & FLOW_MIDSTREAM);
}

/* Does the agent hold handshake bytes until it gets the end? */
static __always_inline int tls_unfinished(const struct flow_totals *totals)
{
	const struct flow_side *a = &totals->side[0], *b = &totals->side[1];

	if (!(a->tls_samples | b->tls_samples))
		return 0;
	return a->tls_state != TLS_DONE || b->tls_state != TLS_DONE ||
	       totals->flags & FLOW_TLS_CUT;
}

/* May this be a probe of a scan? Each one counts, of a known service too. */
static __always_inline int may_be_scan(const struct flow_totals *totals)
{
	if (!(totals->side[0].bytes | totals->side[1].bytes))
		return 1;
	return totals->side[0].packets + totals->side[1].packets <
		       PROBE_PACKETS &&
	       !(totals->side[0].retransmits | totals->side[1].retransmits) &&
	       totals->last_ns - totals->born_ns < PROBE_NS;
}

/*
 * Notes that another attempt on the 4-tuple of this connection has a SYN-ACK.
 * Only note_lost_handshake() writes this byte too, when the connection begins.
 * So no other CPU overwrites the bit, which nothing would set again.
 */
static __always_inline void note_pending(struct flow *flow)
{
	flow->syn.ip_flags |= HANDSHAKE_PENDING;
	flow->totals.no_bulk = 1;
}

/* May another connection take the place of this one? */
static __always_inline int is_pending(const struct flow *flow)
{
	/* no_bulk first: it is in a cache line that is read anyway */
	return flow->totals.no_bulk && flow->syn.ip_flags & HANDSHAKE_PENDING;
}

/* The initial sequence number of an end, by what opened the connection. */
static __always_inline __u32 initial_seq(const struct flow *flow, __u8 end)
{
	if ((end & 1) != flow->totals.client)
		return flow->synack.seq;
	return flow->syn.ip_version ? flow->syn.seq : flow->synack.ack - 1;
}

/* One more in `ends`. Only whole words can be added to atomically. */
#define END_FOUND 0x10000

/*
 * Is this CPU the one that samples the end of the connection? While one finds
 * the end, another one may account a segment of the other direction and find it
 * too. If both add before either reads, neither is the one: then the end is
 * left to the agent's sweep.
 */
static __always_inline int claim_end(struct flow_totals *totals)
{
	__sync_fetch_and_add((__u32 *)&totals->source_slot, END_FOUND);
	return *(volatile __u8 *)&totals->ends == 1;
}

/* How a connection ended whose 4-tuple another one takes over. */
static __always_inline enum flow_close
close_of_replaced(const struct flow_totals *totals)
{
	if (totals->close != CLOSE_NONE)
		return totals->close;
	if ((totals->side[0].flags | totals->side[1].flags) & SIDE_FIN)
		return CLOSE_FIN;
	return CLOSE_IDLE;
}

#endif

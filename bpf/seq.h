/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The sequence space of one side (RFC 9293, 3.4): new bytes, bytes that fill a
 * hole, and retransmissions.
 */
#ifndef DECKWIRE_SEQ_H
#define DECKWIRE_SEQ_H

#include "abi.h"
#include "net.h"

/*
 * Flags of a struct flow_side. Its own segments write them, and three are
 * written by the other end's: FIN and FIN_ACKED by the ACK of a FIN, TLS_FRESH
 * by a hello. Their CPUs may write at once and lose a bit. That needs payload
 * that is on its way at that moment: sent again behind a FIN, whose ACK is then
 * sent again too, or before a TLS server has read the hello.
 */
#define SIDE_SEEN 0x1
#define SIDE_FIN 0x2
#define SIDE_FIN_ACKED 0x4
#define SIDE_HOLE 0x8
#define SIDE_TLS_FRESH 0x10 /* the next record header starts TLS */
#define SIDE_ACKED 0x20	    /* acked and edge of its flow_end are valid */
#define SIDE_PUSHED 0x40    /* its last payload ended a write */
#define SIDE_URGENT 0x80    /* it sent urgent data: tls_scan() is lost */

/* a - b in sequence space. */
static __always_inline __s32 seq_diff(__u32 a, __u32 b)
{
	return (__s32)(a - b);
}

/*
 * Does the receiver wait for bytes before others? It has all up to its ACK,
 * although holes that are filled piece by piece leave a range in the account.
 */
static __always_inline int has_hole(const struct flow_side *side,
				    const struct flow_end *peer)
{
	return side->flags & SIDE_HOLE &&
	       seq_diff(side->hole_end, peer->acked) > 0;
}

/* The distance from sent of a segment in which every byte is repeated. */
#define AHEAD_REPEATED (-0x7fffffff - 1)

/* Has this segment, of the distance ahead, no byte that fills a hole either? */
static __always_inline int is_repeated(const struct flow_side *side,
				       const struct packet *p, __s32 ahead)
{
	return ahead < 0 && !(side->flags & SIDE_HOLE) &&
	       ahead + (__s32)p->payload_len <= 0;
}

/*
 * Takes a segment into the account of its side. Holes merge into one range, so
 * reordered or late bytes never count as retransmitted. A retransmission inside
 * the range is then not counted either. A keep-alive probe (RFC 9293, 3.8.4: at
 * most one byte at sent - 1, not pushed) is no retransmission.
 */
static __always_inline void side_account(struct flow_side *side,
					 struct flow_end *own,
					 const struct packet *p)
{
	__u32 seq = p->seq, sent = own->sent;
	__u32 len = p->payload_len + (p->flags & TCP_FIN ? 1 : 0);
	__u32 end = seq + len;
	__s32 ahead;

	if (!(side->flags & SIDE_SEEN)) {
		side->flags |= SIDE_SEEN;
		own->sent = end;
		return;
	}
	if (!len)
		return;
	ahead = seq_diff(seq, sent);
	if (!ahead) {
		own->sent = end;
		return;
	}
	if (ahead > 0) {
		if (!(side->flags & SIDE_HOLE)) {
			side->flags |= SIDE_HOLE;
			side->hole_start = sent;
		}
		side->hole_end = seq;
		own->sent = end;
		return;
	}
	if (seq_diff(end, sent) > 0)
		own->sent = end;
	if (side->flags & SIDE_HOLE && seq_diff(end, side->hole_start) > 0 &&
	    seq_diff(seq, side->hole_end) < 0) {
		if (seq_diff(seq, side->hole_start) <= 0)
			side->hole_start = end;
		else if (seq_diff(end, side->hole_end) >= 0)
			side->hole_end = seq;
		if (seq_diff(side->hole_start, side->hole_end) >= 0)
			side->flags &= ~SIDE_HOLE;
		return;
	}
	if (len == 1 && ahead == -1 && !(p->flags & (TCP_PSH | TCP_FIN)))
		return;
	side->retransmits++;
}

/*
 * Does this ACK have more options than timestamps? Then it says which bytes its
 * sender holds out of order (RFC 2018), and what came twice (RFC 2883).
 */
static __always_inline int has_sack(const struct flow_side *side,
				    const struct packet *p)
{
	return !p->payload_len &&
	       p->tcp_len > (side->offers & OFFER_STAMPED ? 32 : 20);
}

/* Bytes that the receiver has accepted already, or a keep-alive probe. */
static __always_inline void account_old(struct flow_side *side,
					const struct packet *p)
{
	if (p->payload_len > 1 || p->flags & (TCP_PSH | TCP_FIN))
		side->retransmits++;
}

/* Takes in what the ACK of a segment announces. It only moves forward. */
static __always_inline void
note_ack(struct flow_side *side, struct flow_end *own, const struct packet *p)
{
	__u32 edge =
		p->ack + ((__u32)p->window << (side->offers & OFFER_SCALE));

	if (seq_diff(p->ack, own->acked) > 0)
		own->acked = p->ack;
	if (seq_diff(edge, own->edge) > 0)
		own->edge = edge;
}

/* The same of a connection of which no ACK may have been seen. */
static __always_inline void note_first_ack(struct flow_side *side,
					   struct flow_end *own,
					   const struct packet *p)
{
	if (!(side->flags & SIDE_ACKED)) {
		side->flags |= SIDE_ACKED;
		own->acked = p->ack;
		own->edge = p->ack + p->window;
	}
	note_ack(side, own, p);
}

/*
 * A RST ends a connection that is not judged only if its receiver would accept
 * it (RFC 5961, 3.2), as far as we have seen the expected seq from either side.
 * A blind RST does not count.
 */
static __always_inline int rst_acceptable(const struct flow_totals *totals,
					  __u32 sender, __u32 seq)
{
	const struct flow_side *side = &totals->side[sender & 1];
	const struct flow_side *peer = &totals->side[!(sender & 1)];

	return (side->flags & SIDE_SEEN &&
		seq == totals->end[sender & 1].sent) ||
	       (peer->flags & SIDE_ACKED &&
		seq == totals->end[!(sender & 1)].acked);
}

/* Notes FINs and their acknowledgements. 1 when both sides have closed. */
static __always_inline int side_close(struct flow_side *sender,
				      struct flow_side *receiver,
				      const struct flow_end *receiver_end,
				      const struct packet *p)
{
	__u32 fin_seq = p->seq + p->payload_len;

	/* of two FINs the receiver takes the first one in the stream */
	if (p->flags & TCP_FIN && (!(sender->flags & SIDE_FIN) ||
				   seq_diff(fin_seq, sender->fin_seq) < 0)) {
		sender->flags |= SIDE_FIN;
		sender->fin_seq = fin_seq;
		/* one that came in fragments comes after its acknowledgement */
		if (p->ip_flags & IP_FLAG_REASSEMBLED &&
		    seq_diff(receiver_end->acked, fin_seq) > 0)
			sender->flags |= SIDE_FIN_ACKED;
	}
	if (receiver->flags & SIDE_FIN && p->flags & TCP_ACK &&
	    seq_diff(p->ack, receiver->fin_seq) > 0) {
		/* nothing follows a FIN that was taken */
		if (seq_diff(p->ack, receiver->fin_seq) > 1)
			receiver->flags &= ~(SIDE_FIN | SIDE_FIN_ACKED);
		else
			receiver->flags |= SIDE_FIN_ACKED;
	}
	return sender->flags & SIDE_FIN_ACKED &&
	       receiver->flags & SIDE_FIN_ACKED;
}

#endif

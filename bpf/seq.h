/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The sequence space of one side (RFC 9293, 3.4): new bytes, bytes that fill a
 * hole, and retransmissions.
 */
#ifndef DECKWIRE_SEQ_H
#define DECKWIRE_SEQ_H

#include "abi.h"
#include "net.h"

/* Flags of a struct flow_side. */
#define SIDE_SEEN 0x1
#define SIDE_FIN 0x2
#define SIDE_FIN_ACKED 0x4
#define SIDE_HOLE 0x8
#define SIDE_TLS_FRESH 0x10  /* the next record header starts TLS */
#define SIDE_ACKED 0x20	     /* last_ack is valid */
#define SIDE_PUSHED 0x40     /* its last payload ended a write */
#define SIDE_TLS_CLIENT 0x80 /* a ClientHello began here */

/* a - b in sequence space. */
static __always_inline __s32 seq_diff(__u32 a, __u32 b)
{
	return (__s32)(a - b);
}

/*
 * Takes a segment into the account of its side. Holes merge into one range, so
 * reordered or late bytes never count as retransmitted. A retransmission inside
 * the range is then not counted either. A keep-alive probe (RFC 9293, 3.8.4: at
 * most one byte at next_seq - 1, not pushed) is no retransmission.
 */
static __always_inline void side_account(struct flow_side *side,
					 const struct packet *p)
{
	__u32 seq = p->seq;
	__u32 len = p->payload_len + (p->flags & TCP_FIN ? 1 : 0);
	__u32 end = seq + len;
	__s32 ahead;

	if (!(side->flags & SIDE_SEEN)) {
		side->flags |= SIDE_SEEN;
		side->next_seq = end;
		return;
	}
	ahead = seq_diff(seq, side->next_seq);
	if (!ahead) {
		side->next_seq = end;
		return;
	}
	if (!len)
		return;
	if (ahead > 0) {
		if (!(side->flags & SIDE_HOLE)) {
			side->flags |= SIDE_HOLE;
			side->hole_start = side->next_seq;
		}
		side->hole_end = seq;
		side->next_seq = end;
		return;
	}
	if (side->flags & SIDE_HOLE && seq_diff(end, side->hole_start) > 0 &&
	    seq_diff(seq, side->hole_end) < 0) {
		if (seq_diff(seq, side->hole_start) <= 0)
			side->hole_start = end;
		else if (seq_diff(end, side->hole_end) >= 0)
			side->hole_end = seq;
		if (seq_diff(side->hole_start, side->hole_end) >= 0)
			side->flags &= ~SIDE_HOLE;
		if (seq_diff(end, side->next_seq) > 0)
			side->next_seq = end;
		return;
	}
	if (len == 1 && ahead == -1 && !(p->flags & (TCP_PSH | TCP_FIN)))
		return;
	side->retransmits++;
	if (seq_diff(end, side->next_seq) > 0)
		side->next_seq = end;
}

/*
 * A RST ends a connection only if its receiver would accept it (RFC 5961, 3.2),
 * as far as we have seen the expected seq from either side. A blind RST does
 * not count.
 */
static __always_inline int rst_acceptable(const struct flow_side *sender,
					  const struct flow_side *receiver,
					  __u32 seq)
{
	return (sender->flags & SIDE_SEEN && seq == sender->next_seq) ||
	       (receiver->flags & SIDE_ACKED && seq == receiver->last_ack);
}

/* Notes FINs and their acknowledgements. 1 when both sides have closed. */
static __always_inline int side_close(struct flow_side *sender,
				      struct flow_side *receiver,
				      const struct packet *p)
{
	if (p->flags & TCP_FIN) {
		sender->flags |= SIDE_FIN;
		sender->fin_seq = p->seq + p->payload_len;
	}
	if (receiver->flags & SIDE_FIN && p->flags & TCP_ACK &&
	    seq_diff(p->ack, receiver->fin_seq) > 0)
		receiver->flags |= SIDE_FIN_ACKED;
	return sender->flags & SIDE_FIN_ACKED &&
	       receiver->flags & SIDE_FIN_ACKED;
}

#endif

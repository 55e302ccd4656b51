/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * How much of a segment may be clear-text handshake: the walk over its record
 * headers, from the state that the side keeps between segments.
 */
#ifndef DECKWIRE_TLS_RECORDS_H
#define DECKWIRE_TLS_RECORDS_H

#include "limits.h"
#include "net.h"
#include "abi.h"
#include "seq.h"
#include "tls.h"

/* The client's hello: the server's next byte begins a record. */
static __always_inline void open_peer(struct flow_side *peer,
				      const struct packet *p)
{
	if (peer->tls_state == TLS_OPEN || peer->tls_state == TLS_DONE)
		return;
	peer->tls_state = TLS_OPEN;
	peer->tls_matched = 0;
	peer->tls_header = 0;
	peer->tls_seq = peer->flags & SIDE_SEEN ? peer->next_seq : p->ack;
	peer->flags |= SIDE_TLS_FRESH;
}

/*
 * Does this segment go on with what the one before it began? Nobody begins TLS
 * in the middle of a write, nor without a word of the other end after 64 KB:
 * to look for it would read each segment of bulk data, which is in fragments.
 */
static __always_inline int continues_run(const struct flow_totals *totals,
					 const struct packet *p, __u32 sender)
{
	const struct flow_side *side = &totals->side[sender & 1];

	return side->bytes >= TLS_RUN_BYTES && !(side->flags & SIDE_PUSHED) &&
	       totals->talker == (sender & 1) && p->seq == side->next_seq;
}

/* What continues_run() goes by, of a segment with payload. */
static __always_inline void note_run(struct flow_totals *totals,
				     const struct packet *p, __u32 sender)
{
	struct flow_side *side = &totals->side[sender & 1];

	if (p->flags & TCP_PSH)
		side->flags |= SIDE_PUSHED;
	else
		side->flags &= ~SIDE_PUSHED;
	totals->talker = sender & 1;
}

/* Could a hello's record begin here? Bulk data shows at one linear byte. */
static __always_inline int may_begin_record(struct __sk_buff *skb, __u64 off)
{
	__u8 *first;

	if (off > MAX_LINEAR_OFFSET)
		return 1;
	/* Linux 5.10 forgets the bound of a scalar that was on the stack */
	asm volatile("%0 &= 0xfff" : "+r"(off));
	first = (void *)(long)skb->data + off;
	if ((void *)(first + 1) > (void *)(long)skb->data_end)
		return 1;
	return *first == TLS_HANDSHAKE;
}

/*
 * Walks the record headers that begin in this segment, from the byte at pos;
 * walk->cut tells how many bytes of the payload are worth a sample. The walk
 * stands in a map value and is read back at each step, so that the states
 * that the verifier compares at the loop's head are equal.
 */
static __always_inline void
walk_records(struct __sk_buff *skb, volatile struct record_walk *walk,
	     struct flow *flow, struct flow_side *side, struct flow_side *peer,
	     const struct packet *p, __u8 sender, __u32 payload_off)
{
	__u32 want, got, matched, start, pos;
	__u64 header, bytes, last;
	int open, done;

#pragma clang loop unroll(disable)
	for (int i = 0; i < TLS_HEADERS; i++) {
		pos = walk->pos;
		if (pos >= walk->avail)
			return;
		open = side->tls_state == TLS_OPEN;
		matched = side->tls_matched & 7;
		want = (open ? TLS_HEADER_LEN : TLS_PREFIX_LEN) - matched;
		last = walk->avail - pos;
		if (last > sizeof(bytes) - matched)
			last = sizeof(bytes) - matched;
		last--;
		bytes = 0;
		asm volatile("" : "+r"(last));
		if (last >= sizeof(bytes) ||
		    bpf_skb_load_bytes(skb, payload_off + pos, &bytes,
				       last + 1))
			return;
		got = last + 1;
		header = side->tls_header | bytes << (8 * matched);
		if (!open && !prefix_plausible(header, matched + got,
					       side->tls_state != TLS_WATCH)) {
			side->tls_state = TLS_WATCH;
			side->tls_matched = 0;
			side->tls_header = 0;
			walk->cut = 0;
			if (!matched || walk->restarted)
				return;
			/* earlier bytes misled: this segment may begin one */
			walk->restarted = 1;
			walk->pos = 0;
			continue;
		}
		walk->cut = walk->avail;
		if (got < want) {
			side->tls_header = header;
			side->tls_matched = matched + got;
			side->tls_seq = p->seq + pos + got;
			if (!open)
				side->tls_state = TLS_PREFIX;
			return;
		}

		start = pos - matched;
		side->tls_matched = 0;
		side->tls_header = 0;
		done = open && sender == !flow->totals.client &&
		       is_server_hello_done(header);
		if (open && (done || judge_header(header) != RECORD_CLEAR)) {
			side->tls_state =
				done || judge_header(header) == RECORD_CIPHERED
					? TLS_DONE
					: TLS_WATCH;
			side->flags &= ~SIDE_TLS_FRESH;
			if (side->tls_state == TLS_DONE)
				walk->flags |= SAMPLE_TLS_ENDS;
			walk->cut = (__s32)start > 0 ? start : 0;
			return;
		}
		if (!open) {
			side->tls_state = TLS_OPEN;
			side->flags |= SIDE_TLS_FRESH;
			if (prefix_is(header, TLS_CLIENT_HELLO)) {
				if (flow->totals.client == CLIENT_UNKNOWN)
					flow->totals.client = sender;
				open_peer(peer, p);
			} else if (prefix_is(header, TLS_SERVER_HELLO) &&
				   flow->totals.client == CLIENT_UNKNOWN) {
				flow->totals.client = !sender;
			}
		}
		if (side->flags & SIDE_TLS_FRESH) {
			side->flags &= ~SIDE_TLS_FRESH;
			walk->flags |= SAMPLE_TLS_STARTS;
			walk->start_seq = p->seq + start;
		}
		pos = start + TLS_HEADER_LEN + prefix_record_len(header);
		side->tls_seq = p->seq + pos;
		walk->pos = pos;
	}
}

/*
 * Bytes of a segment that may be a hello's although none has begun: what they
 * take stays within a budget of their own, the rest is the handshake's.
 */
static __always_inline __u32 undecided_cut(const struct flow_side *side,
					   __u32 avail)
{
	if (side->tls_bytes >= TLS_UNDECIDED_BYTES)
		return 0;
	if (avail > TLS_UNDECIDED_BYTES - side->tls_bytes)
		return TLS_UNDECIDED_BYTES - side->tls_bytes;
	return avail;
}

/* Decides walk->cut for this segment: see enum tls_state. */
static __always_inline void
tls_scan(struct __sk_buff *skb, volatile struct record_walk *walk,
	 struct flow *flow, struct flow_side *side, struct flow_side *peer,
	 const struct packet *p, __u8 sender, __u32 payload_off, __s32 ahead)
{
	__s32 pos = seq_diff(side->tls_seq, p->seq);

	if (side->tls_state == TLS_WATCH) {
		side->tls_matched = 0;
		side->tls_header = 0;
		if (ahead > 0 && side->tls_holes < TLS_HOLES) {
			side->tls_holes++;
			side->tls_orphans = TLS_ORPHANS;
		}
		pos = 0;
	}
	if (pos < 0) {
		/* behind a hole: keep it while it can still be a hello */
		if (-pos <= TLS_UNDECIDED_BYTES)
			walk->cut = side->tls_state == TLS_OPEN
					    ? walk->avail
					    : undecided_cut(side, walk->avail);
		else if (side->tls_state == TLS_OPEN)
			side->tls_state = TLS_DONE;
		else
			side->tls_state = TLS_WATCH;
		return;
	}
	if ((__u32)pos >= walk->avail) {
		if (side->tls_state == TLS_OPEN)
			walk->cut = walk->avail;
		return;
	}
	walk->pos = pos;
	walk_records(skb, walk, flow, side, peer, p, sender, payload_off);
	if (!walk->cut && side->tls_state == TLS_WATCH && side->tls_orphans) {
		side->tls_orphans--;
		walk->cut = undecided_cut(side, walk->avail);
	}
}

#endif

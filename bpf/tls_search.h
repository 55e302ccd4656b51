/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Searches a segment for a hello that begins behind other bytes: the header of
 * a proxy, a line before STARTTLS, the header of a TDS packet.
 */
#ifndef DECKWIRE_TLS_SEARCH_H
#define DECKWIRE_TLS_SEARCH_H

#include "limits.h"
#include "abi.h"
#include "net.h"
#include "client_hello.h"
#include "tls_records.h"

#define EACH_BYTE 0x0101010101010101ULL
#define HIGHEST_BITS (EACH_BYTE << 7)

/*
 * The highest bit of a byte is 1 if the byte is `value`, and sometimes also if
 * a lower byte is. The other bits mean nothing.
 */
static __always_inline __u64 equal_bits(__u64 word, __u8 value)
{
	word ^= EACH_BYTE * value;
	return (word - EACH_BYTE) & ~word;
}

/*
 * The index of the lowest byte whose highest bit is 1. BPF counts no zeros: the
 * product moves the right byte of a table to the top.
 */
static __always_inline __u32 lowest_byte(__u64 bits)
{
	bits &= -bits;
	return (bits >> 7) * 0x0001020304050607ULL >> 56;
}

/*
 * Is this a hello in a record of another protocol version than SSL 3.0 and
 * TLS? TLCP is 1.1.
 */
static __always_inline int is_unread_hello(__u64 prefix)
{
	return prefix_byte(prefix, 0) == TLS_HANDSHAKE &&
	       prefix_byte(prefix, 1) != 3 &&
	       prefix_record_len(prefix) <= TLS_MAX_RECORD &&
	       (prefix_byte(prefix, 5) == TLS_CLIENT_HELLO ||
		prefix_byte(prefix, 5) == TLS_SERVER_HELLO) &&
	       !prefix_byte(prefix, 6);
}

/* Is the next thing that this end sends perhaps no record? */
static __always_inline int expects_start(const struct flow_side *side,
					 const struct flow_side *peer)
{
	if (side->tls_state <= TLS_PREFIX)
		return 1;
	return side->tls_state == TLS_OPEN &&
	       (side->flags & SIDE_TLS_FRESH ||
		((side->offers & OFFER_HELLO) && !has_answered(peer)));
}

/*
 * The bytes at an offset in the payload, up to eight, as a little-endian word.
 * Returns their number.
 */
static __always_inline __u32 load_prefix(struct __sk_buff *skb,
					 const struct packet *p, __u32 at,
					 __u64 *prefix)
{
	__u64 last;

	if (at >= p->payload_len)
		return 0;
	last = p->payload_len - at;
	if (last > sizeof(*prefix))
		last = sizeof(*prefix);
	last--;
	/* Linux 5.10 loses the bound of a scalar that was on the stack */
	asm volatile("%0 &= 7" : "+r"(last));
	if (bpf_skb_load_bytes(skb, p->l4_off + p->tcp_len + at, prefix,
			       last + 1))
		return 0;
	return last + 1;
}

/*
 * The header that this segment begins or goes on with, as a little-endian word:
 * its bytes in earlier segments too. *at is where this segment's are in the
 * payload. Returns the number of bytes, 0 if this segment has none.
 */
static __always_inline __u32 load_header(struct __sk_buff *skb,
					 const struct flow_side *side,
					 const struct packet *p, __u32 *at,
					 __u64 *header)
{
	__u32 matched = 0, got;
	__u64 bytes = 0;

	*at = 0;
	*header = 0;
	if (side->tls_state != TLS_WATCH) {
		*at = side->tls_seq - p->seq;
		*header = side->tls_header;
		matched = side->tls_bits & BITS_MATCHED;
	}
	got = load_prefix(skb, p, *at, &bytes);
	if (!got)
		return 0;
	*header |= bytes << (8 * matched);
	return matched + got;
}

/* Is the data of this SYN worth a search? If not, a hello may begin it. */
static __always_inline int may_search_syn(struct __sk_buff *skb,
					  const struct packet *p, __u32 *from)
{
	__u64 prefix = 0;
	__u32 got = load_prefix(skb, p, 0, &prefix);

	if (!got)
		return 0;
	*from = 0;
	return !prefix_plausible(prefix, got, 0);
}

/*
 * Is this segment worth a search? The header of the record that is expected
 * decides. Then *from is where it begins or goes on in the payload.
 */
static __always_inline int may_search(struct __sk_buff *skb,
				      const struct flow *flow,
				      const struct packet *p, __u8 sender,
				      __u32 *from)
{
	const struct flow_side *side = &flow->totals.side[sender & 1];
	const struct flow_side *peer = &flow->totals.side[!(sender & 1)];
	__u64 header;
	__u32 at, n;

	if (!p->payload_len || p->flags & TCP_RST || !is_searchable(side, p) ||
	    !expects_start(side, peer) ||
	    (side->tls_state == TLS_WATCH &&
	     earliness(&flow->totals, p, sender)) ||
	    continues_run(&flow->totals, p, sender))
		return 0;
	n = load_header(skb, side, p, &at, &header);
	if (!n)
		return 0;
	if (side->tls_state == TLS_OPEN
		    ? may_be_record(header, n)
		    : prefix_plausible(header, n, side->tls_state != TLS_WATCH))
		return 0;
	*from = at;
	return 1;
}

/*
 * How far to go: no record begins at the cursor, nor before the place that this
 * returns. Few bytes of bulk data could begin one, so four words are looked at
 * in one step. What is behind the bytes that are left was not read.
 */
static __always_inline __u32 step_over(const __u8 *at, __u64 first, __u32 left)
{
	__u64 here = equal_bits(first, TLS_HANDSHAKE) & HIGHEST_BITS & ~0x80ULL;
	__u64 behind;

	if (here) {
		/* the version of 3 follows, perhaps in the next word */
		if (left >= sizeof(first))
			here &= equal_bits(first, 3) >> 8 | 0x80ULL << 56;
		return here ? lowest_byte(here) : sizeof(first);
	}
	behind = equal_bits(word_at(at + 8), TLS_HANDSHAKE);
	behind |= equal_bits(word_at(at + 16), TLS_HANDSHAKE);
	behind |= equal_bits(word_at(at + 24), TLS_HANDSHAKE);
	return behind & HIGHEST_BITS ? sizeof(first) : TLS_SEARCH_STEP;
}

/*
 * Looks for a hello's record from *at on, in TLS_SEARCH_BYTES at most. 1 if *at
 * is its offset, else *at is where to look on: behind what was searched, or at
 * a byte that the end of these bytes cut off from those that decide. The cursor
 * is in a map value, so that the states at the head of the loop stay equal.
 */
static __always_inline int find_record(struct __sk_buff *skb,
				       struct hello_walk *chunk,
				       const struct packet *p, __u32 *at)
{
	volatile __u32 *cursor = &chunk->at;
	__u32 from = *at, here, left;
	const __u8 *bytes;
	__u64 last, word;

	if (from >= p->payload_len)
		return 0;
	last = p->payload_len - from;
	if (last > TLS_SEARCH_BYTES)
		last = TLS_SEARCH_BYTES;
	last--;
	asm volatile("" : "+r"(last));
	if (last >= TLS_SEARCH_BYTES ||
	    bpf_skb_load_bytes(skb, p->l4_off + p->tcp_len + from, chunk->bytes,
			       last + 1))
		return 0;
	*cursor = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < TLS_SEARCH_STEPS; i++) {
		here = *cursor;
		if (here > last)
			break;
		bytes = chunk->bytes + (here & (TLS_SEARCH_BYTES - 1));
		word = word_at(bytes);
		left = last + 1 - here;
		if (prefix_byte(word, 0) == TLS_HANDSHAKE &&
		    prefix_plausible(word, left, 0)) {
			*at = from + here;
			return left >= TLS_PREFIX_LEN ||
			       last < TLS_SEARCH_BYTES - 1 ||
			       from + TLS_SEARCH_BYTES >= p->payload_len;
		}
		*cursor = here + step_over(bytes, word, left);
	}
	/* a step goes beyond these bytes, and what is there was not read */
	here = *cursor;
	if (here > last)
		here = last + 1;
	*at = from + here;
	return 0;
}

#endif

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Clear-text TLS records in one direction (RFC 8446, 5.1; RFC 5246, 6.2.1):
 * where they begin and end, and how much of a segment is worth a sample.
 */
#ifndef DECKWIRE_TLS_RECORDS_H
#define DECKWIRE_TLS_RECORDS_H

#include "limits.h"
#include "abi.h"
#include "net.h"
#include "seq.h"

#define TLS_CHANGE_CIPHER_SPEC 20
#define TLS_ALERT 21
#define TLS_HANDSHAKE 22
#define TLS_HEARTBEAT 24
#define TLS_CLIENT_HELLO 1
#define TLS_SERVER_HELLO 2

#define TLS_HEADER_LEN 5
#define TLS_PREFIX_LEN 6 /* the header and the message type */
#define TLS_MAX_RECORD (16384 + 2048)

/* A byte of a record's first eight, held as a little-endian word. */
static __always_inline __u8 prefix_byte(__u64 prefix, int i)
{
	return prefix >> (8 * i);
}

static __always_inline __u16 prefix_record_len(__u64 prefix)
{
	return prefix_byte(prefix, 3) << 8 | prefix_byte(prefix, 4);
}

/*
 * Could the first n bytes begin a hello of SSL 2.0 (RFC 5246, E.2)? It has a
 * length of two bytes with the highest bit set, then type, version and the
 * length of its cipher specs, of three bytes each.
 */
static __always_inline int ssl2_plausible(__u64 prefix, __u32 n)
{
	__u16 specs = prefix_byte(prefix, 5) << 8 | prefix_byte(prefix, 6);

	if (n > 2 && prefix_byte(prefix, 2) != TLS_CLIENT_HELLO)
		return 0;
	if (n > 3 && prefix_byte(prefix, 3) != 3 && prefix_byte(prefix, 3))
		return 0;
	if (n > 4 && !prefix_byte(prefix, 3) && prefix_byte(prefix, 4) != 2)
		return 0;
	return n < 7 || (specs && specs % 3 == 0);
}

static __always_inline int is_ssl2(__u64 prefix)
{
	return prefix_byte(prefix, 0) & 0x80;
}

/*
 * Could the first n bytes begin a hello? Every version of {3, any} is taken
 * (RFC 5246, E.1; RFC 8446, 5.1). At the start of a connection, an alert or an
 * empty record may come before it.
 */
static __always_inline int prefix_plausible(__u64 prefix, __u32 n, int at_start)
{
	__u8 type = prefix_byte(prefix, 0);
	__u16 len;

	if (is_ssl2(prefix))
		return ssl2_plausible(prefix, n);
	if (type != TLS_HANDSHAKE && !(at_start && type == TLS_ALERT))
		return 0;
	if (n > 1 && prefix_byte(prefix, 1) != 3)
		return 0;
	if (n < TLS_HEADER_LEN)
		return 1;
	len = prefix_record_len(prefix);
	if (len > TLS_MAX_RECORD)
		return 0;
	if (type == TLS_ALERT)
		return len == 2;
	if (!len)
		return at_start;
	if (n < TLS_PREFIX_LEN)
		return 1;
	return prefix_byte(prefix, 5) == TLS_CLIENT_HELLO ||
	       prefix_byte(prefix, 5) == TLS_SERVER_HELLO;
}

/* The bytes of a record with its header. */
static __always_inline __u32 record_size(__u64 prefix)
{
	if (is_ssl2(prefix))
		return 2 + ((prefix_byte(prefix, 0) & 0x7f) << 8 |
			    prefix_byte(prefix, 1));
	return TLS_HEADER_LEN + prefix_record_len(prefix);
}

/* Does a handshake record begin with this message? */
static __always_inline int prefix_is(__u64 prefix, __u8 message)
{
	return prefix_byte(prefix, 0) == TLS_HANDSHAKE &&
	       prefix_byte(prefix, 5) == message;
}

/*
 * All 0 in a ServerHelloDone (RFC 5246, 7.4.5) that fills its record, by the
 * first eight of nine bytes. Nothing in the clear that a server sends after it
 * is used.
 */
static __always_inline __u64 server_hello_done_bits(__u64 bytes)
{
	return (bytes & 0xffffffffff00ffffULL) ^ 0x00000e0400000316ULL;
}

static __always_inline int is_server_hello_done(__u64 bytes)
{
	return !server_hello_done_bits(bytes);
}

/* Could the first n bytes of a header be those of a record? */
static __always_inline int may_be_record(__u64 header, __u32 n)
{
	if (prefix_byte(header, 0) < TLS_CHANGE_CIPHER_SPEC ||
	    prefix_byte(header, 0) > TLS_HEARTBEAT)
		return 0;
	if (n > 1 && prefix_byte(header, 1) != 3)
		return 0;
	return n < TLS_HEADER_LEN ||
	       prefix_record_len(header) <= TLS_MAX_RECORD;
}

enum record_verdict {
	RECORD_CLEAR,	  /* handshake or alert: sampled */
	RECORD_CHANGE,	  /* ChangeCipherSpec: clear text may follow */
	RECORD_ENCRYPTED, /* nothing in the clear from here on */
	RECORD_NONE,	  /* not TLS */
};

static __always_inline enum record_verdict judge_header(__u64 header)
{
	__u8 type = prefix_byte(header, 0);

	if (!may_be_record(header, TLS_HEADER_LEN))
		return RECORD_NONE;
	if (type == TLS_HANDSHAKE || type == TLS_ALERT)
		return RECORD_CLEAR;
	if (type == TLS_CHANGE_CIPHER_SPEC && prefix_record_len(header) <= 1)
		return RECORD_CHANGE;
	return RECORD_ENCRYPTED;
}

/* The state of one direction. */
enum tls_state {
	TLS_START,  /* no byte was seen yet: in-order bytes decide */
	TLS_WATCH,  /* not TLS so far: a record may still begin */
	TLS_PREFIX, /* some bytes of a hello's prefix matched */
	TLS_OPEN,   /* clear-text records: tls_seq is that of the next header */
	TLS_DONE,   /* encrypted, over budget or not admitted */
};

/* Notes how many bytes of a header in two segments tls_header has. */
static __always_inline void set_matched(struct flow_side *side, __u32 matched)
{
	side->tls_bits = (side->tls_bits & ~BITS_MATCHED) | matched;
}

/* Is this end's next segment wanted, whatever it holds? One load answers it. */
static __always_inline __u16 is_wanted(const struct flow_side *side)
{
	__u16 both;

	__builtin_memcpy(&both, &side->tls_orphans, sizeof(both));
	return both;
}

/* Are segments wanted after the next hole of this side? */
static __always_inline int wants_after_hole(const struct flow_side *side)
{
	return (side->tls_bits & BITS_HOLES) < TLS_HOLES * BITS_HOLE;
}

/*
 * Is an ACK of this side with SACK blocks wanted? It shows which handshake
 * bytes of its peer are held out of order.
 */
static __always_inline int wants_sack(const struct flow_side *side,
				      const struct flow_side *peer)
{
	return peer->flags & SIDE_HOLE && peer->tls_samples &&
	       peer->tls_state != TLS_DONE && side->tls_samples < TLS_SACKS;
}

/* What the first bytes of this end look like: enum head_kind. */
static __always_inline __u32 head_kind(const struct flow_side *side)
{
	return side->tls_bits >> BITS_HEAD;
}

/*
 * The chain of an end that speaks SSH, or 0: see ssh_head.h. As long as no
 * record begins, it has the place of one's header.
 */
static __always_inline __u64 head_chain(const struct flow_side *side)
{
	return side->tls_state == TLS_WATCH && head_kind(side) == HEAD_SSH
		       ? side->tls_header
		       : 0;
}

/* Has this end sent a record of TLS in response to the other one's hello? */
static __always_inline int has_answered(const struct flow_side *side)
{
	return side->tls_state == TLS_DONE ||
	       (side->tls_state == TLS_OPEN && !(side->flags & SIDE_TLS_FRESH));
}

/*
 * Has TLS begun, as far as this end can have ended its clear text? Its peer has
 * answered its hello, or it answers the peer's. Anybody can send a line of
 * another protocol that looks like the records of a whole handshake.
 */
static __always_inline int has_begun(const struct flow_side *side,
				     const struct flow_side *peer)
{
	return side->offers & OFFER_HELLO ? has_answered(peer)
					  : peer->offers & OFFER_HELLO;
}

/* After the client's hello, the next byte of the server begins a record. */
static __always_inline void open_peer(struct flow_side *peer,
				      const struct flow_end *end,
				      const struct packet *p)
{
	if (peer->tls_state == TLS_OPEN || peer->tls_state == TLS_DONE)
		return;
	peer->tls_state = TLS_OPEN;
	set_matched(peer, 0);
	peer->tls_header = 0;
	peer->tls_seq = peer->flags & SIDE_SEEN ? end->sent : p->ack;
	peer->flags |= SIDE_TLS_FRESH;
}

/*
 * Is this end in the middle of a long write? Nobody begins TLS there, or after
 * 64 KB to which the other end has said nothing. A search would read each
 * segment of bulk data, which lies in fragments.
 */
static __always_inline int in_run(const struct flow_totals *totals,
				  __u32 sender)
{
	const struct flow_side *side = &totals->side[sender & 1];

	return side->bytes >= TLS_RUN_BYTES && !(side->flags & SIDE_PUSHED) &&
	       totals->last_sender == (sender & 1);
}

/* Does this segment continue such a write? */
static __always_inline int continues_run(const struct flow_totals *totals,
					 const struct packet *p, __u32 sender)
{
	return in_run(totals, sender) && p->seq == totals->end[sender & 1].sent;
}

/* Notes a segment with payload for in_run(): the last one that was in order. */
static __always_inline void note_run(struct flow_totals *totals,
				     const struct packet *p, __u32 sender)
{
	struct flow_side *side = &totals->side[sender & 1];

	if (totals->rules[sender & 1] & RULES_JUDGED &&
	    has_hole(side, &totals->end[!(sender & 1)]))
		return;
	if (p->flags & TCP_PSH)
		side->flags |= SIDE_PUSHED;
	else
		side->flags &= ~SIDE_PUSHED;
	totals->last_sender = sender & 1;
}

/*
 * Is this segment searched for a hello that begins behind other bytes? Bulk
 * data is not: it comes in long segments.
 */
static __always_inline int is_searchable(const struct flow_side *side,
					 const struct packet *p)
{
	return side->bytes < TLS_RUN_BYTES ||
	       p->payload_len <= TLS_SEARCH_BYTES;
}

/*
 * Could this byte be here? A hello's record begins no bulk data. The payload
 * of a super-packet is often not linear.
 */
static __always_inline int may_begin_with(struct __sk_buff *skb, __u64 off,
					  __u8 byte)
{
	__u8 *first, copy;

	if (off > MAX_LINEAR_OFFSET)
		return 1;
	/* Linux 5.10 loses the bound of a scalar that was on the stack */
	asm volatile("%0 &= 0xfff" : "+r"(off));
	first = (void *)(long)skb->data + off;
	if ((void *)(first + 1) <= (void *)(long)skb->data_end)
		return *first == byte;
	return bpf_skb_load_bytes(skb, off, &copy, sizeof(copy)) ||
	       copy == byte;
}

static __always_inline int may_begin_record(struct __sk_buff *skb, __u64 off)
{
	return may_begin_with(skb, off, TLS_HANDSHAKE);
}

/* Of a segment: see earliness(). */
enum earliness {
	EARLY_NOT,
	EARLY_WANTED,
	EARLY_IN_RUN, /* nobody begins TLS there */
	EARLY_FAR,    /* no room for what is between */
};

/*
 * An early segment after the peer has said something: it may have asked for
 * TLS. So the budget begins anew.
 */
static __always_inline void begin_turn(struct flow_totals *totals, __u32 sender)
{
	struct flow_side *side = &totals->side[sender & 1];

	if (totals->last_sender == (sender & 1) || side->tls_state != TLS_WATCH)
		return;
	totals->last_sender = sender & 1;
	side->flags |= SIDE_PUSHED;
	side->tls_bytes = 0;
}

/* Is this segment worth a walk? ahead is its distance from sent. */
static __always_inline int may_hold_record(struct __sk_buff *skb,
					   const struct packet *p,
					   const struct flow_side *side,
					   __u32 payload_off, __s32 ahead,
					   __u32 early, int continues)
{
	if (p->flags & TCP_URG)
		return skb->len >= payload_off;
	if (skb->len <= payload_off)
		return 0;
	if (side->tls_state != TLS_WATCH || is_wanted(side) ||
	    early == EARLY_WANTED || early == EARLY_FAR ||
	    (ahead > 0 && wants_after_hole(side)))
		return 1;
	return !continues &&
	       (is_searchable(side, p) || may_begin_record(skb, payload_off));
}

/* The state of walk_records() and its result. */
struct record_walk {
	__u64 first;	 /* the first bytes, if they begin no record */
	__u64 chain;	 /* of SSH: what was said before: see ssh_head.h */
	__u32 pos;	 /* of the next header, in the payload */
	__u32 avail;	 /* payload bytes in the frame */
	__u32 cut;	 /* payload bytes worth a sample */
	__u32 start_seq; /* where TLS begins, if flags say so */
	__u32 restarted;
	__u32 flags;	/* SAMPLE_TLS_* */
	__u32 changed;	/* where the last records are ChangeCipherSpec */
	__u32 keep;	/* what follows a record is none: the agent decides */
	__u32 at_start; /* the first bytes of this end are not decided */
	__u32 decided;	/* now they are: `first` has them */
	__u32 head;	/* enum head_kind, HEAD_SHARED */
	__s32 ahead;	/* distance from sent, or AHEAD_REPEATED */
	__u32 known;	/* of SSH, and suppressed: 1, or 2 if all was said */
	__u32 rest;	/* offset of what the walk did not read, or NOT_FOUND */
	__u32 early;	/* enum earliness */
	__u32 pad;
};

/*
 * What this end sends is no TLS, or was none to its peer. Segments that came
 * before they were next may hold a hello that has begun: the agent finds it,
 * and needs what follows.
 */
static __always_inline void watch(volatile struct record_walk *walk,
				  struct flow_side *side)
{
	side->tls_state = TLS_WATCH;
	if (walk->ahead < 0 && walk->ahead != AHEAD_REPEATED)
		side->tls_orphans = TLS_AGENT_ORPHANS;
}

#define NOT_CHANGED 0xffffffff
#define NOT_FOUND 0xffffffff

/* Begins a walk. The frame must be longer than payload_off. */
static __always_inline void
record_walk_begin(volatile struct record_walk *walk, struct __sk_buff *skb,
		  const struct flow_side *side, const struct packet *p,
		  __u32 payload_off, __s32 ahead, __u32 early)
{
	__u32 avail = skb->len - payload_off;

	if (avail > p->payload_len)
		avail = p->payload_len;
	walk->avail = avail;
	walk->cut = 0;
	walk->flags = 0;
	walk->start_seq = 0;
	walk->restarted = 0;
	walk->changed = NOT_CHANGED;
	walk->rest = NOT_FOUND;
	walk->keep = 0;
	walk->first = 0;
	walk->at_start = side->tls_state == TLS_START ||
			 (side->tls_state == TLS_PREFIX && !head_kind(side));
	walk->decided = 0;
	walk->head = 0;
	walk->ahead = ahead;
	walk->early = early;
	walk->chain = head_chain(side);
}

/*
 * Walks over the record headers that begin in this segment, from the byte at
 * pos, and sets walk->cut. Behind TLS_HEADERS of them, or where no record goes
 * on, is the rest. The walk is in a map value and is read back in each
 * step: the states that the verifier compares at the head of the loop stay
 * equal.
 */
static __always_inline void
walk_records(struct __sk_buff *skb, volatile struct record_walk *walk,
	     struct flow *flow, struct flow_side *side, struct flow_side *peer,
	     const struct packet *p, __u8 sender, __u32 payload_off)
{
	__u32 want, got, matched, start, pos;
	__u64 header, bytes, last;
	enum record_verdict verdict;
	int open, known, done;

#pragma clang loop unroll(disable)
	for (int i = 0; i < TLS_HEADERS; i++) {
		pos = walk->pos;
		if (pos >= walk->avail)
			return;
		open = side->tls_state == TLS_OPEN;
		matched = side->tls_bits & BITS_MATCHED;
		/* while no end has begun a hello, any record may begin one */
		known = open && (side->offers | peer->offers) & OFFER_HELLO;
		want = (known ? TLS_HEADER_LEN : TLS_PREFIX_LEN) - matched;
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
			watch(walk, side);
			set_matched(side, 0);
			side->tls_header = 0;
			walk->cut = 0;
			if (!walk->restarted && !walk->decided) {
				walk->first = header;
				walk->decided = walk->at_start;
			}
			if (!matched || walk->restarted)
				return;
			/* earlier bytes misled us: one may begin here */
			walk->restarted = 1;
			walk->pos = 0;
			continue;
		}
		/* an empty record has no message type after its header */
		if (!known && matched + got >= TLS_HEADER_LEN &&
		    !prefix_record_len(header))
			want = TLS_HEADER_LEN - matched;
		walk->cut = walk->avail;
		if ((__s32)got < (__s32)want) {
			side->tls_header = header;
			set_matched(side, matched + got);
			side->tls_seq = p->seq + pos + got;
			if (!open)
				side->tls_state = TLS_PREFIX;
			return;
		}

		start = pos - matched;
		set_matched(side, 0);
		side->tls_header = 0;
		verdict = open ? judge_header(header) : RECORD_CLEAR;
		done = open && !(side->offers & OFFER_HELLO) &&
		       is_server_hello_done(header);
		/* nothing of a client is needed after it, if it was answered */
		if (verdict == RECORD_CHANGE && (side->offers & OFFER_HELLO) &&
		    has_answered(peer))
			verdict = RECORD_ENCRYPTED;
		if (done || verdict == RECORD_ENCRYPTED) {
			side->flags &= ~SIDE_TLS_FRESH;
			if (has_begun(side, peer)) {
				side->tls_state = TLS_DONE;
				walk->flags |= SAMPLE_TLS_ENDS;
			} else {
				watch(walk, side);
				walk->rest = (__s32)start > 0 ? start : 0;
			}
			if (walk->changed != NOT_CHANGED)
				start = walk->changed;
			walk->cut = (__s32)start > 0 ? start : 0;
			return;
		}
		if (verdict == RECORD_NONE) {
			watch(walk, side);
			side->flags &= ~SIDE_TLS_FRESH;
			walk->rest = (__s32)start > 0 ? start : 0;
			walk->keep = 1;
			return;
		}
		if (verdict != RECORD_CHANGE)
			walk->changed = NOT_CHANGED;
		else if (walk->changed == NOT_CHANGED)
			walk->changed = (__s32)start > 0 ? start : 0;
		if (!open) {
			side->tls_state = TLS_OPEN;
			side->tls_orphans = 0;
			side->flags |= SIDE_TLS_FRESH;
			if (prefix_is(header, TLS_SERVER_HELLO) &&
			    flow->totals.client == CLIENT_UNKNOWN)
				flow->totals.client = !sender;
		}
		if ((!open && is_ssl2(header)) ||
		    (!known && prefix_is(header, TLS_CLIENT_HELLO))) {
			side->offers |= OFFER_HELLO;
			if (flow->totals.client == CLIENT_UNKNOWN)
				flow->totals.client = sender;
			open_peer(peer, &flow->totals.end[!(sender & 1)], p);
		}
		if (side->flags & SIDE_TLS_FRESH) {
			side->flags &= ~SIDE_TLS_FRESH;
			walk->flags |= SAMPLE_TLS_STARTS;
			walk->start_seq = p->seq + start;
		}
		pos = start + record_size(header);
		side->tls_seq = p->seq + pos;
		walk->pos = pos;
	}
	if (walk->pos < walk->avail && side->tls_state == TLS_OPEN)
		walk->rest = walk->pos;
}

/* 1 if this is 0, without a jump. */
static __always_inline __u64 is_zero(__u64 x)
{
	return (~x & (x - 1)) >> 63;
}

/*
 * Passes over whole records of clear text, from the header at pos on. 0 if more
 * of them may follow than are read at once. One jump ends it, because the
 * verifier follows each. Of the last seven bytes walk_records() reads the
 * headers.
 */
static __always_inline int pass_records(struct __sk_buff *skb,
					volatile struct record_walk *walk,
					__u32 payload_off)
{
	__u64 header, pos, len, wrong;

#pragma clang loop unroll(disable)
	for (int i = 0; i < TLS_PASSED_HEADERS; i++) {
		pos = walk->pos;
		wrong = bpf_skb_load_bytes(skb, payload_off + pos, &header,
					   sizeof(header));
		len = prefix_record_len(header);
		wrong |= (walk->avail - pos - sizeof(header)) >> 63;
		wrong |= (TLS_MAX_RECORD - len) >> 63;
		wrong |= (prefix_byte(header, 0) - TLS_ALERT) >> 1;
		wrong |= prefix_byte(header, 1) ^ 3;
		wrong |= is_zero(server_hello_done_bits(header));
		asm volatile("" : "+r"(wrong));
		if (wrong)
			return 1;
		walk->pos = pos + TLS_HEADER_LEN + len;
	}
	return 0;
}

/*
 * Bytes sampled of a segment that may belong to a hello, although none has
 * begun. They have a budget of their own, so that enough is left for the
 * handshake.
 */
static __always_inline __u32 undecided_cut(const struct flow_side *side,
					   __u32 avail, __u32 limit)
{
	if (side->tls_bytes >= limit)
		return 0;
	if (avail > limit - side->tls_bytes)
		return limit - side->tls_bytes;
	return avail;
}

/*
 * How many of the sampled bytes count against the budget of their direction:
 * those beyond the highest one so far. Else retransmissions could use it up.
 */
static __always_inline __u32 fresh_bytes(__u32 cut, __s32 ahead)
{
	if (ahead >= 0)
		return cut;
	return (__s32)cut + ahead > 0 ? (__s32)cut + ahead : 0;
}

/*
 * Has the receiver acknowledged bytes that this direction still waits for? Then
 * they were sent, and we have missed them.
 */
static __always_inline int
missed_bytes(const struct flow *flow, const struct flow_side *side, __u8 sender)
{
	return !(flow->totals.rules[sender & 1] & RULES_JUDGED) ||
	       seq_diff(flow->totals.end[!(sender & 1)].acked, side->tls_seq) >
		       0;
}

/*
 * The urgent byte is not part of the stream (RFC 6093). The agent takes it out,
 * and finds the records after it: here all is sampled while there is budget.
 */
static __always_inline void urgent_scan(volatile struct record_walk *walk,
					struct flow_side *side)
{
	if (side->tls_state == TLS_OPEN) {
		walk->cut = walk->avail;
		return;
	}
	walk->cut = undecided_cut(side, walk->avail, TLS_UNDECIDED_BYTES);
	if (walk->avail && !walk->cut) {
		side->flags &= ~SIDE_URGENT;
		side->tls_state = TLS_WATCH;
	}
}

/* Sets walk->cut for this segment, by the state of its side. */
static __always_inline void
tls_scan(struct __sk_buff *skb, volatile struct record_walk *walk,
	 struct flow *flow, struct flow_side *side, struct flow_side *peer,
	 const struct packet *p, __u8 sender, __u32 payload_off, __u32 found)
{
	__s32 pos = seq_diff(side->tls_seq, p->seq);

	if (side->tls_state == TLS_DONE)
		return;
	if (p->flags & TCP_URG) {
		if (side->tls_state != TLS_WATCH)
			side->flags |= SIDE_URGENT;
		else
			side->tls_orphans = TLS_AGENT_ORPHANS;
	}
	if (side->flags & SIDE_URGENT) {
		urgent_scan(walk, side);
		return;
	}
	if (found != NOT_FOUND) {
		/* what comes before it in this segment is no TLS */
		if (side->tls_state == TLS_OPEN)
			walk->keep = 1;
		side->tls_state = TLS_WATCH;
		side->flags &= ~SIDE_TLS_FRESH;
	}

	if (side->tls_state == TLS_WATCH) {
		/* what comes before it shows what it is */
		if (walk->early)
			return;
		set_matched(side, 0);
		side->tls_header = 0;
		if (walk->ahead > 0 && wants_after_hole(side)) {
			side->tls_bits += BITS_HOLE;
			if (side->tls_orphans < TLS_ORPHANS)
				side->tls_orphans = TLS_ORPHANS;
		}
		pos = found != NOT_FOUND ? found : 0;
	}
	if (pos < 0) {
		/* after a hole: keep it while it can still be a hello */
		if (side->tls_state == TLS_OPEN && -pos <= TLS_AHEAD_BYTES)
			walk->cut = walk->avail;
		else if (walk->early == EARLY_WANTED)
			walk->cut = undecided_cut(side, walk->avail,
						  TLS_SCATTERED_BYTES);
		else if (side->tls_state != TLS_OPEN &&
			 -pos <= TLS_UNDECIDED_BYTES)
			walk->cut = undecided_cut(side, walk->avail,
						  TLS_UNDECIDED_BYTES);
		else if (missed_bytes(flow, side, sender))
			side->tls_state = side->tls_state == TLS_OPEN &&
							  has_begun(side, peer)
						  ? TLS_DONE
						  : TLS_WATCH;
		return;
	}
	if ((__u32)pos >= walk->avail) {
		if (side->tls_state == TLS_OPEN)
			walk->cut = walk->avail;
		return;
	}
	walk->pos = pos;
	walk_records(skb, walk, flow, side, peer, p, sender, payload_off);
}

/* After scan and search: keeps segments that no record was found in. */
static __always_inline void tls_keep(volatile struct record_walk *walk,
				     struct flow_side *side)
{
	if (walk->keep)
		walk->cut = walk->avail;
	if (walk->cut || side->tls_state != TLS_WATCH)
		return;
	/* what follows may go on with a hello that began before its turn */
	if (walk->early == EARLY_WANTED)
		side->tls_orphans = TLS_AGENT_ORPHANS;
	if (side->tls_orphans) {
		side->tls_orphans--;
		walk->cut =
			undecided_cut(side, walk->avail, TLS_SCATTERED_BYTES);
	}
}

#endif

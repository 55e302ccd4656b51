/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What the TCP of a decky accepts: the rules of Linux (tcp_validate_incoming(),
 * tcp_ack(), tcp_inbound_hash()), which RFC 9293, 5961 and 7323 describe. What
 * a decky drops must change nothing.
 *
 * Only segments to a decky are judged, and only if its answer to the SYN was
 * seen. What a decky sends is the truth by which they are judged.
 */
#ifndef DECKWIRE_RECEIVER_H
#define DECKWIRE_RECEIVER_H

#include "limits.h"
#include "abi.h"
#include "net.h"
#include "seq.h"
#include "syn.h"
#include "tls_records.h"

enum judgement {
	JUDGED_NOT,
	JUDGED_GOOD,
	JUDGED_OLD, /* accepted before: it changes no state of the receiver */
	REFUSED_FORGED,
	REFUSED_WINDOW,
	REFUSED_NO_ACK,
	REFUSED_ACK_UNSENT,
	REFUSED_ACK_EARLY, /* no anomaly: see judge_segment() */
	REFUSED_ACK_OLD,
	REFUSED_RST,
	REFUSED_RST_LATE, /* no anomaly: see judge_rst() */
	REFUSED_SYNACK,
	REFUSED_AFTER_FIN,
	REFUSED_SIGNATURE,
	REFUSED_TIMESTAMP,
	REFUSED_CHECKSUM,
	REFUSED_IP_CHECKSUM,
};

/* Are the segments of this end judged? */
static __always_inline int is_judged(const struct flow_totals *totals,
				     __u32 sender)
{
	return totals->rules[sender & 1] & RULES_JUDGED;
}

/*
 * Does somebody else send with the address of a decky? The frames of a decky
 * on this host leave it, if its SYN or SYN-ACK did.
 */
static __always_inline int is_forged(const struct flow_totals *totals,
				     __u32 sender, int ingress)
{
	return ingress && totals->rules[sender & 1] & RULES_LOCAL;
}

/*
 * Is this a packet from fragments that is handled after later ones of its
 * connection? The agent puts it together only after it has come.
 */
static __always_inline int is_late(const struct flow_totals *totals,
				   const struct packet *p, __u64 now)
{
	return p->ip_flags & IP_FLAG_REASSEMBLED &&
	       (__s64)(now - totals->last_ns) < 0;
}

/*
 * Is nothing in question: in the window, and acknowledging what was sent? Four
 * differences in sequence space, of which none may be negative.
 */
static __always_inline int plainly_good(const struct flow_totals *totals,
					const struct packet *p, __u32 sender,
					int ingress)
{
	const struct flow_end *own = &totals->end[sender & 1];
	const struct flow_end *peer = &totals->end[!(sender & 1)];
	__u32 rules = totals->rules[sender & 1], wrong;

	/* forged at ingress, or the first frame at egress: neither is plain */
	if (!!(rules & RULES_LOCAL) == ingress)
		return 0;
	if (!(rules & RULES_JUDGED))
		return 1;
	wrong = p->seq + p->payload_len - peer->acked;
	wrong |= peer->edge - p->seq;
	wrong |= peer->sent - p->ack;
	wrong |= p->ack - own->acked;
	return (__s32)wrong >= 0;
}

/*
 * The next byte that the receiver waits for. It may have acknowledged bytes
 * that we did not see, and it takes none while its window is closed.
 */
static __always_inline __u32 expected_seq(const struct flow_totals *totals,
					  __u32 sender)
{
	const struct flow_side *side = &totals->side[sender & 1];
	const struct flow_end *peer = &totals->end[!(sender & 1)];
	__u32 next = totals->end[sender & 1].sent;

	if (has_hole(side, peer))
		next = side->hole_start;
	if (seq_diff(peer->acked, next) > 0 || peer->edge == peer->acked)
		return peer->acked;
	return next;
}

/*
 * Does the receiver of this segment of a judged end wait for bytes before it?
 * They show what it is, and the agent puts them in order. Nobody begins TLS in
 * the middle of a long write.
 */
static __always_inline enum earliness
earliness(const struct flow_totals *totals, const struct packet *p,
	  __u32 sender)
{
	__u32 acked = totals->end[!(sender & 1)].acked;

	if (!is_judged(totals, sender) ||
	    seq_diff(p->seq, expected_seq(totals, sender)) <= 0)
		return EARLY_NOT;
	if (in_run(totals, sender))
		return EARLY_IN_RUN;
	if (seq_diff(p->seq, acked) > TLS_AHEAD_BYTES)
		return EARLY_FAR;
	return EARLY_WANTED;
}

/*
 * A RST must carry the next number that the receiver waits for (RFC 5961, 3.2).
 * Linux also takes the right edge of what it holds out of order, and the number
 * of a FIN that it has received.
 *
 * Who has closed resets data that were on their way with the number that they
 * acknowledge (RFC 9293, 3.10.7.1). That is behind what it has sent since. The
 * receiver drops such a RST too, but honest hosts send it.
 */
static __always_inline enum judgement
judge_rst(const struct flow *flow, __u32 sender, const struct packet *p)
{
	const struct flow_totals *totals = &flow->totals;
	const struct flow_side *side = &totals->side[sender & 1];
	const struct flow_end *peer = &totals->end[!(sender & 1)];
	__u32 next = expected_seq(totals, sender), first;

	if (p->seq == next)
		return JUDGED_GOOD;
	if (has_hole(side, peer) && side->offers & OFFER_SACK &&
	    p->seq == totals->end[sender & 1].sent)
		return JUDGED_GOOD;
	if (side->flags & SIDE_FIN && p->seq == next - 1 &&
	    seq_diff(peer->acked, side->fin_seq) > 0)
		return JUDGED_GOOD;
	first = (sender & 1) == totals->client ? flow->synack.ack
					       : flow->synack.seq + 1;
	return p->seq - first < next - first ? REFUSED_RST_LATE : REFUSED_RST;
}

/*
 * How far behind the last ACK another one may be: Linux before 6.8 has only the
 * largest window as its bound, and newer ones also what was acknowledged.
 */
static __always_inline __s32 ack_tolerance(const struct flow *flow,
					   __u32 sender)
{
	const struct flow_end *own = &flow->totals.end[sender & 1];
	int from_client = (sender & 1) == flow->totals.client;
	__s32 window = own->edge - own->acked, acked;

	if (from_client) {
		acked = own->acked - flow->synack.seq - 1;
		if (window < flow->syn.window)
			window = flow->syn.window;
	} else {
		/* the client counts its SYN as acknowledged */
		acked = own->acked - flow->syn.seq;
		if (window < flow->synack.window)
			window = flow->synack.window;
	}
	return window < acked ? window : acked;
}

/* All rules but those of options and checksums. */
static __always_inline enum judgement judge_segment(const struct flow *flow,
						    __u32 sender,
						    const struct packet *p,
						    int late)
{
	const struct flow_totals *totals = &flow->totals;
	const struct flow_side *side = &totals->side[sender & 1];
	const struct flow_end *own = &totals->end[sender & 1];
	const struct flow_end *peer = &totals->end[!(sender & 1)];
	__u32 end = p->seq + p->payload_len, taken;

	if (!(p->flags & (TCP_ACK | TCP_RST)))
		return REFUSED_NO_ACK;
	if (seq_diff(p->seq, peer->edge) > 0)
		return REFUSED_WINDOW;
	if (p->flags & TCP_RST)
		return judge_rst(flow, sender, p);
	if (p->flags & TCP_FIN)
		end++;
	/* what is late comes here after the answer to it, and fills a hole */
	taken = peer->acked;
	if (late)
		taken = side->flags & SIDE_HOLE ? side->hole_start : own->sent;
	if (seq_diff(end, taken) < (end != p->seq))
		return JUDGED_OLD;
	/* a lone ACK conceals nothing, and a capture may have it too early */
	if (seq_diff(p->ack, peer->sent) > 0)
		return end == p->seq && seq_diff(p->ack, own->edge) <= 0
			       ? REFUSED_ACK_EARLY
			       : REFUSED_ACK_UNSENT;
	if (seq_diff(p->ack, own->acked) < 0 &&
	    seq_diff(p->ack, own->acked) + ack_tolerance(flow, sender) < 0)
		return REFUSED_ACK_OLD;
	if (side->flags & SIDE_FIN && seq_diff(end, side->fin_seq + 1) > 0)
		return REFUSED_AFTER_FIN;
	return JUDGED_GOOD;
}

/*
 * Frames that come by the ingress hook may be handled on two CPUs at once, also
 * those of one end. Then the later one may be accounted before the earlier one,
 * whose lower number stays in `sent`. The hole that the later one has left
 * shows it, because no hole reaches as far as what was sent. An ACK within the
 * window then says what was.
 */
static __always_inline void restore_sent(struct flow_totals *totals,
					 __u32 sender, const struct packet *p)
{
	const struct flow_side *side = &totals->side[!(sender & 1)];
	struct flow_end *peer = &totals->end[!(sender & 1)];

	if (side->flags & SIDE_HOLE && p->flags & TCP_ACK &&
	    seq_diff(side->hole_end, peer->sent) >= 0 &&
	    seq_diff(p->ack, peer->sent) > 0 &&
	    seq_diff(p->ack, totals->end[sender & 1].edge) <= 0)
		peer->sent = p->ack;
}

/*
 * The connection ends. While one CPU sampled an earlier end, another one may
 * have opened the connection again: then end_sent is of the earlier one.
 */
static __always_inline void close_flow(struct flow_totals *totals,
				       enum flow_close close)
{
	if (totals->close == CLOSE_NONE)
		totals->end_sent = 0;
	totals->close = close;
}

/*
 * Takes in the ACK of a segment whose data come after the FIN of its sender.
 * The receiver drops nothing but the data. If this ACK ends the connection, the
 * agent's sweep reports the end, with the time of the ACK.
 */
static __always_inline void take_ack_alone(struct flow_totals *totals,
					   __u32 sender, const struct packet *p,
					   __u64 now)
{
	struct flow_side *side = &totals->side[sender & 1];
	struct flow_side *peer = &totals->side[!(sender & 1)];

	note_ack(side, &totals->end[sender & 1], p);
	if (!(peer->flags & SIDE_FIN) || seq_diff(p->ack, peer->fin_seq) <= 0)
		return;
	peer->flags |= SIDE_FIN_ACKED;
	if (!(side->flags & SIDE_FIN_ACKED))
		return;
	close_flow(totals, CLOSE_FIN);
	if ((__s64)(now - totals->last_ns) > 0)
		totals->last_ns = now;
}

/* --- options --- */

#define OPTION_SCALE 3
#define OPTION_SACK_PERMITTED 4
#define OPTION_MD5 19
#define OPTION_AO 29

/* A TCP that was built without them skips these options as any other. */
#ifndef KNOWS_MD5
#define KNOWS_MD5 1
#endif
#ifndef KNOWS_AO
#define KNOWS_AO 1
#endif

/* What the options of a SYN or SYN-ACK say. */
struct opening_options {
	__u32 stamp; /* of a timestamp option */
	__u32 echo;
	__u8 offers; /* OFFER_*, as far as these options go */
	__u8 scaled;
	__u8 pad[2];
};

/* What decky_check and decky_handshake read of a segment. */
struct segment_walk {
	__u8 bytes[CHECKSUM_PIECE];
	__u32 at;
	__u32 stamp; /* these four as in struct opening_options */
	__u32 echo;
	__u8 offers;
	__u8 scaled;
	__u8 pad[2];
	struct opening_options syn, synack; /* of its connection */
};

static __always_inline __u32 walk_word(volatile struct segment_walk *walk,
				       __u32 at)
{
	return be32(*(volatile __be32 *)(walk->bytes + at));
}

/*
 * Reads the options in walk->bytes. The walk is in a map value and is read back
 * in each step: the states that the verifier compares stay equal.
 */
static __always_inline void walk_options(volatile struct segment_walk *walk,
					 __u32 len)
{
	__u32 at, kind, size;

	walk->at = 0;
	walk->offers = 0;
	walk->scaled = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < MAX_TCP_OPTIONS; i++) {
		at = walk->at;
		if (at >= len || at >= MAX_TCP_OPTIONS)
			break;
		kind = walk->bytes[at];
		if (kind == OPTION_END)
			break;
		size = 1;
		if (kind != OPTION_NOP) {
			size = walk->bytes[at + 1];
			if (size < 2 || at + size > len)
				break;
			if (kind == OPTION_SCALE && size == 3) {
				walk->scaled = 1;
				walk->offers |= walk->bytes[at + 2] > MAX_SCALE
							? MAX_SCALE
							: walk->bytes[at + 2];
			} else if (kind == OPTION_TIMESTAMP &&
				   size == OPTION_TIMESTAMP_LEN) {
				walk->offers |= OFFER_STAMPED;
				walk->stamp = walk_word(walk, at + 2);
				walk->echo = walk_word(walk, at + 6);
			} else if (kind == OPTION_SACK_PERMITTED) {
				walk->offers |= OFFER_SACK;
			} else if ((KNOWS_MD5 && kind == OPTION_MD5) ||
				   (KNOWS_AO && kind == OPTION_AO)) {
				walk->offers |= OFFER_SIGNED;
			}
		}
		walk->at = at + size;
	}
}

/*
 * Options that most segments have are compared as a whole, because a walk over
 * them costs a branch an option. In segments: NOP, NOP, timestamps (RFC 7323,
 * appendix A). In a SYN of Linux: MSS, SACK, timestamps, NOP, scale.
 */
#define ALIGNED_STAMP_LEN 12
#define ALIGNED_STAMP 0x0101080a
#define ALIGNED_OPENING_LEN 20
#define ALIGNED_MSS 0x0204
#define ALIGNED_SACK_STAMP 0x0402080a
#define ALIGNED_SCALE 0x010303

static __always_inline int walk_aligned_segment(volatile struct segment_walk *w,
						__u32 len)
{
	if (len != ALIGNED_STAMP_LEN || walk_word(w, 0) != ALIGNED_STAMP)
		return 0;
	w->offers = OFFER_STAMPED;
	w->stamp = walk_word(w, 4);
	w->echo = walk_word(w, 8);
	return 1;
}

static __always_inline int walk_aligned_opening(volatile struct segment_walk *w,
						__u32 len)
{
	__u32 scale = walk_word(w, 16);

	if (len != ALIGNED_OPENING_LEN || scale >> 8 != ALIGNED_SCALE ||
	    walk_word(w, 0) >> 16 != ALIGNED_MSS ||
	    walk_word(w, 4) != ALIGNED_SACK_STAMP)
		return 0;
	scale &= 0xff;
	w->offers = OFFER_SACK | OFFER_STAMPED |
		    (scale > MAX_SCALE ? MAX_SCALE : scale);
	w->scaled = 1;
	w->stamp = walk_word(w, 8);
	w->echo = walk_word(w, 12);
	return 1;
}

/*
 * Reads the options of a recorded SYN or SYN-ACK. 0 if they need a walk, which
 * is only done if the caller says so: the verifier follows all its paths in
 * each state in which it begins.
 */
static __always_inline int
read_opening(volatile struct segment_walk *walk,
	     const struct syn_packet *opening,
	     volatile struct opening_options *options, int may_walk)
{
	__builtin_memcpy((void *)walk->bytes, opening->options,
			 MAX_TCP_OPTIONS);
	if (!opening->options_len) {
		walk->offers = 0;
		walk->scaled = 0;
	} else if (!walk_aligned_opening(walk, opening->options_len)) {
		if (!may_walk)
			return 0;
		walk_options(walk, opening->options_len);
	}
	options->stamp = walk->stamp;
	options->echo = walk->echo;
	options->offers = walk->offers;
	options->scaled = walk->scaled;
	return 1;
}

/*
 * What both ends agreed on, by their SYN and SYN-ACK: the client's offers count
 * as far as the server answers them. Of a SYN that was not seen, the widest
 * window is assumed.
 */
static __always_inline void note_offers(struct flow *flow,
					volatile struct segment_walk *walk)
{
	__u8 client = flow->totals.client & 1, answered, offered, agreed;
	struct flow_side *from_client = &flow->totals.side[client];
	struct flow_side *from_server = &flow->totals.side[!client];
	int scaled = walk->synack.scaled;

	answered = walk->synack.offers;
	from_client->ts_recent = walk->synack.echo;
	from_server->ts_recent = walk->synack.stamp;
	if (flow->syn.ip_version) {
		offered = walk->syn.offers;
		scaled &= walk->syn.scaled;
	} else {
		offered = (answered & ~OFFER_SCALE) | MAX_SCALE;
	}
	agreed = answered & offered & (OFFER_SACK | OFFER_STAMPED);
	/* a hello in the SYN may have come before */
	from_server->offers &= OFFER_HELLO;
	from_client->offers &= OFFER_HELLO;
	from_server->offers |= agreed | (answered & OFFER_SIGNED);
	from_client->offers |= agreed | (offered & OFFER_SIGNED);
	if (scaled) {
		from_server->offers |= answered & OFFER_SCALE;
		from_client->offers |= offered & OFFER_SCALE;
	}
}

/* Reads the options of this segment into the walk. See read_opening(). */
static __always_inline int read_options(struct __sk_buff *skb,
					volatile struct segment_walk *walk,
					const struct packet *p, int may_walk)
{
	__u64 last = p->tcp_len - sizeof(struct tcp_header) - 1;

	walk->offers = 0;
	/* it wraps if there are no options: see syn_packet_fill() */
	asm volatile("" : "+r"(last));
	if (last >= MAX_TCP_OPTIONS)
		return 1;
	/* Linux 5.10 loses the bound of a scalar that was on the stack */
	asm volatile("%0 &= 0x3f" : "+r"(last));
	if (bpf_skb_load_bytes(skb, p->l4_off + sizeof(struct tcp_header),
			       (void *)walk->bytes, last + 1) ||
	    walk_aligned_segment(walk, last + 1))
		return 1;
	if (!may_walk)
		return 0;
	walk_options(walk, last + 1);
	return 1;
}

/*
 * Reads the options of an attempt to connect, and of the segment that completes
 * it. See read_opening().
 */
static __always_inline int read_attempt(struct __sk_buff *skb,
					volatile struct segment_walk *walk,
					const struct half_open *half,
					const struct packet *p, int may_walk)
{
	if (!read_opening(walk, &half->synack, &walk->synack, may_walk) ||
	    (half->syn.ip_version &&
	     !read_opening(walk, &half->syn, &walk->syn, may_walk)))
		return 0;
	return read_options(skb, walk, p, may_walk);
}

/*
 * A signature that the receiver did not ask for, and a timestamp older than the
 * last one (RFC 7323, 5.3), which a RST may have and Linux allows to be one
 * less. An ACK alone that says nothing new is allowed to be late.
 */
static __always_inline enum judgement
judge_options(const struct flow_totals *totals, __u32 sender,
	      const struct packet *p, int late,
	      volatile struct segment_walk *walk)
{
	const struct flow_side *side = &totals->side[sender & 1];
	const struct flow_side *peer = &totals->side[!(sender & 1)];

	if (walk->offers & OFFER_SIGNED && !(peer->offers & OFFER_SIGNED))
		return REFUSED_SIGNATURE;
	if (!(walk->offers & side->offers & OFFER_STAMPED) ||
	    p->flags & TCP_RST || late || !side->ts_recent ||
	    seq_diff(side->ts_recent, walk->stamp) <= 1)
		return JUDGED_GOOD;
	if (!p->payload_len && !(p->flags & TCP_FIN) &&
	    seq_diff(p->ack, totals->end[sender & 1].acked) <= 0)
		return JUDGED_OLD;
	return REFUSED_TIMESTAMP;
}

/* Takes in the timestamp of an accepted segment (RFC 7323, 4.3). */
static __always_inline void note_stamp(struct flow_totals *totals, __u32 sender,
				       const struct packet *p,
				       volatile struct segment_walk *walk)
{
	struct flow_side *side = &totals->side[sender & 1];

	if (walk->offers & side->offers & OFFER_STAMPED &&
	    seq_diff(p->seq, totals->end[!(sender & 1)].acked) <= 0 &&
	    seq_diff(walk->stamp, side->ts_recent) > 0)
		side->ts_recent = walk->stamp;
}

/* --- checksums --- */

/*
 * Is the checksum of this segment worth its time? Those that may hold a
 * handshake, and those that end something.
 */
static __always_inline int needs_checksum(struct __sk_buff *skb,
					  const struct flow_side *side,
					  const struct packet *p)
{
	if (p->flags & (TCP_FIN | TCP_RST))
		return 1;
	if (!p->payload_len || side->tls_state == TLS_DONE)
		return 0;
	return side->tls_state != TLS_WATCH || is_wanted(side) ||
	       may_begin_record(skb, p->l4_off + p->tcp_len);
}

/* Folds a sum into its last 16 bits. */
static __always_inline __u32 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* The sum of the pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1). */
static __always_inline __u32 pseudo_sum(const struct packet *p, __u32 len)
{
	__u64 sum = (__u64)p->saddr[3] + p->daddr[3] +
		    __builtin_bswap32(PROTO_TCP) + __builtin_bswap32(len);

	if (p->ip_version == 6)
		sum += (__u64)p->saddr[0] + p->saddr[1] + p->saddr[2] +
		       p->daddr[0] + p->daddr[1] + p->daddr[2];
	return fold(sum);
}

/*
 * Is the checksum of this segment right, as far as that can be known? Packets
 * that were merged are right, and so are those that the driver has checked. Cut
 * frames and those of more than CHECKSUM_PIECES cannot be judged.
 */
static __always_inline int checksum_right(struct __sk_buff *skb,
					  volatile struct segment_walk *walk,
					  const struct packet *p)
{
	__u32 len = p->tcp_len + p->payload_len, left, pseudo;
	__u64 last;
	__u32 sum;
	int i;

	if (skb->gso_size || skb->len < p->l4_off + len ||
	    len > CHECKSUM_PIECE * CHECKSUM_PIECES)
		return 1;
	if (bpf_csum_level(skb, BPF_CSUM_LEVEL_QUERY) >= 0)
		return 1;
	pseudo = pseudo_sum(p, len);
	sum = pseudo;
#pragma clang loop unroll(disable)
	for (i = 0; i < CHECKSUM_PIECES; i++) {
		left = len - i * CHECKSUM_PIECE;
		if ((__s32)left <= 0)
			break;
		last = left - 1;
		if (last >= CHECKSUM_PIECE)
			last = CHECKSUM_PIECE - 1;
		asm volatile("" : "+r"(last));
		if (last >= CHECKSUM_PIECE)
			return 1;
		/* a sum takes whole words: zeros follow the last byte */
		*(volatile __u32 *)(walk->bytes +
				    (last & (CHECKSUM_PIECE - 4))) = 0;
		if (bpf_skb_load_bytes(skb, p->l4_off + i * CHECKSUM_PIECE,
				       (void *)walk->bytes, last + 1))
			return 1;
#ifdef DECKWIRE_REPLAY_CLOCK
		/* merged by the host that captured it, so it was right */
		if (!i && p->l3_len > ETH_DATA_LEN &&
		    *(volatile __u16 *)(walk->bytes + 16) == (__u16)pseudo)
			return 1;
#endif
		/* 32 bits before Linux 6.13: their highest is no sign */
		sum = (__u32)bpf_csum_diff(0, 0, (void *)walk->bytes,
					   (last & (CHECKSUM_PIECE - 4)) + 4,
					   sum);
	}
	return fold(sum) == 0xffff;
}

#define TCP_CHECKSUM_OFF 16

/*
 * Does the sender leave the checksum of this segment to a network card
 * (CHECKSUM_PARTIAL)? The field then has the sum of the pseudo-header, and one
 * in 65,536 of these is right by chance. A sender may choose such a sum too, so
 * only the kernel knows, and it does not say. But it spares the field of such a
 * segment when the segment is said to change, so that is tried. The field has
 * its value again before anyone else can see it.
 */
static __always_inline int leaves_checksum(struct __sk_buff *skb,
					   const struct packet *p)
{
	__u32 off = p->l4_off + TCP_CHECKSUM_OFF;
	__u16 field = 0, changed = 0;

	if (bpf_skb_load_bytes(skb, off, &field, sizeof(field)) ||
	    field != (__u16)pseudo_sum(p, p->tcp_len + p->payload_len) ||
	    bpf_l4_csum_replace(skb, off, 0, 1, sizeof(field)))
		return 0;
	if (bpf_skb_load_bytes(skb, off, &changed, sizeof(changed)) ||
	    changed == field)
		return 1;
	bpf_skb_store_bytes(skb, off, &field, sizeof(field), 0);
	return 0;
}

/* Is the checksum of this IPv4 header right? */
static __always_inline int ip_checksum_right(struct __sk_buff *skb,
					     volatile struct segment_walk *walk,
					     const struct packet *p)
{
	__u64 len = sizeof(struct ipv4_header) + p->ip_options_len;
	struct cursor c = frame_cursor(skb);
	__u64 off = p->l3_off;
	const __u32 *word;
	__u32 sum;

	if (p->ip_version != 4 || skb->gso_size)
		return 1;
	if (len == sizeof(struct ipv4_header) && off <= MAX_LINEAR_OFFSET) {
		c.pos += off;
		word = c.pos;
		if ((void *)(word + 5) <= c.end)
			return fold((__u64)word[0] + word[1] + word[2] +
				    word[3] + word[4]) == 0xffff;
	}
	/* Linux 5.10 loses a bound that clang checks with one subtraction */
	asm volatile("%0 &= 0x3c" : "+r"(len));
	if (len < sizeof(struct ipv4_header) ||
	    bpf_skb_load_bytes(skb, p->l3_off, (void *)walk->bytes, len))
		return 1;
	sum = (__u32)bpf_csum_diff(0, 0, (void *)walk->bytes, len, 0);
	return fold(sum) == 0xffff;
}

/*
 * Checksums are judged only of an end that opened with right ones. Whoever
 * leaves them to a network card has wrong ones in that packet too, and an
 * attacker cannot: the decky would not have answered.
 */
static __always_inline enum judgement
judge_checksums(struct __sk_buff *skb, const struct flow_totals *totals,
		__u32 sender, const struct packet *p,
		volatile struct segment_walk *walk)
{
	if (!(totals->rules[sender & 1] & RULES_SUMMED) ||
	    !needs_checksum(skb, &totals->side[sender & 1], p))
		return JUDGED_GOOD;
	if (!ip_checksum_right(skb, walk, p))
		return REFUSED_IP_CHECKSUM;
	if (!checksum_right(skb, walk, p))
		return REFUSED_CHECKSUM;
	return JUDGED_GOOD;
}

/* --- what comes after --- */

/*
 * Linux takes a segment with a too old ACK if it comes by its fast path, which
 * nobody sees. Then a RST with the next number that we expect is not the one
 * that the receiver expects.
 */
static __always_inline void note_doubt(struct flow_totals *totals, __u32 sender,
				       enum judgement rule)
{
	if (rule == REFUSED_ACK_OLD)
		totals->rules[sender & 1] |= RULES_DOUBTED;
}

/* Did a RST end the connection that its receiver perhaps did not take? */
static __always_inline int is_end_doubted(const struct flow_totals *totals,
					  __u32 sender)
{
	return totals->close == CLOSE_RST &&
	       totals->rules[sender & 1] & RULES_DOUBTED;
}

/*
 * Does this segment of a decky show that it did not take the RST that seemed to
 * end the connection? It acknowledges bytes that came after it, or sends new
 * ones when none can be on their way any more.
 */
static __always_inline int resumes(const struct flow_totals *totals,
				   __u32 sender, const struct packet *p,
				   __u64 now)
{
	const struct flow_end *own = &totals->end[sender & 1];
	const struct flow_end *peer = &totals->end[!(sender & 1)];

	__u32 rules = totals->rules[!(sender & 1)];

	if (totals->close != CLOSE_RST || !(rules & RULES_RESET) ||
	    !(rules & RULES_JUDGED || totals->flags & FLOW_MIDSTREAM) ||
	    (p->flags & (TCP_ACK | TCP_RST)) != TCP_ACK)
		return 0;
	if (seq_diff(p->ack, peer->sent) > 0)
		return 1;
	return p->payload_len &&
	       seq_diff(p->seq + p->payload_len, own->sent) > 0 &&
	       (__s64)(now - totals->last_ns) > (__s64)RESUME_NS;
}

#endif

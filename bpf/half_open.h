/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Half-open connections: which SYN-ACK and which ACK belong to a SYN. */
#ifndef DECKWIRE_HALF_OPEN_H
#define DECKWIRE_HALF_OPEN_H

#include "limits.h"
#include "abi.h"
#include "net.h"
#include "maps.h"
#include "timing.h"

static __always_inline void half_open_begin(struct half_open *half, __u8 client,
					    __u64 now)
{
	__builtin_memset(half, 0, sizeof(*half));
	half->client = client;
	half->last_ns = now;
	half->min_iat_ns = -1;
}

/* When the connection of this attempt is born. */
static __always_inline __u64 half_open_born(const struct half_open *half)
{
	return half->syn.ip_version ? half->syn.time_ns : half->synack.time_ns;
}

/* May packets of this attempt still come? */
static __always_inline int half_open_fresh(const struct half_open *half,
					   __u64 now)
{
	return (__s64)(now - half->last_ns) < (__s64)SYN_RETRANSMIT_NS;
}

/* What the SYN or SYN-ACK of an end shows of its later segments. */
static __always_inline void note_opening_rules(struct half_open *half,
					       __u32 sender, __u8 rules)
{
	half->rules |= sender & 1 ? rules << 4 : rules;
}

/* RULES_* of an end. */
static __always_inline __u8 rules_of(const struct half_open *half, __u32 sender)
{
	return sender & 1 ? half->rules >> 4 : half->rules & 0xf;
}

/* Did this end open the connection, and to a decky? */
static __always_inline int opened_to_decky(const struct half_open *half,
					   __u32 sender)
{
	return half->client == sender && rules_of(half, sender) & RULES_JUDGED;
}

/* Is this SYN a retransmission of the recorded one? */
static __always_inline int repeats_syn(const struct half_open *half,
				       const struct packet *p, __u8 sender,
				       __u64 now)
{
	return half->syn.ip_version && half->client == sender &&
	       half->syn.seq == p->seq && half_open_fresh(half, now);
}

/* Is this the SYN of a SYN-ACK that the capture has before it? */
static __always_inline int precedes_synack(const struct half_open *half,
					   const struct packet *p, __u8 sender,
					   __u64 now)
{
	return !half->syn.ip_version && half->client == sender &&
	       half->synack.ack - p->seq - 1 <= p->payload_len &&
	       half_open_fresh(half, now);
}

/*
 * The SYN of a recorded SYN-ACK was filled in. Where the capture has merely
 * swapped the two, so are their times.
 */
static __always_inline void order_openings(struct half_open *half,
					   const struct packet *p, __u64 now)
{
	note_packet(p, now, &half->last_ns, &half->min_iat_ns,
		    &half->max_iat_ns);
	/* a SYN in fragments is late for another reason */
	if (p->ip_flags & IP_FLAG_REASSEMBLED ||
	    now - half->synack.time_ns > SYN_SWAPPED_NS)
		return;
	half->syn.time_ns = half->synack.time_ns;
	half->synack.time_ns = now;
}

/* The key of an attempt in other_half_open. */
static __always_inline void attempt_key_of(struct attempt_key *id,
					   const struct flow_key *key,
					   const struct half_open *half)
{
	id->key = *key;
	id->answered = half->synack.ip_version != 0;
	id->seq = id->answered ? half->synack.seq : half->syn.seq;
}

/*
 * Is this SYN-ACK the recorded SYN, repeated by an end that has accepted the
 * other end's SYN (RFC 9293, 3.5: simultaneous open)?
 */
static __always_inline int repeats_opening(const struct half_open *half,
					   const struct packet *p, __u8 sender)
{
	return half->client == sender && half->syn.ip_version &&
	       half->synack.ip_version && half->syn.seq == p->seq &&
	       half->synack.seq + 1 == p->ack;
}

/*
 * Both ends have sent a SYN, and the end that was first has accepted the
 * other's. So it is the client, and that SYN is its SYN-ACK.
 */
static __always_inline void half_open_cross(struct half_open *first,
					    const struct half_open *second,
					    const struct packet *p, __u64 now)
{
	first->synack = second->syn;
	first->synack.ack = first->syn.seq + 1;
	first->rules |= second->rules;
	note_packet(p, now, &first->last_ns, &first->min_iat_ns,
		    &first->max_iat_ns);
}

/*
 * Does this SYN-ACK belong to the recorded SYN? With TCP Fast Open it may
 * acknowledge data in the SYN too.
 */
static __always_inline int answers_syn(const struct half_open *half,
				       const struct packet *p, __u8 sender)
{
	__u32 acked = p->ack - half->syn.seq - 1;

	return half->client != sender &&
	       (!half->syn.ip_version || acked <= half->syn.payload_len);
}

/*
 * Is this segment in the window of a server that waits for the final ACK
 * (tcp_in_window() of Linux)? It may begin with bytes of the SYN.
 */
static __always_inline int in_first_window(const struct half_open *half,
					   const struct packet *p)
{
	__s32 ahead = p->seq - half->synack.ack;
	__s32 len = p->payload_len + (p->flags & TCP_FIN ? 1 : 0);

	return ahead <= HANDSHAKE_SEQ_WINDOW && (ahead >= 0 || ahead + len > 0);
}

/* Could this segment be the final ACK? acks_synack() decides. */
static __always_inline int may_complete(const struct half_open *half,
					const struct packet *p, __u8 sender)
{
	return half->synack.ip_version && half->client == sender &&
	       (p->flags & (TCP_ACK | TCP_RST)) == TCP_ACK &&
	       in_first_window(half, p);
}

/*
 * Does this segment of the client complete the handshake? It must acknowledge
 * the recorded SYN-ACK to the byte, or data that we saw the server send after
 * it (recorded in the mid-stream connection). A spoofed address alone cannot
 * make a connection.
 */
static __always_inline int acks_synack(const struct half_open *half,
				       const struct packet *p, __u8 sender,
				       const struct flow *midstream)
{
	const struct flow_totals *totals;
	__u32 acked = p->ack - half->synack.seq - 1;

	if (!midstream || midstream->synack.seq != half->synack.seq)
		return !acked;
	totals = &midstream->totals;
	return totals->close == CLOSE_NONE &&
	       acked <= totals->end[!(sender & 1)].sent - half->synack.seq - 1;
}

/*
 * Does the server reset this segment of the client, because it acknowledges
 * another number than that of the recorded SYN-ACK?
 */
static __always_inline int refuses(const struct half_open *half,
				   const struct packet *p, __u8 sender,
				   __u64 now)
{
	return half->synack.ip_version && half->client == sender &&
	       p->ack != half->synack.seq + 1 && half_open_fresh(half, now);
}

/*
 * Does the server answer data of the SYN before its SYN-ACK has come? With TCP
 * Fast Open it may, if the SYN-ACK was lost on its way to us. A client takes
 * nothing before the SYN-ACK, so the same bytes come again. Else a SYN with
 * data would conceal what is sent in an older connection on its 4-tuple.
 */
static __always_inline int precedes_its_synack(const struct half_open *half,
					       const struct packet *p,
					       __u8 sender, __u64 now)
{
	return half->syn.ip_version && half->syn.payload_len &&
	       !half->synack.ip_version && answers_syn(half, p, sender) &&
	       half_open_fresh(half, now);
}

/* Did the packet right before this one open the connection? */
static __always_inline int precedes(const struct half_open *half,
				    const struct packet *p, __u8 sender)
{
	if (half->client == sender)
		return half->syn.ip_version && p->seq == half->syn.seq + 1;
	return half->synack.ip_version && p->seq == half->synack.seq + 1;
}

#endif

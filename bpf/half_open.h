/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Half-open connections: which SYN-ACK and which ACK belong to a SYN. */
#ifndef DECKWIRE_HALF_OPEN_H
#define DECKWIRE_HALF_OPEN_H

#include "limits.h"
#include "abi.h"
#include "net.h"

static __always_inline void half_open_begin(struct half_open *half, __u8 client,
					    __u64 now)
{
	__builtin_memset(half, 0, sizeof(*half));
	half->client = client;
	half->last_ns = now;
	half->min_iat_ns = -1;
}

/* Is this SYN a retransmission of the recorded one? */
static __always_inline int repeats_syn(const struct half_open *half,
				       const struct packet *p, __u8 sender,
				       __u64 now)
{
	return half->syn.ip_version && half->client == sender &&
	       half->syn.seq == p->seq &&
	       (__s64)(now - half->last_ns) < (__s64)SYN_RETRANSMIT_NS;
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

/* Could this segment be the final ACK? acks_synack() decides. */
static __always_inline int may_complete(const struct half_open *half,
					const struct packet *p, __u8 sender)
{
	return half->synack.ip_version && half->client == sender &&
	       (p->flags & (TCP_ACK | TCP_RST)) == TCP_ACK &&
	       (__u32)(p->seq - half->synack.ack) <= HANDSHAKE_SEQ_WINDOW;
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

/* Did the packet right before this one open the connection? */
static __always_inline int precedes(const struct half_open *half,
				    const struct packet *p, __u8 sender)
{
	if (half->client == sender)
		return half->syn.ip_version && p->seq == half->syn.seq + 1;
	return half->synack.ip_version && p->seq == half->synack.seq + 1;
}

#endif

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Suppression: the agent has emitted an equal event, so no sample is needed
 * until its suppression window closes. Suppressed samples are counted in the
 * slot of their signature.
 */
#ifndef DECKWIRE_SUPPRESS_H
#define DECKWIRE_SUPPRESS_H

#include "limits.h"
#include "abi.h"
#include "hash.h"
#include "net.h"
#include "seq.h"
#include "tls_records.h"

/*
 * The client and the service of a connection: connections that share both
 * share their dedup key. agent/deckwire/tables/suppression.py computes the
 * same.
 */
static __always_inline __u64 service_signature(const struct flow_key *key,
					       __u8 client, __u64 seed,
					       enum service_event event)
{
	__u8 server = !(client & 1);
	__u64 hash;

	hash = absorb_address(seed, key->addr[client & 1]);
	hash = absorb_address(hash, key->addr[server]);
	return absorb(hash, (__u64)key->port[server] << 8 | event);
}

/* A Bloom filter with the decky that this client addressed. */
static __always_inline __u64 decky_bit(const struct flow_key *key, __u8 client)
{
	const __be32 *addr = key->addr[!(client & 1)];

	return 1ULL << (mix(addr[3], addr[2]) >> 58);
}

/* Does the slot suppress this signature? Then it counts one more. */
static __always_inline int suppress(struct seen *seen, __u64 signature,
				    __u64 now, __u64 decky)
{
	if (seen->signature != signature || seen->expires_ns <= now)
		return 0;
	if (!seen->suppressed)
		seen->first_ns = now;
	__sync_fetch_and_add(&seen->suppressed, 1);
	seen->last_ns = now;
	seen->deckies |= decky;
	return 1;
}

/*
 * Suppresses a signature until the agent has decided. 1 if that overwrites
 * another signature before its time.
 */
static __always_inline int suppress_tentatively(struct seen *seen,
						__u64 signature, __u64 now)
{
	int overwrites = 0;

	if (seen->signature != signature) {
		overwrites = seen->expires_ns > now;
		seen->signature = signature;
		seen->decided = 0;
		/* of an equal signature the agent has yet to read the counts */
		seen->suppressed = 0;
		seen->first_ns = now;
		seen->last_ns = now;
		seen->deckies = 0;
	}
	seen->expires_ns = now + SYN_TENTATIVE_NS;
	return overwrites;
}

/* Is this ClientHello the next thing that the client should send? */
static __always_inline int hello_in_order(const struct flow *flow,
					  const struct packet *p, __u8 sender)
{
	const struct flow_side *side = &flow->totals.side[sender & 1];

	return p->seq == side->next_seq && p->seq == side->tls_seq;
}

/*
 * Notes that the ClientHello in this segment is suppressed. Both directions
 * are then in the state that they have after a sampled one, because the
 * server's answer is sampled all the same.
 */
static __always_inline void
flow_suppress_hello(struct flow *flow, const struct packet *p, __u8 sender)
{
	struct flow_side *side = &flow->totals.side[sender & 1];
	struct flow_side *peer = &flow->totals.side[!(sender & 1)];

	flow->totals.flags |= FLOW_HELLO_SUPPRESSED;
	flow->hello_end = p->seq + p->payload_len;
	side->tls_state = TLS_OPEN;
	side->tls_client = 1;
	side->tls_seq = flow->hello_end;
	open_peer(peer, p);
}

/* Is this the suppressed hello, or a retransmission of a part of it? */
static __always_inline int is_suppressed_hello(const struct flow *flow,
					       const struct packet *p,
					       __u8 sender)
{
	return flow->totals.flags & FLOW_HELLO_SUPPRESSED &&
	       sender == flow->totals.client &&
	       seq_diff(p->seq + p->payload_len, flow->hello_end) <= 0;
}

#endif

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
#include "client_hello.h"
#include "ssh_head.h"
#include "maps.h"

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

/*
 * The client, the server, the technique, and whether it is of a connection: the
 * agent's dedup key.
 */
static __always_inline __u64 anomaly_signature(const struct flow_key *key,
					       __u8 client, __u64 seed,
					       enum technique technique,
					       int known)
{
	__u64 hash;

	hash = absorb_address(seed, key->addr[client & 1]);
	hash = absorb_address(hash, key->addr[!(client & 1)]);
	return absorb(hash, (__u64)technique << 1 | known);
}

/* A Bloom filter with the decky that this client addressed. */
static __always_inline __u64 decky_bit(const struct flow_key *key, __u8 client)
{
	const __be32 *addr = key->addr[!(client & 1)];

	return 1ULL << (mix(addr[3], addr[2]) >> 58);
}

/*
 * The two slots of a signature. It is in one of them: two signatures that
 * alternate in one slot would both be sampled each time.
 */
static __always_inline __u32 seen_slot(__u64 signature, int second, __u32 slots)
{
	return (signature >> (second ? 46 : 32)) & (slots - 1);
}

/*
 * Is the signature in the second of its slots? If it is in neither, it gets the
 * one that expires first.
 */
static __always_inline int is_in_second(const struct seen *first,
					const struct seen *second,
					__u64 signature)
{
	if (first->signature == signature)
		return 0;
	return second->signature == signature ||
	       second->expires_ns < first->expires_ns;
}

/* Does the slot suppress this signature? */
static __always_inline int suppresses(const struct seen *seen, __u64 signature,
				      __u64 now)
{
	return seen->signature == signature && seen->expires_ns > now;
}

/* The same. Then it counts one more. */
static __always_inline int suppress(struct seen *seen, __u64 signature,
				    __u64 now, __u64 decky)
{
	if (!suppresses(seen, signature, now))
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
	} else if (suppresses(seen, signature, now)) {
		/* see syn_suppressed(): the agent knows until when */
		return 0;
	}
	seen->expires_ns = now + SYN_TENTATIVE_NS;
	return overwrites;
}

/* Adds up what is suppressed of connections. */
static __always_inline void flow_sums_add(struct flow_sums *sums,
					  const struct flow_totals *totals)
{
	__u64 bytes = totals->side[0].bytes + totals->side[1].bytes;
	__u64 lasted = totals->last_ns - totals->born_ns;

	__sync_fetch_and_add(&sums->packets,
			     totals->side[0].packets + totals->side[1].packets);
	__sync_fetch_and_add(&sums->bytes, bytes);
	if ((__s64)lasted > 0 && lasted > sums->longest_ns)
		sums->longest_ns = lasted;
	if (bytes > sums->largest)
		sums->largest = bytes;
}

/* The ClientHello, its sender and its receiver: the agent's dedup key. */
static __always_inline __u64 hello_signature(const struct hello_walk *walk,
					     const struct flow_key *key,
					     __u8 sender)
{
	__u64 hash = absorb_address(walk->hash, key->addr[sender & 1]);

	return absorb_address(hash, key->addr[!(sender & 1)]);
}

/*
 * Where the chain of an end of SSH begins: with who speaks to whom, and whether
 * it opened the connection. Any port counts, as for a ClientHello.
 */
static __always_inline __u64 ssh_chain_begin(const struct flow_key *key,
					     __u8 sender, __u8 client,
					     __u64 seed)
{
	__u64 hash = absorb(seed, HEAD_SSH << 1 | (sender == client));

	hash = absorb_address(hash, key->addr[sender & 1]);
	hash = absorb_address(hash, key->addr[!(sender & 1)]);
	return (hash & ~SSH_STATE) | SSH_LINE;
}

/* Is this ClientHello the next thing that the client should send? */
static __always_inline int hello_in_order(const struct flow *flow,
					  const struct packet *p, __u8 sender)
{
	return p->seq == flow->totals.end[sender & 1].sent &&
	       p->seq == flow->totals.side[sender & 1].tls_seq;
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
	side->offers |= OFFER_HELLO;
	side->tls_seq = flow->hello_end;
	open_peer(peer, &flow->totals.end[!(sender & 1)], p);
}

/* Is this segment at the place of the suppressed hello? */
static __always_inline int at_suppressed_hello(const struct flow *flow,
					       const struct packet *p,
					       __u8 sender)
{
	return flow->totals.flags & FLOW_HELLO_SUPPRESSED &&
	       sender == flow->totals.client && p->payload_len &&
	       seq_diff(p->seq + p->payload_len, flow->hello_end) <= 0;
}

/* May it be a copy of the whole of it? Then its hash shows whether it is one.
 */
static __always_inline int may_repeat_hello(const struct flow *flow,
					    const struct packet *p, __u8 sender)
{
	return at_suppressed_hello(flow, p, sender) &&
	       p->seq + p->payload_len == flow->hello_end;
}

/*
 * Is this the suppressed hello? Or was its place acknowledged, so that its
 * receiver takes nothing of it? Other bytes there are sampled: a known hello
 * releases nothing else.
 */
static __always_inline int repeats_suppressed_hello(const struct flow *flow,
						    const struct work *w)
{
	__u32 acked = flow->totals.end[!(w->sender & 1)].acked;
	const struct flow_side *peer = &flow->totals.side[!(w->sender & 1)];
	const struct packet *p = &w->packet;

	return at_suppressed_hello(flow, p, w->sender) &&
	       (w->repeats || (peer->flags & SIDE_ACKED &&
			       seq_diff(p->seq + p->payload_len, acked) <= 0));
}

#endif

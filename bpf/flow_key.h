/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* The keys and ids of connections, and the slots of their sources. */
#ifndef DECKWIRE_FLOW_KEY_H
#define DECKWIRE_FLOW_KEY_H

#include "limits.h"
#include "abi.h"
#include "hash.h"
#include "net.h"

/*
 * The end of a connection that sent the packet. End 0 has the lower port. If
 * the ports are equal, any total order of the addresses will do.
 */
static __always_inline __u8 sender_end(const __be32 saddr[4],
				       const __be32 daddr[4], __be16 sport,
				       __be16 dport)
{
	if (sport != dport)
		return be16(sport) > be16(dport);
	if (saddr[3] != daddr[3])
		return saddr[3] > daddr[3];
	if (saddr[2] != daddr[2])
		return saddr[2] > daddr[2];
	if (saddr[1] != daddr[1])
		return saddr[1] > daddr[1];
	return saddr[0] > daddr[0];
}

/* Fills the key of both directions and returns the sender's end. */
static __always_inline __u8 make_key(const struct packet *p,
				     struct flow_key *key)
{
	__u8 sender = sender_end(p->saddr, p->daddr, p->sport, p->dport);
	int i;

	if (sender) {
#pragma unroll
		for (i = 0; i < 4; i++) {
			key->addr[1][i] = p->saddr[i];
			key->addr[0][i] = p->daddr[i];
		}
		key->port[1] = p->sport;
		key->port[0] = p->dport;
	} else {
#pragma unroll
		for (i = 0; i < 4; i++) {
			key->addr[0][i] = p->saddr[i];
			key->addr[1][i] = p->daddr[i];
		}
		key->port[0] = p->sport;
		key->port[1] = p->dport;
	}
	return sender;
}

/* The id of an IPv4 connection, from its ends 0 and 1. */
static __always_inline void make_id4(struct flow_id *id, __be32 addr0,
				     __be32 addr1, __be16 port0, __be16 port1)
{
	id->ends = (__u64)addr0 << 32 | addr1;
	id->port[0] = port0;
	id->port[1] = port1;
	id->version = 4;
}

static __always_inline void make_id6(struct flow_id *id, const __be32 *addr0,
				     const __be32 *addr1, __be16 port0,
				     __be16 port1, __u64 seed)
{
	id->ends = absorb_address(absorb_address(seed, addr0), addr1);
	id->port[0] = port0;
	id->port[1] = port1;
	id->version = 6;
}

/* The id that belongs to a key. The agent's tcp/flow.py computes the same. */
static __always_inline void make_id(struct flow_id *id,
				    const struct flow_key *key, __u8 version,
				    __u64 seed)
{
	if (version == 4)
		make_id4(id, key->addr[0][3], key->addr[1][3], key->port[0],
			 key->port[1]);
	else
		make_id6(id, key->addr[0], key->addr[1], key->port[0],
			 key->port[1], seed);
}

/*
 * The id of both directions, from the headers of a bare segment. Returns the
 * sender's end. The entry uses this, and makes no key: that would take
 * registers from what follows.
 */
static __always_inline __u32 header_id4(struct flow_id *id,
					const struct ipv4_header *ip,
					const struct tcp_header *tcp)
{
	__u32 sender = be16(tcp->source) > be16(tcp->dest) ||
		       (tcp->source == tcp->dest && ip->saddr > ip->daddr);

	make_id4(id, sender ? ip->daddr : ip->saddr,
		 sender ? ip->saddr : ip->daddr,
		 sender ? tcp->dest : tcp->source,
		 sender ? tcp->source : tcp->dest);
	return sender;
}

static __always_inline __u32 header_id6(struct flow_id *id,
					const struct ipv6_header *ip,
					const struct tcp_header *tcp,
					__u64 seed)
{
	__u32 sender = sender_end(ip->saddr, ip->daddr, tcp->source, tcp->dest);

	make_id6(id, sender ? ip->daddr : ip->saddr,
		 sender ? ip->saddr : ip->daddr,
		 sender ? tcp->dest : tcp->source,
		 sender ? tcp->source : tcp->dest, seed);
	return sender;
}

/* The seeded hash of a source. An IPv6 attacker owns at least a /64. */
static __always_inline __u64 source_hash(const struct flow_key *key, __u8 end,
					 __u64 seed)
{
	const __be32 *addr = key->addr[end & 1];
	__u64 hash;

	hash = absorb(seed, (__u64)addr[0] << 32 | addr[1]);
	if (!addr[0] && !addr[1])
		hash = absorb(hash, addr[3]);
	return hash;
}

static __always_inline __u32 source_slot(const struct flow_key *key, __u8 end,
					 __u64 seed)
{
	return (source_hash(key, end, seed) >> 32) & (SOURCE_SLOTS - 1);
}

#endif

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Seeded hashes, so that nobody outside can aim at a slot or make two things
 * look alike, and a plain one for what needs neither.
 */
#ifndef DECKWIRE_HASH_H
#define DECKWIRE_HASH_H

#include "net.h"
#include "abi.h"

/* 2^64 by the golden ratio, odd (Knuth, TAOCP 3, 6.4). */
#define HASH_FACTOR 0x9e3779b97f4a7c15ULL

static __always_inline __u64 mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * HASH_FACTOR;
	return hash ^ hash >> 29;
}

/*
 * Takes a word into a seeded hash. A flipped top bit of one word would pass
 * mix() as the same two bits whatever the seed is, for the next word to undo:
 * the product makes that depend on bits that nobody outside knows. Bytes have
 * no such bit: mix() does for them.
 */
static __always_inline __u64 absorb(__u64 hash, __u64 word)
{
	__u64 both = hash ^ word;

	return mix(hash, word) ^ (both & 0xffffffff) * (both >> 32);
}

/*
 * Where a decky's bit stands in the sketch; Tables in the agent sets it. In
 * host order neighbours follow each other, which one product spreads best.
 */
static __always_inline __u32 filter_bit4(__be32 addr)
{
	return be32(addr) * HASH_FACTOR >> 48;
}

static __always_inline __u32 filter_bit6(const __be32 *addr)
{
	return mix(mix(0, (__u64)addr[0] << 32 | addr[1]),
		   (__u64)addr[2] << 32 | addr[3]) >>
	       48;
}

static __always_inline int filter_has(const struct decky_filter *sketch,
				      __u32 bit)
{
	bit &= DECKY_BITS - 1;
	return sketch->bits[bit / 8] >> (bit & 7) & 1;
}

/* The id of an IPv4 connection, whose ends 0 and 1 these are. */
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
	__u64 hash;

	hash = absorb(seed, (__u64)addr0[0] << 32 | addr0[1]);
	hash = absorb(hash, (__u64)addr0[2] << 32 | addr0[3]);
	hash = absorb(hash, (__u64)addr1[0] << 32 | addr1[1]);
	hash = absorb(hash, (__u64)addr1[2] << 32 | addr1[3]);
	id->ends = hash;
	id->port[0] = port0;
	id->port[1] = port1;
	id->version = 6;
}

/* Either; agent/deckwire/flow.py computes the same. */
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

/* The hash of a source: an IPv6 attacker owns at least a /64. */
static __always_inline __u64 source_hash(const struct flow_key *key, __u8 end,
					 __u64 seed)
{
	__u64 hash;

	end &= 1;
	hash = absorb(seed, (__u64)key->addr[end][0] << 32 | key->addr[end][1]);
	if (!key->addr[end][0] && !key->addr[end][1])
		hash = absorb(hash, key->addr[end][3]);
	return hash;
}

static __always_inline __u32 source_slot(const struct flow_key *key, __u8 end,
					 __u64 seed)
{
	return (source_hash(key, end, seed) >> 32) & (SOURCE_SLOTS - 1);
}

/*
 * A client and a service: what two connections have in common whose events
 * are deduplicated. agent/deckwire/suppression.py computes the same.
 */
static __always_inline __u64 service_signature(const struct flow_key *key,
					       __u8 client, __u64 seed,
					       enum service_event event)
{
	const __be32 *src = key->addr[client & 1];
	const __be32 *dst = key->addr[!(client & 1)];
	__u64 hash;

	hash = absorb(seed, (__u64)src[0] << 32 | src[1]);
	hash = absorb(hash, (__u64)src[2] << 32 | src[3]);
	hash = absorb(hash, (__u64)dst[0] << 32 | dst[1]);
	hash = absorb(hash, (__u64)dst[2] << 32 | dst[3]);
	return absorb(hash, (__u64)key->port[!(client & 1)] << 8 | event);
}

#endif

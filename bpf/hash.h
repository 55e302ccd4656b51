/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Hashes. A seed keeps outsiders from choosing a slot of a table, and from
 * making two different things hash alike. agent/deckwire/abi/hashes.py mirrors
 * this file.
 */
#ifndef DECKWIRE_HASH_H
#define DECKWIRE_HASH_H

/* 2^64 divided by the golden ratio, odd (Knuth, TAOCP 3, 6.4). */
#define HASH_FACTOR 0x9e3779b97f4a7c15ULL

/* Takes a word into a hash. Enough for bytes, and where no seed is needed. */
static __always_inline __u64 mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * HASH_FACTOR;
	return hash ^ hash >> 29;
}

/*
 * Takes a word into a seeded hash. mix() alone turns a flipped top bit of a
 * word into the same two bits for every seed, and the next word can undo them.
 * The product makes the result depend on bits that nobody outside knows.
 */
static __always_inline __u64 absorb(__u64 hash, __u64 word)
{
	__u64 both = hash ^ word;

	return mix(hash, word) ^ (both & 0xffffffff) * (both >> 32);
}

static __always_inline __u64 absorb_address(__u64 hash, const __be32 addr[4])
{
	hash = absorb(hash, (__u64)addr[0] << 32 | addr[1]);
	return absorb(hash, (__u64)addr[2] << 32 | addr[3]);
}

#endif

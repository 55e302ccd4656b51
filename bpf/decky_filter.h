/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The Bloom filter of deckies. agent/deckwire/tables/bloom_filter.py fills it
 * and computes the same bits.
 */
#ifndef DECKWIRE_DECKY_FILTER_H
#define DECKWIRE_DECKY_FILTER_H

#include "abi.h"
#include "hash.h"
#include "net.h"

/* In host order neighbours are consecutive: one product spreads them best. */
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

static __always_inline int filter_has(const struct decky_filter *filter,
				      __u32 bit)
{
	bit &= DECKY_BITS - 1;
	return filter->bits[bit / 8] >> (bit & 7) & 1;
}

/* Is neither address a decky's? */
static __always_inline int filter_foreign4(const struct decky_filter *filter,
					   const struct ipv4_header *ip)
{
	return !filter_has(filter, filter_bit4(ip->daddr)) &&
	       !filter_has(filter, filter_bit4(ip->saddr));
}

static __always_inline int filter_foreign6(const struct decky_filter *filter,
					   const struct ipv6_header *ip)
{
	return !filter_has(filter, filter_bit6(ip->daddr)) &&
	       !filter_has(filter, filter_bit6(ip->saddr));
}

/* The same for a parsed packet. */
static __always_inline int filter_foreign(const struct decky_filter *filter,
					  const struct packet *p)
{
	__u32 src, dst;

	if (p->ip_version == 4) {
		src = filter_bit4(p->saddr[3]);
		dst = filter_bit4(p->daddr[3]);
	} else {
		src = filter_bit6(p->saddr);
		dst = filter_bit6(p->daddr);
	}
	return !filter_has(filter, dst) && !filter_has(filter, src);
}

/* May a decky have sent this packet? */
static __always_inline int filter_source(const struct decky_filter *filter,
					 const struct packet *p)
{
	return filter_has(filter, p->ip_version == 4 ? filter_bit4(p->saddr[3])
						     : filter_bit6(p->saddr));
}

#endif

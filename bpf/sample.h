/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* The head of every sample, and the count of samples. */
#ifndef DECKWIRE_SAMPLE_H
#define DECKWIRE_SAMPLE_H

#include "abi.h"
#include "net.h"

static __always_inline void sample_begin(struct sample_head *head,
					 enum sample_kind kind,
					 const struct packet *p,
					 const struct flow_key *key,
					 __u8 sender, __u64 now)
{
	__builtin_memset(head, 0, sizeof(*head));
	head->time_ns = now;
	head->key = *key;
	head->seq = p->seq;
	head->payload_len = p->payload_len;
	head->kind = kind;
	head->sender = sender;
	if (p->ip_flags & IP_FLAG_REASSEMBLED)
		head->flags = SAMPLE_REASSEMBLED;
	head->urgent = p->urgent;
	head->tcp_flags = p->flags;
}

#define VLAN_ID_MASK 0xfff

/*
 * The link that a frame came over, for sample_head.hello: the MAC address of
 * its sender, and its outermost VLAN. 0 if the frame is cut.
 */
static __always_inline __u64 link_of(struct __sk_buff *skb)
{
	const struct eth_header *eth = (void *)(long)skb->data;
	const struct vlan_header *tag = (void *)(eth + 1);
	const void *end = (void *)(long)skb->data_end;
	__u64 link, vlan = 0;

	if ((void *)(tag + 1) > end)
		return 0;
	link = (__u64)eth->src[5] << 40 | (__u64)eth->src[4] << 32 |
	       (__u64)eth->src[3] << 24 | eth->src[2] << 16 | eth->src[1] << 8 |
	       eth->src[0];
	/* the kernel takes the outermost tag out of most frames */
	if (skb->vlan_present)
		vlan = skb->vlan_tci & VLAN_ID_MASK;
	else if (is_vlan(be16(eth->proto)))
		vlan = be16(tag->tci) & VLAN_ID_MASK;
	return vlan << 48 | link;
}

/*
 * The bytes that a sample takes in a ring: behind a header of 8 bytes, its
 * length in 4 and its bytes, padded to a multiple of 8.
 */
static __always_inline __u64 record_bytes(__u32 len)
{
	return 8 + ((len + 4 + 7) & ~7U);
}

/*
 * Counts a sample of `len` bytes by what its submission returned. 1 if it is in
 * the ring.
 */
static __always_inline int sample_sent(struct counters *c, int error, __u32 len)
{
	c->samples_wanted++;
	if (error) {
		c->samples_lost++;
		return 0;
	}
	c->samples_submitted++;
	c->samples_bytes += record_bytes(len);
	return 1;
}

#endif

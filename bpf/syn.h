/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What a SYN or SYN-ACK said, into a struct syn_packet.
 */
#ifndef DECKWIRE_SYN_H
#define DECKWIRE_SYN_H

#include "limits.h"
#include "net.h"
#include "abi.h"

/* All but the options. */
static __always_inline void syn_packet_begin(struct syn_packet *o,
					     const struct packet *p, __u64 now)
{
	o->time_ns = now;
	o->seq = p->seq;
	o->ack = p->ack;
	o->flow_label = p->flow_label;
	o->payload_len = p->payload_len;
	o->window = p->window;
	o->ip_id = p->ip_id;
	o->urgent = p->urgent;
	o->flags = p->flags;
	o->ip_options_len = p->ip_options_len;
	o->ttl = p->ttl;
	o->tos = p->tos;
	o->ip_version = p->ip_version;
	o->ip_flags = p->ip_flags;
	o->retransmits = 0;
	o->options_len = 0;
	__builtin_memset(o->options, 0, sizeof(o->options));
}

static __always_inline void syn_packet_fill(struct __sk_buff *skb,
					    struct syn_packet *o,
					    const struct packet *p, __u64 now)
{
	__u64 last = p->tcp_len - sizeof(struct tcp_header) - 1;

	syn_packet_begin(o, p, now);
	/* without options it wraps; clang would drop a bound it can prove */
	asm volatile("" : "+r"(last));
	if (last >= MAX_TCP_OPTIONS)
		return;
	if (bpf_skb_load_bytes(skb, p->l4_off + sizeof(struct tcp_header),
			       o->options, last + 1))
		o->ip_flags |= OPENING_CUT;
	else
		o->options_len = last + 1;
}

/* Copies the options behind a TCP header of linear data. */
static __always_inline void copy_options(struct syn_packet *o, const __u8 *from,
					 __u32 len, const void *end)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < MAX_TCP_OPTIONS; i++) {
		/* opaque: clang would end the loop by !=, which 5.10 forgets */
		asm volatile("" : "+r"(i));
		if (i >= len || (const void *)(from + i + 1) > end)
			return;
		o->options[i] = from[i];
		o->options_len = i + 1;
	}
}

/*
 * The interval as JA4L counts it: between stamps of whole microseconds. No
 * reply comes before what it answers: such stamps tell nothing.
 */
static __always_inline __u32 rtt_us(__u64 start_ns, __u64 end_ns)
{
	__u64 us = end_ns / 1000 - start_ns / 1000;

	if (end_ns < start_ns)
		return RTT_UNKNOWN;
	return us < RTT_UNKNOWN ? us : RTT_UNKNOWN;
}

#endif

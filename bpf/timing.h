/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* The time of a frame, inter-arrival times and round-trip times. */
#ifndef DECKWIRE_TIMING_H
#define DECKWIRE_TIMING_H

#include "abi.h"
#include "net.h"

static __always_inline __u64 frame_time(struct __sk_buff *skb)
{
#ifdef DECKWIRE_REPLAY_CLOCK
	return skb->tstamp;
#else
	return bpf_ktime_get_ns();
#endif
}

/* Takes in the time since the last packet, or 0 if the clock went back. */
static __always_inline void note_interval(__u64 now, __u64 *last, __u64 *min,
					  __u64 *max)
{
	__s64 interval = now - *last;

	if (interval < -(__s64)SWAPPED_NS) {
		*max = INTERVALS_UNKNOWN;
		return;
	}
	if (interval < 0)
		interval = -interval;
	else
		*last = now;
	if ((__u64)interval < *min)
		*min = interval;
	if ((__u64)interval > *max)
		*max = interval;
}

/*
 * The same for any packet. One that was put together from fragments is handled
 * late, so it only moves the time of the last packet.
 */
static __always_inline void note_packet(const struct packet *p, __u64 now,
					__u64 *last, __u64 *min, __u64 *max)
{
	if (!(p->ip_flags & IP_FLAG_REASSEMBLED))
		note_interval(now, last, min, max);
	else if ((__s64)(now - *last) > 0)
		*last = now;
}

/*
 * A round-trip time as JA4L counts it: between times in whole microseconds.
 * No reply comes before its request, so such times say nothing.
 */
static __always_inline __u32 rtt_us(__u64 start_ns, __u64 end_ns)
{
	__u64 us = end_ns / 1000 - start_ns / 1000;

	if (end_ns < start_ns)
		return RTT_UNKNOWN;
	return us < RTT_UNKNOWN ? us : RTT_UNKNOWN;
}

#endif

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The programs on the interface that carries the deckies' traffic. Every path
 * passes the frame on. The way of a frame:
 *
 *   tc_ingress, tc_egress   is a decky involved? bulk data is accounted here
 *   decky_packet            TCP of a known connection
 *   decky_syn, _synack      a handshake's beginning
 *   decky_handshake           its completion, or a connection met in the middle
 *   decky_hello             a ClientHello: was it told before?
 *   xdp_ingress             optional: notes SYNs before TC sees them
 *
 * BCC rewrites map calls in this file only, so all of them stand here.
 */
#include "limits.h"
#include "abi.h"
#include "maps.h"
#include "net.h"
#include "hash.h"
#include "token_bucket.h"
#include "syn.h"
#include "flow.h"
#include "seq.h"
#include "tls_records.h"
#include "client_hello.h"

/* TC_ACT_OK would end the chain for the programs behind ours. */
#define TC_NEXT (-1)

#define likely(x) __builtin_expect(!!(x), 1)

/*
 * Memory is read anew behind it: the compiler need not keep what was read
 * before, and the verifier need not follow what was learned of it.
 */
#define barrier() asm volatile("" : : : "memory")

/* Linear bytes that the address look-ups want. */
#define LINEAR_LEN                                                             \
	(sizeof(struct eth_header) +                                           \
	 MAX_VLAN_TAGS * sizeof(struct vlan_header) +                          \
	 sizeof(struct ipv6_header))

/* Traits that belong to a SYN's signature: see agent/.../scanners.py. */
#define ZMAP_IP_ID 54321

static __always_inline __u64 frame_time(struct __sk_buff *skb)
{
#ifdef DECKWIRE_REPLAY_CLOCK
	return skb->tstamp;
#else
	return bpf_ktime_get_ns();
#endif
}

static __always_inline void sample_begin(struct sample_head *head,
					 const struct work *w,
					 const struct packet *p, __u8 kind)
{
	__builtin_memset(head, 0, sizeof(*head));
	head->time_ns = w->now;
	head->key = w->key;
	head->seq = p->seq;
	head->payload_len = p->payload_len;
	head->kind = kind;
	head->sender = w->sender;
}

static __always_inline int sample_sent(struct counters *counters, int error)
{
	counters->samples_wanted++;
	if (error)
		counters->samples_lost++;
	else
		counters->samples_submitted++;
	return !error;
}

/*
 * The bytes of the options without timestamp values, so that two SYNs of one
 * stack hash alike. The walk's state lives in a map value and is read back at
 * each step: states that the verifier compares stay equal.
 */
static __always_inline __u64 options_hash(const struct syn_packet *o,
					  __u64 seed)
{
	volatile struct option_walk *walk;
	__u32 zero = 0, at, kind, len, since;

	walk = option_walks.lookup(&zero);
	if (!walk)
		return 0;
	walk->hash = seed;
	walk->at = 0;
	walk->next = 0;
	walk->timestamp = MAX_TCP_OPTIONS;
	walk->own = 0;
	walk->echo = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < MAX_TCP_OPTIONS; i++) {
		at = walk->at;
		if (at >= o->options_len || at >= MAX_TCP_OPTIONS)
			break;
		kind = o->options[at];
		if (at == walk->next) {
			len = 1;
			if (kind > 1 && at + 1 < MAX_TCP_OPTIONS) {
				len = o->options[at + 1];
				if (len < 2)
					len = MAX_TCP_OPTIONS;
				if (kind == 8 && len == 10)
					walk->timestamp = at;
			} else if (!kind) {
				len = MAX_TCP_OPTIONS;
			}
			walk->next = at + len;
		}
		since = at - walk->timestamp;
		if (at >= walk->timestamp && since >= 2 && since < 6)
			walk->own |= kind;
		else if (at >= walk->timestamp && since >= 6 && since < 10)
			walk->echo |= kind;
		else
			walk->hash = mix(walk->hash, kind);
		walk->at = at + 1;
	}
	return absorb(walk->hash, (walk->own ? 2 : 0) | (walk->echo ? 1 : 0));
}

/*
 * Everything that os, tool and options_sig are made from, and the source: two
 * SYNs with one signature make one event. Never coarser than the agent's key.
 */
static __always_inline __u64 syn_signature(const struct packet *p,
					   const struct syn_packet *o,
					   __u64 seed)
{
	__u32 dst = be32(p->daddr[3]), traits = 0;
	__u64 hash = options_hash(o, seed);

	if (p->ip_id == ZMAP_IP_ID)
		traits |= 1;
	if (p->ip_id == (__u16)(dst ^ be16(p->dport) ^ p->seq))
		traits |= 2;
	if (p->seq == dst)
		traits |= 4;
	if (!p->seq)
		traits |= 8;
	if (p->ack)
		traits |= 16;
	if (p->ip_id)
		traits |= 32;
	if (p->flow_label)
		traits |= 64;
	if (p->urgent)
		traits |= 128;
	if (p->payload_len)
		traits |= 256;
	if (p->ip_id == 1)
		traits |= 512;
	hash = absorb(hash, (__u64)p->window << 48 | (__u64)p->ttl << 40 |
				    (__u64)p->tos << 32 |
				    (__u64)p->flags << 16 | traits);
	hash = absorb(hash, (__u64)p->ip_options_len << 16 |
				    p->ip_version << 8 | o->ip_flags);
	hash = absorb(hash, (__u64)p->saddr[0] << 32 | p->saddr[1]);
	return absorb(hash, (__u64)p->saddr[2] << 32 | p->saddr[3]);
}

/* The bit of the decky that this client addressed in a sketch of 64. */
static __always_inline __u64 decky_bit(const struct work *w, __u8 client)
{
	const __be32 *addr = w->key.addr[!(client & 1)];

	return 1ULL << (mix(addr[3], addr[2]) >> 58);
}

/* What scan detection needs of every SYN, the suppressed ones too. */
static __always_inline void note_scan(struct work *w, struct counters *c,
				      const struct packet *p, __u64 seed)
{
	__u64 tag = source_hash(&w->key, w->sender, seed);
	__u32 slot = (tag >> 32) & (SCAN_SLOTS - 1);
	__u32 port = mix(0, p->dport) >> 56;
	struct scan *scan;

	scan = scans.lookup(&slot);
	if (!scan)
		return;
	if (scan->tag != tag) {
		if (scan->tag)
			c->scan_overwrites++;
		__builtin_memset(scan, 0, sizeof(*scan));
		scan->tag = tag;
		scan->first_ns = w->now;
		__builtin_memcpy(scan->addr, p->saddr, sizeof(scan->addr));
	}
	scan->last_ns = w->now;
	scan->syns++;
	scan->ports[port >> 6 & 3] |= 1ULL << (port & 63);
	scan->deckies |= decky_bit(w, w->sender);
}

/* Does the slot hide events of this signature? Then one more was hidden. */
static __always_inline int suppress(struct seen *seen, __u64 signature,
				    const struct work *w, __u8 client)
{
	if (seen->signature != signature || seen->expires_ns <= w->now)
		return 0;
	if (!seen->suppressed)
		seen->first_ns = w->now;
	__sync_fetch_and_add(&seen->suppressed, 1);
	seen->last_ns = w->now;
	seen->deckies |= decky_bit(w, client);
	return 1;
}

/* Has the agent told this of the client and the service within its window? */
static __always_inline int service_suppressed(const struct work *w, __u8 client,
					      const struct settings *set,
					      enum service_event event)
{
	struct seen *seen;
	__u64 signature;
	__u32 slot;

	if (!set->dedup || client == CLIENT_UNKNOWN)
		return 0;
	signature = service_signature(&w->key, client, set->seed, event);
	slot = (signature >> 32) & (SERVICE_SEEN_SLOTS - 1);
	seen = service_seen.lookup(&slot);
	return seen && suppress(seen, signature, w, client);
}

/* Is this SYN worth a sample? Marks it so until the agent has decided. */
static __always_inline int syn_wanted(struct work *w, struct counters *c,
				      struct half_open *half,
				      const struct settings *set)
{
	__u64 signature = half->signature;
	struct seen *seen;
	struct token_bucket *budget;
	__u32 slot = (signature >> 32) & (SYN_SEEN_SLOTS - 1), zero = 0;

	budget = syn_budget.lookup(&zero);
	if (!budget)
		return 0;
	seen = syn_seen.lookup(&slot);
	if (!seen)
		return 0;
	if (set->dedup && suppress(seen, signature, w, w->sender)) {
		half->syn_suppressed = seen->decided != 0;
		c->syn_suppressed++;
		return 0;
	}
	if (!token_bucket_take(budget, w->now, set->syn_cost_ns,
			       set->syn_burst_ns)) {
		c->syn_over_budget++;
		return 0;
	}
	if (set->dedup) {
		if (seen->signature != signature) {
			if (seen->expires_ns > w->now)
				c->syn_seen_overwrites++;
			seen->signature = signature;
			seen->decided = 0;
			/* else the agent has yet to take what was hidden */
			seen->suppressed = 0;
			seen->first_ns = w->now;
			seen->last_ns = w->now;
			seen->deckies = 0;
		}
		seen->expires_ns = w->now + SYN_TENTATIVE_NS;
	}
	return 1;
}

/* Does this SYN belong to the attempt that is there? */
static __always_inline int is_half_open(const struct half_open *half,
					const struct work *w)
{
	return half->syn.ip_version && half->client == w->sender &&
	       half->syn.seq == w->packet.seq &&
	       (__s64)(w->now - half->last_ns) < (__s64)SYN_RETRANSMIT_NS;
}

static __always_inline void half_open_begin(struct half_open *half,
					    const struct work *w)
{
	__builtin_memset(half, 0, sizeof(*half));
	half->client = w->sender;
	half->last_ns = w->now;
	half->min_iat_ns = -1;
}

static __always_inline void on_syn(struct __sk_buff *skb, struct work *w,
				   struct counters *c, const struct packet *p,
				   const struct settings *set)
{
	struct half_open_sample *sample;
	struct half_open *half;
	__u32 zero = 0;
	int known;

	c->frames_syn++;
	half = half_open.lookup(&w->key);
	known = half && is_half_open(half, w);
	if (known && !half->noted) {
		if (half->syn.retransmits < 255)
			half->syn.retransmits++;
		note_interval(w->now, &half->last_ns, &half->min_iat_ns,
			      &half->max_iat_ns);
		c->syn_retransmits++;
		return;
	}

	sample = half_open_scratch.lookup(&zero);
	if (!sample)
		return;
	note_scan(w, c, p, set->seed);
	if (known) {
		sample->half_open = *half;
	} else {
		half_open_begin(&sample->half_open, w);
		syn_packet_fill(skb, &sample->half_open.syn, p, w->now);
	}
	sample_begin(&sample->head, w, p, SAMPLE_SYN);
	sample->head.time_ns = sample->half_open.syn.time_ns;
	sample->head.born_ns = sample->half_open.syn.time_ns;
	sample->head.client = w->sender;
	sample->half_open.noted = 0;
	sample->half_open.signature =
		syn_signature(p, &sample->half_open.syn, set->seed);
	if (syn_wanted(w, c, &sample->half_open, set))
		sample->half_open.syn_sampled = sample_sent(
			c, samples.perf_submit(skb, sample, sizeof(*sample)));
	if (half)
		half_open.update(&w->key, &sample->half_open);
	else if (half_open.insert(&w->key, &sample->half_open))
		c->half_open_failed++;
	else
		c->half_open_inserts++;
}

/* A SYN-ACK that the server repeats although the handshake completed. */
static __always_inline void flow_retransmit(struct work *w, struct flow *flow)
{
	struct flow_side *side = &flow->totals.side[w->sender & 1];

	note_interval(w->now, &flow->totals.last_ns, &flow->totals.min_iat_ns,
		      &flow->totals.max_iat_ns);
	side->packets++;
	side->retransmits++;
	if (flow->synack.retransmits < 255)
		flow->synack.retransmits++;
}

static __always_inline void on_synack(struct __sk_buff *skb, struct work *w,
				      struct counters *c,
				      const struct packet *p)
{
	struct half_open_sample *sample;
	struct half_open *half;
	struct flow *flow;
	__u32 zero = 0, acked;

	c->frames_synack++;
	flow = flows.lookup(&w->id);
	if (flow && flow->totals.close == CLOSE_NONE &&
	    flow->synack.ip_version && flow->synack.seq == p->seq) {
		flow_retransmit(w, flow);
		return;
	}
	half = half_open.lookup(&w->key);
	/* it leaves when we are done: by then what was cold is past */
	if (!w->ingress)
		w->now = frame_time(skb);
	if (half) {
		/* TCP Fast Open: data of the SYN may be acknowledged too */
		acked = p->ack - half->syn.seq - 1;
		if (half->client == w->sender ||
		    (half->syn.ip_version && acked > half->syn.payload_len)) {
			c->synack_unmatched++;
			return;
		}
		note_interval(w->now, &half->last_ns, &half->min_iat_ns,
			      &half->max_iat_ns);
		if (half->synack.ip_version && half->synack.seq == p->seq) {
			if (half->synack.retransmits < 255)
				half->synack.retransmits++;
			return;
		}
		syn_packet_fill(skb, &half->synack, p, w->now);
	} else {
		sample = half_open_scratch.lookup(&zero);
		if (!sample)
			return;
		__builtin_memset(&sample->half_open, 0,
				 sizeof(sample->half_open));
		syn_packet_fill(skb, &sample->half_open.synack, p, w->now);
		sample->half_open.client = !w->sender;
		sample->half_open.last_ns = w->now;
		sample->half_open.min_iat_ns = -1;
		if (half_open.insert(&w->key, &sample->half_open)) {
			c->half_open_failed++;
			return;
		}
		c->half_open_inserts++;
	}
	/* so that a segment of a known connection looks here only if it must */
	if (flow)
		flow->totals.flags |= FLOW_PENDING;
}

/* Does the agent wait for the end, to tell what it has of the handshake? */
static __always_inline int tls_unfinished(const struct flow_totals *totals)
{
	const struct flow_side *a = &totals->side[0], *b = &totals->side[1];

	if (!(a->tls_samples | b->tls_samples))
		return 0;
	return a->tls_state != TLS_DONE || b->tls_state != TLS_DONE ||
	       totals->flags & FLOW_TLS_CUT;
}

/* Every touch counts, of a service that is known too. */
static __always_inline int may_be_scan(const struct flow_totals *totals)
{
	if (!(totals->side[0].bytes | totals->side[1].bytes))
		return 1;
	return totals->side[0].packets + totals->side[1].packets <
		       PROBE_PACKETS &&
	       !(totals->side[0].retransmits | totals->side[1].retransmits) &&
	       totals->last_ns - totals->first_ns < PROBE_NS;
}

/* 1 if the sample of the connection's end reached the ring or needs not. */
static __always_inline int send_end(struct __sk_buff *skb, struct work *w,
				    struct counters *c, const struct packet *p,
				    const struct settings *set,
				    struct flow *flow)
{
	struct end_sample *sample;
	__u32 zero = 0;

	if (!tls_unfinished(&flow->totals) && !may_be_scan(&flow->totals) &&
	    service_suppressed(w, flow->totals.client, set, SERVICE_FLOW)) {
		c->ends_suppressed++;
		return 1;
	}
	sample = end_scratch.lookup(&zero);
	if (!sample)
		return 0;
	sample_begin(&sample->head, w, p, SAMPLE_END);
	sample->head.born_ns = flow->totals.born_ns;
	sample->head.client = flow->totals.client;
	__builtin_memcpy(&sample->totals, &flow->totals, sizeof(flow->totals));
	return sample_sent(c,
			   samples.perf_submit(skb, sample, sizeof(*sample)));
}

/* Ends a connection whose 4-tuple another one takes over. */
static __always_inline void end_older(struct __sk_buff *skb, struct work *w,
				      struct counters *c,
				      const struct packet *p,
				      const struct settings *set,
				      struct flow *older)
{
	struct flow_totals *totals = &older->totals;

	if (totals->flags & FLOW_END_SENT)
		return;
	if (totals->close == CLOSE_NONE)
		totals->close =
			(totals->side[0].flags | totals->side[1].flags) &
					SIDE_FIN
				? CLOSE_FIN
				: CLOSE_IDLE;
	send_end(skb, w, c, p, set, older);
}

/*
 * Does this segment of the client complete the handshake? It must acknowledge
 * the recorded SYN-ACK to the byte, or data that the server sent with it in
 * our sight: an address alone cannot be made up into a connection.
 */
static __always_inline int completes(struct work *w, const struct packet *p,
				     const struct half_open *half)
{
	struct flow *midstream;
	__u32 acked;

	if (!half->synack.ip_version || half->client != w->sender ||
	    (p->flags & (TCP_ACK | TCP_RST)) != TCP_ACK ||
	    (__u32)(p->seq - half->synack.ack) > HANDSHAKE_SEQ_WINDOW)
		return 0;
	acked = p->ack - half->synack.seq - 1;
	midstream = midstream.lookup(&w->key);
	if (!midstream || midstream->synack.seq != half->synack.seq)
		return !acked;
	if (midstream->totals.close != CLOSE_NONE)
		return 0;
	return acked <= midstream->totals.side[!(w->sender & 1)].next_seq -
				half->synack.seq - 1;
}

/*
 * Turns an attempt into a connection and tells it. An older connection on the
 * same 4-tuple ends here. 0 if the table is full or the source has its share:
 * counted.
 */
static __always_inline int promote(struct __sk_buff *skb, struct work *w,
				   struct counters *c, const struct packet *p,
				   const struct settings *set,
				   struct half_open *half, struct flow *old)
{
	struct half_open_sample *sample;
	struct flow *fresh, *midstream, *older = old;
	struct source *source;
	__u32 zero = 0, slot;
	int met;

	/* one by one: clang would OR the pointers, the verifier forbids it */
	slot = source_slot(&w->key, half->client, set->seed);
	source = sources.lookup(&slot);
	if (!source)
		return 0;
	sample = half_open_scratch.lookup(&zero);
	if (!sample)
		return 0;
	fresh = flow_scratch.lookup(&zero);
	if (!fresh)
		return 0;
	if (!old && source->flows >= set->flows_per_source) {
		c->flow_source_capped++;
		return 0;
	}

	sample_begin(&sample->head, w, p, SAMPLE_HANDSHAKE);
	__builtin_memcpy(&sample->half_open, half, sizeof(*half));
	sample->head.client = half->client;

	midstream = midstream.lookup(&w->key);
	met = midstream && midstream->synack.seq == half->synack.seq &&
	      midstream->synack.ip_version;
	if (met) {
		__builtin_memcpy(fresh, midstream, sizeof(*midstream));
		fresh->totals.flags &= ~FLOW_MIDSTREAM;
	} else {
		flow_begin(fresh, half);
		/* both only if two CPUs race: see begin_midstream() */
		if (!older)
			older = midstream;
	}
	if (older)
		end_older(skb, w, c, p, set, older);
	if (old)
		c->flow_reopened++;
	fresh->key = w->key;
	fresh->totals.established_ns = w->now;
	fresh->totals.source_slot = slot;
	fresh->totals.rtt_client_us = rtt_us(half->synack.time_ns, w->now);
	sample->head.born_ns = fresh->totals.born_ns;

	if (flows.update(&w->id, fresh)) {
		c->flow_insert_failed++;
		return 0;
	}
	if (!old) {
		__sync_fetch_and_add(&source->flows, 1);
		c->flow_inserts++;
	}
	c->handshakes++;
	if (!half_open.delete(&w->key))
		c->half_open_deletes++;
	if (midstream && !midstream.delete(&w->key))
		c->midstream_deletes++;
	/* it tells the SYN too, if that is due */
	half = &sample->half_open;
	if ((half->syn_sampled || half->syn_suppressed ||
	     !half->syn.ip_version) &&
	    service_suppressed(w, half->client, set, SERVICE_HANDSHAKE)) {
		c->handshakes_suppressed++;
		return 1;
	}
	sample_sent(c, samples.perf_submit(skb, sample, sizeof(*sample)));
	return 1;
}

/* Opens a midstream for this payload: what half_open knows of it comes along.
 */
static __always_inline void begin_midstream(struct work *w, struct counters *c,
					    const struct packet *p,
					    const struct half_open *half)
{
	struct flow *fresh;
	__u32 zero = 0;

	if (!p->payload_len || midstream.lookup(&w->key))
		return;
	fresh = flow_scratch.lookup(&zero);
	if (!fresh)
		return;
	if (half &&
	    (half->client == w->sender
		     ? half->syn.ip_version && p->seq == half->syn.seq + 1
		     : half->synack.ip_version &&
			       p->seq == half->synack.seq + 1)) {
		flow_begin(fresh, half);
	} else {
		__builtin_memset(fresh, 0, sizeof(*fresh));
		fresh->totals.born_ns = w->now;
		fresh->totals.first_ns = w->now;
		fresh->totals.last_ns = w->now;
		fresh->totals.min_iat_ns = -1;
		fresh->totals.rtt_server_us = RTT_UNKNOWN;
		fresh->totals.rtt_client_us = RTT_UNKNOWN;
		fresh->totals.rtt_min_us = RTT_UNKNOWN;
		fresh->totals.client = CLIENT_UNKNOWN;
		side_begin_unseen(&fresh->totals.side[0]);
		side_begin_unseen(&fresh->totals.side[1]);
	}
	fresh->key = w->key;
	fresh->totals.flags = FLOW_MIDSTREAM;
	if (midstream.insert(&w->key, fresh))
		c->midstream_failed++;
	else
		c->midstream_inserts++;
}

/*
 * Has the agent told this ClientHello of this client within its window? The
 * server's answer is told none the less, so the connection remembers it, and
 * both directions stand as behind a hello that was sampled.
 */
static __always_inline int
suppress_hello(struct work *w, const struct packet *p, struct flow *flow)
{
	struct flow_side *side = &flow->totals.side[w->sender & 1];
	struct flow_side *peer = &flow->totals.side[!(w->sender & 1)];
	struct seen *seen;
	__u32 slot = (flow->hello >> 32) & (HELLO_SEEN_SLOTS - 1);

	if (p->seq != side->next_seq || p->seq != side->tls_seq)
		return 0;
	seen = hello_seen.lookup(&slot);
	if (!seen || !suppress(seen, flow->hello, w, w->sender))
		return 0;
	flow->totals.flags |= FLOW_HELLO_SUPPRESSED;
	flow->hello_end = p->seq + p->payload_len;
	side->tls_state = TLS_OPEN;
	side->tls_seq = flow->hello_end;
	open_peer(peer, p);
	return 1;
}

/* The hidden hello, or a part of it sent again. */
static __always_inline int is_suppressed_hello(const struct work *w,
					       const struct packet *p,
					       const struct flow *flow)
{
	return flow->totals.flags & FLOW_HELLO_SUPPRESSED &&
	       w->sender == flow->totals.client &&
	       seq_diff(p->seq + p->payload_len, flow->hello_end) <= 0;
}

/* Handshake bytes of this segment, if it may carry any. */
static __always_inline void
sample_tls(struct __sk_buff *skb, struct work *w, struct counters *c,
	   const struct packet *p, const struct settings *set,
	   struct flow *flow, struct flow_side *side, struct flow_side *peer,
	   __s32 ahead, int continues)
{
	__u32 payload_off = p->l4_off + p->tcp_len, avail, cut, limit,
	      frame_len;
	volatile struct record_walk *walk;
	struct sample_head head;
	struct source *source;
	__u32 zero = 0, slot;
	int error;

	if (skb->len <= payload_off ||
	    (side->tls_state == TLS_WATCH && ahead <= 0 && !side->tls_orphans &&
	     (continues || !may_begin_record(skb, payload_off))))
		return;
	walk = record_walks.lookup(&zero);
	if (!walk)
		return;
	avail = skb->len - payload_off;
	if (avail > p->payload_len)
		avail = p->payload_len;
	walk->avail = avail;
	walk->cut = 0;
	walk->flags = 0;
	walk->start_seq = 0;
	walk->restarted = 0;
	tls_scan(skb, walk, flow, side, peer, p, w->sender, payload_off, ahead);
	cut = walk->cut;
	if (!cut)
		return;
	if (cut > TLS_SEGMENT_BYTES)
		cut = TLS_SEGMENT_BYTES;
	limit = w->sender == flow->totals.client ? TLS_CLIENT_BYTES
						 : TLS_SERVER_BYTES;
	if (side->tls_bytes + cut > limit ||
	    side->tls_samples >= TLS_DIRECTION_SAMPLES) {
		side->tls_state = TLS_DONE;
		flow->totals.flags |= FLOW_TLS_CUT;
		c->tls_over_budget++;
		return;
	}
	if (!(flow->totals.flags & FLOW_ADMITTED)) {
		slot = source_slot(&w->key,
				   flow->totals.client == CLIENT_UNKNOWN
					   ? w->sender
					   : flow->totals.client,
				   set->seed);
		source = sources.lookup(&slot);
		if (!source || !token_bucket_take(&source->handshakes, w->now,
						  set->handshake_cost_ns,
						  set->handshake_burst_ns)) {
			side->tls_state = TLS_DONE;
			peer->tls_state = TLS_DONE;
			c->tls_not_admitted++;
			return;
		}
		flow->totals.flags |= FLOW_ADMITTED;
	}
	side->tls_bytes += cut;
	side->tls_samples++;
	sample_begin(&head, w, p, SAMPLE_SEGMENT);
	head.born_ns = flow->totals.born_ns;
	head.client = flow->totals.client;
	head.start_seq = walk->start_seq;
	head.flags = walk->flags;
	if (flow->totals.flags & FLOW_MIDSTREAM)
		head.flags |= SAMPLE_FLOW_MIDSTREAM;
	if (flow->totals.flags & FLOW_HELLO_SUPPRESSED)
		head.flags |= SAMPLE_HELLO_SUPPRESSED;
	if (w->hashed || flow->totals.flags & FLOW_HELLO_SUPPRESSED)
		head.hello = flow->hello;
	head.payload_off = payload_off;
	head.copied = cut;
	frame_len = payload_off + cut;
	/* a statement of its own: BCC's rewrite ends in a semicolon */
	error = samples.perf_submit_skb(skb, frame_len, &head, sizeof(head));
	if (!sample_sent(c, error))
		flow->totals.flags |= FLOW_TLS_CUT;
}

/* One segment of a known connection. */
static __always_inline void flow_segment(struct __sk_buff *skb, struct work *w,
					 struct counters *c,
					 const struct packet *p,
					 const struct settings *set,
					 struct flow *flow)
{
	struct flow_side *side, *peer;
	__s32 ahead;
	int continues;

	if (flow->totals.close != CLOSE_NONE) {
		c->frames_late++;
		return;
	}
	if (flow->totals.flags & FLOW_MIDSTREAM)
		c->frames_midstream++;
	else
		c->frames_flow++;

	side = &flow->totals.side[w->sender & 1];
	peer = &flow->totals.side[!(w->sender & 1)];
	if (flow->totals.side[0].packets | flow->totals.side[1].packets)
		note_interval(w->now, &flow->totals.last_ns,
			      &flow->totals.min_iat_ns,
			      &flow->totals.max_iat_ns);
	continues = continues_run(&flow->totals, p, w->sender);
	side->packets += packets_of(skb, p);
	side->bytes += p->payload_len;
	ahead = side->flags & SIDE_SEEN ? seq_diff(p->seq, side->next_seq) : 1;

	if (p->flags & TCP_RST) {
		if (rst_acceptable(side, peer, p->seq))
			flow->totals.close = CLOSE_RST;
	} else {
		time_segment(&flow->totals, p, w->sender, w->now, ahead);
		side_account(side, p);
		if (p->flags & TCP_ACK) {
			side->last_ack = p->ack;
			side->flags |= SIDE_ACKED;
		}
		if (p->payload_len && side->tls_state != TLS_DONE &&
		    !is_suppressed_hello(w, p, flow))
			sample_tls(skb, w, c, p, set, flow, side, peer, ahead,
				   continues);
		if (p->payload_len)
			note_run(&flow->totals, p, w->sender);
		if (p->flags & TCP_FIN)
			flow->totals.fin = 1;
		if (side_close(side, peer, p))
			flow->totals.close = CLOSE_FIN;
	}
	if (flow->totals.close != CLOSE_NONE &&
	    send_end(skb, w, c, p, set, flow))
		flow->totals.flags |= FLOW_END_SENT;
}

/*
 * The segment of a known connection that is nothing but accounted: most of all
 * there are. 0 if it may be more than that; nothing has been touched then.
 */
static __always_inline int flow_bulk(struct __sk_buff *skb, __u32 sender,
				     __u64 now, struct counters *c,
				     const struct packet *p, struct flow *flow)
{
	struct flow_side *side = &flow->totals.side[sender & 1];

	if (flow->totals.close | flow->totals.fin | flow->totals.timed |
	    (flow->totals.flags & FLOW_PENDING))
		return 0;
	if (!(side->flags & SIDE_SEEN) ||
	    (__s64)(now - flow->totals.last_ns) > (__s64)RTT_PAUSE_NS)
		return 0;
	if (p->payload_len && side->tls_state != TLS_DONE &&
	    (side->tls_state != TLS_WATCH || side->tls_orphans ||
	     seq_diff(p->seq, side->next_seq) > 0 ||
	     (!continues_run(&flow->totals, p, sender) &&
	      may_begin_record(skb, p->l4_off + p->tcp_len))))
		return 0;
	if (p->payload_len)
		note_run(&flow->totals, p, sender);
	c->frames_flow++;
	note_interval(now, &flow->totals.last_ns, &flow->totals.min_iat_ns,
		      &flow->totals.max_iat_ns);
	side->packets += packets_of(skb, p);
	side->bytes += p->payload_len;
	side_account(side, p);
	side->last_ack = p->ack;
	side->flags |= SIDE_ACKED;
	return 1;
}

/*
 * The decky tables decide, the sketch only spares most frames the look-ups:
 * a flow in the tables is of a decky anyway.
 */
static __always_inline int is_decky4(__be32 addr)
{
	return deckies4.lookup(&addr) != 0;
}

static __always_inline int is_decky6(const __be32 *addr)
{
	struct decky6 key;

	__builtin_memcpy(&key, addr, sizeof(key));
	return deckies6.lookup(&key) != 0;
}

static __always_inline void fill_mapped(struct packet *p,
					const struct ipv4_header *ip)
{
	map_address(p->saddr, ip->saddr);
	map_address(p->daddr, ip->daddr);
}

static __always_inline void fill_addresses(struct packet *p,
					   const struct ipv6_header *ip)
{
	__builtin_memcpy(p->saddr, ip->saddr, sizeof(p->saddr));
	__builtin_memcpy(p->daddr, ip->daddr, sizeof(p->daddr));
}

static __always_inline int is_ours(const struct packet *p)
{
	if (p->ip_version == 4)
		return is_decky4(p->daddr[3]) || is_decky4(p->saddr[3]);
	return is_decky6(p->daddr) || is_decky6(p->saddr);
}

/* A VEPA switch reflects lateral frames that egress has counted already. */
static __always_inline int is_vepa_echo(struct __sk_buff *skb,
					const struct packet *p)
{
	__u32 ifindex = skb->ifindex;

	if (!vepa_parents.lookup(&ifindex))
		return 0;
	if (p->ip_version == 4)
		return is_decky4(p->saddr[3]) && is_decky4(p->daddr[3]);
	return is_decky6(p->saddr) && is_decky6(p->daddr);
}

/* A frame that no further step takes, or whose addresses only looked ours. */
static __always_inline void count_ignored(struct counters *c,
					  const struct packet *p, int verdict)
{
	if (!is_ours(p))
		c->foreign_no_decky++;
	else if (verdict == PARSE_MALFORMED)
		c->ignored_ip_malformed++;
	else if (verdict == PARSE_FRAGMENT_FIRST)
		c->ignored_fragment_first++;
	else if (verdict == PARSE_FRAGMENT_LATER)
		c->ignored_fragment_later++;
	else if (verdict == PROTO_TCP)
		c->ignored_tcp_malformed++;
	else
		c->ignored_not_tcp++;
}

/*
 * Spares the segments of bulk data the jump, and all that only other frames
 * need: caches are small where the traffic is.
 */
static __always_inline int known_bulk(struct __sk_buff *skb,
				      const struct packet *p,
				      struct flow_id *id, __u32 sender,
				      __u64 now, struct counters *c)
{
	struct flow *flow;

	flow = flows.lookup(id);
	return flow && flow_bulk(skb, sender, now, c, p, flow);
}

/* None of the sketch's deckies, at neither end. */
static __always_inline int foreign4(const struct decky_filter *sketch,
				    const struct ipv4_header *ip)
{
	return !filter_has(sketch, filter_bit4(ip->daddr)) &&
	       !filter_has(sketch, filter_bit4(ip->saddr));
}

static __always_inline int foreign6(const struct decky_filter *sketch,
				    const struct ipv6_header *ip)
{
	return !filter_has(sketch, filter_bit6(ip->daddr)) &&
	       !filter_has(sketch, filter_bit6(ip->saddr));
}

/* The id of a plain segment's connection; returns the sender's end. */
static __always_inline __u32 entry_id4(struct flow_id *id,
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

static __always_inline __u32 entry_id6(struct flow_id *id,
				       const struct ipv6_header *ip,
				       const struct tcp_header *tcp, __u64 seed)
{
	__u32 sender = sender_end(ip->saddr, ip->daddr, tcp->source, tcp->dest);

	make_id6(id, sender ? ip->daddr : ip->saddr,
		 sender ? ip->saddr : ip->daddr,
		 sender ? tcp->dest : tcp->source,
		 sender ? tcp->source : tcp->dest, seed);
	return sender;
}

/* Foreign frames ask for no settings. */
static __always_inline int in_vepa(void)
{
	struct settings *set;
	__u32 zero = 0;

	set = settings.lookup(&zero);
	return !set || set->vepa;
}

/*
 * The first step, at each hook: frames that are of no decky leave here, and
 * those that are only accounted. What is behind it is a program of its own, so
 * that it is compiled and verified once; without the agent, which holds the
 * table of jumps, there is none.
 */
static __always_inline int enter(struct __sk_buff *skb, int ingress)
{
	const struct tcp_header *tcp = 0;
	struct decky_filter *sketch;
	struct settings *set;
	struct ipv4_header *ip4;
	struct ipv6_header *ip6;
	struct counters *c;
	struct cursor cur;
	struct flow_id id;
	struct packet p;
	struct work *w;
	__u32 zero = 0, sender = 0;
	__u64 now = 0;
	int proto;

	c = counters.lookup(&zero);
	if (!c)
		return TC_NEXT;
	sketch = decky_filter.lookup(&zero);
	if (!sketch)
		return TC_NEXT;
	/* drivers and tunnels may leave headers in fragments */
	if ((__u32)(skb->data_end - skb->data) < LINEAR_LEN &&
	    skb->len > (__u32)(skb->data_end - skb->data))
		bpf_skb_pull_data(skb, skb->len < LINEAR_LEN ? skb->len
							     : LINEAR_LEN);
	cur.pos = (void *)(long)skb->data;
	cur.end = (void *)(long)skb->data_end;
	proto = ethertype(&cur);
	p.l3_off = sizeof(struct eth_header);
	ip4 = cur.pos;
	ip6 = cur.pos;
	if (likely(proto == ETH_P_IPV4) && (void *)(ip4 + 1) <= cur.end) {
		if (foreign4(sketch, ip4)) {
			c->foreign_no_decky++;
			return TC_NEXT;
		}
		barrier();
		tcp = plain_tcp4(&cur, &p, skb->len);
		if (tcp) {
			sender = entry_id4(&id, ip4, tcp);
			barrier();
		}
	} else if (proto == ETH_P_IPV6 && (void *)(ip6 + 1) <= cur.end) {
		if (foreign6(sketch, ip6)) {
			c->foreign_no_decky++;
			return TC_NEXT;
		}
		barrier();
		tcp = plain_tcp6(&cur, &p, skb->len);
		if (tcp) {
			set = settings.lookup(&zero);
			if (!set)
				return TC_NEXT;
			sender = entry_id6(&id, ip6, tcp, set->seed);
			barrier();
		}
	} else if (!is_vlan(proto)) {
		c->foreign_not_ip++;
		return TC_NEXT;
	}
	/* before anything that may have to be fetched into the caches */
	if (tcp)
		now = frame_time(skb);
	/* a VEPA switch's echo must be looked into */
	if (tcp && fill_tcp(tcp, &p) >= 0 &&
	    (p.flags & (TCP_SYN | TCP_ACK | TCP_FIN | TCP_RST)) == TCP_ACK &&
	    !(ingress && in_vepa()) && known_bulk(skb, &p, &id, sender, now, c))
		return TC_NEXT;
	w = works.lookup(&zero);
	if (!w)
		return TC_NEXT;
	w->now = now;
	w->ingress = ingress;
	w->parsed = 0;
	w->handshake_tried = 0;
	w->hashed = 0;
	jumps.call(skb, JUMP_PACKET);
	return TC_NEXT;
}

int tc_ingress(struct __sk_buff *skb)
{
	return enter(skb, 1);
}

int tc_egress(struct __sk_buff *skb)
{
	return enter(skb, 0);
}

/* What a step of a frame's way works on. */
struct step {
	struct counters *counters;
	struct settings *settings;
	struct work *work;
};

/* 1 if all of it is there, which the verifier wants to be told. */
static __always_inline int step_begin(struct step *step)
{
	__u32 zero = 0;

	step->counters = counters.lookup(&zero);
	if (!step->counters)
		return 0;
	step->settings = settings.lookup(&zero);
	if (!step->settings)
		return 0;
	step->work = works.lookup(&zero);
	return step->work != 0;
}

/* Is this the first that a client sends of a connection seen from its start? */
static __always_inline int may_be_hello(const struct work *w,
					const struct packet *p,
					const struct flow *flow)
{
	const struct flow_side *side = &flow->totals.side[w->sender & 1];

	return w->sender == flow->totals.client && p->payload_len &&
	       !(p->flags & TCP_RST) && flow->totals.close == CLOSE_NONE &&
	       side->tls_state == TLS_START && !side->tls_samples &&
	       !(flow->totals.flags & FLOW_MIDSTREAM);
}

/*
 * Reads the frame's headers, all but those that take a walk: the next protocol
 * or a verdict is in w->proto. 0: none of a decky, which is counted.
 */
static __always_inline int parse_headers(struct __sk_buff *skb, struct work *w,
					 struct counters *c)
{
	struct decky_filter *sketch;
	struct packet *p = &w->packet;
	struct ipv4_header *ip4;
	struct ipv6_header *ip6;
	struct cursor cur;
	__u32 zero = 0;
	int proto;

	sketch = decky_filter.lookup(&zero);
	if (!sketch)
		return 0;
	cur.pos = (void *)(long)skb->data;
	cur.end = (void *)(long)skb->data_end;
	proto = parse_ethernet(&cur);
	p->l3_off = cur.pos - (void *)(long)skb->data;
	ip4 = cur.pos;
	ip6 = cur.pos;
	if (proto == ETH_P_IPV4 && (void *)(ip4 + 1) <= cur.end) {
		/* asked before, but not of a frame with a tag */
		if (foreign4(sketch, ip4)) {
			c->foreign_no_decky++;
			return 0;
		}
		fill_mapped(p, ip4);
		w->proto = parse_ipv4(&cur, p, skb->len);
	} else if (proto == ETH_P_IPV6 && (void *)(ip6 + 1) <= cur.end) {
		if (foreign6(sketch, ip6)) {
			c->foreign_no_decky++;
			return 0;
		}
		fill_addresses(p, ip6);
		w->proto = parse_ipv6(&cur, p, skb->len);
	} else {
		c->foreign_not_ip++;
		return 0;
	}
	return 1;
}

/* A decky's packet: known connections end here, others take one jump more. */
int decky_packet(struct __sk_buff *skb)
{
	struct step step;
	struct packet *p;
	struct flow *flow;
	int proto;

	if (!step_begin(&step))
		return TC_NEXT;
	p = &step.work->packet;
	if (!step.work->parsed) {
		if (!parse_headers(skb, step.work, step.counters))
			return TC_NEXT;
		barrier();
		proto = step.work->proto;
		if (p->ip_version == 6 && proto >= 0)
			proto = parse_extensions(skb, p, proto);
		if (step.settings->vepa && step.work->ingress &&
		    is_vepa_echo(skb, p)) {
			step.counters->ignored_vepa_echo++;
			return TC_NEXT;
		}
		if (proto != PROTO_TCP || parse_tcp(skb, p) < 0) {
			count_ignored(step.counters, p, proto);
			return TC_NEXT;
		}
		if (!step.work->now)
			step.work->now = frame_time(skb);
		step.work->sender = make_key(p, &step.work->key);
		make_id(&step.work->id, &step.work->key, p->ip_version,
			step.settings->seed);
		step.work->parsed = 1;
		if ((p->flags & (TCP_SYN | TCP_RST)) == TCP_SYN) {
			if (!is_ours(p))
				step.counters->foreign_no_decky++;
			else if (p->flags & TCP_ACK)
				jumps.call(skb, JUMP_SYNACK);
			else
				jumps.call(skb, JUMP_SYN);
			return TC_NEXT;
		}
	}

	flow = flows.lookup(&step.work->id);
	if (!flow)
		flow = midstream.lookup(&step.work->key);
	/* a handshake may be completing, over an older connection even */
	if (!step.work->handshake_tried &&
	    (!flow || flow->totals.flags & (FLOW_PENDING | FLOW_MIDSTREAM))) {
		if (!flow && !is_ours(p)) {
			step.counters->foreign_no_decky++;
			return TC_NEXT;
		}
		jumps.call(skb, JUMP_HANDSHAKE);
		return TC_NEXT;
	}
	if (!flow) {
		step.counters->frames_unattached++;
		return TC_NEXT;
	}
	if (!step.work->hashed && step.settings->dedup &&
	    may_be_hello(step.work, p, flow)) {
		jumps.call(skb, JUMP_HELLO);
		return TC_NEXT;
	}
	barrier();
	flow_segment(skb, step.work, step.counters, p, step.settings, flow);
	return TC_NEXT;
}

int decky_syn(struct __sk_buff *skb)
{
	struct step step;

	if (!step_begin(&step))
		return TC_NEXT;
	on_syn(skb, step.work, step.counters, &step.work->packet,
	       step.settings);
	return TC_NEXT;
}

int decky_synack(struct __sk_buff *skb)
{
	struct step step;

	if (!step_begin(&step))
		return TC_NEXT;
	on_synack(skb, step.work, step.counters, &step.work->packet);
	return TC_NEXT;
}

/*
 * A segment of no connection, or of one on whose 4-tuple a SYN-ACK was seen:
 * opens one if it completes a handshake or carries payload, then goes back.
 * Where there is no place for the connection, payload is met in the middle.
 */
int decky_handshake(struct __sk_buff *skb)
{
	struct step step;
	struct half_open *half;
	struct flow *flow;
	int promoted = 0;

	if (!step_begin(&step))
		return TC_NEXT;
	flow = flows.lookup(&step.work->id);
	half = half_open.lookup(&step.work->key);
	if (half && completes(step.work, &step.work->packet, half)) {
		promoted =
			promote(skb, step.work, step.counters,
				&step.work->packet, step.settings, half, flow);
		if (!promoted && flow) {
			step.counters->frames_unattached++;
			return TC_NEXT;
		}
	}
	if (!promoted && !flow) {
		begin_midstream(step.work, step.counters, &step.work->packet,
				half);
	}
	step.work->handshake_tried = 1;
	jumps.call(skb, JUMP_PACKET);
	return TC_NEXT;
}

/*
 * Hashes the ClientHello that this segment may hold, and nothing but it, and
 * goes back. The walk's state lives in a map value and is read back at each
 * step: states that the verifier compares stay equal.
 */
int decky_hello(struct __sk_buff *skb)
{
	struct hello_walk *walk;
	const __be32 *addr;
	struct packet *p;
	struct step step;
	struct flow *flow;
	__u64 hash, last;
	__u32 zero = 0;
	int more = 1;

	if (!step_begin(&step))
		return TC_NEXT;
	walk = hello_walks.lookup(&zero);
	if (!walk)
		return TC_NEXT;
	flow = flows.lookup(&step.work->id);
	if (!flow)
		return TC_NEXT;
	p = &step.work->packet;
	last = p->payload_len - 1;
	/* clang would drop a bound it can prove */
	asm volatile("" : "+r"(last));
	flow->hello = 0;
	if (last < HELLO_BYTES &&
	    !bpf_skb_load_bytes(skb, p->l4_off + p->tcp_len, walk->bytes,
				last + 1) &&
	    hello_begin(walk, last + 1, step.settings->seed)) {
#pragma clang loop unroll(disable)
		for (int i = 0; i < HELLO_STEPS; i++) {
			more = hello_step(walk, walk);
			if (more <= 0)
				break;
		}
	}
	if (!more) {
		addr = step.work->key.addr[step.work->sender & 1];
		hash = absorb(walk->hash, (__u64)addr[0] << 32 | addr[1]);
		hash = absorb(hash, (__u64)addr[2] << 32 | addr[3]);
		flow->hello = hash;
		flow->session_id = walk->session_id;
		if (suppress_hello(step.work, p, flow))
			step.counters->hellos_suppressed++;
	}
	step.work->hashed = 1;
	jumps.call(skb, JUMP_PACKET);
	return TC_NEXT;
}

#ifdef DECKWIRE_XDP
/*
 * The assist at the driver: notes a SYN's time and options as early as there
 * is a frame. TC counts it and tells it; whatever is no plain SYN to a decky
 * is TC's alone.
 */
int xdp_ingress(struct xdp_md *xdp)
{
	struct half_open_sample *scratch;
	struct ipv4_header *ip4;
	struct ipv6_header *ip6;
	struct half_open *half;
	struct tcp_header *tcp;
	struct counters *c;
	struct cursor cur;
	struct packet *p;
	struct work *w;
	__u32 zero = 0;
	int proto;

	cur.pos = (void *)(long)xdp->data;
	cur.end = (void *)(long)xdp->data_end;
	proto = parse_ethernet(&cur);
	ip4 = cur.pos;
	ip6 = cur.pos;
	if (proto == ETH_P_IPV4 && (void *)(ip4 + 1) <= cur.end) {
		if (ip4->version_ihl != 0x45 || ip4->protocol != PROTO_TCP)
			return XDP_PASS;
		tcp = (void *)(ip4 + 1);
	} else if (proto == ETH_P_IPV6 && (void *)(ip6 + 1) <= cur.end) {
		if (ip6->next_header != PROTO_TCP)
			return XDP_PASS;
		tcp = (void *)(ip6 + 1);
	} else {
		return XDP_PASS;
	}
	if ((void *)(tcp + 1) > cur.end ||
	    (be16(tcp->off_flags) & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN)
		return XDP_PASS;

	c = counters.lookup(&zero);
	if (!c)
		return XDP_PASS;
	w = works.lookup(&zero);
	if (!w)
		return XDP_PASS;
	p = &w->packet;
	p->l3_off = cur.pos - (void *)(long)xdp->data;
	if (proto == ETH_P_IPV4) {
		if (!is_decky4(ip4->daddr))
			return XDP_PASS;
		fill_mapped(p, ip4);
		proto = parse_ipv4(&cur, p, xdp->data_end - xdp->data);
	} else {
		if (!is_decky6(ip6->daddr))
			return XDP_PASS;
		fill_addresses(p, ip6);
		proto = parse_ipv6(&cur, p, xdp->data_end - xdp->data);
	}
	if (proto != PROTO_TCP || fill_tcp(tcp, p) < 0)
		return XDP_PASS;
	w->now = bpf_ktime_get_ns();
	w->sender = make_key(p, &w->key);
	half = half_open.lookup(&w->key);
	if (half && is_half_open(half, w))
		return XDP_PASS;
	scratch = half_open_scratch.lookup(&zero);
	if (!scratch)
		return XDP_PASS;
	half_open_begin(&scratch->half_open, w);
	syn_packet_begin(&scratch->half_open.syn, p, w->now);
	copy_options(&scratch->half_open.syn, (const __u8 *)(tcp + 1),
		     p->tcp_len - sizeof(*tcp), cur.end);
	scratch->half_open.noted = 1;
	if (half)
		half_open.update(&w->key, &scratch->half_open);
	else if (half_open.insert(&w->key, &scratch->half_open))
		c->half_open_failed++;
	else
		c->half_open_inserts++;
	c->syn_noted++;
	return XDP_PASS;
}
#endif

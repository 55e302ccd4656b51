/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Probes: what each source has sent to deckies, whether or not it was sampled.
 * A decoy has no legitimate traffic, so every frame has an author. The agent
 * reads the tables in its sweeps: see agent/deckwire/tables/sources.py.
 */
#ifndef DECKWIRE_PROBES_H
#define DECKWIRE_PROBES_H

#include "limits.h"
#include "abi.h"
#include "hash.h"
#include "negative.h"
#include "net.h"
#include "decky_filter.h"

#define PROTO_ICMP 1
#define PROTO_UDP 17
#define PROTO_ICMP6 58
#define PROTO_SCTP 132

/* Why decky_probe runs. */
enum touch_cause {
	TOUCH_NOTHING,
	TOUCH_SYN,	    /* then decky_syn */
	TOUCH_SYNACK,	    /* a decky's, or one that answers no SYN */
	TOUCH_HANDSHAKE,    /* it was completed; then decky_packet */
	TOUCH_SEGMENT,	    /* TCP of no connection */
	TOUCH_OTHER,	    /* no TCP, or malformed */
	TOUCH_SOLICITATION, /* to the multicast address of some address */
	TOUCH_ARP,
};

/* What a frame touches, or what it answers. */
struct touch {
	__u32 where;	   /* as in struct probe_target */
	__u32 peer_port;   /* the port or the ICMP id of the other end */
	__u8 kind;	   /* enum probe_kind; PROBE_KINDS: no probe */
	__u8 answers;	   /* bits of enum probe_answer */
	__u8 of_decky;	   /* the decky is the sender: its peer is the source */
	__u8 may_be_asked; /* it may answer a decky, or ask somebody for one */
	__u8 by_type;	   /* its type shows whether it asks or answers */
	__u8 pad[3];
};

#define NO_SOURCE 0xffffffff

/* ff02::1:ff00:0/104 (RFC 4291, 2.7.1). */
static __always_inline int is_solicited_node(const __be32 *addr)
{
	return be32(addr[0]) == 0xff020000 && !addr[1] && be32(addr[2]) == 1 &&
	       be32(addr[3]) >> 24 == 0xff;
}

/* The seeded hash of an address: agent/deckwire/abi/hashes.py has the same. */
static __always_inline __u64 probe_hash(__u64 seed, const __be32 *addr,
					__u8 ip_version)
{
	if (ip_version == 4)
		return absorb(seed, addr[3]);
	return absorb_address(seed, addr);
}

static __always_inline __u32 where_of(__u8 protocol, __u16 port)
{
	return (__u32)protocol << 16 | port;
}

/*
 * Does this RST of a decky answer a segment without ACK? Then it has no
 * sequence number of its own (RFC 9293, 3.10.7.1), unlike all that answer a
 * wrong ACK or end a connection.
 */
static __always_inline int refuses_opening(const struct packet *p)
{
	return p->flags & TCP_ACK && !p->seq;
}

/*
 * What the RST that refuses an opening shows of its sender's system: bits of
 * enum probe_answer. Over IPv6 nothing: a router may choose the hop limit.
 */
static __always_inline __u8 refusal_look(const struct packet *p)
{
	__u8 ttl = 1 << ANSWER_TTL_255;

	if (p->ip_version != 4)
		return 0;
	if (p->ttl <= 64)
		ttl = 1 << ANSWER_TTL_64;
	else if (p->ttl <= 128)
		ttl = 1 << ANSWER_TTL_128;
	return ttl | (p->ip_id ? 1 << ANSWER_ID : 1 << ANSWER_NO_ID);
}

/*
 * What a segment of no connection probes, by its flags. A segment with URG or
 * PSH and nothing else is sent by no stack and is no scan with a name.
 */
static __always_inline enum probe_kind segment_kind(__u16 flags)
{
	if (flags & TCP_RST)
		return PROBE_RST;
	if (flags & TCP_SYN)
		return PROBE_SYN;
	switch (flags & (TCP_FIN | TCP_ACK)) {
	case TCP_FIN | TCP_ACK:
		return PROBE_MAIMON;
	case TCP_ACK:
		return PROBE_ACK;
	case TCP_FIN:
		return flags & (TCP_PSH | TCP_URG) ? PROBE_XMAS : PROBE_FIN;
	}
	return flags & (TCP_PSH | TCP_URG) ? PROBE_MALFORMED : PROBE_NULL;
}

/*
 * The sources of one hash: the slots set * PROBE_SOURCE_WAYS and on of
 * probe_sources. One cache line, so that a flood touches few others.
 */
struct source_set {
	__u32 tag[PROBE_SOURCE_WAYS];  /* hash of the address; 0: free */
	__u32 seen[PROBE_SOURCE_WAYS]; /* the last probe, by probe_clock() */
	__u8 rank[PROBE_SOURCE_WAYS];  /* enum source_rank */
	__u32 lock;
	__u32 pad[6];
};

/* Which sources stay. */
enum source_rank {
	RANK_FEW = 0,
	RANK_MANY = 1,	 /* more targets than PROBE_INLINE */
	RANK_PROVEN = 2, /* it completed a handshake */
};

/* Time in units of 1.05 ms. */
static __always_inline __u32 probe_clock(__u64 now)
{
	return now >> 20;
}

#define NO_WAY PROBE_SOURCE_WAYS

/* The way of this tag in its set, or NO_WAY. */
static __always_inline __u32 way_of(const struct source_set *set, __u32 tag)
{
	__u32 way = NO_WAY;

#pragma unroll
	for (int i = 0; i < PROBE_SOURCE_WAYS; i++)
		way -= (NO_WAY - i) * negative((__u64)(set->tag[i] ^ tag) - 1);
	return way;
}

/* A way that is one, for 5.10: it loses the bounds of a spilled number. */
static __always_inline __u32 bounded_way(__u32 way)
{
	asm volatile("" : "+r"(way));
	return way & (PROBE_SOURCE_WAYS - 1);
}

/*
 * The slot that a new source gets: a free one, else that of the source that was
 * silent for longest and may go. NO_WAY: none may.
 */
static __always_inline __u32 way_to_take(const struct source_set *set,
					 __u64 now, int proven)
{
	__u64 many = proven ? 0 : probe_clock(PROBE_MANY_NS), score, best = 0;
	const __u32 last = PROBE_SOURCE_WAYS - 1;
	__u64 silent, keep, behind;

#pragma unroll
	for (int i = 0; i < PROBE_SOURCE_WAYS; i++) {
		silent = (__s64)(__s32)(probe_clock(now) - set->seen[i]);
		silent *= 1 - negative(silent);
		keep = (set->rank[i] & RANK_MANY) * many +
		       (set->rank[i] >> 1) * probe_clock(PROBE_PROVEN_NS);
		/* 0: it may not go */
		score = (silent + 1) * (1 - negative(silent - keep));
		/* a free one is better than any */
		score |= negative((__u64)set->tag[i] - 1) << 32;
		/* of two alike, the first one */
		score = score << 2 | (last - i);
		behind = best - score;
		best -= behind * negative(behind);
	}
	return best > last ? last - (best & last) : NO_WAY;
}

/*
 * Takes the lock of a set, without waiting. Linux 5.10 has no atomic operation
 * that returns a value, so of two CPUs that come at once neither may get it.
 */
static __always_inline int set_lock(__u32 *lock)
{
#pragma unroll
	for (int i = 0; i < PROBE_TRIES; i++) {
		__sync_fetch_and_add(lock, 1);
		if (*(volatile __u32 *)lock == 1)
			return 1;
		__sync_fetch_and_add(lock, -1);
	}
	return 0;
}

static __always_inline void set_unlock(__u32 *lock)
{
	__sync_fetch_and_add(lock, -1);
}

/*
 * The slot's new source. Targets are valid up to their number only. Only who
 * has the lock of the set writes the generation.
 */
static __always_inline void source_begin(struct probe_source *source,
					 const __be32 *addr, __u64 now)
{
	__u32 generation = source->generation + 1;

	*(volatile __u32 *)&source->generation = generation;
	/* odd before anything changes, and even after all has */
	asm volatile("" : : : "memory");
	source->addr[0] = addr[0];
	source->addr[1] = addr[1];
	source->addr[2] = addr[2];
	source->addr[3] = addr[3];
	source->first_ns = now;
	source->last_ns = now;
	source->targets = 0;
	source->targets_lost = 0;
	__builtin_memset(source->mac, 0, sizeof(source->mac));
	source->flags = 0;
	source->syns = 0;
	source->kinds = 0;
	source->repeated = 0;
	asm volatile("" : : : "memory");
	*(volatile __u32 *)&source->generation = generation + 1;
}

/* Counts a probe. The count is valid from the second one of its kind on. */
static __always_inline void source_count(struct probe_source *source,
					 __u32 kind)
{
	__u32 *count = &source->probes[kind];

	/* kept: Linux 5.10 loses the bounds of a spilled number */
	asm volatile("" : "+r"(count));
	if (source->repeated >> kind & 1) {
		__sync_fetch_and_add(count, 1);
	} else if (source->kinds >> kind & 1) {
		*count = 2;
		source->repeated |= 1U << kind;
	} else {
		source->kinds |= 1U << kind;
	}
}

static __always_inline int is_source(const struct probe_source *source,
				     const __be32 *addr)
{
	return source->addr[3] == addr[3] && source->addr[2] == addr[2] &&
	       source->addr[1] == addr[1] && source->addr[0] == addr[0];
}

static __always_inline int is_target(const struct probe_target *target,
				     __u64 decky, __u32 where)
{
	return target->decky == decky && target->where == where;
}

/* Where in the source's slot this target is, or PROBE_INLINE. */
static __always_inline __u32 inline_target(const struct probe_source *source,
					   __u64 decky, __u32 where)
{
	__u32 known = source->targets, at = PROBE_INLINE;

	/* without a way out, or clang makes a loop that 5.10 cannot bound */
#pragma unroll
	for (int i = 0; i < PROBE_INLINE; i++)
		if (i < known && is_target(&source->target[i], decky, where))
			at = i;
	return at;
}

static __always_inline void target_begin(struct probe_target *target,
					 __u64 decky, __u32 where, __u64 now)
{
	target->decky = decky;
	target->where = where;
	target->first_ns = now;
	target->kinds = 0;
	target->answers = 0;
	target->refused = 0;
}

/* Takes in when a target refused. 0: it did so before, in the same unit. */
static __always_inline int target_refuses(struct probe_target *target,
					  __u64 now)
{
	__u64 after = (now - target->first_ns) >> REFUSED_SHIFT;

	if (after <= target->refused || after > 255)
		return 0;
	target->refused = after;
	return 1;
}

/* The first target of a new source. */
static __always_inline void source_aim(struct probe_source *source, __u64 decky,
				       __u32 where, __u64 now)
{
	target_begin(&source->target[0], decky, where, now);
	asm volatile("" : : : "memory");
	source->targets = 1;
}

/* Takes in a probe of a known target. 0 if the target shows nothing new. */
static __always_inline int target_note(struct probe_target *target,
				       const struct touch *touch, __u64 now)
{
	__u32 kinds = touch->kind < PROBE_KINDS ? 1U << touch->kind : 0;
	__u8 answers = touch->answers;
	int refuses = 0;

	if (answers & 1 << ANSWER_REFUSED)
		refuses = target_refuses(target, now);
	if ((target->kinds | kinds) == target->kinds &&
	    (target->answers | answers) == target->answers)
		return refuses;
	target->kinds |= kinds;
	target->answers |= answers;
	return 1;
}

/* Ports of UDP and SCTP, and the first chunk of the latter (RFC 9260, 3). */
struct port_header {
	__be16 source;
	__be16 dest;
	__be32 tag;
	__be32 check;
	__u8 chunk;
	__u8 pad[3];
};

#define SCTP_ABORT 6

struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 check;
	__be16 id;
	__be16 seq;
};

#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_QUENCH 4
#define ICMP_REDIRECT 5
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER 12
#define ICMP_TIMESTAMP 13
#define ICMP_TIMESTAMP_REPLY 14

#define ICMP6_UNREACHABLE 1
#define ICMP6_PARAMETER 4
#define ICMP6_ERRORS 127 /* the last type of an error (RFC 4443, 2.1) */
#define ICMP6_ECHO 128
#define ICMP6_ECHO_REPLY 129
#define ICMP6_LISTENERS 130 /* to 132: multicast listeners */
#define ICMP6_SOLICITATION 135
#define ICMP6_ADVERTISEMENT 136
#define ICMP6_REDIRECT 137
#define ICMP6_LISTENERS2 143
#define ICMP6_PORT_UNREACHABLE 4

/* ARP for IPv4 over Ethernet (RFC 826). */
struct arp_packet {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 op;
	__u8 sender_mac[6];
	__be16 sender[2];
	__u8 target_mac[6];
	__be16 target[2];
};

#define ARP_REQUEST 1
#define ARP_REPLY 2

/*
 * May this ARP packet at the cursor be about a decky? Others stay as cheap as
 * they can be.
 */
static __always_inline int arp_has_decky(const struct decky_filter *filter,
					 const struct cursor *c)
{
	const struct arp_packet *arp = c->pos;
	__be32 sender, target;

	if ((void *)(arp + 1) > c->end)
		return 0;
	__builtin_memcpy(&sender, arp->sender, sizeof(sender));
	__builtin_memcpy(&target, arp->target, sizeof(target));
	return filter_has(filter, filter_bit4(target)) ||
	       filter_has(filter, filter_bit4(sender));
}

/* What a datagram to a decky may answer: its ends and what it is sent to. */
static __always_inline __u64 asked_hash(__u64 ends, __u32 where,
					__u32 peer_port)
{
	return absorb(ends, (__u64)where << 32 | peer_port);
}

/* The same of the reply to a datagram. ICMP has one id for both. */
static __always_inline __u64 reply_hash(__u64 ends, const struct touch *touch)
{
	__u32 port = touch->where & 0xffff, protocol = touch->where >> 16;

	if (!port)
		return asked_hash(ends, touch->where, touch->peer_port);
	return asked_hash(ends, where_of(protocol, touch->peer_port), port);
}

/* To many hosts: of nobody in particular. */
static __always_inline int is_to_many(const struct packet *p)
{
	__u32 first = be32(p->ip_version == 4 ? p->daddr[3] : p->daddr[0]);

	return first >> 24 >= (p->ip_version == 4 ? 224 : 255);
}

static __always_inline int is_begun(const struct begun *begun,
				    const struct packet *p, __u8 protocol,
				    __u16 port)
{
	return begun->port == port && begun->protocol == protocol &&
	       begun->decky[3] == p->saddr[3] &&
	       begun->peer[3] == p->daddr[3] &&
	       begun->decky[2] == p->saddr[2] &&
	       begun->peer[2] == p->daddr[2] &&
	       begun->decky[1] == p->saddr[1] &&
	       begun->peer[1] == p->daddr[1] &&
	       begun->decky[0] == p->saddr[0] && begun->peer[0] == p->daddr[0];
}

static __always_inline void begun_begin(struct begun *begun,
					const struct packet *p, __u8 protocol,
					__u16 decky_port, __u16 port,
					__u64 link, __u64 now)
{
	__builtin_memcpy(begun->decky, p->saddr, sizeof(begun->decky));
	__builtin_memcpy(begun->peer, p->daddr, sizeof(begun->peer));
	begun->first_ns = now;
	begun->last_ns = now;
	begun->link = link;
	begun->count = 1;
	begun->decky_port = decky_port;
	begun->port = port;
	begun->protocol = protocol;
	begun->turn++;
}

/* A datagram that a decky sent, and when: see ASKED_NS. */
struct asked {
	__u32 tag;
	__u32 seen; /* by probe_clock() */
};

#endif

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The programs at the interface of the deckies. Every path passes the frame on.
 * A frame goes this way:
 *
 *   tc_ingress, tc_egress   foreign frames leave, bulk data is accounted
 *   decky_packet            TCP of a known connection
 *   decky_check             would the decky accept this segment?
 *   decky_anomaly           a frame that is not what it seems
 *   decky_probe             who has sent this to which decky, and its answer
 *   decky_begun             a datagram that a decky sends on its own
 *   decky_syn, decky_synack a connection becomes half-open
 *   decky_handshake         its final ACK, or a mid-stream connection begins
 *   decky_options           options that few systems send, for decky_handshake
 *   decky_hello             a ClientHello: was an equal one emitted?
 *   decky_head              the beginning of SSH: the same question
 *   decky_search            is there a hello behind other bytes? If not, bulk
 *                           data is accounted
 *   decky_rest              behind many tiny records, or behind what seemed TLS
 *   decky_tags              a frame with many VLAN tags
 *   decky_fragment          an IP fragment: the agent gets it
 *   reassembled             the packet that the agent made of fragments
 *   xdp_ingress             optional: notes a SYN before TC
 *
 * BCC rewrites map calls in this file only. Functions without map calls are in
 * the headers.
 */
#include "limits.h"
#include "abi.h"
#include "net.h"
#include "hash.h"
#include "maps.h"
#include "flow_key.h"
#include "decky_filter.h"
#include "token_bucket.h"
#include "timing.h"
#include "sample.h"
#include "syn.h"
#include "half_open.h"
#include "seq.h"
#include "tls_records.h"
#include "heads.h"
#include "client_hello.h"
#include "ssh_head.h"
#include "receiver.h"
#include "tls_search.h"
#include "flow.h"
#include "suppress.h"
#include "fragments.h"

/* The next program at the hook runs. After TC_ACT_OK none would. */
#define TC_NEXT (-1)

/*
 * Memory is read again after it. The compiler then keeps less in registers, and
 * the verifier has fewer states to follow.
 */
#define barrier() asm volatile("" : : : "memory")

/* Bytes of linear data that the parsers up to IP need. */
#define LINEAR_LEN                                                             \
	(sizeof(struct eth_header) +                                           \
	 MAX_VLAN_TAGS * sizeof(struct vlan_header) +                          \
	 sizeof(struct ipv6_header))

/* The maps of decky addresses decide. The Bloom filter only saves look-ups. */
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

static __always_inline int is_to_decky(const struct packet *p)
{
	return p->ip_version == 4 ? is_decky4(p->daddr[3])
				  : is_decky6(p->daddr);
}

static __always_inline int is_from_decky(const struct packet *p)
{
	return p->ip_version == 4 ? is_decky4(p->saddr[3])
				  : is_decky6(p->saddr);
}

static __always_inline int is_ours(const struct packet *p)
{
	return is_to_decky(p) || is_from_decky(p);
}

/*
 * Goes on in another program: comes back only if there is none. The assembly
 * keeps each call apart. Clang would make one of all calls in a program, and
 * one that goes to several programs is an indirect jump, which takes 10 ns more
 * where the kernel guards those.
 */
static __always_inline void jump(struct __sk_buff *skb, enum jump program)
{
	jumps.call(skb, program);
	asm volatile("" : : "i"(program));
}

/* --- tc_ingress, tc_egress ----------------------------------------------- */

/* Foreign frames do not look up the settings. */
static __always_inline int in_vepa(void)
{
	struct settings *set;
	__u32 zero = 0;

	set = settings.lookup(&zero);
	return !set || set->vepa;
}

/*
 * Segments of bulk data need neither the jump nor any memory that only other
 * frames use: where the traffic is, caches are small.
 */
static __always_inline int known_bulk(struct __sk_buff *skb, struct counters *c,
				      const struct packet *p,
				      struct flow_id *id, __u32 sender,
				      __u64 now, int ingress)
{
	struct flow *flow;

	flow = flows.lookup(id);
	return flow && flow_bulk(skb, c, p, flow, sender, now, ingress, 0);
}

/* What no later step has found out of this packet yet. */
static __always_inline void work_begin(struct work *w, __u64 now, int ingress)
{
	w->now = now;
	w->ingress = ingress;
	w->parsed = 0;
	w->handshake_tried = 0;
	w->search_tried = 0;
	w->hashed = 0;
	w->l3_off = 0;
	w->repeats = 0;
	w->checked = JUDGED_NOT;
	w->unknown = 0;
	w->searched = 0;
	w->again = 0;
	w->technique = TECHNIQUE_NONE;
	w->cause = TOUCH_NOTHING;
	w->to_decky = 0;
	w->half_open = 0;
	w->restarts = 0;
	w->options_read = 0;
	w->head_read = 0;
	w->head_known = 0;
	w->chain = 0;
	w->found = NOT_FOUND;
	w->rest = NOT_FOUND;
}

/*
 * The first step, at each hook. Foreign frames leave here, and so do segments
 * that are only accounted. The later steps are programs of their own, so that
 * each is compiled and verified once. Without the agent, which holds the map of
 * jumps, there is no later step.
 */
static __always_inline int enter(struct __sk_buff *skb, int ingress)
{
	const struct tcp_header *tcp = 0;
	const struct ipv4_header *ip4;
	const struct ipv6_header *ip6;
	struct decky_filter *filter;
	struct settings *set;
	struct counters *c;
	struct cursor cur;
	struct flow_id id;
	struct packet p;
	struct work *w;
	__u32 zero = 0, sender = 0;
	__u64 now = 0;
	int ethertype;

	c = counters.lookup(&zero);
	if (!c)
		return TC_NEXT;
	filter = decky_filter.lookup(&zero);
	if (!filter)
		return TC_NEXT;
	/* drivers and tunnels may leave headers in fragments */
	if ((__u32)(skb->data_end - skb->data) < LINEAR_LEN &&
	    skb->len > (__u32)(skb->data_end - skb->data))
		bpf_skb_pull_data(skb, skb->len < LINEAR_LEN ? skb->len
							     : LINEAR_LEN);
	cur = frame_cursor(skb);
	ethertype = parse_ethernet(&cur);
	p.l3_off = sizeof(struct eth_header);
	ip4 = cur.pos;
	ip6 = cur.pos;
	if (likely(ethertype == ETH_P_IPV4) && (void *)(ip4 + 1) <= cur.end) {
		if (filter_foreign4(filter, ip4)) {
			c->foreign_no_decky++;
			return TC_NEXT;
		}
		barrier();
		if (is_bare4(ip4) &&
		    parse_ipv4(&cur, &p, skb->len) == PROTO_TCP)
			tcp = linear_tcp(&cur);
		if (tcp) {
			sender = header_id4(&id, ip4, tcp);
			barrier();
		}
	} else if (ethertype == ETH_P_IPV6 && (void *)(ip6 + 1) <= cur.end) {
		if (filter_foreign6(filter, ip6)) {
			c->foreign_no_decky++;
			return TC_NEXT;
		}
		barrier();
		if (is_bare6(ip6) &&
		    parse_ipv6(&cur, &p, skb->len) == PROTO_TCP)
			tcp = linear_tcp(&cur);
		if (tcp) {
			set = settings.lookup(&zero);
			if (!set)
				return TC_NEXT;
			sender = header_id6(&id, ip6, tcp, set->seed);
			barrier();
		}
	} else if (ethertype == ETH_P_ARP && arp_has_decky(filter, &cur)) {
		barrier();
	} else if (!is_vlan(ethertype)) {
		c->foreign_not_ip++;
		return TC_NEXT;
	}
	/* before anything that may have to be fetched into the caches */
	if (tcp)
		now = frame_time(skb);
	/* the echo of a VEPA switch needs decky_packet */
	if (tcp && fill_tcp(&p, tcp) == 0 && is_plain(&p) &&
	    !(ingress && in_vepa()) &&
	    known_bulk(skb, c, &p, &id, sender, now, ingress))
		return TC_NEXT;
	w = works.lookup(&zero);
	if (!w)
		return TC_NEXT;
	work_begin(w, now, ingress);
	w->reassembled = 0;
	jump(skb, JUMP_PACKET);
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

/*
 * The first step of a packet that the agent has put together from fragments. It
 * comes by test runs only, so no frame at a hook can pretend to be one. Its
 * time is that of the fragment that completed it.
 */
int reassembled(struct __sk_buff *skb)
{
	__u32 zero = 0, slot = SCRATCH_REASSEMBLED;
	struct counters *c;
	struct work *w;

	c = counters.lookup(&zero);
	if (!c)
		return TC_NEXT;
	w = works.lookup(&slot);
	if (!w)
		return TC_NEXT;
	c->packets_reassembled++;
	work_begin(w, skb->tstamp, skb->cb[0] & REASSEMBLED_INGRESS);
	w->reassembled = 1;
	jump(skb, JUMP_PACKET);
	return TC_NEXT;
}

/* What all later steps work on. */
struct step {
	struct counters *counters;
	struct settings *settings;
	struct work *work;
	__u32 slot; /* enum scratch */
};

/* The key of the scratch values. Maps take no const keys, and read them only.
 */
static __always_inline __u32 *scratch_slot(const struct step *s)
{
	return (__u32 *)&s->slot;
}

/* 1 if all of it is there, which the verifier demands to be checked. */
static __always_inline int step_begin(struct __sk_buff *skb, struct step *s)
{
	__u32 zero = 0;

	s->counters = counters.lookup(&zero);
	if (!s->counters)
		return 0;
	s->settings = settings.lookup(&zero);
	if (!s->settings)
		return 0;
	s->slot = is_reassembled(skb, s->settings->seed) ? SCRATCH_REASSEMBLED
							 : SCRATCH_FRAME;
	s->work = works.lookup(scratch_slot(s));
	return s->work != 0;
}

/*
 * Reads the time of a frame of a handshake again if it goes out: it leaves only
 * after the programs, and what they touch may not be in the caches. One that
 * comes in has its time from before them.
 */
static __always_inline void note_leaving(struct __sk_buff *skb, struct work *w)
{
	if (!w->ingress && !w->reassembled)
		w->now = frame_time(skb);
}

/* --- decky_anomaly -------------------------------------------------------- */

/* The key of a frame without ports. */
static __always_inline void make_portless_key(struct __sk_buff *skb,
					      const struct step *s)
{
	struct work *w = s->work;
	struct packet *p = &w->packet;

	p->sport = 0;
	p->dport = 0;
	p->seq = 0;
	p->ack = 0;
	p->flags = 0;
	p->payload_len = 0;
	if (!w->now)
		w->now = frame_time(skb);
	w->sender = make_key(p, &w->key);
}

/*
 * Is this anomaly worth a sample? A flood of one technique ends at the slot of
 * its signature, and one from forged sources at the budgets.
 */
static __always_inline int anomaly_wanted(const struct step *s, __u64 signature,
					  __u8 client)
{
	struct counters *c = s->counters;
	struct token_bucket *budget, *source;
	struct work *w = s->work;
	struct seen *seen, *second;
	__u32 slot, zero = 0;

	slot = seen_slot(signature, 0, ANOMALY_SEEN_SLOTS);
	seen = anomaly_seen.lookup(&slot);
	if (!seen)
		return 0;
	slot = seen_slot(signature, 1, ANOMALY_SEEN_SLOTS);
	second = anomaly_seen.lookup(&slot);
	if (!second)
		return 0;
	if (is_in_second(seen, second, signature))
		seen = second;
	if (s->settings->dedup &&
	    suppress(seen, signature, w->now, decky_bit(&w->key, client))) {
		c->anomalies_suppressed++;
		return 0;
	}
	slot = source_slot(&w->key, w->sender, s->settings->seed);
	source = anomaly_sources.lookup(&slot);
	budget = anomaly_budget.lookup(&zero);
	/* the source first: what it has too much costs the others nothing */
	if (!source || !budget ||
	    !token_bucket_take(source, w->now, ANOMALY_SOURCE_COST_NS,
			       ANOMALY_BURST_NS) ||
	    !token_bucket_take(budget, w->now, ANOMALY_COST_NS,
			       ANOMALY_BURST_NS)) {
		c->anomalies_over_budget++;
		return 0;
	}
	if (s->settings->dedup)
		suppress_tentatively(seen, signature, w->now);
	return 1;
}

/*
 * Reports that the frame in the work is not what it seems, by w->technique. It
 * changes nothing but its own tables and is the last step of its frame.
 */
int decky_anomaly(struct __sk_buff *skb)
{
	struct anomaly_sample *sample;
	struct flow *flow = 0;
	struct work *w;
	struct step s;
	__u64 signature;
	__u8 client;

	if (!step_begin(skb, &s))
		return TC_NEXT;
	w = s.work;
	s.counters->anomalies++;
	if (w->parsed)
		flow = flows.lookup(&w->id);
	else
		make_portless_key(skb, &s);
	client = w->sender & 1;
	if (flow && flow->totals.client != CLIENT_UNKNOWN)
		client = flow->totals.client & 1;
	signature = anomaly_signature(&w->key, client, s.settings->seed,
				      w->technique, flow != 0);
	if (!anomaly_wanted(&s, signature, client))
		return TC_NEXT;
	sample = anomaly_scratch.lookup(scratch_slot(&s));
	if (!sample)
		return TC_NEXT;
	__builtin_memset(sample, 0, sizeof(*sample));
	sample_begin(&sample->head, SAMPLE_ANOMALY, &w->packet, &w->key,
		     w->sender, w->now);
	sample->head.client = client;
	sample->signature = signature;
	sample->ack = w->packet.ack;
	sample->tcp_flags = w->packet.flags;
	sample->technique = w->technique;
	if (flow) {
		sample->head.born_ns = flow->totals.born_ns;
		sample->expected_seq = flow->totals.end[w->sender & 1].sent;
		sample->expected_ack = flow->totals.end[!(w->sender & 1)].sent;
		sample->known = 1;
	}
	sample_sent(s.counters,
		    samples.perf_submit(skb, sample, sizeof(*sample)),
		    sizeof(*sample));
	return TC_NEXT;
}

/* --- decky_packet --------------------------------------------------------- */

/* A VEPA switch reflects lateral frames that egress has already counted. */
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

/* What an analyst calls a refusal, by enum judgement. */
static __always_inline enum technique technique_of(enum judgement rule)
{
	switch (rule) {
	case REFUSED_FORGED:
		return TECHNIQUE_FORGED_SOURCE;
	case REFUSED_WINDOW:
		return TECHNIQUE_REFUSED_WINDOW;
	case REFUSED_NO_ACK:
		return TECHNIQUE_REFUSED_FLAGS;
	case REFUSED_ACK_UNSENT:
	case REFUSED_ACK_OLD:
		return TECHNIQUE_REFUSED_ACK;
	case REFUSED_RST:
		return TECHNIQUE_REFUSED_RST;
	case REFUSED_SYNACK:
		return TECHNIQUE_FORGED_SYNACK;
	case REFUSED_AFTER_FIN:
		return TECHNIQUE_DATA_AFTER_FIN;
	case REFUSED_SIGNATURE:
		return TECHNIQUE_REFUSED_OPTION;
	case REFUSED_TIMESTAMP:
		return TECHNIQUE_REFUSED_TIMESTAMP;
	default:
		return TECHNIQUE_REFUSED_CHECKSUM;
	}
}

/*
 * Counts and reports a segment that changes nothing: the decky drops it. It is
 * the last step of its frame.
 */
static __always_inline void refused(struct __sk_buff *skb, const struct step *s,
				    enum judgement rule)
{
	struct counters *c = s->counters;

	c->frames_refused++;
	switch (rule) {
	case REFUSED_FORGED:
		c->refused_forged++;
		break;
	case REFUSED_WINDOW:
		c->refused_window++;
		break;
	case REFUSED_NO_ACK:
		c->refused_no_ack++;
		break;
	case REFUSED_ACK_UNSENT:
	case REFUSED_ACK_EARLY:
		c->refused_ack_unsent++;
		break;
	case REFUSED_ACK_OLD:
		c->refused_ack_old++;
		break;
	case REFUSED_RST:
	case REFUSED_RST_LATE:
		c->refused_rst++;
		break;
	case REFUSED_SYNACK:
		c->refused_synack++;
		break;
	case REFUSED_AFTER_FIN:
		c->refused_after_fin++;
		break;
	case REFUSED_SIGNATURE:
		c->refused_signature++;
		break;
	case REFUSED_TIMESTAMP:
		c->refused_timestamp++;
		break;
	case REFUSED_CHECKSUM:
		c->refused_checksum++;
		break;
	default:
		c->refused_ip_checksum++;
	}
	if (rule == REFUSED_RST_LATE || rule == REFUSED_ACK_EARLY)
		return;
	s->work->technique = technique_of(rule);
	jump(skb, JUMP_ANOMALY);
}

/* A frame without valid TCP, or one that the Bloom filter let through. */
static __always_inline void count_ignored(const struct step *s, int verdict)
{
	const struct packet *p = &s->work->packet;
	struct counters *c = s->counters;

	s->work->to_decky = is_to_decky(p);
	if (!s->work->to_decky && !is_from_decky(p)) {
		c->foreign_no_decky++;
		if (verdict == PROTO_ICMP6 && is_solicited_node(p->daddr))
			s->work->cause = TOUCH_SOLICITATION;
		return;
	}
	if (!is_fragment(verdict))
		s->work->cause = TOUCH_OTHER;
	if (verdict == PARSE_TOO_MANY_HEADERS) {
		c->ignored_ext_headers++;
		s->work->technique = TECHNIQUE_TOO_MANY_HEADERS;
	} else if (verdict == PARSE_MALFORMED) {
		c->ignored_ip_malformed++;
	} else if (verdict == PARSE_FRAGMENT_FIRST) {
		c->ignored_fragment_first++;
	} else if (verdict == PARSE_FRAGMENT_LATER) {
		c->ignored_fragment_later++;
	} else if (verdict == PROTO_TCP) {
		c->ignored_tcp_malformed++;
	} else {
		c->ignored_not_tcp++;
	}
}

/* Parses all headers into the work. 0: the frame is counted and done. */
static __always_inline int parse_frame(struct __sk_buff *skb,
				       const struct step *s)
{
	struct packet *p = &s->work->packet;
	struct decky_filter *filter;
	struct cursor cur;
	__u32 zero = 0;
	int ethertype, proto;
	__u64 off;

	filter = decky_filter.lookup(&zero);
	if (!filter)
		return 0;
	cur = frame_cursor(skb);
	if (s->work->l3_off) {
		ethertype = s->work->ethertype;
		off = s->work->l3_off;
		if (off > MAX_LINEAR_OFFSET)
			return 0;
		cur.pos += off;
	} else {
		ethertype = parse_vlan_tags(&cur, parse_ethernet(&cur));
		if (is_vlan(ethertype)) {
			jump(skb, JUMP_TAGS);
			return 0;
		}
	}
	s->work->proto = parse_ip(&cur, p, ethertype, skb->len);
	barrier();
	proto = s->work->proto;
	if (proto == PARSE_NOT_IP) {
		s->counters->foreign_not_ip++;
		if (ethertype == ETH_P_ARP)
			s->work->cause = TOUCH_ARP;
		return 0;
	}
	/* the entry has checked all but frames with a tag */
	if (p->l3_off != sizeof(struct eth_header) &&
	    filter_foreign(filter, p)) {
		s->counters->foreign_no_decky++;
		return 0;
	}
	if (s->work->reassembled)
		p->ip_flags |= IP_FLAG_REASSEMBLED;
	if (p->ip_version == 6 && proto >= 0)
		proto = parse_extensions(skb, p, proto);
	s->work->proto = proto;
	if (s->settings->vepa && s->work->ingress && is_vepa_echo(skb, p)) {
		s->counters->ignored_vepa_echo++;
		return 0;
	}
	if (proto != PROTO_TCP || parse_tcp(skb, p) < 0) {
		count_ignored(s, proto);
		return 0;
	}
	if (!s->work->now)
		s->work->now = frame_time(skb);
	s->work->sender = make_key(p, &s->work->key);
	make_id(&s->work->id, &s->work->key, p->ip_version, s->settings->seed);
	s->work->parsed = 1;
	return 1;
}

/*
 * Has the agent emitted this event of the client and the service? The figures
 * of a suppressed connection are added up for its summary.
 */
static __always_inline int service_suppressed(const struct step *s, __u8 client,
					      enum service_event event,
					      const struct flow_totals *totals)
{
	struct flow_sums *sums;
	struct seen *seen, *second;
	__u64 signature;
	__u32 slot, other;

	if (!s->settings->dedup || client == CLIENT_UNKNOWN)
		return 0;
	signature = service_signature(&s->work->key, client, s->settings->seed,
				      event);
	slot = seen_slot(signature, 0, SERVICE_SEEN_SLOTS);
	seen = service_seen.lookup(&slot);
	if (!seen)
		return 0;
	other = seen_slot(signature, 1, SERVICE_SEEN_SLOTS);
	second = service_seen.lookup(&other);
	if (!second)
		return 0;
	if (is_in_second(seen, second, signature)) {
		seen = second;
		slot = other;
	}
	if (!suppress(seen, signature, s->work->now,
		      decky_bit(&s->work->key, client)))
		return 0;
	if (totals) {
		sums = service_sums.lookup(&slot);
		if (sums)
			flow_sums_add(sums, totals);
	}
	return 1;
}

/*
 * Is there budget for a sample of this connection? All those that anybody can
 * have forged share one, so that they cannot push out samples of others.
 */
static __always_inline int midstream_admitted(const struct step *s,
					      const struct flow *flow)
{
	struct token_bucket *budget;
	__u32 zero = 0;

	if (!is_unproven(&flow->totals))
		return 1;
	budget = midstream_budget.lookup(&zero);
	if (budget && token_bucket_take(budget, s->work->now,
					s->settings->midstream_cost_ns,
					s->settings->midstream_burst_ns))
		return 1;
	s->counters->midstream_over_budget++;
	return 0;
}

/*
 * Is half of this CPU's ring taken? The other half is for samples that nothing
 * makes good: segments above all. Else a flood of handshakes would push out the
 * ClientHellos of others.
 */
static __always_inline int is_ring_crowded(const struct step *s)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct ring *ring;

	ring = rings.lookup(&cpu);
	return ring && ring->half &&
	       (__s64)(s->counters->samples_bytes - ring->read) >
		       (__s64)ring->half;
}

/* The same, for a sample that a sweep of the agent makes good: it is counted.
 */
static __always_inline int is_deferred(const struct step *s)
{
	if (!is_ring_crowded(s))
		return 0;
	s->counters->samples_deferred++;
	return 1;
}

/*
 * 1 if the sample of the connection's end is in the ring or is suppressed. It
 * may be deferred if the connection stays in flows.
 */
static __always_inline int send_end(struct __sk_buff *skb, const struct step *s,
				    struct flow *flow, int stays)
{
	struct end_sample *sample;

	if (!midstream_admitted(s, flow))
		return 0;
	if (!is_unproven(&flow->totals) && !tls_unfinished(&flow->totals) &&
	    !head_unfinished(&flow->totals.side[0]) &&
	    !head_unfinished(&flow->totals.side[1]) &&
	    !may_be_scan(&flow->totals) &&
	    service_suppressed(s, flow->totals.client, SERVICE_FLOW,
			       &flow->totals)) {
		s->counters->ends_suppressed++;
		return 1;
	}
	if (stays && !(flow->totals.flags & FLOW_MIDSTREAM) && is_deferred(s))
		return 0;
	sample = end_scratch.lookup(scratch_slot(s));
	if (!sample)
		return 0;
	sample_begin(&sample->head, SAMPLE_END, &s->work->packet, &s->work->key,
		     s->work->sender, s->work->now);
	sample->head.born_ns = flow->totals.born_ns;
	sample->head.client = flow->totals.client;
	__builtin_memcpy(&sample->totals, &flow->totals, sizeof(flow->totals));
	sample->isn[0] = initial_seq(flow, 0);
	sample->isn[1] = initial_seq(flow, 1);
	return sample_sent(s->counters,
			   samples.perf_submit(skb, sample, sizeof(*sample)),
			   sizeof(*sample));
}

/* Does the source of this connection have budget for its handshake bytes? */
static __always_inline int admit(const struct step *s, struct flow *flow)
{
	struct source *source;
	__u8 client = flow->totals.client;
	__u32 slot;

	if (flow->totals.flags & FLOW_ADMITTED)
		return 1;
	slot = source_slot(&s->work->key,
			   client == CLIENT_UNKNOWN ? s->work->sender : client,
			   s->settings->seed);
	source = sources.lookup(&slot);
	if (!source || !token_bucket_take(&source->handshakes, s->work->now,
					  s->settings->handshake_cost_ns,
					  s->settings->handshake_burst_ns))
		return 0;
	flow->totals.flags |= FLOW_ADMITTED;
	return 1;
}

/* More than a handshake has: the rest of this direction is not read. */
static __always_inline void
stop_reading(const struct step *s, struct flow *flow, struct flow_side *side)
{
	side->tls_state = TLS_DONE;
	flow->totals.flags |= FLOW_TLS_CUT;
	s->counters->tls_over_budget++;
	s->work->technique = TECHNIQUE_EXCESS_HANDSHAKE;
}

/* Samples the handshake bytes of this segment, if it may hold any. */
static __always_inline void
sample_tls(struct __sk_buff *skb, const struct step *s, const struct packet *p,
	   struct flow *flow, struct flow_side *side, struct flow_side *peer)
{
	__u32 payload_off = p->l4_off + p->tcp_len, cut, fresh, limit;
	__u32 frame_len, at;
	volatile struct record_walk *walk;
	struct work *w = s->work;
	struct sample_head head;
	__u64 first;
	int error;

	if (w->found == NOT_FOUND &&
	    !may_hold_record(skb, p, side, payload_off, w->ahead, w->early,
			     w->continues))
		return;
	walk = record_walks.lookup(scratch_slot(s));
	if (!walk)
		return;
	record_walk_begin(walk, skb, side, p, payload_off, w->ahead, w->early);
	walk->known = w->head_known;
	/* what was found is not what this end begins with */
	if (w->found != NOT_FOUND && walk->at_start) {
		walk->decided = load_header(skb, side, p, &at, &first);
		walk->first = first;
	}
	tls_scan(skb, walk, flow, side, peer, p, w->sender, payload_off,
		 w->found);
	tls_keep(walk, side);
	if (s->settings->heads)
		head_scan(walk, flow, side, peer, s->settings->heads);
	head_keep(walk, side, w->head_read, w->chain, w->packet_end);
	w->rest = walk->rest;
	cut = walk->cut;
	/* an urgent pointer is sampled without bytes too: it marks one */
	if (!cut && !(p->flags & TCP_URG)) {
		/* a hello may be in it */
		if (w->early == EARLY_WANTED || w->early == EARLY_FAR)
			s->counters->tls_search_cut++;
		return;
	}
	/* a second sample of the same bytes is for what is new in it */
	if (w->again && w->found == NOT_FOUND && !walk->flags)
		return;
	if (is_head_alone(walk) && is_ring_crowded(s)) {
		side->head = 0;
		/* nor does the chain of SSH go on: the agent has none of it */
		side->tls_header = 0;
		s->counters->heads_left_out++;
		return;
	}
	if (cut > TLS_SEGMENT_BYTES)
		cut = TLS_SEGMENT_BYTES;
	/* who opened the connection may be the TLS server */
	limit = w->sender == flow->totals.client &&
				!(peer->offers & OFFER_HELLO)
			? TLS_CLIENT_BYTES
			: TLS_SERVER_BYTES;
	fresh = fresh_bytes(cut, walk->ahead);
	if (side->tls_bytes + fresh > limit ||
	    side->tls_samples >= TLS_DIRECTION_SAMPLES) {
		if (side->tls_state == TLS_DONE)
			return;
		stop_reading(s, flow, side);
		return;
	}
	if (limit == TLS_CLIENT_BYTES &&
	    (side->tls_bytes ^ (side->tls_bytes + fresh)) & -TLS_ADMIT_BYTES)
		flow->totals.flags &= ~FLOW_ADMITTED;
	if (!midstream_admitted(s, flow))
		return;
	if (!admit(s, flow)) {
		side->tls_state = TLS_DONE;
		peer->tls_state = TLS_DONE;
		s->counters->tls_not_admitted++;
		return;
	}
	side->tls_bytes += fresh;
	side->tls_samples++;
	sample_begin(&head, SAMPLE_SEGMENT, p, &w->key, w->sender, w->now);
	head.born_ns = flow->totals.born_ns;
	head.client = flow->totals.client;
	head.start_seq = walk->start_seq;
	head.flags |= walk->flags;
	if (walk->flags & SAMPLE_HEAD) {
		head.start_seq = initial_seq(flow, w->sender) + 1;
		head.head = walk->head;
	}
	if (flow->totals.flags & FLOW_MIDSTREAM)
		head.flags |= SAMPLE_FLOW_MIDSTREAM;
	if (flow->totals.flags & FLOW_PROVEN)
		head.flags |= SAMPLE_FLOW_PROVEN;
	if (flow->totals.flags & FLOW_HELLO_SUPPRESSED)
		head.flags |= SAMPLE_HELLO_SUPPRESSED;
	if (w->hashed || flow->totals.flags & FLOW_HELLO_SUPPRESSED)
		head.hello = flow->hello;
	if (walk->flags & SAMPLE_HEAD && w->chain &&
	    head_kind(side) == HEAD_SSH)
		head.hello = w->chain & ~SSH_STATE;
	if (walk->flags & SAMPLE_HEAD && walk->chain && side->tls_samples == 1)
		head.before = walk->chain & ~SSH_STATE;
	head.payload_off = payload_off;
	head.copied = cut;
	frame_len = payload_off + cut;
	/* a statement of its own: BCC's rewrite ends in a semicolon */
	error = samples.perf_submit_skb(skb, frame_len, &head, sizeof(head));
	if (!sample_sent(s->counters, error, sizeof(head) + frame_len))
		flow->totals.flags |= FLOW_TLS_CUT;
}

/*
 * Samples an ACK of a decky that holds handshake bytes out of order: it shows
 * which copy of overlapping ones it has kept.
 */
static __always_inline void sample_sack(struct __sk_buff *skb,
					const struct step *s, struct flow *flow,
					struct flow_side *side,
					const struct flow_side *peer)
{
	const struct packet *p = &s->work->packet;
	const struct work *w = s->work;
	struct sample_head head;
	__u32 frame_len;
	int error;

	if (!(flow->totals.rules[!(w->sender & 1)] & RULES_JUDGED) ||
	    !(flow->totals.flags & FLOW_ADMITTED) || !wants_sack(side, peer))
		return;
	side->tls_samples++;
	sample_begin(&head, SAMPLE_SACK, p, &w->key, w->sender, w->now);
	head.born_ns = flow->totals.born_ns;
	head.client = flow->totals.client;
	head.seq = p->ack;
	head.start_seq = p->l4_off + sizeof(struct tcp_header);
	head.payload_off = p->l4_off + p->tcp_len;
	frame_len = head.payload_off;
	/* a statement of its own: BCC's rewrite ends in a semicolon */
	error = samples.perf_submit_skb(skb, frame_len, &head, sizeof(head));
	sample_sent(s->counters, error, sizeof(head) + frame_len);
}

/* Does this segment need decky_hello first? */
static __always_inline int wants_hash(const struct step *s,
				      const struct flow *flow)
{
	const struct work *w = s->work;

	return !w->hashed && s->settings->dedup && w->checked != JUDGED_OLD &&
	       (may_be_hello(flow, &w->packet, w->sender) ||
		may_repeat_hello(flow, &w->packet, w->sender));
}

/* Does this segment need decky_head first? */
static __always_inline int wants_chain(struct __sk_buff *skb,
				       const struct step *s,
				       const struct flow *flow)
{
	const struct work *w = s->work;
	const struct packet *p = &w->packet;
	const struct flow_side *side = &flow->totals.side[w->sender & 1];

	if (!p->payload_len || side->tls_state > TLS_WATCH || w->head_read ||
	    w->checked == JUDGED_OLD || flow->totals.close != CLOSE_NONE ||
	    p->flags & (TCP_RST | TCP_URG) || side->flags & SIDE_HOLE ||
	    flow->totals.flags & FLOW_MIDSTREAM ||
	    p->seq != flow->totals.end[w->sender & 1].sent)
		return 0;
	if (!s->settings->dedup || !wants_head(s->settings->heads, HEAD_SSH))
		return 0;
	if (side->tls_state == TLS_WATCH)
		return side->head && head_chain(side) &&
		       (side->tls_header & SSH_STATE) != SSH_FINISHED;
	return !side->tls_samples &&
	       (head_kind(side) == HEAD_SSH ||
		may_begin_with(skb, p->l4_off + p->tcp_len, 'S'));
}

/* Does this segment need decky_search first? It is asked once. */
static __always_inline int wants_search(struct __sk_buff *skb,
					const struct step *s,
					const struct flow *flow)
{
	struct work *w = s->work;

	if (w->search_tried || w->checked == JUDGED_OLD)
		return 0;
	w->search_tried = 1;
	return may_search(skb, flow, &w->packet, w->sender, &w->found);
}

/* Opens a connection again that a RST seemed to have ended. */
static __always_inline int resume(const struct step *s, struct flow *flow)
{
	struct flow_totals *totals = &flow->totals;
	const struct work *w = s->work;

	/* a decky that sends a SYN-ACK has left the connection before */
	if (!resumes(totals, w->sender, &w->packet, w->now) || is_pending(flow))
		return 0;
	/* in mid-stream no rule shows that the sender is a decky */
	if (totals->flags & FLOW_MIDSTREAM && !is_from_decky(&w->packet))
		return 0;
	totals->close = CLOSE_NONE;
	totals->rules[!(w->sender & 1)] += RULES_RESUMED - RULES_RESET;
	totals->ends = 0;
	totals->end_sent = 0;
	s->counters->flows_resumed++;
	return 1;
}

/* A segment of a known connection. */
static __always_inline void
flow_segment(struct __sk_buff *skb, const struct step *s, struct flow *flow)
{
	const struct packet *p = &s->work->packet;
	struct flow_side *side, *peer;
	struct work *w = s->work;
	struct flow_end *own;
	__s32 ahead;

	/*
	 * Whatever is known here and needed at the end is kept in the work: as
	 * a constant in a register, the verifier would follow each of its
	 * values through all that is between.
	 */
	w->closed = flow->totals.close != CLOSE_NONE && !resume(s, flow);
	barrier();
	/* a packet that is handled late was here before the end */
	if (w->closed && !is_late(&flow->totals, p, w->now)) {
		s->counters->frames_late++;
		return;
	}
	if (flow->totals.flags & FLOW_MIDSTREAM)
		s->counters->frames_midstream++;
	else
		s->counters->frames_flow++;

	side = &flow->totals.side[w->sender & 1];
	peer = &flow->totals.side[!(w->sender & 1)];
	own = &flow->totals.end[w->sender & 1];
	if (flow->totals.side[0].packets | flow->totals.side[1].packets)
		note_packet(p, w->now, &flow->totals.last_ns,
			    &flow->totals.min_iat_ns, &flow->totals.max_iat_ns);
	w->continues = continues_run(&flow->totals, p, w->sender);
	w->early = earliness(&flow->totals, p, w->sender);
	if (w->early == EARLY_WANTED)
		begin_turn(&flow->totals, w->sender);
	barrier();
	side->packets += packets_of(skb, p);
	side->bytes += p->payload_len;
	if (w->checked == JUDGED_OLD) {
		s->counters->segments_old++;
		account_old(side, p);
		return;
	}
	if (is_unproven(&flow->totals) && proves(&flow->totals, w->sender, p))
		flow->totals.flags |= FLOW_PROVEN;
	if (!w->ingress && !(flow->totals.rules[w->sender & 1] & RULES_LOCAL))
		flow->totals.rules[w->sender & 1] |= RULES_LOCAL;
	ahead = side->flags & SIDE_SEEN ? seq_diff(p->seq, own->sent) : 1;

	if (p->flags & TCP_RST) {
		if (w->checked == JUDGED_GOOD ||
		    rst_acceptable(&flow->totals, w->sender, p->seq)) {
			close_flow(&flow->totals, CLOSE_RST);
			flow->totals.rules[w->sender & 1] |= RULES_RESET;
		}
	} else {
		time_segment(&flow->totals, p, w->sender, w->now, ahead);
		w->ahead = is_repeated(side, p, ahead) ? AHEAD_REPEATED : ahead;
		barrier();
		side_account(side, own, p);
		if (p->flags & TCP_ACK)
			note_first_ack(side, own, p);
		if (has_sack(side, p))
			sample_sack(skb, s, flow, side, peer);
		if ((p->flags & TCP_URG ||
		     (p->payload_len && side->tls_state != TLS_DONE)) &&
		    !repeats_suppressed_hello(flow, w))
			sample_tls(skb, s, p, flow, side, peer);
		if (p->payload_len)
			note_run(&flow->totals, p, w->sender);
		if (p->flags & TCP_FIN)
			flow->totals.no_bulk = 1;
		if (side_close(side, peer, &flow->totals.end[!(w->sender & 1)],
			       p))
			close_flow(&flow->totals, CLOSE_FIN);
	}
	/* of an end in doubt the agent's sweep learns, if it is one by then */
	if (!w->closed && flow->totals.close != CLOSE_NONE &&
	    !is_end_doubted(&flow->totals, w->sender) &&
	    claim_end(&flow->totals) && send_end(skb, s, flow, 1))
		flow->totals.end_sent = 1;
}

/*
 * The last step of a segment, unless a part of it is to be read yet: behind
 * more headers than are read at once, or behind bytes that go on with no record
 * and have an unanswered hello or nothing of TLS before them.
 */
static __always_inline void segment_end(struct __sk_buff *skb,
					const struct step *s,
					const struct flow *flow)
{
	struct work *w = s->work;
	__u8 state = flow->totals.side[w->sender & 1].tls_state;

	if (w->technique) {
		jump(skb, JUMP_ANOMALY);
		return;
	}
	/* nothing was found in what was searched before */
	if (w->rest == NOT_FOUND || state == TLS_DONE ||
	    (state != TLS_OPEN && w->searched && w->found == NOT_FOUND))
		return;
	w->again++;
	if (state == TLS_OPEN) {
		w->found = NOT_FOUND;
		jump(skb, JUMP_REST);
	} else if (w->searched < TLS_SEARCHES) {
		w->found = w->rest;
		jump(skb, JUMP_SEARCH);
	}
	s->counters->tls_search_cut++;
}

/* Does this segment need decky_check first? */
static __always_inline int needs_check(const struct step *s,
				       const struct flow *flow)
{
	const struct work *w = s->work;

	if (flow->totals.flags & FLOW_MIDSTREAM)
		return 0;
	return is_judged(&flow->totals, w->sender) ||
	       is_forged(&flow->totals, w->sender, w->ingress);
}

/*
 * A frame that may involve a decky. One of a known connection is accounted
 * here, perhaps after another program has looked at it.
 */
int decky_packet(struct __sk_buff *skb)
{
	struct packet *p;
	struct flow *flow;
	struct step s;

	if (!step_begin(skb, &s))
		return TC_NEXT;
	p = &s.work->packet;
	if (!s.work->parsed) {
		s.work->proto = PARSE_NOT_IP;
		if (!parse_frame(skb, &s)) {
			if (is_fragment(s.work->proto))
				jump(skb, JUMP_FRAGMENT);
			else if (s.work->cause)
				jump(skb, JUMP_PROBE);
			else if (s.work->technique)
				jump(skb, JUMP_ANOMALY);
			return TC_NEXT;
		}
		if ((p->flags & (TCP_SYN | TCP_RST)) == TCP_SYN) {
			s.work->cause =
				p->flags & TCP_ACK ? TOUCH_SYNACK : TOUCH_SYN;
			s.work->to_decky = is_to_decky(p);
			if (!s.work->to_decky && !is_from_decky(p))
				s.counters->foreign_no_decky++;
			else if (s.work->to_decky && p->flags & TCP_ACK)
				jump(skb, JUMP_SYNACK);
			else if (p->flags & TCP_ACK)
				/* first, because its time is read last */
				jump(skb, JUMP_PROBE);
			else if (may_search_syn(skb, p, &s.work->found))
				jump(skb, JUMP_SEARCH);
			else
				jump(skb, JUMP_PROBE);
			return TC_NEXT;
		}
	}

	/* a connection in these maps involves a decky */
	flow = flows.lookup(&s.work->id);
	if (!flow)
		flow = midstream_flows.lookup(&s.work->key);
	/* a handshake may complete, even where an older connection is */
	if (!s.work->handshake_tried &&
	    (!flow || flow->totals.flags & FLOW_MIDSTREAM ||
	     is_pending(flow))) {
		if (!flow) {
			s.work->to_decky = is_to_decky(p);
			if (!s.work->to_decky && !is_from_decky(p)) {
				s.counters->foreign_no_decky++;
				return TC_NEXT;
			}
		}
		s.work->unknown = !flow;
		jump(skb, JUMP_HANDSHAKE);
		return TC_NEXT;
	}
	/* it has gone, or no table has room for it: the segment is no probe */
	if (!flow) {
		s.counters->frames_unattached++;
		return TC_NEXT;
	}
	if (s.work->checked == JUDGED_NOT && needs_check(&s, flow)) {
		jump(skb, JUMP_CHECK);
		return TC_NEXT;
	}
	if (wants_hash(&s, flow)) {
		jump(skb, JUMP_HELLO);
		return TC_NEXT;
	}
	/* decky_check sees no mid-stream connections */
	if (is_forged(&flow->totals, s.work->sender, s.work->ingress)) {
		refused(skb, &s, REFUSED_FORGED);
		return TC_NEXT;
	}
	if (wants_chain(skb, &s, flow)) {
		jump(skb, JUMP_HEAD);
		return TC_NEXT;
	}
	if (wants_search(skb, &s, flow)) {
		jump(skb, JUMP_SEARCH);
		return TC_NEXT;
	}
	barrier();
	flow_segment(skb, &s, flow);
	segment_end(skb, &s, flow);
	return TC_NEXT;
}

/* --- decky_check ---------------------------------------------------------- */

static __always_inline enum judgement judge(struct __sk_buff *skb,
					    const struct step *s,
					    struct flow *flow,
					    volatile struct segment_walk *walk)
{
	const struct packet *p = &s->work->packet;
	struct flow_totals *totals = &flow->totals;
	__u32 sender = s->work->sender;
	enum judgement verdict, data;
	int late;

	if (is_forged(totals, sender, s->work->ingress))
		return REFUSED_FORGED;
	late = is_late(totals, p, s->work->now);
	if ((totals->close != CLOSE_NONE && !late) ||
	    !is_judged(totals, sender))
		return JUDGED_GOOD;
	restore_sent(totals, sender, p);
	data = judge_segment(flow, sender, p, late);
	if (data != JUDGED_GOOD && data != REFUSED_AFTER_FIN)
		return data;
	verdict = judge_checksums(skb, totals, sender, p, walk);
	if (verdict != JUDGED_GOOD)
		return verdict;
	read_options(skb, walk, p, 1);
	verdict = judge_options(totals, sender, p, late, walk);
	if (verdict != JUDGED_GOOD)
		return verdict;
	note_stamp(totals, sender, p, walk);
	if (data == REFUSED_AFTER_FIN)
		take_ack_alone(totals, sender, p, s->work->now);
	return data;
}

/* Would the decky accept this segment? What it drops ends here. */
int decky_check(struct __sk_buff *skb)
{
	enum judgement verdict;
	struct segment_walk *walk;
	struct flow *flow;
	struct step s;

	if (!step_begin(skb, &s))
		return TC_NEXT;
	walk = segment_walks.lookup(&s.slot);
	if (!walk)
		return TC_NEXT;
	flow = flows.lookup(&s.work->id);
	if (!flow) {
		s.counters->frames_unattached++;
		return TC_NEXT;
	}
	verdict = judge(skb, &s, flow, walk);
	if (verdict > JUDGED_OLD) {
		note_doubt(&flow->totals, s.work->sender, verdict);
		refused(skb, &s, verdict);
		return TC_NEXT;
	}
	s.work->checked = verdict;
	if (wants_hash(&s, flow))
		jump(skb, JUMP_HELLO);
	else if (wants_search(skb, &s, flow))
		jump(skb, JUMP_SEARCH);
	else
		jump(skb, JUMP_PACKET);
	return TC_NEXT;
}

/* --- the host itself --------------------------------------------------------
 */

/* Where a frame has its MAC addresses. */
#define DESTINATION_MAC_OFF 0
#define SOURCE_MAC_OFF 6
#define MAC_LEN 6

/* Is this end of the frame the host, by its address and by its MAC address? */
static __always_inline int is_own_end(struct __sk_buff *skb, const __be32 *addr,
				      __u32 mac_off)
{
	struct own_mac mac = {};
	struct decky6 key;

	__builtin_memcpy(&key, addr, sizeof(key));
	if (!own_addresses.lookup(&key))
		return 0;
	if (bpf_skb_load_bytes(skb, mac_off, mac.addr, MAC_LEN))
		return 0;
	return own_macs.lookup(&mac) != 0;
}

/*
 * Did the host open the connection that this frame belongs to? `client` is 1 if
 * the sender is the client, 0 if the receiver is, -1 if that is unknown.
 */
static __always_inline int is_own_host(struct __sk_buff *skb,
				       const struct step *s, int client)
{
	const struct packet *p = &s->work->packet;

	if (!s->settings->own_host)
		return 0;
	if (client != 0 && is_own_end(skb, p->saddr, SOURCE_MAC_OFF))
		return 1;
	return client != 1 && is_own_end(skb, p->daddr, DESTINATION_MAC_OFF);
}

/* --- decky_probe ---------------------------------------------------------- */

/*
 * The time of a frame without TCP, to a tick of 10 ms or less. To read the
 * clock would take as long as all else that is done with the frame. Frames of
 * one tick keep their order.
 */
static __always_inline __u64 coarse_time(struct __sk_buff *skb, struct work *w)
{
#ifdef DECKWIRE_REPLAY_CLOCK
	return frame_time(skb);
#else
	__u64 tick = bpf_jiffies64();

	if (tick == w->tick)
		return ++w->time_ns;
	w->tick = tick;
	w->time_ns = frame_time(skb);
	return w->time_ns;
#endif
}

/* The agent's next sweep reads this set again. */
static __always_inline void mark_probes(__u32 at)
{
	__u64 *mark = probe_marks.lookup(&at);

	if (mark)
		*mark = 1;
}

/*
 * A way for a new source in its set, or NO_WAY. Its first target, if it has
 * one, needs no lock of its own.
 */
static __always_inline __u32 take_way(const struct step *s,
				      struct source_set *set, __u32 number,
				      __u32 tag, const __be32 *addr,
				      const struct touch *touch, __u64 decky)
{
	struct probe_source *source;
	__u64 now = s->work->now;
	__u32 way, slot;

	if (!set_lock(&set->lock))
		return NO_WAY;
	/* another CPU may have been faster */
	way = way_of(set, tag);
	if (way != NO_WAY)
		goto out;
	way = way_to_take(set, now, touch->kind == PROBE_CONNECT);
	if (way >= PROBE_SOURCE_WAYS)
		goto out;
	slot = number * PROBE_SOURCE_WAYS + way;
	source = probe_sources.lookup(&slot);
	if (!source) {
		way = NO_WAY;
		goto out;
	}
	if (set->tag[bounded_way(way)])
		s->counters->probe_sources_evicted++;
	set->tag[bounded_way(way)] = 0;
	source_begin(source, addr, now);
	if (touch->kind < PROBE_KINDS)
		source_aim(source, decky, touch->where, now);
	set->rank[bounded_way(way)] = RANK_FEW;
	set->seen[bounded_way(way)] = probe_clock(now);
	set->tag[bounded_way(way)] = tag;
out:
	set_unlock(&set->lock);
	return way;
}

enum touched {
	TOUCHED, /* known, or added */
	NOT_TOUCHED,
	NO_ROOM,
};

/* A target that is not in the source's slot, in one of its two sets. */
static __always_inline enum touched
touch_in_set(const struct step *s, __u32 number, struct probe_source *source,
	     __u32 slot, __u64 decky, const struct touch *touch, int add)
{
	__u32 generation = source->generation, at = PROBE_WAYS, other, was = 0;
	struct probe_source *owner;
	struct probe_target *target;
	struct target_set *set;
	__u32 room = PROBE_WAYS;

	set = probe_targets.lookup(&number);
	if (!set)
		return NOT_TOUCHED;
#pragma unroll
	for (int i = 0; i < PROBE_WAYS; i++) {
		target = &set->target[i];
		if (target->owner == generation && target->source == slot &&
		    is_target(target, decky, touch->where))
			at = i;
		else if (!target->owner)
			room = i;
	}
	if (at < PROBE_WAYS) {
		if (target_note(&set->target[at], touch, s->work->now))
			source->changes++;
		return TOUCHED;
	}
	if (!add)
		return room < PROBE_WAYS ? NOT_TOUCHED : NO_ROOM;
	/* those of a source that has lost its slot */
	if (room >= PROBE_WAYS) {
#pragma unroll
		for (int i = 0; i < PROBE_WAYS; i++) {
			other = set->target[i].source;
			owner = probe_sources.lookup(&other);
			if (owner &&
			    owner->generation != set->target[i].owner) {
				room = i;
				was = set->target[i].owner;
			}
		}
	}
	if (room >= PROBE_WAYS || !set_lock(&set->lock))
		return NO_ROOM;
	target = &set->target[room];
	if (target->owner != was) {
		set_unlock(&set->lock);
		return NO_ROOM;
	}
	target->owner = 0;
	target_begin(target, decky, touch->where, s->work->now);
	target_note(target, touch, s->work->now);
	target->source = slot;
	barrier();
	target->owner = generation;
	set_unlock(&set->lock);
	__sync_fetch_and_add(&source->targets, 1);
	return TOUCHED;
}

/* The same in both sets. The second is used only if the first has no room. */
static __always_inline enum touched
touch_further(const struct step *s, struct probe_source *source, __u32 slot,
	      __u64 decky, const struct touch *touch, int add)
{
	enum touched result;
	__u32 number;
	__u64 hash;

	hash = absorb(decky, (__u64)source->generation << 32 | slot);
	hash = absorb(hash, touch->where);
	add = add && source->targets < PROBE_SOURCE_TARGETS;
	number = (hash >> 32) & (PROBE_TARGET_SETS - 1);
	result = touch_in_set(s, number, source, slot, decky, touch, add);
	if (result != NO_ROOM)
		return result;
	number = (hash >> 8) & (PROBE_TARGET_SETS - 1);
	return touch_in_set(s, number, source, slot, decky, touch, add);
}

/*
 * Takes in a target that is not in the source's slot, or an answer about one:
 * only a touch adds a target.
 */
static __always_inline enum touched touch_target(const struct step *s,
						 struct source_set *set,
						 struct probe_source *source,
						 __u32 slot, __u64 decky,
						 const struct touch *touch)
{
	__u32 known = source->targets, at;
	int add = touch->kind < PROBE_KINDS;
	enum touched result = NO_ROOM;

	if (known >= PROBE_INLINE) {
		result = touch_further(s, source, slot, decky, touch, add);
	} else if (!add) {
		result = NOT_TOUCHED;
	} else if (set_lock(&set->lock)) {
		at = source->targets;
		if (at < PROBE_INLINE) {
			target_begin(&source->target[at], decky, touch->where,
				     s->work->now);
			target_note(&source->target[at], touch, s->work->now);
			barrier();
			source->targets = at + 1;
			result = TOUCHED;
		}
		set_unlock(&set->lock);
	}
	if (add && result != TOUCHED) {
		__sync_fetch_and_add(&source->targets_lost, 1);
		s->counters->probe_targets_lost++;
	}
	return result;
}

/* Does a decky send this? Some others count too: see decky_filter.h. */
static __always_inline int may_be_from_decky(const struct step *s)
{
	struct decky_filter *filter;
	__u32 zero = 0;

	if (!s->work->to_decky)
		return 1;
	filter = decky_filter.lookup(&zero);
	return !filter || filter_source(filter, &s->work->packet);
}

/* Has the decky sent this peer something that this datagram may answer? */
static __always_inline int was_asked(const struct step *s, __u64 hash)
{
	__u32 slot = (hash >> 32) & (ASKED_SLOTS - 1);
	struct asked *asked = asked_by_deckies.lookup(&slot);

	return asked && asked->tag == (__u32)hash &&
	       probe_clock(s->work->now) - asked->seen <= probe_clock(ASKED_NS);
}

static __always_inline void note_asked(const struct step *s, __u64 hash)
{
	__u32 slot = (hash >> 32) & (ASKED_SLOTS - 1);
	struct asked *asked = asked_by_deckies.lookup(&slot);

	if (!asked)
		return;
	asked->tag = hash;
	asked->seen = probe_clock(s->work->now);
}

/* The Ethernet source of the frame. */
static __always_inline void note_mac(struct __sk_buff *skb,
				     struct probe_source *source)
{
	const struct eth_header *eth = (void *)(long)skb->data;

	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		return;
	/* two words: clang copies what it takes for unaligned byte by byte */
	*(__u32 *)source->mac = *(const __u32 *)eth->src;
	*(__u16 *)&source->mac[4] = *(const __u16 *)&eth->src[4];
}

/* Fetches the set of a SYN's source, and each slot that the source may have. */
static __always_inline void fetch_source(const struct step *s)
{
	const struct packet *p = &s->work->packet;
	struct probe_source *source;
	struct source_set *set;
	__u32 number, slot;
	__u64 hash;

	hash = probe_hash(s->settings->seed,
			  s->work->to_decky ? p->saddr : p->daddr,
			  p->ip_version);
	number = (hash >> 32) & (PROBE_SOURCE_SETS - 1);
	set = source_sets.lookup(&number);
	if (set)
		(void)*(volatile __u32 *)&set->tag[0];
#pragma unroll
	for (int i = 0; i < PROBE_SOURCE_WAYS; i++) {
		slot = number * PROBE_SOURCE_WAYS + i;
		source = probe_sources.lookup(&slot);
		if (source) {
			(void)*(volatile __u32 *)&source->generation;
			(void)*(volatile __u32 *)&source->seq[0];
		}
	}
}

/* Takes in the touch of the frame in the work. */
static __always_inline void record(struct __sk_buff *skb, const struct step *s,
				   const struct touch *touch)
{
	__u32 number, tag, way, slot, kind, at = PROBE_INLINE;
	const struct packet *p = &s->work->packet;
	struct probe_source *source = 0;
	enum touched touched = NO_ROOM;
	struct work *w = s->work;
	struct source_set *set;
	__u64 hash, decky, asked = 0;
	__be32 addr[4];
	int is_probe;

	kind = touch->kind;
	is_probe = kind < PROBE_KINDS;
	if (touch->of_decky) {
		__builtin_memcpy(addr, p->daddr, sizeof(addr));
		decky = probe_hash(s->settings->seed, p->saddr, p->ip_version);
	} else {
		__builtin_memcpy(addr, p->saddr, sizeof(addr));
		decky = probe_hash(s->settings->seed, p->daddr, p->ip_version);
	}
	hash = probe_hash(s->settings->seed, addr, p->ip_version);
	number = (hash >> 32) & (PROBE_SOURCE_SETS - 1);
	tag = (__u32)hash | 1;
	set = source_sets.lookup(&number);
	if (!set)
		return;
	way = way_of(set, tag);
	slot = number * PROBE_SOURCE_WAYS + way;
	if (way < PROBE_SOURCE_WAYS)
		source = probe_sources.lookup(&slot);
	if (source)
		at = inline_target(source, decky, touch->where);
	if (touch->may_be_asked &&
	    (at >= PROBE_INLINE || touch->by_type || may_be_from_decky(s)))
		asked = absorb(hash ^ decky,
			       (__u64)touch->where << 32 | touch->peer_port);
	if (is_probe) {
		if (asked && was_asked(s, asked))
			return;
		/* of a decky to another one: the reply is no probe */
		if (asked && is_from_decky(p)) {
			note_asked(s, reply_hash(hash ^ decky, touch));
			w->begun = 1;
		}
		s->counters->probes++;
	}
	if (!source && !touch->of_decky) {
		way = take_way(s, set, number, tag, addr, touch, decky);
		slot = number * PROBE_SOURCE_WAYS + way;
		if (way < PROBE_SOURCE_WAYS)
			source = probe_sources.lookup(&slot);
		if (source)
			at = inline_target(source, decky, touch->where);
		w->new_source = source != 0;
	}
	if (source && is_source(source, addr)) {
		w->source = slot;
		w->source_generation = source->generation;
		/* the verifier needs the bound, which clang would drop */
		asm volatile("" : "+r"(kind));
		if (kind < PROBE_KINDS) {
			source_count(source, kind);
			if ((__s64)(w->now - source->last_ns) > 0)
				source->last_ns = w->now;
			set->seen[bounded_way(way)] = probe_clock(w->now);
			if (!w->reassembled)
				note_mac(skb, source);
		}
		if (w->cause == TOUCH_HANDSHAKE) {
			source->flags |= PROBE_PROVEN;
			set->rank[bounded_way(way)] = RANK_PROVEN;
		}
		if (at < PROBE_INLINE) {
			target_note(&source->target[at], touch, w->now);
			touched = TOUCHED;
		} else if (is_probe || touch->answers) {
			touched = touch_target(s, set, source, slot, decky,
					       touch);
			if (source->targets > PROBE_INLINE &&
			    set->rank[bounded_way(way)] == RANK_FEW)
				set->rank[bounded_way(way)] = RANK_MANY;
		}
		mark_probes(number);
	} else if (is_probe) {
		s->counters->probes_unrecorded++;
	}
	/* what a decky sends to nobody's probe, it sends for itself */
	if (touch->of_decky && touch->may_be_asked &&
	    (touched != TOUCHED || touch->by_type)) {
		note_asked(s, asked);
		w->begun = 1;
	}
}

/*
 * A decky's ICMP error about a packet that it does not want: what the packet in
 * the error was sent to. 0: it is none of the source's.
 */
static __always_inline int refused_where(struct __sk_buff *skb,
					 const struct packet *p, __u32 off,
					 __u32 *where)
{
	__u32 first = 0, l4 = off + sizeof(struct ipv6_header);
	__be32 to[4] = {};
	__be16 port = 0;
	__u8 protocol = 0;

	if (bpf_skb_load_bytes(skb, off, &first, sizeof(first)))
		return 0;
	if (p->ip_version == 4) {
		l4 = off + (first & 0xf) * 4;
		if (bpf_skb_load_bytes(skb, off + 9, &protocol, 1) ||
		    bpf_skb_load_bytes(skb, off + 12, to, 8) ||
		    to[0] != p->daddr[3] || to[1] != p->saddr[3])
			return 0;
	} else if (bpf_skb_load_bytes(skb, off + 6, &protocol, 1) ||
		   bpf_skb_load_bytes(skb, off + 24, to, sizeof(to)) ||
		   to[3] != p->saddr[3] || to[2] != p->saddr[2]) {
		return 0;
	}
	if (protocol == PROTO_UDP || protocol == PROTO_TCP ||
	    protocol == PROTO_SCTP)
		bpf_skb_load_bytes(skb, l4 + 2, &port, sizeof(port));
	*where = where_of(protocol, be16(port));
	return 1;
}

static __always_inline int
touch_icmp(struct __sk_buff *skb, const struct packet *p, struct touch *touch)
{
	struct icmp_header icmp = {};

	touch->where = where_of(PROTO_ICMP, 0);
	if (load_l4(skb, p, &icmp)) {
		touch->kind = PROBE_MALFORMED;
		return !touch->of_decky;
	}
	touch->peer_port = icmp.id;
	if (!touch->of_decky) {
		touch->kind = PROBE_ICMP_OTHER;
		switch (icmp.type) {
		case ICMP_ECHO:
			touch->kind = PROBE_ICMP_ECHO;
			break;
		case ICMP_TIMESTAMP:
			touch->kind = PROBE_ICMP_TIMESTAMP;
			break;
		case ICMP_ECHO_REPLY:
		case ICMP_TIMESTAMP_REPLY:
			touch->by_type = 1;
			break;
		/* about packets of the decky itself, or in its name */
		case ICMP_UNREACHABLE:
		case ICMP_QUENCH:
		case ICMP_REDIRECT:
		case ICMP_TIME_EXCEEDED:
		case ICMP_PARAMETER:
			return 0;
		default:
			return 1;
		}
		touch->may_be_asked = 1;
		return 1;
	}
	if (icmp.type == ICMP_ECHO || icmp.type == ICMP_TIMESTAMP) {
		touch->may_be_asked = 1;
		touch->by_type = 1;
		return 1;
	}
	touch->answers = 1 << ANSWER_OPEN;
	if (icmp.type != ICMP_UNREACHABLE)
		return 1;
	touch->answers = 1 << ANSWER_CLOSED;
	return refused_where(skb, p, p->l4_off + sizeof(icmp), &touch->where);
}

/* What is asked for or advertised: the decky, and who asks. */
static __always_inline int
touch_neighbour(struct __sk_buff *skb, struct packet *p, struct touch *touch)
{
	__be32 target[4] = {};

	if (bpf_skb_load_bytes(skb, p->l4_off + sizeof(struct icmp_header),
			       target, sizeof(target)) ||
	    !is_decky6(target))
		return 0;
	touch->where = where_of(PROBE_PROTO_ARP, 0);
	if (touch->of_decky) {
		touch->answers = 1 << ANSWER_OPEN;
		return 1;
	}
	/* whoever looks for an address of its own has none yet */
	if (!(p->saddr[0] | p->saddr[1] | p->saddr[2] | p->saddr[3]))
		return 0;
	__builtin_memcpy(p->daddr, target, sizeof(target));
	touch->kind = PROBE_ARP;
	return 1;
}

static __always_inline int touch_icmp6(struct __sk_buff *skb, struct packet *p,
				       struct touch *touch)
{
	struct icmp_header icmp = {};

	touch->where = where_of(PROTO_ICMP6, 0);
	if (load_l4(skb, p, &icmp)) {
		touch->kind = PROBE_MALFORMED;
		return !touch->of_decky;
	}
	touch->peer_port = icmp.id;
	if (icmp.type ==
	    (touch->of_decky ? ICMP6_ADVERTISEMENT : ICMP6_SOLICITATION))
		return touch_neighbour(skb, p, touch);
	if (icmp.type >= ICMP6_LISTENERS && icmp.type <= ICMP6_REDIRECT)
		return 0;
	if (!touch->of_decky) {
		touch->kind = PROBE_ICMP6;
		touch->may_be_asked = icmp.type == ICMP6_ECHO ||
				      icmp.type == ICMP6_ECHO_REPLY;
		touch->by_type = icmp.type == ICMP6_ECHO_REPLY;
		return icmp.type > ICMP6_ERRORS &&
		       icmp.type != ICMP6_LISTENERS2;
	}
	if (icmp.type == ICMP6_ECHO) {
		touch->may_be_asked = 1;
		touch->by_type = 1;
		return 1;
	}
	touch->answers = 1 << ANSWER_OPEN;
	if (icmp.type > ICMP6_ERRORS)
		return 1;
	touch->answers = 1 << ANSWER_CLOSED;
	if (icmp.type != ICMP6_PARAMETER &&
	    !(icmp.type == ICMP6_UNREACHABLE &&
	      icmp.code == ICMP6_PORT_UNREACHABLE))
		return 0;
	return refused_where(skb, p, p->l4_off + sizeof(icmp), &touch->where);
}

/* What is not TCP, and what is malformed. */
static __always_inline int
touch_other(struct __sk_buff *skb, const struct step *s, struct touch *touch)
{
	struct packet *p = &s->work->packet;
	struct port_header ports = {};
	int proto = s->work->proto;
	__u32 len;

	if (proto < 0 || proto == PROTO_TCP) {
		touch->where =
			where_of(proto < 0 ? PROBE_PROTO_BROKEN : PROTO_TCP, 0);
		touch->kind = PROBE_MALFORMED;
		return !touch->of_decky;
	}
	/* what is behind the first fragment has no header */
	if (p->ip_version == 4 && p->fragmented)
		return 0;
	if (proto == PROTO_ICMP6 && p->ip_version == 6)
		return touch_icmp6(skb, p, touch);
	if (proto == PROTO_ICMP && p->ip_version == 4)
		return touch_icmp(skb, p, touch);
	touch->where = where_of(proto, 0);
	touch->kind = PROBE_OTHER;
	if (proto == PROTO_UDP || proto == PROTO_SCTP) {
		touch->kind = proto == PROTO_UDP ? PROBE_UDP : PROBE_SCTP;
		touch->may_be_asked = 1;
		len = proto == PROTO_UDP ? 8 : sizeof(ports);
		if (load_l4(skb, p, &ports) ||
		    (proto == PROTO_SCTP &&
		     bpf_skb_load_bytes(skb, p->l4_off, &ports, len))) {
			touch->kind = PROBE_MALFORMED;
			touch->may_be_asked = 0;
			return !touch->of_decky;
		}
		touch->where =
			where_of(proto, be16(touch->of_decky ? ports.source
							     : ports.dest));
		touch->peer_port =
			be16(touch->of_decky ? ports.dest : ports.source);
	}
	if (!touch->of_decky)
		return 1;
	touch->kind = PROBE_KINDS;
	touch->answers = 1 << ANSWER_OPEN;
	if (proto == PROTO_SCTP && ports.chunk == SCTP_ABORT)
		touch->answers = 1 << ANSWER_CLOSED;
	return 1;
}

/* A request for a decky's address, or the decky's reply. */
static __always_inline int touch_arp(struct __sk_buff *skb, struct packet *p,
				     struct touch *touch)
{
	struct arp_packet arp = {};
	__be32 sender, target;

	if (bpf_skb_load_bytes(skb, p->l3_off, &arp, sizeof(arp)) ||
	    be16(arp.protocol) != ETH_P_IPV4 || arp.protocol_len != 4 ||
	    arp.hardware_len != MAC_LEN)
		return 0;
	__builtin_memcpy(&sender, arp.sender, sizeof(sender));
	__builtin_memcpy(&target, arp.target, sizeof(target));
	/* an announcement asks nobody */
	if (sender == target)
		return 0;
	p->ip_version = 4;
	map_address(p->saddr, sender);
	map_address(p->daddr, target);
	touch->where = where_of(PROBE_PROTO_ARP, 0);
	if (be16(arp.op) == ARP_REPLY) {
		touch->of_decky = 1;
		touch->answers = 1 << ANSWER_OPEN;
		return is_decky4(sender);
	}
	touch->kind = PROBE_ARP;
	return be16(arp.op) == ARP_REQUEST && is_decky4(target);
}

/* What the frame in the work touches. 0: nothing that counts. */
static __always_inline int touch_of(struct __sk_buff *skb, const struct step *s,
				    struct touch *touch)
{
	struct work *w = s->work;
	struct packet *p = &w->packet;

	touch->where = where_of(PROTO_TCP, be16(p->dport));
	touch->kind = PROBE_KINDS;
	switch (w->cause) {
	case TOUCH_SYN:
		/* of a decky's own, only the numbers count */
		if (w->to_decky)
			touch->kind = PROBE_SYN;
		return 1;
	case TOUCH_HANDSHAKE:
		touch->kind = PROBE_CONNECT;
		return 1;
	case TOUCH_SYNACK:
		if (w->to_decky && !w->half_open) {
			touch->kind = PROBE_SYN_ACK;
			return 1;
		}
		touch->where = where_of(PROTO_TCP, be16(p->sport));
		touch->of_decky = 1;
		touch->answers = 1 << ANSWER_OPEN;
		return 1;
	case TOUCH_SEGMENT:
		/* the RST of a decky answers, to another decky too */
		if (p->flags & TCP_RST && (!w->to_decky || is_from_decky(p))) {
			touch->where = where_of(PROTO_TCP, be16(p->sport));
			touch->of_decky = 1;
			touch->answers = 1 << ANSWER_CLOSED;
			if (refuses_opening(p))
				touch->answers |=
					1 << ANSWER_REFUSED | refusal_look(p);
			return 1;
		}
		touch->kind = segment_kind(p->flags);
		/* a scanner's own system ends what its SYN began */
		return w->to_decky &&
		       (!w->half_open ||
			(touch->kind != PROBE_RST && touch->kind != PROBE_ACK));
	case TOUCH_OTHER:
		touch->of_decky = !w->to_decky;
		return touch_other(skb, s, touch);
	case TOUCH_SOLICITATION:
		return touch_icmp6(skb, p, touch);
	case TOUCH_ARP:
		return touch_arp(skb, p, touch);
	}
	return 0;
}

/* The parts of a group. 0: never, but the verifier asks. */
static __always_inline int half_open_group(struct half_open_group *group,
					   __u32 *slot)
{
	group->lock = half_open_locks.lookup(slot);
	group->sets = half_open_sets.lookup(slot);
	group->entries = half_open.lookup(slot);
	return group->lock && group->sets && group->entries;
}

/*
 * Finds the place of a SYN for decky_syn, and fetches what it and record() look
 * at. Most SYNs of a flood have none of it in the caches, and here it is
 * fetched at the same time.
 */
static __always_inline void find_half_open(const struct step *s)
{
	struct half_open_group group;
	struct work *w = s->work;

	half_open_place(&w->place, &w->id, s->settings->seed);
	if (!half_open_group(&group, &w->place.slot))
		return;
	half_open_touch(&group, &w->place);
	half_open_search(&group, &w->place);
	if (w->place.index < HALF_OPEN_ENTRIES)
		return;
	fetch_source(s);
	half_open_choose(&group, &w->place, half_open_clock(w->now));
}

/*
 * Records who has touched which decky, and what the decky answered. Then the
 * step that the frame was on its way to.
 */
int decky_probe(struct __sk_buff *skb)
{
	struct touch *touch;
	struct work *w;
	struct step s;

	if (!step_begin(skb, &s))
		return TC_NEXT;
	w = s.work;
	touch = &w->touch;
	__builtin_memset(touch, 0, sizeof(*touch));
	w->source = NO_SOURCE;
	w->new_source = 0;
	w->begun = 0;
	if (!w->now)
		w->now = coarse_time(skb, w);
	if (w->cause == TOUCH_SYN)
		find_half_open(&s);
	if (touch_of(skb, &s, touch) &&
	    !is_own_host(skb, &s, !touch->of_decky)) {
		/* it is read again from here: the verifier has fewer states */
		barrier();
		record(skb, &s, touch);
	}
	if (w->cause == TOUCH_SYN) {
		jump(skb, JUMP_SYN);
	} else if (w->cause == TOUCH_SYNACK && !w->to_decky) {
		jump(skb, JUMP_SYNACK);
	} else if (w->cause == TOUCH_HANDSHAKE) {
		w->cause = TOUCH_NOTHING;
		jump(skb, JUMP_PACKET);
	} else if (w->technique) {
		jump(skb, JUMP_ANOMALY);
	} else if (w->begun) {
		jump(skb, JUMP_BEGUN);
	}
	return TC_NEXT;
}

/* --- decky_begun ---------------------------------------------------------- */

/*
 * May the peer have sent a probe that is not kept? Its set has lost one if it
 * is full, and took a source in not long ago, or could take none in.
 */
static __always_inline int may_be_forgotten(const struct step *s,
					    const struct packet *p)
{
	__u32 number, tag, way, slot, few = 0;
	struct probe_source *source;
	struct source_set *set;
	__u64 hash;

	hash = probe_hash(s->settings->seed, p->daddr, p->ip_version);
	number = (hash >> 32) & (PROBE_SOURCE_SETS - 1);
	tag = (__u32)hash | 1;
	set = source_sets.lookup(&number);
	if (!set)
		return 1;
	way = way_of(set, tag);
	if (way < PROBE_SOURCE_WAYS) {
		slot = number * PROBE_SOURCE_WAYS + way;
		source = probe_sources.lookup(&slot);
		return !source || !is_source(source, p->daddr) ||
		       source->targets_lost;
	}
#pragma unroll
	for (int i = 0; i < PROBE_SOURCE_WAYS; i++) {
		if (!set->tag[i])
			return 0;
		few |= set->rank[i] == RANK_FEW;
	}
#pragma unroll
	for (int i = 0; i < PROBE_SOURCE_WAYS; i++) {
		slot = number * PROBE_SOURCE_WAYS + i;
		source = probe_sources.lookup(&slot);
		if (source && s->work->now - source->first_ns < ASKED_NS)
			return 1;
	}
	return !few;
}

/* Keeps a datagram that a decky sends, and that answers none, for the agent. */
int decky_begun(struct __sk_buff *skb)
{
	__u32 slot, where, protocol;
	__u16 port, decky_port;
	struct begun *begun;
	struct packet *p;
	struct touch *touch;
	struct work *w;
	struct step s;
	__s64 since;
	__u64 hash;

	if (!step_begin(skb, &s))
		return TC_NEXT;
	w = s.work;
	p = &w->packet;
	touch = &w->touch;
	if (is_to_many(p))
		return TC_NEXT;
	protocol = touch->where >> 16;
	port = touch->of_decky ? touch->peer_port : touch->where;
	decky_port = touch->of_decky ? touch->where : touch->peer_port;
	if (protocol != PROTO_UDP && protocol != PROTO_SCTP) {
		port = 0;
		decky_port = 0;
	}
	s.counters->datagrams_begun++;
	if (touch->of_decky && !touch->by_type && may_be_forgotten(&s, p)) {
		s.counters->datagrams_uncertain++;
		return TC_NEXT;
	}
	hash = absorb_address(s.settings->seed, p->saddr);
	hash = absorb_address(hash, p->daddr);
	where = where_of(protocol, port);
	slot = (absorb(hash, where) >> 32) & (BEGUN_SLOTS - 1);
	begun = begun_by_deckies.lookup(&slot);
	if (!begun)
		return TC_NEXT;
	if (begun->count && is_begun(begun, p, protocol, port)) {
		__sync_fetch_and_add(&begun->count, 1);
		begun->last_ns = w->now;
		return TC_NEXT;
	}
	since = w->now - begun->last_ns;
	if (since < 0)
		since = -since;
	if ((begun->count && since < (__s64)BEGUN_KEEP_NS) ||
	    !set_lock(&begun->lock)) {
		s.counters->datagrams_begun_lost++;
		return TC_NEXT;
	}
	begun_begin(begun, p, protocol, decky_port, port, link_of(skb), w->now);
	set_unlock(&begun->lock);
	return TC_NEXT;
}

/* --- decky_syn ------------------------------------------------------------ */

/* The slot of a SYN. */
static __always_inline struct seen *syn_slot(__u64 signature)
{
	struct seen *first, *second;
	__u32 slot;

	slot = seen_slot(signature, 0, SYN_SEEN_SLOTS);
	first = syn_seen.lookup(&slot);
	if (!first)
		return 0;
	slot = seen_slot(signature, 1, SYN_SEEN_SLOTS);
	second = syn_seen.lookup(&slot);
	if (!second)
		return 0;
	return is_in_second(first, second, signature) ? second : first;
}

/*
 * Is this SYN suppressed? Of a source that is new in its table, none was
 * emitted, or so many sources came since that its window counts no more: the
 * agent then deduplicates the event. So a flood from forged sources does not
 * fetch the slots of its SYNs into the caches.
 */
static __always_inline int syn_suppressed(const struct step *s,
					  struct half_open *half)
{
	struct work *w = s->work;
	struct seen *seen;

	if (!s->settings->dedup || w->new_source)
		return 0;
	seen = syn_slot(half->signature);
	if (!seen || !suppress(seen, half->signature, w->now,
			       decky_bit(&w->key, w->sender)))
		return 0;
	half->syn_suppressed = seen->decided != 0;
	return 1;
}

/* Is this SYN worth a sample? If so, equal ones are suppressed tentatively. */
static __always_inline int syn_wanted(const struct step *s,
				      struct half_open *half)
{
	const struct settings *set = s->settings;
	__u64 now = s->work->now;
	struct token_bucket *budget;
	struct seen *seen;
	__u32 zero = 0;

	budget = syn_budget.lookup(&zero);
	if (!budget)
		return 0;
	if (syn_suppressed(s, half)) {
		s->counters->syn_suppressed++;
		return 0;
	}
	/* the sample of its handshake carries a SYN that is over budget */
	if (!token_bucket_take(budget, now, set->syn_cost_ns,
			       set->syn_burst_ns) ||
	    is_ring_crowded(s)) {
		s->counters->syn_over_budget++;
		return 0;
	}
	seen = set->dedup ? syn_slot(half->signature) : 0;
	if (seen && suppress_tentatively(seen, half->signature, now))
		s->counters->syn_seen_overwrites++;
	return 1;
}

/*
 * Samples data of a SYN with a ClientHello, or with first bytes that are
 * wanted: its server may take it (RFC 7413). Spoofed SYNs have data too, so
 * each sample takes from the budget of SYNs as well. Returns where the hello's
 * record ends in the data, SYN_UNDECIDED if the data ends before that shows,
 * SYN_HEAD and the kind of other first bytes, or 0.
 */
static __always_inline __u16 sample_syn_data(struct __sk_buff *skb,
					     const struct step *s)
{
	const struct packet *p = &s->work->packet;
	__u32 payload_off = p->l4_off + p->tcp_len, cut = p->payload_len;
	__u16 record = SYN_UNDECIDED;
	struct token_bucket *budget;
	struct work *w = s->work;
	struct sample_head head;
	struct source *source;
	__u64 prefix = 0;
	__u32 zero = 0, slot, frame_len, at = w->found, kind = 0, units;
	int error;

	if (at >= cut)
		at = 0;
	if (!load_prefix(skb, p, at, &prefix))
		return 0;
	if (w->found >= cut) {
		if (!s->settings->heads)
			return 0;
		kind = kind_of_head(prefix, cut, s->settings->heads);
		units = units_of_head(kind, s->settings->heads);
		if (!units)
			return 0;
		if (cut > units * HEAD_UNIT)
			cut = units * HEAD_UNIT;
		record = SYN_HEAD + kind;
	} else if (cut - at >= TLS_PREFIX_LEN) {
		if (!is_ssl2(prefix) && !prefix_is(prefix, TLS_CLIENT_HELLO))
			return 0;
		record = at + record_size(prefix);
	} else if (at) {
		return 0;
	}
	slot = source_slot(&w->key, w->sender, s->settings->seed);
	source = sources.lookup(&slot);
	if (!source)
		return 0;
	budget = syn_budget.lookup(&zero);
	if (!budget)
		return 0;
	if (!token_bucket_take(&source->handshakes, w->now,
			       s->settings->handshake_cost_ns,
			       s->settings->handshake_burst_ns) ||
	    !token_bucket_take(budget, w->now, s->settings->syn_cost_ns,
			       s->settings->syn_burst_ns)) {
		s->counters->tls_not_admitted++;
		return 0;
	}
	if (cut > skb->len - payload_off)
		cut = skb->len - payload_off;
	if (cut > TLS_SEGMENT_BYTES)
		cut = TLS_SEGMENT_BYTES;
	sample_begin(&head, SAMPLE_SEGMENT, p, &w->key, w->sender, w->now);
	head.born_ns = w->now;
	head.client = w->sender;
	head.seq = p->seq + 1;
	head.start_seq = head.seq + at;
	head.flags = SAMPLE_SYN_DATA;
	if (kind) {
		head.flags |= SAMPLE_HEAD;
		head.head = kind;
	} else if (record != SYN_UNDECIDED) {
		head.flags |= SAMPLE_TLS_STARTS;
	}
	head.payload_off = payload_off;
	head.copied = cut;
	frame_len = payload_off + cut;
	/* a statement of its own: BCC's rewrite ends in a semicolon */
	error = samples.perf_submit_skb(skb, frame_len, &head, sizeof(head));
	if (!sample_sent(s->counters, error, sizeof(head) + frame_len))
		return 0;
	return record;
}

/* A copy of the attempt of this key where half_open_search() found it, or 0. */
static __always_inline struct half_open_copy *
half_open_copy(__u32 *scratch, const struct half_open_group *group,
	       const struct half_open_place *place, const struct flow_key *key)
{
	struct half_open_copy *copy;

	/* most are new, which needs no lock */
	if (place->index >= HALF_OPEN_ENTRIES)
		return 0;
	copy = half_open_copies.lookup(scratch);
	if (!copy)
		return 0;
	copy->slot = place->slot;
	copy->index = place->index;
	bpf_spin_lock(&group->lock->lock);
	if (half_open_tag(group, copy->index) != place->tag)
		copy->index = half_open_index(group, place);
	/* if it has gone, of any entry: the key decides */
	__builtin_memcpy(&copy->entry, entry_of(group, copy->index),
			 sizeof(copy->entry));
	bpf_spin_unlock(&group->lock->lock);
	return copy->index < HALF_OPEN_ENTRIES &&
			       same_key(&copy->entry.key, key)
		       ? copy
		       : 0;
}

static __always_inline struct half_open_copy *
half_open_of(const struct step *s, struct half_open_place *place)
{
	struct half_open_group group;
	struct work *w = s->work;

	half_open_place(place, &w->id, s->settings->seed);
	if (!half_open_group(&group, &place->slot))
		return 0;
	half_open_search(&group, place);
	return half_open_copy(scratch_slot(s), &group, place, &w->key);
}

/*
 * Puts a new attempt into half_open, where half_open_search() has not found it.
 * 0: another CPU was first, counted.
 */
static __always_inline int half_open_insert(struct counters *c,
					    struct half_open_place *place,
					    const struct flow_key *key,
					    const struct half_open *half,
					    __u64 now)
{
	__u32 index = place->victim, evicted = 0;
	struct half_open_entry *entry;
	struct half_open_group group;
	int known = 0;

	if (!half_open_group(&group, &place->slot))
		return 0;
	bpf_spin_lock(&group.lock->lock);
	if (place->index < HALF_OPEN_ENTRIES ||
	    group.lock->inserts != place->inserts ||
	    index >= HALF_OPEN_ENTRIES ||
	    half_open_changed(&group, index) != place->changed) {
		index = half_open_index(&group, place);
		known = index < HALF_OPEN_ENTRIES;
		if (!known)
			index = half_open_victim(&group, place,
						 half_open_clock(now));
	}
	entry = entry_of(&group, index);
	/* else another 4-tuple of the same hash */
	known = known && same_key(&entry->key, key);
	if (!known) {
		evicted = half_open_tag(&group, index) != 0;
		half_open_write(entry, key, half);
		half_open_mark(&group, index, place->tag,
			       half_open_time(half, now));
		/* behind the tag: see half_open_search() */
		barrier();
		group.lock->inserts++;
	}
	bpf_spin_unlock(&group.lock->lock);
	if (known) {
		c->half_open_failed++;
		return 0;
	}
	c->half_open_inserts++;
	c->half_open_evicted += evicted;
	return 1;
}

/* Writes a copy back. 0: the entry has changed since. */
static __always_inline int half_open_store(struct half_open_copy *copy,
					   __u64 now)
{
	struct half_open_entry *entry;
	struct half_open_group group;
	int same;

	if (!half_open_group(&group, &copy->slot))
		return 0;
	bpf_spin_lock(&group.lock->lock);
	entry = entry_of(&group, copy->index);
	same = entry->generation == copy->entry.generation;
	if (same) {
		half_open_write(entry, &copy->entry.key, &copy->entry.half);
		copy->entry.generation = entry->generation;
		half_open_mark(&group, copy->index,
			       half_open_tag(&group, copy->index),
			       half_open_time(&entry->half, now));
	}
	bpf_spin_unlock(&group.lock->lock);
	return same;
}

/* Removes the attempt of a copy. 0: it is not there any more. */
static __always_inline int half_open_remove(const struct half_open_copy *copy)
{
	struct half_open_entry *entry;
	struct half_open_group group;
	__u32 slot = copy->slot;
	int same;

	if (!half_open_group(&group, &slot))
		return 0;
	bpf_spin_lock(&group.lock->lock);
	entry = entry_of(&group, copy->index);
	same = half_open_tag(&group, copy->index) &&
	       half_open_same(entry, &copy->entry);
	if (same) {
		/* no copy of it may be written back */
		entry->generation += 2;
		half_open_mark(&group, copy->index, 0, 0);
	}
	bpf_spin_unlock(&group.lock->lock);
	return same;
}

/*
 * A copy of an attempt in other_half_open, in the scratch sample, or 0. That
 * table gives an entry that it evicts to another 4-tuple, and may do so while
 * the entry is read. Then it is not there any more.
 */
static __always_inline struct half_open *other_of(const struct step *s,
						  struct attempt_key *id)
{
	struct half_open_sample *scratch;
	struct half_open *other;

	other = other_half_open.lookup(id);
	if (!other)
		return 0;
	scratch = half_open_scratch.lookup(scratch_slot(s));
	if (!scratch)
		return 0;
	__builtin_memcpy(&scratch->half_open, other, sizeof(*other));
	barrier();
	if (other_half_open.lookup(id) != other ||
	    !half_open_fresh(&scratch->half_open, s->work->now))
		return 0;
	return &scratch->half_open;
}

/* Is this SYN a retransmission of one that another attempt began with? */
static __always_inline int repeats_other_syn(const struct step *s)
{
	struct work *w = s->work;
	struct attempt_key id;
	struct half_open *other;

	id.key = w->key;
	id.seq = w->packet.seq;
	id.answered = 0;
	other = other_of(s, &id);
	if (!other || !repeats_syn(other, &w->packet, w->sender, w->now))
		return 0;
	if (other->syn.retransmits < 255)
		other->syn.retransmits++;
	note_packet(&w->packet, w->now, &other->last_ns, &other->min_iat_ns,
		    &other->max_iat_ns);
	other_half_open.update(&id, other);
	s->counters->syn_retransmits++;
	return 1;
}

/* Keeps an attempt on a 4-tuple of which half_open has another. */
static __always_inline void keep_other(const struct step *s,
				       struct half_open *other)
{
	struct attempt_key id;

	attempt_key_of(&id, &s->work->key, other);
	other_half_open.update(&id, other);
	s->counters->half_open_others++;
}

/*
 * Records a new attempt. The one in half_open is kept too, because the other
 * end may have taken its SYN and not this one. It stays there if it has a
 * SYN-ACK already: a SYN that the other end ignores must not push it out.
 */
static __always_inline void record_attempt(const struct step *s,
					   struct half_open_place *place,
					   struct half_open_copy *copy,
					   struct half_open *fresh)
{
	struct work *w = s->work;
	struct half_open *half;

	if (!copy) {
		half_open_insert(s->counters, place, &w->key, fresh, w->now);
		return;
	}
	half = &copy->entry.half;
	if (half_open_fresh(half, w->now) && half->synack.ip_version) {
		keep_other(s, fresh);
		half->flags |= HALF_OTHERS;
	} else {
		if (half_open_fresh(half, w->now)) {
			keep_other(s, half);
			fresh->flags |= HALF_OTHERS;
		}
		__builtin_memcpy(half, fresh, sizeof(*half));
	}
	if (!half_open_store(copy, w->now))
		s->counters->half_open_failed++;
}

/*
 * What is learned of an end by its SYN or SYN-ACK, for struct half_open. It is
 * not summed again if it repeats one whose checksum was right.
 */
static __always_inline __u8 opening_rules(struct __sk_buff *skb,
					  const struct step *s, int summed)
{
	volatile struct segment_walk *walk;
	const struct work *w = s->work;
	__u8 rules = w->to_decky ? RULES_JUDGED : 0;

	if (!w->ingress)
		return rules | RULES_LOCAL;
	if (summed || !s->settings->checksums || skb->gso_size)
		return rules;
	walk = segment_walks.lookup(scratch_slot(s));
	if (!walk || !ip_checksum_right(skb, walk, &w->packet) ||
	    !checksum_right(skb, walk, &w->packet) ||
	    leaves_checksum(skb, &w->packet))
		return rules;
	return rules | RULES_SUMMED;
}

/* The slot of the SYN's source, unless another source has it by now; or 0. */
static __always_inline struct probe_source *source_of(const struct step *s)
{
	struct probe_source *source;
	struct work *w = s->work;

	source = probe_sources.lookup(&w->source);
	if (!source || source->generation != w->source_generation)
		return 0;
	return source;
}

/*
 * Takes in the numbers of a new SYN of a source. A retransmission says nothing
 * new, and a SYN in fragments is late.
 */
static __always_inline void note_sequences(const struct step *s)
{
	struct probe_source *source = source_of(s);

	if (source && !(s->work->packet.ip_flags & IP_FLAG_REASSEMBLED))
		sequences_add(source, &s->work->packet);
}

/* What the last SYNs of its source show, for the sample of a SYN. */
static __always_inline void classify_sequences(const struct step *s,
					       struct sample_head *head)
{
	struct probe_source *source = source_of(s);

	if (source)
		sequences_classify(source, head, s->work->packet.ip_version);
}

/*
 * Another CPU has changed the attempt that this program was about to change.
 * The program begins anew, a few times.
 */
static __always_inline void restart(struct __sk_buff *skb, const struct step *s,
				    enum jump program)
{
	if (s->work->restarts < HALF_OPEN_RESTARTS) {
		s->work->restarts++;
		jump(skb, program);
	}
	s->counters->half_open_failed++;
}

/* The head of a SYN's sample, with what the last SYNs of its source show. */
static __always_inline void begin_syn_sample(const struct step *s,
					     struct half_open_sample *sample)
{
	const struct syn_packet *syn = &sample->half_open.syn;
	const struct work *w = s->work;

	sample_begin(&sample->head, SAMPLE_SYN, &w->packet, &w->key, w->sender,
		     syn->time_ns);
	sample->head.born_ns = syn->time_ns;
	sample->head.client = w->sender;
	classify_sequences(s, &sample->head);
}

/*
 * Counts a SYN that repeats the one of an entry, where the entry is: all of it
 * that changes is a few words. 0: another CPU has changed the entry meanwhile.
 */
static __always_inline int half_open_repeat(const struct step *s,
					    const struct half_open_group *group,
					    const struct half_open_place *place,
					    struct half_open_entry *entry,
					    __u32 generation, __u8 rules)
{
	volatile __u32 *current = &entry->generation;
	struct half_open *half = &entry->half;
	struct work *w = s->work;
	int same;

	bpf_spin_lock(&group->lock->lock);
	same = *current == generation &&
	       half_open_tag(group, place->index) == place->tag;
	if (same) {
		*current = generation + 1;
		barrier();
		note_opening_rules(half, w->sender, rules);
		if (half->syn.retransmits < 255)
			half->syn.retransmits++;
		note_packet(&w->packet, w->now, &half->last_ns,
			    &half->min_iat_ns, &half->max_iat_ns);
		half_open_mark(group, place->index, place->tag,
			       half_open_time(half, w->now));
		barrier();
		*current = generation + 2;
	}
	bpf_spin_unlock(&group->lock->lock);
	return same;
}

/* A SYN: a retransmission, or the first packet of a connection. */
int decky_syn(struct __sk_buff *skb)
{
	volatile struct option_walk *walk;
	struct half_open_sample *sample;
	struct half_open_group group;
	struct half_open_entry *entry;
	struct half_open_place place;
	struct half_open_copy *copy;
	struct half_open *half;
	struct packet *p;
	struct work *w;
	struct step s;
	int known, swapped, summed = 0;
	__u32 generation;
	__u8 rules;

	if (!step_begin(skb, &s))
		return TC_NEXT;
	w = s.work;
	p = &w->packet;
	if (is_own_host(skb, &s, 1)) {
		s.counters->ignored_own_host++;
		return TC_NEXT;
	}
	if (!w->restarts)
		s.counters->frames_syn++;
	place = w->place;
	if (!half_open_group(&group, &place.slot))
		return TC_NEXT;
	if (w->restarts)
		half_open_search(&group, &place);
	entry = half_open_peek(&group, &place, &w->key, &generation);
	if (entry && (!repeats_syn(&entry->half, p, w->sender, w->now) ||
		      entry->half.noted))
		entry = 0;
	if (entry)
		summed = rules_of(&entry->half, w->sender) & RULES_SUMMED;
	rules = opening_rules(skb, &s, summed);
	if (entry) {
		if (!half_open_repeat(&s, &group, &place, entry, generation,
				      rules))
			restart(skb, &s, JUMP_SYN);
		s.counters->syn_retransmits++;
		return TC_NEXT;
	}
	copy = half_open_copy(&s.slot, &group, &place, &w->key);
	half = copy ? &copy->entry.half : 0;
	known = half && repeats_syn(half, p, w->sender, w->now);
	if (known)
		note_opening_rules(half, w->sender, rules);
	if (known && !half->noted) {
		/* another CPU has just written it */
		restart(skb, &s, JUMP_SYN);
		s.counters->syn_retransmits++;
		return TC_NEXT;
	}
	if (half && !known && half->flags & HALF_OTHERS &&
	    repeats_other_syn(&s))
		return TC_NEXT;

	note_sequences(&s);
	walk = option_walks.lookup(&s.slot);
	if (!walk)
		return TC_NEXT;
	sample = half_open_scratch.lookup(&s.slot);
	if (!sample)
		return TC_NEXT;
	note_leaving(skb, w);
	swapped = half && precedes_synack(half, p, w->sender, w->now);
	if (known || swapped)
		sample->half_open = *half;
	else
		half_open_begin(&sample->half_open, w->sender, w->now);
	if (!known)
		syn_packet_fill(skb, &sample->half_open.syn, p, w->now);
	if (swapped)
		order_openings(&sample->half_open, p, w->now);
	note_opening_rules(&sample->half_open, w->sender, rules);
	sample->half_open.noted = 0;
	sample->half_open.signature =
		syn_signature(walk, p, &sample->half_open.syn, s.settings->seed,
			      may_be_from_decky(&s));
	if (s.settings->sequences) {
		begin_syn_sample(&s, sample);
		sample->half_open.signature = sequences_sign(
			sample->half_open.signature, &sample->head);
	}
	if (p->payload_len && !swapped)
		sample->half_open.syn_record = sample_syn_data(skb, &s);
	if (syn_wanted(&s, &sample->half_open)) {
		/* else only a sample needs its head, and most SYNs get none */
		if (!s.settings->sequences)
			begin_syn_sample(&s, sample);
		sample->head.hello = link_of(skb);
		sample->half_open.syn_sampled = sample_sent(
			s.counters,
			samples.perf_submit(skb, sample, sizeof(*sample)),
			sizeof(*sample));
	}
	if (copy && (known || swapped)) {
		copy->entry.half = sample->half_open;
		if (!half_open_store(copy, w->now))
			s.counters->half_open_failed++;
	} else {
		record_attempt(&s, &place, copy, &sample->half_open);
	}
	return TC_NEXT;
}

/* --- decky_synack --------------------------------------------------------- */

/*
 * Exchanges the attempt in half_open, of which `copy` is, with another one of
 * the 4-tuple. Then `copy` is of that one. 0: another CPU was first. The
 * exchange is not atomic: half_open always has one of them.
 */
static __always_inline int bring_to_front(const struct step *s,
					  struct half_open_copy *copy,
					  const struct half_open *other)
{
	struct attempt_key id;
	struct work *w = s->work;

	attempt_key_of(&id, &w->key, other);
	keep_other(s, &copy->entry.half);
	__builtin_memcpy(&copy->entry.half, other, sizeof(*other));
	copy->entry.half.flags |= HALF_OTHERS;
	if (!half_open_store(copy, w->now))
		return 0;
	other_half_open.delete(&id);
	return 1;
}

/* The other attempt whose SYN this SYN-ACK answers, or 0. */
static __always_inline struct half_open *
answered_other(const struct step *s, const struct half_open *half)
{
	struct work *w = s->work;
	struct half_open *other;
	struct attempt_key id;

	if (!(half->flags & HALF_OTHERS))
		return 0;
	id.key = w->key;
	id.seq = w->packet.ack - 1;
	id.answered = 0;
	other = other_of(s, &id);
	return other && other->client != w->sender ? other : 0;
}

/*
 * The earlier attempt of a decky that now accepts the other end's SYN, or 0.
 * Only a decky's word counts: who wants to be taken for the client would say
 * the same.
 */
static __always_inline struct half_open *
crossed_other(const struct step *s, const struct half_open *half)
{
	struct work *w = s->work;
	struct half_open *other;
	struct attempt_key id;

	if (!(half->flags & HALF_OTHERS) || !half->syn.ip_version ||
	    !is_from_decky(&w->packet))
		return 0;
	id.key = w->key;
	id.seq = w->packet.seq;
	id.answered = 0;
	other = other_of(s, &id);
	if (!other || other->client != w->sender ||
	    other->syn.time_ns >= half->syn.time_ns)
		return 0;
	return other;
}

/*
 * A second SYN-ACK for one SYN, as SYN cookies make them: either may be the one
 * that is acknowledged. 1 if this one was known.
 */
static __always_inline int keep_older_synack(const struct step *s,
					     struct half_open *half)
{
	struct work *w = s->work;
	struct half_open *other;
	struct attempt_key id;

	id.key = w->key;
	id.seq = w->packet.seq;
	id.answered = 1;
	other = other_of(s, &id);
	if (other) {
		if (other->synack.retransmits < 255)
			other->synack.retransmits++;
		other_half_open.update(&id, other);
		return 1;
	}
	keep_other(s, half);
	half->flags |= HALF_OTHERS;
	return 0;
}

/* May a SYN-ACK without a SYN begin anything on this 4-tuple? */
static __always_inline int may_be_lone(const struct step *s,
				       const struct flow *flow)
{
	if (is_from_decky(&s->work->packet))
		return 1;
	/* the peer of a decky has sent it inside a connection */
	if (flow)
		return flow->totals.close != CLOSE_NONE;
	return !midstream_flows.lookup(&s->work->key);
}

/*
 * Records the SYN-ACK. 0 if it is not the first, or belongs to no SYN. -1:
 * another CPU has changed the attempt meanwhile.
 */
static __always_inline int record_synack(struct __sk_buff *skb,
					 const struct step *s,
					 const struct flow *flow)
{
	const struct packet *p = &s->work->packet;
	struct half_open_sample *scratch;
	struct half_open *half, *other;
	struct half_open_place place;
	struct half_open_copy *copy;
	struct work *w = s->work;
	__u8 rules, answered;
	int recorded = 1, first;

	rules = opening_rules(skb, s, 0);
	/* of the other end: it sends to a decky, even if its SYN was not seen
	 */
	answered = is_from_decky(p) ? RULES_JUDGED : 0;
	copy = half_open_of(s, &place);
	if (copy) {
		half = &copy->entry.half;
		if (repeats_opening(half, p, w->sender))
			return 0;
		if (!answers_syn(half, p, w->sender)) {
			other = answered_other(s, half);
			if (!other) {
				s->counters->synack_unmatched++;
				return 0;
			}
			if (!bring_to_front(s, copy, other))
				return -1;
		}
		w->half_open = half->syn.ip_version != 0;
		note_opening_rules(half, w->sender, rules);
		note_opening_rules(half, !w->sender, answered);
		other = crossed_other(s, half);
		if (other) {
			half_open_cross(other, half, p, w->now);
			return bring_to_front(s, copy, other) ? 1 : -1;
		}
		first = !half->synack.ip_version;
		if (first)
			syn_packet_fill(skb, &half->synack, p, w->now);
		note_leaving(skb, w);
		note_packet(p, w->now, &half->last_ns, &half->min_iat_ns,
			    &half->max_iat_ns);
		if (first) {
			half->synack.time_ns = w->now;
		} else if (half->synack.seq == p->seq &&
			   half->synack.flags & TCP_ACK) {
			if (half->synack.retransmits < 255)
				half->synack.retransmits++;
			recorded = 0;
		} else if (half->synack.seq != p->seq &&
			   keep_older_synack(s, half)) {
			recorded = 0;
		} else {
			syn_packet_fill(skb, &half->synack, p, w->now);
		}
		return half_open_store(copy, w->now) ? recorded : -1;
	}
	if (!may_be_lone(s, flow)) {
		s->counters->synack_unmatched++;
		return 0;
	}
	scratch = half_open_scratch.lookup(scratch_slot(s));
	if (!scratch)
		return 0;
	note_leaving(skb, w);
	half_open_begin(&scratch->half_open, !w->sender, w->now);
	syn_packet_fill(skb, &scratch->half_open.synack, p, w->now);
	note_opening_rules(&scratch->half_open, w->sender, rules);
	note_opening_rules(&scratch->half_open, !w->sender, answered);
	return half_open_insert(s->counters, &place, &w->key,
				&scratch->half_open, w->now);
}

/* A SYN-ACK to a decky in its open connection: nobody sent a SYN for it. */
static __always_inline int is_idle_synack(const struct step *s,
					  const struct flow *flow)
{
	struct half_open_place place;
	struct work *w = s->work;

	return flow && flow->totals.close == CLOSE_NONE &&
	       is_judged(&flow->totals, w->sender) &&
	       !repeats_handshake(flow, &w->packet, w->sender) &&
	       !half_open_of(s, &place);
}

int decky_synack(struct __sk_buff *skb)
{
	struct packet *p;
	struct flow *flow;
	struct step s;
	int recorded;

	if (!step_begin(skb, &s))
		return TC_NEXT;
	p = &s.work->packet;
	if (is_own_host(skb, &s, 0)) {
		s.counters->ignored_own_host++;
		return TC_NEXT;
	}
	flow = flows.lookup(&s.work->id);
	if (is_idle_synack(&s, flow)) {
		refused(skb, &s, REFUSED_SYNACK);
		return TC_NEXT;
	}
	if (!s.work->restarts)
		s.counters->frames_synack++;
	if (flow && repeats_handshake(flow, p, s.work->sender)) {
		flow_repeat_handshake(flow, p, s.work->sender, s.work->now);
		return TC_NEXT;
	}
	/* without the flag, segments of a known connection skip half_open */
	recorded = record_synack(skb, &s, flow);
	if (recorded < 0)
		restart(skb, &s, JUMP_SYNACK);
	if (recorded > 0 && flow)
		note_pending(flow);
	/* of a decky's own, decky_probe has been before */
	if (s.work->to_decky)
		jump(skb, JUMP_PROBE);
	return TC_NEXT;
}

/* --- decky_handshake ------------------------------------------------------ */

/* The mid-stream connection of this segment, or 0. */
static __always_inline struct flow *midstream_of(const struct step *s)
{
	/* decky_packet has looked: half of what a handshake costs is look-ups
	 */
	if (s->work->unknown)
		return 0;
	return midstream_flows.lookup(&s->work->key);
}

/* Did this mid-stream connection begin with data behind this SYN-ACK? */
static __always_inline int goes_on(const struct flow *midstream,
				   const struct half_open *half)
{
	return midstream && midstream->synack.ip_version &&
	       midstream->synack.seq == half->synack.seq;
}

/* The connection that a half-open one becomes, in flow_scratch, or 0. */
static __always_inline struct flow *flow_of(const struct step *s,
					    const struct half_open *half,
					    const struct flow *midstream,
					    volatile struct segment_walk *walk)
{
	struct work *w = s->work;
	struct flow *fresh;

	fresh = flow_scratch.lookup(scratch_slot(s));
	if (!fresh)
		return 0;
	if (goes_on(midstream, half)) {
		__builtin_memcpy(fresh, midstream, sizeof(*midstream));
		fresh->totals.flags &= ~FLOW_MIDSTREAM;
		flow_add_syn(fresh, half);
	} else {
		flow_begin(fresh, half);
	}
	fresh->key = w->key;
	fresh->totals.rules[0] = rules_of(half, 0);
	fresh->totals.rules[1] = rules_of(half, 1);
	/* of a server to a decky, the decky's SYN shows the window */
	if (!half->syn.ip_version)
		fresh->totals.rules[!(half->client & 1)] &= ~RULES_JUDGED;
	note_offers(fresh, walk);
	return fresh;
}

enum entry {
	NOT_ENTERED,
	ENTERED,
	ENTERED_BEFORE, /* another CPU has entered it meanwhile */
};

/*
 * Moves a half-open connection to flows. An older connection on the same
 * 4-tuple ends here. If flows is full, that is counted.
 *
 * The final ACK and the first data may come on two CPUs at once, and both
 * complete the handshake. The second one must not overwrite what was accounted
 * since the first one: it finds the connection entered. Where it takes the
 * place of an older one, only the moment between look-up and update is left.
 */
static __always_inline enum entry
enter_flow(struct __sk_buff *skb, const struct step *s,
	   const struct half_open_copy *copy, struct flow *old,
	   struct flow *midstream, struct flow *fresh, struct source *source,
	   __u32 slot)
{
	const struct half_open *half = &copy->entry.half;
	struct flow *older = old, *present;
	struct counters *c = s->counters;
	struct work *w = s->work;
	int error;

	if (old) {
		present = flows.lookup(&w->id);
		if (present && is_same_handshake(present, fresh))
			return ENTERED_BEFORE;
	}
	/* both only if two CPUs race: see begin_midstream() */
	if (!older && !goes_on(midstream, half))
		older = midstream;
	/* of an open one, what was sent is an end before it was open again */
	if (older && !(older->totals.close && older->totals.end_sent)) {
		older->totals.close = close_of_replaced(&older->totals);
		/* no sweep finds it later, so it is not claimed */
		if (send_end(skb, s, older, 0))
			older->totals.end_sent = 1;
	}
	if (old)
		c->flow_reopened++;
	fresh->totals.source_slot = slot;
	if (!w->reassembled) {
		fresh->totals.established_ns = w->now;
		if (!(half->synack.ip_flags & IP_FLAG_REASSEMBLED))
			fresh->totals.rtt_client_us =
				rtt_us(half->synack.time_ns, w->now);
	}
	if (old) {
		error = flows.update(&w->id, fresh);
	} else {
		error = flows.insert(&w->id, fresh);
		if (error) {
			present = flows.lookup(&w->id);
			if (present && is_same_handshake(present, fresh))
				return ENTERED_BEFORE;
			if (present)
				error = flows.update(&w->id, fresh);
		}
	}
	if (error) {
		c->flow_insert_failed++;
		return NOT_ENTERED;
	}
	if (!old) {
		__sync_fetch_and_add(&source->flows, 1);
		c->flow_inserts++;
	}
	c->handshakes++;
	if (half_open_remove(copy))
		c->half_open_deletes++;
	if (midstream && !midstream_flows.delete(&w->key))
		c->midstream_deletes++;
	return ENTERED;
}

/* The agent's sweep makes the lost sample of this handshake good. */
static __always_inline void note_lost_handshake(const struct step *s,
						const struct half_open *half)
{
	struct flow *flow;

	flow = flows.lookup(&s->work->id);
	if (!flow)
		return;
	/* not in the flags of the connection, which other CPUs write */
	flow->synack.ip_flags |= HANDSHAKE_LOST;
	if (half->syn_sampled || half->syn_suppressed)
		flow->syn.ip_flags |= SYN_KNOWN;
}

/*
 * Makes a connection of a half-open one and samples its handshake. 0 if flows
 * is full or the source has its share of it: counted, and the handshake is
 * sampled all the same, once.
 */
static __always_inline int promote(struct __sk_buff *skb, const struct step *s,
				   struct half_open_copy *copy,
				   struct flow *old, struct flow *midstream,
				   struct flow *fresh)
{
	struct half_open *half = &copy->entry.half;
	struct half_open_sample *sample;
	struct counters *c = s->counters;
	struct work *w = s->work;
	struct source *source;
	__u32 slot;
	enum entry entered = NOT_ENTERED;
	int error = 1;

	/* one by one: clang would OR the pointers, the verifier forbids it */
	slot = source_slot(&w->key, half->client, s->settings->seed);
	source = sources.lookup(&slot);
	if (!source)
		return 0;
	sample = half_open_scratch.lookup(scratch_slot(s));
	if (!sample)
		return 0;
	note_leaving(skb, w);
	sample_begin(&sample->head, SAMPLE_HANDSHAKE, &w->packet, &w->key,
		     w->sender, w->now);
	__builtin_memcpy(&sample->half_open, half, sizeof(*half));
	sample->head.client = half->client;
	sample->head.born_ns = half_open_born(half);
	sample->head.hello = link_of(skb);

	if (!old && source->flows >= s->settings->flows_per_source)
		c->flow_source_capped++;
	else
		entered = enter_flow(skb, s, copy, old, midstream, fresh,
				     source, slot);
	/* the other CPU has sampled and counted all of it */
	if (entered == ENTERED_BEFORE) {
		w->cause = TOUCH_NOTHING;
		return 1;
	}
	if (entered) {
		sample->head.born_ns = fresh->totals.born_ns;
	} else {
		half->flags |= HALF_REPORTED;
		half_open_store(copy, w->now);
	}

	/* needed if no other has the SYN, or if data of the SYN waits for it */
	half = &sample->half_open;
	if (half->flags & HALF_REPORTED)
		return entered;
	if ((half->syn_sampled || half->syn_suppressed ||
	     !half->syn.ip_version) &&
	    !half->syn_record &&
	    service_suppressed(s, half->client, SERVICE_HANDSHAKE, 0)) {
		c->handshakes_suppressed++;
		return entered;
	}
	if (entered && !half->syn_record && is_deferred(s)) {
		note_lost_handshake(s, half);
		return entered;
	}
	if (entered || !is_ring_crowded(s))
		error = samples.perf_submit(skb, sample, sizeof(*sample));
	if (sample_sent(c, error, sizeof(*sample)))
		return entered;
	if (entered) {
		note_lost_handshake(s, half);
	} else {
		/* the next segment tries again */
		copy->entry.half.flags &= ~HALF_REPORTED;
		half_open_store(copy, w->now);
	}
	return entered;
}

/*
 * Does this segment complete the half-open connection of `copy`? Of several
 * attempts, the one whose SYN-ACK is acknowledged counts: `copy` is of that one
 * then.
 */
static __always_inline int completed(const struct step *s,
				     struct half_open_copy *copy,
				     const struct flow *midstream)
{
	struct half_open *half = &copy->entry.half, *other;
	struct work *w = s->work;
	struct attempt_key id;

	if (may_complete(half, &w->packet, w->sender) &&
	    acks_synack(half, &w->packet, w->sender, midstream))
		return 1;
	if (!(half->flags & HALF_OTHERS))
		return 0;
	id.key = w->key;
	id.seq = w->packet.ack - 1;
	id.answered = 1;
	other = other_of(s, &id);
	if (!other || !may_complete(other, &w->packet, w->sender))
		return 0;
	if (bring_to_front(s, copy, other))
		return 1;
	s->counters->half_open_failed++;
	return 0;
}

/* Would a decky take this final ACK? Its acknowledgement number is right. */
static __always_inline enum judgement
judge_final_ack(const struct step *s, struct flow *fresh,
		volatile struct segment_walk *walk)
{
	const struct packet *p = &s->work->packet;
	struct flow_totals *totals = &fresh->totals;
	__u32 sender = s->work->sender;
	enum judgement verdict;

	if (!is_judged(totals, sender))
		return JUDGED_GOOD;
	if (seq_diff(p->seq, totals->end[!(sender & 1)].edge) > 0)
		return REFUSED_WINDOW;
	verdict = judge_options(totals, sender, p, 0, walk);
	if (verdict == JUDGED_GOOD)
		note_stamp(totals, sender, p, walk);
	/* an old timestamp is never right before the connection is open */
	return verdict == JUDGED_OLD ? REFUSED_TIMESTAMP : verdict;
}

/* Payload of no connection begins a mid-stream one. 0: there is none. */
static __always_inline int begin_midstream(const struct step *s,
					   const struct half_open *half,
					   int completed)
{
	const struct packet *p = &s->work->packet;
	struct work *w = s->work;
	struct flow *fresh;

	/* no receiver takes a segment without ACK (RFC 9293, 3.10.7.4) */
	if (!p->payload_len || (p->flags & (TCP_ACK | TCP_RST)) != TCP_ACK)
		return 0;
	if (midstream_flows.lookup(&w->key))
		return 1;
	/* nor one that does not acknowledge the SYN-ACK that it has sent */
	if (half && refuses(half, p, w->sender, w->now) && is_to_decky(p))
		return 0;
	if (half && precedes_its_synack(half, p, w->sender, w->now))
		return 0;
	fresh = flow_scratch.lookup(scratch_slot(s));
	if (!fresh)
		return 0;
	if (half && precedes(half, p, w->sender))
		flow_begin(fresh, half);
	else
		flow_begin_midstream(fresh, w->now);
	fresh->key = w->key;
	fresh->totals.flags = FLOW_MIDSTREAM;
	if (completed) {
		/* only the table has no room for it */
		fresh->totals.flags |= FLOW_PROVEN;
		fresh->totals.established_ns = w->now;
	}
	if (midstream_flows.insert(&w->key, fresh)) {
		s->counters->midstream_failed++;
		return 0;
	}
	s->counters->midstream_inserts++;
	return 1;
}

/*
 * A segment of no connection, or of one on whose 4-tuple a SYN-ACK was seen. It
 * may begin a connection. One that the table has no room for is followed
 * mid-stream, from its payload on. Then decky_packet accounts the segment.
 */
int decky_handshake(struct __sk_buff *skb)
{
	struct flow *flow, *midstream = 0, *fresh;
	volatile struct segment_walk *walk;
	struct half_open_place place;
	struct half_open_copy *copy;
	enum judgement verdict;
	struct half_open *half;
	struct step s;
	int complete = 0, promoted = 0;

	if (!step_begin(skb, &s))
		return TC_NEXT;
	walk = segment_walks.lookup(&s.slot);
	if (!walk)
		return TC_NEXT;
	flow = flows.lookup(&s.work->id);
	copy = half_open_of(&s, &place);
	half = copy ? &copy->entry.half : 0;
	if (copy) {
		s.work->half_open = half_open_fresh(half, s.work->now);
		midstream = midstream_of(&s);
		complete = completed(&s, copy, midstream);
	}
	if (copy && complete) {
		/* without room in flows, each segment completes it again */
		if (opened_to_decky(half, s.work->sender) &&
		    !(half->flags & HALF_REPORTED))
			s.work->cause = TOUCH_HANDSHAKE;
		if (!s.work->options_read &&
		    !read_attempt(skb, walk, half, &s.work->packet, 0)) {
			jump(skb, JUMP_OPTIONS);
			return TC_NEXT;
		}
		fresh = flow_of(&s, half, midstream, walk);
		if (!fresh)
			return TC_NEXT;
		verdict = judge_final_ack(&s, fresh, walk);
		if (verdict != JUDGED_GOOD) {
			refused(skb, &s, verdict);
			return TC_NEXT;
		}
		promoted = promote(skb, &s, copy, flow, midstream, fresh);
		if (!promoted && flow) {
			s.counters->frames_unattached++;
			return TC_NEXT;
		}
	}
	if (!promoted && !flow) {
		if (is_own_host(skb, &s,
				half ? half->client == s.work->sender : -1)) {
			s.counters->ignored_own_host++;
			return TC_NEXT;
		}
		if (!begin_midstream(&s, half, complete) && s.work->unknown &&
		    !complete) {
			/* decky_packet would find nothing either */
			s.counters->frames_unattached++;
			s.work->cause = TOUCH_SEGMENT;
			jump(skb, JUMP_PROBE);
			return TC_NEXT;
		}
	}
	s.work->handshake_tried = 1;
	/* of an ACK alone nothing is left to judge */
	if (promoted && !s.work->packet.payload_len &&
	    !(s.work->packet.flags & TCP_FIN))
		s.work->checked = JUDGED_GOOD;
	if (s.work->cause)
		jump(skb, JUMP_PROBE);
	jump(skb, JUMP_PACKET);
	return TC_NEXT;
}

/* --- decky_options -------------------------------------------------------- */

/*
 * Reads the options of the attempt in half_open and of the segment that
 * completes it, in any order. Then decky_handshake goes on.
 */
int decky_options(struct __sk_buff *skb)
{
	volatile struct segment_walk *walk;
	struct half_open_place place;
	struct half_open_copy *copy;
	struct step s;

	if (!step_begin(skb, &s))
		return TC_NEXT;
	walk = segment_walks.lookup(&s.slot);
	if (!walk)
		return TC_NEXT;
	copy = half_open_of(&s, &place);
	/* without it decky_handshake finds no attempt either */
	if (copy)
		read_attempt(skb, walk, &copy->entry.half, &s.work->packet, 1);
	s.work->options_read = 1;
	jump(skb, JUMP_HANDSHAKE);
	return TC_NEXT;
}

/* --- decky_hello ---------------------------------------------------------- */

/* The slot of a hello or of a beginning of SSH. */
static __always_inline struct seen *hello_slot(__u64 signature)
{
	struct seen *first, *second;
	__u32 slot;

	slot = seen_slot(signature, 0, HELLO_SEEN_SLOTS);
	first = hello_seen.lookup(&slot);
	if (!first)
		return 0;
	slot = seen_slot(signature, 1, HELLO_SEEN_SLOTS);
	second = hello_seen.lookup(&slot);
	if (!second)
		return 0;
	return is_in_second(first, second, signature) ? second : first;
}

/* Has the agent emitted this ClientHello of this client to this server? */
static __always_inline int hello_suppressed(const struct step *s,
					    const struct flow *flow)
{
	struct work *w = s->work;
	struct seen *seen;

	if (!hello_in_order(flow, &w->packet, w->sender))
		return 0;
	seen = hello_slot(flow->hello);
	return seen && suppress(seen, flow->hello, w->now,
				decky_bit(&w->key, w->sender));
}

/* Hashes the ClientHello of this segment. Then decky_packet accounts it. */
int decky_hello(struct __sk_buff *skb)
{
	struct hello_walk *walk;
	__u64 signature;
	struct packet *p;
	struct flow *flow;
	struct work *w;
	struct step s;

	if (!step_begin(skb, &s))
		return TC_NEXT;
	walk = hello_walks.lookup(&s.slot);
	if (!walk)
		return TC_NEXT;
	w = s.work;
	flow = flows.lookup(&w->id);
	if (!flow) {
		s.counters->frames_unattached++;
		return TC_NEXT;
	}
	p = &w->packet;
	signature = 0;
	if (hello_hash(skb, walk, p->l4_off + p->tcp_len, p->payload_len - 1,
		       s.settings->seed))
		signature = hello_signature(walk, &w->key, w->sender);
	if (flow->totals.flags & FLOW_HELLO_SUPPRESSED) {
		w->repeats = signature == flow->hello;
		w->hashed = 1;
		jump(skb, JUMP_PACKET);
		return TC_NEXT;
	}
	flow->hello = signature;
	if (signature) {
		flow->session_id = walk->session_id;
		if (hello_suppressed(&s, flow)) {
			flow_suppress_hello(flow, p, w->sender);
			w->repeats = 1;
			s.counters->hellos_suppressed++;
		}
	}
	w->hashed = 1;
	jump(skb, JUMP_PACKET);
	return TC_NEXT;
}

/* --- decky_head ----------------------------------------------------------- */

/* Has the agent emitted what this end of SSH says, as far as it was said? */
static __always_inline int head_suppressed(const struct step *s,
					   const struct flow *flow)
{
	struct work *w = s->work;
	__u64 signature = w->chain & ~SSH_STATE, state = w->chain & SSH_STATE;
	struct seen *seen;

	seen = hello_slot(signature);
	if (!seen)
		return 0;
	/* one head is one event: it counts when nothing can make it another */
	if (state != SSH_FINISHED)
		return suppresses(seen, signature, w->now);
	if (!suppress(seen, signature, w->now,
		      decky_bit(&w->key, flow->totals.client)))
		return 0;
	s->counters->heads_suppressed++;
	return 1;
}

/*
 * Hashes what an end of SSH says in this segment. It is suppressed if all
 * before it was. Then decky_packet accounts the segment.
 */
int decky_head(struct __sk_buff *skb)
{
	const struct flow_side *side;
	struct ssh_walk *walk;
	struct packet *p;
	struct flow *flow;
	struct work *w;
	struct step s;
	__u64 before;

	if (!step_begin(skb, &s))
		return TC_NEXT;
	walk = ssh_walks.lookup(&s.slot);
	if (!walk)
		return TC_NEXT;
	w = s.work;
	flow = flows.lookup(&w->id);
	if (!flow) {
		s.counters->frames_unattached++;
		return TC_NEXT;
	}
	p = &w->packet;
	side = &flow->totals.side[w->sender & 1];
	w->head_read = 1;
	before = head_chain(side);
	if (!before)
		before = ssh_chain_begin(&w->key, w->sender,
					 flow->totals.client, s.settings->seed);
	w->chain = before;
	walk->number = w->sender != flow->totals.client;
	if (!ssh_hash(skb, walk, p->l4_off + p->tcp_len, p->payload_len - 1,
		      before, side->tls_seq - p->seq)) {
		w->chain = 0;
	} else {
		w->chain = (walk->hash & ~SSH_STATE) | walk->state;
		w->packet_end =
			p->seq + p->payload_len + walk->content + walk->padding;
		if (!side->tls_samples && !side->tls_orphans &&
		    head_suppressed(&s, flow))
			w->head_known =
				(w->chain & SSH_STATE) == SSH_FINISHED ? 2 : 1;
	}
	jump(skb, JUMP_PACKET);
	return TC_NEXT;
}

/* --- decky_tags ----------------------------------------------------------- */

/*
 * A frame with more in-band tags than decky_packet reads. Linux removes any
 * number of tags with VLAN 0. Then decky_packet goes on behind them.
 */
int decky_tags(struct __sk_buff *skb)
{
	struct vlan_header tag = {};
	struct step s;
	__u32 linear;

	if (!step_begin(skb, &s))
		return TC_NEXT;
	s.work->l3_off = sizeof(struct eth_header);
	s.work->ethertype = ETH_P_8021Q;
	s.work->vlans = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < MAX_PRIORITY_TAGS; i++) {
		if (bpf_skb_load_bytes(skb, s.work->l3_off, &tag,
				       sizeof(tag))) {
			s.counters->foreign_not_ip++;
			return TC_NEXT;
		}
		s.work->l3_off += sizeof(tag);
		if (be16(tag.tci) & VLAN_ID)
			s.work->vlans++;
		if (!is_vlan(be16(tag.proto)))
			break;
	}
	s.work->ethertype = be16(tag.proto);
	if (is_vlan(s.work->ethertype) || s.work->vlans > MAX_VLAN_TAGS) {
		s.counters->foreign_vlan_tags++;
		return TC_NEXT;
	}
	linear = s.work->l3_off + sizeof(struct ipv6_header);
	bpf_skb_pull_data(skb, skb->len < linear ? skb->len : linear);
	jump(skb, JUMP_PACKET);
	return TC_NEXT;
}

/* --- decky_fragment ------------------------------------------------------- */

/* An IP fragment of what may be a decky's TCP. decky_packet has counted it. */
int decky_fragment(struct __sk_buff *skb)
{
	struct token_bucket *source, *all;
	struct fragment_sample sample;
	struct packet *p;
	struct step s;
	__u32 zero = 0, slot, len;
	__u64 now;
	int error;

	if (!step_begin(skb, &s))
		return TC_NEXT;
	p = &s.work->packet;
	if (!is_ours(p) || s.work->reassembled)
		return TC_NEXT;
	slot = fragment_slot(p, s.settings->seed);
	source = fragment_sources.lookup(&slot);
	if (!source)
		return TC_NEXT;
	all = fragment_budget.lookup(&zero);
	if (!all)
		return TC_NEXT;
	now = frame_time(skb);
	len = fragment_len(p, skb->len);
	if (len > FRAGMENT_BYTES) {
		s.counters->fragments_too_long++;
		return TC_NEXT;
	}
	if (!fragment_admit(source, all, len, now)) {
		s.counters->fragments_over_budget++;
		return TC_NEXT;
	}
	fragment_sample_begin(&sample, p, len, s.work->ingress, now);
	error = samples.perf_submit_skb(skb, len, &sample, sizeof(sample));
	sample_sent(s.counters, error, sizeof(sample) + len);
	return TC_NEXT;
}

/* --- decky_search --------------------------------------------------------- */

/*
 * Finds the hello that begins behind other bytes of this segment or SYN. The
 * first segment of each write of bulk data has none, and is accounted here.
 */
int decky_search(struct __sk_buff *skb)
{
	struct hello_walk *chunk;
	struct flow *flow;
	struct work *w;
	struct step s;
	__u32 at;
	int found;

	if (!step_begin(skb, &s))
		return TC_NEXT;
	/* decky_hello is through with it */
	chunk = hello_walks.lookup(&s.slot);
	if (!chunk)
		return TC_NEXT;
	w = s.work;
	at = w->found;
	found = find_record(skb, chunk, &w->packet, &at);
	if (!w->searched && !found && is_unread_hello(hello_word(chunk, 0)) &&
	    w->packet.payload_len >= TLS_HEADER_LEN + 2)
		s.counters->tls_unread++;
	w->searched++;
	/* of a frame that the capture cut off, nothing was read */
	if (!found && at != w->found && at < w->packet.payload_len) {
		if (w->searched < TLS_SEARCHES) {
			w->found = at;
			jump(skb, JUMP_SEARCH);
		}
		/* the steps were too few, not the bytes of a search */
		if (at - w->found < TLS_SEARCH_BYTES - TLS_PREFIX_LEN)
			s.counters->tls_search_cut++;
	}
	w->found = found ? at : NOT_FOUND;
	if (w->again) {
		if (found)
			jump(skb, JUMP_REST);
		return TC_NEXT;
	}
	if (!found && is_plain(&w->packet) && !w->reassembled) {
		flow = flows.lookup(&w->id);
		if (flow && flow_bulk(skb, s.counters, &w->packet, flow,
				      w->sender, w->now, w->ingress, 1))
			return TC_NEXT;
	}
	if (!(w->packet.flags & TCP_SYN))
		jump(skb, JUMP_PACKET);
	else
		jump(skb, JUMP_PROBE);
	return TC_NEXT;
}

/* --- decky_rest ----------------------------------------------------------- */

/*
 * Goes on in a segment that decky_packet has accounted: behind records of clear
 * text, or with the hello that decky_search has found.
 */
int decky_rest(struct __sk_buff *skb)
{
	volatile struct record_walk *walk;
	struct flow_side *side, *peer;
	struct packet *p;
	struct flow *flow;
	struct work *w;
	struct step s;

	if (!step_begin(skb, &s))
		return TC_NEXT;
	walk = record_walks.lookup(&s.slot);
	if (!walk)
		return TC_NEXT;
	w = s.work;
	flow = flows.lookup(&w->id);
	if (!flow)
		flow = midstream_flows.lookup(&w->key);
	if (!flow)
		return TC_NEXT;
	p = &w->packet;
	side = &flow->totals.side[w->sender & 1];
	peer = &flow->totals.side[!(w->sender & 1)];
	if (w->found == NOT_FOUND) {
		walk->pos = w->rest;
		if (!pass_records(skb, walk, p->l4_off + p->tcp_len)) {
			w->rest = walk->pos;
			if (w->again >= TLS_PASSES)
				stop_reading(&s, flow, side);
			segment_end(skb, &s, flow);
			return TC_NEXT;
		}
		side->tls_seq = p->seq + walk->pos;
	}
	w->ahead = AHEAD_REPEATED;
	barrier();
	sample_tls(skb, &s, p, flow, side, peer);
	segment_end(skb, &s, flow);
	return TC_NEXT;
}

/* --- xdp_ingress ---------------------------------------------------------- */

#ifdef DECKWIRE_XDP
/* Has this key an attempt that may still go on? 0: look under the lock. */
static __always_inline int half_open_knows(const struct half_open_group *group,
					   const struct half_open_place *place,
					   const struct flow_key *key,
					   __u64 now)
{
	struct half_open_entry *entry;
	__u32 generation;
	int fresh;

	entry = half_open_peek(group, place, key, &generation);
	if (!entry)
		return 0;
	fresh = half_open_fresh(&entry->half, now);
	barrier();
	return fresh && *(volatile __u32 *)&entry->generation == generation;
}

/*
 * Notes the time and the options of a SYN as early as there is a frame. TC
 * counts and samples it. All but bare SYNs to a decky are left to TC.
 */
int xdp_ingress(struct xdp_md *xdp)
{
	struct half_open_sample *scratch;
	struct half_open_group group;
	const struct tcp_header *tcp;
	struct half_open_place place;
	struct half_open_copy *copy;
	struct settings *set;
	struct counters *c;
	struct flow_key key;
	struct flow_id id;
	struct cursor cur;
	struct packet p;
	__u32 zero = 0, len = xdp->data_end - xdp->data;
	__u8 sender;
	__u64 now;
	int ethertype;

	cur.start = (void *)(long)xdp->data;
	cur.pos = cur.start;
	cur.end = (void *)(long)xdp->data_end;
	ethertype = parse_vlan_tags(&cur, parse_ethernet(&cur));
	/* most frames are no SYN: their fields are not even read */
	tcp = bare_tcp(&cur, ethertype);
	if (!tcp ||
	    (be16(tcp->off_flags) & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN)
		return XDP_PASS;
	if (parse_ip(&cur, &p, ethertype, len) != PROTO_TCP ||
	    fill_tcp(&p, tcp) < 0)
		return XDP_PASS;
	if (!(p.ip_version == 4 ? is_decky4(p.daddr[3]) : is_decky6(p.daddr)))
		return XDP_PASS;

	c = counters.lookup(&zero);
	if (!c)
		return XDP_PASS;
	scratch = half_open_scratch.lookup(&zero);
	if (!scratch)
		return XDP_PASS;
	now = bpf_ktime_get_ns();
	sender = make_key(&p, &key);
	set = settings.lookup(&zero);
	if (!set)
		return XDP_PASS;
	make_id(&id, &key, p.ip_version, set->seed);
	half_open_place(&place, &id, set->seed);
	if (!half_open_group(&group, &place.slot))
		return XDP_PASS;
	half_open_search(&group, &place);
	/* of several attempts, decky_syn keeps each */
	if (half_open_knows(&group, &place, &key, now))
		return XDP_PASS;
	copy = half_open_copy(&zero, &group, &place, &key);
	if (copy && half_open_fresh(&copy->entry.half, now))
		return XDP_PASS;
	half_open_begin(&scratch->half_open, sender, now);
	syn_packet_begin(&scratch->half_open.syn, &p, now);
	copy_options(&scratch->half_open.syn, (const __u8 *)(tcp + 1),
		     p.tcp_len - sizeof(struct tcp_header), cur.end);
	scratch->half_open.noted = 1;
	if (!copy) {
		half_open_insert(c, &place, &key, &scratch->half_open, now);
	} else {
		copy->entry.half = scratch->half_open;
		if (!half_open_store(copy, now))
			c->half_open_failed++;
	}
	c->syn_noted++;
	return XDP_PASS;
}
#endif

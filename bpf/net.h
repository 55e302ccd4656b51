/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Wire formats and their parsers. Each parser has one shape: it takes the
 * cursor and the end of the linear data, checks every length against that
 * end, moves the cursor behind what it read and returns the next protocol,
 * or a negative verdict.
 */
#ifndef DECKWIRE_NET_H
#define DECKWIRE_NET_H

#include "limits.h"
#include "abi.h"

#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8
#define ETH_P_QINQ_OLD 0x9100
#define ETH_P_IPV4 0x0800
#define ETH_P_IPV6 0x86dd

#define PROTO_HOPOPTS 0
#define PROTO_TCP 6
#define PROTO_ROUTING 43
#define PROTO_FRAGMENT 44
#define PROTO_AH 51
#define PROTO_DSTOPTS 60

/* Flags of the data-offset word (RFC 9293, 3.1). */
#define TCP_FIN 0x001
#define TCP_SYN 0x002
#define TCP_RST 0x004
#define TCP_PSH 0x008
#define TCP_ACK 0x010
#define TCP_URG 0x020

/* Negative verdicts of the parsers. */
#define PARSE_MALFORMED (-1)
#define PARSE_FRAGMENT_FIRST (-2)
#define PARSE_FRAGMENT_LATER (-3)

struct eth_header {
	__u8 dst[6];
	__u8 src[6];
	__be16 proto;
};

struct vlan_header {
	__be16 tci;
	__be16 proto;
};

struct ipv4_header {
	__u8 version_ihl;
	__u8 tos;
	__be16 tot_len;
	__be16 id;
	__be16 frag_off;
	__u8 ttl;
	__u8 protocol;
	__be16 check;
	__be32 saddr;
	__be32 daddr;
};

struct ipv6_header {
	__be32 version_class_label;
	__be16 payload_len;
	__u8 next_header;
	__u8 hop_limit;
	__be32 saddr[4];
	__be32 daddr[4];
};

struct ext_header {
	__u8 next_header;
	__u8 len;
	__be16 frag_off; /* fragment header only */
	__be32 id;
};

struct tcp_header {
	__be16 source;
	__be16 dest;
	__be32 seq;
	__be32 ack;
	__be16 off_flags;
	__be16 window;
	__be16 check;
	__be16 urgent;
};

#define IP_RESERVED 0x8000
#define IP_DF 0x4000
#define IP_MF 0x2000
#define IP_OFFSET 0x1fff

/* The verifier follows variable offsets into linear data up to 64 KB. */
#define MAX_LINEAR_OFFSET 2048

struct cursor {
	void *pos;
	void *end;
};

/* What parsing found in one frame. Offsets count from the frame's start. */
struct packet {
	__u32 saddr[4];
	__u32 daddr[4];
	__u32 l3_len; /* IP header and all behind it, by the IP length */
	__u32 seq;
	__u32 ack;
	__u32 payload_len;
	__u32 flow_label;
	__be16 sport;
	__be16 dport;
	__u16 l3_off;
	__u16 l4_off;
	__u16 tcp_len; /* header with options */
	__u16 flags;
	__u16 window;
	__u16 urgent;
	__u16 ip_id;
	__u16 ip_options_len;
	__u8 ttl;
	__u8 tos;
	__u8 ip_version;
	__u8 ip_flags;
};

static __always_inline __u16 be16(__be16 v)
{
	return __builtin_bswap16(v);
}

static __always_inline __u32 be32(__be32 v)
{
	return __builtin_bswap32(v);
}

static __always_inline int is_vlan(int proto)
{
	return proto == ETH_P_8021Q || proto == ETH_P_8021AD ||
	       proto == ETH_P_QINQ_OLD;
}

/* The EtherType, of the first in-band tag if there is one. */
static __always_inline int ethertype(struct cursor *c)
{
	struct eth_header *eth = c->pos;

	if ((void *)(eth + 1) > c->end)
		return PARSE_MALFORMED;
	c->pos = eth + 1;
	return be16(eth->proto);
}

/* The EtherType behind all in-band tags; offloaded tags are not in the data. */
static __always_inline int parse_ethernet(struct cursor *c)
{
	int proto = ethertype(c);
	struct vlan_header *tag;

#pragma unroll
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		if (!is_vlan(proto))
			break;
		tag = c->pos;
		if ((void *)(tag + 1) > c->end)
			return PARSE_MALFORMED;
		c->pos = tag + 1;
		proto = be16(tag->proto);
	}
	return proto;
}

/*
 * The IPv4 header. Lengths: 20 <= IHL * 4 <= total length; total length 0 is
 * a super-packet beyond 64 KB (BIG TCP) and the frame's length decides.
 */
static __always_inline int parse_ipv4(struct cursor *c, struct packet *p,
				      __u32 frame_len)
{
	struct ipv4_header *ip = c->pos;
	__u16 frag, ihl;

	p->ip_version = 4;
	if ((void *)(ip + 1) > c->end)
		return PARSE_MALFORMED;
	ihl = (ip->version_ihl & 0xf) * 4;
	if (ip->version_ihl >> 4 != 4 || ihl < sizeof(*ip))
		return PARSE_MALFORMED;
	p->l3_len = be16(ip->tot_len);
	if (!p->l3_len)
		p->l3_len = frame_len - p->l3_off;
	if (p->l3_len < ihl)
		return PARSE_MALFORMED;
	frag = be16(ip->frag_off);
	p->ttl = ip->ttl;
	p->tos = ip->tos;
	p->ip_id = be16(ip->id);
	p->ip_options_len = ihl - sizeof(*ip);
	p->ip_flags = (frag & IP_DF ? IP_FLAG_DF : 0) |
		      (frag & IP_RESERVED ? IP_FLAG_RESERVED : 0);
	p->flow_label = 0;
	p->l4_off = p->l3_off + ihl;
	if (frag & IP_OFFSET)
		return ip->protocol == PROTO_TCP ? PARSE_FRAGMENT_LATER
						 : ip->protocol;
	if (frag & IP_MF)
		return ip->protocol == PROTO_TCP ? PARSE_FRAGMENT_FIRST
						 : ip->protocol;
	return ip->protocol;
}

/* The fixed IPv6 header; extension headers follow in parse_extensions(). */
static __always_inline int parse_ipv6(struct cursor *c, struct packet *p,
				      __u32 frame_len)
{
	struct ipv6_header *ip = c->pos;
	__u32 word;

	p->ip_version = 6;
	if ((void *)(ip + 1) > c->end)
		return PARSE_MALFORMED;
	word = be32(ip->version_class_label);
	if (word >> 28 != 6)
		return PARSE_MALFORMED;
	p->l3_len = be16(ip->payload_len);
	if (p->l3_len)
		p->l3_len += sizeof(*ip);
	else
		p->l3_len = frame_len - p->l3_off;
	p->ttl = ip->hop_limit;
	p->tos = word >> 20;
	p->flow_label = word & 0xfffff;
	p->ip_id = 0;
	p->ip_flags = 0;
	p->ip_options_len = 0;
	p->l4_off = p->l3_off + sizeof(*ip);
	return ip->next_header;
}

static __always_inline int is_extension(int next_header)
{
	return next_header == PROTO_HOPOPTS || next_header == PROTO_ROUTING ||
	       next_header == PROTO_FRAGMENT || next_header == PROTO_AH ||
	       next_header == PROTO_DSTOPTS;
}

/* Behind a fragment header, TCP may follow further extension headers. */
static __always_inline int may_be_tcp(int next_header)
{
	return next_header == PROTO_TCP || is_extension(next_header);
}

/*
 * Walks extension headers (RFC 8200, 4) from next_header at p->l4_off. An
 * atomic fragment (RFC 6946) is a whole packet.
 */
static __always_inline int parse_extensions(struct __sk_buff *skb,
					    struct packet *p, int next_header)
{
	struct ext_header ext = {};
	__u32 len;
	__u16 frag;

#pragma clang loop unroll(disable)
	for (int i = 0; i < MAX_EXT_HEADERS; i++) {
		if (!is_extension(next_header))
			return next_header;
		if (bpf_skb_load_bytes(skb, p->l4_off, &ext, sizeof(ext)))
			return PARSE_MALFORMED;
		len = (ext.len + 1) * 8;
		if (next_header == PROTO_AH)
			len = (ext.len + 2) * 4;
		if (next_header == PROTO_FRAGMENT) {
			len = sizeof(ext);
			frag = be16(ext.frag_off);
			if (frag & 0xfff8)
				return may_be_tcp(ext.next_header)
					       ? PARSE_FRAGMENT_LATER
					       : ext.next_header;
			if (frag & 1)
				return may_be_tcp(ext.next_header)
					       ? PARSE_FRAGMENT_FIRST
					       : ext.next_header;
		}
		next_header = ext.next_header;
		p->l4_off += len;
		p->ip_options_len += len;
		if (p->l4_off - p->l3_off > p->l3_len)
			return PARSE_MALFORMED;
	}
	return is_extension(next_header) ? PARSE_MALFORMED : next_header;
}

/* The fields of a TCP header whose lengths agree with the IP length. */
static __always_inline int fill_tcp(const struct tcp_header *tcp,
				    struct packet *p)
{
	__u16 word = be16(tcp->off_flags);
	__u32 headers;

	p->tcp_len = (word >> 12) * 4;
	headers = p->l4_off - p->l3_off + p->tcp_len;
	if (p->tcp_len < sizeof(*tcp) || headers > p->l3_len)
		return PARSE_MALFORMED;
	p->payload_len = p->l3_len - headers;
	p->sport = tcp->source;
	p->dport = tcp->dest;
	p->seq = be32(tcp->seq);
	p->ack = be32(tcp->ack);
	p->flags = word & 0xfff;
	p->window = be16(tcp->window);
	p->urgent = be16(tcp->urgent);
	return 0;
}

/* The TCP header at p->l4_off where it is linear, as it is as a rule; or 0. */
static __always_inline const struct tcp_header *
linear_tcp(struct __sk_buff *skb, const struct packet *p)
{
	const struct tcp_header *tcp;
	__u64 off = p->l4_off;

	if (off > MAX_LINEAR_OFFSET)
		return 0;
	tcp = (void *)(long)skb->data + off;
	return (void *)(tcp + 1) <= (void *)(long)skb->data_end ? tcp : 0;
}

/* The TCP header wherever it is. */
static __always_inline int parse_tcp(struct __sk_buff *skb, struct packet *p)
{
	const struct tcp_header *linear = linear_tcp(skb, p);
	struct tcp_header copy;

	if (linear)
		return fill_tcp(linear, p);
	if (bpf_skb_load_bytes(skb, p->l4_off, &copy, sizeof(copy)))
		return PARSE_MALFORMED;
	return fill_tcp(&copy, p);
}

/*
 * The TCP header directly behind a whole IPv4 header without options, or 0;
 * p learns of the IP header no more than fill_tcp() has to know.
 */
static __always_inline const struct tcp_header *
plain_tcp4(const struct cursor *c, struct packet *p, __u32 frame_len)
{
	const struct ipv4_header *ip = c->pos;
	const struct tcp_header *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > c->end || ip->version_ihl != 0x45 ||
	    ip->protocol != PROTO_TCP ||
	    ip->frag_off & __builtin_bswap16(IP_MF | IP_OFFSET))
		return 0;
	p->l3_len = be16(ip->tot_len);
	if (!p->l3_len)
		p->l3_len = frame_len - p->l3_off;
	p->l4_off = p->l3_off + sizeof(*ip);
	return tcp;
}

/* The same behind an IPv6 header. */
static __always_inline const struct tcp_header *
plain_tcp6(const struct cursor *c, struct packet *p, __u32 frame_len)
{
	const struct ipv6_header *ip = c->pos;
	const struct tcp_header *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > c->end ||
	    be32(ip->version_class_label) >> 28 != 6 ||
	    ip->next_header != PROTO_TCP)
		return 0;
	p->l3_len = be16(ip->payload_len);
	if (p->l3_len)
		p->l3_len += sizeof(*ip);
	else
		p->l3_len = frame_len - p->l3_off;
	p->l4_off = p->l3_off + sizeof(*ip);
	return tcp;
}

/* IPv4 addresses as v4-mapped ones: both families share one key. */
static __always_inline void map_address(__be32 mapped[4], __be32 addr)
{
	mapped[0] = 0;
	mapped[1] = 0;
	mapped[2] = __builtin_bswap32(0xffff);
	mapped[3] = addr;
}

/*
 * The sender's end of a connection: the lower port is end 0; of equal ports
 * any total order of addresses does.
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

#endif

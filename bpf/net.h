/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Wire formats and their parsers. Every parser has one shape. It takes the
 * cursor, checks each length against the cursor's end, moves the cursor past
 * what it read, and returns the next protocol or a negative verdict.
 */
#ifndef DECKWIRE_NET_H
#define DECKWIRE_NET_H

#include "limits.h"
#include "abi.h"

#define likely(x) __builtin_expect(!!(x), 1)

#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8
#define ETH_P_QINQ_OLD 0x9100
#define ETH_P_IPV4 0x0800
#define ETH_P_ARP 0x0806
#define ETH_P_IPV6 0x86dd

#define VLAN_ID 0x0fff
#define ETH_DATA_LEN 1500

#define PROTO_HOPOPTS 0
#define PROTO_TCP 6
#define PROTO_ROUTING 43
#define PROTO_FRAGMENT 44
#define PROTO_AH 51
#define PROTO_DSTOPTS 60

#define IP_RESERVED 0x8000
#define IP_DF 0x4000
#define IP_MF 0x2000
#define IP_OFFSET 0x1fff

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
#define PARSE_NOT_IP (-4) /* or less than its fixed header */
#define PARSE_TOO_MANY_HEADERS (-5)

/* The verifier follows variable offsets into linear data up to 64 KB. */
#define MAX_LINEAR_OFFSET 2048

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

/* A place in a frame. It may lie past the end: see parse_tcp(). */
struct cursor {
	void *start;
	void *pos;
	void *end; /* of the linear data */
};

/* The fields of one frame. Offsets count from the start of the frame. */
struct packet {
	__u32 saddr[4]; /* IPv4: v4-mapped */
	__u32 daddr[4];
	__u32 l3_len; /* IP header and all after it, by the IP length */
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
	__u16 ip_options_len; /* IPv6: extension headers */
	__u8 ttl;
	__u8 tos;
	__u8 ip_version;
	__u8 ip_flags;
	__u8 fragmented; /* IPv4: a later one; IPv6: it has a fragment header */
};

static __always_inline __u16 be16(__be16 v)
{
	return __builtin_bswap16(v);
}

static __always_inline __u32 be32(__be32 v)
{
	return __builtin_bswap32(v);
}

/*
 * Eight bytes at any place, as a little-endian word. For an unaligned read of a
 * word clang would emit eight reads of a byte.
 */
static __always_inline __u64 word_at(const __u8 *first)
{
	__u64 word;

	asm volatile("%0 = *(u64 *)(%1 + 0)"
		     : "=r"(word)
		     : "r"(first)
		     : "memory");
	return word;
}

static __always_inline struct cursor frame_cursor(struct __sk_buff *skb)
{
	struct cursor c = {
		.start = (void *)(long)skb->data,
		.pos = (void *)(long)skb->data,
		.end = (void *)(long)skb->data_end,
	};

	return c;
}

static __always_inline int is_vlan(int ethertype)
{
	return ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD ||
	       ethertype == ETH_P_QINQ_OLD;
}

/* Returns the EtherType. It may be that of an in-band VLAN tag. */
static __always_inline int parse_ethernet(struct cursor *c)
{
	const struct eth_header *eth = c->pos;

	c->pos = (void *)(eth + 1);
	if (c->pos > c->end)
		return PARSE_MALFORMED;
	return be16(eth->proto);
}

/*
 * Skips in-band tags, of which the frame may have none. Returns the EtherType
 * after them. Offloaded tags are not in the data.
 */
static __always_inline int parse_vlan_tags(struct cursor *c, int ethertype)
{
	const struct vlan_header *tag;

#pragma unroll
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		if (!is_vlan(ethertype))
			break;
		tag = c->pos;
		if ((void *)(tag + 1) > c->end)
			return PARSE_MALFORMED;
		c->pos = (void *)(tag + 1);
		ethertype = be16(tag->proto);
	}
	return ethertype;
}

/* IPv4 addresses become v4-mapped ones: both families share one key. */
static __always_inline void map_address(__be32 mapped[4], __be32 addr)
{
	mapped[0] = 0;
	mapped[1] = 0;
	mapped[2] = __builtin_bswap32(0xffff);
	mapped[3] = addr;
}

/*
 * IPv4, with its options. The lengths must hold 20 <= IHL * 4 <= total length.
 * A total length of 0 is a super-packet of more than 64 KB (BIG TCP): the
 * length of the frame is used.
 */
static __always_inline int parse_ipv4(struct cursor *c, struct packet *p,
				      __u32 frame_len)
{
	const struct ipv4_header *ip = c->pos;
	__u16 frag, ihl;

	if ((void *)(ip + 1) > c->end)
		return PARSE_NOT_IP;
	p->ip_version = 4;
	map_address(p->saddr, ip->saddr);
	map_address(p->daddr, ip->daddr);
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
	p->fragmented = (frag & IP_OFFSET) != 0;
	c->pos += ihl;
	p->l4_off = p->l3_off + ihl;
	if (ip->protocol == PROTO_TCP && frag & (IP_MF | IP_OFFSET))
		return frag & IP_OFFSET ? PARSE_FRAGMENT_LATER
					: PARSE_FRAGMENT_FIRST;
	return ip->protocol;
}

/* The fixed IPv6 header. parse_extensions() reads what follows it. */
static __always_inline int parse_ipv6(struct cursor *c, struct packet *p,
				      __u32 frame_len)
{
	const struct ipv6_header *ip = c->pos;
	__u32 word;

	if ((void *)(ip + 1) > c->end)
		return PARSE_NOT_IP;
	p->ip_version = 6;
	__builtin_memcpy(p->saddr, ip->saddr, sizeof(p->saddr));
	__builtin_memcpy(p->daddr, ip->daddr, sizeof(p->daddr));
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
	c->pos = (void *)(ip + 1);
	p->l4_off = p->l3_off + sizeof(*ip);
	return ip->next_header;
}

/*
 * The demultiplexer: the IP header at the cursor, by EtherType. It fills the
 * addresses of a malformed header too. Only the entry has branches of its own:
 * with this function, the compiler keeps the fields of both families in the
 * same registers, and each known segment takes 4 to 6 ns more (of 60).
 */
static __always_inline int parse_ip(struct cursor *c, struct packet *p,
				    int ethertype, __u32 frame_len)
{
	p->l3_off = c->pos - c->start;
	if (ethertype == ETH_P_IPV4)
		return parse_ipv4(c, p, frame_len);
	if (ethertype == ETH_P_IPV6)
		return parse_ipv6(c, p, frame_len);
	return PARSE_NOT_IP;
}

/* Is this a bare header, without options and with TCP right after it? */
static __always_inline int is_bare4(const struct ipv4_header *ip)
{
	return ip->version_ihl == 0x45 && ip->protocol == PROTO_TCP;
}

static __always_inline int is_bare6(const struct ipv6_header *ip)
{
	return ip->next_header == PROTO_TCP;
}

static __always_inline int is_extension(int next_header)
{
	return next_header == PROTO_HOPOPTS || next_header == PROTO_ROUTING ||
	       next_header == PROTO_FRAGMENT || next_header == PROTO_AH ||
	       next_header == PROTO_DSTOPTS;
}

/* After a fragment header, TCP may follow further extension headers. */
static __always_inline int may_be_tcp(int next_header)
{
	return next_header == PROTO_TCP || is_extension(next_header);
}

/*
 * The chain of IPv6 extension headers (RFC 8200, 4), of which the first is
 * next_header. An atomic fragment (RFC 6946) is a whole packet. Of the rest,
 * only the first says what the packet is: the others' next header is unused.
 *
 * As in Linux, hop-by-hop options come first or make the packet malformed, and
 * so does a second fragment header. The packet that fragments have made (see
 * IP_FLAG_REASSEMBLED) had one.
 *
 * The cursor is p->l4_off in a map value: a pointer that moves by one of
 * several lengths in each step would make the verifier follow all their
 * combinations.
 */
static __always_inline int parse_extensions(struct __sk_buff *skb,
					    struct packet *p, int next_header)
{
	struct ext_header ext = {};
	__u32 len;
	__u16 frag;

	p->fragmented = p->ip_flags & IP_FLAG_REASSEMBLED;

#pragma clang loop unroll(disable)
	for (int i = 0; i < MAX_EXT_HEADERS; i++) {
		if (!is_extension(next_header))
			return next_header;
		if (i && next_header == PROTO_HOPOPTS)
			return PARSE_MALFORMED;
		if (bpf_skb_load_bytes(skb, p->l4_off, &ext, sizeof(ext)))
			return PARSE_MALFORMED;
		len = (ext.len + 1) * 8;
		if (next_header == PROTO_AH)
			len = (ext.len + 2) * 4;
		if (next_header == PROTO_FRAGMENT) {
			len = sizeof(ext);
			frag = be16(ext.frag_off);
			if (p->fragmented)
				return PARSE_MALFORMED;
			p->fragmented = 1;
			if (frag & 0xfff8)
				return PARSE_FRAGMENT_LATER;
			if (frag & 1 && may_be_tcp(ext.next_header))
				return PARSE_FRAGMENT_FIRST;
			if (frag & 1) {
				p->l4_off += len;
				return ext.next_header;
			}
		}
		next_header = ext.next_header;
		p->l4_off += len;
		p->ip_options_len += len;
		if (p->l4_off - p->l3_off > p->l3_len)
			return PARSE_MALFORMED;
	}
	return is_extension(next_header) ? PARSE_TOO_MANY_HEADERS : next_header;
}

/* The fields of the TCP header at p->l4_off, which must fit the IP length. */
static __always_inline int fill_tcp(struct packet *p,
				    const struct tcp_header *tcp)
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

/* The TCP header at the cursor if it is linear, as it is as a rule, or 0. */
static __always_inline const struct tcp_header *linear_tcp(struct cursor *c)
{
	const struct tcp_header *tcp = c->pos;

	if ((void *)(tcp + 1) > c->end)
		return 0;
	c->pos = (void *)(tcp + 1);
	return tcp;
}

/* The TCP header right after a bare IP header at the cursor, or 0. */
static __always_inline const struct tcp_header *bare_tcp(const struct cursor *c,
							 int ethertype)
{
	const struct ipv4_header *ip4 = c->pos;
	const struct ipv6_header *ip6 = c->pos;
	const struct tcp_header *tcp;

	if (ethertype == ETH_P_IPV4 && (void *)(ip4 + 1) <= c->end &&
	    is_bare4(ip4))
		tcp = (void *)(ip4 + 1);
	else if (ethertype == ETH_P_IPV6 && (void *)(ip6 + 1) <= c->end &&
		 is_bare6(ip6))
		tcp = (void *)(ip6 + 1);
	else
		return 0;
	return (void *)(tcp + 1) <= c->end ? tcp : 0;
}

/* The first eight bytes after the IP header. */
static __always_inline int load_l4(struct __sk_buff *skb,
				   const struct packet *p, void *to)
{
	struct cursor c = frame_cursor(skb);
	__u64 off = p->l4_off, first;

	if (off <= MAX_LINEAR_OFFSET) {
		c.pos += off;
		if (c.pos + sizeof(first) <= c.end) {
			first = word_at(c.pos);
			__builtin_memcpy(to, &first, sizeof(first));
			return 0;
		}
	}
	return bpf_skb_load_bytes(skb, off, to, 8);
}

/*
 * TCP. Returns 0, because its payload has no protocol number. The cursor is
 * p->l4_off again: drivers and tunnels may leave the header in a fragment,
 * outside the linear data.
 */
static __always_inline int parse_tcp(struct __sk_buff *skb, struct packet *p)
{
	const struct tcp_header *linear = 0;
	struct cursor c = frame_cursor(skb);
	struct tcp_header copy;
	__u64 off = p->l4_off;

	if (off <= MAX_LINEAR_OFFSET) {
		c.pos += off;
		linear = linear_tcp(&c);
	}
	if (linear)
		return fill_tcp(p, linear);
	if (bpf_skb_load_bytes(skb, off, &copy, sizeof(copy)))
		return PARSE_MALFORMED;
	return fill_tcp(p, &copy);
}

#endif

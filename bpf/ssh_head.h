/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The seeded hash of what an end of SSH says before it is encrypted: lines,
 * then a KEXINIT (RFC 4253, 4.2 and 7.1). It covers every byte but the cookie
 * and the padding, and goes on from segment to segment. Of the packet behind a
 * KEXINIT only its number counts: it shows who the client is.
 */
#ifndef DECKWIRE_SSH_HEAD_H
#define DECKWIRE_SSH_HEAD_H

#include "limits.h"
#include "abi.h"
#include "hash.h"
#include "net.h"
#include "heads.h"

#define SSH_COOKIE_END 22 /* of the packet: header, number, cookie */
#define SSH_NUMBER_END 6
#define SSH_LEAST_PADDING 4
#define SSH_EXCHANGE_FIRST 30 /* numbers of the key exchange: even ones are */
#define SSH_EXCHANGE_LAST 34  /* the client's */

/*
 * The chain of an end: the upper bits are the hash so far, the lowest eight
 * what comes next. Greater values are the length of the padding of a KEXINIT
 * that has begun: tls_seq is one past the packet then.
 */
enum ssh_state {
	SSH_IN_LINE,
	SSH_LINE,     /* a line begins, or a packet */
	SSH_DONE,     /* the KEXINIT is whole */
	SSH_FINISHED, /* and the packet behind it has begun */
};
#define SSH_STATE 0xffULL

/* The state of the walk over a segment, and the segment. */
struct ssh_walk {
	__u64 hash;
	__u32 at;      /* the byte under the cursor */
	__u32 end;     /* one past the segment */
	__u32 content; /* bytes of the KEXINIT from there on that are hashed */
	__u32 padding; /* bytes after them that are skipped */
	__u32 state;   /* as in a chain */
	__u32 number;  /* expected behind a KEXINIT: odd or even */
	__u8 bytes[SSH_SEGMENT_BYTES + 8];
};

/* Was a part of this head suppressed, although not all of it was said? */
static __always_inline int head_unfinished(const struct flow_side *side)
{
	__u64 chain = head_chain(side);

	return chain && !side->tls_samples &&
	       (chain & SSH_STATE) != SSH_FINISHED;
}

/*
 * After a segment of SSH: the chain goes on, or ends. What is only repeated
 * changes nothing, and what comes in another order ends it.
 */
static __always_inline void head_keep(volatile struct record_walk *walk,
				      struct flow_side *side, __u8 read,
				      __u64 chain, __u32 packet_end)
{
	if (side->tls_state != TLS_WATCH || head_kind(side) != HEAD_SSH)
		return;
	if (read) {
		side->tls_header = chain;
		side->tls_seq = packet_end;
	} else if (walk->ahead == AHEAD_REPEATED) {
		side->tls_header = walk->chain;
	}
}

#define EACH_NEWLINE 0x0a0a0a0a0a0a0a0aULL
#define EACH_LOW_BIT 0x0101010101010101ULL

static __always_inline __u64 ssh_word(const struct ssh_walk *walk, __u32 at)
{
	return word_at(walk->bytes + (at & (SSH_SEGMENT_BYTES - 1)));
}

/* The first n bytes of a little-endian word, from one to eight. */
static __always_inline __u64 first_bytes(__u64 word, __u32 n)
{
	return word & (~0ULL >> (64 - 8 * n));
}

/* The bytes up to the first newline of a word, with it; 0 if there is none. */
static __always_inline __u32 up_to_newline(__u64 word)
{
	word ^= EACH_NEWLINE;
	word = (word - EACH_LOW_BIT) & ~word & (EACH_LOW_BIT << 7);
	/* the lowest bit is right: one in place of it for each byte below */
	word &= -word;
	return (word >> 7) * 0x0102030405060708ULL >> 56;
}

/* Does a KEXINIT begin with these bytes? */
static __always_inline int begins_kexinit(__u64 word, __u32 left)
{
	return left >= SSH_COOKIE_END && !(word & 0xffff) &&
	       prefix_byte(word, 5) == SSH_KEXINIT;
}

/*
 * One step: hashes eight bytes or the end of a line, or skips what is random. 1
 * while there is more, -1 if this is nothing that can be suppressed.
 */
static __always_inline int ssh_step(volatile struct ssh_walk *walk,
				    const struct ssh_walk *bytes)
{
	__u32 at = walk->at, content = walk->content, state = walk->state;
	__u32 left = walk->end - at, n = left < 8 ? left : 8, len, line;
	__u64 word;

	if (!left)
		return 0;
	word = ssh_word(bytes, at);
	if (state > SSH_FINISHED && content) {
		if (n > content)
			n = content;
		walk->hash = absorb(walk->hash, first_bytes(word, n));
		walk->content = content - n;
		walk->at = at + n;
		return 1;
	}
	if (state > SSH_FINISHED) {
		if (left > walk->padding)
			left = walk->padding;
		walk->padding -= left;
		walk->at = at + left;
		if (!walk->padding)
			walk->state = SSH_DONE;
		return 1;
	}
	if (state == SSH_DONE) {
		walk->state = SSH_FINISHED;
		walk->at = walk->end;
		return left >= SSH_NUMBER_END &&
				       prefix_byte(word, 5) >=
					       SSH_EXCHANGE_FIRST &&
				       prefix_byte(word, 5) <=
					       SSH_EXCHANGE_LAST &&
				       (prefix_byte(word, 5) & 1) ==
					       walk->number
			       ? 1
			       : -1;
	}
	if (state == SSH_LINE && begins_kexinit(word, left)) {
		len = be32((__be32)word) + 4;
		walk->state = prefix_byte(word, 4);
		walk->padding = prefix_byte(word, 4);
		if (prefix_byte(word, 4) < SSH_LEAST_PADDING ||
		    len <= SSH_COOKIE_END + prefix_byte(word, 4))
			return -1;
		walk->hash =
			absorb(walk->hash,
			       first_bytes(word, SSH_NUMBER_END) | 1ULL << 48);
		walk->content = len - SSH_COOKIE_END - prefix_byte(word, 4);
		walk->at = at + SSH_COOKIE_END;
		return 1;
	}
	line = up_to_newline(word);
	walk->state = line && line <= n ? SSH_LINE : SSH_IN_LINE;
	if (line && line <= n)
		n = line;
	walk->hash = absorb(walk->hash, first_bytes(word, n));
	walk->at = at + n;
	return 1;
}

/*
 * Goes on with a chain over the payload at off, of last + 1 bytes, the first
 * one at seq. 1 if the chain goes on. See hello_hash().
 */
static __always_inline int ssh_hash(struct __sk_buff *skb,
				    struct ssh_walk *walk, __u32 off,
				    __u64 last, __u64 chain, __u32 packet_left)
{
	int more = 1;

	asm volatile("" : "+r"(last));
	if (last >= SSH_SEGMENT_BYTES ||
	    bpf_skb_load_bytes(skb, off, walk->bytes, last + 1))
		return 0;
	walk->at = 0;
	walk->end = last + 1;
	walk->state = chain & SSH_STATE;
	walk->content = 0;
	walk->padding = 0;
	walk->hash = chain & ~SSH_STATE;
	if (walk->state > SSH_FINISHED) {
		walk->padding = walk->state;
		if (packet_left < walk->padding)
			walk->padding = packet_left;
		walk->content = packet_left - walk->padding;
	}
	/* of what is behind a KEXINIT nothing is hashed */
	if (walk->state != SSH_DONE)
		walk->hash = absorb(walk->hash, last << 8 | walk->state);
#pragma clang loop unroll(disable)
	for (int i = 0; i < SSH_STEPS; i++) {
		more = ssh_step(walk, walk);
		if (more <= 0)
			break;
	}
	return !more;
}

#endif

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The seeded hash of a ClientHello (RFC 8446, 4.1.2). It covers all that an
 * event derives from. It leaves out the random value and the values of the
 * session id, the offered keys and the tickets. The agent's tls/hello_cache.py
 * compares hellos by the same parts.
 */
#ifndef DECKWIRE_CLIENT_HELLO_H
#define DECKWIRE_CLIENT_HELLO_H

#include "limits.h"
#include "abi.h"
#include "hash.h"
#include "tls_records.h"

/* Offsets in the record. */
#define HELLO_VERSION 9
#define HELLO_SESSION_ID 43

#define MAX_SESSION_ID 32

#define EXTENSION_PADDING 21
#define EXTENSION_SESSION_TICKET 35
#define EXTENSION_PRE_SHARED_KEY 41
#define EXTENSION_COOKIE 44
#define EXTENSION_KEY_SHARE 51
#define EXTENSION_ENCRYPTED_CLIENT_HELLO 0xfe0d

/* What is searched at once, and what its last step may look at after that. */
#define HELLO_WALK_BYTES (TLS_SEARCH_BYTES + TLS_SEARCH_STEP)

/* The state of the walk over a hello, and the hello. A search uses it too. */
struct hello_walk {
	__u64 hash;
	__u64 session_id; /* its hash, or 0 if it is empty */
	__u32 at;	  /* the byte under the cursor */
	__u32 content;	  /* bytes from there on that are hashed whole */
	__u32 keys_end;	  /* one past the key_share extension, or 0 */
	__u32 end;	  /* one past the hello */
	__u8 bytes[HELLO_WALK_BYTES];
};

static __always_inline __u64 hello_word(const struct hello_walk *walk, __u32 at)
{
	return word_at(walk->bytes + (at & (HELLO_BYTES - 1)));
}

static __always_inline __u16 hello_be16(const struct hello_walk *walk, __u32 at)
{
	__u64 word = hello_word(walk, at);

	return (word & 0xff) << 8 | (word >> 8 & 0xff);
}

/* Extensions whose content appears in no event. */
static __always_inline int is_opaque(__u16 extension)
{
	return extension == EXTENSION_PADDING ||
	       extension == EXTENSION_SESSION_TICKET ||
	       extension == EXTENSION_PRE_SHARED_KEY ||
	       extension == EXTENSION_COOKIE ||
	       extension == EXTENSION_ENCRYPTED_CLIENT_HELLO;
}

/* All bytes count, because the ids of one server may share some. */
static __always_inline __u64 session_id_hash(const struct hello_walk *walk,
					     __u32 len, __u64 seed)
{
	__u64 hash = absorb(seed, len), word;

#pragma unroll
	for (__u32 i = 0; i < MAX_SESSION_ID; i += 8) {
		word = hello_word(walk, HELLO_SESSION_ID + 1 + i);
		if (len < i + 8)
			word = len > i ? word & ((1ULL << (len - i) * 8) - 1)
				       : 0;
		hash = absorb(hash, word);
	}
	return hash;
}

/*
 * Reads what comes before the extensions. 0 if this is no ClientHello that
 * fills one record and one segment of len bytes.
 */
static __always_inline int hello_begin(struct hello_walk *walk, __u32 len,
				       __u64 seed)
{
	__u32 session_id_len, suites, compression, extensions;

	if (len < HELLO_SESSION_ID + 1)
		return 0;
	if (walk->bytes[0] != TLS_HANDSHAKE || walk->bytes[1] != 3 ||
	    walk->bytes[5] != TLS_CLIENT_HELLO || walk->bytes[6] ||
	    hello_be16(walk, 3) + TLS_HEADER_LEN != len ||
	    hello_be16(walk, 7) + TLS_HEADER_LEN + 4 != len)
		return 0;
	session_id_len = walk->bytes[HELLO_SESSION_ID];
	if (session_id_len > MAX_SESSION_ID)
		return 0;
	suites = HELLO_SESSION_ID + 1 + session_id_len;
	if (suites + 2 > len)
		return 0;
	compression = suites + 2 + hello_be16(walk, suites);
	if (compression + 1 > len)
		return 0;
	extensions = compression + 1 + (hello_word(walk, compression) & 0xff);
	if (extensions + 2 > len ||
	    extensions + 2 + hello_be16(walk, extensions) != len)
		return 0;
	walk->session_id = session_id_hash(walk, session_id_len, seed);
	if (!session_id_len)
		walk->session_id = 0;
	walk->hash = absorb(seed, hello_be16(walk, HELLO_VERSION) << 1 |
					  (session_id_len != 0));
	walk->at = suites;
	walk->content = extensions + 2 - suites;
	walk->keys_end = 0;
	walk->end = len;
	return 1;
}

/*
 * One step: hashes eight bytes or the header of an extension, or skips a key.
 * 1 while there is more, -1 if a length does not fit.
 */
static __always_inline int hello_step(volatile struct hello_walk *walk,
				      const struct hello_walk *bytes)
{
	__u32 at = walk->at, content = walk->content, keys_end = walk->keys_end;
	__u64 word = hello_word(bytes, at);
	__u32 len = (word >> 16 & 0xff) << 8 | (word >> 24 & 0xff);
	__u16 kind = (word & 0xff) << 8 | (word >> 8 & 0xff);

	if (content >= 8) {
		walk->hash = absorb(walk->hash, word);
		walk->at = at + 8;
		walk->content = content - 8;
		return 1;
	}
	if (content) {
		walk->hash =
			absorb(walk->hash, word & ((1ULL << content * 8) - 1));
		walk->at = at + content;
		walk->content = 0;
		return 1;
	}
	if (at == keys_end) {
		keys_end = 0;
		walk->keys_end = 0;
	}
	if (at == walk->end)
		return 0;
	if (at + 4 + len > (keys_end ? keys_end : walk->end))
		return -1;
	walk->hash = absorb(walk->hash, (word & 0xffffffff) | 1ULL << 32);
	if (keys_end || is_opaque(kind)) {
		walk->at = at + 4 + len;
	} else if (kind == EXTENSION_KEY_SHARE) {
		/* the list's length, then groups with their keys */
		if (len < 2 || hello_be16(bytes, at + 4) + 2 != len)
			return -1;
		walk->at = at + 6;
		walk->keys_end = at + 4 + len;
	} else {
		walk->at = at + 4;
		walk->content = len;
	}
	return 1;
}

/*
 * Hashes the hello that fills the payload at off, of last + 1 bytes. 1 if there
 * is one, with its hash in the walk. The walk is in a map value and is read
 * back in each step: the states that the verifier compares at the head of the
 * loop stay equal.
 */
static __always_inline int hello_hash(struct __sk_buff *skb,
				      struct hello_walk *walk, __u32 off,
				      __u64 last, __u64 seed)
{
	int more = 1;

	/* clang drops a bound that it can prove, and the verifier needs it */
	asm volatile("" : "+r"(last));
	if (last >= HELLO_BYTES ||
	    bpf_skb_load_bytes(skb, off, walk->bytes, last + 1) ||
	    !hello_begin(walk, last + 1, seed))
		return 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < HELLO_STEPS; i++) {
		more = hello_step(walk, walk);
		if (more <= 0)
			break;
	}
	return !more;
}

#endif

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The seeded hash of a ClientHello (RFC 8446, 4.1.2) over all of it that the
 * agent tells anything of: not the random value, nor what the session id, the
 * offered keys and the tickets are. tls/hello_cache.py compares by the same
 * parts. Pure; the caller owns the map values.
 */
#ifndef DECKWIRE_CLIENT_HELLO_H
#define DECKWIRE_CLIENT_HELLO_H

#include "hash.h"
#include "limits.h"
#include "abi.h"
#include "tls.h"

#define HELLO_VERSION 9
#define HELLO_SESSION_ID 43
#define MAX_SESSION_ID 32

#define EXTENSION_PADDING 21
#define EXTENSION_SESSION_TICKET 35
#define EXTENSION_PRE_SHARED_KEY 41
#define EXTENSION_COOKIE 44
#define EXTENSION_KEY_SHARE 51
#define EXTENSION_ENCRYPTED_CLIENT_HELLO 0xfe0d

/*
 * Eight bytes at any place of the buffer, as a little-endian word. Clang takes
 * a pointer to words for aligned, and would read what is not byte by byte.
 */
static __always_inline __u64 hello_word(const struct hello_walk *walk, __u32 at)
{
	const __u8 *first = walk->bytes + (at & (HELLO_BYTES - 1));
	__u64 word;

	asm volatile("%0 = *(u64 *)(%1 + 0)"
		     : "=r"(word)
		     : "r"(first)
		     : "memory");
	return word;
}

static __always_inline __u16 hello_be16(const struct hello_walk *walk, __u32 at)
{
	__u64 word = hello_word(walk, at);

	return (word & 0xff) << 8 | (word >> 8 & 0xff);
}

/* Extensions of which only their presence and length are told, if anything. */
static __always_inline int is_opaque(__u16 extension)
{
	return extension == EXTENSION_PADDING ||
	       extension == EXTENSION_SESSION_TICKET ||
	       extension == EXTENSION_PRE_SHARED_KEY ||
	       extension == EXTENSION_COOKIE ||
	       extension == EXTENSION_ENCRYPTED_CLIENT_HELLO;
}

/* The session id: one server's ids may share bytes, so all of them count. */
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
 * What stands before the extensions, of which the walk makes its beginning.
 * 0 if it is no ClientHello that fills one record and one segment of len bytes.
 */
static __always_inline int hello_begin(struct hello_walk *walk, __u32 len,
				       __u64 seed)
{
	__u32 session_id_len, suites, compression, extensions;

	if (len < HELLO_SESSION_ID + 1)
		return 0;
	if (walk->bytes[0] != TLS_HANDSHAKE || walk->bytes[1] != 3 ||
	    walk->bytes[2] > 4 || walk->bytes[5] != TLS_CLIENT_HELLO ||
	    walk->bytes[6] || hello_be16(walk, 3) + TLS_HEADER_LEN != len ||
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
 * One step of the walk: eight bytes that are told, a key that is not, or the
 * header of an extension. 1 while there is more; -1 if something does not fit.
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

#endif

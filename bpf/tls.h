/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Where clear-text TLS records begin and end in one direction (RFC 8446, 5.1;
 * RFC 5246, 6.2.1). Pure; reading the payload is the caller's work.
 */
#ifndef DECKWIRE_TLS_H
#define DECKWIRE_TLS_H

#include "limits.h"
#include "abi.h"

#define TLS_CHANGE_CIPHER_SPEC 20
#define TLS_ALERT 21
#define TLS_HANDSHAKE 22
#define TLS_CLIENT_HELLO 1
#define TLS_SERVER_HELLO 2

#define TLS_HEADER_LEN 5
#define TLS_PREFIX_LEN 6 /* the header and the handshake type */
#define TLS_MAX_RECORD (16384 + 2048)

/* The first bytes of a record, as a little-endian word gathers them. */
static __always_inline __u8 prefix_byte(__u64 prefix, int i)
{
	return prefix >> (8 * i);
}

static __always_inline __u16 prefix_record_len(__u64 prefix)
{
	return prefix_byte(prefix, 3) << 8 | prefix_byte(prefix, 4);
}

/*
 * Could the first n bytes begin a hello? An alert may stand before it at the
 * start of a connection only.
 */
static __always_inline int prefix_plausible(__u64 prefix, __u32 n, int at_start)
{
	__u8 type = prefix_byte(prefix, 0);
	__u16 len;

	if (type != TLS_HANDSHAKE && !(at_start && type == TLS_ALERT))
		return 0;
	if (n > 1 && prefix_byte(prefix, 1) != 3)
		return 0;
	if (n > 2 && prefix_byte(prefix, 2) > 4)
		return 0;
	if (n < TLS_HEADER_LEN)
		return 1;
	len = prefix_record_len(prefix);
	if (len < 1 || len > TLS_MAX_RECORD)
		return 0;
	if (type == TLS_ALERT)
		return len == 2;
	if (n < TLS_PREFIX_LEN)
		return 1;
	return prefix_byte(prefix, 5) == TLS_CLIENT_HELLO ||
	       prefix_byte(prefix, 5) == TLS_SERVER_HELLO;
}

/* Does a handshake record begin with this message? */
static __always_inline int prefix_is(__u64 prefix, __u8 message)
{
	return prefix_byte(prefix, 0) == TLS_HANDSHAKE &&
	       prefix_byte(prefix, 5) == message;
}

/*
 * A ServerHelloDone (RFC 5246, 7.4.5) that fills its record, by the first eight
 * of nine bytes: behind it a server has nothing in the clear that is told.
 */
static __always_inline int is_server_hello_done(__u64 bytes)
{
	return (bytes & 0xffffffffff00ffffULL) == 0x00000e0400000316ULL;
}

enum record_verdict {
	RECORD_CLEAR,	 /* handshake or alert: sampled */
	RECORD_CIPHERED, /* nothing in the clear from here on */
	RECORD_NONE,	 /* not TLS */
};

static __always_inline enum record_verdict judge_header(__u64 header)
{
	__u8 type = prefix_byte(header, 0);

	if (prefix_byte(header, 1) != 3 || prefix_byte(header, 2) > 4 ||
	    prefix_record_len(header) > TLS_MAX_RECORD)
		return RECORD_NONE;
	if (type == TLS_HANDSHAKE || type == TLS_ALERT)
		return RECORD_CLEAR;
	if (type >= TLS_CHANGE_CIPHER_SPEC && type <= 24)
		return RECORD_CIPHERED;
	return RECORD_NONE;
}

#endif

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Token buckets that count in time: see struct token_bucket. */
#ifndef DECKWIRE_TOKEN_BUCKET_H
#define DECKWIRE_TOKEN_BUCKET_H

#include "abi.h"

/* Refills the bucket and takes a token of this cost. 0: it had none. */
static __always_inline int token_bucket_take(struct token_bucket *bucket,
					     __u64 now, __u64 cost, __u64 burst)
{
	__s64 tokens = bucket->tokens_ns;
	__s64 elapsed = now - bucket->filled_ns;

	/* a bucket that was never used is full, whatever time it is */
	if (!bucket->filled_ns) {
		tokens = burst;
		bucket->filled_ns = now ? now : 1;
	} else if (elapsed > 0) {
		if (elapsed > (__s64)burst)
			elapsed = burst;
		tokens += elapsed;
		if (tokens > (__s64)burst)
			tokens = burst;
		bucket->filled_ns = now;
	}
	if (tokens < (__s64)cost) {
		bucket->tokens_ns = tokens;
		return 0;
	}
	bucket->tokens_ns = tokens - cost;
	return 1;
}

#endif

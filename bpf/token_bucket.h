/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Token buckets that count in time. Pure.
 */
#ifndef DECKWIRE_TOKEN_BUCKET_H
#define DECKWIRE_TOKEN_BUCKET_H

#include "abi.h"

/* 1 if the bucket had a token, which is spent. */
static __always_inline int token_bucket_take(struct token_bucket *budget,
					     __u64 now, __u64 cost, __u64 burst)
{
	__s64 tokens = budget->tokens_ns;
	__s64 elapsed = now - budget->filled_ns;

	/* never used: full, whatever the clock stands at */
	if (!budget->filled_ns) {
		tokens = burst;
		budget->filled_ns = now ? now : 1;
	} else if (elapsed > 0) {
		if (elapsed > (__s64)burst)
			elapsed = burst;
		tokens += elapsed;
		if (tokens > (__s64)burst)
			tokens = burst;
		budget->filled_ns = now;
	}
	if (tokens < (__s64)cost) {
		budget->tokens_ns = tokens;
		return 0;
	}
	budget->tokens_ns = tokens - cost;
	return 1;
}

#endif

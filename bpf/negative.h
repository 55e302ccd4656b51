/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Comparison without branches, for searches in sets. */
#ifndef DECKWIRE_NEGATIVE_H
#define DECKWIRE_NEGATIVE_H

/*
 * 1 if the difference is negative, else 0. Without branches: which way of a set
 * it is cannot be predicted, and the verifier would follow each. Newer ones
 * also follow both values of a sign that is spread over a word.
 */
static __always_inline __u64 negative(__u64 difference)
{
	asm volatile("" : "+r"(difference));
	difference >>= 63;
	asm volatile("" : "+r"(difference));
	return difference;
}

#endif

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * How a source chooses IP identifications and initial sequence numbers, by its
 * last SYNs. The kernel side keeps them because suppressed SYNs never reach the
 * agent.
 */
#ifndef DECKWIRE_SEQUENCES_H
#define DECKWIRE_SEQUENCES_H

#include "limits.h"
#include "abi.h"
#include "hash.h"
#include "net.h"

/*
 * Takes in the numbers of a new SYN. Racy by design. `syns` counts them up to
 * twice SEQUENCE_SAMPLES, and then goes on from that. The IP identification of
 * the first one waits where a source of one SYN has all else.
 */
static __always_inline void sequences_add(struct probe_source *source,
					  const struct packet *p)
{
	__u32 syns = source->syns, at = syns & (SEQUENCE_SAMPLES - 1);

	source->seq[at] = p->seq;
	if (!syns) {
		source->first_ip_id = p->ip_id;
	} else {
		if (syns == 1)
			source->ip_id[0] = source->first_ip_id;
		source->ip_id[at] = p->ip_id;
	}
	syns++;
	source->syns = syns < 2 * SEQUENCE_SAMPLES ? syns : SEQUENCE_SAMPLES;
}

/*
 * What all steps from one value to the next have in common. A step is taken
 * modulo the width of the field, so a counter that wraps is still a counter.
 */
struct steps {
	__u32 differ; /* a step is not 0 */
	__u32 jump;   /* a step is no small one forward */
};

static __always_inline void steps_add(struct steps *steps, __u32 step,
				      __u32 mask)
{
	steps->differ |= step & mask;
	steps->jump |= (step - 1) & -SEQUENCE_STEP & mask;
}

static __always_inline enum sequence_class class_of(const struct steps *steps,
						    __u32 value)
{
	if (!steps->differ)
		return value ? SEQUENCE_CONSTANT : SEQUENCE_ZERO;
	return steps->jump ? SEQUENCE_RANDOM : SEQUENCE_INCREMENTAL;
}

/*
 * Writes what a source has shown so far into the head of its SYN's sample. Goes
 * from the newest back, without branches: the verifier would follow each
 * combination of them.
 */
static __always_inline void sequences_classify(const struct probe_source *known,
					       struct sample_head *head,
					       int ip_version)
{
	struct steps seq = {}, ip_id = {};
	__u32 at, before, mask, count = known->syns, next = known->syns;

	if (count < SEQUENCE_LEAST)
		return;
	if (count > SEQUENCE_SAMPLES)
		count = SEQUENCE_SAMPLES;
#pragma clang loop unroll(full)
	for (int i = 1; i < SEQUENCE_SAMPLES; i++) {
		mask = (i - (__s32)count) >> 31;
		at = (next - i) & (SEQUENCE_SAMPLES - 1);
		before = (next - i - 1) & (SEQUENCE_SAMPLES - 1);
		steps_add(&seq, known->seq[at] - known->seq[before], mask);
		steps_add(&ip_id,
			  (__u16)(known->ip_id[at] - known->ip_id[before]),
			  mask);
	}
	at = (next - 1) & (SEQUENCE_SAMPLES - 1);
	head->isn_class = class_of(&seq, known->seq[at]);
	head->isn_samples = count;
	if (ip_version != 4)
		return;
	head->ipid_class = class_of(&ip_id, known->ip_id[at]);
	head->ipid_samples = count;
}

/* A SYN whose source turns out to be of another class is no repeat. */
static __always_inline __u64 sequences_sign(__u64 signature,
					    const struct sample_head *head)
{
	return absorb(signature, head->ipid_class << 8 | head->isn_class);
}

#endif

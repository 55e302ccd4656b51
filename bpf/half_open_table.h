/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The table of half-open connections: groups of sets of ways. A 4-tuple has two
 * sets of one group, by its hash, and a new one takes the way of the oldest
 * attempt in both. So a full table evicts by age, as long as a list of all
 * would, and needs none.
 *
 * All that is written of an entry is written under the lock of its group, and
 * raises its generation. Programs look without the lock first. Then they work
 * on a copy that they made under the lock, and write it back only if the entry
 * is still at the generation of the copy: an attempt never gets a part of
 * another. What they read without the lock counts by the same rule.
 */
#ifndef DECKWIRE_HALF_OPEN_TABLE_H
#define DECKWIRE_HALF_OPEN_TABLE_H

#include "limits.h"
#include "abi.h"
#include "hash.h"
#include "negative.h"

#define HALF_OPEN_ENTRIES (HALF_OPEN_SETS * HALF_OPEN_WAYS)
#define HALF_OPEN_GROUPS (MAX_HALF_OPEN / HALF_OPEN_ENTRIES)

/* What one lock is for. Each has a cache line of its own. */
struct half_open_lock {
	struct bpf_spin_lock lock;
	__u32 inserts;
	__u32 pad[14];
};

struct half_open_sets {
	struct half_open_set set[HALF_OPEN_SETS];
};

struct half_open_entries {
	struct half_open_entry entry[HALF_OPEN_ENTRIES];
};

/*
 * A group. Its parts are in maps of their own: a search reads locks and sets
 * only, and theirs are so few pages that the CPU knows where they are.
 */
struct half_open_group {
	struct half_open_lock *lock;
	struct half_open_sets *sets;
	struct half_open_entries *entries;
};

/* Where a 4-tuple may be. */
struct half_open_place {
	__u32 slot; /* of its group */
	__u32 first;
	__u32 second;
	__u32 tag;
	__u32 index;   /* of its entry, or HALF_OPEN_ENTRIES: it has none, */
	__u32 inserts; /* as long as the group has no more than these */
	__u32 victim; /* what it gets then, or HALF_OPEN_ENTRIES: not chosen, */
	__u32 changed; /* as long as this is the time of that entry */
};

static __always_inline void half_open_place(struct half_open_place *place,
					    const struct flow_id *id,
					    __u64 seed)
{
	__u64 hash = absorb(absorb(seed, id->ends),
			    (__u64)id->port[0] << 16 | id->port[1]);

	/* the low bits of a hash do not depend on all of the words */
	place->slot = (hash >> 48) * HALF_OPEN_GROUPS >> 16;
	place->first = (hash >> 40) & (HALF_OPEN_SETS - 1);
	place->second = place->first ^
			(1 + ((hash >> 32 & 0xff) * (HALF_OPEN_SETS - 1) >> 8));
	place->tag = (__u32)hash | 1;
	place->index = HALF_OPEN_ENTRIES;
	place->inserts = 0;
	place->victim = HALF_OPEN_ENTRIES;
	place->changed = 0;
}

/* Time in units of 1.05 ms. */
static __always_inline __u32 half_open_clock(__u64 now)
{
	return now >> 20;
}

/*
 * When an attempt counts as changed. One with a SYN-ACK passes for younger, so
 * that a flood of SYNs that nobody answers does not evict it.
 */
static __always_inline __u32 half_open_time(const struct half_open *half,
					    __u64 now)
{
	return half_open_clock(now) +
	       (half->synack.ip_version ? HALF_OPEN_ANSWERED : 0);
}

/* A set, an entry: for the verifier, whatever it has forgotten of the number.
 */
static __always_inline struct half_open_set *
set_of(const struct half_open_group *group, __u32 number)
{
	asm volatile("" : "+r"(number));
	return &group->sets->set[number & (HALF_OPEN_SETS - 1)];
}

static __always_inline struct half_open_entry *
entry_of(const struct half_open_group *group, __u32 index)
{
	asm volatile("" : "+r"(index));
	return &group->entries->entry[index & (HALF_OPEN_ENTRIES - 1)];
}

static __always_inline __u32 half_open_tag(const struct half_open_group *group,
					   __u32 index)
{
	struct half_open_set *set = set_of(group, index / HALF_OPEN_WAYS);

	asm volatile("" : "+r"(index));
	return set->tag[index & (HALF_OPEN_WAYS - 1)];
}

static __always_inline __u32
half_open_changed(const struct half_open_group *group, __u32 index)
{
	struct half_open_set *set = set_of(group, index / HALF_OPEN_WAYS);

	asm volatile("" : "+r"(index));
	return set->time[index & (HALF_OPEN_WAYS - 1)];
}

static __always_inline void half_open_mark(const struct half_open_group *group,
					   __u32 index, __u32 tag, __u32 time)
{
	struct half_open_set *set = set_of(group, index / HALF_OPEN_WAYS);

	asm volatile("" : "+r"(index));
	index &= HALF_OPEN_WAYS - 1;
	set->tag[index] = tag;
	set->time[index] = time;
}

/* The way of this tag in a set, or HALF_OPEN_WAYS. */
static __always_inline __u64 half_open_way(const struct half_open_set *set,
					   __u64 tag)
{
	__u64 way = HALF_OPEN_WAYS;

	/* 64 bits: else clang clears the upper half in each step */
	asm volatile("" : "+r"(tag));

#pragma unroll
	for (int i = 0; i < HALF_OPEN_WAYS; i++)
		way -= (HALF_OPEN_WAYS - i) * negative((set->tag[i] ^ tag) - 1);
	return way;
}

/* The index of the entry with the tag of a place, or HALF_OPEN_ENTRIES. */
static __always_inline __u32
half_open_index(const struct half_open_group *group,
		const struct half_open_place *place)
{
	__u64 way, missed, index;

	way = half_open_way(set_of(group, place->second), place->tag);
	missed = negative(HALF_OPEN_WAYS - 1 - way);
	index = HALF_OPEN_ENTRIES * missed +
		(place->second * HALF_OPEN_WAYS + way) * (1 - missed);
	way = half_open_way(set_of(group, place->first), place->tag);
	missed = negative(HALF_OPEN_WAYS - 1 - way);
	return index * missed +
	       (place->first * HALF_OPEN_WAYS + way) * (1 - missed);
}

/*
 * The greater of `best` and the score of the oldest way of a set, with the
 * index of its entry in the lowest bits. A free one comes before any.
 */
static __always_inline __u64 half_open_oldest(const struct half_open_set *set,
					      __u32 number, __u32 clock,
					      __u64 best)
{
	__u64 score, behind;

#pragma unroll
	for (int i = 0; i < HALF_OPEN_WAYS; i++) {
		score = (__u32)(clock + HALF_OPEN_AHEAD - set->time[i]);
		/* not by its time: the clock begins anew after 52 days */
		score |= negative((__u64)set->tag[i] - 1) << 32;
		score = score * HALF_OPEN_ENTRIES + number * HALF_OPEN_WAYS + i;
		behind = best - score;
		best -= behind * negative(behind);
	}
	return best;
}

/* The index of the entry that a new 4-tuple gets. */
static __always_inline __u32
half_open_victim(const struct half_open_group *group,
		 const struct half_open_place *place, __u32 clock)
{
	__u64 best;

	best = half_open_oldest(set_of(group, place->first), place->first,
				clock, 0);
	best = half_open_oldest(set_of(group, place->second), place->second,
				clock, best);
	return best & (HALF_OPEN_ENTRIES - 1);
}

/* Looks where a 4-tuple is, without the lock. */
static __always_inline void
half_open_search(const struct half_open_group *group,
		 struct half_open_place *place)
{
	/* before the tags: what comes later raises it */
	place->inserts = *(volatile __u32 *)&group->lock->inserts;
	place->index = half_open_index(group, place);
}

/*
 * Chooses the entry that a new 4-tuple gets, without the lock, and fetches its
 * cache lines.
 */
static __always_inline void
half_open_choose(const struct half_open_group *group,
		 struct half_open_place *place, __u32 clock)
{
	volatile struct half_open_entry *entry;

	place->victim = half_open_victim(group, place, clock);
	place->changed = half_open_changed(group, place->victim);
	entry = entry_of(group, place->victim);
	(void)entry->half.signature;
	(void)entry->half.syn.options[0];
	(void)entry->half.synack.seq;
	(void)entry->half.synack.options[0];
	(void)entry->generation;
}

static __always_inline int same_key(const struct flow_key *a,
				    const struct flow_key *b)
{
	const __u32 *left = (const __u32 *)a, *right = (const __u32 *)b;
	__u32 differs = 0;

#pragma unroll
	for (int i = 0; i < sizeof(*a) / sizeof(__u32); i++)
		differs |= left[i] ^ right[i];
	asm volatile("" : "+r"(differs));
	return !differs;
}

/*
 * Writes an entry whose group is locked. Its generation is odd meanwhile: the
 * agent reads without the lock.
 */
static __always_inline void half_open_write(struct half_open_entry *entry,
					    const struct flow_key *key,
					    const struct half_open *half)
{
	volatile __u32 *generation = &entry->generation;

	*generation += 1;
	asm volatile("" : : : "memory");
	__builtin_memcpy(&entry->half, half, sizeof(*half));
	__builtin_memcpy(&entry->key, key, sizeof(*key));
	asm volatile("" : : : "memory");
	*generation += 1;
}

/*
 * Reads a word of each cache line that the search for a place needs. They are
 * fetched at the same time then, and with what comes after this.
 */
static __always_inline void half_open_touch(const struct half_open_group *group,
					    const struct half_open_place *place)
{
	volatile struct half_open_set *first = set_of(group, place->first);
	volatile struct half_open_set *second = set_of(group, place->second);

	(void)*(volatile __u32 *)&group->lock->inserts;
	(void)first->tag[0];
	(void)second->tag[0];
	(void)first->time[0];
	(void)second->time[0];
}

/*
 * The entry where a 4-tuple was found, if it is its key's, or 0. It is read
 * without the lock: what it says holds if it still has the generation.
 */
static __always_inline struct half_open_entry *
half_open_peek(const struct half_open_group *group,
	       const struct half_open_place *place, const struct flow_key *key,
	       __u32 *generation)
{
	struct half_open_entry *entry = entry_of(group, place->index);

	if (place->index >= HALF_OPEN_ENTRIES)
		return 0;
	*generation = *(volatile __u32 *)&entry->generation;
	asm volatile("" : : : "memory");
	if (*generation & 1 || !same_key(&entry->key, key))
		return 0;
	return entry;
}

/* Is this the attempt of the copy, whatever else has changed of it? */
static __always_inline int half_open_same(const struct half_open_entry *entry,
					  const struct half_open_entry *copy)
{
	return entry->half.syn.seq == copy->half.syn.seq &&
	       entry->half.synack.seq == copy->half.synack.seq &&
	       entry->half.client == copy->half.client &&
	       same_key(&entry->key, &copy->key);
}

#endif

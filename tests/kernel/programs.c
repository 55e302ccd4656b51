/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Small programs under which the agent's kernel modules are tested. */
#ifndef MAX_NUMBERS
#define MAX_NUMBERS 65536
#endif

struct settings {
	u64 first;
	u64 second;
};

BPF_TABLE("hash", u32, u64, numbers, MAX_NUMBERS);
BPF_TABLE("lru_hash", u32, u64, recent, 1024);
BPF_TABLE("percpu_array", u32, u64, hits, 2);
BPF_TABLE("array", u32, struct settings, settings, 1);
BPF_TABLE("hash", u32, u8, vepa_parents, 64);
BPF_PERF_OUTPUT(samples);

static inline void hit(u32 hook)
{
	u64 *count = hits.lookup(&hook);

	if (count)
		(*count)++;
}

int tc_ingress(struct __sk_buff *skb)
{
	hit(0);
	return -1;
}

int tc_egress(struct __sk_buff *skb)
{
	hit(1);
	return -1;
}

int reassembled(struct __sk_buff *skb)
{
	return -1;
}

/* A sample: skb->tstamp, then the whole frame. */
int submit(struct __sk_buff *skb)
{
	u64 time = skb->tstamp;

	return samples.perf_submit_skb(skb, skb->len, &time, sizeof(time));
}

/* What the program sees of the context that a test run sets. */
int context(struct __sk_buff *skb)
{
	u32 key = 0;
	u64 value = skb->tstamp;

	numbers.update(&key, &value);
	key = 1;
	value = skb->gso_segs;
	numbers.update(&key, &value);
	key = 2;
	value = skb->gso_size;
	numbers.update(&key, &value);
#ifdef DECKWIRE_REPLAY_CLOCK
	return 7;
#else
	return 8;
#endif
}

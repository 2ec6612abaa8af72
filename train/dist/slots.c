/* Slots by greedy colouring: see slots.h. */
#include "train/dist/slots.h"

#include <stdlib.h>

static bool together(const struct wl_held *a, const struct wl_held *b)
{
	return a->phase == b->phase && a->from <= b->to && b->from <= a->to;
}

/* Marks the slots of buckets that are held together with this one. */
static void find_taken(const struct wl_slots *s, const struct wl_held *held, int n, int bucket,
	bool *taken)
{
	for (int i = 0; i < n; i++) {
		if (held[i].bucket != bucket)
			continue;
		for (int k = 0; k < n; k++)
			if (held[k].bucket < bucket && s->of[held[k].bucket] >= 0 &&
				together(&held[i], &held[k]))
				taken[s->of[held[k].bucket]] = true;
	}
}

int wl_slots_make(struct wl_slots *s, const struct wl_cut *cut, const struct wl_held *held, int n,
	const bool *own, struct wl_err *err)
{
	size_t buckets = (size_t)cut->n + 1;
	bool *taken = calloc(buckets, sizeof *taken), *used = calloc(buckets, sizeof *used);
	int last = -1;

	*s = (struct wl_slots){.of = calloc(buckets, sizeof *s->of)};
	if (!s->of || !taken || !used) {
		free(taken);
		free(used);
		wl_slots_release(s);
		return wl_err_nomem(err, "slots of buckets", buckets * sizeof *s->of);
	}
	for (int i = 0; i < n; i++)
		used[held[i].bucket] = true;
	for (int b = 0; b < cut->n; b++) {
		struct wl_span at = wl_cut_bucket(cut, b);
		int slot = 0;

		/* The last one may be shorter, and parts of a slot are equal. */
		if (own[b] || at.end - at.begin != cut->bucket) {
			s->of[b] = -1;
			continue;
		}
		if (!used[b])
			continue;
		for (int k = 0; k < s->n; k++)
			taken[k] = false;
		find_taken(s, held, n, b, taken);
		/* One after the other, so that a slot rests before it is used again. */
		for (int k = 1; k <= s->n; k++) {
			slot = (last + k) % s->n;
			if (!taken[slot])
				break;
			slot = s->n;
		}
		s->of[b] = last = slot;
		if (slot == s->n)
			s->n++;
	}
	for (int b = 0; b < cut->n; b++)
		if (s->of[b] == 0 && !s->n)
			s->n = 1;
	free(taken);
	free(used);
	return 0;
}

void wl_slots_release(struct wl_slots *s)
{
	free(s->of);
	*s = (struct wl_slots){0};
}

int wl_slots_of_values(const struct wl_schedule_of_buckets *s, int phase, int ahead,
	struct wl_held *held)
{
	int n = 0;

	for (int i = 0; i < s->n_come; i++) {
		int first = i < ahead ? 0 : i - ahead, op = s->come[i].op, to = op;

		/* Lists hold a bucket once in each half of a graph. */
		for (int k = 0; k < s->n_go; k++)
			if (s->go[k].bucket == s->come[i].bucket && s->go[k].op >= op) {
				to = s->go[k].op;
				break;
			}
		held[n++] = (struct wl_held){phase, s->come[i].bucket, s->come[first].op, to};
	}
	return n;
}

int wl_slots_of_gradients(const struct wl_schedule_of_buckets *s, int phase,
	struct wl_held *held)
{
	int n = 0;

	for (int i = 0; i < s->n_ready; i++) {
		int from = 0, to = s->ready[i + 1 < s->n_ready ? i + 1 : i].op;

		for (int k = 0; k < s->n_begin; k++)
			if (s->begin[k].bucket == s->ready[i].bucket)
				from = s->begin[k].op;
		held[n++] = (struct wl_held){phase, s->ready[i].bucket, from, to};
	}
	return n;
}

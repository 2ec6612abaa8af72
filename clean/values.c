/* See values.h. */
#include "clean/values.h"

#include <stdlib.h>
#include <string.h>

enum { SMALL = 24 }; /* records sorted by insertion */

void wl_values_add_slow(struct wl_values *l, uint64_t v)
{
	/* A gathered list has as many as it holds: half as many again of one would be one. */
	size_t cap = l->cap < 256 ? 256 : l->cap + l->cap / 2;
	uint64_t *p = l->no_memory ? NULL : realloc(l->v, cap * sizeof(*p));

	if (!p) {
		l->no_memory = true;
		return;
	}
	l->v = p;
	l->cap = cap;
	l->v[l->n++] = v;
}

static int by_value(const void *p, const void *q)
{
	uint64_t a = *(const uint64_t *)p, b = *(const uint64_t *)q;

	return (a > b) - (a < b);
}

void wl_values_unique(struct wl_values *l)
{
	size_t n = 0;

	if (!l->n)
		return;
	qsort(l->v, l->n, sizeof(*l->v), by_value);
	for (size_t i = 0; i < l->n; i++)
		if (i == 0 || l->v[i] != l->v[i - 1])
			l->v[n++] = l->v[i];
	l->n = n;
}

void wl_values_release(struct wl_values *l)
{
	free(l->v);
	memset(l, 0, sizeof(*l));
}

int wl_values_gather(struct wl_values *l, struct wl_comm *c, struct wl_err *err)
{
	size_t *bytes, total = 0;
	void *all;
	int ret;

	if (l->no_memory)
		return wl_err_nomem(err, "a list of pairs", l->cap * sizeof(*l->v));
	if (wl_comm_size(c) > 1) {
		bytes = malloc((size_t)wl_comm_size(c) * sizeof(*bytes));
		if (!bytes)
			return wl_err_nomem(err, "a list of pairs", 0);
		ret = wl_comm_all_gatherv(c, l->v, l->n * sizeof(*l->v), &all, bytes, err);
		for (int r = 0; ret == 0 && r < wl_comm_size(c); r++)
			total += bytes[r];
		free(bytes);
		WL_TRY(ret);
		free(l->v);
		l->v = all;
		l->n = l->cap = total / sizeof(*l->v);
	}
	wl_values_unique(l);
	return 0;
}

/* ---- records ---- */

static int by_record(const void *p, const void *q)
{
	const struct wl_rec *a = p, *b = q;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	if (a->idx != b->idx)
		return a->idx < b->idx ? -1 : 1;
	return (a->aux > b->aux) - (a->aux < b->aux);
}

void wl_recs_sort(struct wl_rec *r, size_t n)
{
	if (n > SMALL) {
		qsort(r, n, sizeof(*r), by_record);
		return;
	}
	for (size_t i = 1; i < n; i++) {
		struct wl_rec x = r[i];
		size_t k = i;
		for (; k > 0 && by_record(&r[k - 1], &x) > 0; k--)
			r[k] = r[k - 1];
		r[k] = x;
	}
}

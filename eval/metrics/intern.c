/* Open addressing with linear probing, at most half full: see intern.h. */
#include "eval/metrics/intern.h"

#include "ops/hash.h"

#include <stdlib.h>
#include <string.h>

static void *grown(void *old, size_t count, size_t size, struct wl_err *err)
{
	void *p = realloc(old, count * size);

	if (!p)
		wl_err_nomem(err, "a table of tokens", count * size);
	return p;
}

static int rehash(struct wl_intern *t, struct wl_err *err)
{
	uint32_t slots = t->slots ? t->slots * 2 : 256;
	uint32_t *fresh;

	if (slots < t->slots)
		return wl_err_set(err, WL_EDATA, "more than 2^30 different tokens");
	fresh = calloc(slots, sizeof *fresh);
	if (!fresh)
		return wl_err_nomem(err, "a table of tokens", slots * sizeof *fresh);
	for (uint32_t i = 0; i < t->n; i++) {
		uint32_t at = (uint32_t)wl_mix64(t->key[i]) & (slots - 1);
		while (fresh[at])
			at = (at + 1) & (slots - 1);
		fresh[at] = i + 1;
	}
	free(t->slot);
	t->slot = fresh;
	t->slots = slots;
	return 0;
}

static int make_room(struct wl_intern *t, struct wl_err *err)
{
	void *p;

	if (2 * (uint64_t)(t->n + 1) > t->slots)
		WL_TRY(rehash(t, err));
	if (t->n < t->cap)
		return 0;
	uint32_t cap = t->cap ? t->cap * 2 : 128;
	if (!(p = grown(t->key, cap, sizeof *t->key, err)))
		return -1;
	t->key = p;
	if (!(p = grown(t->name, cap, sizeof *t->name, err)))
		return -1;
	t->name = p;
	if (!(p = grown(t->len, cap, sizeof *t->len, err)))
		return -1;
	t->len = p;
	t->cap = cap;
	return 0;
}

int64_t wl_intern_str(struct wl_intern *t, const char *s, size_t n, struct wl_err *err)
{
	uint64_t key = wl_hash64(s, n, 0);
	uint32_t at;

	if (n > UINT32_MAX)
		return wl_err_set(err, WL_EDATA, "a token of %zu bytes is too long", n);
	WL_TRY(make_room(t, err));
	for (at = (uint32_t)wl_mix64(key) & (t->slots - 1); t->slot[at];
		at = (at + 1) & (t->slots - 1)) {
		uint32_t i = t->slot[at] - 1;
		if (t->key[i] == key && t->len[i] == n && !memcmp(t->name[i], s, n))
			return i;
	}
	if (!(s = wl_arena_strndup(&t->text, s, n, err)))
		return -1;
	t->key[t->n] = key;
	t->name[t->n] = s;
	t->len[t->n] = (uint32_t)n;
	t->slot[at] = ++t->n;
	return t->n - 1;
}

void wl_intern_release(struct wl_intern *t)
{
	if (!t)
		return;
	wl_arena_release(&t->text);
	free(t->name);
	free(t->key);
	free(t->len);
	free(t->slot);
	*t = (struct wl_intern){0};
}

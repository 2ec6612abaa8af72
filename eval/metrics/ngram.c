/*
 * Within an image a small table, which stays in the first-level cache, gives the n-grams numbers:
 * an n-gram is the pair (its first n-1 tokens, its last).
 *
 * Document frequencies go order by order through one table for all images, where most of the time
 * would go, so n-grams that cannot occur in two images stay out of it: one whose first or last
 * n-1 tokens occur in one image only (as Agrawal and Srikant 1994 prune their candidates).  The
 * lookups of an image are prefetched together.
 */
#include "eval/metrics/ngram.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const uint32_t none = UINT32_MAX;

/* An n-gram of an image.  An image's n-grams of an order stand together, so that counting an
 * order reads nothing of the others but the order before. */
struct node {
	uint32_t prefix, suffix; /* numbers in the image; none for order 1 */
	uint32_t token;		 /* the last; TOKEN_IN_REFS: a reference has the n-gram */
	uint32_t global;	 /* number among all images; none: pruned */
};
#define TOKEN_IN_REFS ((uint32_t)1 << 31)

struct slot {
	uint64_t key; /* the pair + 1; 0: empty */
	uint32_t value, stamp;
};

struct builder {
	struct wl_ngram_set *set;
	struct node *node; /* of all images, one after the other */
	size_t n;
	uint32_t (*order_at)[WL_NGRAM_MAX + 1]; /* [images] where an image's orders begin, in it */
	/* the image's table: a slot is taken when its stamp is the image's */
	struct slot *local;
	size_t local_slots;
	uint32_t *at; /* [cap_at] the n-gram that begins at each place of the image's captions */
	size_t cap_at;
	/* the table of all images, an order at a time */
	struct slot *global;
	size_t global_slots, global_used;
	uint32_t *count; /* [cap_count] images, by global number */
	size_t cap_count;
	size_t *batch; /* [cap_batch] nodes to look up */
	size_t cap_batch;
};

static size_t place(uint64_t key, size_t slots)
{
	return (size_t)((key * 0x9e3779b97f4a7c15u) >> 24) & (slots - 1);
}

static int grown(void **p, size_t *cap, size_t want, size_t size, struct wl_err *err)
{
	size_t n = *cap ? *cap : 256;
	void *fresh;

	if (want <= *cap)
		return 0;
	while (n < want)
		n *= 2;
	fresh = realloc(*p, n * size);
	if (!fresh)
		return wl_err_nomem(err, "n-grams", n * size);
	*p = fresh;
	*cap = n;
	return 0;
}

/* Memory for what is read at random all over: in pages of 2 MiB where the system has them. */
static void *large(size_t bytes)
{
	static const size_t page = (size_t)2 << 20;
	size_t whole = (bytes + page - 1) / page * page;
	void *p = aligned_alloc(page, whole ? whole : page);

	if (p)
		(void)madvise(p, whole, MADV_HUGEPAGE); /* a hint: it may fail */
	return p;
}

#define GROW(p, cap, want) grown((void **)&(p), &(cap), (want), sizeof *(p), err)

/* --- an image --------------------------------------------------------------------------- */

static int reserve_local(struct builder *b, size_t tokens, size_t captions, struct wl_err *err)
{
	size_t want = 2 * WL_NGRAM_MAX * tokens + 2;

	WL_TRY(GROW(b->at, b->cap_at, tokens + captions));
	if (b->n > INT32_MAX || tokens > INT32_MAX / 16)
		return wl_err_set(err, WL_EDATA, "the captions have more than 2^31 n-grams");
	if (want > b->local_slots) {
		size_t slots = 1024;

		while (slots < want)
			slots *= 2;
		free(b->local);
		b->local = calloc(slots, sizeof *b->local);
		b->local_slots = b->local ? slots : 0;
		if (!b->local)
			return wl_err_nomem(err, "an image's n-grams", slots * sizeof *b->local);
	}
	return 0;
}

/* The image's number of the n-gram (prefix, token). */
static uint32_t local_number(struct builder *b, size_t first, uint32_t stamp, uint32_t prefix,
	uint32_t suffix, uint32_t token)
{
	uint64_t key = (uint64_t)prefix << 32 | token;
	size_t k = place(key, b->local_slots);
	struct slot *s;

	while ((s = &b->local[k])->stamp == stamp && s->key != key)
		k = (k + 1) & (b->local_slots - 1);
	if (s->stamp != stamp) {
		*s = (struct slot){key, (uint32_t)(b->n - first), stamp};
		b->node[b->n++] = (struct node){prefix, suffix, token, none};
	}
	return s->value;
}

static int by_id(const void *a, const void *b)
{
	uint32_t x = ((const struct wl_ngram_count *)a)->id;
	uint32_t y = ((const struct wl_ngram_count *)b)->id;

	return (x > y) - (x < y);
}

/* Sorts and folds equal neighbours into counts; captions are short. */
static void fold(struct wl_ngram_list *l)
{
	size_t kept = 0;

	if (l->n > 64)
		qsort(l->v, l->n, sizeof *l->v, by_id);
	for (size_t i = 1; l->n <= 64 && i < l->n; i++) {
		struct wl_ngram_count x = l->v[i];
		size_t k = i;

		for (; k > 0 && l->v[k - 1].id > x.id; k--)
			l->v[k] = l->v[k - 1];
		l->v[k] = x;
	}
	for (size_t i = 0; i < l->n; i++) {
		if (kept && l->v[kept - 1].id == l->v[i].id)
			l->v[kept - 1].count++;
		else
			l->v[kept++] = l->v[i];
	}
	l->n = kept;
}

/* The n-grams of order k + 1 of a caption; at [n] holds those of order k and is replaced. */
static void add_order(struct builder *b, size_t first, uint32_t stamp, const struct wl_caption *c,
	size_t k, uint32_t in_refs, uint32_t *at, struct wl_ngram_list *out)
{
	/* at[i + 1], not yet replaced, is the neighbour. */
	for (size_t i = 0; i < out->n; i++) {
		uint32_t id = local_number(b, first, stamp, k ? at[i] : none, k ? at[i + 1] : none,
			c->token[i + k]);

		b->node[first + id].token |= in_refs;
		at[i] = id;
		out->v[i] = (struct wl_ngram_count){id, 1};
	}
	fold(out);
}

/* Room for the lists of a caption of n tokens. */
static int reserve_lists(struct builder *b, const struct wl_caption *c,
	struct wl_ngram_list out[WL_NGRAM_MAX], struct wl_err *err)
{
	struct wl_ngram_count *v =
		wl_arena_calloc(&b->set->arena, WL_NGRAM_MAX * c->n + 1, sizeof *v, err);

	if (!v)
		return -1;
	for (size_t k = 0; k < WL_NGRAM_MAX; k++) {
		out[k] = (struct wl_ngram_list){v, c->n > k ? c->n - k : 0};
		v += out[k].n;
	}
	return 0;
}

static int add_image(struct builder *b, size_t i, const struct wl_captioned *im, struct wl_err *err)
{
	struct wl_ngram_set *s = b->set;
	struct wl_ngram_list(*refs)[WL_NGRAM_MAX] = &s->ref[s->first_ref[i]];
	size_t tokens = im->hyp.n, first = b->n;

	WL_TRY(reserve_lists(b, &im->hyp, s->hyp[i], err));
	for (size_t r = 0; r < im->n_refs; r++) {
		tokens += im->refs[r].n;
		WL_TRY(reserve_lists(b, &im->refs[r], refs[r], err));
	}
	WL_TRY(reserve_local(b, tokens, im->n_refs + 1, err));
	for (size_t k = 0; k < WL_NGRAM_MAX; k++) {
		uint32_t *at = b->at;

		b->order_at[i][k] = (uint32_t)(b->n - first);
		add_order(b, first, (uint32_t)i + 1, &im->hyp, k, 0, at, &s->hyp[i][k]);
		at += im->hyp.n;
		for (size_t r = 0; r < im->n_refs; at += im->refs[r++].n)
			add_order(b, first, (uint32_t)i + 1, &im->refs[r], k, TOKEN_IN_REFS, at,
				&refs[r][k]);
	}
	b->order_at[i][WL_NGRAM_MAX] = (uint32_t)(b->n - first);
	s->first_ref[i + 1] = s->first_ref[i] + im->n_refs;
	s->first_id[i + 1] = b->n;
	return 0;
}

/* --- all images --------------------------------------------------------------------------- */

static int rehash(struct builder *b, size_t more, struct wl_err *err)
{
	size_t old_slots = b->global_slots, slots = old_slots ? old_slots : 1 << 16;
	struct slot *old = b->global;

	if (2 * (b->global_used + more) <= old_slots)
		return 0;
	while (2 * (b->global_used + more) > slots)
		slots *= 2;
	b->global = large(slots * sizeof *b->global);
	if (!b->global) {
		b->global = old;
		return wl_err_nomem(err, "a table of n-grams", slots * sizeof *b->global);
	}
	memset(b->global, 0, slots * sizeof *b->global);
	b->global_slots = slots;
	for (size_t i = 0; i < old_slots; i++) {
		size_t k;

		if (!old[i].key)
			continue;
		for (k = place(old[i].key, slots); b->global[k].key; k = (k + 1) & (slots - 1))
			;
		b->global[k] = old[i];
	}
	free(old);
	return 0;
}

/* The pair of an n-gram's first part, by its number among all, and its last token. */
static uint64_t global_key(const struct node *x, const struct node *image)
{
	return ((uint64_t)image[x->prefix].global << 32 | (x->token & ~TOKEN_IN_REFS)) + 1;
}

static uint32_t global_number(struct builder *b, uint64_t key)
{
	size_t k = place(key, b->global_slots);

	while (b->global[k].key && b->global[k].key != key)
		k = (k + 1) & (b->global_slots - 1);
	if (!b->global[k].key)
		b->global[k] = (struct slot){key, (uint32_t)b->global_used++, 0};
	return b->global[k].value;
}

/* Numbers and counts the image's n-grams of this order that may occur elsewhere. */
static int count_image(struct builder *b, size_t i, int order, struct wl_err *err)
{
	struct node *image = b->node + b->set->first_id[i];
	const uint32_t *df = b->set->df + b->set->first_id[i];
	size_t from = b->order_at[i][order], end = b->order_at[i][order + 1], n = 0;

	WL_TRY(GROW(b->batch, b->cap_batch, end - from + 1));
	WL_TRY(rehash(b, end - from, err));
	for (size_t k = from; k < end; k++) {
		const struct node *x = &image[k];

		if (df[x->prefix] < 2 || df[x->suffix] < 2)
			continue;
		__builtin_prefetch(&b->global[place(global_key(x, image), b->global_slots)]);
		b->batch[n++] = k;
	}
	for (size_t k = 0; k < n; k++) {
		struct node *x = &image[b->batch[k]];
		size_t before = b->global_used;

		x->global = global_number(b, global_key(x, image));
		if (b->global_used > before) {
			WL_TRY(GROW(b->count, b->cap_count, b->global_used));
			b->count[x->global] = 0;
		}
		b->count[x->global] += x->token >> 31;
	}
	return 0;
}

/* From counts to the n-grams of the order. */
static void set_df(struct builder *b, size_t images, int order)
{
	for (size_t i = 0; i < images; i++) {
		const struct node *x = b->node + b->set->first_id[i];
		uint32_t *df = b->set->df + b->set->first_id[i];

		for (size_t k = b->order_at[i][order]; k < b->order_at[i][order + 1]; k++)
			if (x[k].global != none)
				df[k] = b->count[x[k].global];
	}
}

/* Order 1: the tokens are numbers already. */
static int count_tokens(struct builder *b, size_t images, uint32_t max, struct wl_err *err)
{
	WL_TRY(GROW(b->count, b->cap_count, (size_t)max + 1));
	memset(b->count, 0, ((size_t)max + 1) * sizeof *b->count);
	for (size_t i = 0; i < images; i++) {
		struct node *x = b->node + b->set->first_id[i];

		for (size_t k = 0; k < b->order_at[i][1]; k++) {
			x[k].global = x[k].token & ~TOKEN_IN_REFS;
			b->count[x[k].global] += x[k].token >> 31;
		}
	}
	set_df(b, images, 0);
	return 0;
}

static int count_order(struct builder *b, size_t images, int order, struct wl_err *err)
{
	if (b->global)
		memset(b->global, 0, b->global_slots * sizeof *b->global);
	b->global_used = 0;
	for (size_t i = 0; i < images; i++)
		WL_TRY(count_image(b, i, order, err));
	set_df(b, images, order);
	return 0;
}

/* tokens: of all captions. */
static int survey(const struct wl_captioned *im, size_t n, uint32_t *max, size_t *tokens,
	struct wl_err *err)
{
	*max = 0;
	*tokens = 0;
	for (size_t i = 0; i < n; i++)
		for (size_t r = 0; r <= im[i].n_refs; r++) {
			const struct wl_caption *c = r ? &im[i].refs[r - 1] : &im[i].hyp;

			*tokens += c->n;
			for (size_t k = 0; k < c->n; k++)
				*max = c->token[k] > *max ? c->token[k] : *max;
		}
	if (*max >= TOKEN_IN_REFS)
		return wl_err_set(err, WL_EDATA, "the captions have more than 2^31 words");
	return 0;
}

static int allocate(
	struct wl_ngram_set *s, const struct wl_captioned *im, size_t n, struct wl_err *err)
{
	size_t refs = 0;

	*s = (struct wl_ngram_set){.arena = {.block_bytes = (size_t)1 << 20}};
	for (size_t i = 0; i < n; i++)
		refs += im[i].n_refs;
	s->first_ref = calloc(n + 1, sizeof *s->first_ref);
	s->first_id = calloc(n + 1, sizeof *s->first_id);
	s->hyp = calloc(n + 1, sizeof *s->hyp);
	s->ref = calloc(refs + 1, sizeof *s->ref);
	if (!s->first_ref || !s->first_id || !s->hyp || !s->ref)
		return wl_err_nomem(err, "n-grams", (n + refs) * sizeof *s->hyp);
	return 0;
}

int wl_ngram_set_make(
	struct wl_ngram_set *s, const struct wl_captioned *im, size_t n, struct wl_err *err)
{
	struct builder b = {.set = s};
	uint32_t max;
	size_t tokens;
	int ret = -1;

	WL_TRY_OUT(allocate(s, im, n, err));
	WL_TRY_OUT(survey(im, n, &max, &tokens, err));
	b.order_at = calloc(n + 1, sizeof *b.order_at);
	b.node = large((WL_NGRAM_MAX * tokens + 1) * sizeof *b.node); /* pages come when written */
	if (!b.order_at || !b.node) {
		wl_err_nomem(err, "n-grams", WL_NGRAM_MAX * tokens * sizeof *b.node);
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		WL_TRY_OUT(add_image(&b, i, &im[i], err));
	s->df = large((b.n + 1) * sizeof *s->df);
	if (!s->df) {
		wl_err_nomem(err, "document frequencies", b.n * sizeof *s->df);
		goto out;
	}
	memset(s->df, 0, (b.n + 1) * sizeof *s->df);
	WL_TRY_OUT(count_tokens(&b, n, max, err));
	for (int order = 1; order < WL_NGRAM_MAX; order++)
		WL_TRY_OUT(count_order(&b, n, order, err));
	ret = 0;
out:
	free(b.node);
	free(b.order_at);
	free(b.local);
	free(b.at);
	free(b.global);
	free(b.count);
	free(b.batch);
	if (ret)
		wl_ngram_set_release(s);
	return ret;
}

void wl_ngram_set_release(struct wl_ngram_set *s)
{
	if (!s)
		return;
	wl_arena_release(&s->arena);
	free(s->hyp);
	free(s->ref);
	free(s->first_ref);
	free(s->first_id);
	free(s->df);
	*s = (struct wl_ngram_set){0};
}

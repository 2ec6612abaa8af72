/*
 * Which pairs are alike: equal hashes, near hashes, and then the pictures or texts themselves,
 * fetched from the ranks that have them.
 */
#include "clean/dedup_priv.h"

#include "clean/near.h"
#include "ops/log.h"
#include "ops/progress.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512 /* rows read at a time */ };

/* ---- equal ---- */

struct equal {
	struct dedup *d;
	bool text;
	struct wl_values found; /* root << 32 | member */
};

static int emit_equal(
	void *ctx, struct wl_emitter *e, size_t part, size_t parts, struct wl_err *err)
{
	struct equal *q = ctx;
	struct dedup *d = q->d;

	(void)err;
	for (size_t k = d->n_own * part / parts; k < d->n_own * (part + 1) / parts; k++) {
		const struct member *x = &d->m[d->own[k]];
		if (q->text ? x->has_text : x->has_image)
			wl_emit(e, q->text ? x->text : x->pixels, d->own[k], 0);
	}
	return 0;
}

/* Sorted by (key, idx): the first is the smallest. */
static void group_equal(void *ctx, struct wl_values *out, const struct wl_rec *r, size_t n)
{
	(void)ctx;
	for (size_t i = 1; i < n; i++)
		wl_values_add(out, (uint64_t)r[0].idx << 32 | r[i].idx);
}

static int append(struct wl_values *to, const uint64_t *v, size_t n, struct wl_err *err)
{
	for (size_t i = 0; i < n; i++)
		wl_values_add(to, v[i]);
	return to->no_memory ? wl_err_nomem(err, "pairs that are alike", to->cap * sizeof(*v)) : 0;
}

static int take_equal(void *ctx, const uint64_t *v, size_t n, struct wl_err *err)
{
	return append(&((struct equal *)ctx)->found, v, n, err);
}

/* roots[i]: the smallest index with the same pixels or text. */
static int find_equal(struct dedup *d, bool text, uint32_t **roots, struct wl_err *err)
{
	struct equal q = {.d = d, .text = text};
	struct wl_bygroup job = {.what = text ? "text hashes" : "pixel hashes",
		.bits = 64,
		.records = d->n_own,
		.emit = emit_equal,
		.group = group_equal,
		.take = take_equal,
		.ctx = &q};
	int ret = -1;

	*roots = malloc((d->n + 1) * sizeof(**roots));
	if (!*roots)
		return wl_err_nomem(err, "sets of pairs", d->n * sizeof(**roots));
	wl_sets_init(*roots, d->n);
	WL_TRY_OUT(wl_bygroup(&job, d->comm, d->pool, dedup_memory(d, 60), err));
	WL_TRY_OUT(wl_values_gather(&q.found, d->comm, err));
	for (size_t i = 0; i < q.found.n; i++)
		(*roots)[(uint32_t)q.found.v[i]] = (uint32_t)(q.found.v[i] >> 32);
	ret = 0;
out:
	wl_values_release(&q.found);
	return ret;
}

/* ---- fetching pictures and texts ---- */

void blobs_release(struct blobs *b)
{
	free(b->data);
	free(b->at);
	memset(b, 0, sizeof(*b));
}

/* Appends each with its length before it. */
static int read_own(struct dedup *d, const uint32_t *want, size_t n, enum dedup_kind kind,
	struct wl_buf *out, struct wl_err *err)
{
	for (size_t i = 0; i < n; i++) {
		size_t from = out->len;
		uint32_t bytes = 0;
		WL_TRY(wl_buf_add(out, &bytes, sizeof(bytes), err));
		WL_TRY(dedup_read(d, want[i], kind, out, err));
		bytes = (uint32_t)(out->len - from - sizeof(bytes));
		memcpy(out->data + from, &bytes, sizeof(bytes));
	}
	return 0;
}

/* wanted: sorted by owner, then index; order[k]: where wanted[k] stands in want. */
static void by_owner(const struct dedup *d, const uint32_t *want, size_t n, uint32_t *wanted,
	uint32_t *order, size_t *send)
{
	size_t k = 0;

	for (int r = 0; r < wl_comm_size(d->comm); r++) {
		size_t from = k;
		for (size_t i = 0; i < n; i++)
			if (dedup_owner(d, d->m[want[i]].partition) == r) {
				wanted[k] = want[i];
				order[k++] = (uint32_t)i;
			}
		send[r] = (k - from) * sizeof(*wanted);
	}
}

/* Answers to all ranks' requests, by rank; reply[r]: bytes for rank r. */
static int answer(struct dedup *d, const uint32_t *asked, const size_t *recv, enum dedup_kind kind,
	struct wl_buf *out, size_t *reply, struct wl_err *err)
{
	for (int r = 0; r < wl_comm_size(d->comm); r++) {
		size_t from = out->len, n = recv[r] / sizeof(*asked);
		WL_TRY(read_own(d, asked, n, kind, out, err));
		asked += n;
		reply[r] = out->len - from;
	}
	return 0;
}

/* The pictures or keys of these pairs, want being sorted and each once.  Collective. */
static int fetch(struct dedup *d, const uint32_t *want, size_t n, enum dedup_kind kind,
	struct blobs *out, struct wl_err *err)
{
	size_t ranks = (size_t)wl_comm_size(d->comm), *sizes = calloc(4 * ranks, sizeof(*sizes));
	uint32_t *wanted = malloc((2 * n + 1) * sizeof(*wanted)), *order;
	struct wl_buf b;
	void *asked = NULL, *came = NULL;
	size_t at = 0;
	int ret = -1;

	wl_buf_init(&b, SIZE_MAX / 2);
	memset(out, 0, sizeof(*out));
	out->at = malloc((n + 1) * sizeof(*out->at));
	if (!sizes || !wanted || !out->at) {
		wl_err_nomem(err, "pictures to compare", n * sizeof(*want));
		goto out;
	}
	order = wanted + n;
	by_owner(d, want, n, wanted, order, sizes);
	WL_TRY_OUT(wl_comm_alltoallv(d->comm, wanted, sizes, &asked, sizes + ranks, err));
	WL_TRY_OUT(answer(d, asked, sizes + ranks, kind, &b, sizes + 2 * ranks, err));
	WL_TRY_OUT(wl_comm_alltoallv(
		d->comm, b.data, sizes + 2 * ranks, &came, sizes + 3 * ranks, err));
	out->data = came;
	for (size_t k = 0; k < n; k++) {
		uint32_t bytes;
		memcpy(&bytes, out->data + at, sizeof(bytes));
		out->at[order[k]] = at;
		at += sizeof(bytes) + bytes;
	}
	ret = 0;
out:
	free(sizes);
	free(wanted);
	free(asked);
	wl_buf_release(&b);
	return ret;
}

static const char *blob_of(const struct blobs *b, size_t i, size_t *n)
{
	uint32_t bytes;

	memcpy(&bytes, b->data + b->at[i], sizeof(bytes));
	*n = bytes;
	return b->data + b->at[i] + sizeof(bytes);
}

/* ---- comparing candidates ---- */

struct compare {
	struct dedup *d;
	enum dedup_kind kind;
	struct wl_values waiting; /* candidates of this rank */
	size_t waiting_max;
	struct wl_values *edges;
	/* the batch */
	const uint64_t *pairs;
	size_t n;
	uint32_t *want;
	size_t n_want;
	struct blobs blobs;
	int8_t *alike; /* [n] -1: out of memory */
};

enum { COMPARE_BLOCK = 16 };

static size_t place_of(const struct compare *c, uint32_t i)
{
	size_t from = 0, to = c->n_want;

	while (to - from > 1) {
		size_t mid = from + (to - from) / 2;
		if (c->want[mid] <= i)
			from = mid;
		else
			to = mid;
	}
	return from;
}

static int8_t compare_one(const struct compare *c, uint64_t pair)
{
	struct wl_radii r = {c->d->o->image_radius, c->d->o->window_radius};
	size_t na, nb;
	const char *a = blob_of(&c->blobs, place_of(c, (uint32_t)(pair >> 32)), &na);
	const char *b = blob_of(&c->blobs, place_of(c, (uint32_t)pair), &nb);
	struct wl_view x, y;

	if (c->kind == KIND_TEXT)
		return (int8_t)wl_keys_near(a, na, b, nb, c->d->o->text_jaccard, NULL);
	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return wl_view_match(&x, &y, r);
}

static void compare_block(void *ctx, size_t block)
{
	struct compare *c = ctx;
	size_t to = (block + 1) * COMPARE_BLOCK < c->n ? (block + 1) * COMPARE_BLOCK : c->n;

	for (size_t i = block * COMPARE_BLOCK; i < to; i++)
		c->alike[i] = compare_one(c, c->pairs[i]);
}

static int by_index(const void *p, const void *q)
{
	uint32_t a = *(const uint32_t *)p, b = *(const uint32_t *)q;

	return (a > b) - (a < b);
}

static void wanted_of(struct compare *c)
{
	size_t n = 0;

	for (size_t i = 0; i < c->n; i++) {
		c->want[2 * i] = (uint32_t)(c->pairs[i] >> 32);
		c->want[2 * i + 1] = (uint32_t)c->pairs[i];
	}
	if (c->n)
		qsort(c->want, 2 * c->n, sizeof(*c->want), by_index);
	for (size_t i = 0; i < 2 * c->n; i++)
		if (i == 0 || c->want[i] != c->want[i - 1])
			c->want[n++] = c->want[i];
	c->n_want = n;
}

static int compare_batch(struct compare *c, struct wl_err *err)
{
	int ret = -1;

	wanted_of(c);
	WL_TRY_OUT(fetch(c->d, c->want, c->n_want, c->kind, &c->blobs, err));
	wl_pool_for(c->d->pool, (c->n + COMPARE_BLOCK - 1) / COMPARE_BLOCK, compare_block, c);
	for (size_t i = 0; i < c->n; i++) {
		if (c->alike[i] < 0) {
			wl_err_nomem(err, "the shingles of two texts", 0);
			goto out;
		}
		if (c->alike[i])
			wl_values_add(c->edges, c->pairs[i]);
	}
	ret = c->edges->no_memory ? wl_err_nomem(err, "pairs that are alike", c->edges->cap * 8)
				  : 0;
out:
	blobs_release(&c->blobs);
	return ret;
}

/* Compares all that waits, in batches that all ranks go through together. */
static int compare_waiting(struct compare *c, struct wl_err *err)
{
	/* Two views a pair, each as it was read and as it came from its rank. */
	size_t batch = dedup_memory(c->d, 20) / (4 * sizeof(struct wl_view));
	struct wl_progress *progress = NULL;
	uint64_t batches;
	int ret = -1;

	batch = batch < 256 ? 256 : batch > 100000 ? 100000 : batch;
	wl_values_unique(&c->waiting);
	batches = (c->waiting.n + batch - 1) / batch;
	WL_TRY(wl_comm_all_reduce(c->d->comm, &batches, 1, WL_COMM_U64, WL_COMM_MAX, err));
	c->want = malloc(2 * batch * sizeof(*c->want));
	c->alike = malloc(batch);
	if (!c->want || !c->alike) {
		wl_err_nomem(err, "pictures to compare", batch * sizeof(*c->want));
		goto out;
	}
	if (wl_comm_rank(c->d->comm) == 0)
		progress = wl_progress_new(c->kind == KIND_TEXT ? "near texts" : "near pictures",
			"comparisons", c->waiting.n);
	for (size_t k = 0; k < batches; k++) {
		size_t from = k * batch < c->waiting.n ? k * batch : c->waiting.n;
		WL_TRY_OUT(wl_bygroup_go_on("pictures and texts", c->d->comm, err));
		c->pairs = c->waiting.v + from;
		c->n = c->waiting.n - from < batch ? c->waiting.n - from : batch;
		WL_TRY_OUT(compare_batch(c, err));
		wl_progress_add(progress, c->n);
	}
	c->waiting.n = 0;
	ret = 0;
out:
	wl_progress_free(progress);
	free(c->want);
	free(c->alike);
	c->want = NULL;
	c->alike = NULL;
	return ret;
}

static int take_candidates(void *ctx, const uint64_t *v, size_t n, struct wl_err *err)
{
	struct compare *c = ctx;
	uint64_t full;

	WL_TRY(append(&c->waiting, v, n, err));
	if (c->waiting.n > c->waiting_max)
		wl_values_unique(&c->waiting);
	full = c->waiting.n > c->waiting_max;
	WL_TRY(wl_comm_all_reduce(c->d->comm, &full, 1, WL_COMM_U64, WL_COMM_MAX, err));
	return full ? compare_waiting(c, err) : 0;
}

/* ---- candidates: pictures ---- */

static bool is_old(void *ctx, uint32_t i)
{
	return ((struct compare *)ctx)->d->m[i].old;
}

static bool searched(const struct dedup *d, uint32_t i)
{
	return d->m[i].has_image && d->pixels[i] == i;
}

struct picture_search {
	struct compare c; /* first: it is the context of all callbacks */
	struct wl_near_search s;
};

static int each_whole(
	void *ctx, struct wl_emitter *e, size_t part, size_t parts, struct wl_err *err)
{
	struct picture_search *p = ctx;
	struct dedup *d = p->c.d;

	(void)err;
	for (size_t k = d->n_own * part / parts; k < d->n_own * (part + 1) / parts; k++)
		if (searched(d, d->own[k]))
			wl_near_put(&p->s, e, d->m[d->own[k]].phash, d->own[k], 0);
	return 0;
}

static int each_window(
	void *ctx, struct wl_emitter *e, size_t part, size_t parts, struct wl_err *err)
{
	struct picture_search *p = ctx;
	struct dedup *d = p->c.d;
	size_t from = d->n_own * part / parts, to = d->n_own * (part + 1) / parts;
	struct wl_windows *room = malloc(BLOCK * sizeof(*room));
	int ret = -1;

	if (!room)
		return wl_err_nomem(err, "hashes of windows", BLOCK * sizeof(*room));
	for (; from < to; from += BLOCK) {
		size_t n = to - from < BLOCK ? to - from : BLOCK;
		const struct wl_windows *w;
		const void *at;
		WL_TRY_OUT(wl_rows_read(&d->windows, from, n, room, &at, err));
		w = at;
		for (size_t k = 0; k < n; k++, w++) {
			uint32_t idx = d->own[from + k];
			if (searched(d, idx))
				wl_near_put_row(&p->s, e, w->hash, WL_WINDOWS, w->present, idx);
		}
	}
	ret = 0;
out:
	free(room);
	return ret;
}

static bool windows_meet(uint32_t a, uint32_t b)
{
	return wl_windows_meet((int)a, (int)b);
}

static int find_pictures(struct dedup *d, struct wl_err *err)
{
	struct picture_search p = {.c = {.d = d, .kind = KIND_PICTURE, .edges = &d->image_edges}};
	uint64_t cut = 0;
	int ret = -1;

	p.c.waiting_max = dedup_memory(d, 20) / sizeof(uint64_t);
	p.c.edges = &d->image_edges;
	p.s = (struct wl_near_search){.take = take_candidates, .old = is_old, .ctx = &p};
	if (d->o->image_radius >= 0) {
		p.s.what = "hashes of pictures";
		p.s.radius = d->o->image_radius;
		p.s.records = d->n_own;
		p.s.each = each_whole;
		WL_TRY_OUT(wl_near_run(&p.s, d->comm, d->pool, dedup_memory(d, 60), err));
		cut += p.s.cut;
	}
	if (d->o->image_radius >= 0 && d->o->window_radius >= 0) {
		p.s.what = "hashes of windows";
		p.s.radius = d->o->window_radius;
		p.s.records = d->n_own * WL_WINDOWS;
		p.s.each = each_window;
		p.s.meet = windows_meet;
		WL_TRY_OUT(wl_near_run(&p.s, d->comm, d->pool, dedup_memory(d, 60), err));
		cut += p.s.cut;
	}
	malloc_trim(0); /* the records' memory, which malloc would keep */
	WL_TRY_OUT(compare_waiting(&p.c, err));
	WL_TRY_OUT(wl_comm_all_reduce(d->comm, &cut, 1, WL_COMM_U64, WL_COMM_SUM, err));
	d->counts->cut += (int64_t)cut;
	ret = 0;
out:
	wl_values_release(&p.c.waiting);
	return ret;
}

/* ---- candidates: texts ---- */

/* Larger groups are of texts that share a phrase, not of the same text: there each is compared
 * with its neighbours only. */
enum { TEXT_GROUP = 512, TEXT_NEIGHBOURS = 16 };

struct text_search {
	struct compare c; /* first */
	uint64_t cut;
};

static int emit_texts(
	void *ctx, struct wl_emitter *e, size_t part, size_t parts, struct wl_err *err)
{
	struct text_search *s = ctx;
	struct dedup *d = s->c.d;
	size_t from = d->n_own * part / parts, to = d->n_own * (part + 1) / parts;
	char *room = malloc(BLOCK * d->texts.width);
	int ret = -1;

	if (!room)
		return wl_err_nomem(err, "keys of texts", BLOCK * d->texts.width);
	for (; from < to; from += BLOCK) {
		size_t n = to - from < BLOCK ? to - from : BLOCK;
		const void *at;
		WL_TRY_OUT(wl_rows_read(&d->texts, from, n, room, &at, err));
		for (size_t k = 0; k < n; k++) {
			const struct text_row *t =
				(const void *)((const char *)at + k * d->texts.width);
			uint32_t idx = d->own[from + k];
			for (uint32_t i = 0; d->text[idx] == idx && i < t->n; i++)
				wl_emit(e, t->key[i], idx, 0);
		}
	}
	ret = 0;
out:
	free(room);
	return ret;
}

static void group_texts(void *ctx, struct wl_values *out, const struct wl_rec *r, size_t n)
{
	struct text_search *s = ctx;
	const struct member *m = s->c.d->m;
	size_t reach = n > TEXT_GROUP ? TEXT_NEIGHBOURS : n;

	if (n > TEXT_GROUP)
		__atomic_fetch_add(&s->cut, n, __ATOMIC_RELAXED);
	for (size_t i = 0; i < n; i++)
		for (size_t k = i + 1; k < n && k <= i + reach; k++)
			if (r[i].idx != r[k].idx && !(m[r[i].idx].old && m[r[k].idx].old))
				wl_values_add(out, (uint64_t)r[i].idx << 32 | r[k].idx);
}

static int find_texts(struct dedup *d, struct wl_err *err)
{
	struct text_search s = {.c = {.d = d, .kind = KIND_TEXT, .edges = &d->text_edges}};
	struct wl_bygroup job = {.what = "text signatures",
		.bits = 64,
		.records = d->n_own * (uint64_t)d->text_slots,
		.emit = emit_texts,
		.group = group_texts,
		.take = take_candidates,
		.ctx = &s};
	int ret = -1;

	s.c.waiting_max = dedup_memory(d, 20) / sizeof(uint64_t);
	WL_TRY_OUT(wl_bygroup(&job, d->comm, d->pool, dedup_memory(d, 60), err));
	malloc_trim(0);
	WL_TRY_OUT(compare_waiting(&s.c, err));
	WL_TRY_OUT(wl_comm_all_reduce(d->comm, &s.cut, 1, WL_COMM_U64, WL_COMM_SUM, err));
	d->counts->cut += (int64_t)s.cut;
	ret = 0;
out:
	wl_values_release(&s.c.waiting);
	return ret;
}

/* ---- both ---- */

/* Between roots, for what the last run knew may have been between others. */
static int settle_edges(
	struct dedup *d, struct wl_values *edges, const uint32_t *roots, struct wl_err *err)
{
	size_t n = 0;

	WL_TRY(wl_values_gather(edges, d->comm, err));
	for (size_t i = 0; i < edges->n; i++) {
		uint64_t a = roots[edges->v[i] >> 32], b = roots[(uint32_t)edges->v[i]];
		if (a != b)
			edges->v[n++] = a < b ? a << 32 | b : b << 32 | a;
	}
	edges->n = n;
	wl_values_unique(edges);
	return 0;
}

/* Likeness by embeddings is likeness. */
static int join_edges(struct wl_values *to, const struct wl_values *more, struct wl_err *err)
{
	WL_TRY(append(to, more->v, more->n, err));
	wl_values_unique(to);
	return 0;
}

int dedup_find(struct dedup *d, struct wl_err *err)
{
	struct wl_values *by_image = &d->vectors[WL_VECTORS_IMAGE].edges;
	struct wl_values *by_text = &d->vectors[WL_VECTORS_TEXT].edges;

	WL_TRY(find_equal(d, false, &d->pixels, err));
	WL_TRY(find_equal(d, true, &d->text, err));
	WL_TRY(find_pictures(d, err));
	if (dedup_text_near(d))
		WL_TRY(find_texts(d, err));
	dedup_close_dbs(d);
	WL_TRY(dedup_find_vectors(d, WL_VECTORS_IMAGE, d->pixels, err));
	WL_TRY(dedup_find_vectors(d, WL_VECTORS_TEXT, d->text, err));
	WL_TRY(settle_edges(d, &d->image_edges, d->pixels, err));
	WL_TRY(settle_edges(d, &d->text_edges, d->text, err));
	WL_TRY(settle_edges(d, by_image, d->pixels, err));
	WL_TRY(settle_edges(d, by_text, d->text, err));
	d->counts->embedded_images = (int64_t)by_image->n;
	d->counts->embedded_texts = (int64_t)by_text->n;
	WL_TRY(join_edges(&d->image_edges, by_image, err));
	return join_edges(&d->text_edges, by_text, err);
}

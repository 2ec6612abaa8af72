/*
 * The decisions of dedup, in memory over 64 bytes a pair.  See dedup.h for what they are; how
 * signatures get in and verdicts out is in dedup_store.c.
 */
#include "clean/dedup_priv.h"

#include "clean/near.h"
#include "ops/log.h"
#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>

static const char *const policy_names[] = {"image", "text", "pair"};
static const char *const duplicate_reasons[] = {
	"duplicate-image", "duplicate-text", "duplicate-pair"};

int wl_dedup_policy_parse(const char *s, enum wl_dedup_policy *out, struct wl_err *err)
{
	for (int i = 0; i < 3; i++)
		if (strcmp(s, policy_names[i]) == 0) {
			*out = (enum wl_dedup_policy)i;
			return 0;
		}
	return wl_err_set(err, WL_EUSAGE, "--policy is \"%s\", expected image, text or pair.", s);
}

struct dedup {
	struct wl_stage stage;
	const struct wl_dedup_options *o;
	struct wl_pool *pool;
	struct members m;
	uint32_t *image, *group, *dup; /* union-find parents, [m.n] */
	struct wl_dedup_counts *counts;
};

/* ---- sets ---- */

static int by_id(const void *p, const void *q)
{
	const struct member *a = p, *b = q;

	if (a->id != b->id)
		return a->id < b->id ? -1 : 1;
	return (a->partition > b->partition) - (a->partition < b->partition);
}

struct keyed {
	uint64_t key, key2;
	uint32_t i;
};

static int by_key(const void *p, const void *q)
{
	const struct keyed *a = p, *b = q;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	if (a->key2 != b->key2)
		return a->key2 < b->key2 ? -1 : 1;
	return (a->i > b->i) - (a->i < b->i);
}

/* Joins in `parent` all members of equal keys; key_of returns false for those that have none. */
static int join_equal(struct dedup *d, uint32_t *parent,
	bool (*key_of)(const struct dedup *d, uint32_t i, struct keyed *k), struct wl_err *err)
{
	struct keyed *k = malloc((d->m.n + 1) * sizeof(*k));
	size_t n = 0;

	if (!k)
		return wl_err_nomem(err, "a sort of hashes", d->m.n * sizeof(*k));
	for (uint32_t i = 0; i < d->m.n; i++) {
		k[n] = (struct keyed){.i = i};
		n += key_of(d, i, &k[n]);
	}
	qsort(k, n, sizeof(*k), by_key);
	for (size_t i = 1; i < n; i++)
		if (k[i].key == k[i - 1].key && k[i].key2 == k[i - 1].key2)
			wl_sets_join(parent, k[i - 1].i, k[i].i);
	free(k);
	return 0;
}

static bool key_pixels(const struct dedup *d, uint32_t i, struct keyed *k)
{
	k->key = d->m.v[i].pixels;
	return d->m.v[i].has_image;
}

static bool key_text(const struct dedup *d, uint32_t i, struct keyed *k)
{
	k->key = d->m.v[i].text;
	return d->m.v[i].has_text;
}

/* Same image set and same text; pairs without any letters are alike in having none. */
static bool key_pair(const struct dedup *d, uint32_t i, struct keyed *k)
{
	k->key = d->image[i];
	k->key2 = d->m.v[i].has_text ? d->m.v[i].text : 0;
	return d->m.v[i].has_image;
}

/* ---- near images ---- */

struct verify {
	const struct wl_near_list *near;
	const uint32_t *index, *slot; /* hash number -> member -> look */
	const struct wl_look *looks;
	uint8_t *alike;
};

enum { VERIFY_BLOCK = 512 };

static void verify_block(void *ctx, size_t block)
{
	struct verify *v = ctx;
	size_t to = (block + 1) * VERIFY_BLOCK;

	for (size_t i = block * VERIFY_BLOCK; i < to && i < v->near->n; i++)
		v->alike[i] = wl_look_alike(&v->looks[v->slot[v->index[v->near->v[i].a]]],
			&v->looks[v->slot[v->index[v->near->v[i].b]]]);
}

/* Loads the looks that the candidates need and compares them. */
static int join_alike(
	struct dedup *d, const struct wl_near_list *near, const uint32_t *index, struct wl_err *err)
{
	struct verify v = {.near = near, .index = index};
	uint32_t *slot = malloc((d->m.n + 1) * sizeof(*slot)), wanted = 0;
	struct wl_look *looks = NULL;
	int ret = -1;

	if (!slot)
		return wl_err_nomem(err, "looks", d->m.n * sizeof(*slot));
	memset(slot, 0xff, d->m.n * sizeof(*slot));
	for (size_t i = 0; i < near->n; i++) {
		uint32_t a = index[near->v[i].a], b = index[near->v[i].b];
		if (slot[a] == UINT32_MAX)
			slot[a] = wanted++;
		if (slot[b] == UINT32_MAX)
			slot[b] = wanted++;
	}
	looks = malloc((wanted + 1) * sizeof(*looks));
	v.alike = malloc(near->n + 1);
	if (!looks || !v.alike) {
		wl_err_nomem(err, "looks", wanted * sizeof(*looks));
		goto out;
	}
	for (int p = 0; p < wl_corpus_partitions(d->stage.corpus); p++)
		WL_TRY_OUT(dedup_looks(&d->stage, p, &d->m, slot, looks, err));
	v.slot = slot;
	v.looks = looks;
	wl_pool_for(d->pool, (near->n + VERIFY_BLOCK - 1) / VERIFY_BLOCK, verify_block, &v);
	for (size_t i = 0; i < near->n; i++) {
		if (v.alike[i])
			wl_sets_join(d->image, index[near->v[i].a], index[near->v[i].b]);
		else
			d->counts->refused++;
	}
	ret = 0;
out:
	free(slot);
	free(looks);
	free(v.alike);
	return ret;
}

/* One of each set of equal pixels goes into the search. */
static int join_near_images(struct dedup *d, struct wl_err *err)
{
	uint64_t *hashes = malloc((d->m.n + 1) * sizeof(*hashes));
	uint32_t *index = malloc((d->m.n + 1) * sizeof(*index));
	struct wl_near_list near = {0};
	size_t n = 0;
	int ret = -1;

	if (!hashes || !index) {
		wl_err_nomem(err, "image hashes", d->m.n * sizeof(*hashes));
		goto out;
	}
	for (uint32_t i = 0; i < d->m.n; i++) {
		if (!d->m.v[i].has_image || wl_sets_root(d->image, i) != i)
			continue;
		hashes[n] = d->m.v[i].phash;
		index[n++] = i;
	}
	WL_TRY_OUT(wl_near_find(hashes, n, d->o->image_radius, d->pool, &near, err));
	d->counts->candidates = (int64_t)near.n;
	d->counts->cut = (int64_t)near.cut;
	ret = join_alike(d, &near, index, err);
out:
	wl_near_release(&near);
	free(hashes);
	free(index);
	return ret;
}

static void flatten(uint32_t *parent, size_t n)
{
	for (uint32_t i = 0; i < n; i++)
		parent[i] = wl_sets_root(parent, i);
}

static int make_sets(struct dedup *d, struct wl_err *err)
{
	size_t n = d->m.n, bytes = (n + 1) * sizeof(uint32_t);

	d->image = malloc(bytes);
	d->group = malloc(bytes);
	d->dup = malloc(bytes);
	if (!d->image || !d->group || !d->dup)
		return wl_err_nomem(err, "sets of pairs", 3 * bytes);
	wl_sets_init(d->image, n);
	WL_TRY(join_equal(d, d->image, key_pixels, err));
	if (d->o->image_radius >= 0)
		WL_TRY(join_near_images(d, err));
	flatten(d->image, n);
	memcpy(d->group, d->image, bytes - sizeof(uint32_t));
	WL_TRY(join_equal(d, d->group, key_text, err));
	flatten(d->group, n);
	wl_sets_init(d->dup, n);
	if (d->o->policy == WL_DEDUP_IMAGE)
		memcpy(d->dup, d->image, bytes - sizeof(uint32_t));
	else
		WL_TRY(join_equal(
			d, d->dup, d->o->policy == WL_DEDUP_TEXT ? key_text : key_pair, err));
	flatten(d->dup, n);
	return 0;
}

/* ---- verdicts ---- */

/* Whether a is the better one to keep: most pixels, most words, fetched first (0: unknown,
 * last), smallest id (the order of members). */
static bool better(const struct member *a, const struct member *b)
{
	uint64_t ta = a->fetched_at > 0 ? (uint64_t)a->fetched_at : UINT64_MAX;
	uint64_t tb = b->fetched_at > 0 ? (uint64_t)b->fetched_at : UINT64_MAX;

	if (a->area != b->area)
		return a->area > b->area;
	if (a->words != b->words)
		return a->words > b->words;
	return ta < tb;
}

/* eval[root]: the evaluation pair of each image set, test before val, first before later. */
static void find_eval(struct dedup *d, uint32_t *eval)
{
	memset(eval, 0xff, d->m.n * sizeof(*eval));
	for (uint32_t i = 0; i < d->m.n; i++) {
		uint32_t *e = &eval[d->image[i]];
		if (d->m.v[i].eval != EVAL_NONE && d->m.v[i].has_image &&
			(*e == UINT32_MAX || d->m.v[i].eval > d->m.v[*e].eval))
			*e = i;
	}
}

static void judge_eval(struct dedup *d, const uint32_t *eval)
{
	for (uint32_t i = 0; i < d->m.n; i++) {
		struct member *x = &d->m.v[i];
		uint32_t e = eval[d->image[i]];
		if (!x->has_image) {
			x->reason = REASON_BAD_IMAGE;
			d->counts->bad_images++;
		} else if (x->eval == EVAL_NONE && e != UINT32_MAX) {
			x->reason =
				d->m.v[e].eval == EVAL_TEST ? REASON_NEAR_TEST : REASON_NEAR_VAL;
			x->kept = e;
			d->counts->near_eval++;
		}
	}
}

/* best[root]: whom to keep of each set of duplicates, among those that may be kept. */
static void judge_duplicates(struct dedup *d, uint32_t *best)
{
	memset(best, 0xff, d->m.n * sizeof(*best));
	for (uint32_t i = 0; i < d->m.n; i++) {
		uint32_t *b = &best[d->dup[i]];
		if (d->m.v[i].reason == REASON_NONE && d->m.v[i].eval == EVAL_NONE &&
			(*b == UINT32_MAX || better(&d->m.v[i], &d->m.v[*b])))
			*b = i;
	}
	for (uint32_t i = 0; i < d->m.n; i++) {
		struct member *x = &d->m.v[i];
		uint32_t b = best[d->dup[i]];
		if (x->reason != REASON_NONE || x->eval != EVAL_NONE || b == i)
			continue;
		x->reason = REASON_DUPLICATE;
		x->kept = b;
		d->counts->duplicates++;
	}
}

static int judge(struct dedup *d, struct wl_err *err)
{
	uint32_t *scratch = malloc((d->m.n + 1) * sizeof(*scratch));

	if (!scratch)
		return wl_err_nomem(err, "verdicts", d->m.n * sizeof(*scratch));
	find_eval(d, scratch);
	judge_eval(d, scratch);
	judge_duplicates(d, scratch);
	memset(scratch, 0, d->m.n * sizeof(*scratch));
	for (size_t i = 0; i < d->m.n; i++) {
		d->counts->kept += d->m.v[i].reason == REASON_NONE;
		d->counts->image_sets += ++scratch[d->image[i]] == 2;
	}
	d->counts->pairs = (int64_t)d->m.n;
	free(scratch);
	return 0;
}

/* ---- the stage ---- */

static int sign_all(struct dedup *d, struct wl_err *err)
{
	struct wl_corpus *c = d->stage.corpus;
	struct wl_corpus_counts total;
	struct wl_text *tx = wl_text_open(err);
	struct wl_progress *progress = NULL;
	int ret = -1;

	if (!tx)
		return -1;
	WL_TRY_OUT(wl_corpus_count(c, &total, err));
	progress = wl_progress_new("dedup", "pairs", (uint64_t)total.pairs);
	for (int p = 0; p < wl_corpus_partitions(c) && !wl_stop_requested(); p++)
		WL_TRY_OUT(dedup_sign(&d->stage, tx, d->pool, p, progress, err));
	ret = 0;
out:
	wl_progress_free(progress);
	wl_text_close(tx);
	return ret;
}

static int decide(struct dedup *d, struct wl_err *err)
{
	struct wl_corpus *c = d->stage.corpus;
	json_t *counts;
	int ret;

	for (int p = 0; p < wl_corpus_partitions(c); p++)
		WL_TRY(dedup_load(&d->stage, p, &d->m, err));
	if (d->m.n >= UINT32_MAX)
		return wl_err_set(err, WL_EFAIL, "The corpus has %zu pairs; dedup takes up to %u.",
			d->m.n, UINT32_MAX - 1);
	if (d->m.n)
		qsort(d->m.v, d->m.n, sizeof(*d->m.v), by_id);
	WL_TRY(make_sets(d, err));
	WL_TRY(judge(d, err));
	for (int p = 0; p < wl_corpus_partitions(c); p++)
		WL_TRY(dedup_write(
			&d->stage, p, &d->m, d->group, duplicate_reasons[d->o->policy], err));
	counts = wl_dedup_counts_json(d->counts);
	if (!counts)
		return wl_err_nomem(err, "counts", 0);
	ret = wl_stage_publish(&d->stage, counts, err);
	json_decref(counts);
	return ret;
}

json_t *wl_dedup_counts_json(const struct wl_dedup_counts *c)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "pairs", (json_int_t)c->pairs,
		"kept", (json_int_t)c->kept, "duplicates", (json_int_t)c->duplicates, "near_eval",
		(json_int_t)c->near_eval, "bad_images", (json_int_t)c->bad_images, "image_sets",
		(json_int_t)c->image_sets, "candidates", (json_int_t)c->candidates, "refused",
		(json_int_t)c->refused, "cut", (json_int_t)c->cut);
}

static void counts_of_last_time(struct wl_corpus *c, struct wl_dedup_counts *out)
{
	const json_t *f = json_object_get(wl_corpus_stage_facts(c, "dedup"), "counts");
	const struct {
		const char *key;
		int64_t *to;
	} all[] = {{"pairs", &out->pairs}, {"kept", &out->kept}, {"duplicates", &out->duplicates},
		{"near_eval", &out->near_eval}, {"bad_images", &out->bad_images},
		{"image_sets", &out->image_sets}, {"candidates", &out->candidates},
		{"refused", &out->refused}, {"cut", &out->cut}};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		*all[i].to = json_integer_value(json_object_get(f, all[i].key));
}

int wl_dedup(struct wl_corpus *c, const struct wl_dedup_options *o, struct wl_dedup_counts *counts,
	struct wl_err *err)
{
	struct dedup d = {.o = o, .counts = counts};
	json_t *params = json_pack("{s:s, s:i, s:i}", "policy", policy_names[o->policy],
		"image_radius", o->image_radius, "signature", WL_SIGNATURE_VERSION);
	int same, ret = -1;

	memset(counts, 0, sizeof(*counts));
	if (!params)
		return wl_err_nomem(err, "options", 0);
	same = wl_stage_begin(&d.stage, c, "dedup", params, err);
	if (same != 0) {
		if (same > 0)
			counts_of_last_time(c, counts);
		ret = same;
		goto out;
	}
	d.pool = wl_pool_new((size_t)o->threads, 0, err);
	if (!d.pool)
		goto out;
	WL_TRY_OUT(sign_all(&d, err));
	ret = wl_stop_requested() ? 0 : decide(&d, err);
out:
	wl_pool_free(d.pool);
	wl_stage_end(&d.stage);
	free(d.m.v);
	free(d.image);
	free(d.group);
	free(d.dup);
	json_decref(params);
	return ret;
}

/*
 * The dedup stage from its beginning to its end; see dedup.h for what it decides.  The steps are
 * in dedup_store.c, dedup_find.c, dedup_judge.c and dedup_against.c.
 */
#include "clean/dedup_priv.h"

#include "clean/near.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>

enum {
	BYTES_A_PAIR = 200,
	FIXED_BYTES = 64 + 6 * 4, /* a member, and its sets */
	VECTOR_BYTES = 12,	  /* an embedding's row and hash */
};
enum { MEMORY_LEAST = 256 << 20, SHARE_LEAST = 1 << 12 };

static const char *const policy_names[] = {"image", "text", "pair"};
static const char *const against_names[] = {"image", "text", "either"};
static const char *const search_names[] = {"auto", "exact", "near"};
static const char *const duplicate_reasons[] = {
	"duplicate-image", "duplicate-text", "duplicate-pair"};

static int parse(const char *option, const char *const names[3], const char *s, struct wl_err *err)
{
	for (int i = 0; i < 3; i++)
		if (strcmp(s, names[i]) == 0)
			return i;
	return wl_err_set(err, WL_EUSAGE, "%s is \"%s\", expected %s, %s or %s.", option, s,
		names[0], names[1], names[2]);
}

int wl_dedup_policy_parse(const char *s, enum wl_dedup_policy *out, struct wl_err *err)
{
	int i = parse("--policy", policy_names, s, err);

	WL_TRY(i);
	*out = (enum wl_dedup_policy)i;
	return 0;
}

int wl_embedding_search_parse(
	const char *s, enum wl_embedding_search *out, struct wl_err *err)
{
	int i = parse("--embedding-search", search_names, s, err);

	WL_TRY(i);
	*out = (enum wl_embedding_search)i;
	return 0;
}

int wl_against_by_parse(const char *s, enum wl_against_by *out, struct wl_err *err)
{
	int i = parse("--against-by", against_names, s, err);

	WL_TRY(i);
	*out = (enum wl_against_by)i;
	return 0;
}

const char *dedup_reason(const struct dedup *d, const struct member *x)
{
	static const char *const names[] = {[REASON_BAD_IMAGE] = "bad-image",
		[REASON_NEAR_TEST] = "near-test",
		[REASON_NEAR_VAL] = "near-val",
		[REASON_NEAR_AGAINST] = "near-eval",
		[REASON_BANNER] = "banner-image",
		[REASON_TEMPLATE] = "template-text"};

	return x->reason == REASON_DUPLICATE ? duplicate_reasons[d->o->policy] : names[x->reason];
}

size_t dedup_memory(const struct dedup *d, int percent)
{
	int64_t all = d->o->memory_bytes, fixed = (int64_t)d->n * FIXED_BYTES, left;

	for (int side = 0; side < 2; side++)
		fixed += d->vectors[side].v ? (int64_t)d->n * VECTOR_BYTES : 0;

	if (!all)
		all = (int64_t)d->n * BYTES_A_PAIR > MEMORY_LEAST ? (int64_t)d->n * BYTES_A_PAIR
								  : MEMORY_LEAST;
	left = (all - fixed) * percent / 100;
	return left < SHARE_LEAST ? SHARE_LEAST : (size_t)left;
}

/* ---- parameters ---- */

/* What the likenesses depend on. */
static json_t *edge_params(const struct wl_dedup_options *o)
{
	json_t *v = json_pack("{s:i, s:i, s:f, s:i, s:b, s:b}", "image_radius", o->image_radius,
		"window_radius", o->window_radius, "text_jaccard", o->text_jaccard, "signature",
		WL_SIGNATURE_VERSION, "text",
		o->policy != WL_DEDUP_IMAGE || o->against_by != WL_AGAINST_IMAGE, "small_decode",
		o->small_decode);

	/* Not there where it was not before: what runs without embeddings wrote still holds. */
	if (v && o->n_embeddings &&
		(json_object_set_new(v, "embedding_cosine", json_real(o->embedding_cosine)) < 0 ||
			json_object_set_new(v, "embedding_text", json_real(o->embedding_text)) <
				0)) {
		json_decref(v);
		v = NULL;
	}
	return v;
}

/* Embeddings that were searched in another way may be alike without being known to be. */
char *dedup_edges_key(const struct dedup *d, struct wl_err *err)
{
	static const char *const keys[] = {"exact_images", "exact_texts"};
	json_t *v = edge_params(d->o);
	char *text;

	for (int side = 0; side < 2 && v; side++)
		if (d->vectors[side].v)
			json_object_set_new(v, keys[side], json_boolean(d->vectors[side].exact));
	text = v ? wl_json_text(v, err) : NULL;
	json_decref(v);
	return text;
}

static json_t *all_params(const struct dedup *d)
{
	const struct wl_dedup_options *o = d->o;
	json_t *v = edge_params(o), *prefer = json_array();

	for (size_t i = 0; prefer && i < o->n_prefer; i++)
		json_array_append_new(prefer, json_string(o->prefer[i]));
	if (!v || !prefer ||
		json_object_set_new(v, "policy", json_string(policy_names[o->policy])) < 0 ||
		json_object_set_new(v, "template", json_integer(o->template_images)) < 0 ||
		json_object_set_new(v, "banner", json_integer(o->banner_texts)) < 0 ||
		json_object_set_new(v, "against_by", json_string(against_names[o->against_by])) <
			0 ||
		json_object_set_new(v, "against", json_string(d->against_hash)) < 0 ||
		json_object_set(v, "prefer", prefer) < 0) {
		json_decref(v);
		v = NULL;
	}
	json_decref(prefer);
	if (v && o->n_embeddings &&
		(json_object_set_new(v, "embeddings", json_string(d->vectors_hash)) < 0 ||
			json_object_set_new(v, "embedding_search",
				json_string(search_names[o->embedding_search])) < 0)) {
		json_decref(v);
		v = NULL;
	}
	return v;
}

json_t *wl_dedup_counts_json(const struct wl_dedup_counts *c)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}",
		"pairs", (json_int_t)c->pairs, "kept", (json_int_t)c->kept, "duplicates",
		(json_int_t)c->duplicates, "near_eval", (json_int_t)c->near_eval, "near_against",
		(json_int_t)c->near_against, "templates", (json_int_t)c->templates, "banners",
		(json_int_t)c->banners, "bad_images", (json_int_t)c->bad_images, "image_sets",
		(json_int_t)c->image_sets, "alike_images", (json_int_t)c->alike_images,
		"alike_texts", (json_int_t)c->alike_texts, "cut", (json_int_t)c->cut, "against",
		(json_int_t)c->against, "embedded", (json_int_t)c->embedded, "embedded_images",
		(json_int_t)c->embedded_images, "embedded_texts", (json_int_t)c->embedded_texts);
}

static void counts_of_last_time(struct wl_corpus *c, struct wl_dedup_counts *out)
{
	const json_t *f = json_object_get(wl_corpus_stage_facts(c, "dedup"), "counts");
	const struct {
		const char *key;
		int64_t *to;
	} all[] = {{"pairs", &out->pairs}, {"kept", &out->kept}, {"duplicates", &out->duplicates},
		{"near_eval", &out->near_eval}, {"near_against", &out->near_against},
		{"templates", &out->templates}, {"banners", &out->banners},
		{"bad_images", &out->bad_images}, {"image_sets", &out->image_sets},
		{"alike_images", &out->alike_images}, {"alike_texts", &out->alike_texts},
		{"cut", &out->cut}, {"against", &out->against}, {"embedded", &out->embedded},
		{"embedded_images", &out->embedded_images},
		{"embedded_texts", &out->embedded_texts}};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		*all[i].to = json_integer_value(json_object_get(f, all[i].key));
}

/* ---- steps ---- */

/* One rank was asked to stop: all stop. */
static int agree_on_stop(struct dedup *d, bool *stop, struct wl_err *err)
{
	int64_t asked = wl_stop_requested();

	WL_TRY(wl_comm_all_reduce(d->comm, &asked, 1, WL_COMM_I64, WL_COMM_MAX, err));
	*stop = asked != 0;
	return 0;
}

static int sign_all(struct dedup *d, bool *stop, struct wl_err *err)
{
	struct wl_corpus *c = d->stage.corpus;
	struct wl_corpus_counts total;
	struct wl_text *tx = wl_text_open(err);
	struct wl_progress *progress = NULL;
	int ret = -1;

	if (!tx)
		return -1;
	WL_TRY_OUT(wl_corpus_count(c, &total, err));
	progress =
		wl_progress_new("dedup", "pairs", (uint64_t)(total.pairs / wl_comm_size(d->comm)));
	for (int p = 0; p < d->partitions && !wl_stop_requested(); p++)
		if (dedup_is_mine(d, p))
			WL_TRY_OUT(dedup_sign(d, tx, p, progress, err));
	WL_TRY_OUT(dedup_against_sign(d, tx, err));
	ret = agree_on_stop(d, stop, err);
out:
	wl_progress_free(progress);
	wl_text_close(tx);
	return ret;
}

static int rows_open(struct dedup *d, struct wl_err *err)
{
	struct wl_corpus_counts total;
	const char *dir = wl_corpus_dir(d->stage.corpus);

	/* What will be there, for the shares of memory. */
	WL_TRY(wl_corpus_count(d->stage.corpus, &total, err));
	d->n = (size_t)total.pairs;
	d->bands = wl_bands_for(d->o->text_jaccard > 0 ? d->o->text_jaccard : 1);
	d->text_slots = d->bands.bands > WL_TEXT_VARIANTS ? d->bands.bands : WL_TEXT_VARIANTS;
	wl_rows_init(&d->windows, sizeof(struct wl_windows), dedup_memory(d, 10), dir);
	wl_rows_init(&d->texts, sizeof(struct text_row) + (size_t)d->text_slots * sizeof(uint64_t),
		dedup_memory(d, 10), dir);
	d->n = 0;
	return 0;
}

/* All ranks' members in the order of partitions; base is known. */
static int gather_members(struct dedup *d, struct wl_err *err)
{
	size_t ranks = (size_t)wl_comm_size(d->comm), *bytes, total = d->base[d->partitions + 1];
	struct member *all, *m;
	void *in;
	int ret;

	if (ranks == 1)
		return 0;
	bytes = malloc(ranks * sizeof(*bytes));
	if (!bytes)
		return wl_err_nomem(err, "the pairs of a corpus", 0);
	ret = wl_comm_all_gatherv(d->comm, d->m, d->n * sizeof(*m), &in, bytes, err);
	if (ret < 0) {
		free(bytes);
		return -1;
	}
	free(d->m);
	d->m = NULL;
	m = malloc((total + 1) * sizeof(*m));
	all = in;
	for (size_t r = 0; m && r < ranks; r++)
		for (int p = 0; p <= d->partitions; p++)
			if (dedup_owner(d, p) == (int)r) {
				size_t n = d->base[p + 1] - d->base[p];
				if (n)
					memcpy(m + d->base[p], all, n * sizeof(*m));
				all += n;
			}
	free(in);
	free(bytes);
	d->m = m;
	d->n = d->cap = total;
	return m ? 0 : wl_err_nomem(err, "the pairs of a corpus", total * sizeof(*m));
}

static int own_indices(struct dedup *d, struct wl_err *err)
{
	size_t k = 0;

	d->own = malloc((d->n + 1) * sizeof(*d->own));
	if (!d->own)
		return wl_err_nomem(err, "the pairs of a rank", d->n * sizeof(*d->own));
	for (int p = 0; p <= d->partitions; p++)
		for (size_t i = d->base[p]; dedup_is_mine(d, p) && i < d->base[p + 1]; i++)
			d->own[k++] = (uint32_t)i;
	d->n_own = k;
	return 0;
}

static int load_all(struct dedup *d, struct wl_err *err)
{
	int last = d->o->n_against ? d->partitions : d->partitions - 1;
	uint64_t *size = calloc((size_t)d->partitions + 1, sizeof(*size));
	int ret = -1;

	if (!size)
		return wl_err_nomem(err, "partitions", 0);
	WL_TRY_OUT(rows_open(d, err));
	for (int p = 0; p <= last; p++) {
		size_t before = d->n;
		if (dedup_is_mine(d, p))
			WL_TRY_OUT(dedup_load(d, p, err));
		size[p] = d->n - before;
	}
	WL_TRY_OUT(wl_comm_all_reduce(
		d->comm, size, (size_t)d->partitions + 1, WL_COMM_U64, WL_COMM_SUM, err));
	for (int p = 0; p <= d->partitions; p++)
		d->base[p + 1] = d->base[p] + size[p];
	if (d->base[d->partitions + 1] >= UINT32_MAX) {
		wl_err_set(err, WL_EFAIL, "The corpus has %zu pairs; dedup takes up to %u.",
			d->base[d->partitions + 1], UINT32_MAX - 1);
		goto out;
	}
	WL_TRY_OUT(gather_members(d, err));
	ret = own_indices(d, err);
out:
	free(size);
	return ret;
}

static void forget_found(struct dedup *d)
{
	wl_values_release(&d->image_edges);
	wl_values_release(&d->text_edges);
	wl_values_release(&d->vectors[0].edges);
	wl_values_release(&d->vectors[1].edges);
	free(d->pixels);
	free(d->text);
	d->pixels = d->text = NULL;
}

/* Which pairs are old must be known everywhere: candidates meet on any rank. */
static int load_old(struct dedup *d, struct wl_err *err)
{
	uint8_t *old = calloc(d->n + 1, 1);
	int ret = -1;

	if (!old)
		return wl_err_nomem(err, "what the last run knew", d->n);
	for (int p = 0; p < d->partitions; p++)
		if (dedup_is_mine(d, p))
			WL_TRY_OUT(dedup_load_old(d, p, err));
	for (size_t i = 0; i < d->n; i++)
		old[i] = d->m[i].old;
	old[d->n] = d->vectors_changed;
	WL_TRY_OUT(wl_comm_all_reduce(d->comm, old, d->n + 1, WL_COMM_U8, WL_COMM_MAX, err));
	/* Likeness that rests on other vectors is none. */
	if (old[d->n])
		forget_found(d);
	for (size_t i = 0; i < d->n; i++)
		d->m[i].old = old[i] && !old[d->n];
	ret = 0;
out:
	free(old);
	return ret;
}

/* Groups too large to be compared all with all depend on who else is there: then what the last
 * run knew is no part of a run over everything, and all is looked for again. */
static int find_all(struct dedup *d, struct wl_err *err)
{
	bool reused;

	WL_TRY(load_old(d, err));
	reused = d->image_edges.n || d->text_edges.n;
	for (size_t i = 0; i < d->n && !reused; i++)
		reused = d->m[i].old;
	WL_TRY(dedup_find(d, err));
	if (!d->counts->cut || !reused)
		return 0;
	forget_found(d);
	d->counts->cut = 0;
	for (size_t i = 0; i < d->n; i++)
		d->m[i].old = false;
	return dedup_find(d, err);
}

static int publish(struct dedup *d, struct wl_err *err)
{
	json_t *counts;
	int ret;

	/* Nobody publishes before all have written. */
	WL_TRY(wl_comm_barrier(d->comm, err));
	if (wl_comm_rank(d->comm) == 0) {
		counts = wl_dedup_counts_json(d->counts);
		ret = counts ? wl_stage_publish(&d->stage, counts, err)
			     : wl_err_nomem(err, "counts", 0);
		json_decref(counts);
		WL_TRY(ret);
	}
	return wl_comm_barrier(d->comm, err);
}

static int run(struct dedup *d, struct wl_err *err)
{
	bool stop = false;

	WL_TRY(sign_all(d, &stop, err));
	if (stop)
		return 0;
	WL_TRY(load_all(d, err));
	if (d->o->n_embeddings)
		WL_TRY(dedup_vectors_open(d, err));
	WL_TRY(find_all(d, err));
	WL_TRY(dedup_judge(d, err));
	for (int p = 0; p < d->partitions; p++)
		if (dedup_is_mine(d, p))
			WL_TRY(dedup_write(d, p, err));
	return publish(d, err);
}

static int dedup_init(struct dedup *d, struct wl_corpus *c, struct wl_err *err)
{
	size_t p = (size_t)wl_corpus_partitions(c);

	d->partitions = (int)p;
	wl_rows_init(&d->windows, 1, 0, "");
	wl_rows_init(&d->texts, 1, 0, "");
	d->base = calloc(p + 2, sizeof(*d->base));
	d->db = calloc(p + 1, sizeof(*d->db));
	d->get = calloc(2 * (p + 1), sizeof(*d->get));
	if (!d->base || !d->db || !d->get)
		return wl_err_nomem(err, "partitions", p * sizeof(*d->db));
	d->pool = wl_pool_new((size_t)d->o->threads, 0, err);
	return d->pool ? 0 : -1;
}

static void dedup_release(struct dedup *d)
{
	dedup_close_dbs(d);
	forget_found(d);
	dedup_vectors_close(d);
	wl_rows_release(&d->windows);
	wl_rows_release(&d->texts);
	wl_pool_free(d->pool);
	free(d->m);
	free(d->base);
	free(d->own);
	free(d->image);
	free(d->group);
	free(d->names);
	free(d->names_block);
	free(d->db);
	free(d->get);
}

/* Of the files' contents, by one rank for all. */
static int vectors_hash(struct dedup *d, struct wl_err *err)
{
	const struct wl_vector_paths sets[WL_VECTORS_SETS] = {
		[WL_VECTORS_OWN] = {d->o->embeddings, d->o->n_embeddings},
		[WL_VECTORS_AGAINST] = {d->o->against_embeddings, d->o->n_against_embeddings}};

	if (!d->o->n_embeddings)
		return 0;
	if (wl_comm_rank(d->comm) == 0)
		WL_TRY(wl_vector_paths_hash(sets, d->vectors_hash, err));
	return wl_comm_broadcast(d->comm, d->vectors_hash, sizeof(d->vectors_hash), 0, err);
}

int wl_dedup_on(struct wl_comm *comm, struct wl_corpus *c, const struct wl_dedup_options *opts,
	struct wl_dedup_counts *counts, struct wl_err *err)
{
	struct wl_dedup_options o = *opts;
	struct dedup d = {.o = &o, .comm = comm, .counts = counts, .stage.lock = -1};
	json_t *params = NULL;
	int same, ret = -1;

	memset(counts, 0, sizeof(*counts));
	o.window_radius = o.window_radius ? o.window_radius : WL_DEDUP_WINDOW_RADIUS;
	o.text_jaccard = o.text_jaccard != 0 ? o.text_jaccard : WL_DEDUP_JACCARD;
	o.embedding_cosine = o.embedding_cosine != 0 ? o.embedding_cosine : WL_DEDUP_COSINE;
	WL_TRY(dedup_against_hash(&o, d.against_hash, err));
	WL_TRY(vectors_hash(&d, err));
	params = all_params(&d);
	if (!params)
		return wl_err_nomem(err, "options", 0);
	same = wl_stage_begin_on(&d.stage, comm, c, "dedup", params, err);
	if (same != 0) {
		if (same > 0)
			counts_of_last_time(c, counts);
		ret = same;
		goto out;
	}
	WL_TRY_OUT(dedup_init(&d, c, err));
	ret = run(&d, err);
out:
	dedup_release(&d);
	wl_stage_end(&d.stage);
	json_decref(params);
	return ret;
}

int wl_dedup(struct wl_corpus *c, const struct wl_dedup_options *o, struct wl_dedup_counts *counts,
	struct wl_err *err)
{
	return wl_dedup_on(NULL, c, o, counts, err);
}

/*
 * What follows from which pairs are alike: groups, and who stays.  Every rank does all of it, and
 * comes to the same result.
 */
#include "clean/dedup_priv.h"

#include "clean/near.h"

#include <stdlib.h>
#include <string.h>

struct judge {
	struct dedup *d;
	size_t n;			  /* pairs of the corpus: those of --against come behind */
	uint32_t *best;			  /* [d->n] by root: the best member that may stay */
	uint32_t *image_star, *text_star; /* [d->n] by root: the root that it is alike to */
};

static uint32_t *new_indices(size_t n, struct wl_err *err)
{
	uint32_t *v = malloc((n + 1) * sizeof(*v));

	if (!v)
		wl_err_nomem(err, "sets of pairs", n * sizeof(*v));
	else
		memset(v, 0xff, (n + 1) * sizeof(*v));
	return v;
}

/* ---- groups ---- */

static void flatten(uint32_t *parent, size_t n)
{
	for (uint32_t i = 0; i < n; i++)
		parent[i] = wl_sets_root(parent, i);
}

/* Renames each set after its member with the smallest id. */
static void name_by_id(const struct dedup *d, uint32_t *group, uint32_t *least, size_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t *l = &least[group[i]];
		if (*l == NOBODY || d->m[i].id < d->m[*l].id)
			*l = i;
	}
	for (uint32_t i = 0; i < n; i++)
		group[i] = least[group[i]];
}

static int make_groups(struct judge *j, struct wl_err *err)
{
	struct dedup *d = j->d;
	uint32_t *least;

	d->image = new_indices(d->n, err);
	d->group = new_indices(d->n, err);
	least = new_indices(d->n, err);
	if (!d->image || !d->group || !least) {
		free(least);
		return -1;
	}
	memcpy(d->image, d->pixels, d->n * sizeof(*d->image));
	for (size_t i = 0; i < d->image_edges.n; i++) {
		uint32_t a = (uint32_t)(d->image_edges.v[i] >> 32);
		uint32_t b = (uint32_t)d->image_edges.v[i];
		if (b < j->n) /* a < b */
			wl_sets_join(d->image, a, b);
	}
	flatten(d->image, d->n);
	memcpy(d->group, d->image, d->n * sizeof(*d->group));
	for (uint32_t i = 0; i < j->n; i++)
		wl_sets_join(d->group, i, d->text[i]);
	flatten(d->group, d->n);
	name_by_id(d, d->group, least, j->n);
	free(least);
	return 0;
}

/* ---- evaluation pairs ---- */

/* Test before val before --against; then the smaller id. */
static void mark(const struct dedup *d, uint32_t *at, uint32_t e)
{
	const struct member *x, *y;

	if (e == NOBODY)
		return;
	if (*at != NOBODY) {
		x = &d->m[*at];
		y = &d->m[e];
		if (x->eval > y->eval ||
			(x->eval == y->eval && (x->id < y->id || (x->id == y->id && *at < e))))
			return;
	}
	*at = e;
}

/* near[root]: the evaluation pair whose picture (or text) is alike. */
static int find_near(const struct dedup *d, const uint32_t *roots, const struct wl_values *edges,
	bool text, uint32_t *near, struct wl_err *err)
{
	uint32_t *own = new_indices(d->n, err);

	if (!own)
		return -1;
	for (uint32_t i = 0; i < d->n; i++) {
		const struct member *x = &d->m[i];
		bool counts = x->eval == EVAL_AGAINST ? d->o->against_by != (text ? WL_AGAINST_IMAGE
										  : WL_AGAINST_TEXT)
						      : x->eval != EVAL_NONE && !text;
		if (counts && (text ? x->has_text : x->has_image))
			mark(d, &own[roots[i]], i);
	}
	memcpy(near, own, d->n * sizeof(*near));
	for (size_t i = 0; i < edges->n; i++) {
		uint32_t a = (uint32_t)(edges->v[i] >> 32), b = (uint32_t)edges->v[i];
		mark(d, &near[a], own[b]);
		mark(d, &near[b], own[a]);
	}
	free(own);
	return 0;
}

static void judge_one(struct dedup *d, uint32_t i, uint32_t by_image, uint32_t by_text)
{
	struct member *x = &d->m[i];
	uint32_t e = by_image;

	if (!x->has_image) {
		x->reason = REASON_BAD_IMAGE;
		d->counts->bad_images++;
		return;
	}
	if (e == NOBODY && x->has_text)
		e = by_text;
	if (x->eval != EVAL_NONE || e == NOBODY)
		return;
	x->kept = e;
	x->reason = d->m[e].eval == EVAL_TEST  ? REASON_NEAR_TEST
		    : d->m[e].eval == EVAL_VAL ? REASON_NEAR_VAL
					       : REASON_NEAR_AGAINST;
	if (x->reason == REASON_NEAR_AGAINST)
		d->counts->near_against++;
	else
		d->counts->near_eval++;
}

static int judge_eval(struct judge *j, struct wl_err *err)
{
	struct dedup *d = j->d;
	uint32_t *image = new_indices(d->n, err), *text = new_indices(d->n, err);
	int ret = -1;

	if (!image || !text)
		goto out;
	WL_TRY_OUT(find_near(d, d->pixels, &d->image_edges, false, image, err));
	WL_TRY_OUT(find_near(d, d->text, &d->text_edges, true, text, err));
	for (uint32_t i = 0; i < j->n; i++)
		judge_one(d, i, image[d->pixels[i]], text[d->text[i]]);
	ret = 0;
out:
	free(image);
	free(text);
	return ret;
}

/* ---- templates and banners ---- */

/* count[a]: with how many different b it occurs. */
static int count_pairs(const struct judge *j, const uint32_t *a, const uint32_t *b, uint32_t *count,
	struct wl_err *err)
{
	struct wl_values v = {0};

	for (uint32_t i = 0; i < j->n; i++)
		if (j->d->m[i].has_text && j->d->m[i].has_image)
			wl_values_add(&v, (uint64_t)a[i] << 32 | b[i]);
	if (v.no_memory) {
		wl_values_release(&v);
		return wl_err_nomem(err, "texts by picture", v.cap * sizeof(*v.v));
	}
	wl_values_unique(&v);
	memset(count, 0, j->d->n * sizeof(*count));
	for (size_t i = 0; i < v.n; i++)
		count[v.v[i] >> 32]++;
	wl_values_release(&v);
	return 0;
}

static int judge_many(struct judge *j, const uint32_t *a, const uint32_t *b, int64_t most,
	uint8_t reason, int64_t *counter, struct wl_err *err)
{
	uint32_t *count;
	int ret = -1;

	if (most <= 0)
		return 0;
	count = new_indices(j->d->n, err);
	if (!count)
		return -1;
	WL_TRY_OUT(count_pairs(j, a, b, count, err));
	for (uint32_t i = 0; i < j->n; i++) {
		struct member *x = &j->d->m[i];
		if (x->reason != REASON_NONE || x->eval != EVAL_NONE || !x->has_text ||
			count[a[i]] <= most)
			continue;
		x->reason = reason;
		x->kept = count[a[i]];
		++*counter;
	}
	ret = 0;
out:
	free(count);
	return ret;
}

/* ---- duplicates ---- */

/* Whether a is the better one to keep. */
static bool better(const struct member *a, const struct member *b)
{
	uint64_t ta = a->fetched_at > 0 ? (uint64_t)a->fetched_at : UINT64_MAX;
	uint64_t tb = b->fetched_at > 0 ? (uint64_t)b->fetched_at : UINT64_MAX;

	if (a->area != b->area)
		return a->area > b->area;
	if (a->words != b->words)
		return a->words > b->words;
	if (a->prefer != b->prefer)
		return a->prefer < b->prefer;
	if (ta != tb)
		return ta < tb;
	if (a->id != b->id)
		return a->id < b->id;
	return a->partition < b->partition;
}

static bool may_stay(const struct member *x, bool text)
{
	return x->reason == REASON_NONE && x->eval == EVAL_NONE && (!text || x->has_text);
}

static void find_best(struct judge *j, const uint32_t *roots, bool text)
{
	const struct member *m = j->d->m;

	memset(j->best, 0xff, j->d->n * sizeof(*j->best));
	for (uint32_t i = 0; i < j->n; i++) {
		uint32_t *b = &j->best[roots[i]];
		if (may_stay(&m[i], text) && (*b == NOBODY || better(&m[i], &m[*b])))
			*b = i;
	}
}

struct node {
	const struct member *best;
	uint32_t root;
};

static int by_quality(const void *p, const void *q)
{
	const struct node *a = p, *b = q;

	return a->best == b->best ? 0 : better(a->best, b->best) ? -1 : 1;
}

struct star {
	struct node *nodes;
	size_t n;
	size_t *first;	/* [d->n + 1] a root's neighbours begin here */
	uint32_t *near; /* the neighbours */
};

/* Edges both of whose ends have a member that may stay. */
static int star_open(
	struct star *s, const struct judge *j, const struct wl_values *edges, struct wl_err *err)
{
	size_t n = j->d->n, *fill;

	memset(s, 0, sizeof(*s));
	s->first = calloc(n + 2, sizeof(*s->first));
	s->near = malloc((2 * edges->n + 1) * sizeof(*s->near));
	s->nodes = malloc((2 * edges->n + 1) * sizeof(*s->nodes));
	if (!s->first || !s->near || !s->nodes)
		return wl_err_nomem(err, "pairs that are alike", n * sizeof(*s->first));
	fill = s->first + 1; /* filling moves each start to its end, that is one on */
	for (size_t i = 0; i < edges->n; i++) {
		uint32_t a = (uint32_t)(edges->v[i] >> 32), b = (uint32_t)edges->v[i];
		if (j->best[a] == NOBODY || j->best[b] == NOBODY)
			continue;
		fill[a + 1]++;
		fill[b + 1]++;
	}
	for (uint32_t i = 0; i < n; i++) {
		if (fill[i + 1])
			s->nodes[s->n++] = (struct node){&j->d->m[j->best[i]], i};
		fill[i + 1] += fill[i];
	}
	for (size_t i = 0; i < edges->n; i++) {
		uint32_t a = (uint32_t)(edges->v[i] >> 32), b = (uint32_t)edges->v[i];
		if (j->best[a] == NOBODY || j->best[b] == NOBODY)
			continue;
		s->near[fill[a]++] = b;
		s->near[fill[b]++] = a;
	}
	return 0;
}

/* The best of all stands for its neighbours, the best of the rest for its own, and so on: so
 * nobody is represented by one that he is not alike to. */
static int find_stars(struct judge *j, const uint32_t *roots, const struct wl_values *edges,
	bool text, uint32_t *star, struct wl_err *err)
{
	struct star s;
	int ret = -1;

	find_best(j, roots, text);
	memset(star, 0xff, j->d->n * sizeof(*star));
	WL_TRY_OUT(star_open(&s, j, edges, err));
	if (s.n)
		qsort(s.nodes, s.n, sizeof(*s.nodes), by_quality);
	for (size_t k = 0; k < s.n; k++) {
		uint32_t r = s.nodes[k].root;
		if (star[r] != NOBODY)
			continue;
		star[r] = r;
		for (size_t i = s.first[r]; i < s.first[r + 1]; i++)
			if (star[s.near[i]] == NOBODY)
				star[s.near[i]] = r;
	}
	for (uint32_t i = 0; i < j->d->n; i++)
		if (star[i] == NOBODY)
			star[i] = i;
	ret = 0;
out:
	free(s.nodes);
	free(s.first);
	free(s.near);
	return ret;
}

static void drop(struct judge *j, uint32_t i, uint32_t kept)
{
	struct member *x = &j->d->m[i];

	x->reason = REASON_DUPLICATE;
	x->kept = kept;
	j->d->counts->duplicates++;
}

/* One kind decides. */
static int judge_single(struct judge *j, bool text, struct wl_err *err)
{
	struct dedup *d = j->d;
	const uint32_t *roots = text ? d->text : d->pixels;
	uint32_t *star = text ? j->text_star : j->image_star;

	WL_TRY(find_stars(j, roots, text ? &d->text_edges : &d->image_edges, text, star, err));
	for (uint32_t i = 0; i < j->n; i++) {
		uint32_t b = j->best[star[roots[i]]];
		if (may_stay(&d->m[i], text) && b != i)
			drop(j, i, b);
	}
	return 0;
}

struct both {
	uint64_t key;
	const struct member *x;
};

static int by_both(const void *p, const void *q)
{
	const struct both *a = p, *b = q;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return a->x == b->x ? 0 : better(a->x, b->x) ? -1 : 1;
}

/* Alike in picture and in text; those without any letters are alike in having none. */
static int judge_both(struct judge *j, struct wl_err *err)
{
	struct dedup *d = j->d;
	struct both *v;
	size_t n = 0;

	WL_TRY(find_stars(j, d->pixels, &d->image_edges, false, j->image_star, err));
	WL_TRY(find_stars(j, d->text, &d->text_edges, true, j->text_star, err));
	v = malloc((j->n + 1) * sizeof(*v));
	if (!v)
		return wl_err_nomem(err, "sets of pairs", j->n * sizeof(*v));
	for (uint32_t i = 0; i < j->n; i++) {
		uint32_t t = d->m[i].has_text ? j->text_star[d->text[i]] : NOBODY;
		if (may_stay(&d->m[i], false))
			v[n++] = (struct both){
				(uint64_t)j->image_star[d->pixels[i]] << 32 | t, &d->m[i]};
	}
	if (n)
		qsort(v, n, sizeof(*v), by_both);
	for (size_t i = 1, first = 0; i < n; i++) {
		if (v[i].key != v[first].key)
			first = i;
		else
			drop(j, (uint32_t)(v[i].x - d->m), (uint32_t)(v[first].x - d->m));
	}
	free(v);
	return 0;
}

static int judge_duplicates(struct judge *j, struct wl_err *err)
{
	j->best = new_indices(j->d->n, err);
	j->image_star = new_indices(j->d->n, err);
	j->text_star = new_indices(j->d->n, err);
	if (!j->best || !j->image_star || !j->text_star)
		return -1;
	if (j->d->o->policy == WL_DEDUP_PAIR)
		return judge_both(j, err);
	return judge_single(j, j->d->o->policy == WL_DEDUP_TEXT, err);
}

static int count_all(struct judge *j, struct wl_err *err)
{
	struct dedup *d = j->d;
	uint32_t *size = new_indices(d->n, err);

	if (!size)
		return -1;
	memset(size, 0, d->n * sizeof(*size));
	for (size_t i = 0; i < j->n; i++) {
		d->counts->kept += d->m[i].reason == REASON_NONE;
		d->counts->image_sets += ++size[d->image[i]] == 2;
	}
	d->counts->pairs = (int64_t)j->n;
	d->counts->against = (int64_t)(d->n - j->n);
	d->counts->alike_images = (int64_t)d->image_edges.n;
	d->counts->alike_texts = (int64_t)d->text_edges.n;
	free(size);
	return 0;
}

int dedup_judge(struct dedup *d, struct wl_err *err)
{
	struct judge j = {.d = d, .n = d->base[d->partitions]};
	int ret = -1;

	WL_TRY_OUT(make_groups(&j, err));
	WL_TRY_OUT(judge_eval(&j, err));
	WL_TRY_OUT(judge_many(&j, d->image, d->text, d->o->banner_texts, REASON_BANNER,
		&d->counts->banners, err));
	WL_TRY_OUT(judge_many(&j, d->text, d->image, d->o->template_images, REASON_TEMPLATE,
		&d->counts->templates, err));
	WL_TRY_OUT(judge_duplicates(&j, err));
	ret = count_all(&j, err);
out:
	free(j.best);
	free(j.image_star);
	free(j.text_star);
	return ret;
}

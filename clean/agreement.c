/*
 * Agreement of picture and text (rules.h): what each source's lowest score is, and what the rules
 * say of a pair's.
 *
 * Models give captions, headlines and posts scores of different sizes, so the lowest share is
 * taken of each source by itself, unless the rules say "by: all".
 */
#include "clean/agreement.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct source_scores {
	char *source;
	double *v;
	size_t n, cap;
};

/* All sources of a corpus with the scores of their pairs. */
struct by_source {
	json_t *number; /* {source: its place in v} */
	struct source_scores *v;
	size_t n;
};

static void by_source_release(struct by_source *b)
{
	for (size_t i = 0; i < b->n; i++) {
		free(b->v[i].source);
		free(b->v[i].v);
	}
	free(b->v);
	json_decref(b->number);
}

static int nomem(struct wl_err *err, size_t n)
{
	return wl_err_nomem(err, "scores by source", n);
}

static struct source_scores *scores_of(struct by_source *b, const char *source, struct wl_err *err)
{
	const json_t *at = json_object_get(b->number, source);
	struct source_scores *p;

	if (at)
		return &b->v[json_integer_value(at)];
	p = realloc(b->v, (b->n + 1) * sizeof(*p));
	if (p)
		b->v = p;
	if (!p || json_object_set_new(b->number, source, json_integer((json_int_t)b->n)) < 0) {
		nomem(err, (b->n + 1) * sizeof(*p));
		return NULL;
	}
	p = &b->v[b->n++];
	*p = (struct source_scores){.source = strdup(source)};
	if (!p->source) {
		nomem(err, strlen(source));
		return NULL;
	}
	return p;
}

static int add_score(struct by_source *b, const char *source, double score, struct wl_err *err)
{
	struct source_scores *s = scores_of(b, source, err);

	if (!s)
		return -1;
	if (s->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 256;
		double *p = realloc(s->v, cap * sizeof(*p));
		if (!p)
			return nomem(err, cap * sizeof(*p));
		s->v = p;
		s->cap = cap;
	}
	s->v[s->n++] = score;
	return 0;
}

static int collect(struct by_source *b, const struct wl_scores *scores, struct wl_corpus *c,
	struct wl_err *err)
{
	for (int p = 0; p < wl_corpus_partitions(c); p++) {
		struct wl_pair_cursor *cur = wl_pairs_open(c, p, err);
		struct wl_pair pair;
		double score;
		int row = -1, ret = 0;

		while (cur && ret == 0 && (row = wl_pairs_next(cur, &pair, err)) > 0)
			if (wl_scores_get(scores, pair.id, &score))
				ret = add_score(b, pair.source, score, err);
		wl_pairs_close(cur);
		if (row < 0 || ret < 0)
			return -1;
	}
	return 0;
}

static int by_value(const void *p, const void *q)
{
	double a = *(const double *)p, b = *(const double *)q;

	return (a > b) - (a < b);
}

/* The bounds of all sources that have a quantile: they are part of what verdicts depend on. */
static int find_lowest(struct wl_rules *r, struct by_source *b, struct wl_err *err)
{
	for (size_t i = 0; i < b->n; i++) {
		struct source_scores *s = &b->v[i];
		const struct agreement_rules *a = &wl_rules_of_source(r, s->source)->agreement;
		double lowest;
		if (a->quantile <= 0)
			continue;
		qsort(s->v, s->n, sizeof(*s->v), by_value);
		lowest = a->by_all ? wl_scores_quantile(r->scores, a->quantile)
				   : wl_quantile(s->v, s->n, a->quantile);
		if (json_object_set_new(r->lowest, s->source, json_real(lowest)) < 0)
			return nomem(err, strlen(s->source));
	}
	return 0;
}

int wl_rules_use_scores(
	struct wl_rules *r, const struct wl_scores *scores, struct wl_corpus *c, struct wl_err *err)
{
	struct by_source b = {0};
	bool on = false, quantile = false;
	int ret = -1;

	for (size_t i = 0; i < r->n_sources; i++) {
		on |= r->sources[i].agreement.on;
		quantile |= r->sources[i].agreement.quantile > 0;
	}
	if (!on && !scores)
		return 0;
	if (!scores)
		return wl_err_set(err, WL_EUSAGE,
			"The rules have an \"agreement\" section; give the scores it judges by "
			"--scores FILE or --score-model CKPT, or take it out.");
	if (!on)
		return wl_err_set(err, WL_EUSAGE,
			"There are scores (--scores, --score-model), but the rules do not say what "
			"to do with them; add \"agreement: {drop_lowest: 0.1}\" or the like.");
	r->scores = scores;
	json_decref(r->lowest);
	r->lowest = json_object();
	b.number = json_object();
	if (!r->lowest || !b.number) {
		nomem(err, 0);
		goto out;
	}
	if (quantile && (collect(&b, scores, c, err) < 0 || find_lowest(r, &b, err) < 0))
		goto out;
	if (json_object_set_new(r->params, "scores", json_string(wl_scores_hash(scores))) < 0 ||
		json_object_set(r->params, "lowest_scores", r->lowest) < 0) {
		nomem(err, 0);
		goto out;
	}
	ret = 0;
out:
	by_source_release(&b);
	return ret;
}

struct wl_agreement wl_agreement_of(const struct wl_rules *r, const char *source, int64_t pair_id)
{
	const struct agreement_rules *a = &wl_rules_of_source(r, source)->agreement;
	struct wl_agreement g = {.least = a->min, .most = a->max};
	const json_t *lowest;

	if (!r->scores)
		return g;
	lowest = json_object_get(r->lowest, source);
	if (lowest && a->quantile > 0 && json_real_value(lowest) > g.least)
		g.least = json_real_value(lowest);
	g.known = wl_scores_get(r->scores, pair_id, &g.score);
	g.missed = !g.known && a->missing_drops;
	return g;
}

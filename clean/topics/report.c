/* See report.h. */
#include "clean/topics/report.h"

#include "clean/pairtext.h"
#include "clean/topics/labels.h"
#include "clean/topics/topics.h"
#include "ops/file.h"
#include "ops/html.h"
#include "ops/progress.h"

#include <stdlib.h>
#include <string.h>

enum { EXAMPLES = 4, TEXT_BYTES = 150 };

struct example {
	double share;
	char text[TEXT_BYTES + 4];
};

struct topic {
	int64_t pairs; /* of those looked at */
	struct example v[EXAMPLES];
	int n;
};

struct page {
	struct wl_html html;
	const struct wl_topic_models *models;
	const struct wl_topics *topics;
	const json_t *labels;
	struct topic **topic; /* by model: [topics] */
	int64_t looked_at, without;
};

/* ---- examples ---- */

static void keep_example(struct topic *t, double share, const char *text)
{
	size_t n = strlen(text);
	int i = t->n < EXAMPLES ? t->n++ : EXAMPLES;

	if (i == EXAMPLES && share <= t->v[--i].share)
		return;
	for (; i > 0 && share > t->v[i - 1].share; i--)
		t->v[i] = t->v[i - 1];
	t->v[i].share = share;
	if (n > TEXT_BYTES) {
		n = TEXT_BYTES;
		while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
			n--;
	}
	memcpy(t->v[i].text, text, n);
	strcpy(t->v[i].text + n, strlen(text) > n ? "…" : "");
}

/* [[kind, text], ...] normalised, as the filter gives them. */
static json_t *normalised(const struct wl_text *tx, const struct wl_pair *p, struct wl_err *err)
{
	json_t *out = json_array();
	struct wl_pairtext t;
	char name[WL_PAIR_NAME];
	struct wl_buf b;
	int ret = 0;

	wl_buf_init(&b, 4 * (size_t)WL_TEXT_MAX_BYTES);
	wl_pair_name(p->partition, p->id, name);
	if (!out || wl_pairtext_parse(&t, p->texts, name, err) < 0) {
		json_decref(out);
		return NULL;
	}
	for (size_t i = 0; i < t.n && ret == 0; i++) {
		ret = wl_text_normalise(tx, p->source, t.v[i].text, t.v[i].len, 0, &b, NULL, err);
		if (ret == 0 && b.len)
			json_array_append_new(
				out, json_pack("[s, s%]", t.v[i].kind, wl_buf_str(&b), b.len));
	}
	wl_pairtext_release(&t);
	wl_buf_release(&b);
	if (ret < 0) {
		json_decref(out);
		return NULL;
	}
	return out;
}

static struct topic *topic_at(const struct page *g, const char *source, int topic)
{
	size_t all = g->models->n;

	for (size_t i = 0; i < g->models->n; i++) {
		if (strcmp(g->models->v[i].source, source) == 0)
			return &g->topic[i][topic];
		if (strcmp(g->models->v[i].source, "*") == 0)
			all = i;
	}
	return all < g->models->n ? &g->topic[all][topic] : NULL;
}

static int look_at(
	struct page *g, const struct wl_text *tx, const struct wl_pair *p, struct wl_err *err)
{
	json_t *texts = normalised(tx, p, err);
	struct wl_topic_of of;
	struct topic *t;
	int ret = texts ? wl_topics_of(g->topics, p->source, texts, &of, err) : -1;

	g->looked_at++;
	if (ret == 0) {
		t = of.topic < 0 ? NULL : topic_at(g, p->source, of.topic);
		if (t) {
			const char *s =
				json_string_value(json_array_get(json_array_get(texts, 0), 1));
			t->pairs++;
			keep_example(t, of.share, s ? s : "");
		} else {
			g->without++;
		}
	}
	json_decref(texts);
	return ret;
}

static int walk(struct page *g, struct wl_corpus *c, const struct wl_text *tx, int64_t max_pairs,
	struct wl_err *err)
{
	struct wl_progress *progress = wl_progress_new("topics: report", "pairs", 0);
	struct wl_pair_cursor *cur = NULL;
	struct wl_pair pair;
	int row, ret = -1;

	for (int p = 0; p < wl_corpus_partitions(c) && g->looked_at < max_pairs; p++) {
		cur = wl_pairs_open(c, p, err);
		if (!cur)
			goto out;
		while (g->looked_at < max_pairs && (row = wl_pairs_next(cur, &pair, err)) != 0) {
			WL_TRY_OUT(row);
			WL_TRY_OUT(look_at(g, tx, &pair, err));
			wl_progress_add(progress, 1);
		}
		wl_pairs_close(cur);
		cur = NULL;
	}
	ret = 0;
out:
	wl_pairs_close(cur);
	wl_progress_free(progress);
	return ret;
}

/* ---- the page ---- */

static double number(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

static void join(const json_t *words, char *out, size_t size)
{
	size_t at = 0, i;
	json_t *w;

	out[0] = 0;
	json_array_foreach(words, i, w) if (at + json_string_length(w) + 2 < size) at +=
		(size_t)snprintf(out + at, size - at, "%s%s", i ? " " : "", json_string_value(w));
}

struct line {
	int k;
	int64_t docs;
};

static int by_docs(const void *p, const void *q)
{
	const struct line *a = p, *b = q;

	if (a->docs != b->docs)
		return a->docs > b->docs ? -1 : 1;
	return a->k - b->k;
}

static int draw_bar(struct wl_html *h, int64_t docs, int64_t most, bool drop, struct wl_err *err)
{
	char bar[240];

	snprintf(bar, sizeof(bar),
		"<svg width=\"300\" height=\"10\" role=\"img\"><rect width=\"%lld\" height=\"10\" "
		"fill=\"%s\"/></svg>",
		(long long)(most ? 300 * docs / most : 0), drop ? "#b33" : "#393");
	return wl_html_raw(h, bar, err);
}

static int draw_topic(struct page *g, size_t i, int k, int64_t most, struct wl_err *err)
{
	const struct wl_topic_model *m = &g->models->v[i];
	const json_t *f = json_array_get(json_object_get(m->facts, "topics"), (size_t)k);
	struct wl_topic_label l = wl_topic_labels_get(g->labels, m->source, k);
	const struct topic *t = &g->topic[i][k];
	struct wl_html *h = &g->html;
	char line[1200];

	snprintf(line, sizeof(line), "Topic %d: %s%s%s", k, l.drop ? "drop" : "keep",
		l.category ? ", " : "", l.category ? l.category : "");
	WL_TRY(wl_html_heading(h, 3, line, err));
	WL_TRY(draw_bar(h, (int64_t)number(f, "docs"), most, l.drop, err));
	snprintf(line, sizeof(line),
		"%.0f documents, %.0f words; coherence %.3f, entropy %.3f; %lld of the pairs "
		"looked "
		"at.",
		number(f, "docs"), number(f, "tokens"), number(f, "coherence"),
		number(f, "entropy"), (long long)t->pairs);
	WL_TRY(wl_html_para(h, line, err));
	strcpy(line, "Likely: ");
	join(json_object_get(f, "likely"), line + 8, sizeof(line) - 8);
	WL_TRY(wl_html_para(h, line, err));
	strcpy(line, "Relevant: ");
	join(json_object_get(f, "relevant"), line + 10, sizeof(line) - 10);
	WL_TRY(wl_html_para(h, line, err));
	if (!t->n)
		return 0;
	WL_TRY(wl_html_raw(h, "<ul>", err));
	for (int e = 0; e < t->n; e++) {
		snprintf(line, sizeof(line), "%.2f: %s", t->v[e].share, t->v[e].text);
		WL_TRY(wl_html_raw(h, "<li>", err));
		WL_TRY(wl_html_text(h, line, err));
		WL_TRY(wl_html_raw(h, "</li>", err));
	}
	return wl_html_raw(h, "</ul>", err);
}

static int draw_model(struct page *g, size_t i, struct wl_err *err)
{
	const struct wl_topic_model *m = &g->models->v[i];
	int K = m->lda.topics, dropped = 0, ret = -1;
	struct line *v = calloc((size_t)K, sizeof(*v));
	int64_t dropped_pairs = 0, pairs = 0;
	char line[400];

	if (!v)
		return wl_err_nomem(err, "a report", (size_t)K * sizeof(*v));
	for (int k = 0; k < K; k++) {
		const json_t *f = json_array_get(json_object_get(m->facts, "topics"), (size_t)k);
		bool drop = wl_topic_labels_get(g->labels, m->source, k).drop;
		v[k] = (struct line){k, (int64_t)number(f, "docs")};
		dropped += drop;
		pairs += g->topic[i][k].pairs;
		dropped_pairs += drop ? g->topic[i][k].pairs : 0;
	}
	qsort(v, (size_t)K, sizeof(*v), by_docs);
	WL_TRY_OUT(wl_html_heading(&g->html, 2, m->source, err));
	snprintf(line, sizeof(line),
		"%d topics, %d dropped, over %.0f documents with %.0f words of a vocabulary of "
		"%.0f; "
		"perplexity of held-out texts %.1f. Of %lld pairs looked at, %lld are of dropped "
		"topics.",
		K, dropped, number(m->facts, "docs"), number(m->facts, "tokens"),
		number(m->facts, "words"), number(m->facts, "perplexity"), (long long)pairs,
		(long long)dropped_pairs);
	WL_TRY_OUT(wl_html_para(&g->html, line, err));
	for (int k = 0; k < K; k++)
		WL_TRY_OUT(draw_topic(g, i, v[k].k, v[0].docs, err));
	ret = 0;
out:
	free(v);
	return ret;
}

static int draw(struct page *g, const char *path, struct wl_err *err)
{
	char line[160];

	WL_TRY(wl_html_init(&g->html, "Topics", err));
	if (g->looked_at) {
		snprintf(line, sizeof(line),
			"%lld pairs looked at; %lld of them have no topic (no model for the "
			"source, "
			"or no word of its vocabulary).",
			(long long)g->looked_at, (long long)g->without);
		WL_TRY(wl_html_para(&g->html, line, err));
	}
	for (size_t i = 0; i < g->models->n; i++)
		WL_TRY(draw_model(g, i, err));
	return wl_html_save(&g->html, path, err);
}

int wl_topics_report(struct wl_corpus *c, const struct wl_text *text, const char *dir,
	const char *labels, int64_t max_pairs, const char *path, struct wl_err *err)
{
	char *at = labels ? wl_strf(err, "%s", labels) : wl_path_join(dir, "labels.yaml", err);
	struct wl_topics *topics = NULL;
	struct wl_topic_models m = {0};
	struct page g = {.models = &m};
	json_t *l = NULL;
	int ret = -1;

	if (!at)
		return -1;
	WL_TRY_OUT(wl_topic_models_load(&m, dir, false, err));
	l = wl_topic_labels_load(&m, at, err);
	g.topic = calloc(m.n + 1, sizeof(*g.topic));
	for (size_t i = 0; l && g.topic && i < m.n; i++)
		if (!(g.topic[i] = calloc((size_t)m.v[i].lda.topics, sizeof(**g.topic))))
			goto out;
	if (!l || !g.topic)
		goto out;
	g.labels = l;
	if (c) {
		topics = wl_topics_open(dir, labels, err);
		g.topics = topics;
		if (!topics || walk(&g, c, text, max_pairs, err) < 0)
			goto out;
	}
	ret = draw(&g, path, err);
out:
	for (size_t i = 0; g.topic && i < m.n; i++)
		free(g.topic[i]);
	free(g.topic);
	json_decref(l);
	wl_topics_close(topics);
	wl_topic_models_release(&m);
	wl_html_release(&g.html);
	free(at);
	return ret;
}

/* See topics.h. */
#include "clean/topics/topics.h"

#include "clean/topics/labels.h"
#include "ops/file.h"
#include "ops/hash.h"

#include <stdlib.h>
#include <string.h>

struct wl_topics {
	struct wl_topic_models models;
	struct wl_phi *phi;	 /* by model */
	struct wl_topic_label **label; /* by model: [topics] */
	struct wl_segment *segment;
	json_t *labels;
	char labels_id[65];
};

static int open_labels(struct wl_topics *t, const char *path, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];

	t->labels = wl_topic_labels_load(&t->models, path, err);
	if (!t->labels)
		return -1;
	WL_TRY(wl_sha256_file(path, digest, err));
	wl_hex(digest, sizeof(digest), t->labels_id);
	for (size_t i = 0; i < t->models.n; i++) {
		struct wl_topic_model *m = &t->models.v[i];
		t->label[i] = calloc((size_t)m->lda.topics, sizeof(**t->label));
		if (!t->label[i])
			return wl_err_nomem(err, "labels of topics", (size_t)m->lda.topics);
		for (int k = 0; k < m->lda.topics; k++)
			t->label[i][k] = wl_topic_labels_get(t->labels, m->source, k);
	}
	return 0;
}

static int open_all(struct wl_topics *t, const char *dir, const char *labels, struct wl_err *err)
{
	char *path = labels ? wl_strf(err, "%s", labels) : wl_path_join(dir, "labels.yaml", err);
	int ret = -1;

	if (!path)
		return -1;
	WL_TRY_OUT(wl_topic_models_load(&t->models, dir, true, err));
	t->phi = calloc(t->models.n + 1, sizeof(*t->phi));
	t->label = calloc(t->models.n + 1, sizeof(*t->label));
	if (!t->phi || !t->label) {
		wl_err_nomem(err, "topic models", t->models.n * sizeof(*t->phi));
		goto out;
	}
	for (size_t i = 0; i < t->models.n; i++) {
		WL_TRY_OUT(wl_phi_init(&t->phi[i], &t->models.v[i].lda, err));
		free(t->models.v[i].lda.count); /* phi has it */
		t->models.v[i].lda.count = NULL;
	}
	WL_TRY_OUT(open_labels(t, path, err));
	t->segment = wl_topic_models_segment(&t->models, dir, err);
	ret = t->segment ? 0 : -1;
out:
	free(path);
	return ret;
}

struct wl_topics *wl_topics_open(const char *dir, const char *labels, struct wl_err *err)
{
	struct wl_topics *t = calloc(1, sizeof(*t));

	if (!t)
		wl_err_nomem(err, "topics", sizeof(*t));
	else if (open_all(t, dir, labels, err) == 0)
		return t;
	wl_topics_close(t);
	return NULL;
}

void wl_topics_close(struct wl_topics *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->models.n; i++) {
		if (t->phi)
			wl_phi_release(&t->phi[i]);
		if (t->label)
			free(t->label[i]);
	}
	free(t->phi);
	free(t->label);
	json_decref(t->labels);
	wl_segment_close(t->segment);
	wl_topic_models_release(&t->models);
	free(t);
}

json_t *wl_topics_params(const struct wl_topics *t, struct wl_err *err)
{
	json_t *o = json_pack("{s:s, s:s}", "models", t->models.id, "labels", t->labels_id);

	if (!o)
		wl_err_nomem(err, "topics", 0);
	return o;
}

/* ---- a pair ---- */

struct words {
	const struct wl_terms *terms;
	uint32_t *v;
	size_t n, cap;
};

static int add_word(void *user, const char *word, size_t n, struct wl_err *err)
{
	struct words *w = user;
	int64_t id = wl_terms_find(w->terms, word, n);

	if (id < 0)
		return 0;
	if (w->n == w->cap) {
		size_t cap = 2 * w->cap + 64;
		uint32_t *v = realloc(w->v, cap * sizeof(*v));
		if (!v)
			return wl_err_nomem(err, "a pair's words", cap * sizeof(*v));
		w->v = v;
		w->cap = cap;
	}
	w->v[w->n++] = (uint32_t)id;
	return 0;
}

/* The source's own model, else the one of all sources; -1: none. */
static int model_of(const struct wl_topics *t, const char *source)
{
	int all = -1;

	for (size_t i = 0; i < t->models.n; i++) {
		if (strcmp(t->models.v[i].source, source) == 0)
			return (int)i;
		if (strcmp(t->models.v[i].source, "*") == 0)
			all = (int)i;
	}
	return all;
}

/* The vocabulary is without stop words and short ones already. */
static int read_words(const struct wl_topics *t, const json_t *texts, struct words *w,
	struct wl_err *err)
{
	static const struct wl_term_rules any = {0};
	struct wl_cuts cuts = {0};
	const json_t *e;
	int ret = 0;
	size_t i;

	json_array_foreach(texts, i, e)
	{
		const json_t *s = json_array_get(e, 1);
		if (ret == 0)
			ret = wl_terms_of_text(t->segment, &any, json_string_value(s),
				json_string_length(s), &cuts, add_word, w, err);
	}
	wl_cuts_release(&cuts);
	return ret;
}

static int infer(const struct wl_topics *t, size_t i, const struct words *w,
	struct wl_topic_of *out, struct wl_err *err)
{
	const struct wl_phi *f = &t->phi[i];
	size_t stride = (size_t)f->stride;
	float *theta = malloc(2 * stride * sizeof(*theta));

	if (!theta)
		return wl_err_nomem(err, "a pair's topics", 2 * stride * sizeof(*theta));
	wl_phi_infer(f, w->v, w->n, theta, theta + stride);
	out->topic = wl_topic_largest(theta, f->topics);
	out->share = (double)theta[out->topic];
	out->category = t->label[i][out->topic].category;
	out->words = t->label[i][out->topic].words;
	for (int k = 0; k < f->topics; k++)
		if (t->label[i][k].drop)
			out->unwanted += (double)theta[k];
	free(theta);
	return 0;
}

int wl_topics_of(const struct wl_topics *t, const char *source, const json_t *texts,
	struct wl_topic_of *out, struct wl_err *err)
{
	int i = model_of(t, source), ret;
	struct words w = {0};

	*out = (struct wl_topic_of){.topic = -1};
	if (i < 0)
		return 0;
	w.terms = &t->models.v[i].terms;
	ret = read_words(t, texts, &w, err);
	if (ret == 0 && w.n)
		ret = infer(t, (size_t)i, &w, out, err);
	free(w.v);
	return ret;
}

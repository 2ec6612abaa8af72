/* See train.h. */
#include "clean/topics/train.h"

#include "clean/topics/labels.h"
#include "clean/topics/model.h"
#include "clean/topics/quality.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/progress.h"
#include "ops/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USER_DICTS = 16, DICT_MAX_BYTES = 256 << 20 };

struct training {
	const struct wl_topics_options *o;
	struct wl_comm *comm;
	struct wl_pool *pool;
	struct wl_corpus *corpus;
	const char *dir; /* where files are written; rank 0 */
	json_t *index;
	struct wl_progress *progress;
};

static bool first_rank(const struct training *t)
{
	return wl_comm_rank(t->comm) == 0;
}

/* ---- one source ---- */

static int tick(void *user, int iteration, struct wl_err *err)
{
	struct training *t = user;

	wl_progress_set(t->progress, (uint64_t)iteration + 1, NULL);
	/* Ranks go on together, or not at all. */
	if (wl_stop_requested() && wl_comm_size(t->comm) == 1)
		return wl_err_set(err, WL_ERETRY, "Stopped; nothing was written.");
	return 0;
}

static json_t *training_json(const struct training *t, const struct wl_topic_docs *d,
	const int64_t total[3], double perplexity)
{
	const struct wl_lda_config *c = &t->o->lda;

	return json_pack(
		"{s:i, s:s, s:f, s:f, s:i, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:f, s:I, s:o}",
		"version", 1, "source", d->source, "alpha", c->alpha, "beta", c->beta, "iterations",
		c->iterations, "seed", (json_int_t)c->seed, "words", (json_int_t)d->terms.n, "docs",
		(json_int_t)total[0], "tokens", (json_int_t)total[1], "held_out_docs",
		(json_int_t)total[2], "sample", t->o->sample, "held_out", t->o->held_out,
		"min_docs", (json_int_t)t->o->bounds.min_docs, "max_share", t->o->bounds.max_share,
		"min_chars", (json_int_t)t->o->min_chars, "perplexity",
		perplexity == perplexity ? json_real(perplexity) : json_null());
}

/* Perplexity, facts, files. */
static int finish_model(struct training *t, struct wl_topic_docs *d, const int64_t total[3],
	const struct wl_lda_model *lda, struct wl_err *err)
{
	struct wl_topic_facts *facts = calloc((size_t)lda->topics, sizeof(*facts));
	struct wl_topic_model m = {.source = d->source, .terms = d->terms, .lda = *lda};
	struct wl_phi phi = {0};
	json_t *training = NULL;
	double perplexity;
	int ret = -1;

	if (!facts) {
		wl_err_nomem(err, "facts of topics", (size_t)lda->topics * sizeof(*facts));
		goto out;
	}
	WL_TRY_OUT(wl_phi_init(&phi, lda, err));
	WL_TRY_OUT(wl_phi_perplexity(&phi, &d->held, t->comm, t->pool, &perplexity, err));
	WL_TRY_OUT(wl_topic_quality(lda, &phi, &d->train, t->comm, t->pool, facts, err));
	ret = 0;
	if (first_rank(t)) {
		training = training_json(t, d, total, perplexity);
		m.facts =
			training ? wl_topic_facts_json(facts, lda->topics, &d->terms, training, err)
				 : NULL;
		ret = m.facts ? wl_topic_model_save(t->dir, &m, t->index, err) : -1;
		wl_info("%s: %lld documents, %lld words of %zu, perplexity of held-out texts %.1f",
			d->source, (long long)total[0], (long long)total[1], d->terms.n,
			perplexity);
	}
out:
	json_decref(training);
	json_decref(m.facts);
	wl_phi_release(&phi);
	free(facts);
	return ret;
}

static int train_source(struct training *t, struct wl_topic_docs *d, struct wl_err *err)
{
	int64_t total[3] = {
		(int64_t)d->train.n, (int64_t)d->train.start[d->train.n], (int64_t)d->held.n};
	struct wl_lda_model lda = {0};
	int ret;

	WL_TRY(wl_comm_all_reduce(t->comm, total, 3, WL_COMM_I64, WL_COMM_SUM, err));
	if (total[0] < t->o->min_pairs || !total[1]) {
		if (first_rank(t))
			wl_warn("%s: %lld documents with words of the vocabulary are too few for "
				"topics (--min-pairs %lld); it gets no model",
				d->source, (long long)total[0], (long long)t->o->min_pairs);
		return 0;
	}
	if (first_rank(t))
		t->progress = wl_progress_new(
			"topics: sampling", "iterations", (uint64_t)t->o->lda.iterations);
	ret = wl_lda_train(&d->train, &t->o->lda, t->comm, t->pool, tick, t, &lda, err);
	wl_progress_free(t->progress);
	t->progress = NULL;
	if (ret == 0)
		ret = finish_model(t, d, total, &lda, err);
	wl_lda_model_release(&lda);
	return ret;
}

/* ---- all ---- */

static int train_sources(struct training *t, const struct wl_segment *segment,
	const struct wl_text *text, const struct wl_terms *stop, struct wl_err *err)
{
	const struct wl_topics_options *o = t->o;
	struct wl_gather_options g = {.text = text,
		.segment = segment,
		.rules = {o->min_chars, stop},
		.bounds = o->bounds,
		.sample = o->sample,
		.held_out = o->held_out,
		.seed = o->lda.seed,
		.merged = o->merged};
	struct wl_gathered d;
	int ret = -1;

	WL_TRY(wl_gather(t->corpus, &g, t->comm, t->pool, &d, err));
	for (size_t i = 0; i < d.n; i++)
		WL_TRY_OUT(train_source(t, &d.v[i], err));
	if (first_rank(t) && !json_array_size(json_object_get(t->index, "sources"))) {
		wl_err_set(err, WL_EDATA,
			"%s: no source has %lld documents with words of the vocabulary; give more "
			"texts, or lower --min-pairs and --min-docs.",
			wl_corpus_dir(t->corpus), (long long)o->min_pairs);
		goto out;
	}
	ret = 0;
out:
	wl_gathered_release(&d);
	return ret;
}

static int open_and_train(struct training *t, struct wl_err *err)
{
	const struct wl_topics_options *o = t->o;
	struct wl_text *text = wl_text_open(err);
	struct wl_segment *segment = NULL;
	struct wl_terms stop = {0};
	int ret = -1;

	if (!text)
		return -1;
	segment = wl_segment_open(NULL, o->user_dicts.v, o->user_dicts.n, err);
	if (!segment)
		goto out;
	if (o->stop)
		WL_TRY_OUT(wl_terms_read_list(&stop, o->stop, err));
	if (json_object_set_new(t->index, "segment", json_string(wl_segment_id(segment))) < 0) {
		wl_err_nomem(err, "the index of topics", 0);
		goto out;
	}
	ret = train_sources(t, segment, text, &stop, err);
out:
	wl_terms_release(&stop);
	wl_segment_close(segment);
	wl_text_close(text);
	return ret;
}

/* ---- the directory ---- */

/* May `out` be replaced?  1: it is there. */
static int check_out(const char *out, bool force, struct wl_err *err)
{
	struct wl_names names = {0};
	char *index = wl_path_join(out, "topics.json", err);
	bool by_hand = false;
	int ret = -1;

	if (!index)
		return -1;
	if (!wl_exists(out)) {
		ret = 0;
		goto out;
	}
	WL_TRY_OUT(wl_list_dir(out, "*", &names, err));
	ret = 1;
	if (names.n && !wl_exists(index))
		ret = wl_err_set(err, WL_EUSAGE,
			"--out %s is there and has no topics in it; give another folder.", out);
	else if (!force)
		ret = wl_topic_labels_by_hand(out, &by_hand, err) < 0 ? -1 : ret;
	if (by_hand)
		ret = wl_err_set(err, WL_EUSAGE,
			"--out %s has topics labelled by hand, which new topics would lose; give "
			"another folder, or --force.",
			out);
out:
	wl_names_release(&names);
	free(index);
	return ret;
}

static int copy_dicts(struct training *t, struct wl_err *err)
{
	struct wl_buf b;
	int ret = 0;

	wl_buf_init(&b, DICT_MAX_BYTES);
	for (size_t i = 0; i < t->o->user_dicts.n && ret == 0; i++) {
		char *path = wl_strf(err, "%s/user-%zu.txt", t->dir, i);
		wl_buf_reset(&b);
		ret = path ? wl_read_file(t->o->user_dicts.v[i], &b, err) : -1;
		if (ret == 0)
			ret = wl_write_file(path, wl_buf_str(&b), b.len, err);
		free(path);
	}
	wl_buf_release(&b);
	return ret;
}

/* topics.json, the labels, and the new directory in the old one's place: at no moment is there
 * none. */
static int put_in_place(struct training *t, const char *out, struct wl_err *err)
{
	char *path = wl_path_join(t->dir, "topics.json", err);
	struct wl_topic_models m = {0};
	struct wl_topic_label_counts n;
	int ret = -1;

	if (!path)
		return -1;
	WL_TRY_OUT(copy_dicts(t, err));
	WL_TRY_OUT(wl_json_save(path, t->index, err));
	WL_TRY_OUT(wl_topic_models_load(&m, t->dir, false, err));
	WL_TRY_OUT(wl_topic_labels_select(&m, t->dir, t->o->select, &n, err));
	wl_info("%zu models: %lld topics kept, %lld dropped (%s/labels.yaml)", m.n,
		(long long)n.kept, (long long)n.dropped, out);
	if (wl_exists(out)) {
		if (renameat2(AT_FDCWD, t->dir, AT_FDCWD, out, RENAME_EXCHANGE) != 0) {
			wl_err_errno(err, "%s cannot take the place of %s", t->dir, out);
			goto out;
		}
		ret = wl_remove_tree(t->dir, err);
	} else {
		ret = rename(t->dir, out) == 0
			      ? 0
			      : wl_err_errno(err, "%s cannot be renamed to %s", t->dir, out);
	}
out:
	wl_topic_models_release(&m);
	free(path);
	return ret;
}

static int check_options(const struct wl_topics_options *o, struct wl_err *err)
{
	if (!(o->sample > 0 && o->sample <= 1) || !(o->held_out >= 0 && o->held_out < 1))
		return wl_err_set(err, WL_EUSAGE,
			"--sample is %g and --held-out %g, expected shares: above 0 up to 1, and 0 "
			"up to below 1.",
			o->sample, o->held_out);
	if (o->bounds.min_docs < 1 || o->bounds.max_words < 2 ||
		!(o->bounds.max_share > 0 && o->bounds.max_share <= 1) || o->min_chars < 1)
		return wl_err_set(err, WL_EUSAGE,
			"--min-docs is %lld, --max-share %g, --max-words %lld and --min-chars "
			"%lld, "
			"expected 1 or more, above 0 up to 1, 2 or more, and 1 or more.",
			(long long)o->bounds.min_docs, o->bounds.max_share,
			(long long)o->bounds.max_words, (long long)o->min_chars);
	if (o->user_dicts.n > USER_DICTS)
		return wl_err_set(err, WL_EUSAGE, "%zu --user-dict are given, at most %d.",
			o->user_dicts.n, USER_DICTS);
	return 0;
}

int wl_topics_train(struct wl_corpus *c, const char *out, const struct wl_topics_options *o,
	struct wl_comm *comm, struct wl_err *err)
{
	struct training t = {.o = o, .comm = comm, .corpus = c};
	char hex[65], *tmp = wl_strf(err, "%s.new", out);
	int ret = -1;

	if (!tmp)
		return -1;
	t.dir = tmp;
	WL_TRY_OUT(check_options(o, err));
	t.pool = wl_pool_new((size_t)o->threads, 0, err);
	WL_TRY_OUT(wl_corpus_fingerprint(c, hex, err));
	t.index = json_pack("{s:i, s:s, s:i, s:[]}", "version", 1, "corpus", hex, "user_dicts",
		(int)o->user_dicts.n, "sources");
	if (!t.pool || !t.index) {
		wl_err_nomem(err, "the index of topics", 0);
		goto out;
	}
	if (first_rank(&t)) {
		WL_TRY_OUT(check_out(out, o->force, err));
		WL_TRY_OUT(wl_remove_tree(tmp, err));
		WL_TRY_OUT(wl_mkdir_p(tmp, err));
	}
	WL_TRY_OUT(wl_comm_barrier(comm, err));
	WL_TRY_OUT(open_and_train(&t, err));
	ret = first_rank(&t) ? put_in_place(&t, out, err) : 0;
	if (ret == 0)
		ret = wl_comm_barrier(comm, err);
out:
	wl_pool_free(t.pool);
	json_decref(t.index);
	free(tmp);
	return ret;
}

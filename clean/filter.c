/* See filter.h. */
#include "clean/filter.h"

#include "clean/dedup.h"
#include "clean/stage.h"
#include "clean/subject.h"
#include "ops/json.h"
#include "ops/pool.h"
#include "ops/progress.h"
#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = 256 };

static const char schema[] =
	"CREATE TABLE IF NOT EXISTS clean(pair_id INTEGER PRIMARY KEY, texts TEXT, topic INTEGER,"
	" category TEXT, scores TEXT);";

/* What holds of a pair whatever else is in the corpus: all of it. */
static const char *const lasting[] = {"clean", "verdict", "examined", NULL};

/* ---- one pair ---- */

int subject_init(struct subject_job *j, struct wl_corpus *c, const struct wl_rules *r,
	const struct wl_pair *pair, struct wl_err *err)
{
	memset(j, 0, sizeof(*j));
	j->corpus = c;
	j->rules = r;
	j->pair = *pair;
	j->source = strdup(pair->source);
	j->texts = strdup(pair->texts);
	j->split_hint = strdup(pair->split_hint);
	if (j->source && j->texts && j->split_hint)
		return 0;
	return wl_err_nomem(err, "a pair", strlen(pair->texts));
}

void subject_clear(struct subject_job *j)
{
	free(j->source);
	free(j->texts);
	free(j->split_hint);
	free(j->broken);
	wl_outcome_release(&j->out);
	memset(j, 0, sizeof(*j));
}

/* Fills look where it is not known, and picture where it is wanted; or broken. */
static int look_at(struct subject_job *j, bool want_picture, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	struct wl_image im = {0};
	struct wl_buf b;
	int ret = -1;

	wl_buf_init(&b, WL_IMAGE_MAX_BYTES);
	WL_TRY_OUT(wl_corpus_image(j->corpus, &j->pair, &b, err));
	if (wl_image_decode(b.data, b.len, &im, &why) == 0) {
		ret = j->known ? 0 : wl_look_make_by(j->weights, &im, &j->look, err);
		if (ret == 0 && want_picture)
			ret = wl_picture_measure(&im, &j->picture, err);
		j->measured = want_picture;
	} else if (why.code != WL_EDATA) {
		*err = why;
	} else {
		j->broken = strdup(why.msg);
		ret = j->broken ? 0 : wl_err_nomem(err, "a message", strlen(why.msg));
	}
out:
	wl_image_release(&im);
	wl_buf_release(&b);
	return ret;
}

void subject_judge(struct subject_job *j)
{
	char name[WL_PAIR_NAME];
	struct wl_subject s = {.id = j->pair.id,
		.name = name,
		.source = j->source,
		.texts = j->texts,
		.width = j->pair.width,
		.height = j->pair.height,
		.bytes = j->pair.length,
		.eval = strcmp(j->split_hint, "val") == 0 || strcmp(j->split_hint, "test") == 0};

	bool want_picture = wl_rules_want_picture(j->rules, j->source) && !s.eval;

	wl_pair_name(j->pair.partition, j->pair.id, name);
	j->ret = 0;
	if (wl_rules_want_look(j->rules) || want_picture) {
		if (!j->known || (want_picture && !j->broken))
			j->ret = look_at(j, want_picture, &j->err);
		s.look = j->broken ? NULL : &j->look;
		s.picture = j->measured && !j->broken ? &j->picture : NULL;
		s.broken = j->broken;
	}
	if (j->ret == 0)
		j->ret = wl_rules_judge(j->rules, &s, &j->out, &j->err);
}

/* ---- a partition ---- */

struct sieve {
	struct wl_db db;
	struct wl_known_looks *looks;
	struct wl_lanczos *weights;
	sqlite3_stmt *has, *clean, *verdict, *examined;
	struct subject_job jobs[BATCH];
	size_t n;
};

static int store(struct sieve *w, const struct subject_job *j, struct wl_err *err)
{
	char *texts = NULL, *scores = NULL;
	int ret = -1;

	if (j->ret < 0) {
		if (err)
			*err = j->err;
		return -1;
	}
	texts = wl_json_text(j->out.texts, err);
	scores = texts ? wl_json_text(j->out.scores, err) : NULL;
	if (!scores)
		goto out;
	if (j->out.topic < 0)
		WL_TRY_OUT(wl_db_run(&w->db, w->clean, err, "isnns", j->pair.id, texts, scores));
	else
		WL_TRY_OUT(wl_db_run(&w->db, w->clean, err, "isiss", j->pair.id, texts,
			j->out.topic, j->out.category, scores));
	for (size_t i = 0; i < j->out.n; i++)
		WL_TRY_OUT(wl_db_run(&w->db, w->verdict, err, "iss", j->pair.id, j->out.v[i].reason,
			j->out.v[i].detail));
	ret = wl_db_run(&w->db, w->examined, err, "i", j->pair.id);
out:
	free(texts);
	free(scores);
	return ret;
}

static void judge_nth(void *ctx, size_t i)
{
	struct sieve *w = ctx;

	subject_judge(&w->jobs[i]);
}

static int store_nth(void *ctx, size_t i, struct wl_err *err)
{
	struct sieve *w = ctx;

	return store(w, &w->jobs[i], err);
}

/* Judges the batch on all threads and commits it: the unit of progress. */
static int flush(
	struct sieve *w, struct wl_pool *pool, struct wl_progress *progress, struct wl_err *err)
{
	int ret;

	if (!w->n)
		return 0;
	ret = wl_stage_batch(&w->db, pool, w->n, judge_nth, store_nth, w, err);
	if (ret == 0)
		wl_progress_add(progress, w->n);
	for (size_t i = 0; i < w->n; i++)
		subject_clear(&w->jobs[i]);
	w->n = 0;
	return ret;
}

static int sieve_open(struct sieve *w, struct wl_stage *s, int p, struct wl_err *err)
{
	WL_TRY(wl_stage_db(s, p, schema, s->params_hash, &w->db, err));
	WL_TRY(wl_stage_take_over(s, p, &w->db, lasting, err));
	w->looks = wl_known_looks_open(s->corpus, p, err);
	w->weights = wl_lanczos_new(err);
	if (!w->looks || !w->weights)
		return -1;
	WL_TRY(wl_db_prepare(&w->db, &w->has, "SELECT 1 FROM examined WHERE pair_id = ?", err));
	WL_TRY(wl_db_prepare(&w->db, &w->clean, "INSERT INTO clean VALUES(?,?,?,?,?)", err));
	WL_TRY(wl_db_prepare(&w->db, &w->verdict, "INSERT INTO verdict VALUES(?,?,?)", err));
	return wl_db_prepare(&w->db, &w->examined, "INSERT INTO examined VALUES(?)", err);
}

static void sieve_close(struct sieve *w)
{
	for (size_t i = 0; i < w->n; i++)
		subject_clear(&w->jobs[i]);
	sqlite3_finalize(w->has);
	sqlite3_finalize(w->clean);
	sqlite3_finalize(w->verdict);
	sqlite3_finalize(w->examined);
	wl_known_looks_close(w->looks);
	wl_lanczos_free(w->weights);
	wl_db_close(&w->db);
	free(w);
}

static int enqueue(struct sieve *w, struct wl_stage *s, const struct wl_rules *r,
	const struct wl_pair *pair, struct wl_err *err)
{
	struct subject_job *j = &w->jobs[w->n++];
	int known;

	WL_TRY(subject_init(j, s->corpus, r, pair, err));
	j->weights = w->weights;
	if (!wl_rules_want_look(r))
		return 0;
	WL_TRY(known = wl_known_look(w->looks, pair->id, &j->look, &j->broken, err));
	j->known = known > 0;
	return 0;
}

static int sieve_partition(struct wl_stage *s, const struct wl_rules *r, struct wl_pool *pool,
	int p, struct wl_progress *progress, struct wl_err *err)
{
	struct sieve *w = calloc(1, sizeof(*w));
	struct wl_pair_cursor *cur = NULL;
	struct wl_pair pair;
	int row, known, ret = -1;

	if (!w)
		return wl_err_nomem(err, "a batch of pairs", sizeof(*w));
	WL_TRY_OUT(sieve_open(w, s, p, err));
	cur = wl_pairs_open(s->corpus, p, err);
	if (!cur)
		goto out;
	while (!wl_stop_requested() && (row = wl_pairs_next(cur, &pair, err)) != 0) {
		WL_TRY_OUT(row);
		WL_TRY_OUT(wl_db_bind(&w->db, w->has, err, "i", pair.id));
		WL_TRY_OUT(known = wl_db_step(&w->db, w->has, err));
		sqlite3_reset(w->has);
		if (known) {
			wl_progress_add(progress, 1);
			continue;
		}
		WL_TRY_OUT(enqueue(w, s, r, &pair, err));
		if (w->n == BATCH)
			WL_TRY_OUT(flush(w, pool, progress, err));
	}
	WL_TRY_OUT(flush(w, pool, progress, err));
	ret = 0;
out:
	wl_pairs_close(cur);
	sieve_close(w);
	return ret;
}

/* ---- counts ---- */

static int add_reason(json_t *reasons, const char *reason, int64_t n, struct wl_err *err)
{
	json_int_t was = json_integer_value(json_object_get(reasons, reason));

	if (json_object_set_new(reasons, reason, json_integer(was + n)) < 0)
		return wl_err_nomem(err, "counts", 0);
	return 0;
}

static int count_partition(
	struct wl_stage *s, int p, struct wl_filter_counts *n, struct wl_err *err)
{
	struct wl_db db = {0};
	sqlite3_stmt *st = NULL;
	int64_t pairs, dropped;
	int row, ret = -1;

	WL_TRY_OUT(wl_stage_db(s, p, schema, s->params_hash, &db, err));
	WL_TRY_OUT(wl_db_int(&db, 0, &pairs, err, "SELECT count(*) FROM examined"));
	WL_TRY_OUT(wl_db_int(&db, 0, &dropped, err, "SELECT count(DISTINCT pair_id) FROM verdict"));
	n->pairs += pairs;
	n->kept += pairs - dropped;
	WL_TRY_OUT(wl_db_prepare(
		&db, &st, "SELECT reason, count(*) FROM verdict GROUP BY reason", err));
	while ((row = wl_db_step(&db, st, err)) != 0) {
		WL_TRY_OUT(row);
		WL_TRY_OUT(add_reason(n->reasons, (const char *)sqlite3_column_text(st, 0),
			sqlite3_column_int64(st, 1), err));
	}
	ret = 0;
out:
	sqlite3_finalize(st);
	wl_db_close(&db);
	return ret;
}

static int publish(struct wl_stage *s, struct wl_filter_counts *n, struct wl_err *err)
{
	json_t *counts;
	int ret;

	for (int p = 0; p < wl_corpus_partitions(s->corpus); p++)
		WL_TRY(count_partition(s, p, n, err));
	counts = json_pack("{s:I, s:I, s:O}", "pairs", (json_int_t)n->pairs, "kept",
		(json_int_t)n->kept, "reasons", n->reasons);
	if (!counts)
		return wl_err_nomem(err, "counts", 0);
	ret = wl_stage_publish(s, counts, err);
	json_decref(counts);
	return ret;
}

void wl_filter_counts_release(struct wl_filter_counts *n)
{
	json_decref(n->reasons);
	memset(n, 0, sizeof(*n));
}

static int counts_of_last_time(struct wl_corpus *c, struct wl_filter_counts *n, struct wl_err *err)
{
	const json_t *f = json_object_get(wl_corpus_stage_facts(c, "filter"), "counts");

	n->pairs = json_integer_value(json_object_get(f, "pairs"));
	n->kept = json_integer_value(json_object_get(f, "kept"));
	if (json_object_update(n->reasons, json_object_get(f, "reasons")) < 0)
		return wl_err_set(err, WL_EDATA,
			"%s/corpus.json: the filter's counts are damaged; "
			"remove \"filter\" below \"stages\" and run it again.",
			wl_corpus_dir(c));
	return 0;
}

/* ---- the stage ---- */

/* This rank's partitions. */
static int sieve_all(struct wl_stage *s, struct wl_comm *comm, const struct wl_rules *r,
	int threads, struct wl_err *err)
{
	int rank = wl_comm_rank(comm), ranks = wl_comm_size(comm);
	struct wl_corpus *c = s->corpus;
	struct wl_progress *progress = NULL;
	struct wl_corpus_counts total;
	struct wl_pool *pool = wl_pool_new((size_t)threads, 0, err);
	int ret = -1;

	if (!pool)
		return -1;
	WL_TRY_OUT(wl_corpus_count(c, &total, err));
	progress = wl_progress_new("filter", "pairs", (uint64_t)(total.pairs / ranks));
	for (int p = rank; p < wl_corpus_partitions(c) && !wl_stop_requested(); p += ranks)
		WL_TRY_OUT(sieve_partition(s, r, pool, p, progress, err));
	ret = 0;
out:
	wl_progress_free(progress);
	wl_pool_free(pool);
	return ret;
}

/* Rank 0 publishes when all ranks are through, unless one was asked to stop. */
static int finish(struct wl_stage *s, struct wl_comm *comm, struct wl_filter_counts *counts,
	struct wl_err *err)
{
	int64_t stopped = wl_stop_requested();

	WL_TRY(wl_comm_all_reduce(comm, &stopped, 1, WL_COMM_I64, WL_COMM_MAX, err));
	if (!stopped && wl_comm_rank(comm) == 0)
		WL_TRY(publish(s, counts, err));
	return wl_comm_barrier(comm, err);
}

int wl_filter_on(struct wl_comm *comm, struct wl_corpus *c, const struct wl_rules *r, int threads,
	struct wl_filter_counts *counts, struct wl_err *err)
{
	struct wl_stage s = {.lock = -1};
	int same, ret = -1;

	*counts = (struct wl_filter_counts){.reasons = json_object()};
	if (!counts->reasons)
		return wl_err_nomem(err, "counts", 0);
	same = wl_stage_begin_on(&s, comm, c, "filter", wl_rules_params(r), err);
	if (same > 0)
		ret = counts_of_last_time(c, counts, err) < 0 ? -1 : 1;
	if (same != 0)
		goto out;
	WL_TRY_OUT(sieve_all(&s, comm, r, threads, err));
	ret = finish(&s, comm, counts, err);
out:
	wl_stage_end(&s);
	if (ret < 0)
		wl_filter_counts_release(counts);
	return ret;
}

int wl_filter(struct wl_corpus *c, const struct wl_rules *r, int threads,
	struct wl_filter_counts *counts, struct wl_err *err)
{
	return wl_filter_on(NULL, c, r, threads, counts, err);
}

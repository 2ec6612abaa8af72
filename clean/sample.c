/* --sample: pairs that a reason names, picked by a hash of their ids, so that everybody who asks
 * with the same seed sees the same ones whatever the number of partitions. */
#include "clean/filter.h"

#include "ops/hash.h"
#include "ops/opt.h"

#include <stdlib.h>
#include <string.h>

enum { REASONS_MAX = 64 };

struct picked {
	uint64_t order;
	int partition;
	int64_t id;
	char detail[WL_DETAIL_MAX];
};

struct sampler {
	const char *stage, *reason; /* reason NULL: the pairs that were kept */
	uint64_t seed;
	struct picked *v; /* by order */
	size_t n, max;
	int64_t seen;
	char names[REASONS_MAX][WL_REASON_MAX]; /* what there is, for who asked for another */
	size_t n_names;
};

static void offer(struct sampler *s, int partition, int64_t id, const char *detail)
{
	uint64_t order = wl_rand64(s->seed, 0, (uint64_t)id);
	size_t i = s->n;

	s->seen++;
	if (s->n == s->max && (!s->max || s->v[s->n - 1].order <= order))
		return;
	if (s->n < s->max)
		s->n++;
	else
		i--;
	for (; i > 0 && s->v[i - 1].order > order; i--)
		s->v[i] = s->v[i - 1];
	s->v[i] = (struct picked){order, partition, id, ""};
	snprintf(s->v[i].detail, sizeof(s->v[i].detail), "%s", detail ? detail : "");
}

static void note_name(struct sampler *s, const char *name)
{
	for (size_t i = 0; i < s->n_names; i++)
		if (strcmp(s->names[i], name) == 0)
			return;
	if (s->n_names < REASONS_MAX)
		snprintf(s->names[s->n_names++], WL_REASON_MAX, "%s", name);
}

static int walk(struct sampler *s, struct wl_db *db, int p, struct wl_err *err)
{
	static const char dropped[] =
		"SELECT pair_id, detail, reason FROM verdict ORDER BY pair_id";
	static const char kept[] = "SELECT pair_id, '', '' FROM examined WHERE pair_id NOT IN"
				   " (SELECT pair_id FROM verdict) ORDER BY pair_id";
	sqlite3_stmt *st = NULL;
	int row, ret = -1;

	WL_TRY_OUT(wl_db_prepare(db, &st, s->reason ? dropped : kept, err));
	while ((row = wl_db_step(db, st, err)) != 0) {
		WL_TRY_OUT(row);
		if (s->reason)
			note_name(s, (const char *)sqlite3_column_text(st, 2));
		if (!s->reason || strcmp((const char *)sqlite3_column_text(st, 2), s->reason) == 0)
			offer(s, p, sqlite3_column_int64(st, 0),
				(const char *)sqlite3_column_text(st, 1));
	}
	ret = 0;
out:
	sqlite3_finalize(st);
	return ret;
}

static int collect(struct sampler *s, struct wl_corpus *c, struct wl_err *err)
{
	int generation = wl_corpus_generation(c, s->stage);

	for (int p = 0; generation && p < wl_corpus_partitions(c); p++) {
		char *path = wl_corpus_stage_path(c, s->stage, generation, p, err);
		struct wl_db db = {0};
		int ret = path ? wl_db_open(&db, path, WL_DB_READ, err) : -1;
		if (ret == 0)
			ret = walk(s, &db, p, err);
		wl_db_close(&db);
		free(path);
		WL_TRY(ret);
	}
	return 0;
}

static int print_pair(struct wl_corpus *c, const struct picked *k, FILE *to, struct wl_err *err)
{
	struct wl_pair_cursor *cur = wl_pairs_open(c, k->partition, err);
	char name[WL_PAIR_NAME];
	struct wl_pair pair;
	int found;

	if (!cur)
		return -1;
	found = wl_pairs_find(cur, k->id, &pair, err);
	wl_pair_name(k->partition, k->id, name);
	if (found > 0)
		fprintf(to, "%s  %s  %dx%d  %s\n    %s\n    %s\n", name, pair.source, pair.width,
			pair.height, k->detail, pair.texts, *pair.url ? pair.url : pair.page_url);
	wl_pairs_close(cur);
	return found < 0 ? -1 : 0;
}

static int unknown_reason(struct sampler *s, const char *reason, struct wl_err *err)
{
	const char *names[REASONS_MAX + 2], *near;
	char list[700] = "kept";
	size_t at = 4;

	for (size_t i = 0; i < s->n_names; i++) {
		names[i] = s->names[i];
		if (at < sizeof(list))
			at += (size_t)snprintf(list + at, sizeof(list) - at, ", %s", names[i]);
	}
	names[s->n_names] = "kept";
	names[s->n_names + 1] = NULL;
	near = wl_nearest_name(reason, names);
	return wl_err_set(err, WL_EUSAGE,
		"--sample %s: no pair was dropped for that%s%s%s; there is %s.", reason,
		near ? "; do you mean \"" : "", near ? near : "", near ? "\"" : "", list);
}

int wl_filter_sample(struct wl_corpus *c, const char *reason, size_t max, uint64_t seed, FILE *to,
	struct wl_err *err)
{
	static const char *const stages[] = {"filter", "dedup"};
	bool kept = strcmp(reason, "kept") == 0;
	struct sampler *s = calloc(1, sizeof(*s));
	int ret = -1;

	if (s)
		s->v = calloc(max + 1, sizeof(*s->v));
	if (!s || !s->v) {
		wl_err_nomem(err, "a sample", max * sizeof(struct picked));
		goto out;
	}
	s->reason = kept ? NULL : reason;
	s->seed = seed;
	s->max = max;
	if (!wl_corpus_generation(c, "filter")) {
		wl_err_set(err, WL_EFAIL,
			"--sample: the filter has not run over %s yet; run it without --sample "
			"first.",
			wl_corpus_dir(c));
		goto out;
	}
	for (int i = 0; i < (kept ? 1 : 2) && !s->seen; i++) {
		s->stage = stages[i];
		WL_TRY_OUT(collect(s, c, err));
	}
	if (!s->seen && !kept) {
		unknown_reason(s, reason, err);
		goto out;
	}
	fprintf(to, "%zu of %lld pairs: %s\n", s->n, (long long)s->seen, reason);
	for (size_t i = 0; i < s->n; i++)
		WL_TRY_OUT(print_pair(c, &s->v[i], to, err));
	ret = 0;
out:
	if (s)
		free(s->v);
	free(s);
	return ret;
}

/* Every pair of the corpus is in exactly one place: see check.h. */
#include "shards/check.h"

#include "ingest/corpus.h"
#include "ops/file.h"
#include "shards/kept.h"
#include "shards/manifest.h"
#include "shards/shard_db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Pair ids, sorted; `n_found` counts those that the corpus turned out to have. */
struct ids {
	int64_t *v;
	size_t n, cap;
	int64_t n_found;
};

static int add_id(struct ids *s, int64_t id, struct wl_err *err)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 1024;
		void *v = realloc(s->v, cap * sizeof *s->v);

		if (!v)
			return wl_err_nomem(err, "the audit", cap * sizeof *s->v);
		s->v = v;
		s->cap = cap;
	}
	s->v[s->n++] = id;
	return 0;
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static bool has_id(const struct ids *s, int64_t id)
{
	return s->n && bsearch(&id, s->v, s->n, sizeof id, by_value);
}

static int read_ids(
	struct ids *s, const char *dir, const char *shard, const char *sql, struct wl_err *err)
{
	char *path = wl_strf(err, "%s/%s.db", dir, shard);
	sqlite3_stmt *st = NULL;
	struct wl_db db = {0};
	int rc = -1;

	if (path && wl_db_open(&db, path, WL_DB_READ, err) == 0 &&
		wl_db_prepare(&db, &st, sql, err) == 0)
		while ((rc = wl_db_step(&db, st, err)) > 0)
			if ((rc = add_id(s, sqlite3_column_int64(st, 0), err)) < 0)
				break;
	sqlite3_finalize(st);
	wl_db_close(&db);
	free(path);
	return rc;
}

static int no_doubles(const struct ids *s, const char *dir, struct wl_err *err)
{
	for (size_t i = 1; i < s->n; i++)
		if (s->v[i] == s->v[i - 1])
			return wl_err_set(err, WL_EDATA,
				"%s: pair %lld is in its shards twice; pack the corpus again "
				"into a new directory",
				dir, (long long)s->v[i]);
	return 0;
}

static int fault(const struct wl_pair *p, const char *dir, const char *what, struct wl_err *err)
{
	char name[WL_PAIR_NAME];

	wl_pair_name(p->partition, p->id, name);
	return wl_err_set(err, WL_EDATA,
		"pair %s %s (%s): the shards were not packed from what the corpus says now; run "
		"wenlan-shard --corpus again",
		name, what, dir);
}

static int place(const struct wl_pair *p, const struct wl_fate *f, const char *dir,
	struct ids *packed, struct ids *rejected, struct wl_audit_result *out, struct wl_err *err)
{
	bool dropped = f->verdict[WL_KEPT_DEDUP] || f->verdict[WL_KEPT_FILTER];
	bool in = has_id(packed, p->id), no = has_id(rejected, p->id);

	packed->n_found += in;
	rejected->n_found += no;
	out->read++;
	if (dropped && (in || no))
		return fault(p, dir, "has a verdict and is in a shard nevertheless", err);
	if (in && no)
		return fault(p, dir, "is in a shard and among the rejected", err);
	if (!dropped && !in && !no)
		return fault(p, dir, "is kept, but in no shard", err);
	out->dropped_dedup += f->verdict[WL_KEPT_DEDUP];
	out->dropped_filter += !f->verdict[WL_KEPT_DEDUP] && f->verdict[WL_KEPT_FILTER];
	out->packed += in;
	out->rejected += no;
	return 0;
}

static int audit_partition(struct wl_corpus *c, int partition, const char *dir, struct ids *packed,
	struct ids *rejected, struct wl_audit_result *out, struct wl_err *err)
{
	struct wl_kept *k = wl_kept_open(c, partition, err);
	struct wl_pair_cursor *cur = k ? wl_pairs_open(c, partition, err) : NULL;
	struct wl_fate f = {0};
	struct wl_pair p;
	int rc = -1;

	while (cur && (rc = wl_pairs_next(cur, &p, err)) > 0) {
		rc = wl_kept_fate(k, p.id, &f, err);
		if (rc == 0)
			rc = place(&p, &f, dir, packed, rejected, out, err);
		if (rc < 0)
			break;
	}
	wl_pairs_close(cur);
	wl_kept_close(k);
	return rc;
}

/* Samples that no partition has. */
static int no_strangers(
	struct wl_corpus *c, const struct ids *s, const char *dir, struct wl_err *err)
{
	struct wl_pair p;

	for (size_t i = 0; i < s->n && s->n_found < (int64_t)s->n; i++) {
		int rc = 0;

		for (int part = 0; part < wl_corpus_partitions(c) && rc == 0; part++) {
			struct wl_pair_cursor *cur = wl_pairs_open(c, part, err);

			rc = cur ? wl_pairs_find(cur, s->v[i], &p, err) : -1;
			wl_pairs_close(cur);
		}
		WL_TRY(rc);
		if (!rc)
			return wl_err_set(err, WL_EDATA,
				"%s: the shards hold pair %lld, which %s does not have: they "
				"were packed from another corpus, or from several (--append, "
				"merge): "
				"name the one that holds all of their pairs",
				dir, (long long)s->v[i], wl_corpus_dir(c));
	}
	return 0;
}

static int audit(struct wl_corpus *c, const char *dir, const struct wl_manifest *m,
	struct ids *packed, struct ids *rejected, struct wl_audit_result *out, struct wl_err *err)
{
	struct wl_corpus_counts counts;

	for (size_t i = 0; i < m->n; i++) {
		WL_TRY(read_ids(packed, dir, m->shards[i].name, "SELECT pair_id FROM sample", err));
		WL_TRY(read_ids(
			rejected, dir, m->shards[i].name, "SELECT pair_id FROM rejected", err));
	}
	qsort(packed->v, packed->n, sizeof *packed->v, by_value);
	qsort(rejected->v, rejected->n, sizeof *rejected->v, by_value);
	WL_TRY(no_doubles(packed, dir, err));
	WL_TRY(no_doubles(rejected, dir, err));
	for (size_t i = 0; i < m->n_tombstones; i++)
		out->tombstoned += has_id(packed, m->tombstones[i]);
	for (int part = 0; part < wl_corpus_partitions(c); part++)
		WL_TRY(audit_partition(c, part, dir, packed, rejected, out, err));
	WL_TRY(no_strangers(c, packed, dir, err));
	WL_TRY(no_strangers(c, rejected, dir, err));
	WL_TRY(wl_corpus_count(c, &counts, err));
	out->quarantined = counts.quarantined;
	out->pending = counts.pending;
	out->read += counts.quarantined + counts.pending;
	if (out->read != out->pending + out->quarantined + out->dropped_dedup +
				 out->dropped_filter + out->rejected + out->packed)
		WL_BUG("the audit's own totals do not balance");
	return 0;
}

int wl_shards_audit(
	const char *corpus, const char *dir, struct wl_audit_result *out, struct wl_err *err)
{
	struct ids packed = {0}, rejected = {0};
	struct wl_manifest m = {0};
	struct wl_corpus *c = NULL;
	int ret = -1;

	*out = (struct wl_audit_result){0};
	WL_TRY_OUT(wl_manifest_read(&m, dir, err));
	c = wl_corpus_open(corpus, false, 0, err);
	if (c)
		ret = audit(c, dir, &m, &packed, &rejected, out, err);
out:
	wl_corpus_close(c);
	wl_manifest_release(&m);
	free(packed.v);
	free(rejected.v);
	return ret;
}

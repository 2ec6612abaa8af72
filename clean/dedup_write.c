/* Dedup's databases: verdicts, groups and edges into them. */
#include "clean/dedup_priv.h"

#include "ops/file.h"

#include <stdio.h>
#include <stdlib.h>

struct writer {
	sqlite3_stmt *verdict, *cluster, *bad, *edge, *meta, *vector;
};

static int write_verdict(
	struct dedup *d, struct wl_db *db, struct writer *w, size_t i, struct wl_err *err)
{
	const struct member *x = &d->m[i], *kept = &d->m[x->kept];
	char detail[WL_PAIR_NAME + 64];

	switch (x->reason) {
	case REASON_NONE:
		return 0;
	case REASON_BAD_IMAGE:
		return wl_db_run(db, w->bad, err, "i", x->id);
	case REASON_NEAR_AGAINST:
		return wl_db_run(db, w->verdict, err, "iss", x->id, dedup_reason(d, x),
			d->names[kept->id - 1]);
	case REASON_BANNER:
		snprintf(detail, sizeof(detail), "%u texts", x->kept);
		break;
	case REASON_TEMPLATE:
		snprintf(detail, sizeof(detail), "%u images", x->kept);
		break;
	default:
		wl_pair_name(kept->partition, kept->id, detail);
	}
	return wl_db_run(db, w->verdict, err, "iss", x->id, dedup_reason(d, x), detail);
}

/* The edges whose smaller end is in p; what is of --against is not kept. */
static int write_edges(struct dedup *d, int p, struct wl_db *db, struct writer *w,
	const struct wl_values *edges, int kind, struct wl_err *err)
{
	size_t low = 0, high = edges->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (edges->v[mid] >> 32 < d->base[p])
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < edges->n && edges->v[low] >> 32 < d->base[p + 1]; low++) {
		const struct member *a = &d->m[edges->v[low] >> 32];
		const struct member *b = &d->m[(uint32_t)edges->v[low]];
		if (b->partition == d->partitions)
			continue;
		WL_TRY(wl_db_run(db, w->edge, err, "iiii", (int64_t)kind, a->id,
			(int64_t)b->partition, b->id));
	}
	return 0;
}

static int writer_open(struct writer *w, struct wl_db *db, struct wl_err *err)
{
	WL_TRY(wl_db_prepare(db, &w->verdict, "INSERT INTO verdict VALUES(?,?,?)", err));
	WL_TRY(wl_db_prepare(db, &w->cluster, "INSERT INTO cluster VALUES(?,?)", err));
	WL_TRY(wl_db_prepare(db, &w->edge, "INSERT INTO edge VALUES(?,?,?,?)", err));
	WL_TRY(wl_db_prepare(db, &w->vector, "INSERT INTO vector VALUES(?,?,?)", err));
	WL_TRY(wl_db_prepare(
		db, &w->meta, "INSERT OR REPLACE INTO meta(key, value) VALUES('edges', ?)", err));
	return wl_db_prepare(db, &w->bad,
		"INSERT INTO verdict"
		" SELECT pair_id, 'bad-image', why FROM bad WHERE pair_id = ?",
		err);
}

static int write_vector(
	struct dedup *d, struct wl_db *db, struct writer *w, uint32_t i, struct wl_err *err)
{
	uint64_t image = dedup_vector_hash(d, WL_VECTORS_IMAGE, i);
	uint64_t text = dedup_vector_hash(d, WL_VECTORS_TEXT, i);

	if (!image && !text)
		return 0;
	return wl_db_run(
		db, w->vector, err, "iii", d->m[i].id, (int64_t)image, (int64_t)text);
}

static int write_all(
	struct dedup *d, int p, struct wl_db *db, struct writer *w, struct wl_err *err)
{
	char *key = d->counts->cut ? wl_strf(err, "cut") : dedup_edges_key(d, err);
	int ret = key ? wl_db_run(db, w->meta, err, "s", key) : -1;

	free(key);
	WL_TRY(ret);
	for (size_t i = d->base[p]; i < d->base[p + 1]; i++) {
		WL_TRY(wl_db_run(
			db, w->cluster, err, "ii", d->m[i].id, d->m[d->group[i]].id));
		WL_TRY(write_verdict(d, db, w, i, err));
		WL_TRY(write_vector(d, db, w, (uint32_t)i, err));
	}
	for (int side = 0; side < 2; side++)
		WL_TRY(write_edges(
			d, p, db, w, &d->vectors[side].edges, EDGE_VECTORS + side, err));
	WL_TRY(write_edges(d, p, db, w, &d->image_edges, KIND_PICTURE, err));
	return write_edges(d, p, db, w, &d->text_edges, KIND_TEXT, err);
}

int dedup_write(struct dedup *d, int p, struct wl_err *err)
{
	struct writer w = {0};
	struct wl_db db = {0};
	int ret = -1;

	WL_TRY_OUT(dedup_db(d, p, &db, err));
	WL_TRY_OUT(writer_open(&w, &db, err));
	WL_TRY_OUT(wl_db_begin(&db, err));
	WL_TRY_OUT(wl_db_exec(&db,
		"DELETE FROM verdict; DELETE FROM cluster; DELETE FROM examined; DELETE FROM edge;"
		"DELETE FROM vector;"
		"INSERT INTO examined SELECT pair_id FROM signature",
		err));
	WL_TRY_OUT(write_all(d, p, &db, &w, err));
	WL_TRY_OUT(wl_db_commit(&db, err));
	ret = 0;
out:
	if (ret < 0)
		wl_db_rollback(&db);
	sqlite3_finalize(w.verdict);
	sqlite3_finalize(w.cluster);
	sqlite3_finalize(w.bad);
	sqlite3_finalize(w.edge);
	sqlite3_finalize(w.meta);
	sqlite3_finalize(w.vector);
	wl_db_close(&db);
	return ret;
}

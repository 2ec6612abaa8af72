/* Where samples lie: see places.h. */
#include "shards/places.h"

#include "ops/file.h"
#include "shards/count.h"
#include "shards/shard_db.h"
#include "shards/tar.h"

#include <stdlib.h>
#include <string.h>

static uint64_t get_u64(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 7; i >= 0; i--)
		v = v << 8 | p[i];
	return v;
}

static uint32_t *new_places(const struct wl_shard_info *s, struct wl_err *err)
{
	uint32_t *v = calloc((size_t)s->samples + 1, sizeof *v);

	if (!v)
		wl_err_nomem(err, "a shard's index", ((size_t)s->samples + 1) * sizeof *v);
	return v;
}

uint32_t *wl_places_parse(const void *bytes, size_t n, const struct wl_shard_info *s,
	const char *path, struct wl_err *err)
{
	uint32_t *v;
	uint64_t last = 0;

	if (n != (size_t)wl_places_bytes(s->samples)) {
		wl_err_set(err, WL_EDATA,
			"%s has %zu bytes, %lld samples need %lld: run wenlan-shard repair, which "
			"writes it anew",
			path, n, (long long)s->samples, (long long)wl_places_bytes(s->samples));
		return NULL;
	}
	v = new_places(s, err);
	for (int64_t i = 0; v && i <= s->samples; i++) {
		uint64_t at = get_u64((const uint8_t *)bytes + 8 * i);

		if (at % WL_TAR_BLOCK || (i ? at <= last : at > 0) || at > (uint64_t)s->bytes) {
			wl_err_set(err, WL_EDATA,
				"%s, entry %lld: %llu is no place of a sample after %llu in a tar "
				"of %lld bytes: run wenlan-shard repair, which writes it anew",
				path, (long long)i, (unsigned long long)at,
				(unsigned long long)last, (long long)s->bytes);
			free(v);
			return NULL;
		}
		v[i] = (uint32_t)(at / WL_TAR_BLOCK);
		last = at;
	}
	return v;
}

/* The members must follow one another inside the tar. */
static int place_row(
	const struct wl_shard_row *r, const struct wl_shard_info *s, uint32_t *v, int64_t i)
{
	int64_t at = (int64_t)v[i] * WL_TAR_BLOCK;

	if (i >= s->samples || r->index != i)
		return -1;
	for (int m = 0; m < WL_MEMBERS; m++) {
		if (r->offset[m] != at + WL_TAR_BLOCK || r->length[m] < 0 ||
			r->length[m] > s->bytes - r->offset[m])
			return -1;
		at = r->offset[m] + wl_tar_padded(r->length[m]);
	}
	if (at > s->bytes)
		return -1;
	v[i + 1] = (uint32_t)(at / WL_TAR_BLOCK);
	return 0;
}

static int read_rows(const char *dir, const struct wl_shard_info *s, uint32_t *places,
	int64_t *pair_ids, struct wl_err *err)
{
	struct wl_shard_rows rows;
	struct wl_shard_row r;
	int64_t i = 0;
	int rc;

	WL_TRY(wl_shard_rows_open(&rows, dir, s->name, err));
	while ((rc = wl_shard_rows_next(&rows, &r, err)) > 0) {
		if (places ? place_row(&r, s, places, i) < 0 : i >= s->samples || r.index != i) {
			rc = wl_err_set(err, WL_EDATA,
				"%s, table sample, row %lld: expected index %lld of %lld with "
				"members one after the other inside the tar; the index is damaged: "
				"run wenlan-shard repair",
				rows.db.path, (long long)r.index, (long long)i,
				(long long)s->samples);
			break;
		}
		if (pair_ids)
			pair_ids[i] = r.pair_id;
		i++;
	}
	if (rc == 0 && i != s->samples)
		rc = wl_err_set(err, WL_EDATA,
			"%s, table sample: %s, the manifest says %lld: run wenlan-shard "
			"repair",
			rows.db.path, wl_count(i, "row").s, (long long)s->samples);
	wl_shard_rows_close(&rows);
	return rc;
}

uint32_t *wl_places_read(const char *dir, const struct wl_shard_info *s, struct wl_err *err)
{
	char *path = wl_strf(err, "%s/%s.tar.idx", dir, s->name);
	uint32_t *v = NULL;
	struct wl_buf b;

	if (!path)
		return NULL;
	wl_buf_init(&b, (size_t)wl_places_bytes(WL_SHARD_SAMPLES_MAX) + 1);
	if (wl_exists(path)) {
		if (wl_read_file(path, &b, err) == 0)
			v = wl_places_parse(b.data, b.len, s, path, err);
	} else {
		v = new_places(s, err);
		if (v && read_rows(dir, s, v, NULL, err) < 0) {
			free(v);
			v = NULL;
		}
	}
	wl_buf_release(&b);
	free(path);
	return v;
}

int wl_places_pair_ids(
	const char *dir, const struct wl_shard_info *s, int64_t *out, struct wl_err *err)
{
	return read_rows(dir, s, NULL, out, err);
}

int64_t wl_places_rejected(
	const char *dir, const struct wl_shard_info *s, int64_t *out, struct wl_err *err)
{
	char *path = wl_strf(err, "%s/%s.db", dir, s->name);
	sqlite3_stmt *st = NULL;
	struct wl_db db = {0};
	int64_t n = 0;
	int rc = -1;

	if (path && wl_db_open(&db, path, WL_DB_READ, err) == 0 &&
		wl_db_prepare(&db, &st, "SELECT pair_id FROM rejected ORDER BY 1", err) == 0)
		while ((rc = wl_db_step(&db, st, err)) > 0 && n < s->rejected)
			out[n++] = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	wl_db_close(&db);
	free(path);
	return rc < 0 ? -1 : n;
}

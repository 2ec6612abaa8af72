/* What the filter takes from dedup's databases; see dedup.h. */
#include "clean/dedup.h"
#include "clean/signature.h"

#include "ops/file.h"

#include <stdlib.h>
#include <string.h>

struct wl_known_looks {
	struct wl_db db;
	sqlite3_stmt *st;
};

struct wl_known_looks *wl_known_looks_open(struct wl_corpus *c, int p, struct wl_err *err)
{
	struct wl_known_looks *k = calloc(1, sizeof(*k));
	int generation = wl_corpus_generation(c, "dedup");
	char *path = generation ? wl_corpus_stage_path(c, "dedup", generation, p, err) : NULL;

	if (!k) {
		wl_err_nomem(err, "the looks of pictures", sizeof(*k));
		goto bad;
	}
	if (path && wl_exists(path)) {
		if (wl_db_open(&k->db, path, WL_DB_READ, err) < 0 ||
			wl_db_prepare(&k->db, &k->st,
				"SELECT aspect, grey, colour, phash, why FROM look"
				" JOIN signature USING(pair_id) LEFT JOIN bad USING(pair_id)"
				" WHERE pair_id = ? AND (SELECT value FROM meta WHERE key = 'key')"
				" = '" WL_SIGNATURE_KEY "'",
				err) < 0)
			goto bad;
	}
	free(path);
	return k;
bad:
	free(path);
	wl_known_looks_close(k);
	return NULL;
}

void wl_known_looks_close(struct wl_known_looks *k)
{
	if (!k)
		return;
	sqlite3_finalize(k->st);
	wl_db_close(&k->db);
	free(k);
}

int wl_known_look(struct wl_known_looks *k, int64_t id, struct wl_look *look, char **broken,
	struct wl_err *err)
{
	const char *why;
	int row, ret = -1;

	if (!k->st)
		return 0;
	WL_TRY(wl_db_bind(&k->db, k->st, err, "i", id));
	WL_TRY(row = wl_db_step(&k->db, k->st, err));
	why = row ? (const char *)sqlite3_column_text(k->st, 4) : NULL;
	if (why) {
		*broken = strdup(why);
		ret = *broken ? 1 : wl_err_nomem(err, "a message", strlen(why));
	} else if (row && sqlite3_column_bytes(k->st, 1) == sizeof(look->grey) &&
		   sqlite3_column_bytes(k->st, 2) == sizeof(look->colour)) {
		look->aspect_1024 = (uint32_t)sqlite3_column_int64(k->st, 0);
		look->phash = (uint64_t)sqlite3_column_int64(k->st, 3);
		memcpy(look->grey, sqlite3_column_blob(k->st, 1), sizeof(look->grey));
		memcpy(look->colour, sqlite3_column_blob(k->st, 2), sizeof(look->colour));
		ret = 1;
	} else {
		ret = 0;
	}
	sqlite3_reset(k->st);
	return ret;
}

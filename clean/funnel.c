/* See funnel.h.  Verdicts come sorted by pair, so two stages are merged in one walk. */
#include "clean/funnel.h"

#include "ops/db.h"

#include <stdlib.h>
#include <string.h>

const char *const wl_step_names[WL_STEPS] = {
	"text", "sensitive words", "image", "agreement", "topic", "duplicates"};

static enum wl_step step_of(const char *reason)
{
	static const struct {
		const char *prefix;
		enum wl_step step;
	} steps[] = {{"text-", WL_STEP_TEXT}, {"sensitive-", WL_STEP_SENSITIVE},
		{"agreement-", WL_STEP_AGREEMENT}, {"topic-", WL_STEP_TOPIC}};

	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++)
		if (strncmp(reason, steps[i].prefix, strlen(steps[i].prefix)) == 0)
			return steps[i].step;
	return WL_STEP_IMAGE;
}

/* Verdicts of one stage in one partition, by pair. */
struct walk {
	struct wl_db db;
	sqlite3_stmt *st;
	bool more;
	int64_t id;
};

static int walk_next(struct walk *w, struct wl_err *err)
{
	int row = w->st ? wl_db_step(&w->db, w->st, err) : 0;

	w->more = row > 0;
	if (row > 0)
		w->id = sqlite3_column_int64(w->st, 0);
	return row < 0 ? -1 : 0;
}

static int walk_open(
	struct walk *w, struct wl_corpus *c, const char *stage, int p, struct wl_err *err)
{
	int generation = wl_corpus_generation(c, stage), ret = -1;
	char *path;

	if (!generation)
		return 0;
	path = wl_corpus_stage_path(c, stage, generation, p, err);
	if (path && wl_db_open(&w->db, path, WL_DB_READ, err) == 0 &&
		wl_db_prepare(&w->db, &w->st,
			"SELECT pair_id, reason FROM verdict ORDER BY pair_id", err) == 0)
		ret = walk_next(w, err);
	free(path);
	return ret;
}

static void walk_close(struct walk *w)
{
	sqlite3_finalize(w->st);
	wl_db_close(&w->db);
}

static int read_partition(struct wl_corpus *c, int p, struct wl_funnel *f, struct wl_err *err)
{
	struct walk filter = {0}, dedup = {0};
	int64_t pairs = 0;
	int ret = -1;

	WL_TRY_OUT(walk_open(&filter, c, "filter", p, err));
	WL_TRY_OUT(walk_open(&dedup, c, "dedup", p, err));
	if (filter.st)
		WL_TRY_OUT(wl_db_int(&filter.db, 0, &pairs, err, "SELECT count(*) FROM examined"));
	f->pairs += pairs;
	while (filter.more || dedup.more) {
		int64_t id =
			!dedup.more || (filter.more && filter.id < dedup.id) ? filter.id : dedup.id;
		int step = WL_STEP_DUPLICATE;
		while (filter.more && filter.id == id) {
			int s = (int)step_of((const char *)sqlite3_column_text(filter.st, 1));
			step = s < step ? s : step;
			WL_TRY_OUT(walk_next(&filter, err));
		}
		while (dedup.more && dedup.id == id)
			WL_TRY_OUT(walk_next(&dedup, err));
		f->dropped[step]++;
	}
	ret = 0;
out:
	walk_close(&filter);
	walk_close(&dedup);
	return ret;
}

int wl_funnel_read(struct wl_corpus *c, struct wl_funnel *f, struct wl_err *err)
{
	memset(f, 0, sizeof(*f));
	for (int p = 0; p < wl_corpus_partitions(c); p++)
		WL_TRY(read_partition(c, p, f, err));
	return 0;
}

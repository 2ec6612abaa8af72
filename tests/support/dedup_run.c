/* See dedup_run.h. */
#include "tests/support/dedup_run.h"

#include "tests/support/cm.h"
#include "tests/support/corpus_make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int dedup_run(const char *dir, const struct wl_dedup_options *o, struct wl_dedup_counts *n,
	struct wl_err *err)
{
	struct wl_corpus *c = wl_corpus_open(dir, false, 0, err);
	int ret = c ? wl_dedup(c, o, n, err) : -1;

	wl_corpus_close(c);
	return ret;
}

int dedup_rank(struct wl_comm *comm, void *user, struct wl_err *e)
{
	struct on_ranks *r = user;
	struct wl_dedup_counts n;
	struct wl_corpus *c = wl_corpus_open(r->dir, false, 0, e);
	int ret = c ? wl_dedup_on(comm, c, &r->o, &n, e) : -1;

	wl_corpus_close(c);
	if (ret >= 0 && wl_comm_rank(comm) == 0)
		r->n = n;
	return ret;
}

void dedup_expect(const char *dir, int64_t id, const char *reason, int64_t kept)
{
	char sql[160], *got, tail[64];
	bool ok;

	snprintf(sql, sizeof(sql), "SELECT reason, detail FROM verdict WHERE pair_id = %lld",
		(long long)id);
	got = stage_dump(dir, "dedup", sql);
	snprintf(tail, sizeof(tail), "-%lld\n", (long long)kept);
	if (reason)
		ok = strncmp(got, reason, strlen(reason)) == 0 && got[strlen(reason)] == '|' &&
			(!kept || (strrchr(got, '-') && strcmp(strrchr(got, '-'), tail) == 0));
	else
		ok = *got == 0;
	if (!ok)
		fail_msg("pair %lld: verdict \"%s\", expected %s of %lld", (long long)id, got,
			reason ? reason : "none", (long long)kept);
	free(got);
}

void dedup_same(const char *a, const char *b)
{
	static const char *const tables[] = {"SELECT * FROM signature ORDER BY 1",
		"SELECT * FROM look ORDER BY 1", "SELECT * FROM verdict ORDER BY 1, 2",
		"SELECT * FROM cluster ORDER BY 1", "SELECT * FROM examined ORDER BY 1",
		"SELECT * FROM bad ORDER BY 1", "SELECT * FROM near ORDER BY 1",
		"SELECT * FROM edge ORDER BY 1, 2, 3, 4", "SELECT * FROM vector ORDER BY 1"};

	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
		char *x = stage_dump(a, "dedup", tables[i]), *y = stage_dump(b, "dedup", tables[i]);

		if (strcmp(x, y) != 0)
			fail_msg("%s differs between the two runs:\n%.2000s\n%.2000s", tables[i], x,
				y);
		free(x);
		free(y);
	}
}

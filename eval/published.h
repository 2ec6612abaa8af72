/*
 * Published numbers (FACTS 19), and our rows among them.  A row of ours is put only into the table
 * whose protocol it was measured by, so that what stands side by side can be compared.
 */
#ifndef WL_EVAL_PUBLISHED_H
#define WL_EVAL_PUBLISHED_H

#include "eval/report_out.h"

enum { WL_PUBLISHED_COLUMNS = 8 };

/* What we measured: for the table with this key ("aic-icc", "wenlan", "caption", "ranking",
 * "flickr30k-cn", "coco-cn", "muge"), values in its columns' order; NAN: not measured. */
struct wl_own_row {
	const char *table, *name;
	double value[WL_PUBLISHED_COLUMNS];
};

/* A result file of `wenlan-eval retrieval` (with a protocol), `caption` (level aic) or `ranking`
 * as a row; path tells a ranking's direction ("i2t" or "t2i" in its name).  Returns 1 when it is
 * a row, 0 when there is no table for it.  row->table points to static memory. */
int wl_own_row_from_json(const json_t *o, const char *path, struct wl_own_row *row);

/* The paper's Tables 1 to 4, and of the later ones those that we have a row for.  Also into
 * r->json as "tables". */
WL_MUST_CHECK int wl_published_tables(struct wl_report_out *r, const struct wl_own_row *own,
	size_t n_own, struct wl_err *err);

#endif

/*
 * Graded rankings out of files.
 *
 *   lists   CSV with a header (query, rank, item and any other columns: one annotator each; rank
 * and item may be left out), or JSON lines {"query", "grades": [...]}, a grade being a number or
 * the list of the annotators' numbers.  Annotators are summed (paper, section 3.4). TREC    qrels
 * "query 0 document grade" and run "query Q0 document rank score tag".  The rank column is not
 * used: documents are ordered by score (as float, as trec_eval keeps it), ties by name, the larger
 * first, which is trec_eval's rule.
 */
#ifndef WL_EVAL_RANKFILE_H
#define WL_EVAL_RANKFILE_H

#include "ops/arena.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

struct wl_ranked {
	const char *query;
	int32_t *grade; /* [n] in the order of the ranking; owned by the arena */
	int32_t *ideal; /* [n_ideal] descending */
	size_t n, n_ideal;
};

struct wl_rankings {
	struct wl_arena arena;
	struct wl_ranked *v; /* [n], in order of first sight */
	size_t n, cap;
	int32_t *grades; /* [items][raters]: single grades, for agreement; NULL for TREC */
	size_t items, raters, cap_grades;
};

/* By the first byte: '{' is JSON lines, all else CSV.  WL_EDATA with the line. */
WL_MUST_CHECK int wl_rankings_load(struct wl_rankings *r, const char *path, struct wl_err *err);
WL_MUST_CHECK int wl_rankings_parse(
	struct wl_rankings *r, char *text, const char *path, struct wl_err *err);

/* WL_EDATA with counts and the first offenders when a query is in one file only (unless
 * allow_missing: then it is left out, as trec_eval does), and with the line for a document that
 * comes twice in a query or a score that is no number. */
WL_MUST_CHECK int wl_rankings_load_trec(struct wl_rankings *r, const char *qrels, const char *run,
	bool allow_missing, struct wl_err *err);
WL_MUST_CHECK int wl_rankings_parse_trec(struct wl_rankings *r, char *qrels, char *run,
	const char *qrels_path, const char *run_path, bool allow_missing, struct wl_err *err);

void wl_rankings_release(struct wl_rankings *r);

/* For the two readers: a new ranking at the end of v, zeroed but for its query's copy. */
WL_MUST_CHECK struct wl_ranked *wl_rankings_add(
	struct wl_rankings *r, const char *query, struct wl_err *err);

#endif

/*
 * Scores of image-text agreement that a model gave (wenlan-embed, or anybody's), by pair:
 * lines "PAIR,SCORE" or "PAIR<TAB>SCORE" (a first line of names is skipped), or JSON objects
 * {"pair_id" or "name": .., "score": ..} one a line.  PAIR is the id or PPPPP-ID.  Lines that begin
 * with # say nothing.
 */
#ifndef WL_CLEAN_SCORES_H
#define WL_CLEAN_SCORES_H

#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wl_scores; /* immutable; 24 bytes a pair */

/* WL_EDATA naming the line for what is no score, a pair with two different ones, or a file
 * without any. */
struct wl_scores *wl_scores_load(const char *path, struct wl_err *err);
void wl_scores_free(struct wl_scores *s);
size_t wl_scores_count(const struct wl_scores *s);
/* SHA-256 of pairs and scores, whatever their order: what verdicts depend on. */
const char *wl_scores_hash(const struct wl_scores *s);
bool wl_scores_get(const struct wl_scores *s, int64_t pair_id, double *score);
/* The score below which a share q in [0, 1] of all pairs lies: the floor(q * count)-th lowest
 * (at q = 1 the highest); the same of n sorted scores, n > 0. */
double wl_scores_quantile(const struct wl_scores *s, double q);
double wl_quantile(const double *sorted, size_t n, double q);

#endif

/*
 * A directory of safetensors files with embeddings of a corpus' pairs, as clean/pairvectors.h reads
 * them: PPPPP-NNNNN.safetensors are of partition P.  Files are whole or not there; whoever opens
 * the directory again adds to it, so that a killed run loses some minutes, and pairs that come
 * later get files of their own.
 */
#ifndef WL_EVAL_EMBED_VECTORS_H
#define WL_EVAL_EMBED_VECTORS_H

#include "ops/err.h"
#include "ops/saved.h"

#include <stdbool.h>
#include <stddef.h>

struct wl_vector_files;

/* model: what tells this model from others, kept in each file.  WL_EUSAGE when the directory has
 * files of another one and replace is not set (then they are removed); WL_EDATA for a file that is
 * damaged.  store: WL_SAVED_F32, F16 or BF16.  NULL on failure. */
struct wl_vector_files *wl_vector_files_open(const char *dir, const char *model, int64_t dim,
	enum wl_saved_dtype store, bool replace, struct wl_err *err);
/* What was not flushed is lost; accepts NULL. */
void wl_vector_files_close(struct wl_vector_files *f);

/* Pairs that were there when it was opened. */
size_t wl_vector_files_count(const struct wl_vector_files *f);
bool wl_vector_files_has(const struct wl_vector_files *f, int partition, int64_t id);

/* Adds a pair's vectors [dim], either of them NULL when there is none.  Pairs of a partition come
 * one after the other.  Files are finished now and then by themselves. */
WL_MUST_CHECK int wl_vector_files_add(struct wl_vector_files *f, int partition, int64_t id,
	const float *image, const float *text, struct wl_err *err);
WL_MUST_CHECK int wl_vector_files_flush(struct wl_vector_files *f, struct wl_err *err);

#endif

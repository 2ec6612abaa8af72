/*
 * NumPy's .npy files, read only: one array of numbers after a header that is the text
 * of a Python dictionary (NEP 1; numpy/lib/format.py).  Versions 1 to 3; f2, f4, f8, i1
 * to i8, u1, b1, little-endian; C or Fortran order; rank up to 8.
 *
 * The header is parsed strictly, never evaluated; a file shorter or longer than its header
 * says is refused.
 */
#ifndef WL_EVAL_NPY_H
#define WL_EVAL_NPY_H

#include "ops/err.h"
#include "ops/saved.h"

#include <stddef.h>
#include <stdint.h>

/* The array in the n bytes; `out` points into them (its name is `path`, borrowed).  WL_EDATA. */
WL_MUST_CHECK int wl_npy_parse(const void *bytes, size_t n, const char *path,
	struct wl_saved_tensor *out, struct wl_err *err);

/* A file with a matrix, as fp32 in fresh memory [rows, cols] that the caller frees. */
WL_MUST_CHECK int wl_npy_load_matrix(const char *path, float **out, int64_t *rows, int64_t *cols,
	struct wl_err *err);

/* A file of integers of any shape of rank 1 or 2, in fresh memory that the caller frees; cols
 * is 1 for rank 1. */
WL_MUST_CHECK int wl_npy_load_integers(const char *path, int64_t **out, int64_t *rows,
	int64_t *cols, struct wl_err *err);

#endif

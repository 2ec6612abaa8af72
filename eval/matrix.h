/* Features of other programs: FILE.npy, FILE.npz[:NAME] or FILE.safetensors[:NAME]. */
#ifndef WL_EVAL_MATRIX_H
#define WL_EVAL_MATRIX_H

#include "ops/err.h"

#include <stdint.h>

/* As fp32 in fresh memory [rows, cols] that the caller frees.  Without a NAME the file must hold
 * one matrix.  WL_EDATA for what is damaged or not a matrix. */
WL_MUST_CHECK int wl_matrix_load(const char *spec, float **out, int64_t *rows, int64_t *cols,
	struct wl_err *err);

#endif

/* Blocked dot products of rows: every score is the same chain of multiply-adds
 * whether it is computed alone or in a tile. */
#ifndef WL_OPS_SCORE_H
#define WL_OPS_SCORE_H

#include <stddef.h>
#include <stdint.h>

/* Rows of a register tile and of a packed block of the left side; columns of a register
 * tile.  Multiples of these are what callers pad to. */
int64_t wl_score_mr(void);
int64_t wl_score_nr(void);

/* Copies rows [n, dim] into panels of `width` rows, dimension by dimension; the last panel is
 * filled up with zeros.  out holds ceil(n/width)*width*dim floats. */
void wl_score_pack(const float *rows, int64_t n, int64_t dim, int64_t width, float *out);

/* c [m, ldc] = the scores of m packed left rows (panels of mr) against n packed right rows
 * (panels of nr); m and n are multiples of mr and nr. */
void wl_score_tile(const float *left, const float *right, int64_t m, int64_t n, int64_t dim,
	float *c, int64_t ldc);

/* The scores of n pairs of rows: out[p] = left[left_row[p]] . right[right_row[p]]. */
void wl_score_pairs(const float *left, const int64_t *left_row, const float *right,
	const int64_t *right_row, int64_t n, int64_t dim, float *out);

#endif

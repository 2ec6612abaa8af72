/*
 * The counts of taps that occur have copies of their own, in which all pointers and weights stay
 * in registers; a block of three planes is then some 25 instructions.
 */
#include "loader/mix.h"

#include "loader/augment_formula.h"

enum { LANES = 16 };

typedef float v16 __attribute__((vector_size(64), aligned(4), may_alias));

/* One plane's rows into out. */
static void mix_one(const struct wl_mix *m, int n)
{
	int i, j;

	for (i = 0; i < n; i += LANES) {
		v16 sum = *(const v16 *)(const void *)(m->row[0] + i) * m->w[0];

		for (j = 1; j < m->taps; j++)
			sum += *(const v16 *)(const void *)(m->row[j] + i) * m->w[j];
		*(v16 *)(void *)(m->out + i) = sum;
	}
}

enum { MIX_MOST = 4 }; /* taps of which mix_colours has its own copies */

/* Luma of ty taps, chroma of tc taps, to red, green and blue.  A block is read before it is
 * written, for a plane's row may be where its colour goes. */
static inline __attribute__((always_inline)) void mix_colours(const struct wl_mix m[3],
	int ty, int tc, int n)
{
	const float *row[3][MIX_MOST];
	float w[3][MIX_MOST], *red = m[0].out, *green = m[1].out, *blue = m[2].out;
	int i, j, k, p;

	for (p = 0; p < 3; p++)
		for (j = 0; j < (p ? tc : ty); j++) {
			row[p][j] = m[p].row[j];
			w[p][j] = m[p].w[j];
		}
	for (i = 0; i < n; i += LANES) {
		float v[3][LANES];

		for (p = 0; p < 3; p++) {
			v16 sum = *(const v16 *)(const void *)(row[p][0] + i) * w[p][0];

			for (j = 1; j < (p ? tc : ty); j++)
				sum += *(const v16 *)(const void *)(row[p][j] + i) * w[p][j];
			*(v16 *)(void *)v[p] = sum;
		}
		for (k = 0; k < LANES; k++)
			wl_aug_ycc(&v[0][k], &v[1][k], &v[2][k]);
		*(v16 *)(void *)(red + i) = *(v16 *)(void *)v[0];
		*(v16 *)(void *)(green + i) = *(v16 *)(void *)v[1];
		*(v16 *)(void *)(blue + i) = *(v16 *)(void *)v[2];
	}
}

static void to_rgb(const struct wl_mix m[3], int n)
{
	float *restrict y = m[0].out, *restrict u = m[1].out, *restrict v = m[2].out;
	int i;

	for (i = 0; i < n; i++)
		wl_aug_ycc(&y[i], &u[i], &v[i]);
}

void wl_mix(const struct wl_mix m[], int planes, bool ycc, int n)
{
	int p, ty, tc;

	ty = m[0].taps;
	tc = planes == 3 && m[1].taps == m[2].taps ? m[1].taps : 0;
	if (ycc && ty == 2 && tc == 3) /* enlarged, chroma halved */
		mix_colours(m, 2, 3, n);
	else if (ycc && ty == 2 && tc == 2) /* enlarged */
		mix_colours(m, 2, 2, n);
	else if (ycc && ty == 1 && tc >= 1 && tc <= MIX_MOST)
		switch (tc) { /* shrunk, chroma by less than its own size */
		case 1:
			mix_colours(m, 1, 1, n);
			break;
		case 2:
			mix_colours(m, 1, 2, n);
			break;
		case 3:
			mix_colours(m, 1, 3, n);
			break;
		default:
			mix_colours(m, 1, 4, n);
		}
	else {
		for (p = 0; p < planes; p++)
			mix_one(&m[p], n);
		if (ycc)
			to_rgb(m, n);
	}
}

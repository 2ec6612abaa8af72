/*
 * The resizer's last step: rows of planes, weighted, become a row of red, green and blue.
 */
#ifndef WL_LOADER_MIX_H
#define WL_LOADER_MIX_H

#include <stdbool.h>

/* One plane: out = sum over taps of w[j] row[j]. */
struct wl_mix {
	const float **row; /* [taps] rows of n floats; the only one may be out itself */
	const float *w;    /* [taps] */
	int taps;
	float *out;
};

/* m: [planes], 1 or 3 of them; ycc: the three are YCbCr, and out gets red, green and blue, clamped
 * to [0, 1].  n: floats of a row, a multiple of 16. */
void wl_mix(const struct wl_mix m[], int planes, bool ycc, int n);

#endif

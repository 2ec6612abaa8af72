/* What the text rules look at, counted over a normalised text. */
#ifndef WL_CLEAN_MEASURE_H
#define WL_CLEAN_MEASURE_H

#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>

struct wl_measure {
	size_t chars;	/* visible characters: no spaces */
	size_t letters; /* letters and digits among them */
	size_t han;	/* Chinese characters among these */
	size_t run;	/* longest run of one and the same letter */
	double repeat;	/* share of 4-grams of letters that stood before in the text; 0 when there
			 * are  fewer than eight of them */
	bool garbled;	/* traces of text decoded under the wrong charset */
};

WL_MUST_CHECK int wl_measure(
	const char *text, size_t len, struct wl_measure *m, struct wl_err *err);

#endif

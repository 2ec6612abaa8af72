/* What the text rules look at, counted over a normalised text. */
#ifndef WL_CLEAN_MEASURE_H
#define WL_CLEAN_MEASURE_H

#include "clean/text.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>

struct wl_measure {
	size_t chars;	/* visible characters: no spaces */
	size_t letters; /* letters and digits among them */
	size_t han;	/* Chinese characters among these */
	size_t foreign; /* letters that are neither Chinese nor Latin nor digits */
	size_t common;	/* Chinese characters of everyday use: GB 2312's first level, 3,755 */
	size_t run;	/* longest run of one and the same letter */
	double repeat;	/* share of 4-grams of letters that stood before in the text; 0 when there
			 * are  fewer than eight of them */
	bool garbled;	/* traces of text decoded under the wrong charset */
};

/* tx: for the table of GB 2312. */
WL_MUST_CHECK int wl_measure(const struct wl_text *tx, const char *text, size_t len,
	struct wl_measure *m, struct wl_err *err);

/* Whether the text is the name of a file (IMG_20200101_001.jpg, 微信图片_2020.png) or of nothing
 * else but a camera's or program's making. */
bool wl_is_file_name(const char *text, size_t len);

#endif

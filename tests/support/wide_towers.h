/* The tiny towers with weights behind the picture's: enough for several buckets of an exchange. */
#ifndef WL_TESTS_WIDE_TOWERS_H
#define WL_TESTS_WIDE_TOWERS_H

#include "tests/support/tiny_towers.h"

struct wide {
	int64_t width;
	int depth; /* matrices of width x width, between two narrow ones */
};

/* w is borrowed and must outlive the towers. */
void wide_towers(struct wl_towers *t, const struct wide *w);

#endif

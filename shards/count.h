/* "1 pair", "2 pairs": counts in messages.  Inline: one function. */
#ifndef WL_SHARDS_COUNT_H
#define WL_SHARDS_COUNT_H

#include <stdint.h>
#include <stdio.h>

struct wl_count {
	char s[48];
};

/* n of something whose name takes an s; at most 24 bytes of the name.  To be used as
 * wl_count(n, "pair").s, which lives to the end of the expression that it is in. */
static inline struct wl_count wl_count(int64_t n, const char *one)
{
	struct wl_count c;

	snprintf(c.s, sizeof c.s, "%lld %.24s%s", (long long)n, one, n == 1 ? "" : "s");
	return c;
}

#endif

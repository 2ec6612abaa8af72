/* Between vocab.c (counting, layout), vocab_merge.c and vocab_corpus.c. */
#ifndef WL_LOADER_VOCAB_PRIV_H
#define WL_LOADER_VOCAB_PRIV_H

#include "ops/arena.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct counted {
	char *s; /* NULL: a free slot */
	int64_t count;
};

/* How often each string was added. */
struct counts {
	struct counted *v; /* [slots], open addressing, a power of two */
	size_t slots, n;
	struct wl_arena strings;
};

WL_MUST_CHECK int counts_add(
	struct counts *c, const char *s, size_t n, int64_t times, struct wl_err *err);
/* All of them by string, in fresh memory that the caller frees (the strings stay the table's). */
WL_MUST_CHECK int counts_sorted(const struct counts *c, struct counted **out, struct wl_err *err);
void counts_release(struct counts *c);

/* Byte-pair merging over the words for which skip() is false.  Calls put for each piece made, most
 * frequent first, until none was seen min_count times or put returns 1 (enough). */
WL_MUST_CHECK int vocab_merge(const struct counts *words, bool (*skip)(const char *word),
	int64_t min_count, int (*put)(void *ctx, const char *piece, struct wl_err *err), void *ctx,
	struct wl_err *err);

#endif

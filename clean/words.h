/*
 * Many words looked for at once (Aho and Corasick 1975), over bytes.
 */
#ifndef WL_CLEAN_WORDS_H
#define WL_CLEAN_WORDS_H

#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wl_words; /* words may be added until the first search; then it is immutable */

struct wl_words *wl_words_new(struct wl_err *err);
void wl_words_free(struct wl_words *w);
/* tag: what a match gives back; of equal words the first tag stands.  n > 0. */
WL_MUST_CHECK int wl_words_add(
	struct wl_words *w, const char *word, size_t n, int32_t tag, struct wl_err *err);
/* Must be called once, after the last word. */
WL_MUST_CHECK int wl_words_build(struct wl_words *w, struct wl_err *err);
size_t wl_words_count(const struct wl_words *w);

struct wl_match {
	int32_t tag;
	size_t at, len; /* in bytes */
};
/* The match that ends first, the longest of those.  bounded: only where no ASCII letter or
 * digit touches it ("av" is not in "have").  For any number of threads. */
bool wl_words_find(
	const struct wl_words *w, const char *text, size_t n, bool bounded, struct wl_match *m);

#endif

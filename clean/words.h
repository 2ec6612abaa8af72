/*
 * Tens of thousands of words looked for at once, also where somebody took pains to hide them.
 *
 * A word is found in any writing that folds to the same letters (clean/fold.h), and
 *   - Chinese, kana and Hangul words (one such character is enough) across separators: 敏*感 词
 *     and 敏🙂感词 are 敏感词.  Where the separators are hard (clean/fold.h) only when they
 * stand between all letters of a word of three or more: 敏，感，词, but not 中毒，品牌 for 毒品;
 *   - all other words only between boundaries ("av" is not in "have"), as they are listed, or
 *     spelled out (three letters or more, a soft separator between all of them: b.a.d);
 *   - with digits and signs for Latin letters (p0rn, b@dc0): in words with three such letters or
 *     more, for half of them at most.
 * Between two letters stand WL_WORDS_GAP_MAX separators at most.
 *
 * One pass: each character is folded by a table, separators are stepped over, and a table of how
 * the words begin (three letters) tells at which places to walk the trie; that is where nearly all
 * text ends.  With AVX-512 these steps take 64 bytes and 16 letters at once (words_block.h).
 * Measured three times as fast as Hyperscan on text that was folded before
 * (tests/bench/bench_words.c).
 */
#ifndef WL_CLEAN_WORDS_H
#define WL_CLEAN_WORDS_H

#include "clean/fold.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WL_WORDS_GAP_MAX = 12, WL_WORDS_LETTERS_MAX = 200 };

struct wl_words; /* words may be added until it is built; then immutable, for any thread */

/* fold: borrowed, must live longer. */
struct wl_words *wl_words_new(const struct wl_fold *fold, struct wl_err *err);
void wl_words_free(struct wl_words *w);
/* tag: what a match gives back (>= 0); of equal words the first tag stands.  1: added or there
 * already; 0: it has fewer than two letters, more than WL_WORDS_LETTERS_MAX, or a longer gap than
 * words may have, so it is not looked for (one character alone would be found everywhere). */
WL_MUST_CHECK int wl_words_add(
	struct wl_words *w, const char *word, size_t n, int32_t tag, struct wl_err *err);
/* Must be called once, after the last word. */
WL_MUST_CHECK int wl_words_build(struct wl_words *w, struct wl_err *err);
size_t wl_words_count(const struct wl_words *w);

struct wl_match {
	int32_t tag;
	size_t at, len; /* bytes of the text, separators inside included */
};

enum wl_words_flags {
	WL_WORDS_SPACED = 1, /* only words that need their boundaries */
};

/* Calls found(ctx, match) for every match, by where they begin, shorter ones first, until it
 * returns false.  text: any bytes (bad UTF-8 separates). */
void wl_words_scan(const struct wl_words *w, const char *text, size_t n, unsigned flags,
	bool (*found)(void *ctx, const struct wl_match *m), void *ctx);
/* The first of these matches. */
bool wl_words_find(
	const struct wl_words *w, const char *text, size_t n, unsigned flags, struct wl_match *m);

#endif

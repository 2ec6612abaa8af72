/*
 * What a character is to the word lists: the one form that all its disguises share.
 *
 * Folded away are compatibility forms (full-width, circled, mathematical letters; NFKC), case,
 * marks over letters, Traditional writing (character by character) and letters of other scripts
 * that look like Latin ones (ICU's confusables: Cyrillic а is a).  What is no letter or digit
 * separates: softly (spaces, stars, emoji, invisible characters, by which people cut a word to
 * hide it) or hard (the punctuation between clauses, where two words may meet by chance).
 */
#ifndef WL_CLEAN_FOLD_H
#define WL_CLEAN_FOLD_H

#include "clean/text.h"
#include "ops/err.h"

#include <stddef.h>
#include <stdint.h>

struct wl_fold; /* a table of all letters, 1 MB; immutable: for any number of threads */

/* tx is used while building only.  NULL when out of memory or without ICU's data. */
struct wl_fold *wl_fold_new(const struct wl_text *tx, struct wl_err *err);
void wl_fold_free(struct wl_fold *f);

enum {
	WL_FOLD_SOFT = 1, /* a separator that hides words */
	WL_FOLD_HARD = 2, /* a separator of clauses */
	WL_FOLD_MAX = 18, /* most characters that one unfolds to (U+FDFA) */
};

/* What c is: WL_FOLD_SOFT, WL_FOLD_HARD or its folded form; 0 when that is several characters,
 * which wl_fold_several gives. */
uint32_t wl_fold_at(const struct wl_fold *f, uint32_t c);
/* The folded letters and digits of such a c: how many (2..WL_FOLD_MAX). */
size_t wl_fold_several(const struct wl_fold *f, uint32_t c, uint32_t out[WL_FOLD_MAX]);

/* Whether words of this (folded) character are written without spaces between them: Chinese,
 * kana, Hangul.  Others need their boundaries. */
int wl_fold_unspaced(uint32_t folded);

#endif

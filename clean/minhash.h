/*
 * Texts that say nearly the same, by their match keys (clean/text.h).
 *
 * A key's shingles are its runs of three characters (within one caption); two keys are near when
 * the Jaccard index of their sets of shingles is at least a threshold.  MinHash (Broder 1997)
 * with bands finds candidates: 128 hashes, cut into bands of `rows` such that a pair right at
 * the threshold shares a band with a chance of 0.99 or more; every candidate is then judged by
 * the exact index.
 *
 * A short key (under WL_TEXT_SHORT characters) has too few shingles for that: one character
 * changed is already a third of them.  Two short keys are near when one insertion, deletion or
 * substitution turns one into the other, and it is no digit ("the 1st" is not "the 2nd"); under
 * WL_TEXT_EDIT_MIN characters only equal keys are the same text, for one character is much there.
 */
#ifndef WL_CLEAN_MINHASH_H
#define WL_CLEAN_MINHASH_H

#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	WL_MINHASH = 128, /* hashes of a signature */
	WL_SHINGLE = 3,	  /* characters */
	WL_TEXT_SHORT = 20,
	WL_TEXT_EDIT_MIN = 8,
	WL_TEXT_VARIANTS = WL_TEXT_SHORT + 1,
	WL_TEXT_KEY_MAX = 64 * 1024, /* bytes of a key that are looked at */
};

/* Characters of a key; captions are separated by '\n', which is none. */
size_t wl_key_chars(const char *key, size_t n);
/* Whether a key is judged by edits and not by shingles: short, and one caption. */
bool wl_key_is_short(const char *key, size_t n);

/* The signature of a key that is not short. */
WL_MUST_CHECK int wl_minhash(
	const char *key, size_t n, uint32_t out[WL_MINHASH], struct wl_err *err);

struct wl_bands {
	int bands, rows; /* bands * rows <= WL_MINHASH */
};
/* jaccard in (0, 1]. */
struct wl_bands wl_bands_for(double jaccard);
/* The chance that a pair with this index shares a band. */
double wl_bands_recall(struct wl_bands b, double jaccard);
uint64_t wl_band_key(const uint32_t sig[WL_MINHASH], struct wl_bands b, int band);

/* What two short keys one edit apart have in common: hashes of the key and of the key without
 * each of its characters.  Gives how many; 0 for keys under WL_TEXT_EDIT_MIN. */
int wl_key_variants(const char *key, size_t n, uint64_t out[WL_TEXT_VARIANTS]);

/* The Jaccard index of the shingles.  -1 on failure. */
double wl_jaccard(const char *a, size_t na, const char *b, size_t nb, struct wl_err *err);

/* 1 near, 0 not. */
WL_MUST_CHECK int wl_keys_near(const char *a, size_t na, const char *b, size_t nb, double jaccard,
	struct wl_err *err);

#endif

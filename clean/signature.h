/*
 * What dedup remembers of a pair: exact hashes of pixels and words, the look of the picture.
 */
#ifndef WL_CLEAN_SIGNATURE_H
#define WL_CLEAN_SIGNATURE_H

#include "clean/pairtext.h"
#include "clean/minhash.h"
#include "clean/match.h"
#include "clean/text.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Changes when a signature of the same pair would come out different. */
#define WL_SIGNATURE_VERSION 3
#define WL_SIGNATURE_KEY "signature 3" /* what dedup's databases are begun under */
#define WL_SIGNATURE_KEY_SMALL "signature 3, small"
enum { WL_SIGNATURE_HASH = 16 }; /* bytes kept of a SHA-256 */

struct wl_signature {
	uint8_t pixel_hash[WL_SIGNATURE_HASH]; /* of width, height and upright RGB */
	uint8_t text_hash[WL_SIGNATURE_HASH];  /* of the captions' keys */
	bool has_text; /* false: no caption has a letter or digit, so nothing to compare */
	int words;     /* letters and digits of the longest caption */
	char *key;     /* the captions' keys, sorted, each once, one a line; owned */
	size_t key_len;
	bool has_minhash; /* the key is not a short one */
	uint32_t minhash[WL_MINHASH];
	struct wl_view picture;
};
/* Frees what it holds; accepts NULL and a zeroed one. */
void wl_signature_release(struct wl_signature *s);

/* The texts' half: the keys of the captions (all texts of the best kind), sorted, each once,
 * so that the order of five captions does not matter. */
WL_MUST_CHECK int wl_signature_text(struct wl_signature *s, const struct wl_text *tx,
	const char *source, const char *texts, const char *pair, struct wl_err *err);

/* The picture's half.  WL_EDATA when it cannot be decoded.  small: a JPEG is decoded at a quarter
 * of its size or so, which is three times as fast; then its bytes stand for its pixels (so that
 * equal pixels in other bytes are only near), and the perceptual hash may differ from
 * imagehash's in a bit or two. */
WL_MUST_CHECK int wl_signature_image(
	struct wl_signature *s, const void *bytes, size_t n, bool small, struct wl_err *err);

#endif

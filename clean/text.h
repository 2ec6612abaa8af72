/*
 * Texts as they go into the shards, and keys by which texts are compared.
 *
 * Normalising keeps what a reader sees and drops what a page's machinery left: HTML entities
 * and tags, controls, invisible characters, runs of spaces, URLs; it composes (NFC), masks
 * personal numbers, and turns Traditional characters into Simplified ones where the text is
 * Traditional (OpenCC's t2s with its phrases; character by character would corrupt words, and
 * Simplified text is left alone).  Compatibility forms (full-width letters, circled digits)
 * stay: folding them would change the tokens that BriVL's tokeniser gives.
 * Normalising a second time changes nothing.
 *
 * A key is the opposite: all that may differ between two writings of the same words is gone.
 */
#ifndef WL_CLEAN_TEXT_H
#define WL_CLEAN_TEXT_H

#include "ops/buf.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wl_text; /* tables and OpenCC's dictionaries; immutable: for any number of threads */

/* NULL when OpenCC's data (t2s.json, s2t.json of libopencc-data) or ICU's is missing. */
struct wl_text *wl_text_open(struct wl_err *err);
void wl_text_close(struct wl_text *t);

enum wl_text_flags {
	WL_TEXT_KEEP_PII = 1,	      /* numbers and addresses are counted, not masked */
	WL_TEXT_KEEP_TRADITIONAL = 2, /* detected, not converted */
};

enum { WL_TEXT_MAX_BYTES = 4 << 20 }; /* longer input is cut at a character */

struct wl_text_facts {
	bool traditional; /* more characters are Traditional-only than Simplified-only */
	int mobiles, id_cards, emails; /* found (and masked as "***") */
	size_t bad_bytes; /* of the input, not UTF-8: replaced by U+FFFD, which stays visible */
};

/* Replaces what is in out.  source: the pair's; "weibo..." has rules of its own: mentions,
 * repost chains and emoji codes go, #topics# keep their words.  facts may be NULL. */
WL_MUST_CHECK int wl_text_normalise(const struct wl_text *t, const char *source, const char *text,
	size_t len, unsigned flags, struct wl_buf *out, struct wl_text_facts *facts,
	struct wl_err *err);

/* Replaces what is in out by the match key: NFKC with case folded, only letters and digits
 * (Unicode L*, N*, and marks after a letter).  Takes any text; for captions the normalised
 * one. */
WL_MUST_CHECK int wl_text_key(const struct wl_text *t, const char *text, size_t len,
	struct wl_buf *out, struct wl_err *err);

/* Replaces what is in out by NFKC with case folded, separators kept: for words that need their
 * boundaries. */
WL_MUST_CHECK int wl_text_fold(const struct wl_text *t, const char *text, size_t len,
	struct wl_buf *out, struct wl_err *err);

/* Whether c is written in Traditional (1) or in Simplified (-1) text only; 0: in both. */
int wl_text_script(const struct wl_text *t, uint32_t c);

#endif

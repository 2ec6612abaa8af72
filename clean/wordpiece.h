/*
 * BERT's tokeniser (FACTS 10, the rules of Hugging Face's tokenization_bert.py): clean, CJK
 * spacing, lower-case, NFD without Mn, punctuation, then greedy longest-match WordPiece.
 */
#ifndef WL_CLEAN_WORDPIECE_H
#define WL_CLEAN_WORDPIECE_H

#include "ops/err.h"

#include <stddef.h>
#include <stdint.h>

struct wl_vocab; /* immutable after loading: may be used by any number of threads */

/* One token a line, UTF-8; must hold [PAD] [UNK] [CLS] [SEP]; WL_EDATA names line and reason
 * (duplicate token, bad UTF-8, missing special).  NULL on failure. */
struct wl_vocab *wl_vocab_load(const char *path, struct wl_err *err);
struct wl_vocab *wl_vocab_parse(const char *text, size_t len, const char *what, struct wl_err *err);
void wl_vocab_free(struct wl_vocab *v);
size_t wl_vocab_size(const struct wl_vocab *v);
/* The token's text; NULL when id is out of range. */
const char *wl_vocab_token(const struct wl_vocab *v, int32_t id);
/* The id of a token, -1 when it is not in the vocabulary. */
int32_t wl_vocab_id(const struct wl_vocab *v, const char *token);

/* ids[0..max): [CLS] pieces [SEP], cut from the right to max, padded with [PAD].  Returns the
 * number of ids before the padding (>= 2); max >= 2.  Text that is not UTF-8 has its bad bytes
 * replaced by U+FFFD (which the rules then drop). */
size_t wl_wordpiece(
	const struct wl_vocab *v, const char *text, size_t len, int32_t *ids, size_t max);

/* The words between which WordPiece cuts no further: what steps 1 to 5 make of a text, folded,
 * in order; a Chinese character or a sign is a word of its own.  Words of more than 100
 * characters, which are [UNK] whole, are left out.  fn's failure ends it and is returned. */
typedef int (*wl_word_fn)(void *ctx, const char *word, size_t len, struct wl_err *err);
WL_MUST_CHECK int wl_wordpiece_words(const struct wl_vocab *v, const char *text, size_t len,
	wl_word_fn fn, void *ctx, struct wl_err *err);

#endif

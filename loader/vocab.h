/*
 * Building a BERT-style vocabulary from texts, where no vocab.txt is given.
 *
 *   [PAD] [unused1] .. [unused99] [UNK] [CLS] [SEP] [MASK]      ids 0 .. 103, as in BERT's
 *   printable ASCII, and the ##letters and ##digits
 *   every Chinese character and sign that was seen              by code point
 *   every other character seen inside words, plain and with ##
 *   word pieces by byte-pair merging (Sennrich et al. 2016) of the words that are not Chinese,
 *   most frequent first, until the size is reached or none is frequent enough
 *
 * The words are those of clean/wordpiece.h, so that the tokeniser finds its pieces.  The result
 * depends on how often each word was added, not on the order.
 */
#ifndef WL_LOADER_VOCAB_H
#define WL_LOADER_VOCAB_H

#include "ingest/corpus.h"
#include "ops/buf.h"
#include "ops/err.h"

#include <stddef.h>
#include <stdint.h>

struct wl_vocab_builder;

/* Words are counted as texts are added, and cut into pieces at the end.  text: UTF-8, cleaned. */
struct wl_vocab_builder *wl_vocab_builder_new(struct wl_err *err);
void wl_vocab_builder_free(struct wl_vocab_builder *b);
WL_MUST_CHECK int wl_vocab_builder_add(
	struct wl_vocab_builder *b, const char *text, size_t len, struct wl_err *err);

/* Smallest size: the special tokens and ASCII. */
enum { WL_VOCAB_SPECIALS = 104, WL_VOCAB_MIN_SIZE = 104 + 68 + 36 };

struct wl_vocab_counts {
	int64_t tokens, chinese, pieces; /* in the vocabulary; pieces: made by merging */
	int64_t left_out;		 /* characters for which there was no room */
};
/* One token a line into out.  At most `size` tokens (>= WL_VOCAB_MIN_SIZE); when that does not
 * hold all characters, the most frequent ones are in.  min_count: how often a merged piece must
 * have been seen. */
WL_MUST_CHECK int wl_vocab_builder_make(struct wl_vocab_builder *b, size_t size, int64_t min_count,
	struct wl_buf *out, struct wl_vocab_counts *counts, struct wl_err *err);

/* Adds the cleaned texts of all kept pairs that the input does not mark as val or test; gives
 * their number.  WL_EUSAGE when dedup or filter has not run. */
WL_MUST_CHECK int wl_vocab_builder_corpus(
	struct wl_vocab_builder *b, struct wl_corpus *c, int64_t *pairs, struct wl_err *err);

#endif

/*
 * Chinese word segmentation, word for word what jieba 0.42.1 gives in accurate mode
 * (`jieba.cut(text, HMM=True)` and `HMM=False`).
 *
 * jieba weighs every way to cut a run of characters into dictionary words by the words'
 * frequencies and takes the likeliest; what is left in single characters goes through a hidden
 * Markov model that makes words of them.  Dictionary and model are jieba's own files (MIT, Debian's
 * python3-jieba), read as data: dict.txt and finalseg/prob_{start,trans,emit}.py.  Sums are taken
 * in jieba's order, so that ties and roundings fall as they do there.
 */
#ifndef WL_CLEAN_SEGMENT_H
#define WL_CLEAN_SEGMENT_H

#include "ops/err.h"

#include <stddef.h>
#include <stdint.h>

struct wl_segment; /* dictionary and model; immutable: for any number of threads */

/* dir: where jieba's dict.txt and finalseg/ lie; NULL: $WENLAN_JIEBA, else Debian's place.
 * user: n_user files as jieba.load_userdict takes them ("word [frequency] [tag]" a line), in this
 * order.  NULL on failure: WL_EFAIL when a file cannot be read, WL_EDATA with the line when it
 * is not of that form. */
struct wl_segment *wl_segment_open(
	const char *dir, const char *const *user, size_t n_user, struct wl_err *err);
void wl_segment_close(struct wl_segment *s);

/* SHA-256 of all files read, in hex: two texts cut under the same id are cut alike.  Borrowed. */
const char *wl_segment_id(const struct wl_segment *s);

enum wl_segment_flags {
	WL_SEGMENT_NO_HMM = 1, /* jieba's HMM=False */
};

/* The words of one text: word i ends before byte end[i] and starts where word i-1 ended, so they
 * cover the text.  Also holds the scratch memory of cutting: one for each thread, used again. */
struct wl_cuts {
	uint32_t *end;
	size_t n;
	/* private: */
	size_t cap, cap_chars;
	void *scratch;
};

enum { WL_SEGMENT_MAX_BYTES = 1 << 28 };

/* Replaces what is in cuts (zeroed before its first use).  A byte that is not UTF-8 is a word by
 * itself.  Fails when memory is short or the text is longer than WL_SEGMENT_MAX_BYTES. */
WL_MUST_CHECK int wl_segment_cut(const struct wl_segment *s, const char *text, size_t len,
	unsigned flags, struct wl_cuts *cuts, struct wl_err *err);
void wl_cuts_release(struct wl_cuts *cuts);

#endif

/*
 * A corpus of any size whose answers are known: every pair is a function of its number, so ten
 * million are written in minutes and checked by walking through them once, with nothing kept.
 *
 * Pictures are mosaics of 8x8 shades (a grey JPEG of 64x64 whose blocks are flat: 300 bytes),
 * texts are made of common characters, 18 or 40 of them.  Two pictures or texts that were not
 * planted as alike share nothing but chance.
 */
#ifndef WL_TESTS_BIGCORPUS_H
#define WL_TESTS_BIGCORPUS_H

#include "ops/buf.h"
#include "ops/err.h"

#include <stdint.h>

enum bigcorpus_kind {
	BIG_PLAIN,
	BIG_COPY,      /* bytes and text of another pair */
	BIG_REENCODED, /* its picture, coarser; a text of its own */
	BIG_MIRRORED,  /* its picture, mirrored; a text of its own */
	BIG_NEAR_TEXT, /* its text but for the last two characters; a picture of its own */
	BIG_SLOGAN,    /* one of five texts that many pictures have */
	BIG_BROKEN,    /* a picture that is cut off */
	/* For the filter; pictures of their own. */
	BIG_MOBILE,   /* a mobile number in the text: to be masked */
	BIG_SHORT,    /* a text of one character: to be dropped */
	BIG_FOREIGN,  /* a text in kana: to be dropped */
	BIG_REPEATED, /* one character twenty times in a row: to be dropped */
	BIG_KINDS
};
const char *bigcorpus_kind_name(enum bigcorpus_kind k);

/* Pair i; the pair that it was made from, itself for most. */
enum bigcorpus_kind bigcorpus_kind(int64_t i);
int64_t bigcorpus_original(int64_t i);
/* Appends the picture's bytes; its text. */
WL_MUST_CHECK int bigcorpus_image(int64_t i, struct wl_buf *out, struct wl_err *err);
WL_MUST_CHECK int bigcorpus_text(int64_t i, struct wl_buf *out, struct wl_err *err);
/* Id and partition of pair i, and i of a pair's URL (-1: not of such a corpus). */
int64_t bigcorpus_id(int64_t i);
int64_t bigcorpus_number(const char *url);

/* Writes a corpus of n pairs, pair i in partition i % partitions, with that many threads. */
WL_MUST_CHECK int bigcorpus_make(
	const char *dir, int64_t n, int partitions, int threads, struct wl_err *err);

/* What a stage said, held against what was planted. */
struct bigcorpus_found {
	int64_t pairs;
	int64_t planted[BIG_KINDS]; /* those that had to get a verdict */
	int64_t found[BIG_KINDS];   /* that got it, with the right reason and pair */
	int64_t wrong[BIG_KINDS];   /* verdicts on others, or wrong ones */
};
/* stage: "dedup", run with --policy image, text or pair; or "filter" with the default rules
 * (policy is ignored). */
WL_MUST_CHECK int bigcorpus_check(const char *dir, const char *stage, const char *policy,
	struct bigcorpus_found *out, struct wl_err *err);

#endif

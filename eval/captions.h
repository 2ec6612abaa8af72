/*
 * Captions to be scored: references and hypotheses out of files, checked against each other,
 * cut into tokens at one of several levels, and scored with all the metrics.
 *
 * References come as COCO's object ("annotations" of image_id and caption), as AI Challenger's
 * evaluator has them (the same, captions segmented already, ids hashed), as AI Challenger's data
 * set has them (a list of image_id and five captions), or as JSON lines ({"image" or "image_id",
 * "references" or "caption"}).  Hypotheses: a list of {"image_id", "caption"}, or JSON lines.
 */
#ifndef WL_EVAL_CAPTIONS_H
#define WL_EVAL_CAPTIONS_H

#include "eval/metrics/caption.h"
#include "eval/metrics/intern.h"
#include "ops/buf.h"

#include <stdbool.h>

enum wl_caption_level {
	WL_LEVEL_WORD,	/* jieba's words, lower case, without punctuation */
	WL_LEVEL_CHAR,	/* one Chinese character, or one run of ASCII letters and digits */
	WL_LEVEL_AIC,	/* AI Challenger 2017's evaluator, to the letter (FACTS 13) */
	WL_LEVEL_PTB,	/* pycocoevalcap's own: the PTB tokeniser over the text as it is */
	WL_LEVEL_SPACE, /* tokens already, divided by blanks */
};

/* "word", "char", "aic", "ptb", "space"; WL_EUSAGE for another. */
WL_MUST_CHECK int wl_caption_level_parse(
	const char *name, enum wl_caption_level *level, struct wl_err *err);

/* Cuts Chinese text into words; adds them to out, one blank between. */
struct wl_cutter {
	int (*cut)(void *ctx, const char *text, size_t n, struct wl_buf *out, struct wl_err *err);
	void *ctx;
};

struct wl_caption_image {
	const char *id; /* as the file has it; numbers in decimal */
	const char *hyp;
	const char **refs;
	size_t n_refs, cap_refs;
};

struct wl_caption_files {
	struct wl_arena arena;		/* of all strings */
	struct wl_intern ids;		/* number = place in image */
	struct wl_caption_image *image; /* [n], in the order of the references */
	size_t n, cap;
	bool refs_segmented; /* AIC's reference file: its captions are words already */
};

/* Reads both files.  WL_EDATA with counts and the first offenders when an image has no
 * hypothesis, or two, or is unknown, or a caption is empty (unless allow_empty). */
WL_MUST_CHECK int wl_caption_files_load(struct wl_caption_files *f, const char *refs,
	const char *hyps, enum wl_caption_level level, bool allow_empty, struct wl_err *err);
/* The same over bytes in memory, which it changes; refs and hyps are for messages. */
WL_MUST_CHECK int wl_caption_files_parse(struct wl_caption_files *f, const char *refs,
	struct wl_buf *ref_bytes, const char *hyps, struct wl_buf *hyp_bytes,
	enum wl_caption_level level, bool allow_empty, struct wl_err *err);
void wl_caption_files_release(struct wl_caption_files *f);

/* SHA-256 of the name without its extension, as a number, modulo 2^63 - 1: how AI Challenger
 * names images. */
uint64_t wl_aic_image_hash(const char *name);

/* The line of tokens, divided by blanks, that a caption is at a level.  is_ref: a reference of a
 * file with refs_segmented is not cut again.  cutter: for WORD and AIC. */
WL_MUST_CHECK int wl_caption_tokens(const char *text, enum wl_caption_level level, bool is_cut,
	const struct wl_cutter *cutter, struct wl_buf *out, struct wl_err *err);

/* Everything in numbers, ready for the metrics; METEOR has tokens of its own (meteor.h). */
struct wl_caption_set {
	struct wl_arena arena;
	struct wl_intern tokens, meteor_tokens;
	struct wl_captioned *im, *meteor; /* [n] */
	bool *function;			  /* [meteor_tokens.n] */
	size_t n;
	int64_t empty; /* hypotheses of which no token is left */
};
WL_MUST_CHECK int wl_caption_set_make(struct wl_caption_set *s, const struct wl_caption_files *f,
	enum wl_caption_level level, const struct wl_cutter *cutter, struct wl_err *err);
void wl_caption_set_release(struct wl_caption_set *s);

/* meteor: the official evaluators' (English mode, so by character in Chinese); meteor_word: the
 * same parameters on the level's own tokens. */
enum { WL_CAPTION_METRICS = 8 };
extern const char *const wl_caption_metric_names[WL_CAPTION_METRICS];
/* corpus [8]; per_image [n][8] or NULL. */
WL_MUST_CHECK int wl_caption_score(const struct wl_caption_set *s,
	double corpus[WL_CAPTION_METRICS], double *per_image, struct wl_err *err);

#endif

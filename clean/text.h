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

#include "clean/personal.h"
#include "ops/buf.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wl_text; /* tables and OpenCC's dictionaries; immutable: for any number of threads */

/* NULL when OpenCC's data (t2s.json, s2t.json of libopencc-data) or ICU's is missing. */
struct wl_text *wl_text_open(struct wl_err *err);
void wl_text_close(struct wl_text *t);

/* What was cut out of a text, and how often. */
enum wl_text_cut {
	WL_CUT_URL,
	WL_CUT_MENTION,
	WL_CUT_TOPIC,
	WL_CUT_CODE,
	WL_CUT_EMOJI,
	WL_CUT_REPOST,
	WL_CUT_REFERENCE,
	WL_CUT_BYLINE,
	WL_CUTS,
};
/* "urls", "mentions", ...: in the enum's order, NULL-terminated. */
extern const char *const wl_cut_names[WL_CUTS + 1];

/* What is cut from the texts of a source; URLs with a scheme go from all. */
struct wl_text_style {
	bool mentions;	 /* @user, 回复@user: */
	bool codes;	 /* [泪] */
	bool emoji;	 /* pictographs */
	bool short_urls; /* t.cn/x without http:// */
	bool reposts; /* a chain mine//@a:his keeps its first words; 转发微博 and the like go */
	bool references; /* [1], [12-13], [编辑], （）: of an encyclopedia */
	bool bylines;	 /* of news: dateline, credits in brackets, editors */
	enum { WL_TOPICS_KEEP, WL_TOPICS_WORDS, WL_TOPICS_CUT } topics; /* #topic# */
};
/* By the source's name: "weibo..." loses mentions, codes, short URLs, reposts and the signs of
 * its topics, "news..." and "baike..." nothing unless rules say so. */
struct wl_text_style wl_text_style_of(const char *source);

enum wl_text_flags {
	WL_TEXT_KEEP_PII = 1,	      /* personal information is counted, not masked */
	WL_TEXT_KEEP_TRADITIONAL = 2, /* detected, not converted */
};

enum { WL_TEXT_MAX_BYTES = 4 << 20 }; /* longer input is cut at a character */

struct wl_text_facts {
	bool traditional; /* more characters are Traditional-only than Simplified-only */
	int personal[WL_PERSONAL_KINDS]; /* found (and masked as "***") */
	int cut[WL_CUTS];
	size_t bad_bytes; /* of the input, not UTF-8: replaced by U+FFFD, which stays visible */
};

/* Replaces what is in out.  look, mask: sets of WL_PERSONAL_BIT(kind) to be counted, to be
 * masked.  facts may be NULL. */
struct wl_text_work {
	struct wl_text_style style;
	unsigned look, mask;
	bool keep_traditional;
};
WL_MUST_CHECK int wl_text_clean(const struct wl_text *t, const struct wl_text_work *work,
	const char *text, size_t len, struct wl_buf *out, struct wl_text_facts *facts,
	struct wl_err *err);

/* The same with the source's own style; of personal information mobile numbers, identity cards
 * and e-mail addresses are masked: what dedup compares. */
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
/* The Simplified form of one character without its context, c itself when it has none: for
 * comparing, not for writing (后 may be 后 or 後). */
uint32_t wl_text_simple(const struct wl_text *t, uint32_t c);
/* Its two bytes in GBK, the first one above; 0: it has none (ASCII included). */
uint32_t wl_text_gbk(const struct wl_text *t, uint32_t c);

#endif

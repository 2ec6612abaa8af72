/*
 * The filter's rules, from YAML (clean/rules/default.yaml shows all keys), and what they say of
 * one pair.
 */
#ifndef WL_CLEAN_RULES_H
#define WL_CLEAN_RULES_H

#include "clean/phash.h"
#include "clean/picture.h"
#include "clean/scores.h"
#include "clean/text.h"
#include "ingest/corpus.h"
#include "ops/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Changes when the same rules would judge the same pair differently. */
enum { WL_RULES_VERSION = 3 };

struct wl_rules; /* immutable: for any number of threads */

/* WL_EUSAGE for an unknown key or a wrong value, naming the nearest valid one; WL_EFAIL when
 * the file or one of its word lists cannot be read. */
struct wl_rules *wl_rules_load(const char *path, const struct wl_text *tx, struct wl_err *err);
/* The same from memory; path: what errors call it, and where its lists' paths count from. */
struct wl_rules *wl_rules_parse(const char *yaml, size_t len, const char *path,
	const struct wl_text *tx, struct wl_err *err);
void wl_rules_free(struct wl_rules *r);
/* Gives the scores that the "agreement" sections judge by (borrowed: they must live as long), and
 * finds each source's lowest by walking through the corpus.  WL_EUSAGE when one of the two is there
 * without the other; NULL says that there are no scores (then c may be NULL too). */
WL_MUST_CHECK int wl_rules_use_scores(struct wl_rules *r, const struct wl_scores *scores,
	struct wl_corpus *c, struct wl_err *err);
/* What the outcome depends on: the rules, the scores and the contents of the word lists.  Borrowed.
 */
const json_t *wl_rules_params(const struct wl_rules *r);
/* Whether a rule looks at the pixels, so that wl_rules_judge wants a look. */
bool wl_rules_want_look(const struct wl_rules *r);

/* Whether a rule for this source measures the picture, so that wl_rules_judge wants that. */
bool wl_rules_want_picture(const struct wl_rules *r, const char *source);

/* A pair as the rules see it. */
struct wl_subject {
	int64_t id;
	const char *name, *source, *texts; /* texts: raw JSON of the catalog */
	int width, height;
	int64_t bytes;
	bool eval; /* val or test: texts are cleaned, nothing is dropped for its quality */
	const struct wl_look *look;	  /* NULL: no rule wants it, or the picture is broken */
	const struct wl_picture *picture; /* NULL: the same */
	const char *broken;		  /* why the picture cannot be decoded, or NULL */
};

enum { WL_REASON_MAX = 48, WL_DETAIL_MAX = 240, WL_VERDICTS_MAX = 16 };
struct wl_verdict {
	char reason[WL_REASON_MAX]; /* "text-short", "sensitive-ads", "image-small", ... */
	char detail[WL_DETAIL_MAX]; /* for people: the measure, the bound, the text */
};

struct wl_outcome {
	json_t *texts;	/* [[kind, text], ...] normalised, the captions first; [] when none is left
			 */
	json_t *scores; /* of the first text: chars, letters, chinese, repeat, what was cut, ... */
	int64_t topic;	/* -1: none */
	const char *category; /* of the topic, NULL: none; borrowed from the rules */
	struct wl_verdict v[WL_VERDICTS_MAX];
	size_t n; /* 0: the pair is kept */
};

/* Each text is normalised and judged by itself, and those that fail are left out; the pair gets
 * a text verdict only when none is left (the first one's reasons).  A sensitive word in any text
 * and a failing picture are verdicts on the pair.  Every rule that fails is listed. */
WL_MUST_CHECK int wl_rules_judge(const struct wl_rules *r, const struct wl_subject *s,
	struct wl_outcome *out, struct wl_err *err);
void wl_outcome_release(struct wl_outcome *o);

#endif

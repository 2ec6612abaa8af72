/* Between rules*.c (reading) and judge*.c (applying). */
#ifndef WL_CLEAN_RULES_PRIV_H
#define WL_CLEAN_RULES_PRIV_H

#include "clean/rules.h"
#include "clean/segment.h"
#include "clean/topics/rule.h"
#include "clean/words.h"

enum pii_policy { PII_MASK, PII_DROP, PII_KEEP };
enum traditional_policy { TRADITIONAL_CONVERT, TRADITIONAL_KEEP, TRADITIONAL_DROP };

struct text_rules {
	int64_t min_letters, min_chars, max_chars, min_words, max_words, min_han, max_run;
	double min_chinese, max_foreign, min_common, max_symbols, max_repeat;
	bool garbled, file_names;
	enum pii_policy pii[WL_PERSONAL_KINDS];
	enum traditional_policy traditional;
	double max_ad; /* INFINITY: no rule */
};

struct image_rules {
	int64_t min_side, min_bytes, max_bytes;
	double max_aspect, min_spread, min_sharpness, min_entropy, max_text, max_qr;
};

struct agreement_rules {
	bool on, missing_drops, by_all;
	double quantile; /* of the scores of each source; of all scores: by_all */
	double min, max; /* of the score */
};

/* What holds for the pairs whose source begins with `source`. */
struct source_rules {
	char *source; /* "" for the file's own rules; owned */
	struct text_rules text;
	struct image_rules image;
	struct agreement_rules agreement;
	struct wl_text_style style;
	bool has_style; /* else wl_text_style_of the source */
};

struct word_list {
	char *name; /* the reason is "sensitive-NAME"; owned */
	size_t words;
};

struct wl_rules {
	const struct wl_text *tx;
	struct wl_segment *segment; /* NULL: no rule counts words */
	json_t *params;
	struct source_rules *sources; /* the first is the file's own */
	size_t n_sources;
	const struct wl_scores *scores; /* borrowed */
	json_t *lowest;			/* {source: lowest score that stays, by its quantile} */
	struct word_list *lists;
	size_t n_lists;
	struct wl_fold *fold;
	struct wl_words *words; /* tags are list numbers */
	struct wl_words *ads;	/* tags are places in ad_weights */
	double *ad_weights;
	size_t n_ads;
	struct wl_topic_rule topics;
};

/* The entry for a pair's source: the longest that its name begins with. */
const struct source_rules *wl_rules_of_source(const struct wl_rules *r, const char *source);

/* rules_read.c: the sections.  `where` names the place in errors. */
int wl_read_text_rules(
	struct text_rules *t, const json_t *o, const char *where, struct wl_err *err);
int wl_read_image_rules(
	struct image_rules *im, const json_t *o, const char *where, struct wl_err *err);
int wl_read_style(struct source_rules *s, const json_t *o, const char *where, struct wl_err *err);
int wl_read_agreement(
	struct agreement_rules *a, const json_t *o, const char *where, struct wl_err *err);

#endif

/* Between rules.c (reading) and judge.c (applying). */
#ifndef WL_CLEAN_RULES_PRIV_H
#define WL_CLEAN_RULES_PRIV_H

#include "clean/rules.h"
#include "clean/words.h"

enum pii_policy { PII_MASK, PII_DROP, PII_KEEP };
enum traditional_policy { TRADITIONAL_CONVERT, TRADITIONAL_KEEP, TRADITIONAL_DROP };

struct text_rules {
	int64_t min_letters, min_chars, max_chars, max_run;
	double min_chinese, max_symbols, max_repeat;
	bool garbled;
	enum pii_policy pii;
	enum traditional_policy traditional;
};

struct image_rules {
	int64_t min_side, min_bytes, max_bytes;
	double max_aspect, min_spread;
};

struct word_list {
	char *name; /* the reason is "sensitive-NAME"; owned */
};

struct wl_rules {
	const struct wl_text *tx;
	json_t *params;
	struct text_rules text;
	struct image_rules image;
	struct word_list *lists;
	size_t n_lists;
	/* tags are list numbers.  Words with a character beyond ASCII are looked for in the match
	 * key, where nothing separates characters; plain ASCII words need their boundaries and are
	 * looked for in the folded raw text (URLs included). */
	struct wl_words *keys, *ascii;
};

#endif

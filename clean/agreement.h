/* What the rules' "agreement" sections say of one pair; see rules.h for where scores come from. */
#ifndef WL_CLEAN_AGREEMENT_H
#define WL_CLEAN_AGREEMENT_H

#include "clean/rules_priv.h"

struct wl_agreement {
	bool known;  /* the pair has a score */
	bool missed; /* it has none, and the rules want one */
	double score;
	double least, most; /* bounds of scores that may stay */
};
/* What the rules and their scores say of this pair. */
struct wl_agreement wl_agreement_of(const struct wl_rules *r, const char *source, int64_t pair_id);

#endif

/* The passes of wl_text_normalise that cut and mask: each works in place on code points. */
#ifndef WL_CLEAN_TEXT_CUT_H
#define WL_CLEAN_TEXT_CUT_H

#include "clean/text.h"

struct wl_cps {
	uint32_t *c; /* owned */
	size_t n, cap;
};

void wl_cut_tags(struct wl_cps *t);
void wl_cut_urls(struct wl_cps *t);
/* Counts in facts; masks unless keep. */
void wl_mask_pii(struct wl_cps *t, bool keep, struct wl_text_facts *facts);
void wl_cut_weibo(struct wl_cps *t);

#endif

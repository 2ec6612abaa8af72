/* The passes of wl_text_clean that cut: each works in place on code points. */
#ifndef WL_CLEAN_TEXT_CUT_H
#define WL_CLEAN_TEXT_CUT_H

#include "clean/cps.h"
#include "clean/text.h"

/* Each takes out of t, in place, what its name says.  First tags of HTML. */
void wl_cut_tags(struct wl_cps *t);
/* With short ones, as t.cn/x without its http://, where the style says so. */
void wl_cut_urls(struct wl_cps *t, bool short_ones, struct wl_text_facts *facts);
/* What the style names; counts in facts. */
void wl_cut_style(struct wl_cps *t, const struct wl_text_style *style, struct wl_text_facts *facts);
/* Datelines before a news text (新华社北京3月5日电), credits in brackets (记者 某某 摄) and
 * editors' names behind it. */
void wl_cut_bylines(struct wl_cps *t, struct wl_text_facts *facts);

#endif

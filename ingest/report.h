/*
 * --report: what is in a corpus, as one self-contained HTML page for people: how much came from
 * where and what became of it, why things were refused, sizes and languages, and samples to look
 * at.  Counts are exact; sizes, languages and samples are of the pairs with the smallest ids,
 * which are hashes, so a random sample that is the same every time.
 */
#ifndef WL_INGEST_REPORT_H
#define WL_INGEST_REPORT_H

#include "ingest/corpus.h"

/* Writes the page atomically. */
WL_MUST_CHECK int wl_ingest_report(struct wl_corpus *c, const char *path, struct wl_err *err);

struct wl_html;
/* A small JPEG of a picture into a page; one that does not decode is passed over. */
WL_MUST_CHECK int wl_report_thumbnail(struct wl_html *h, const void *bytes, size_t n,
	const char *alt, struct wl_err *err);

/* What a text is written in, by its letters: "Chinese", "Japanese" (any kana), "Korean",
 * "Latin letters", "other letters", "no letters". */
enum wl_script {
	WL_SCRIPT_CHINESE,
	WL_SCRIPT_JAPANESE,
	WL_SCRIPT_KOREAN,
	WL_SCRIPT_LATIN,
	WL_SCRIPT_OTHER,
	WL_SCRIPT_NONE,
	WL_SCRIPT_COUNT
};
const char *wl_script_name(enum wl_script s);
/* utf8: valid or not; what is not is no letter. */
enum wl_script wl_script_of(const char *utf8);

#endif

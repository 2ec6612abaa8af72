/* Any bytes as references and hypotheses (a zero byte divides them): refused, or scored with
 * finite numbers at the levels that need no dictionary. */
#include "eval/captions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void score(const struct wl_caption_files *f, enum wl_caption_level level)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_caption_set s;
	double corpus[WL_CAPTION_METRICS];

	if (wl_caption_set_make(&s, f, level, NULL, &err) < 0)
		abort();
	if (wl_caption_score(&s, corpus, NULL, &err) < 0) {
		if (err.code != WL_EDATA)
			abort();
	} else {
		for (int k = 0; k < WL_CAPTION_METRICS; k++)
			if (!isfinite(corpus[k]) || corpus[k] < 0)
				abort();
	}
	wl_caption_set_release(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static const enum wl_caption_level levels[] = {WL_LEVEL_CHAR, WL_LEVEL_PTB, WL_LEVEL_SPACE};
	const uint8_t *zero = n ? memchr(bytes, 0, n) : NULL;
	size_t first = zero ? (size_t)(zero - bytes) : n / 2, skip = zero ? 1 : 0;
	struct wl_err err = WL_ERR_INIT;
	struct wl_caption_files f;
	struct wl_buf a, b;

	wl_buf_init(&a, 1 << 24);
	wl_buf_init(&b, 1 << 24);
	for (size_t k = 0; k < 3; k++) {
		wl_buf_reset(&a);
		wl_buf_reset(&b);
		if (wl_buf_add(&a, bytes, first, &err) < 0 ||
			wl_buf_add(&b, bytes + first + skip, n - first - skip, &err) < 0)
			abort();
		if (!wl_caption_files_parse(&f, "refs", &a, "hyps", &b, levels[k], true, &err)) {
			score(&f, levels[k]);
			wl_caption_files_release(&f);
		} else if (err.code != WL_EDATA) {
			abort();
		}
	}
	wl_buf_release(&a);
	wl_buf_release(&b);
	return 0;
}

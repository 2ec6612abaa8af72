/* Any bytes as a word list (up to a 0) and as a text: matches lie inside it, come in order, and
 * the first word is found in itself. */
#include "clean/words.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct seen {
	size_t n, at, text;
};

static bool check(void *ctx, const struct wl_match *m)
{
	struct seen *s = ctx;

	if (m->tag < 0 || m->at < s->at || m->len == 0 || m->at + m->len > s->text)
		abort();
	s->at = m->at;
	s->n++;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct wl_text *tx;
	static struct wl_fold *fold;
	const char *text = memchr(data, 0, n), *list = (const char *)data;
	size_t words = text ? (size_t)(text - list) : n, start = 0;
	struct seen all = {0}, spaced = {0};
	struct wl_words *w;
	struct wl_match m;

	if (!tx) {
		tx = wl_text_open(NULL);
		fold = wl_fold_new(tx, NULL);
	}
	w = wl_words_new(fold, NULL);
	for (size_t i = 0; i <= words; i++)
		if (i == words || list[i] == '\n') {
			if (wl_words_add(w, list + start, i - start, (int32_t)start, NULL) < 0)
				abort();
			start = i + 1;
		}
	if (wl_words_build(w, NULL) < 0)
		abort();
	text = list + words;
	all.text = spaced.text = n - words;
	wl_words_scan(w, text, all.text, 0, check, &all);
	wl_words_scan(w, text, all.text, WL_WORDS_SPACED, check, &spaced);
	if (spaced.n > all.n || wl_words_find(w, text, all.text, 0, &m) != (all.n > 0))
		abort();
	wl_words_free(w);
	/* The first word in itself: one, for each list makes its tables. */
	for (start = 0; start < words && list[start] != '\n'; start++)
		;
	w = wl_words_new(fold, NULL);
	int added = wl_words_add(w, list, start, 1, NULL);
	if (wl_words_build(w, NULL) < 0 || added != wl_words_find(w, list, start, 0, &m))
		abort();
	wl_words_free(w);
	return 0;
}

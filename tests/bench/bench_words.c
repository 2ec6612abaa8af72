/* Word lists over text: MB/s of clean/words, tricks and all, beside Hyperscan (libhs) looking
 * for the same words, written plainly, in text that was folded before: what it would be given.
 * One core; 20,000 words; the text is ../shared's where there is one, else drawn. */
#include "clean/utf8.h"
#include "clean/words.h"
#include "ops/buf.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "tests/bench/bench.h"

#include <hs/hs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 20000, TEXT_BYTES = 32 << 20, ROUNDS = 15 };

/* Chinese text of the frequencies that Zipf's law gives: the k-th character with 1/k. */
static void draw_text(struct wl_buf *b, struct wl_err *err)
{
	for (uint64_t i = 0; b->len < TEXT_BYTES; i++) {
		double u = wl_rand_unit(1, 1, i);
		uint32_t c = 0x4e00;
		char s[WL_UTF8_MAX];
		while (u > 0.12 / (c - 0x4e00 + 1) && c < 0x4e00 + 4000)
			u -= 0.12 / (c++ - 0x4e00 + 1);
		must(wl_buf_add(b, s, wl_utf8_put(i % 17 ? c : 0xff0c, s), err), err);
	}
}

static void read_text(struct wl_buf *b, struct wl_err *err)
{
	static const char *const files[] = {"webtext_docs.txt", "wiki_zh_hans.jsonl",
		"weibo_emotion.tsv", "news_titles.tsv", "toutiao_unlabeled.tsv"};
	struct wl_buf one;

	wl_buf_init(&one, 64 << 20);
	for (size_t i = 0; b->len < TEXT_BYTES; i++) {
		char path[200];
		snprintf(path, sizeof(path), "../shared/data/text/%s", files[i % 5]);
		wl_buf_reset(&one);
		if (wl_read_file(path, &one, NULL) < 0) {
			printf("drawn text (%s is missing)\n", path);
			draw_text(b, err);
			break;
		}
		must(wl_buf_add(b, one.data, one.len, err), err);
	}
	wl_buf_release(&one);
	b->len = TEXT_BYTES;
}

/* Words of 2 to 6 characters in use: from jieba's dictionary the rare ones, as sensitive words
 * are, else drawn from the text character by character. */
static bool jieba_word(FILE *f, char *out, size_t *n)
{
	char line[256], word[200];
	long freq;

	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%199s %ld", word, &freq) != 2 || freq > 20)
			continue;
		*n = strlen(word);
		if (*n < 6 || *n > 18 || wl_mix64((uint64_t)ftell(f)) % 8)
			continue;
		memcpy(out, word, *n + 1);
		return true;
	}
	return false;
}

static void draw_word(const struct wl_buf *text, uint64_t k, char *out, size_t *n)
{
	uint64_t len = 2 + wl_rand64(2, k, 0) % 5;

	*n = 0;
	for (uint64_t i = 0, tries = 1; i < len; tries++) {
		size_t at = (size_t)(wl_rand64(3, k, tries) % (TEXT_BYTES - 8));
		uint32_t c;
		while (((unsigned char)text->data[at] & 0xc0) == 0x80)
			at++;
		c = wl_utf8_next(text->data, text->len, &at, NULL);
		if (!wl_is_cjk(c))
			continue;
		*n += wl_utf8_put(c, out + *n);
		i++;
	}
	out[*n] = 0;
}

static bool count(void *ctx, const struct wl_match *m)
{
	(void)m;
	++*(size_t *)ctx;
	return true;
}

static int count_hs(
	unsigned id, unsigned long long from, unsigned long long to, unsigned flags, void *ctx)
{
	(void)id, (void)from, (void)to, (void)flags;
	++*(size_t *)ctx;
	return 0;
}

static double ours(const struct wl_words *w, const struct wl_buf *text, size_t *n)
{
	double best = 1e9;

	for (int i = 0; i < ROUNDS; i++) {
		double t = wl_cpu_s();
		*n = 0;
		wl_words_scan(w, text->data, text->len, 0, count, n);
		t = wl_cpu_s() - t;
		best = t < best ? t : best;
	}
	return best;
}

static double theirs(const hs_database_t *db, const struct wl_buf *text, size_t *n)
{
	hs_scratch_t *scratch = NULL;
	double best = 1e9;

	if (hs_alloc_scratch(db, &scratch) != HS_SUCCESS)
		return -1;
	for (int i = 0; i < ROUNDS; i++) {
		double t = wl_cpu_s();
		*n = 0;
		hs_scan(db, text->data, (unsigned)text->len, 0, scratch, count_hs, n);
		t = wl_cpu_s() - t;
		best = t < best ? t : best;
	}
	hs_free_scratch(scratch);
	return best;
}

int main(void)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_buf text, key;
	struct wl_text *tx = wl_text_open(&err);
	struct wl_fold *fold = tx ? wl_fold_new(tx, &err) : NULL;
	struct wl_words *w = fold ? wl_words_new(fold, &err) : NULL;
	static char word[WORDS][32];
	static const char *list[WORDS];
	static size_t len[WORDS];
	static unsigned flags[WORDS], ids[WORDS];
	hs_database_t *db = NULL;
	hs_compile_error_t *why = NULL;
	FILE *dict = fopen("/usr/lib/python3/dist-packages/jieba/dict.txt", "r");
	size_t n = 0, n_hs = 0;
	double t, build, mb = TEXT_BYTES / 1e6;

	must(w ? 0 : -1, &err);
	wl_buf_init(&text, 80 << 20);
	wl_buf_init(&key, 80 << 20);
	read_text(&text, &err);
	t = wl_cpu_s();
	for (unsigned i = 0; i < WORDS; i++) {
		if (!dict || !jieba_word(dict, word[i], &len[i]))
			draw_word(&text, i, word[i], &len[i]);
		list[i] = word[i];
		ids[i] = i;
		flags[i] = HS_FLAG_SOM_LEFTMOST * 0;
		must(wl_words_add(w, word[i], len[i], (int32_t)i, &err), &err);
	}
	must(wl_words_build(w, &err), &err);
	build = wl_cpu_s() - t;
	t = ours(w, &text, &n);
	printf("wenlan words: %d words built in %.2f s; %.0f MB/s over raw text, %zu matches\n",
		WORDS, build, mb / t, n);
	for (size_t at = 0; at < text.len; at += 1 << 20) { /* keys are made of texts up to 4 MB */
		struct wl_buf part;
		wl_buf_init(&part, 40 << 20);
		must(wl_text_key(tx, text.data + at,
			     text.len - at < 1 << 20 ? text.len - at : 1 << 20, &part, &err),
			&err);
		must(wl_buf_add(&key, part.data, part.len, &err), &err);
		wl_buf_release(&part);
	}
	t = wl_cpu_s();
	if (hs_compile_lit_multi(list, flags, ids, len, WORDS, HS_MODE_BLOCK, NULL, &db, &why) !=
		HS_SUCCESS) {
		printf("SKIPPED: Hyperscan: %s\n", why->message);
		return 0;
	}
	build = wl_cpu_s() - t;
	t = theirs(db, &key, &n_hs);
	printf("hyperscan:    %d words built in %.2f s; %.0f MB/s over folded text, %zu matches\n",
		WORDS, build, (double)key.len / 1e6 / t, n_hs);
	printf("ratio of MB/s: %.2f\n", mb / ours(w, &text, &n) / ((double)key.len / 1e6 / t));
	hs_free_database(db);
	wl_words_free(w);
	wl_fold_free(fold);
	wl_text_close(tx);
	wl_buf_release(&text);
	wl_buf_release(&key);
	return 0;
}

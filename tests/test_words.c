/* clean/words and clean/measure: many words at once, and what the text rules count. */
#include "clean/measure.h"
#include "clean/words.h"
#include "ops/hash.h"
#include "tests/support/cm.h"

#include <string.h>

static struct wl_err err;

/* ---- words ---- */

static void add(struct wl_words *w, const char *word, int32_t tag)
{
	OK(wl_words_add(w, word, strlen(word), tag, &err));
}

static void words_by_hand(void **state)
{
	struct wl_words *w = wl_words_new(&err);
	struct wl_match m;

	(void)state;
	add(w, "she", 1);
	add(w, "he", 2);
	add(w, "hers", 3);
	add(w, "his", 4);
	add(w, "敏感", 5);
	add(w, "he", 9); /* again: the first tag stands */
	OK(wl_words_build(w, &err));
	assert_int_equal(wl_words_count(w), 5);
	assert_true(wl_words_find(w, "ushers", 6, false, &m));
	assert_int_equal(m.tag, 1);
	assert_int_equal(m.at, 1);
	assert_int_equal(m.len, 3);
	assert_false(wl_words_find(w, "ushers", 6, true, &m));
	assert_true(wl_words_find(w, "us hers", 7, true, &m));
	assert_int_equal(m.tag, 3);
	assert_true(wl_words_find(w, "a敏感b", 8, true, &m));
	assert_int_equal(m.tag, 5);
	assert_false(wl_words_find(w, "hi", 2, false, &m));
	assert_false(wl_words_find(w, "", 0, false, &m));
	wl_words_free(w);
}

/* Random words over two letters against a plain search. */
static void words_against_strstr(void **state)
{
	(void)state;
	for (uint64_t round = 0; round < 200; round++) {
		struct wl_words *w = wl_words_new(&err);
		struct wl_match m = {0};
		char word[12][8], text[80];
		size_t first_end = SIZE_MAX, longest = 0;
		bool found;
		for (uint64_t k = 0; k < 12; k++) {
			size_t n = 2 + wl_rand64(9, round, k) % 5;
			for (size_t i = 0; i < n; i++)
				word[k][i] = (char)('a' + wl_rand64(round, k, i) % 3);
			word[k][n] = 0;
			add(w, word[k], (int32_t)k);
		}
		for (size_t i = 0; i < 79; i++)
			text[i] = (char)('a' + wl_rand64(5, round, i) % 4);
		text[79] = 0;
		OK(wl_words_build(w, &err));
		for (int k = 0; k < 12; k++) {
			const char *at = strstr(text, word[k]);
			size_t end = at ? (size_t)(at - text) + strlen(word[k]) : SIZE_MAX;
			if (end < first_end || (end == first_end && strlen(word[k]) > longest)) {
				first_end = end;
				longest = strlen(word[k]);
			}
		}
		found = wl_words_find(w, text, 79, false, &m);
		assert_int_equal(found, first_end != SIZE_MAX);
		if (found) {
			assert_int_equal(m.at + m.len, first_end);
			assert_int_equal(m.len, longest);
			assert_memory_equal(text + m.at, word[m.tag], m.len);
		}
		wl_words_free(w);
	}
}

/* ---- measures ---- */

static void measures(void **state)
{
	struct wl_measure m;
	const char *s = "北京 hello, 你好！！";

	(void)state;
	OK(wl_measure(s, strlen(s), &m, &err));
	assert_int_equal(m.chars, 12);
	assert_int_equal(m.letters, 9);
	assert_int_equal(m.han, 4);
	assert_int_equal(m.run, 2);
	assert_false(m.garbled);
	s = "今天天气很好今天天气很好今天天气很好";
	OK(wl_measure(s, strlen(s), &m, &err));
	assert_true(m.repeat > 0.55 && m.repeat < 0.65); /* 9 of 15 */
	s = "锛屾垜浠鐨勪腑鍥芥槸";
	OK(wl_measure(s, strlen(s), &m, &err));
	assert_true(m.garbled);
	s = "ä¸­å›½äºº";
	OK(wl_measure(s, strlen(s), &m, &err));
	assert_true(m.garbled);
	s = "手持两把锟斤拷";
	OK(wl_measure(s, strlen(s), &m, &err));
	assert_true(m.garbled);
	s = "横浜的夜景，café crème brûlée";
	OK(wl_measure(s, strlen(s), &m, &err));
	assert_false(m.garbled);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_by_hand),
		cmocka_unit_test(words_against_strstr),
		cmocka_unit_test(measures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* clean/wordpiece: golden ids of Hugging Face's tokeniser, cutting, damaged vocabularies. */
#include "clean/wordpiece.h"
#include "ops/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#define BERT_VOCAB "../shared/data/vocab/vocab.txt"

static void check_ids(
	const struct wl_vocab *v, const char *text, size_t len, const int32_t *want, size_t n)
{
	int32_t *ids = malloc((n + 8) * sizeof(*ids));
	size_t got;

	assert_non_null(ids);
	got = wl_wordpiece(v, text, len, ids, n + 8);
	for (size_t i = 0; i < (got < n ? got : n); i++)
		if (ids[i] != want[i])
			fail_msg("\"%s\": id %zu is %d, expected %d", text, i, ids[i], want[i]);
	if (got != n)
		fail_msg("\"%s\": %zu ids, expected %zu", text, got, n);
	for (size_t i = n; i < n + 8; i++)
		assert_int_equal(ids[i], wl_vocab_id(v, "[PAD]"));
	free(ids);
}

static void golden_hugging_face(void **state)
{
	json_error_t je;
	json_t *root = json_load_file("tests/golden/wordpiece.json", JSON_ALLOW_NUL, &je), *t, *c;
	struct wl_err err = WL_ERR_INIT;
	struct wl_buf b;
	struct wl_vocab *v;
	size_t i;

	(void)state;
	if (!root)
		fail_msg("tests/golden/wordpiece.json: %s", je.text);
	wl_buf_init(&b, 1 << 20);
	json_array_foreach(json_object_get(root, "vocab"), i, t)
		assert_int_equal(wl_buf_printf(&b, &err, "%s\n", json_string_value(t)), 0);
	v = wl_vocab_parse(b.data, b.len, "golden", &err);
	if (!v)
		fail_msg("%s", err.msg);
	assert_true(json_array_size(json_object_get(root, "cases")) > 400);
	json_array_foreach(json_object_get(root, "cases"), i, c)
	{
		json_t *text = json_array_get(c, 0), *want = json_array_get(c, 1);
		int32_t ids[512];
		size_t n = json_array_size(want);
		assert_true(n <= 512);
		for (size_t k = 0; k < n; k++)
			ids[k] = (int32_t)json_integer_value(json_array_get(want, k));
		check_ids(v, json_string_value(text), json_string_length(text), ids, n);
	}
	wl_vocab_free(v);
	wl_buf_release(&b);
	json_decref(root);
}

/* FACTS 8.3, with the vocabulary that BriVL uses. */
static void golden_bert_chinese(void **state)
{
	static const struct {
		const char *text;
		int32_t ids[32];
	} c[] = {
		{"北京的秋天是真的凉爽。",
			{101, 1266, 776, 4638, 4904, 1921, 3221, 4696, 4638, 1117, 4272, 511, 102}},
		{"诺伍德大厅酒店位于阿伯丁，是家4星级酒店。",
			{101, 6437, 824, 2548, 1920, 1324, 6983, 2421, 855, 754, 7350, 843, 672,
				8024, 3221, 2157, 125, 3215, 5277, 6983, 2421, 511, 102}},
		{"Hello BriVL café ２０２１年 unaffable!",
			{101, 8701, 8575, 8169, 8225, 8178, 8377, 10327, 8929, 8939, 2399, 163,
				8374, 9049, 9609, 106, 102}},
		{"生日快乐！Make a wish～😂",
			{101, 4495, 3189, 2571, 727, 8013, 9994, 143, 12255, 8694, 21126, 102}},
		{"한국어 テスト 𠀀", {101, 303, 10928, 9877, 13454, 13479, 11953, 13463, 13472, 612,
					     10579, 100, 102}},
		{"ｆｕｌｌ　ｗｉｄｔｈ “引号” — …",
			{101, 8056, 21098, 12035, 12035, 8073, 12381, 9835, 11766, 21096, 100, 2471,
				1384, 100, 100, 100, 102}},
	};
	struct wl_err err = WL_ERR_INIT;
	struct wl_vocab *v;

	(void)state;
	if (!wl_exists(BERT_VOCAB)) {
		print_message("SKIPPED: %s is not here\n", BERT_VOCAB);
		skip();
	}
	v = wl_vocab_load(BERT_VOCAB, &err);
	if (!v)
		fail_msg("%s", err.msg);
	assert_int_equal(wl_vocab_size(v), 21128);
	assert_int_equal(wl_vocab_id(v, "[PAD]"), 0);
	assert_int_equal(wl_vocab_id(v, "!"), 106);
	assert_int_equal(wl_vocab_id(v, "no such token"), -1);
	assert_int_equal(wl_vocab_id(v, ""), -1);
	assert_string_equal(wl_vocab_token(v, 103), "[MASK]");
	assert_null(wl_vocab_token(v, 21128));
	assert_null(wl_vocab_token(v, -1));
	for (size_t i = 0; i < sizeof(c) / sizeof(*c); i++) {
		size_t n = 0;
		while (c[i].ids[n++] != 102)
			;
		check_ids(v, c[i].text, strlen(c[i].text), c[i].ids, n);
	}
	wl_vocab_free(v);
}

static const char small[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n中\n国\nab\n##c\n";

/* Cut from the right, [SEP] always last, padding after it. */
static void cutting(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_vocab *v = wl_vocab_parse(small, sizeof(small) - 1, "small", &err);
	const char *text = "中国abc中";
	const int32_t all[] = {2, 4, 5, 6, 7, 4, 3};

	(void)state;
	assert_non_null(v);
	for (size_t max = 2; max < 12; max++) {
		int32_t ids[12];
		size_t n = wl_wordpiece(v, text, strlen(text), ids, max);
		assert_int_equal(n, max < 7 ? max : 7);
		for (size_t i = 0; i < max; i++)
			assert_int_equal(ids[i], i >= n ? 0 : i == n - 1 ? 3 : all[i]);
	}
	wl_vocab_free(v);
}

static void bad_utf8_is_dropped(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_vocab *v = wl_vocab_parse(small, sizeof(small) - 1, "small", &err);
	static const char text[] = "a\xff"
				   "b\xc0\xaf\xed\xa0\x80"
				   "c\xf4\x90\x80\x80 \xe4\xb8";
	const int32_t want[] = {2, 6, 7, 3};

	(void)state;
	assert_non_null(v);
	check_ids(v, text, sizeof(text) - 1, want, 4);
	wl_vocab_free(v);
}

static void damaged_vocabularies(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{"[PAD]\n[UNK]\n[CLS]\n", "[SEP] is missing"},
		{"", "[PAD] is missing"},
		{"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n[UNK]\n",
			"line 6: the token \"[UNK]\" is on line 2"},
		{"[PAD]\n[UNK]\n\n[CLS]\n[SEP]\n", "line 3: the line is empty"},
		{"[PAD]\n[UNK]\n\xff\n[CLS]\n[SEP]\n", "line 3: the token is not valid UTF-8"},
	};
	struct wl_err err = WL_ERR_INIT;
	struct wl_vocab *v;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		memset(&err, 0, sizeof(err));
		assert_null(wl_vocab_parse(bad[i].text, strlen(bad[i].text), "vocab.txt", &err));
		assert_int_equal(err.code, WL_EDATA);
		if (!strstr(err.msg, bad[i].says))
			fail_msg("\"%s\" does not say \"%s\"", err.msg, bad[i].says);
	}
	assert_null(wl_vocab_load("/no/such/vocab.txt", &err));
	assert_non_null(strstr(err.msg, "/no/such/vocab.txt"));
	/* CRLF and a missing last newline are fine. */
	v = wl_vocab_parse("[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]", 26, "crlf", &err);
	assert_non_null(v);
	assert_int_equal(wl_vocab_size(v), 4);
	wl_vocab_free(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden_hugging_face),
		cmocka_unit_test(golden_bert_chinese),
		cmocka_unit_test(cutting),
		cmocka_unit_test(bad_utf8_is_dropped),
		cmocka_unit_test(damaged_vocabularies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* loader/vocab: layout, merging, what is in and what is not. */
#include "loader/vocab.h"

#include "clean/dedup.h"
#include "clean/filter.h"
#include "clean/wordpiece.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_make.h"
#include "tests/support/tmp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static void add(struct wl_vocab_builder *b, const char *text, int times)
{
	while (times--)
		OK(wl_vocab_builder_add(b, text, strlen(text), &err));
}

static struct wl_vocab *make(
	struct wl_vocab_builder *b, size_t size, int64_t min_count, struct wl_vocab_counts *n)
{
	struct wl_vocab *v;
	struct wl_buf text;

	wl_buf_init(&text, 1 << 20);
	OK(wl_vocab_builder_make(b, size, min_count, &text, n, &err));
	v = wl_vocab_parse(text.data, text.len, "made", &err);
	if (!v)
		fail_msg("%s", err.msg);
	assert_int_equal(wl_vocab_size(v), n->tokens);
	wl_buf_release(&text);
	return v;
}

static void layout(void **state)
{
	struct wl_vocab_builder *b = wl_vocab_builder_new(&err);
	struct wl_vocab_counts n;
	struct wl_vocab *v;

	(void)state;
	add(b, "北京的秋天，テスト café Ａ！", 1);
	v = make(b, 1000, 2, &n);
	assert_string_equal(wl_vocab_token(v, 0), "[PAD]");
	assert_string_equal(wl_vocab_token(v, 1), "[unused1]");
	assert_string_equal(wl_vocab_token(v, 100), "[UNK]");
	assert_string_equal(wl_vocab_token(v, 101), "[CLS]");
	assert_string_equal(wl_vocab_token(v, 102), "[SEP]");
	assert_string_equal(wl_vocab_token(v, 103), "[MASK]");
	assert_string_equal(wl_vocab_token(v, 104), "!");
	assert_int_equal(wl_vocab_id(v, "A"), -1); /* text is lower case */
	assert_true(wl_vocab_id(v, "a") > 0 && wl_vocab_id(v, "##9") > 0);
	assert_true(wl_vocab_id(v, "京") > 0 && wl_vocab_id(v, "，") > 0);
	assert_int_equal(wl_vocab_id(v, "##京"), -1);
	assert_true(wl_vocab_id(v, "テ") > 0 && wl_vocab_id(v, "##ト") > 0);
	assert_true(wl_vocab_id(v, "ａ") > 0);	      /* full width is a letter of its own */
	assert_int_equal(wl_vocab_id(v, "cafe"), -1); /* seen once only */
	assert_int_equal(n.chinese, 5);
	assert_int_equal(n.pieces, 0);
	assert_int_equal(n.left_out, 0);
	wl_vocab_free(v);
	wl_vocab_builder_free(b);
}

/* The example of Sennrich et al. 2016, by hand: counts 9, 9, 7, 7, 6, 6, 6, then 3; of equal
 * ones the smaller first symbol goes first, "##..." before letters. */
static void merging(void **state)
{
	static const char *const pieces[] = {
		"##es", "##est", "##ow", "low", "##ew", "new", "newest"};
	struct wl_vocab_builder *b = wl_vocab_builder_new(&err);
	struct wl_vocab_counts n;
	struct wl_vocab *v;

	(void)state;
	add(b, "low", 5);
	add(b, "lower", 2);
	add(b, "newest", 6);
	add(b, "widest", 3);
	v = make(b, 1000, 4, &n);
	assert_int_equal(n.pieces, 7);
	for (int i = 0; i < 7; i++)
		assert_string_equal(wl_vocab_token(v, (int32_t)n.tokens - 7 + i), pieces[i]);
	wl_vocab_free(v);
	v = make(b, WL_VOCAB_MIN_SIZE + 3, 1, &n); /* room for three more */
	assert_int_equal(n.tokens, WL_VOCAB_MIN_SIZE + 3);
	assert_int_equal(n.pieces, 3);
	assert_true(wl_vocab_id(v, "##ow") > 0);
	assert_int_equal(wl_vocab_id(v, "low"), -1);
	wl_vocab_free(v);
	wl_vocab_builder_free(b);
}

/* Added in another order: the same vocabulary. */
static void order_does_not_matter(void **state)
{
	static const char *const words[] = {"banana bandana", "aaaa aaa aa", "abab ababab",
		"你好，ab", "банан ананас", "한국어 한국", "x1y2 x1y3 x1", "aaab aab ab"};
	struct wl_vocab_builder *a = wl_vocab_builder_new(&err), *b = wl_vocab_builder_new(&err);
	struct wl_vocab_counts na, nb;
	struct wl_buf ta, tb;

	(void)state;
	for (int i = 0; i < 8; i++) {
		add(a, words[i], i + 1);
		add(b, words[7 - i], 8 - i);
	}
	wl_buf_init(&ta, 1 << 20);
	wl_buf_init(&tb, 1 << 20);
	OK(wl_vocab_builder_make(a, 2000, 2, &ta, &na, &err));
	OK(wl_vocab_builder_make(b, 2000, 2, &tb, &nb, &err));
	assert_string_equal(wl_buf_str(&ta), wl_buf_str(&tb));
	assert_true(na.pieces > 10);
	wl_buf_release(&ta);
	wl_buf_release(&tb);
	wl_vocab_builder_free(a);
	wl_vocab_builder_free(b);
}

/* No room for all characters: the most frequent are in, the others counted. */
static void small_size(void **state)
{
	struct wl_vocab_builder *b = wl_vocab_builder_new(&err);
	struct wl_vocab_counts n;
	struct wl_vocab *v;

	(void)state;
	add(b, "甲", 1);
	add(b, "乙", 3);
	add(b, "丙", 2);
	v = make(b, WL_VOCAB_MIN_SIZE + 2, 1, &n);
	assert_true(wl_vocab_id(v, "乙") > 0 && wl_vocab_id(v, "丙") > 0);
	assert_int_equal(wl_vocab_id(v, "甲"), -1);
	assert_int_equal(n.left_out, 1);
	wl_vocab_free(v);
	struct wl_buf text;
	wl_buf_init(&text, 1 << 20);
	FAILS(WL_EUSAGE, "does not hold the special tokens",
		wl_vocab_builder_make(b, WL_VOCAB_MIN_SIZE - 1, 1, &text, &n, &err));
	wl_buf_release(&text);
	wl_vocab_builder_free(b);
}

static void from_a_corpus(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_dedup_options o = {.policy = WL_DEDUP_IMAGE, .image_radius = 4, .threads = 1};
	struct wl_dedup_counts dn;
	struct wl_filter_counts fn;
	struct wl_vocab_counts n;
	struct wl_vocab_builder *b = wl_vocab_builder_new(&err);
	struct wl_text *tx = wl_text_open(&err);
	struct corpus_maker m;
	struct wl_corpus *c;
	struct wl_rules *r;
	struct wl_vocab *v;
	char dir[512], rules[512];
	int64_t pairs;

	(void)state;
	corpus_make_open(&m, tmp_path(&tmp, "corpus", dir), 2);
	for (int i = 0; i < 5; i++) {
		static const char *const texts[] = {"甲頭", "乙", "丙丁", "戊己", "庚辛"};
		struct wl_image im;
		char t[64];
		snprintf(t, sizeof(t), "[[\"caption\",\"%s\"]]", texts[i]);
		/* 3 repeats 2's picture later; 4 is a test pair. */
		draw_picture(i == 3 ? 2 : (uint64_t)i, 100, 80, &im);
		corpus_make_jpeg(&m, "news", t, i == 4 ? "test" : "", &im, i == 3 ? 60 : 90);
		wl_image_release(&im);
	}
	corpus_make_close(&m);
	c = wl_corpus_open(dir, false, 0, &err);
	assert_non_null(c);
	FAILS(WL_EUSAGE, "wenlan-dedup", wl_vocab_builder_corpus(b, c, &pairs, &err));
	tmp_write(tmp_path(&tmp, "rules.yaml", rules), "version: 1\ntext: {min_letters: 2}\n");
	r = wl_rules_load(rules, tx, &err);
	assert_non_null(r);
	OK(wl_dedup(c, &o, &dn, &err));
	OK(wl_filter(c, r, 1, &fn, &err));
	OK(wl_vocab_builder_corpus(b, c, &pairs, &err));
	assert_int_equal(pairs, 2);
	v = make(b, 1000, 1, &n);
	assert_int_equal(n.chinese, 4);
	assert_true(wl_vocab_id(v, "甲") > 0 && wl_vocab_id(v, "头") > 0); /* 頭, cleaned */
	assert_int_equal(wl_vocab_id(v, "乙"), -1);			   /* too short */
	assert_true(wl_vocab_id(v, "丙") > 0);
	assert_int_equal(wl_vocab_id(v, "戊"), -1); /* a duplicate's */
	assert_int_equal(wl_vocab_id(v, "庚"), -1); /* a test pair's */
	wl_vocab_free(v);
	wl_filter_counts_release(&fn);
	wl_corpus_close(c);
	wl_rules_free(r);
	wl_text_close(tx);
	wl_vocab_builder_free(b);
	tmp_remove(&tmp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layout),
		cmocka_unit_test(merging),
		cmocka_unit_test(order_does_not_matter),
		cmocka_unit_test(small_size),
		cmocka_unit_test(from_a_corpus),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

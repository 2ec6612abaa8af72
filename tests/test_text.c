/* clean/text: what normalising keeps, cuts and masks; Traditional text; keys. */
#include "clean/text.h"
#include "ops/file.h"
#include "tests/support/cleaning.h"
#include "tests/support/cm.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <opencc/opencc.h>

#define TEXTS "../shared/data/text/"

static char *normalised(const char *source, const char *text, struct wl_text_facts *facts)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_buf b;

	wl_buf_init(&b, 16 << 20);
	if (wl_text_normalise(tx, source, text, strlen(text), 0, &b, facts, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(wl_buf_putc(&b, 0, &err), 0);
	return b.data;
}

static void expect(const char *source, const char *text, const char *want)
{
	char *got = normalised(source, text, NULL), *again = normalised(source, got, NULL);

	assert_string_equal(got, want);
	assert_string_equal(again, want);
	free(got);
	free(again);
}

static void entities_and_controls(void **state)
{
	(void)state;
	expect("news", "Tom &amp; Jerry &lt;3 &#20013;&#x56fd;&nbsp;!", "Tom & Jerry <3 中国 !");
	expect("news", "&amp;amp;quot;a&amp;quot;", "\"a\"");
	expect("news", "&notanentity; &; &#xZZ; &#99999999; AT&T",
		"&notanentity; &; &#xZZ; &#99999999; AT&T");
	expect("news", "a\r\n\tb\u3000c\u00a0 d ", "a b c d");
	expect("news", "零\u200b宽\ufeff字\u00ad符\u202e。", "零宽字符。");
	expect("news",
		"a\x01\x02"
		"b\ue000c",
		"abc");
	expect("news", "<p class='x'>北京<br/>上海</p> 1<2 a<b <3", "北京 上海 1<2 a<b <3");
	expect("news", "<!-- x -->图<A HREF=\"x\">片</A>", "图 片");
	expect("news", "", "");
	expect("news", " \n\t", "");
}

/* NFC composes; compatibility forms stay, for the tokeniser's sake. */
static void composition(void **state)
{
	(void)state;
	expect("news", "cafe\u0301 \u1112\u1161\u11ab", "café 한");
	expect("news", "２０２１年Ａ①㎏", "２０２１年Ａ①㎏");
	expect("news", "\uf92e", "\u51b7");
}

static void urls(void **state)
{
	(void)state;
	expect("news", "见http://t.cn/zjKyD4R这里", "见 这里");
	expect("news", "HTTPS://a.b/c?d=e&f=1 www.sina.com.cn。", "。");
	expect("news", "awww.x", "awww.x");
}

static void personal_numbers(void **state)
{
	static const struct {
		const char *text, *want;
		int mobiles, ids, mails;
	} c[] = {
		{"电话13812345678。", "电话***。", 1, 0, 0},
		{"138-1234-5678 或 139 1234 5678", "*** 或 ***", 2, 0, 0},
		{"+8613812345678", "+***", 1, 0, 0},
		{"１３８１２３４５６７８", "***", 1, 0, 0},
		{"138123456789", "138123456789", 0, 0, 0},
		{"12812345678", "12812345678", 0, 0, 0},
		{"订单20210311123456", "订单20210311123456", 0, 0, 0},
		/* 11010519491231002X is GB 11643's own example. */
		{"身份证11010519491231002X", "身份证***", 0, 1, 0},
		{"11010519491231002x,440524188001010014", "***,440524188001010014", 0, 1, 0},
		{"110105194912310021", "110105194912310021", 0, 0, 0},
		{"110105194913310028", "110105194913310028", 0, 0, 0},
		{"写信a.b-c@mail.example.com吧", "写信***吧", 0, 0, 1},
		{"a@b c@d.e1 @x.com", "a@b c@d.e1 @x.com", 0, 0, 0},
		{"x@y.cn@z.com", "***@z.com", 0, 0, 1},
		{"a@b.com. a@1.2.3 a@b.c0.cn", "***. a@1.2.3 ***", 0, 0, 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(c) / sizeof(*c); i++) {
		struct wl_text_facts f;
		char *got = normalised("news", c[i].text, &f);
		assert_string_equal(got, c[i].want);
		if (f.personal[WL_MOBILE] != c[i].mobiles || f.personal[WL_ID_CARD] != c[i].ids ||
			f.personal[WL_EMAIL] != c[i].mails)
			fail_msg("\"%s\": counts %d %d %d", c[i].text, f.personal[WL_MOBILE],
				f.personal[WL_ID_CARD], f.personal[WL_EMAIL]);
		free(got);
	}
}

static void kept_when_asked(void **state)
{
	const char *text = "電話13812345678，a@b.cn";
	struct wl_err err = WL_ERR_INIT;
	struct wl_text_facts f;
	struct wl_buf b;

	(void)state;
	wl_buf_init(&b, 1000);
	assert_int_equal(wl_text_normalise(tx, "weibo", text, strlen(text),
				 WL_TEXT_KEEP_PII | WL_TEXT_KEEP_TRADITIONAL, &b, &f, &err),
		0);
	assert_string_equal(wl_buf_str(&b), text);
	assert_int_equal(f.personal[WL_MOBILE], 1);
	assert_int_equal(f.personal[WL_EMAIL], 1);
	assert_true(f.traditional);
	wl_buf_release(&b);
}

static void weibo(void **state)
{
	(void)state;
	expect("weibo", "真好看[泪][good]！ http://t.cn/abc", "真好看 ！");
	expect("weibo", "#北京的秋天# 走起@张三 @李四_1 吧", "北京的秋天 走起 吧");
	expect("weibo", "说得对//@张三:原来如此//@李四：图", "说得对");
	expect("weibo", "转发微博//@张三:原来如此//@李四：图", "原来如此");
	expect("weibo", "回复@张三:谢谢[爱你]", "谢谢");
	expect("weibo", "转发微博。", "。");
	expect("weibo", "写信a@b.cn", "写信***");
	expect("weibo", "138[泪]1234[泪]5678", "***");
	expect("weibo", "C# 和 F#", "C 和 F");
	expect("weibo", "[这是一段很长的方括号文字]", "[这是一段很长的方括号文字]");
	expect("news", "@张三 #话题# [泪]", "@张三 #话题# [泪]");
}

static void traditional(void **state)
{
	(void)state;
	expect("news", "想到自己一緊張就口吃", "想到自己一紧张就口吃");
	expect("news", "太后的頭髮很乾燥", "太后的头发很干燥");
	/* Not Traditional as a whole, or not Chinese: left alone. */
	expect("news", "这里的乾隆瓷器很漂亮，飯", "这里的乾隆瓷器很漂亮，飯");
	expect("news", "図書館の写真は綺麗です", "図書館の写真は綺麗です");
	assert_int_equal(wl_text_script(tx, 0x9ad4), 1);  /* 體 */
	assert_int_equal(wl_text_script(tx, 0x4f53), -1); /* 体 */
	assert_int_equal(wl_text_script(tx, 0x4eba), 0);  /* 人 */
}

static bool have(const char *path)
{
	if (!wl_exists(path)) {
		print_message("SKIPPED: %s is not here\n", path);
		return false;
	}
	return true;
}

/* The file has commas before closing brackets, which JSON has not. */
static json_t *load_with_commas(const char *path)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_buf b;
	json_t *root;

	wl_buf_init(&b, 1 << 20);
	assert_int_equal(wl_read_file(path, &b, &err), 0);
	for (size_t i = 0; i < b.len; i++) {
		size_t k = i + 1;
		while (b.data[i] == ',' && k < b.len && strchr(" \n", b.data[k]))
			k++;
		if (b.data[i] == ',' && k < b.len && strchr("]}", b.data[k]))
			b.data[i] = ' ';
	}
	root = json_loadb(b.data, b.len, 0, NULL);
	wl_buf_release(&b);
	return root;
}

/* OpenCC's own cases of its t2s configuration. */
static void opencc_testcases(void **state)
{
	json_t *root, *c;
	size_t i, checked = 0, right = 0;
	opencc_t cc = opencc_open("t2s.json");

	(void)state;
	if (!have(TEXTS "opencc/testcases.json"))
		skip();
	root = load_with_commas(TEXTS "opencc/testcases.json");
	assert_non_null(root);
	json_array_foreach(json_object_get(root, "cases"), i, c)
	{
		const char *want =
			json_string_value(json_object_get(json_object_get(c, "expected"), "t2s"));
		const char *in = json_string_value(json_object_get(c, "input"));
		struct wl_text_facts f;
		char *got, *raw;
		if (!want)
			continue;
		got = normalised("news", in, &f);
		/* The cases are of a later OpenCC than Debian's, which knows fewer words; so what
		 * is asked is that nothing but the installed OpenCC stands between. */
		raw = opencc_convert_utf8(cc, in, strlen(in));
		assert_string_equal(got, f.traditional ? raw : in);
		opencc_convert_utf8_free(raw);
		right += strcmp(got, want) == 0;
		checked++;
		free(got);
	}
	print_message("%zu of %zu cases as expected\n", right, checked);
	assert_true(checked >= 5 && right >= 20);
	opencc_close(cc);
	json_decref(root);
}

/* Counts texts called Traditional in a JSONL of {"text"}; checks idempotence on the way. */
static void count_traditional(const char *path, size_t *trad, size_t *all)
{
	FILE *f = fopen(path, "r");
	char *line = NULL;
	size_t cap = 0;

	*trad = *all = 0;
	assert_non_null(f);
	while (getline(&line, &cap, f) > 0) {
		json_t *o = json_loads(line, 0, NULL);
		const char *text = json_string_value(json_object_get(o, "text"));
		struct wl_text_facts facts;
		char *once, *twice;
		if (!text)
			fail_msg("%s: a line without \"text\"", path);
		once = normalised("weibo", text, &facts);
		twice = normalised("weibo", once, NULL);
		assert_string_equal(once, twice);
		*trad += facts.traditional;
		++*all;
		free(once);
		free(twice);
		json_decref(o);
	}
	free(line);
	fclose(f);
}

static void real_texts(void **state)
{
	size_t trad, all;

	(void)state;
	if (!have(TEXTS "wiki_zh_hant.jsonl"))
		skip();
	count_traditional(TEXTS "wiki_zh_hant.jsonl", &trad, &all);
	print_message("wiki_zh_hant: %zu of %zu Traditional\n", trad, all);
	assert_true(trad == all);
	count_traditional(TEXTS "wiki_zh_hans.jsonl", &trad, &all);
	print_message("wiki_zh_hans: %zu of %zu Traditional\n", trad, all);
	assert_true(trad * 200 <= all);
	count_traditional(TEXTS "weibo_posts.jsonl", &trad, &all);
	print_message("weibo_posts: %zu of %zu Traditional\n", trad, all);
	assert_true(trad * 20 <= all);
}

static void expect_key(const char *text, const char *want)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_buf b;

	wl_buf_init(&b, 1000);
	assert_int_equal(wl_text_key(tx, text, strlen(text), &b, &err), 0);
	assert_string_equal(wl_buf_str(&b), want);
	wl_buf_release(&b);
}

static void keys(void **state)
{
	(void)state;
	expect_key("Ｈｅｌｌｏ，世界！", "hello世界");
	expect_key("北 京-的_秋·天。", "北京的秋天");
	expect_key("①㎏ ﬁ Straße", "1kgfistrasse");
	expect_key("cafe\u0301 CAFÉ", "cafécafé");
	expect_key("\u0301\u3002 !?", "");
	expect_key("ｶﾞ", "ガ");
	expect_key("1\u20e3", "1\u20e3");
}

static void bad_input(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_text_facts f;
	struct wl_buf b;

	(void)state;
	wl_buf_init(&b, 100);
	assert_int_equal(wl_text_normalise(tx, "", "a\xff\xc0z", 4, 0, &b, &f, &err), 0);
	assert_string_equal(wl_buf_str(&b), "a\ufffd\ufffdz");
	assert_int_equal(f.bad_bytes, 2);
	/* A buffer that is too small is an error, never an overflow. */
	char *big = malloc(1000);
	memset(big, 'a', 1000);
	assert_int_equal(wl_text_normalise(tx, "", big, 1000, 0, &b, NULL, &err), -1);
	assert_true(err.msg[0] != 0);
	free(big);
	wl_buf_release(&b);
}

/* The converter is shared by the threads of a stage. */
static void *convert_many(void *arg)
{
	for (int i = 0; i < 300; i++) {
		char *got = normalised("news", "想到自己一緊張就口吃，太后的頭髮很乾燥", NULL);
		*(int *)arg += strcmp(got, "想到自己一紧张就口吃，太后的头发很干燥") != 0;
		free(got);
	}
	return NULL;
}

static void threads(void **state)
{
	pthread_t th[4];
	int wrong[4] = {0};

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&th[i], NULL, convert_many, &wrong[i]), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(th[i], NULL);
		assert_int_equal(wrong[i], 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entities_and_controls),
		cmocka_unit_test(composition),
		cmocka_unit_test(urls),
		cmocka_unit_test(personal_numbers),
		cmocka_unit_test(kept_when_asked),
		cmocka_unit_test(weibo),
		cmocka_unit_test(traditional),
		cmocka_unit_test(opencc_testcases),
		cmocka_unit_test(real_texts),
		cmocka_unit_test(keys),
		cmocka_unit_test(bad_input),
		cmocka_unit_test(threads),
	};
	return cmocka_run_group_tests(tests, open_text, close_text);
}

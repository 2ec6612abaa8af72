/* One input item: the JSON dialects, text files, and why something is no pair. */
#include "ingest/record.h"

#include "ingest/record_priv.h"
#include "ingest/url.h"
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include "tests/fuzz/fuzz_flat.c" /* aborts when the two ways differ */

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct wl_err err;

static void parse(struct wl_record *r, struct wl_image_ref *ref, const char *json)
{
	wl_record_clear(r);
	OK(wl_record_json(r, json, strlen(json), ref, &err));
}

static void test_both_dialects(void **state)
{
	struct wl_record r;
	struct wl_image_ref ref;

	(void)state;
	wl_record_init(&r);
	parse(&r, &ref,
		"{\"source\":\"news\",\"url\":\"u\",\"page_url\":\"p\",\"title\":\"题\","
		"\"captions\":[\"一\",\"  "
		"\",[\"alt_text\",\"二\"]],\"text\":\"三\",\"image\":\"a/b.jpg\","
		"\"boxes\":[[1,2,3,4.5]],\"split\":\"validation\",\"fetched_at\":12,"
		"\"meta\":{\"k\":1},\"extra\":[true]}");
	assert_null(r.reason);
	assert_string_equal(r.pair.source, "news");
	assert_string_equal(r.pair.url, "u");
	assert_string_equal(r.pair.page_url, "p");
	assert_string_equal(r.pair.texts, "[[\"caption\",\"一\"],[\"alt_text\",\"二\"],"
					  "[\"caption\",\"三\"],[\"title\",\"题\"]]");
	assert_string_equal(r.pair.split_hint, "val");
	assert_string_equal(r.pair.boxes, "[[1,2,3,4.5]]");
	assert_int_equal(r.pair.fetched_at, 12);
	assert_string_equal(r.pair.meta, "{\"extra\":[true],\"k\":1}");
	assert_string_equal(ref.path, "a/b.jpg");

	parse(&r, &ref,
		"{\"image_id\":\"../x.jpg\",\"sentences\":[[\"alt_text\",\"甲\"],"
		"[\"sur_text\",\"乙\"]],\"bbox\":[[0,0,1,1],[2,2,2,2]]}");
	assert_null(r.reason);
	assert_string_equal(r.pair.texts, "[[\"alt_text\",\"甲\"],[\"sur_text\",\"乙\"]]");
	assert_string_equal(r.pair.boxes, "[[0,0,1,1],[2,2,2,2]]");
	assert_string_equal(ref.path, "../x.jpg");
	wl_record_release(&r);
}

static void test_base64(void **state)
{
	struct wl_record r;
	struct wl_image_ref ref;

	(void)state;
	wl_record_init(&r);
	parse(&r, &ref, "{\"text\":\"x\",\"image_b64\":\"data:image/png;base64,AP/+\\n-_8=\"}");
	assert_null(r.reason);
	assert_true(r.has_image);
	assert_int_equal(r.image.len, 5);
	assert_memory_equal(r.image.data, "\x00\xff\xfe\xfb\xff", 5);
	static const char *const bad[] = {"A", "AAAAA", "AA*A", "AA=A", "图"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char json[128];
		snprintf(json, sizeof json, "{\"text\":\"x\",\"image_b64\":\"%s\"}", bad[i]);
		parse(&r, &ref, json);
		if (!r.reason)
			fail_msg("\"%s\" was taken for base64", bad[i]);
	}
	wl_record_release(&r);
}

static void test_bad_json(void **state)
{
	static const struct {
		const char *json, *says;
	} bad[] = {
		{"", "wrong JSON"},
		{"{", "wrong JSON"},
		{"[1]", "not an object"},
		{"{\"a\":1} x", "wrong JSON"},
		{"{\"text\":\"\xff\"}", "wrong JSON"},
		{"{\"text\":\"a\\u0000b\"}", "wrong JSON"},
		{"{\"text\":5}", "\"text\""},
		{"{\"captions\":[1]}", "\"captions\""},
		{"{\"captions\":[[\"a\",\"b\",\"c\"]]}", "\"captions\""},
		{"{\"title\":[\"a\"]}", "\"title\""},
		{"{\"boxes\":{}}", "boxes"},
		{"{\"boxes\":[[1,2,3]]}", "box 0"},
		{"{\"boxes\":[[0,0,1,1],[3,2,1,4]]}", "box 1"},
		{"{\"split\":\"dunno\"}", "dunno"},
		{"{\"fetched_at\":\"now\"}", "fetched_at"},
		{"{\"meta\":[]}", "meta"},
		{"{\"image\":7}", "\"image\""},
		{"{\"source\":7}", "\"source\""},
	};
	struct wl_record r;
	struct wl_image_ref ref;

	(void)state;
	wl_record_init(&r);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		parse(&r, &ref, bad[i].json);
		if (!r.reason || !strstr(r.reason, bad[i].says))
			fail_msg("%s: reason \"%s\" does not say %s", bad[i].json,
				r.reason ? r.reason : "(none)", bad[i].says);
	}
	/* Nesting without end is refused, not followed. */
	size_t n = 100000;
	char *deep = malloc(n);
	assert_non_null(deep);
	memset(deep, '[', n);
	wl_record_clear(&r);
	OK(wl_record_json(&r, deep, n, &ref, &err));
	assert_non_null(r.reason);
	free(deep);
	wl_record_release(&r);
}

/* One member of an object, as producers write them and as they should not. */
static void add_member(struct wl_buf *b, uint64_t x)
{
	static const char *const keys[] = {"source", "url", "page_url", "title", "text", "caption",
		"captions", "sentences", "image", "image_id", "image_url", "image_b64", "split",
		"fetched_at", "boxes", "bbox", "meta", "other"};
	static const char *const values[] = {"\"x\"", "\"中文 text\"", "\"\\u4e2d\\n\\\"\\/\"",
		"\"\\ud83d\\ude00\"", "\"\\ud83d\"", "\"\\u0000\"", "\"\"", "\" \\t\\u000b\"",
		"null", "12", "0", "-3", "1e3", "01", "[]", "[\"a\",\"b\"]",
		"[[\"alt_text\",\"甲\"],\"乙\"]", "[[\"a\",\"b\",\"c\"]]", "[1]", "{}",
		"\"AP/+-_8=\"", "\"AAAA\"", "\"AA==\"", "\"A\"", "\"data:image/png;base64,AAA=\"",
		"\"train\"", "\"dev\"", "\"\\u0001\\u007f\\u001f\"", "\"\xed\xa0\x80\"",
		"\"\xf0\x9f\x98\x80\"", "\"a\tb\"", "[[1,2,3,4]]", "true"};

	OK(wl_buf_printf(b, &err, "%s\"%s\"%s:%s%s", b->len > 1 ? "," : "",
		keys[x % (sizeof keys / sizeof *keys)], x >> 20 & 1 ? " " : "",
		values[(x >> 32) % (sizeof values / sizeof *values)], x >> 21 & 1 ? "\r\n " : ""));
}

static void test_flat_is_tree(void **state)
{
	struct wl_record r;
	struct wl_image_ref ref = {0};
	struct wl_buf b;
	int taken = 0;

	(void)state;
	wl_record_init(&r);
	wl_buf_init(&b, 1 << 16);
	for (uint64_t i = 0; i < 40000; i++) {
		wl_buf_reset(&b);
		OK(wl_buf_puts(&b, "{", &err));
		uint64_t members = wl_rand64(31, i, 0) % 6;
		for (uint64_t k = 0; k < members; k++)
			add_member(&b, wl_rand64(32, i, k));
		OK(wl_buf_puts(&b, "}", &err));
		/* Half of them with a byte changed. */
		uint64_t x = wl_rand64(33, i, 0);
		if (x & 1)
			b.data[(x >> 1) % b.len] = (char)(x >> 40);
		LLVMFuzzerTestOneInput((const uint8_t *)b.data, b.len);
		wl_record_clear(&r);
		int flat = wl_record_flat(&r, b.data, b.len, &ref, &err);
		OK(flat);
		taken += flat;
		ref = (struct wl_image_ref){0};
	}
	print_message("%d of 40000 the quick way\n", taken);
	assert_true(taken > 1000);
	/* What people send goes the quick way. */
	static const char usual[] =
		"{\"source\": \"news\", \"page_url\": \"http://n.example/1\", \"captions\": "
		"[[\"alt_text\", \"\\u4e00\"], \"二\"], \"image_b64\": \"AAAA\", \"title\": "
		"\"题\"}";
	wl_record_clear(&r);
	assert_int_equal(wl_record_flat(&r, usual, sizeof usual - 1, &ref, &err), 1);
	assert_string_equal(
		r.pair.texts, "[[\"alt_text\",\"一\"],[\"caption\",\"二\"],[\"title\",\"题\"]]");
	assert_int_equal(r.image.len, 3);
	wl_buf_release(&b);
	wl_record_release(&r);
}

/* Base64 of all lengths, with and without line breaks, against its definition. */
static void test_base64_lengths(void **state)
{
	static const char digit[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct wl_record r;
	char text[400];

	(void)state;
	wl_record_init(&r);
	for (size_t n = 0; n < 200; n++) {
		for (size_t every = 0; every < 80; every += 7) {
			size_t w = 0, digits = (8 * n + 5) / 6;
			for (size_t i = 0; i < digits; i++) {
				unsigned v = 0;
				for (size_t bit = 6 * i; bit < 6 * i + 6; bit++)
					v = v << 1 | (bit < 8 * n ? wl_rand64(41, n, bit) & 1 : 0);
				text[w++] = digit[v];
				if (every && i % every == every - 1)
					text[w++] = '\n';
			}
			for (size_t i = digits; i % 4; i++)
				text[w++] = '=';
			text[w] = '\0';
			wl_record_clear(&r);
			OK(wl_record_base64(&r, text, "it", &r.image, &err));
			assert_null(r.reason);
			assert_int_equal(r.image.len, n);
			for (size_t bit = 0; bit < 8 * n; bit++)
				assert_int_equal(
					(uint8_t)r.image.data[bit / 8] >> (7 - bit % 8) & 1,
					wl_rand64(41, n, bit) & 1);
		}
	}
	wl_record_release(&r);
}

/* A URL that is called plain is one that parsing leaves as it is. */
static void test_plain_url(void **state)
{
	static const char *const parts[] = {"http://", "https://", "HTTP://", "ftp://", "a.example",
		"B.example", "1.2.3.4", "0x7f.1", "x.1", "-a", ".a", "a-b.c", "u@", ":80", "/",
		"//", "/.", "/..", "/a.jpg", "?", "?a=b", "&c", "#f", "%41", "%zz", " ", "\"", "中",
		"+", "~", ",", "@x", ":", "'", "..", "a.", "/a./b"};
	static const char *const usual[] = {"http://img.example.com/pictures/1/large.jpg",
		"https://ss0.bdstatic.com/70cFuHSh_Q1YnxGkpoWK1HF6hhy/it/u=1,2&fm=27&gp=0.jpg",
		"https://wx1.sinaimg.cn/large/006y8lVagy1g.jpg?KID=imgbed,tva&Expires=159"};
	char text[200];
	int plain = 0;

	(void)state;
	for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
		assert_true(wl_url_is_plain(usual[i]));
	for (uint64_t i = 0; i < 60000; i++) {
		struct wl_url u;
		uint64_t n = 1 + wl_rand64(51, i, 0) % 6;
		snprintf(text, sizeof text, "%s", parts[wl_rand64(51, i, 9) % 4]);
		for (uint64_t k = 1; k <= n; k++)
			strcat(text, parts[4 + wl_rand64(51, i, k) %
						       (sizeof parts / sizeof *parts - 4)]);
		if (!wl_url_is_plain(text))
			continue;
		plain++;
		if (wl_url_parse(&u, text, &err) < 0)
			fail_msg("%s: %s", text, err.msg);
		assert_string_equal(u.text, text);
		wl_url_release(&u);
	}
	print_message("%d of 60000 plain\n", plain);
	assert_true(plain > 80);
}

static void captions(const char *bytes, size_t n, const char *texts)
{
	struct wl_record r;

	wl_record_init(&r);
	OK(wl_record_captions(&r, bytes, n, &err));
	if (texts) {
		assert_null(r.reason);
		assert_string_equal(r.pair.texts, texts);
	} else {
		assert_non_null(r.reason);
	}
	wl_record_release(&r);
}

static void test_text_encodings(void **state)
{
	(void)state;
	captions("\xef\xbb\xbf一\r\n\n 二 \n", 15, "[[\"caption\",\"一\"],[\"caption\",\" 二 \"]]");
	captions("\xd6\xd0\xce\xc4", 4, "[[\"caption\",\"中文\"]]"); /* GB2312 */
	captions("\x95\x32\x82\x36", 4, "[[\"caption\",\"𠀀\"]]");   /* GB18030, four bytes */
	captions("\xff\xfe\x2d\x4e\x87\x65", 6, "[[\"caption\",\"中文\"]]");
	captions("\xfe\xff\x4e\x2d\x65\x87", 6, "[[\"caption\",\"中文\"]]");
	captions("", 0, "[]");
	captions("\x80\xff\xff\x00\x01", 5, NULL);
	captions("a\0b", 3, NULL);
}

static void test_stamp(void **state)
{
	struct wl_record r;
	static const char good[] =
		"A cat.\nde.utf8=Eine Katze.\nzh_CN.utf8=一只猫。\r\nzh_TW.utf8=x\n";

	(void)state;
	wl_record_init(&r);
	OK(wl_record_stamp(&r, good, sizeof good - 1, &err));
	assert_string_equal(r.pair.texts, "[[\"caption\",\"一只猫。\"]]");
	static const char *const bad[] = {
		"", "A cat.", "zh_CN.utf8=", "zh_CN.utf8= \n", "xzh_CN.utf8=猫", "zh_CN.utf8=\xff"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		wl_record_clear(&r);
		OK(wl_record_stamp(&r, bad[i], strlen(bad[i]), &err));
		assert_non_null(r.reason);
		assert_string_equal(r.reason, "no zh_CN caption");
	}
	wl_record_clear(&r);
	OK(wl_record_stamp(&r, "zh_CN.utf8=a\0b", 14, &err)); /* found by fuzzing */
	assert_non_null(r.reason);
	wl_record_release(&r);
}

static void test_load(void **state)
{
	struct wl_record r;
	struct tmp_dir t = tmp_make();
	char path[512];

	(void)state;
	wl_record_init(&r);
	struct wl_buf b;
	wl_buf_init(&b, 10);
	tmp_write(tmp_path(&t, "a", path), "0123456789");
	OK(wl_record_load(&r, path, "image", &b, &err));
	assert_null(r.reason);
	assert_int_equal(b.len, 10);
	tmp_write(tmp_path(&t, "b", path), "0123456789+");
	const char *const bad[] = {path, t.path, "/nonexistent/x", "/dev/zero"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		wl_record_clear(&r);
		OK(wl_record_load(&r, bad[i], "image", &b, &err));
		if (!r.reason)
			fail_msg("%s was loaded", bad[i]);
	}
	/* A FIFO without a writer must not hang the run. */
	assert_int_equal(mkfifo(tmp_path(&t, "fifo", path), 0600), 0);
	wl_record_clear(&r);
	OK(wl_record_load(&r, path, "image", &b, &err));
	assert_non_null(r.reason);
	wl_buf_release(&b);
	wl_record_release(&r);
	tmp_remove(&t);
}

/* What one item yields: own places, room for any number, nothing left after a clear. */
static void test_yield(void **state)
{
	struct wl_record r;

	(void)state;
	wl_record_init(&r);
	for (int round = 0; round < 3; round++) {
		wl_record_clear(&r);
		assert_false(r.many);
		assert_int_equal(r.n_yield, 0);
		r.place = "page 7";
		r.position = "9";
		r.pair.source = "news";
		for (int i = 0; i < 100; i++) {
			struct wl_record *y = wl_record_yield(&r, &err);
			assert_non_null(y);
			assert_false(y->has_image);
			assert_null(y->reason);
			OK(wl_buf_puts(&y->image, "some bytes", &err));
			OK(wl_record_reject(y, &err, "number %d", i));
			y->has_image = true;
		}
		assert_true(r.many);
		assert_int_equal(r.n_yield, 100);
		assert_string_equal(r.yield[0]->place, "page 7, item 1");
		assert_string_equal(r.yield[99]->place, "page 7, item 100");
		assert_string_equal(r.yield[99]->reason, "number 99");
		assert_string_equal(r.yield[42]->pair.source, "news");
	}
	wl_record_release(&r);
}

static void test_tally(void **state)
{
	static const char *const class[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};
	struct wl_record r;

	(void)state;
	wl_record_init(&r);
	for (int i = 0; i < 30; i++)
		OK(wl_record_tally(&r, class[i % 10], i, &err));
	assert_int_equal(r.n_tallies, 10);
	for (int i = 0; i < 10; i++) {
		assert_string_equal(r.tallies[i].class, class[i]);
		assert_int_equal(r.tallies[i].n, 3 * i + 30);
	}
	assert_false(r.many);
	OK(wl_record_pass(&r, "requests", &err));
	assert_true(r.many);
	assert_int_equal(r.tallies[10].n, 1);
	wl_record_clear(&r);
	assert_int_equal(r.n_tallies, 0);
	wl_record_release(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_dialects),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_bad_json),
		cmocka_unit_test(test_flat_is_tree),
		cmocka_unit_test(test_base64_lengths),
		cmocka_unit_test(test_plain_url),
		cmocka_unit_test(test_text_encodings),
		cmocka_unit_test(test_stamp),
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_yield),
		cmocka_unit_test(test_tally),
	};
	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}

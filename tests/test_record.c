/* One input item: the JSON dialects, text files, and why something is no pair. */
#include "ingest/record.h"

#include "tests/support/cm.h"
#include "tests/support/tmp.h"

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
		cmocka_unit_test(test_text_encodings),
		cmocka_unit_test(test_stamp),
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_yield),
		cmocka_unit_test(test_tally),
	};
	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}

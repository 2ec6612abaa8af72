/*
 * Encodings: the order of belief of ingest/charset.h, made pages first, then the real documents
 * of ../shared/data/web.
 */
#include "ingest/charset.h"
#include "ops/file.h"
#include "ops/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unicode/ucnv.h>

#include <cmocka.h>

#define WEB "../shared/data/web"

static const char sample[] =
	"<p>新华社北京电，我国的科学家在实验中发现了一种新的材料，这个成果对于人们的生活会有很大"
	"的影响。图为研究人员在工作。</p>";
static const char sample_tw[] =
	"<p>"
	"新聞報導，我國的科學家在實驗中發現了一種新的材料，這個成果對於人們的生活會有很大的影響，"
	"圖為研究人員在工作。</p>";

/* Encodes UTF-8 text by ICU: what the test wants to be read back. */
static struct wl_buf encoded(const char *head, const char *text, const char *name)
{
	struct wl_buf b;
	UErrorCode rc = U_ZERO_ERROR;
	char *all = wl_strf(NULL, "%s%s", head, text);
	wl_buf_init(&b, 1 << 20);
	assert_non_null(all);
	assert_int_equal(wl_buf_reserve(&b, 4 * strlen(all) + 16, NULL), 0);
	b.len = (size_t)ucnv_convert(
		name, "UTF-8", b.data, (int32_t)b.cap, all, (int32_t)strlen(all), &rc);
	assert_true(U_SUCCESS(rc));
	free(all);
	return b;
}

struct decoded {
	struct wl_buf buf;
	const char *text;
	size_t len;
	struct wl_charset info;
};

static struct decoded decode(const void *p, size_t n, const char *header)
{
	struct decoded d;
	struct wl_err err = WL_ERR_INIT;
	wl_buf_init(&d.buf, 16 << 20);
	if (wl_charset_decode(p, n, header, &d.buf, &d.text, &d.len, &d.info, &err) < 0)
		fail_msg("%s", err.msg);
	return d;
}

static void test_declared(void **state)
{
	(void)state;
	static const struct {
		const char *in, *head, *header, *want;
		enum wl_charset_from from;
	} cases[] = {
		{"gb18030", "<meta charset=gb2312>", NULL, "gb18030", WL_CHARSET_META},
		{"gb18030", "", "text/html; charset=GBK", "gb18030", WL_CHARSET_HEADER},
		{"gb18030",
			"<META HTTP-EQUIV=\"Content-Type\" CONTENT=\"text/html; charset=gb2312\">",
			NULL, "gb18030", WL_CHARSET_META},
		{"gb18030", "<?xml version=\"1.0\" encoding='gb2312'?>", NULL, "gb18030",
			WL_CHARSET_META},
		/* The header lies, the page says the truth, and so do its bytes. */
		{"gb18030", "<meta charset=gbk>", "text/html; charset=utf-8", "gb18030",
			WL_CHARSET_META},
		{"gb18030", "<meta charset=gbk>", "text/html; charset=ISO-8859-1", "gb18030",
			WL_CHARSET_META},
		{"gb18030", "<!-- <meta charset=big5> --><meta charset=gbk>", NULL, "gb18030",
			WL_CHARSET_META},
		/* Declares gb2312 and is UTF-8. */
		{"UTF-8", "<meta charset=gb2312>", "text/html; charset=gb2312", "UTF-8",
			WL_CHARSET_CONTENT},
		{"UTF-16LE", "<html lang=zh><head><title>", NULL, "UTF-16LE", WL_CHARSET_DETECTOR},
		/* Nobody says anything, or nonsense. */
		{"gb18030", "", NULL, "gb18030", WL_CHARSET_DETECTOR},
		{"gb18030", "<meta charset=no-such-thing>", "text/html;charset=", "gb18030",
			WL_CHARSET_DETECTOR},
		{"gb18030", "<meta charset=utf-8>", NULL, "gb18030", WL_CHARSET_DETECTOR},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wl_buf b = encoded(cases[i].head, sample, cases[i].in);
		struct decoded d = decode(b.data, b.len, cases[i].header);
		if (strcmp(d.info.name, cases[i].want) != 0)
			fail_msg("case %zu is read as %s, not %s", i, d.info.name, cases[i].want);
		assert_int_equal(d.info.from, cases[i].from);
		assert_int_equal(d.info.replaced, 0);
		assert_int_equal(d.len, strlen(cases[i].head) + strlen(sample));
		assert_memory_equal(d.text + strlen(cases[i].head), sample, strlen(sample));
		wl_buf_release(&d.buf);
		wl_buf_release(&b);
	}
	struct wl_buf b = encoded("", sample_tw, "Big5");
	struct decoded d = decode(b.data, b.len, NULL);
	assert_string_equal(d.info.name, "Big5-HKSCS");
	assert_int_equal(d.len, strlen(sample_tw));
	assert_memory_equal(d.text, sample_tw, d.len);
	wl_buf_release(&d.buf);
	wl_buf_release(&b);
}

static void test_marks(void **state)
{
	(void)state;
	static const char *const names[] = {"UTF-16LE", "UTF-16BE", "UTF-8", "UTF-32LE", "gb18030"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct wl_buf b = encoded("\xef\xbb\xbf", sample, names[i]);
		struct decoded d = decode(b.data, b.len, "text/html; charset=big5");
		assert_string_equal(d.info.name, names[i]);
		assert_int_equal(d.info.from, WL_CHARSET_BOM);
		assert_int_equal(d.len, strlen(sample));
		assert_memory_equal(d.text, sample, d.len);
		wl_buf_release(&d.buf);
		wl_buf_release(&b);
	}
}

/* A few halves of characters do not turn a UTF-8 page into something else, nor a GBK one. */
static void test_damage(void **state)
{
	(void)state;
	struct wl_buf b = encoded("<meta charset=gb2312>", sample, "UTF-8");
	size_t n = b.len;
	/* Cut inside the last character but "</p>", and a stray byte in the middle. */
	b.data[60] = (char)0xff;
	struct decoded d = decode(b.data, n - 6, NULL);
	assert_string_equal(d.info.name, "UTF-8");
	assert_in_range(d.info.replaced, 1, 3);
	assert_non_null(memmem(d.text, d.len, "\xef\xbf\xbd", 3));
	wl_buf_release(&d.buf);
	/* Cut at every byte: valid UTF-8 comes out, and always the same encoding. */
	for (size_t cut = 60; cut < n; cut++) {
		b.data[60] = 'x';
		d = decode(b.data + 61, cut - 60, NULL);
		struct wl_buf again;
		wl_buf_init(&again, 1 << 20);
		struct decoded e = decode(d.text, d.len, NULL);
		assert_int_equal(e.info.replaced, 0);
		assert_ptr_equal(e.text, d.text);
		wl_buf_release(&again);
		wl_buf_release(&e.buf);
		wl_buf_release(&d.buf);
	}
	wl_buf_release(&b);
	b = encoded("<meta charset=gb2312>", sample, "gb18030");
	b.data[b.len - 5] = (char)0x81;
	d = decode(b.data, b.len, NULL);
	assert_string_equal(d.info.name, "gb18030");
	wl_buf_release(&d.buf);
	wl_buf_release(&b);
}

static void test_no_text(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_charset info;
	struct wl_buf out;
	const char *text;
	size_t len;
	uint8_t bytes[512];
	char name[40];
	wl_buf_init(&out, 1 << 20);
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 7919 >> 3);
	assert_int_equal(
		wl_charset_decode(bytes, sizeof bytes, NULL, &out, &text, &len, &info, &err), -1);
	assert_int_equal(err.code, WL_EDATA);
	assert_non_null(strstr(err.msg, "control characters"));
	/* Empty and ASCII are UTF-8. */
	assert_int_equal(wl_charset_decode("", 0, NULL, &out, &text, &len, &info, &err), 0);
	assert_int_equal(len, 0);
	assert_int_equal(wl_charset_decode("abc", 3, "x", &out, &text, &len, &info, &err), 0);
	assert_string_equal(info.name, "UTF-8");
	/* A NUL does not end the page. */
	assert_int_equal(wl_charset_decode("ab\0cd", 5, NULL, &out, &text, &len, &info, &err), 0);
	assert_int_equal(len, 5);
	assert_memory_equal(text, "ab cd", 5);
	assert_int_equal(wl_charset_of_header("text/html; charset=\"utf-7\"", name), -1);
	assert_int_equal(wl_charset_of_header("text/html; CharSet = \"Shift_JIS\" ; x", name), 0);
	assert_string_equal(name, "Shift_JIS");
	assert_int_equal(
		wl_charset_of_meta("<meta name=x content='charset'><meta charset", 45, name), -1);
	wl_buf_release(&out);
}

/* ---- real documents ---- */

static struct wl_buf slurp(const char *dir, const char *file)
{
	struct wl_buf b;
	struct wl_err err = WL_ERR_INIT;
	char *path = wl_path_join(dir, file, &err);
	wl_buf_init(&b, 16 << 20);
	if (!path || wl_read_file(path, &b, &err) < 0)
		fail_msg("%s", err.msg);
	free(path);
	return b;
}

static bool have_web(void)
{
	if (wl_exists(WEB))
		return true;
	print_message("SKIPPED: " WEB " is not here\n");
	return false;
}

static void test_legacy_documents(void **state)
{
	(void)state;
	static const char *const dirs[][2] = {
		{WEB "/encodings/GB2312", "gb18030"}, {WEB "/encodings/Big5", "Big5-HKSCS"}};
	if (!have_web())
		skip();
	for (size_t k = 0; k < 2; k++) {
		struct wl_names names = {0};
		struct wl_err err = WL_ERR_INIT;
		assert_int_equal(wl_list_dir(dirs[k][0], "*", &names, &err), 0);
		assert_true(names.n >= 14);
		for (size_t i = 0; i < names.n; i++) {
			struct wl_buf b = slurp(dirs[k][0], names.v[i]);
			struct decoded d = decode(b.data, b.len, NULL);
			if (strcmp(d.info.name, dirs[k][1]) != 0)
				fail_msg("%s/%s is read as %s (%zu replaced)", dirs[k][0],
					names.v[i], d.info.name, d.info.replaced);
			/* Some of them have a broken character themselves. */
			if (d.info.replaced > 3)
				fail_msg("%s/%s: %zu sequences replaced", dirs[k][0], names.v[i],
					d.info.replaced);
			wl_buf_release(&d.buf);
			wl_buf_release(&b);
		}
		wl_names_release(&names);
	}
}

static void test_index(void **state)
{
	(void)state;
	if (!have_web())
		skip();
	struct wl_buf index = slurp(WEB "/html", "index.jsonl");
	size_t lies = 0, n = 0;
	for (char *line = index.data; *line;) {
		char *nl = strchr(line, '\n');
		size_t len = nl ? (size_t)(nl - line) : strlen(line);
		json_t *o = json_loadb(line, len, 0, NULL);
		assert_non_null(o);
		const char *file = json_string_value(json_object_get(o, "file"));
		const char *want = json_string_value(json_object_get(o, "actual_encoding"));
		const char *said = json_string_value(json_object_get(o, "declared_charset"));
		struct wl_buf b = slurp(WEB "/html", file);
		struct decoded d = decode(b.data, b.len, NULL);
		if (strcasecmp(d.info.name, want) != 0)
			fail_msg("%s is %s, not %s", file, want, d.info.name);
		lies += strcasecmp(want, said) != 0;
		n++;
		wl_buf_release(&d.buf);
		wl_buf_release(&b);
		json_decref(o);
		line += len + (nl != NULL);
	}
	assert_int_equal(n, 45);
	assert_int_equal(lies, 3);
	wl_buf_release(&index);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_declared),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_no_text),
		cmocka_unit_test(test_legacy_documents),
		cmocka_unit_test(test_index),
	};
	return cmocka_run_group_tests_name("charset", tests, NULL, NULL);
}

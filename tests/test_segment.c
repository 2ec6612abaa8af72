/* clean/segment against jieba 0.42.1: a golden of tricky texts, and, where Python has jieba, lines
 * of every file in ../shared/data/text. */
#include "clean/segment.h"
#include "ops/file.h"
#include "ops/json.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static struct wl_segment *open_tables(const char *user)
{
	struct wl_segment *s = wl_segment_open(NULL, &user, user ? 1 : 0, &err);

	if (!s && strstr(err.msg, "python3-jieba"))
		SKIP("jieba's tables are not here (apt-get install python3-jieba)");
	if (!s)
		fail_msg("%s", err.msg);
	return s;
}

/* The words are those of the JSON list. */
static void same_words(const struct wl_segment *s, const char *text, unsigned flags,
	const json_t *words, struct wl_cuts *cuts)
{
	size_t i, at = 0;
	json_t *w;

	OK(wl_segment_cut(s, text, strlen(text), flags, cuts, &err));
	json_array_foreach(words, i, w)
	{
		size_t n = json_string_length(w);
		if (i >= cuts->n || cuts->end[i] - at != n ||
			memcmp(text + at, json_string_value(w), n) != 0)
			fail_msg("\"%s\" (flags %u): word %zu is \"%.*s\", jieba says \"%s\"", text,
				flags, i + 1, i < cuts->n ? (int)(cuts->end[i] - at) : 0, text + at,
				json_string_value(w));
		at = cuts->end[i];
	}
	assert_int_equal(cuts->n, json_array_size(words));
	assert_int_equal(at, strlen(text));
}

static void golden(void **state)
{
	json_t *root = wl_json_load("tests/golden/segment.json", &err), *c;
	struct tmp_dir dir = tmp_make();
	char *path = wl_path_join(dir.path, "user.txt", &err);
	const char *user = json_string_value(json_object_get(root, "user"));
	struct wl_segment *s = open_tables(NULL), *u;
	struct wl_cuts cuts = {0};
	size_t i, changed = 0;

	(void)state;
	assert_non_null(root);
	OK(wl_write_file(path, user, strlen(user), &err));
	u = open_tables(path);
	assert_string_not_equal(wl_segment_id(s), wl_segment_id(u));
	json_array_foreach(json_object_get(root, "cases"), i, c)
	{
		const char *text = json_string_value(json_object_get(c, "text"));
		const json_t *hmm = json_object_get(c, "hmm"), *plain = json_object_get(c, "plain");
		const json_t *other = json_object_get(c, "user");
		same_words(s, text, 0, hmm, &cuts);
		same_words(s, text, WL_SEGMENT_NO_HMM, plain, &cuts);
		same_words(u, text, 0, other ? json_array_get(other, 0) : hmm, &cuts);
		same_words(u, text, WL_SEGMENT_NO_HMM, other ? json_array_get(other, 1) : plain,
			&cuts);
		changed += other != NULL;
	}
	assert_true(i > 200 && changed > 5);
	wl_cuts_release(&cuts);
	wl_segment_close(s);
	wl_segment_close(u);
	json_decref(root);
	free(path);
	tmp_remove(&dir);
}

/* Writes every step-th line of the text files to path; returns how many. */
static size_t sample_lines(const char *path, size_t step)
{
	struct wl_names files;
	struct wl_outfile f;
	struct wl_buf b;
	size_t lines = 0, k = 0;

	wl_buf_init(&b, 64 << 20);
	OK(wl_glob("../shared/data/text/*.*", &files, &err));
	OK(wl_outfile_open(&f, path, &err));
	for (size_t i = 0; i < files.n; i++) {
		wl_buf_reset(&b);
		OK(wl_read_file(files.v[i], &b, &err));
		for (size_t at = 0, end; at < b.len; at = end + 1) {
			const char *nl = memchr(b.data + at, '\n', b.len - at);
			end = nl ? (size_t)(nl - b.data) : b.len;
			if (k++ % step)
				continue;
			fwrite(b.data + at, 1, end - at, f.fp);
			fputc('\n', f.fp);
			lines++;
		}
	}
	OK(wl_outfile_commit(&f, &err));
	wl_names_release(&files);
	wl_buf_release(&b);
	return lines;
}

/* Ours and jieba's words, \1 behind each, a line of text a line, must be the same bytes. */
static void compare_lines(
	const struct wl_segment *s, const struct wl_buf *text, const char *out, unsigned flags)
{
	struct wl_cuts cuts = {0};
	size_t p = 0, lines = 0;
	struct wl_buf b;

	wl_buf_init(&b, 128 << 20);
	OK(wl_read_file(out, &b, &err));
	for (size_t at = 0, end; at < text->len; at = end + 1, lines++) {
		size_t from = at;
		end = (size_t)((char *)memchr(text->data + at, '\n', text->len - at) - text->data);
		OK(wl_segment_cut(s, text->data + at, end - at, flags, &cuts, &err));
		for (size_t i = 0; i < cuts.n; i++) {
			size_t n = at + cuts.end[i] - from;
			if (p + n >= b.len || memcmp(b.data + p, text->data + from, n) != 0 ||
				b.data[p + n] != 1)
				fail_msg("line %zu: \"%.*s\" is no word of jieba's: %.*s",
					lines + 1, (int)n, text->data + from, (int)(end - at),
					text->data + at);
			p += n + 1;
			from += n;
		}
		assert_int_equal(b.data[p++], '\n');
	}
	assert_int_equal(p, b.len);
	wl_cuts_release(&cuts);
	wl_buf_release(&b);
}

/* A Python that has this jieba, or NULL. */
static const char *python_with_jieba(void)
{
	const char *const tries[] = {getenv("WL_PYTHON"), "python3", "/usr/bin/python3"};

	for (int i = 0; i < 3; i++)
		if (tries[i] && tmp_run(NULL,
					"%s -c 'import jieba; assert jieba.__version__ == "
					"\"0.42.1\"' 2>/dev/null",
					tries[i]) == 0)
			return tries[i];
	return NULL;
}

/* WL_SEGMENT_STEP=1 compares every line (a minute of jieba). */
static void real_texts(void **state)
{
	const char *python = python_with_jieba(), *step = getenv("WL_SEGMENT_STEP");
	struct tmp_dir dir = tmp_make();
	char in[512], out[512];
	struct wl_segment *s;
	struct wl_buf text;

	(void)state;
	tmp_path(&dir, "in", in);
	tmp_path(&dir, "out", out);
	if (!wl_exists("../shared/data/text") || !python) {
		tmp_remove(&dir);
		SKIP("%s", python ? "../shared/data/text is not here"
				  : "no Python with jieba 0.42.1 (set WL_PYTHON)");
	}
	s = open_tables(NULL);
	print_message("%zu lines\n", sample_lines(in, step ? (size_t)atoi(step) : 24));
	wl_buf_init(&text, 64 << 20);
	OK(wl_read_file(in, &text, &err));
	for (unsigned flags = 0; flags < 2; flags++) {
		assert_int_equal(tmp_run(NULL, "%s tests/bench/peer_segment.py %s %s %d", python,
					 in, out, !flags),
			0);
		compare_lines(s, &text, out, flags);
	}
	wl_buf_release(&text);
	wl_segment_close(s);
	tmp_remove(&dir);
}

static void odd_bytes(void **state)
{
	struct wl_segment *s = open_tables(NULL);
	struct wl_cuts cuts = {0};
	const char bad[] = "\xe6\x88我\xff\0b";

	(void)state;
	OK(wl_segment_cut(s, bad, sizeof(bad) - 1, 0, &cuts, &err));
	assert_int_equal(cuts.n, 6);
	assert_int_equal(cuts.end[2], 5);
	assert_int_equal(cuts.end[5], 8);
	OK(wl_segment_cut(s, "", 0, 0, &cuts, &err));
	assert_int_equal(cuts.n, 0);
	FAILS(WL_EDATA, "too long",
		wl_segment_cut(s, bad, (size_t)WL_SEGMENT_MAX_BYTES + 1, 0, &cuts, &err));
	wl_cuts_release(&cuts);
	wl_segment_close(s);
}

static void expect_bad(
	const char *dir, const char *file, const char *text, enum wl_code code, const char *part)
{
	static const char *const names[] = {"dict.txt", "finalseg/prob_start.py",
		"finalseg/prob_trans.py", "finalseg/prob_emit.py", "user"};
	static const char *const good[] = {"我们 10 r\n他 3\n", "P={'B': -0.2,\n 'S': -1.4}\n",
		"P={'B': {'E': -0.5, 'M': -0.9}}\n",
		"from __future__ import unicode_literals\n\nP={'B': {'\\u4e00': -3.6,\n '丁': -2}}",
		"他们 5 r\n"};
	char *path, *user = wl_path_join(dir, "user", &err);
	const char *list = user;
	struct wl_segment *s;
	int found = 0;

	for (int i = 0; i < 5; i++) {
		bool this = file && strcmp(file, names[i]) == 0;
		path = wl_path_join(dir, names[i], &err);
		found += this;
		OK(wl_write_file(path, this ? text : good[i], strlen(this ? text : good[i]), &err));
		free(path);
	}
	assert_int_equal(found, file != NULL);
	err = (struct wl_err)WL_ERR_INIT;
	s = wl_segment_open(dir, &list, 1, &err);
	if (!file) {
		if (!s)
			fail_msg("%s", err.msg);
	} else {
		assert_null(s);
		assert_int_equal(err.code, code);
		if (!strstr(err.msg, part))
			fail_msg("\"%s\" does not contain \"%s\"", err.msg, part);
	}
	wl_segment_close(s);
	free(user);
}

static void bad_tables(void **state)
{
	struct tmp_dir tmp = tmp_make();
	const char *dir = tmp.path;
	char *sub = wl_path_join(dir, "finalseg", &err);

	(void)state;
	OK(wl_mkdir_p(sub, &err));
	expect_bad(dir, NULL, NULL, WL_OK, NULL);
	expect_bad(dir, "dict.txt", "", WL_EDATA, "no words");
	expect_bad(dir, "dict.txt", "我们\n", WL_EDATA, "line 1");
	expect_bad(dir, "dict.txt", "他 1\n我们 x n\n", WL_EDATA, "line 2: the frequency is \"x\"");
	expect_bad(dir, "dict.txt", "他 1234567890123456\n", WL_EDATA, "15 digits");
	expect_bad(dir, "dict.txt", "\xff\xfe 3\n", WL_EDATA, "UTF-8");
	expect_bad(dir, "finalseg/prob_start.py", "Q={}", WL_EDATA, "P={");
	expect_bad(dir, "finalseg/prob_start.py", "P={'X': 1}", WL_EDATA, "B, E, M or S");
	expect_bad(dir, "finalseg/prob_trans.py", "P={'B': {'E': x}}", WL_EDATA, "a number");
	expect_bad(dir, "finalseg/prob_emit.py", "P={'B': {'\\u4e0", WL_EDATA, "quotes");
	expect_bad(dir, "finalseg/prob_emit.py", "P={'B': {'\\u4e00': -3", WL_EDATA, "}");
	expect_bad(dir, "user", "\xc0\xaf 1\n", WL_EDATA, "UTF-8");
	FAILS(WL_EFAIL, "python3-jieba", wl_segment_open("/nowhere", NULL, 0, &err) ? 0 : -1);
	free(sub);
	tmp_remove(&tmp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden),
		cmocka_unit_test(real_texts),
		cmocka_unit_test(odd_bytes),
		cmocka_unit_test(bad_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

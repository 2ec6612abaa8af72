/* clean/filter, rules: what each rule drops and keeps, word lists and their tricks,
 * evaluation pairs, threads, kills, explain and report. */
#include "clean/filter.h"
#include "clean/dedup.h"
#include "clean/funnel.h"
#include "tests/support/cleaning.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_make.h"
#include "tests/support/kills.h"
#include "tests/support/tmp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

/* ---- rules on one pair ---- */

static const char strict[] = "version: 1\n"
			     "text:\n  min_letters: 2\n  min_chars: 3\n  max_chars: 30\n"
			     "  min_chinese: 0.5\n  max_symbols: 0.5\n  max_run: 4\n"
			     "  max_repeat: 0.4\n  pii: drop\n  traditional: drop\n"
			     "image:\n  min_side: 50\n  max_aspect: 3\n  min_spread: 2\n"
			     "  min_bytes: 100\n  max_bytes: 90000\n"
			     "sensitive:\n  ads: {words: [代开发票, \"加微信vx\"]}\n"
			     "  brand: {words: [\"BadCo\", evil.example.com]}\n";

static void judge(const struct wl_rules *r, const struct wl_subject *s, struct wl_outcome *o)
{
	OK(wl_rules_judge(r, s, o, &err));
}

static bool has_reason(const struct wl_outcome *o, const char *reason)
{
	for (size_t i = 0; i < o->n; i++)
		if (strcmp(o->v[i].reason, reason) == 0)
			return true;
	return false;
}

static void each_text_rule(void **state)
{
	static const struct {
		const char *text, *reason; /* NULL: kept */
	} c[] = {
		{"一只小猫在睡觉", NULL},
		{"猫", "text-short"},
		{"猫狗", "text-short"},
		{"猫狗。", NULL},
		{"", "text-empty"},
		{"\u200b \n", "text-empty"},
		{"！！！！。。", "text-short"},
		{"一二三四五六七八九十一二三四五六七八九十甲乙丙丁戊己庚辛壬癸子", "text-long"},
		{"hello world 你", "text-not-chinese"},
		{"hi 你好吗", NULL},
		{"★★★你好★★★", "text-symbols"},
		{"哈哈哈哈哈哈真好笑", "text-repetition"},
		{"今天天气很好今天天气很好今天天气很好", "text-repetition"},
		{"锛屾垜浠鐨勪腑鍥芥槸", "text-garbled"},
		{"请打电话13812345678", "text-personal"},
		{"這裡的頭髮很漂亮", "text-traditional"},
		{"本公司代开发票", "sensitive-ads"},
		{"本公司代 开-发*票吗", "sensitive-ads"},
		{"請加微信ＶＸ", "sensitive-ads"},
		{"好吃的ｂａｄｃｏ饼干很好", "sensitive-brand"},
		{"好吃的badcool饼干很好很好吃", NULL},
		{"看这里有图http://evil.example.com/x", "sensitive-brand"},
	};
	struct tmp_dir tmp = tmp_make();
	struct wl_rules *r = rules_of(&tmp, strict);

	(void)state;
	assert_true(wl_rules_want_look(r));
	for (size_t i = 0; i < sizeof(c) / sizeof(*c); i++) {
		json_t *texts = json_pack("[[s, s]]", "caption", c[i].text);
		char *raw = json_dumps(texts, 0);
		struct wl_subject s = {.name = "00000-1",
			.source = "news",
			.texts = raw,
			.width = 60,
			.height = 60,
			.bytes = 1000};
		struct wl_outcome o;
		judge(r, &s, &o);
		if (c[i].reason ? !has_reason(&o, c[i].reason) : o.n != 0)
			fail_msg("\"%s\": %s (%s), expected %s", c[i].text,
				o.n ? o.v[0].reason : "kept", o.n ? o.v[0].detail : "",
				c[i].reason ? c[i].reason : "kept");
		wl_outcome_release(&o);
		/* An evaluation pair is never dropped for these, unless there is no text. */
		s.eval = true;
		judge(r, &s, &o);
		bool empty = c[i].reason && strcmp(c[i].reason, "text-empty") == 0;
		assert_int_equal(o.n, empty ? 1 : 0);
		assert_int_equal(json_array_size(o.texts), empty ? 0 : 1);
		wl_outcome_release(&o);
		free(raw);
		json_decref(texts);
	}
	wl_rules_free(r);
	tmp_remove(&tmp);
}

static void picture_rules(void **state)
{
	static const struct {
		int w, h, bytes;
		const char *reason;
	} c[] = {{60, 60, 1000, NULL}, {49, 60, 1000, "image-small"}, {60, 49, 1000, "image-small"},
		{200, 60, 1000, "image-aspect"}, {60, 200, 1000, "image-aspect"},
		{180, 60, 1000, NULL}, {60, 60, 99, "image-bytes"}, {60, 60, 90001, "image-bytes"}};
	struct tmp_dir tmp = tmp_make();
	struct wl_rules *r = rules_of(&tmp, strict);
	struct wl_look look = {0};
	struct wl_outcome o;

	(void)state;
	for (size_t i = 0; i < sizeof(c) / sizeof(*c); i++) {
		struct wl_subject s = {.name = "00000-1",
			.source = "news",
			.texts = "[[\"caption\",\"一只小猫\"]]",
			.width = c[i].w,
			.height = c[i].h,
			.bytes = c[i].bytes};
		judge(r, &s, &o);
		assert_int_equal(o.n, c[i].reason != NULL);
		if (c[i].reason)
			assert_string_equal(o.v[0].reason, c[i].reason);
		wl_outcome_release(&o);
	}
	struct wl_subject s = {.name = "00000-1",
		.source = "news",
		.texts = "[[\"caption\",\"一只小猫\"]]",
		.width = 60,
		.height = 60,
		.bytes = 1000,
		.look = &look};
	judge(r, &s, &o); /* all pixels equal */
	assert_true(has_reason(&o, "image-blank"));
	wl_outcome_release(&o);
	memset(look.grey, 200, sizeof(look.grey) / 2);
	judge(r, &s, &o);
	assert_int_equal(o.n, 0);
	wl_outcome_release(&o);
	s.broken = "cut off";
	judge(r, &s, &o);
	assert_true(has_reason(&o, "bad-image"));
	wl_outcome_release(&o);
	wl_rules_free(r);
	tmp_remove(&tmp);
}

/* Captions come first; those that fail are left out; the pair falls only when none is left. */
static void several_texts(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_rules *r = rules_of(&tmp, strict);
	struct wl_subject s = {.name = "00000-1",
		.source = "news",
		.width = 60,
		.height = 60,
		.bytes = 1000,
		.texts = "[[\"sur_text\",\"旁边的文字\"],[\"caption\",\"猫\"],"
			 "[\"title\",\"标题在这里\"],[\"caption\",\"一只 小猫&amp;狗\"]]"};
	struct wl_outcome o;
	char *got;

	(void)state;
	judge(r, &s, &o);
	assert_int_equal(o.n, 0);
	got = json_dumps(o.texts, JSON_COMPACT);
	assert_string_equal(got, "[[\"caption\",\"一只 小猫&狗\"],[\"sur_text\",\"旁边的文字\"],"
				 "[\"title\",\"标题在这里\"]]");
	free(got);
	wl_outcome_release(&o);
	s.texts = "[]";
	judge(r, &s, &o);
	assert_true(has_reason(&o, "text-empty"));
	wl_outcome_release(&o);
	s.texts = "{\"a\":1}";
	FAILS(WL_EDATA, "00000-1", wl_rules_judge(r, &s, &o, &err));
	s.texts = "[[\"caption\",1]]";
	FAILS(WL_EDATA, "expected a list of [kind, text]", wl_rules_judge(r, &s, &o, &err));
	wl_rules_free(r);
	tmp_remove(&tmp);
}

static void bad_rule_files(void **state)
{
	static const struct {
		const char *yaml, *says;
	} c[] = {
		{"version: 1\ntext: {min_leters: 3}\n", "min_letters"},
		{"version: 1\nimages: {min_side: 3}\n", "image"},
		{"version: 2\n", "version 2"},
		{"text: {min_letters: 3}\n", "version"},
		{"version: 1\ntext: {min_chinese: 30}\n", "share from 0 to 1"},
		{"version: 1\ntext: {max_run: -1}\n", "0 or more"},
		{"version: 1\ntext: {pii: hide}\n", "expected mask, drop or keep"},
		{"version: 1\ntext: 3\n", "expected keys and values"},
		{"version: 1\nimage: {max_aspect: 0.5}\n", "max_aspect"},
		{"version: 1\nimage: {min_side: many}\n", "min_side"},
		{"version: 1\nsensitive: {Bad Name: {words: [x]}}\n", "no name for a reason"},
		{"version: 1\nsensitive: {ads: {words: [12]}}\n", "put it in quotes"},
		{"version: 1\nsensitive: {ads: [a]}\n", "expected \"file\" or \"words\""},
		{"- 1\n", "expected version"},
	};
	struct tmp_dir tmp = tmp_make();
	char path[512];

	(void)state;
	for (size_t i = 0; i < sizeof(c) / sizeof(*c); i++) {
		tmp_write(tmp_path(&tmp, "r.yaml", path), c[i].yaml);
		FAILS(WL_EUSAGE, c[i].says, wl_rules_load(path, tx, &err) ? 0 : -1);
	}
	tmp_write(path, "version: 1\nsensitive: {ads: {file: no-such.txt}}\n");
	FAILS(WL_EFAIL, "no-such.txt", wl_rules_load(path, tx, &err) ? 0 : -1);
	struct wl_rules *r = wl_rules_load("clean/rules/default.yaml", tx, &err);
	assert_non_null(r);
	wl_rules_free(r);
	tmp_remove(&tmp);
}

/* A list file counts with its content: another word, other rules. */
static void list_files(void **state)
{
	struct tmp_dir tmp = tmp_make();
	char path[512], *one, *two;
	struct wl_rules *r;
	struct wl_subject s = {.name = "00000-1",
		.source = "news",
		.width = 60,
		.height = 60,
		.texts = "[[\"caption\",\"这里有坏词语吗\"]]"};
	struct wl_outcome o;

	(void)state;
	tmp_write(tmp_path(&tmp, "w.txt", path), "别的词\r\n\n  坏 词语 \n单\n");
	r = rules_of(&tmp, "version: 1\nsensitive: {own: {file: w.txt}}\n");
	judge(r, &s, &o);
	assert_int_equal(o.n, 1);
	assert_string_equal(o.v[0].reason, "sensitive-own");
	assert_string_equal(o.v[0].detail, "坏词语");
	wl_outcome_release(&o);
	one = json_dumps(wl_rules_params(r), JSON_SORT_KEYS);
	wl_rules_free(r);
	tmp_write(path, "别的词\n");
	r = rules_of(&tmp, "version: 1\nsensitive: {own: {file: w.txt}}\n");
	judge(r, &s, &o);
	assert_int_equal(o.n, 0);
	wl_outcome_release(&o);
	two = json_dumps(wl_rules_params(r), JSON_SORT_KEYS);
	assert_string_not_equal(one, two);
	free(one);
	free(two);
	wl_rules_free(r);
	tmp_remove(&tmp);
}

/* ---- the stage ---- */

enum { PAIRS = 600 };

static void make_corpus(const char *dir)
{
	struct corpus_maker m;
	struct wl_image im;
	struct wl_buf jpeg;

	corpus_make_open(&m, dir, 2);
	draw_picture(1, 80, 60, &im);
	wl_buf_init(&jpeg, 1 << 20);
	OK(wl_image_encode_jpeg(&im, 80, &jpeg, &err));
	for (int i = 0; i < PAIRS; i++) {
		char t[160];
		snprintf(t, sizeof(t), "[[\"caption\",\"%s第%d张\"]]",
			i % 10 == 3   ? "本公司代开发票"
			: i % 10 == 4 ? "hello brave new world"
			: i % 10 == 5 ? "哈哈哈哈哈哈"
				      : "一张图片",
			i);
		corpus_make_bytes(&m, "news", t, i % 100 == 3 ? "test" : "", jpeg.data,
			i % 10 == 7 ? 20 : jpeg.len, i % 10 == 6 ? 40 : 80, 60);
	}
	wl_image_release(&im);
	wl_buf_release(&jpeg);
	corpus_make_close(&m);
}

static int filter(
	const char *dir, const struct wl_rules *r, int threads, struct wl_filter_counts *n)
{
	struct wl_corpus *c = wl_corpus_open(dir, false, 0, &err);
	int ret;

	assert_non_null(c);
	OK(ret = wl_filter(c, r, threads, n, &err));
	wl_corpus_close(c);
	return ret;
}

static int64_t reason_count(const struct wl_filter_counts *n, const char *reason)
{
	return json_integer_value(json_object_get(n->reasons, reason));
}

static void counts_add_up(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_rules *r = rules_of(&tmp, strict), *loose;
	struct wl_filter_counts n, again;
	char dir[512];

	(void)state;
	make_corpus(tmp_path(&tmp, "corpus", dir));
	assert_int_equal(filter(dir, r, 2, &n), 0);
	assert_int_equal(n.pairs, PAIRS);
	assert_int_equal(reason_count(&n, "sensitive-ads"), PAIRS / 10 - PAIRS / 100);
	assert_int_equal(reason_count(&n, "text-not-chinese"), PAIRS / 10);
	assert_int_equal(reason_count(&n, "text-repetition"), PAIRS / 10);
	assert_int_equal(reason_count(&n, "image-small"), PAIRS / 10);
	assert_int_equal(reason_count(&n, "bad-image"), PAIRS / 10);
	assert_int_equal(reason_count(&n, "image-bytes"), PAIRS / 10);
	assert_int_equal(n.kept, PAIRS - 5 * PAIRS / 10 + PAIRS / 100);
	assert_int_equal(filter(dir, r, 2, &again), 1);
	assert_int_equal(again.kept, n.kept);
	assert_true(json_equal(again.reasons, n.reasons));
	wl_filter_counts_release(&again);
	wl_filter_counts_release(&n);
	/* Other rules: judged again. */
	loose = rules_of(&tmp, "version: 1\n");
	assert_int_equal(filter(dir, loose, 2, &n), 0);
	assert_int_equal(n.kept, PAIRS);
	wl_filter_counts_release(&n);
	wl_rules_free(loose);
	wl_rules_free(r);
	tmp_remove(&tmp);
}

static void assert_same(const char *a, const char *b)
{
	static const char *const tables[] = {"SELECT * FROM clean ORDER BY 1",
		"SELECT * FROM verdict ORDER BY 1, 2", "SELECT * FROM examined ORDER BY 1"};

	for (int i = 0; i < 3; i++) {
		char *x = stage_dump(a, "filter", tables[i]),
		     *y = stage_dump(b, "filter", tables[i]);
		if (strcmp(x, y) != 0)
			fail_msg("%s differs between the two runs", tables[i]);
		free(x);
		free(y);
	}
}

/* A corpus that the filter runs over, on three threads. */
struct filtered {
	const char *dir;
	const struct wl_rules *rules;
};

static void make_again(void *ctx)
{
	const struct filtered *f = ctx;

	assert_int_equal(tmp_run(NULL, "rm -rf '%s'", f->dir), 0);
	make_corpus(f->dir);
}

static int filter_it(void *ctx)
{
	const struct filtered *f = ctx;
	struct wl_corpus *c = wl_corpus_open(f->dir, false, 0, &err);
	struct wl_filter_counts n;

	return !c || wl_filter(c, f->rules, 3, &n, &err) < 0;
}

static void threads_and_kills(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_rules *r = rules_of(&tmp, strict);
	struct wl_filter_counts n;
	char a[512], b[512];
	struct filtered it = {.dir = tmp_path(&tmp, "b", b), .rules = r};

	(void)state;
	make_corpus(tmp_path(&tmp, "a", a));
	filter(a, r, 1, &n);
	wl_filter_counts_release(&n);
	killed_until_done(&(struct killed){
		.begin = make_again, .run = filter_it, .ctx = &it, .least = 3});
	filter(b, r, 4, &n);
	wl_filter_counts_release(&n);
	assert_same(a, b);
	wl_rules_free(r);
	tmp_remove(&tmp);
}

/* What dedup has seen saves the filter a look, and changes nothing. */
static void looks_of_dedup(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_rules *r = rules_of(&tmp, strict);
	struct wl_dedup_options o = {.policy = WL_DEDUP_IMAGE, .image_radius = 4, .threads = 2};
	struct wl_dedup_counts dn;
	struct wl_filter_counts n;
	struct wl_known_looks *k;
	struct wl_corpus *c;
	struct wl_look look;
	char a[512], b[512], *id, *broken = NULL;

	(void)state;
	make_corpus(tmp_path(&tmp, "a", a));
	make_corpus(tmp_path(&tmp, "b", b));
	filter(a, r, 2, &n);
	wl_filter_counts_release(&n);
	c = wl_corpus_open(b, false, 0, &err);
	assert_non_null(c);
	OK(wl_dedup(c, &o, &dn, &err));
	id = stage_dump(b, "dedup", "SELECT pair_id FROM bad LIMIT 1");
	k = wl_known_looks_open(c, 1, &err); /* the lane of odd pairs */
	assert_non_null(k);
	assert_int_equal(wl_known_look(k, atoll(id), &look, &broken, &err), 1);
	assert_non_null(broken);
	assert_int_equal(wl_known_look(k, 12345, &look, &broken, &err), 0);
	wl_known_looks_close(k);
	free(broken);
	free(id);
	wl_corpus_close(c);
	filter(b, r, 2, &n);
	wl_filter_counts_release(&n);
	assert_same(a, b);
	wl_rules_free(r);
	tmp_remove(&tmp);
}

static void explain_and_report(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_rules *r = rules_of(&tmp, strict);
	struct wl_filter_counts n;
	struct wl_corpus *c;
	char dir[512], path[512], *id, *text;
	struct wl_funnel funnel;
	FILE *f;

	(void)state;
	make_corpus(tmp_path(&tmp, "corpus", dir));
	filter(dir, r, 2, &n);
	wl_filter_counts_release(&n);
	id = stage_dump(dir, "filter",
		"SELECT pair_id FROM verdict WHERE reason = 'sensitive-ads' ORDER BY 1 LIMIT 1");
	*strchr(id, '\n') = 0;
	c = wl_corpus_open(dir, false, 0, &err);
	assert_non_null(c);
	f = fopen(tmp_path(&tmp, "explain.txt", path), "w");
	assert_non_null(f);
	OK(wl_filter_explain(c, r, id, f, &err));
	fclose(f);
	text = tmp_read(path, NULL);
	assert_non_null(strstr(text, "these rules: drop, sensitive-ads: 代开发票"));
	assert_non_null(strstr(text, "filter: dropped, sensitive-ads"));
	assert_non_null(strstr(text, "dedup: has not run yet"));
	free(text);
	FAILS(WL_EDATA, "has no pair 00001-5", wl_filter_explain(c, r, "00001-5", stderr, &err));
	FAILS(WL_EUSAGE, "PARTITION-ID", wl_filter_explain(c, r, "00009-5", stderr, &err));
	FAILS(WL_EUSAGE, "PARTITION-ID", wl_filter_explain(c, r, "x", stderr, &err));
	OK(wl_filter_report(c, tmp_path(&tmp, "report.html", path), &err));
	text = tmp_read(path, NULL);
	assert_non_null(strstr(text, "sensitive-ads"));
	assert_non_null(strstr(text, "data:image/jpeg;base64,"));
	assert_non_null(strstr(text, "bad-image"));
	assert_non_null(strstr(text, "The funnel"));
	free(text);
	/* Each pair once, at its first step; what is left is what is kept. */
	OK(wl_funnel_read(c, &funnel, &err));
	assert_int_equal(funnel.pairs, PAIRS);
	assert_int_equal(funnel.dropped[WL_STEP_TEXT], 2 * PAIRS / 10);
	assert_int_equal(funnel.dropped[WL_STEP_SENSITIVE], PAIRS / 10 - PAIRS / 100);
	assert_int_equal(funnel.dropped[WL_STEP_IMAGE], 2 * PAIRS / 10);
	assert_int_equal(funnel.dropped[WL_STEP_DUPLICATE], 0);
	free(id);
	wl_corpus_close(c);
	wl_rules_free(r);
	tmp_remove(&tmp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_text_rule),
		cmocka_unit_test(picture_rules),
		cmocka_unit_test(several_texts),
		cmocka_unit_test(bad_rule_files),
		cmocka_unit_test(list_files),
		cmocka_unit_test(counts_add_up),
		cmocka_unit_test(threads_and_kills),
		cmocka_unit_test(looks_of_dedup),
		cmocka_unit_test(explain_and_report),
	};
	return cmocka_run_group_tests(tests, open_text, close_text);
}

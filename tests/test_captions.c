/* Captions from files to scores: METEOR and the PTB pass against the public jars (golden cases made
 * by tests/golden/caption_cases.py), the levels, the file forms, AI Challenger's submissions, and
 * what bad files get.  $WL_CAPTION_CASES names another file of cases. */
#include "eval/captions.h"
#include "eval/cutter.h"
#include "eval/metrics/meteor.h"
#include "eval/metrics/ptb.h"
#include "ops/json.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHARED "../shared/data/caption-eval/"

static struct wl_err err;

static void close_to(double got, double want, double tolerance, const char *what, size_t i)
{
	if (!(fabs(got - want) <= tolerance * fmax(1, fabs(want))))
		fail_msg("%s of image %zu: got %.12g, expected %.12g", what, i, got, want);
}

static double number(const json_t *list, size_t i)
{
	return json_number_value(json_array_get(list, i));
}

/* One set of golden cases: hypothesis and references are files of their own. */
static void check_set(
	const char *name, const json_t *set, const char *key, enum wl_caption_level level)
{
	const json_t *images = json_object_get(set, "images");
	size_t n = json_array_size(images);
	struct tmp_dir dir = tmp_make();
	char refs[512], hyps[512];
	double corpus[WL_CAPTION_METRICS], *one = calloc(n * WL_CAPTION_METRICS, sizeof *one);
	json_t *r = json_array(), *h = json_array();
	struct wl_caption_files f;
	struct wl_caption_set s;

	assert_true(n > 0 && one);
	for (size_t i = 0; i < n; i++) {
		const json_t *texts = json_object_get(json_array_get(images, i), key);

		for (size_t k = 0; k < json_array_size(texts); k++)
			json_array_append_new(
				k ? r : h, json_pack("{s:I,s:O}", "image_id", (json_int_t)i,
						   "caption", json_array_get(texts, k)));
	}
	OK(wl_json_save(tmp_path(&dir, "refs.json", refs), r, &err));
	OK(wl_json_save(tmp_path(&dir, "hyps.json", hyps), h, &err));
	OK(wl_caption_files_load(&f, refs, hyps, level, true, &err));
	OK(wl_caption_set_make(&s, &f, level, NULL, &err));
	OK(wl_caption_score(&s, corpus, one, &err));
	for (size_t k = 0; k < 7; k++) {
		double tolerance = k == 4 ? 1e-6 : 1e-9;

		close_to(corpus[k], number(json_object_get(set, "corpus"), k), tolerance, name, k);
		for (size_t i = 0; i < n; i++)
			close_to(one[i * WL_CAPTION_METRICS + k],
				number(json_object_get(json_array_get(images, i), "scores"), k),
				tolerance, wl_caption_metric_names[k], i);
	}
	wl_caption_set_release(&s);
	wl_caption_files_release(&f);
	json_decref(r);
	json_decref(h);
	free(one);
	tmp_remove(&dir);
}

static json_t *cases(void)
{
	const char *path = getenv("WL_CAPTION_CASES");
	json_t *all = wl_json_load(path ? path : "tests/golden/caption_cases.json", &err);

	if (!all)
		fail_msg("%s", err.msg);
	return all;
}

static void scores_as_pycocoevalcap(void **state)
{
	json_t *all = cases(), *set;
	const char *name;

	(void)state;
	json_object_foreach(all, name, set)
	{
		check_set(name, set, "tokens", WL_LEVEL_SPACE);
		check_set(name, set, "raw", WL_LEVEL_PTB);
	}
	json_decref(all);
}

static void tokens_as_the_ptb_tool(void **state)
{
	json_t *all = cases(), *set;
	const char *name;
	struct wl_buf b;
	size_t wrong = 0;

	(void)state;
	wl_buf_init(&b, 1 << 20);
	json_object_foreach(all, name, set)
	{
		size_t i;
		json_t *im;

		json_array_foreach(json_object_get(set, "images"), i, im)
		{
			const json_t *raw = json_object_get(im, "raw"),
				     *tok = json_object_get(im, "tokens");

			for (size_t k = 0; k < json_array_size(raw); k++) {
				const char *s = json_string_value(json_array_get(raw, k));
				const char *want = json_string_value(json_array_get(tok, k));

				wl_buf_reset(&b);
				OK(wl_ptb_tokens(s, strlen(s), &b, &err));
				if (strcmp(wl_buf_str(&b), want) && wrong++ < 5)
					print_message("'%s': got '%s', expected '%s'\n", s,
						wl_buf_str(&b), want);
			}
		}
	}
	assert_int_equal(wrong, 0);
	wl_buf_release(&b);
	json_decref(all);
}

/* Lines and what the public tool (3.4.1) printed, punctuation dropped. */
static void ptb_corners(void **state)
{
	static const char *const line[][2] = {
		{"一个穿着T恤的 3 个人 3个 100% 3.5米", "一个穿着t恤的 3 个人 3个 100 % 3.5 米"},
		{"男孩,女孩 , 你好. 你好!", "男孩 女孩 你好 你好"},
		{"中.文 中!文 2a.b a.b.c a. b", "中.文 中!文 2a b a.b.c a. b"},
		{"don't can't it's we're 90's dogs'", "do n't ca n't it 's we 're 90 's dogs"},
		{"cannot gonna o'clock", "can not gon na o'clock"},
		{"a-b t-shirt 20-year-old 中-文 3-2 -5 +3",
			"a-b t-shirt 20-year-old 中 文 3-2 -5 +3"},
		{"(a) [x] {y} !! ? ?!", "-lrb- a -rrb- -lsb- x -rsb- -lcb- y -rcb- !! ?!"},
		{"《书》【x】 ，。、！？（）", "书 x ， 。 、 ！ ？ （ ）"},
		{"u.s. mr. smith no.1 no.", "u.s. mr. smith no. 1 no"},
		{"½杯 £5 … — “a” ‘b’", "1/2 杯 # 5 a b"},
		{"😀 café Ａ", "café ａ"},
		{"", ""},
	};
	struct wl_buf b;

	(void)state;
	wl_buf_init(&b, 1 << 20);
	for (size_t i = 0; i < sizeof line / sizeof *line; i++) {
		wl_buf_reset(&b);
		OK(wl_ptb_tokens(line[i][0], strlen(line[i][0]), &b, &err));
		assert_string_equal(wl_buf_str(&b), line[i][1]);
	}
	wl_buf_release(&b);
}

static void meteor_normalises(void **state)
{
	static const char *const line[][2] = {
		{"一个 穿着 t恤", "一 个 穿 着 t 恤"},
		{"a-b-c, 1,000 ,x", "a b-c , 1,000 , x"},
		{"it's it 's do n't o'clock 90's", "it 's it ' s do n 't o 'clock 90 's"},
		{"u.s. end. next", "us end. next"},
		{"wait... what..", "wait ... what .."},
		{"“中文”　空", "\" 中 文 \" 空"},
	};
	struct wl_buf b;

	(void)state;
	wl_buf_init(&b, 1 << 20);
	for (size_t i = 0; i < sizeof line / sizeof *line; i++) {
		wl_buf_reset(&b);
		OK(wl_meteor_normalize(line[i][0], strlen(line[i][0]), &b, &err));
		assert_string_equal(wl_buf_str(&b), line[i][1]);
	}
	wl_buf_release(&b);
}

/* ENGINEERING-FACTS C5: 一 只 猫 在 垫子 上 with `-l other` is 0.7995456835002306. */
static void meteor_other(void **state)
{
	static const uint32_t hyp[] = {0, 1, 2, 3, 4, 5}, a[] = {0, 1, 2, 6, 3, 4, 5},
			      b[] = {2, 3, 4, 5};
	const struct wl_caption refs[] = {{a, 7}, {b, 4}};
	const struct wl_captioned im = {{hyp, 6}, refs, 2}, same = {{hyp, 6}, &im.hyp, 1};
	const struct wl_captioned none = {{hyp, 0}, refs, 2}, longest = {{hyp, 1 << 16}, refs, 2};
	const struct wl_meteor_params other = wl_meteor_other(), english = wl_meteor_english();
	double corpus, one;

	(void)state;
	OK(wl_meteor(&im, 1, &other, NULL, &corpus, &one, &err));
	close_to(one, 0.7995456835002306, 1e-12, "METEOR", 0);
	close_to(corpus, one, 1e-12, "METEOR of one image", 0);
	OK(wl_meteor(&same, 1, &english, NULL, &corpus, &one, &err));
	assert_true(one == 1 && corpus == 1);
	OK(wl_meteor(&none, 1, &english, NULL, &corpus, &one, &err));
	assert_true(one == 0 && corpus == 0);
	FAILS(WL_EDATA, "65536", wl_meteor(&longest, 1, &english, NULL, &corpus, &one, &err));
}

static void load_shared(struct wl_caption_files *f, struct wl_caption_set *s, const char *refs,
	const char *hyps, enum wl_caption_level level, const struct wl_cutter *cutter)
{
	OK(wl_caption_files_load(f, refs, hyps, level, false, &err));
	OK(wl_caption_set_make(s, f, level, cutter, &err));
}

static bool no_jieba(void)
{
	struct wl_cutter c = {0};
	bool missing = wl_cutter_open(&c, NULL, &err) < 0;

	wl_cutter_close(&c);
	return missing;
}

/* The expected table's row for row: the images stand in the same order. */
static void check_table(const char *path, const double *one, size_t n)
{
	FILE *fp = fopen(path, "r");
	char line[4096];

	assert_non_null(fp);
	assert_non_null(fgets(line, sizeof line, fp));
	for (size_t i = 0; i < n; i++) {
		char *p;

		assert_non_null(fgets(line, sizeof line, fp));
		p = strchr(line, '\t');
		for (size_t k = 0; k < 7; k++) /* nine digits are printed there */
			close_to(one[i * WL_CAPTION_METRICS + k], strtod(p, &p), 6e-9,
				wl_caption_metric_names[k], i);
	}
	fclose(fp);
}

static void check_flickr(const char *level_name, const char *table, const struct wl_cutter *cutter)
{
	json_t *all = wl_json_load(SHARED "flickr8kcn-test-baidu/expected_corpus.json", &err);
	const json_t *want =
		json_object_get(json_object_get(all, "corpus"), cutter ? "jieba" : "char");
	double corpus[WL_CAPTION_METRICS], *one;
	enum wl_caption_level level;
	struct wl_caption_files f;
	struct wl_caption_set s;

	assert_non_null(all);
	OK(wl_caption_level_parse(level_name, &level, &err));
	load_shared(&f, &s, SHARED "flickr8kcn-test-baidu/references.jsonl",
		SHARED "flickr8kcn-test-baidu/candidates.jsonl", level, cutter);
	assert_int_equal(f.n, 1000);
	one = calloc(f.n * WL_CAPTION_METRICS, sizeof *one);
	assert_non_null(one);
	OK(wl_caption_score(&s, corpus, one, &err));
	check_table(table, one, f.n);
	for (size_t k = 0; k < 7; k++)
		close_to(corpus[k],
			json_number_value(json_object_get(want, wl_caption_metric_names[k])), 1e-9,
			wl_caption_metric_names[k], f.n);
	free(one);
	wl_caption_set_release(&s);
	wl_caption_files_release(&f);
	json_decref(all);
}

static void flickr8k_cn(void **state)
{
	struct wl_cutter cutter = {0};

	(void)state;
	if (access(SHARED "README.md", R_OK))
		SKIP("../shared is not there");
	check_flickr("char", SHARED "flickr8kcn-test-baidu/expected_char.tsv", NULL);
	if (no_jieba())
		SKIP("jieba's tables are not installed");
	OK(wl_cutter_open(&cutter, NULL, &err));
	check_flickr("word", SHARED "flickr8kcn-test-baidu/expected_jieba.tsv", &cutter);
	wl_cutter_close(&cutter);
}

/* FACTS 8.4. */
static void ai_challenger(void **state)
{
	static const double want[WL_CAPTION_METRICS] = {
		0.790477, 0.689204, 0.590733, 0.520146, 0.445900, 0.661214, 2.760522, 0.387487};
	static const char *const bad[] = {
		"has_null_data", "key_error", "less_data_number", "more_data_number", "wrong_name"};
	struct wl_cutter cutter = {0};
	double corpus[WL_CAPTION_METRICS];
	struct wl_caption_files f;
	struct wl_caption_set s;

	(void)state;
	assert_true(wl_aic_image_hash("d9a9a8cfb9fdebe3f4f6996756ae23ae0e473d0c") ==
		    6678090646845985471u);
	assert_true(wl_aic_image_hash("2da70f0e6fe46642a18f35ed72c7c0b5f6fca09d.jpg") ==
		    2672643569347560246u);
	assert_true(wl_aic_image_hash("ccb266555270ab15a7018241bad94a8880571e43") ==
		    487904842962333940u);
	if (access(SHARED "README.md", R_OK) || no_jieba())
		SKIP("../shared or jieba's tables are not there");
	OK(wl_cutter_open(&cutter, NULL, &err));
	load_shared(&f, &s, SHARED "aic-icc-official/id_to_words.json",
		SHARED "aic-icc-official/id_to_test_caption.json", WL_LEVEL_AIC, &cutter);
	OK(wl_caption_score(&s, corpus, NULL, &err));
	for (size_t k = 0; k < WL_CAPTION_METRICS; k++)
		close_to(corpus[k], want[k], 6e-7, wl_caption_metric_names[k], k);
	wl_caption_set_release(&s);
	wl_caption_files_release(&f);
	wl_cutter_close(&cutter);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char path[512], *out;

		snprintf(path, sizeof path, SHARED "aic-icc-official/%s.json", bad[i]);
		FAILS(WL_EDATA, bad[i],
			wl_caption_files_load(&f, SHARED "aic-icc-official/id_to_words.json", path,
				WL_LEVEL_AIC, false, &err));
		assert_int_equal(
			tmp_run(&out,
				"%s/wenlan-eval caption --level aic --json --quiet --refs %s"
				" --hyps %s 2>/dev/null",
				tmp_bin(), SHARED "aic-icc-official/id_to_words.json", path),
			3);
		assert_non_null(strstr(out, "\"error\": 1"));
		free(out);
	}
}

/* The official example of coco-caption: scores as published, from raw English text. */
static void coco_example(void **state)
{
	struct wl_caption_files f;
	struct wl_caption_set s;
	double corpus[WL_CAPTION_METRICS], *one;
	FILE *fp;
	char line[16384];

	(void)state;
	if (access(SHARED "README.md", R_OK))
		SKIP("../shared is not there");
	load_shared(&f, &s, SHARED "coco-fakecap/fakecap.jsonl",
		SHARED "coco-fakecap/fakecap.jsonl", WL_LEVEL_PTB, NULL);
	assert_int_equal(f.n, 96);
	one = calloc(f.n * WL_CAPTION_METRICS, sizeof *one);
	OK(wl_caption_score(&s, corpus, one, &err));
	fp = fopen(SHARED "coco-fakecap/fakecap.jsonl", "r");
	assert_non_null(fp);
	for (size_t i = 0; i < f.n; i++) {
		static const int which[] = {0, 1, 2, 3, 5};
		json_t *o;

		assert_non_null(fgets(line, sizeof line, fp));
		o = json_loads(line, 0, NULL);
		assert_non_null(o);
		for (size_t k = 0; k < 5; k++)
			close_to(one[i * WL_CAPTION_METRICS + (size_t)which[k]],
				json_number_value(json_object_get(json_object_get(o, "official"),
					wl_caption_metric_names[which[k]])),
				5.1e-4, wl_caption_metric_names[which[k]], i);
		json_decref(o);
	}
	fclose(fp);
	free(one);
	wl_caption_set_release(&s);
	wl_caption_files_release(&f);
}

struct pair {
	const char *refs, *hyps, *part;
};

static void bad_files(void **state)
{
	static const char refs[] = "[{\"image_id\":1,\"caption\":\"猫\"},{\"image_id\":2,"
				   "\"caption\":\"狗\"},{\"image_id\":2,\"caption\":\"大 狗\"}]";
	static const struct pair bad[] = {
		{refs, "[{\"image_id\":1,\"caption\":\"猫\"}]", "1 images have no caption (2)"},
		{refs,
			"[{\"image_id\":1,\"caption\":\"猫\"},{\"image_id\":2,\"caption\":\"x\"},"
			"{\"image_id\":3,\"caption\":\"x\"},{\"image_id\":4,\"caption\":\"x\"}]",
			"2 captions are of unknown images (3, 4)"},
		{refs,
			"[{\"image_id\":1,\"caption\":\"猫\"},{\"image_id\":2,\"caption\":\"x\"},"
			"{\"image_id\":1,\"caption\":\"y\"}]",
			"1 images are captioned twice (1)"},
		{refs, "[{\"image_id\":1,\"caption\":\" \"},{\"image_id\":2,\"caption\":\"x\"}]",
			"1 captions are empty (1)"},
		{"[{\"image_id\":1,\"caption\":\"\"}]", "[]", "no references"},
		{"[]", "[]", "no references"},
		{refs, "[{\"image_id\":1.5,\"caption\":\"x\"}]", "entry 0 has no image_id"},
		{refs, "[{\"image_id\":1,\"caption\":3}]", "no caption that is a string"},
		{refs, "[3]", "not an object"},
		{refs, "hello", "neither a JSON list"},
		{refs, "[{\"image_id\":1,", "hyps"},
		{refs, "{\"image_id\":1,\"caption\":\"x\"}\n{\"image_id\":", "line 2"},
	};
	struct tmp_dir dir = tmp_make();
	struct wl_caption_files f;
	char r[512], h[512];

	(void)state;
	tmp_path(&dir, "refs", r);
	tmp_path(&dir, "hyps", h);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		tmp_write(r, bad[i].refs);
		tmp_write(h, bad[i].hyps);
		FAILS(WL_EDATA, bad[i].part,
			wl_caption_files_load(&f, r, h, WL_LEVEL_CHAR, false, &err));
	}
	tmp_write(h, "[{\"image_id\":1,\"caption\":\"\"},{\"image_id\":2,\"caption\":\"x\"}]");
	tmp_write(r, refs);
	OK(wl_caption_files_load(&f, r, h, WL_LEVEL_CHAR, true, &err));
	assert_true(f.n == 2 && f.image[1].n_refs == 2);
	wl_caption_files_release(&f);
	tmp_remove(&dir);
}

/* AI Challenger's data set as references: names with an extension, five captions, some empty. */
static void aic_annotations(void **state)
{
	struct tmp_dir dir = tmp_make();
	struct wl_caption_files f;
	char r[512], h[512];

	(void)state;
	tmp_write(tmp_path(&dir, "r.json", r),
		"[{\"url\":\"u\",\"image_id\":\"ab.jpg\",\"caption\":"
		"[\"一只猫。\",\"\",\"猫\\n\"]}]");
	tmp_write(tmp_path(&dir, "h.json", h), "[{\"image_id\":\"ab\",\"caption\":\"猫\"}]");
	OK(wl_caption_files_load(&f, r, h, WL_LEVEL_AIC, false, &err));
	assert_true(f.n == 1 && f.image[0].n_refs == 2);
	assert_string_equal(f.image[0].id, "ab");
	wl_caption_files_release(&f);
	tmp_remove(&dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens_as_the_ptb_tool),
		cmocka_unit_test(ptb_corners),
		cmocka_unit_test(scores_as_pycocoevalcap),
		cmocka_unit_test(meteor_normalises),
		cmocka_unit_test(meteor_other),
		cmocka_unit_test(flickr8k_cn),
		cmocka_unit_test(ai_challenger),
		cmocka_unit_test(coco_example),
		cmocka_unit_test(bad_files),
		cmocka_unit_test(aic_annotations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

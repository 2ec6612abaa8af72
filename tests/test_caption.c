/* BLEU, ROUGE-L and CIDEr against pycocoevalcap: a small set worked out with it (scores below),
 * and, where ../shared is there, the 1,000 images of Flickr8k-CN's test split, image by image. */
#include "eval/metrics/caption.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#define SHARED "../shared/data/caption-eval/flickr8kcn-test-baidu/"

struct set {
	struct wl_arena a;
	struct wl_intern words;
	struct wl_captioned im[1024];
	size_t n;
};

static struct wl_caption tokens(struct set *s, char *text)
{
	struct wl_caption c = {0};
	uint32_t *id = wl_arena_calloc(&s->a, strlen(text) + 1, sizeof *id, NULL);
	char *save = NULL;

	assert_non_null(id);
	for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		int64_t k = wl_intern_str(&s->words, w, strlen(w), NULL);
		assert_true(k >= 0);
		id[c.n++] = (uint32_t)k;
	}
	c.token = id;
	return c;
}

/* texts: the hypothesis, then the references. */
static void add(struct set *s, char *const *texts, size_t n)
{
	struct wl_captioned *im = &s->im[s->n++];
	struct wl_caption *refs = wl_arena_calloc(&s->a, n, sizeof *refs, NULL);

	assert_non_null(refs);
	im->hyp = tokens(s, texts[0]);
	for (size_t i = 1; i < n; i++)
		refs[i - 1] = tokens(s, texts[i]);
	im->refs = refs;
	im->n_refs = n - 1;
}

static void release(struct set *s)
{
	wl_arena_release(&s->a);
	wl_intern_release(&s->words);
	free(s);
}

static void close_to(double got, double want, double tolerance, const char *what, size_t i)
{
	if (!(fabs(got - want) <= tolerance * fmax(1, fabs(want))))
		fail_msg("%s of image %zu: got %.12g, expected %.12g", what, i, got, want);
}

/* Four images with an empty hypothesis, a repeated word, one word and a perfect one; the scores
 * were printed by pycocoevalcap 1.2 (Bleu(4), Rouge, Cider). */
static void small_set(void **state)
{
	static const char *const text[4][3] = {
		{"一 只 猫 坐 在 垫子 上", "猫 在 垫子 上", "一 只 猫 在 垫子 上 坐 着"},
		{"狗 狗 狗 狗", "一 条 狗 跑", "狗 在 草地 上 跑"},
		{"海", "大海 和 蓝天", "海 边 的 人"},
		{"两 个 人 在 打 球", "两 个 人 在 打 球", "有 人 打 篮球"},
	};
	static const double bleu[4] = {
		0.705401437330467, 0.619561182729006, 0.561713485699521, 0.487021743904513};
	static const double bleu1[4][4] = {
		{0.866877899502502, 0.707802841017176, 0.557974273130872, 7.83312606838721e-05},
		{0.249999999875, 9.12870928680806e-09, 3.46680636963458e-11, 2.54066373881465e-12},
		{0.135335282965943, 0.00013533528303361, 1.35335283056166e-05,
			4.27967742276742e-06},
		{0.999999999666667, 0.99999999965, 0.999999999627778, 0.999999999595834}};
	static const double rouge[4] = {0.936061381074169, 0.25, 0.36094674556213, 1};
	static const double cider[4] = {
		3.97961621039734, 0.343175241228766, 0.61190150628979, 5.39570103961177};
	struct set *s = calloc(1, sizeof *s);
	double got[4], image[4][4], one[4], sum;

	(void)state;
	assert_non_null(s);
	for (int i = 0; i < 4; i++) {
		char buf[3][128], *p[3] = {buf[0], buf[1], buf[2]};
		for (int k = 0; k < 3; k++)
			snprintf(buf[k], sizeof buf[k], "%s", text[i][k]);
		add(s, p, 3);
	}
	assert_int_equal(wl_bleu(s->im, 4, got, image[0], NULL), 0);
	for (size_t k = 0; k < 4; k++) {
		close_to(got[k], bleu[k], 1e-12, "BLEU", k);
		for (size_t i = 0; i < 4; i++)
			close_to(image[i][k], bleu1[i][k], 1e-12, "BLEU", i);
	}
	assert_int_equal(wl_rouge_l(s->im, 4, &sum, one, NULL), 0);
	for (size_t i = 0; i < 4; i++)
		close_to(one[i], rouge[i], 1e-12, "ROUGE-L", i);
	close_to(sum, (rouge[0] + rouge[1] + rouge[2] + rouge[3]) / 4, 1e-12, "ROUGE-L", 4);
	assert_int_equal(wl_cider(s->im, 4, &sum, one, NULL), 0);
	for (size_t i = 0; i < 4; i++)
		close_to(one[i], cider[i], 1e-12, "CIDEr", i);
	close_to(sum, (cider[0] + cider[1] + cider[2] + cider[3]) / 4, 1e-12, "CIDEr", 4);
	release(s);
}

static void edges(void **state)
{
	struct wl_caption none = {NULL, 0};
	struct wl_captioned im = {none, &none, 1};
	double b[4], r, c;

	(void)state;
	assert_int_equal(wl_bleu(&im, 1, b, NULL, NULL), 0);
	assert_true(b[3] <= 1);
	assert_int_equal(wl_rouge_l(&im, 1, &r, NULL, NULL), 0);
	assert_true(r == 1); /* two empty captions are one equal empty token each */
	assert_int_equal(wl_cider(&im, 1, &c, NULL, NULL), 0);
	assert_true(c == 0);
	assert_int_equal(wl_rouge_l(NULL, 0, &r, NULL, NULL), 0);
	assert_true(r == 0);
}

static void read_tokens(struct set *s, const char *path)
{
	char line[16384], *field[8], *save = NULL;
	FILE *f = fopen(path, "r");

	assert_non_null(f);
	assert_non_null(fgets(line, sizeof line, f));
	while (fgets(line, sizeof line, f)) {
		size_t n = 0;
		line[strcspn(line, "\n")] = 0;
		for (char *p = strtok_r(line, "\t", &save); p && n < 8;
			p = strtok_r(NULL, "\t", &save))
			field[n++] = p;
		assert_true(n >= 3 && s->n < 1024);
		add(s, field + 1, n - 1);
	}
	fclose(f);
}

static void flickr(const char *level, const char *tokens_path, const char *expected_path)
{
	struct set *s = calloc(1, sizeof *s);
	double(*bleu)[4] = calloc(1024, sizeof *bleu), *rouge = calloc(1024, sizeof *rouge);
	double *cider = calloc(1024, sizeof *cider), corpus[6];
	char line[1024];
	FILE *f = fopen(expected_path, "r");

	assert_true(s && bleu && rouge && cider && f);
	read_tokens(s, tokens_path);
	assert_int_equal(s->n, 1000);
	assert_int_equal(wl_bleu(s->im, s->n, corpus, bleu[0], NULL), 0);
	assert_int_equal(wl_rouge_l(s->im, s->n, &corpus[4], rouge, NULL), 0);
	assert_int_equal(wl_cider(s->im, s->n, &corpus[5], cider, NULL), 0);
	assert_non_null(fgets(line, sizeof line, f));
	for (size_t i = 0; i < s->n; i++) {
		double want[7];
		assert_non_null(fgets(line, sizeof line, f));
		assert_int_equal(
			sscanf(strchr(line, '\t'), "%lf %lf %lf %lf %lf %lf %lf", &want[0],
				&want[1], &want[2], &want[3], &want[4], &want[5], &want[6]),
			7);
		for (int k = 0; k < 4; k++) /* nine digits are printed there */
			close_to(bleu[i][k], want[k], 5e-9, "BLEU", i);
		close_to(rouge[i], want[5], 5e-9, "ROUGE-L", i);
		close_to(cider[i], want[6], 5e-9, "CIDEr", i);
	}
	json_t *root = json_load_file(SHARED "expected_corpus.json", 0, NULL);
	json_t *want = json_object_get(json_object_get(root, "corpus"), level);
	static const char *const name[6] = {
		"Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"};
	for (size_t k = 0; k < 6; k++)
		close_to(corpus[k], json_real_value(json_object_get(want, name[k])), 1e-9, name[k],
			k);
	json_decref(root);
	fclose(f);
	free(bleu);
	free(rouge);
	free(cider);
	release(s);
}

static void flickr8k_cn(void **state)
{
	FILE *f = fopen(SHARED "tokens_char.tsv", "r");

	(void)state;
	if (!f) {
		print_message("SKIPPED: %s is not there\n", SHARED);
		skip();
	}
	fclose(f);
	flickr("char", SHARED "tokens_char.tsv", SHARED "expected_char.tsv");
	flickr("jieba", SHARED "tokens_jieba.tsv", SHARED "expected_jieba.tsv");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_set),
		cmocka_unit_test(edges),
		cmocka_unit_test(flickr8k_cn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

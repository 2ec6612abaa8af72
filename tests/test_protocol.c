/* Retrieval as it is published: full-size pools with planted ranks, protocols that refuse others,
 * the bootstrap, foreign features in .npz and safetensors, Chinese-CLIP's predictions. */
#include "eval/matrix.h"
#include "eval/metrics/bootstrap.h"
#include "eval/npz.h"
#include "eval/predictions.h"
#include "eval/protocol.h"
#include "tests/support/cm.h"
#include "tests/support/planted.h"
#include "tests/support/tmp.h"
#include "ops/saved.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static void check_planted(const struct planted *p, const char *protocol)
{
	int64_t n = p->in.n_images, m = p->in.n_texts;
	int64_t *rank = calloc((size_t)(n + m), sizeof *rank);
	const struct wl_protocol *proto = wl_protocol_find(protocol, &err);

	assert_true(rank && proto);
	OK(wl_protocol_check(proto, &p->in, &err));
	OK(wl_retrieval_ranks(&p->in, rank, rank + n, &err));
	for (int64_t i = 0; i < n; i++)
		if (rank[i] != p->image_rank[i])
			fail_msg("image %lld: rank %lld, planted %lld", (long long)i,
				(long long)rank[i], (long long)p->image_rank[i]);
	for (int64_t j = 0; j < m; j++)
		if (rank[n + j] != p->text_rank[j])
			fail_msg("text %lld: rank %lld, planted %lld", (long long)j,
				(long long)rank[n + j], (long long)p->text_rank[j]);
	free(rank);
}

static void full_size_pools(void **state)
{
	struct planted p;

	(void)state;
#ifdef __SANITIZE_ADDRESS__
	SKIP("4.5 billion scores take minutes under a sanitizer");
#endif
	planted_make(&p, 11000, 1, 64);
	check_planted(&p, "wenlan");
	planted_release(&p);
	planted_make(&p, 30000, 5, 32);
	check_planted(&p, "aic-icc");
	planted_release(&p);
}

static void bf16_keeps_planted_ranks(void **state)
{
	struct planted p;
	int64_t *rank;

	(void)state;
	planted_make(&p, 600, 5, 60);
	for (int64_t i = 0; i < 600 * 60; i++)
		p.images[i] = wl_f32_from_bf16(wl_bf16_from_f32(p.images[i]));
	for (int64_t i = 0; i < 3000 * 60; i++)
		p.texts[i] = wl_f32_from_bf16(wl_bf16_from_f32(p.texts[i]));
	rank = calloc(3600, sizeof *rank);
	assert_non_null(rank);
	OK(wl_retrieval_ranks(&p.in, rank, rank + 600, &err));
	assert_memory_equal(rank, p.image_rank, 600 * sizeof *rank);
	assert_memory_equal(rank + 600, p.text_rank, 3000 * sizeof *rank);
	free(rank);
	planted_release(&p);
}

static void protocols_refuse(void **state)
{
	static const char *const names[] = {
		"aic-icc", "wenlan", "flickr30k-cn", "flickr8k-cn", "coco-cn", "muge"};
	struct planted p;

	(void)state;
	planted_make(&p, 1000, 5, 100);
	for (size_t i = 0; i < 6; i++) {
		const struct wl_protocol *proto = wl_protocol_find(names[i], &err);

		assert_non_null(proto);
		if (!strncmp(names[i], "flickr", 6))
			OK(wl_protocol_check(proto, &p.in, &err));
		else
			FAILS(WL_EDATA, "could not be compared",
				wl_protocol_check(proto, &p.in, &err));
	}
	FAILS(WL_EDATA, "30000 images and there are 1000",
		wl_protocol_check(wl_protocol_find("aic-icc", NULL), &p.in, &err));
	p.pair_image[7] = 3; /* image 1 loses a caption, 3 gains one */
	FAILS(WL_EDATA, "image 1 has 4",
		wl_protocol_check(wl_protocol_find("flickr30k-cn", NULL), &p.in, &err));
	assert_null(wl_protocol_find("coco", &err));
	assert_int_equal(err.code, WL_EUSAGE);
	planted_release(&p);
}

/* 1,000 images of which every other is found at once: R@1 = 50 % with the binomial's interval. */
static void bootstrap_interval(void **state)
{
	enum { N = 1000 };
	struct planted p;
	int64_t image[N], text[N], better[N];
	struct wl_boot b, again;
	struct wl_boot_difference d;

	(void)state;
	planted_make(&p, N, 1, 100);
	for (int i = 0; i < N; i++) {
		image[i] = i % 2 ? 1 : 7;
		text[i] = i % 10 ? 100 : 1;
		better[i] = i % 2 || i % 20 == 0 ? 1 : 7;
	}
	OK(wl_retrieval_bootstrap(&p.in, image, text, 2000, 1, &b, &err));
	OK(wl_retrieval_bootstrap(&p.in, image, text, 2000, 1, &again, &err));
	assert_memory_equal(&b, &again, sizeof b);
	assert_true(b.value[0] == 50 && b.value[1] == 50 && b.value[2] == 100 && b.value[3] == 10);
	/* 1.96 sqrt(p (1 - p) / n): 3.10 and 1.86 points */
	assert_true(fabs(b.lo[0] - 46.9) < 0.5 && fabs(b.hi[0] - 53.1) < 0.5);
	assert_true(fabs(b.lo[3] - 8.14) < 0.5 && fabs(b.hi[3] - 11.86) < 0.5);
	assert_true(b.lo[2] == 100 && b.hi[2] == 100);
	OK(wl_retrieval_compare(&p.in, image, text, better, text, 2000, 1, &d, &err));
	assert_true(d.d.value[0] == 5 && d.d.lo[0] > 3 && d.d.hi[0] < 7 && d.p[0] <= 0.001);
	assert_true(d.d.value[3] == 0 && d.p[3] == 1);
	/* The texts alone, as MUGE has it: the mean of three. */
	OK(wl_retrieval_bootstrap(&p.in, NULL, text, 100, 1, &b, &err));
	assert_true(b.value[6] == 10 && b.value[0] == 0);
	FAILS(WL_EUSAGE, "rounds", wl_retrieval_bootstrap(&p.in, image, text, 5, 1, &b, &err));
	planted_release(&p);
}

static void foreign_matrices(void **state)
{
	int64_t rows, cols;
	float *v;
	char *cut;
	size_t n;
	struct wl_buf b;

	(void)state;
	OK(wl_matrix_load("tests/golden/npz/one.npz", &v, &rows, &cols, &err));
	assert_true(rows == 3 && cols == 4 && v[5] == 5);
	free(v);
	OK(wl_matrix_load("tests/golden/npz/two.npz:text_features", &v, &rows, &cols, &err));
	assert_true(rows == 3 && cols == 4 && v[0] == 6 && v[11] == 16);
	free(v);
	OK(wl_matrix_load("tests/golden/npz/deflated.npz:image_features", &v, &rows, &cols, &err));
	assert_true(v[11] == 11);
	free(v);
	FAILS(WL_EDATA, "several arrays (image_features.npy, text_features.npy)",
		wl_matrix_load("tests/golden/npz/two.npz", &v, &rows, &cols, &err));
	FAILS(WL_EDATA, "no array features; there are: image_features.npy",
		wl_matrix_load("tests/golden/npz/two.npz:features", &v, &rows, &cols, &err));
	FAILS(WL_EDATA, "matrix",
		wl_matrix_load("tests/golden/npz/deflated.npz:ids", &v, &rows, &cols, &err));
	FAILS(WL_EFAIL, "none.npy", wl_matrix_load("/nowhere/none.npy", &v, &rows, &cols, &err));
	cut = tmp_read("tests/golden/npz/deflated.npz", &n);
	wl_buf_init(&b, 1 << 20);
	FAILS(WL_EDATA, "cannot be read as .npz",
		wl_npz_read_memory(cut, n / 2, "cut.npz", NULL, &b, &err));
	wl_buf_release(&b);
	free(cut);
}

static const char ten[] = "[1,2,3,4,5,6,7,8,9,10]";

static void chinese_clip_predictions(void **state)
{
	struct tmp_dir dir = tmp_make();
	struct wl_predicted p;
	char a[512], b[512], text[2000];

	(void)state;
	tmp_write(tmp_path(&dir, "answers", a),
		"{\"text_id\":1,\"text\":\"x\",\"image_ids\":[1]}\n"
		"{\"text_id\":2,\"image_ids\":[44,5]}\n{\"text_id\":3,\"image_ids\":[10]}\n"
		"{\"text_id\":4,\"image_ids\":[99]}");
	tmp_path(&dir, "predictions", b);
	snprintf(text, sizeof text,
		"{\"text_id\":4,\"image_ids\":%s}\n{\"text_id\":1,\"image_ids\":%s}\n"
		"{\"text_id\":2,\"image_ids\":%s}\n{\"text_id\":3,\"image_ids\":%s}",
		ten, ten, ten, ten);
	tmp_write(b, text);
	OK(wl_predictions_measure(a, b, &p, &err));
	assert_true(!p.image_to_text && p.queries == 4);
	assert_true(p.r1 == 25 && p.r5 == 50 && p.r10 == 75 && p.mean_recall == 50);
	/* image 5 belongs to text 2: second of ten; the four others are found nowhere */
	snprintf(text, sizeof text,
		"{\"image_id\":1,\"text_ids\":[11,12,13,14,15,16,17,18,19,20]}\n"
		"{\"image_id\":5,\"text_ids\":%s}\n{\"image_id\":44,\"text_ids\":%s}\n"
		"{\"image_id\":10,\"text_ids\":[3,12,13,14,15,16,17,18,19,20]}\n"
		"{\"image_id\":99,\"text_ids\":[11,12,13,14,15,4,17,18,19,20]}\n",
		ten, ten);
	tmp_write(b, text);
	OK(wl_predictions_measure(a, b, &p, &err));
	assert_true(p.image_to_text && p.queries == 5);
	assert_true(p.r1 == 20 && p.r5 == 60 && p.r10 == 80);
	tmp_remove(&dir);
}

static void bad_predictions(void **state)
{
	static const char *const bad[][2] = {
		{"{\"text_id\":1,\"image_ids\":[1,2,3,4,5,6,7,8,9,10]}\n",
			"1 queries have no prediction (2)"},
		{"{\"text_id\":1,\"image_ids\":[1,2,3,4,5,6,7,8,9,10]}\n"
		 "{\"text_id\":1,\"image_ids\":[1,2,3,4,5,6,7,8,9,10]}\n",
			"1 queries are predicted twice"},
		{"{\"text_id\":7,\"image_ids\":[1,2,3,4,5,6,7,8,9,10]}\n",
			"1 predictions are of unknown queries (7)"},
		{"{\"text_id\":1,\"image_ids\":[1,2,3]}\n", "1 lists are shorter than 10"},
		{"{\"text_id\":1,\"image_ids\":[1,2,3,4,5,6,7,8,9,1]}\n",
			"name a candidate twice (1)"},
		{"{\"text_id\":1,\"image_ids\":3}\n", "line 1"},
		{"{\"text_id\":[],\"image_ids\":[]}\n", "line 1: an id"},
		{"[]\n", "not a JSON object"},
		{"{\n", "line 1"},
		{"", "no predictions"},
	};
	struct tmp_dir dir = tmp_make();
	struct wl_predicted p;
	char a[512], b[512];

	(void)state;
	tmp_write(tmp_path(&dir, "answers", a),
		"{\"text_id\":1,\"image_ids\":[1]}\n{\"text_id\":2,\"image_ids\":[1]}");
	tmp_path(&dir, "predictions", b);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		tmp_write(b, bad[i][0]);
		FAILS(WL_EDATA, bad[i][1], wl_predictions_measure(a, b, &p, &err));
	}
	tmp_write(a, "{\"text_id\":1,\"image_ids\":[1]}\n{\"text_id\":1,\"image_ids\":[1]}");
	FAILS(WL_EDATA, "line 2: the text_id 1 comes twice",
		wl_predictions_measure(a, b, &p, &err));
	tmp_write(a, "{\"text_id\":1,\"image_ids\":[]}");
	FAILS(WL_EDATA, "no image_ids", wl_predictions_measure(a, b, &p, &err));
	tmp_remove(&dir);
}

/* The command: intervals and the protocol in the JSON, exit code 3 for another pool. */
static void command(void **state)
{
	char *out;

	(void)state;
	assert_int_equal(tmp_run(&out,
				 "%s/wenlan-eval retrieval --images"
				 " tests/golden/npz/two.npz:image_features --texts "
				 "tests/golden/npz/two.npz:text_features"
				 " --bootstrap 200 --precision bf16 --json",
				 tmp_bin()),
		0);
	assert_non_null(strstr(out, "\"intervals\""));
	free(out);
	assert_int_equal(tmp_run(&out,
				 "%s/wenlan-eval retrieval --images"
				 " tests/golden/npz/two.npz:image_features --texts "
				 "tests/golden/npz/two.npz:text_features"
				 " --protocol wenlan",
				 tmp_bin()),
		3);
	assert_non_null(strstr(out, "11000 images and there are 3"));
	free(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(full_size_pools),
		cmocka_unit_test(bf16_keeps_planted_ranks),
		cmocka_unit_test(protocols_refuse),
		cmocka_unit_test(bootstrap_interval),
		cmocka_unit_test(foreign_matrices),
		cmocka_unit_test(chinese_clip_predictions),
		cmocka_unit_test(bad_predictions),
		cmocka_unit_test(command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

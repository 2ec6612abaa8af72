/* Zero-shot classification and tags: by hand, against a plain count of the definitions, the files,
 * the command. */
#include "eval/labels.h"
#include "eval/metrics/classify.h"
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static void near(double got, double want)
{
	if (!(fabs(got - want) < 1e-9))
		fail_msg("got %.12g, expected %.12g", got, want);
}

/* Four images, three labels; label 2 does not occur. */
static void by_hand(void **state)
{
	static const float images[] = {3, 1, 0, 2, 1, 1.5f, 0, 1, 3, 1, 2, 0};
	static const float labels[] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
	static const int64_t image[] = {0, 1, 2, 3, 3}, label[] = {0, 1, 1, 1, 0};
	const struct wl_retrieval_in in = {.images = images,
		.texts = labels,
		.n_images = 4,
		.n_texts = 3,
		.dim = 3,
		.pair_image = image,
		.pair_text = label,
		.n_pairs = 5};
	struct wl_classified c;
	double ap[3];

	(void)state;
	OK(wl_classify(&in, 1, &c, ap, &err));
	/* first labels: 0, 0, 2, 1; right for images 0 and 3 */
	assert_true(c.top1 == 50 && c.top5 == 100 && c.images == 4 && c.labels == 2);
	near(c.precision, 50);
	near(c.recall, 40);
	near(c.f1, 100 * 4.0 / 9);
	/* label 0: 1 of 2 images first; label 1: 1 of 3 */
	near(c.class_accuracy, (50 + 100.0 / 3) / 2);
	/* label 0: predicted 2, correct 1, true 2; label 1: 1, 1, 3 */
	near(c.macro_f1, (100 * 2.0 / 4 + 100 * 2.0 / 4) / 2);
	/* label 0: order 0, 1, 3, 2; right are 0 and 3.  label 1: 3, 0, 1, 2 by index; right 3, 1,
	 * 2 */
	near(ap[0], 100 * (1 + 2.0 / 3) / 2);
	near(ap[1], 100 * (1 + 2.0 / 3 + 3.0 / 4) / 3);
	assert_true(ap[2] == -1);
	near(c.map, (ap[0] + ap[1]) / 2);
	FAILS(WL_EUSAGE, "4 tags", wl_classify(&in, 4, &c, ap, &err));
}

/* 60 random images, 9 labels: F1 of the first 3 and AP counted anew from a score table. */
static void random_against_plain(void **state)
{
	enum { N = 60, L = 9, D = 5, K = 3 };
	float images[N * D], labels[L * D], score[N][L];
	int64_t image[N * 2], label[N * 2], pairs = 0;
	bool is_true[N][L] = {{false}};
	double map = 0, correct = 0;
	struct wl_classified c;
	struct wl_retrieval_in in;

	(void)state;
	for (int i = 0; i < N * D; i++)
		images[i] = (float)wl_rand_normal(1, 1, (uint64_t)i);
	for (int i = 0; i < L * D; i++)
		labels[i] = (float)wl_rand_normal(1, 2, (uint64_t)i);
	for (int i = 0; i < N; i++)
		for (int k = 0; k < 1 + i % 2; k++) {
			image[pairs] = i;
			label[pairs] = (i * 7 + k * 4) % L;
			is_true[i][label[pairs++]] = true;
		}
	in = (struct wl_retrieval_in){.images = images,
		.texts = labels,
		.n_images = N,
		.n_texts = L,
		.dim = D,
		.pair_image = image,
		.pair_text = label,
		.n_pairs = pairs};
	for (int i = 0; i < N; i++)
		for (int l = 0; l < L; l++) {
			double s = 0;
			for (int d = 0; d < D; d++)
				s += (double)images[i * D + d] * (double)labels[l * D + d];
			score[i][l] = (float)s;
		}
	for (int l = 0; l < L; l++) {
		double ap = 0, n = 0;
		for (int i = 0; i < N; i++) {
			double rank = 1, before = 1;
			for (int k = 0; is_true[i][l] && k < N; k++)
				if (score[k][l] > score[i][l]) {
					rank++;
					before += is_true[k][l];
				}
			ap += is_true[i][l] ? before / rank : 0;
			n += is_true[i][l];
		}
		map += ap / n / L;
	}
	for (int i = 0; i < N; i++)
		for (int l = 0; l < L; l++) {
			int above = 0;
			for (int k = 0; k < L; k++)
				above += score[i][k] > score[i][l];
			correct += above < K && is_true[i][l];
		}
	OK(wl_classify(&in, K, &c, NULL, &err));
	assert_true(fabs(c.map - 100 * map) < 1e-4);
	near(c.f1, 100 * 2 * correct / (N * K + (double)pairs));
}

static void prompts_average(void **state)
{
	static const float prompts[] = {3, 0, 0, 4, 0, 2, 0, 2};
	float out[4];

	(void)state;
	wl_classify_average(prompts, 2, 2, 2, out);
	near(out[0], 0.6f);
	near(out[1], 0.8f);
	near(out[2], 0);
	near(out[3], 1);
}

static void truth_files(void **state)
{
	static const char *const bad[][2] = {
		{"{\"image_id\":1,\"labels\":[\"cat\"]}\n{\"image_id\":8,\"label\":\"dog\"}\n"
		 "{\"image_id\":9,\"label\":\"dog\"}",
			"2 images are not among the embeddings (8, 9)"},
		{"{\"image_id\":1,\"labels\":[\"cow\",\"cat\"]}",
			"1 labels are not in the list (cow)"},
		{"{\"image_id\":1,\"label\":\"cat\"}\n{\"image_id\":1,\"label\":\"cat\"}",
			"1 images come twice (1)"},
		{"{\"image_id\":1}", "line 1"},
		{"{\"image_id\":\"x\",\"label\":\"cat\"}", "line 1"},
		{"{\"image_id\":1,\"label\":7}", "not a string"},
		{"{\"image_id\":1,\"labels\":[]}", "gives no image a label"},
		{"", "gives no image a label"},
	};
	static const int64_t ids[] = {5, 1};
	struct tmp_dir dir = tmp_make();
	char names[512], truth[512];
	int64_t *image, *label, n;
	struct wl_labels l;

	(void)state;
	tmp_path(&dir, "truth", truth);
	tmp_write(tmp_path(&dir, "labels", names), "cat\r\n\ndog\n");
	OK(wl_labels_load(&l, names, &err));
	assert_int_equal(l.names.n, 2);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		tmp_write(truth, bad[i][0]);
		FAILS(WL_EDATA, bad[i][1],
			wl_labels_truth(&l, truth, ids, 2, &image, &label, &n, &err));
	}
	tmp_write(truth, "{\"image_id\":1,\"labels\":[\"dog\",\"cat\"]}\n{\"image_id\":5,\"label\":"
			 "\"dog\"}");
	OK(wl_labels_truth(&l, truth, ids, 2, &image, &label, &n, &err));
	assert_true(n == 3 && image[0] == 1 && label[0] == 1 && label[1] == 0 && image[2] == 0);
	free(image);
	free(label);
	wl_labels_release(&l);
	tmp_write(names, "cat\ncat");
	FAILS(WL_EDATA, "line 2: the label cat comes twice", wl_labels_load(&l, names, &err));
	tmp_write(names, "\n");
	FAILS(WL_EDATA, "no labels", wl_labels_load(&l, names, &err));
	tmp_remove(&dir);
}

/* Foreign features: image i is label i % 2 of the two rows. */
static void command(void **state)
{
	struct tmp_dir dir = tmp_make();
	char path[512], *out;

	(void)state;
	tmp_write(tmp_path(&dir, "labels", path), "a\nb\nc\n");
	tmp_write(tmp_path(&dir, "truth", path), "{\"image_id\":2,\"label\":\"c\"}\n");
	assert_int_equal(tmp_run(&out,
				 "%s/wenlan-eval classify --json --images"
				 " tests/golden/npz/one.npz --label-features "
				 "tests/golden/npz/one.npz --labels %s/labels"
				 " --truth %s/truth",
				 tmp_bin(), dir.path, dir.path),
		0);
	assert_non_null(strstr(out, "\"top1\": 100.0"));
	free(out);
	tmp_write(tmp_path(&dir, "labels", path), "a\nb\nc\nd\n");
	assert_int_equal(tmp_run(&out,
				 "%s/wenlan-eval classify --images tests/golden/npz/one.npz"
				 " --label-features tests/golden/npz/one.npz --labels %s/labels "
				 "--truth %s/truth",
				 tmp_bin(), dir.path, dir.path),
		3);
	assert_non_null(strstr(out, "a multiple of 4 rows"));
	free(out);
	tmp_remove(&dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_hand),
		cmocka_unit_test(random_against_plain),
		cmocka_unit_test(prompts_average),
		cmocka_unit_test(truth_files),
		cmocka_unit_test(command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

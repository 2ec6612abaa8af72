/* wenlan-eval as a user meets it: retrieval on both kinds of files, the report, and the
 * sentences for what does not fit together. */
#include "eval/vectors.h"
#include "ingest/image.h"
#include "ops/json.h"
#include "shards/manifest.h"
#include "shards/write.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"
#include "ops/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;
static struct tmp_dir dir;

static int set_up(void **state)
{
	(void)state;
	dir = tmp_make();
	err = (struct wl_err)WL_ERR_INIT;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	tmp_remove(&dir);
	return 0;
}

/* A fp32 matrix as .npy. */
static void write_npy(const char *name, const float *v, int rows, int cols)
{
	char path[512], bytes[4096], header[200];
	size_t n = (size_t)snprintf(header, sizeof header,
		"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }\n", rows, cols);
	size_t data = (size_t)(rows * cols) * 4;

	memcpy(bytes, "\x93NUMPY\x01\x00", 8);
	bytes[8] = (char)n;
	bytes[9] = (char)(n >> 8);
	memcpy(bytes + 10, header, n);
	memcpy(bytes + 10 + n, v, data);
	tmp_write_bytes(tmp_path(&dir, name, path), bytes, 10 + n + data);
}

static void expect(int code, const char *part, const char *args)
{
	char *out;
	int got = tmp_run(&out, "cd %s && %s/wenlan-eval %s", dir.path, tmp_bin(), args);

	if (got != code || !strstr(out, part))
		fail_msg("wenlan-eval %s: exit code %d (expected %d), output (must contain "
			 "'%s'):\n%s",
			args, got, code, part, out);
	free(out);
}

/* Three pictures and six texts; the dot products are easy to follow by hand. */
static const float images[] = {1, 0, 0, 1, -1, 0};
static const float texts[] = {2, 0.1f, /* of 0: found first */
	0, 3,			       /* of 1: found first */
	0.9f, 1,		       /* of 0: second after picture 1 */
	-5, 1,			       /* of 2: found first */
	0.1f, -1,		       /* of 1: last */
	-1, -0.1f};		       /* of 2: found first */

static void foreign_features(void **state)
{
	char path[512];
	json_t *r, *i2t, *t2i;

	(void)state;
	write_npy("a.npy", images, 3, 2);
	write_npy("b.npy", texts, 6, 2);
	tmp_write(tmp_path(&dir, "pairs", path), "0 0\n1 1\n0 2\n2 3\n1 4\n2 5\n");
	expect(0, "image to text",
		"retrieval --images a.npy --texts b.npy --pairs pairs --out r.json");
	expect(0, "\"median_rank\": 1.0",
		"retrieval --images a.npy --texts b.npy --pairs pairs --json");
	r = wl_json_load(tmp_path(&dir, "r.json", path), &err);
	assert_non_null(r);
	i2t = json_object_get(r, "i2t");
	t2i = json_object_get(r, "t2i");
	assert_true(json_number_value(json_object_get(i2t, "r1")) == 100);
	assert_true(fabs(json_number_value(json_object_get(t2i, "r1")) - 400.0 / 6) < 1e-9);
	assert_true(json_number_value(json_object_get(t2i, "r5")) == 100);
	/* Ranks 1, 1, 2, 1, 3, 1. */
	assert_true(fabs(json_number_value(json_object_get(t2i, "mean_rank")) - 9.0 / 6) < 1e-9);
	assert_int_equal(json_integer_value(json_object_get(r, "images")), 3);
	assert_int_equal(json_integer_value(json_object_get(r, "texts")), 6);
	assert_true(fabs(json_number_value(json_object_get(r, "mean_recall")) -
			    (100 * 5 + 400.0 / 6) / 6) < 1e-9);
	json_decref(r);
}

static void what_does_not_fit_is_named(void **state)
{
	static const float nan[] = {1, NAN, 0, 1, -1, 0};
	char path[512];

	(void)state;
	write_npy("a.npy", images, 3, 2);
	write_npy("b.npy", texts, 6, 2);
	write_npy("c.npy", texts, 4, 3);
	write_npy("nan.npy", nan, 3, 2);
	tmp_write(tmp_path(&dir, "bad", path), "0 0\n1 x\n");
	tmp_write(tmp_path(&dir, "far", path), "0 0\n3 1\n");
	tmp_write(tmp_path(&dir, "none", path), "");
	expect(2, "needed", "retrieval");
	expect(2, "excludes", "retrieval --embeddings none --images a.npy");
	expect(2, "--pairs", "retrieval --images a.npy --texts b.npy");
	expect(2, "cosine or dot", "retrieval --images a.npy --texts b.npy --score l2");
	expect(2, "did you mean embeddings", "retrieval --embedings x");
	expect(2, "did you mean 'retrieval'", "retreival");
	expect(3, "line 2", "retrieval --images a.npy --texts b.npy --pairs bad");
	expect(3, "image 3", "retrieval --images a.npy --texts b.npy --pairs far");
	expect(3, "joins no image", "retrieval --images a.npy --texts b.npy --pairs none");
	expect(3, "2 dimensions and c.npy 3", "retrieval --images a.npy --texts c.npy");
	expect(3, "image 0 is not finite", "retrieval --images nan.npy --texts a.npy");
	expect(3, "NUMPY", "retrieval --images bad --texts a.npy");
	expect(3, "bad", "retrieval --embeddings bad");
	expect(2, "--run nowhere cannot be opened: there is no such file",
		"report --run nowhere --out r.html");
}

enum { N = 6, DIM = 4, CAPTIONS = 2 };

/* Embeddings of N pictures with two captions each, as wenlan-embed writes them; the model finds
 * everything but the pair of the last picture, which looks like the first. */
static void write_embeddings(const char *path)
{
	float im[N * DIM] = {0}, tx[N * CAPTIONS * DIM] = {0};
	int64_t ids[N], text_ids[N * CAPTIONS], text_image[N * CAPTIONS];
	const int64_t im_shape[2] = {N, DIM}, tx_shape[2] = {N * CAPTIONS, DIM};
	struct wl_safetensors_writer *w = wl_safetensors_create(path, &err);
	int h[5];

	for (int i = 0; i < N; i++) {
		double angle = i == N - 1 ? 0 : i;

		ids[i] = 1000 + i;
		im[i * DIM] = (float)cos(angle);
		im[i * DIM + 1] = (float)sin(angle);
		for (int c = 0; c < CAPTIONS; c++) {
			text_ids[i * CAPTIONS + c] = 1000 + i;
			text_image[i * CAPTIONS + c] = i;
			tx[(i * CAPTIONS + c) * DIM] = (float)cos(i + 0.01 * c);
			tx[(i * CAPTIONS + c) * DIM + 1] = (float)sin(i + 0.01 * c);
		}
	}
	assert_non_null(w);
	OK(h[0] = wl_safetensors_declare(w, "image_embeddings", WL_SAVED_F32, 2, im_shape, &err));
	OK(h[1] = wl_safetensors_declare(w, "text_embeddings", WL_SAVED_F32, 2, tx_shape, &err));
	OK(h[2] = wl_safetensors_declare(w, "image_ids", WL_SAVED_I64, 1, im_shape, &err));
	OK(h[3] = wl_safetensors_declare(w, "text_ids", WL_SAVED_I64, 1, tx_shape, &err));
	OK(h[4] = wl_safetensors_declare(w, "text_image", WL_SAVED_I64, 1, tx_shape, &err));
	OK(wl_safetensors_begin(w, &err));
	OK(wl_safetensors_write(w, h[0], im, sizeof im, &err));
	OK(wl_safetensors_write(w, h[1], tx, sizeof tx, &err));
	OK(wl_safetensors_write(w, h[2], ids, sizeof ids, &err));
	OK(wl_safetensors_write(w, h[3], text_ids, sizeof text_ids, &err));
	OK(wl_safetensors_write(w, h[4], text_image, sizeof text_image, &err));
	OK(wl_safetensors_finish(w, &err));
}

/* A shard set of one test shard with those pictures. */
static void write_shards(const char *path)
{
	struct wl_shard_writer *w = wl_shard_writer_new(path, "test", 0, "", &err);
	struct wl_shard_info info;
	json_t *meta = json_object();

	assert_non_null(w);
	for (int i = 0; i < N; i++) {
		uint8_t pixels[20 * 30 * 3];
		struct wl_image im = {.width = 30, .height = 20, .channels = 3, .data = pixels};
		char first[40], second[40];
		const char *captions[CAPTIONS] = {first, second};
		struct wl_sample_facts f = {.pair_id = 1000 + i,
			.source = "t",
			.width = 30,
			.height = 20,
			.topic = -1,
			.captions = captions,
			.n_captions = CAPTIONS};
		struct wl_sample s = {.txt = first,
			.pair_id = 1000 + i,
			.topic = -1,
			.width = 30,
			.height = 20,
			.source = "t",
			.url = ""};
		struct wl_buf jpg;
		char *json;

		memset(pixels, 40 * i, sizeof pixels);
		snprintf(first, sizeof first, "第%d张<图>", i);
		snprintf(second, sizeof second, "另一句%d", i);
		wl_buf_init(&jpg, 1 << 20);
		OK(wl_image_encode_jpeg(&im, 90, &jpg, &err));
		json = wl_sample_json(&f, &err);
		assert_non_null(json);
		s.jpg = jpg.data;
		s.jpg_len = jpg.len;
		s.json = json;
		OK(wl_shard_writer_add(w, &s, &err));
		wl_buf_release(&jpg);
		free(json);
	}
	wl_shard_writer_finish(w);
	OK(wl_shard_writer_wait(w, &info, &err));
	wl_shard_writer_free(w);
	OK(wl_manifest_write(path, &info, 1, meta, &err));
	json_decref(meta);
}

static size_t count(const char *text, const char *part)
{
	size_t n = 0;

	for (; (text = strstr(text, part)); text += strlen(part))
		n++;
	return n;
}

static void report_shows_all(void **state)
{
	char path[512], *page;

	(void)state;
	assert_int_equal(tmp_run(NULL, "mkdir %s/run %s/shards", dir.path, dir.path), 0);
	write_embeddings(tmp_path(&dir, "e.safetensors", path));
	write_shards(tmp_path(&dir, "shards", path));
	tmp_write(tmp_path(&dir, "run/metrics.jsonl", path),
		"{\"step\":1,\"loss\":3.5,\"loss_i2t\":1.5,\"lr\":0.1}\n"
		"{\"step\":2,\"loss\":null,\"loss_i2t\":1.4,\"lr\":0.1}\n"
		"{\"step\":3,\"loss\":2.5,\"loss_i2t\":1.2,\"lr\":0.1,"
		"\"val\":{\"i2t\":{\"r1\":10,\"r5\":20,\"r10\":30},\"t2i\":{\"r1\":11}}}\n");
	expect(0, "83.33", "retrieval --embeddings e.safetensors");
	expect(0, "report: r.html",
		"report --run run --shards shards --embeddings e.safetensors "
		"--out r.html --examples 6 --top 3");
	page = tmp_read(tmp_path(&dir, "r.html", path), NULL);
	assert_non_null(strstr(page, "Split test: 6 pictures, 12 texts"));
	/* R@K over K; loss, R@K, learning rate; no chart where there are no numbers. */
	assert_int_equal(count(page, "<svg"), 4);
	/* Six texts with three pictures each, and six pictures. */
	assert_int_equal(count(page, "data:image/jpeg"), 6 * 3 + 6);
	assert_non_null(strstr(page, "第0张&lt;图&gt;"));
	assert_non_null(strstr(page, "另一句3"));
	assert_true(count(page, "its picture") >= 5);
	assert_non_null(strstr(page, "<td>test</td><td class=\"n\">1</td><td class=\"n\">6</td>"));
	free(page);
}

/* Our rows in the tables that they were measured for, Markdown and JSON beside the page, two runs
 * compared, runs that cannot be. */
static void report_tables_and_comparison(void **state)
{
	char path[512], *text;
	json_t *o, *rows;

	(void)state;
	assert_int_equal(tmp_run(NULL, "mkdir %s/a %s/b", dir.path, dir.path), 0);
	write_embeddings(tmp_path(&dir, "e.safetensors", path));
	tmp_write(tmp_path(&dir, "a/retrieval-test.json", path),
		"{\"protocol\":\"wenlan\",\"i2t\":"
		"{\"r1\":1,\"r5\":2,\"r10\":3},\"t2i\":{\"r1\":4,\"r5\":5,\"r10\":6},"
		"\"mean_recall\":3.5}");
	tmp_write(tmp_path(&dir, "a/ranking-i2t.json", path),
		"{\"exponential\":{\"ndcg@5\":0.111,"
		"\"ndcg@10\":0.222,\"ndcg@20\":0.333},\"map\":0.444}");
	tmp_write(tmp_path(&dir, "a/ranking-t2i.json", path),
		"{\"exponential\":{\"ndcg@5\":0.555,"
		"\"ndcg@10\":0.666,\"ndcg@20\":0.777},\"map\":0.888}");
	tmp_write(tmp_path(&dir, "c.json", path),
		"{\"level\":\"aic\",\"Bleu_4\":0.5,\"METEOR\":0.4,"
		"\"ROUGE_L\":0.6,\"CIDEr\":1.5}");
	expect(0, "report: r.html",
		"report a b --embeddings e.safetensors --embeddings e.safetensors"
		" --results c.json --out r.html --bootstrap 200");
	text = tmp_read(tmp_path(&dir, "r.md", path), NULL);
	assert_non_null(
		strstr(text, "| this project: a | 1.0 | 2.0 | 3.0 | 4.0 | 5.0 | 6.0 | 3.5 |"));
	assert_non_null(strstr(text, "| BriVL (the paper) | 36.1 | 55.5 | 62.2 | 36.0 | 55.4 |"));
	assert_non_null(strstr(text,
		"| this project: a | 11.1 | 22.2 | 33.3 | 44.4 | 55.5 | 66.6 | 77.7 | 88.8 |"));
	assert_non_null(strstr(text, "| this project: c.json | 50.0 | 40.0 | 60.0 | 150.0 |"));
	assert_non_null(strstr(text, "Two runs compared"));
	assert_non_null(strstr(text, "Protocol: 11,000 pairs"));
	free(text);
	o = wl_json_load(tmp_path(&dir, "r.json", path), &err);
	assert_non_null(o);
	rows = json_object_get(json_array_get(json_object_get(o, "tables"), 2), "rows");
	assert_int_equal(json_array_size(rows), 4);
	assert_true(json_is_true(json_object_get(json_array_get(rows, 3), "ours")));
	assert_int_equal(json_array_size(json_object_get(o, "retrieval")), 2);
	json_decref(o);
	expect(3, "could not be compared",
		"report a --embeddings e.safetensors --protocol aic-icc"
		" --out r.html");
	expect(2, "3 files of embeddings for 2 runs",
		"report a b --embeddings e.safetensors --embeddings e.safetensors"
		" --embeddings e.safetensors --out r.html");
	expect(2, "needs a run", "report --out r.html");
}

static void report_without_parts(void **state)
{
	char path[512];

	(void)state;
	assert_int_equal(tmp_run(NULL, "mkdir %s/run", dir.path), 0);
	expect(0, "no curves", "report --run run --out r.html");
	tmp_write(
		tmp_path(&dir, "run/metrics.jsonl", path), "{\"step\":1,\"loss\":3}\nbroken\n{}\n");
	expect(3, "line 2", "report --run run --out r.html");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(foreign_features, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_does_not_fit_is_named, set_up, tear_down),
		cmocka_unit_test_setup_teardown(report_shows_all, set_up, tear_down),
		cmocka_unit_test_setup_teardown(report_tables_and_comparison, set_up, tear_down),
		cmocka_unit_test_setup_teardown(report_without_parts, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("eval", tests, NULL, NULL);
}

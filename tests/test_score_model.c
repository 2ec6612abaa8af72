/* wenlan-filter --score-model as a user runs it: the scores are the cosines that wenlan-embed gives
 * for the same pictures and texts; the lowest share is taken source by source; a cut-off file is
 * gone on with; a model that does not fit, and files of other models, are named. */
#include "clean/scores.h"
#include "ops/file.h"
#include "tests/support/cleaning.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_make.h"
#include "tests/support/shardset.h"
#include "ops/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAIRS = 41, BROKEN = 7, TEXTLESS = 9, NEWS = 10, DIM = 16 };

static struct wl_err err;
static struct tmp_dir tmp;
static int64_t ids[PAIRS];

static const char model[] =
	"{preset: small, dim: 16, image: {px: 64, width: 0.25, depth: 0.3, head: 32, grid: 2, "
	"regions: 5, attention: {layers: 1, heads: 2, ffn: 16}}, text: {hidden: 16, layers: 1, "
	"heads: 2, ffn: 32, positions: 16, length: 14, attention: {layers: 1, heads: 2, ffn: 16}}}";

/* Runs it in the scratch directory; the exit code must be `code`, its output contain `part`. */
#define EXPECT(code, part, ...)                                                                    \
	do {                                                                                       \
		char cmd_[2000], *out_;                                                            \
		int got_;                                                                          \
		snprintf(cmd_, sizeof(cmd_), __VA_ARGS__);                                         \
		got_ = tmp_run(                                                                    \
			&out_, "cd %s && OMP_NUM_THREADS=1 %s/%s", tmp.path, tmp_bin(), cmd_);     \
		if (got_ != (code) || !strstr(out_, part))                                         \
			fail_msg("%s: exit code %d, expected %d, with \"%s\":\n%s", cmd_, got_,    \
				(int)(code), part, out_);                                          \
		free(out_);                                                                        \
	} while (0)

static const char *text_of(int i, char out[64])
{
	snprintf(out, 64, "图片 %d，说法 %d", i, i % 3);
	return out;
}

/* Pair i has picture i, also as files/NNN.jpg; the first NEWS ones are news, others weibo. */
static void make_corpus(const char *dir)
{
	struct corpus_maker m;
	char path[512], name[64], text[64], texts[200];

	corpus_make_open(&m, dir, 2);
	OK(wl_mkdir_p(tmp_path(&tmp, "files", path), &err));
	for (int i = 0; i < PAIRS; i++) {
		struct wl_image im;
		struct wl_buf jpeg;
		draw_picture((uint64_t)i, 90, 70, &im);
		wl_buf_init(&jpeg, 1 << 20);
		OK(wl_image_encode_jpeg(&im, 90, &jpeg, &err));
		if (i == BROKEN)
			jpeg.len = 100;
		snprintf(texts, sizeof(texts), "[[\"title\",\"说\"],[\"caption\",\" %s\"]]",
			text_of(i, text));
		ids[i] = corpus_make_bytes(&m, i < NEWS ? "news" : "weibo",
			i == TEXTLESS ? "[]" : texts, "", jpeg.data, jpeg.len, 90, 70);
		snprintf(name, sizeof(name), "files/%03d.jpg", i);
		tmp_write_bytes(tmp_path(&tmp, name, path), jpeg.data, jpeg.len);
		wl_image_release(&im);
		wl_buf_release(&jpeg);
	}
	corpus_make_close(&m);
}

static int set_up(void **state)
{
	char shards[512], path[512];
	struct wl_toy_set set = {.dir = shards,
		.split = "train",
		.samples = 40,
		.per_shard = 16,
		.captions = 3,
		.bad_jpeg = -1,
		.bad_text = -1};

	(void)state;
	tmp = tmp_make();
	tmp_write(tmp_path(&tmp, "vocab.txt", path), wl_toy_words);
	OK(wl_mkdir_p(tmp_path(&tmp, "shards", shards), &err));
	wl_toy_set_write(&set);
	make_corpus(tmp_path(&tmp, "corpus", path));
	for (int seed = 1; seed <= 2; seed++)
		EXPECT(0, "",
			"wenlan-train --shards shards --data.vocab vocab.txt --run run%d "
			"--model '%s' --data.batch 8 --moco.queue 16 --max-steps 3 --epochs 9 "
			"--optim.warmup-steps 1 --seed %d --data.threads 1 --threads 1",
			seed, model, seed);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	tmp_remove(&tmp);
	return 0;
}

/* A tensor of one of wenlan-embed's files, and its rows. */
static const void *tensor(struct wl_safetensors *st, const char *name, int64_t *rows)
{
	const struct wl_saved_tensor *t = wl_safetensors_get(st, name, &err);

	if (!t)
		fail_msg("%s", err.msg);
	*rows = t->shape[0];
	return t->data;
}

/* What wenlan-embed says of pictures and texts in lists, as cosines; NAN for what is left out. */
static void cosines(double out[PAIRS])
{
	struct wl_safetensors *a, *b;
	const float *images, *texts;
	const int64_t *number;
	char path[512], text[64];
	int64_t n, n_texts;
	FILE *f = fopen(tmp_path(&tmp, "lines", path), "w");

	for (int i = 0; i < PAIRS; i++)
		fprintf(f, "%s\n", text_of(i, text));
	fclose(f);
	EXPECT(0, "left out",
		"wenlan-embed --ckpt run1 --images files --out images.st --threads 1");
	EXPECT(0, "", "wenlan-embed --ckpt run1 --texts lines --out texts.st --threads 1");
	a = wl_safetensors_open(tmp_path(&tmp, "images.st", path), &err);
	b = wl_safetensors_open(tmp_path(&tmp, "texts.st", path), &err);
	assert_true(a && b);
	images = tensor(a, "image_embeddings", &n);
	number = tensor(a, "image_ids", &n);
	texts = tensor(b, "text_embeddings", &n_texts);
	assert_int_equal(n, PAIRS - 1);
	assert_int_equal(n_texts, PAIRS);
	for (int i = 0; i < PAIRS; i++)
		out[i] = NAN;
	for (int64_t r = 0; r < n; r++) {
		double dot = 0;
		for (int k = 0; k < DIM; k++)
			dot += (double)images[r * DIM + k] * texts[number[r] * DIM + k];
		out[number[r]] = number[r] == TEXTLESS ? NAN : dot;
	}
	wl_safetensors_close(a);
	wl_safetensors_close(b);
}

static int by_value(const void *p, const void *q)
{
	double a = *(const double *)p, b = *(const double *)q;

	return (a > b) - (a < b);
}

static int64_t count(const char *sql)
{
	char path[512], *rows = stage_dump(tmp_path(&tmp, "corpus", path), "filter", sql);
	int64_t n = 0;

	for (const char *s = rows; *s; s++)
		n += *s == '\n';
	free(rows);
	return n;
}

/* Of 9 news (one is broken, one has no text: 8) the lowest quarter is 2, of 31 weibo 7; min takes
 * none of them away. */
static void scores_are_cosines(void **state)
{
	double want[PAIRS], got, news[NEWS], lowest;
	char path[512], *first, *again;
	struct wl_scores *s;
	size_t n = 0, len, len_again;

	(void)state;
	tmp_write(tmp_path(&tmp, "rules.yaml", path),
		"version: 1\ntext: {min_chars: 1}\nagreement: {drop_lowest: 0.25, min: -1}\n");
	EXPECT(0, "agreement-low",
		"wenlan-filter --corpus corpus --rules rules.yaml --threads 1 "
		"--score-model run1");
	cosines(want);
	s = wl_scores_load(tmp_path(&tmp, "corpus/agreement.csv", path), &err);
	assert_non_null(s);
	assert_int_equal(wl_scores_count(s), PAIRS - 2);
	for (int i = 0; i < PAIRS; i++) {
		bool there = wl_scores_get(s, ids[i], &got);
		assert_int_equal(there, isfinite(want[i]));
		if (there && fabs(got - want[i]) > 2e-6)
			fail_msg("pair %d: %.7f, expected %.7f", i, got, want[i]);
		if (there && i < NEWS)
			news[n++] = got;
	}
	wl_scores_free(s);
	qsort(news, n, sizeof(*news), by_value);
	lowest = news[2];
	assert_int_equal(n, 8);
	assert_int_equal(count("SELECT 1 FROM verdict WHERE reason = 'agreement-low'"), 2 + 7);
	for (int i = 0; i < NEWS; i++) {
		char sql[200];
		snprintf(sql, sizeof(sql),
			"SELECT 1 FROM verdict WHERE reason = 'agreement-low' AND "
			"pair_id = %lld",
			(long long)ids[i]);
		assert_int_equal(count(sql), isfinite(want[i]) && want[i] < lowest - 1e-6);
	}
	EXPECT(0, "nothing to do",
		"wenlan-filter --corpus corpus --rules rules.yaml --threads 1 "
		"--score-model run1");
	/* As a kill leaves it: the last line cut. */
	first = tmp_read(path, &len);
	assert_int_equal(truncate(path, (off_t)(len / 2 + 3)), 0);
	EXPECT(0, "were before",
		"wenlan-embed --ckpt run1 --corpus corpus --out corpus/agreement.csv "
		"--batch 5 --threads 1");
	again = tmp_read(path, &len_again);
	assert_int_equal(len, len_again);
	assert_memory_equal(first, again, len);
	free(first);
	free(again);
}

static void bounds_by_all_and_by_source(void **state)
{
	char path[512];

	(void)state;
	tmp_write(tmp_path(&tmp, "all.yaml", path),
		"version: 1\ntext: {min_chars: 1}\nagreement: {drop_lowest: 0.5, by: all}\n");
	EXPECT(0, "",
		"wenlan-filter --corpus corpus --rules all.yaml --score-model run1 --threads 1");
	assert_int_equal(count("SELECT 1 FROM verdict WHERE reason = 'agreement-low'"), 19);
	tmp_write(tmp_path(&tmp, "one.yaml", path), "version: 1\ntext: {min_chars: 1}\nsources: "
						    "{weibo: {agreement: {drop_lowest: 0.5}}, "
						    "news: {agreement: {missing: drop}}}\n");
	EXPECT(0, "",
		"wenlan-filter --corpus corpus --rules one.yaml --score-model run1 --threads 1");
	assert_int_equal(count("SELECT 1 FROM verdict WHERE reason = 'agreement-low'"), 15);
	assert_int_equal(count("SELECT 1 FROM verdict WHERE reason = 'agreement-missing'"), 2);
}

static void what_does_not_fit(void **state)
{
	char path[512], *bytes, *after;
	size_t n;

	(void)state;
	EXPECT(2, "--score-model", "wenlan-filter --corpus corpus --rules rules.yaml");
	EXPECT(2, "both given",
		"wenlan-filter --corpus corpus --rules rules.yaml --scores rules.yaml "
		"--score-model run1");
	EXPECT(4, "wenlan-embed ended with code 4",
		"wenlan-filter --corpus corpus --rules rules.yaml --score-model shards");
	/* Scores of another model are not gone on with; the filter begins anew. */
	EXPECT(2, "--replace",
		"wenlan-embed --ckpt run2 --corpus corpus --threads 1 "
		"--out corpus/agreement.csv");
	EXPECT(0, "(0 were before",
		"wenlan-filter --corpus corpus --rules rules.yaml --threads 1 "
		"--score-model run2");
	/* A damaged checkpoint: named, and the verdicts stay. */
	assert_int_equal(tmp_run(NULL,
				 "cd %s && cp -rL run2 run3 && printf x | dd conv=notrunc bs=1 "
				 "seek=2000 of=$(ls -d run3/ckpt-*/model.safetensors) 2>&1",
				 tmp.path),
		0);
	bytes = tmp_read(tmp_path(&tmp, "corpus/corpus.json", path), &n);
	EXPECT(4, "model.safetensors",
		"wenlan-filter --corpus corpus --rules rules.yaml "
		"--score-model run3");
	after = tmp_read(path, &n);
	assert_string_equal(bytes, after);
	free(after);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scores_are_cosines),
		cmocka_unit_test(bounds_by_all_and_by_source),
		cmocka_unit_test(what_does_not_fit),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}

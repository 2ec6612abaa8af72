/*
 * wenlan-train and wenlan-embed as a user runs them: killed at random moments and run again they
 * end with the same model and the same lines of metrics; a stop by signal is clean; a damaged
 * checkpoint is refused; embeddings come out of the checkpoint alone.
 */
#include "tests/support/cm.h"
#include "tests/support/shardset.h"
#include "tests/support/tmp.h"
#include "tests/support/trainrig.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/metrics.h"
#include "train/checkpoint/ckpt.h"
#include "ops/safetensors.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SAMPLES = RIG_SAMPLES, STEPS = 20 };

static struct wl_err err;
static struct train_rig rig;

static int make_data(void **state)
{
	(void)state;
	return rig_make(&rig);
}

static int drop_data(void **state)
{
	(void)state;
	return rig_remove(&rig);
}

static pid_t train(const char *run)
{
	char dir[96];
	const char *argv[] = {"wenlan-train", "--shards", rig.shards, "--data.vocab", rig.vocab,
		"--run", dir, "--model", rig_model, "--data.batch", "8", "--moco.queue", "16",
		"--max-steps", "20", "--epochs", "50", "--optim.warmup-steps", "4", "--ckpt.every",
		"3", "--ckpt.keep", "1", "--val.every", "10", "--data.val-split", "train",
		"--data.threads", "1", "--threads", "1", NULL};

	snprintf(dir, sizeof dir, "%s/%s", rig.root, run);
	return rig_start(&rig, "wenlan-train", argv);
}

static void train_to_end(const char *run)
{
	int code = rig_finish(train(run));

	if (code)
		fail_msg("exit code %d: %s", code, rig_log(&rig));
}

static void same_as(const char *straight, const char *other)
{
	json_t *a = rig_metrics(&rig, straight), *b = rig_metrics(&rig, other);

	assert_int_equal(json_array_size(a), STEPS);
	if (!json_equal(a, b))
		fail_msg("metrics differ:\n%s\n%s", json_dumps(a, 0), json_dumps(b, 0));
	json_decref(a);
	json_decref(b);
	a = rig_files(&rig, straight, STEPS);
	b = rig_files(&rig, other, STEPS);
	if (!json_equal(a, b))
		fail_msg("checkpoints differ:\n%s\n%s", json_dumps(a, 0), json_dumps(b, 0));
	json_decref(a);
	json_decref(b);
}

static void page_says(const char *name, const char *part)
{
	char path[128];
	struct wl_buf b;

	snprintf(path, sizeof path, "%s/straight/%s", rig.root, name);
	wl_buf_init(&b, 1 << 22);
	OK(wl_read_file(path, &b, &err));
	assert_non_null(strstr(wl_buf_str(&b), part));
	wl_buf_release(&b);
}

static void straight_run_leaves_metrics_and_checkpoint(void **state)
{
	json_t *lines, *first, *val;

	(void)state;
	train_to_end("straight");
	lines = rig_metrics(&rig, "straight");
	assert_int_equal(json_array_size(lines), STEPS);
	first = json_array_get(lines, 0);
	assert_int_equal(json_integer_value(json_object_get(first, "step")), 1);
	assert_true(json_number_value(json_object_get(first, "loss")) > 0);
	val = json_object_get(json_array_get(lines, 9), "val");
	assert_int_equal(json_integer_value(json_object_get(val, "images")), SAMPLES);
	assert_true(json_integer_value(json_object_get(val, "texts")) > SAMPLES);
	json_decref(lines);
	page_says("report.html", "<svg");
	page_says("report.html", "Validation");
	page_says("report.html", "Step 20 of 20");
	page_says("metrics.prom", "wenlan_train_loss");
	/* Finished: the same command does nothing more. */
	train_to_end("straight");
	lines = rig_metrics(&rig, "straight");
	assert_int_equal(json_array_size(lines), STEPS);
	json_decref(lines);
}

/* Killed where it stands behind a line, more of them each time so that it ends; every other time it
 * goes on for a random while before. */
static void killed_runs_end_the_same(void **state)
{
	int kills = 0, code = -1;

	(void)state;
	for (int round = 0; code != 0; round++) {
		pid_t pid;

		assert_true(round <= STEPS);
		rig_halt_after(&rig, 1 + round + (int)(wl_rand_unit(9, 0, (uint64_t)round) * 4));
		pid = train("killed");
		if (rig_halted(&rig, pid) && round % 2) {
			kill(pid, SIGCONT);
			usleep((useconds_t)(wl_rand_unit(9, 1, (uint64_t)round) * 50000));
		}
		kill(pid, SIGKILL);
		code = rig_finish(pid);
		if (code != 0 && code != -SIGKILL)
			fail_msg("exit code %d: %s", code, rig_log(&rig));
		kills += code != 0;
	}
	rig_halt_after(&rig, 0);
	assert_true(kills >= 4);
	same_as("straight", "killed");
}

/* The signal comes in the middle of the run: it ends after a step, not at its end. */
static void stopped_runs_end_the_same(void **state)
{
	json_t *lines;
	pid_t pid;

	(void)state;
	rig_halt_after(&rig, 5);
	pid = train("stopped");
	assert_int_equal(rig_halted(&rig, pid), pid);
	kill(pid, SIGTERM);
	kill(pid, SIGCONT);
	assert_int_equal(rig_finish(pid), WL_ERETRY);
	assert_non_null(strstr(rig_log(&rig), "the same command"));
	lines = rig_metrics(&rig, "stopped");
	assert_int_equal(json_array_size(lines), 5);
	json_decref(lines);
	train_to_end("stopped");
	same_as("straight", "stopped");
}

/* Runs wenlan-embed on the straight run with one kind of input. */
static struct wl_safetensors *embed(const char *option, const char *value, const char *more)
{
	char ckpt[96], out[96];
	const char *argv[] = {"wenlan-embed", "--ckpt", ckpt, "--out", out, "--batch", "7",
		option, value, more ? "--split" : NULL, more, NULL};
	struct wl_safetensors *st;
	int code;

	snprintf(ckpt, sizeof ckpt, "%s/straight", rig.root);
	snprintf(out, sizeof out, "%s/out.safetensors", rig.root);
	code = rig_finish(rig_start(&rig, "wenlan-embed", argv));
	if (code)
		fail_msg("exit code %d: %s", code, rig_log(&rig));
	st = wl_safetensors_open(out, &err);
	if (!st)
		fail_msg("%s", err.msg);
	return st;
}

static float *rows(struct wl_safetensors *st, const char *name, int64_t *n)
{
	const struct wl_saved_tensor *t = wl_safetensors_get(st, name, &err);
	float *v;

	if (!t)
		fail_msg("%s", err.msg);
	*n = t->shape[0];
	v = malloc((size_t)t->count * sizeof *v + 1);
	assert_non_null(v);
	OK(wl_saved_to_f32(t, v, &err));
	return v;
}

static void embeddings_come_from_the_checkpoint_alone(void **state)
{
	struct wl_safetensors *st = embed("--shards", rig.shards, "train");
	int64_t n, m, k, i, j;
	float *images = rows(st, "image_embeddings", &n), *texts = rows(st, "text_embeddings", &m);
	float *of = rows(st, "text_image", &k), *ids = rows(st, "image_ids", &i), *alone;
	char path[96], jpg[128];
	struct wl_image im;
	struct wl_buf b;
	double sum, worst = 0;

	(void)state;
	assert_int_equal(n, SAMPLES);
	assert_int_equal(i, SAMPLES);
	assert_int_equal(m, k);
	for (i = 0; i < n; i++) {
		sum = 0;
		for (j = 0; j < 16; j++)
			sum += (double)images[i * 16 + j] * images[i * 16 + j];
		assert_true(fabs(sum - 1) < 1e-5);
		assert_true(ids[i] >= 1000 && ids[i] < 1000 + SAMPLES);
	}
	assert_true(of[0] == 0 && of[m - 1] == SAMPLES - 1);
	wl_safetensors_close(st);

	/* The first sample's first caption as a line of a file: the same vector. */
	snprintf(path, sizeof path, "%s/lines.txt", rig.root);
	char line[] = "图片 0，说法 0\n图片 1，说法 0\n别的";
	OK(wl_write_file(path, line, strlen(line), &err));
	st = embed("--texts", path, NULL);
	alone = rows(st, "text_embeddings", &k);
	assert_int_equal(k, 3);
	for (j = 0; j < 16; j++)
		worst = fmax(worst, fabs((double)alone[j] - texts[j]));
	if (worst > 1e-5)
		fail_msg("the same text differs by %g", worst);
	wl_safetensors_close(st);
	free(alone);

	/* Its picture from a directory, beside a file that is none. */
	snprintf(path, sizeof path, "%s/pictures", rig.root);
	OK(wl_mkdir_p(path, &err));
	snprintf(jpg, sizeof jpg, "%s/b.jpg", path);
	wl_toy_picture(1, &im); /* 0 and every third have boxes: another view than the grid */
	wl_buf_init(&b, 1 << 20);
	OK(wl_image_encode_jpeg(&im, 90, &b, &err));
	OK(wl_write_file(jpg, b.data, b.len, &err));
	snprintf(jpg, sizeof jpg, "%s/a.jpg", path);
	OK(wl_write_file(jpg, b.data, 40, &err));
	st = embed("--images", path, NULL);
	alone = rows(st, "image_embeddings", &k);
	assert_int_equal(k, 1);
	assert_non_null(strstr(rig_log(&rig), "a.jpg"));
	for (worst = 0, j = 0; j < 16; j++)
		worst = fmax(worst, fabs((double)alone[j] - images[16 + j]));
	if (worst > 1e-4)
		fail_msg("the same picture differs by %g", worst);
	wl_safetensors_close(st);
	wl_image_release(&im);
	wl_buf_release(&b);
	free(alone);
	free(images);
	free(texts);
	free(of);
	free(ids);
}

/* A program on the straight run with these arguments; their list ends with NULL. */
static void expect_of(const char *program, int want, const char *part, const char *const *more)
{
	char ckpt[96];
	const char *argv[32] = {program};
	int code, n = 1;

	snprintf(ckpt, sizeof ckpt, "%s/straight", rig.root);
	for (; *more; more++)
		argv[n++] = strcmp(*more, "CKPT") ? *more : ckpt;
	code = rig_finish(rig_start(&rig, program, argv));
	if (code != want || !strstr(rig_log(&rig), part))
		fail_msg("exit code %d, expected %d with \"%s\" in: %s", code, want, part,
			rig_log(&rig));
}

static void files_without_texts_are_refused(void **state)
{
	char texts[96], out[96];

	(void)state;
	snprintf(texts, sizeof texts, "%s/empty.txt", rig.root);
	snprintf(out, sizeof out, "%s/none.safetensors", rig.root);
	OK(wl_write_file(texts, "", 0, &err));
	expect_of("wenlan-embed", WL_EDATA, "is empty: at least one line",
		(const char *[]){"--ckpt", "CKPT", "--texts", texts, "--out", out, NULL});
	assert_false(wl_exists(out));
	OK(wl_write_file(texts, "\n\xff\nx\n\xfe\xfe\n", 8, &err));
	expect_of("wenlan-embed", 0, "line 2 and 1 more are not UTF-8",
		(const char *[]){"--ckpt", "CKPT", "--texts", texts, "--out", out, NULL});
	assert_true(wl_exists(out));
}

static void labels_are_embedded_by_the_checkpoint(void **state)
{
	struct wl_safetensors *st = embed("--shards", rig.shards, "train");
	char images[96], labels[96], truth[96];
	const char *names = "图片\n别的\n", *line = "{\"image_id\": 1000, \"labels\": [\"图片\"]}\n";

	(void)state;
	wl_safetensors_close(st);
	snprintf(images, sizeof images, "%s/out.safetensors", rig.root);
	snprintf(labels, sizeof labels, "%s/labels.txt", rig.root);
	snprintf(truth, sizeof truth, "%s/truth.jsonl", rig.root);
	OK(wl_write_file(labels, names, strlen(names), &err));
	OK(wl_write_file(truth, line, strlen(line), &err));
	expect_of("wenlan-eval", 0, "mAP",
		(const char *[]){"classify", "--images", images, "--labels", labels, "--truth",
			truth, "--ckpt", "CKPT", NULL});
	expect_of("wenlan-eval", WL_EUSAGE, "expected auto, cpu or cuda",
		(const char *[]){"classify", "--images", images, "--labels", labels, "--truth",
			truth, "--ckpt", "CKPT", "--device", "none", NULL});
}

static void other_vocabulary_is_refused(void **state)
{
	char old[96], other[96];
	int code;

	(void)state;
	snprintf(other, sizeof other, "%s/other.txt", rig.root);
	OK(wl_write_file(other, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n图\n", 28, &err));
	memcpy(old, rig.vocab, sizeof old);
	memcpy(rig.vocab, other, sizeof other);
	code = rig_finish(train("straight"));
	memcpy(rig.vocab, old, sizeof old);
	if (code != WL_EUSAGE || !strstr(rig_log(&rig), "is not the vocabulary"))
		fail_msg("exit code %d: %s", code, rig_log(&rig));
}

static void damaged_checkpoint_is_refused(void **state)
{
	char path[128];
	int fd, code;

	(void)state;
	snprintf(path, sizeof path, "%s/straight/ckpt-%08d/model.safetensors", rig.root, STEPS);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "\x01", 1, 20000), 1);
	close(fd);
	code = rig_finish(train("straight"));
	if (code != WL_ECKPT || !strstr(rig_log(&rig), "SHA-256"))
		fail_msg("exit code %d: %s", code, rig_log(&rig));
}

/* wenlan-train on the rig's data with these options; their list ends with NULL. */
static int train_with(const char *run, const char *const *more)
{
	char dir[96];
	const char *argv[64] = {"wenlan-train", "--shards", rig.shards, "--data.vocab", rig.vocab,
		"--run", dir, "--model", rig_model, "--data.batch", "8", "--moco.queue", "16",
		"--max-steps", "12", "--epochs", "50", "--optim.warmup-steps", "4", "--val.every",
		"-1", "--data.threads", "1", "--threads", "1"};
	int n = 0;

	while (argv[n])
		n++;
	while ((argv[n++] = *more++))
		assert_true(n < 63);
	snprintf(dir, sizeof dir, "%s/%s", rig.root, run);
	return rig_finish(rig_start(&rig, "wenlan-train", argv));
}

/* A rate that makes everything infinite: skipped steps, then exit code 5, each with its line. */
static void divergence_ends_the_run(void **state)
{
	static const char *const more[] = {"--optim.lr", "1e30", "--optim.clip-norm", "0",
		"--optim.max-bad-steps", "3", NULL};
	int code = train_with("diverged", more);
	json_t *lines = rig_metrics(&rig, "diverged"), *line;
	size_t i, n = json_array_size(lines);

	(void)state;
	if (code != WL_ENUMERIC || !strstr(rig_log(&rig), "training diverged"))
		fail_msg("exit code %d: %s", code, rig_log(&rig));
	assert_true(n >= 4 && n < 12);
	json_array_foreach(lines, i, line) {
		const char *said = json_string_value(json_object_get(line, "skipped"));

		if (i >= n - 3 ? !said || strcmp(said, "nonfinite") : said != NULL)
			fail_msg("line %zu says %s", i, said ? said : "nothing");
	}
	json_decref(lines);
}

/* fp16 with a scale that overflows: the skipped steps are in the metrics, the scale goes on in a
 * second part of the run. */
static void fp16_runs_and_goes_on(void **state)
{
	static const char *const first[] = {"--precision", "fp16", "--optim.loss-scale", "1e9",
		"--device", "cpu", "--max-steps", "20", "--ckpt.every", "9", NULL};
	static const char *const half[] = {"--precision", "fp16", "--optim.loss-scale", "1e9",
		"--device", "cpu", "--max-steps", "9", NULL};
	json_t *lines, *line;
	double scale = 1e9;
	size_t i;
	int code;

	(void)state;
	for (int part = 0; part < 3; part++) {
		code = train_with(part ? "fp16-two" : "fp16", part == 1 ? half : first);
		if (code)
			fail_msg("exit code %d: %s", code, rig_log(&rig));
	}
	for (int k = 0; k < 2; k++, scale = 1e9) {
		lines = rig_metrics(&rig, k ? "fp16-two" : "fp16");
		assert_int_equal(json_array_size(lines), 20);
		json_array_foreach(lines, i, line) {
			const json_t *skipped = json_object_get(line, "skipped");
			double at = json_number_value(json_object_get(line, "loss_scale"));

			if (at != scale)
				fail_msg("%d, line %zu: the scale is %g, expected %g", k, i, at,
					scale);
			scale *= skipped ? 0.5 : 1;
			assert_int_equal(skipped != NULL, json_is_null(json_object_get(line,
				"grad_norm")));
		}
		assert_true(scale < 1e9 && scale > 1);
		json_decref(lines);
	}
}

/* A pickle that calls a program, a header that promises more than there is: 4, and nothing runs. */
static void hostile_weights_are_refused(void **state)
{
	static const char call[] = "\x80\x02}(X\x01\0\0\0acposix\nsystem\nX\x05\0\0\0false\x85Ru.";
	static const char cut[] = "\xff\xff\0\0\0\0\0\0{}";
	static const struct {
		const char *bytes;
		size_t n;
		const char *says;
	} files[] = {{call, sizeof call - 1, "posix system"}, {cut, sizeof cut - 1, "cut short"}};
	char path[96], run[96];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		const char *const more[] = {"--init", path, NULL};
		int code;

		snprintf(path, sizeof path, "%s/hostile-%zu", rig.root, i);
		OK(wl_write_file(path, files[i].bytes, files[i].n, &err));
		code = train_with("hostile", more);
		if (code != WL_ECKPT || !strstr(rig_log(&rig), files[i].says))
			fail_msg("exit code %d: %s", code, rig_log(&rig));
	}
	snprintf(run, sizeof run, "%s/hostile/latest", rig.root);
	assert_false(wl_exists(run));
}

static void wrong_settings_are_named(void **state)
{
	char dir[96];
	const char *argv[] = {"wenlan-train", "--shards", rig.shards, "--data.vocab", rig.vocab,
		"--run", dir, "--optim.lrr", "1", NULL};
	int code;

	(void)state;
	snprintf(dir, sizeof dir, "%s/none", rig.root);
	code = rig_finish(rig_start(&rig, "wenlan-train", argv));
	if (code != WL_EUSAGE || !strstr(rig_log(&rig), "optim.lr"))
		fail_msg("exit code %d: %s", code, rig_log(&rig));
	argv[7] = "--device";
	argv[8] = "cuda";
	code = rig_finish(rig_start(&rig, "wenlan-train", argv));
	if (code != WL_EUSAGE || (!strstr(rig_log(&rig), "no CUDA backend") &&
					 !strstr(rig_log(&rig), "has no GPU")))
		fail_msg("exit code %d: %s", code, rig_log(&rig));
	assert_false(wl_exists(dir));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(straight_run_leaves_metrics_and_checkpoint),
		cmocka_unit_test(killed_runs_end_the_same),
		cmocka_unit_test(stopped_runs_end_the_same),
		cmocka_unit_test(embeddings_come_from_the_checkpoint_alone),
		cmocka_unit_test(files_without_texts_are_refused),
		cmocka_unit_test(labels_are_embedded_by_the_checkpoint),
		cmocka_unit_test(other_vocabulary_is_refused),
		cmocka_unit_test(damaged_checkpoint_is_refused),
		cmocka_unit_test(divergence_ends_the_run),
		cmocka_unit_test(fp16_runs_and_goes_on),
		cmocka_unit_test(hostile_weights_are_refused),
		cmocka_unit_test(wrong_settings_are_named),
	};

	return cmocka_run_group_tests(tests, make_data, drop_data);
}

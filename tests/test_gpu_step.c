/*
 * Steps that the device judges (train/judged.h) against those that the host judges, on the
 * processor: what counts, what is skipped and what that leaves behind, clipping, spikes,
 * checkpoints in the middle; and that nobody waits between two steps (fp16's scale:
 * test_gpu_scale.c).  The kernels run emulated (tests/support/emulated.h), under `make test-gpu` on
 * the GPU.
 */
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/emulation.h"
#include "tests/support/gpu_course.h"
#include "train/checkpoint/ckpt.h"
#include "train/snapshot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static void clipped_steps_are_the_processors(void **state)
{
	struct wl_train_config c = tiny_config(2e-3);
	struct course gpu;
	int clipped = 0;

	(void)state;
	NEEDS_DEVICE;
	for (int kind = 0; kind < 3; kind++) {
		c = tiny_config(2e-3);
		c.optim.clip_norm = kind == 2 ? 0 : 1;
		c.moco.accumulate = kind == 1 ? 2 : 1;
		c.objective = kind == 2 ? "clip" : "moco";
		OK(wl_train_config_check(&c, &err));
		course_compare(&c, 10, -9, 0, 1e-5, &gpu);
		for (int i = 0; i < 10; i++) {
			assert_int_equal(gpu.said[i].verdict, WL_GUARD_OK);
			clipped += kind < 2 && gpu.said[i].grad_norm > 1;
		}
		course_release(&gpu);
	}
	assert_true(clipped > 10);
}

/* Two steps in a row whose pictures have a NaN: they leave nothing behind, in no weight, moment,
 * running statistic, queue or counter, and training goes on as if they had not been. */
static void a_nan_leaves_nothing_behind(void **state)
{
	struct wl_train_config c = tiny_config(2e-3);
	struct course gpu;

	(void)state;
	NEEDS_DEVICE;
	for (int clip = 0; clip < 2; clip++) {
		c.objective = clip ? "clip" : "moco";
		c.max_bad_steps = 3;
		OK(wl_train_config_check(&c, &err));
		course_compare(&c, 12, 5, INFINITY, 1e-5, &gpu);
		for (int i = 0; i < 12; i++)
			assert_int_equal(gpu.said[i].verdict,
				i == 5 || i == 6 ? WL_GUARD_NONFINITE : WL_GUARD_OK);
		assert_non_null(gpu.said[5].blame);
		assert_int_equal(gpu.updates, 10);
		for (int64_t i = 0; i < gpu.floats; i++)
			assert_true(isfinite(gpu.value[i]));
		course_release(&gpu);
	}
}

/* A norm far above a full window of recent ones. */
static void spikes_are_skipped(void **state)
{
	struct wl_train_config c = tiny_config(1e-4);
	struct course now[2];

	(void)state;
	NEEDS_DEVICE;
	c.spike_z = 4;
	for (int gpu = 0; gpu < 2; gpu++) {
		struct tiny_rig r;

		now[gpu] = (struct course){0};
		tiny_rig_open(&r, &c, course_device(gpu), 100);
		r.t.guard.seen = WL_GUARD_WINDOW;
		for (int i = 0; i < WL_GUARD_WINDOW; i++)
			r.t.guard.window[i] = 0.01 + 1e-5 * i; /* any real norm is a spike */
		wl_trainer_start(&r.t);
		course_steps(&r, 3, -9, 0, &now[gpu]);
		course_look(&r, &now[gpu]);
		tiny_rig_close(&r);
	}
	course_same(&now[1], &now[0], 1e-5);
	assert_int_equal(now[1].said[1].verdict, WL_GUARD_SPIKE);
	assert_int_equal(now[1].guard.spikes, 3);
	assert_int_equal(now[1].updates, 0);
	assert_int_equal(now[1].next[0], 0); /* 24 keys of 3 batches of 8: they did enter */
	assert_true(now[1].queue[0][0] != 0);
	course_release(&now[0]);
	course_release(&now[1]);
}

/* What was asked for, what is free, and the options that need less. */
static void memory_that_is_not_there_is_named(void **state)
{
	static const char *const words[] = {"1048576.00 GiB of tensors", "GiB are free",
		"--data.batch", "--data.accumulate", "--recompute", "--optim.state bf16",
		"--dist.zero 3", "--dry-run"};
	struct wl_err why = WL_ERR_INIT;
	struct wl_backend *be;

	(void)state;
	NEEDS_DEVICE;
	be = course_device(true);
	assert_null(be->alloc(be, (size_t)1 << 50, &why));
	assert_int_equal(why.code, WL_EFAIL);
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (!strstr(why.msg, words[i]))
			fail_msg("no \"%s\" in: %s", words[i], why.msg);
	wl_backend_close(be);
}

/* Too many in a row end the run, told late; the trainer says at which. */
static void bad_steps_in_a_row_end_the_run(void **state)
{
	struct wl_train_config c = tiny_config(2e-3);
	struct wl_step_report report;
	struct tiny_rig r;
	int ret = 0;

	(void)state;
	NEEDS_DEVICE;
	c.max_bad_steps = 2;
	tiny_rig_open(&r, &c, course_device(true), 100);
	while (ret == 0) {
		assert_true(r.t.step < 12);
		OK(wl_trainer_give(&r.t, course_batch(r.t.step, 5, INFINITY), &err));
		while (ret == 0 && wl_trainer_untaken(&r.t) > wl_trainer_late(&r.t))
			ret = wl_trainer_take(&r.t, &report, &err);
	}
	assert_int_equal(err.code, WL_ENUMERIC);
	assert_non_null(strstr(err.msg, "up to step 6 "));
	assert_int_equal(report.step, 7);
	assert_int_equal(r.t.step, 9);
	tiny_rig_close(&r);
}

/* A checkpoint while steps are under way: another trainer goes on from it to the same bits. */
static void checkpoints_wait(void **state)
{
	struct wl_train_config c = tiny_config(2e-3);
	char run_dir[] = "/tmp/wl-gpu-step-XXXXXX", *dir;
	struct course straight, resumed = {0};
	struct wl_step_report unused;
	struct tiny_rig r;
	json_t *found;

	(void)state;
	NEEDS_DEVICE;
	assert_non_null(mkdtemp(run_dir));
	course_run(&c, true, 12, 5, INFINITY, &straight);
	tiny_rig_open(&r, &c, course_device(true), 100);
	while (r.t.step < 7) {
		OK(wl_trainer_give(&r.t, course_batch(r.t.step, 5, INFINITY), &err));
		if (wl_trainer_untaken(&r.t) > wl_trainer_late(&r.t))
			OK(wl_trainer_take(&r.t, &unused, &err));
	}
	assert_int_equal(wl_trainer_untaken(&r.t), WL_TRAINER_LATE);
	OK(wl_trainer_save(&r.t, run_dir, NULL, NULL, NULL, &err));
	assert_int_equal(r.t.optim.updates, 5);
	OK(wl_trainer_take(&r.t, &unused, &err)); /* what is untaken stays to be told */
	assert_int_equal(unused.verdict, WL_GUARD_NONFINITE);
	tiny_rig_close(&r);
	tiny_rig_open(&r, &c, course_device(true), 100);
	OK(wl_ckpt_load(run_dir, &dir, &found, &err));
	OK(wl_trainer_load(&r.t, dir, found, &err));
	json_decref(found);
	free(dir);
	resumed.n = 7;
	course_steps(&r, 12, 5, INFINITY, &resumed);
	course_look(&r, &resumed);
	tiny_rig_close(&r);
	for (int i = 7; i < 12; i++)
		assert_true(resumed.said[i].moco.loss == straight.said[i].moco.loss);
	assert_memory_equal(&resumed.guard, &straight.guard, sizeof resumed.guard);
	assert_memory_equal(resumed.value, straight.value, (size_t)straight.floats * 4);
	assert_memory_equal(resumed.momentum, straight.momentum, (size_t)straight.floats * 4);
	assert_memory_equal(resumed.queue[0], straight.queue[0], (size_t)straight.keys * 4);
	course_release(&straight);
	course_release(&resumed);
	OK(wl_remove_tree(run_dir, &err));
}

/* With work done only when somebody waits for it, steps come out to the same bits (so nothing that
 * the host gave was taken back too early), and between two steps no stream is waited for. */
static void nobody_waits_in_a_step(void **state)
{
	struct wl_train_config c = tiny_config(2e-3);
	struct course at_once, late = {0};
	struct tiny_rig r;
	int64_t waits;

	(void)state;
	NEEDS_DEVICE;
	if (!emulated_late)
		SKIP("late work needs the emulation");
	for (int kind = 0; kind < 3; kind++) {
		c.moco.record = kind == 1;
		c.objective = kind == 2 ? "clip" : "moco";
		OK(wl_train_config_check(&c, &err));
		course_run(&c, true, 18, 9, INFINITY, &at_once);
		tiny_rig_open(&r, &c, course_device(true), 100);
		emulated_late(true);
		memset(&late, 0, sizeof late);
		/* Pinned memory is taken, graphs are recorded. */
		course_steps(&r, 4, 9, INFINITY, &late);
		waits = emulated_waits();
		course_steps(&r, 18, 9, INFINITY, &late);
		assert_int_equal(emulated_waits() - waits, 0);
		course_look(&r, &late);
		emulated_late(false);
		tiny_rig_close(&r);
		for (int i = 0; i < 18; i++) {
			if (i != 9 && i != 10)
				assert_true(late.said[i].moco.loss == at_once.said[i].moco.loss);
			assert_int_equal(late.said[i].verdict, at_once.said[i].verdict);
		}
		assert_memory_equal(late.value, at_once.value, (size_t)late.floats * 4);
		course_release(&at_once);
		course_release(&late);
	}
}

/* --- checkpoints --- */

/* Copies given, and whether what is given now comes after them. */
static struct {
	void (*fetch)(struct wl_backend *be, void *host, const void *src, size_t bytes);
	void (*hold)(struct wl_backend *be);
	void (*adamw)(struct wl_backend *be, float *w, const float *grad, void *m, void *v,
		const struct wl_adamw_range *ranges, int n_ranges, const struct wl_adamw *how);
	int fetched, updated;
	bool held;
} watched;

static void fetch_watched(struct wl_backend *be, void *host, const void *src, size_t bytes)
{
	watched.fetched++;
	watched.held = false;
	watched.fetch(be, host, src, bytes);
}

static void hold_watched(struct wl_backend *be)
{
	watched.held = true;
	watched.hold(be);
}

static void adamw_watched(struct wl_backend *be, float *w, const float *grad, void *m, void *v,
	const struct wl_adamw_range *ranges, int n_ranges, const struct wl_adamw *how)
{
	assert_true(watched.held);
	watched.updated++;
	watched.adamw(be, w, grad, m, v, ranges, n_ranges, how);
}

static void watch_copies(struct wl_backend *be)
{
	watched.fetch = be->fetch;
	watched.hold = be->hold;
	watched.adamw = be->adamw;
	watched.fetched = watched.updated = 0;
	watched.held = true;
	be->fetch = fetch_watched;
	be->hold = hold_watched;
	be->adamw = adamw_watched;
}

static void same_files(const char *a, const char *b, const struct wl_names *names)
{
	for (size_t i = 0; i < names->n; i++) {
		char pa[160], pb[160];
		struct wl_buf x = {0}, y = {0};

		snprintf(pa, sizeof pa, "%s/%s", a, names->v[i]);
		snprintf(pb, sizeof pb, "%s/%s", b, names->v[i]);
		wl_buf_init(&x, SIZE_MAX);
		wl_buf_init(&y, SIZE_MAX);
		OK(wl_read_file(pa, &x, &err));
		OK(wl_read_file(pb, &y, &err));
		assert_int_equal(x.len, y.len);
		if (memcmp(x.data, y.data, x.len))
			fail_msg("%s and %s differ", pa, pb);
		wl_buf_release(&x);
		wl_buf_release(&y);
	}
}

/* What is copied when a step is done is what that step left, though further steps are given before
 * it is written, and for those nobody waits: their updates do, on the device. */
static void a_copy_leaves_the_device_beside_steps(void **state)
{
	char now[] = "/tmp/wl-now-XXXXXX", then[] = "/tmp/wl-then-XXXXXX";
	struct wl_train_config c = tiny_config(2e-3);
	struct wl_names first = {0}, names = {0};
	struct wl_snapshot at_once = {0}, late = {0};
	struct course said = {0};
	struct tiny_rig r;
	int64_t waits;

	(void)state;
	NEEDS_DEVICE;
	assert_true(mkdtemp(now) && mkdtemp(then));
	tiny_rig_open(&r, &c, course_device(true), 100);
	course_steps(&r, 4, -9, 0, &said);
	watch_copies(r.be);
	OK(wl_snapshot_reserve(&at_once, &r.t, &err));
	OK(wl_snapshot_take(&at_once, &r.t, true, NULL, &err));
	OK(wl_snapshot_write(&at_once, now, &first, &err));
	if (emulated_idle)
		emulated_idle(true);
	OK(wl_snapshot_take(&late, &r.t, true, NULL, &err));
	assert_true(watched.fetched >= 12); /* both stores, moments, queues, twice */
	waits = emulated_waits ? emulated_waits() : 0;
	for (int i = 0; i < 2; i++)
		OK(wl_trainer_give(&r.t, tiny_batch(r.t.step), &err));
	if (emulated_waits)
		assert_int_equal(emulated_waits() - waits, 0);
	assert_true(watched.updated >= 2);
	OK(wl_snapshot_write(&late, then, &names, &err));
	if (emulated_idle)
		emulated_idle(false);
	same_files(now, then, &first);
	wl_snapshot_release(&at_once);
	wl_snapshot_release(&late);
	wl_names_release(&first);
	wl_names_release(&names);
	while (wl_trainer_untaken(&r.t))
		OK(wl_trainer_take(&r.t, &said.said[0], &err));
	tiny_rig_close(&r);
	OK(wl_remove_tree(now, &err));
	OK(wl_remove_tree(then, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clipped_steps_are_the_processors),
		cmocka_unit_test(a_nan_leaves_nothing_behind),
		cmocka_unit_test(spikes_are_skipped),
		cmocka_unit_test(memory_that_is_not_there_is_named),
		cmocka_unit_test(bad_steps_in_a_row_end_the_run),
		cmocka_unit_test(checkpoints_wait),
		cmocka_unit_test(nobody_waits_in_a_step),
		cmocka_unit_test(a_copy_leaves_the_device_beside_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * fp16 on a GPU: the scale of its loss, that the device keeps (train/judged.h), is the processor's
 * step by step; ranks skip the same steps; and what is trained in fp16 follows fp32.  The kernels
 * run emulated (tests/support/emulated.h), under `make test-gpu` on the GPU.
 */
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/gpu_ranks.h"
#include "tests/support/scaler_same.h"
#include "train/checkpoint/ckpt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

/* A scale at which gradients overflow even f32: halved until they fit, doubled after four good
 * steps, step by step as on the processor.  (Not with CLIP, whose gradients pass through other
 * numbers there, near the edge of f32.) */
static void scales_are_the_processors(void **state)
{
	struct wl_train_config c = tiny_config(2e-3);
	struct course gpu;
	int overflows = 0;

	(void)state;
	NEEDS_DEVICE;
	for (int parts = 1; parts <= 2; parts++) {
		c = tiny_config(2e-3);
		c.optim.clip_norm = 1;
		c.moco.accumulate = parts;
		c.max_bad_steps = 2;
		OK(wl_train_config_check(&c, &err));
		c.moco.scaled = true;
		c.loss_scale = 0x1p127;
		c.loss_scale_interval = 4;
		course_compare(&c, 16, -9, 0, 2e-5, &gpu);
		for (int i = 0; i < 16; i++)
			overflows += gpu.said[i].verdict == WL_GUARD_OVERFLOW;
		assert_int_equal(gpu.said[0].verdict, WL_GUARD_OVERFLOW);
		assert_int_equal(gpu.said[15].verdict, WL_GUARD_OK);
		course_release(&gpu);
	}
	assert_true(overflows > 6);
}

/* Ranks judge by what all of them measured, each on its own device, and agree: the same steps are
 * skipped, whether the optimiser is shared out or not, as on the processor. */
static void ranks_skip_together(void **state)
{
	static struct gpu_ranks cpu, gpu;

	(void)state;
	NEEDS_RANKS;
	for (int zero = 0; zero <= 2; zero += 2) {
		int skipped = 0;

		cpu.config = tiny_config(2e-3);
		cpu.config.moco.scaled = true;
		cpu.config.loss_scale = 0x1p127;
		cpu.config.loss_scale_interval = 4;
		cpu.steps = 8;
		gpu = cpu;
		gpu.gpu = true;
		gpu_ranks_run(&cpu, 2, zero);
		gpu_ranks_run(&gpu, 2, zero);
		for (int i = 0; i < 8; i++) {
			course_same_number("loss", i, gpu.course.loss[i], cpu.course.loss[i], 2e-5);
			course_same_number("norm", i, gpu.course.norm[i], cpu.course.norm[i], 2e-4);
			course_same_number("tau", i, gpu.course.tau[i], cpu.course.tau[i], 2e-5);
			skipped += !isfinite(gpu.course.norm[i]);
		}
		assert_true(skipped > 0 && skipped < 6);
	}
}

/* Activations, their gradients and the operands of products in fp16 against f32 throughout. */
static void fp16_follows_fp32(void **state)
{
	struct wl_train_config c = tiny_config(2e-3), f = c;
	struct course half, full;
	double worst = 0;

	(void)state;
	NEEDS_DEVICE;
	c.precision = "fp16";
	OK(wl_train_config_check(&c, &err));
	c.loss_scale = 1024;
	for (int kind = 0; kind < 3; kind++) {
		c.moco.accumulate = f.moco.accumulate = kind == 1 ? 2 : 1;
		c.moco.recompute = kind == 1;
		c.objective = f.objective = kind == 2 ? "clip" : "moco";
		OK(wl_train_config_check(&c, &err));
		OK(wl_train_config_check(&f, &err));
		course_run(&c, true, 10, -9, 0, &half);
		course_run(&f, true, 10, -9, 0, &full);
		for (int i = 0; i < 10; i++) {
			const struct wl_step_report *a = &half.said[i], *b = &full.said[i];

			assert_int_equal(a->verdict, WL_GUARD_OK);
			assert_true(a->loss_scale == 1024 && b->loss_scale == 1);
			worst = fmax(worst, fabs(a->moco.loss / b->moco.loss - 1));
			worst = fmax(worst, fabs(a->grad_norm / b->grad_norm - 1));
		}
		course_release(&half);
		course_release(&full);
	}
	print_message("          losses and norms differ by up to %.2g\n", worst);
	assert_true(worst > 0 && worst < 0.01);
}

/* What is stored in fp16 overflows at 65504: steps are skipped until the scale lets them fit, with
 * nothing updated before, and a checkpoint goes on to the last bit. */
static void fp16_finds_its_scale(void **state)
{
	struct wl_train_config c = tiny_config(2e-3);
	char run_dir[] = "/tmp/wl-gpu-step-XXXXXX", *dir;
	struct course straight, resumed = {0};
	struct tiny_rig r;
	float *before;
	json_t *found;
	int n = 0;

	(void)state;
	NEEDS_DEVICE;
	assert_non_null(mkdtemp(run_dir));
	c.precision = "fp16";
	OK(wl_train_config_check(&c, &err));
	c.loss_scale = 0x1p24;
	c.loss_scale_interval = 8;
	c.max_bad_steps = 3;
	course_run(&c, true, COURSE_STEPS, -9, 0, &straight);
	while (straight.said[n].verdict == WL_GUARD_OVERFLOW) {
		assert_true(straight.said[n].loss_scale == ldexp(1, 24 - n));
		assert_true(isfinite(straight.said[n].moco.loss));
		assert_true(++n < 20);
	}
	assert_true(n > 3);
	tiny_rig_open(&r, &c, course_device(true), 100);
	before = course_taken(r.be, r.t.params.value, r.t.params.floats);
	resumed.n = 0;
	course_steps(&r, n, -9, 0, &resumed);
	course_look(&r, &resumed);
	assert_memory_equal(before, resumed.value, (size_t)resumed.floats * 4);
	assert_int_equal(resumed.updates, 0);
	assert_int_equal(resumed.next[0], 0);
	OK(wl_trainer_save(&r.t, run_dir, NULL, NULL, NULL, &err));
	tiny_rig_close(&r);
	course_release(&resumed);
	tiny_rig_open(&r, &c, course_device(true), 100);
	OK(wl_ckpt_load(run_dir, &dir, &found, &err));
	OK(wl_trainer_load(&r.t, dir, found, &err));
	resumed.n = n;
	course_steps(&r, COURSE_STEPS, -9, 0, &resumed);
	course_look(&r, &resumed);
	assert_memory_equal(resumed.value, straight.value, (size_t)straight.floats * 4);
	scaler_same(&resumed.scaler, &straight.scaler);
	assert_true(straight.scaler.overflows > n || straight.scaler.scale > ldexp(1, 24 - n));
	tiny_rig_close(&r);
	course_release(&straight);
	course_release(&resumed);
	json_decref(found);
	free(dir);
	free(before);
	OK(wl_remove_tree(run_dir, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scales_are_the_processors),
		cmocka_unit_test(ranks_skip_together),
		cmocka_unit_test(fp16_follows_fp32),
		cmocka_unit_test(fp16_finds_its_scale),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* precision fp16 on the processor: operands are rounded to fp16 and sums are not, and the loss
 * scale carries training through overflows, to the last bit over a checkpoint. */
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/opcheck.h"
#include "tests/support/tiny_rig.h"
#include "train/checkpoint/ckpt.h"
#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

/* --- products --- */

struct linear {
	int64_t rows, i, o;
};

static wl_tid linear_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	(void)ctx;
	return wl_g_linear(g, in[0], in[1], in[2], WL_ACT_NONE);
}

static void linear_ref(const double *const *in, double *out, const void *ctx)
{
	const struct linear *v = ctx;

	for (int64_t r = 0; r < v->rows; r++)
		for (int64_t o = 0; o < v->o; o++) {
			double s = in[2][o];

			for (int64_t i = 0; i < v->i; i++)
				s += in[0][r * v->i + i] * in[1][o * v->i + i];
			out[r * v->o + o] = s;
		}
}

/* Blocks of A and B, cut and whole; both gradients take A by columns once and by rows once; the
 * last is cut along k among threads. */
static void products_are_near(void **state)
{
	static const struct linear all[] = {
		{1, 1, 1}, {5, 33, 7}, {12, 320, 32}, {13, 321, 33}, {200, 700, 40}, {9000, 3, 5}};

	(void)state;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		const struct linear *v = &all[i];

		opcheck(&(struct opcheck){.name = "linear in fp16", .n_in = 3,
			.build = linear_build, .ref = linear_ref, .ctx = v,
			.scale = {1, 0.1f, 0.5f}, .offset = {0, 0.02f, 0},
			.shape = {WL_SHAPE(v->rows, v->i), WL_SHAPE(v->o, v->i), WL_SHAPE(v->o)},
			.fp16 = true, .tolerance = 2e-6});
	}
}

/* y = x w by one linear layer of n inputs. */
static float product(enum wl_dtype type, int64_t n, float x, float w)
{
	struct wl_backend *be = wl_backend_cpu_open(1, &err);
	struct wl_params p;
	struct wl_graph *g;
	float y;

	wl_params_init(&p);
	g = wl_graph_new("one", &p, &(struct wl_graph_options){.compute_dtype = type}, &err);
	wl_tid in = wl_g_input(g, "x", WL_F32, WL_SHAPE(1, n));
	wl_tid weight = wl_g_param(g, "w", WL_LAYOUT_PLAIN, WL_SHAPE(1, n), WL_PARAM_WEIGHT);
	wl_g_output(g, wl_g_linear(g, in, weight, WL_NONE, WL_ACT_NONE), "y");
	OK(wl_params_seal(&p, be, false, &err));
	OK(wl_graph_compile(g, be, &err));
	for (int64_t i = 0; i < n; i++) {
		((float *)wl_graph_data(g, in))[i] = x;
		p.value[i] = w;
	}
	OK(wl_graph_run(g, 1, 1, &err));
	y = *(float *)wl_graph_data(g, wl_graph_find(g, "y"));
	wl_graph_free(g);
	wl_params_release(&p);
	wl_backend_close(be);
	return y;
}

static void operands_are_rounded_and_sums_are_not(void **state)
{
	(void)state;
	assert_true(product(WL_F32, 1, 1 + 0x1p-11f, 1) == 1 + 0x1p-11f);
	assert_true(product(WL_F16, 1, 1 + 0x1p-11f, 1) == 1);	/* a tie: to even */
	assert_true(product(WL_F16, 1, 1, 1 + 3 * 0x1p-11f) == 1 + 0x1p-9f);
	assert_true(product(WL_F16, 1, 0x1p-24f, 4096) == 0x1p-12f); /* the least above zero */
	assert_true(product(WL_F16, 1, 0x1p-26f, 4096) == 0);
	assert_true(product(WL_F32, 1, 0x1p-26f, 4096) == 0x1p-14f);
	assert_true(isinf(product(WL_F16, 1, 65520, 1)));
	assert_true(product(WL_F16, 1, 65504, 1) == 65504);
	assert_true(product(WL_F16, 1000, 256, 256) == 65536000); /* far beyond fp16, and exact */
	assert_true(product(WL_F16, 4097, 1, 1) == 4097);	     /* fp16 has no such number */
}

/* --- training --- */

static struct wl_train_config config_of(const char *precision)
{
	struct wl_train_config c = tiny_config(1e-2);

	c.precision = precision;
	OK(wl_train_config_check(&c, &err));
	return c;
}

static void open_rig(struct tiny_rig *r, const struct wl_train_config *c)
{
	tiny_rig_open(r, c, wl_backend_cpu_open(2, &err), 60);
}

static struct wl_step_report step(struct tiny_rig *r)
{
	struct wl_step_report report;

	OK(wl_trainer_step(&r->t, tiny_batch(r->t.step), &report, &err));
	return report;
}

/* The loss scale is a power of two: it changes no gradient but by what fp16 can hold. */
static void losses_follow_fp32(struct wl_train_config c, struct wl_train_config full)
{
	struct tiny_rig r, f;
	double worst = 0;

	open_rig(&r, &c);
	open_rig(&f, &full);
	for (int i = 0; i < 40; i++) {
		struct wl_step_report a = step(&r), b = step(&f);

		assert_int_equal(a.verdict, WL_GUARD_OK);
		assert_true(a.loss_scale == 1024 && b.loss_scale == 1);
		if (i < 10) {
			worst = fmax(worst, fabs(a.moco.loss - b.moco.loss) / b.moco.loss);
			worst = fmax(worst, fabs(a.grad_norm - b.grad_norm) / b.grad_norm);
		}
	}
	if (!(worst > 0 && worst < 0.02))
		fail_msg("losses and norms differ by up to %g from those of fp32", worst);
	tiny_rig_close(&r);
	tiny_rig_close(&f);
}

static void training_follows_fp32(void **state)
{
	struct wl_train_config c = config_of("fp16"), f = config_of("fp32");

	(void)state;
	c.loss_scale = 1024;
	losses_follow_fp32(c, f);
	c.moco.accumulate = f.moco.accumulate = 2;
	losses_follow_fp32(c, f);
	c.objective = f.objective = "clip";
	OK(wl_train_config_check(&c, &err));
	OK(wl_train_config_check(&f, &err));
	losses_follow_fp32(c, f);
}

/* A scale at which gradients must overflow: halved until they fit, with nothing updated before,
 * for far more steps than the guard lets pass of its own. */
static void overflows_halve_the_scale(void **state)
{
	struct wl_train_config c = config_of("fp16");
	struct tiny_rig r;
	int64_t weights;
	float *before;
	int skipped = 0, good = 1, doubled = 0;
	double scale;

	(void)state;
	c.loss_scale = 0x1p50;
	c.max_bad_steps = 3;
	c.loss_scale_interval = 4;
	open_rig(&r, &c);
	weights = r.t.params.floats;
	before = malloc((size_t)weights * sizeof *before);
	memcpy(before, r.t.params.value, (size_t)weights * sizeof *before);
	for (;; skipped++) {
		struct wl_step_report s = step(&r);

		assert_true(s.loss_scale == ldexp(1, 50 - skipped));
		if (s.verdict == WL_GUARD_OK)
			break;
		assert_int_equal(s.verdict, WL_GUARD_OVERFLOW);
		assert_false(isfinite(s.grad_norm));
		assert_true(isfinite(s.moco.loss));
		assert_memory_equal(before, r.t.params.value, (size_t)weights * sizeof *before);
		assert_int_equal(r.t.optim.updates, 0);
		assert_int_equal(r.t.moco.text_queue.next, 0);
	}
	assert_true(skipped > c.max_bad_steps && skipped < 50);
	assert_int_equal(r.t.scaler.overflows, skipped);
	assert_int_equal(r.t.guard.nonfinite, 0);
	assert_int_equal(r.t.optim.updates, 1);
	scale = ldexp(1, 50 - skipped);
	/* Four good steps in a row double it; at its edge there are more overflows. */
	for (int i = 0; i < 40; i++) {
		struct wl_step_report s = step(&r);
		bool ok = s.verdict == WL_GUARD_OK;

		assert_true(s.loss_scale == scale);
		good = ok ? good + 1 : 0;
		doubled += good == 4;
		scale *= !ok ? 0.5 : good == 4 ? 2 : 1;
		good %= 4;
	}
	assert_true(doubled > 0);
	assert_true(wl_scaler_scale(&r.t.scaler) == scale);
	free(before);
	tiny_rig_close(&r);
}

/* Gradients that no scale mends end the run: a NaN in a weight of one layer alone would already
 * show in the loss, so the loss is what the guard sees. */
static void loss_that_is_not_finite_still_ends_the_run(void **state)
{
	struct wl_train_config c = config_of("fp16");
	struct wl_step_report report;
	struct tiny_rig r;
	int n = 0;

	(void)state;
	c.max_bad_steps = 3;
	open_rig(&r, &c);
	for (int64_t i = 0; i < r.t.params.weights; i++)
		r.t.params.value[i] = 1e30f; /* infinite in fp16 */
	while (wl_trainer_step(&r.t, tiny_batch(r.t.step), &report, &err) == 0) {
		assert_int_equal(report.verdict, WL_GUARD_NONFINITE);
		assert_true(++n < 3);
	}
	assert_int_equal(err.code, WL_ENUMERIC);
	tiny_rig_close(&r);
}

static void resumes_to_the_last_bit(void **state)
{
	struct wl_train_config c = config_of("fp16");
	char run[] = "/tmp/wl-fp16-XXXXXX", *dir;
	struct wl_step_report want[10], got;
	struct tiny_rig r, again;
	json_t *st;

	(void)state;
	assert_non_null(mkdtemp(run));
	c.loss_scale = 0x1p40; /* overflows first: the checkpoint falls among them or after */
	c.loss_scale_interval = 2;
	open_rig(&r, &c);
	for (int i = 0; i < 30; i++) {
		if (i == 20)
			OK(wl_trainer_save(&r.t, run, NULL, NULL, NULL, &err));
		got = step(&r);
		if (i >= 20)
			want[i - 20] = got;
	}
	open_rig(&again, &c);
	OK(wl_ckpt_load(run, &dir, &st, &err));
	OK(wl_trainer_load(&again.t, dir, st, &err));
	for (int i = 0; i < 10; i++) {
		got = step(&again);
		assert_true(got.moco.loss == want[i].moco.loss);
		assert_true(got.loss_scale == want[i].loss_scale);
		assert_int_equal(got.verdict, want[i].verdict);
	}
	assert_int_equal(again.t.scaler.overflows, r.t.scaler.overflows);
	assert_memory_equal(r.t.params.value, again.t.params.value,
		(size_t)r.t.params.floats * sizeof(float));
	json_object_set_new(st, "scaler", json_integer(3));
	FAILS(WL_ECKPT, "\"scaler\"", wl_trainer_load(&again.t, dir, st, &err));
	json_decref(st);
	free(dir);
	tiny_rig_close(&again);
	tiny_rig_close(&r);
	OK(wl_remove_tree(run, &err));
}

static void settings_are_checked(void **state)
{
	struct wl_train_config c = config_of("fp16");

	(void)state;
	c.precision = "fp8";
	FAILS(WL_EUSAGE, "precision is \"fp8\"", wl_train_config_check(&c, &err));
	c.precision = "fp16";
	c.loss_scale = 0;
	FAILS(WL_EUSAGE, "optim.loss-scale", wl_train_config_check(&c, &err));
	c.loss_scale = 1;
	c.loss_scale_interval = 0;
	FAILS(WL_EUSAGE, "loss-scale-interval", wl_train_config_check(&c, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(products_are_near),
		cmocka_unit_test(operands_are_rounded_and_sums_are_not),
		cmocka_unit_test(training_follows_fp32),
		cmocka_unit_test(overflows_halve_the_scale),
		cmocka_unit_test(loss_that_is_not_finite_still_ends_the_run),
		cmocka_unit_test(resumes_to_the_last_bit),
		cmocka_unit_test(settings_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Steps that the device judges (train/judged.h) against those that the host judges, on the
 * processor: what counts, what is skipped and what that leaves behind, clipping, spikes, fp16's
 * scale, checkpoints in the middle; and that nobody waits between two steps.  The kernels run
 * emulated (tests/support/emulated.h), under `make test-gpu` on the GPU.
 */
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/tiny_rig.h"
#include "train/checkpoint/ckpt.h"
#include "train/snapshot.h"
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The emulation's, absent where the backend is a GPU's or none was built. */
struct wl_backend *wl_backend_cuda_open(int device, struct wl_err *err) __attribute__((weak));
void emulated_late(bool yes) __attribute__((weak));
int64_t emulated_waits(void) __attribute__((weak));

enum { STEPS = 40 };

static struct wl_err err;
static bool have_device;

#define NEEDS_DEVICE                                                                               \
	do {                                                                                       \
		if (!have_device)                                                                  \
			SKIP("no CUDA backend in this build, or no GPU");                          \
	} while (0)

static struct wl_backend *open_device(bool gpu)
{
	return gpu ? wl_backend_cuda_open(0, &err) : wl_backend_cpu_open(1, &err);
}

/* What steps said, and what they left. */
struct course {
	struct wl_step_report said[STEPS];
	char blame[STEPS][64]; /* the names in them, which go with the trainer */
	struct wl_guard guard;
	struct wl_scaler scaler;
	int64_t updates, n;
	size_t next[2];
	float *value, *momentum;
	float *queue[2];
	int64_t floats, keys;
};

static void release(struct course *c)
{
	free(c->value);
	free(c->momentum);
	free(c->queue[0]);
	free(c->queue[1]);
	*c = (struct course){0};
}

static float *taken(struct wl_backend *be, const void *from, int64_t n)
{
	float *to = calloc((size_t)n + 1, sizeof *to);

	assert_non_null(to);
	be->download(be, to, from, (size_t)n * sizeof *to);
	return to;
}

static void look(struct tiny_rig *r, struct course *c)
{
	const struct wl_moco *m = &r->t.moco;

	OK(wl_trainer_settle(&r->t, &err));
	c->guard = r->t.guard;
	c->scaler = r->t.scaler;
	c->updates = r->t.optim.updates;
	c->floats = r->t.params.floats;
	c->value = taken(r->be, r->t.params.value, c->floats);
	if (!wl_moco_has_keys(m))
		return;
	c->momentum = taken(r->be, m->momentum.value, c->floats);
	c->next[0] = m->image_queue.next;
	c->next[1] = m->text_queue.next;
	c->keys = (int64_t)(m->image_queue.size * m->image_queue.dim);
	c->queue[0] = taken(r->be, m->image_queue.keys, c->keys);
	c->queue[1] = taken(r->be, m->text_queue.keys, c->keys);
}

/* The tiny batch of a step, with a picture that is not finite, or far too bright, where said. */
static const struct wl_moco_batch *batch_of(int64_t step, int64_t bad, float how)
{
	static float pixels[TINY_BATCH * TINY_PX * TINY_PX * 3];
	static struct wl_moco_batch b;

	b = *tiny_batch(step);
	if (step != bad && step != bad + 1)
		return tiny_batch(step);
	memcpy(pixels, b.images, sizeof pixels);
	for (size_t i = 0; i < 3 * TINY_PX; i++)
		pixels[i] *= how;
	pixels[0] = isfinite(how) ? pixels[0] : NAN;
	b.images = pixels;
	return &b;
}

static void keep_blame(struct course *c)
{
	struct wl_step_report *r = &c->said[c->n];

	if (r->blame)
		snprintf(c->blame[c->n], sizeof c->blame[0], "%s", r->blame);
	r->blame = r->blame ? c->blame[c->n] : NULL;
}

/* Steps [from, to), told as late as they may be. */
static void steps(struct tiny_rig *r, int64_t to, int64_t bad, float how, struct course *c)
{
	while (r->t.step < to || wl_trainer_untaken(&r->t)) {
		if (r->t.step < to)
			OK(wl_trainer_give(&r->t, batch_of(r->t.step, bad, how), &err));
		while (wl_trainer_untaken(&r->t) >
			(r->t.step < to ? wl_trainer_late(&r->t) : 0)) {
			OK(wl_trainer_take(&r->t, &c->said[c->n], &err));
			assert_int_equal(c->said[c->n].step, c->n + 1);
			keep_blame(c);
			c->n++;
		}
	}
}

static void run(const struct wl_train_config *config, bool gpu, int64_t n, int64_t bad, float how,
	struct course *c)
{
	struct tiny_rig r;

	*c = (struct course){0};
	tiny_rig_open(&r, config, open_device(gpu), 100);
	steps(&r, n, bad, how, c);
	look(&r, c);
	tiny_rig_close(&r);
}

static double nmse(const float *a, const float *b, int64_t n)
{
	double d = 0, s = 1e-30;

	for (int64_t i = 0; i < n; i++) {
		d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
		s += (double)b[i] * (double)b[i];
	}
	return d / s;
}

static void same_number(const char *what, int64_t step, double a, double b, double bound)
{
	if (isfinite(a) != isfinite(b) || (isfinite(b) && !(fabs(a - b) <= bound * fabs(b))))
		fail_msg("step %lld: %s is %.9g, expected %.9g", (long long)step, what, a, b);
}

/* Of the device's course and the processor's. */
static void same_course(const struct course *a, const struct course *b, double bound)
{
	assert_int_equal(a->n, b->n);
	for (int64_t s = 0; s < a->n; s++) {
		const struct wl_step_report *x = &a->said[s], *y = &b->said[s];

		if (x->verdict != y->verdict)
			fail_msg("step %lld: verdict %d, expected %d (loss %g, norm %g)",
				(long long)s, x->verdict, y->verdict, y->moco.loss, y->grad_norm);
		same_number("loss", s, x->moco.loss, y->moco.loss, bound);
		same_number("accuracy", s, x->moco.acc_i2t, y->moco.acc_i2t, bound);
		same_number("norm", s, x->grad_norm, y->grad_norm, 10 * bound);
		same_number("tau", s, x->tau, y->tau, bound);
		same_number("rate", s, x->lr, y->lr, 0);
		same_number("loss scale", s, x->loss_scale, y->loss_scale, 0);
		assert_int_equal(x->blame != NULL, y->blame != NULL);
		if (y->blame)
			assert_string_equal(x->blame, y->blame);
	}
	assert_int_equal(a->guard.seen, b->guard.seen);
	assert_int_equal(a->guard.nonfinite, b->guard.nonfinite);
	assert_int_equal(a->guard.spikes, b->guard.spikes);
	assert_int_equal(a->guard.in_a_row, b->guard.in_a_row);
	assert_true(a->scaler.scale == b->scaler.scale);
	assert_int_equal(a->scaler.good, b->scaler.good);
	assert_int_equal(a->scaler.overflows, b->scaler.overflows);
	assert_int_equal(a->updates, b->updates);
	assert_int_equal(a->next[0], b->next[0]);
	assert_int_equal(a->next[1], b->next[1]);
	assert_true(nmse(a->value, b->value, b->floats) < bound);
	if (b->momentum)
		assert_true(nmse(a->momentum, b->momentum, b->floats) < bound);
	for (int q = 0; q < 2 && b->keys; q++)
		assert_true(nmse(a->queue[q], b->queue[q], b->keys) < bound);
}

/* Both, and that nothing waited. */
static void compare(const struct wl_train_config *c, int64_t n, int64_t bad, float how,
	double bound, struct course *gpu)
{
	struct course cpu;

	run(c, false, n, bad, how, &cpu);
	run(c, true, n, bad, how, gpu);
	same_course(gpu, &cpu, bound);
	release(&cpu);
}

/* --- tests --- */

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
		compare(&c, 10, -9, 0, 1e-5, &gpu);
		for (int i = 0; i < 10; i++) {
			assert_int_equal(gpu.said[i].verdict, WL_GUARD_OK);
			clipped += kind < 2 && gpu.said[i].grad_norm > 1;
		}
		release(&gpu);
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
		compare(&c, 12, 5, INFINITY, 1e-5, &gpu);
		for (int i = 0; i < 12; i++)
			assert_int_equal(gpu.said[i].verdict,
				i == 5 || i == 6 ? WL_GUARD_NONFINITE : WL_GUARD_OK);
		assert_non_null(gpu.said[5].blame);
		assert_int_equal(gpu.updates, 10);
		for (int64_t i = 0; i < gpu.floats; i++)
			assert_true(isfinite(gpu.value[i]));
		release(&gpu);
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
		tiny_rig_open(&r, &c, open_device(gpu), 100);
		r.t.guard.seen = WL_GUARD_WINDOW;
		for (int i = 0; i < WL_GUARD_WINDOW; i++)
			r.t.guard.window[i] = 0.01 + 1e-5 * i; /* any real norm is a spike */
		wl_trainer_start(&r.t);
		steps(&r, 3, -9, 0, &now[gpu]);
		look(&r, &now[gpu]);
		tiny_rig_close(&r);
	}
	same_course(&now[1], &now[0], 1e-5);
	assert_int_equal(now[1].said[1].verdict, WL_GUARD_SPIKE);
	assert_int_equal(now[1].guard.spikes, 3);
	assert_int_equal(now[1].updates, 0);
	assert_int_equal(now[1].next[0], 0); /* 24 keys of 3 batches of 8: they did enter */
	assert_true(now[1].queue[0][0] != 0);
	release(&now[0]);
	release(&now[1]);
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
	tiny_rig_open(&r, &c, open_device(true), 100);
	while (ret == 0) {
		assert_true(r.t.step < 12);
		OK(wl_trainer_give(&r.t, batch_of(r.t.step, 5, INFINITY), &err));
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
	run(&c, true, 12, 5, INFINITY, &straight);
	tiny_rig_open(&r, &c, open_device(true), 100);
	while (r.t.step < 7) {
		OK(wl_trainer_give(&r.t, batch_of(r.t.step, 5, INFINITY), &err));
		if (wl_trainer_untaken(&r.t) > wl_trainer_late(&r.t))
			OK(wl_trainer_take(&r.t, &unused, &err));
	}
	assert_int_equal(wl_trainer_untaken(&r.t), WL_TRAINER_LATE);
	OK(wl_trainer_save(&r.t, run_dir, NULL, NULL, NULL, &err));
	assert_int_equal(r.t.optim.updates, 5);
	OK(wl_trainer_take(&r.t, &unused, &err)); /* what is untaken stays to be told */
	assert_int_equal(unused.verdict, WL_GUARD_NONFINITE);
	tiny_rig_close(&r);
	tiny_rig_open(&r, &c, open_device(true), 100);
	OK(wl_ckpt_load(run_dir, &dir, &found, &err));
	OK(wl_trainer_load(&r.t, dir, found, &err));
	json_decref(found);
	free(dir);
	resumed.n = 7;
	steps(&r, 12, 5, INFINITY, &resumed);
	look(&r, &resumed);
	tiny_rig_close(&r);
	for (int i = 7; i < 12; i++)
		assert_true(resumed.said[i].moco.loss == straight.said[i].moco.loss);
	assert_memory_equal(&resumed.guard, &straight.guard, sizeof resumed.guard);
	assert_memory_equal(resumed.value, straight.value, (size_t)straight.floats * 4);
	assert_memory_equal(resumed.momentum, straight.momentum, (size_t)straight.floats * 4);
	assert_memory_equal(resumed.queue[0], straight.queue[0], (size_t)straight.keys * 4);
	release(&straight);
	release(&resumed);
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
		run(&c, true, 30, 9, INFINITY, &at_once);
		tiny_rig_open(&r, &c, open_device(true), 100);
		emulated_late(true);
		memset(&late, 0, sizeof late);
		steps(&r, 4, 9, INFINITY, &late); /* pinned memory is taken, graphs are recorded */
		waits = emulated_waits();
		steps(&r, 30, 9, INFINITY, &late);
		assert_int_equal(emulated_waits() - waits, 0);
		look(&r, &late);
		emulated_late(false);
		tiny_rig_close(&r);
		for (int i = 0; i < 30; i++) {
			if (i != 9 && i != 10)
				assert_true(late.said[i].moco.loss == at_once.said[i].moco.loss);
			assert_int_equal(late.said[i].verdict, at_once.said[i].verdict);
		}
		assert_memory_equal(late.value, at_once.value, (size_t)late.floats * 4);
		release(&at_once);
		release(&late);
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

/* What is copied when a step is done is what that step left, though further steps are given before it
 * is written, and for those nobody waits: their updates do, on the device. */
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
	tiny_rig_open(&r, &c, open_device(true), 100);
	steps(&r, 4, -9, 0, &said);
	watch_copies(r.be);
	OK(wl_snapshot_reserve(&at_once, &r.t, &err));
	OK(wl_snapshot_take(&at_once, &r.t, true, NULL, &err));
	OK(wl_snapshot_write(&at_once, now, &first, &err));
	if (emulated_late)
		emulated_late(true);
	OK(wl_snapshot_take(&late, &r.t, true, NULL, &err));
	assert_true(watched.fetched >= 12); /* both stores, moments, queues, twice */
	waits = emulated_waits ? emulated_waits() : 0;
	for (int i = 0; i < 2; i++)
		OK(wl_trainer_give(&r.t, tiny_batch(r.t.step), &err));
	if (emulated_waits)
		assert_int_equal(emulated_waits() - waits, 0);
	assert_true(watched.updated >= 2);
	OK(wl_snapshot_write(&late, then, &names, &err));
	if (emulated_late)
		emulated_late(false);
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

/* --- the loss scale --- */

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
		compare(&c, 16, -9, 0, 2e-5, &gpu);
		for (int i = 0; i < 16; i++)
			overflows += gpu.said[i].verdict == WL_GUARD_OVERFLOW;
		assert_int_equal(gpu.said[0].verdict, WL_GUARD_OVERFLOW);
		assert_int_equal(gpu.said[15].verdict, WL_GUARD_OK);
		release(&gpu);
	}
	assert_true(overflows > 6);
}

struct ranks {
	struct wl_train_config config;
	bool gpu;
	double loss[STEPS], norm[STEPS], tau[STEPS];
};

static int rank_main(struct wl_comm *comm, void *user, struct wl_err *e)
{
	struct ranks *j = user;
	const struct tiny_course seen = {j->loss, j->norm, j->tau, STEPS};
	struct wl_train_config c = j->config;
	struct wl_backend *be = open_device(j->gpu);
	struct wl_dist *dist = wl_dist_open(comm, &c.dist, e);
	struct wl_towers towers;
	struct wl_trainer t;
	int ret = -1;

	tiny_towers(&towers);
	c.batch = TINY_BATCH / wl_comm_size(comm);
	if (!be || !dist || wl_trainer_init(&t, &c, &towers, be, dist, 100, TINY_PAIRS, e) < 0)
		return -1;
	if (towers.init(&t.params, towers.model, t.seed, e) == 0) {
		wl_trainer_start(&t);
		ret = tiny_rank_steps(&t, 8, &seen, e);
	}
	wl_dist_close(dist);
	wl_trainer_release(&t);
	wl_backend_close(be);
	return ret;
}

/* Ranks judge by what all of them measured, each on its own device, and agree: the same steps are
 * skipped, whether the optimiser is shared out or not, as on the processor. */
static void ranks_skip_together(void **state)
{
	static struct ranks cpu, gpu;

	(void)state;
	NEEDS_DEVICE;
	if (!emulated_late)
		SKIP("ranks as threads need the emulation of NCCL");
	for (int zero = 0; zero <= 2; zero += 2) {
		int skipped = 0;

		cpu.config = tiny_config(2e-3);
		cpu.config.moco.scaled = true;
		cpu.config.loss_scale = 0x1p127;
		cpu.config.loss_scale_interval = 4;
		cpu.config.dist.zero = zero;
		cpu.config.dist.bucket_mb = 1;
		gpu = cpu;
		gpu.gpu = true;
		OK(wl_comm_simulate(2, rank_main, &cpu, &err));
		OK(wl_comm_simulate(2, rank_main, &gpu, &err));
		for (int i = 0; i < 8; i++) {
			same_number("loss", i, gpu.loss[i], cpu.loss[i], 2e-5);
			same_number("norm", i, gpu.norm[i], cpu.norm[i], 2e-4);
			same_number("tau", i, gpu.tau[i], cpu.tau[i], 2e-5);
			skipped += !isfinite(gpu.norm[i]);
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
		run(&c, true, 10, -9, 0, &half);
		run(&f, true, 10, -9, 0, &full);
		for (int i = 0; i < 10; i++) {
			const struct wl_step_report *a = &half.said[i], *b = &full.said[i];

			assert_int_equal(a->verdict, WL_GUARD_OK);
			assert_true(a->loss_scale == 1024 && b->loss_scale == 1);
			worst = fmax(worst, fabs(a->moco.loss / b->moco.loss - 1));
			worst = fmax(worst, fabs(a->grad_norm / b->grad_norm - 1));
		}
		release(&half);
		release(&full);
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
	run(&c, true, STEPS, -9, 0, &straight);
	while (straight.said[n].verdict == WL_GUARD_OVERFLOW) {
		assert_true(straight.said[n].loss_scale == ldexp(1, 24 - n));
		assert_true(isfinite(straight.said[n].moco.loss));
		assert_true(++n < 20);
	}
	assert_true(n > 3);
	tiny_rig_open(&r, &c, open_device(true), 100);
	before = taken(r.be, r.t.params.value, r.t.params.floats);
	resumed.n = 0;
	steps(&r, n, -9, 0, &resumed);
	look(&r, &resumed);
	assert_memory_equal(before, resumed.value, (size_t)resumed.floats * 4);
	assert_int_equal(resumed.updates, 0);
	assert_int_equal(resumed.next[0], 0);
	OK(wl_trainer_save(&r.t, run_dir, NULL, NULL, NULL, &err));
	tiny_rig_close(&r);
	release(&resumed);
	tiny_rig_open(&r, &c, open_device(true), 100);
	OK(wl_ckpt_load(run_dir, &dir, &found, &err));
	OK(wl_trainer_load(&r.t, dir, found, &err));
	resumed.n = n;
	steps(&r, STEPS, -9, 0, &resumed);
	look(&r, &resumed);
	assert_memory_equal(resumed.value, straight.value, (size_t)straight.floats * 4);
	assert_memory_equal(&resumed.scaler, &straight.scaler, sizeof resumed.scaler);
	assert_true(straight.scaler.overflows > n || straight.scaler.scale > ldexp(1, 24 - n));
	tiny_rig_close(&r);
	release(&straight);
	release(&resumed);
	json_decref(found);
	free(dir);
	free(before);
	OK(wl_remove_tree(run_dir, &err));
}

static void find_device(void)
{
	struct wl_backend *be = wl_backend_cuda_open ? wl_backend_cuda_open(0, &err) : NULL;

	have_device = be != NULL;
	wl_backend_close(be);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clipped_steps_are_the_processors),
		cmocka_unit_test(a_nan_leaves_nothing_behind),
		cmocka_unit_test(spikes_are_skipped),
		cmocka_unit_test(bad_steps_in_a_row_end_the_run),
		cmocka_unit_test(checkpoints_wait),
		cmocka_unit_test(nobody_waits_in_a_step),
		cmocka_unit_test(a_copy_leaves_the_device_beside_steps),
		cmocka_unit_test(scales_are_the_processors),
		cmocka_unit_test(ranks_skip_together),
		cmocka_unit_test(fp16_follows_fp32),
		cmocka_unit_test(fp16_finds_its_scale),
	};

	find_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

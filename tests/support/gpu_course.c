/* See gpu_course.h. */
#include "tests/support/gpu_course.h"

#include "tests/support/cm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

struct wl_backend *course_device(bool gpu)
{
	return gpu ? wl_backend_cuda_open(0, &err) : wl_backend_cpu_open(1, &err);
}

bool course_has_device(void)
{
	static int has = -1;
	struct wl_backend *be;

	if (has < 0) {
		be = wl_backend_cuda_count() ? course_device(true) : NULL;
		has = be != NULL;
		wl_backend_close(be);
	}
	return has;
}

void course_release(struct course *c)
{
	free(c->value);
	free(c->momentum);
	free(c->queue[0]);
	free(c->queue[1]);
	*c = (struct course){0};
}

float *course_taken(struct wl_backend *be, const void *from, int64_t n)
{
	float *to = calloc((size_t)n + 1, sizeof *to);

	assert_non_null(to);
	be->download(be, to, from, (size_t)n * sizeof *to);
	return to;
}

void course_look(struct tiny_rig *r, struct course *c)
{
	const struct wl_moco *m = &r->t.moco;

	OK(wl_trainer_settle(&r->t, &err));
	c->guard = r->t.guard;
	c->scaler = r->t.scaler;
	c->updates = r->t.optim.updates;
	c->floats = r->t.params.floats;
	c->value = course_taken(r->be, r->t.params.value, c->floats);
	if (!wl_moco_has_keys(m))
		return;
	c->momentum = course_taken(r->be, m->momentum.value, c->floats);
	c->next[0] = m->image_queue.next;
	c->next[1] = m->text_queue.next;
	c->keys = (int64_t)(m->image_queue.size * m->image_queue.dim);
	c->queue[0] = course_taken(r->be, m->image_queue.keys, c->keys);
	c->queue[1] = course_taken(r->be, m->text_queue.keys, c->keys);
}

const struct wl_moco_batch *course_batch(int64_t step, int64_t bad, float how)
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

void course_steps(struct tiny_rig *r, int64_t to, int64_t bad, float how, struct course *c)
{
	while (r->t.step < to || wl_trainer_untaken(&r->t)) {
		if (r->t.step < to)
			OK(wl_trainer_give(&r->t, course_batch(r->t.step, bad, how), &err));
		while (wl_trainer_untaken(&r->t) >
			(r->t.step < to ? wl_trainer_late(&r->t) : 0)) {
			OK(wl_trainer_take(&r->t, &c->said[c->n], &err));
			assert_int_equal(c->said[c->n].step, c->n + 1);
			keep_blame(c);
			c->n++;
		}
	}
}

void course_run(const struct wl_train_config *config, bool gpu, int64_t n, int64_t bad, float how,
	struct course *c)
{
	struct tiny_rig r;

	*c = (struct course){0};
	tiny_rig_open(&r, config, course_device(gpu), 100);
	course_steps(&r, n, bad, how, c);
	course_look(&r, c);
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

void course_same_number(const char *what, int64_t step, double a, double b, double bound)
{
	if (isfinite(a) != isfinite(b) || (isfinite(b) && !(fabs(a - b) <= bound * fabs(b))))
		fail_msg("step %lld: %s is %.9g, expected %.9g", (long long)step, what, a, b);
}

void course_same(const struct course *a, const struct course *b, double bound)
{
	assert_int_equal(a->n, b->n);
	for (int64_t s = 0; s < a->n; s++) {
		const struct wl_step_report *x = &a->said[s], *y = &b->said[s];

		if (x->verdict != y->verdict)
			fail_msg("step %lld: verdict %d, expected %d (loss %g, norm %g)",
				(long long)s, x->verdict, y->verdict, y->moco.loss, y->grad_norm);
		course_same_number("loss", s, x->moco.loss, y->moco.loss, bound);
		course_same_number("accuracy", s, x->moco.acc_i2t, y->moco.acc_i2t, bound);
		course_same_number("norm", s, x->grad_norm, y->grad_norm, 10 * bound);
		course_same_number("tau", s, x->tau, y->tau, bound);
		course_same_number("rate", s, x->lr, y->lr, 0);
		course_same_number("loss scale", s, x->loss_scale, y->loss_scale, 0);
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

void course_compare(const struct wl_train_config *c, int64_t n, int64_t bad, float how,
	double bound, struct course *gpu)
{
	struct course cpu;

	course_run(c, false, n, bad, how, &cpu);
	course_run(c, true, n, bad, how, gpu);
	course_same(gpu, &cpu, bound);
	course_release(&cpu);
}

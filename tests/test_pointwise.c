/*
 * 1x1 convolutions with batch norm, activation and squeeze-excite gate on the operand as it is read
 * and moments of the result as it is written, on the GPU's own products (train/backend/cuda/
 * pointwise.h): at sizes that cross the borders of their tiles, several images in a tile, in bf16
 * and fp16, forward and by the weights, against sums in double precision over the very values that
 * were stored.
 */
#include "tests/support/held.h"
#include "tests/support/opcheck.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Squares of relative errors.  Results in a half type are rounded once (2^-9 at most in bf16); a
 * gradient is f32, of operands of which a few are rounded the other way than the reference's. */
static const double rounded[2] = {6e-6, 1e-7}, gradient[2] = {1e-7, 2e-9}, sums = 1e-11;

struct shape {
	int64_t n, h, w, i, o;
	bool norm, gate, bias, wide; /* wide: y is stored in f32 */
	float offset;		     /* of the bias: a mean far from 0 */
	enum wl_act act;
};

static const struct shape shapes[] = {
	{.n = 2, .h = 9, .w = 9, .i = 24, .o = 8, .norm = true, .gate = true, .act = WL_ACT_SILU},
	{.n = 3, .h = 7, .w = 7, .i = 8, .o = 8, .norm = true, .gate = true, .act = WL_ACT_SILU},
	{.n = 1, .h = 1, .w = 1, .i = 8, .o = 16, .gate = true},
	{.n = 150, .h = 1, .w = 1, .i = 32, .o = 40, .norm = true, .gate = true,
		.act = WL_ACT_RELU6},
	{.n = 2, .h = 31, .w = 23, .i = 40, .o = 136, .bias = true, .offset = 40},
	{.n = 5, .h = 13, .w = 11, .i = 136, .o = 64, .norm = true, .act = WL_ACT_RELU},
	{.n = 3, .h = 16, .w = 16, .i = 72, .o = 48, .norm = true, .gate = true, .wide = true,
		.act = WL_ACT_SILU},
	{.n = 7, .h = 6, .w = 5, .i = 264, .o = 24, .norm = true, .gate = true, .bias = true,
		.act = WL_ACT_SILU},
};

static double *numbers(int64_t n)
{
	double *p = calloc((size_t)n, sizeof *p);

	assert_non_null(p);
	return p;
}

/* What the backend holds there now. */
static double *got(struct wl_backend *be, const struct held *h)
{
	double *v = numbers(h->n);

	held_get(be, h, v);
	return v;
}

static void run(struct wl_backend *be, struct wl_op *op)
{
	held_run(be, op, (struct wl_run){.seed = 7, .step = 1, .world = 1});
}

/* --- an operation, and what it should give --- */

enum { X, W, BIAS, GAMMA, BETA, SAVED, GATE, GY, Y, MOMENTS, GW, HELD };

struct rig {
	struct wl_backend *be;
	const struct shape *s;
	enum wl_dtype type;
	struct held of[HELD];
	int64_t rows;
};

static void make(struct rig *r, const struct shape *s, enum wl_dtype type)
{
	struct wl_shape image = WL_SHAPE(s->n, s->h, s->w, s->i);
	struct wl_shape result = WL_SHAPE(s->n, s->h, s->w, s->o);
	struct wl_shape taps = WL_SHAPE(s->o, 1, 1, s->i);
	struct wl_backend *be = opcheck_gpu();

	*r = (struct rig){.be = be, .s = s, .type = type, .rows = s->n * s->h * s->w};
	r->of[X] = held_make(be, type, image, 1, 1, 0.3f);
	r->of[W] = held_make(be, WL_F32, taps, 2, 0.3f, 0);
	r->of[BIAS] = held_make(be, WL_F32, WL_SHAPE(s->o), 3, 1, s->offset);
	r->of[GAMMA] = held_make(be, WL_F32, WL_SHAPE(s->i), 4, 0.2f, 1);
	r->of[BETA] = held_make(be, WL_F32, WL_SHAPE(s->i), 5, 0.5f, 0.2f);
	r->of[SAVED] = held_make(be, WL_F32, WL_SHAPE(2, s->i), 6, 0.1f, 0.8f);
	r->of[GATE] = held_make(be, type, WL_SHAPE(s->n, s->i), 7, 2, 0);
	r->of[GY] = held_make(be, type, result, 8, 1, 0.1f);
	r->of[Y] = held_make(be, s->wide ? WL_F32 : type, result, 9, 1, 0);
	r->of[MOMENTS] = held_make(be, WL_F32, WL_SHAPE(2, s->o), 10, 1, 0);
	r->of[GW] = held_make(be, WL_F32, taps, 11, 1, 0);
}

static void release(struct rig *r)
{
	for (int i = 0; i < HELD; i++)
		held_release(r->be, &r->of[i]);
	wl_backend_close(r->be);
}

static struct wl_op op_of(struct rig *r, enum wl_op_kind kind)
{
	struct wl_op op = {.kind = kind, .label = "pointwise"};

	op.attr.kh = op.attr.kw = op.attr.stride = 1;
	op.attr.compute = r->type;
	op.attr.act = r->s->act;
	op.in[0] = &r->of[X].t;
	op.in[1] = &r->of[W].t;
	for (int k = 0; k < 3 && r->s->norm; k++)
		op.in[3 + k] = &r->of[GAMMA + k].t;
	if (r->s->gate)
		op.in[6] = &r->of[GATE].t;
	return op;
}

static void forward(struct rig *r)
{
	struct wl_op op = op_of(r, WL_OP_CONV);

	op.in[2] = r->s->bias ? &r->of[BIAS].t : NULL;
	op.out[0] = &r->of[Y].t;
	op.out[1] = &r->of[MOMENTS].t;
	run(r->be, &op);
}

static void by_weights(struct rig *r)
{
	struct wl_op op = op_of(r, WL_OP_CONV_BWD);

	op.in[2] = &r->of[GY].t;
	op.out[1] = &r->of[GW].t;
	op.acc = 2;
	run(r->be, &op);
}

/* What the product reads, rounded as it takes it. */
static double *operand(const struct rig *r)
{
	const struct shape *s = r->s;
	double *z = numbers(r->rows * s->i);

	for (int64_t e = 0; e < r->rows * s->i; e++) {
		int64_t ch = e % s->i, image = e / s->i / (s->h * s->w);
		double v = r->of[X].v[e];

		if (s->norm) {
			v = (v - r->of[SAVED].v[ch]) * r->of[SAVED].v[s->i + ch];
			v = v * r->of[GAMMA].v[ch] + r->of[BETA].v[ch];
			v = opcheck_act(s->act, v);
		}
		if (s->gate)
			v /= 1 + exp(-r->of[GATE].v[image * s->i + ch]);
		z[e] = (double)held_round(r->type, (float)v);
	}
	return z;
}

static void close_to(const char *what, int which, const double *is, const double *want, int64_t n,
	double bound)
{
	double e = opcheck_nmse(is, want, n);

	if (!(e <= bound))
		fail_msg("shape %d: %s has NMSE %g, at most %g is allowed (first: %g, expected %g)",
			which, what, e, bound, is[0], want[0]);
}

static void check_forward(struct rig *r, int which)
{
	const struct shape *s = r->s;
	double *z = operand(r), *y = numbers(r->rows * s->o), *is, *moments, *want;

	forward(r);
	for (int64_t e = 0; e < r->rows * s->o; e++) {
		y[e] = s->bias ? r->of[BIAS].v[e % s->o] : 0;
		for (int64_t k = 0; k < s->i; k++)
			y[e] += z[e / s->o * s->i + k] *
				(double)held_round(r->type, (float)r->of[W].v[e % s->o * s->i + k]);
	}
	is = got(r->be, &r->of[Y]);
	close_to("y", which, is, y, r->rows * s->o, rounded[r->type == WL_F16]);
	/* Of y as it was stored. */
	moments = got(r->be, &r->of[MOMENTS]);
	want = numbers(2 * s->o);
	for (int64_t e = 0; e < r->rows * s->o; e++)
		want[e % s->o] += is[e] / (double)r->rows;
	for (int64_t e = 0; e < r->rows * s->o; e++)
		want[s->o + e % s->o] += pow(is[e] - want[e % s->o], 2) / (double)r->rows;
	close_to("the mean", which, moments, want, s->o, sums);
	close_to("the variance", which, moments + s->o, want + s->o, s->o, sums);
	free(z);
	free(y);
	free(is);
	free(moments);
	free(want);
}

static void check_weights(struct rig *r, int which)
{
	const struct shape *s = r->s;
	double *z = operand(r), *want = numbers(s->o * s->i), *is;

	memcpy(want, r->of[GW].v, (size_t)(s->o * s->i) * sizeof *want); /* added to */
	for (int64_t row = 0; row < r->rows; row++)
		for (int64_t e = 0; e < s->o * s->i; e++)
			want[e] += r->of[GY].v[row * s->o + e / s->i] * z[row * s->i + e % s->i];
	by_weights(r);
	is = got(r->be, &r->of[GW]);
	close_to("the weights' gradient", which, is, want, s->o * s->i,
		gradient[r->type == WL_F16]);
	free(z);
	free(want);
	free(is);
}

static void each(void (*check)(struct rig *r, int which))
{
	for (int i = 0; i < (int)(sizeof shapes / sizeof *shapes); i++)
		for (int h = 0; h < 2; h++) {
			struct rig r;

			make(&r, &shapes[i], h ? WL_F16 : WL_BF16);
			check(&r, i);
			release(&r);
		}
}

static void test_forward(void **state)
{
	(void)state;
	each(check_forward);
}

/* Without a norm and a gate the library does it. */
static void check_if_read(struct rig *r, int which)
{
	if (r->s->norm || r->s->gate)
		check_weights(r, which);
}

static void test_weights(void **state)
{
	(void)state;
	each(check_if_read);
}

/* The same bits again, and nothing left from the first time. */
static void test_same_bits(void **state)
{
	struct rig r;

	(void)state;
	make(&r, &shapes[7], WL_BF16);
	for (int which = Y; which <= GW; which++) {
		struct held *h = &r.of[which];
		size_t n = held_bytes(h);
		void *first = numbers(h->n), *second = numbers(h->n);

		for (int again = 0; again < 2; again++) {
			r.be->zero(r.be, h->t.data, n);
			if (which == GW)
				by_weights(&r);
			else
				forward(&r);
			r.be->download(r.be, again ? second : first, h->t.data, n);
		}
		assert_memory_equal(first, second, n);
		free(first);
		free(second);
	}
	release(&r);
}

/* Which shapes are ours: a rule of the shape alone, and what a person may ask for. */
static void test_rule(void **state)
{
	struct wl_backend *be = opcheck_gpu();
	const int64_t many = 1 << 20;

	(void)state;
	unsetenv("WL_CUDA_OWN_GEMM");
	assert_true(be->pointwise(be, many, 32, 192, WL_ACT_SILU, WL_BF16, WL_BF16));
	assert_true(be->pointwise(be, many, 1344, 224, WL_ACT_SILU, WL_F16, WL_F16));
	/* The library's rate. */
	assert_false(be->pointwise(be, many, 640, 2560, WL_ACT_SILU, WL_BF16, WL_BF16));
	assert_false(be->pointwise(be, 64, 32, 192, WL_ACT_SILU, WL_BF16, WL_BF16));
	assert_false(be->pointwise(be, many, 32, 196, WL_ACT_SILU, WL_BF16, WL_BF16));
	assert_false(be->pointwise(be, many, 32, 192, WL_ACT_SILU, WL_F32, WL_F32));
	assert_false(be->pointwise(be, many, 32, 192, WL_ACT_SILU, WL_BF16, WL_F32));
	assert_false(be->pointwise(be, many, 32, 192, WL_ACT_GELU, WL_BF16, WL_BF16));
	setenv("WL_CUDA_OWN_GEMM", "0", 1);
	assert_false(be->pointwise(be, many, 32, 192, WL_ACT_SILU, WL_BF16, WL_BF16));
	setenv("WL_CUDA_OWN_GEMM", "1", 1);
	assert_true(be->pointwise(be, many, 640, 2560, WL_ACT_SILU, WL_BF16, WL_BF16));
	assert_false(be->pointwise(be, many, 32, 196, WL_ACT_SILU, WL_BF16, WL_BF16));
	unsetenv("WL_CUDA_OWN_GEMM");
	wl_backend_close(be);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forward),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_same_bits),
		cmocka_unit_test(test_rule),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

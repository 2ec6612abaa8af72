/*
 * The GPU's kernels of the convolutional tower one by one, at sizes that cross the borders of their
 * tiles, with activations in f32, bf16 and fp16 and with batch norm applied where a tensor is read;
 * against sums in double precision over the very values that were stored.
 */
#include "tests/support/held.h"
#include "tests/support/opcheck.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Squares of relative errors: 24 bits of sums in f32; 8 bits where the result is stored in bf16, 11
 * in fp16. */
static const double f32_bound = 1e-11, bf16_bound = 6e-6, f16_bound = 1e-7;

static void run(struct wl_backend *be, struct wl_op *op)
{
	held_run(be, op, (struct wl_run){.seed = 7, .step = 1, .world = 1});
}

static void check(struct wl_backend *be, const char *what, const struct held *got,
	const double *want)
{
	double *v = calloc((size_t)got->n, sizeof *v), e;
	double bound = got->t.dtype == WL_BF16	 ? bf16_bound
		       : got->t.dtype == WL_F16 ? f16_bound
						: f32_bound;

	assert_non_null(v);
	held_get(be, got, v);
	e = opcheck_nmse(v, want, got->n);
	if (!(e <= bound))
		fail_msg("%s: NMSE %g, at most %g is allowed (first: %g, expected %g)", what, e,
			bound, v[0], want[0]);
	free(v);
}

/* --- depthwise --- */

struct dw {
	int n, h, w, c, k, stride;
	bool norm; /* silu(gamma (x - mean) rstd + beta) in x's place */
	bool acc;  /* the gradients are added to */
};

static int before(int n, int k, int s)
{
	int total = ((n + s - 1) / s - 1) * s + k - n;

	return total > 0 ? total / 2 : 0;
}

static double silu(double v)
{
	return v / (1 + exp(-v));
}

/* What the convolution reads. */
static double *read_through(const struct held *x, const struct held *norm, int64_t c)
{
	double *z = calloc((size_t)x->n, sizeof *z);

	assert_non_null(z);
	for (int64_t i = 0; i < x->n; i++) {
		int64_t j = i % c;

		z[i] = norm ? silu((x->v[i] - norm[2].v[j]) * norm[2].v[c + j] * norm[0].v[j] +
				   norm[1].v[j])
			    : x->v[i];
	}
	return z;
}

/* y, g_x and g_w of one pass over outputs and taps. */
static void dw_reference(const struct dw *v, const double *z, const double *w, const double *gy,
	double *y, double *gx, double *gw)
{
	int oh = (v->h + v->stride - 1) / v->stride, ow = (v->w + v->stride - 1) / v->stride;
	int pt = before(v->h, v->k, v->stride), pl = before(v->w, v->k, v->stride);

	for (int r = 0; r < v->n * oh * ow; r++)
		for (int t = 0; t < v->k * v->k; t++) {
			int a = r / ow % oh * v->stride - pt + t / v->k;
			int b = r % ow * v->stride - pl + t % v->k;
			int64_t at = ((int64_t)(r / (oh * ow) * v->h + a) * v->w + b) * v->c;

			if (a < 0 || a >= v->h || b < 0 || b >= v->w)
				continue;
			for (int c = 0; c < v->c; c++) {
				double g = gy[(int64_t)r * v->c + c];

				y[(int64_t)r * v->c + c] += w[t * v->c + c] * z[at + c];
				gx[at + c] += w[t * v->c + c] * g;
				gw[t * v->c + c] += z[at + c] * g;
			}
		}
}

/* [2,c]: mean and variance of rows of c. */
static double *moments_of(const double *y, int64_t n, int64_t c)
{
	double *m = calloc((size_t)(2 * c), sizeof *m);

	assert_non_null(m);
	for (int64_t i = 0; i < n; i++)
		m[i % c] += y[i] * (double)c / (double)n;
	for (int64_t i = 0; i < n; i++)
		m[c + i % c] += pow(y[i] - m[i % c], 2) * (double)c / (double)n;
	return m;
}

/* The moments that the convolution leaves are those of y as it was stored. */
static void check_moments(struct wl_backend *be, const char *what, const struct held *y,
	const struct held *moments)
{
	double *v = calloc((size_t)y->n, sizeof *v), *want;

	assert_non_null(v);
	held_get(be, y, v);
	want = moments_of(v, y->n, moments->n / 2);
	check(be, what, moments, want);
	free(want);
	free(v);
}

/* The means that the convolution leaves are those of y as it was stored, under the norm behind. */
static void check_means(struct wl_backend *be, const char *what, const struct held *y,
	const struct held *norm, const struct held *means)
{
	struct held stored = *y;
	double *want = calloc((size_t)means->n, sizeof *want), *z;
	int64_t c = y->t.shape.dim[3], each = y->n / y->t.shape.dim[0];

	assert_non_null(want);
	stored.v = calloc((size_t)y->n, sizeof *stored.v);
	assert_non_null(stored.v);
	held_get(be, y, stored.v);
	z = read_through(&stored, norm, c);
	for (int64_t i = 0; i < y->n; i++)
		want[i / each * c + i % c] += z[i] * (double)c / (double)each;
	check(be, what, means, want);
	free(z);
	free(stored.v);
	free(want);
}

static double silu_slope(double v)
{
	double s = 1 / (1 + exp(-v));

	return s * (1 + v * (1 - s));
}

/* What batch norm's backward wants, of g_x as it was stored. */
static void check_sums(struct wl_backend *be, const char *what, const struct held *x,
	const struct held *norm, const struct held *gx, const struct held *sums)
{
	int64_t c = x->t.shape.dim[3];
	double *g = calloc((size_t)gx->n, sizeof *g), *want = calloc((size_t)sums->n, sizeof *want);

	assert_non_null(g);
	assert_non_null(want);
	held_get(be, gx, g);
	for (int64_t i = 0; i < x->n; i++) {
		int64_t j = i % c;
		double u = (x->v[i] - norm[2].v[j]) * norm[2].v[c + j];
		double d = g[i] * silu_slope(norm[0].v[j] * u + norm[1].v[j]);

		want[j] += d;
		want[c + j] += d * u;
	}
	check(be, what, sums, want);
	free(want);
	free(g);
}

/* Each of the gradients alone; and both again, which have the same bits. */
static void check_alone(struct wl_backend *be, const char *what, const struct wl_op *both,
	const struct held *gx, const struct held *gw, const double *want_gw)
{
	struct wl_op op = *both;
	double *first = calloc((size_t)gx->n, sizeof *first), *v = calloc((size_t)gx->n, sizeof *v);
	double *want = calloc((size_t)gw->n, sizeof *want);

	assert_non_null(first);
	assert_non_null(v);
	assert_non_null(want);
	held_get(be, gx, first);
	op.out[1] = op.out[2] = NULL;
	for (int i = 0; i < 2; i++) {
		be->zero(be, gx->t.data, held_bytes(gx));
		run(be, &op);
		held_get(be, gx, v);
		assert_memory_equal(v, first, (size_t)gx->n * sizeof *v);
		op = *both;
	}
	op.out[0] = op.out[2] = NULL;
	run(be, &op);
	for (int64_t i = 0; i < gw->n; i++) /* thrice what was added once */
		want[i] = gw->v[i] + 3 * (want_gw[i] - gw->v[i]);
	check(be, what, gw, want);
	free(want);
	free(v);
	free(first);
}

static void one_depthwise(struct wl_backend *be, const struct dw *v, enum wl_dtype dtype)
{
	int oh = (v->h + v->stride - 1) / v->stride, ow = (v->w + v->stride - 1) / v->stride;
	struct wl_shape in = WL_SHAPE(v->n, v->h, v->w, v->c), out = WL_SHAPE(v->n, oh, ow, v->c);
	struct held x = held_make(be, dtype, in, 1, 1, 0.3f);
	struct held gy = held_make(be, dtype, out, 2, 1, 0.1f);
	struct held w = held_make(be, WL_F32, WL_SHAPE(v->k, v->k, v->c), 3, 1, 0);
	struct held y = held_make(be, dtype, out, 4, 1, 0), gx = held_make(be, dtype, in, 5, 1, 0);
	struct held gw = held_make(be, WL_F32, w.t.shape, 6, 1, 0);
	struct held moments = held_make(be, WL_F32, WL_SHAPE(2, v->c), 10, 1, 0);
	struct held sums = held_make(be, WL_F32, WL_SHAPE(2, v->c), 12, 1, 0);
	struct held norm[] = {held_make(be, WL_F32, WL_SHAPE(v->c), 7, 0.5f, 1),
		held_make(be, WL_F32, WL_SHAPE(v->c), 8, 0.5f, 0),
		held_make(be, WL_F32, WL_SHAPE(2, v->c), 9, 0.5f, 1)};
	double *z = read_through(&x, v->norm ? norm : NULL, v->c);
	double *want[3] = {calloc((size_t)y.n, 8), calloc((size_t)x.n, 8), calloc((size_t)w.n, 8)};
	struct wl_op_attr attr = {.kh = v->k, .kw = v->k, .stride = v->stride,
		.pad_top = before(v->h, v->k, v->stride), .pad_left = before(v->w, v->k, v->stride),
		.act = WL_ACT_SILU};
	struct wl_op fwd = {.kind = WL_OP_DEPTHWISE, .label = "t", .in = {&x.t, &w.t},
		.out = {&y.t, v->norm ? &moments.t : NULL}, .attr = attr};
	struct wl_op bwd = {.kind = WL_OP_DEPTHWISE_BWD, .label = "t", .in = {&x.t, &w.t, &gy.t},
		.out = {&gx.t, &gw.t, v->norm ? &sums.t : NULL}, .acc = v->acc ? 3 : 2,
		.attr = attr};
	struct held means = held_make(be, dtype, WL_SHAPE(v->n, v->c), 11, 1, 0);
	struct wl_op infer = fwd;
	char what[100];

	for (int i = 0; i < 3; i++)
		infer.in[5 + i] = &norm[i].t;
	infer.out[1] = NULL;
	infer.out[2] = &means.t;
	for (int i = 0; v->norm && i < 3; i++)
		infer.in[2 + i] = fwd.in[2 + i] = bwd.in[3 + i] = &norm[i].t;
	for (int64_t i = 0; v->acc && i < x.n; i++)
		want[1][i] = gx.v[i];
	for (int64_t i = 0; i < w.n; i++)
		want[2][i] = gw.v[i];
	dw_reference(v, z, w.v, gy.v, want[0], want[1], want[2]);
	snprintf(what, sizeof what, "%dx%dx%dx%d, kernel %d, stride %d, %s", v->n, v->h, v->w, v->c,
		v->k, v->stride, dtype == WL_BF16 ? "bf16" : "f32");
	run(be, &fwd);
	run(be, &bwd);
	print_message("depthwise %s\n", what);
	check(be, what, &y, want[0]);
	if (v->norm)
		check_moments(be, what, &y, &moments);
	run(be, &infer);
	check(be, what, &y, want[0]);
	check_means(be, what, &y, norm, &means);
	check(be, what, &gx, want[1]);
	check(be, what, &gw, want[2]);
	if (v->norm)
		check_sums(be, what, &x, norm, &gx, &sums);
	if (!v->acc)
		check_alone(be, what, &bwd, &gx, &gw, want[2]);
	for (int i = 0; i < 3; i++) {
		free(want[i]);
		held_release(be, &norm[i]);
	}
	free(z);
	held_release(be, &x), held_release(be, &gy), held_release(be, &w);
	held_release(be, &y), held_release(be, &gx), held_release(be, &gw);
	held_release(be, &moments), held_release(be, &means), held_release(be, &sums);
}

static void test_depthwise(void **state)
{
	/* Columns and rows over one tile; slabs of channels full, in part, several; strips that
	 * end within a thread's columns; maps smaller than the kernel. */
	static const struct dw all[] = {
		{1, 21, 41, 72, 3, 1, true, false},
		{2, 13, 37, 72, 5, 1, false, true},
		{1, 43, 70, 40, 3, 2, false, true},
		{1, 38, 77, 72, 5, 2, true, false},
		{2, 7, 6, 136, 5, 1, true, true},
		{2, 6, 7, 136, 5, 2, true, true},
		{3, 2, 1, 8, 5, 2, true, false},
		{1, 2, 3, 16, 5, 1, true, false},
		{2, 9, 11, 19, 5, 2, true, true},
		{1, 8, 7, 6, 3, 1, true, false},
		{1, 67, 9, 8, 3, 1, true, true},
		{1, 31, 29, 24, 5, 1, true, false},
		{3, 12, 33, 96, 3, 2, true, false},
	};
	struct wl_backend *be = opcheck_gpu();

	(void)state;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		one_depthwise(be, &all[i], WL_F32);
		one_depthwise(be, &all[i], WL_BF16);
		one_depthwise(be, &all[i], WL_F16);
	}
	wl_backend_close(be);
}

/* --- batch norm from moments --- */

/* Another rank with the same pictures. */
static void twice(void *peers, double *v, size_t n)
{
	(void)peers;
	for (size_t i = 0; i < n; i++)
		v[i] *= 2;
}

/* The statistics are those that batch norm finds itself, alone and of two ranks. */
static void test_moments(void **state)
{
	enum { ROWS = 2 * 9 * 7, C = 24 };
	struct wl_backend *be = opcheck_gpu();
	struct wl_shape c = WL_SHAPE(C);
	struct held x = held_make(be, WL_BF16, WL_SHAPE(2, 9, 7, C), 1, 0.2f, 3);
	struct held gamma = held_make(be, WL_F32, c, 2, 1, 0);
	struct held beta = held_make(be, WL_F32, c, 3, 1, 0);
	struct held moments = held_make(be, WL_F32, WL_SHAPE(2, C), 4, 1, 0);
	struct held saved = held_make(be, WL_F32, WL_SHAPE(2, C), 5, 1, 0);
	double *want = moments_of(x.v, x.n, C), run_var[C];

	(void)state;
	memcpy(moments.v, want, 2 * C * sizeof *want);
	held_put(be, &moments);
	for (int ranks = 1; ranks <= 2; ranks++) {
		struct held mean = held_make(be, WL_F32, c, 6, 0, 0);
		struct held var = held_make(be, WL_F32, c, 7, 0, 0);
		struct wl_op op = {.kind = WL_OP_BATCH_NORM, .label = "t",
			.in = {&x.t, &gamma.t, &beta.t, &mean.t, &var.t, NULL, &moments.t},
			.out = {NULL, &saved.t}, .attr = {.eps = 1e-3f, .momentum = 1}};
		double rows = ROWS * ranks, expected[2 * C];

		held_run(be, &op, (struct wl_run){.world = ranks, .sum = ranks > 1 ? twice : NULL});
		for (int j = 0; j < C; j++) {
			expected[j] = want[j];
			expected[C + j] = 1 / sqrt(want[C + j] + (double)1e-3f);
			run_var[j] = want[C + j] * rows / (rows - 1);
		}
		check(be, "saved", &saved, expected);
		check(be, "running mean", &mean, want);
		check(be, "running variance", &var, run_var);
		held_release(be, &mean), held_release(be, &var);
	}
	free(want);
	held_release(be, &x), held_release(be, &gamma), held_release(be, &beta);
	held_release(be, &moments), held_release(be, &saved);
	wl_backend_close(be);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_depthwise),
		cmocka_unit_test(test_moments),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

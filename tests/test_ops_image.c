/* Operations of the image tower against double-precision references. */
#include "tests/support/opcheck.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct conv {
	int n, h, w, i, o, k, stride;
};

static int same_before(int n, int k, int s)
{
	int total = ((n + s - 1) / s - 1) * s + k - n;
	return total > 0 ? total / 2 : 0;
}

static double tap(const double *x, int h, int w, int c, int n, int y, int xx, int ch)
{
	return y < 0 || y >= h || xx < 0 || xx >= w ? 0 : x[((n * h + y) * w + xx) * c + ch];
}

static void conv_ref(const double *const *in, double *out, const void *ctx)
{
	const struct conv *v = ctx;
	int oh = (v->h + v->stride - 1) / v->stride, ow = (v->w + v->stride - 1) / v->stride;
	int pt = same_before(v->h, v->k, v->stride), pl = same_before(v->w, v->k, v->stride);
	for (int r = 0; r < v->n * oh * ow; r++)
		for (int o = 0; o < v->o; o++) {
			double s = in[2][o];
			for (int a = 0; a < v->k * v->k; a++)
				for (int i = 0; i < v->i; i++)
					s += in[1][(o * v->k * v->k + a) * v->i + i] *
					     tap(in[0], v->h, v->w, v->i, r / (oh * ow),
						     r / ow % oh * v->stride - pt + a / v->k,
						     r % ow * v->stride - pl + a % v->k, i);
			out[r * v->o + o] = s;
		}
}

static wl_tid conv_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	return wl_g_conv2d(g, in[0], in[1], in[2], ((const struct conv *)ctx)->stride);
}

static void test_conv(void **state)
{
	(void)state;
	static const struct conv all[] = {
		{2, 7, 9, 5, 6, 1, 1},
		{2, 8, 8, 3, 32, 3, 2},
		{1, 9, 7, 4, 17, 3, 1},
		{2, 6, 6, 3, 5, 5, 2},
		{3, 5, 5, 2, 3, 1, 2},
		{9, 33, 32, 3, 5, 1, 1},
		{1, 12, 12, 33, 7, 3, 3},
		{2, 40, 40, 3, 8, 3, 2},
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		const struct conv *v = &all[i];
		struct opcheck c = {.name = "conv",
			.n_in = 3,
			.build = conv_build,
			.ref = conv_ref,
			.ctx = v,
			.layout = {WL_LAYOUT_PLAIN, WL_LAYOUT_CONV, WL_LAYOUT_PLAIN},
			.shape = {WL_SHAPE(v->n, v->h, v->w, v->i),
				WL_SHAPE(v->o, v->i, v->k, v->k), WL_SHAPE(v->o)}};
		opcheck(&c);
		c.bf16 = true;
		c.tolerance = 3e-5;
		c.store_bf16 = true;
		opcheck(&c);
	}
}

static void depthwise_ref(const double *const *in, double *out, const void *ctx)
{
	const struct conv *v = ctx;
	int oh = (v->h + v->stride - 1) / v->stride, ow = (v->w + v->stride - 1) / v->stride;
	int pt = same_before(v->h, v->k, v->stride), pl = same_before(v->w, v->k, v->stride);
	for (int r = 0; r < v->n * oh * ow; r++)
		for (int c = 0; c < v->i; c++) {
			double s = 0;
			for (int a = 0; a < v->k * v->k; a++)
				s += in[1][a * v->i + c] *
				     tap(in[0], v->h, v->w, v->i, r / (oh * ow),
					     r / ow % oh * v->stride - pt + a / v->k,
					     r % ow * v->stride - pl + a % v->k, c);
			out[r * v->i + c] = s;
		}
}

static wl_tid depthwise_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	return wl_g_depthwise(g, in[0], in[1], ((const struct conv *)ctx)->stride);
}

static void test_depthwise(void **state)
{
	(void)state;
	/* Sizes below, at and above the kernel's; channels that do and do not fill vectors. */
	static const struct conv all[] = {
		{2, 8, 8, 16, 0, 3, 1},
		{2, 9, 7, 24, 0, 3, 2},
		{1, 8, 10, 40, 0, 5, 1},
		{2, 11, 8, 19, 0, 5, 2},
		{2, 2, 2, 16, 0, 5, 1},
		{2, 1, 3, 8, 0, 5, 2},
		{1, 4, 4, 32, 0, 5, 1},
		{1, 3, 3, 16, 0, 3, 2},
		{1, 9, 9, 5, 0, 7, 1},
		{1, 9, 9, 5, 0, 7, 3},
		{1, 5, 6, 3, 0, 3, 3},
		{2, 16, 15, 33, 0, 5, 2},
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		const struct conv *v = &all[i];
		struct opcheck c = {.name = "depthwise",
			.n_in = 2,
			.build = depthwise_build,
			.ref = depthwise_ref,
			.ctx = v,
			.store_bf16 = true,
			.layout = {WL_LAYOUT_PLAIN, WL_LAYOUT_DEPTHWISE},
			.shape = {WL_SHAPE(v->n, v->h, v->w, v->i), WL_SHAPE(v->i, 1, v->k, v->k)}};
		opcheck(&c);
	}
}

struct norm {
	int n, hw, c;
	enum wl_act act;
	bool residual, running;
};

static void bn_ref(const double *const *in, double *out, const void *ctx)
{
	const struct norm *v = ctx;
	int rows = v->n * v->hw * v->hw;
	for (int c = 0; c < v->c; c++) {
		double mean = 0, var = 0;
		for (int r = 0; r < rows; r++)
			mean += in[0][r * v->c + c] / rows;
		for (int r = 0; r < rows; r++)
			var += pow(in[0][r * v->c + c] - mean, 2) / rows;
		if (v->running) {
			mean = in[3][c];
			var = in[4][c];
		}
		for (int r = 0; r < rows; r++) {
			int i = r * v->c + c;
			double z = (in[0][i] - mean) / sqrt(var + 1e-3) * in[1][c] + in[2][c];
			out[i] = opcheck_act(v->act, z) + (v->residual ? in[5][i] : 0);
		}
	}
}

static wl_tid bn_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	const struct norm *v = ctx;
	return wl_g_batch_norm(g, in[0],
		&(struct wl_bn){.gamma = in[1],
			.beta = in[2],
			.mean = in[3],
			.var = in[4],
			.eps = 1e-3f,
			.momentum = 0.1f,
			.act = v->act,
			.residual = v->residual ? in[5] : WL_NONE,
			.use_running = v->running});
}

static struct opcheck bn_check(const struct norm *v)
{
	struct wl_shape x = WL_SHAPE(v->n, v->hw, v->hw, v->c), c = WL_SHAPE(v->c);
	return (struct opcheck){.name = "batch_norm",
		.n_in = v->residual ? 6 : 5,
		.build = bn_build,
		.ref = bn_ref,
		.ctx = v,
		.store_bf16 = true,
		.acts = 1u | 1u << 5,
		.store_tolerance = 1e-4,
		.shape = {x, c, c, c, c, x},
		.buffers = 1u << 3 | 1u << 4,
		.offset = {3, 1, 0, 0.5f, 6},
		.scale = {2, 0.3f, 0.5f, 0.5f, 0.5f}};
}

static void test_batch_norm(void **state)
{
	(void)state;
	static const struct norm all[] = {
		{2, 5, 17, WL_ACT_NONE, false, false},
		{3, 4, 16, WL_ACT_SILU, true, false},
		{2, 3, 8, WL_ACT_RELU6, false, false},
		{2, 3, 8, WL_ACT_RELU, true, true},
		{2, 40, 40, WL_ACT_SILU, false, false},
		{2, 3, 24, WL_ACT_SILU, false, true},
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		struct opcheck c = bn_check(&all[i]);
		opcheck(&c);
	}
}

/* Running statistics after one step, by PyTorch's rule. */
static void test_running_stats(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_backend *be = wl_backend_cpu_open(2, &err);
	struct wl_params p;
	wl_params_init(&p);
	struct wl_graph *g =
		wl_graph_new("bn", &p, &(struct wl_graph_options){.train = true}, &err);
	wl_tid x = wl_g_input(g, "x", WL_F32, WL_SHAPE(2, 2, 1, 1)), t[4];
	const char *names[] = {"gamma", "beta", "mean", "var"};
	for (int i = 0; i < 4; i++)
		t[i] = wl_g_param(g, names[i], WL_LAYOUT_PLAIN, WL_SHAPE(1),
			i < 2 ? WL_PARAM_GAIN : WL_PARAM_BUFFER);
	wl_tid y = wl_g_batch_norm(g, x,
		&(struct wl_bn){.gamma = t[0],
			.beta = t[1],
			.mean = t[2],
			.var = t[3],
			.eps = 1e-3f,
			.momentum = 0.1f});
	wl_g_output(g, y, "y");
	assert_int_equal(wl_params_seal(&p, be, true, &err), 0);
	assert_int_equal(wl_graph_compile(g, be, &err), 0);
	memcpy(wl_graph_data(g, x), (float[]){1, 2, 3, 6}, 16);
	p.value[p.item[3].offset] = 1;
	assert_int_equal(wl_graph_run(g, 0, 0, &err), 0);
	/* mean 3, unbiased variance (4 + 1 + 0 + 9) / 3 */
	assert_true(fabsf(p.value[p.item[2].offset] - 0.3f) < 1e-6f);
	assert_true(fabsf(p.value[p.item[3].offset] - (0.9f + 0.1f * 14 / 3)) < 1e-6f);
	wl_graph_free(g);
	wl_params_release(&p);
	wl_backend_close(be);
}

static void gate_ref(const double *const *in, double *out, const void *ctx)
{
	const struct conv *v = ctx;
	for (int n = 0; n < v->n; n++)
		for (int r = 0; r < v->h * v->w; r++)
			for (int c = 0; c < v->i; c++)
				out[(n * v->h * v->w + r) * v->i + c] =
					in[0][(n * v->h * v->w + r) * v->i + c] /
					(1 + exp(-in[1][n * v->i + c]));
}

static wl_tid gate_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	(void)ctx;
	return wl_g_channel_scale(g, in[0], in[1]);
}

static void mean_ref(const double *const *in, double *out, const void *ctx)
{
	const struct conv *v = ctx;
	for (int n = 0; n < v->n; n++)
		for (int c = 0; c < v->i; c++) {
			double s = 0;
			for (int r = 0; r < v->h * v->w; r++)
				s += in[0][(n * v->h * v->w + r) * v->i + c];
			out[n * v->i + c] = s / (v->h * v->w);
		}
}

static wl_tid mean_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	(void)ctx;
	return wl_g_mean_hw(g, in[0]);
}

/* A squeeze-excite of the two: x's gradient comes from both. */
static void se_ref(const double *const *in, double *out, const void *ctx)
{
	const struct conv *v = ctx;
	double *mean = calloc((size_t)(v->n * v->i), sizeof(double));
	mean_ref(in, mean, ctx);
	gate_ref((const double *const[]){in[0], mean}, out, ctx);
	free(mean);
}

static wl_tid se_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	(void)ctx;
	return wl_g_channel_scale(g, in[0], wl_g_mean_hw(g, in[0]));
}

static void test_squeeze_excite(void **state)
{
	(void)state;
	static const struct conv v = {.n = 3, .h = 5, .w = 4, .i = 19};
	static const struct conv big = {.n = 2, .h = 3, .w = 2, .i = 300};
	struct wl_shape x = WL_SHAPE(3, 5, 4, 19), s = WL_SHAPE(3, 19);
	opcheck(&(struct opcheck){.name = "channel_scale",
		.n_in = 2,
		.build = gate_build,
		.ref = gate_ref,
		.ctx = &v,
		.store_bf16 = true,
		.acts = 3,
		.shape = {x, s}});
	opcheck(&(struct opcheck){.name = "mean_hw",
		.n_in = 1,
		.build = mean_build,
		.ref = mean_ref,
		.ctx = &v,
		.store_bf16 = true,
		.shape = {x}});
	opcheck(&(struct opcheck){.name = "squeeze_excite",
		.n_in = 1,
		.build = se_build,
		.ref = se_ref,
		.ctx = &v,
		.store_bf16 = true,
		.shape = {x},
		.offset = {1}});
	opcheck(&(struct opcheck){.name = "channel_scale",
		.n_in = 2,
		.build = gate_build,
		.ref = gate_ref,
		.ctx = &big,
		.store_bf16 = true,
		.acts = 3,
		.shape = {WL_SHAPE(2, 3, 2, 300), WL_SHAPE(2, 300)}});
}

/* RoI: sample by sample, bilinear with zeros outside (torch's grid_sample). */
struct roi {
	int n, h, w, c, r;
	float size;
	const float *boxes;
};

static double sample_at(const double *map, const struct roi *v, int n, double y, double x, int c)
{
	int y0 = (int)floor(y), x0 = (int)floor(x);
	double fy = y - y0, fx = x - x0, s = 0;
	for (int k = 0; k < 4; k++)
		s += (k / 2 ? fy : 1 - fy) * (k % 2 ? fx : 1 - fx) *
		     tap(map, v->h, v->w, v->c, n, y0 + k / 2, x0 + k % 2, c);
	return s;
}

static void roi_ref(const double *const *in, double *out, const void *ctx)
{
	const struct roi *v = ctx;
	for (int i = 0; i < v->n * v->r; i++) {
		const float *b = v->boxes + 4 * i;
		double sx = v->w / (double)v->size, sy = v->h / (double)v->size;
		double ax = v->w / (2.0 * (v->w - 1)), ay = v->h / (2.0 * (v->h - 1));
		for (int c = 0; c < v->c; c++) {
			double s = 0;
			for (int k = 0; k < 16; k++) {
				double ty = (2 * (k / 4) + 1) / 4.0 - 1,
				       tx = (2 * (k % 4) + 1) / 4.0 - 1;
				double x = ax * sx * ((b[2] - b[0]) * tx + b[0] + b[2]) - 0.5;
				double y = ay * sy * ((b[3] - b[1]) * ty + b[1] + b[3]) - 0.5;
				s += sample_at(in[0], v, i / v->r, y, x, c) / 16;
			}
			out[i * v->c + c] = s;
		}
	}
}

static wl_tid roi_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	const struct roi *v = ctx;
	wl_tid boxes = wl_g_input(g, "boxes", WL_F32, WL_SHAPE(v->n, v->r, 4));
	return wl_g_roi_grid(g, in[0], boxes, v->size, v->size);
}

static void roi_fill(struct wl_graph *g, const void *ctx)
{
	const struct roi *v = ctx;
	memcpy(wl_graph_data(g, wl_graph_find(g, "boxes")), v->boxes,
		(size_t)(v->n * v->r * 4) * sizeof(float));
}

static void test_roi(void **state)
{
	(void)state;
	static const float boxes[] = {0, 0, 128, 128, 10, 20, 60, 50, 0, 0, 0, 0, 100, 100, 128,
		128, 0, 0, 128, 128, 3, 90, 5, 127, 64, 0, 128, 64, -20, -30, 150, 170};
	static const struct roi v = {2, 4, 5, 19, 4, 128, boxes};
	opcheck(&(struct opcheck){.name = "roi_grid",
		.n_in = 1,
		.build = roi_build,
		.ref = roi_ref,
		.fill = roi_fill,
		.ctx = &v,
		.store_bf16 = true,
		.shape = {WL_SHAPE(2, 4, 5, 19)}});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conv),
		cmocka_unit_test(test_depthwise),
		cmocka_unit_test(test_batch_norm),
		cmocka_unit_test(test_running_stats),
		cmocka_unit_test(test_squeeze_excite),
		cmocka_unit_test(test_roi),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

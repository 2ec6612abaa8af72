/* Operations of the text tower and the head against double-precision references. */
#include "tests/support/cm.h"
#include "tests/support/held.h"
#include "tests/support/opcheck.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct linear {
	int rows, i, o;
	enum wl_act act;
};

static void linear_ref(const double *const *in, double *out, const void *ctx)
{
	const struct linear *v = ctx;
	for (int r = 0; r < v->rows; r++)
		for (int o = 0; o < v->o; o++) {
			double s = in[2][o];
			for (int i = 0; i < v->i; i++)
				s += in[0][r * v->i + i] * in[1][o * v->i + i];
			out[r * v->o + o] = opcheck_act(v->act, s);
		}
}

static wl_tid linear_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	return wl_g_linear(g, in[0], in[1], in[2], ((const struct linear *)ctx)->act);
}

static void check_linear(const struct linear *v, struct opcheck c)
{
	c.name = "linear";
	c.n_in = 3;
	c.build = linear_build;
	c.ref = linear_ref;
	c.ctx = v;
	c.shape[0] = WL_SHAPE(v->rows, v->i);
	c.shape[1] = WL_SHAPE(v->o, v->i);
	c.shape[2] = WL_SHAPE(v->o);
	opcheck(&c);
}

static void test_linear(void **state)
{
	(void)state;
	static const struct linear all[] = {
		{5, 7, 3, WL_ACT_NONE},
		{13, 33, 47, WL_ACT_RELU},
		{40, 300, 65, WL_ACT_GELU},
		{3, 17, 600, WL_ACT_SILU},
		{9, 8, 8, WL_ACT_SIGMOID},
		{9, 8, 8, WL_ACT_TANH},
		{9, 8, 8, WL_ACT_RELU6},
		{1, 1, 1, WL_ACT_NONE},
		{40, 30, 1, WL_ACT_NONE}, /* a column, both of whose steps are 1 */
		{40, 1, 30, WL_ACT_NONE},
		{9000, 3, 5, WL_ACT_GELU},
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		check_linear(&all[i],
			(struct opcheck){.scale = {1, 0.3f, 0.5f}, .offset = {0, 0.05f, 0}});
}

/* bf16 has 8 bits: an operand is off by 2^-9 at most, 1.1e-3 in the mean square root, so a
 * product of two has an NMSE of about 2.5e-6. */
static void test_linear_bf16(void **state)
{
	(void)state;
	static const struct linear all[] = {
		{40, 300, 65, WL_ACT_GELU},
		{3, 17, 600, WL_ACT_NONE},
		{9000, 3, 5, WL_ACT_NONE},
		{33, 1030, 34, WL_ACT_NONE},
		{64, 64, 64, WL_ACT_NONE},
		{1, 1, 1, WL_ACT_NONE},
		{40, 30, 1, WL_ACT_NONE},
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		check_linear(&all[i], (struct opcheck){.scale = {1, 0.1f, 0.5f},
					      .offset = {0, 0.02f, 0},
					      .bf16 = true,
					      .tolerance = 3e-5,
					      .store_bf16 = true});
}

/* y = w x, 16 x 16, of ones and one weight w everywhere, as the GPU's backend gives it. */
static float first_of(struct wl_graph *g, struct wl_backend *be)
{
	struct wl_err err = WL_ERR_INIT;
	float y[16 * 16];
	assert_int_equal(wl_graph_run(g, 1, 1, &err), 0);
	be->download(be, y, wl_graph_data(g, wl_graph_find(g, "y")), sizeof(y));
	return y[0];
}

/* Products read bf16 copies of weights: whatever changes a weight within a step must show. */
static void test_kept_copies(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_params p;
	float ones[256], twos[256];
	if (!wl_backend_cuda_count())
		SKIP("this build has neither a GPU's kernels nor their emulation");
	struct wl_backend *be = wl_backend_cuda_open(0, &err);
	assert_non_null(be);
	assert_int_equal(wl_backend_store(be, WL_BF16), WL_BF16);
	for (int i = 0; i < 256; i++)
		ones[i] = 1, twos[i] = 2;
	wl_params_init(&p);
	struct wl_graph *g = wl_graph_new("kept", &p,
		&(struct wl_graph_options){.compute_dtype = WL_BF16, .store = WL_BF16}, &err);
	wl_tid x = wl_g_input(g, "x", WL_F32, WL_SHAPE(16, 16));
	wl_tid w = wl_g_param(g, "w", WL_LAYOUT_PLAIN, WL_SHAPE(16, 16), WL_PARAM_WEIGHT);
	wl_g_output(g, wl_g_linear(g, x, w, WL_NONE, WL_ACT_NONE), "y");
	assert_int_equal(wl_params_seal(&p, be, true, &err), 0);
	assert_int_equal(wl_graph_compile(g, be, &err), 0);
	be->upload(be, wl_graph_data(g, x), ones, sizeof(ones));
	be->upload(be, p.value, ones, sizeof(ones));
	assert_true(first_of(g, be) == 16);
	be->upload(be, p.value, twos, sizeof(twos));
	assert_true(first_of(g, be) == 32);
	be->upload(be, p.grad, ones, sizeof(ones));
	be->ema(be, p.value, p.grad, 256, 0.5f);
	assert_true(first_of(g, be) == 24);
	be->zero(be, p.value, sizeof(ones));
	assert_true(first_of(g, be) == 0);
	wl_graph_free(g);
	wl_params_release(&p);
	wl_backend_close(be);
}

struct rows {
	int n, c;
	bool residual;
};

static void ln_ref(const double *const *in, double *out, const void *ctx)
{
	const struct rows *v = ctx;
	double *s = calloc((size_t)v->c, sizeof(double));
	for (int r = 0; r < v->n; r++) {
		double mean = 0, var = 0;
		for (int c = 0; c < v->c; c++) {
			s[c] = in[0][r * v->c + c] + (v->residual ? in[3][r * v->c + c] : 0);
			mean += s[c] / v->c;
		}
		for (int c = 0; c < v->c; c++)
			var += (s[c] - mean) * (s[c] - mean) / v->c;
		for (int c = 0; c < v->c; c++)
			out[r * v->c + c] = (s[c] - mean) / sqrt(var + 1e-5) * in[1][c] + in[2][c];
	}
	free(s);
}

static wl_tid ln_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	const struct rows *v = ctx;
	return wl_g_layer_norm(g, in[0],
		&(struct wl_ln){.gamma = in[1],
			.beta = in[2],
			.eps = 1e-5f,
			.residual = v->residual ? in[3] : WL_NONE});
}

static void l2_ref(const double *const *in, double *out, const void *ctx)
{
	const struct rows *v = ctx;
	for (int r = 0; r < v->n; r++) {
		double s = 0;
		for (int c = 0; c < v->c; c++)
			s += in[0][r * v->c + c] * in[0][r * v->c + c];
		for (int c = 0; c < v->c; c++)
			out[r * v->c + c] = in[0][r * v->c + c] / sqrt(s);
	}
}

static wl_tid l2_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	(void)ctx;
	return wl_g_l2_normalize(g, in[0], 1e-12f);
}

static void test_norms(void **state)
{
	(void)state;
	static const struct rows all[] = {{7, 19, false}, {9, 64, true}, {2100, 33, true}};
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		const struct rows *v = &all[i];
		struct wl_shape x = WL_SHAPE(v->n, v->c), c = WL_SHAPE(v->c);
		opcheck(&(struct opcheck){.name = "layer_norm",
			.n_in = v->residual ? 4 : 3,
			.build = ln_build,
			.ref = ln_ref,
			.ctx = v,
			.shape = {x, c, c, x},
			.offset = {4, 1, 0, 0},
			.scale = {1, 0.3f, 0.3f, 1}});
		opcheck(&(struct opcheck){.name = "l2_normalize",
			.n_in = 1,
			.build = l2_build,
			.ref = l2_ref,
			.ctx = v,
			.shape = {x}});
	}
}

struct attn {
	int b, s, d, heads;
	bool packed;
	const float *mask;
};

static void attn_ref(const double *const *in, double *out, const void *ctx)
{
	const struct attn *v = ctx;
	int dh = v->d / v->heads, ld = v->packed ? 3 * v->d : v->d;
	const double *q = in[0], *k = v->packed ? q + v->d : in[1];
	const double *val = v->packed ? q + 2 * v->d : in[2];
	double *p = calloc((size_t)v->s, sizeof(double));
	for (int t = 0; t < v->b * v->heads * v->s; t++) {
		int i = t % v->s, h = t / v->s % v->heads, b = t / v->s / v->heads;
		double sum = 0;
		for (int j = 0; j < v->s; j++) {
			double dot = 0;
			for (int e = 0; e < dh; e++)
				dot += q[(b * v->s + i) * ld + h * dh + e] *
				       k[(b * v->s + j) * ld + h * dh + e];
			p[j] = v->mask && v->mask[b * v->s + j] == 0 ? 0 : exp(dot / sqrt(dh));
			sum += p[j];
		}
		for (int e = 0; e < dh; e++) {
			double o = 0;
			for (int j = 0; j < v->s && sum > 0; j++)
				o += p[j] / sum * val[(b * v->s + j) * ld + h * dh + e];
			out[(b * v->s + i) * v->d + h * dh + e] = o;
		}
	}
	free(p);
}

static wl_tid attn_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	const struct attn *v = ctx;
	wl_tid mask = WL_NONE;
	if (v->mask)
		mask = wl_g_input(g, "mask", WL_F32, WL_SHAPE(v->b, v->s));
	return wl_g_attention(g, &(struct wl_attn){.q = in[0],
					 .k = v->packed ? in[0] : in[1],
					 .v = v->packed ? in[0] : in[2],
					 .mask = mask,
					 .heads = v->heads});
}

static void attn_fill(struct wl_graph *g, const void *ctx)
{
	const struct attn *v = ctx;
	if (v->mask)
		memcpy(wl_graph_data(g, wl_graph_find(g, "mask")), v->mask,
			(size_t)(v->b * v->s) * sizeof(float));
}

static void test_attention(void **state)
{
	(void)state;
	static const float mask[] = {1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0};
	static const struct attn all[] = {
		{3, 5, 8, 2, false, mask},
		{2, 7, 24, 3, true, NULL},
		{3, 5, 8, 1, true, mask},
		{2, 40, 36, 2, false, NULL},
		{1, 70, 128, 2, true, NULL},
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		const struct attn *v = &all[i];
		struct wl_shape x = WL_SHAPE(v->b, v->s, v->packed ? 3 * v->d : v->d);
		struct opcheck c = {.name = "attention",
			.n_in = v->packed ? 1 : 3,
			.build = attn_build,
			.ref = attn_ref,
			.fill = attn_fill,
			.ctx = v,
			.shape = {x, x, x}};
		opcheck(&c);
		c.bf16 = true;
		c.tolerance = 1e-4;
		c.store_bf16 = true;
		c.acts = 7;
		/* Roundings of 2^-12, of operands, weights and results. */
		c.f16_tolerance = 4e-7;
		c.store_tolerance = 1e-4;
		opcheck(&c);
	}
}

/* A tensor of fp16 of these values; NULL: zeros. */
static struct held f16_tensor(struct wl_backend *be, const double *v, struct wl_shape shape)
{
	struct held h = held_make(be, WL_F16, shape, 1, 0, 0);
	if (v) {
		memcpy(h.v, v, (size_t)h.n * sizeof(*v));
		held_put(be, &h);
	}
	return h;
}

/* Gradients of scores beyond fp16's range become infinite: a step with them is seen to overflow. */
static void test_attention_overflow(void **state)
{
	enum { S = 4, D = 8 };
	(void)state;
	struct wl_backend *be = opcheck_gpu();
	double x[S * D], g[S * D], got[S * D];
	for (int large = 0; large < 2; large++) {
		for (int i = 0; i < S * D; i++) {
			x[i] = (i / D % 2 ? 2 : -2) + (i % 3 - 1); /* probabilities 0 and 1/2 */
			g[i] = (large ? 60000 : 60) * (i % 3 - 1);
		}
		struct wl_shape rows = WL_SHAPE(1, S, D), p = WL_SHAPE(1, 1, S, S);
		struct held q = f16_tensor(be, NULL, rows), k = f16_tensor(be, x, rows);
		struct held o = f16_tensor(be, NULL, rows), go = f16_tensor(be, g, rows);
		struct held gq = f16_tensor(be, NULL, rows);
		struct held lse = held_make(be, WL_F32, p, 1, 0, 0);
		struct wl_op fwd = {.kind = WL_OP_ATTENTION, .label = "t", .in = {&q.t, &k.t, &k.t},
			.out = {&o.t, &lse.t}, .attr = {.heads = 1, .compute = WL_F16}};
		struct wl_op bwd = {.kind = WL_OP_ATTENTION_BWD, .label = "t",
			.in = {&q.t, &k.t, &k.t, &lse.t, &go.t}, .out = {&gq.t}, .attr = fwd.attr};
		held_run(be, &fwd, (struct wl_run){.world = 1});
		held_run(be, &bwd, (struct wl_run){.world = 1});
		held_get(be, &gq, got);
		int finite = 0;
		for (int i = 0; i < S * D; i++)
			finite += isfinite(got[i]) != 0;
		assert_true(large ? finite < S * D : finite == S * D);
		struct held *all[] = {&q, &k, &o, &go, &gq, &lse};
		for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
			held_release(be, all[i]);
	}
	wl_backend_close(be);
}

static const int32_t token_ids[] = {3, 0, 3, 9, 1, 3, 0, 2};

static void embed_ref(const double *const *in, double *out, const void *ctx)
{
	(void)ctx;
	for (int r = 0; r < 8; r++)
		for (int c = 0; c < 37; c++)
			out[r * 37 + c] =
				in[0][token_ids[r] * 37 + c] + in[1][r % 4 * 37 + c] + in[2][c];
}

static wl_tid embed_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	(void)ctx;
	return wl_g_embedding(g, wl_g_input(g, "ids", WL_I32, WL_SHAPE(2, 4)), in[0], in[1], in[2]);
}

static void embed_fill(struct wl_graph *g, const void *ctx)
{
	(void)ctx;
	memcpy(wl_graph_data(g, wl_graph_find(g, "ids")), token_ids, sizeof(token_ids));
}

static void test_embedding(void **state)
{
	(void)state;
	opcheck(&(struct opcheck){.name = "embedding",
		.n_in = 3,
		.build = embed_build,
		.ref = embed_ref,
		.fill = embed_fill,
		.shape = {WL_SHAPE(10, 37), WL_SHAPE(6, 37), WL_SHAPE(2, 37)}});
}

static const float mean_mask[] = {1, 1, 0, 1, 0, 0, 0, 0, 0};

static void mean_ref(const double *const *in, double *out, const void *ctx)
{
	for (int b = 0; b < 3; b++)
		for (int c = 0; c < 11; c++) {
			double s = 0, n = 0;
			for (int i = 0; i < 3; i++) {
				double w = ctx ? (double)mean_mask[b * 3 + i] : 1;
				n += w;
				s += w * in[0][(b * 3 + i) * 11 + c];
			}
			out[b * 11 + c] = n > 0 ? s / n : 0;
		}
}

static wl_tid mean_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	wl_tid mask = ctx ? wl_g_input(g, "mask", WL_F32, WL_SHAPE(3, 3)) : WL_NONE;
	return wl_g_masked_mean(g, in[0], mask);
}

static void mean_fill(struct wl_graph *g, const void *ctx)
{
	if (ctx)
		memcpy(wl_graph_data(g, wl_graph_find(g, "mask")), mean_mask, sizeof(mean_mask));
}

static void test_masked_mean(void **state)
{
	(void)state;
	struct opcheck c = {.name = "masked_mean",
		.n_in = 1,
		.build = mean_build,
		.ref = mean_ref,
		.fill = mean_fill,
		.ctx = mean_mask,
		.shape = {WL_SHAPE(3, 3, 11)}};
	opcheck(&c);
	c.ctx = NULL;
	opcheck(&c);
}

/* ((a | b) along axis 1), a part of it scaled, squashed, added to itself reshaped. */
static void glue_ref(const double *const *in, double *out, const void *ctx)
{
	(void)ctx;
	for (int o = 0; o < 2; o++)
		for (int i = 0; i < 4; i++) /* rows 1..4 of the joined 5 */
			for (int c = 0; c < 6; c++) {
				int r = i + 1;
				double x = r < 2 ? in[0][(o * 2 + r) * 6 + c]
						 : in[1][(o * 3 + r - 2) * 6 + c];
				double y = 1.5 * x;
				out[(o * 4 + i) * 6 + c] = opcheck_act(WL_ACT_TANH, y) + y + y;
			}
}

static wl_tid glue_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	(void)ctx;
	wl_tid x = wl_g_slice(g, wl_g_concat(g, in[0], in[1], 1), 1, 1, 4);
	wl_tid y = wl_g_scale(g, x, 1.5f);
	wl_tid flat = wl_g_reshape(g, y, WL_SHAPE(8, 6));
	wl_tid twice = wl_g_add(g, flat, flat);
	wl_tid z =
		wl_g_add(g, wl_g_act(g, y, WL_ACT_TANH), wl_g_reshape(g, twice, WL_SHAPE(2, 4, 6)));
	return z;
}

static void test_glue(void **state)
{
	(void)state;
	opcheck(&(struct opcheck){.name = "glue",
		.n_in = 2,
		.build = glue_build,
		.ref = glue_ref,
		.shape = {WL_SHAPE(2, 2, 6), WL_SHAPE(2, 3, 6)},
		.store_bf16 = true,
		.acts = 3});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linear),
		cmocka_unit_test(test_linear_bf16),
		cmocka_unit_test(test_kept_copies),
		cmocka_unit_test(test_norms),
		cmocka_unit_test(test_attention),
		cmocka_unit_test(test_attention_overflow),
		cmocka_unit_test(test_embedding),
		cmocka_unit_test(test_masked_mean),
		cmocka_unit_test(test_glue),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Operations of the text tower, the head and the loss against double-precision references. */
#include "tests/support/opcheck.h"
#include "train/backend/elementwise.h"
#include "train/backend/judge.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

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
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		check_linear(&all[i], (struct opcheck){.scale = {1, 0.1f, 0.5f},
					      .offset = {0, 0.02f, 0},
					      .bf16 = true,
					      .tolerance = 3e-5,
					      .store_bf16 = true});
}

struct wl_backend *wl_backend_cuda_open(int device, struct wl_err *err) __attribute__((weak));

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
	if (!wl_backend_cuda_open)
		skip();
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
		c.f16_tolerance = 3e-5; /* its products take bf16 */
		c.store_tolerance = 1e-4;
		opcheck(&c);
	}
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

/* Adam's arithmetic against a double loop (the golden against PyTorch is test_optim's). */
static void test_optimiser(void **state)
{
	(void)state;
	enum { N = 40000 };
	struct wl_err err = WL_ERR_INIT;
	struct wl_backend *be = wl_backend_cpu_open(2, &err);
	float *w = be->alloc(be, 6 * N * sizeof(float), &err), *g = w + N, *m = g + N, *v = m + N;
	float *k = v + N, *w0 = k + N;
	opcheck_normals(1, w, N, 1, 0);
	opcheck_normals(2, g, N, 1, 0);
	opcheck_normals(3, k, N, 1, 0);
	memcpy(w0, w, N * sizeof(float));
	double squares = 0;
	for (int i = 0; i < N; i++)
		squares += (double)g[i] * (double)g[i];
	assert_true(fabs(be->sum_squares(be, g, N) / squares - 1) < 1e-12);
	struct wl_adamw how = {.beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f, .grad_scale = 0.5f};
	struct wl_adamw_range ranges[] = {{0, N / 2, 1e-2f, 0.1f}, {N / 2, N, 1e-3f, 0}};
	for (how.step = 1; how.step <= 3; how.step++)
		be->adamw(be, w, g, m, v, ranges, 2, &how);
	for (int i = 0; i < N; i += 7) {
		double x = (double)w0[i], dm = 0, dv = 0, gi = 0.5 * (double)g[i];
		double lr = i < N / 2 ? 1e-2 : 1e-3, wd = i < N / 2 ? 0.1 : 0;
		for (int t = 1; t <= 3; t++) {
			dm = 0.9 * dm + 0.1 * gi;
			dv = 0.98 * dv + 0.02 * gi * gi;
			x -= lr * wd * x;
			x -= lr * (dm / (1 - pow(0.9, t))) / (sqrt(dv / (1 - pow(0.98, t))) + 1e-6);
		}
		assert_true(fabs((double)w[i] - x) < 2e-6);
	}
	memcpy(w0, k, N * sizeof(float));
	be->ema(be, k, w, N, 0.99f);
	for (int i = 0; i < N; i++)
		assert_true(
			fabs((double)k[i] - (0.99 * (double)w0[i] + 0.01 * (double)w[i])) < 1e-6);
	g[N / 3] = NAN;
	assert_false(isfinite(be->sum_squares(be, g, N)));
	be->free_mem(be, w);
	wl_backend_close(be);
}

/* The GPU's backend, where the program is linked with it (see opcheck.c). */
struct wl_backend *wl_backend_cuda_open(int device, struct wl_err *err) __attribute__((weak));

enum { N_PARAMS = 5000, SETS = 7 };

/* What an update reads and writes; all of one allocation. */
struct state {
	float *w, *g, *k;
	void *m, *v;
	uint16_t *w_half, *k_half;
	char *all;
	size_t bytes;
};

static void state_of(struct wl_backend *be, struct state *s)
{
	struct wl_err err = WL_ERR_INIT;
	size_t each = (N_PARAMS * sizeof(float) + 63) / 64 * 64;
	s->bytes = SETS * each;
	s->all = be->alloc(be, s->bytes, &err);
	assert_non_null(s->all);
	s->w = (float *)s->all;
	s->k = (float *)(s->all + each);
	s->m = s->all + 2 * each;
	s->v = s->all + 3 * each;
	s->w_half = (uint16_t *)(s->all + 4 * each);
	s->k_half = (uint16_t *)(s->all + 5 * each);
	s->g = (float *)(s->all + 6 * each);
	opcheck_normals(1, s->w, N_PARAMS, 1, 0);
	opcheck_normals(2, s->g, N_PARAMS, 1, 0);
	opcheck_normals(3, s->k, N_PARAMS, 1, 0);
}

/* Where the backend judges: by squares over two halves of g, clipped to 3, at a loss scale of 2;
 * *factor: what the gradients are to be multiplied with. */
static void judge_step(struct wl_backend *be, struct wl_judge *j, const float *g, float *scores,
	struct wl_judged *out, float *factor)
{
	const struct wl_judge_ops *ops = be->judges;
	struct wl_err err = WL_ERR_INIT;
	struct wl_judge_places at;

	ops->places(j, &at);
	be->squares(be, g, N_PARAMS / 2, at.squares, false);
	be->squares(be, g + N_PARAMS / 2, N_PARAMS - N_PARAMS / 2, at.squares, true);
	ops->measure(j, scores, 1);
	ops->decide(j);
	ops->blame(j, g, N_PARAMS / 2, 0);
	ops->blame(j, g + N_PARAMS / 2, N_PARAMS - N_PARAMS / 2, N_PARAMS / 2);
	assert_int_equal(ops->tell(j, -1, 0, &err), 0);
	assert_int_equal(ops->hear(j, 0, out, &err), 0);
	*factor = wl_judge_factor(3, out->norm, 2);
}

/* Three updates in one pass each and in several passes: the same bits of everything.  Ranges begin
 * and end anywhere, and there are more than a launch takes.  judged: the backend says how. */
static void check_fused(struct wl_backend *be, enum wl_dtype dtype, bool judged, bool finite)
{
	enum { RANGES = 230 };
	struct wl_err err = WL_ERR_INIT;
	struct wl_adamw_range r[RANGES];
	struct wl_adamw how = {.beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f, .state = dtype,
		.seed = 11};
	struct wl_judge_settings settings = {.beta1 = 0.9f, .beta2 = 0.98f, .clip = 3, .world = 1};
	struct wl_judge_state from = {.scaler = {.scale = 2, .interval = 1000}};
	struct wl_judge *j = judged ? be->judges->open(be, &settings, &err) : NULL;
	struct wl_judged said = {.after = {.updates = 0}};
	struct state one, two;
	float factor = 0.25f;

	state_of(be, &one);
	state_of(be, &two);
	if (!finite)
		one.g[4077] = two.g[4077] = one.g[4200] = INFINITY;
	for (int i = 0; i < RANGES; i++) /* the last element belongs to none */
		r[i] = (struct wl_adamw_range){i * (N_PARAMS - 1) / RANGES,
			(i + 1) * (N_PARAMS - 1) / RANGES, 1e-2f * (float)(i % 3),
			i % 2 ? 0.1f : 0};
	float last = one.w[N_PARAMS - 1];
	for (int step = 1; step <= 3; step++) {
		if (judged) { /* a scale of 1 leaves an overflow to the guard */
			from.scaler.scale = finite ? 2 : 1;
			from.updates = said.after.updates;
			be->judges->put(j, &from);
			judge_step(be, j, one.g, two.k, &said, &factor);
			assert_int_equal(said.verdict, finite ? WL_GUARD_OK : WL_GUARD_NONFINITE);
			assert_int_equal(said.after.updates, finite ? step : 0);
			assert_int_equal(said.bad, finite ? -1 : 4077);
		}
		how.judge = j;
		how.step = judged ? -1 : step;
		how.grad_scale = judged ? -1 : factor;
		how.k = one.k;
		how.momentum = 0.9f;
		how.w_half = one.w_half;
		how.k_half = one.k_half;
		be->adamw(be, one.w, one.g, one.m, one.v, r, RANGES, &how);
		assert_int_equal(be->sync(be, &err), 0);
		how.k = NULL;
		how.w_half = how.k_half = NULL;
		how.judge = NULL;
		how.step = step;
		how.grad_scale = factor;
		if (finite)
			be->adamw(be, two.w, two.g, two.m, two.v, r, RANGES, &how);
		be->ema(be, two.k, two.w, N_PARAMS - 1, 0.9f);
		assert_int_equal(be->sync(be, &err), 0);
		assert_memory_equal(one.w, two.w, 4 * (one.k - one.w) * sizeof(float));
	}
	assert_true(one.w[N_PARAMS - 1] == last);
	for (int i = 0; i < N_PARAMS - 1; i++) {
		assert_true(fabsf(wl_bf16_value(one.w_half[i]) - one.w[i]) <=
			    fabsf(one.w[i]) / 256);
		assert_true(fabsf(wl_bf16_value(one.k_half[i]) - one.k[i]) <=
			    fabsf(one.k[i]) / 256);
	}
	if (j)
		be->judges->close(j);
	be->free_mem(be, one.all);
	be->free_mem(be, two.all);
}

static void test_fused_update(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_backend *be[2] = {wl_backend_cpu_open(2, &err),
		wl_backend_cuda_open ? wl_backend_cuda_open(0, &err) : NULL};

	(void)state;
	for (int i = 0; i < 2 && be[i]; i++) {
		for (int judged = 0; judged <= (be[i]->judges ? 1 : 0); judged++) {
			check_fused(be[i], WL_F32, judged, true);
			check_fused(be[i], WL_BF16, judged, true);
		}
		if (be[i]->judges)
			check_fused(be[i], WL_F32, true, false);
		wl_backend_close(be[i]);
	}
}

/* The same update by both backends; moments in bf16 are rounded alike but for a last bit. */
static void test_update_of_backends(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_adamw how = {.beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f, .grad_scale = 1,
		.step = 1, .seed = 4, .momentum = 0.99f};
	struct wl_adamw_range all = {0, N_PARAMS, 1e-2f, 0.1f};
	struct wl_backend *be[2];
	struct state s[2];

	(void)state;
	if (!wl_backend_cuda_open) {
		print_message("SKIPPED: the program is built without the GPU's kernels\n");
		skip();
	}
	be[0] = wl_backend_cpu_open(1, &err);
	be[1] = wl_backend_cuda_open(0, &err);
	for (int d = 0; d < 2; d++) {
		how.state = d ? WL_BF16 : WL_F32;
		for (int i = 0; i < 2; i++) {
			state_of(be[i], &s[i]);
			how.k = s[i].k;
			be[i]->adamw(be[i], s[i].w, s[i].g, s[i].m, s[i].v, &all, 1, &how);
			assert_int_equal(be[i]->sync(be[i], &err), 0);
		}
		for (int j = 0; j < N_PARAMS; j++) {
			assert_true(fabsf(s[0].w[j] - s[1].w[j]) < 1e-5f);
			assert_true(fabsf(s[0].k[j] - s[1].k[j]) < 1e-5f);
		}
		for (int i = 0; i < 2; i++)
			be[i]->free_mem(be[i], s[i].all);
	}
	wl_backend_close(be[0]);
	wl_backend_close(be[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linear),
		cmocka_unit_test(test_linear_bf16),
		cmocka_unit_test(test_kept_copies),
		cmocka_unit_test(test_norms),
		cmocka_unit_test(test_attention),
		cmocka_unit_test(test_embedding),
		cmocka_unit_test(test_masked_mean),
		cmocka_unit_test(test_glue),
		cmocka_unit_test(test_optimiser),
		cmocka_unit_test(test_fused_update),
		cmocka_unit_test(test_update_of_backends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

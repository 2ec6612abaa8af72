/*
 * Operations taken into their neighbours (train/nn/fuse.c): a block of an EfficientNet gives what
 * it gives without, on the GPU's kernels and on the processor, in training and in inference.
 */
#include "tests/support/opcheck.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void must(int rc, const struct wl_err *err)
{
	if (rc < 0)
		fail_msg("%s", err->msg);
}

enum { BLOCK_SQUEEZE = 4 };

/* The block that is built; its input and its output have `in` channels. */
struct sizes {
	int n, h, w, in, wide, kernel, stride;
	bool bare; /* no expansion: what is normalised goes past the block too */
};
static const struct sizes usual = {2, 9, 9, 8, 24, 5, 1, false};
static struct sizes size;

static int64_t in_count(void)
{
	return (int64_t)size.n * size.h * size.w * size.in;
}

static struct wl_shape out_shape(void)
{
	int s = size.stride;

	return WL_SHAPE(size.n, (size.h + s - 1) / s, (size.w + s - 1) / s, size.in);
}

static int64_t out_count(void)
{
	struct wl_shape shape = out_shape();

	return wl_shape_count(&shape);
}


struct block {
	struct wl_params params;
	struct wl_graph *g;
	wl_tid x, out, weights;
};

static wl_tid param(struct block *b, const char *name, enum wl_layout layout, struct wl_shape shape,
	unsigned flags)
{
	return wl_g_param(b->g, name, layout, shape, flags);
}

static wl_tid batch_norm(struct block *b, char which, wl_tid x, int c, enum wl_act act,
	wl_tid residual)
{
	static const char *const parts[] = {"gamma", "beta", "mean", "var"};
	wl_tid t[4];

	for (int i = 0; i < 4; i++) {
		char name[32];

		snprintf(name, sizeof name, "bn%c.%s", which, parts[i]);
		t[i] = param(b, name, WL_LAYOUT_PLAIN, WL_SHAPE(c),
			i < 2 ? WL_PARAM_GAIN : WL_PARAM_BUFFER);
	}
	return wl_g_batch_norm(b->g, x,
		&(struct wl_bn){.gamma = t[0], .beta = t[1], .mean = t[2], .var = t[3],
			.eps = 1e-3f, .momentum = 0.1f, .act = act, .residual = residual,
			.drop_path = residual ? 0.3f : 0});
}

static wl_tid pointwise(struct block *b, const char *name, wl_tid x, int in, int out)
{
	wl_tid w = param(b, name, WL_LAYOUT_CONV, WL_SHAPE(out, in, 1, 1), WL_PARAM_WEIGHT);

	return wl_g_conv2d(b->g, x, w, WL_NONE, 1);
}

/* An inverted residual block of EfficientNet with squeeze-excite, a loss on its output. */
static void build_block(struct block *b, const struct wl_graph_options *opts)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_shape in = WL_SHAPE(size.n, size.h, size.w, size.in);
	wl_tid h, gate, w;

	memset(b, 0, sizeof *b);
	wl_params_init(&b->params);
	b->g = wl_graph_new("block", &b->params, opts, &err);
	assert_non_null(b->g);
	b->x = wl_g_input(b->g, "x", WL_F32, in);
	b->weights = wl_g_input(b->g, "weights", WL_F32, out_shape());
	wl_g_block(b->g);
	h = pointwise(b, "stem", b->x, size.in, size.in);
	b->out = h;
	if (!size.bare)
		h = pointwise(b, "expand", h, size.in, size.wide);
	h = batch_norm(b, '1', h, size.wide, WL_ACT_SILU, WL_NONE);
	if (size.bare)
		b->out = h;
	w = param(b, "dw", WL_LAYOUT_DEPTHWISE,
		WL_SHAPE(size.wide, 1, size.kernel, size.kernel), WL_PARAM_WEIGHT);
	h = wl_g_depthwise(b->g, h, w, size.stride);
	h = batch_norm(b, '2', h, size.wide, WL_ACT_SILU, WL_NONE);
	gate = pointwise(b, "reduce",
		wl_g_reshape(b->g, wl_g_mean_hw(b->g, h), WL_SHAPE(size.n, 1, 1, size.wide)),
		size.wide, BLOCK_SQUEEZE);
	gate = pointwise(b, "excite", wl_g_act(b->g, gate, WL_ACT_SILU), BLOCK_SQUEEZE, size.wide);
	h = wl_g_channel_scale(b->g, h, wl_g_reshape(b->g, gate, WL_SHAPE(size.n, size.wide)));
	h = pointwise(b, "project", h, size.wide, size.in);
	b->out = batch_norm(b, '3', h, size.in, WL_ACT_NONE, size.stride == 1 ? b->out : WL_NONE);
	wl_g_block_end(b->g);
	wl_g_loss(b->g, wl_g_dot(b->g, b->out, b->weights), 1);
	wl_g_output(b->g, b->out, "out");
}

/* Compiles and runs it; y, the gradients and the statistics of the plan are left to be read. */
static void run_block(struct block *b, struct wl_backend *be, struct wl_graph_stats *stats)
{
	struct wl_err err = WL_ERR_INIT;

	must(wl_params_seal(&b->params, be, true, &err), &err);
	for (int i = 0; i < b->params.n; i++) {
		const struct wl_param *e = &b->params.item[i];
		bool gain = strstr(e->name, "gamma") || strstr(e->name, "var");

		opcheck_normals((uint64_t)i + 20, b->params.value + e->offset, e->count,
			gain ? 0.1f : 0.5f, gain ? 1 : 0);
	}
	must(wl_graph_compile(b->g, be, &err), &err);
	opcheck_normals(1, wl_graph_data(b->g, b->x), in_count(),
		1, 0);
	opcheck_normals(
		2, wl_graph_data(b->g, b->weights), out_count(), 1, 0);
	must(wl_graph_run(b->g, 7, 1, &err), &err);
	must(be->sync(be, &err), &err);
	wl_graph_stats(b->g, stats);
}

static double floats_nmse(const float *a, const float *b, int64_t n)
{
	double d = 0, s = 0;

	for (int64_t i = 0; i < n; i++) {
		d += pow((double)a[i] - (double)b[i], 2);
		s += pow((double)b[i], 2);
	}
	return d / s;
}

static void release_block(struct block *b)
{
	wl_graph_free(b->g);
	wl_params_release(&b->params);
}

static struct wl_backend *open_cpu(void)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_backend *be = wl_backend_cpu_open(2, &err);

	if (!be)
		fail_msg("%s", err.msg);
	return be;
}

/* Norms of which another kernel made the sums, forward and backward. */
static int summed[3]; /* and squeeze-excite means */
static int gated[2];  /* 1x1 convolutions, and their backward, that read a gate's operands */
static int (*run_op)(struct wl_backend *be, const struct wl_op *op, const struct wl_run *run,
	struct wl_err *err);

static int counting(struct wl_backend *be, const struct wl_op *op, const struct wl_run *r,
	struct wl_err *err)
{
	summed[0] += op->kind == WL_OP_BATCH_NORM && op->in[6];
	summed[1] += op->kind == WL_OP_BATCH_NORM_BWD && op->in[7];
	summed[2] += op->kind == WL_OP_DEPTHWISE && op->out[2];
	gated[0] += op->kind == WL_OP_CONV && op->in[3] && op->in[6];
	gated[1] += op->kind == WL_OP_CONV_BWD && op->in[3] && op->in[6];
	return run_op(be, op, r, err);
}

/* Whether the block's 1x1 convolutions are our own products; both backends are asked the same. */
static void own_products(bool own)
{
	setenv("WL_CUDA_OWN_GEMM", own ? "1" : "0", 1);
}

static bool has_own(struct wl_backend *be, const struct wl_graph_options *o)
{
	return be->pointwise && be->pointwise(be, out_count() / size.in, size.wide, size.in,
					WL_ACT_SILU, o->compute_dtype, o->store);
}

/* fuses, sums and products of its own taken away. */
static void make_plain(struct wl_backend *be)
{
	be->fuses = NULL;
	be->sums = NULL;
	be->pointwise = NULL;
}

static void compare(const char *what, struct wl_backend *(*open)(void),
	const struct wl_graph_options *opts, double bound)
{
	struct wl_backend *fused_be = open(), *plain_be = open();
	struct wl_graph_stats fused, plain;
	struct block a, b;
	bool gate = fused_be->fuses(WL_OP_BATCH_NORM_BWD), own = has_own(fused_be, opts);

	make_plain(plain_be);
	run_op = fused_be->run_op;
	fused_be->run_op = counting;
	summed[0] = summed[1] = gated[0] = gated[1] = 0;
	build_block(&a, opts);
	build_block(&b, opts);
	run_block(&a, fused_be, &fused);
	run_block(&b, plain_be, &plain);
	print_message("%s: %zu bytes of activations fused, %zu plain\n", what, fused.unshared_bytes,
		plain.unshared_bytes);
	/* Two normalised tensors are never written; with the gate a gradient neither, and one
	 * operation is gone. */
	assert_true(fused.unshared_bytes < plain.unshared_bytes);
	assert_true(gate ? fused.ops_backward < plain.ops_backward
			 : opts->recompute || fused.ops_backward == plain.ops_backward);
	assert_int_equal(summed[0], own ? 3 : fused_be->sums ? 1 : 0);
	/* Of the gated norm and of the one before the depthwise convolution, if that is all that
	 * its result goes to. */
	assert_int_equal(summed[1], fused_be->sums ? 1 + !size.bare : 0);
	assert_int_equal(gated[0], own ? opts->recompute ? 2 : 1 : 0);
	assert_int_equal(gated[1], own ? 1 : 0);
	double e = floats_nmse(wl_graph_data(a.g, a.out), wl_graph_data(b.g, b.out),
		out_count());
	if (!(e <= bound))
		fail_msg("%s: outputs differ by NMSE %g, at most %g is allowed", what, e, bound);
	for (int i = 0; i < a.params.n; i++) {
		const struct wl_param *p = &a.params.item[i];
		bool buffer = p->flags & WL_PARAM_BUFFER; /* running statistics move alike */
		const float *x = (buffer ? a.params.value : a.params.grad) + p->offset;
		const float *y = (buffer ? b.params.value : b.params.grad) + p->offset;

		e = floats_nmse(x, y, p->count);
		if (!(e <= bound))
			fail_msg("%s: %s differs by NMSE %g, at most %g is allowed", what, p->name,
				e, bound);
	}
	release_block(&a);
	release_block(&b);
	wl_backend_close(fused_be);
	wl_backend_close(plain_be);
}

/* In inference the mean comes from the convolution, and its operation is gone. */
static void compare_inference(enum wl_dtype dtype, double bound)
{
	const struct wl_graph_options opts = {
		.poison = true, .compute_dtype = dtype, .store = dtype};
	struct wl_backend *fused_be = opcheck_gpu(), *plain_be = opcheck_gpu();
	struct wl_graph_stats fused, plain;
	struct block a, b;
	double e;

	make_plain(plain_be);
	run_op = fused_be->run_op;
	fused_be->run_op = counting;
	summed[2] = gated[0] = 0;
	build_block(&a, &opts);
	build_block(&b, &opts);
	run_block(&a, fused_be, &fused);
	run_block(&b, plain_be, &plain);
	assert_int_equal(summed[2], 1);
	assert_int_equal(gated[0], has_own(fused_be, &opts));
	assert_int_equal(fused.ops_forward, plain.ops_forward - 1 - gated[0]);
	e = floats_nmse(wl_graph_data(a.g, a.out), wl_graph_data(b.g, b.out),
		out_count());
	if (!(e <= bound))
		fail_msg("in inference outputs differ by NMSE %g, at most %g is allowed", e, bound);
	release_block(&a);
	release_block(&b);
	wl_backend_close(fused_be);
	wl_backend_close(plain_be);
}

/* Two runs of a block: its output and all gradients. */
static void same_bits(const struct wl_graph_options *opts)
{
	struct wl_graph_stats stats;
	struct block b[2];
	struct wl_backend *be[2];

	for (int i = 0; i < 2; i++) {
		be[i] = opcheck_gpu();
		build_block(&b[i], opts);
		run_block(&b[i], be[i], &stats);
	}
	assert_memory_equal(b[0].params.grad, b[1].params.grad,
		(size_t)b[0].params.floats * sizeof(float));
	assert_memory_equal(b[0].params.value, b[1].params.value,
		(size_t)b[0].params.floats * sizeof(float));
	for (int i = 0; i < 2; i++) {
		release_block(&b[i]);
		wl_backend_close(be[i]);
	}
}

static void test_inference(void **state)
{
	(void)state;
	compare_inference(WL_F32, 1e-11);
	compare_inference(WL_BF16, 2e-3);
	own_products(true);
	compare_inference(WL_F32, 1e-11); /* of which there are none */
	compare_inference(WL_BF16, 2e-3);
	compare_inference(WL_F16, 5e-5);
	own_products(false);
}

static const struct wl_graph_options plain = {.train = true, .poison = true};
static const struct wl_graph_options recomputed = {
	.train = true, .poison = true, .recompute = true};

static void test_fused(void **state)
{
	(void)state;
	compare("f32", opcheck_gpu, &plain, 1e-11);
	compare("recomputed", opcheck_gpu, &recomputed, 1e-11);
	/* Fused, fewer values are rounded: the two differ by what plain rounds. */
	compare("bf16", opcheck_gpu,
		&(struct wl_graph_options){.train = true, .poison = true,
			.compute_dtype = WL_BF16, .store = WL_BF16}, 2e-3);
}

/* The projection reads what its gate reads, both 1x1 convolutions leave moments. */
static void test_own_products(void **state)
{
	struct wl_graph_options o = {.train = true, .poison = true, .compute_dtype = WL_BF16,
		.store = WL_BF16};

	(void)state;
	own_products(true);
	compare("own products, bf16", opcheck_gpu, &o, 2e-3);
	o.recompute = true;
	compare("own products, bf16, recomputed", opcheck_gpu, &o, 2e-3);
	o.compute_dtype = o.store = WL_F16;
	compare("own products, fp16, recomputed", opcheck_gpu, &o, 5e-5);
	o.recompute = false;
	compare("own products, fp16", opcheck_gpu, &o, 5e-5);
	own_products(false);
}

/* Other kernels, strides and borders: maps that end within a strip, one picture, channels of a slab
 * and a part of one; and twice, which gives the same bits. */
static void test_sizes(void **state)
{
	static const struct sizes all[] = {
		{1, 11, 37, 8, 40, 3, 1, false},
		{2, 12, 7, 16, 72, 3, 2, false},
		{1, 13, 10, 8, 8, 5, 2, false},
		{3, 5, 35, 8, 96, 5, 1, false},
		{2, 10, 9, 24, 24, 3, 1, true},
	};
	struct wl_graph_options o = {.train = true, .poison = true};

	(void)state;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		size = all[i];
		o.compute_dtype = o.store = WL_F32;
		compare("f32", opcheck_gpu, &o, 1e-11);
		same_bits(&o);
		o.compute_dtype = o.store = WL_BF16;
		compare("bf16", opcheck_gpu, &o, 2e-3);
		same_bits(&o);
		o.compute_dtype = o.store = WL_F16;
		compare("fp16", opcheck_gpu, &o, 5e-5);
	}
	size = usual;
}

static void test_fused_on_processors(void **state)
{
	(void)state;
	compare("CPU", open_cpu, &plain, 1e-13);
	compare("CPU, recomputed", open_cpu, &recomputed, 1e-13);
}

int main(void)
{
	size = usual;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fused),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_own_products),
		cmocka_unit_test(test_fused_on_processors),
		cmocka_unit_test(test_inference),
	};
	own_products(false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

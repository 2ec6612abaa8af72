/*
 * A graph as a whole, on a small network that has what the real ones have:
 * residuals, squeeze-excite, dropout, drop path, attention, views, a loss.
 */
#include "tests/support/cm.h"
#include "tests/support/allocations.h"
#include "tests/support/opcheck.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { B = 4, PX = 12, C = 24, S = 3, CLASSES = 16 };

struct net {
	struct wl_backend *be;
	struct wl_params params;
	struct wl_graph *g;
	wl_tid images, mask, queue, features, loss;
};

static wl_tid weight(struct wl_graph *g, const char *name, int64_t o, int64_t i)
{
	return wl_g_param(g, name, WL_LAYOUT_PLAIN, WL_SHAPE(o, i), WL_PARAM_WEIGHT);
}

static wl_tid vector(struct wl_graph *g, const char *prefix, const char *name, unsigned flags)
{
	char full[64];
	snprintf(full, sizeof(full), "%s.%s", prefix, name);
	return wl_g_param(g, full, WL_LAYOUT_PLAIN, WL_SHAPE(C), flags);
}

static wl_tid bn(struct wl_graph *g, wl_tid x, const char *prefix, enum wl_act act, wl_tid residual)
{
	return wl_g_batch_norm(g, x,
		&(struct wl_bn){.gamma = vector(g, prefix, "weight", WL_PARAM_GAIN),
			.beta = vector(g, prefix, "bias", WL_PARAM_GAIN),
			.mean = vector(g, prefix, "running_mean", WL_PARAM_BUFFER),
			.var = vector(g, prefix, "running_var", WL_PARAM_BUFFER),
			.eps = 1e-3f,
			.momentum = 0.1f,
			.act = act,
			.residual = residual,
			.drop_path = residual ? 0.3f : 0});
}

static void build(struct net *n, bool train)
{
	struct wl_graph *g = n->g;
	n->images = wl_g_input(g, "images", WL_F32, WL_SHAPE(B, PX, PX, 3));
	n->mask = wl_g_input(g, "mask", WL_F32, WL_SHAPE(B, S));
	n->queue = wl_g_external(g, "queue", WL_F32, WL_SHAPE(CLASSES, C));
	wl_tid x = wl_g_conv2d(g, n->images,
		wl_g_param(g, "stem", WL_LAYOUT_CONV, WL_SHAPE(C, 3, 3, 3), WL_PARAM_WEIGHT),
		WL_NONE, 2);
	x = bn(g, x, "bn0", WL_ACT_SILU, WL_NONE);
	wl_tid skip = x;
	wl_g_block(g);
	x = wl_g_depthwise(g, x,
		wl_g_param(g, "dw", WL_LAYOUT_DEPTHWISE, WL_SHAPE(C, 1, 5, 5), WL_PARAM_WEIGHT), 1);
	x = bn(g, x, "bn1", WL_ACT_SILU, WL_NONE);
	wl_tid s = wl_g_linear(g, wl_g_mean_hw(g, x), weight(g, "se1", 6, C), WL_NONE, WL_ACT_SILU);
	x = wl_g_channel_scale(
		g, x, wl_g_linear(g, s, weight(g, "se2", C, 6), WL_NONE, WL_ACT_NONE));
	x = wl_g_conv2d(g, x,
		wl_g_param(g, "pw", WL_LAYOUT_CONV, WL_SHAPE(C, C, 1, 1), WL_PARAM_WEIGHT), WL_NONE,
		1);
	x = bn(g, x, "bn2", WL_ACT_NONE, skip);
	wl_g_block_end(g);
	/* The first rows of the map as a sequence; one layer of self-attention. */
	wl_tid t = wl_g_slice(g, wl_g_reshape(g, x, WL_SHAPE(B, PX * PX / 4, C)), 1, 5, S);
	t = wl_g_l2_normalize(g, t, 1e-12f);
	wl_g_block(g);
	wl_tid qkv = wl_g_linear(g, t, weight(g, "qkv", 3 * C, C), WL_NONE, WL_ACT_NONE);
	wl_tid a = wl_g_attention(g, &(struct wl_attn){.q = qkv,
					     .k = qkv,
					     .v = qkv,
					     .mask = n->mask,
					     .heads = 4,
					     .dropout = 0.2f});
	struct wl_ln ln = {.gamma = vector(g, "ln", "weight", WL_PARAM_GAIN),
		.beta = vector(g, "ln", "bias", WL_PARAM_GAIN),
		.eps = 1e-5f,
		.residual = t,
		.dropout = 0.2f};
	t = wl_g_layer_norm(g, a, &ln);
	ln.residual = t;
	ln.dropout = 0; /* shares the gradient of the sum */
	t = wl_g_layer_norm(g, wl_g_linear(g, t, weight(g, "ff", C, C), WL_NONE, WL_ACT_GELU), &ln);
	wl_g_block_end(g);
	t = wl_g_dropout(g, t, 0.1f);
	n->features = wl_g_l2_normalize(g, wl_g_masked_mean(g, t, n->mask), 1e-12f);
	wl_g_output(g, n->features, "features");
	if (!train)
		return;
	wl_tid key = wl_g_l2_normalize(g, wl_g_mean_hw(g, x), 1e-12f);
	n->loss = wl_g_infonce(g,
		&(struct wl_infonce){.query = n->features,
			.key = key,
			.queue = n->queue,
			.log_scale = wl_g_param(
				g, "logit_scale", WL_LAYOUT_PLAIN, WL_SHAPE(1), WL_PARAM_TRAINABLE),
			.in_batch = true},
		NULL);
	wl_g_loss(g, n->loss, 1);
}

static void fill(struct net *n)
{
	static float queue[CLASSES * C];
	for (int i = 0; i < n->params.n; i++) {
		const struct wl_param *e = &n->params.item[i];
		bool gain = strstr(e->name, ".weight") || strstr(e->name, "_var");
		opcheck_normals((uint64_t)i + 50, n->params.value + e->offset, e->count, 0.2f,
			gain ? 1 : 0.1f);
	}
	opcheck_normals(1, wl_graph_data(n->g, n->images), B * PX * PX * 3, 1, 0);
	opcheck_normals(2, queue, CLASSES * C, 0.2f, 0);
	float *mask = wl_graph_data(n->g, n->mask);
	for (int i = 0; i < B * S; i++)
		mask[i] = i % S == 0 || i % 2 ? 1 : 0;
	wl_graph_bind(n->g, n->queue, queue);
}

static void open_as(struct net *n, int threads, bool train, bool poison, bool recompute)
{
	struct wl_err err = WL_ERR_INIT;
	memset(n, 0, sizeof(*n));
	n->be = wl_backend_cpu_open(threads, &err);
	wl_params_init(&n->params);
	n->g = wl_graph_new("net", &n->params,
		&(struct wl_graph_options){.train = train, .poison = poison,
			.recompute = recompute}, &err);
	assert_non_null(n->g);
	build(n, train);
	if (wl_params_seal(&n->params, n->be, true, &err) < 0 ||
		wl_graph_compile(n->g, n->be, &err) < 0)
		fail_msg("%s", err.msg);
	fill(n);
}

static void open_net(struct net *n, int threads, bool train, bool poison)
{
	open_as(n, threads, train, poison, false);
}

static void close_net(struct net *n)
{
	wl_graph_free(n->g);
	wl_params_release(&n->params);
	wl_backend_close(n->be);
}

static float run(struct net *n, uint64_t step)
{
	struct wl_err err = WL_ERR_INIT;
	if (wl_graph_run(n->g, 3, step, &err) < 0)
		fail_msg("%s", err.msg);
	return n->loss ? *(float *)wl_graph_data(n->g, n->loss) : 0;
}

static void test_steady_state_allocates_nothing(void **state)
{
	(void)state;
#ifdef COUNT_ALLOCATIONS
	struct net n;
	open_net(&n, 2, true, false);
	run(&n, 1); /* OpenMP makes its threads */
	long before = allocations;
	free(malloc(1));
	assert_int_equal(allocations, before + 1); /* the counter does count */
	for (uint64_t step = 2; step < 6; step++) {
		wl_params_zero_grad(&n.params);
		run(&n, step);
	}
	assert_int_equal(allocations, before + 1);
	close_net(&n);
#else
	puts("SKIPPED: allocations cannot be counted under a sanitizer or another C library");
	skip();
#endif
}

/* Poisoned and not, one thread and five: the same bits everywhere. */
static void test_bits(void **state)
{
	(void)state;
	struct net plain, other;
	open_net(&plain, 1, true, false);
	float loss = run(&plain, 4);
	assert_true(isfinite(loss));
	for (int threads = 1; threads <= 5; threads += 2) {
		open_net(&other, threads, true, true);
		float same = run(&other, 4);
		assert_memory_equal(&loss, &same, sizeof(loss));
		assert_memory_equal(plain.params.grad, other.params.grad,
			(size_t)plain.params.floats * sizeof(float));
		assert_memory_equal(plain.params.value, other.params.value,
			(size_t)plain.params.floats * sizeof(float));
		close_net(&other);
	}
	/* Another step draws other dropout masks. */
	open_net(&other, 1, true, false);
	assert_true(run(&other, 5) != loss);
	close_net(&other);
	close_net(&plain);
}

/* The directional derivative with the masks of dropout held fixed. */
/* Blocks computed again in backward: the same bits of loss, gradients and running statistics
 * (that it takes less memory, test_objective shows on a deeper net). Poison shows what is read
 * after its time. */
static void test_recompute(void **state)
{
	(void)state;
	struct net kept, again;
	struct wl_graph_stats a, b;
	struct wl_err err = WL_ERR_INIT;
	open_as(&kept, 2, true, true, false);
	open_as(&again, 2, true, true, true);
	wl_graph_stats(kept.g, &a);
	wl_graph_stats(again.g, &b);
	assert_int_equal(a.ops_forward, b.ops_forward);
	assert_true(b.ops_backward > a.ops_backward);
	for (uint64_t step = 0; step < 3; step++) {
		wl_params_zero_grad(&kept.params);
		wl_params_zero_grad(&again.params);
		if (wl_graph_run(kept.g, 7, step, &err) < 0 ||
			wl_graph_run(again.g, 7, step, &err) < 0)
			fail_msg("%s", err.msg);
		size_t bytes = (size_t)kept.params.floats * sizeof(float);
		assert_memory_equal(kept.params.grad, again.params.grad, bytes);
		assert_memory_equal(kept.params.value, again.params.value, bytes);
	}
	close_net(&kept);
	close_net(&again);
}

static void open_gpu(struct net *n, enum wl_dtype type, bool recompute)
{
	struct wl_err err = WL_ERR_INIT;
	memset(n, 0, sizeof(*n));
	n->be = wl_backend_cuda_open(0, &err);
	assert_non_null(n->be);
	wl_params_init(&n->params);
	n->g = wl_graph_new("net", &n->params,
		&(struct wl_graph_options){.train = true, .poison = true, .recompute = recompute,
			.compute_dtype = type}, &err);
	assert_non_null(n->g);
	build(n, true);
	wl_graph_store_for(n->g, n->be);
	if (wl_params_seal(&n->params, n->be, true, &err) < 0 ||
		wl_graph_compile(n->g, n->be, &err) < 0)
		fail_msg("%s", err.msg);
	fill(n);
}

/* The normalised error of all gradients of a step against those of another net. */
static double grad_error(struct net *n, const float *want)
{
	double d = 0, s = 0;
	wl_params_zero_grad(&n->params);
	run(n, 9);
	for (int64_t i = 0; i < n->params.floats; i++) {
		d += pow((double)n->params.grad[i] - (double)want[i], 2);
		s += pow((double)want[i], 2);
	}
	return d / s;
}

/* The GPU's kernels: the processor's gradients; with activations in bf16 nearly so, in less memory,
 * and to the same bits again and with blocks computed again. */
static void test_gpu(void **state)
{
	(void)state;
	static const struct {
		enum wl_dtype type;
		double bound;
	} halves[] = {{WL_BF16, 3e-4}, {WL_F16, 1e-5}};
	struct net cpu, wide, narrow, again;
	struct wl_graph_stats a, b;
	double e;
	if (!wl_backend_cuda_count())
		SKIP("this build has neither a GPU's kernels nor their emulation");
	open_net(&cpu, 2, true, false);
	float loss = run(&cpu, 9);
	open_gpu(&wide, WL_F32, false);
	e = grad_error(&wide, cpu.params.grad);
	if (!(e <= 1e-8))
		fail_msg("gradients in f32 have NMSE %g, at most 1e-8 is allowed", e);
	for (int k = 0; k < 2; k++) {
		const char *name = wl_dtype_name(halves[k].type);

		open_gpu(&narrow, halves[k].type, false);
		e = grad_error(&narrow, cpu.params.grad);
		print_message("          %s activations: gradients have NMSE %.2g\n", name, e);
		if (!(e <= halves[k].bound))
			fail_msg("gradients in %s have NMSE %g, at most %g is allowed", name, e,
				halves[k].bound);
		assert_true(fabsf(run(&narrow, 9) / loss - 1) < 0.02f);
		wl_graph_stats(wide.g, &a);
		wl_graph_stats(narrow.g, &b);
		print_message("          %zu bytes of activations, in f32 %zu\n",
			b.unshared_bytes, a.unshared_bytes);
		assert_true(b.unshared_bytes < a.unshared_bytes * 3 / 4);
		open_gpu(&again, halves[k].type, true);
		assert_true(grad_error(&narrow, cpu.params.grad) == e);
		assert_true(grad_error(&again, narrow.params.grad) == 0);
		close_net(&narrow);
		close_net(&again);
	}
	close_net(&cpu);
	close_net(&wide);
}

static void test_gradient_of_all(void **state)
{
	(void)state;
	struct net n;
	open_net(&n, 2, true, true);
	run(&n, 9);
	struct wl_params *p = &n.params;
	float *grad = malloc((size_t)p->floats * sizeof(float));
	float *start = malloc((size_t)p->floats * sizeof(float));
	memcpy(grad, p->grad, (size_t)p->floats * sizeof(float));
	memcpy(start, p->value, (size_t)p->floats * sizeof(float));
	for (int i = 0; i < p->n; i++) {
		const struct wl_param *e = &p->item[i];
		if (e->flags & WL_PARAM_BUFFER)
			continue;
		double norm = 0;
		for (int64_t j = 0; j < e->count; j++)
			norm += pow((double)grad[e->offset + j], 2);
		norm = sqrt(norm);
		assert_true(norm > 0);
		/* Along the gradient the slope is its length. */
		double slope, h = 2e-3, loss[2];
		for (int side = 0; side < 2; side++) {
			memcpy(p->value, start, (size_t)p->floats * sizeof(float));
			for (int64_t j = 0; j < e->count; j++)
				p->value[e->offset + j] +=
					(float)((side ? h : -h) * (double)grad[e->offset + j] /
						norm);
			loss[side] = (double)run(&n, 9);
		}
		slope = (loss[1] - loss[0]) / (2 * h);
		if (!(fabs(slope - norm) <= 0.02 * norm + 5e-4))
			fail_msg("%s: slope %g, gradient %g", e->name, slope, norm);
	}
	free(grad);
	free(start);
	close_net(&n);
}

static void test_memory_is_shared(void **state)
{
	(void)state;
	struct net train, infer;
	open_net(&train, 1, true, false);
	open_net(&infer, 1, false, true);
	run(&infer, 0);
	const float *y = wl_graph_data(infer.g, infer.features);
	for (int i = 0; i < B * C; i++)
		assert_true(isfinite(y[i]));
	struct wl_graph_stats t, i;
	wl_graph_stats(train.g, &t);
	wl_graph_stats(infer.g, &i);
	assert_true(t.arena_bytes < t.unshared_bytes * 3 / 4);
	assert_true(i.arena_bytes < i.unshared_bytes / 2);
	assert_true(i.arena_bytes < t.arena_bytes / 2);
	assert_int_equal(i.ops_backward, 0);
	assert_true(t.flops_backward > t.flops_forward && t.flops_forward > 0);
	close_net(&train);
	close_net(&infer);
}

/* Frozen parameters get no gradient and cost no operation. */
static void test_frozen(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct net all, some;
	open_net(&all, 1, true, false);
	memset(&some, 0, sizeof(some));
	some.be = wl_backend_cpu_open(1, &err);
	wl_params_init(&some.params);
	some.g = wl_graph_new("net", &some.params, &(struct wl_graph_options){.train = true}, &err);
	build(&some, true);
	const char *frozen[] = {"stem", "bn0.weight", "bn0.bias", "dw"};
	for (int i = 0; i < 4; i++)
		some.params.item[wl_params_find(&some.params, frozen[i])].flags &=
			~(unsigned)WL_PARAM_TRAINABLE;
	assert_int_equal(wl_params_seal(&some.params, some.be, true, &err), 0);
	assert_int_equal(wl_graph_compile(some.g, some.be, &err), 0);
	fill(&some);
	run(&all, 1);
	run(&some, 1);
	struct wl_graph_stats a, s;
	wl_graph_stats(all.g, &a);
	wl_graph_stats(some.g, &s);
	assert_int_equal(s.ops_backward, a.ops_backward - 3); /* stem, its norm, depthwise */
	for (int i = 0; i < all.params.n; i++) {
		const struct wl_param *e = &some.params.item[i];
		for (int64_t j = 0; j < e->count; j++) {
			bool zero =
				i == wl_params_find(&some.params, "stem") || (e->flags & 1) == 0;
			assert_true(some.params.grad[e->offset + j] ==
				    (zero ? 0 : all.params.grad[e->offset + j]));
		}
	}
	close_net(&all);
	close_net(&some);
}

/* One graph's loss seeds another's backward: the same gradient as in one graph. */
static void test_seeded_halves(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_backend *be = wl_backend_cpu_open(1, &err);
	struct wl_params p;
	struct wl_graph_options opts = {.train = true, .poison = true};
	wl_params_init(&p);
	struct wl_graph *tower = wl_graph_new("tower", &p, &opts, &err);
	struct wl_graph *head = wl_graph_new("head", &p, &opts, &err);
	wl_tid w = wl_g_param(tower, "w", WL_LAYOUT_PLAIN, WL_SHAPE(5, 7), WL_PARAM_WEIGHT);
	wl_tid x = wl_g_input(tower, "x", WL_F32, WL_SHAPE(3, 7));
	wl_tid y = wl_g_linear(tower, x, w, WL_NONE, WL_ACT_NONE);
	wl_tid gy = wl_g_external(tower, "gy", WL_F32, WL_SHAPE(3, 5));
	wl_g_output(tower, y, "y");
	wl_g_seed(tower, y, gy);
	wl_tid hy = wl_g_external(head, "y", WL_F32, WL_SHAPE(3, 5));
	wl_g_want_grad(head, hy);
	wl_tid sum = wl_g_add(head, hy, hy);
	wl_g_loss(head, wl_g_dot(head, sum, hy), 0.5f); /* |y|^2: the gradient is 2 y */
	assert_int_equal(wl_params_seal(&p, be, true, &err), 0);
	assert_int_equal(wl_graph_compile(tower, be, &err), 0);
	assert_int_equal(wl_graph_compile(head, be, &err), 0);
	assert_int_equal(wl_graph_run(head, 0, 0, &err), -1);
	assert_non_null(strstr(err.msg, "external y"));
	opcheck_normals(1, p.value, 35, 1, 0);
	opcheck_normals(2, wl_graph_data(tower, x), 21, 1, 0);
	wl_graph_bind(head, hy, wl_graph_data(tower, y));
	wl_graph_bind(tower, gy, wl_graph_grad(head, hy));
	assert_int_equal(wl_graph_forward(tower, 0, 0, &err), 0);
	assert_int_equal(wl_graph_run(head, 0, 0, &err), 0);
	assert_int_equal(wl_graph_backward(tower, &err), 0);
	const float *vy = wl_graph_data(tower, y), *vx = wl_graph_data(tower, x);
	for (int i = 0; i < 15; i++)
		assert_true(fabsf(wl_graph_grad(head, hy)[i] - 2 * vy[i]) < 1e-5f);
	for (int o = 0; o < 5; o++)
		for (int i = 0; i < 7; i++) {
			float want = 0;
			for (int b = 0; b < 3; b++)
				want += 2 * vy[b * 5 + o] * vx[b * 7 + i];
			assert_true(fabsf(p.grad[o * 7 + i] - want) < 1e-4f);
		}
	wl_graph_free(tower);
	wl_graph_free(head);
	wl_params_release(&p);
	wl_backend_close(be);
}

/* The first mistake of a builder is what compile reports. */
static void test_mistakes(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_backend *be = wl_backend_cpu_open(1, &err);
	struct wl_params p;
	wl_params_init(&p);
	struct wl_graph *g = wl_graph_new("bad", &p, &(struct wl_graph_options){0}, &err);
	wl_tid x = wl_g_input(g, "x", WL_F32, WL_SHAPE(2, 3));
	wl_tid w = wl_g_param(g, "w", WL_LAYOUT_PLAIN, WL_SHAPE(4, 5), WL_PARAM_WEIGHT);
	wl_tid y = wl_g_linear(g, x, w, WL_NONE, WL_ACT_NONE);
	assert_int_equal(y, -1);
	assert_int_equal(wl_g_add(g, y, y), -1);
	assert_int_equal(wl_params_seal(&p, be, true, &err), 0);
	assert_int_equal(wl_graph_compile(g, be, &err), -1);
	assert_int_equal(err.code, WL_EUSAGE);
	assert_non_null(strstr(err.msg, "graph bad"));
	assert_non_null(strstr(err.msg, "weight w has shape [4,5]"));
	wl_graph_free(g);
	/* bf16 activations are a GPU's. */
	g = wl_graph_new("narrow", &p, &(struct wl_graph_options){.store = WL_BF16}, &err);
	wl_g_output(g, wl_g_scale(g, wl_g_input(g, "x", WL_F32, WL_SHAPE(2, 3)), 2), "y");
	assert_int_equal(wl_graph_compile(g, be, &err), -1);
	assert_int_equal(err.code, WL_EUSAGE);
	assert_non_null(strstr(err.msg, "stores activations in bf16, which the cpu backend"));
	assert_int_equal(wl_backend_store(be, WL_BF16), WL_F32);
	wl_graph_free(g);
	/* A name that is used twice, with another shape or after sealing. */
	struct wl_shape shape = WL_SHAPE(5, 4);
	assert_int_equal(wl_params_add(&p, "w", WL_LAYOUT_PLAIN, &shape, 0, &err), -1);
	assert_non_null(strstr(err.msg, "[5,4]"));
	assert_int_equal(wl_params_add(&p, "v", WL_LAYOUT_PLAIN, &shape, 0, &err), -1);
	assert_non_null(strstr(err.msg, "sealed"));
	wl_params_release(&p);
	wl_backend_close(be);
}

static void test_layouts(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_backend *be = wl_backend_cpu_open(1, &err);
	struct wl_params p, q;
	wl_params_init(&p);
	struct wl_shape conv = WL_SHAPE(2, 3, 2, 2), dw = WL_SHAPE(3, 1, 2, 2);
	assert_int_equal(
		wl_params_add(&p, "conv", WL_LAYOUT_CONV, &conv, WL_PARAM_WEIGHT, &err), 0);
	assert_int_equal(
		wl_params_add(&p, "dw", WL_LAYOUT_DEPTHWISE, &dw, WL_PARAM_BUFFER, &err), 1);
	assert_int_equal(wl_params_add(&p, "no", WL_LAYOUT_DEPTHWISE, &conv, 0, &err), -1);
	assert_int_equal(wl_params_clone_layout(&q, &p, &err), 0);
	assert_int_equal(wl_params_seal(&p, be, true, &err), 0);
	assert_int_equal(wl_params_seal(&q, be, false, &err), 0);
	float torch[24], back[24];
	for (int i = 0; i < 24; i++)
		torch[i] = (float)i;
	wl_param_from_torch(&p, 0, torch);
	/* element (o 1, i 2, kh 0, kw 1) is 21 in PyTorch's order, at (1, 0, 1, 2) here */
	assert_true(p.value[((1 * 2 + 0) * 2 + 1) * 3 + 2] == 21);
	wl_param_to_torch(&p, 0, back);
	assert_memory_equal(torch, back, sizeof(torch));
	wl_param_from_torch(&p, 1, torch);
	assert_true(p.value[p.item[1].offset + (1 * 2 + 0) * 3 + 2] == 10); /* (c 2, kh 1, kw 0) */
	wl_param_to_torch(&p, 1, back);
	assert_memory_equal(torch, back, 12 * sizeof(float));
	/* EMA moves weights, not buffers. */
	wl_params_ema(&q, &p, 0.75f);
	assert_true(q.value[5] == 0.25f * p.value[5] && p.value[5] != 0);
	assert_true(q.value[q.item[1].offset + 5] == 0);
	wl_params_copy_values(&q, &p);
	assert_memory_equal(p.value, q.value, (size_t)p.floats * sizeof(float));
	wl_params_release(&p);
	wl_params_release(&q);
	wl_backend_close(be);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steady_state_allocates_nothing),
		cmocka_unit_test(test_bits),
		cmocka_unit_test(test_recompute),
		cmocka_unit_test(test_gpu),
		cmocka_unit_test(test_gradient_of_all),
		cmocka_unit_test(test_memory_is_shared),
		cmocka_unit_test(test_frozen),
		cmocka_unit_test(test_seeded_halves),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_layouts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Operations alone, through the same graph that training runs, against what the machine gives:
 * matrix products and convolutions against oneDNN's primitive on operands in the layout that it
 * chose itself (no reordering counted), memory-bound operations against STREAM's triad.
 * One line a row: ours, theirs, share.
 *
 * usage: bench_ops [threads [milliseconds a measurement]]
 */
#include "ops/clock.h"
#include "train/nn/graph.h"

#include <oneapi/dnnl/dnnl.h>

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double budget_s = 0.4;

/* The best time of a call, repeated for the budget and at least five times. */
static double best_of(void (*fn)(void *ctx), void *ctx)
{
	double best = 1e9, start = wl_now_s(), t;
	int n;

	for (n = 0; n < 5 || wl_now_s() - start < budget_s; n++) {
		t = wl_now_s();
		fn(ctx);
		t = wl_now_s() - t;
		best = t < best ? t : best;
	}
	return best;
}

static void check(int status, const char *what)
{
	if (!status)
		return;
	fprintf(stderr, "oneDNN: %s failed with %d\n", what, status);
	exit(1);
}

/* --- ours: a graph of one operation --- */

struct ours {
	struct wl_params params;
	struct wl_graph *g;
};

static void run_graph(void *ctx)
{
	struct ours *o = ctx;
	struct wl_err err = WL_ERR_INIT;

	if (wl_graph_forward(o->g, 1, 0, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
}

static void fill(float *x, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		x[i] = wl_rng_uniform((struct wl_rng_key){1, 2}, (uint64_t)i) - 0.5f;
}

/* A product (kernel 1) or convolution x [n,h,w,i] with o filters; depth: depthwise. */
struct shape {
	const char *what;
	int64_t n, h, i, o, kernel, stride;
	bool depth;
};

static double our_time(struct wl_backend *be, const struct shape *s, enum wl_dtype dtype)
{
	struct wl_graph_options opts = {.compute_dtype = dtype};
	struct wl_err err = WL_ERR_INIT;
	struct ours o;
	wl_tid x, w, y;
	double t;

	wl_params_init(&o.params);
	o.g = wl_graph_new("op", &o.params, &opts, &err);
	x = wl_g_input(o.g, "x", WL_F32, WL_SHAPE(s->n, s->h, s->h, s->i));
	w = wl_g_param(o.g, "w", s->depth ? WL_LAYOUT_DEPTHWISE : WL_LAYOUT_CONV,
		WL_SHAPE(s->o, s->depth ? 1 : s->i, s->kernel, s->kernel), WL_PARAM_WEIGHT);
	y = s->depth ? wl_g_depthwise(o.g, x, w, (int)s->stride)
		     : wl_g_conv2d(o.g, x, w, WL_NONE, (int)s->stride);
	wl_g_output(o.g, y, "y");
	if (wl_params_seal(&o.params, be, false, &err) < 0 ||
		wl_graph_compile(o.g, be, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
	fill(wl_graph_data(o.g, x), s->n * s->h * s->h * s->i);
	fill(o.params.value, o.params.floats);
	t = best_of(run_graph, &o);
	wl_graph_free(o.g);
	wl_params_release(&o.params);
	return t;
}

/* --- oneDNN's --- */

struct theirs {
	dnnl_primitive_t primitive;
	dnnl_stream_t stream;
	dnnl_exec_arg_t args[3];
};

static void run_primitive(void *ctx)
{
	struct theirs *p = ctx;

	check(dnnl_primitive_execute(p->primitive, p->stream, 3, p->args), "execute");
	check(dnnl_stream_wait(p->stream), "wait");
}

static int64_t same_pad(int64_t n, int64_t kernel, int64_t stride)
{
	int64_t total = ((n + stride - 1) / stride - 1) * stride + kernel - n;

	return total > 0 ? total : 0;
}

static dnnl_memory_t memory_for(const_dnnl_primitive_desc_t pd, dnnl_query_t which,
	dnnl_engine_t engine)
{
	const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, which, 0);
	dnnl_memory_t m;
	void *at;

	check(dnnl_memory_create(&m, md, engine, DNNL_MEMORY_ALLOCATE), "memory");
	check(dnnl_memory_get_data_handle(m, &at), "memory");
	memset(at, 0, dnnl_memory_desc_get_size(md)); /* time does not depend on the values */
	return m;
}

/* The description of a product [rows, i] x [i, o]; a 1x1 convolution is one. */
static dnnl_primitive_desc_t product_of(const struct shape *s, dnnl_data_type_t type,
	dnnl_engine_t engine)
{
	dnnl_dims_t x = {s->n * s->h * s->h, s->i}, w = {s->i, s->o};
	dnnl_dims_t y = {s->n * s->h * s->h, s->o};
	dnnl_memory_desc_t mx, mw, my;
	dnnl_matmul_desc_t d;
	dnnl_primitive_desc_t pd;

	check(dnnl_memory_desc_init_by_tag(&mx, 2, x, type, dnnl_ab), "x");
	check(dnnl_memory_desc_init_by_tag(&mw, 2, w, type, dnnl_format_tag_any), "w");
	check(dnnl_memory_desc_init_by_tag(&my, 2, y, dnnl_f32, dnnl_ab), "y");
	check(dnnl_matmul_desc_init(&d, &mx, &mw, NULL, &my), "product");
	check(dnnl_primitive_desc_create(&pd, &d, NULL, engine, NULL), "description");
	return pd;
}

static dnnl_primitive_desc_t convolution_of(const struct shape *s, dnnl_data_type_t type,
	dnnl_engine_t engine)
{
	int64_t pad = same_pad(s->h, s->kernel, s->stride);
	int64_t out = (s->h + s->stride - 1) / s->stride;
	dnnl_dims_t x = {s->n, s->i, s->h, s->h}, y = {s->n, s->o, out, out};
	dnnl_dims_t w = {s->o, s->i, s->kernel, s->kernel};
	dnnl_dims_t grouped = {s->o, 1, 1, s->kernel, s->kernel};
	dnnl_dims_t stride = {s->stride, s->stride}, before = {pad / 2, pad / 2};
	dnnl_dims_t after = {pad - pad / 2, pad - pad / 2};
	dnnl_memory_desc_t mx, mw, my;
	dnnl_convolution_desc_t d;
	dnnl_primitive_desc_t pd;

	check(dnnl_memory_desc_init_by_tag(&mx, 4, x, type, dnnl_format_tag_any), "x");
	check(s->depth ? dnnl_memory_desc_init_by_tag(&mw, 5, grouped, type, dnnl_format_tag_any)
		       : dnnl_memory_desc_init_by_tag(&mw, 4, w, type, dnnl_format_tag_any), "w");
	check(dnnl_memory_desc_init_by_tag(&my, 4, y, dnnl_f32, dnnl_format_tag_any), "y");
	check(dnnl_convolution_forward_desc_init(&d, dnnl_forward_inference,
		dnnl_convolution_direct, &mx, &mw, NULL, &my, stride, before, after),
		"convolution");
	check(dnnl_primitive_desc_create(&pd, &d, NULL, engine, NULL), "description");
	return pd;
}

static double dnnl_time(const struct shape *s, dnnl_data_type_t type)
{
	dnnl_primitive_desc_t pd;
	struct theirs p;
	dnnl_engine_t engine;
	double t;

	check(dnnl_engine_create(&engine, dnnl_cpu, 0), "engine");
	check(dnnl_stream_create(&p.stream, engine, dnnl_stream_default_flags), "stream");
	pd = s->kernel == 1 ? product_of(s, type, engine) : convolution_of(s, type, engine);
	check(dnnl_primitive_create(&p.primitive, pd), "primitive");
	p.args[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, memory_for(pd, dnnl_query_src_md, engine)};
	p.args[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS,
		memory_for(pd, dnnl_query_weights_md, engine)};
	p.args[2] = (dnnl_exec_arg_t){DNNL_ARG_DST, memory_for(pd, dnnl_query_dst_md, engine)};
	t = best_of(run_primitive, &p);
	for (int i = 0; i < 3; i++)
		dnnl_memory_destroy(p.args[i].memory);
	dnnl_primitive_destroy(p.primitive);
	dnnl_primitive_desc_destroy(pd);
	dnnl_stream_destroy(p.stream);
	dnnl_engine_destroy(engine);
	return t;
}

static void products(struct wl_backend *be)
{
	static const struct shape all[] = {
		{"BERT's query, 16 x 80 tokens", 1280, 1, 768, 768, 1, 1, false},
		{"BERT's first FFN, 16 x 80 tokens", 1280, 1, 768, 3072, 1, 1, false},
		{"B5's expansion at 24x24", 4, 24, 128, 768, 1, 1, false},
		{"B5's projection at 12x12", 4, 12, 1824, 304, 1, 1, false},
		{"B5's stem at 380", 4, 380, 3, 48, 3, 2, false},
		{"depthwise 3x3 at 48x48", 4, 48, 384, 384, 3, 1, true},
		{"depthwise 5x5 at 24x24", 4, 24, 768, 768, 5, 1, true},
	};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		for (int half = 0; half < 2; half++) {
			const struct shape *s = &all[i];
			int64_t out = (s->h + s->stride - 1) / s->stride;
			double flops = 2.0 * (double)(s->n * out * out * s->o) *
				(double)(s->kernel * s->kernel * (s->depth ? 1 : s->i));
			double a, b;

			if (half && (s->depth || !wl_backend_cpu_has_bf16()))
				continue; /* depthwise stays in f32 here */
			a = our_time(be, s, half ? WL_BF16 : WL_F32);
			b = dnnl_time(s, half ? dnnl_bf16 : dnnl_f32);
			printf("%-34s %s %8.1f GFLOP/s, oneDNN %8.1f: share %.2f\n", s->what,
				half ? "bf16" : "fp32", 1e-9 * flops / a, 1e-9 * flops / b, b / a);
		}
}

/* --- memory --- */

enum { FLOATS = 16 << 20 };

struct flat {
	struct wl_backend *be;
	float *a, *b, *c, *d;
	int threads;
};

static void triad(void *ctx)
{
	struct flat *f = ctx;
	float *restrict a = f->a;
	const float *restrict b = f->b, *restrict c = f->c;

#pragma omp parallel for simd schedule(static) num_threads(f->threads)
	for (int64_t i = 0; i < FLOATS; i++)
		a[i] = b[i] + 3.0f * c[i];
}

static void ema(void *ctx)
{
	struct flat *f = ctx;

	f->be->ema(f->be, f->a, f->b, FLOATS, 0.99f);
}

static void adamw_as(struct flat *f, enum wl_dtype state)
{
	struct wl_adamw how = {.beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f, .step = 1,
		.grad_scale = 1, .state = state};
	struct wl_adamw_range all = {0, FLOATS, 1e-9f, 0};

	f->be->adamw(f->be, f->a, f->b, f->c, f->d, &all, 1, &how);
}

static void adamw(void *ctx)
{
	adamw_as(ctx, WL_F32);
}

static void adamw_half(void *ctx)
{
	adamw_as(ctx, WL_BF16);
}

static void squares(void *ctx)
{
	struct flat *f = ctx;
	volatile double keep = f->be->sum_squares(f->be, f->a, FLOATS);

	(void)keep;
}

static void memory_bound(struct wl_backend *be, int threads)
{
	static const struct {
		const char *what;
		void (*run)(void *ctx);
		double bytes; /* an element: what is read and written */
	} all[] = {
		{"momentum update", ema, 12},
		{"AdamW, fp32 moments", adamw, 28},
		{"AdamW, bf16 moments", adamw_half, 20},
		{"gradient norm", squares, 4},
	};
	struct wl_err err = WL_ERR_INIT;
	struct flat f = {.be = be, .threads = threads};
	float *mem = be->alloc(be, 4ull * FLOATS * sizeof(float), &err);
	double stream, rate;

	if (!mem)
		exit(1);
	f.a = mem;
	f.b = f.a + FLOATS;
	f.c = f.b + FLOATS;
	f.d = f.c + FLOATS;
	fill(f.a, FLOATS);
	fill(f.b, FLOATS);
	stream = 12e-9 * FLOATS / best_of(triad, &f);
	printf("%-34s      %8.1f GB/s\n", "STREAM triad", stream);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		memset(f.c, 0, 2ull * FLOATS * sizeof(float));
		rate = 1e-9 * all[i].bytes * FLOATS / best_of(all[i].run, &f);
		printf("%-34s      %8.1f GB/s, triad  %8.1f: share %.2f\n", all[i].what, rate,
			stream, rate / stream);
	}
	be->free_mem(be, mem);
}

int main(int argc, char **argv)
{
	struct wl_err err = WL_ERR_INIT;
	int threads = argc > 1 ? atoi(argv[1]) : omp_get_max_threads();
	struct wl_backend *be;

	wl_backend_cpu_prepare(argv);
	if (argc > 2)
		budget_s = atof(argv[2]) / 1000;
	omp_set_num_threads(threads);
	be = wl_backend_cpu_open(threads, &err);
	if (!be) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	products(be);
	memory_bound(be, threads);
	wl_backend_close(be);
	return 0;
}

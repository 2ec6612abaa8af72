#include "tests/support/opcheck.h"

#include "tests/support/held.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { PROBES = 40 }; /* elements of an operand whose gradient is checked */

struct world {
	const struct opcheck *c;
	struct wl_backend *be;
	struct wl_params params;
	struct wl_graph *g;
	wl_tid in[OPCHECK_IN], out, weights, dot;
	double *value[OPCHECK_IN]; /* operands in double */
	double *ref, *r;	   /* reference value; weights of the loss */
	int64_t n_out;
	enum wl_dtype store; /* of activations */
	double tolerance;
};

void opcheck_normals(uint64_t seed, float *to, int64_t n, float scale, float offset)
{
	struct wl_rng_key key = wl_rng_key(seed, 1, 2);
	for (int64_t i = 0; i < n; i++)
		to[i] = wl_rng_normal(key, (uint64_t)i) * scale + offset;
}

struct wl_backend *opcheck_gpu(void)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_backend *be;

	if (!wl_backend_cuda_count()) {
		print_message("SKIPPED: this build has neither a GPU's kernels nor their "
			      "emulation\n");
		skip();
		return NULL;
	}
	be = wl_backend_cuda_open(0, &err);
	if (!be)
		fail_msg("%s", err.msg);
	return be;
}

double opcheck_nmse(const double *a, const double *b, int64_t n)
{
	double d = 0, s = 0;
	for (int64_t i = 0; i < n; i++) {
		d += (a[i] - b[i]) * (a[i] - b[i]);
		s += b[i] * b[i];
	}
	return d / (s > 1e-30 ? s : 1e-30);
}

static void must(int rc, const struct wl_err *err)
{
	if (rc < 0)
		fail_msg("%s", err->msg);
}

/* In place of a number of threads. */
enum { ON_GPU = 0, ON_GPU_BF16 = -1, ON_GPU_F16 = -2 };

/* Operand i is given as a tensor of the stored type: an operation makes it of the parameter. */
static bool is_act(const struct world *w, int i)
{
	return w->store != WL_F32 && ((w->c->acts ? w->c->acts : 1u) >> i & 1);
}

/* To the nearest number of the type, in place. */
static void narrow(enum wl_dtype type, float *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		v[i] = held_round(type, v[i]);
}

static double tolerance_of(const struct opcheck *c, enum wl_dtype store)
{
	double bf16 = c->store_tolerance > 0 ? c->store_tolerance : 3e-5;
	if (store == WL_F32)
		return c->tolerance > 0 ? c->tolerance : 1e-7;
	return store == WL_BF16 ? bf16 : c->f16_tolerance > 0 ? c->f16_tolerance : bf16 / 32;
}

static void make(struct world *w, const struct opcheck *c, int threads)
{
	struct wl_err err = WL_ERR_INIT;
	memset(w, 0, sizeof(*w));
	w->c = c;
	w->store = threads == ON_GPU_BF16 ? WL_BF16 : threads == ON_GPU_F16 ? WL_F16 : WL_F32;
	w->tolerance = tolerance_of(c, w->store);
	w->be = threads <= ON_GPU ? wl_backend_cuda_open(0, &err)
				  : wl_backend_cpu_open(threads, &err);
	if (!w->be)
		fail_msg("%s", err.msg);
	wl_params_init(&w->params);
	struct wl_graph_options opts = {
		.train = !c->infer, .poison = true,
		.compute_dtype = w->store != WL_F32 ? w->store
				 : c->bf16	    ? WL_BF16
				 : c->fp16	    ? WL_F16
						    : WL_F32,
		.store = w->store};
	w->g = wl_graph_new(c->name, &w->params, &opts, &err);
	assert_non_null(w->g);
	for (int i = 0; i < c->n_in; i++) {
		char name[16];
		snprintf(name, sizeof(name), "in%d", i);
		w->in[i] = wl_g_param(w->g, name, c->layout[i], c->shape[i],
			(c->buffers >> i) & 1 ? WL_PARAM_BUFFER : WL_PARAM_WEIGHT);
	}
	wl_tid in[OPCHECK_IN];
	for (int i = 0; i < c->n_in; i++)
		in[i] = is_act(w, i) ? wl_g_scale(w->g, w->in[i], 1) : w->in[i];
	w->out = c->build(w->g, in, c->ctx);
	if (w->store != WL_F32)
		w->out = wl_g_scale(w->g, w->out, 1);
	struct wl_shape shape = wl_g_shape(w->g, w->out);
	w->n_out = wl_shape_count(&shape);
	w->weights = wl_g_input(w->g, "weights", WL_F32, shape);
	w->dot = wl_g_dot(w->g, w->out, w->weights);
	wl_g_loss(w->g, w->dot, 1);
	wl_g_output(w->g, w->out, "out");
	must(wl_params_seal(&w->params, w->be, true, &err), &err);
	must(wl_graph_compile(w->g, w->be, &err), &err);
}

static void fill(struct world *w)
{
	for (int i = 0; i < w->c->n_in; i++) {
		const struct wl_param *e = &w->params.item[i];
		float *v = w->params.value + e->offset;
		float scale = w->c->scale[i] != 0 ? w->c->scale[i] : 1;
		opcheck_normals((uint64_t)i + 1, v, e->count, scale, w->c->offset[i]);
		narrow(w->store, v, (size_t)e->count);
		if (!w->value[i])
			w->value[i] = calloc((size_t)e->count, sizeof(double));
		for (int64_t j = 0; j < e->count; j++)
			w->value[i][j] = (double)v[j];
	}
	float *r = wl_graph_data(w->g, w->weights);
	opcheck_normals(99, r, w->n_out, 1, 0);
	narrow(w->store, r, (size_t)w->n_out);
	if (!w->r) {
		w->r = calloc((size_t)w->n_out, sizeof(double));
		w->ref = calloc((size_t)w->n_out, sizeof(double));
	}
	for (int64_t j = 0; j < w->n_out; j++)
		w->r[j] = (double)r[j];
	if (w->c->fill)
		w->c->fill(w->g, w->c->ctx);
}

static double loss(struct world *w)
{
	w->c->ref((const double *const *)w->value, w->ref, w->c->ctx);
	double s = 0;
	for (int64_t i = 0; i < w->n_out; i++)
		s += w->ref[i] * w->r[i];
	return s;
}

static void check_value(struct world *w)
{
	double tol = w->tolerance;
	const float *y = wl_graph_data(w->g, w->out);
	double *got = calloc((size_t)w->n_out, sizeof(double));
	for (int64_t i = 0; i < w->n_out; i++)
		got[i] = (double)y[i];
	loss(w);
	double e = opcheck_nmse(got, w->ref, w->n_out);
	if (!(e <= tol))
		fail_msg("%s: value has NMSE %g, at most %g is allowed (first: %g, expected %g)",
			w->c->name, e, tol, got[0], w->ref[0]);
	free(got);
}

static void check_grad(struct world *w, int i)
{
	double tol = w->tolerance;
	const struct wl_param *e = &w->params.item[i];
	const float *grad = w->params.grad + e->offset;
	double got[PROBES], want[PROBES];
	int n = e->count < PROBES ? (int)e->count : PROBES;
	for (int k = 0; k < n; k++) {
		/* All elements of a small operand, else spread over it. */
		int64_t j = e->count <= PROBES
				    ? k
				    : (int64_t)(wl_rng_mix64((uint64_t)k) % (uint64_t)e->count);
		double old = w->value[i][j], h = 1e-5;
		w->value[i][j] = old + h;
		double up = loss(w);
		w->value[i][j] = old - h;
		want[k] = (up - loss(w)) / (2 * h);
		w->value[i][j] = old;
		got[k] = (double)grad[j];
	}
	double err = opcheck_nmse(got, want, n);
	if (!(err <= tol))
		fail_msg("%s: gradient of operand %d has NMSE %g, at most %g is allowed "
			 "(first: %g, expected %g)",
			w->c->name, i, err, tol, got[0], want[0]);
}

static void drop(struct world *w)
{
	for (int i = 0; i < OPCHECK_IN; i++)
		free(w->value[i]);
	free(w->r);
	free(w->ref);
	wl_graph_free(w->g);
	wl_params_release(&w->params);
	wl_backend_close(w->be);
}

static void run(struct world *w)
{
	struct wl_err err = WL_ERR_INIT;
	must(wl_graph_run(w->g, 7, 1, &err), &err);
	must(w->be->sync(w->be, &err), &err);
}

/* The same by the GPU's kernels. */
static void check_gpu(const struct opcheck *c, int how)
{
	struct world w;
	make(&w, c, how);
	fill(&w);
	run(&w);
	check_value(&w);
	for (int i = 0; i < c->n_in; i++)
		if (!((c->buffers >> i) & 1))
			check_grad(&w, i);
	drop(&w);
}

void opcheck(const struct opcheck *c)
{
	struct wl_err err = WL_ERR_INIT;
	struct world one, three;
	make(&one, c, 1);
	fill(&one);
	must(wl_graph_run(one.g, 7, 1, &err), &err);
	check_value(&one);
	for (int i = 0; i < c->n_in; i++)
		if (!((c->buffers >> i) & 1))
			check_grad(&one, i);
	/* Any number of threads gives the same bits. */
	make(&three, c, 3);
	fill(&three);
	must(wl_graph_run(three.g, 7, 1, &err), &err);
	assert_memory_equal(wl_graph_data(one.g, one.out), wl_graph_data(three.g, three.out),
		(size_t)one.n_out * sizeof(float));
	assert_memory_equal(
		one.params.grad, three.params.grad, (size_t)one.params.floats * sizeof(float));
	/* Gradients add up: a second run doubles them. */
	double *first = calloc((size_t)one.params.floats, sizeof(double));
	double *second = calloc((size_t)one.params.floats, sizeof(double));
	for (int64_t i = 0; i < one.params.floats; i++)
		first[i] = 2 * (double)one.params.grad[i];
	fill(&one);
	must(wl_graph_run(one.g, 7, 1, &err), &err);
	for (int64_t i = 0; i < one.params.floats; i++)
		second[i] = (double)one.params.grad[i];
	assert_true(opcheck_nmse(second, first, one.params.floats) <= 1e-10);
	free(first);
	free(second);
	drop(&one);
	drop(&three);
	/* Emulated (support/emulated.h), or, by `make test-gpu`, itself; else there is none. */
	if (wl_backend_cuda_count())
		check_gpu(c, ON_GPU);
	for (int how = ON_GPU_F16; wl_backend_cuda_count() && c->store_bf16 && how < ON_GPU; how++)
		check_gpu(c, how);
}

double opcheck_act(enum wl_act a, double x)
{
	switch (a) {
	case WL_ACT_RELU:
		return x > 0 ? x : 0;
	case WL_ACT_RELU6:
		return x > 0 ? (x < 6 ? x : 6) : 0;
	case WL_ACT_SILU:
		return x / (1 + exp(-x));
	case WL_ACT_GELU:
		return 0.5 * x * (1 + erf(x / sqrt(2)));
	case WL_ACT_SIGMOID:
		return 1 / (1 + exp(-x));
	case WL_ACT_TANH:
		return tanh(x);
	case WL_ACT_NONE:
		break;
	}
	return x;
}

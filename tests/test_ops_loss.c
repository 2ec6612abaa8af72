/* The contrastive loss against a double loop, see support/opcheck.h. */
#include "tests/support/opcheck.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct nce {
	int b, k, d;
	bool in_batch;
	const int64_t *row_ids, *queue_ids;
	int ids;
	const float *queue;
	int keys, first; /* keys may be more than queries; query b's is first + b */
	int top;
	const int32_t *extra; /* [b, top] rows of the queue that are positives too, -1: none */
};

static bool nce_same(const int64_t *a, const int64_t *b, int n)
{
	bool same = false;
	for (int i = 0; i < n; i++)
		same |= a[i] == b[i];
	return same;
}

static void nce_ref(const double *const *in, double *out, const void *ctx)
{
	const struct nce *v = ctx;
	double scale = exp(in[2][0]), loss = 0;
	for (int b = 0; b < v->b; b++) {
		double pos = 0, extra = 0, sum;
		int n = 1, own = v->first + b;
		for (int e = 0; e < v->d; e++)
			pos += in[0][b * v->d + e] * in[1][own * v->d + e];
		sum = exp(scale * pos);
		for (int j = 0; j < v->k + (v->in_batch ? v->keys : 0); j++) {
			const int64_t *ids = j < v->k ? v->queue_ids : v->row_ids;
			int row = j < v->k ? j : j - v->k;
			double dot = 0;
			bool positive = false;
			for (int t = 0; t < v->top; t++)
				positive |= v->extra[b * v->top + t] == j;
			if (j - v->k == own)
				continue;
			if (!positive && ids &&
				nce_same(ids + row * v->ids, v->row_ids + own * v->ids, v->ids))
				continue;
			for (int e = 0; e < v->d; e++)
				dot += in[0][b * v->d + e] *
				       (j < v->k ? (double)v->queue[row * v->d + e]
						 : in[1][row * v->d + e]);
			sum += exp(scale * dot);
			n += positive;
			extra += positive ? scale * dot : 0;
		}
		loss += (n * log(sum) - scale * pos - extra) / v->b;
	}
	out[0] = loss;
}

static wl_tid nce_build(struct wl_graph *g, const wl_tid *in, const void *ctx)
{
	const struct nce *v = ctx;
	struct wl_infonce n = {
		.query = in[0], .key = in[1], .first = v->first, .log_scale = in[2],
		.in_batch = v->in_batch};
	if (v->k)
		n.queue = wl_g_input(g, "queue", WL_F32, WL_SHAPE(v->k, v->d));
	if (v->top)
		n.extra = wl_g_input(g, "extra", WL_I32, WL_SHAPE(v->b, v->top));
	if (v->row_ids)
		n.row_ids = wl_g_input(g, "row_ids", WL_I64, WL_SHAPE(v->keys, v->ids));
	if (v->queue_ids)
		n.queue_ids = wl_g_input(g, "queue_ids", WL_I64, WL_SHAPE(v->k, v->ids));
	return wl_g_infonce(g, &n, NULL);
}

static void nce_fill(struct wl_graph *g, const void *ctx)
{
	const struct nce *v = ctx;
	if (v->k)
		memcpy(wl_graph_data(g, wl_graph_find(g, "queue")), v->queue,
			(size_t)(v->k * v->d) * sizeof(float));
	if (v->row_ids)
		memcpy(wl_graph_data(g, wl_graph_find(g, "row_ids")), v->row_ids,
			(size_t)(v->keys * v->ids) * sizeof(int64_t));
	if (v->top)
		memcpy(wl_graph_data(g, wl_graph_find(g, "extra")), v->extra,
			(size_t)(v->b * v->top) * sizeof(int32_t));
	if (v->queue_ids)
		memcpy(wl_graph_data(g, wl_graph_find(g, "queue_ids")), v->queue_ids,
			(size_t)(v->k * v->ids) * sizeof(int64_t));
}

/* Where products are of bf16: the queue's rows and the slopes are rounded to 9 bits. */
static const double nce_bf16 = 1e-5;

/* scale: of the numbers in queries and keys. */
static void nce_check(const char *name, const struct nce *v, float scale)
{
	opcheck(&(struct opcheck){.name = name,
		.n_in = 3,
		.build = nce_build,
		.ref = nce_ref,
		.fill = nce_fill,
		.ctx = v,
		.offset = {0, 0, 1.5f},
		.scale = {scale, scale, 0.01f},
		.store_bf16 = true,
		.store_tolerance = nce_bf16,
		.shape = {WL_SHAPE(v->b, v->d), WL_SHAPE(v->keys, v->d), WL_SHAPE(1)}});
}

static void test_infonce(void **state)
{
	(void)state;
	static float queue[300 * 8];
	static int64_t row_ids[2 * 5], queue_ids[2 * 300], more_ids[2 * 12];
	static const int32_t extra[5 * 3] = {25, -1, 299, -1, -1, -1, 50, 7, 8, -1, 3, -1, 1, 2, 4};
	opcheck_normals(5, queue, 300 * 8, 0.4f, 0);
	for (int i = 0; i < 10; i++) /* rows 0 and 3 share a caption; ids differ otherwise */
		row_ids[i] = i == 7 ? row_ids[1] : 1000 + i;
	for (int i = 0; i < 600; i++)
		queue_ids[i] = i % 50 == 1 ? row_ids[i / 50 % 10] : (INT64_C(1) << 40) + i;
	for (int i = 0; i < 24; i++)
		more_ids[i] = i == 2 * 5 || i == 2 * 11 ? 77 : 2000 + i;
	const struct nce all[] = {
		{5, 300, 8, false, NULL, NULL, 0, queue, 5, 0, 0, NULL},
		{5, 300, 8, false, row_ids, queue_ids, 2, queue, 5, 0, 0, NULL},
		{5, 300, 8, true, row_ids, queue_ids, 2, queue, 5, 0, 0, NULL},
		{5, 0, 8, true, row_ids, NULL, 2, NULL, 5, 0, 0, NULL},
		{5, 3, 8, true, NULL, NULL, 0, queue, 5, 0, 0, NULL},
		/* Keys of several ranks; extra positives, one of them of the same pair. */
		{5, 0, 8, true, more_ids, NULL, 2, NULL, 12, 4, 0, NULL},
		{5, 7, 8, true, NULL, NULL, 0, queue, 12, 7, 0, NULL},
		{5, 300, 8, true, row_ids, queue_ids, 2, queue, 5, 0, 3, extra},
		{5, 300, 8, false, NULL, NULL, 0, queue, 5, 0, 3, extra},
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		nce_check("infonce", &all[i], 0.4f);
}

/* More queries, negatives and numbers than a block of the GPU's kernel takes at once; rows that
 * are, and are not, read eight numbers at a time. */
static void test_infonce_blocks(void **state)
{
	enum { B = 131, K = 230, D = 72, KEYS = 140 };
	static float queue[K * D];
	static int64_t row_ids[KEYS], queue_ids[K];
	static int32_t extra[B * 2];

	(void)state;
	opcheck_normals(6, queue, K * D, 0.2f, 0);
	for (int i = 0; i < KEYS; i++)
		row_ids[i] = i % 60;
	for (int i = 0; i < K; i++)
		queue_ids[i] = i % 75;
	for (int i = 0; i < B; i++) {
		extra[2 * i] = i % 3 ? i % K : -1;
		extra[2 * i + 1] = i % 4 ? -1 : (i + 201) % K;
	}
	const struct nce all[] = {
		{B, K, D, true, row_ids, queue_ids, 1, queue, KEYS, 3, 2, extra},
		{B, 0, D - 5, true, row_ids, NULL, 1, NULL, KEYS, 9, 0, NULL},
		{3, K, D - 6, false, NULL, NULL, 0, queue, 3, 0, 0, NULL},
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		nce_check("infonce in blocks", &all[i], 0.2f);
}

/* A graph of the loss on the GPU's backend, products of bf16. */
struct rig {
	struct wl_backend *be;
	struct wl_params params;
	struct wl_graph *g;
	wl_tid loss;
};

static void open_rig(struct rig *r, const struct nce *v)
{
	const struct wl_graph_options opts = {
		.train = true, .poison = true, .compute_dtype = WL_BF16, .store = WL_BF16};
	const struct wl_shape shape[] = {
		WL_SHAPE(v->b, v->d), WL_SHAPE(v->keys, v->d), WL_SHAPE(1)};
	struct wl_err err = WL_ERR_INIT;
	wl_tid in[3];

	memset(r, 0, sizeof *r);
	r->be = opcheck_gpu();
	wl_params_init(&r->params);
	r->g = wl_graph_new("loss", &r->params, &opts, &err);
	assert_non_null(r->g);
	for (int i = 0; i < 3; i++)
		in[i] = wl_g_param(r->g, i ? i > 1 ? "scale" : "key" : "query", WL_LAYOUT_PLAIN,
			shape[i], WL_PARAM_WEIGHT);
	r->loss = nce_build(r->g, in, v);
	wl_g_loss(r->g, r->loss, 1);
	wl_g_output(r->g, r->loss, "loss");
	if (wl_params_seal(&r->params, r->be, true, &err) < 0 ||
		wl_graph_compile(r->g, r->be, &err) < 0)
		fail_msg("%s", err.msg);
	for (int i = 0; i < 3; i++)
		opcheck_normals((uint64_t)i + 1, r->params.value + r->params.item[i].offset,
			r->params.item[i].count, 0.2f, 0);
	nce_fill(r->g, v);
}

/* The loss; gradients are those of this run alone. */
static float run_rig(struct rig *r)
{
	struct wl_err err = WL_ERR_INIT;
	float loss;

	wl_params_zero_grad(&r->params);
	if (wl_graph_run(r->g, 7, 1, &err) < 0 || r->be->sync(r->be, &err) < 0)
		fail_msg("%s", err.msg);
	r->be->download(r->be, &loss, wl_graph_data(r->g, r->loss), sizeof loss);
	return loss;
}

/* The same bits in every run; a query that is not a number makes the loss none, so that the step is
 * skipped, and leaves the others' gradients alone. */
static void test_infonce_again(void **state)
{
	enum { B = 130, K = 200, D = 40 };
	static float queue[K * D];
	const struct nce v = {B, K, D, true, NULL, NULL, 0, queue, B, 0, 0, NULL};
	struct rig r;
	float *first, *grad, loss;
	size_t bytes;

	(void)state;
	opcheck_normals(6, queue, K * D, 0.2f, 0);
	open_rig(&r, &v);
	bytes = (size_t)r.params.floats * sizeof *first;
	first = malloc(bytes);
	assert_non_null(first);
	loss = run_rig(&r);
	assert_true(loss > 0 && isfinite(loss));
	memcpy(first, r.params.grad, bytes);
	assert_float_equal(run_rig(&r), loss, 0);
	assert_memory_equal(first, r.params.grad, bytes);
	r.params.value[r.params.item[0].offset + 129 * D + 3] = NAN;
	assert_true(isnan(run_rig(&r)));
	grad = r.params.grad + r.params.item[0].offset;
	assert_memory_equal(
		first + r.params.item[0].offset, grad, 129 * (size_t)D * sizeof *grad);
	assert_true(isnan(grad[129 * D]));
	free(first);
	wl_graph_free(r.g);
	wl_params_release(&r.params);
	wl_backend_close(r.be);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_infonce),
		cmocka_unit_test(test_infonce_blocks),
		cmocka_unit_test(test_infonce_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

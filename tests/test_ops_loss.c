/* The contrastive loss against a double loop, see support/opcheck.h. */
#include "tests/support/opcheck.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "train/backend/elementwise.h"

struct nce {
	int b, k, d;
	bool in_batch;
	const int64_t *row_ids, *queue_ids;
	int ids;
	const float *queue;
	int keys, first; /* keys may be more than queries; query b's is first + b */
	int top;
	const int32_t *extra; /* [b, top] rows of the queue that are positives too, -1: none */
	bool half; /* the queue lies as bf16 */
};

static wl_tid queue_input(struct wl_graph *g, const char *name, bool half, int64_t k, int64_t d)
{
	return wl_g_input(g, name, half ? WL_BF16 : WL_F32, WL_SHAPE(k, d));
}

static void fill_queue(
	struct wl_graph *g, const char *name, bool half, const float *from, int64_t n)
{
	void *to = wl_graph_data(g, wl_graph_find(g, name));

	for (int64_t i = 0; i < n && half; i++)
		((uint16_t *)to)[i] = wl_bf16_nearest(from[i]);
	if (!half)
		memcpy(to, from, (size_t)n * sizeof *from);
}

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
		n.queue = queue_input(g, "queue", v->half, v->k, v->d);
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
		fill_queue(g, "queue", v->half, v->queue, v->k * v->d);
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
static void nce_check_one(const char *name, const struct nce *v, float scale)
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

/* And over a queue that lies as bf16, of numbers that it holds exactly. */
static void nce_check(const char *name, const struct nce *v, float scale)
{
	float *queue = malloc((size_t)(v->k * v->d + 1) * sizeof *queue);
	struct nce half = *v;

	assert_non_null(queue);
	nce_check_one(name, v, scale);
	for (int i = 0; i < v->k * v->d; i++)
		queue[i] = wl_bf16_value(wl_bf16_nearest(v->queue[i]));
	half.queue = queue;
	half.half = true;
	if (v->k)
		nce_check_one("infonce, bf16 queue", &half, scale);
	free(queue);
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
		{5, 300, 8, false, NULL, NULL, 0, queue, 5, 0, 0, NULL, false},
		{5, 300, 8, false, row_ids, queue_ids, 2, queue, 5, 0, 0, NULL, false},
		{5, 300, 8, true, row_ids, queue_ids, 2, queue, 5, 0, 0, NULL, false},
		{5, 0, 8, true, row_ids, NULL, 2, NULL, 5, 0, 0, NULL, false},
		{5, 3, 8, true, NULL, NULL, 0, queue, 5, 0, 0, NULL, false},
		/* Keys of several ranks; extra positives, one of them of the same pair. */
		{5, 0, 8, true, more_ids, NULL, 2, NULL, 12, 4, 0, NULL, false},
		{5, 7, 8, true, NULL, NULL, 0, queue, 12, 7, 0, NULL, false},
		{5, 300, 8, true, row_ids, queue_ids, 2, queue, 5, 0, 3, extra, false},
		{5, 300, 8, false, NULL, NULL, 0, queue, 5, 0, 3, extra, false},
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
		{B, K, D, true, row_ids, queue_ids, 1, queue, KEYS, 3, 2, extra, false},
		{B, 0, D - 5, true, row_ids, NULL, 1, NULL, KEYS, 9, 0, NULL, false},
		{3, K, D - 6, false, NULL, NULL, 0, queue, 3, 0, 0, NULL, false},
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
	const struct nce v = {B, K, D, true, NULL, NULL, 0, queue, B, 0, 0, NULL, false};
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

/* Where products take bf16, a queue in bf16 gives the very loss and gradients of one in f32. */
static void test_infonce_half_queue(void **state)
{
	enum { B = 130, K = 200, D = 40 };
	static float queue[K * D];
	struct nce v = {B, K, D, true, NULL, NULL, 0, queue, B, 0, 0, NULL, false};
	struct rig whole, half;

	(void)state;
	opcheck_normals(6, queue, K * D, 0.2f, 0);
	open_rig(&whole, &v);
	v.half = true;
	open_rig(&half, &v);
	assert_float_equal(run_rig(&whole), run_rig(&half), 0);
	assert_memory_equal(whole.params.grad, half.params.grad,
		(size_t)whole.params.floats * sizeof(float));
	for (int i = 0; i < 2; i++) {
		struct rig *r = i ? &half : &whole;

		wl_graph_free(r->g);
		wl_params_release(&r->params);
		wl_backend_close(r->be);
	}
}

/* --- what is near in both queues --- */

struct near {
	int b, k, d, top;
	bool half;
	const float *a, *queue_a, *c, *queue_c;
};

/* The `top` best columns of sample b, best first, ties to the lower column. */
static void near_ref(const struct near *v, const float *x, const float *queue, int b, int32_t *out)
{
	bool *taken = calloc((size_t)v->k, sizeof *taken);

	assert_non_null(taken);
	for (int t = 0; t < v->top; t++) {
		double most = -INFINITY;

		for (int j = 0; j < v->k; j++) {
			double dot = 0;

			for (int e = 0; e < v->d; e++) {
				float q = queue[j * v->d + e];

				dot += (double)x[b * v->d + e] *
				       (double)(v->half ? wl_bf16_value(wl_bf16_nearest(q)) : q);
			}
			if (taken[j] || !(dot > most))
				continue;
			most = dot;
			out[t] = j;
		}
		taken[out[t]] = true;
	}
	free(taken);
}

static void near_check(struct wl_backend *be, const struct near *v)
{
	const struct wl_graph_options opts = {.compute_dtype = WL_F32};
	struct wl_params params;
	struct wl_err err = WL_ERR_INIT;
	int32_t *got = calloc((size_t)(v->b * v->top), sizeof *got), one[2][WL_TOP_MAX];
	struct wl_graph *g;
	wl_tid y;

	wl_params_init(&params);
	g = wl_graph_new("near", &params, &opts, &err);
	assert_true(got && g);
	y = wl_g_both_near(g, wl_g_input(g, "a", WL_F32, WL_SHAPE(v->b, v->d)),
		queue_input(g, "queue_a", v->half, v->k, v->d),
		wl_g_input(g, "c", WL_F32, WL_SHAPE(v->b, v->d)),
		queue_input(g, "queue_c", v->half, v->k, v->d), v->top);
	wl_g_output(g, y, "y");
	if (wl_params_seal(&params, be, false, &err) < 0 || wl_graph_compile(g, be, &err) < 0)
		fail_msg("%s", err.msg);
	fill_queue(g, "a", false, v->a, v->b * v->d);
	fill_queue(g, "c", false, v->c, v->b * v->d);
	fill_queue(g, "queue_a", v->half, v->queue_a, v->k * v->d);
	fill_queue(g, "queue_c", v->half, v->queue_c, v->k * v->d);
	if (wl_graph_run(g, 1, 1, &err) < 0)
		fail_msg("%s", err.msg);
	be->download(be, got, wl_graph_data(g, y), (size_t)(v->b * v->top) * sizeof *got);
	for (int b = 0; b < v->b; b++) {
		near_ref(v, v->a, v->queue_a, b, one[0]);
		near_ref(v, v->c, v->queue_c, b, one[1]);
		for (int t = 0; t < v->top; t++) {
			int32_t want = -1;

			for (int u = 0; u < v->top; u++)
				want = one[1][u] == one[0][t] ? one[0][t] : want;
			if (got[b * v->top + t] != want)
				fail_msg("%s, K %d, T %d, bf16 %d, row %d, place %d: %d, expected "
					"%d", be->name, v->k, v->top, v->half, b, t,
					got[b * v->top + t], want);
		}
	}
	wl_graph_free(g);
	wl_params_release(&params);
	wl_backend_close(be);
	free(got);
}

/* Several rows of tiles and columns, numbers not read eight at a time, every third row of the
 * queues twice, so that similarities are equal. */
static void test_both_near(void **state)
{
	enum { B = 131, K = 230, D = 24 };
	static float x[2][B * D], queue[2][K * D];
	const struct near all[] = {
		{B, K, D, 5, false, x[0], queue[0], x[1], queue[1]},
		{B, K, D, 64, true, x[0], queue[0], x[1], queue[1]},
		{3, 70, D - 5, 64, false, x[0], queue[0], x[1], queue[1]},
		{3, 7, D, 7, true, x[0], queue[0], x[1], queue[1]},
	};
	struct wl_err err = WL_ERR_INIT;

	(void)state;
	for (int i = 0; i < 2; i++) {
		opcheck_normals(20 + i, x[i], B * D, 0.3f, 0);
		opcheck_normals(30, queue[i], K * D, 0.3f, 0);
		for (int j = 0; j + 100 < K; j += 3)
			memcpy(queue[i] + (j + 100) * D, queue[i] + j * D, D * sizeof(float));
		for (int e = 0; i && e < B * D; e++) /* near in both, often */
			x[i][e] = x[0][e] + 0.3f * x[i][e];
	}
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		near_check(wl_backend_cpu_open(2, &err), &all[i]);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		near_check(opcheck_gpu(), &all[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_infonce),
		cmocka_unit_test(test_infonce_blocks),
		cmocka_unit_test(test_infonce_again),
		cmocka_unit_test(test_infonce_half_queue),
		cmocka_unit_test(test_both_near),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

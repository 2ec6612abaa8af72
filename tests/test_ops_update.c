/* The optimiser's update: against doubles, of the GPU's one pass against its parts, of the two
 * backends against each other. */
#include "tests/support/cm.h"
#include "tests/support/opcheck.h"
#include "train/backend/elementwise.h"
#include "train/backend/judge.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

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

/* Rows of a larger array, aligned and not, of which what lies between is none's. */
static void check_rows(struct wl_backend *be)
{
	enum { N = 5000, STEP = 7000, ROWS = 5 };
	static const int64_t shapes[][3] = {{0, N, STEP}, {1, N, STEP}, {3, N - 1, STEP + 2}};
	struct wl_err err = WL_ERR_INIT;
	float *x = be->alloc(be, (ROWS * (STEP + 2)) * sizeof *x, &err);
	double *to = be->alloc(be, sizeof *to, &err), got;

	assert_true(x && to);
	opcheck_normals(5, x, ROWS * (STEP + 2), 1, 0);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		const int64_t *v = shapes[i];
		double want = 0;

		for (int r = 0; r < ROWS; r++)
			want += be->sum_squares(be, x + v[0] + r * v[2], v[1]);
		be->squares(be, x + v[0], v[1], v[2], ROWS, to, false);
		be->squares(be, x + v[0], v[1], v[2], ROWS, to, true);
		be->download(be, &got, to, sizeof got);
		assert_true(fabs(got / (2 * want) - 1) < 1e-12);
	}
	be->free_mem(be, x);
	be->free_mem(be, to);
}

static void test_rows(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_backend *be = wl_backend_cpu_open(2, &err);

	(void)state;
	check_rows(be);
	wl_backend_close(be);
	be = opcheck_gpu();
	check_rows(be);
	wl_backend_close(be);
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
	be->squares(be, g, N_PARAMS / 2, 0, 1, at.squares, false);
	be->squares(be, g + N_PARAMS / 2, N_PARAMS - N_PARAMS / 2, 0, 1, at.squares, true);
	ops->measure(j, scores, 1);
	ops->decide(j);
	ops->blame(j, g, N_PARAMS / 2, 0, 1, 0);
	ops->blame(j, g + N_PARAMS / 2, N_PARAMS - N_PARAMS / 2, 0, 1, N_PARAMS / 2);
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
		wl_backend_cuda_count() ? wl_backend_cuda_open(0, &err) : NULL};

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
	if (!wl_backend_cuda_count())
		SKIP("this build has neither a GPU's kernels nor their emulation");
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
		cmocka_unit_test(test_optimiser),
		cmocka_unit_test(test_fused_update),
		cmocka_unit_test(test_update_of_backends),
		cmocka_unit_test(test_rows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

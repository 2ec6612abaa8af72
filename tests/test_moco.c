/* train/moco/queue.h against a naive reference: an ever-growing list of pushes. */
#include "train/backend/elementwise.h"
#include "train/moco/queue.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DIM = 3 };

static void must(int result, const struct wl_err *err)
{
	if (result < 0)
		fail_msg("%s", err->msg);
}

static void fresh_queue_holds_unit_rows_of_nobody(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_queue q, same, other;
	double sum, mean = 0;
	size_t k, d;

	(void)state;
	must(wl_queue_init(&q, 50, 64, 7, &err), &err);
	must(wl_queue_init(&same, 50, 64, 7, &err), &err);
	must(wl_queue_init(&other, 50, 64, 8, &err), &err);
	for (k = 0; k < 50; k++) {
		sum = 0;
		for (d = 0; d < 64; d++) {
			sum += (double)q.keys[k * 64 + d] * q.keys[k * 64 + d];
			mean += q.keys[k * 64 + d];
		}
		assert_true(fabs(sum - 1) < 1e-5);
		assert_int_equal(q.ids[2 * k], 0);
		assert_int_equal(q.ids[2 * k + 1], 0);
	}
	assert_true(fabs(mean / (50 * 64)) < 0.01); /* 3200 normals of deviation 1/8: sd 0.002 */
	assert_memory_equal(q.keys, same.keys, 50 * 64 * sizeof(float));
	assert_memory_not_equal(q.keys, other.keys, 50 * 64 * sizeof(float));
	wl_queue_release(&q);
	wl_queue_release(&same);
	wl_queue_release(&other);
}

/* Pushes batches of every size, also larger than the queue, and compares with the tail of the
 * whole history: row r holds the last push p with p mod K == r. */
static void push_wraps_for_any_batch_size(void **state)
{
	enum { HISTORY = 400, K = 7 };
	static const size_t batches[] = {1, 3, 7, 6, 8, 20, 2, 14, 15, 1};
	static float keys[HISTORY * DIM];
	static int64_t ids[HISTORY * 2];
	struct wl_err err = WL_ERR_INIT;
	struct wl_queue q;
	size_t done = 0, i, b, r, p;

	(void)state;
	for (i = 0; i < HISTORY; i++) {
		ids[2 * i] = (int64_t)(1000 + i);
		ids[2 * i + 1] = (int64_t)(1 + i / 2);
		for (r = 0; r < DIM; r++)
			keys[i * DIM + r] = (float)(i * DIM + r);
	}
	must(wl_queue_init(&q, K, DIM, 1, &err), &err);
	for (b = 0; b < sizeof batches / sizeof *batches; b++) {
		wl_queue_push(&q, keys + done * DIM, ids + done * 2, batches[b]);
		done += batches[b];
		assert_int_equal(q.next, done % K);
		for (r = 0; r < K && done >= K; r++) {
			p = done - 1 - (done - 1 + K - r) % K;
			assert_memory_equal(q.ids + 2 * r, ids + 2 * p, 2 * sizeof *ids);
			assert_memory_equal(q.keys + r * DIM, keys + p * DIM, DIM * sizeof(float));
		}
	}
	wl_queue_release(&q);
}

static void torch_layout_is_the_transpose(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_queue q, r;
	float dk[DIM * 5];
	size_t k, d;

	(void)state;
	must(wl_queue_init(&q, 5, DIM, 1, &err), &err);
	must(wl_queue_init(&r, 5, DIM, 2, &err), &err);
	wl_queue_to_torch(&q, dk);
	for (k = 0; k < 5; k++)
		for (d = 0; d < DIM; d++)
			assert_true(dk[d * 5 + k] == q.keys[k * DIM + d]);
	wl_queue_from_torch(&r, dk);
	assert_memory_equal(q.keys, r.keys, sizeof dk);
	wl_queue_release(&q);
	wl_queue_release(&r);
}

/* Keys as bf16: rounded to nearest when they come in, by whatever way, and given out as floats;
 * what one type wrote the other reads. */
static void half_queues(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_queue whole, half, copy = {0};
	float in[DIM * 3], a[DIM * 5], b[DIM * 5];
	int64_t ids[6] = {1, 2, 3, 4, 5, 6};

	(void)state;
	must(wl_queue_init(&whole, 5, DIM, 1, &err), &err);
	must(wl_queue_init(&half, 5, DIM, 1, &err), &err);
	must(wl_queue_narrow(&half, &err), &err);
	assert_int_equal(wl_queue_type(&half), WL_BF16);
	assert_ptr_equal(wl_queue_rows(&half), half.half);
	for (size_t i = 0; i < DIM * 3; i++)
		in[i] = 0.3f + 0.0123f * (float)i;
	for (int times = 0; times < 3; times++) { /* it wraps */
		wl_queue_push(&whole, in, ids, 3);
		wl_queue_push(&half, in, ids, 3);
	}
	assert_int_equal(whole.next, half.next);
	must(wl_queue_take(&copy, &half, &err), &err);
	wl_queue_to_torch(&whole, a);
	wl_queue_to_torch(&copy, b);
	for (size_t i = 0; i < DIM * 5; i++) {
		assert_true(fabsf(a[i] - b[i]) <= 0x1p-8f * fabsf(a[i]));
		a[i] = wl_bf16_value(wl_bf16_nearest(a[i]));
	}
	assert_memory_equal(a, b, sizeof a);
	wl_queue_from_torch(&whole, b);
	wl_queue_from_torch(&half, b);
	wl_queue_to_torch(&whole, a);
	assert_memory_equal(a, b, sizeof a);
	wl_queue_to_torch(&half, a);
	assert_memory_equal(a, b, sizeof a);
	wl_queue_release(&whole);
	wl_queue_release(&half);
	wl_queue_release(&copy);
}

static void size_is_clamped_to_the_data(void **state)
{
	(void)state;
	assert_int_equal(wl_queue_clamp(16384, 30000000, 2048), 16384);
	assert_int_equal(wl_queue_clamp(1024, 600, 64), 536);
	assert_int_equal(wl_queue_clamp(1024, 100, 64), 64);
	assert_int_equal(wl_queue_clamp(1024, 0, 64), 64);
	assert_int_equal(wl_queue_clamp(16, 100, 64), 16);
	assert_int_equal(wl_queue_clamp(0, 100, 64), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fresh_queue_holds_unit_rows_of_nobody),
		cmocka_unit_test(push_wraps_for_any_batch_size),
		cmocka_unit_test(torch_layout_is_the_transpose),
		cmocka_unit_test(half_queues),
		cmocka_unit_test(size_is_clamped_to_the_data),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

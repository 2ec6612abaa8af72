/* train/moco/queue.h against a naive reference: an ever-growing list of pushes. */
#include "ops/hash.h"
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
		assert_int_equal(q.pair_ids[k], 0);
		assert_int_equal(q.text_ids[k], 0);
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
	static uint64_t pairs[HISTORY], texts[HISTORY];
	struct wl_err err = WL_ERR_INIT;
	struct wl_queue q;
	size_t done = 0, i, b, r, p;

	(void)state;
	for (i = 0; i < HISTORY; i++) {
		pairs[i] = 1000 + i;
		texts[i] = 1 + i / 2;
		for (r = 0; r < DIM; r++)
			keys[i * DIM + r] = (float)(i * DIM + r);
	}
	must(wl_queue_init(&q, K, DIM, 1, &err), &err);
	for (b = 0; b < sizeof batches / sizeof *batches; b++) {
		wl_queue_push(&q, keys + done * DIM, pairs + done, texts + done, batches[b]);
		done += batches[b];
		assert_int_equal(q.next, done % K);
		for (r = 0; r < K && done >= K; r++) {
			p = done - 1 - (done - 1 + K - r) % K;
			assert_int_equal(q.pair_ids[r], pairs[p]);
			assert_int_equal(q.text_ids[r], texts[p]);
			assert_memory_equal(q.keys + r * DIM, keys + p * DIM, DIM * sizeof(float));
		}
	}
	wl_queue_release(&q);
}

static void same_pair_or_caption_is_ignored(void **state)
{
	enum { K = 61, B = 9 };
	struct wl_err err = WL_ERR_INIT;
	struct wl_queue q;
	uint64_t pair[K], text[K];
	float key[K * DIM] = {0};
	int32_t ignore[B * K];
	size_t i, b, marked, expect = 0;

	(void)state;
	must(wl_queue_init(&q, K, DIM, 1, &err), &err);
	for (i = 0; i < K; i++) { /* few identities: many hits */
		pair[i] = 1 + wl_rand64(1, 0, i) % 13;
		text[i] = 1 + wl_rand64(1, 1, i) % 11;
	}
	wl_queue_push(&q, key, pair, text, K - 5); /* five rows still random */
	memset(ignore, 0x55, sizeof ignore);
	marked = wl_queue_ignore(&q, pair + 20, text + 20, B, ignore);
	for (b = 0; b < B; b++)
		for (i = 0; i < K; i++) {
			int want = i < K - 5 && (pair[i] == pair[20 + b] || text[i] == text[20 + b]);

			expect += (size_t)want;
			assert_int_equal(ignore[b * K + i], want);
		}
	assert_int_equal(marked, expect);
	assert_true(expect > B);
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

static void text_id_tells_captions_apart(void **state)
{
	int32_t a[] = {101, 5, 6, 102}, b[] = {101, 6, 5, 102};

	(void)state;
	assert_true(wl_text_id(a, 4) == wl_text_id(a, 4));
	assert_true(wl_text_id(a, 4) != wl_text_id(b, 4));
	assert_true(wl_text_id(a, 4) != wl_text_id(a, 3));
	assert_true(wl_text_id(a, 0) != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fresh_queue_holds_unit_rows_of_nobody),
		cmocka_unit_test(push_wraps_for_any_batch_size),
		cmocka_unit_test(same_pair_or_caption_is_ignored),
		cmocka_unit_test(torch_layout_is_the_transpose),
		cmocka_unit_test(size_is_clamped_to_the_data),
		cmocka_unit_test(text_id_tells_captions_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

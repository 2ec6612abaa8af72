/* train/optim against PyTorch (tests/golden/optim.py) and by definition. */
#include "ops/hash.h"
#include "ops/json.h"
#include "train/optim/guard.h"
#include "train/optim/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *golden(void)
{
	struct wl_err err = WL_ERR_INIT;
	json_t *g = wl_json_load("tests/golden/optim.json", &err);

	if (!g)
		fail_msg("%s", err.msg);
	return g;
}

static double item(const json_t *g, const char *key, size_t i)
{
	return json_number_value(json_array_get(json_object_get(g, key), i));
}

static void schedule_equals_torch(void **state)
{
	struct wl_schedule s = {2e-2, 1e-3, 4, 16};
	struct wl_err err = WL_ERR_INIT;
	json_t *g = golden();
	size_t i;

	(void)state;
	assert_int_equal(wl_schedule_check(&s, &err), 0);
	for (i = 0; i < 16; i++)
		if (!(fabs(wl_schedule_lr(&s, (int64_t)i) - item(g, "lr", i)) < 1e-12))
			fail_msg("step %zu: %.15g, torch %.15g", i, wl_schedule_lr(&s, (int64_t)i),
				item(g, "lr", i));
	assert_true(wl_schedule_lr(&s, 16) == 1e-3);
	assert_true(wl_schedule_lr(&s, 1000) == 1e-3);
	json_decref(g);
}

static void schedule_refuses_nonsense(void **state)
{
	const struct wl_schedule bad[] = {
		{-1, 0, 0, 10}, {NAN, 0, 0, 10}, {1e-3, 2e-3, 0, 10}, {1e-3, 0, 11, 10},
		{1e-3, 0, -1, 10}, {1e-3, 0, 0, 0},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct wl_err err = WL_ERR_INIT;

		assert_int_equal(wl_schedule_check(&bad[i], &err), -1);
		assert_int_equal(err.code, WL_EUSAGE);
	}
}

static void guard_skips_what_is_not_finite(void **state)
{
	struct wl_guard g = {.spike_z = 6, .max_in_a_row = 3};
	struct wl_err err = WL_ERR_INIT;

	(void)state;
	assert_int_equal(wl_guard_judge(&g, 1, 1), WL_GUARD_OK);
	assert_int_equal(wl_guard_judge(&g, NAN, 1), WL_GUARD_NONFINITE);
	assert_int_equal(wl_guard_judge(&g, 1, INFINITY), WL_GUARD_NONFINITE);
	assert_int_equal(wl_guard_give_up(&g, 2, &err), 0);
	assert_int_equal(wl_guard_judge(&g, 1, NAN), WL_GUARD_NONFINITE);
	assert_int_equal(wl_guard_give_up(&g, 3, &err), -1);
	assert_int_equal(err.code, WL_ENUMERIC);
	assert_int_equal(wl_guard_judge(&g, 1, 1), WL_GUARD_OK);
	assert_int_equal(wl_guard_give_up(&g, 4, &err), 0);
	assert_int_equal(g.nonfinite, 3);
	assert_int_equal(g.seen, 2);
}

static void guard_finds_spikes_and_survives_a_checkpoint(void **state)
{
	struct wl_guard g = {.spike_z = 6, .max_in_a_row = 10}, h = g;
	struct wl_err err = WL_ERR_INIT;
	json_t *saved, *back;
	char *text;
	int i;

	(void)state;
	for (i = 0; i < 300; i++)
		assert_int_equal(wl_guard_judge(&g, 1, 1 + wl_rand_unit(3, 0, (uint64_t)i) / 3),
			WL_GUARD_OK);
	assert_int_equal(wl_guard_judge(&g, 1, 50), WL_GUARD_SPIKE);
	saved = wl_guard_save(&g);
	text = wl_json_text(saved, &err);
	back = wl_json_parse(text, strlen(text), "saved", &err);
	assert_non_null(back);
	assert_int_equal(wl_guard_restore(&h, back, &err), 0);
	assert_memory_equal(&g, &h, sizeof g); /* through text, to the last bit */
	assert_int_equal(wl_guard_judge(&h, 1, 50), WL_GUARD_SPIKE);
	assert_int_equal(h.spikes, 2);
	assert_int_equal(wl_guard_judge(&h, 1, 1.2), WL_GUARD_OK);
	json_object_del(back, "seen");
	assert_int_equal(wl_guard_restore(&h, back, &err), -1);
	assert_int_equal(err.code, WL_ECKPT);
	json_decref(saved);
	json_decref(back);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(schedule_equals_torch),
		cmocka_unit_test(schedule_refuses_nonsense),
		cmocka_unit_test(guard_skips_what_is_not_finite),
		cmocka_unit_test(guard_finds_spikes_and_survives_a_checkpoint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

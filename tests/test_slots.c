/* Which buckets may share memory (train/dist/slots): never two that are held together, whatever the
 * schedule, and no more slots than are held at a time where buckets come in order. */
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "train/dist/slots.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 40, HELD = 3 * BUCKETS };

static struct wl_err err;

static struct wl_cut cut_of(int buckets, bool short_last)
{
	struct wl_cut c;

	wl_cut_init(&c, (int64_t)buckets * 4096 - (short_last ? 2048 : 0), 4096, 1024, 0, 2);
	assert_int_equal(c.n, buckets);
	return c;
}

static void none_together_share(const struct wl_slots *s, const struct wl_held *held, int n)
{
	for (int i = 0; i < n; i++)
		for (int k = 0; k < i; k++) {
			bool together = held[i].phase == held[k].phase &&
					held[i].from <= held[k].to && held[k].from <= held[i].to;

			if (together && held[i].bucket != held[k].bucket &&
				s->of[held[i].bucket] >= 0 &&
				s->of[held[i].bucket] == s->of[held[k].bucket])
				fail_msg("buckets %d and %d are held together in slot %d",
					held[i].bucket, held[k].bucket, s->of[held[i].bucket]);
		}
}

static void any_schedule_is_kept_apart(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 200; seed++) {
		struct wl_cut cut = cut_of(BUCKETS, seed % 2);
		bool own[BUCKETS + 1] = {false};
		struct wl_held held[HELD];
		struct wl_slots s;

		for (int i = 0; i < HELD; i++) {
			uint64_t h = wl_mix64(seed * HELD + (uint64_t)i);
			int from = (int)(h >> 8 & 255);

			held[i] = (struct wl_held){(int)(h & 1), (int)(h >> 20) % BUCKETS, from,
				from + (int)(h >> 40 & 15)};
			held[i].bucket = abs(held[i].bucket);
		}
		own[seed % BUCKETS] = true;
		OK(wl_slots_make(&s, &cut, held, HELD, own, &err));
		assert_int_equal(s.of[seed % BUCKETS], -1);
		if (seed % 2)
			assert_int_equal(s.of[BUCKETS - 1], -1);
		for (int b = 0; b < BUCKETS; b++)
			assert_true(s.of[b] < s.n);
		none_together_share(&s, held, HELD);
		wl_slots_release(&s);
	}
}

/* Forward and then backward through buckets in order, each held with its two neighbours. */
static void a_sweep_takes_as_many_as_it_holds(void **state)
{
	struct wl_cut cut = cut_of(BUCKETS, false);
	bool own[BUCKETS + 1] = {false};
	struct wl_held held[2 * BUCKETS];
	struct wl_slots s;

	(void)state;
	for (int b = 0; b < BUCKETS; b++) {
		int back = 1000 - 10 * b;

		held[b] = (struct wl_held){0, b, 10 * b - 15, 10 * b + 9};
		held[BUCKETS + b] = (struct wl_held){0, b, back - 15, back + 9};
	}
	OK(wl_slots_make(&s, &cut, held, 2 * BUCKETS, own, &err));
	none_together_share(&s, held, 2 * BUCKETS);
	assert_in_range(s.n, 3, 4);
	wl_slots_release(&s);
}

static void pieces_of_half_types_are_whole_parts(void **state)
{
	(void)state;
	for (size_t part = 4096; part <= 2 << 20; part *= 2) {
		int64_t page = wl_cut_page(part);
		struct wl_cut c;

		assert_int_equal((size_t)page * 2 % part, 0);
		assert_int_equal((size_t)page * 4 % part, 0);
		wl_cut_init(&c, 24 * page, 5 * page, page, 1, 4);
		for (int b = 0; b < c.n; b++)
			for (int r = 0; r < 4; r++) {
				struct wl_span p = wl_cut_piece(&c, b, r);

				assert_int_equal(p.begin % page, 0);
				assert_int_equal(p.end % page, 0);
			}
	}
	assert_int_equal(wl_cut_page(0), WL_CUT_PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_schedule_is_kept_apart),
		cmocka_unit_test(a_sweep_takes_as_many_as_it_holds),
		cmocka_unit_test(pieces_of_half_types_are_whole_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

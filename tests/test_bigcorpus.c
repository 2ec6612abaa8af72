/* Dedup over a synthetic corpus: all that was planted is found, and nothing else, whatever the
 * policy and however little memory there is. */
#include "clean/dedup.h"
#include "tests/support/bigcorpus.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <string.h>

static struct wl_err err;

enum { PAIRS = 6100 /* slogans repeat after 5,000 */ };

static void run(const char *dir, const char *policy, int64_t memory)
{
	struct wl_dedup_options o = {.image_radius = 6, .threads = 2, .memory_bytes = memory};
	struct wl_corpus *c = wl_corpus_open(dir, false, 0, &err);
	struct bigcorpus_found f;
	struct wl_dedup_counts n;

	assert_non_null(c);
	OK(wl_dedup_policy_parse(policy, &o.policy, &err));
	OK(wl_dedup(c, &o, &n, &err));
	wl_corpus_close(c);
	OK(bigcorpus_check(dir, "dedup", policy, &f, &err));
	assert_int_equal(f.pairs, PAIRS);
	for (int k = 0; k < BIG_KINDS; k++) {
		if (f.planted[k])
			print_message("%s, %s: %lld of %lld found\n", policy,
				bigcorpus_kind_name((enum bigcorpus_kind)k), (long long)f.found[k],
				(long long)f.planted[k]);
		assert_int_equal(f.found[k], f.planted[k]);
		assert_int_equal(f.wrong[k], 0);
	}
}

static void all_planted_are_found(void **state)
{
	struct tmp_dir tmp = tmp_make();
	char dir[512];

	(void)state;
	OK(bigcorpus_make(tmp_path(&tmp, "corpus", dir), PAIRS, 3, 2, &err));
	run(dir, "image", 0);
	run(dir, "text", PAIRS * 100);
	run(dir, "pair", 0);
	tmp_remove(&tmp);
}

/* The check would see a copy that stays and a plain pair that goes. */
static void check_can_fail(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct bigcorpus_found f;
	char dir[512];

	(void)state;
	OK(bigcorpus_make(tmp_path(&tmp, "corpus", dir), 1000, 2, 1, &err));
	assert_true(bigcorpus_check(dir, "dedup", "image", &f, &err) < 0);
	struct wl_corpus *c = wl_corpus_open(dir, false, 0, &err);
	struct wl_dedup_options o = {.image_radius = -1, .window_radius = -1, .threads = 1};
	struct wl_dedup_counts n;
	OK(wl_dedup(c, &o, &n, &err));
	wl_corpus_close(c);
	OK(bigcorpus_check(dir, "dedup", "image", &f, &err));
	assert_int_equal(f.planted[BIG_MIRRORED], 10);
	assert_int_equal(f.found[BIG_MIRRORED], 0);
	assert_int_equal(f.found[BIG_COPY], 10);
	OK(bigcorpus_check(dir, "dedup", "pair", &f, &err));
	assert_int_equal(f.wrong[BIG_COPY], 10);
	tmp_remove(&tmp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_planted_are_found),
		cmocka_unit_test(check_can_fail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The checker of kernels (support/racecheck.h): every planted fault is reported as what it is, and
 * nothing that is right.
 */
#include "tests/support/cm.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/planted_races.h"
#include "tests/support/racecheck.h"

/* Absent where there is no C++ compiler: then no kernel is emulated. */
#pragma weak planted_run
#pragma weak race_take
#pragma weak race_quiet

static int present(void **state)
{
	(void)state;
	if (planted_run)
		race_quiet(true);
	return 0;
}

static bool skipped(void)
{
	if (planted_run)
		return false;
	print_message("SKIPPED: this build has no emulated kernels\n");
	return true;
}

static void run(enum planted_race which, int found[RACE_KINDS])
{
	planted_run(which);
	race_take(found);
}

static int sum(const int found[RACE_KINDS])
{
	int n = 0;

	for (int k = 0; k < RACE_KINDS; k++)
		n += found[k];
	return n;
}

static void test_silent_on_what_is_right(void **state)
{
	(void)state;
	if (skipped())
		skip();
	for (int p = PLANTED_TREE; p <= PLANTED_COPIES; p++) {
		int found[RACE_KINDS];

		run((enum planted_race)p, found);
		if (sum(found))
			fail_msg("planted kernel %d has no fault, but %d are reported", p,
				sum(found));
	}
}

/* Kernels first .. last are each reported as `kind`. */
static void finds(int first, int last, enum race_kind kind)
{
	for (int p = first; p <= last; p++) {
		int found[RACE_KINDS];

		run((enum planted_race)p, found);
		if (!found[kind])
			fail_msg("the fault of kernel %d is not reported as kind %d (%d others)", p,
				(int)kind, sum(found));
	}
}

static void test_races_in_a_block(void **state)
{
	(void)state;
	if (skipped())
		skip();
	finds(PLANTED_NO_BARRIER, PLANTED_BYTES, RACE_SHARED);
}

static void test_races_in_a_grid(void **state)
{
	(void)state;
	if (skipped())
		skip();
	finds(PLANTED_BLOCKS_WRITE, PLANTED_BESIDE_ATOMICS, RACE_GLOBAL);
}

static void test_first_reads(void **state)
{
	(void)state;
	if (skipped())
		skip();
	finds(PLANTED_SHARED_UNWRITTEN, PLANTED_SCRATCH_UNWRITTEN, RACE_FIRST_READ);
}

static void test_bounds_and_alignment(void **state)
{
	(void)state;
	if (skipped())
		skip();
	finds(PLANTED_PAST_END, PLANTED_HOST, RACE_BOUNDS);
	finds(PLANTED_MISALIGNED, PLANTED_MISALIGNED_COPY, RACE_ALIGNMENT);
}

static void test_copies_under_way(void **state)
{
	(void)state;
	if (skipped())
		skip();
	finds(PLANTED_NO_WAIT, PLANTED_WRONG_GROUP, RACE_COPY);
	finds(PLANTED_REFILLED, PLANTED_REFILLED, RACE_SHARED);
}

static void test_barriers_that_nobody_reaches(void **state)
{
	(void)state;
	if (skipped())
		skip();
	for (int p = PLANTED_BARRIER_APART; p < PLANTED_COUNT; p++) {
		int status;
		pid_t child = fork();

		assert_true(child >= 0);
		if (child == 0) {
			signal(SIGABRT, SIG_DFL);
			if (!freopen("/dev/null", "w", stderr))
				_exit(1);
			planted_run((enum planted_race)p);
			_exit(0);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
			fail_msg("planted kernel %d goes on (status %d)", p, status);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_silent_on_what_is_right),
		cmocka_unit_test(test_races_in_a_block),
		cmocka_unit_test(test_races_in_a_grid),
		cmocka_unit_test(test_first_reads),
		cmocka_unit_test(test_bounds_and_alignment),
		cmocka_unit_test(test_copies_under_way),
		cmocka_unit_test(test_barriers_that_nobody_reaches),
	};

	return cmocka_run_group_tests(tests, present, NULL);
}

/* clean/dedup: threads, ranks, memory, kills and pairs that come later make no difference to what
 * it finds, to the last row. */
#include "tests/support/cm.h"
#include "tests/support/corpus_make.h"
#include "tests/support/dedup_plant.h"
#include "tests/support/dedup_run.h"
#include "tests/support/kills.h"
#include "tests/support/tmp.h"

#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static void dedup(
	const char *dir, enum wl_dedup_policy policy, int threads, struct wl_dedup_counts *n)
{
	struct wl_dedup_options o = {.policy = policy, .image_radius = 4, .threads = threads};

	OK(dedup_run(dir, &o, n, &err));
}

static void threads_make_no_difference(void **state)
{
	struct tmp_dir a = tmp_make(), b = tmp_make();
	struct wl_dedup_counts na, nb;
	struct planted x;

	(void)state;
	dedup_plant(a.path, &x);
	dedup_plant(b.path, &x);
	dedup(a.path, WL_DEDUP_IMAGE, 1, &na);
	dedup(b.path, WL_DEDUP_IMAGE, 4, &nb);
	assert_memory_equal(&na, &nb, sizeof(na));
	dedup_same(a.path, b.path);
	tmp_remove(&a);
	tmp_remove(&b);
}

/* A directory that dedup runs in, and what it counts. */
struct planted_run {
	const char *dir;
	struct wl_dedup_counts n;
};

static void plant_again(void *ctx)
{
	const struct planted_run *r = ctx;
	struct planted x;

	assert_int_equal(tmp_run(NULL, "rm -rf '%s'/*", r->dir), 0);
	dedup_plant(r->dir, &x);
}

static int dedup_planted(void *ctx)
{
	struct planted_run *r = ctx;
	struct wl_dedup_options o = {.policy = WL_DEDUP_IMAGE, .image_radius = 4, .threads = 2};

	return dedup_run(r->dir, &o, &r->n, &err) < 0;
}

/* Killed again and again, then run to the end: the same as without kills. */
static void killed_and_run_again(void **state)
{
	struct tmp_dir a = tmp_make(), b = tmp_make();
	struct wl_dedup_counts na, nb;
	struct planted_run run = {.dir = b.path};
	struct planted x;

	(void)state;
	dedup_plant(a.path, &x);
	dedup(a.path, WL_DEDUP_IMAGE, 2, &na);
	killed_until_done(&(struct killed){
		.begin = plant_again, .run = dedup_planted, .ctx = &run, .least = 3});
	dedup(b.path, WL_DEDUP_IMAGE, 2, &nb);
	assert_memory_equal(&na, &nb, sizeof(na));
	dedup_same(a.path, b.path);
	tmp_remove(&a);
	tmp_remove(&b);
}

/* Old pairs, then new ones, against all at once: the same in every table. */
static void later_is_the_same_as_at_once(void **state)
{
	static const enum wl_dedup_policy policies[] = {WL_DEDUP_IMAGE, WL_DEDUP_PAIR};

	(void)state;
	for (int k = 0; k < 2; k++) {
		struct tmp_dir a = tmp_make(), b = tmp_make();
		struct wl_dedup_counts na, nb;
		struct planted x;
		char *edges;
		dedup_plant_parts(a.path, &x, 3);
		dedup(a.path, policies[k], 2, &na);
		dedup_plant_parts(b.path, &x, 1);
		dedup(b.path, policies[k], 2, &nb);
		assert_true(nb.pairs < na.pairs);
		edges = stage_dump(b.path, "dedup", "SELECT * FROM edge");
		assert_true(strlen(edges) > 0); /* there is something to be reused */
		free(edges);
		dedup_plant_parts(b.path, &x, 2);
		dedup(b.path, policies[k], 2, &nb);
		assert_memory_equal(&na, &nb, sizeof(na));
		dedup_same(a.path, b.path);
		tmp_remove(&a);
		tmp_remove(&b);
	}
}

/* ---- ranks and memory ---- */

static void ranks_and_memory_make_no_difference(void **state)
{
	struct tmp_dir a = tmp_make();
	struct wl_dedup_options o = {.policy = WL_DEDUP_PAIR,
		.image_radius = 6,
		.threads = 2,
		.banner_texts = 3,
		.template_images = 1};
	struct wl_dedup_counts na;
	struct planted x;

	(void)state;
	dedup_plant(a.path, &x);
	OK(dedup_run(a.path, &o, &na, &err));
	assert_true(na.banners > 0 && na.templates > 0 && na.alike_images > 0);
	for (int way = 0; way < 4; way++) {
		struct tmp_dir b = tmp_make();
		struct on_ranks r = {.dir = b.path, .o = o};
		dedup_plant(b.path, &x);
		r.o.memory_bytes = way % 2 ? 1 : 0; /* the least that goes */
		r.o.threads = 1 + way % 2;
		OK(wl_comm_simulate(way == 0 ? 2 : way == 1 ? 1 : way, dedup_rank, &r, &err));
		assert_memory_equal(&na, &r.n, sizeof(na));
		dedup_same(a.path, b.path);
		tmp_remove(&b);
	}
	tmp_remove(&a);
}

static void under_mpirun(void **state)
{
	struct tmp_dir first = tmp_make(), ranks = tmp_make();
	struct planted x;
	char *out, how[512];

	(void)state;
	if (tmp_run(&out, "command -v mpirun && test -x %s/wenlan-dedup", tmp_bin()) != 0) {
		free(out);
		tmp_remove(&first);
		tmp_remove(&ranks);
		SKIP("mpirun or wenlan-dedup is not here");
	}
	free(out);
	dedup_plant(first.path, &x);
	for (int n = 1; n <= 3; n++) {
		struct tmp_dir b = tmp_make();
		const char *dir = n == 1 ? first.path : b.path;
		int code;
		if (n > 1)
			dedup_plant(dir, &x);
		code = tmp_run(&out,
			"%s -np %d %s/wenlan-dedup --corpus %s --policy pair --threads 1 --quiet",
			tmp_mpirun(&ranks, how), n, tmp_bin(), dir);
		if (code != 0)
			fail_msg("-np %d: exit code %d: %s", n, code, out);
		free(out);
		if (n > 1)
			dedup_same(first.path, dir);
		tmp_remove(&b);
	}
	/* The code of what went wrong is that of the whole. */
	assert_int_equal(tmp_run(&out,
				 "%s -np 2 %s/wenlan-dedup --corpus %s --policy nonsense",
				 tmp_mpirun(&ranks, how), tmp_bin(), first.path),
		WL_EUSAGE);
	free(out);
	tmp_remove(&first);
	tmp_remove(&ranks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_make_no_difference),
		cmocka_unit_test(killed_and_run_again),
		cmocka_unit_test(later_is_the_same_as_at_once),
		cmocka_unit_test(ranks_and_memory_make_no_difference),
		cmocka_unit_test(under_mpirun),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* clean/pairvectors, sketch, vector_pairs: files of embeddings and what is wrong with them; all
 * pairs of a cosine against brute force, exactly and by hashes, on any ranks; the chance that a
 * hash finds a pair, as it is said and as it is. */
#include "clean/near.h"
#include "clean/pairvectors.h"
#include "clean/sketch.h"
#include "clean/vector_pairs.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"
#include "tests/support/vectors_make.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static struct wl_pair_vectors *open_both(
	const char *own, const char *against, enum wl_vector_side side)
{
	const struct wl_vector_paths sets[WL_VECTORS_SETS] = {
		{&own, 1}, {&against, against != NULL}};

	return wl_pair_vectors_open(sets, side, &err);
}

/* ---- files ---- */

static void finds_rows(void **state)
{
	static const enum wl_saved_dtype types[] = {WL_SAVED_F32, WL_SAVED_F16, WL_SAVED_BF16};
	static const int64_t ids[] = {30, 10, 20}, more[] = {10, 7}, texts[] = {10, 10, 7};
	const float a[] = {1, 0, 0, .5f, 1, 2, 0, -1, 4}, b[] = {9, 8, 7, 6, 5, 4};
	struct tmp_dir tmp = tmp_make();
	char dir[512], path[512], other[512];
	float row[3];

	(void)state;
	for (size_t k = 0; k < sizeof(types) / sizeof(*types); k++) {
		struct vectors_file f = {.image_ids = ids, .images = a, .n_images = 3, .dim = 3,
			.partition = 2, .dtype = types[k]};
		struct wl_pair_vectors *v;
		uint64_t h1, h2;
		OK(wl_mkdir_p(tmp_path(&tmp, "v", dir), &err));
		vectors_write(tmp_path(&tmp, "v/00000.safetensors", path), &f);
		f = (struct vectors_file){.image_ids = more, .images = b, .n_images = 2,
			.text_ids = texts, .texts = a, .n_texts = 3, .dim = 3, .partition = -1,
			.dtype = types[k]};
		vectors_write(tmp_path(&tmp, "v/00001.safetensors", path), &f);
		vectors_write(tmp_path(&tmp, "w.safetensors", other), &f);
		v = open_both(dir, other, WL_VECTORS_IMAGE);
		if (!v)
			fail_msg("%s", err.msg);
		assert_int_equal(wl_pair_vectors_dim(v), 3);
		assert_int_equal(wl_pair_vectors_count(v, WL_VECTORS_OWN), 5);
		assert_int_equal(wl_pair_vectors_count(v, WL_VECTORS_AGAINST), 2);
		/* Of partition 2 first, then of any. */
		assert_int_equal(wl_pair_vectors_find(v, WL_VECTORS_OWN, 2, 10), 1);
		assert_int_equal(wl_pair_vectors_find(v, WL_VECTORS_OWN, 0, 10), 3);
		assert_int_equal(wl_pair_vectors_find(v, WL_VECTORS_OWN, 2, 7), 4);
		assert_int_equal(wl_pair_vectors_find(v, WL_VECTORS_OWN, 0, 30), WL_NO_VECTOR);
		assert_int_equal(wl_pair_vectors_find(v, WL_VECTORS_AGAINST, 1, 7), 6);
		OK(wl_pair_vectors_read(v, 1, row, &h1, &err));
		assert_true(row[0] == .5f && row[1] == 1 && row[2] == 2);
		OK(wl_pair_vectors_read(v, 6, row, &h2, &err));
		assert_true(row[0] == 6 && row[1] == 5 && row[2] == 4);
		assert_true(h1 != h2 && h1 && h2);
		wl_pair_vectors_close(v);
		/* Of several texts the first counts. */
		v = open_both(other, NULL, WL_VECTORS_TEXT);
		assert_non_null(v);
		assert_int_equal(wl_pair_vectors_count(v, WL_VECTORS_OWN), 2);
		assert_int_equal(wl_pair_vectors_find(v, WL_VECTORS_OWN, 5, 10), 0);
		wl_pair_vectors_close(v);
	}
	tmp_remove(&tmp);
}

static void refused(const char *path, enum wl_code code, const char *part)
{
	struct wl_pair_vectors *v;

	err = (struct wl_err)WL_ERR_INIT;
	v = open_both(path, NULL, WL_VECTORS_IMAGE);
	if (v || err.code != code || !strstr(err.msg, part))
		fail_msg("%s: code %d, \"%s\", expected %d and \"%s\"", path, (int)err.code,
			err.msg, (int)code, part);
}

static void bad_files(void **state)
{
	static const int64_t ids[] = {1, 2, 1}, twice[] = {5, 5};
	const float v[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, zero[] = {1, 2, 0, 0},
		    nan[] = {1, 2, NAN, 1};
	struct vectors_file f = {.image_ids = ids, .images = v, .n_images = 2, .dim = 3,
		.partition = -1, .dtype = WL_SAVED_F32};
	struct tmp_dir tmp = tmp_make();
	struct wl_pair_vectors *p;
	char path[512], dir[512], *bytes;
	float row[2];
	size_t n;

	(void)state;
	refused("/nonexistent/file", WL_EUSAGE, "no such file");
	OK(wl_mkdir_p(tmp_path(&tmp, "d", dir), &err));
	refused(dir, WL_EDATA, "no .safetensors");
	vectors_write(tmp_path(&tmp, "d/a.safetensors", path), &f);
	/* Torn at each place, and longer than it says. */
	bytes = tmp_read(path, &n);
	for (size_t k = 0; k < n; k += 37) {
		tmp_write_bytes(tmp_path(&tmp, "torn.safetensors", path), bytes, k);
		refused(path, WL_EDATA, "torn.safetensors");
	}
	free(bytes);
	f.dim = 4;
	vectors_write(tmp_path(&tmp, "d/b.safetensors", path), &f);
	refused(dir, WL_EDATA, "4 dimensions where");
	f = (struct vectors_file){.image_ids = twice, .images = v, .n_images = 2, .dim = 3,
		.partition = -1, .dtype = WL_SAVED_F32};
	vectors_write(tmp_path(&tmp, "twice.safetensors", path), &f);
	refused(path, WL_EDATA, "pair 5 has two different vectors");
	f.n_images = 0;
	vectors_write(tmp_path(&tmp, "none.safetensors", path), &f);
	refused(path, WL_EDATA, "no rows");
	f = (struct vectors_file){.image_ids = ids, .images = zero, .n_images = 2, .dim = 2,
		.partition = -1, .dtype = WL_SAVED_F32};
	vectors_write(tmp_path(&tmp, "zero.safetensors", path), &f);
	p = open_both(path, NULL, WL_VECTORS_IMAGE);
	OK(wl_pair_vectors_read(p, 0, row, NULL, &err));
	FAILS(WL_EDATA, "zero.safetensors: row 1 of image_embeddings is all zeros",
		wl_pair_vectors_read(p, 1, row, NULL, &err));
	wl_pair_vectors_close(p);
	f.images = nan;
	vectors_write(path, &f);
	p = open_both(path, NULL, WL_VECTORS_IMAGE);
	FAILS(WL_EDATA, "not finite", wl_pair_vectors_read(p, 1, row, NULL, &err));
	wl_pair_vectors_close(p);
	/* A model's weights are no embeddings. */
	tmp_write_bytes(path, "\x10\0\0\0\0\0\0\0{\"a\":1}         ", 24);
	refused(path, WL_EDATA, "zero.safetensors");
	tmp_remove(&tmp);
}

static void hash_of_files(void **state)
{
	static const int64_t ids[] = {1, 2};
	float v[] = {1, 2, 3, 4};
	struct vectors_file f = {.image_ids = ids, .images = v, .n_images = 2, .dim = 2,
		.partition = -1, .dtype = WL_SAVED_F32};
	struct tmp_dir tmp = tmp_make();
	char path[512], one[65], two[65], three[65];
	const char *p = path;
	struct wl_vector_paths own[WL_VECTORS_SETS] = {{&p, 1}, {NULL, 0}};
	struct wl_vector_paths both[WL_VECTORS_SETS] = {{&p, 1}, {&p, 1}};

	(void)state;
	vectors_write(tmp_path(&tmp, "a.safetensors", path), &f);
	OK(wl_vector_paths_hash(own, one, &err));
	OK(wl_vector_paths_hash(both, two, &err));
	assert_string_not_equal(one, two);
	v[3] = 5;
	vectors_write(path, &f);
	OK(wl_vector_paths_hash(own, three, &err));
	assert_string_not_equal(one, three);
	own[0].n = 0;
	OK(wl_vector_paths_hash(own, three, &err));
	assert_string_equal(three, "");
	tmp_remove(&tmp);
}

/* ---- chances ---- */

static void chances_are_as_said(void **state)
{
	static const double wanted[] = {.99, .95, .9, .85};
	enum { DIM = 100, TRIALS = 3000 };
	float a[DIM], b[DIM], *scratch = malloc(4096 * sizeof(float));

	(void)state;
	for (size_t k = 0; k < sizeof(wanted) / sizeof(*wanted); k++) {
		uint64_t x[WL_SKETCH_HASHES_MAX], y[WL_SKETCH_HASHES_MAX];
		struct wl_sketch s;
		int found = 0, far = 0;
		double said;
		OK(wl_sketch_init(&s, wanted[k], DIM, &err));
		said = wl_sketch_chance(&s, wanted[k]);
		assert_true(said >= .99 && said < 1);
		assert_true(wl_sketch_chance(&s, wanted[k] + .005) > said);
		for (uint64_t i = 0; i < TRIALS; i++) {
			bool near = false;
			vectors_random(10 * i, DIM, a);
			vectors_at(a, wanted[k], 10 * i + 1, DIM, b);
			wl_sketch_make(&s, a, scratch, x);
			wl_sketch_make(&s, b, scratch, y);
			for (int h = 0; h < s.hashes; h++)
				near |= __builtin_popcountll(x[h] ^ y[h]) <= s.radius;
			found += near;
			vectors_random(10 * i + 2, DIM, b);
			wl_sketch_make(&s, b, scratch, y);
			for (int h = 0; h < s.hashes; h++)
				far += __builtin_popcountll(x[h] ^ y[h]) <= s.radius;
		}
		print_message("cosine %.2f: %d hashes within %d bits; said %.4f, found %.4f\n",
			wanted[k], s.hashes, s.radius, said, found / (double)TRIALS);
		/* Three deviations and a bit of 3000 draws. */
		assert_true(fabs(found / (double)TRIALS - said) < .007);
		assert_int_equal(far, 0);
		wl_sketch_release(&s);
	}
	free(scratch);
}

/* ---- pairs ---- */

enum { N = 1500, DIM = 48, GROUPS = 500 };

struct planted {
	struct tmp_dir tmp;
	struct wl_pair_vectors *v;
	uint32_t idx[N], row[2 * N];
	uint64_t *near; /* all pairs of at least COSINE, by brute force */
	size_t n;
	double margin; /* how near to COSINE the nearest comes */
};
#define COSINE .93

/* Groups of vectors whose cosines are all about the bound; idx are the odd numbers. */
static void plant(struct planted *x)
{
	float *v = malloc(N * DIM * sizeof(*v)), a[DIM], b[DIM];
	int64_t ids[N];
	char path[512];

	x->tmp = tmp_make();
	for (int i = 0; i < N; i++) {
		ids[i] = i;
		x->idx[i] = 2 * (uint32_t)i + 1;
		x->row[x->idx[i]] = (uint32_t)i;
		if (i < GROUPS)
			vectors_random((uint64_t)i, DIM, v + i * DIM);
		else
			vectors_at(v + i % GROUPS * DIM,
				.9 + .1 * wl_rand_unit(3, 3, (uint64_t)i), (uint64_t)i, DIM,
				v + i * DIM);
		for (int k = 0; i % 7 == 0 && k < DIM; k++)
			v[i * DIM + k] *= 3; /* of any length */
	}
	vectors_write(tmp_path(&x->tmp, "v.safetensors", path),
		&(struct vectors_file){.image_ids = ids, .images = v, .n_images = N, .dim = DIM,
			.partition = -1, .dtype = WL_SAVED_F32});
	x->v = open_both(path, NULL, WL_VECTORS_IMAGE);
	assert_non_null(x->v);
	x->near = malloc(N * 10 * sizeof(*x->near));
	x->n = 0;
	x->margin = 1;
	for (uint32_t i = 0; i < N; i++)
		for (uint32_t k = i + 1; k < N; k++) {
			double dot = 0, aa = 0, bb = 0;
			wl_pair_vectors_row(x->v, i, a);
			wl_pair_vectors_row(x->v, k, b);
			for (int j = 0; j < DIM; j++) {
				dot += (double)a[j] * b[j];
				aa += (double)a[j] * a[j];
				bb += (double)b[j] * b[j];
			}
			dot /= sqrt(aa * bb);
			x->margin = fmin(x->margin, fabs(dot - COSINE));
			assert_true(x->n < N * 10);
			if (dot >= COSINE)
				x->near[x->n++] = (uint64_t)x->idx[i] << 32 | x->idx[k];
		}
	assert_true(x->n > 500 && x->margin > 1e-8);
	free(v);
}

static void unplant(struct planted *x)
{
	wl_pair_vectors_close(x->v);
	free(x->near);
	tmp_remove(&x->tmp);
}

struct searching {
	const struct planted *x;
	bool exact;
	bool (*old)(const void *ctx, uint32_t idx);
	size_t memory, threads;
	struct wl_values found; /* of all ranks */
	double estimate;
};

static int search(struct wl_comm *comm, void *user, struct wl_err *e)
{
	struct searching *t = user;
	struct wl_values found = {0};
	struct wl_vector_search s = {.what = "test", .v = t->x->v, .idx = t->x->idx,
		.row = t->x->row, .n = N, .cosine = COSINE, .exact = t->exact, .old = t->old,
		.dir = t->x->tmp.path, .edges = &found};
	struct wl_pool *pool = wl_pool_new(t->threads, 0, e);
	int ret = pool ? wl_vector_search_run(&s, comm, pool, t->memory, e) : -1;

	wl_pool_free(pool);
	if (ret == 0 && s.cut)
		ret = wl_err_set(e, WL_EFAIL, "groups were cut");
	if (ret == 0)
		ret = wl_values_gather(&found, comm, e);
	if (ret < 0 || wl_comm_rank(comm) > 0) {
		wl_values_release(&found);
		return ret;
	}
	t->found = found;
	return wl_vector_search_estimate(&s, &found, 0, found.n, &t->estimate, e);
}

static void exact_is_brute_force(void **state)
{
	struct planted x;

	(void)state;
	plant(&x);
	for (int ranks = 1; ranks <= 3; ranks++) {
		struct searching t = {.x = &x, .exact = true, .memory = 1 << 20,
			.threads = ranks == 2 ? 1 : 3};
		OK(wl_comm_simulate(ranks, search, &t, &err));
		assert_int_equal(t.found.n, x.n);
		assert_memory_equal(t.found.v, x.near, x.n * sizeof(*x.near));
		wl_values_release(&t.found);
	}
	unplant(&x);
}

static void hashes_find_nearly_all(void **state)
{
	struct planted x;
	struct wl_values first = {0};

	(void)state;
	plant(&x);
	for (int way = 0; way < 4; way++) {
		struct searching t = {.x = &x, .memory = way == 3 ? 1 << 12 : 1 << 24,
			.threads = way == 1 ? 1 : 2};
		size_t k = 0;
		OK(wl_comm_simulate(way < 3 ? way + 1 : 1, search, &t, &err));
		for (size_t i = 0; i < t.found.n; i++) { /* nothing but what is near */
			while (k < x.n && x.near[k] < t.found.v[i])
				k++;
			assert_true(k < x.n && x.near[k] == t.found.v[i]);
		}
		assert_true((double)t.found.n >= .985 * (double)x.n);
		/* What it thinks that there is, from what it found. */
		assert_true(fabs(t.estimate - (double)x.n) < .01 * (double)x.n);
		if (way == 0) {
			print_message("%zu of %zu pairs found by hashes, %.1f estimated\n",
				t.found.n, x.n, t.estimate);
			first = t.found;
			continue;
		}
		assert_int_equal(t.found.n, first.n);
		assert_memory_equal(t.found.v, first.v, first.n * sizeof(*first.v));
		wl_values_release(&t.found);
	}
	wl_values_release(&first);
	unplant(&x);
}

static bool low_is_old(const void *ctx, uint32_t idx)
{
	(void)ctx;
	return idx < 2 * 1000;
}

static void old_ones_are_not_compared(void **state)
{
	struct planted x;

	(void)state;
	plant(&x);
	for (int exact = 0; exact < 2; exact++) {
		struct searching all = {.x = &x, .exact = exact, .memory = 1 << 20, .threads = 2};
		struct searching t = all;
		size_t n = 0;
		t.old = low_is_old;
		OK(wl_comm_simulate(2, search, &all, &err));
		OK(wl_comm_simulate(2, search, &t, &err));
		for (size_t i = 0; i < all.found.n; i++)
			if (!low_is_old(NULL, (uint32_t)all.found.v[i]))
				all.found.v[n++] = all.found.v[i];
		assert_true(n > 100 && n < all.found.n);
		assert_int_equal(t.found.n, n);
		assert_memory_equal(t.found.v, all.found.v, n * sizeof(*t.found.v));
		wl_values_release(&t.found);
		wl_values_release(&all.found);
	}
	unplant(&x);
}

static void exact_where_affordable(void **state)
{
	(void)state;
	assert_true(wl_vector_search_affordable(100000, 256));
	assert_false(wl_vector_search_affordable(10000000, 256));
	assert_true(wl_vector_search_affordable(50000, 2560));
	assert_false(wl_vector_search_affordable(100000, 2560));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_rows),
		cmocka_unit_test(bad_files),
		cmocka_unit_test(hash_of_files),
		cmocka_unit_test(chances_are_as_said),
		cmocka_unit_test(exact_is_brute_force),
		cmocka_unit_test(hashes_find_nearly_all),
		cmocka_unit_test(old_ones_are_not_compared),
		cmocka_unit_test(exact_where_affordable),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

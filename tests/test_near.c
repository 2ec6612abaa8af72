/* clean/bygroup, near, rows and minhash: each against brute force or arithmetic, at any number
 * of threads, ranks and passes. */
#include "clean/minhash.h"
#include "clean/near.h"
#include "clean/rows.h"
#include "ops/hash.h"
#include "ops/signals.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct wl_err err;

/* ---- hashes within a radius ---- */

enum { N = 2500 };

struct search {
	uint64_t h[N];
	int threads, radius;
	bool ranks_alone; /* then no table may give a pair that another one gave */
	uint64_t claimed; /* hashes that a rank is said to have; 0: as it has */
	size_t memory;
	struct wl_values found; /* of all ranks */
};

/* What one rank needs. */
struct rank_search {
	const struct search *all;
	int rank, ranks;
	struct wl_near_search s;
	struct wl_values found;
};

static int each_hash(void *ctx, struct wl_emitter *e, size_t part, size_t parts, struct wl_err *er)
{
	struct rank_search *r = ctx;

	(void)er;
	for (size_t i = N * part / parts; i < N * (part + 1) / parts; i++)
		if ((int)(i % (size_t)r->ranks) == r->rank)
			wl_near_put(&r->s, e, r->all->h[i], (uint32_t)i, 0);
	return 0;
}

static int take_pairs(void *ctx, const uint64_t *v, size_t n, struct wl_err *er)
{
	struct rank_search *r = ctx;

	(void)er;
	for (size_t i = 0; i < n; i++)
		wl_values_add(&r->found, v[i]);
	return 0;
}

static int search_rank(struct wl_comm *c, void *user, struct wl_err *e)
{
	struct search *s = user;
	struct rank_search r = {.all = s, .rank = wl_comm_rank(c), .ranks = wl_comm_size(c)};
	struct wl_pool *pool = wl_pool_new((size_t)s->threads, 0, e);
	int ret = -1;

	if (!pool)
		return -1;
	r.s = (struct wl_near_search){.what = "hashes",
		.radius = s->radius,
		.records = s->claimed ? s->claimed : N / (uint64_t)r.ranks + 1,
		.each = each_hash,
		.take = take_pairs,
		.ctx = &r};
	ret = wl_near_run(&r.s, c, pool, s->memory, e);
	if (ret == 0 && r.s.cut)
		ret = wl_err_set(e, WL_EFAIL, "groups were cut");
	size_t before = r.found.n;
	wl_values_unique(&r.found);
	if (ret == 0 && s->ranks_alone && before != r.found.n)
		ret = wl_err_set(e, WL_EFAIL, "%zu pairs came twice", before - r.found.n);
	if (ret == 0)
		ret = wl_values_gather(&r.found, c, e);
	if (ret == 0 && r.rank == 0)
		s->found = r.found;
	else
		wl_values_release(&r.found);
	wl_pool_free(pool);
	return ret;
}

static void near_equals_brute_force(void **state)
{
	static const struct {
		int ranks, threads;
		size_t memory;
	} ways[] = {{1, 1, 1 << 24}, {1, 3, 4000}, {2, 2, 1 << 24}, {3, 1, 4000}};
	static struct search s;

	(void)state;
	for (size_t i = 0; i < N; i++) {
		s.h[i] = wl_rand64(1, 2, i);
		if (i % 3 == 0 && i > 0) { /* near an earlier one, by up to 12 bits */
			s.h[i] = s.h[wl_rand64(1, 3, i) % i];
			for (uint64_t k = wl_rand64(1, 4, i) % 13; k > 0; k--)
				s.h[i] ^= 1ull << (wl_rand64(1, 5 + k, i) % 64);
		}
	}
	for (s.radius = 0; s.radius <= 10; s.radius += s.radius < 4 ? 1 : 2) {
		struct wl_values want = {0};
		for (uint64_t i = 0; i < N; i++)
			for (uint64_t k = i + 1; k < N; k++)
				if (__builtin_popcountll(s.h[i] ^ s.h[k]) <= s.radius)
					wl_values_add(&want, i << 32 | k);
		assert_true(want.n > 50);
		for (size_t w = 0; w < sizeof(ways) / sizeof(*ways); w++) {
			s.threads = ways[w].threads;
			s.memory = ways[w].memory;
			s.ranks_alone = ways[w].ranks == 1;
			OK(wl_comm_simulate(ways[w].ranks, search_rank, &s, &err));
			if (s.found.n != want.n || memcmp(s.found.v, want.v, 8 * want.n) != 0)
				fail_msg("radius %d, way %zu: %zu pairs, brute force finds %zu",
					s.radius, w, s.found.n, want.n);
			wl_values_release(&s.found);
		}
		wl_values_release(&want);
	}
}

/* As for very many: the lines of planes are taken where they cost less, in several slices. */
static void planes_equal_brute_force(void **state)
{
	static const int radii[] = {3, 4, 5, 6, 7, 8};
	static struct search s;

	(void)state;
	for (uint64_t i = 0; i < N; i++) {
		s.h[i] = wl_rand64(2, 2, i);
		for (uint64_t k = i % 10; i % 2 && k > 0; k--)
			s.h[i] = (k == i % 10 ? s.h[i - 1] : s.h[i]) ^
				 1ull << (wl_rand64(2, 5 + k, i) % 64);
	}
	s.claimed = (uint64_t)26e7;
	for (size_t k = 0; k < sizeof(radii) / sizeof(*radii); k++) {
		struct wl_values want = {0};
		s.radius = radii[k];
		for (uint64_t i = 0; i < N; i++)
			for (uint64_t j = i + 1; j < N; j++)
				if (__builtin_popcountll(s.h[i] ^ s.h[j]) <= s.radius)
					wl_values_add(&want, i << 32 | j);
		assert_true(want.n > 50);
		for (int ranks = 1; ranks <= 2; ranks++) {
			s.threads = 3 - ranks;
			s.ranks_alone = ranks == 1;
			s.memory = (size_t)(ranks == 1 ? 5 : 3) << 30;
			OK(wl_comm_simulate(ranks, search_rank, &s, &err));
			if (s.found.n != want.n || memcmp(s.found.v, want.v, 8 * want.n) != 0)
				fail_msg("radius %d, %d ranks: %zu pairs, brute force finds %zu",
					s.radius, ranks, s.found.n, want.n);
			wl_values_release(&s.found);
		}
		wl_values_release(&want);
	}
}

static void sets(void **state)
{
	uint32_t p[6];

	(void)state;
	wl_sets_init(p, 6);
	wl_sets_join(p, 5, 3);
	wl_sets_join(p, 3, 4);
	wl_sets_join(p, 1, 0);
	assert_int_equal(wl_sets_root(p, 5), 3);
	assert_int_equal(wl_sets_root(p, 4), 3);
	assert_int_equal(wl_sets_root(p, 1), 0);
	assert_int_equal(wl_sets_root(p, 2), 2);
	wl_sets_join(p, 5, 1);
	assert_int_equal(wl_sets_root(p, 4), 0);
}

/* ---- rows ---- */

static void rows(void **state)
{
	struct tmp_dir tmp = tmp_make();
	uint64_t row[3], room[3 * 100];

	(void)state;
	for (size_t memory = 0; memory <= 1 << 20; memory += 1 << 19) {
		struct wl_rows r;
		wl_rows_init(&r, sizeof(row), memory, tmp.path);
		for (uint64_t i = 0; i < 5000; i++) {
			row[0] = i;
			row[1] = wl_mix64(i);
			row[2] = ~i;
			OK(wl_rows_add(&r, row, &err));
		}
		assert_true((memory == 0) == (r.on_disk > 0));
		for (size_t from = 0; from + 100 <= 5000; from += 33) {
			const uint64_t *v;
			const void *at;
			OK(wl_rows_read(&r, from, 100, room, &at, &err));
			v = at;
			for (uint64_t i = 0; i < 100; i++) {
				assert_int_equal(v[3 * i], from + i);
				assert_int_equal(v[3 * i + 1], wl_mix64(from + i));
			}
		}
		wl_rows_release(&r);
	}
	tmp_remove(&tmp);
}

/* ---- texts ---- */

static void jaccard(void **state)
{
	(void)state;
	assert_true(fabs(wl_jaccard("abcdef", 6, "abcdef", 6, &err) - 1) < 1e-12);
	/* abc bcd cde | bcd cde def: 2 of 4. */
	assert_true(fabs(wl_jaccard("abcde", 5, "bcdef", 5, &err) - .5) < 1e-12);
	assert_true(fabs(wl_jaccard("aaaaaa", 6, "aaa", 3, &err) - 1) < 1e-12);
	/* No shingle across captions. */
	assert_true(wl_jaccard("abc\ndef", 7, "abcdef", 6, &err) < .51);
	assert_true(wl_jaccard("\xe4\xb8\x80\xe4\xba\x8c\xe4\xb8\x89", 9, "abc", 3, &err) == 0);
}

static int near(const char *a, const char *b)
{
	int ret = wl_keys_near(a, strlen(a), b, strlen(b), .8, &err);

	OK(ret);
	return ret;
}

static void short_keys(void **state)
{
	(void)state;
	assert_true(near("红色的汽车停在路边", "红色的汽车停在路边"));
	assert_true(near("红色的汽车停在路边", "红色的轿车停在路边"));
	assert_true(near("红色的汽车停在路边", "红色汽车停在路边"));
	assert_true(near("红色汽车停在路边", "红色汽车停在路边了"));
	assert_false(near("红色的汽车停在路边", "红色的轿车停在街边"));
	/* Numbers make a difference, and so does each character of a few. */
	assert_false(near("第一次世界大战的照片", "第二次世界大战的照片"));
	assert_false(near("iphone12promax", "iphone13promax"));
	assert_false(near("iphone12promax", "iphone1promax"));
	assert_false(near("一只猫", "一只狗"));
	assert_int_equal(wl_key_variants("一只猫", 9, (uint64_t[WL_TEXT_VARIANTS]){0}), 0);
}

/* Every pair one edit apart shares a variant. */
static void variants_meet(void **state)
{
	(void)state;
	for (uint64_t t = 0; t < 2000; t++) {
		char a[WL_TEXT_SHORT + 2], b[WL_TEXT_SHORT + 2];
		uint64_t va[WL_TEXT_VARIANTS], vb[WL_TEXT_VARIANTS];
		size_t n = 8 + wl_rand64(1, 1, t) % 11, at = wl_rand64(1, 2, t) % n;
		int na, nb, met = 0;
		for (size_t i = 0; i < n; i++)
			a[i] = (char)('a' + wl_rand64(2, t, i) % 26);
		a[n] = 0;
		memcpy(b, a, n + 1);
		if (t % 2)
			b[at] = '#';
		else
			memmove(b + at, b + at + 1, n - at);
		na = wl_key_variants(a, strlen(a), va);
		nb = wl_key_variants(b, strlen(b), vb);
		for (int i = 0; i < na; i++)
			for (int k = 0; k < nb; k++)
				met += va[i] == vb[k];
		if (nb && !met)
			fail_msg("%s and %s do not meet", a, b);
	}
}

/* Keys of 60 characters with a planted Jaccard index, against the chance that theory gives. */
static void recall_of_bands(void **state)
{
	enum { PAIRS = 3000, CHARS = 60 };

	(void)state;
	for (int percent = 60; percent <= 90; percent += 10) {
		struct wl_bands bands = wl_bands_for(percent / 100.);
		size_t found = 0, pairs = 0, low = 0, wrong = 0;
		double sum = 0;
		for (uint64_t t = 0; t < PAIRS; t++) {
			char a[4 * CHARS + 1], b[4 * CHARS + 1];
			uint32_t sa[WL_MINHASH], sb[WL_MINHASH];
			size_t n = 0, m = 0, common;
			double j;
			bool met = false;
			/* A common head, different tails: about common / (2 CHARS - common). */
			common = (size_t)(CHARS * 2 * (percent - 4 + (int)(t % 9)) /
					  (100 + percent - 4 + (int)(t % 9)));
			for (size_t i = 0; i < CHARS; i++) {
				uint64_t r = wl_rand64(3, t, i) % 5000;
				n += (size_t)sprintf(a + n, "%c%c%c", (char)(0xe4 + r / 2048),
					(char)(0x80 | (r >> 6 & 31)), (char)(0x80 | (r & 63)));
				if (i >= common)
					r = wl_rand64(4, t, i) % 5000;
				m += (size_t)sprintf(b + m, "%c%c%c", (char)(0xe4 + r / 2048),
					(char)(0x80 | (r >> 6 & 31)), (char)(0x80 | (r & 63)));
			}
			j = wl_jaccard(a, n, b, m, &err);
			OK(wl_minhash(a, n, sa, &err));
			OK(wl_minhash(b, m, sb, &err));
			for (int k = 0; k < bands.bands; k++)
				met |= wl_band_key(sa, bands, k) == wl_band_key(sb, bands, k);
			if (j * 100 < percent) {
				low++;
				wrong += met;
				continue;
			}
			pairs++;
			found += met;
			sum += wl_bands_recall(bands, j);
		}
		print_message("Jaccard %.2f: %d bands of %d; of %zu pairs at or above it %.4f meet "
			      "(theory %.4f); of %zu a little below %.4f\n",
			percent / 100., bands.bands, bands.rows, pairs,
			(double)found / (double)pairs, sum / (double)pairs, low,
			(double)wrong / (double)low);
		assert_true(pairs > 500);
		assert_true((double)found >= .985 * (double)pairs);
		assert_true(fabs((double)found - sum) <= .01 * (double)pairs);
	}
}

/* The share of equal hashes is an estimate of the index without bias. */
static void minhash_estimates(void **state)
{
	double error = 0, squares = 0;
	enum { T = 400 };

	(void)state;
	for (uint64_t t = 0; t < T; t++) {
		char a[200], b[200];
		uint32_t sa[WL_MINHASH], sb[WL_MINHASH];
		int same = 0;
		double e;
		for (size_t i = 0; i < 150; i++) {
			a[i] = (char)('a' + wl_rand64(7, t, i) % 26);
			b[i] = i < 100 ? a[i] : (char)('a' + wl_rand64(8, t, i) % 26);
		}
		OK(wl_minhash(a, 150, sa, &err));
		OK(wl_minhash(b, 150, sb, &err));
		for (int k = 0; k < WL_MINHASH; k++)
			same += sa[k] == sb[k];
		e = (double)same / WL_MINHASH - wl_jaccard(a, 150, b, 150, &err);
		error += e;
		squares += e * e;
	}
	/* sqrt(.5 * .5 / 128) = 0.044 a pair. */
	print_message("MinHash: mean error %+.4f, spread %.4f\n", error / T, sqrt(squares / T));
	assert_true(fabs(error / T) < .01);
	assert_true(sqrt(squares / T) < .055);
}

/* In a child, since what was asked for cannot be taken back. */
static void asked_to_stop_it_stops(void **state)
{
	static struct search s = {
		.radius = 3, .threads = 1, .ranks_alone = true, .memory = 1 << 20};
	int status = 0;
	pid_t child;

	(void)state;
	fflush(NULL);
	child = fork();
	assert_int_not_equal(child, -1);
	if (child == 0) {
		wl_stop_request();
		_exit(search_rank(NULL, &s, &err) < 0 ? err.code : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), WL_ERETRY);
}

/* What ranks gathered holds no more than its values; it grows all the same. */
static void gathered_values_grow(void **state)
{
	(void)state;
	for (size_t n = 0; n < 4; n++) {
		struct wl_values l = {
			.v = n ? calloc(n, sizeof(uint64_t)) : NULL, .n = n, .cap = n};

		for (uint64_t i = 0; i < 1000; i++) {
			wl_values_add(&l, i);
			assert_true(l.n <= l.cap);
		}
		assert_int_equal(l.n, n + 1000);
		assert_int_equal(l.v[n + 999], 999);
		wl_values_release(&l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(near_equals_brute_force),
		cmocka_unit_test(asked_to_stop_it_stops),
		cmocka_unit_test(planes_equal_brute_force),
		cmocka_unit_test(gathered_values_grow),
		cmocka_unit_test(sets),
		cmocka_unit_test(rows),
		cmocka_unit_test(jaccard),
		cmocka_unit_test(short_keys),
		cmocka_unit_test(variants_meet),
		cmocka_unit_test(recall_of_bands),
		cmocka_unit_test(minhash_estimates),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

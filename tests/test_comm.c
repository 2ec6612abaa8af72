/* ops/comm: every collective against what it must give, on simulated ranks, alone, and, run
 * again by mpirun, on real ones. */
#include "ops/comm.h"
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct wl_err err;

#define CHECK(cond) \
	do { \
		if (!(cond)) \
			return wl_err_set(e, WL_EFAIL, "line %d, rank %d of %d: not %s", __LINE__, \
				wl_comm_rank(c), wl_comm_size(c), #cond); \
	} while (0)

static int reductions(struct wl_comm *c, struct wl_err *e)
{
	int64_t n = wl_comm_size(c), r = wl_comm_rank(c), v[3] = {r, -r, 7};
	uint64_t big = (uint64_t)1 << (40 + r);
	float f[5] = {0.5f, (float)r, 1, 2, 3};
	double d[2] = {(double)r, -(double)r};
	int32_t small = (int32_t)(100 - r);

	WL_TRY(wl_comm_all_reduce(c, v, 3, WL_COMM_I64, WL_COMM_SUM, e));
	CHECK(v[0] == n * (n - 1) / 2 && v[1] == -v[0] && v[2] == 7 * n);
	WL_TRY(wl_comm_all_reduce(c, &big, 1, WL_COMM_U64, WL_COMM_MAX, e));
	CHECK(big == (uint64_t)1 << (39 + n));
	WL_TRY(wl_comm_all_reduce(c, &small, 1, WL_COMM_I32, WL_COMM_MIN, e));
	CHECK(small == 101 - n);
	WL_TRY(wl_comm_all_reduce(c, f, 5, WL_COMM_F32, WL_COMM_SUM, e));
	CHECK(f[0] == 0.5f * (float)n && f[1] == (float)(n * (n - 1) / 2) && f[4] == 3 * (float)n);
	WL_TRY(wl_comm_all_reduce(c, d, 2, WL_COMM_F64, WL_COMM_MAX, e));
	CHECK(d[0] == (double)(n - 1) && d[1] == 0);
	return wl_comm_all_reduce(c, v, 0, WL_COMM_I64, WL_COMM_SUM, e);
}

static int scatter(struct wl_comm *c, struct wl_err *e)
{
	enum { N = 1000 };
	int n = wl_comm_size(c), r = wl_comm_rank(c);
	float *in = malloc((size_t)n * N * sizeof(*in)), out[N];
	int bad = 0;

	CHECK(in);
	for (int i = 0; i < n * N; i++)
		in[i] = (float)(i * (r + 1));
	if (wl_comm_reduce_scatter(c, in, out, N, WL_COMM_F32, e) < 0) {
		free(in);
		return -1;
	}
	for (int i = 0; i < N; i++)
		bad += out[i] != (float)((r * N + i) * (n * (n + 1) / 2));
	free(in);
	CHECK(bad == 0);
	return 0;
}

static int gathers(struct wl_comm *c, struct wl_err *e)
{
	int n = wl_comm_size(c), r = wl_comm_rank(c), all[64];
	size_t bytes = (size_t)r * 100000, bytes_of[64], at = 0;
	char *mine = malloc(bytes + 1), *got, text[32] = "";
	void *out;

	WL_TRY(wl_comm_all_gather(c, &r, sizeof(r), all, e));
	for (int i = 0; i < n; i++)
		CHECK(all[i] == i);
	memset(mine, 'a' + r, bytes);
	WL_TRY(wl_comm_all_gatherv(c, mine, bytes, &out, bytes_of, e));
	got = out;
	for (int i = 0; i < n; at += bytes_of[i++]) {
		CHECK(bytes_of[i] == (size_t)i * 100000);
		CHECK(i == 0 || (got[at] == 'a' + i && got[at + bytes_of[i] - 1] == 'a' + i));
	}
	free(out);
	free(mine);
	if (r == n - 1)
		strcpy(text, "from the last");
	WL_TRY(wl_comm_broadcast(c, text, sizeof(text), n - 1, e));
	CHECK(strcmp(text, "from the last") == 0);
	return wl_comm_barrier(c, e);
}

/* Rank a sends b values of a * 100 + b to rank b. */
static int all_to_all(struct wl_comm *c, struct wl_err *e)
{
	int n = wl_comm_size(c), r = wl_comm_rank(c), in[2100], k = 0;
	size_t send[64], recv[64];
	const int *got;
	void *out;

	for (int b = 0; b < n; b++) {
		send[b] = (size_t)b * sizeof(int);
		for (int i = 0; i < b; i++)
			in[k++] = r * 100 + b;
	}
	WL_TRY(wl_comm_alltoallv(c, in, send, &out, recv, e));
	got = out;
	for (int a = 0; a < n; a++) {
		CHECK(recv[a] == (size_t)r * sizeof(int));
		for (int i = 0; i < r; i++)
			CHECK(*got++ == a * 100 + r);
	}
	free(out);
	return 0;
}

static int everything(struct wl_comm *c, void *user, struct wl_err *e)
{
	(void)user;
	for (int i = 0; i < 20; i++) {
		WL_TRY(reductions(c, e));
		WL_TRY(scatter(c, e));
		WL_TRY(gathers(c, e));
		WL_TRY(all_to_all(c, e));
	}
	return 0;
}

static void simulated(void **state)
{
	(void)state;
	for (int n = 1; n <= 9; n += 2)
		OK(wl_comm_simulate(n, everything, NULL, &err));
}

static void alone(void **state)
{
	struct wl_comm *c = wl_comm_open(&err);

	(void)state;
	assert_non_null(c);
	assert_int_equal(wl_comm_size(c), 1);
	OK(everything(c, NULL, &err));
	OK(everything(NULL, NULL, &err));
	wl_comm_close(c);
}

/* One rank fails: the others do not wait for it for ever, and its error is the one told. */
static int third_fails(struct wl_comm *c, void *user, struct wl_err *e)
{
	(void)user;
	WL_TRY(wl_comm_barrier(c, e));
	if (wl_comm_rank(c) == 2)
		return wl_err_set(e, WL_EDATA, "the third has bad data.");
	return wl_comm_barrier(c, e);
}

static void one_fails(void **state)
{
	(void)state;
	FAILS(WL_EDATA, "the third", wl_comm_simulate(4, third_fails, NULL, &err));
}

static void under_mpirun(void **state)
{
	char self[512] = "", *out;

	(void)state;
	if (tmp_run(&out, "command -v mpirun") != 0) {
		free(out);
		SKIP("mpirun is not installed");
	}
	free(out);
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	for (int n = 1; n <= 3; n++) {
		int code = tmp_run(&out,
			/* what Open MPI keeps at its end is not our leak */
			"WL_COMM_TEST=1 ASAN_OPTIONS=detect_leaks=0 mpirun --allow-run-as-root "
			"--oversubscribe -np %d %s",
			n, self);
		if (code != 0)
			fail_msg("mpirun -np %d: exit code %d: %s", n, code, out);
		free(out);
	}
}

/* As plain processes, which meet through a directory. */
static void without_mpi(void **state)
{
	char self[512] = "", *out;
	struct tmp_dir dir = tmp_make();

	(void)state;
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	for (int n = 1; n <= 4; n++) {
		int code = tmp_run(&out,
			"export WL_COMM_TEST=1 WL_RENDEZVOUS=file:%s WL_WORLD_SIZE=%d; "
			"for r in $(seq 1 %d); do WL_RANK=$r %s & done; WL_RANK=0 %s && wait",
			dir.path,
			n, n - 1, self, self);
		if (code != 0 || strstr(out, "rank"))
			fail_msg("%d processes: exit code %d: %s", n, code, out);
		free(out);
	}
	tmp_remove(&dir);
}

/* As a rank of mpirun. */
static int rank_main(void)
{
	struct wl_comm *c = wl_comm_open(&err);

	if (!c || everything(c, NULL, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	wl_comm_close(c);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(alone),
		cmocka_unit_test(simulated),
		cmocka_unit_test(one_fails),
		cmocka_unit_test(under_mpirun),
		cmocka_unit_test(without_mpi),
	};

	if (getenv("WL_COMM_TEST") && wl_comm_launched())
		return rank_main();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Ranks without MPI (ops/comm_meet, comm_mesh): real processes that meet at a port or through a
 * directory, the sums that they get, what becomes of them when one is lost or hangs, and what
 * strangers and older runs can do to them (nothing).  What they say: test_meet_messages.c.
 */
#include "ops/comm_mesh.h"
#include "ops/comm_wire.h"
#include "ops/hash.h"
#include "ops/log.h"
#include "tests/support/cm.h"
#include "tests/support/server.h"
#include "tests/support/tmp.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RANKS = 5, N = 70001 };

static struct wl_err err;
static struct tmp_dir dir;

typedef int (*rank_fn)(struct wl_comm *c, void *user, struct wl_err *e);

/* A process that is rank `rank`: its exit code is that of fn's error, as a program's would be. */
static pid_t start(const char *where, int rank, int world, double seconds, rank_fn fn, void *user)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		struct wl_err e = WL_ERR_INIT;
		struct wl_comm *c;
		char text[16];
		int ret;

		snprintf(text, sizeof text, "%d", rank);
		setenv("WL_RANK", text, 1);
		snprintf(text, sizeof text, "%d", world);
		setenv("WL_WORLD_SIZE", text, 1);
		wl_log_init("test", WL_LOG_ERROR);
		c = wl_comm_open_at(where, seconds, &e);
		ret = c ? fn(c, user, &e) : -1;
		if (ret < 0 && getenv("WL_MEET_SAY"))
			fprintf(stderr, "rank %d: %s\n", rank, e.msg);
		if (ret >= 0)
			wl_comm_close(c);
		_exit(ret < 0 ? (int)e.code : 0);
	}
	return pid;
}

static int finish(pid_t pid)
{
	int status;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void all(const char *where, int world, rank_fn fn, void *user)
{
	pid_t pid[64];

	for (int r = world - 1; r >= 0; r--) /* rank 0 comes last */
		pid[r] = start(where, r, world, 30, fn, user);
	for (int r = 0; r < world; r++)
		assert_int_equal(finish(pid[r]), 0);
}

/* A port that nobody else is given. */
static const char *free_port(const char *host)
{
	static char where[64];

	snprintf(where, sizeof where, "tcp://%s:%d", host, server_free_port());
	return where;
}

static double now_s(void)
{
	return comm_now_s();
}

/* --- sums --- */

/* Numbers of which every order of sums gives other bits. */
static void numbers(int rank, float *v)
{
	for (uint64_t i = 0; i < N; i++) {
		uint64_t h = wl_mix64(i * 64 + (uint64_t)rank);

		v[i] = (float)((double)(h >> 11) * 0x1p-53 - 0.5) * (float)(1 << (h & 15));
	}
}

struct sums {
	uint64_t hash;
	const char *path; /* rank 0 writes the hash here; NULL: into hash */
};

static int collectives(struct wl_comm *c, struct sums *s, struct wl_err *e)
{
	int world = wl_comm_size(c), rank = wl_comm_rank(c), ret = -1;
	size_t part = N / (size_t)world, got[64], give[64];
	float *v = malloc(N * sizeof *v), *mine = malloc(N * sizeof *mine);
	double small[3] = {0.1 * rank, 1e17 * (rank % 2 ? -1 : 1), 3};
	void *out = NULL;
	uint64_t h = 0, all_h[64];

	numbers(rank, v);
	WL_TRY_OUT(wl_comm_reduce_scatter(c, v, mine, part, WL_COMM_F32, e));
	h = wl_hash64(mine, part * sizeof *mine, 1);
	WL_TRY_OUT(wl_comm_all_reduce(c, v, N, WL_COMM_F32, WL_COMM_SUM, e));
	h ^= wl_hash64(v, N * sizeof *v, 2);
	WL_TRY_OUT(wl_comm_all_reduce(c, small, 3, WL_COMM_F64, WL_COMM_SUM, e));
	h ^= wl_hash64(small, sizeof small, 3);
	for (int r = 0; r < world; r++)
		give[r] = (size_t)(1000 * r);
	WL_TRY_OUT(wl_comm_alltoallv(c, v, give, &out, got, e));
	for (int r = 0; r < world; r++)
		if (got[r] != (size_t)(1000 * rank)) {
			wl_err_set(e, WL_EFAIL, "%zu bytes from %d", got[r], r);
			goto out;
		}
	WL_TRY_OUT(wl_comm_broadcast(c, v, N * sizeof *v, world - 1, e));
	WL_TRY_OUT(wl_comm_all_gather_in_place(c, v, part * sizeof *v, e));
	h ^= wl_hash64(v, N * sizeof *v, 4);
	WL_TRY_OUT(wl_comm_all_gather(c, &h, sizeof h, all_h, e));
	WL_TRY_OUT(wl_comm_barrier(c, e));
	if (rank == 0 && s->path)
		tmp_write_bytes(s->path, all_h, (size_t)world * sizeof h);
	else if (rank == 0)
		s->hash = wl_hash64(all_h, (size_t)world * sizeof h, 0);
	ret = 0;
out:
	free(out);
	free(v);
	free(mine);
	return ret;
}

static int do_collectives(struct wl_comm *c, void *user, struct wl_err *e)
{
	return collectives(c, user, e);
}

static void sums_are_the_simulators(void **state)
{
	char path[512], place[512];

	(void)state;
	snprintf(place, sizeof place, "file:%s/some/place", dir.path);
	for (int world = 2; world <= RANKS; world++) {
		struct sums sim = {0}, real = {.path = tmp_path(&dir, "sums", path)};

		OK(wl_comm_simulate(world, do_collectives, &sim, &err));
		for (int kind = 0; kind < 3; kind++) {
			char *bytes;
			size_t n;

			if (kind == 2 && world > 3)
				continue;
			all(kind == 0 ? place : free_port(kind == 1 ? "localhost" : "127.0.0.1"),
				world, do_collectives, &real);
			bytes = tmp_read(path, &n);
			assert_true(wl_hash64(bytes, n, 0) == sim.hash);
			free(bytes);
		}
	}
}

static bool has_v6(void)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

static void meets_over_v6(void **state)
{
	char path[512];
	struct sums s = {.path = tmp_path(&dir, "v6", path)};

	(void)state;
	if (!has_v6())
		SKIP("this machine has no IPv6");
	all(free_port("[::1]"), 3, do_collectives, &s);
}

static int check_locals(struct wl_comm *c, void *user, struct wl_err *e)
{
	(void)user;
	return wl_comm_local_rank(c) == wl_comm_rank(c) && wl_comm_local_size(c) == 3
		       ? 0
		       : wl_err_set(e, WL_EFAIL, "local rank %d of %d", wl_comm_local_rank(c),
				 wl_comm_local_size(c));
}

static void ranks_of_a_machine_know_each_other(void **state)
{
	(void)state;
	all(free_port("127.0.0.1"), 3, check_locals, NULL);
}

/* As torchrun starts them. */
static void torchruns_variables_are_enough(void **state)
{
	const char *where = free_port("127.0.0.1");
	char path[512];
	struct sums s = {.path = tmp_path(&dir, "torch", path)};

	(void)state;
	setenv("MASTER_ADDR", "127.0.0.1", 1);
	setenv("MASTER_PORT", strrchr(where, ':') + 1, 1);
	setenv("RANK", "0", 1);
	setenv("WORLD_SIZE", "2", 1);
	assert_true(wl_comm_launched());
	all(NULL, 2, do_collectives, &s);
	unsetenv("MASTER_ADDR");
	unsetenv("MASTER_PORT");
	unsetenv("RANK");
	unsetenv("WORLD_SIZE");
	assert_false(wl_comm_launched());
}

/* --- ranks lost --- */

static int one_dies(struct wl_comm *c, void *user, struct wl_err *e)
{
	const int *who = user;

	for (int i = 0; i < 1000; i++) {
		WL_TRY(wl_comm_barrier(c, e));
		if (i == 20 && wl_comm_rank(c) == *who)
			_exit(WL_EDATA);
	}
	return 0;
}

static void a_lost_rank_ends_the_others_at_once(void **state)
{
	(void)state;
	for (int who = 0; who < 3; who++) {
		const char *where = free_port("127.0.0.1");
		double since = now_s();
		pid_t pid[3];

		for (int r = 0; r < 3; r++)
			pid[r] = start(where, r, 3, 30, one_dies, &who);
		/* Without an end, were it not seen: no timeout is set. */
		for (int r = 0; r < 3; r++)
			assert_int_equal(finish(pid[r]), r == who ? WL_EDATA : WL_ERETRY);
		assert_true(now_s() - since < 60);
	}
}

/* The others go on once the file `user` says that it has stopped. */
static int one_hangs(struct wl_comm *c, void *user, struct wl_err *e)
{
	WL_TRY(wl_comm_barrier(c, e));
	if (wl_comm_rank(c) == 1)
		raise(SIGSTOP);
	for (int64_t since = 0; access(user, R_OK) && tmp_wait(&since);)
		;
	WL_TRY(wl_comm_timeout(c, 0.5, e));
	return wl_comm_barrier(c, e);
}

static void a_hanging_rank_ends_the_others_in_time(void **state)
{
	const char *where = free_port("127.0.0.1");
	char stopped[512];
	double since;
	pid_t pid[3];
	int status;

	(void)state;
	tmp_path(&dir, "stopped", stopped);
	for (int r = 0; r < 3; r++)
		pid[r] = start(where, r, 3, 30, one_hangs, stopped);
	assert_int_equal(waitpid(pid[1], &status, WUNTRACED), pid[1]);
	assert_true(WIFSTOPPED(status));
	since = now_s();
	tmp_write(stopped, "");
	assert_int_equal(finish(pid[0]), WL_ERETRY);
	assert_int_equal(finish(pid[2]), WL_ERETRY);
	assert_true(now_s() - since >= 0.5 && now_s() - since < 60);
	kill(pid[1], SIGKILL);
	assert_int_equal(finish(pid[1]), -SIGKILL);
}

/* Nobody exchanges anything: the connection tells.  Who knows stays until the other one does too,
 * who else might miss it first. */
static int asks(struct wl_comm *c, void *user, struct wl_err *e)
{
	int lost = -1, rank = wl_comm_rank(c);
	char mine[600], other[600];

	if (rank == 1)
		_exit(WL_EDATA);
	snprintf(mine, sizeof mine, "%s-%d", (const char *)user, rank);
	snprintf(other, sizeof other, "%s-%d", (const char *)user, 2 - rank);
	for (int64_t since = 0; !wl_comm_lost(c, &lost) && tmp_wait(&since);)
		;
	tmp_write(mine, "");
	for (int64_t since = 0; access(other, R_OK) && tmp_wait(&since);)
		;
	return lost == 1 ? wl_err_set(e, WL_ERETRY, "rank 1 is lost")
			 : wl_err_set(e, WL_EFAIL, "rank %d is lost", lost);
}

static int asks_of_the_living(struct wl_comm *c, void *user, struct wl_err *e)
{
	int lost = -1;

	(void)user;
	for (int i = 0; i < 20; i++) {
		if (wl_comm_lost(c, &lost))
			return wl_err_set(e, WL_EFAIL, "rank %d is lost", lost);
		usleep(5000);
	}
	if (wl_comm_rank(c) == 1)
		return 0; /* and ends, with a word */
	usleep(100000);
	return wl_comm_lost(c, &lost) ? wl_err_set(e, WL_EFAIL, "rank %d is lost", lost) : 0;
}

static void a_loss_is_known_without_an_exchange(void **state)
{
	const char *where = free_port("127.0.0.1");
	char seen[512];
	pid_t pid[3];

	(void)state;
	tmp_path(&dir, "seen", seen);
	for (int r = 0; r < 3; r++)
		pid[r] = start(where, r, 3, 30, asks, seen);
	assert_int_equal(finish(pid[0]), WL_ERETRY);
	assert_int_equal(finish(pid[1]), WL_EDATA);
	assert_int_equal(finish(pid[2]), WL_ERETRY);
	all(free_port("127.0.0.1"), 3, asks_of_the_living, NULL);
}

static int ends_early(struct wl_comm *c, void *user, struct wl_err *e)
{
	(void)user;
	return wl_comm_rank(c) == 1 ? 0 : wl_comm_barrier(c, e);
}

static int other_calls(struct wl_comm *c, void *user, struct wl_err *e)
{
	int64_t v = 1;

	(void)user;
	return wl_comm_rank(c) ? wl_comm_barrier(c, e)
			       : wl_comm_all_reduce(c, &v, 1, WL_COMM_I64, WL_COMM_SUM, e);
}

static void ranks_that_disagree_find_out(void **state)
{
	const char *where = free_port("127.0.0.1");
	pid_t pid[2];

	(void)state;
	for (int r = 0; r < 2; r++)
		pid[r] = start(where, r, 2, 30, ends_early, NULL);
	assert_int_equal(finish(pid[0]), WL_ERETRY);
	assert_int_equal(finish(pid[1]), 0);
	where = free_port("127.0.0.1");
	for (int r = 0; r < 2; r++)
		pid[r] = start(where, r, 2, 30, other_calls, NULL);
	for (int r = 0; r < 2; r++) { /* whoever is slower may only see the other one go */
		int code = finish(pid[r]);

		assert_true(code == WL_EFAIL || code == WL_ERETRY);
	}
}

/* --- meetings that fail --- */

static void a_rank_that_never_comes_is_named(void **state)
{
	const char *where = free_port("127.0.0.1");
	pid_t pid = start(where, 1, 3, 4, check_locals, NULL);

	(void)state;
	setenv("WL_RANK", "0", 1);
	setenv("WL_WORLD_SIZE", "3", 1);
	FAILS(WL_ERETRY, "these ranks: 2", wl_comm_open_at(where, 3, &err) ? 0 : -1);
	assert_int_equal(finish(pid), WL_ERETRY);
	setenv("WL_RANK", "1", 1);
	FAILS(WL_ERETRY, "is rank 0 there", wl_comm_open_at(where, 0.3, &err) ? 0 : -1);
	setenv("WL_RANK", "3", 1);
	FAILS(WL_EUSAGE, "WL_RANK is \"3\"", wl_comm_open_at(where, 1, &err) ? 0 : -1);
	setenv("WL_RANK", "0", 1);
	setenv("WL_WORLD_SIZE", "two", 1);
	FAILS(WL_EUSAGE, "WL_WORLD_SIZE", wl_comm_open_at(where, 1, &err) ? 0 : -1);
	unsetenv("WL_RANK");
	unsetenv("WL_WORLD_SIZE");
	FAILS(WL_EUSAGE, "which rank", wl_comm_open_at(where, 1, &err) ? 0 : -1);
}

/* Connects as soon as somebody listens and says so many bytes; what is answered, or 0. */
static size_t stranger(const char *where, const void *bytes, size_t n, uint8_t answer[512])
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)atoi(strrchr(where, ':') + 1))};
	size_t got = 0;
	int fd = -1;

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (int64_t since = 0; tmp_wait(&since);) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
			break;
		close(fd);
		fd = -1;
	}
	assert_true(fd >= 0);
	if (n)
		assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
	else
		return (size_t)fd; /* stays and is silent */
	while (got < 512) {
		ssize_t k = recv(fd, answer + got, 512 - got, 0);

		if (k <= 0)
			break;
		got += (size_t)k;
	}
	close(fd);
	return got;
}

static void strangers_are_turned_away(void **state)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";
	struct comm_hello h = {.kind = COMM_TO_MEETING, .world = 2, .rank = 1};
	uint8_t bytes[COMM_HELLO_BYTES], answer[512], junk[4096];
	const char *where = free_port("127.0.0.1");
	char why[COMM_ANSWER_BYTES], path[512];
	struct sums s = {.path = tmp_path(&dir, "strange", path)};
	pid_t pid = start(where, 0, 2, 60, do_collectives, &s);
	size_t silent = stranger(where, NULL, 0, answer);

	(void)state;
	stranger(where, http, sizeof http - 1, answer);
	for (size_t i = 0; i < sizeof junk; i++)
		junk[i] = (uint8_t)wl_mix64(i);
	stranger(where, junk, sizeof junk, answer);
	/* A rank of another run, then one of another world: told why. */
	comm_hello_write(&h, bytes);
	assert_int_equal(stranger(where, bytes, sizeof bytes, answer), COMM_ANSWER_BYTES);
	assert_int_equal(comm_answer_read(answer, why, &err), 1);
	assert_non_null(strstr(why, "another run"));
	bytes[30] ^= 1;
	assert_int_equal(stranger(where, bytes, sizeof bytes, answer), COMM_ANSWER_BYTES);
	assert_int_equal(comm_answer_read(answer, why, &err), 1);
	assert_non_null(strstr(why, "damaged"));
	assert_int_equal(finish(start(where, 1, 3, 30, check_locals, NULL)), WL_EUSAGE);
	/* And the right one still gets in. */
	assert_int_equal(finish(start(where, 1, 2, 30, do_collectives, &s)), 0);
	assert_int_equal(finish(pid), 0);
	close((int)silent);
}

/* A rank that was greeted, and killed: its connection is reset.  Restarted while others are still
 * waited for, it is let in. */
static void a_rank_that_was_killed_may_come_again(void **state)
{
	struct comm_hello h = {.kind = COMM_TO_MEETING, .world = 3, .rank = 1};
	struct linger reset = {1, 0};
	uint8_t bytes[COMM_HELLO_BYTES], answer[512], both[2 * COMM_KEY] = {0};
	const char *where = free_port("127.0.0.1");
	char path[512];
	struct sums s = {.path = tmp_path(&dir, "again", path)};
	pid_t pid[3] = {start(where, 0, 3, 60, do_collectives, &s)};
	int fd = (int)stranger(where, NULL, 0, answer);

	(void)state;
	comm_name_run(both); /* behind it the token of a notice, of which there is none */
	wl_sha256(both, sizeof both, h.key);
	comm_hello_write(&h, bytes);
	assert_int_equal(send(fd, bytes, sizeof bytes, MSG_NOSIGNAL), sizeof bytes);
	assert_int_equal(recv(fd, answer, COMM_ANSWER_BYTES, MSG_WAITALL),
		COMM_ANSWER_BYTES);
	assert_int_equal(answer[8], 0); /* welcome */
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	close(fd);
	for (int r = 1; r < 3; r++)
		pid[r] = start(where, r, 3, 60, do_collectives, &s);
	for (int r = 0; r < 3; r++)
		assert_int_equal(finish(pid[r]), 0);
}

/* A run that was killed while it met: its notice stays. */
static void an_older_runs_notice_is_recognised(void **state)
{
	char place[512], notice[600], path[512];
	struct sums s = {.path = tmp_path(&dir, "stale", path)};
	pid_t old, late;

	(void)state;
	snprintf(place, sizeof place, "file:%s/stale-place", dir.path);
	snprintf(notice, sizeof notice, "%s/meeting", place + 5);
	old = start(place, 0, 2, 30, do_collectives, &s);
	for (int64_t since = 0; access(notice, R_OK);)
		assert_true(tmp_wait(&since));
	/* While that one waits, the directory is taken. */
	setenv("WL_RANK", "0", 1);
	setenv("WL_WORLD_SIZE", "2", 1);
	FAILS(WL_EFAIL, "another run meets in", wl_comm_open_at(place, 1, &err) ? 0 : -1);
	unsetenv("WL_RANK");
	unsetenv("WL_WORLD_SIZE");
	kill(old, SIGKILL);
	finish(old);
	assert_int_equal(access(notice, R_OK), 0);
	late = start(place, 1, 2, 30, do_collectives, &s); /* finds the old notice first */
	usleep(200000);
	old = start(place, 0, 2, 30, do_collectives, &s);
	assert_int_equal(finish(old), 0);
	assert_int_equal(finish(late), 0);
	assert_int_not_equal(access(notice, R_OK), 0);
}

/* Two runs at one place, told apart by their ids. */
static void runs_are_told_apart_by_their_ids(void **state)
{
	char place[512], path[512];
	struct sums s = {.path = tmp_path(&dir, "ids", path)};
	pid_t other, pid;

	(void)state;
	snprintf(place, sizeof place, "file:%s/ids-place", dir.path);
	setenv("WL_RUN_ID", "old", 1);
	other = start(place, 1, 2, 2, do_collectives, &s);
	setenv("WL_RUN_ID", "new", 1);
	pid = start(place, 0, 2, 30, do_collectives, &s);
	assert_int_equal(finish(other), WL_ERETRY);
	assert_int_equal(finish(start(place, 1, 2, 30, do_collectives, &s)), 0);
	assert_int_equal(finish(pid), 0);
	unsetenv("WL_RUN_ID");
}

static int setup(void **state)
{
	(void)state;
	dir = tmp_make();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tmp_remove(&dir);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_are_the_simulators),
		cmocka_unit_test(meets_over_v6),
		cmocka_unit_test(ranks_of_a_machine_know_each_other),
		cmocka_unit_test(torchruns_variables_are_enough),
		cmocka_unit_test(a_lost_rank_ends_the_others_at_once),
		cmocka_unit_test(a_loss_is_known_without_an_exchange),
		cmocka_unit_test(a_hanging_rank_ends_the_others_in_time),
		cmocka_unit_test(ranks_that_disagree_find_out),
		cmocka_unit_test(a_rank_that_never_comes_is_named),
		cmocka_unit_test(strangers_are_turned_away),
		cmocka_unit_test(a_rank_that_was_killed_may_come_again),
		cmocka_unit_test(an_older_runs_notice_is_recognised),
		cmocka_unit_test(runs_are_told_apart_by_their_ids),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

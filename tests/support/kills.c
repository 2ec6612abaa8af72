/* See kills.h. */
#include "tests/support/kills.h"

#include "ops/clock.h"
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* One run, killed after so many seconds (-1: never).  1: it was killed, 0: it ended well.
 * The clock is the kernel's, which outlives exec and kills on time however late this process would
 * wake; nobody here knows its signal, so that it ends a process like SIGKILL, between any two
 * instructions. */
static int one_run(const struct killed *k, double seconds)
{
	long us = 1 + (long)(1e6 * seconds);
	struct itimerval at = {.it_value = {us / 1000000, us % 1000000}};
	int status;
	pid_t pid;

	fflush(NULL); /* or the child writes it once more */
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		signal(SIGALRM, SIG_DFL);
		if (seconds >= 0 && setitimer(ITIMER_REAL, &at, NULL))
			_exit(126);
		_exit(k->run(k->ctx));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		return 1;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("the run that is killed: wait status %#x, expected exit code 0", status);
	return 0;
}

/* Kills after a random part of reach_s, later from round to round, so that runs which begin from
 * nothing each time come to their end too.  The number of kills. */
static int kill_rounds(const struct killed *k, double reach_s)
{
	int kills = 0;

	while (one_run(k, reach_s * (1 + kills / 4.0) * wl_rand_unit(11, 0, (uint64_t)kills)))
		kills++;
	return kills;
}

void killed_until_done(const struct killed *k)
{
	double began, reach_s;
	int kills;

	k->begin(k->ctx);
	began = wl_now_s();
	assert_int_equal(one_run(k, -1), 0);
	reach_s = (wl_now_s() - began) / (k->least + 1);
	for (;; reach_s /= 4) {
		k->begin(k->ctx);
		kills = kill_rounds(k, reach_s);
		print_message("killed %d times, at first within %.0f ms\n", kills, 1e3 * reach_s);
		if (kills >= k->least)
			return;
	}
}

struct commands {
	const char *begin, *run;
};

static void begin_command(void *ctx)
{
	const struct commands *c = ctx;

	assert_int_equal(tmp_run(NULL, "%s", c->begin), 0);
}

static int run_command(void *ctx)
{
	const struct commands *c = ctx;

	execl("/bin/sh", "sh", "-c", c->run, (char *)NULL);
	return 127;
}

void kill_until_done(const char *begin, const char *cmd, int least)
{
	struct commands c = {.begin = begin, .run = cmd};

	killed_until_done(&(struct killed){
		.begin = begin_command, .run = run_command, .ctx = &c, .least = least});
}

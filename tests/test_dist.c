/*
 * wenlan-train on several ranks, as a user runs it: N ranks are one rank with N times the batch;
 * all ZeRO stages give the same bits; a rank that is killed costs nothing but time; one that
 * hangs ends the run with 75; a checkpoint of N ranks resumes on any number.
 */
#include "tests/support/cm.h"
#include "tests/support/server.h"
#include "tests/support/tmp.h"
#include "tests/support/trainrig.h"

#include "ops/err.h"
#include "ops/file.h"

#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEPS = 6, BATCH = 8, ARGS = 64 };

static struct train_rig rig;
static bool no_mpirun;

static int make_data(void **state)
{
	char *out;

	(void)state;
	no_mpirun = tmp_run(&out, "command -v mpirun") != 0;
	free(out);
	return rig_make(&rig);
}

static int drop_data(void **state)
{
	(void)state;
	return rig_remove(&rig);
}

#define NEEDS_MPIRUN                                                                               \
	do {                                                                                       \
		if (no_mpirun)                                                                     \
			SKIP("mpirun is not installed");                                           \
	} while (0)

/* Starts a run on so many ranks (0: no mpirun; -N: one of N that meet without it), BATCH pairs a
 * step over all; more: further arguments, NULL at the end. */
static pid_t start(int ranks, const char *run, const char *const *more)
{
	const char *argv[ARGS], *bin = getenv("WL_BIN");
	char dir[160], batch[16], np[16], program[512];
	int n = 0;
	const char *const fixed[] = {"--shards", rig.shards, "--data.vocab", rig.vocab, "--run",
		dir, "--model", rig_model, "--data.batch", batch, "--moco.queue", "24", "--epochs",
		"50", "--max-steps", "6", "--optim.warmup-steps", "2", "--optim.lr", "2e-3",
		"--ckpt.every", "2", "--val.every", "-1", "--data.threads", "1", "--threads", "1",
		"--data.val-split", "train"};

	snprintf(dir, sizeof dir, "%s/%s", rig.root, run);
	snprintf(batch, sizeof batch, "%d", BATCH / (ranks ? abs(ranks) : 1));
	snprintf(np, sizeof np, "%d", ranks);
	snprintf(program, sizeof program, "%s/wenlan-train", bin ? bin : "build/release/bin");
	if (ranks > 0) {
		const char *const launch[] = {"mpirun", "--allow-run-as-root", "--oversubscribe",
			"-np", np, program};

		for (size_t i = 0; i < sizeof launch / sizeof *launch; i++)
			argv[n++] = launch[i];
	} else {
		argv[n++] = "wenlan-train";
	}
	for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
		argv[n++] = fixed[i];
	while (more && *more)
		argv[n++] = *more++;
	assert_true(n < ARGS);
	argv[n] = NULL;
	return rig_start(&rig, ranks > 0 ? "mpirun" : "wenlan-train", argv);
}

static void train(int ranks, const char *run, const char *const *more)
{
	int code = rig_finish(start(ranks, run, more));

	if (code)
		fail_msg("%d ranks, %s: exit code %d: %s", ranks, run, code, rig_log(&rig));
}

/* Processes that nobody launches as ranks: they meet at a place. */
static void start_plain(int ranks, const char *place, const char *run, const char *const *more,
	pid_t *pid)
{
	const char *argv[ARGS] = {"--rendezvous", place};
	char text[16];
	int n = 2;

	while (more && *more)
		argv[n++] = *more++;
	argv[n] = NULL;
	snprintf(text, sizeof text, "%d", ranks);
	setenv("WL_WORLD_SIZE", text, 1);
	for (int r = 0; r < ranks; r++) {
		snprintf(text, sizeof text, "%d", r);
		setenv("WL_RANK", text, 1);
		pid[r] = start(-ranks, run, argv);
	}
	unsetenv("WL_RANK");
	unsetenv("WL_WORLD_SIZE");
}

static void train_plain(int ranks, const char *place, const char *run, const char *const *more)
{
	pid_t pid[8];

	start_plain(ranks, place, run, more, pid);
	for (int r = 0; r < ranks; r++) {
		int code = rig_finish(pid[r]);

		if (code)
			fail_msg("rank %d of %d at %s, %s: exit code %d: %s", r, ranks, place, run,
				code, rig_log(&rig));
	}
}

static const char *file_place(void)
{
	static char place[160];

	snprintf(place, sizeof place, "file:%s/meet", rig.root);
	return place;
}

static double number(json_t *lines, size_t step, const char *key)
{
	return json_number_value(json_object_get(json_array_get(lines, step), key));
}

/* The largest relative difference of a key over the steps. */
static double worst(const char *a, const char *b, const char *key)
{
	json_t *x = rig_metrics(&rig, a), *y = rig_metrics(&rig, b);
	double most = 0, d;

	assert_int_equal(json_array_size(x), STEPS);
	assert_int_equal(json_array_size(y), STEPS);
	for (size_t i = 0; i < STEPS; i++) {
		d = fabs(number(x, i, key) - number(y, i, key)) / fabs(number(x, i, key));
		most = d > most || !isfinite(d) ? d : most;
	}
	json_decref(x);
	json_decref(y);
	return most;
}

static void same_bits(const char *a, const char *b)
{
	json_t *x = rig_metrics(&rig, a), *y = rig_metrics(&rig, b);

	assert_int_equal(json_array_size(x), STEPS);
	if (!json_equal(x, y))
		fail_msg("metrics differ:\n%s\n%s", json_dumps(x, 0), json_dumps(y, 0));
	json_decref(x);
	json_decref(y);
}

static void same_file(const char *a, const char *b, const char *name)
{
	json_t *x = rig_files(&rig, a, STEPS), *y = rig_files(&rig, b, STEPS);

	assert_non_null(json_object_get(x, name));
	if (!json_equal(json_object_get(x, name), json_object_get(y, name)))
		fail_msg("%s of %s and %s differ", name, a, b);
	json_decref(x);
	json_decref(y);
}

static void same_checkpoint(const char *a, const char *b)
{
	static const char *const files[] = {"model.safetensors", "momentum.safetensors",
		"queues.safetensors"};

	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		same_file(a, b, files[i]);
}

/* Dropout, drop path and augmentation are on: each sample's random numbers are its own. */
static void ranks_are_one_rank_with_the_whole_batch(void **state)
{
	static const char *const sync[] = {"--dist.sync-bn", NULL};
	static const char *const keys[] = {"loss_i2t", "loss_t2i", "grad_norm", "tau"};
	/* Six steps of single precision: rounding, and what training makes of it. */
	static const double bound[] = {2e-5, 2e-5, 1e-4, 1e-6};

	(void)state;
	NEEDS_MPIRUN;
	train(0, "one", NULL);
	train(2, "two", sync);
	train(4, "four", sync);
	for (size_t k = 0; k < 4; k++) {
		double two = worst("one", "two", keys[k]), four = worst("one", "four", keys[k]);

		print_message("%s: 2 ranks differ by %.1e, 4 by %.1e\n", keys[k], two, four);
		assert_true(two < bound[k] && four < bound[k]);
	}
	train(2, "per-rank", NULL); /* without it they do differ, so the above says something */
	assert_true(worst("one", "per-rank", "loss_i2t") > bound[0]);
}

static void runs_repeat_to_the_bit(void **state)
{
	(void)state;
	NEEDS_MPIRUN;
	train(2, "again", NULL);
	same_bits("per-rank", "again");
	same_checkpoint("per-rank", "again");
}

static void stages_give_the_same_bits(void **state)
{
	static const char *const zero[] = {"0", "2", "3"}; /* 1 is the default */

	(void)state;
	NEEDS_MPIRUN;
	for (size_t i = 0; i < 3; i++) {
		const char *const more[] = {"--dist.zero", zero[i], "--dist.bucket-mb", "1", NULL};
		char run[16];

		snprintf(run, sizeof run, "zero%s", zero[i]);
		train(2, run, more);
		same_bits("per-rank", run);
		same_checkpoint("per-rank", run);
	}
}

/* The pid of a process's parent; 0 when it is gone. */
static pid_t parent_of(pid_t pid)
{
	char path[64], line[512] = "", *end;
	int parent = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	if (f && !fgets(line, sizeof line, f))
		*line = 0;
	if (f)
		fclose(f);
	end = strrchr(line, ')');
	return end && sscanf(end + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

/* Another child of whoever has started this rank: mpirun has no children but ranks. */
static pid_t neighbour_of(pid_t rank)
{
	pid_t launcher = parent_of(rank), found = 0;
	DIR *d = opendir("/proc");
	struct dirent *e;

	assert_true(d && launcher > 1);
	while ((e = readdir(d))) {
		pid_t pid = (pid_t)atol(e->d_name);

		if (pid > 0 && pid != rank && parent_of(pid) == launcher)
			found = pid;
	}
	closedir(d);
	return found;
}

/* Kills rank 1 when rank 0 has written so many lines, and stands there: the run is under way, and
 * cannot end without it, however fast. */
static void kill_rank(pid_t program)
{
	pid_t first = rig_halted(&rig, program), second = first ? neighbour_of(first) : 0;

	if (!second)
		fail_msg("the run has ended, or has one rank: %s", rig_log(&rig));
	assert_int_equal(kill(second, SIGKILL), 0);
}

static void a_killed_rank_costs_only_time(void **state)
{
	pid_t pid;

	(void)state;
	NEEDS_MPIRUN;
	rig_halt_after(&rig, 3);
	pid = start(2, "killed", NULL);
	kill_rank(pid);
	assert_int_not_equal(rig_finish(pid), 0);
	train(2, "killed", NULL);
	same_bits("per-rank", "killed");
	same_checkpoint("per-rank", "killed");
}

/* A step in parts, at all stages, and with CLIP: the same bits, by MPI and without, and after a
 * kill in the middle. */
static void parts_give_the_same_bits(void **state)
{
	(void)state;
	NEEDS_MPIRUN;
	for (int clip = 0; clip < 2; clip++) {
		char run[4][16], zero[4][2];

		for (int z = 0; z <= 3; z++) {
			const char *const more[] = {"--data.accumulate", "2", "--objective",
				clip ? "clip" : "moco", "--dist.bucket-mb", "1", "--dist.zero",
				zero[z], NULL};

			snprintf(zero[z], sizeof zero[z], "%d", z);
			snprintf(run[z], sizeof run[z], "parts%d%d", clip, z);
			if (z == 3) {
				train_plain(2, file_place(), run[z], more);
			} else if (z == 2) {
				rig_halt_after(&rig, 3);
				pid_t pid = start(2, run[z], more);
				kill_rank(pid);
				assert_int_not_equal(rig_finish(pid), 0);
				train(2, run[z], more);
			} else {
				train(2, run[z], more);
			}
			same_bits(run[0], run[z]);
			same_file(run[0], run[z], "model.safetensors");
			if (!clip)
				same_checkpoint(run[0], run[z]);
		}
	}
}

/* A stage of a plan with ranks: and retries: is started again when it loses one. */
static void wenlan_run_starts_again(void **state)
{
	const char *argv[] = {"wenlan-run", NULL, NULL};
	char plan[160], text[4096];
	pid_t pid;
	int code;

	(void)state;
	NEEDS_MPIRUN;
	snprintf(plan, sizeof plan, "%s/plan.yaml", rig.root);
	snprintf(text, sizeof text, "name: ranks\nworkdir: %s/plan\nstages:\n  - name: train\n"
		"    ranks: 2\n    retries: 2\n    run: [wenlan-train, --shards, %s, "
		"--data.vocab, %s, --run, %s/planned, --model, '%s', --data.batch, '4', "
		"--moco.queue, '24', --epochs, '50', --max-steps, '6', --optim.warmup-steps, '2', "
		"--optim.lr, '2e-3', --ckpt.every, '2', --val.every, '-1', --data.threads, '1', "
		"--threads, '1', --data.val-split, train]\n", rig.root, rig.shards, rig.vocab,
		rig.root, rig_model);
	tmp_write(plan, text);
	argv[1] = plan;
	rig_halt_after(&rig, 3);
	pid = rig_start(&rig, "wenlan-run", argv);
	kill_rank(pid);
	code = rig_finish(pid);
	if (code || !strstr(rig_log(&rig), "has lost a rank"))
		fail_msg("exit code %d: %s", code, rig_log(&rig));
	same_bits("per-rank", "planned");
	same_checkpoint("per-rank", "planned");
}

/* Rank 0 stands for good; for the other the ten minutes that are usual pass quickly. */
static void a_hanging_rank_ends_the_run(void **state)
{
	static const char *const more[] = {"--dist.timeout", "600", NULL};
	pid_t pid, first;
	int code;

	(void)state;
	NEEDS_MPIRUN;
	rig_halt_after(&rig, 2);
	pid = start(2, "hanging", more);
	first = rig_halted(&rig, pid);
	assert_true(first > 0);
	rig_hurry(&rig, true);
	code = rig_finish(pid);
	rig_hurry(&rig, false);
	if (code != WL_ERETRY || !strstr(rig_log(&rig), "another rank is lost"))
		fail_msg("exit code %d: %s", code, rig_log(&rig));
}

/* Up to step 4 on some ranks, the rest on others and at other stages. */
static void checkpoints_resume_on_any_number_of_ranks(void **state)
{
	static const char *const first[] = {"--dist.sync-bn", "--max-steps", "4", NULL};
	static const char *const then3[] = {"--dist.sync-bn", "--dist.zero", "3", NULL};
	char from[160], to[160], *out;

	(void)state;
	NEEDS_MPIRUN;
	train(2, "half", first);
	snprintf(from, sizeof from, "%s/half", rig.root);
	for (int ranks = 0; ranks <= 4; ranks += 2) {
		char run[16];

		snprintf(run, sizeof run, "half%d", ranks);
		snprintf(to, sizeof to, "%s/%s", rig.root, run);
		assert_int_equal(tmp_run(&out, "cp -r %s %s", from, to), 0);
		free(out);
		train(ranks, run, ranks ? then3 : NULL);
		/* The schedule knew of 4 steps only at first, so only among themselves. */
		if (ranks) {
			assert_true(worst("half0", run, "loss_i2t") < 2e-5);
			assert_true(worst("half0", run, "grad_norm") < 1e-4);
		}
	}
}

/* Two ranks add in one order however they exchange, so that MPI's bits must be met; three need only
 * agree among themselves. */
static void ranks_need_no_mpirun(void **state)
{
	static const char *const zero3[] = {"--dist.zero", "3", "--dist.bucket-mb", "1", NULL};
	char place[64];

	(void)state;
	train_plain(2, file_place(), "plain2", NULL);
	if (!no_mpirun) {
		same_bits("per-rank", "plain2");
		same_checkpoint("per-rank", "plain2");
	}
	snprintf(place, sizeof place, "tcp://127.0.0.1:%d", server_free_port());
	train_plain(3, place, "plain3", NULL);
	train_plain(3, file_place(), "plain3-zero3", zero3);
	same_bits("plain3", "plain3-zero3");
	same_checkpoint("plain3", "plain3-zero3");
}

/* No launcher ends the others: they find out by themselves, with the code of "try again". */
static void a_killed_plain_rank_costs_only_time(void **state)
{
	pid_t pid[2];

	(void)state;
	rig_halt_after(&rig, 3);
	start_plain(2, file_place(), "plain-killed", NULL, pid);
	assert_int_equal(rig_halted(&rig, pid[0]), pid[0]);
	kill(pid[1], SIGKILL);
	assert_int_equal(rig_finish(pid[1]), -SIGKILL);
	kill(pid[0], SIGCONT);
	assert_int_equal(rig_finish(pid[0]), WL_ERETRY);
	train_plain(2, file_place(), "plain-killed", NULL);
	same_bits("plain2", "plain-killed");
	same_checkpoint("plain2", "plain-killed");
}

static void an_unknown_stage_is_refused(void **state)
{
	static const char *const more[] = {"--dist.zero", "4", NULL};
	int code;

	(void)state;
	code = rig_finish(start(0, "none", more));
	if (code != WL_EUSAGE || !strstr(rig_log(&rig), "dist.zero is 4"))
		fail_msg("exit code %d: %s", code, rig_log(&rig));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranks_are_one_rank_with_the_whole_batch),
		cmocka_unit_test(runs_repeat_to_the_bit),
		cmocka_unit_test(stages_give_the_same_bits),
		cmocka_unit_test(a_killed_rank_costs_only_time),
		cmocka_unit_test(parts_give_the_same_bits),
		cmocka_unit_test(wenlan_run_starts_again),
		cmocka_unit_test(a_hanging_rank_ends_the_run),
		cmocka_unit_test(checkpoints_resume_on_any_number_of_ranks),
		cmocka_unit_test(ranks_need_no_mpirun),
		cmocka_unit_test(a_killed_plain_rank_costs_only_time),
		cmocka_unit_test(an_unknown_stage_is_refused),
	};

	return cmocka_run_group_tests(tests, make_data, drop_data);
}

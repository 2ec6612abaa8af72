/*
 * Several ranks over MPI: memory of a rank at each ZeRO stage against what --dry-run plans, the
 * time of a step and the part of it spent waiting for other ranks.  Starts itself under mpirun.
 */
#include "ops/clock.h"
#include "tests/support/wide_towers.h"
#include "train/trainer.h"
#include "train/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEPS = 3 };

static const struct wide wide = {1024, 5}; /* 5.3 M floats: 20 MiB an array */

/* The largest memory that this process had, bytes. */
static double peak(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[200];
	long kib = 0;

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "VmHWM: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return 1024.0 * (double)kib;
}

static int train(struct wl_comm *comm, int zero, struct wl_err *err)
{
	struct wl_opt table[WL_TRAIN_OPTIONS];
	struct wl_dist_stats s = {0};
	struct wl_step_report r;
	struct wl_train_config c;
	struct wl_dist_plan plan;
	struct wl_towers towers;
	struct wl_trainer t;
	struct wl_dist *dist = NULL;
	struct wl_backend *be = wl_backend_cpu_open(1, err);
	double start, before = wl_resident_bytes(), most;

	wl_train_config_init(&c, table);
	c.batch = TINY_BATCH;
	c.moco.queue = 8;
	c.schedule.warmup_steps = 1;
	c.dist.zero = zero;
	c.dist.bucket_mb = 1;
	wide_towers(&towers, &wide);
	WL_TRY(wl_train_config_check(&c, err));
	if (wl_comm_size(comm) > 1 && !(dist = wl_dist_open(comm, &c.dist, err)))
		return -1;
	if (!be || wl_trainer_init(&t, &c, &towers, be, dist, 100, TINY_PAIRS, err) < 0)
		return -1;
	WL_TRY(towers.init(&t.params, towers.model, t.seed, err));
	wl_trainer_start(&t);
	start = wl_now_s();
	while (t.step < STEPS)
		WL_TRY(wl_trainer_step(&t, tiny_batch(t.step), &r, err));
	start = (wl_now_s() - start) / STEPS;
	if (dist)
		wl_dist_stats(dist, &s);
	most = peak() - before;
	wl_dist_plan(&c.dist, wl_comm_size(comm), 1, t.params.weights, t.params.weights, 8, &plan);
	if (wl_comm_rank(comm) == 0)
		printf("%5d %5d %10.0f %10.0f %9.0f %9.0f %10.1f\n", wl_comm_size(comm), zero,
			(plan.weights + plan.gradients + plan.adam + plan.momentum) / 1048576,
			(plan.weights + plan.gradients + plan.adam + plan.momentum + plan.coming) /
				1048576, most / 1048576, 1e3 * start,
			100 * s.waited_s / (start * STEPS));
	fflush(stdout);
	wl_dist_close(dist);
	wl_trainer_release(&t);
	wl_backend_close(be);
	return 0;
}

static int as_rank(int zero)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_comm *comm = wl_comm_open(&err);

	if (!comm || train(comm, zero, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	wl_comm_close(comm);
	return 0;
}

int main(int argc, char **argv)
{
	char self[512] = "", command[800];
	int bad = 0;

	if (argc == 2)
		return as_rank(atoi(argv[1]));
	(void)argv;
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
		return 1;
	if (system("command -v mpirun >/dev/null") != 0) {
		printf("SKIPPED: mpirun is not installed\n");
		return 0;
	}
	printf("5.3 M weights, one thread a rank; MiB of rank 0 (peak, start-up included)\n");
	printf("ranks  zero    planned  + buckets  measured    ms/step  %% waiting\n");
	fflush(stdout);
	for (int ranks = 1; ranks <= 4; ranks *= 2)
		for (int zero = 0; zero <= (ranks > 1 ? 3 : 0); zero++) {
			snprintf(command, sizeof command, "OMP_NUM_THREADS=1 mpirun "
				"--allow-run-as-root --oversubscribe -np %d %s %d", ranks, self,
				zero);
			bad += system(command) != 0;
		}
	return bad != 0;
}

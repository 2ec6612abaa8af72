/* Ranks that are threads of a test, each with a GPU's backend (emulated, and NCCL with it) or the
 * processor's: a few steps, what they told, and what they left. */
#ifndef WL_TESTS_GPU_RANKS_H
#define WL_TESTS_GPU_RANKS_H

#include "tests/support/emulation.h"
#include "tests/support/gpu_course.h"
#include "tests/support/wide_towers.h"

/* Skips where there is no device, or where ranks cannot be threads. */
#define NEEDS_RANKS                                                                                \
	do {                                                                                       \
		NEEDS_DEVICE;                                                                      \
		if (!emulated_nccl_fails)                                                          \
			SKIP("ranks as threads need the emulation of NCCL");                       \
	} while (0)

/* Loss, norm and tau of each step. */
struct course_numbers {
	double loss[COURSE_STEPS], norm[COURSE_STEPS], tau[COURSE_STEPS];
};

struct gpu_ranks {
	/* what is to be done */
	struct wl_train_config config;
	bool gpu;
	const struct wide *wide; /* NULL: the tiny model */
	bool frozen;		 /* a quarter of the weights is not trained */
	int64_t steps;
	/* what came of it, all zero before */
	struct course_numbers course;
	uint64_t hash;	/* of all weights */
	double planned; /* bytes of all ranks that lie in parts, by the plan */
	int64_t lies;	/* and in the device's memory */
	double whole;	/* the same arrays on one rank that keeps all */
};

/* Steps on so many ranks at a ZeRO stage, in buckets of 1 MiB; fails the running test. */
void gpu_ranks_run(struct gpu_ranks *j, int ranks, int zero);
/* Fails unless the first n steps are the same but for rounding: losses and tau within the bound,
 * norms within ten times that. */
void course_numbers_close(const struct course_numbers *a, const struct course_numbers *b, int n,
	double bound);

#endif

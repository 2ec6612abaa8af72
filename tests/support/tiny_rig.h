/* Trainers of the tiny model (tests/support/tiny_towers.h) and what ranks see of its batches. */
#ifndef WL_TESTS_TINY_RIG_H
#define WL_TESTS_TINY_RIG_H

#include "tests/support/tiny_towers.h"
#include "train/trainer.h"

/* Settings under which the tiny model learns; what is changed afterwards is to be checked again. */
struct wl_train_config tiny_config(double lr);

struct tiny_rig {
	struct wl_train_config config;
	struct wl_backend *be;
	struct wl_trainer t;
};

/* Ready for its first of `steps` steps; the backend is the rig's from here on.  Fails the test. */
void tiny_rig_open(struct tiny_rig *r, const struct wl_train_config *c, struct wl_backend *be,
	int64_t steps);
void tiny_rig_close(struct tiny_rig *r);

/* What rank 0 saw of the first steps, `most` of each. */
struct tiny_course {
	double *loss, *norm, *tau;
	int64_t most;
};

/* Steps until `steps` are done, each rank on its own rows (rank, rank + world, ...) of the tiny
 * batches; ranks may be threads. */
WL_MUST_CHECK int tiny_rank_steps(struct wl_trainer *t, int64_t steps,
	const struct tiny_course *seen, struct wl_err *err);

/* A number that stands for all of v. */
uint64_t tiny_hash(const float *v, int64_t n);

#endif

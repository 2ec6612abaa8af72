/* A course of training steps on the GPU's backend or on the processor, and two courses compared,
 * for tests of steps that the device judges. */
#ifndef WL_TESTS_GPU_COURSE_H
#define WL_TESTS_GPU_COURSE_H

#include "tests/support/tiny_rig.h"
#include "train/trainer.h"

enum { COURSE_STEPS = 40 };

/* What steps said, and what they left. */
struct course {
	struct wl_step_report said[COURSE_STEPS];
	char blame[COURSE_STEPS][64]; /* the names in them, which go with the trainer */
	struct wl_guard guard;
	struct wl_scaler scaler;
	int64_t updates, n;
	size_t next[2];
	float *value, *momentum;
	float *queue[2];
	int64_t floats, keys;
};

/* A GPU's backend, emulated or itself, or the processor's with one thread. */
struct wl_backend *course_device(bool gpu);
/* True when there is such a backend: asked once, and skipped without. */
bool course_has_device(void);
#define NEEDS_DEVICE                                                                               \
	do {                                                                                       \
		if (!course_has_device())                                                          \
			SKIP("no CUDA backend in this build, or no GPU");                          \
	} while (0)
/* n floats from the backend's memory; to be freed. */
float *course_taken(struct wl_backend *be, const void *from, int64_t n);
/* The tiny batch of a step; pictures of steps bad and bad + 1 are not finite, or far too bright
 * (times `how`). */
const struct wl_moco_batch *course_batch(int64_t step, int64_t bad, float how);
/* Steps up to `to`, told as late as they may be; then what they left. */
void course_steps(struct tiny_rig *r, int64_t to, int64_t bad, float how, struct course *c);
void course_look(struct tiny_rig *r, struct course *c);
/* A course of n steps from the beginning; released by the caller. */
void course_run(const struct wl_train_config *config, bool gpu, int64_t n, int64_t bad, float how,
	struct course *c);
void course_release(struct course *c);
/* On both; fails the running test unless the courses agree to within the bound.  gpu: the device's,
 * released by the caller. */
void course_compare(const struct wl_train_config *c, int64_t n, int64_t bad, float how,
	double bound, struct course *gpu);
/* What the comparison is made of: all of two courses, one number of a step. */
void course_same(const struct course *a, const struct course *b, double bound);
void course_same_number(const char *what, int64_t step, double a, double b, double bound);

#endif

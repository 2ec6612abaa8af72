/* Loss scales equal in all their fields; the bytes between fields are nobody's. */
#ifndef WL_TESTS_SCALER_SAME_H
#define WL_TESTS_SCALER_SAME_H

#include "tests/support/cm.h"
#include "train/backend/judge.h"

static inline void scaler_same(const struct wl_scaler *a, const struct wl_scaler *b)
{
	assert_memory_equal(&a->scale, &b->scale, sizeof a->scale);
	assert_int_equal(a->interval, b->interval);
	assert_int_equal(a->good, b->good);
	assert_int_equal(a->overflows, b->overflows);
}

#endif

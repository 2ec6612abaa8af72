/*
 * Recorded runs of graphs on several devices.  What hooks give to the wire while a run is recorded
 * is a part of the recording, in the order of events alone; when it is given again they are not
 * called, and what they would have noted is noted here.  What the ranks had under way before is
 * waited for by the device first, as a recording knows of nothing outside it: at stages 1 and 2 the
 * weights that come after an update then come as a whole before the graph begins, not bucket by
 * bucket.
 */
#include "train/dist/internal.h"

#include <string.h>

/* As before the first operation of any run. */
static void forget_buckets(struct wl_share *s, int n)
{
	if (!s->comes)
		return;
	memset(s->users, 0, (size_t)n * sizeof *s->users);
	memset(s->coming, 0, (size_t)n * sizeof *s->coming);
	for (int i = 0; i < s->slots.n; i++)
		s->holder[i] = -1;
}

static int begin(struct wl_dist *d, struct wl_err *err)
{
	WL_TRY(wl_dist_catch_up(d, err));
	WL_TRY(d->wire->mark(d->wire, &d->last, err));
	d->settled = d->last + 1;
	d->wire->recording(d->wire, true);
	d->had_sent = d->sent;
	d->had_failed = d->failed;
	return 0;
}

/* Nothing was computed: notes are as before. */
static int end(struct wl_attached *a, int which, struct wl_err *err)
{
	struct wl_dist *d = a->d;
	int ret;

	/* The stream of exchanges comes back to the backend's; later nobody may ask for events that
	 * were recorded. */
	ret = wl_dist_wire_wait(d, d->last, err);
	d->settled = d->last + 1;
	d->wire->recording(d->wire, false);
	d->failed = d->had_failed;
	a->sent[which] = d->sent - d->had_sent;
	d->sent = d->had_sent;
	memset(d->reduced, 0, (size_t)d->cut.n);
	forget_buckets(a->share, d->cut.n);
	return ret;
}

/* What the hooks would have noted. */
static int replayed(struct wl_attached *a, int which, struct wl_err *err)
{
	struct wl_dist *d = a->d;
	bool reduces = a->grads && d->reduce && which % WL_HALVES != WL_HALF_FORWARD;

	d->sent += a->sent[which];
	WL_TRY(d->wire->mark(d->wire, &d->last, err));
	d->given = true;
	for (int i = 0; reduces && i < a->schedule.n_ready; i++) {
		int b = a->schedule.ready[i].bucket;

		if (d->trains[b]) {
			d->reduced[b] = true;
			d->reduction[b] = d->last;
		}
	}
	return 0;
}

int wl_dist_recording(void *user, enum wl_recording what, int which, struct wl_err *err)
{
	struct wl_attached *a = user;

	switch (what) {
	case WL_RECORD:
		return begin(a->d, err);
	case WL_RECORDED:
		return end(a, which, err);
	case WL_REPLAY:
		return wl_dist_catch_up(a->d, err);
	case WL_REPLAYED:
		return replayed(a, which, err);
	}
	WL_BUG("recording %d", (int)what);
}

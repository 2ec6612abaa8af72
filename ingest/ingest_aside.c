/*
 * A consumer that never ends fetches its pictures itself, since nobody else may write its lanes.
 *
 * The topic's thread gives the fetcher a turn now and then; what is in flight goes on in between.
 * Rows of messages and outcomes of fetches share the lane's transaction, so the messages' batch is
 * committed, with their offsets, before a turn that may commit outcomes.
 */
#include "ingest/ingest_priv.h"

#include <stdlib.h>

struct wl_aside {
	struct wl_run *run;
	struct wl_fetcher *fetcher;
	struct wl_lane *lane; /* where it is at; NULL: nowhere */
};

struct wl_aside *wl_aside_new(struct wl_run *run, struct wl_err *err)
{
	/* What is due later is taken up in a later round. */
	enum { WAIT_S = 5 };
	struct wl_fetch_opts o = *run->in->fetch;
	struct wl_aside *a = calloc(1, sizeof *a);
	if (!a) {
		wl_err_nomem(err, "a fetcher", sizeof *a);
		return NULL;
	}
	a->run = run;
	o.wait_s = o.wait_s < WAIT_S ? o.wait_s : WAIT_S;
	o.refresh_s = -1;
	o.retry_failed = false;
	a->fetcher = wl_fetcher_new(&o, err);
	if (a->fetcher)
		return a;
	free(a);
	return NULL;
}

void wl_aside_free(struct wl_aside *a)
{
	if (!a)
		return;
	wl_fetcher_free(a->fetcher);
	free(a);
}

int wl_aside_leave(struct wl_aside *a, struct wl_batch *b, struct wl_err *err)
{
	if (!a || !a->lane || a->lane != b->lane)
		return 0;
	a->lane = NULL;
	WL_TRY(wl_batch_commit(a->run, b, err));
	return wl_fetcher_stop(a->fetcher, err);
}

int wl_aside_step(struct wl_aside *a, struct wl_batch *b, int most_ms, struct wl_err *err)
{
	const char *url, *page_url;
	int64_t id;
	WL_TRY(wl_batch_commit(a->run, b, err));
	if (!a->lane) {
		int waits = wl_lane_waiting(b->lane, -1, &id, &url, &page_url, err);
		if (waits <= 0)
			return waits;
		WL_TRY(wl_fetcher_start(
			a->fetcher, a->run->in->corpus, b->lane, a->run->in->fetched, err));
		a->lane = b->lane;
	}
	int more = wl_fetcher_step(a->fetcher, most_ms, err);
	WL_TRY(more);
	wl_watch_alive(a->run->watch);
	return more ? 1 : wl_aside_leave(a, b, err);
}

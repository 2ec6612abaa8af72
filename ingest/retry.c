/*
 * --retry-quarantine: only what failed, without reading the source again.
 *
 * The quarantine keeps what was read of a record, its place and so its ordinal, which is all that
 * prepare() had the first time.  So a record becomes the pair that it would have been, with the
 * same id.  A row is taken out and settled in one transaction.
 */
#include "ingest/ingest_priv.h"

#include "ops/log.h"
#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>

struct retry {
	struct wl_run *run;
	struct wl_flow *f;
	struct wl_item item;
	const char *position; /* of the origin: stays as it is */
	int64_t tried, beyond; /* beyond: cannot be taken up from what was kept */
};

/* item.rec has place and json; 1: tried, 0: it cannot be. */
static int try_one(struct retry *y, int64_t ordinal, struct wl_err *err)
{
	struct wl_source *s = y->f->source;
	struct wl_record *r = &y->item.rec;
	r->has_json = true;
	r->check = y->run->in->check;
	r->ordinal = ordinal;
	r->position = y->position;
	y->item.err = (struct wl_err)WL_ERR_INIT;
	y->item.flow = y->f;
	y->item.ret = s->ops->prepare(s, r, &y->item.err);
	if (y->item.ret == 0)
		WL_TRY(wl_lane_unquarantine(y->f->batch->lane, s->origin->name, r->place, err));
	y->run->out->records++;
	y->tried++;
	return wl_settle(y->run, &y->item, err);
}

static int walk(struct retry *y, struct wl_err *err)
{
	const struct wl_source *s = y->f->source;
	char *after = strdup(""), *place = NULL;
	int row = after ? 1 : wl_err_nomem(err, "a place", 1);
	while (row > 0 && !wl_stop_requested()) {
		struct wl_record *r = &y->item.rec;
		bool whole;
		wl_record_clear(r);
		row = wl_lane_next_refused(y->f->batch->lane, s->origin->name, after, &place,
			&r->json, &whole, err);
		if (row <= 0)
			break;
		free(after);
		after = place;
		int64_t ordinal = s->ops->recall && whole ? s->ops->recall(place) : -1;
		if (ordinal < 0) {
			y->beyond++;
			continue;
		}
		r->place = wl_arena_strdup(&r->mem, place, err);
		if (!r->place || try_one(y, ordinal, err) < 0)
			row = -1;
	}
	free(after);
	return row;
}

int wl_retry_quarantine(
	struct wl_run *run, struct wl_flow *f, const char *position, struct wl_err *err)
{
	struct retry y = {.run = run, .f = f};
	int64_t kept = run->out->kept + run->out->pending + run->out->opened;
	if (!run->in->retry_quarantine || !*position)
		return 0;
	y.position = strdup(position); /* the lane lends it only until its next call */
	if (!y.position)
		return wl_err_nomem(err, "a position", strlen(position));
	wl_record_init(&y.item.rec);
	int ret = walk(&y, err);
	if (ret >= 0)
		ret = wl_batch_commit(run, f->batch, err);
	if (y.tried || y.beyond)
		wl_info("%s: %lld records of the quarantine tried again, %lld of them good now; "
			"%lld others cannot be from what was kept of them",
			f->source->origin->name, (long long)y.tried,
			(long long)(run->out->kept + run->out->pending + run->out->opened - kept),
			(long long)y.beyond);
	wl_record_release(&y.item.rec);
	free((char *)(uintptr_t)y.position);
	/* They say nothing about the source as it is now. */
	f->seen = f->refused = 0;
	return ret < 0 ? -1 : 0;
}

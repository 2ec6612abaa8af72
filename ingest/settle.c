/*
 * What becomes of prepared records: a pair, a pending pair or a row of quarantine in the open
 * batch of a lane, until the batch commits with the positions of all that it took from.
 */
#include "ingest/ingest_priv.h"

#include "ops/log.h"
#include "ops/metrics.h"

#include <stdlib.h>
#include <string.h>

enum {
	COMMIT_RECORDS = 1000,
	COMMIT_BYTES = 64 << 20,
	POSITION_MAX = 1 << 20,
	RATE_AFTER = 100, /* records before a source may be called wrong */
};

int wl_flow_init(struct wl_flow *f, struct wl_source *s, struct wl_batch *b, struct wl_err *err)
{
	*f = (struct wl_flow){.source = s, .batch = b, .next_flow = b->flows};
	wl_buf_init(&f->position, POSITION_MAX);
	f->tally = json_object();
	if (!f->tally)
		return wl_err_nomem(err, "counts", 0);
	b->flows = f;
	return 0;
}

void wl_flow_release(struct wl_flow *f)
{
	struct wl_flow **at;
	if (!f->batch)
		return;
	for (at = &f->batch->flows; *at && *at != f; at = &(*at)->next_flow)
		;
	if (*at)
		*at = f->next_flow;
	json_decref(f->tally);
	wl_buf_release(&f->position);
	*f = (struct wl_flow){0};
}

static int count_class(json_t *counts, const char *class, int64_t n, struct wl_err *err)
{
	json_int_t was = json_integer_value(json_object_get(counts, class));
	if (json_object_set_new_nocheck(counts, class, json_integer(was + n)) < 0)
		return wl_err_nomem(err, "a count", 0);
	return 0;
}

static int count_reason(struct wl_run *run, const char *reason, struct wl_err *err)
{
	char class[128];
	const char *colon = strchr(reason, ':');
	size_t n = colon ? (size_t)(colon - reason) : strlen(reason);
	snprintf(class, sizeof class, "%.*s", (int)(n < 120 ? n : 120), reason);
	return count_class(run->out->reasons, class, 1, err);
}

/* What is kept of an input that cannot be a pair: what was read of it, so that it can be looked
 * into without the source. */
static const struct wl_buf *evidence(const struct wl_record *r)
{
	return r->has_json ? &r->json : r->has_image ? &r->image : &r->text;
}

static int quarantine(
	struct wl_run *run, struct wl_flow *f, struct wl_record *r, struct wl_err *err)
{
	const struct wl_buf *b = evidence(r);
	const char *name = f->source->origin->name;
	int known = 0;
	/* A file that was fine when it was taken and is broken now: its pair stays. */
	if (f->source->ops->walks_again)
		known = wl_lane_has(f->batch->lane, r->pair.id, err);
	WL_TRY(known);
	if (known) {
		run->out->known++;
		return 0;
	}
	wl_debug("%s, %s: quarantined: %s", name, r->place, r->reason);
	WL_TRY(wl_lane_quarantine(f->batch->lane, name, r->place, r->reason, b->data, b->len, err));
	run->out->quarantined++;
	f->refused++;
	snprintf(f->last_reason, sizeof f->last_reason, "%s", r->reason);
	return count_reason(run, r->reason, err);
}

/* The picture is only a URL so far. */
static int pend(
	struct wl_run *run, struct wl_flow *f, const struct wl_record *r, struct wl_err *err)
{
	int added = wl_lane_pend(
		f->batch->lane, &r->pair, r->image_url, f->source->origin->name, r->place, err);
	WL_TRY(added);
	*(added ? &run->out->pending : &run->out->known) += 1;
	return 0;
}

static int keep(struct wl_run *run, struct wl_flow *f, struct wl_record *r, struct wl_err *err)
{
	if (!r->has_image)
		return pend(run, f, r, err);
	int added = (r->hashed ? wl_lane_add_hashed : wl_lane_add)(
		f->batch->lane, &r->pair, r->image.data, r->image.len, err);
	WL_TRY(added);
	if (!added) {
		run->out->known++;
		return 0;
	}
	if (f->source->ops->walks_again)
		WL_TRY(wl_lane_unquarantine(
			f->batch->lane, f->source->origin->name, r->place, err));
	run->out->kept++;
	run->out->image_bytes += (int64_t)r->image.len;
	f->batch->bytes += (int64_t)r->image.len;
	return 0;
}

int wl_flow_set_position(struct wl_flow *f, const char *position, struct wl_err *err)
{
	wl_buf_reset(&f->position);
	f->moved = true;
	return wl_buf_puts(&f->position, position, err);
}

/* What was passed over goes into the totals with what was kept.  An origin that is walked again
 * would count it twice: its totals are those of a run. */
static int commit_tally(struct wl_run *run, struct wl_flow *f, struct wl_err *err)
{
	const char *class;
	json_t *n;
	json_object_foreach(f->tally, class, n)
	{
		WL_TRY(count_class(run->out->passed, class, json_integer_value(n), err));
		if (!f->source->ops->walks_again)
			WL_TRY(wl_lane_tally(f->batch->lane, f->source->origin->name, class,
				json_integer_value(n), err));
	}
	json_object_clear(f->tally);
	return 0;
}

static int acknowledge(struct wl_flow *f, struct wl_err *err)
{
	f->moved = false;
	if (!f->source->ops->ack)
		return 0;
	return f->source->ops->ack(f->source, wl_buf_str(&f->position), err);
}

int wl_batch_commit(struct wl_run *run, struct wl_batch *b, struct wl_err *err)
{
	struct wl_flow *last = NULL;
	for (struct wl_flow *f = b->flows; f; f = f->next_flow) {
		if (!f->moved)
			continue;
		WL_TRY(commit_tally(run, f, err));
		WL_TRY(wl_lane_put_position(
			b->lane, f->source->origin->name, wl_buf_str(&f->position), err));
		last = f;
	}
	if (!last)
		return 0;
	wl_watch_begin(
		run->watch, wl_run_slot(run), "committing", last->source->origin->name, NULL);
	WL_TRY(wl_lane_commit(
		b->lane, last->source->origin->name, wl_buf_str(&last->position), err));
	wl_watch_end(run->watch, wl_run_slot(run));
	for (struct wl_flow *f = b->flows; f; f = f->next_flow)
		if (f->moved)
			WL_TRY(acknowledge(f, err));
	wl_metric_add(
		"wenlan_ingest_records_total", "Records read and committed", (double)b->records);
	wl_metric_set("wenlan_ingest_kept", "New pairs of this run", (double)run->out->kept);
	wl_metric_set("wenlan_ingest_quarantined", "Records quarantined in this run",
		(double)run->out->quarantined);
	wl_metric_set("wenlan_ingest_pending", "New pairs of this run that wait for their picture",
		(double)run->out->pending);
	b->records = b->bytes = 0;
	return 0;
}

static int settle_record(
	struct wl_run *run, struct wl_flow *f, struct wl_record *r, struct wl_err *err)
{
	f->seen++;
	return r->reason ? quarantine(run, f, r, err) : keep(run, f, r, err);
}

/* An item: one record, or what it yields.  All of it is in one batch, before its position. */
static int settle_item(
	struct wl_run *run, struct wl_flow *f, struct wl_record *r, struct wl_err *err)
{
	for (size_t i = 0; i < r->n_tallies; i++)
		WL_TRY(count_class(f->tally, r->tallies[i].class, r->tallies[i].n, err));
	if (!r->many)
		return settle_record(run, f, r, err);
	for (size_t i = 0; i < r->n_yield; i++)
		WL_TRY(settle_record(run, f, r->yield[i], err));
	run->out->yielded += (int64_t)r->n_yield;
	f->batch->records += (int64_t)r->n_yield;
	if (r->reason)
		return quarantine(run, f, r, err);
	run->out->opened++;
	return 0;
}

int wl_settle(struct wl_run *run, struct wl_item *it, struct wl_err *err)
{
	int64_t every = run->in->commit_every ? run->in->commit_every : COMMIT_RECORDS;
	struct wl_flow *f = it->flow;
	struct wl_batch *b = f->batch;
	if (it->ret < 0)
		return wl_err_set(err, it->err.code, "%s, %s: %s", f->source->origin->name,
			it->rec.place, it->err.msg);
	WL_TRY(settle_item(run, f, &it->rec, err));
	WL_TRY(wl_flow_set_position(f, it->rec.position, err));
	b->records++;
	wl_progress_add(run->progress, 1);
	if (b->records >= every || b->bytes >= COMMIT_BYTES)
		return wl_batch_commit(run, b, err);
	return 0;
}

int wl_flow_check_rate(const struct wl_run *run, const struct wl_flow *f, struct wl_err *err)
{
	double rate = run->in->max_error_rate;
	if (f->seen < RATE_AFTER || rate <= 0 || rate >= 1 ||
		(double)f->refused <= rate * (double)f->seen)
		return 0;
	return wl_err_set(err, WL_EDATA,
		"%lld of its first %lld records are no pairs, more than --max-error-rate %g "
		"allows; "
		"the last: %.300s; correct the source or its parameters (what was read is in "
		"quarantine; --retry-quarantine takes it up again)",
		(long long)f->refused, (long long)f->seen, rate, f->last_reason);
}

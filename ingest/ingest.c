/* The ingest run: see ingest.h. */
#include "ingest/ingest.h"

#include "ops/log.h"
#include "ops/metrics.h"
#include "ops/pool.h"
#include "ops/progress.h"
#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>

enum {
	COMMIT_RECORDS = 1000,
	COMMIT_BYTES = 64 << 20,
	JOBS_PER_THREAD = 8, /* enough to keep the pool busy while a commit syncs */
};

/* A record in the pool. */
struct job {
	struct wl_source *source;
	struct wl_record rec;
	struct wl_err err;
	int ret;
};

struct run {
	const struct wl_ingest *in;
	struct wl_ingest_counts *out;
	struct wl_pool *pool;
	struct wl_progress *progress;
	struct job *jobs, **idle; /* idle[n_idle]: not in the pool */
	size_t n_jobs, n_idle;
	struct wl_lane *lane;
	int lane_number; /* of the open lane */
	/* the origin being read */
	struct wl_source *source;
	char *position; /* of the last settled record; "" none since the last commit */
	int64_t batch_records;
	int64_t batch_bytes;
	json_t *batch_tally; /* class -> count since the last commit */
};

static void prepare(void *arg)
{
	struct job *j = arg;
	j->err = (struct wl_err)WL_ERR_INIT;
	j->ret = j->source->ops->prepare(j->source, &j->rec, &j->err);
}

/* ---- settling records in order ---- */

static int count_class(json_t *counts, const char *class, int64_t n, struct wl_err *err)
{
	json_int_t was = json_integer_value(json_object_get(counts, class));
	if (json_object_set_new_nocheck(counts, class, json_integer(was + n)) < 0)
		return wl_err_nomem(err, "a count", 0);
	return 0;
}

static int count_reason(struct run *run, const char *reason, struct wl_err *err)
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

static int quarantine(struct run *run, struct wl_record *r, struct wl_err *err)
{
	const struct wl_buf *b = evidence(r);
	int known = 0;
	/* A file that was fine when it was taken and is broken now: its pair stays. */
	if (run->source->ops->walks_again)
		known = wl_lane_has(run->lane, r->pair.id, err);
	WL_TRY(known);
	if (known) {
		run->out->known++;
		return 0;
	}
	wl_debug("%s, %s: quarantined: %s", run->source->origin->name, r->place, r->reason);
	WL_TRY(wl_lane_quarantine(
		run->lane, run->source->origin->name, r->place, r->reason, b->data, b->len, err));
	run->out->quarantined++;
	return count_reason(run, r->reason, err);
}

/* The picture is only a URL so far. */
static int pend(struct run *run, const struct wl_record *r, struct wl_err *err)
{
	int added = wl_lane_pend(
		run->lane, &r->pair, r->image_url, run->source->origin->name, r->place, err);
	WL_TRY(added);
	*(added ? &run->out->pending : &run->out->known) += 1;
	return 0;
}

static int keep(struct run *run, struct wl_record *r, struct wl_err *err)
{
	if (!r->has_image)
		return pend(run, r, err);
	int added = wl_lane_add(run->lane, &r->pair, r->image.data, r->image.len, err);
	WL_TRY(added);
	if (!added) {
		run->out->known++;
		return 0;
	}
	if (run->source->ops->walks_again)
		WL_TRY(wl_lane_unquarantine(run->lane, run->source->origin->name, r->place, err));
	run->out->kept++;
	run->out->image_bytes += (int64_t)r->image.len;
	run->batch_bytes += (int64_t)r->image.len;
	return 0;
}

static int set_position(struct run *run, const char *position, struct wl_err *err)
{
	char *copy = strdup(position);
	if (!copy)
		return wl_err_nomem(err, "a position", strlen(position));
	free(run->position);
	run->position = copy;
	return 0;
}

/* What was passed over goes into the totals with what was kept.  An origin that is walked again
 * would count it twice: its totals are those of a run. */
static int commit_tally(struct run *run, struct wl_err *err)
{
	const char *class;
	json_t *n;
	json_object_foreach(run->batch_tally, class, n)
	{
		WL_TRY(count_class(run->out->passed, class, json_integer_value(n), err));
		if (!run->source->ops->walks_again)
			WL_TRY(wl_lane_tally(run->lane, run->source->origin->name, class,
				json_integer_value(n), err));
	}
	json_object_clear(run->batch_tally);
	return 0;
}

static int commit(struct run *run, struct wl_err *err)
{
	const struct wl_source *s = run->source;
	if (!run->position)
		return 0;
	WL_TRY(commit_tally(run, err));
	WL_TRY(wl_lane_commit(run->lane, s->origin->name, run->position, err));
	if (s->ops->ack)
		WL_TRY(s->ops->ack(run->source, run->position, err));
	wl_metric_add("wenlan_ingest_records_total", "Records read and committed",
		(double)run->batch_records);
	wl_metric_set("wenlan_ingest_kept", "New pairs of this run", (double)run->out->kept);
	wl_metric_set("wenlan_ingest_quarantined", "Records quarantined in this run",
		(double)run->out->quarantined);
	run->batch_records = run->batch_bytes = 0;
	free(run->position);
	run->position = NULL;
	return 0;
}

static int settle_record(struct run *run, struct wl_record *r, struct wl_err *err)
{
	return r->reason ? quarantine(run, r, err) : keep(run, r, err);
}

/* An item: one record, or what it yields.  All of it is in one batch, before its position. */
static int settle_item(struct run *run, struct wl_record *r, struct wl_err *err)
{
	for (size_t i = 0; i < r->n_tallies; i++)
		WL_TRY(count_class(run->batch_tally, r->tallies[i].class, r->tallies[i].n, err));
	if (!r->many)
		return settle_record(run, r, err);
	for (size_t i = 0; i < r->n_yield; i++)
		WL_TRY(settle_record(run, r->yield[i], err));
	run->out->yielded += (int64_t)r->n_yield;
	run->batch_records += (int64_t)r->n_yield;
	if (r->reason)
		return quarantine(run, r, err);
	run->out->opened++;
	return 0;
}

static int settle(struct run *run, struct job *j, struct wl_err *err)
{
	int64_t every = run->in->commit_every ? run->in->commit_every : COMMIT_RECORDS;
	if (j->ret < 0)
		return wl_err_set(err, j->err.code, "%s, %s: %s", j->source->origin->name,
			j->rec.place, j->err.msg);
	WL_TRY(settle_item(run, &j->rec, err));
	WL_TRY(set_position(run, j->rec.position, err));
	run->batch_records++;
	wl_progress_add(run->progress, 1);
	if (run->batch_records >= every || run->batch_bytes >= COMMIT_BYTES)
		return commit(run, err);
	return 0;
}

/* ---- one origin ---- */

/* Reads one record and hands it to the pool.  1: done; 0: the source has ended. */
static int feed(struct run *run, struct wl_err *err)
{
	struct job *j = run->idle[run->n_idle - 1];
	wl_record_clear(&j->rec);
	j->source = run->source;
	int more = run->source->ops->next(run->source, &j->rec, err);
	if (more <= 0)
		return more;
	run->n_idle--;
	run->out->records++;
	wl_pool_submit(run->pool, prepare, j);
	return 1;
}

static bool may_read(const struct run *run)
{
	return !wl_stop_requested() &&
	       (!run->in->max_records || run->out->records < run->in->max_records);
}

/* Waits for what is in the pool; after an error nothing more is settled. */
static int drain(struct run *run, bool settling, struct wl_err *err)
{
	int ret = 0;
	struct job *j;
	while ((j = wl_pool_take(run->pool)) != NULL) {
		if (settling && ret == 0)
			ret = settle(run, j, err);
		run->idle[run->n_idle++] = j;
	}
	return ret;
}

/* Keeps the pool full until the source ends.  Returns what feed said last (0: the end, 1: told
 * to stop, -1: the source is damaged, see *src_err), or -2: failed, see *err. */
static int pump(struct run *run, struct wl_err *src_err, struct wl_err *err)
{
	int more = 1;
	while (more > 0 && may_read(run)) {
		if (run->n_idle) {
			more = feed(run, src_err);
			continue;
		}
		struct job *j = wl_pool_take(run->pool);
		run->idle[run->n_idle++] = j;
		if (settle(run, j, err) < 0) {
			if (drain(run, false, NULL) < 0)
				WL_BUG("draining cannot fail");
			return -2;
		}
	}
	return drain(run, true, err) < 0 ? -2 : more;
}

static int switch_lane(struct run *run, const struct wl_origin *o, struct wl_err *err)
{
	int number = wl_corpus_lane(run->in->corpus, o->name);
	if (run->lane && run->lane_number == number)
		return 0;
	wl_lane_close(run->lane);
	run->lane = wl_lane_open(run->in->corpus, number, err);
	run->lane_number = number;
	return run->lane ? 0 : -1;
}

/* 0: done or stopped; -1: this origin is damaged (*src_err); -2: the run has failed (*err). */
static int run_origin(
	struct run *run, const struct wl_origin *o, struct wl_err *src_err, struct wl_err *err)
{
	const char *position;
	if (switch_lane(run, o, err) < 0 ||
		wl_lane_position(run->lane, o->name, &position, err) < 0)
		return -2;
	wl_debug("%s: from %s, lane %d", o->name, *position ? position : "its start",
		run->lane_number);
	run->source = o->ops->open(o, position, src_err);
	if (!run->source)
		return -1;
	int more = pump(run, src_err, err);
	int ret = more < 0 ? more : 0;
	/* What came before the damage is good, and stays. */
	if (more == 0 && o->ops->end && set_position(run, o->ops->end(run->source), err) < 0)
		ret = -2;
	if (ret != -2 && commit(run, err) < 0)
		ret = -2;
	if (more == 0 && ret == 0)
		run->out->origins++;
	json_object_clear(run->batch_tally);
	o->ops->close(run->source);
	run->source = NULL;
	free(run->position);
	run->position = NULL;
	return ret;
}

/* ---- the run ---- */

static int run_all(struct run *run, struct wl_err *err)
{
	const struct wl_origins *all = run->in->origins;
	struct wl_err first = WL_ERR_INIT;
	size_t bad = 0;
	for (size_t i = 0; i < all->n && may_read(run); i++) {
		struct wl_err src_err = WL_ERR_INIT;
		int ret = run_origin(run, &all->v[i], &src_err, err);
		if (ret == -2)
			return -1;
		if (ret == 0)
			continue;
		wl_error("%s: %s", all->v[i].name, src_err.msg);
		if (!bad++)
			first = src_err;
	}
	if (!bad)
		return 0;
	return wl_err_set(err, first.code,
		"%zu of %zu sources could not be read to their end; the "
		"first: %s",
		bad, all->n, first.msg);
}

static int run_init(struct run *run, struct wl_err *err)
{
	size_t threads = run->in->workers ? run->in->workers : wl_cores();
	run->n_jobs = threads * JOBS_PER_THREAD;
	run->out->reasons = json_object();
	run->out->passed = json_object();
	run->batch_tally = json_object();
	run->pool = wl_pool_new(threads, run->n_jobs, err);
	if (!run->pool)
		return -1;
	run->jobs = calloc(run->n_jobs, sizeof *run->jobs);
	run->idle = calloc(run->n_jobs, sizeof *run->idle);
	if (!run->jobs || !run->idle || !run->out->reasons || !run->out->passed ||
		!run->batch_tally)
		return wl_err_nomem(err, "records in flight", run->n_jobs * sizeof *run->jobs);
	for (; run->n_idle < run->n_jobs; run->n_idle++) {
		wl_record_init(&run->jobs[run->n_idle].rec);
		run->idle[run->n_idle] = &run->jobs[run->n_idle];
	}
	run->progress = wl_progress_new("ingest", "records", 0);
	return 0;
}

static void run_release(struct run *run)
{
	wl_pool_free(run->pool);
	wl_progress_free(run->progress);
	wl_lane_close(run->lane);
	for (size_t i = 0; run->jobs && run->idle && i < run->n_jobs; i++)
		wl_record_release(&run->jobs[i].rec);
	free(run->jobs);
	free(run->idle);
	json_decref(run->batch_tally);
	free(run->position);
}

int wl_ingest_run(const struct wl_ingest *in, struct wl_ingest_counts *out, struct wl_err *err)
{
	struct run run = {.in = in, .out = out};
	*out = (struct wl_ingest_counts){0};
	int ret = run_init(&run, err);
	if (ret == 0)
		ret = run_all(&run, err);
	run_release(&run);
	return ret;
}

void wl_ingest_counts_release(struct wl_ingest_counts *c)
{
	if (!c)
		return;
	json_decref(c->reasons);
	json_decref(c->passed);
	*c = (struct wl_ingest_counts){0};
}

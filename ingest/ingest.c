/* The ingest run over files: see ingest.h.  settle.c takes records over, ingest_kafka.c is the
 * same for topics, where many origins come in at once. */
#include "ingest/ingest_priv.h"

#include "ops/clock.h"
#include "ops/hash.h"
#include "ops/log.h"
#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

enum {
	JOBS_PER_THREAD = 4, /* enough to keep the pool busy while a commit syncs */
	JOB_NS = 2500000,
	STALL_S = 60,
	HASHED_AT_ONCE = 16, /* by wl_sha256_many */
};

size_t wl_run_slot(const struct wl_run *run)
{
	return run->n_jobs;
}

/* Pictures that will be kept are hashed here, side by side, so that the one thread which writes
 * need not. */
struct hashing {
	struct wl_record *rec[WL_JOB_ITEMS];
	const void *bytes[WL_JOB_ITEMS];
	size_t len[WL_JOB_ITEMS], n;
};

static void hash_gathered(struct hashing *h)
{
	uint8_t digest[WL_JOB_ITEMS][WL_SHA256_BYTES];
	wl_sha256_many(h->bytes, h->len, h->n, digest);
	for (size_t i = 0; i < h->n; i++) {
		memcpy(h->rec[i]->pair.image_sha256, digest[i], WL_SHA256_BYTES);
		h->rec[i]->hashed = true;
	}
	h->n = 0;
}

static void gather(struct hashing *h, struct wl_record *r)
{
	for (size_t i = 0; r->many && i < r->n_yield; i++)
		gather(h, r->yield[i]);
	if (r->many || r->reason || !r->has_image)
		return;
	h->rec[h->n] = r;
	h->bytes[h->n] = r->image.data;
	h->len[h->n++] = r->image.len;
	if (h->n == WL_JOB_ITEMS)
		hash_gathered(h);
}

static void hash_pictures(struct wl_job *j)
{
	struct hashing h;
	h.n = 0;
	for (size_t i = 0; i < j->n; i++)
		if (j->item[i].ret == 0)
			gather(&h, &j->item[i].rec);
	hash_gathered(&h);
}

static void prepare(void *arg)
{
	struct wl_job *j = arg;
	int64_t begun = wl_now_ns();
	for (size_t i = 0; i < j->n; i++) {
		struct wl_item *it = &j->item[i];
		struct wl_source *s = it->flow->source;
		wl_watch_begin(j->run->watch, j->slot, "preparing", s->origin->name, it->rec.place);
		it->ret = s->ops->prepare(s, &it->rec, &it->err);
	}
	hash_pictures(j);
	wl_watch_end(j->run->watch, j->slot);
	j->took_ns = wl_now_ns() - begun;
}

bool wl_run_may_read(const struct wl_run *run)
{
	return !wl_stop_requested() &&
	       (!run->in->max_records || run->out->records < run->in->max_records);
}

struct wl_record *wl_run_next(struct wl_run *run, struct wl_flow *f)
{
	if (!run->n_idle)
		return NULL;
	struct wl_job *j = run->idle[run->n_idle - 1];
	struct wl_item *it = &j->item[j->n];
	wl_record_clear(&it->rec);
	it->rec.check = run->in->check;
	it->err = (struct wl_err)WL_ERR_INIT;
	it->flow = f;
	return &it->rec;
}

void wl_run_accept(struct wl_run *run)
{
	struct wl_job *j = run->idle[run->n_idle - 1];
	const struct wl_record *r = &j->item[j->n++].rec;
	j->bytes += r->json.len + r->text.len + r->image.len + (size_t)r->image_size;
	run->out->records++;
	if (j->n >= run->job_items || j->bytes >= WL_JOB_BYTES)
		wl_run_flush(run);
}

void wl_run_flush(struct wl_run *run)
{
	struct wl_job *j = run->n_idle ? run->idle[run->n_idle - 1] : NULL;
	if (!j || !j->n)
		return;
	run->n_idle--;
	wl_pool_submit(run->pool, prepare, j);
}

bool wl_run_is_busy(const struct wl_run *run)
{
	return run->n_idle < run->n_jobs || run->idle[run->n_idle - 1]->n;
}

/* A job should take about JOB_NS: large pictures go one by one, short messages by the dozen; of
 * what lies between, as many as are hashed at once. */
static void adapt(struct wl_run *run, const struct wl_job *j)
{
	int64_t each = j->took_ns / (int64_t)j->n + 1, want = JOB_NS / each;
	if (want >= HASHED_AT_ONCE && want < WL_JOB_ITEMS)
		want = HASHED_AT_ONCE;
	run->job_items = want < 1 ? 1 : want > WL_JOB_ITEMS ? WL_JOB_ITEMS : (size_t)want;
}

/* Gives the job back, settled or not. */
static int settle_job(struct wl_run *run, struct wl_job *j, bool settling, struct wl_err *err)
{
	int ret = 0;
	adapt(run, j);
	for (size_t i = 0; i < j->n && ret == 0 && settling; i++)
		ret = wl_settle(run, &j->item[i], err);
	j->n = j->bytes = 0;
	/* Below the job that is being filled, which stays the last. */
	if (run->n_idle) {
		run->idle[run->n_idle] = run->idle[run->n_idle - 1];
		run->idle[run->n_idle - 1] = j;
	} else {
		run->idle[0] = j;
	}
	run->n_idle++;
	return ret;
}

int wl_run_settle_one(struct wl_run *run, struct wl_err *err)
{
	struct wl_job *j = wl_pool_take(run->pool);
	if (!j)
		return 0;
	return settle_job(run, j, true, err) < 0 ? -1 : 1;
}

int wl_run_drain(struct wl_run *run, bool settling, struct wl_err *err)
{
	int ret = 0;
	struct wl_job *j;
	wl_run_flush(run);
	while ((j = wl_pool_take(run->pool)) != NULL)
		if (settle_job(run, j, settling && ret == 0, err) < 0)
			ret = -1;
	return ret;
}

/* ---- one file ---- */

/* Reads one record.  1: done; 0: the source has ended. */
static int feed(struct wl_run *run, struct wl_flow *f, struct wl_err *err)
{
	struct wl_record *r = wl_run_next(run, f);
	wl_watch_begin(run->watch, wl_run_slot(run), "reading", f->source->origin->name, NULL);
	int more = f->source->ops->next(f->source, r, err);
	wl_watch_end(run->watch, wl_run_slot(run));
	if (more > 0)
		wl_run_accept(run);
	return more;
}

/* Keeps the pool full until the source ends.  Returns what feed said last (0: the end, 1: told
 * to stop, -1: the source is damaged or wrong, see *src_err), or -2: failed, see *err. */
static int pump(struct wl_run *run, struct wl_flow *f, struct wl_err *src_err, struct wl_err *err)
{
	int more = 1;
	while (more > 0 && wl_run_may_read(run)) {
		if (run->n_idle) {
			more = feed(run, f, src_err);
			continue;
		}
		if (wl_run_settle_one(run, err) < 0) {
			if (wl_run_drain(run, false, NULL) < 0)
				WL_BUG("draining cannot fail");
			return -2;
		}
		if (wl_flow_check_rate(run, f, src_err) < 0)
			more = -1;
	}
	if (wl_run_drain(run, true, err) < 0)
		return -2;
	return more >= 0 && wl_flow_check_rate(run, f, src_err) < 0 ? -1 : more;
}

static int read_file(struct wl_run *run, const struct wl_origin *o, struct wl_flow *f,
	struct wl_err *src_err, struct wl_err *err)
{
	int more = pump(run, f, src_err, err);
	int ret = more < 0 ? more : 0;
	/* What came before the damage is good, and stays. */
	if (more == 0 && o->ops->end && wl_flow_set_position(f, o->ops->end(f->source), err) < 0)
		ret = -2;
	if (ret != -2 && wl_batch_commit(run, f->batch, err) < 0)
		ret = -2;
	if (more == 0 && ret == 0)
		run->out->origins++;
	return ret;
}

/* 0: done or stopped; -1: this origin is damaged (*src_err); -2: the run has failed (*err). */
static int run_file(struct wl_run *run, const struct wl_origin *o, struct wl_batch *b,
	struct wl_err *src_err, struct wl_err *err)
{
	const char *position;
	struct wl_flow f = {0};
	int ret = -2;
	if (wl_lane_position(b->lane, o->name, &position, err) < 0)
		return -2;
	wl_debug("%s: from %s", o->name, *position ? position : "its start");
	wl_watch_begin(run->watch, wl_run_slot(run), "opening", o->name, NULL);
	struct wl_source *s = o->ops->open(o, position, src_err);
	wl_watch_end(run->watch, wl_run_slot(run));
	if (!s)
		return -1;
	if (wl_flow_init(&f, s, b, err) == 0 &&
		wl_lane_position(b->lane, o->name, &position, err) == 0 &&
		wl_retry_quarantine(run, &f, position, err) == 0)
		ret = read_file(run, o, &f, src_err, err);
	wl_flow_release(&f);
	o->ops->close(s);
	return ret;
}

/* Files of one lane follow each other, so it is opened once for them. */
struct lane_now {
	struct wl_batch batch;
	int number;
};

static int run_origin(struct wl_run *run, const struct wl_origin *o, struct lane_now *now,
	struct wl_err *src_err, struct wl_err *err)
{
	int number = wl_corpus_lane(run->in->corpus, o->name);
	if (!o->ops->open) {
		/* A topic takes the lanes of its partitions itself. */
		wl_lane_close(now->batch.lane);
		now->batch.lane = NULL;
		return wl_ingest_kafka(run, o, src_err, err);
	}
	if (!now->batch.lane || now->number != number) {
		wl_lane_close(now->batch.lane);
		now->batch.lane = wl_lane_open(run->in->corpus, number, err);
		now->number = number;
	}
	return now->batch.lane ? run_file(run, o, &now->batch, src_err, err) : -2;
}

/* ---- the run ---- */

static int run_all(struct wl_run *run, struct lane_now *now, struct wl_err *err)
{
	const struct wl_origins *all = run->in->origins;
	struct wl_err first = WL_ERR_INIT;
	size_t bad = 0;
	for (size_t i = 0; i < all->n && wl_run_may_read(run); i++) {
		struct wl_err src_err = WL_ERR_INIT;
		int ret = run_origin(run, &all->v[i], now, &src_err, err);
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
		"%zu of %zu sources could not be read to their end; the first: %s", bad, all->n,
		first.msg);
}

static int run_init(struct wl_run *run, struct wl_err *err)
{
	size_t threads = run->in->workers ? run->in->workers : wl_cores();
	int64_t stall = run->in->stall_s ? run->in->stall_s : STALL_S;
	run->n_jobs = threads * JOBS_PER_THREAD + 1; /* one is being filled */
	run->job_items = 1;
	run->out->reasons = json_object();
	run->out->passed = json_object();
	run->pool = wl_pool_new(threads, run->n_jobs, err);
	run->watch = wl_watch_new(run->n_jobs + 1, stall < 0 ? 0 : stall, err);
	if (!run->pool || !run->watch)
		return -1;
	run->jobs = calloc(run->n_jobs, sizeof *run->jobs);
	run->idle = calloc(run->n_jobs, sizeof *run->idle);
	if (!run->jobs || !run->idle || !run->out->reasons || !run->out->passed)
		return wl_err_nomem(err, "records in flight", run->n_jobs * sizeof *run->jobs);
	for (; run->n_idle < run->n_jobs; run->n_idle++) {
		struct wl_job *j = &run->jobs[run->n_idle];
		for (size_t i = 0; i < WL_JOB_ITEMS; i++)
			wl_record_init(&j->item[i].rec);
		j->run = run;
		j->slot = run->n_idle;
		run->idle[run->n_idle] = j;
	}
	run->progress = wl_progress_new("ingest", "records", 0);
	return 0;
}

static void run_release(struct wl_run *run)
{
	wl_pool_free(run->pool);
	wl_watch_free(run->watch);
	wl_progress_free(run->progress);
	for (size_t i = 0; run->jobs && run->idle && i < run->n_jobs; i++)
		for (size_t k = 0; k < WL_JOB_ITEMS; k++)
			wl_record_release(&run->jobs[i].item[k].rec);
	free(run->jobs);
	free(run->idle);
}

/* A full disk says so in many words (pwrite, SQLite's log, its table); people need one. */
static void explain(const struct wl_corpus *c, struct wl_err *err)
{
	enum { FULL_BYTES = 1 << 20 };
	struct statvfs v;
	if (!err || err->code != WL_EFAIL || statvfs(wl_corpus_dir(c), &v) ||
		(uint64_t)v.f_bavail * v.f_frsize >= FULL_BYTES)
		return;
	struct wl_err was = *err;
	wl_err_set(err, WL_EFAIL,
		"the disk of %s is full: free some space and run the same command again, it goes "
		"on "
		"where it was (%.600s)",
		wl_corpus_dir(c), was.msg);
}

int wl_ingest_run(const struct wl_ingest *in, struct wl_ingest_counts *out, struct wl_err *err)
{
	struct wl_run run = {.in = in, .out = out};
	struct lane_now now = {0};
	*out = (struct wl_ingest_counts){0};
	int ret = run_init(&run, err);
	if (ret == 0)
		ret = run_all(&run, &now, err);
	run_release(&run);
	wl_lane_close(now.batch.lane);
	if (ret < 0)
		explain(in->corpus, err);
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

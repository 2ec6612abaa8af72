/*
 * The ingest run over a topic: many origins at once, one a partition, each in its lane.
 *
 * What makes it exact is not the consumer group but the lane's lock and the catalog: messages of
 * a partition are taken only while its lane is open, from the position that the catalog had when
 * the lane was opened.  The group merely spreads partitions.  When it gives a partition to us
 * whose lane another process still holds (it is committing, or has not noticed yet), we wait for
 * the lock; when it takes one away, we commit what we have before we let go.
 *
 * Partition p of a topic belongs to lane (h + p) mod P: with as many lanes as partitions no two
 * share one.  With fewer, processes take turns: who waits for a lane says so (wl_lane_want), who
 * holds it gives it up after its turn.
 */
#include "ingest/ingest_kafka_priv.h"

#include "ops/log.h"
#include "ops/metrics.h"
#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	IDLE_POLL_MS = 50,
	COMMIT_AFTER_MS = 1000, /* what is settled does not wait longer than this */
	TURN_MS = 500,          /* a lane that others want is held so long */
	BREAK_MS = 100,         /* and then left to them */
	REPORT_EVERY_MS = 1000,
	FETCH_EVERY_MS = 200,
	FETCH_REST_MS = 1000,
};

/* ---- duties by the clock ---- */

/* Until the end only: nothing more is wanted of this lane. */
static bool slot_is_done(const struct topic *t, const struct slot *s)
{
	for (int32_t i = 0; i < t->n_parts; i++) {
		const struct part *p = t->part[i];
		if (p && p->ours && p->slot == s && !p->ended)
			return false;
	}
	return t->run->in->until_end;
}

static int duty_slot(struct topic *t, struct slot *s, int64_t now, struct wl_err *err)
{
	if (!s->users)
		return 0;
	if (!s->batch.lane)
		return now < s->retry_ms || slot_is_done(t, s) ? 0
							       : wl_topic_resume_lane(t, s, err);
	if (s->batch.records && !s->began_ms)
		s->began_ms = now;
	if (s->batch.records && now - s->began_ms >= COMMIT_AFTER_MS) {
		if (wl_batch_commit(t->run, &s->batch, err) < 0)
			return failed(t);
		s->began_ms = 0;
	}
	if (now - s->opened_ms < TURN_MS)
		return 0;
	s->opened_ms = now;
	if (!wl_lane_is_wanted(s->batch.lane))
		return 0;
	for (int32_t i = 0; i < t->n_parts; i++)
		if (t->part[i] && t->part[i]->open && t->part[i]->slot == s)
			wl_kafka_pause(t->k, i);
	WL_TRY(wl_topic_settle(t, err));
	s->retry_ms = wl_now_ms() + BREAK_MS;
	return wl_topic_close_lane(t, s, err);
}

/* A turn for the fetcher, now and then while messages come, else at every step.  It goes round the
 * lanes, and comes back to one that has nothing to do after a rest. */
static int fetch_a_little(struct topic *t, bool idle, struct wl_err *err)
{
	int64_t now = wl_now_ms();
	if (!t->aside || (!idle && now < t->aside_ms))
		return 0;
	struct slot *s = &t->slot[t->aside_slot];
	t->aside_ms = now + FETCH_EVERY_MS;
	if (s->batch.lane && now >= s->fetch_ms) {
		int more = wl_aside_step(t->aside, &s->batch, idle ? WL_DUTY_EVERY_MS : 0, err);
		if (more < 0)
			return failed(t);
		if (more)
			return 1;
		s->fetch_ms = wl_now_ms() + FETCH_REST_MS;
	}
	t->aside_slot = (t->aside_slot + 1) % t->n_slots;
	return 0;
}

static int64_t lag(const struct topic *t)
{
	int64_t sum = 0;
	for (int32_t i = 0; i < t->n_parts; i++) {
		const struct part *p = t->part[i];
		int64_t end = p && p->ours ? wl_kafka_known_end(t->k, i) : -1;
		if (end >= 0 && p->next >= 0 && end > p->next)
			sum += end - p->next;
	}
	return sum;
}

static void say_how_far(struct topic *t)
{
	char note[64];
	int64_t behind = lag(t);
	size_t ours = 0, open = 0;
	for (int32_t i = 0; i < t->n_parts; i++) {
		ours += t->part[i] && t->part[i]->ours;
		open += t->part[i] && t->part[i]->open;
	}
	snprintf(note, sizeof note, "lag %lld, %zu partitions", (long long)behind, ours);
	wl_progress_note(t->run->progress, note);
	wl_metric_set("wenlan_kafka_lag", "Messages of our partitions not yet read",
		(double)behind);
	wl_metric_set("wenlan_kafka_partitions", "Partitions assigned to this process",
		(double)ours);
	wl_metric_set("wenlan_kafka_partitions_open", "Of them with their lane open",
		(double)open);
}

static int duties(struct topic *t, struct wl_err *err)
{
	int64_t now = wl_now_ms();
	if (now < t->duty_ms)
		return 0;
	t->duty_ms = now + WL_DUTY_EVERY_MS;
	for (int i = 0; i < t->n_slots; i++)
		WL_TRY(duty_slot(t, &t->slot[i], now, err));
	for (int32_t i = 0; i < t->n_parts; i++) {
		struct part *p = t->part[i];
		if (!p || !p->ours || !p->open || p->started)
			continue;
		int done = wl_kafka_start(t->k, i, p->next, err);
		WL_TRY(done);
		p->started = done > 0;
	}
	if (now >= t->report_ms) {
		t->report_ms = now + REPORT_EVERY_MS;
		say_how_far(t);
	}
	return 0;
}

/* ---- messages ---- */

/* As "%lld" does, for what is not negative; out has room for 20 characters. */
static void put_number(char *out, int64_t v)
{
	char digits[20];
	size_t n = 0;
	do
		digits[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		*out++ = digits[--n];
	*out = '\0';
}

static int submit(
	struct topic *t, struct part *p, const struct wl_kafka_event *ev, struct wl_err *err)
{
	struct wl_record *r = wl_run_next(t->run, &p->flow);
	char text[40];
	struct wl_buf swap = r->json;
	r->json = t->value;
	t->value = swap;
	r->has_json = true;
	r->ordinal = ev->offset;
	memcpy(text, "offset ", 7);
	put_number(text + 7, ev->offset);
	r->place = wl_arena_strdup(&r->mem, text, err);
	put_number(text, ev->offset + 1);
	r->position = wl_arena_strdup(&r->mem, text, err);
	if (!r->place || !r->position)
		return failed(t);
	if (ev->too_large &&
		wl_record_reject(r, err, "the message is longer than %zu bytes", r->json.max) < 0)
		return failed(t);
	p->next = ev->offset + 1;
	p->ended = false;
	wl_run_accept(t->run);
	return 0;
}

static int on_gap(struct topic *t, struct part *p, const struct wl_kafka_event *ev,
	struct wl_err *err)
{
	WL_TRY(wl_topic_settle(t, err));
	if (wl_batch_commit(t->run, &p->slot->batch, err) < 0)
		return failed(t);
	WL_TRY(wl_topic_check_range(t, p, ev->first, ev->end, err));
	p->started = false; /* duties() starts it again at p->next */
	return 0;
}

static int handle(struct topic *t, const struct wl_kafka_event *ev, struct wl_err *err)
{
	if (ev->kind == WL_KAFKA_NONE)
		return 0;
	struct part *p = ev->partition < t->n_parts ? t->part[ev->partition] : NULL;
	/* Left over from before a pause or a rebalance. */
	if (!p || !p->open)
		return 0;
	if (ev->kind == WL_KAFKA_GAP)
		return on_gap(t, p, ev, err);
	if (ev->kind == WL_KAFKA_END) {
		p->ended = p->next >= ev->offset;
		return 0;
	}
	return ev->offset >= p->next ? submit(t, p, ev, err) : 0;
}

static bool at_the_end(const struct topic *t)
{
	if (!t->run->in->until_end || !t->ever_assigned)
		return false;
	for (int32_t i = 0; i < t->n_parts; i++)
		if (t->part[i] && t->part[i]->ours && !t->part[i]->ended)
			return false;
	return true;
}

/* Nothing came: is there something that should? */
static void watch_idle(struct topic *t)
{
	struct wl_watch *w = t->run->watch;
	if (lag(t) > 0 && !wl_kafka_is_down(t->k))
		return; /* the detector may speak: main thread is "waiting for messages of" it */
	wl_watch_alive(w);
}

/* One step: takes a message in, or hands a prepared one over. */
static int step(struct topic *t, struct wl_err *err)
{
	struct wl_run *run = t->run;
	struct wl_kafka_event ev;
	bool flying = wl_run_is_busy(run);
	WL_TRY(duties(t, err));
	int fetching = fetch_a_little(t, !flying && t->quiet, err);
	WL_TRY(fetching);
	if (run->n_idle) {
		if (!flying)
			wl_watch_begin(run->watch, wl_run_slot(run), "waiting for messages of",
				t->o->name, NULL);
		WL_TRY(wl_kafka_poll(
			t->k, flying || fetching ? 0 : IDLE_POLL_MS, &ev, &t->value, err));
		t->quiet = ev.kind == WL_KAFKA_NONE;
		if (ev.kind != WL_KAFKA_NONE) {
			wl_watch_end(run->watch, wl_run_slot(run));
			return handle(t, &ev, err);
		}
		if (!flying)
			watch_idle(t);
		wl_run_flush(run);
	}
	int got = wl_run_settle_one(run, err);
	if (got < 0)
		return failed(t);
	return 0;
}

static int check_rates(struct topic *t, struct wl_err *err)
{
	for (int32_t i = 0; i < t->n_parts; i++) {
		const struct part *p = t->part[i];
		if (p && p->open && wl_flow_check_rate(t->run, &p->flow, err) < 0)
			return wl_err_prefix(err, "%s", p->origin.name);
	}
	return 0;
}

static int read_topic(struct topic *t, struct wl_err *err)
{
	int64_t checked = 0;
	while (wl_run_may_read(t->run)) {
		WL_TRY(step(t, err));
		if (t->run->out->records >= checked + 100) {
			checked = t->run->out->records;
			WL_TRY(check_rates(t, err));
		}
		if (!wl_run_is_busy(t->run) && at_the_end(t)) {
			t->run->out->origins++;
			break;
		}
	}
	WL_TRY(wl_topic_settle(t, err));
	return check_rates(t, err);
}

/* What was settled is committed even when the topic has failed. */
static int finish(struct topic *t, bool failing, struct wl_err *err)
{
	int ret = 0;
	if (wl_run_drain(t->run, !t->run_failed, failing ? NULL : err) < 0)
		ret = -1;
	for (int i = 0; i < t->n_slots; i++) {
		struct slot *s = &t->slot[i];
		if (s->batch.lane && !t->run_failed && ret == 0)
			ret = wl_topic_close_lane(t, s, failing ? NULL : err);
		wl_topic_stop_wanting(s);
	}
	return ret;
}

static void topic_release(struct topic *t)
{
	wl_kafka_close(t->k);
	wl_aside_free(t->aside);
	for (int32_t i = 0; i < t->n_parts; i++) {
		if (!t->part[i])
			continue;
		wl_topic_close_part(t->part[i]);
		free(t->part[i]->origin.name);
		free(t->part[i]);
	}
	for (int i = 0; t->slot && i < t->n_slots; i++)
		wl_lane_close(t->slot[i].batch.lane);
	free(t->part);
	free(t->slot);
	wl_buf_release(&t->value);
	wl_profile_free(t->profile);
	wl_kafka_url_release(&t->url);
}

static int topic_init(struct topic *t, struct wl_err *err)
{
	wl_buf_init(&t->value, WL_RECORD_MAX_TEXT);
	WL_TRY(wl_kafka_url_parse(&t->url, t->o->path, err));
	t->profile = wl_profile_load(t->url.profile, err);
	if (!t->profile)
		return -1;
	t->n_slots = wl_corpus_partitions(t->run->in->corpus);
	t->slot = calloc((size_t)t->n_slots, sizeof *t->slot);
	if (!t->slot)
		return wl_err_nomem(err, "lanes", (size_t)t->n_slots * sizeof *t->slot);
	for (int i = 0; i < t->n_slots; i++)
		t->slot[i].want_fd = -1;
	if (t->run->in->fetch && !t->run->in->until_end) {
		t->aside = wl_aside_new(t->run, err);
		return t->aside ? 0 : -1;
	}
	return 0;
}

int wl_ingest_kafka(struct wl_run *run, const struct wl_origin *o, struct wl_err *src_err,
	struct wl_err *err)
{
	struct topic t = {.run = run, .o = o};
	struct wl_kafka_events events = {
		.user = &t, .assigned = wl_topic_assigned, .revoked = wl_topic_revoked};
	struct wl_err why = WL_ERR_INIT;
	int ret = -1;
	if (topic_init(&t, &why) == 0) {
		t.k = wl_kafka_open(&t.url, &run->in->kafka, &why);
		if (t.k && wl_kafka_begin(t.k, &t.url, &events, &why) == 0)
			ret = read_topic(&t, &why);
	}
	if (finish(&t, ret < 0, &why) < 0)
		ret = -1;
	topic_release(&t);
	if (ret == 0)
		return 0;
	*(t.run_failed ? err : src_err) = why;
	return t.run_failed ? -2 : -1;
}

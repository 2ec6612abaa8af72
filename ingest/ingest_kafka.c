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
#include "ingest/ingest_priv.h"

#include "ops/file.h"
#include "ops/log.h"
#include "ops/metrics.h"
#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	IDLE_POLL_MS = 50,
	DUTY_EVERY_MS = 20,
	COMMIT_AFTER_MS = 1000, /* what is settled does not wait longer than this */
	TURN_MS = 500,          /* a lane that others want is held so long */
	BREAK_MS = 100,         /* and then left to them */
	REPORT_EVERY_MS = 1000,
	FETCH_EVERY_MS = 200,
	FETCH_REST_MS = 1000,
};

/* A lane as this process uses it. */
struct slot {
	struct wl_batch batch;
	int want_fd; /* -1: not waiting */
	int64_t opened_ms, retry_ms, began_ms; /* began: the open batch's first record */
	size_t users;                          /* partitions of ours that belong here */
	int64_t fetch_ms; /* before then nothing is fetched in it */
};

struct part {
	struct wl_kafka_source src; /* first: flows and jobs know it as a source */
	struct wl_origin origin;
	struct topic *topic;
	struct slot *slot;
	struct wl_flow flow;
	int32_t number;
	bool ours, open, started, ended, retried;
	int64_t next; /* the offset after the last message submitted */
};

struct topic {
	struct wl_run *run;
	const struct wl_origin *o;
	struct wl_kafka_url url;
	struct wl_profile *profile;
	struct wl_kafka *k;
	struct part **part; /* [n_parts]; NULL: never ours */
	int32_t n_parts;
	struct slot *slot; /* [lanes of the corpus] */
	int n_slots;
	struct wl_buf value;
	bool run_failed;  /* not the source's fault */
	bool ever_assigned;
	bool quiet; /* the last look found no message */
	int64_t duty_ms, report_ms;
	struct wl_aside *aside; /* NULL: nothing is fetched meanwhile */
	int aside_slot;         /* whose turn it is */
	int64_t aside_ms;
};

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t offset_of(const char *position)
{
	return strtoll(position, NULL, 10);
}

/* Failures from here on are the corpus's, not the topic's. */
static int failed(struct topic *t)
{
	t->run_failed = true;
	return -1;
}

static int kafka_ack(struct wl_source *s, const char *position, struct wl_err *err)
{
	const struct part *p = (const struct part *)s;
	(void)err;
	wl_kafka_ack(p->topic->k, p->number, offset_of(position));
	return 0;
}

/* ---- partitions ---- */

static struct part *part_at(struct topic *t, int32_t number, struct wl_err *err)
{
	static const struct wl_source_ops ops = {
		.kind = "kafka",
		.prepare = wl_kafka_prepare,
		.ack = kafka_ack,
		.recall = wl_kafka_recall};
	if (number >= t->n_parts) {
		size_t n = (size_t)number + 1;
		struct part **grown = realloc(t->part, n * sizeof *grown);
		if (!grown) {
			wl_err_nomem(err, "partitions", n * sizeof *grown);
			return NULL;
		}
		memset(grown + t->n_parts, 0, (n - (size_t)t->n_parts) * sizeof *grown);
		t->part = grown;
		t->n_parts = number + 1;
	}
	if (t->part[number])
		return t->part[number];
	struct part *p = calloc(1, sizeof *p);
	if (!p) {
		wl_err_nomem(err, "a partition", sizeof *p);
		return NULL;
	}
	p->origin = *t->o;
	p->origin.name = wl_strf(err, "kafka:%s/%d", t->url.topic, number);
	if (!p->origin.name) {
		free(p);
		return NULL;
	}
	p->src = (struct wl_kafka_source){
		.base = {.ops = &ops, .origin = &p->origin}, .profile = t->profile};
	p->topic = t;
	p->number = number;
	p->slot = &t->slot[(wl_corpus_lane(t->run->in->corpus, t->o->name) + number) % t->n_slots];
	t->part[number] = p;
	return p;
}

/* The first position of a partition that the catalog does not know.  The end is committed at
 * once: after a kill, "latest" must not skip what came meanwhile. */
static int first_position(struct topic *t, struct part *p, int64_t first, int64_t end,
	struct wl_err *err)
{
	char text[32];
	p->next = t->url.latest ? end : first;
	if (!t->url.latest)
		return 0;
	snprintf(text, sizeof text, "%lld", (long long)p->next);
	if (wl_lane_commit(p->slot->batch.lane, p->origin.name, text, err) < 0)
		return failed(t);
	return 0;
}

/* The catalog's position against what the broker has. */
static int check_range(
	struct topic *t, struct part *p, int64_t first, int64_t end, struct wl_err *err)
{
	if (p->next > end)
		return wl_err_set(err, WL_EDATA,
			"%s: the catalog has read up to offset %lld, the broker's last is %lld: "
			"this is not the topic that was read before (it was made anew, or lost "
			"messages); give a new topic a new name, or a new corpus",
			p->origin.name, (long long)p->next, (long long)end);
	if (p->next >= first)
		return 0;
	if (!t->url.skip_gaps)
		return wl_err_set(err, WL_EDATA,
			"%s: offsets %lld to %lld are gone from the broker before they were read "
			"(retention); add gap=skip to the URL to go on at %lld without them",
			p->origin.name, (long long)p->next, (long long)first - 1,
			(long long)first);
	wl_warn("%s: %lld messages are gone from the broker before they were read; going on at "
		"offset %lld",
		p->origin.name, (long long)(first - p->next), (long long)first);
	if (wl_lane_tally(p->slot->batch.lane, p->origin.name, "messages lost to retention",
		    first - p->next, err) < 0)
		return failed(t);
	char text[32];
	snprintf(text, sizeof text, "%lld", (long long)first);
	if (wl_lane_commit(p->slot->batch.lane, p->origin.name, text, err) < 0)
		return failed(t);
	p->next = first;
	return 0;
}

/* Once a run and partition. */
static int retry(struct topic *t, struct part *p, struct wl_err *err)
{
	const char *position;
	if (p->retried)
		return 0;
	p->retried = true;
	if (wl_lane_position(p->slot->batch.lane, p->origin.name, &position, err) < 0 ||
		wl_retry_quarantine(t->run, &p->flow, position, err) < 0)
		return failed(t);
	return 0;
}

/* The lane is open: where to go on is in the catalog. */
static int open_part(struct topic *t, struct part *p, struct wl_err *err)
{
	const char *position;
	int64_t first, end;
	bool checked = p->next >= 0; /* in an earlier turn */
	if (wl_lane_position(p->slot->batch.lane, p->origin.name, &position, err) < 0)
		return failed(t);
	if (*position)
		p->next = offset_of(position);
	if (!*position || !checked) {
		bool fresh = !*position;
		WL_TRY(wl_kafka_range(t->k, p->number, &first, &end, err));
		if (fresh)
			WL_TRY(first_position(t, p, first, end, err));
		WL_TRY(check_range(t, p, first, end, err));
	}
	if (wl_flow_init(&p->flow, &p->src.base, &p->slot->batch, err) < 0)
		return failed(t);
	p->open = true;
	wl_debug("%s: from offset %lld", p->origin.name, (long long)p->next);
	return retry(t, p, err);
}

static void close_part(struct part *p)
{
	if (!p->open)
		return;
	wl_flow_release(&p->flow);
	p->open = p->started = false;
}

/* ---- lanes ---- */

static int lane_number(const struct topic *t, const struct slot *s)
{
	return (int)(s - t->slot);
}

static void stop_wanting(struct slot *s)
{
	if (s->want_fd >= 0)
		close(s->want_fd);
	s->want_fd = -1;
}

/* 1: the lane is open and so are our partitions in it; 0: somebody else has it. */
static int open_slot(struct topic *t, struct slot *s, struct wl_err *err)
{
	if (s->batch.lane)
		return 1;
	int got = wl_lane_try_open(t->run->in->corpus, lane_number(t, s), &s->batch.lane, err);
	if (got < 0)
		return failed(t);
	if (!got) {
		if (s->want_fd < 0)
			s->want_fd = wl_lane_want(t->run->in->corpus, lane_number(t, s), NULL);
		s->retry_ms = now_ms() + DUTY_EVERY_MS;
		return 0;
	}
	stop_wanting(s);
	s->opened_ms = now_ms();
	return 1;
}

/* The pool must hold none of its records. */
static int close_slot(struct topic *t, struct slot *s, struct wl_err *err)
{
	int ret = wl_batch_commit(t->run, &s->batch, err);
	if (ret == 0)
		ret = wl_aside_leave(t->aside, &s->batch, err);
	for (int32_t i = 0; i < t->n_parts; i++)
		if (t->part[i] && t->part[i]->slot == s)
			close_part(t->part[i]);
	wl_lane_close(s->batch.lane);
	s->batch = (struct wl_batch){0};
	s->began_ms = 0;
	stop_wanting(s);
	return ret < 0 ? failed(t) : 0;
}

/* Everybody's records are settled before a lane closes, since the pool keeps one order. */
static int settle_all(struct topic *t, struct wl_err *err)
{
	return wl_run_drain(t->run, true, err) < 0 ? failed(t) : 0;
}

/* A lane that is ours again after a turn, or for the first time after waiting. */
static int resume_slot(struct topic *t, struct slot *s, struct wl_err *err)
{
	int got = open_slot(t, s, err);
	if (got <= 0)
		return got;
	for (int32_t i = 0; i < t->n_parts; i++) {
		struct part *p = t->part[i];
		if (p && p->ours && p->slot == s && !p->open)
			WL_TRY(open_part(t, p, err));
	}
	return 0;
}

/* ---- the group gives and takes ---- */

static int on_assigned(
	void *user, const int32_t *number, int64_t *offset, size_t n, struct wl_err *err)
{
	struct topic *t = user;
	t->ever_assigned = true;
	for (size_t i = 0; i < n; i++) {
		struct part *p = part_at(t, number[i], err);
		if (!p)
			return failed(t);
		if (!p->ours)
			p->slot->users++;
		p->ours = true;
		p->ended = false;
		if (!p->open)
			p->next = -1;
		int got = open_slot(t, p->slot, err);
		WL_TRY(got);
		if (!got)
			continue;
		if (!p->open)
			WL_TRY(open_part(t, p, err));
		p->started = true;
		offset[i] = p->next;
	}
	return 0;
}

static int on_revoked(void *user, const int32_t *number, size_t n, struct wl_err *err)
{
	struct topic *t = user;
	int ret = settle_all(t, err);
	for (size_t i = 0; i < n; i++) {
		struct part *p = number[i] < t->n_parts ? t->part[number[i]] : NULL;
		if (!p || !p->ours)
			continue;
		p->ours = false;
		if (ret == 0 && p->open && wl_batch_commit(t->run, &p->slot->batch, err) < 0)
			ret = failed(t);
		close_part(p);
		if (--p->slot->users == 0 && ret == 0)
			ret = close_slot(t, p->slot, err);
	}
	return ret;
}

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
		return now >= s->retry_ms && !slot_is_done(t, s) ? resume_slot(t, s, err) : 0;
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
	WL_TRY(settle_all(t, err));
	s->retry_ms = now_ms() + BREAK_MS;
	return close_slot(t, s, err);
}

/* A turn for the fetcher, now and then while messages come, else at every step.  It goes round the
 * lanes, and comes back to one that has nothing to do after a rest. */
static int fetch_a_little(struct topic *t, bool idle, struct wl_err *err)
{
	int64_t now = now_ms();
	if (!t->aside || (!idle && now < t->aside_ms))
		return 0;
	struct slot *s = &t->slot[t->aside_slot];
	t->aside_ms = now + FETCH_EVERY_MS;
	if (s->batch.lane && now >= s->fetch_ms) {
		int more = wl_aside_step(t->aside, &s->batch, idle ? DUTY_EVERY_MS : 0, err);
		if (more < 0)
			return failed(t);
		if (more)
			return 1;
		s->fetch_ms = now_ms() + FETCH_REST_MS;
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
	int64_t now = now_ms();
	if (now < t->duty_ms)
		return 0;
	t->duty_ms = now + DUTY_EVERY_MS;
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
	WL_TRY(settle_all(t, err));
	if (wl_batch_commit(t->run, &p->slot->batch, err) < 0)
		return failed(t);
	WL_TRY(check_range(t, p, ev->first, ev->end, err));
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
	WL_TRY(settle_all(t, err));
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
			ret = close_slot(t, s, failing ? NULL : err);
		stop_wanting(s);
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
		close_part(t->part[i]);
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
		.user = &t, .assigned = on_assigned, .revoked = on_revoked};
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

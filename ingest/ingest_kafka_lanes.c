/*
 * The partitions of a topic that the group gives us, and their lanes: opened where the catalog has
 * their position, closed with what was read committed.  See ingest_kafka.c for why it is so.
 */
#include "ingest/ingest_kafka_priv.h"

#include "ops/file.h"
#include "ops/log.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int64_t offset_of(const char *position)
{
	return strtoll(position, NULL, 10);
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

int wl_topic_check_range(
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
		WL_TRY(wl_topic_check_range(t, p, first, end, err));
	}
	if (wl_flow_init(&p->flow, &p->src.base, &p->slot->batch, err) < 0)
		return failed(t);
	p->open = true;
	wl_debug("%s: from offset %lld", p->origin.name, (long long)p->next);
	return retry(t, p, err);
}

void wl_topic_close_part(struct part *p)
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

void wl_topic_stop_wanting(struct slot *s)
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
		s->retry_ms = wl_now_ms() + WL_DUTY_EVERY_MS;
		return 0;
	}
	wl_topic_stop_wanting(s);
	s->opened_ms = wl_now_ms();
	return 1;
}

int wl_topic_close_lane(struct topic *t, struct slot *s, struct wl_err *err)
{
	int ret = wl_batch_commit(t->run, &s->batch, err);
	if (ret == 0)
		ret = wl_aside_leave(t->aside, &s->batch, err);
	for (int32_t i = 0; i < t->n_parts; i++)
		if (t->part[i] && t->part[i]->slot == s)
			wl_topic_close_part(t->part[i]);
	wl_lane_close(s->batch.lane);
	s->batch = (struct wl_batch){0};
	s->began_ms = 0;
	wl_topic_stop_wanting(s);
	return ret < 0 ? failed(t) : 0;
}

int wl_topic_settle(struct topic *t, struct wl_err *err)
{
	return wl_run_drain(t->run, true, err) < 0 ? failed(t) : 0;
}

int wl_topic_resume_lane(struct topic *t, struct slot *s, struct wl_err *err)
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

int wl_topic_assigned(
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

int wl_topic_revoked(void *user, const int32_t *number, size_t n, struct wl_err *err)
{
	struct topic *t = user;
	int ret = wl_topic_settle(t, err);
	for (size_t i = 0; i < n; i++) {
		struct part *p = number[i] < t->n_parts ? t->part[number[i]] : NULL;
		if (!p || !p->ours)
			continue;
		p->ours = false;
		if (ret == 0 && p->open && wl_batch_commit(t->run, &p->slot->batch, err) < 0)
			ret = failed(t);
		wl_topic_close_part(p);
		if (--p->slot->users == 0 && ret == 0)
			ret = wl_topic_close_lane(t, p->slot, err);
	}
	return ret;
}

/* A topic's partitions and the lanes that they go to, for ingest_kafka*.c only. */
#ifndef WL_INGEST_KAFKA_PRIV_H
#define WL_INGEST_KAFKA_PRIV_H

#include "ingest/ingest_priv.h"

#include "ops/clock.h"


enum { WL_DUTY_EVERY_MS = 20 };

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

/* Failures from here on are the corpus's, not the topic's. */
static inline int failed(struct topic *t)
{
	t->run_failed = true;
	return -1;
}

/* What of struct wl_kafka_events ingest_kafka.c hands on: the group gives partitions, which are
 * read from where the catalog says once their lane is ours, and takes them away, after what was
 * read of them is committed.  user: the struct topic. */
int wl_topic_assigned(
	void *user, const int32_t *number, int64_t *offset, size_t n, struct wl_err *err);
int wl_topic_revoked(void *user, const int32_t *number, size_t n, struct wl_err *err);

/* The catalog's position against the offsets that the broker has, [first, end): an error where it
 * is past them, or where messages are gone and may not be passed over; else it is moved to
 * first. */
WL_MUST_CHECK int wl_topic_check_range(
	struct topic *t, struct part *p, int64_t first, int64_t end, struct wl_err *err);
/* Every record in flight is settled: before a lane closes, since the pool keeps one order. */
WL_MUST_CHECK int wl_topic_settle(struct topic *t, struct wl_err *err);
/* Opens a lane that is ours again after a turn, or for the first time after waiting, and our
 * partitions in it; 0 also where somebody else still has it. */
WL_MUST_CHECK int wl_topic_resume_lane(struct topic *t, struct slot *s, struct wl_err *err);
/* Commits and closes a lane and our partitions in it; the pool must hold none of its records. */
WL_MUST_CHECK int wl_topic_close_lane(struct topic *t, struct slot *s, struct wl_err *err);
/* We no longer wait for the lane. */
void wl_topic_stop_wanting(struct slot *s);
/* Reads no more of a partition; nothing where it is not open. */
void wl_topic_close_part(struct part *p);

#endif

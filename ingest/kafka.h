/*
 * A Kafka topic as this project reads it: a thin layer over librdkafka that knows nothing of
 * records.  What matters is kept out of the broker's hands: where reading starts is always said
 * by the caller (the catalog knows), offsets committed to the broker only serve lag tools.
 *
 *   kafka://HOST:PORT[,HOST:PORT...]/TOPIC[?group=G&offset=earliest|latest&gap=stop|skip
 *           &partitions=0-3,7&profile=news]
 *
 * With group=, the brokers share the partitions out among all processes of the group, and may
 * take them away at any moment (rebalance).  Without, this process reads all partitions, or those
 * of partitions=.
 */
#ifndef WL_INGEST_KAFKA_H
#define WL_INGEST_KAFKA_H

#include "ops/buf.h"
#include "ops/err.h"
#include "ops/opt.h"

#include <stdbool.h>
#include <stdint.h>

/* What a kafka:// URL says; strings are owned. */
struct wl_kafka_url {
	char *brokers, *topic, *group, *profile; /* group, profile: NULL when not given */
	bool latest;                             /* a partition that is new starts at its end */
	bool skip_gaps; /* messages that the broker no longer has are passed over, not an error */
	int32_t *only;  /* [n_only] sorted; n_only 0: all partitions */
	size_t n_only;
};
/* WL_EUSAGE with what is wrong and an example. */
WL_MUST_CHECK int wl_kafka_url_parse(struct wl_kafka_url *u, const char *url, struct wl_err *err);
void wl_kafka_url_release(struct wl_kafka_url *u);

struct wl_kafka_conf {
	const struct wl_strs *set; /* "key=value" for librdkafka; may be NULL */
	int64_t patience_s;        /* how long no broker may be reachable; 0: 60 */
};

/* What the reader of a topic does; called from within wl_kafka_poll, on its thread. */
struct wl_kafka_events {
	void *user;
	/* These partitions are ours now.  For each: offset[i] = where to read from (>= 0), or
	 * WL_KAFKA_WAIT: not yet, wl_kafka_start will say. */
	int (*assigned)(void *user, const int32_t *partition, int64_t *offset, size_t n,
		struct wl_err *err);
	/* They are ours no longer: what was read of them must be committed or dropped before this
	 * returns. */
	int (*revoked)(void *user, const int32_t *partition, size_t n, struct wl_err *err);
};
enum { WL_KAFKA_WAIT = -1 };

struct wl_kafka;
/* Connects, waits for the topic with growing pauses; WL_ERETRY when no broker was reachable, or
 * none knew the topic, within conf->patience_s. */
struct wl_kafka *wl_kafka_open(const struct wl_kafka_url *u, const struct wl_kafka_conf *conf,
	struct wl_err *err);
/* Joins the group, or takes the partitions of a consumer without one (then assigned() is called
 * before this returns).  `events` must outlive k. */
WL_MUST_CHECK int wl_kafka_begin(struct wl_kafka *k, const struct wl_kafka_url *u,
	const struct wl_kafka_events *events, struct wl_err *err);
/* Leaves the group; revoked() is not called. */
void wl_kafka_close(struct wl_kafka *k);
/* Partitions of the topic, as found on opening. */
int32_t wl_kafka_partitions(const struct wl_kafka *k);

enum wl_kafka_kind {
	WL_KAFKA_NONE,    /* nothing came in time */
	WL_KAFKA_MESSAGE, /* payload is in *value */
	WL_KAFKA_END,     /* everything before `offset` of this partition was given */
	WL_KAFKA_GAP,     /* the broker has nothing at the offset we asked for: it has
			   * [first, end); reading of this partition stands still */
};
struct wl_kafka_event {
	enum wl_kafka_kind kind;
	int32_t partition;
	int64_t offset, first, end;
	bool too_large; /* value holds only the first part of the payload */
};
/* The next event; value (reset first) gets a message's bytes.  0, or -1: WL_ERETRY when no broker
 * has been reachable for too long, WL_EFAIL for an error that will not go away. */
WL_MUST_CHECK int wl_kafka_poll(struct wl_kafka *k, int timeout_ms, struct wl_kafka_event *ev,
	struct wl_buf *value, struct wl_err *err);

/* Reads this assigned partition from `offset` on.  1: done; 0: not yet possible, try again. */
WL_MUST_CHECK int wl_kafka_start(struct wl_kafka *k, int32_t partition, int64_t offset,
	struct wl_err *err);
/* Stops delivery of this partition until wl_kafka_start. */
void wl_kafka_pause(struct wl_kafka *k, int32_t partition);
/* Tells the broker that everything before offset is done; failures do no harm and are logged. */
void wl_kafka_ack(struct wl_kafka *k, int32_t partition, int64_t offset);
/* First and one past the last offset that the broker has (asked for now). */
WL_MUST_CHECK int wl_kafka_range(struct wl_kafka *k, int32_t partition, int64_t *first,
	int64_t *end, struct wl_err *err);
/* One past the last offset as far as known without asking; -1 unknown. */
int64_t wl_kafka_known_end(struct wl_kafka *k, int32_t partition);
/* Whether no broker is reachable at the moment. */
bool wl_kafka_is_down(const struct wl_kafka *k);

#endif

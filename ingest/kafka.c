/*
 * The consumer behind kafka.h.
 *
 * The rule that keeps every reader exact whatever librdkafka has queued: a partition is only ever
 * fetched from a position that the catalog has committed, and that position never goes back.  So
 * a message left over from before a pause or a rebalance is either below the caller's next offset
 * (the caller drops it) or exactly the one that comes next.  For that reason a partition whose
 * lane is still locked by another process is not assigned to librdkafka at all until it may start.
 */
#include "ingest/kafka_priv.h"

#include "ops/clock.h"
#include "ops/file.h"
#include "ops/log.h"
#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	PATIENCE_S = 60,
	PROBE_EVERY_MS = 1000,
	PROBE_TIMEOUT_MS = 500,
	QUERY_TIMEOUT_MS = 5000,
	SEEK_TIMEOUT_MS = 2000,
};

struct part {
	bool ours;    /* the group gave it to us */
	bool reading; /* librdkafka has it in its assignment */
	bool paused;
	int64_t next; /* one past the last message given; where reading began before */
};

struct wl_kafka {
	rd_kafka_t *rk;
	rd_kafka_topic_t *rkt; /* for metadata of just this topic */
	char *topic, *brokers;
	bool subscribed;
	const struct wl_kafka_events *events;
	struct part *part; /* [n_parts] by number */
	int32_t n_parts;
	int64_t patience_ms, down_since, probed, heard; /* ms; down_since 0: up */
	struct wl_err cb_err;				/* what failed inside a callback */
};

static void mark_up(struct wl_kafka *k)
{
	if (k->down_since)
		wl_info("kafka: %s is reachable again", k->brokers);
	k->down_since = 0;
	k->heard = wl_now_ms();
}

static void mark_down(struct wl_kafka *k, const char *why)
{
	if (k->down_since)
		return;
	k->down_since = wl_now_ms();
	wl_warn("kafka: no broker of %s is reachable (%s); trying for %lld s", k->brokers, why,
		(long long)k->patience_ms / 1000);
}

/* ---- callbacks of librdkafka ---- */

static void on_log(const rd_kafka_t *rk, int level, const char *fac, const char *buf)
{
	(void)rk;
	(void)level;
	wl_debug("librdkafka %s: %s", fac, buf);
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
	struct wl_kafka *k = opaque;
	char text[512];
	switch (code) {
	case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		mark_down(k, reason);
		break;
	case RD_KAFKA_RESP_ERR__FATAL:
		rd_kafka_fatal_error(rk, text, sizeof text);
		wl_err_set(&k->cb_err, WL_EFAIL, "kafka: %s: %s", k->brokers, text);
		break;
	case RD_KAFKA_RESP_ERR__AUTHENTICATION:
	case RD_KAFKA_RESP_ERR__SSL:
		wl_err_set(&k->cb_err, WL_EFAIL,
			"kafka: %s refuses us: %s; see security.protocol, sasl.* and ssl.* of "
			"--kafka-conf",
			k->brokers, reason);
		break;
	default:
		wl_debug("kafka: %s: %s", rd_kafka_err2name(code), reason);
	}
}

static bool is_cooperative(const struct wl_kafka *k)
{
	const char *p = rd_kafka_rebalance_protocol(k->rk);
	return p && strcmp(p, "COOPERATIVE") == 0;
}

static rd_kafka_topic_partition_list_t *one(
	const struct wl_kafka *k, int32_t partition, int64_t offset)
{
	rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(l, k->topic, partition)->offset = offset;
	return l;
}

static void log_failure(const struct wl_kafka *k, const char *doing, rd_kafka_resp_err_t rc)
{
	if (rc)
		wl_debug("kafka: %s of %s: %s", doing, k->topic, rd_kafka_err2str(rc));
}

/* Gives librdkafka the partitions that may be read: all of them, or what is new (cooperative). */
static void tell_assignment(struct wl_kafka *k, rd_kafka_topic_partition_list_t *fresh)
{
	if (is_cooperative(k)) {
		rd_kafka_error_t *e = rd_kafka_incremental_assign(k->rk, fresh);
		if (e)
			wl_debug("kafka: assigning: %s", rd_kafka_error_string(e));
		rd_kafka_error_destroy(e);
		return;
	}
	rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(k->n_parts);
	for (int32_t p = 0; p < k->n_parts; p++)
		if (k->part[p].ours && k->part[p].reading)
			rd_kafka_topic_partition_list_add(all, k->topic, p)->offset =
				k->part[p].next;
	log_failure(k, "assigning partitions", rd_kafka_assign(k->rk, all));
	/* An assignment starts all of them; those in a pause go back into it. */
	for (int32_t p = 0; p < k->n_parts; p++)
		if (k->part[p].ours && k->part[p].reading && k->part[p].paused)
			wl_kafka_pause(k, p);
	rd_kafka_topic_partition_list_destroy(all);
}

static void mark_reading(struct wl_kafka *k, int32_t p, int64_t offset)
{
	k->part[p].reading = true;
	k->part[p].paused = false;
	k->part[p].next = offset;
}

static int give(struct wl_kafka *k, const int32_t *number, size_t n, struct wl_err *err)
{
	rd_kafka_topic_partition_list_t *fresh;
	int64_t *offset = calloc(n + 1, sizeof *offset);
	int ret;
	if (!offset)
		return wl_err_nomem(err, "offsets", n * sizeof *offset);
	for (size_t i = 0; i < n; i++) {
		k->part[number[i]] = (struct part){.ours = true};
		offset[i] = WL_KAFKA_WAIT;
	}
	ret = k->events->assigned(k->events->user, number, offset, n, err);
	fresh = rd_kafka_topic_partition_list_new((int)n + 1);
	for (size_t i = 0; i < n; i++) {
		if (offset[i] < 0)
			continue;
		mark_reading(k, number[i], offset[i]);
		rd_kafka_topic_partition_list_add(fresh, k->topic, number[i])->offset = offset[i];
	}
	tell_assignment(k, fresh);
	rd_kafka_topic_partition_list_destroy(fresh);
	free(offset);
	return ret;
}

static int take_away(struct wl_kafka *k, const int32_t *number, size_t n,
	rd_kafka_topic_partition_list_t *list, struct wl_err *err)
{
	int ret = k->events->revoked(k->events->user, number, n, err);
	for (size_t i = 0; i < n; i++)
		k->part[number[i]] = (struct part){0};
	if (is_cooperative(k)) {
		rd_kafka_topic_partition_list_t *had =
			rd_kafka_topic_partition_list_new(list->cnt + 1);
		rd_kafka_topic_partition_list_t *now = NULL;
		/* Only what librdkafka was told of can be taken from it. */
		if (rd_kafka_assignment(k->rk, &now) == RD_KAFKA_RESP_ERR_NO_ERROR && now) {
			for (int i = 0; i < list->cnt; i++)
				if (rd_kafka_topic_partition_list_find(
					    now, k->topic, list->elems[i].partition))
					rd_kafka_topic_partition_list_add(
						had, k->topic, list->elems[i].partition);
			rd_kafka_topic_partition_list_destroy(now);
		}
		rd_kafka_error_destroy(rd_kafka_incremental_unassign(k->rk, had));
		rd_kafka_topic_partition_list_destroy(had);
	} else {
		log_failure(k, "giving partitions up", rd_kafka_assign(k->rk, NULL));
	}
	return ret;
}

/* Room for a partition that was added to the topic since. */
static int grow(struct wl_kafka *k, int32_t n, struct wl_err *err)
{
	if (n <= k->n_parts)
		return 0;
	struct part *grown = realloc(k->part, (size_t)n * sizeof *grown);
	if (!grown)
		return wl_err_nomem(err, "partitions", (size_t)n * sizeof *grown);
	memset(grown + k->n_parts, 0, (size_t)(n - k->n_parts) * sizeof *grown);
	k->part = grown;
	k->n_parts = n;
	return 0;
}

static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t what,
	rd_kafka_topic_partition_list_t *list, void *opaque)
{
	struct wl_kafka *k = opaque;
	size_t n = (size_t)list->cnt;
	int32_t *number = calloc(n + 1, sizeof *number);
	struct wl_err err = WL_ERR_INIT;
	int ret = number ? 0 : wl_err_nomem(&err, "partitions", n * sizeof *number);
	for (size_t i = 0; ret == 0 && i < n; i++) {
		number[i] = list->elems[i].partition;
		ret = grow(k, number[i] + 1, &err);
	}
	if (ret == 0 && what == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
		mark_up(k);
		ret = give(k, number, n, &err);
	} else if (ret == 0) {
		wl_debug("kafka: %zu partitions taken away%s", n,
			rd_kafka_assignment_lost(rk) ? " (lost)" : "");
		ret = take_away(k, number, n, list, &err);
	}
	if (ret < 0 && !k->cb_err.code)
		k->cb_err = err;
	free(number);
}

/* ---- opening ---- */

static int connect_rk(struct wl_kafka *k, const struct wl_kafka_url *u,
	const struct wl_kafka_conf *conf, struct wl_err *err)
{
	rd_kafka_conf_t *c = rd_kafka_conf_new();
	char why[512];
	if (wl_kafka_conf_fill(c, u, conf, err) < 0) {
		rd_kafka_conf_destroy(c);
		return -1;
	}
	rd_kafka_conf_set_opaque(c, k);
	rd_kafka_conf_set_log_cb(c, on_log);
	rd_kafka_conf_set_error_cb(c, on_error);
	if (u->group)
		rd_kafka_conf_set_rebalance_cb(c, on_rebalance);
	k->rk = rd_kafka_new(RD_KAFKA_CONSUMER, c, why, sizeof why);
	if (!k->rk) {
		rd_kafka_conf_destroy(c);
		return wl_err_set(err, WL_EUSAGE,
			"kafka: the consumer cannot be made: %s; see --kafka-conf", why);
	}
	rd_kafka_poll_set_consumer(k->rk);
	k->rkt = rd_kafka_topic_new(k->rk, k->topic, NULL);
	return k->rkt ? 0
		      : wl_err_set(err, WL_EFAIL, "kafka: topic %s: %s", k->topic,
				rd_kafka_err2str(rd_kafka_last_error()));
}

/* 1: the topic is there; 0: not (yet), why says it. */
static int look_for_topic(struct wl_kafka *k, char *why, size_t size, struct wl_err *err)
{
	const struct rd_kafka_metadata *md = NULL;
	rd_kafka_resp_err_t rc = rd_kafka_metadata(k->rk, 0, k->rkt, &md, PROBE_EVERY_MS);
	int found = 0;
	if (!rc && md->topic_cnt == 1 && !md->topics[0].err && md->topics[0].partition_cnt > 0) {
		found = grow(k, md->topics[0].partition_cnt, err) < 0 ? -1 : 1;
	} else if (rc) {
		snprintf(why, size, "no broker of %s can be reached (%s)", k->brokers,
			rd_kafka_err2str(rc));
	} else {
		snprintf(why, size, "%s has no topic %s (%s)", k->brokers, k->topic,
			md->topic_cnt ? rd_kafka_err2str(md->topics[0].err) : "not listed");
	}
	if (md)
		rd_kafka_metadata_destroy(md);
	return found;
}

static int wait_for_topic(struct wl_kafka *k, struct wl_err *err)
{
	int64_t deadline = wl_now_ms() + k->patience_ms, pause = 100;
	char why[512];
	bool said = false;
	for (;;) {
		int found = look_for_topic(k, why, sizeof why, err);
		rd_kafka_poll(k->rk, 0); /* serves on_error */
		if (found)
			break;
		if (k->cb_err.code)
			return wl_err_set(err, k->cb_err.code, "%s", k->cb_err.msg);
		if (wl_stop_requested())
			return wl_err_set(err, WL_ERETRY, "kafka: stopped while %s", why);
		if (wl_now_ms() + pause > deadline)
			return wl_err_set(err, WL_ERETRY,
				"kafka: %s, for %lld s; run the same command again when it is "
				"back, or correct the URL",
				why, (long long)k->patience_ms / 1000);
		if (!said)
			wl_warn("kafka: %s; trying for %lld s", why,
				(long long)k->patience_ms / 1000);
		said = true;
		nanosleep(&(struct timespec){pause / 1000, pause % 1000 * 1000000}, NULL);
		pause = pause < 2000 ? 2 * pause : pause;
	}
	k->down_since = 0;
	return 0;
}

/* Without a group: all partitions, or those that were asked for. */
static int assign_fixed(struct wl_kafka *k, const struct wl_kafka_url *u, struct wl_err *err)
{
	size_t n = u->n_only ? u->n_only : (size_t)k->n_parts;
	int32_t *number = calloc(n, sizeof *number);
	int ret = 0;
	if (!number)
		return wl_err_nomem(err, "partitions", n * sizeof *number);
	for (size_t i = 0; i < n && ret == 0; i++) {
		number[i] = u->n_only ? u->only[i] : (int32_t)i;
		if (number[i] >= k->n_parts)
			ret = wl_err_set(err, WL_EUSAGE,
				"kafka: topic %s has partitions 0 to %d, there is no %d", k->topic,
				k->n_parts - 1, number[i]);
	}
	if (ret == 0)
		ret = give(k, number, n, err);
	free(number);
	return ret;
}

int wl_kafka_begin(struct wl_kafka *k, const struct wl_kafka_url *u,
	const struct wl_kafka_events *events, struct wl_err *err)
{
	k->events = events;
	if (!u->group)
		return assign_fixed(k, u, err);
	rd_kafka_topic_partition_list_t *l = one(k, RD_KAFKA_PARTITION_UA, RD_KAFKA_OFFSET_INVALID);
	rd_kafka_resp_err_t rc = rd_kafka_subscribe(k->rk, l);
	rd_kafka_topic_partition_list_destroy(l);
	k->subscribed = rc == 0;
	return rc ? wl_err_set(err, WL_EFAIL, "kafka: topic %s cannot be subscribed to: %s",
			    k->topic, rd_kafka_err2str(rc))
		  : 0;
}

static int nothing_assigned(void *user, const int32_t *p, int64_t *o, size_t n, struct wl_err *err)
{
	(void)user, (void)p, (void)o, (void)n, (void)err;
	return 0;
}

static int nothing_revoked(void *user, const int32_t *p, size_t n, struct wl_err *err)
{
	(void)user, (void)p, (void)n, (void)err;
	return 0;
}

/* Nobody listens: before wl_kafka_begin and while closing. */
static const struct wl_kafka_events deaf = {
	.assigned = nothing_assigned, .revoked = nothing_revoked};

struct wl_kafka *wl_kafka_open(
	const struct wl_kafka_url *u, const struct wl_kafka_conf *conf, struct wl_err *err)
{
	struct wl_kafka *k = calloc(1, sizeof *k);
	if (!k) {
		wl_err_nomem(err, "a Kafka consumer", sizeof *k);
		return NULL;
	}
	k->events = &deaf;
	k->patience_ms = 1000 * (conf->patience_s ? conf->patience_s : PATIENCE_S);
	k->topic = wl_strf(err, "%s", u->topic);
	k->brokers = wl_strf(err, "%s", u->brokers);
	if (!k->topic || !k->brokers || connect_rk(k, u, conf, err) < 0 ||
		wait_for_topic(k, err) < 0) {
		wl_kafka_close(k);
		return NULL;
	}
	return k;
}

void wl_kafka_close(struct wl_kafka *k)
{
	if (!k)
		return;
	k->events = &deaf;
	if (k->rkt)
		rd_kafka_topic_destroy(k->rkt);
	if (k->rk && k->down_since) {
		/* Nobody to say good-bye to. */
		rd_kafka_destroy_flags(k->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	} else if (k->rk) {
		rd_kafka_consumer_close(k->rk);
		rd_kafka_destroy(k->rk);
	}
	free(k->part);
	free(k->topic);
	free(k->brokers);
	free(k);
}

int32_t wl_kafka_partitions(const struct wl_kafka *k)
{
	return k->n_parts;
}

bool wl_kafka_is_down(const struct wl_kafka *k)
{
	return k->down_since != 0;
}

/* ---- reading ---- */

/* When nothing has come for a while: is there a broker at all?  (librdkafka says that all are down
 * only if it had tried all of them.)  Asks now and then, and gives up after the patience. */
static int probe(struct wl_kafka *k, struct wl_err *err)
{
	const struct rd_kafka_metadata *md = NULL;
	int64_t now = wl_now_ms(), every = k->down_since ? PROBE_EVERY_MS : 2 * PROBE_EVERY_MS;
	if (now - k->heard < every || now - k->probed < every)
		return 0;
	rd_kafka_resp_err_t rc = rd_kafka_metadata(k->rk, 0, k->rkt, &md, PROBE_TIMEOUT_MS);
	if (rc == 0) {
		rd_kafka_metadata_destroy(md);
		mark_up(k);
	} else {
		mark_down(k, rd_kafka_err2str(rc));
	}
	k->probed = wl_now_ms();
	if (k->down_since && wl_now_ms() - k->down_since >= k->patience_ms)
		return wl_err_set(err, WL_ERETRY,
			"kafka: no broker of %s has been reachable for %lld s; what was read is "
			"committed, run the same command again when it is back",
			k->brokers, (long long)k->patience_ms / 1000);
	return 0;
}

static int message_error(struct wl_kafka *k, const rd_kafka_message_t *m, struct wl_kafka_event *ev,
	struct wl_err *err)
{
	switch (m->err) {
	case RD_KAFKA_RESP_ERR__PARTITION_EOF:
		mark_up(k);
		*ev = (struct wl_kafka_event){
			.kind = WL_KAFKA_END, .partition = m->partition, .offset = m->offset};
		return 0;
	case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
	case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
		*ev = (struct wl_kafka_event){.kind = WL_KAFKA_GAP,
			.partition = m->partition,
			.offset = k->part[m->partition].next};
		return wl_kafka_range(k, m->partition, &ev->first, &ev->end, err);
	case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
		return wl_err_set(err, WL_EFAIL, "kafka: %s refuses us topic %s: %s", k->brokers,
			k->topic, rd_kafka_message_errstr(m));
	case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
	case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		return wl_err_set(err, WL_ERETRY, "kafka: topic %s has gone from %s: %s", k->topic,
			k->brokers, rd_kafka_message_errstr(m));
	case RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED:
		wl_warn("kafka: %s", rd_kafka_message_errstr(m));
		return 0;
	default:
		wl_debug("kafka: %s", rd_kafka_message_errstr(m));
		return 0;
	}
}

int wl_kafka_poll(struct wl_kafka *k, int timeout_ms, struct wl_kafka_event *ev,
	struct wl_buf *value, struct wl_err *err)
{
	rd_kafka_message_t *m = rd_kafka_consumer_poll(k->rk, timeout_ms);
	int ret = 0;
	*ev = (struct wl_kafka_event){.kind = WL_KAFKA_NONE};
	if (k->cb_err.code) {
		ret = wl_err_set(err, k->cb_err.code, "%s", k->cb_err.msg);
	} else if (!m) {
		ret = probe(k, err);
	} else if (m->err) {
		ret = message_error(k, m, ev, err);
	} else if (m->partition < k->n_parts && k->part[m->partition].reading &&
		   !k->part[m->partition].paused) {
		mark_up(k);
		*ev = (struct wl_kafka_event){.kind = WL_KAFKA_MESSAGE,
			.partition = m->partition,
			.offset = m->offset,
			.too_large = m->len > value->max};
		k->part[m->partition].next = m->offset + 1;
		wl_buf_reset(value);
		ret = wl_buf_add(value, m->payload ? m->payload : "",
			ev->too_large ? value->max : m->len, err);
	}
	if (m)
		rd_kafka_message_destroy(m);
	return ret;
}

void wl_kafka_pause(struct wl_kafka *k, int32_t partition)
{
	rd_kafka_topic_partition_list_t *l = one(k, partition, RD_KAFKA_OFFSET_INVALID);
	log_failure(k, "pausing a partition", rd_kafka_pause_partitions(k->rk, l));
	rd_kafka_topic_partition_list_destroy(l);
	k->part[partition].paused = true;
}

int wl_kafka_start(struct wl_kafka *k, int32_t partition, int64_t offset, struct wl_err *err)
{
	struct part *p = &k->part[partition];
	if (!p->ours)
		return 0;
	rd_kafka_topic_partition_list_t *l = one(k, partition, offset);
	int done = 1;
	if (!p->reading) {
		mark_reading(k, partition, offset);
		tell_assignment(k, l);
	} else {
		rd_kafka_error_t *e = rd_kafka_seek_partitions(k->rk, l, SEEK_TIMEOUT_MS);
		rd_kafka_resp_err_t rc = e ? rd_kafka_error_code(e) : l->elems[0].err;
		rd_kafka_error_destroy(e);
		/* Its fetcher has not started yet, or its broker is away: later. */
		if (rc) {
			log_failure(k, "seeking", rc);
			done = 0;
		} else {
			p->next = offset;
			p->paused = false;
			log_failure(k, "going on with a partition",
				rd_kafka_resume_partitions(k->rk, l));
		}
	}
	rd_kafka_topic_partition_list_destroy(l);
	(void)err;
	return done;
}

void wl_kafka_ack(struct wl_kafka *k, int32_t partition, int64_t offset)
{
	rd_kafka_topic_partition_list_t *l = one(k, partition, offset);
	log_failure(k, "telling the broker our offset", rd_kafka_commit(k->rk, l, 1));
	rd_kafka_topic_partition_list_destroy(l);
}

int wl_kafka_range(
	struct wl_kafka *k, int32_t partition, int64_t *first, int64_t *end, struct wl_err *err)
{
	int64_t deadline = wl_now_ms() + k->patience_ms;
	rd_kafka_resp_err_t rc;
	do {
		rc = rd_kafka_query_watermark_offsets(
			k->rk, k->topic, partition, first, end, QUERY_TIMEOUT_MS);
		if (rc == 0)
			return 0;
		nanosleep(&(struct timespec){0, 100000000}, NULL);
	} while (wl_now_ms() < deadline && !wl_stop_requested());
	return wl_err_set(err, WL_ERETRY,
		"kafka: %s does not say which offsets %s/%d has: %s; run the same command again "
		"when it is back",
		k->brokers, k->topic, partition, rd_kafka_err2str(rc));
}

int64_t wl_kafka_known_end(struct wl_kafka *k, int32_t partition)
{
	int64_t first, end;
	if (rd_kafka_get_watermark_offsets(k->rk, k->topic, partition, &first, &end))
		return -1;
	return end;
}

/* What becomes of a URL, and of the pairs that wait for it: rows of the lane's open batch. */
#include "ingest/fetch_priv.h"

#include "ops/hash.h"
#include "ops/log.h"
#include "ops/metrics.h"

#include <stdlib.h>
#include <string.h>

enum { COMMIT_OUTCOMES = 1000, COMMIT_BYTES = 64 << 20, COMMIT_MS = 2000 };

/* The row of a task, with what the last answer said. */
static struct wl_fetch row_of(const struct wl_fetcher *f, const struct wl_task *t)
{
	return (struct wl_fetch){.url = t->url,
		.status = t->req.a.status,
		.tries = t->tries,
		.fetched_at = f->now_s,
		.etag = t->req.a.etag,
		.last_modified = t->req.a.last_modified,
		.reason = "",
		.format = ""};
}

static void settled(struct wl_fetcher *f, int64_t pairs)
{
	f->settled_ms = f->now_ms;
	f->done += (uint64_t)pairs;
	f->batch++;
}

static int count_reason(struct wl_fetcher *f, const char *reason, struct wl_err *err)
{
	char class[128];
	snprintf(class, sizeof class, "%.*s", (int)strcspn(reason, ":"), reason);
	json_int_t was = json_integer_value(json_object_get(f->out->reasons, class));
	if (json_object_set_new(f->out->reasons, class, json_integer(was + 1)) < 0)
		return wl_err_nomem(err, "a count", 0);
	return 0;
}

/* ---- pictures that have come ---- */

static int changed(
	struct wl_fetcher *f, struct wl_task *t, struct wl_fetch *row, struct wl_err *err)
{
	const struct wl_buf *b = &t->req.a.body;
	memcpy(row->sha256, t->known_sha256, sizeof row->sha256);
	int64_t pairs = wl_lane_changed(f->lane, row, b->data, b->len, err);
	WL_TRY(pairs);
	f->out->changed++;
	f->out->pairs += pairs;
	return 0;
}

int wl_outcome_ok(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err)
{
	const struct wl_buf *b = &t->req.a.body;
	struct wl_fetch row = row_of(f, t);
	uint8_t sha[WL_SHA256_BYTES];
	row.tries++;
	row.format = wl_image_format_name(t->info.format);
	row.width = t->info.width;
	row.height = t->info.height;
	f->out->bytes += (int64_t)b->len;
	f->batch_bytes += (int64_t)b->len;
	if (t->refresh) {
		wl_sha256(b->data, b->len, sha);
		if (memcmp(sha, t->known_sha256, sizeof sha) == 0)
			return wl_outcome_same(f, t, err);
		WL_TRY(changed(f, t, &row, err));
		settled(f, 1);
	} else {
		int64_t bare, pairs = wl_lane_complete(f->lane, &row, b->data, b->len, &bare, err);
		WL_TRY(pairs);
		f->out->ok++;
		f->out->pairs += pairs;
		f->out->quarantined += bare;
		settled(f, pairs + bare);
	}
	wl_task_free(&f->sites, t);
	return 0;
}

int wl_outcome_page(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err)
{
	const struct wl_buf *b = &t->req.a.body;
	struct wl_fetch row = row_of(f, t);
	const char *bad;
	row.tries++;
	row.format = "html";
	wl_sha256(b->data, b->len, row.sha256);
	WL_TRY(wl_page_settle(f, t, &row, &bad, err));
	if (bad)
		return wl_outcome_failed(f, t, bad, err);
	settled(f, 1);
	wl_task_free(&f->sites, t);
	return 0;
}

/* The row of a URL whose bytes we have stays; only when and what was last heard changes. */
static int touch(struct wl_fetcher *f, struct wl_task *t, const char *reason, struct wl_err *err)
{
	struct wl_fetch row;
	const struct wl_answer *a = &t->req.a;
	int known = wl_lane_fetch_get(f->lane, t->url, &row, err);
	WL_TRY(known);
	row.fetched_at = f->now_s;
	row.status = a->status;
	row.reason = reason;
	if (a->etag[0] || a->last_modified[0]) {
		row.etag = a->etag;
		row.last_modified = a->last_modified;
	}
	WL_TRY(wl_lane_fetch_put(f->lane, &row, err));
	settled(f, 1);
	return 0;
}

int wl_outcome_same(struct wl_fetcher *f, struct wl_task *t, struct wl_err *err)
{
	WL_TRY(touch(f, t, "", err));
	f->out->unchanged++;
	wl_task_free(&f->sites, t);
	return 0;
}

/* ---- those that have not ---- */

int wl_outcome_failed(
	struct wl_fetcher *f, struct wl_task *t, const char *reason, struct wl_err *err)
{
	wl_debug("%s: not fetched: %s", t->url, reason);
	f->out->failed++;
	WL_TRY(count_reason(f, reason, err));
	if (t->refresh) {
		WL_TRY(touch(f, t, reason, err));
	} else {
		struct wl_fetch row = row_of(f, t);
		row.tries++;
		row.reason = reason;
		int64_t pairs = wl_lane_give_up(f->lane, &row, err);
		WL_TRY(pairs);
		f->out->quarantined += pairs;
		settled(f, pairs);
	}
	wl_task_free(&f->sites, t);
	return 0;
}

int wl_outcome_again(struct wl_fetcher *f, struct wl_task *t, const char *reason, int64_t delay_ms,
	bool *kept, struct wl_err *err)
{
	*kept = false;
	if (t->tries >= f->o.retries)
		return wl_outcome_failed(f, t, reason, err);
	t->tries++;
	if (!t->refresh) {
		struct wl_fetch row = row_of(f, t);
		row.outcome = WL_FETCH_LATER;
		row.reason = reason;
		row.next_try = f->now_s + (delay_ms + 999) / 1000;
		WL_TRY(wl_lane_fetch_put(f->lane, &row, err));
		f->batch++;
	}
	wl_request_drop_body(&t->req);
	*kept = (double)delay_ms <= f->o.wait_s * 1000;
	if (*kept)
		return 0;
	wl_debug("%s: left for a later run: %s", t->url, reason);
	f->out->later++;
	settled(f, 0);
	wl_task_free(&f->sites, t);
	return 0;
}

/* ---- outcomes that are known already ---- */

int wl_outcome_known(
	struct wl_fetcher *f, const char *url, int64_t *tries, int64_t *wait_ms, struct wl_err *err)
{
	struct wl_fetch row;
	int64_t pairs, bare;
	int known = wl_lane_fetch_get(f->lane, url, &row, err);
	WL_TRY(known);
	*tries = known ? row.tries : 0;
	*wait_ms = 0;
	if (!known)
		return 0;
	if (row.outcome == WL_FETCH_LATER) {
		if (row.next_try > f->now_s)
			*wait_ms = (row.next_try - f->now_s) * 1000;
		return (double)*wait_ms > f->o.wait_s * 1000 ? 2 : 0;
	}
	if (row.outcome == WL_FETCH_OK) {
		if (strcmp(row.format, "html") == 0)
			return wl_page_known(f, &row, err);
		pairs = wl_lane_complete(f->lane, &row, NULL, 0, &bare, err);
		WL_TRY(pairs);
		f->out->pairs += pairs;
		f->out->quarantined += bare;
	} else {
		pairs = wl_lane_give_up(f->lane, &row, err);
		WL_TRY(pairs);
		f->out->quarantined += pairs;
	}
	settled(f, pairs);
	return 1;
}

int wl_outcome_elsewhere(
	struct wl_fetcher *f, struct wl_corpus *c, const char *url, struct wl_err *err)
{
	struct wl_fetch row;
	struct wl_buf image;
	int from;
	int64_t bare = 0, pairs = 0;
	int known = wl_lane_fetch_elsewhere(f->lane, url, &row, &from, err);
	if (known <= 0)
		return known;
	if (row.outcome == WL_FETCH_FAILED) {
		bare = wl_lane_give_up(f->lane, &row, err);
		WL_TRY(bare);
	} else {
		struct wl_pair p = {.partition = from,
			.segment = row.segment,
			.offset = row.offset,
			.length = row.length};
		memcpy(p.image_sha256, row.sha256, sizeof p.image_sha256);
		wl_buf_init(&image, WL_IMAGE_MAX_BYTES);
		int ret = wl_corpus_image(c, &p, &image, err);
		if (ret == 0)
			pairs = wl_lane_complete(f->lane, &row, image.data, image.len, &bare, err);
		wl_buf_release(&image);
		if (ret < 0 || pairs < 0)
			return -1;
	}
	f->out->pairs += pairs;
	f->out->quarantined += bare;
	settled(f, pairs + bare);
	return 1;
}

/* ---- the batch ---- */

static void publish(const struct wl_fetcher *f)
{
	const struct wl_fetch_counts *n = f->out;
	wl_metric_set("wenlan_fetch_ok", "URLs fetched in this run", (double)n->ok);
	wl_metric_set("wenlan_fetch_failed", "URLs given up in this run", (double)n->failed);
	wl_metric_set("wenlan_fetch_bytes", "Bytes of pictures received", (double)n->bytes);
	wl_metric_set("wenlan_fetch_requests", "HTTP requests made", (double)n->requests);
	wl_metric_set("wenlan_fetch_in_flight", "Requests under way", (double)f->n_active);
}

int wl_fetch_commit(struct wl_fetcher *f, struct wl_err *err)
{
	WL_TRY(wl_lane_commit_fetches(f->lane, err));
	f->batch = f->batch_bytes = 0;
	f->batch_ms = f->now_ms;
	publish(f);
	return 0;
}

int wl_fetch_commit_when_due(struct wl_fetcher *f, struct wl_err *err)
{
	int64_t every = f->o.commit_every ? f->o.commit_every : COMMIT_OUTCOMES;
	if (f->batch < every && f->batch_bytes < COMMIT_BYTES &&
		(!f->batch || f->now_ms - f->batch_ms < COMMIT_MS))
		return 0;
	return wl_fetch_commit(f, err);
}

/*
 * Filling the shards that are missing: see pack.h for who does what.  Batches are submitted in the
 * order in which they are taken, so what goes where does not depend on which worker was faster.
 */
#include "shards/pack_priv.h"

#include "ops/hash.h"
#include "ops/log.h"
#include "ops/signals.h"
#include "shards/write.h"

#include <stdlib.h>
#include <string.h>

/* Enough in flight that a thread that waits for the processor does not stop the others; bytes
 * bound it when pictures are large. */
enum { BATCHES_PER_THREAD = 2, BATCHES_BESIDE = 2, MAX_BATCH_BYTES = 8 << 20 };
/* As many pictures as are hashed side by side make a batch when they are large: the worker then
 * still has them in its cache. */
enum { LARGE_BATCH = 16, LARGE_BATCH_BYTES = 1 << 20 };
static const int64_t MAX_IN_FLIGHT_BYTES = 128 << 20;

/* ---- workers ---- */

int wl_pack_workers(struct wl_packing *p, struct wl_err *err)
{
	size_t threads = p->o->threads > 0 ? (size_t)p->o->threads : wl_cores();
	size_t n = BATCHES_PER_THREAD * threads + BATCHES_BESIDE;
	size_t parts = (size_t)wl_corpus_partitions(p->corpus);

	p->pool = wl_pool_new(threads, n, err);
	p->hasher = p->pool ? wl_hasher_new(err) : NULL;
	if (!p->hasher)
		return -1;
	p->idle = calloc(n, sizeof *p->idle);
	p->kept = calloc(parts, sizeof *p->kept);
	p->cursors = calloc(parts, sizeof *p->cursors);
	if (!p->idle || !p->kept || !p->cursors)
		return wl_err_nomem(err, "packing", (n + 2 * parts) * sizeof(void *));
	while (p->n_idle < n) {
		struct wl_pack_batch *b = wl_pack_batch_new(p->corpus, p->o->plan.quality, err);

		if (!b)
			return -1;
		p->idle[p->n_idle++] = b;
	}
	return 0;
}

void wl_pack_workers_release(struct wl_packing *p)
{
	struct wl_pack_batch *b;

	while (p->pool && (b = wl_pool_take(p->pool)) != NULL)
		p->idle[p->n_idle++] = b;
	wl_pool_free(p->pool);
	for (size_t i = 0; i < p->n_previous; i++)
		wl_shard_writer_free(p->previous[i]);
	wl_hasher_free(p->hasher);
	for (size_t i = 0; i < p->n_idle; i++)
		wl_pack_batch_free(p->idle[i]);
	for (int i = 0; p->corpus && i < wl_corpus_partitions(p->corpus); i++) {
		if (p->cursors)
			wl_pairs_close(p->cursors[i]);
		if (p->kept)
			wl_kept_close(p->kept[i]);
	}
	free(p->idle);
	free(p->kept);
	free(p->cursors);
}

/* The databases of a partition, opened on first use. */
static int open_partition(struct wl_packing *p, int part, struct wl_err *err)
{
	if (!p->kept[part])
		p->kept[part] = wl_kept_open(p->corpus, part, err);
	if (!p->kept[part] || p->cursors[part])
		return p->kept[part] ? 0 : -1;
	p->cursors[part] = wl_pairs_open(p->corpus, part, err);
	return p->cursors[part] ? wl_pairs_hold(p->cursors[part], err) : -1;
}

/* ---- whose turn ---- */

/* The next shards that are to be packed; false: there are none. */
static bool next_group(const struct wl_packing *p, struct wl_pack_turns *t)
{
	t->n = t->at = 0;
	for (; t->next < p->plan.n_shards && t->n < WL_PACK_BESIDE; t->next++)
		if (!p->sealed[t->next] && wl_pack_is_mine(p, t->next)) {
			t->shard[t->n] = t->next;
			t->done[t->n++] = 0;
		}
	return t->n > 0;
}

/* The place in the group of the shard that gets the next batch; -1: the group is done. */
static int whose_turn(const struct wl_packing *p, struct wl_pack_turns *t)
{
	for (size_t tried = 0; tried < t->n; tried++) {
		if (t->done[t->at] < p->plan.shards[t->shard[t->at]].n)
			return (int)t->at;
		t->at = (t->at + 1) % t->n;
	}
	return -1;
}

static void end_turn(struct wl_pack_turns *t, size_t samples)
{
	t->done[t->at] += samples;
	t->at = (t->at + 1) % t->n;
}

/* ---- batches ---- */

/* False when everything was submitted. */
static bool more_to_submit(struct wl_packing *p, int *at)
{
	while ((*at = whose_turn(p, &p->ahead)) < 0)
		if (!next_group(p, &p->ahead))
			return false;
	return true;
}

static bool is_full(const struct wl_pack_batch *b)
{
	return b->n == WL_PACK_BATCH || b->bytes >= MAX_BATCH_BYTES ||
	       (b->n == LARGE_BATCH && b->bytes >= LARGE_BATCH_BYTES);
}

/* The shard's next pairs into the batch: their rows, not yet their pictures. */
static int fill(struct wl_packing *p, struct wl_pack_batch *b, int at, struct wl_err *err)
{
	const struct wl_planned_shard *s = &p->plan.shards[p->ahead.shard[at]];
	size_t done = p->ahead.done[at];

	b->n = 0;
	b->bytes = 0;
	while (done + b->n < s->n && !is_full(b)) {
		const struct wl_shard_plan_pair *pair = &p->plan.pairs[s->first + done + b->n];
		struct wl_pack_job *j = b->job[b->n];

		WL_TRY(open_partition(p, (int)pair->partition, err));
		WL_TRY(wl_pack_job_fill(j, p->cursors[pair->partition], p->kept[pair->partition],
			pair->id, pair->group, err));
		b->n++;
		b->bytes += j->pair.length;
	}
	return 0;
}

/* The next batch in the order of turns, with the pool kept full behind it. */
static int next_batch(struct wl_packing *p, struct wl_pack_batch **out, struct wl_err *err)
{
	int at;

	while (p->n_idle && more_to_submit(p, &at) &&
		(p->in_flight_bytes < MAX_IN_FLIGHT_BYTES || !p->in_flight_bytes)) {
		struct wl_pack_batch *b = p->idle[p->n_idle - 1];

		WL_TRY(fill(p, b, at, err));
		p->n_idle--;
		p->in_flight_bytes += b->bytes;
		end_turn(&p->ahead, b->n);
		wl_pool_submit(p->pool, wl_pack_batch_run, b);
	}
	*out = wl_pool_take(p->pool);
	WL_ASSERT(*out);
	p->in_flight_bytes -= (*out)->bytes;
	return 0;
}

static int put_job(struct wl_shard_writer *w, const struct wl_pack_job *j, struct wl_err *err)
{
	char name[WL_PAIR_NAME];

	if (j->failed || j->rejected)
		wl_pair_name(j->pair.partition, j->pair.id, name);
	if (j->failed)
		return wl_err_set(err, j->err.code, "pair %s: %s", name, j->err.msg);
	if (j->rejected) {
		wl_warn("pair %s is left out: %s", name, j->err.msg);
		return wl_shard_writer_reject(w, j->pair.id, j->err.msg, err);
	}
	return wl_shard_writer_add(w,
		&(struct wl_sample){.jpg = j->out->data,
			.jpg_len = j->out->len,
			.jpg_sha256 = j->sha256,
			.txt = j->txt,
			.json = j->json,
			.pair_id = j->pair.id,
			.topic = j->topic,
			.width = j->pair.width,
			.height = j->pair.height,
			.source = j->pair.source,
			.url = j->pair.url},
		err);
}

/* Takes and writes the next batch of a shard; the number of its samples. */
static int put_batch(struct wl_packing *p, struct wl_shard_writer *w, struct wl_err *err)
{
	struct wl_pack_batch *b;
	int rc = 0;

	WL_TRY(next_batch(p, &b, err));
	for (size_t i = 0; i < b->n && rc == 0; i++)
		rc = put_job(w, b->job[i], err);
	p->idle[p->n_idle++] = b;
	wl_progress_add(p->progress, b->n);
	return rc < 0 ? -1 : (int)b->n;
}

/* ---- groups of shards ---- */

/* Waits for the shards that are being sealed, if any. */
static int settle(struct wl_packing *p, struct wl_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < p->n_previous; i++) {
		size_t shard = p->previous_shard[i];

		if (rc == 0)
			rc = wl_shard_writer_wait(p->previous[i], &p->infos[shard], err);
		if (rc == 0)
			p->sealed[shard] = true;
		wl_shard_writer_free(p->previous[i]);
	}
	p->n_previous = 0;
	return rc;
}

/* Fills the group's shards, turn by turn; stops early at a signal. */
static int fill_group(struct wl_packing *p, struct wl_pack_turns *t,
	struct wl_shard_writer *const *w, struct wl_err *err)
{
	int at;

	while (!wl_stop_requested() && (at = whose_turn(p, t)) >= 0) {
		int n = put_batch(p, w[at], err);

		WL_TRY(n);
		end_turn(t, (size_t)n);
		if (t->done[at] == p->plan.shards[t->shard[at]].n)
			wl_shard_writer_finish(w[at]);
	}
	return 0;
}

/* 0, also when a signal stopped it half way (the group's shards are then dropped). */
static int pack_group(struct wl_packing *p, struct wl_pack_turns *t, struct wl_err *err)
{
	struct wl_shard_writer *w[WL_PACK_BESIDE] = {0};
	int rc = 0;

	for (size_t i = 0; i < t->n && rc == 0; i++) {
		const struct wl_planned_shard *s = &p->plan.shards[t->shard[i]];

		w[i] = wl_shard_writer_new_beside(p->hasher, p->o->out, wl_split_names[s->split],
			s->number, p->plan.hash, err);
		rc = w[i] ? 0 : -1;
	}
	if (rc == 0)
		rc = fill_group(p, t, w, err);
	if (rc == 0 && !wl_stop_requested())
		rc = settle(p, err);
	if (rc < 0 || wl_stop_requested()) {
		for (size_t i = 0; i < t->n; i++)
			wl_shard_writer_free(w[i]);
		return rc;
	}
	memcpy(p->previous, w, sizeof w);
	memcpy(p->previous_shard, t->shard, sizeof t->shard);
	p->n_previous = t->n;
	return 0;
}

int wl_pack_missing(struct wl_packing *p, struct wl_err *err)
{
	struct wl_pack_turns turns = {0};
	uint64_t missing = 0;
	int rc = 0;

	for (size_t i = 0; i < p->plan.n_shards; i++)
		missing += p->sealed[i] || !wl_pack_is_mine(p, i) ? 0 : p->plan.shards[i].n;
	p->progress = wl_progress_new("packing", "pairs", missing);
	while (rc == 0 && !wl_stop_requested() && next_group(p, &turns))
		rc = pack_group(p, &turns, err);
	if (rc == 0)
		rc = settle(p, err);
	wl_progress_free(p->progress);
	return rc;
}

/*
 * The ring of batches.
 *
 * Rows (one sample of one batch) are handed out in order to whichever worker asks next; a
 * batch is done when all its rows are, and batches are given out in order.  A worker may run
 * ahead of the consumer by as many batches as the ring holds, then it waits.  All that a row
 * holds is a function of its epoch and position, so neither the number of workers nor their
 * speed can be seen in the result.
 *
 * Bad samples.  With shuffle, the row of a bad sample at position p takes the sample at
 * position (p + n/2) mod n of the same epoch, or the next good one after it: the same for any
 * number of ranks and threads, and the batch stays whole.  Without shuffle (evaluation) the
 * row is left out and the batch is shorter, so that nothing is counted twice.  Either way it
 * is counted and named when its batch is given out.
 */
#include "loader/loader_priv.h"
#include "ops/clock.h"
#include "ops/hash.h"
#include "ops/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_TRIES = 100, /* bad samples in a row before the data as a whole is called bad */
	AHEAD_ROWS = 96, /* announced before they are read, for sets elsewhere */
	MAX_NAMED = 20,  /* bad samples that get a line in the log */
};

/* ---- the order ---- */

static int64_t global_batch(const struct wl_loader *l)
{
	return l->o.batch * l->o.world;
}

/* Where batch number `seq` (from the last seek) starts.  With shuffle epochs run on into each
 * other, so that each shows every sample once whatever the batch. */
static void batch_start(const struct wl_loader *l, int64_t seq, int64_t *epoch,
	int64_t *position)
{
	int64_t at = l->base_position + seq * global_batch(l);

	*epoch = l->base_epoch;
	if (l->o.shuffle) {
		*epoch += at / l->order.size;
		at %= l->order.size;
	}
	*position = at < l->order.size ? at : l->order.size;
}

/* Position p counted from the start of *epoch, which may lie in the next one. */
static int64_t wrap(const struct wl_loader *l, int64_t p, int64_t *epoch)
{
	if (l->o.shuffle && p >= l->order.size) {
		*epoch += p / l->order.size;
		p %= l->order.size;
	}
	return p;
}

/* Batches from the last seek to the end; with shuffle there is none. */
static bool past_end(const struct wl_loader *l, int64_t seq)
{
	return !l->o.shuffle && l->base_position + seq * global_batch(l) >= l->order.size;
}

/* ---- rows ---- */

static void row_of(const struct wl_loader *l, struct wl_slot *s, int64_t i, struct wl_row *row)
{
	int64_t pixels = 3 * (int64_t)l->o.image_px * l->o.image_px, r = l->o.regions;

	*row = (struct wl_row){
		.pixels = s->b.pixels ? s->b.pixels + i * pixels : NULL,
		.crops = s->b.crops ? s->b.crops + i * pixels : NULL,
		.area = s->b.areas ? s->b.areas + i * (int64_t)s->b.area_bytes : NULL,
		.planes = s->b.planes ? s->b.planes + i : NULL,
		.params = s->b.params + i,
		.boxes = s->b.boxes + i * r * 4,
		.region_mask = s->b.region_mask + i * r,
		.pair_id = s->b.pair_ids + i,
		.texts = s->texts + i,
	};
}

static void note_bad(struct wl_note *n, const struct wl_err *err)
{
	if (!n->bad)
		snprintf(n->text, sizeof(n->text), "%.*s", WL_NOTE_BYTES - 1, err->msg);
	n->bad = true;
}

/* Fills row i of the batch at (epoch, start), falling back as the head of this file says.
 * -1: not the sample's fault. */
static int fill_row(struct wl_loader *l, struct wl_worker *w, struct wl_slot *s, int64_t epoch,
	int64_t start, int64_t i, struct wl_err *err)
{
	int64_t p = wrap(l, start + l->o.rank + i * l->o.world, &epoch), at = p;
	struct wl_note *note = &s->notes[i];
	struct wl_row row;
	int tries;

	note->bad = note->absent = false;
	if (p >= l->order.size) {
		note->absent = true;
		return 0;
	}
	row_of(l, s, i, &row);
	if (row.planes)
		row.planes->area = i;
	for (tries = 0; tries < MAX_TRIES; tries++) {
		struct wl_err why = WL_ERR_INIT;
		int64_t showing, sample = wl_order_at(&l->order, epoch, at, &showing);

		s->b.samples[i] = sample;
		if (wl_worker_sample(w, showing, sample, &row, &why) == 0)
			return 0;
		if (why.code != WL_EDATA) {
			*err = why;
			return -1;
		}
		note_bad(note, &why);
		if (!l->o.shuffle) {
			note->absent = true;
			return 0;
		}
		at = (p + l->order.size / 2 + tries) % l->order.size;
	}
	return wl_err_set(err, WL_EDATA,
		"%d samples in a row of split \"%s\" in %s cannot be used; the first: %s%s",
		(int)MAX_TRIES, l->split, l->dir, note->text,
		strstr(note->text, "run wenlan-shard") ? "" : "; run wenlan-shard verify on it");
}

/* Tells a set elsewhere what the row that comes `after` rows later will read. */
static void announce(const struct wl_loader *l, int64_t seq, int64_t row, int64_t after)
{
	int64_t later = seq * l->o.batch + row + after, epoch, p;

	if (past_end(l, later / l->o.batch))
		return;
	batch_start(l, later / l->o.batch, &epoch, &p);
	p += l->o.rank + later % l->o.batch * l->o.world;
	p = wrap(l, p, &epoch);
	if (p < l->order.size)
		wl_shardset_ahead(l->shards, wl_order_at(&l->order, epoch, p, NULL));
}

/* Waits for a row to work on; false when the loader closes. */
static bool take_row(struct wl_loader *l, int64_t *seq, int64_t *row, int64_t *epoch,
	int64_t *start)
{
	for (;;) {
		*seq = l->next_row / l->o.batch;
		if (l->stopping)
			return false;
		if (!l->paused && *seq < l->released + l->n_slots && !past_end(l, *seq))
			break;
		pthread_cond_wait(&l->room, &l->lock);
	}
	*row = l->next_row++ % l->o.batch;
	batch_start(l, *seq, epoch, start);
	l->in_flight++;
	return true;
}

void *wl_loader_work(void *arg)
{
	struct wl_hand *hand = arg;
	struct wl_loader *l = hand->l;
	int64_t seq, row, epoch, start;

	pthread_mutex_lock(&l->lock);
	while (take_row(l, &seq, &row, &epoch, &start)) {
		struct wl_slot *s = &l->slots[seq % l->n_slots];
		struct wl_err err = WL_ERR_INIT;
		int rc;

		pthread_mutex_unlock(&l->lock);
		for (int64_t k = 1; seq + row == 0 && k < AHEAD_ROWS; k++)
			announce(l, seq, row, k);
		announce(l, seq, row, AHEAD_ROWS);
		rc = fill_row(l, hand->w, s, epoch, start, row, &err);
		pthread_mutex_lock(&l->lock);
		wl_worker_times(hand->w, &l->times);
		if (rc < 0 && s->fatal.code == WL_OK)
			s->fatal = err;
		if (++s->rows_done == l->o.batch)
			pthread_cond_signal(&l->ready);
		if (--l->in_flight == 0)
			pthread_cond_signal(&l->idle);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

int64_t wl_loader_size(const struct wl_loader *l)
{
	return l->order.size;
}

int64_t wl_loader_batches(const struct wl_loader *l)
{
	int64_t g = global_batch(l);

	return l->o.shuffle ? l->order.size / g : (l->order.size + g - 1) / g;
}

struct wl_shardset *wl_loader_shards(const struct wl_loader *l)
{
	return l->shards;
}

/* ---- giving batches out ---- */

/* Row `from` becomes row `to` < from, which was left out. */
static void move_row(struct wl_loader *l, struct wl_slot *s, int64_t from, int64_t to)
{
	size_t r = (size_t)l->o.regions, px = 3 * (size_t)l->o.image_px * (size_t)l->o.image_px;
	struct wl_row a, b;

	row_of(l, s, from, &a);
	row_of(l, s, to, &b);
	if (a.pixels)
		memcpy(b.pixels, a.pixels, px * sizeof(float));
	if (a.crops)
		memcpy(b.crops, a.crops, px);
	if (a.planes) /* which names its area, wherever it stands itself */
		*b.planes = *a.planes;
	*b.params = *a.params;
	memcpy(b.boxes, a.boxes, r * 4 * sizeof(float));
	memcpy(b.region_mask, a.region_mask, r * sizeof(float));
	*b.pair_id = *a.pair_id;
	s->b.samples[to] = s->b.samples[from];
	if (a.texts->borrowed) {
		memcpy(b.texts->ids, a.texts->ids, (size_t)l->o.text_len * sizeof(int32_t));
		b.texts->lens[0] = a.texts->lens[0];
		b.texts->hash[0] = a.texts->hash[0];
		b.texts->n = a.texts->n;
	} else {
		struct wl_texts t = *b.texts;

		*b.texts = *a.texts;
		*a.texts = t;
	}
}

/* mem made larger, or as it was with *ok false. */
static void *larger(void *mem, size_t bytes, bool *ok)
{
	void *p = realloc(mem, bytes);

	if (p)
		return p;
	*ok = false;
	return mem;
}

static int grow_texts(struct wl_batch *b, size_t n, size_t len, struct wl_err *err)
{
	bool ok = true;

	b->ids = larger(b->ids, n * len * sizeof(int32_t), &ok);
	b->lens = larger(b->lens, n * sizeof(int32_t), &ok);
	b->text_mask = larger(b->text_mask, n * len * sizeof(float), &ok);
	b->text_hash = larger(b->text_hash, n * sizeof(uint64_t), &ok);
	b->text_image = larger(b->text_image, n * sizeof(int64_t), &ok);
	return ok ? 0 : wl_err_nomem(err, "the captions of a batch", n * len * sizeof(int32_t));
}

/* Puts the rows' captions one after the other and fills the masks. */
static int join_texts(struct wl_loader *l, struct wl_slot *s, struct wl_err *err)
{
	struct wl_batch *b = &s->b;
	int64_t len = l->o.text_len, i, k, n = 0;

	for (i = 0; i < b->n; i++)
		n += s->texts[i].n;
	if (l->o.all_captions && n > 0)
		WL_TRY(grow_texts(b, (size_t)n, (size_t)len, err));
	b->n_texts = 0;
	for (i = 0; i < b->n; i++) {
		const struct wl_texts *t = &s->texts[i];

		for (k = 0; k < t->n; k++)
			b->text_image[b->n_texts + k] = i;
		if (l->o.all_captions) {
			memcpy(b->ids + b->n_texts * len, t->ids,
				(size_t)(t->n * len) * sizeof(int32_t));
			memcpy(b->lens + b->n_texts, t->lens, (size_t)t->n * sizeof(int32_t));
			memcpy(b->text_hash + b->n_texts, t->hash, (size_t)t->n * sizeof(uint64_t));
		}
		b->n_texts += t->n;
	}
	for (i = 0; i < b->n_texts; i++)
		for (k = 0; k < len; k++)
			b->text_mask[i * len + k] = k < b->lens[i] ? 1 : 0;
	return 0;
}

/* Counts and names the bad rows; stops over the bound.  The bound is taken of the whole split
 * until as many samples were seen, so that one bad file early on is not a rate of 100 %. */
static int report_bad(struct wl_loader *l, struct wl_slot *s, int64_t rows, struct wl_err *err)
{
	int64_t share = (l->order.size + l->o.world - 1) / l->o.world, i;
	const char *last = "";
	double base;

	for (i = 0; i < rows; i++) {
		if (!s->notes[i].bad)
			continue;
		last = s->notes[i].text;
		l->stats.bad++;
		if (l->named++ < MAX_NAMED)
			wl_warn("left out: %s%s", last,
				l->named == MAX_NAMED ? " (further ones are counted, not named)"
						      : "");
	}
	base = (double)(l->stats.samples > share ? l->stats.samples : share);
	if (*last && (double)l->stats.bad > l->o.max_bad_rate * base)
		return wl_err_set(err, WL_EDATA,
			"%lld of %lld samples of split \"%s\" in %s cannot be used, more than the "
			"%g allowed; the last: %s; %sraise max_bad_rate to go on without them",
			(long long)l->stats.bad, (long long)base, l->split, l->dir,
			l->o.max_bad_rate, last,
			strstr(last, "run wenlan-shard") ? "or " : "run wenlan-shard verify, or ");
	return 0;
}

static int finish_batch(struct wl_loader *l, struct wl_slot *s, int64_t seq, struct wl_err *err)
{
	struct wl_batch *b = &s->b;
	int64_t i, n = 0, rows = 0;

	if (s->fatal.code != WL_OK) {
		if (err)
			*err = s->fatal;
		return -1;
	}
	for (i = 0; i < l->o.batch; i++) {
		rows += !s->notes[i].absent || s->notes[i].bad;
		if (s->notes[i].absent)
			continue;
		if (n != i)
			move_row(l, s, i, n);
		n++;
	}
	b->n = n;
	batch_start(l, seq, &b->epoch, &b->position);
	l->stats.samples += rows;
	WL_TRY(report_bad(l, s, l->o.batch, err));
	return join_texts(l, s, err);
}

int wl_loader_next(struct wl_loader *l, const struct wl_batch **b, struct wl_err *err)
{
	double t = wl_now_s();
	int64_t seq = l->given;
	struct wl_slot *s = &l->slots[seq % l->n_slots];

	if (past_end(l, seq))
		return 0;
	pthread_mutex_lock(&l->lock);
	if (l->released < seq - (l->hold - 1)) { /* the oldest batch given is free again */
		struct wl_slot *old = &l->slots[l->released % l->n_slots];

		old->rows_done = 0;
		l->released++;
		pthread_cond_broadcast(&l->room);
	}
	while (s->rows_done < l->o.batch)
		pthread_cond_wait(&l->ready, &l->lock);
	pthread_mutex_unlock(&l->lock);
	l->stats.wait_s += wl_now_s() - t;
	WL_TRY(finish_batch(l, s, seq, err));
	l->given++;
	*b = &s->b;
	return 1;
}

bool wl_loader_ready(struct wl_loader *l)
{
	bool ready;

	if (past_end(l, l->given))
		return true;
	pthread_mutex_lock(&l->lock);
	ready = l->slots[l->given % l->n_slots].rows_done >= l->o.batch;
	pthread_mutex_unlock(&l->lock);
	return ready;
}

/* ---- position ---- */

void wl_loader_tell(const struct wl_loader *l, struct wl_loader_pos *pos)
{
	batch_start(l, l->given, &pos->epoch, &pos->position);
	pos->skipped = l->skipped_before + l->stats.bad;
}

int wl_loader_seek(struct wl_loader *l, const struct wl_loader_pos *pos, struct wl_err *err)
{
	int64_t i;

	if (pos->epoch < 0 || pos->position < 0 || pos->position > l->order.size)
		return wl_err_set(err, WL_EDATA,
			"position %lld of epoch %lld is outside split \"%s\" in %s, which has "
			"%lld samples; are these the shards that the run began with?",
			(long long)pos->position, (long long)pos->epoch, l->split, l->dir,
			(long long)l->order.size);
	pthread_mutex_lock(&l->lock);
	l->paused = true;
	while (l->in_flight > 0)
		pthread_cond_wait(&l->idle, &l->lock);
	for (i = 0; i < l->n_slots; i++) {
		l->slots[i].rows_done = 0;
		l->slots[i].fatal = (struct wl_err)WL_ERR_INIT;
	}
	l->next_row = l->given = l->released = 0;
	l->base_epoch = pos->epoch;
	l->base_position = pos->position;
	l->skipped_before = pos->skipped;
	l->stats.bad = l->stats.samples = 0;
	l->paused = false;
	pthread_cond_broadcast(&l->room);
	pthread_mutex_unlock(&l->lock);
	return 0;
}

void wl_loader_stats(const struct wl_loader *l, struct wl_loader_stats *out)
{
	struct wl_loader *m = (struct wl_loader *)(uintptr_t)l; /* the lock is not data */

	pthread_mutex_lock(&m->lock);
	*out = l->stats;
	out->read_s = l->times.read_s;
	out->decode_s = l->times.decode_s;
	out->augment_s = l->times.augment_s;
	out->text_s = l->times.text_s;
	pthread_mutex_unlock(&m->lock);
}

/* Opening and closing: options checked, all memory allocated, threads started. */
#include "loader/loader_priv.h"

#include "ops/pool.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 256 };

static int check_opts(const struct wl_loader_opts *o, struct wl_err *err)
{
	const char *what = NULL;

	if (o->batch < 1 || o->batch > 1 << 20)
		what = "batch must be at least 1 (and at most 1048576)";
	else if (o->image_px < 1 || o->image_px > 4096)
		what = "image_px must lie between 1 and 4096";
	else if (o->regions < 1 || o->regions > 4096)
		what = "regions must lie between 1 and 4096";
	else if (o->grid < 0 || o->grid > 64 || o->grid * o->grid + 1 > o->regions)
		what = "grid * grid cells and the whole image need as many regions: raise "
		       "regions or lower grid";
	else if (o->text_len < 2 || o->text_len > 4096)
		what = "text_len must lie between 2 and 4096";
	else if (!o->vocab)
		what = "a vocabulary is needed";
	else if (o->world < 1 || o->rank < 0 || o->rank >= o->world)
		what = "rank must lie between 0 and world - 1";
	else if (o->threads < 0 || o->threads > MAX_THREADS)
		what = "threads must lie between 0 and 256";
	else if (o->prefetch < 0 || o->prefetch > 1024)
		what = "prefetch must lie between 0 and 1024";
	else if (o->hold < 0 || o->hold > 16)
		what = "hold must lie between 0 and 16";
	else if (o->crops_only && o->planes_only)
		what = "crops_only and planes_only exclude each other";
	else if (o->jpegs && !o->planes_only)
		what = "jpegs needs planes_only";
	else if (o->limit < 0)
		what = "limit must not be negative";
	else if (!(o->std[0] > 0 && o->std[1] > 0 && o->std[2] > 0))
		what = "std must be positive";
	if (what)
		return wl_err_set(err, WL_EUSAGE, "loader: %s", what);
	return 0;
}

static int open_shards(struct wl_loader *l, struct wl_err *err)
{
	l->shards = wl_shardset_open_at(&(struct wl_shard_place){.at = l->dir,
		.cache = l->o.cache, .cache_bytes = l->o.cache_bytes,
		.in_order = !l->o.shuffle}, l->split, err);
	if (!l->shards)
		return -1;
	WL_TRY(wl_order_init(&l->order, l->shards, l->o.shuffle, l->o.seed, l->o.limit, l->o.mix,
		err));
	if (l->o.shuffle && l->order.size < (l->o.batch * l->o.world))
		return wl_err_set(err, WL_EUSAGE, "split \"%s\" in %s holds %lld samples, fewer "
			"than one batch (%lld, over all ranks); lower the batch (--data.batch of "
			"wenlan-train, --batch of the others), or take a larger split",
			l->split, l->dir,
			(long long)l->order.size, (long long)(l->o.batch * l->o.world));
	return 0;
}

/* The areas of planes_only. */
static int alloc_areas(struct wl_loader *l, struct wl_slot *s, struct wl_err *err)
{
	const struct wl_loader_memory *m = &l->o.memory;
	struct wl_batch *b = &s->b;
	size_t n = (size_t)l->o.batch;

	b->area_bytes = wl_planes_area(l->o.image_px);
	b->planes = wl_arena_calloc(&l->arena, n, sizeof(*b->planes), err);
	if (!b->planes)
		return -1;
	if (m->alloc) {
		b->areas = m->alloc(m->user, n * b->area_bytes, err);
		s->lent = b->areas != NULL;
	} else {
		b->areas = wl_arena_calloc(&l->arena, n, b->area_bytes, err);
	}
	return b->areas ? 0 : -1;
}

static int alloc_slot(struct wl_loader *l, struct wl_slot *s, struct wl_err *err)
{
	const struct wl_loader_opts *o = &l->o;
	size_t n = (size_t)o->batch, r = (size_t)o->regions, len = (size_t)o->text_len, i;
	size_t picture = 3 * (size_t)o->image_px * (size_t)o->image_px;
	struct wl_arena *a = &l->arena;
	struct wl_batch *b = &s->b;

	if (o->planes_only)
		WL_TRY(alloc_areas(l, s, err));
	else if (o->crops_only)
		b->crops = wl_arena_calloc(a, n, picture, err);
	else
		b->pixels = wl_arena_calloc(a, n, picture * sizeof(float), err);
	b->params = wl_arena_calloc(a, n, sizeof(*b->params), err);
	b->boxes = wl_arena_calloc(a, n, r * 4 * sizeof(float), err);
	b->region_mask = wl_arena_calloc(a, n, r * sizeof(float), err);
	b->pair_ids = wl_arena_calloc(a, n, sizeof(int64_t), err);
	b->samples = wl_arena_calloc(a, n, sizeof(int64_t), err);
	s->notes = wl_arena_calloc(a, n, sizeof(*s->notes), err);
	s->texts = wl_arena_calloc(a, n, sizeof(*s->texts), err);
	if ((!b->crops && !b->pixels && !b->areas) || !b->params || !b->boxes || !b->region_mask ||
		!b->pair_ids || !b->samples || !s->notes || !s->texts)
		return -1;
	if (o->all_captions) /* as many as there are: grown when the batch is put together */
		return 0;
	b->ids = wl_arena_calloc(a, n, len * sizeof(int32_t), err);
	b->lens = wl_arena_calloc(a, n, sizeof(int32_t), err);
	b->text_mask = wl_arena_calloc(a, n, len * sizeof(float), err);
	b->text_hash = wl_arena_calloc(a, n, sizeof(uint64_t), err);
	b->text_image = wl_arena_calloc(a, n, sizeof(int64_t), err);
	if (!b->ids || !b->lens || !b->text_mask || !b->text_hash || !b->text_image)
		return -1;
	for (i = 0; i < n; i++)
		s->texts[i] = (struct wl_texts){b->ids + i * len, b->lens + i, b->text_hash + i,
			0, 1, true};
	return 0;
}

/* Signals are for the main thread. */
static int start_threads(struct wl_loader *l, struct wl_err *err)
{
	sigset_t all, old;
	int i, rc = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (i = 0; i < l->n_threads && rc == 0; i++) {
		rc = pthread_create(&l->hands[i].thread, NULL, wl_loader_work, &l->hands[i]);
		l->started += rc == 0;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return wl_err_set(err, WL_EFAIL, "loader thread %d could not be started: %s", i,
			strerror(rc));
	return 0;
}

static int open_loader(struct wl_loader *l, struct wl_err *err)
{
	int i;

	l->dir = wl_arena_strdup(&l->arena, l->o.dir, err);
	l->split = wl_arena_strdup(&l->arena, l->o.split, err);
	if (!l->dir || !l->split)
		return -1;
	WL_TRY(open_shards(l, err));
	l->n_threads = l->o.threads ? l->o.threads : (int)wl_cores();
	l->hold = l->o.hold ? l->o.hold : 1;
	l->n_slots = (l->o.prefetch ? l->o.prefetch : 2) + 1 + l->hold;
	l->slots = wl_arena_calloc(&l->arena, (size_t)l->n_slots, sizeof(*l->slots), err);
	l->hands = wl_arena_calloc(&l->arena, (size_t)l->n_threads, sizeof(*l->hands), err);
	if (!l->slots || !l->hands)
		return -1;
	for (i = 0; i < l->n_slots; i++)
		WL_TRY(alloc_slot(l, &l->slots[i], err));
	for (i = 0; i < l->n_threads; i++) {
		l->hands[i].l = l;
		l->hands[i].w = wl_worker_new(&l->o, l->shards, err);
		if (!l->hands[i].w)
			return -1;
	}
	return start_threads(l, err);
}

struct wl_loader *wl_loader_open(const struct wl_loader_opts *o, struct wl_err *err)
{
	struct wl_loader *l;

	if (check_opts(o, err) < 0)
		return NULL;
	l = calloc(1, sizeof(*l));
	if (!l) {
		wl_err_nomem(err, "the loader", sizeof(*l));
		return NULL;
	}
	l->o = *o;
	if (l->o.max_bad_rate == 0)
		l->o.max_bad_rate = 0.01;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->room, NULL);
	pthread_cond_init(&l->ready, NULL);
	pthread_cond_init(&l->idle, NULL);
	if (open_loader(l, err) < 0) {
		wl_loader_close(l);
		return NULL;
	}
	return l;
}

static void free_texts(struct wl_loader *l, struct wl_slot *s)
{
	int64_t i;

	for (i = 0; s->texts && i < l->o.batch; i++)
		wl_texts_release(&s->texts[i]);
	if (!l->o.all_captions)
		return;
	free(s->b.ids);
	free(s->b.lens);
	free(s->b.text_mask);
	free(s->b.text_hash);
	free(s->b.text_image);
}

static void stop_threads(struct wl_loader *l)
{
	pthread_mutex_lock(&l->lock);
	l->stopping = true;
	pthread_cond_broadcast(&l->room);
	pthread_mutex_unlock(&l->lock);
	for (int64_t i = 0; i < l->started; i++)
		pthread_join(l->hands[i].thread, NULL);
	l->started = 0;
}

void wl_loader_close(struct wl_loader *l)
{
	int64_t i;

	if (!l)
		return;
	stop_threads(l);
	for (i = 0; l->hands && i < l->n_threads; i++)
		wl_worker_free(l->hands[i].w);
	for (i = 0; l->slots && i < l->n_slots; i++) {
		free_texts(l, &l->slots[i]);
		if (l->slots[i].lent)
			l->o.memory.free(l->o.memory.user, l->slots[i].b.areas);
	}
	wl_order_release(&l->order);
	wl_shardset_close(l->shards);
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->room);
	pthread_cond_destroy(&l->ready);
	pthread_cond_destroy(&l->idle);
	wl_arena_release(&l->arena);
	free(l);
}

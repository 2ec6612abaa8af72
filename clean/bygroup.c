/*
 * See bygroup.h.
 *
 * Where a record goes is told by its key's place (wl_place), from the top: rank, slice, then one
 * of 1024 buckets.  Each thread fills buckets of its own, in chunks, by way of a cache line for
 * each: a record goes to a line that is at hand, and four at a time to where they belong.  A
 * bucket is small enough for the cache.  Where keys have few first bits, the rest of the place
 * tells the groups, and one pass over the bucket brings them together; otherwise it is sorted by
 * a mix of these bits, and its runs of equal keys are the groups.
 */
#include "clean/bygroup.h"

#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
	BUCKETS = 1024,
	LINE = 4, /* records that are 64 bytes */
	CHUNK_BYTES = 4096,
	CHUNK = CHUNK_BYTES / 16 - LINE, /* records: all lines of a chunk but its head */
	SLAB = 511,			 /* chunks allocated at once: with its head a huge page */
	HUGE_PAGE = 2 << 20,
	DIGIT = 10,	    /* bits of the mix that a bucket is sorted by at a time */
	ONE_DIGIT = 1024,   /* records for which one digit is enough */
	PLACE_MAX = 12,	    /* bits of a place that one pass brings together */
	BYTES_A_RECORD = 17 /* with heads of chunks, and a bucket's copy */
};

/* ---- emitting ---- */

struct chunk {
	_Alignas(CHUNK_BYTES) struct chunk *next;
	uint32_t n; /* CHUNK in all but a bucket's first one, whose number is set in the end */
	_Alignas(64) struct wl_rec v[CHUNK];
};

struct bucket {
	struct chunk *first;
	size_t n; /* set in the end */
};

struct slab {
	struct chunk v[SLAB];
	struct slab *next;
};

struct line {
	_Alignas(64) struct wl_rec v[LINE];
};

struct wl_emitter {
	struct wl_pass pass; /* first: wl_emit looks at it */
	uint32_t rank;
	struct bucket *buckets;	    /* [BUCKETS] of this rank, then one for each rank */
	struct line *lines;	    /* [BUCKETS] what is on its way there */
	struct wl_rec **to;	    /* [BUCKETS] where the line goes; at a chunk's end: nowhere */
	uint8_t *held;		    /* [BUCKETS] records in the line */
	struct slab *slabs, *spare; /* in use, the first one up to `used`; kept for the next pass */
	size_t used;
	bool no_memory;
	struct wl_err err;
	int ret;
};

/* In huge pages where the system has them: a thousand places are written to in turn, which is more
 * than the processor knows the small pages of. */
static struct slab *slab_new(void)
{
	size_t n = (sizeof(struct slab) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
	struct slab *s = aligned_alloc(HUGE_PAGE, n);

	if (s)
		(void)madvise(s, n, MADV_HUGEPAGE); /* a hint: it may fail */
	return s;
}

static struct chunk *chunk_new(struct wl_emitter *e)
{
	struct slab *s = e->slabs;

	if (!s || e->used == SLAB) {
		s = e->spare ? e->spare : slab_new();
		if (!s)
			return NULL;
		if (e->spare)
			e->spare = s->next;
		s->next = e->slabs;
		e->slabs = s;
		e->used = 0;
	}
	return &s->v[e->used++];
}

/* A new first chunk, full but for what is said later; false: no memory. */
static bool bucket_grow(struct wl_emitter *e, struct bucket *b)
{
	struct chunk *c = e->no_memory ? NULL : chunk_new(e);

	if (!c) {
		e->no_memory = true;
		return false;
	}
	c->next = b->first;
	c->n = CHUNK;
	b->first = c;
	return true;
}

/* One of another rank. */
static void bucket_add(struct wl_emitter *e, struct bucket *b, const struct wl_rec *r)
{
	if (!b->first || b->first->n == CHUNK) {
		if (!bucket_grow(e, b))
			return;
		b->first->n = 0;
	}
	b->first->v[b->first->n++] = *r;
	b->n++;
}

/* Past the caches, for it is long until this is read: what is written over need not be read
 * first, and lines stay where they are. */
static inline void put_line(struct wl_rec *to, const struct line *l, const struct wl_rec *last)
{
#if defined(__SSE2__)
	for (int i = 0; i < LINE - 1; i++)
		_mm_stream_si128((__m128i *)(void *)&to[i],
			_mm_load_si128((const __m128i *)(const void *)&l->v[i]));
	_mm_stream_si128((__m128i *)(void *)&to[LINE - 1],
		_mm_loadu_si128((const __m128i *)(const void *)last));
#else
	memcpy(to, l->v, (LINE - 1) * sizeof(*to));
	to[LINE - 1] = *last;
#endif
}

static bool at_end(const struct wl_rec *to)
{
	return (uintptr_t)to % CHUNK_BYTES == 0; /* NULL too */
}

/* What is still in lines goes to the buckets, and these are counted. */
static void emitter_flush(struct wl_emitter *e)
{
	for (size_t i = 0; i < BUCKETS; i++) {
		struct bucket *b = &e->buckets[i];
		if (e->held[i] && at_end(e->to[i])) {
			if (!bucket_grow(e, b))
				return;
			e->to[i] = b->first->v;
		}
		if (e->held[i])
			memcpy(e->to[i], e->lines[i].v, e->held[i] * sizeof(struct wl_rec));
		if (b->first)
			b->first->n = at_end(e->to[i])
					      ? CHUNK
					      : (uint32_t)(e->to[i] - b->first->v) + e->held[i];
		b->n = 0;
		for (const struct chunk *c = b->first; c; c = c->next)
			b->n += c->n;
	}
#if defined(__SSE2__)
	_mm_sfence(); /* other threads will read */
#endif
}

/* After emitter_flush: more may come to the same lines. */
static void emitter_again(struct wl_emitter *e)
{
	for (size_t i = 0; i < BUCKETS; i++)
		if (e->buckets[i].first)
			e->buckets[i].first->n = CHUNK;
}

static inline uint64_t mix_of(uint64_t key, int bits)
{
	return wl_mix64(key >> (64 - bits));
}

void wl_emit_taken(struct wl_emitter *e, struct wl_rec r, uint64_t mix, uint32_t rank)
{
	uint32_t b, held;

	if (rank != e->rank) {
		bucket_add(e, &e->buckets[BUCKETS + rank], &r);
		return;
	}
	b = wl_digit(&mix, BUCKETS);
	held = e->held[b];
	if (held < LINE - 1) {
		e->lines[b].v[held] = r;
		e->held[b] = (uint8_t)(held + 1);
		return;
	}
	e->held[b] = 0;
	if (__builtin_expect(at_end(e->to[b]), 0)) {
		if (!bucket_grow(e, &e->buckets[b])) {
			e->to[b] = NULL;
			return;
		}
		e->to[b] = e->buckets[b].first->v;
	}
	put_line(e->to[b], &e->lines[b], &r);
	e->to[b] += LINE;
}

/* All slabs are spare again. */
static void emitter_reset(struct wl_emitter *e)
{
	while (e->slabs) {
		struct slab *next = e->slabs->next;
		e->slabs->next = e->spare;
		e->spare = e->slabs;
		e->slabs = next;
	}
	e->used = 0;
	memset(e->to, 0, BUCKETS * sizeof(*e->to));
	memset(e->held, 0, BUCKETS);
}

static void emitter_release(struct wl_emitter *e)
{
	while (e->slabs) {
		struct slab *next = e->slabs->next;
		free(e->slabs);
		e->slabs = next;
	}
	while (e->spare) {
		struct slab *next = e->spare->next;
		free(e->spare);
		e->spare = next;
	}
	free(e->buckets);
	free(e->lines);
	free(e->to);
	free(e->held);
}

/* ---- one pass ---- */

struct pass {
	const struct wl_bygroup *job;
	struct wl_emitter *e; /* [parts] */
	size_t parts;
	uint32_t ranks, slices, slice;
	struct wl_values *out; /* [BUCKETS] */
	bool no_memory;
};

static void emit_part(void *ctx, size_t i)
{
	struct pass *p = ctx;
	struct wl_emitter *e = &p->e[i];

	e->ret = p->job->emit(p->job->ctx, e, i, p->parts, &e->err);
	emitter_flush(e);
}

/* One pass of a radix sort by a digit of the mix. */
static void sort_digit(const struct wl_rec *v, struct wl_rec *to, size_t n, int bits, int shift)
{
	uint32_t at[1 << DIGIT] = {0}, sum = 0;
	const uint64_t mask = (1 << DIGIT) - 1;

	for (size_t i = 0; i < n; i++)
		at[mix_of(v[i].key, bits) >> shift & mask]++;
	for (int k = 0; k < 1 << DIGIT; k++) {
		uint32_t here = at[k];
		at[k] = sum;
		sum += here;
	}
	for (size_t i = 0; i < n; i++)
		to[at[mix_of(v[i].key, bits) >> shift & mask]++] = v[i];
}

static bool is_group(const struct wl_bygroup *job, const struct wl_rec *r, size_t n)
{
	uint64_t differ = 0;

	for (size_t i = 1; i < n; i++)
		differ |= r[i].key ^ r[0].key;
	return differ >> (64 - job->bits) == 0;
}

/* A run whose mixes agree in their low digits: mostly one group; otherwise, or where the order
 * matters, sorted by key, and cut where the first bits differ. */
static void show_run(
	const struct wl_bygroup *job, struct wl_values *out, struct wl_rec *r, size_t n)
{
	if (n < job->sort_from && is_group(job, r, n)) {
		job->group(job->ctx, out, r, n);
		return;
	}
	wl_recs_sort(r, n);
	for (size_t from = 0, i = 1; i <= n; i++) {
		if (i < n && (r[i].key ^ r[from].key) >> (64 - job->bits) == 0)
			continue;
		if (i - from >= 2)
			job->group(job->ctx, out, r + from, i - from);
		from = i;
	}
}

/* What a place is multiplied by so that what told the bucket falls off its top. */
static uint64_t beyond_bucket(const struct pass *p)
{
	return (uint64_t)BUCKETS * p->ranks * (p->job->sliced ? 1 : p->slices);
}

/* How many more bits of a place tell all groups of a bucket; -1: more than one pass brings
 * together. */
static int place_bits(const struct pass *p)
{
	int bits = 0;

	if (p->job->bits > WL_FEW_BITS)
		return -1;
	while (bits <= PLACE_MAX && beyond_bucket(p) << bits < (uint64_t)1 << p->job->bits)
		bits++;
	return bits <= PLACE_MAX ? bits : -1;
}

static void fetch_chunk(const struct chunk *c)
{
	for (const char *p = (const char *)c; c && p < (const char *)&c->v[8 * LINE]; p += 64)
		__builtin_prefetch(p);
}

/* The groups of a bucket whose next `next` bits of the place tell them, by way of
 * v [records of the bucket]. */
static void show_places(const struct pass *p, size_t i, int next, struct wl_rec *v)
{
	uint32_t at[(1 << PLACE_MAX) + 1], from = 0, places = (uint32_t)1 << next;
	const uint64_t beyond = beyond_bucket(p);
	const int bits = p->job->bits, shift = 63 - next;

	memset(at, 0, (places + 1) * sizeof(*at));
	for (size_t k = 0; k < p->parts; k++)
		for (struct chunk *c = p->e[k].buckets[i].first; c; c = c->next) {
			fetch_chunk(c->next);
			for (uint32_t j = 0; j < c->n; j++)
				at[1 + (wl_place(c->v[j].key, bits) * beyond >> 1 >> shift)]++;
		}
	for (uint32_t k = 1; k < places; k++)
		at[k] += at[k - 1];
	/* at[k]: where the next of place k goes; in the end, where place k + 1 begins. */
	for (size_t k = 0; k < p->parts; k++)
		for (struct chunk *c = p->e[k].buckets[i].first; c; c = c->next)
			for (uint32_t j = 0; j < c->n; j++)
				v[at[wl_place(c->v[j].key, bits) * beyond >> 1 >> shift]++] =
					c->v[j];
	for (uint32_t k = 0; k < places; from = at[k++]) {
		uint32_t n = at[k] - from;
		if (n < 2)
			continue;
		if (n >= p->job->sort_from)
			wl_recs_sort(v + from, n);
		p->job->group(p->job->ctx, &p->out[i], v + from, n);
	}
}

static void show_bucket(void *ctx, size_t i)
{
	struct pass *p = ctx;
	int bits = p->job->bits, next = place_bits(p);
	struct wl_rec *v, *r;
	uint64_t low, first = 0;
	size_t n = 0, from = 0;

	for (size_t k = 0; k < p->parts; k++)
		n += p->e[k].buckets[i].n;
	if (n < 2)
		return;
	v = malloc((next < 0 ? 2 : 1) * n * sizeof(*v));
	if (!v || n > UINT32_MAX) {
		free(v);
		p->out[i].no_memory = true;
		return;
	}
	if (next >= 0) {
		show_places(p, i, next, v);
		free(v);
		wl_values_unique(&p->out[i]);
		return;
	}
	n = 0;
	for (size_t k = 0; k < p->parts; k++)
		for (struct chunk *c = p->e[k].buckets[i].first; c; c = c->next) {
			memcpy(v + n, c->v, c->n * sizeof(*v));
			n += c->n;
		}
	sort_digit(v, v + n, n, bits, 0);
	r = v + n;
	if (n > ONE_DIGIT) {
		sort_digit(r, v, n, bits, DIGIT);
		r = v;
	}
	low = ((uint64_t)1 << (n > ONE_DIGIT ? 2 * DIGIT : DIGIT)) - 1;
	for (size_t k = 0; k <= n; k++) {
		uint64_t here = k < n ? mix_of(r[k].key, bits) & low : ~low;
		if (k && here == first)
			continue;
		if (k - from >= 2)
			show_run(p->job, &p->out[i], r + from, k - from);
		from = k;
		first = here;
	}
	free(v);
	wl_values_unique(&p->out[i]);
}

/* Records of other ranks to them; theirs for us into our buckets. */
static int exchange(struct pass *p, struct wl_comm *comm, struct wl_err *err)
{
	size_t ranks = p->ranks, total = 0, *send = calloc(2 * ranks, sizeof(*send)), got = 0;
	struct wl_rec *v = NULL, *at;
	void *in = NULL;
	int ret = -1;

	if (!send)
		return wl_err_nomem(err, p->job->what, 0);
	for (size_t r = 0; r < ranks; r++) {
		for (size_t k = 0; k < p->parts; k++)
			send[r] += p->e[k].buckets[BUCKETS + r].n * sizeof(*v);
		total += send[r];
	}
	v = malloc(total + 1);
	if (!v) {
		wl_err_nomem(err, p->job->what, total);
		goto out;
	}
	at = v;
	for (size_t r = 0; r < ranks; r++)
		for (size_t k = 0; k < p->parts; k++) {
			struct bucket *b = &p->e[k].buckets[BUCKETS + r];
			for (struct chunk *c = b->first; c; c = c->next) {
				memcpy(at, c->v, c->n * sizeof(*at));
				at += c->n;
			}
			b->first = NULL;
			b->n = 0;
		}
	WL_TRY_OUT(wl_comm_alltoallv(comm, v, send, &in, send + ranks, err));
	for (size_t r = 0; r < ranks; r++)
		got += send[ranks + r];
	at = in;
	emitter_again(&p->e[0]);
	for (size_t i = 0; i < got / sizeof(*at); i++)
		wl_emit(&p->e[0], at[i].key, at[i].idx, at[i].aux);
	emitter_flush(&p->e[0]);
	ret = 0;
out:
	free(v);
	free(in);
	free(send);
	return ret;
}

static int check_emitters(struct pass *p, struct wl_err *err)
{
	for (size_t i = 0; i < p->parts; i++) {
		if (p->e[i].ret < 0) {
			if (err)
				*err = p->e[i].err;
			return -1;
		}
		if (p->e[i].no_memory)
			return wl_err_nomem(err, p->job->what, sizeof(struct chunk));
	}
	return 0;
}

/* All buckets' values as one sorted list: buckets are of other groups, so they may share
 * values. */
static int take_all(struct pass *p, struct wl_err *err)
{
	struct wl_values all = {0};
	size_t n = 0;
	int ret = -1;

	for (size_t i = 0; i < BUCKETS; i++) {
		if (p->out[i].no_memory)
			return wl_err_nomem(err, p->job->what, p->out[i].cap * 8);
		n += p->out[i].n;
	}
	all.v = malloc((n + 1) * sizeof(*all.v));
	if (!all.v)
		return wl_err_nomem(err, p->job->what, n * sizeof(*all.v));
	for (size_t i = 0; i < BUCKETS; i++) {
		if (p->out[i].n)
			memcpy(all.v + all.n, p->out[i].v, p->out[i].n * sizeof(*all.v));
		all.n += p->out[i].n;
		wl_values_release(&p->out[i]);
	}
	wl_values_unique(&all);
	ret = p->job->take(p->job->ctx, all.v, all.n, err);
	free(all.v);
	return ret;
}

static int run_pass(struct pass *p, struct wl_comm *comm, struct wl_pool *pool, struct wl_err *err)
{
	size_t buckets = BUCKETS + p->ranks;
	int ret = -1;

	for (size_t i = 0; i < p->parts; i++) {
		p->e[i].pass.slice = p->slice;
		emitter_reset(&p->e[i]);
		memset(p->e[i].buckets, 0, buckets * sizeof(*p->e[i].buckets));
	}
	wl_pool_for(pool, p->parts, emit_part, p);
	WL_TRY_OUT(check_emitters(p, err));
	if (p->ranks > 1)
		WL_TRY_OUT(exchange(p, comm, err));
	WL_TRY_OUT(check_emitters(p, err));
	wl_pool_for(pool, BUCKETS, show_bucket, p);
	ret = take_all(p, err);
out:
	for (size_t i = 0; i < BUCKETS; i++)
		wl_values_release(&p->out[i]);
	return ret;
}

int wl_bygroup_go_on(const char *what, struct wl_comm *comm, struct wl_err *err)
{
	int64_t stop = wl_stop_requested();

	WL_TRY(wl_comm_all_reduce(comm, &stop, 1, WL_COMM_I64, WL_COMM_MAX, err));
	return stop ? wl_err_set(err, WL_ERETRY,
			      "stopped while %s were compared; what was computed of each pair is "
			      "kept, run the same command again",
			      what)
		    : 0;
}

int wl_bygroup(const struct wl_bygroup *job, struct wl_comm *comm, struct wl_pool *pool,
	size_t memory, struct wl_err *err)
{
	struct pass p = {
		.job = job, .parts = wl_pool_threads(pool), .ranks = (uint32_t)wl_comm_size(comm)};
	uint64_t slices = job->records * BYTES_A_RECORD / (memory ? memory : 1) + 1;
	int ret = -1;

	WL_ASSERT(job->bits >= 1 && job->bits <= 64);
	if (slices > 4096)
		slices = 4096;
	WL_TRY(wl_comm_all_reduce(comm, &slices, 1, WL_COMM_U64, WL_COMM_MAX, err));
	p.slices = (uint32_t)slices;
	p.e = calloc(p.parts, sizeof(*p.e));
	p.out = calloc(BUCKETS, sizeof(*p.out));
	if (!p.e || !p.out) {
		wl_err_nomem(err, job->what, BUCKETS * sizeof(*p.out));
		goto out;
	}
	for (size_t i = 0; i < p.parts; i++) {
		p.e[i] = (struct wl_emitter){.pass = {job->bits, p.ranks, p.slices, 0, job->sliced},
			.rank = (uint32_t)wl_comm_rank(comm)};
		p.e[i].buckets = calloc(BUCKETS + p.ranks, sizeof(*p.e[i].buckets));
		p.e[i].lines = aligned_alloc(64, BUCKETS * sizeof(*p.e[i].lines));
		p.e[i].to = calloc(BUCKETS, sizeof(*p.e[i].to));
		p.e[i].held = calloc(BUCKETS, 1);
		if (!p.e[i].buckets || !p.e[i].lines || !p.e[i].to || !p.e[i].held) {
			wl_err_nomem(err, job->what, BUCKETS * sizeof(*p.e[i].buckets));
			goto out;
		}
	}
	for (; p.slice < p.slices; p.slice++) {
		WL_TRY_OUT(wl_bygroup_go_on(job->what, comm, err));
		WL_TRY_OUT(run_pass(&p, comm, pool, err));
	}
	ret = 0;
out:
	for (size_t i = 0; p.e && i < p.parts; i++)
		emitter_release(&p.e[i]);
	free(p.e);
	free(p.out);
	return ret;
}

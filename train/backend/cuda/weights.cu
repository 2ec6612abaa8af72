/*
 * Copies of weights in a half type, as products take them.  Each lies in a shadow of the allocation
 * that the weight is in (the store's values), at the same element, so that a pass over the whole
 * store can write it too, as the optimiser's does.  Otherwise a copy is made when a product wants
 * it and what it was made of has changed since.
 *
 * A recorded step finds copies made before it, but those of weights that come within it: these are
 * made there, every time.  The emulation checks at each use that a copy is its weight's.
 */
#include "train/backend/cuda/cuda.h"
#include "train/backend/cuda/room.h"

struct cuda_memory {
	char *base;
	size_t bytes;
	uint16_t *shadow; /* [bytes / 4]; NULL until a weight in it is declared */
	enum wl_dtype type; /* of which type: that of the first declared */
	struct cuda_memory *next;
};

struct cuda_weight {
	const float *w;
	int64_t n;
	uint16_t *half;
	bool stale;
	bool comes; /* by a collective in what is recorded: its memory may be another's outside */
	struct cuda_weight *next;
};

int wl_cuda_memory_add(struct cuda *c, void *base, size_t bytes, struct wl_err *err)
{
	struct cuda_memory *m = (struct cuda_memory *)calloc(1, sizeof *m);
	if (!m)
		return wl_err_nomem(err, "the list of the GPU's memory", sizeof *m);
	m->base = (char *)base;
	m->bytes = bytes;
	m->next = c->memory;
	c->memory = m;
	return 0;
}

static bool within(const struct cuda_memory *m, const void *p)
{
	return (uintptr_t)p >= (uintptr_t)m->base && (uintptr_t)p < (uintptr_t)m->base + m->bytes;
}

static struct cuda_memory *memory_of(struct cuda *c, const void *p)
{
	struct cuda_memory *m = c->memory;
	while (m && !within(m, p))
		m = m->next;
	return m;
}

void wl_cuda_memory_drop(struct cuda *c, const void *base)
{
	struct cuda_memory **at = &c->memory, *m;
	while (*at && (*at)->base != base)
		at = &(*at)->next;
	m = *at;
	if (!m)
		return;
	*at = m->next;
	for (struct cuda_weight **w = &c->weights; *w;) {
		struct cuda_weight *gone = *w;
		if (!within(m, gone->w)) {
			w = &gone->next;
			continue;
		}
		*w = gone->next;
		free(gone);
	}
	if (!m->shadow || !wl_cuda_unmap(c, m->shadow))
		cudaFree(m->shadow);
	free(m);
}

void wl_cuda_memory_release(struct cuda *c)
{
	while (c->memory)
		wl_cuda_memory_drop(c, c->memory->base);
}

static struct cuda_weight *find(struct cuda *c, const float *w, int64_t n)
{
	struct cuda_weight *e = c->weights;
	while (e && (e->w != w || e->n != n))
		e = e->next;
	return e;
}

int wl_cuda_weight_declare(
	struct cuda *c, const float *w, int64_t n, enum wl_dtype type, struct wl_err *err)
{
	struct cuda_memory *m = memory_of(c, w);
	struct cuda_weight *e;
	if (!m || find(c, w, n) || (m->shadow && m->type != type))
		return 0;
	if (!m->shadow)
		m->shadow = wl_cuda_shadow_make(c, m->base, m->bytes);
	if (!m->shadow)
		return wl_cuda_no_room("half copies of weights", m->bytes / 2, "out of memory", "",
			err);
	e = (struct cuda_weight *)calloc(1, sizeof *e);
	if (!e)
		return wl_err_nomem(err, "the list of weights", sizeof *e);
	m->type = type;
	e->w = w;
	e->n = n;
	e->half = m->shadow + ((const char *)w - m->base) / (ptrdiff_t)sizeof *w;
	e->stale = true;
	e->comes = wl_cuda_in_parts(c, m->base);
	e->next = c->weights;
	c->weights = e;
	return 0;
}

bool wl_cuda_in_one(struct cuda *c, const void *a, const void *b)
{
	const struct cuda_memory *m = memory_of(c, a);
	return m && within(m, b);
}

static __global__ void k_narrow(int64_t m, int64_t n, struct cuda_act x, struct cuda_act y,
	bool wide)
{
	EACH(j, m)
	{
		float v[8];
		act_get8(x, 8 * j, n, wide, v);
		act_put8(y, 8 * j, n, wide, v);
	}
}

void wl_cuda_convert(struct cuda *c, struct cuda_act from, struct cuda_act to, int64_t n)
{
	if (n > 0)
		CUDA_EACH(c, cuda_ceil_div(n, 8), k_narrow, n, from, to,
			act_wide(from, n) && act_wide(to, n));
}

#ifdef WL_CUDA_EMULATED
static __global__ void k_fresh(int64_t n, struct cuda_act w, struct cuda_act half)
{
	EACH(i, n)
	WL_ASSERT(((const uint16_t *)half.p)[i] ==
		(uint16_t)half_of_float(((const float *)w.p)[i], half.type));
}
static void check_fresh(struct cuda *c, const float *w, int64_t n)
{
	struct cuda_act from = {(void *)w, WL_F32};

	CUDA_EACH(c, n, k_fresh, from, wl_cuda_shadow(c, w));
}
#else
#define check_fresh(c, w, n) ((void)0)
#endif

/* Tests that write the device's memory in place tell nobody: it stays stale. */
static void make_copy(struct cuda *c, struct cuda_weight *e)
{
	struct cuda_act from = {(void *)e->w, WL_F32};

	wl_cuda_convert(c, from, wl_cuda_shadow(c, e->w), e->n);
	e->stale = c->managed;
}

const uint16_t *wl_cuda_weight_half(
	struct cuda *c, const float *w, int64_t n, enum wl_dtype type)
{
	struct cuda_weight *e = find(c, w, n);
	if (!e || wl_cuda_shadow(c, w).type != type)
		return NULL;
	if (e->stale)
		make_copy(c, e);
	else
		check_fresh(c, w, n);
	return e->half;
}

struct cuda_act wl_cuda_shadow(struct cuda *c, const float *w)
{
	const struct cuda_memory *m = memory_of(c, w);
	struct cuda_act none = {NULL, WL_F32}, copies = {NULL, WL_F32};
	if (!m || !m->shadow)
		return none;
	copies.p = m->shadow + ((const char *)w - m->base) / (ptrdiff_t)sizeof *w;
	copies.type = m->type;
	return copies;
}

static void set_stale(struct cuda *c, const void *p, size_t bytes, bool stale)
{
	uintptr_t from = (uintptr_t)p;
	for (struct cuda_weight *e = c->weights; e; e = e->next) {
		uintptr_t first = (uintptr_t)e->w, end = first + (size_t)e->n * sizeof *e->w;
		bool meets = first < from + bytes && from < end;
		bool inside = first >= from && end <= from + bytes;
		if (stale ? meets : inside)
			e->stale = stale;
	}
}

void wl_cuda_touched(struct cuda *c, const void *p, size_t bytes)
{
	set_stale(c, p, bytes, true);
	for (struct cuda_weight *e = c->weights; e && c->recording; e = e->next)
		e->comes = e->comes || e->stale;
}

void wl_cuda_shadow_written(struct cuda *c, const float *w, int64_t n)
{
	set_stale(c, w, (size_t)n * sizeof *w, false);
}

void wl_cuda_weights_ready(struct cuda *c)
{
	for (struct cuda_weight *e = c->weights; e; e = e->next)
		if (e->comes)
			e->stale = true;
		else if (e->stale)
			make_copy(c, e);
}

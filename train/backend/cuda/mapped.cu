/*
 * Arrays of several ranks of which this one keeps parts (wl_backend.reserve): the whole array has
 * addresses, what is kept has memory, and what comes and goes has the memory of a slot, which lies
 * at the addresses of all parts of that slot at once.  Nothing is mapped anew while training: who
 * uses a slot's memory when is a matter of order in the streams, so that no step waits for the host
 * and a recorded step holds.  (Programming Guide, "Virtual Aliasing Support": kernels one after the
 * other may use different addresses of one memory.)
 *
 * The bf16 copies of such an array's weights (weights.cu) lie in an array of half the bytes, in
 * parts of the same slots.
 */
#include "train/backend/cuda/cuda.h"
#include "train/backend/cuda/room.h"
#include "train/backend/cuda/vmm.h"

struct cuda_mapped {
	char *base;
	size_t bytes;
	struct wl_part *part;  /* [n] */
	uint64_t *memory;      /* [n] of each part: of its slot's first part where it shares */
	bool *made;            /* [n] whether the memory is this part's own to release */
	bool *there;           /* [n] mapped */
	int n;
	struct cuda_mapped *half; /* the copies' array; in the list too */
	struct cuda_mapped *next;
};

static int failed(const char *what, size_t bytes, const char *why, struct wl_err *err)
{
	return wl_cuda_no_room(what, bytes, why, "", err);
}

static struct cuda_mapped *find(struct cuda *c, const void *base)
{
	struct cuda_mapped *m = c->mapped;

	while (m && m->base != base)
		m = m->next;
	return m;
}

bool wl_cuda_in_parts(struct cuda *c, const void *base)
{
	return find(c, base) != NULL;
}

static struct cuda_mapped *reserve(struct cuda *c, size_t bytes, struct wl_err *err)
{
	size_t unit = c->be.part_bytes, whole = (bytes + unit - 1) / unit * unit;
	struct cuda_mapped *m = (struct cuda_mapped *)calloc(1, sizeof *m);
	void *base = NULL;
	const char *why;

	if (!m) {
		wl_err_nomem(err, "the list of the GPU's arrays", sizeof *m);
		return NULL;
	}
	why = wl_cuda_vmm_reserve(&base, whole ? whole : unit);
	if (why) {
		failed("addresses", whole, why, err);
		free(m);
		return NULL;
	}
	m->base = (char *)base;
	m->bytes = whole ? whole : unit;
	m->next = c->mapped;
	c->mapped = m;
	return m;
}

void *wl_cuda_reserve(struct wl_backend *be, size_t bytes, struct wl_err *err)
{
	struct cuda *c = (struct cuda *)be->impl;
	struct cuda_mapped *m = reserve(c, bytes, err);

	if (!m)
		return NULL;
	if (wl_cuda_memory_add(c, m->base, m->bytes, err) == 0)
		return m->base;
	wl_cuda_unmap(c, m->base);
	return NULL;
}

/* The memory of part i: its slot's, or new. */
static int memory_of(struct cuda_mapped *m, int i, struct wl_err *err)
{
	size_t bytes = m->part[i].end - m->part[i].begin;
	const char *why;

	for (int k = 0; k < i && m->part[i].slot >= 0; k++)
		if (m->part[k].slot == m->part[i].slot && m->made[k]) {
			WL_ASSERT(m->part[k].end - m->part[k].begin == bytes);
			m->memory[i] = m->memory[k];
			return 0;
		}
	why = wl_cuda_vmm_create(&m->memory[i], bytes);
	if (why)
		return failed("memory for what ranks share", bytes, why, err);
	m->made[i] = true;
	return 0;
}

static int place(struct cuda *c, struct cuda_mapped *m, const struct wl_part *part, int n, int by,
	struct wl_err *err)
{
	size_t unit = c->be.part_bytes;

	WL_ASSERT(!m->part && n > 0);
	m->part = (struct wl_part *)calloc((size_t)n, sizeof *m->part);
	m->memory = (uint64_t *)calloc((size_t)n, sizeof *m->memory);
	m->made = (bool *)calloc((size_t)n, sizeof *m->made);
	m->there = (bool *)calloc((size_t)n, sizeof *m->there);
	if (!m->part || !m->memory || !m->made || !m->there)
		return wl_err_nomem(err, "the parts of an array", (size_t)n * sizeof *m->part);
	for (int i = 0; i < n; i++) {
		size_t bytes;
		const char *why;

		m->n = i + 1;
		m->part[i] = part[i];
		m->part[i].begin /= (size_t)by;
		m->part[i].end = (m->part[i].end / (size_t)by + unit - 1) / unit * unit;
		bytes = m->part[i].end - m->part[i].begin;
		WL_ASSERT(m->part[i].begin % unit == 0 && m->part[i].end <= m->bytes && bytes);
		WL_TRY(memory_of(m, i, err));
		why = wl_cuda_vmm_map(m->base + m->part[i].begin, bytes, m->memory[i]);
		if (why)
			return failed("memory at its addresses", bytes, why, err);
		m->there[i] = true;
		if (m->made[i])
			cudaMemsetAsync(m->base + m->part[i].begin, 0, bytes, c->stream);
	}
	return 0;
}

int wl_cuda_place(struct wl_backend *be, void *base, const struct wl_part *part, int n,
	struct wl_err *err)
{
	struct cuda *c = (struct cuda *)be->impl;
	struct cuda_mapped *m = find(c, base);

	WL_ASSERT(m);
	WL_TRY(place(c, m, part, n, 1, err));
	return m->half ? place(c, m->half, part, n, 2, err) : 0;
}

uint16_t *wl_cuda_shadow_make(struct cuda *c, void *base, size_t bytes)
{
	struct cuda_mapped *m = find(c, base);
	void *p = NULL;

	if (!m)
		return cudaMalloc(&p, bytes / 2 + 2) == cudaSuccess ? (uint16_t *)p : NULL;
	m->half = reserve(c, bytes / 2, NULL);
	if (m->half && m->part && place(c, m->half, m->part, m->n, 2, NULL) < 0)
		m->half = NULL; /* what there is of it goes with the others */
	return m->half ? (uint16_t *)m->half->base : NULL;
}

bool wl_cuda_unmap(struct cuda *c, void *base)
{
	struct cuda_mapped **at = &c->mapped, *m;

	while (*at && (*at)->base != base)
		at = &(*at)->next;
	m = *at;
	if (!m)
		return false;
	*at = m->next;
	for (struct cuda_mapped *o = c->mapped; o; o = o->next)
		if (o->half == m)
			o->half = NULL;
	cudaDeviceSynchronize(); /* exchanges have a stream of their own */
	for (int i = 0; i < m->n; i++)
		if (m->there[i])
			wl_cuda_vmm_unmap(m->base + m->part[i].begin,
				m->part[i].end - m->part[i].begin);
	for (int i = 0; i < m->n; i++)
		if (m->made[i])
			wl_cuda_vmm_release(m->memory[i]);
	wl_cuda_vmm_unreserve(m->base, m->bytes);
	free(m->part);
	free(m->memory);
	free(m->made);
	free(m->there);
	free(m);
	return true;
}

void wl_cuda_mapped_table(struct wl_backend *be)
{
	struct cuda *c = (struct cuda *)be->impl;
	size_t unit = 0;

	if (c->managed || wl_cuda_vmm_open(c->device, &unit))
		return; /* ranks then keep whole arrays */
	be->part_bytes = unit;
	be->reserve = wl_cuda_reserve;
	be->place = wl_cuda_place;
}

#include "tests/support/held.h"

#include "tests/support/opcheck.h"
#include "train/backend/elementwise.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

__extension__ typedef _Float16 f16;

float held_round(enum wl_dtype type, float v)
{
	if (type == WL_F16)
		return (float)(f16)v;
	return type == WL_BF16 ? wl_bf16_value(wl_bf16_nearest(v)) : v;
}

size_t held_bytes(const struct held *h)
{
	return (size_t)h->n * (h->t.dtype == WL_F32 ? sizeof(float) : sizeof(f16));
}

static void pack(enum wl_dtype type, float v, void *to, int64_t i)
{
	if (type == WL_F32)
		((float *)to)[i] = v;
	else if (type == WL_BF16)
		((uint16_t *)to)[i] = wl_bf16_nearest(v);
	else
		((f16 *)to)[i] = (f16)v;
}

static double unpack(enum wl_dtype type, const void *from, int64_t i)
{
	if (type == WL_F32)
		return (double)((const float *)from)[i];
	if (type == WL_BF16)
		return (double)wl_bf16_value(((const uint16_t *)from)[i]);
	return (double)((const f16 *)from)[i];
}

static void *some(size_t n, size_t each)
{
	void *p = calloc(n ? n : 1, each);

	assert_non_null(p);
	return p;
}

void held_put(struct wl_backend *be, struct held *h)
{
	void *packed = some((size_t)h->n, sizeof(float));

	for (int64_t i = 0; i < h->n; i++) {
		pack(h->t.dtype, (float)h->v[i], packed, i);
		h->v[i] = unpack(h->t.dtype, packed, i);
	}
	be->upload(be, h->t.data, packed, held_bytes(h));
	free(packed);
}

void held_get(struct wl_backend *be, const struct held *h, double *to)
{
	void *packed = some((size_t)h->n, sizeof(float));

	be->download(be, packed, h->t.data, held_bytes(h));
	for (int64_t i = 0; i < h->n; i++)
		to[i] = unpack(h->t.dtype, packed, i);
	free(packed);
}

struct held held_make(struct wl_backend *be, enum wl_dtype type, struct wl_shape shape,
	uint64_t seed, float scale, float offset)
{
	struct wl_err err = WL_ERR_INIT;
	struct held h = {.t = {.dtype = type, .shape = shape}, .n = wl_shape_count(&shape)};
	float *f = some((size_t)h.n, sizeof *f);

	h.v = some((size_t)h.n, sizeof *h.v);
	h.t.data = be->alloc(be, held_bytes(&h), &err);
	if (!h.t.data)
		fail_msg("%s", err.msg);
	opcheck_normals(seed, f, h.n, scale, offset);
	for (int64_t i = 0; i < h.n; i++)
		h.v[i] = (double)f[i];
	free(f);
	held_put(be, &h);
	return h;
}

void held_release(struct wl_backend *be, struct held *h)
{
	be->free_mem(be, h->t.data);
	free(h->v);
}

static void must(int rc, const struct wl_err *err)
{
	if (rc < 0)
		fail_msg("%s", err->msg);
}

void held_run(struct wl_backend *be, struct wl_op *op, struct wl_run run)
{
	struct wl_err err = WL_ERR_INIT;

	must(be->plan_op(be, op, &err), &err);
	run.scratch = op->scratch_bytes ? be->alloc(be, op->scratch_bytes, &err) : NULL;
	if (op->scratch_bytes && !run.scratch)
		fail_msg("%s", err.msg);
	must(be->run_op(be, op, &run, &err), &err);
	must(be->sync(be, &err), &err);
	be->release_op(be, op);
	be->free_mem(be, run.scratch);
}

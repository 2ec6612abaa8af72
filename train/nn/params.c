/* A table with a hash over names, one allocation for values, one for gradients. */
#include "train/nn/params.h"

#include <stdlib.h>

enum { ALIGN_FLOATS = 16 };

void wl_params_init(struct wl_params *p)
{
	memset(p, 0, sizeof(*p));
}

void wl_params_release(struct wl_params *p)
{
	if (!p)
		return;
	if (p->backend) {
		p->backend->free_mem(p->backend, p->value);
		p->backend->free_mem(p->backend, p->grad);
	}
	free(p->zero);
	free(p->item);
	free(p->hash);
	wl_arena_release(&p->names);
	memset(p, 0, sizeof(*p));
}

/* The slot of a name: its own, or the empty one where it would go. */
static int slot_of(const struct wl_params *p, const char *name)
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
	for (const char *s = name; *s; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3u;
	int at = (int)(h % (uint64_t)p->hash_cap);
	while (p->hash[at] && strcmp(p->item[p->hash[at] - 1].name, name) != 0)
		at = (at + 1) % p->hash_cap;
	return at;
}

int wl_params_find(const struct wl_params *p, const char *name)
{
	return p->hash_cap ? p->hash[slot_of(p, name)] - 1 : -1;
}

/* Room for one more entry, the hash at most half full. */
static int grow(struct wl_params *p, struct wl_err *err)
{
	if (p->n < p->cap)
		return 0;
	int cap = p->cap ? 2 * p->cap : 256;
	struct wl_param *item = realloc(p->item, (size_t)cap * sizeof(*item));
	if (!item)
		return wl_err_nomem(err, "the parameter table", (size_t)cap * sizeof(*item));
	p->item = item;
	int *hash = calloc((size_t)cap * 2, sizeof(*hash));
	if (!hash)
		return wl_err_nomem(err, "the parameter table", (size_t)cap * 2 * sizeof(*hash));
	free(p->hash);
	p->hash = hash;
	p->hash_cap = 2 * cap;
	p->cap = cap;
	for (int i = 0; i < p->n; i++)
		hash[slot_of(p, item[i].name)] = i + 1;
	return 0;
}

/* The shape kept here for a shape of PyTorch's. */
static int own_shape(const char *name, enum wl_layout layout, const struct wl_shape *t,
	struct wl_shape *own, struct wl_err *err)
{
	char text[WL_SHAPE_TEXT];
	*own = *t;
	if (layout == WL_LAYOUT_PLAIN)
		return 0;
	if (t->rank != 4 || (layout == WL_LAYOUT_DEPTHWISE && t->dim[1] != 1))
		return wl_err_set(err, WL_EUSAGE,
			"parameter %s has shape %s, but a %s convolution's "
			"weight is [out, %s, height, width]",
			name, wl_shape_text(t, text),
			layout == WL_LAYOUT_CONV ? "dense" : "depthwise",
			layout == WL_LAYOUT_CONV ? "in" : "1");
	if (layout == WL_LAYOUT_CONV)
		*own = WL_SHAPE(t->dim[0], t->dim[2], t->dim[3], t->dim[1]);
	else
		*own = WL_SHAPE(t->dim[2], t->dim[3], t->dim[0]);
	return 0;
}

static int same_again(const struct wl_param *e, enum wl_layout layout, const struct wl_shape *t,
	struct wl_err *err)
{
	char was[WL_SHAPE_TEXT], now[WL_SHAPE_TEXT];
	if (e->layout == layout && wl_shape_equal(&e->torch_shape, t))
		return 0;
	return wl_err_set(err, WL_EUSAGE,
		"parameter %s is declared with shape %s and again with %s", e->name,
		wl_shape_text(&e->torch_shape, was), wl_shape_text(t, now));
}

int wl_params_add(struct wl_params *p, const char *name, enum wl_layout layout,
	const struct wl_shape *torch_shape, unsigned flags, struct wl_err *err)
{
	int i = wl_params_find(p, name);
	if (i >= 0) {
		WL_TRY(same_again(&p->item[i], layout, torch_shape, err));
		return i;
	}
	if (p->sealed)
		return wl_err_set(err, WL_EUSAGE,
			"parameter %s is not in the model that was sealed "
			"with %d parameters",
			name, p->n);
	struct wl_param e = {.layout = layout, .flags = flags, .torch_shape = *torch_shape};
	WL_TRY(own_shape(name, layout, torch_shape, &e.shape, err));
	WL_TRY(grow(p, err));
	e.name = wl_arena_strdup(&p->names, name, err);
	if (!e.name)
		return -1;
	e.count = wl_shape_count(&e.shape);
	p->item[p->n++] = e;
	p->hash[slot_of(p, e.name)] = p->n;
	return p->n - 1;
}

/* Places the entries that are buffers, or those that are not, one after the other from `at`. */
static int64_t place(struct wl_params *p, bool buffers, int64_t at)
{
	for (int i = 0; i < p->n; i++) {
		struct wl_param *e = &p->item[i];
		if (((e->flags & WL_PARAM_BUFFER) != 0) != buffers)
			continue;
		e->offset = at;
		at += (e->count + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
	}
	return at;
}

int wl_params_seal(struct wl_params *p, struct wl_backend *be, bool with_grad, struct wl_err *err)
{
	if (p->sealed)
		return wl_err_set(err, WL_EUSAGE, "the parameter store is already sealed");
	int64_t unit = p->unit ? p->unit : ALIGN_FLOATS;
	p->weights = (place(p, false, 0) + unit - 1) / unit * unit;
	p->floats = place(p, true, p->weights);
	size_t bytes = (size_t)p->floats * sizeof(float);
	p->value = (p->value_parts ? be->reserve : be->alloc)(be, bytes, err);
	if (!p->value)
		return -1;
	p->backend = be;
	if (with_grad) {
		p->grad = (p->grad_parts ? be->reserve : be->alloc)(be, bytes, err);
		if (!p->grad)
			return -1;
	}
	p->sealed = true;
	return 0;
}

int wl_params_clone_layout(struct wl_params *dst, const struct wl_params *src, struct wl_err *err)
{
	wl_params_init(dst);
	dst->unit = src->unit;
	for (int i = 0; i < src->n; i++) {
		const struct wl_param *e = &src->item[i];
		if (wl_params_add(dst, e->name, e->layout, &e->torch_shape, e->flags, err) < 0) {
			wl_params_release(dst);
			return -1;
		}
	}
	return 0;
}

void wl_params_copy_values(struct wl_params *dst, const struct wl_params *src)
{
	WL_ASSERT(dst->sealed && src->sealed && dst->floats == src->floats);
	size_t bytes = (size_t)src->floats * sizeof(float);
	src->backend->download(src->backend, dst->value, src->value, bytes);
}

void wl_params_zero_grad(struct wl_params *p)
{
	for (int i = 0; i < p->n_zero; i++)
		p->backend->zero(p->backend, p->grad + p->zero[i].begin,
			(p->zero[i].end - p->zero[i].begin) * sizeof(float));
	if (p->n_zero)
		return;
	if (p->grad && p->sparse_grad)
		p->backend->discard(p->backend, p->grad, (size_t)p->floats * sizeof(float));
	else if (p->grad)
		p->backend->zero(p->backend, p->grad, (size_t)p->floats * sizeof(float));
}

void wl_params_ema(struct wl_params *k, const struct wl_params *q, float m)
{
	WL_ASSERT(k->sealed && q->sealed && k->n == q->n && k->floats == q->floats);
	k->backend->ema(k->backend, k->value, q->value, k->weights, m);
}

/* Walks an entry in PyTorch's order; the callback-free core of both directions. */
static int64_t own_index(const struct wl_param *e, int64_t torch)
{
	const int64_t *d = e->torch_shape.dim;
	int64_t kw = torch % d[3], kh = torch / d[3] % d[2];
	int64_t i = torch / (d[3] * d[2]) % d[1], o = torch / (d[3] * d[2] * d[1]);
	if (e->layout == WL_LAYOUT_CONV)
		return ((o * d[2] + kh) * d[3] + kw) * d[1] + i;
	return (kh * d[3] + kw) * d[0] + o;
}

void wl_layout_to_torch(const struct wl_param *e, const float *own, float *torch)
{
	if (e->layout == WL_LAYOUT_PLAIN) {
		memcpy(torch, own, (size_t)e->count * sizeof(float));
		return;
	}
	for (int64_t t = 0; t < e->count; t++)
		torch[t] = own[own_index(e, t)];
}

void wl_layout_from_torch(const struct wl_param *e, const float *torch, float *own)
{
	if (e->layout == WL_LAYOUT_PLAIN) {
		memcpy(own, torch, (size_t)e->count * sizeof(float));
		return;
	}
	for (int64_t t = 0; t < e->count; t++)
		own[own_index(e, t)] = torch[t];
}

static void read_torch(
	const struct wl_params *p, const struct wl_param *e, const float *from, float *host)
{
	size_t bytes = (size_t)e->count * sizeof(float);
	float *own = malloc(bytes ? bytes : 1);
	if (!own)
		WL_BUG("no memory for %zu bytes while reading parameter %s", bytes, e->name);
	p->backend->download(p->backend, own, from + e->offset, bytes);
	wl_layout_to_torch(e, own, host);
	free(own);
}

void wl_param_to_torch(const struct wl_params *p, int i, float *host)
{
	WL_ASSERT(p->sealed && i >= 0 && i < p->n);
	read_torch(p, &p->item[i], p->value, host);
}

void wl_param_grad_to_torch(const struct wl_params *p, int i, float *host)
{
	WL_ASSERT(p->sealed && p->grad && i >= 0 && i < p->n);
	read_torch(p, &p->item[i], p->grad, host);
}

void wl_param_from_torch(struct wl_params *p, int i, const float *host)
{
	WL_ASSERT(p->sealed && i >= 0 && i < p->n);
	const struct wl_param *e = &p->item[i];
	size_t bytes = (size_t)e->count * sizeof(float);
	float *own = malloc(bytes ? bytes : 1);
	if (!own)
		WL_BUG("no memory for %zu bytes while writing parameter %s", bytes, e->name);
	wl_layout_from_torch(e, host, own);
	p->backend->upload(p->backend, p->value + e->offset, own, bytes);
	free(own);
}

int64_t wl_params_trainable_count(const struct wl_params *p)
{
	int64_t n = 0;
	for (int i = 0; i < p->n; i++)
		if ((p->item[i].flags & (WL_PARAM_TRAINABLE | WL_PARAM_BUFFER)) ==
			WL_PARAM_TRAINABLE)
			n += p->item[i].count;
	return n;
}

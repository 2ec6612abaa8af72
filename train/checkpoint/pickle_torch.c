/*
 * The names that a pickle of torch.save may mention, and what each means to us:
 * nothing is looked up or called.  Everything else is refused.
 */
#include "train/checkpoint/pickle_machine.h"

#include <stdio.h>
#include <string.h>

/* Names that the machine interprets; everything else is refused, so nothing can run. */
static const char *const allowed[] = {
	"collections OrderedDict", "torch._utils _rebuild_tensor_v2",
	"torch._utils _rebuild_tensor", "torch._utils _rebuild_parameter", "torch Size",
	"torch device", "torch.nn.parameter Parameter", "torch._tensor _rebuild_from_type_v2",
};

static const struct {
	const char *name;
	enum wl_saved_dtype dtype;
} storages[] = {
	{"torch DoubleStorage", WL_SAVED_F64},    {"torch FloatStorage", WL_SAVED_F32},
	{"torch HalfStorage", WL_SAVED_F16},      {"torch BFloat16Storage", WL_SAVED_BF16},
	{"torch LongStorage", WL_SAVED_I64},      {"torch IntStorage", WL_SAVED_I32},
	{"torch ShortStorage", WL_SAVED_I16},     {"torch CharStorage", WL_SAVED_I8},
	{"torch ByteStorage", WL_SAVED_U8},       {"torch BoolStorage", WL_SAVED_BOOL},
	{"torch.cuda DoubleStorage", WL_SAVED_F64}, {"torch.cuda FloatStorage", WL_SAVED_F32},
	{"torch.cuda HalfStorage", WL_SAVED_F16}, {"torch.cuda BFloat16Storage", WL_SAVED_BF16},
	{"torch.cuda LongStorage", WL_SAVED_I64}, {"torch.cuda IntStorage", WL_SAVED_I32},
};

static int push_global(struct wl_pk_machine *m, const char *module, size_t mlen, const char *name,
	size_t nlen)
{
	char full[128];

	if (mlen + nlen + 2 > sizeof full)
		return wl_pk_bad(m, "names a function with an overlong name");
	snprintf(full, sizeof full, "%.*s %.*s", (int)mlen, module, (int)nlen, name);
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
		if (!strcmp(full, allowed[i]))
			return wl_pk_push_text(m, WL_PK_GLOBAL, full, strlen(full));
	for (size_t i = 0; i < sizeof storages / sizeof *storages; i++)
		if (!strcmp(full, storages[i].name)) {
			WL_TRY(wl_pk_push_text(m, WL_PK_GLOBAL, full, strlen(full)));
			m->stack[m->depth - 1]->i = (int64_t)storages[i].dtype + 1;
			return 0;
		}
	return wl_err_set(m->err, WL_ECKPT,
		"%s: the pickle wants to call \"%s\" (byte %zu), which this reader does not do, "
		"since a pickle can run any program; save the weights alone with "
		"torch.save(model.state_dict(), ...) or as safetensors",
		m->where, full, (size_t)(m->p - m->start));
}

int wl_pk_op_global(struct wl_pk_machine *m)
{
	const char *module, *name;
	size_t mlen, nlen;

	WL_TRY(wl_pk_take_line(m, &module, &mlen));
	WL_TRY(wl_pk_take_line(m, &name, &nlen));
	return push_global(m, module, mlen, name, nlen);
}

int wl_pk_op_stack_global(struct wl_pk_machine *m)
{
	struct wl_pk_value *name = wl_pk_pop(m), *module = name ? wl_pk_pop(m) : NULL;

	if (!module)
		return -1;
	if (name->kind != WL_PK_STR || module->kind != WL_PK_STR)
		return wl_pk_bad(m, "names a function by what is not text");
	return push_global(m, module->text, module->len, name->text, name->len);
}

/* BINPERSID: ('storage', storage type, key, location, numel [, view]). */
int wl_pk_op_persid(struct wl_pk_machine *m)
{
	struct wl_pk_value *v = wl_pk_pop(m), *s, *view;

	if (!v)
		return -1;
	if (v->kind != WL_PK_TUPLE || v->count < 5 || v->count > 6 ||
		v->items[0]->kind != WL_PK_STR || strcmp(v->items[0]->text, "storage") ||
		v->items[1]->kind != WL_PK_GLOBAL || !v->items[1]->i ||
		v->items[2]->kind != WL_PK_STR || strlen(v->items[2]->text) != v->items[2]->len ||
		v->items[4]->kind != WL_PK_INT || v->items[4]->text || v->items[4]->i < 0)
		return wl_pk_bad(m, "mentions a storage in a form that torch does not write");
	s = wl_pk_new_value(m, WL_PK_STORAGE);
	if (!s || !(s->storage = wl_arena_alloc(m->arena, sizeof *s->storage, m->err)))
		return -1;
	s->storage->key = v->items[2]->text;
	s->storage->dtype = (enum wl_saved_dtype)(v->items[1]->i - 1);
	s->storage->numel = v->items[4]->i;
	view = v->count == 6 ? v->items[5] : NULL;
	if (view && view->kind == WL_PK_TUPLE) { /* (key, offset, size) of a legacy view */
		if (view->count != 3 || view->items[1]->kind != WL_PK_INT ||
			view->items[1]->i < 0 || view->items[2]->kind != WL_PK_INT ||
			view->items[2]->i < 0)
			return wl_pk_bad(m, "mentions a view of a storage in an unknown form");
		s->storage->view_offset = view->items[1]->i;
		s->storage->numel = view->items[2]->i;
	}
	return wl_pk_push(m, s);
}

static int int_list(const struct wl_pk_value *v, int64_t *out, int *rank)
{
	if ((v->kind != WL_PK_TUPLE && v->kind != WL_PK_LIST && v->kind != WL_PK_OPAQUE) ||
		v->count > WL_SAVED_RANK_MAX)
		return -1;
	for (size_t i = 0; i < v->count; i++) {
		if (v->items[i]->kind != WL_PK_INT || v->items[i]->text || v->items[i]->i < 0)
			return -1;
		out[i] = v->items[i]->i;
	}
	*rank = (int)v->count;
	return 0;
}

/* The furthest element that shape and stride reach must lie inside the storage. */
static int check_reach(const struct wl_saved_tensor *t, int64_t offset, int64_t numel)
{
	int64_t last = offset, step;

	if (!t->count)
		return 0;
	for (int i = 0; i < t->rank; i++)
		if (__builtin_mul_overflow(t->shape[i] - 1, t->strides[i], &step) ||
			__builtin_add_overflow(last, step, &last))
			return -1;
	return last < numel ? 0 : -1;
}

/* _rebuild_tensor[_v2](storage, offset, size, stride, ...). */
static int rebuild_tensor(struct wl_pk_machine *m, const struct wl_pk_value *args)
{
	struct wl_pk_value *v;
	struct wl_saved_tensor *t;
	int64_t strides[WL_SAVED_RANK_MAX];
	int rank;

	if (args->count < 4 || args->items[0]->kind != WL_PK_STORAGE ||
		args->items[1]->kind != WL_PK_INT || args->items[1]->text || args->items[1]->i < 0)
		return wl_pk_bad(m, "rebuilds a tensor from arguments of the wrong kind");
	v = wl_pk_new_value(m, WL_PK_TENSOR);
	if (!v || !(t = wl_arena_alloc(m->arena, sizeof *t, m->err)))
		return -1;
	if (int_list(args->items[2], t->shape, &t->rank) < 0 ||
		int_list(args->items[3], strides, &rank) < 0 || rank != t->rank ||
		wl_saved_set_dense(t) < 0)
		return wl_pk_bad(m, "gives a tensor a shape that is not up to 8 sizes");
	memcpy(t->strides, strides, sizeof strides[0] * (size_t)rank);
	v->tensor = t;
	v->storage = args->items[0]->storage;
	v->offset = args->items[1]->i;
	t->dtype = v->storage->dtype;
	if (check_reach(t, v->offset, v->storage->numel) < 0)
		return wl_pk_bad(m, "describes a tensor that reaches past its storage");
	return wl_pk_push(m, v);
}

/* OrderedDict(): empty, or (Python 2) from a list of [key, value] pairs. */
static int build_dict(struct wl_pk_machine *m, const struct wl_pk_value *args)
{
	struct wl_pk_value *v = wl_pk_new_value(m, WL_PK_DICT), *pairs;

	if (!v)
		return -1;
	if (args->count > 1)
		return wl_pk_bad(m, "builds an OrderedDict from several arguments");
	if (args->count == 1) {
		pairs = args->items[0];
		if (pairs->kind != WL_PK_LIST && pairs->kind != WL_PK_TUPLE)
			return wl_pk_bad(m, "builds an OrderedDict from no list of pairs");
		for (size_t i = 0; i < pairs->count; i++) {
			struct wl_pk_value *pair = pairs->items[i];

			if ((pair->kind != WL_PK_LIST && pair->kind != WL_PK_TUPLE) ||
				pair->count != 2)
				return wl_pk_bad(m, "builds an OrderedDict from no pair");
			WL_TRY(wl_pk_append(m, v, pair->items[0]));
			WL_TRY(wl_pk_append(m, v, pair->items[1]));
		}
	}
	return wl_pk_push(m, v);
}

/* REDUCE and NEWOBJ: the allow-listed names, each by its meaning. */
int wl_pk_op_reduce(struct wl_pk_machine *m)
{
	struct wl_pk_value *args = wl_pk_pop(m), *f = args ? wl_pk_pop(m) : NULL, *v;

	if (!f)
		return -1;
	if (f->kind != WL_PK_GLOBAL || f->i || args->kind != WL_PK_TUPLE)
		return wl_pk_bad(m, "calls what is not a known function");
	if (!strncmp(f->text, "torch._utils _rebuild_tensor", 28))
		return rebuild_tensor(m, args);
	if (!strcmp(f->text, "collections OrderedDict"))
		return build_dict(m, args);
	if (!strcmp(f->text, "torch._tensor _rebuild_from_type_v2")) {
		/* (function, type, arguments, state): a Parameter saved with attributes. */
		if (args->count < 3 || args->items[2]->kind != WL_PK_TUPLE ||
			args->items[0]->kind != WL_PK_GLOBAL ||
			strncmp(args->items[0]->text, "torch._utils _rebuild_tensor", 28))
			return wl_pk_bad(m, "rebuilds a typed tensor in an unknown form");
		return rebuild_tensor(m, args->items[2]);
	}
	if (!strcmp(f->text, "torch._utils _rebuild_parameter") ||
		!strcmp(f->text, "torch.nn.parameter Parameter")) {
		if (!args->count || args->items[0]->kind != WL_PK_TENSOR)
			return wl_pk_bad(m, "rebuilds a parameter from what is not a tensor");
		return wl_pk_push(m, args->items[0]);
	}
	v = wl_pk_new_value(m, WL_PK_OPAQUE);
	if (v && args->count == 1 && args->items[0]->kind == WL_PK_TUPLE) { /* torch.Size */
		v->items = args->items[0]->items;
		v->count = v->cap = args->items[0]->count;
	}
	return wl_pk_push(m, v);
}

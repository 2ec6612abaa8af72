/*
 * The pickle machine.  See pickle.h.
 *
 * Opcodes as in Python's pickletools for protocols 0 to 5, less those that
 * load extensions or out-of-band buffers.  A stack of values, a memo, marks on
 * the stack.  Memory is bounded by the input: every value costs at least one
 * byte of pickle, and memo indices are bounded by the number of opcodes.
 */
#include "train/checkpoint/pickle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct machine {
	const uint8_t *p, *start, *end;
	const char *where;
	struct wl_arena *arena;
	struct wl_err *err;
	struct wl_pk_value **stack, **memo;
	size_t depth, stack_cap, memo_cap, memo_next;
};

static int bad(struct machine *m, const char *what)
{
	wl_err_set(m->err, WL_ECKPT,
		"%s: the pickle %s at its byte %zu; the file is damaged or was not written by "
		"torch.save, so fetch it again",
		m->where, what, (size_t)(m->p - m->start));
	return -1;
}

static int take(struct machine *m, size_t n, const uint8_t **out)
{
	if ((size_t)(m->end - m->p) < n)
		return bad(m, "ends inside an instruction");
	*out = m->p;
	m->p += n;
	return 0;
}

/* A little-endian unsigned number of n bytes. */
static int take_uint(struct machine *m, size_t n, uint64_t *out)
{
	const uint8_t *b;

	WL_TRY(take(m, n, &b));
	*out = 0;
	for (size_t i = 0; i < n; i++)
		*out |= (uint64_t)b[i] << 8 * i;
	return 0;
}

/* The text up to a newline, which is consumed. */
static int take_line(struct machine *m, const char **line, size_t *len)
{
	const uint8_t *nl = memchr(m->p, '\n', (size_t)(m->end - m->p));

	if (!nl)
		return bad(m, "has a line without an end");
	*line = (const char *)m->p;
	*len = (size_t)(nl - m->p);
	m->p = nl + 1;
	return 0;
}

static int push(struct machine *m, struct wl_pk_value *v)
{
	if (!v)
		return -1;
	if (m->depth == m->stack_cap) {
		size_t cap = m->stack_cap ? 2 * m->stack_cap : 256;
		struct wl_pk_value **grown = realloc(m->stack, cap * sizeof *grown);

		if (!grown)
			return wl_err_nomem(m->err, "a pickle's stack", cap * sizeof *grown);
		m->stack = grown;
		m->stack_cap = cap;
	}
	m->stack[m->depth++] = v;
	return 0;
}

static struct wl_pk_value *new_value(struct machine *m, enum wl_pk_kind kind)
{
	struct wl_pk_value *v = wl_arena_alloc(m->arena, sizeof *v, m->err);

	if (v)
		v->kind = kind;
	return v;
}

static int push_kind(struct machine *m, enum wl_pk_kind kind, int64_t i)
{
	struct wl_pk_value *v = new_value(m, kind);

	if (v)
		v->i = i;
	return push(m, v);
}

static int push_text(struct machine *m, enum wl_pk_kind kind, const void *text, size_t len)
{
	struct wl_pk_value *v = new_value(m, kind);

	if (!v || !(v->text = wl_arena_strndup(m->arena, text, len, m->err)))
		return -1;
	v->len = len;
	return push(m, v);
}

/* The top value, removed; NULL with a message when there is none above a mark. */
static struct wl_pk_value *pop(struct machine *m)
{
	if (!m->depth || m->stack[m->depth - 1]->kind == WL_PK_MARK) {
		bad(m, "takes a value from an empty stack");
		return NULL;
	}
	return m->stack[--m->depth];
}

static struct wl_pk_value *top(struct machine *m)
{
	struct wl_pk_value *v = pop(m);

	if (v)
		m->depth++;
	return v;
}

/* Index of the topmost mark, or -1 with a message. */
static int64_t find_mark(struct machine *m)
{
	for (size_t i = m->depth; i-- > 0;)
		if (m->stack[i]->kind == WL_PK_MARK)
			return (int64_t)i;
	return bad(m, "refers to a mark that was never set");
}

static int append(struct machine *m, struct wl_pk_value *list, struct wl_pk_value *item)
{
	if (list->count == list->cap) {
		size_t cap = list->cap ? 2 * list->cap : 8;
		struct wl_pk_value **grown =
			wl_arena_calloc(m->arena, cap, sizeof *grown, m->err);

		if (!grown)
			return -1;
		if (list->count)
			memcpy(grown, list->items, list->count * sizeof *grown);
		list->items = grown;
		list->cap = cap;
	}
	list->items[list->count++] = item;
	return 0;
}

/* A container of everything above the mark, in place of it and the mark. */
static int collect(struct machine *m, enum wl_pk_kind kind)
{
	int64_t mark = find_mark(m);
	struct wl_pk_value *v;

	if (mark < 0 || !(v = new_value(m, kind)))
		return -1;
	if (kind == WL_PK_DICT && (m->depth - (size_t)mark - 1) % 2)
		return bad(m, "builds a dictionary with a key that has no value");
	for (size_t i = (size_t)mark + 1; i < m->depth; i++)
		WL_TRY(append(m, v, m->stack[i]));
	m->depth = (size_t)mark;
	return push(m, v);
}

static int collect_tuple(struct machine *m, size_t n)
{
	struct wl_pk_value *v = new_value(m, WL_PK_TUPLE), *items[3];

	if (!v)
		return -1;
	for (size_t i = n; i-- > 0;)
		if (!(items[i] = pop(m)))
			return -1;
	for (size_t i = 0; i < n; i++)
		WL_TRY(append(m, v, items[i]));
	return push(m, v);
}

/* APPENDS, SETITEMS, ADDITEMS: everything above the mark goes into the container below it. */
static int extend(struct machine *m, enum wl_pk_kind kind)
{
	int64_t mark = find_mark(m);
	struct wl_pk_value *into;

	if (mark < 0)
		return -1;
	if (mark == 0 || (m->stack[mark - 1]->kind != kind && m->stack[mark - 1]->kind !=
			WL_PK_OPAQUE))
		return bad(m, "adds items to what is not a container of that kind");
	into = m->stack[mark - 1];
	if (kind == WL_PK_DICT && (m->depth - (size_t)mark - 1) % 2)
		return bad(m, "sets a key that has no value");
	for (size_t i = (size_t)mark + 1; i < m->depth; i++)
		WL_TRY(append(m, into, m->stack[i]));
	m->depth = (size_t)mark;
	return 0;
}

static int extend_one(struct machine *m, enum wl_pk_kind kind)
{
	struct wl_pk_value *value = pop(m), *key = NULL, *into;

	if (!value || (kind == WL_PK_DICT && !(key = pop(m))) || !(into = top(m)))
		return -1;
	if (into->kind != kind && into->kind != WL_PK_OPAQUE)
		return bad(m, "adds an item to what is not a container of that kind");
	if (key)
		WL_TRY(append(m, into, key));
	return append(m, into, value);
}

static int memo_put(struct machine *m, uint64_t index)
{
	struct wl_pk_value *v = top(m);

	if (!v)
		return -1;
	/* Python numbers its memo 0, 1, 2, ...; an index beyond the bytes read is hostile. */
	if (index > (uint64_t)(m->p - m->start))
		return bad(m, "stores a value at an impossible memo index");
	if (index >= m->memo_cap) {
		size_t cap = m->memo_cap ? m->memo_cap : 256;
		struct wl_pk_value **grown;

		while (cap <= index)
			cap *= 2;
		grown = realloc(m->memo, cap * sizeof *grown);
		if (!grown)
			return wl_err_nomem(m->err, "a pickle's memo", cap * sizeof *grown);
		memset(grown + m->memo_cap, 0, (cap - m->memo_cap) * sizeof *grown);
		m->memo = grown;
		m->memo_cap = cap;
	}
	m->memo[index] = v;
	if (index >= m->memo_next)
		m->memo_next = (size_t)index + 1;
	return 0;
}

static int memo_get(struct machine *m, uint64_t index)
{
	if (index >= m->memo_cap || !m->memo[index])
		return bad(m, "recalls a value that was never stored");
	return push(m, m->memo[index]);
}

/* A decimal line of protocol 0. */
static int take_decimal(struct machine *m, int64_t *out)
{
	const char *line;
	char text[24], *rest;
	size_t len;

	WL_TRY(take_line(m, &line, &len));
	if (len && line[len - 1] == 'L')
		len--;
	if (!len || len >= sizeof text)
		return bad(m, "has a number that is not one");
	memcpy(text, line, len);
	text[len] = 0;
	*out = strtoll(text, &rest, 10);
	return *rest ? bad(m, "has a number that is not one") : 0;
}

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

static int push_global(struct machine *m, const char *module, size_t mlen, const char *name,
	size_t nlen)
{
	char full[128];

	if (mlen + nlen + 2 > sizeof full)
		return bad(m, "names a function with an overlong name");
	snprintf(full, sizeof full, "%.*s %.*s", (int)mlen, module, (int)nlen, name);
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
		if (!strcmp(full, allowed[i]))
			return push_text(m, WL_PK_GLOBAL, full, strlen(full));
	for (size_t i = 0; i < sizeof storages / sizeof *storages; i++)
		if (!strcmp(full, storages[i].name)) {
			WL_TRY(push_text(m, WL_PK_GLOBAL, full, strlen(full)));
			m->stack[m->depth - 1]->i = (int64_t)storages[i].dtype + 1;
			return 0;
		}
	return wl_err_set(m->err, WL_ECKPT,
		"%s: the pickle wants to call \"%s\" (byte %zu), which this reader does not do, since "
		"a pickle can run any program; save the weights alone with "
		"torch.save(model.state_dict(), ...) or as safetensors",
		m->where, full, (size_t)(m->p - m->start));
}

static int op_global(struct machine *m)
{
	const char *module, *name;
	size_t mlen, nlen;

	WL_TRY(take_line(m, &module, &mlen));
	WL_TRY(take_line(m, &name, &nlen));
	return push_global(m, module, mlen, name, nlen);
}

static int op_stack_global(struct machine *m)
{
	struct wl_pk_value *name = pop(m), *module = name ? pop(m) : NULL;

	if (!module)
		return -1;
	if (name->kind != WL_PK_STR || module->kind != WL_PK_STR)
		return bad(m, "names a function by what is not text");
	return push_global(m, module->text, module->len, name->text, name->len);
}

/* BINPERSID: ('storage', storage type, key, location, numel [, view]). */
static int op_persid(struct machine *m)
{
	struct wl_pk_value *v = pop(m), *s, *view;

	if (!v)
		return -1;
	if (v->kind != WL_PK_TUPLE || v->count < 5 || v->count > 6 ||
		v->items[0]->kind != WL_PK_STR || strcmp(v->items[0]->text, "storage") ||
		v->items[1]->kind != WL_PK_GLOBAL || !v->items[1]->i ||
		v->items[2]->kind != WL_PK_STR || strlen(v->items[2]->text) != v->items[2]->len ||
		v->items[4]->kind != WL_PK_INT || v->items[4]->text || v->items[4]->i < 0)
		return bad(m, "mentions a storage in a form that torch does not write");
	s = new_value(m, WL_PK_STORAGE);
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
			return bad(m, "mentions a view of a storage in an unknown form");
		s->storage->view_offset = view->items[1]->i;
		s->storage->numel = view->items[2]->i;
	}
	return push(m, s);
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
static int rebuild_tensor(struct machine *m, const struct wl_pk_value *args)
{
	struct wl_pk_value *v;
	struct wl_saved_tensor *t;
	int64_t strides[WL_SAVED_RANK_MAX];
	int rank;

	if (args->count < 4 || args->items[0]->kind != WL_PK_STORAGE ||
		args->items[1]->kind != WL_PK_INT || args->items[1]->text || args->items[1]->i < 0)
		return bad(m, "rebuilds a tensor from arguments of the wrong kind");
	v = new_value(m, WL_PK_TENSOR);
	if (!v || !(t = wl_arena_alloc(m->arena, sizeof *t, m->err)))
		return -1;
	if (int_list(args->items[2], t->shape, &t->rank) < 0 ||
		int_list(args->items[3], strides, &rank) < 0 || rank != t->rank ||
		wl_saved_set_dense(t) < 0)
		return bad(m, "gives a tensor a shape that is not up to 8 sizes");
	memcpy(t->strides, strides, sizeof strides[0] * (size_t)rank);
	v->tensor = t;
	v->storage = args->items[0]->storage;
	v->offset = args->items[1]->i;
	t->dtype = v->storage->dtype;
	if (check_reach(t, v->offset, v->storage->numel) < 0)
		return bad(m, "describes a tensor that reaches past its storage");
	return push(m, v);
}

/* OrderedDict(): empty, or (Python 2) from a list of [key, value] pairs. */
static int build_dict(struct machine *m, const struct wl_pk_value *args)
{
	struct wl_pk_value *v = new_value(m, WL_PK_DICT), *pairs;

	if (!v)
		return -1;
	if (args->count > 1)
		return bad(m, "builds an OrderedDict from several arguments");
	if (args->count == 1) {
		pairs = args->items[0];
		if (pairs->kind != WL_PK_LIST && pairs->kind != WL_PK_TUPLE)
			return bad(m, "builds an OrderedDict from what is not a list of pairs");
		for (size_t i = 0; i < pairs->count; i++) {
			struct wl_pk_value *pair = pairs->items[i];

			if ((pair->kind != WL_PK_LIST && pair->kind != WL_PK_TUPLE) ||
				pair->count != 2)
				return bad(m, "builds an OrderedDict from what is not a pair");
			WL_TRY(append(m, v, pair->items[0]));
			WL_TRY(append(m, v, pair->items[1]));
		}
	}
	return push(m, v);
}

/* REDUCE and NEWOBJ: the allow-listed names, each by its meaning. */
static int op_reduce(struct machine *m)
{
	struct wl_pk_value *args = pop(m), *f = args ? pop(m) : NULL, *v;

	if (!f)
		return -1;
	if (f->kind != WL_PK_GLOBAL || f->i || args->kind != WL_PK_TUPLE)
		return bad(m, "calls what is not a known function");
	if (!strncmp(f->text, "torch._utils _rebuild_tensor", 28))
		return rebuild_tensor(m, args);
	if (!strcmp(f->text, "collections OrderedDict"))
		return build_dict(m, args);
	if (!strcmp(f->text, "torch._tensor _rebuild_from_type_v2")) {
		/* (function, type, arguments, state): a Parameter saved with attributes. */
		if (args->count < 3 || args->items[2]->kind != WL_PK_TUPLE ||
			args->items[0]->kind != WL_PK_GLOBAL ||
			strncmp(args->items[0]->text, "torch._utils _rebuild_tensor", 28))
			return bad(m, "rebuilds a typed tensor in an unknown form");
		return rebuild_tensor(m, args->items[2]);
	}
	if (!strcmp(f->text, "torch._utils _rebuild_parameter") ||
		!strcmp(f->text, "torch.nn.parameter Parameter")) {
		if (!args->count || args->items[0]->kind != WL_PK_TENSOR)
			return bad(m, "rebuilds a parameter from what is not a tensor");
		return push(m, args->items[0]);
	}
	v = new_value(m, WL_PK_OPAQUE);
	if (v && args->count == 1 && args->items[0]->kind == WL_PK_TUPLE) { /* torch.Size */
		v->items = args->items[0]->items;
		v->count = v->cap = args->items[0]->count;
	}
	return push(m, v);
}

/* Text or bytes with a length of `width` bytes before them. */
static int op_text(struct machine *m, size_t width)
{
	const uint8_t *b;
	uint64_t n;

	WL_TRY(take_uint(m, width, &n));
	if (n > (uint64_t)(m->end - m->p))
		return bad(m, "has text that is longer than the file");
	WL_TRY(take(m, (size_t)n, &b));
	return push_text(m, WL_PK_STR, b, (size_t)n);
}

/* LONG1, LONG4: two's complement, little-endian, any length. */
static int op_long(struct machine *m, size_t width)
{
	const uint8_t *b;
	uint64_t n, value;

	WL_TRY(take_uint(m, width, &n));
	if (n > (uint64_t)(m->end - m->p))
		return bad(m, "has a number that is longer than the file");
	WL_TRY(take(m, (size_t)n, &b));
	if (n > 8)
		return push_text(m, WL_PK_INT, b, (size_t)n);
	value = n && b[n - 1] & 0x80 ? UINT64_MAX : 0;
	for (size_t i = 0; i < n; i++)
		value = (value & ~((uint64_t)0xff << 8 * i)) | (uint64_t)b[i] << 8 * i;
	return push_kind(m, WL_PK_INT, (int64_t)value);
}

static int op_line_text(struct machine *m, enum wl_pk_kind kind)
{
	const char *line;
	size_t len;

	WL_TRY(take_line(m, &line, &len));
	if (kind == WL_PK_FLOAT)
		return push_kind(m, kind, 0);
	if (len >= 2 && (line[0] == '\'' || line[0] == '"') && line[len - 1] == line[0])
		return push_text(m, kind, line + 1, len - 2);
	return push_text(m, kind, line, len);
}

static int op_number(struct machine *m, uint8_t op)
{
	const uint8_t *b;
	uint64_t u;
	int64_t i;

	switch (op) {
	case 'J':
		WL_TRY(take_uint(m, 4, &u));
		return push_kind(m, WL_PK_INT, (int32_t)(uint32_t)u);
	case 'K':
		WL_TRY(take_uint(m, 1, &u));
		return push_kind(m, WL_PK_INT, (int64_t)u);
	case 'M':
		WL_TRY(take_uint(m, 2, &u));
		return push_kind(m, WL_PK_INT, (int64_t)u);
	case 'G':
		WL_TRY(take(m, 8, &b));
		return push_kind(m, WL_PK_FLOAT, 0);
	case 0x8a:
		return op_long(m, 1);
	case 0x8b:
		return op_long(m, 4);
	default: /* 'I', 'L' */
		WL_TRY(take_decimal(m, &i));
		return push_kind(m, WL_PK_INT, i);
	}
}

static int op_memo(struct machine *m, uint8_t op)
{
	uint64_t u;
	int64_t i;

	switch (op) {
	case 'p':
	case 'g':
		WL_TRY(take_decimal(m, &i));
		u = (uint64_t)i;
		break;
	case 'q':
	case 'h':
		WL_TRY(take_uint(m, 1, &u));
		break;
	case 'r':
	case 'j':
		WL_TRY(take_uint(m, 4, &u));
		break;
	default: /* MEMOIZE */
		u = m->memo_next;
	}
	return op == 'g' || op == 'h' || op == 'j' ? memo_get(m, u) : memo_put(m, u);
}

/* BUILD: attributes of an object. A dictionary's _metadata, say; nothing that we need. */
static int op_build(struct machine *m)
{
	return pop(m) && top(m) ? 0 : -1;
}

static int op_pop(struct machine *m, bool to_mark)
{
	int64_t mark;

	if (!to_mark && m->depth && m->stack[m->depth - 1]->kind != WL_PK_MARK)
		return pop(m) ? 0 : -1;
	mark = find_mark(m);
	if (mark < 0)
		return -1;
	m->depth = (size_t)mark;
	return 0;
}

static int step_container(struct machine *m, uint8_t op)
{
	switch (op) {
	case ']':
		return push_kind(m, WL_PK_LIST, 0);
	case '}':
		return push_kind(m, WL_PK_DICT, 0);
	case ')':
		return push_kind(m, WL_PK_TUPLE, 0);
	case 0x8f: /* EMPTY_SET */
		return push_kind(m, WL_PK_LIST, 0);
	case 'l':
	case 0x91: /* FROZENSET */
		return collect(m, WL_PK_LIST);
	case 'd':
		return collect(m, WL_PK_DICT);
	case 't':
		return collect(m, WL_PK_TUPLE);
	case 0x85:
	case 0x86:
	case 0x87:
		return collect_tuple(m, (size_t)op - 0x84);
	case 'a':
		return extend_one(m, WL_PK_LIST);
	case 's':
		return extend_one(m, WL_PK_DICT);
	case 'e':
	case 0x90: /* ADDITEMS */
		return extend(m, WL_PK_LIST);
	default: /* 'u' */
		return extend(m, WL_PK_DICT);
	}
}

static int step_text(struct machine *m, uint8_t op)
{
	switch (op) {
	case 'U':
	case 'C':
	case 0x8c:
		return op_text(m, 1);
	case 'T':
	case 'B':
	case 'X':
		return op_text(m, 4);
	case 0x8d:
	case 0x8e:
		return op_text(m, 8);
	case 'F':
		return op_line_text(m, WL_PK_FLOAT);
	default: /* 'S', 'V' */
		return op_line_text(m, WL_PK_STR);
	}
}

/* One instruction; its argument follows. */
static int step(struct machine *m, uint8_t op)
{
	const uint8_t *b;

	switch (op) {
	case 0x80: /* PROTO */
		return take(m, 1, &b);
	case 0x95: /* FRAME: a hint for buffered readers */
		return take(m, 8, &b);
	case '(':
		return push_kind(m, WL_PK_MARK, 0);
	case '0':
		return op_pop(m, false);
	case '1':
		return op_pop(m, true);
	case '2':
		return push(m, top(m));
	case 'N':
		return push_kind(m, WL_PK_NONE, 0);
	case 0x88:
	case 0x89:
		return push_kind(m, WL_PK_BOOL, op == 0x88);
	case 'I': case 'J': case 'K': case 'L': case 'M': case 'G': case 0x8a: case 0x8b:
		return op_number(m, op);
	case 'S': case 'V': case 'F': case 'U': case 'C': case 'T': case 'B': case 'X':
	case 0x8c: case 0x8d: case 0x8e:
		return step_text(m, op);
	case ']': case '}': case ')': case 'l': case 'd': case 't': case 'a': case 's': case 'e':
	case 'u': case 0x85: case 0x86: case 0x87: case 0x8f: case 0x90: case 0x91:
		return step_container(m, op);
	case 'p': case 'q': case 'r': case 'g': case 'h': case 'j': case 0x94:
		return op_memo(m, op);
	case 'c':
		return op_global(m);
	case 0x93:
		return op_stack_global(m);
	case 'R':
	case 0x81: /* NEWOBJ */
		return op_reduce(m);
	case 'b':
		return op_build(m);
	case 'Q':
		return op_persid(m);
	default:
		m->p--;
		return bad(m, "has an instruction that this reader does not know");
	}
}

struct wl_pk_value *wl_pickle_load(const uint8_t *bytes, size_t n, size_t *used,
	const char *where, struct wl_arena *arena, struct wl_err *err)
{
	struct machine m = {.p = bytes, .start = bytes, .end = bytes + n, .where = where,
		.arena = arena, .err = err};
	struct wl_pk_value *result = NULL;
	uint8_t op;

	while (m.p < m.end) {
		op = *m.p++;
		if (op == '.') {
			result = pop(&m);
			*used = (size_t)(m.p - m.start);
			goto out;
		}
		if (step(&m, op) < 0)
			goto out;
	}
	bad(&m, "ends without its STOP instruction");
out:
	free(m.stack);
	free(m.memo);
	return result;
}

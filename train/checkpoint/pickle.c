/*
 * The pickle machine.  See pickle.h.
 *
 * Opcodes as in Python's pickletools for protocols 0 to 5, less those that
 * load extensions or out-of-band buffers.  A stack of values, a memo, marks on
 * the stack.  Memory is bounded by the input: every value costs at least one
 * byte of pickle, and memo indices are bounded by the number of opcodes.
 */
#include "train/checkpoint/pickle_machine.h"
#include "ops/grow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int wl_pk_bad(struct wl_pk_machine *m, const char *what)
{
	wl_err_set(m->err, WL_ECKPT,
		"%s: the pickle %s at its byte %zu; the file is damaged or was not written by "
		"torch.save, so fetch it again",
		m->where, what, (size_t)(m->p - m->start));
	return -1;
}

static int take(struct wl_pk_machine *m, size_t n, const uint8_t **out)
{
	if ((size_t)(m->end - m->p) < n)
		return wl_pk_bad(m, "ends inside an instruction");
	*out = m->p;
	m->p += n;
	return 0;
}

/* A little-endian unsigned number of n bytes. */
static int take_uint(struct wl_pk_machine *m, size_t n, uint64_t *out)
{
	const uint8_t *b;

	WL_TRY(take(m, n, &b));
	*out = 0;
	for (size_t i = 0; i < n; i++)
		*out |= (uint64_t)b[i] << 8 * i;
	return 0;
}

/* The text up to a newline, which is consumed. */
int wl_pk_take_line(struct wl_pk_machine *m, const char **line, size_t *len)
{
	const uint8_t *nl = memchr(m->p, '\n', (size_t)(m->end - m->p));

	if (!nl)
		return wl_pk_bad(m, "has a line without an end");
	*line = (const char *)m->p;
	*len = (size_t)(nl - m->p);
	m->p = nl + 1;
	return 0;
}

int wl_pk_push(struct wl_pk_machine *m, struct wl_pk_value *v)
{
	if (!v)
		return -1;
	WL_TRY(WL_GROW(m->stack, m->depth, m->stack_cap, "a pickle's stack", m->err));
	m->stack[m->depth++] = v;
	return 0;
}

struct wl_pk_value *wl_pk_new_value(struct wl_pk_machine *m, enum wl_pk_kind kind)
{
	struct wl_pk_value *v = wl_arena_alloc(m->arena, sizeof *v, m->err);

	if (v)
		v->kind = kind;
	return v;
}

static int push_kind(struct wl_pk_machine *m, enum wl_pk_kind kind, int64_t i)
{
	struct wl_pk_value *v = wl_pk_new_value(m, kind);

	if (v)
		v->i = i;
	return wl_pk_push(m, v);
}

int wl_pk_push_text(struct wl_pk_machine *m, enum wl_pk_kind kind, const void *text, size_t len)
{
	struct wl_pk_value *v = wl_pk_new_value(m, kind);

	if (!v || !(v->text = wl_arena_strndup(m->arena, text, len, m->err)))
		return -1;
	v->len = len;
	return wl_pk_push(m, v);
}

/* The top value, removed; NULL with a message when there is none above a mark. */
struct wl_pk_value *wl_pk_pop(struct wl_pk_machine *m)
{
	if (!m->depth || m->stack[m->depth - 1]->kind == WL_PK_MARK) {
		wl_pk_bad(m, "takes a value from an empty stack");
		return NULL;
	}
	return m->stack[--m->depth];
}

static struct wl_pk_value *top(struct wl_pk_machine *m)
{
	struct wl_pk_value *v = wl_pk_pop(m);

	if (v)
		m->depth++;
	return v;
}

/* Index of the topmost mark, or -1 with a message. */
static int64_t find_mark(struct wl_pk_machine *m)
{
	for (size_t i = m->depth; i-- > 0;)
		if (m->stack[i]->kind == WL_PK_MARK)
			return (int64_t)i;
	return wl_pk_bad(m, "refers to a mark that was never set");
}

int wl_pk_append(struct wl_pk_machine *m, struct wl_pk_value *list, struct wl_pk_value *item)
{
	WL_TRY(WL_GROW_IN(m->arena, list->items, list->count, list->cap, m->err));
	list->items[list->count++] = item;
	return 0;
}

/* A container of everything above the mark, in place of it and the mark. */
static int collect(struct wl_pk_machine *m, enum wl_pk_kind kind)
{
	int64_t mark = find_mark(m);
	struct wl_pk_value *v;

	if (mark < 0 || !(v = wl_pk_new_value(m, kind)))
		return -1;
	if (kind == WL_PK_DICT && (m->depth - (size_t)mark - 1) % 2)
		return wl_pk_bad(m, "builds a dictionary with a key that has no value");
	for (size_t i = (size_t)mark + 1; i < m->depth; i++)
		WL_TRY(wl_pk_append(m, v, m->stack[i]));
	m->depth = (size_t)mark;
	return wl_pk_push(m, v);
}

static int collect_tuple(struct wl_pk_machine *m, size_t n)
{
	struct wl_pk_value *v = wl_pk_new_value(m, WL_PK_TUPLE), *items[3];

	if (!v)
		return -1;
	for (size_t i = n; i-- > 0;)
		if (!(items[i] = wl_pk_pop(m)))
			return -1;
	for (size_t i = 0; i < n; i++)
		WL_TRY(wl_pk_append(m, v, items[i]));
	return wl_pk_push(m, v);
}

/* APPENDS, SETITEMS, ADDITEMS: everything above the mark goes into the container below it. */
static int extend(struct wl_pk_machine *m, enum wl_pk_kind kind)
{
	int64_t mark = find_mark(m);
	struct wl_pk_value *into;

	if (mark < 0)
		return -1;
	if (mark == 0 || (m->stack[mark - 1]->kind != kind && m->stack[mark - 1]->kind !=
			WL_PK_OPAQUE))
		return wl_pk_bad(m, "adds items to what is not a container of that kind");
	into = m->stack[mark - 1];
	if (kind == WL_PK_DICT && (m->depth - (size_t)mark - 1) % 2)
		return wl_pk_bad(m, "sets a key that has no value");
	for (size_t i = (size_t)mark + 1; i < m->depth; i++)
		WL_TRY(wl_pk_append(m, into, m->stack[i]));
	m->depth = (size_t)mark;
	return 0;
}

static int extend_one(struct wl_pk_machine *m, enum wl_pk_kind kind)
{
	struct wl_pk_value *value = wl_pk_pop(m), *key = NULL, *into;

	if (!value || (kind == WL_PK_DICT && !(key = wl_pk_pop(m))) || !(into = top(m)))
		return -1;
	if (into->kind != kind && into->kind != WL_PK_OPAQUE)
		return wl_pk_bad(m, "adds an item to what is not a container of that kind");
	if (key)
		WL_TRY(wl_pk_append(m, into, key));
	return wl_pk_append(m, into, value);
}

static int memo_put(struct wl_pk_machine *m, uint64_t index)
{
	struct wl_pk_value *v = top(m);

	if (!v)
		return -1;
	/* Python numbers its memo 0, 1, 2, ...; an index beyond the bytes read is hostile. */
	if (index > (uint64_t)(m->p - m->start))
		return wl_pk_bad(m, "stores a value at an impossible memo index");
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

static int memo_get(struct wl_pk_machine *m, uint64_t index)
{
	if (index >= m->memo_cap || !m->memo[index])
		return wl_pk_bad(m, "recalls a value that was never stored");
	return wl_pk_push(m, m->memo[index]);
}

/* A decimal line of protocol 0. */
static int take_decimal(struct wl_pk_machine *m, int64_t *out)
{
	const char *line;
	char text[24], *rest;
	size_t len;

	WL_TRY(wl_pk_take_line(m, &line, &len));
	if (len && line[len - 1] == 'L')
		len--;
	if (!len || len >= sizeof text)
		return wl_pk_bad(m, "has a number that is not one");
	memcpy(text, line, len);
	text[len] = 0;
	*out = strtoll(text, &rest, 10);
	return *rest ? wl_pk_bad(m, "has a number that is not one") : 0;
}

/* Text or bytes with a length of `width` bytes before them. */
static int op_text(struct wl_pk_machine *m, size_t width)
{
	const uint8_t *b;
	uint64_t n;

	WL_TRY(take_uint(m, width, &n));
	if (n > (uint64_t)(m->end - m->p))
		return wl_pk_bad(m, "has text that is longer than the file");
	WL_TRY(take(m, (size_t)n, &b));
	return wl_pk_push_text(m, WL_PK_STR, b, (size_t)n);
}

/* LONG1, LONG4: two's complement, little-endian, any length. */
static int op_long(struct wl_pk_machine *m, size_t width)
{
	const uint8_t *b;
	uint64_t n, value;

	WL_TRY(take_uint(m, width, &n));
	if (n > (uint64_t)(m->end - m->p))
		return wl_pk_bad(m, "has a number that is longer than the file");
	WL_TRY(take(m, (size_t)n, &b));
	if (n > 8)
		return wl_pk_push_text(m, WL_PK_INT, b, (size_t)n);
	value = n && b[n - 1] & 0x80 ? UINT64_MAX : 0;
	for (size_t i = 0; i < n; i++)
		value = (value & ~((uint64_t)0xff << 8 * i)) | (uint64_t)b[i] << 8 * i;
	return push_kind(m, WL_PK_INT, (int64_t)value);
}

static int op_line_text(struct wl_pk_machine *m, enum wl_pk_kind kind)
{
	const char *line;
	size_t len;

	WL_TRY(wl_pk_take_line(m, &line, &len));
	if (kind == WL_PK_FLOAT)
		return push_kind(m, kind, 0);
	if (len >= 2 && (line[0] == '\'' || line[0] == '"') && line[len - 1] == line[0])
		return wl_pk_push_text(m, kind, line + 1, len - 2);
	return wl_pk_push_text(m, kind, line, len);
}

static int op_number(struct wl_pk_machine *m, uint8_t op)
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

static int op_memo(struct wl_pk_machine *m, uint8_t op)
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
static int op_build(struct wl_pk_machine *m)
{
	return wl_pk_pop(m) && top(m) ? 0 : -1;
}

static int op_pop(struct wl_pk_machine *m, bool to_mark)
{
	int64_t mark;

	if (!to_mark && m->depth && m->stack[m->depth - 1]->kind != WL_PK_MARK)
		return wl_pk_pop(m) ? 0 : -1;
	mark = find_mark(m);
	if (mark < 0)
		return -1;
	m->depth = (size_t)mark;
	return 0;
}

static int step_container(struct wl_pk_machine *m, uint8_t op)
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

static int step_text(struct wl_pk_machine *m, uint8_t op)
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
static int step(struct wl_pk_machine *m, uint8_t op)
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
		return wl_pk_push(m, top(m));
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
		return wl_pk_op_global(m);
	case 0x93:
		return wl_pk_op_stack_global(m);
	case 'R':
	case 0x81: /* NEWOBJ */
		return wl_pk_op_reduce(m);
	case 'b':
		return op_build(m);
	case 'Q':
		return wl_pk_op_persid(m);
	default:
		m->p--;
		return wl_pk_bad(m, "has an instruction that this reader does not know");
	}
}

struct wl_pk_value *wl_pickle_load(const uint8_t *bytes, size_t n, size_t *used,
	const char *where, struct wl_arena *arena, struct wl_err *err)
{
	struct wl_pk_machine m = {.p = bytes, .start = bytes, .end = bytes + n, .where = where,
		.arena = arena, .err = err};
	struct wl_pk_value *result = NULL;
	uint8_t op;

	while (m.p < m.end) {
		op = *m.p++;
		if (op == '.') {
			result = wl_pk_pop(&m);
			*used = (size_t)(m.p - m.start);
			goto out;
		}
		if (step(&m, op) < 0)
			goto out;
	}
	wl_pk_bad(&m, "ends without its STOP instruction");
out:
	free(m.stack);
	free(m.memo);
	return result;
}

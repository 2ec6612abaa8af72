/*
 * Reader of safetensors: map, parse the header with jansson, then prove that
 * the byte ranges tile the data section exactly.  That last rule makes every
 * other question about bounds trivial.  The writer is safetensors_write.c.
 */
#include "ops/safetensors.h"

#include "ops/arena.h"
#include "ops/mapped.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* The format's own limit; a longer header is refused before it is read. */
enum { HEADER_MAX_BYTES = 100000000 };

struct wl_safetensors {
	struct wl_mapped map; /* empty when the bytes are the caller's */
	char *path;
	const uint8_t *data; /* the data section */
	size_t data_bytes;
	json_t *meta; /* object of strings, or NULL */
	struct wl_arena arena;
	struct wl_saved_list list;
};

static const struct {
	const char *name;
	int bits;
	enum wl_saved_dtype dtype;
} types[] = {
	{"F32", 32, WL_SAVED_F32},     {"F16", 16, WL_SAVED_F16},   {"BF16", 16, WL_SAVED_BF16},
	{"I64", 64, WL_SAVED_I64},     {"I32", 32, WL_SAVED_I32},   {"U8", 8, WL_SAVED_U8},
	{"F64", 64, WL_SAVED_F64},     {"I16", 16, WL_SAVED_I16},   {"I8", 8, WL_SAVED_I8},
	{"BOOL", 8, WL_SAVED_BOOL},    {"F4", 4, WL_SAVED_OTHER},   {"F6_E2M3", 6, WL_SAVED_OTHER},
	{"F6_E3M2", 6, WL_SAVED_OTHER}, {"F8_E5M2", 8, WL_SAVED_OTHER},
	{"F8_E4M3", 8, WL_SAVED_OTHER}, {"F8_E8M0", 8, WL_SAVED_OTHER},
	{"F8_E4M3FNUZ", 8, WL_SAVED_OTHER}, {"F8_E5M2FNUZ", 8, WL_SAVED_OTHER},
	{"U16", 16, WL_SAVED_OTHER},   {"U32", 32, WL_SAVED_OTHER}, {"U64", 64, WL_SAVED_OTHER},
	{"C64", 64, WL_SAVED_OTHER},
};

/* A tensor while the header is being checked. */
struct range {
	int64_t begin, end;
	const char *name;
};

static int bad_tensor(const struct wl_safetensors *st, const char *name, const char *what,
	struct wl_err *err)
{
	wl_err_set(err, WL_ECKPT,
		"%s: the header entry of tensor \"%.200s\" %s; the file is damaged or not "
		"safetensors, so fetch or save it again",
		st->path, name, what);
	return -1;
}

/* A JSON integer that is not negative. */
static int as_size(const json_t *v, int64_t *out)
{
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return -1;
	*out = json_integer_value(v);
	return 0;
}

static int parse_dtype(const struct wl_safetensors *st, const json_t *entry,
	struct wl_saved_tensor *t, int *bits, struct wl_err *err)
{
	const char *name = json_string_value(json_object_get(entry, "dtype"));

	if (!name)
		return bad_tensor(st, t->name, "has no \"dtype\" string", err);
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (!strcmp(types[i].name, name)) {
			t->dtype = types[i].dtype;
			*bits = types[i].bits;
			return 0;
		}
	return bad_tensor(st, t->name, "has a \"dtype\" that the format does not define", err);
}

static int parse_shape(const struct wl_safetensors *st, const json_t *entry,
	struct wl_saved_tensor *t, struct wl_err *err)
{
	const json_t *shape = json_object_get(entry, "shape");

	if (!json_is_array(shape))
		return bad_tensor(st, t->name, "has no \"shape\" list", err);
	if (json_array_size(shape) > WL_SAVED_RANK_MAX)
		return bad_tensor(st, t->name, "has more than 8 dimensions", err);
	t->rank = (int)json_array_size(shape);
	for (int i = 0; i < t->rank; i++)
		if (as_size(json_array_get(shape, (size_t)i), &t->shape[i]) < 0)
			return bad_tensor(st, t->name, "has a dimension that is not a size", err);
	if (wl_saved_set_dense(t) < 0)
		return bad_tensor(st, t->name, "has a shape whose product overflows", err);
	return 0;
}

static int parse_entry(struct wl_safetensors *st, const char *name, const json_t *entry,
	struct wl_saved_tensor *t, struct range *r, struct wl_err *err)
{
	const json_t *offsets;
	int64_t total_bits;
	int bits = 0;

	t->name = wl_arena_strdup(&st->arena, name, err);
	if (!t->name)
		return -1;
	if (!json_is_object(entry))
		return bad_tensor(st, name, "is not an object", err);
	if (json_object_size(entry) != 3)
		return bad_tensor(st, name, "must hold dtype, shape and data_offsets only", err);
	WL_TRY(parse_dtype(st, entry, t, &bits, err));
	WL_TRY(parse_shape(st, entry, t, err));
	offsets = json_object_get(entry, "data_offsets");
	if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
		as_size(json_array_get(offsets, 0), &r->begin) < 0 ||
		as_size(json_array_get(offsets, 1), &r->end) < 0 || r->end < r->begin)
		return bad_tensor(st, name, "has no valid \"data_offsets\" pair", err);
	if (__builtin_mul_overflow(t->count, (int64_t)bits, &total_bits) || total_bits % 8)
		return bad_tensor(st, name, "has a size in bytes that is not a whole number", err);
	if (r->end - r->begin != total_bits / 8)
		return bad_tensor(st, name,
			"has data_offsets that do not agree with its dtype and shape", err);
	if ((uint64_t)r->end > st->data_bytes)
		return bad_tensor(st, name, "reaches past the end of the file", err);
	r->name = t->name;
	t->data = t->count ? st->data + r->begin : NULL;
	return 0;
}

static int by_begin(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	return (x->end > y->end) - (x->end < y->end);
}

/* The ranges must start at 0, follow each other without a hole and end at the file's end. */
static int check_tiling(const struct wl_safetensors *st, struct range *r, size_t n,
	struct wl_err *err)
{
	int64_t at = 0;

	if (n)
		qsort(r, n, sizeof *r, by_begin);
	for (size_t i = 0; i < n; i++) {
		if (r[i].begin != at)
			return bad_tensor(st, r[i].name,
				"overlaps another tensor or leaves a hole before it", err);
		at = r[i].end;
	}
	if ((uint64_t)at != st->data_bytes)
		return wl_err_set(err, WL_ECKPT,
			"%s: the tensors end at byte %lld of the data section, which has %zu "
			"bytes; the file was cut short or something was appended, so fetch it "
			"again",
			st->path, (long long)at, st->data_bytes);
	return 0;
}

static int check_meta(struct wl_safetensors *st, json_t *meta, struct wl_err *err)
{
	const char *key;
	json_t *v;

	if (!json_is_object(meta))
		return wl_err_set(err, WL_ECKPT, "%s: __metadata__ is not an object; save it again",
			st->path);
	json_object_foreach(meta, key, v)
		if (!json_is_string(v))
			return wl_err_set(err, WL_ECKPT,
				"%s: the metadata value of \"%.100s\" is not a string, the only "
				"kind that the format allows",
				st->path, key);
	st->meta = json_incref(meta);
	return 0;
}

static int read_header(struct wl_safetensors *st, json_t *header, struct wl_err *err)
{
	size_t n = json_object_size(header), k = 0;
	struct range *ranges;
	const char *name;
	json_t *entry;
	int ret = -1;

	ranges = calloc(n + 1, sizeof *ranges);
	st->list.items = wl_arena_calloc(&st->arena, n + 1, sizeof *st->list.items, err);
	if (!ranges || !st->list.items) {
		wl_err_nomem(err, "the list of tensors", n * sizeof *ranges);
		goto out;
	}
	json_object_foreach(header, name, entry) {
		if (!strcmp(name, "__metadata__")) {
			WL_TRY_OUT(check_meta(st, entry, err));
			continue;
		}
		WL_TRY_OUT(parse_entry(st, name, entry, &st->list.items[k], &ranges[k], err));
		k++;
	}
	st->list.count = k;
	WL_TRY_OUT(check_tiling(st, ranges, k, err));
	ret = wl_saved_sort(&st->list, st->path, err);
out:
	free(ranges);
	return ret;
}

static int parse(struct wl_safetensors *st, const uint8_t *bytes, size_t n, struct wl_err *err)
{
	json_error_t je;
	json_t *header;
	uint64_t len;
	int ret;

	if (n < 8)
		return wl_err_set(err, WL_ECKPT,
			"%s: %zu bytes are too few for a safetensors file (at least 10); it is "
			"empty or cut short, so fetch it again",
			st->path, n);
	memcpy(&len, bytes, 8);
	if (len > HEADER_MAX_BYTES || len > n - 8 || len < 2 || bytes[8] != '{')
		return wl_err_set(err, WL_ECKPT,
			"%s: the first 8 bytes announce a header of %llu bytes, but the file has "
			"%zu and the header must be JSON of at most 100,000,000; it is not "
			"safetensors or was cut short",
			st->path, (unsigned long long)len, n);
	header = json_loadb((const char *)bytes + 8, (size_t)len, JSON_REJECT_DUPLICATES, &je);
	if (!header)
		return wl_err_set(err, WL_ECKPT,
			"%s: the header is not valid JSON at its byte %d (%.200s); the file is "
			"damaged, so fetch it again",
			st->path, je.position, je.text);
	st->data = bytes + 8 + len;
	st->data_bytes = n - 8 - (size_t)len;
	ret = read_header(st, header, err);
	json_decref(header);
	return ret;
}

static struct wl_safetensors *new_reader(const char *path, struct wl_err *err)
{
	struct wl_safetensors *st = calloc(1, sizeof *st);

	if (!st || !(st->path = strdup(path))) {
		free(st);
		wl_err_nomem(err, "a safetensors reader", sizeof *st);
		return NULL;
	}
	return st;
}

struct wl_safetensors *wl_safetensors_open(const char *path, struct wl_err *err)
{
	struct wl_safetensors *st = new_reader(path, err);

	if (!st)
		return NULL;
	if (wl_mapped_open(&st->map, path, err) < 0 ||
		parse(st, st->map.data, st->map.size, err) < 0) {
		wl_safetensors_close(st);
		return NULL;
	}
	return st;
}

struct wl_safetensors *wl_safetensors_parse(const void *bytes, size_t n, const char *path,
	struct wl_err *err)
{
	struct wl_safetensors *st = new_reader(path, err);

	if (!st)
		return NULL;
	if (parse(st, bytes, n, err) < 0) {
		wl_safetensors_close(st);
		return NULL;
	}
	return st;
}

void wl_safetensors_close(struct wl_safetensors *st)
{
	if (!st)
		return;
	json_decref(st->meta);
	wl_arena_release(&st->arena);
	wl_mapped_close(&st->map);
	free(st->path);
	free(st);
}

const struct wl_saved_list *wl_safetensors_list(const struct wl_safetensors *st)
{
	return &st->list;
}

const struct wl_saved_tensor *wl_safetensors_get(const struct wl_safetensors *st,
	const char *name, struct wl_err *err)
{
	const struct wl_saved_tensor *t = wl_saved_find(&st->list, name);

	if (!t)
		wl_err_set(err, WL_ECKPT,
			"%s: there is no tensor \"%.200s\" among its %zu (the first is "
			"\"%.200s\"); this file was written for another purpose or another model",
			st->path, name, st->list.count,
			st->list.count ? st->list.items[0].name : "");
	return t;
}

const char *wl_safetensors_meta(const struct wl_safetensors *st, const char *key)
{
	return json_string_value(json_object_get(st->meta, key));
}

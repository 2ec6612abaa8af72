/*
 * PyTorch's .pth files.  See pth.h.  Two containers, one pickle machine
 * (pickle.c): the container yields the pickled object and, for each storage
 * key, its bytes; the walk over the object joins the two.
 */
#include "train/checkpoint/pth.h"

#include "ops/mapped.h"
#include "train/checkpoint/pickle.h"
#include "train/checkpoint/zip.h"
#include "ops/grow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Dictionaries in dictionaries; deeper than any checkpoint, shallow enough for the stack. */
enum { DEPTH_MAX = 16, NAME_MAX_BYTES = 1024 };
/* Marks of the two walks: each value once, since shared ones would take exponential time. */
enum { SIZED = 1, WALKED = 2 };

/* torch.serialization.MAGIC_NUMBER 0x1950a86a20f9469cfc6c and PROTOCOL_VERSION. */
static const uint8_t legacy_magic[10] = {
	0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
enum { LEGACY_PROTOCOL = 1001 };

struct storage_bytes {
	const char *key;
	const uint8_t *data;
	size_t size;
};

struct wl_pth {
	struct wl_mapped map;
	char *path;
	struct wl_arena arena;
	struct storage_bytes *storages; /* sorted by key; in the arena */
	size_t storage_count;
	struct wl_saved_list list;
	size_t list_cap;
};

static int by_key(const void *a, const void *b)
{
	const struct storage_bytes *x = a, *y = b;

	return strcmp(x->key, y->key);
}

/* Connects a tensor of the pickle with its bytes and puts it on the list. */
static int add_tensor(struct wl_pth *p, const char *name, const struct wl_pk_value *v,
	struct wl_err *err)
{
	struct storage_bytes key = {.key = v->storage->key}, *s = NULL;
	struct wl_saved_tensor *t;
	size_t bytes = wl_saved_dtype_bytes(v->storage->dtype);
	uint64_t skip = (uint64_t)v->offset + (uint64_t)v->storage->view_offset;
	uint64_t need;

	if (p->storage_count)
		s = bsearch(&key, p->storages, p->storage_count, sizeof key, by_key);
	if (!s)
		return wl_err_set(err, WL_ECKPT,
			"%s: the tensor \"%.200s\" lies in storage \"%.60s\", which the file does "
			"not hold; it was cut short, so fetch it again",
			p->path, name, key.key);
	/* The pickle's own numel bounds the tensor (pickle.c); here the file must hold it. */
	if (__builtin_add_overflow((uint64_t)v->storage->numel,
		    (uint64_t)v->storage->view_offset, &need) ||
		__builtin_mul_overflow(need, bytes, &need) || need > s->size)
		return wl_err_set(err, WL_ECKPT,
			"%s: the storage \"%.60s\" of tensor \"%.200s\" has %zu bytes, fewer than "
			"its %lld elements need; the file was cut short, so fetch it again",
			p->path, key.key, name, s->size, (long long)v->storage->numel);
	WL_TRY(WL_GROW(p->list.items, p->list.count, p->list_cap, "the list of tensors", err));
	t = &p->list.items[p->list.count];
	*t = *v->tensor;
	t->data = t->count ? s->data + skip * bytes : NULL;
	t->name = wl_arena_strdup(&p->arena, name, err);
	if (!t->name)
		return -1;
	p->list.count++;
	return 0;
}

/* Flattens dictionaries; `name` holds the prefix, `len` bytes long, and is restored. */
static int walk(struct wl_pth *p, struct wl_pk_value *v, char *name, size_t len, int depth,
	struct wl_err *err)
{
	if (v->kind == WL_PK_TENSOR)
		return len ? add_tensor(p, name, v, err) : 0;
	if (v->kind != WL_PK_DICT || v->visited == WALKED || depth > DEPTH_MAX)
		return 0;
	v->visited = WALKED;
	for (size_t i = 0; i + 1 < v->count; i += 2) {
		const struct wl_pk_value *key = v->items[i];
		int n;

		if (key->kind != WL_PK_STR || strlen(key->text) != key->len)
			continue;
		n = snprintf(name + len, NAME_MAX_BYTES - len, "%s%s", len ? "." : "", key->text);
		if (n < 0 || (size_t)n >= NAME_MAX_BYTES - len)
			return wl_err_set(err, WL_ECKPT,
				"%s: a tensor's name is longer than %d bytes; this is no "
				"checkpoint",
				p->path, NAME_MAX_BYTES);
		WL_TRY(walk(p, v->items[i + 1], name, len + (size_t)n, depth + 1, err));
	}
	name[len] = 0;
	return 0;
}

/* The members of the archive's data folder are the storages, by their file name. */
static int list_members(struct wl_pth *p, const struct wl_zip *z, const char *prefix,
	struct wl_err *err)
{
	size_t len = strlen(prefix);

	p->storages = wl_arena_calloc(&p->arena, z->count + 1, sizeof *p->storages, err);
	if (!p->storages)
		return -1;
	for (size_t i = 0; i < z->count; i++)
		if (!strncmp(z->members[i].name, prefix, len))
			p->storages[p->storage_count++] = (struct storage_bytes){
				z->members[i].name + len, z->members[i].data, z->members[i].size};
	if (p->storage_count)
		qsort(p->storages, p->storage_count, sizeof *p->storages, by_key);
	return 0;
}

static struct wl_pk_value *open_zip(struct wl_pth *p, const uint8_t *bytes, size_t n,
	struct wl_err *err)
{
	const struct wl_zip_member *pickle = NULL, *order;
	char prefix[512], where[600];
	struct wl_zip z;
	size_t used;

	if (wl_zip_parse(&z, bytes, n, p->path, &p->arena, err) < 0)
		return NULL;
	for (size_t i = 0; i < z.count && !pickle; i++) {
		size_t len = strlen(z.members[i].name);

		if (len > 9 && len < sizeof prefix &&
			!strcmp(z.members[i].name + len - 9, "/data.pkl"))
			pickle = &z.members[i];
	}
	if (!pickle) {
		wl_err_set(err, WL_ECKPT,
			"%s: the ZIP archive has no member data.pkl, so torch.save did not write "
			"it; name a .pth or .safetensors file",
			p->path);
		return NULL;
	}
	snprintf(prefix, sizeof prefix, "%.*s/byteorder", (int)(strlen(pickle->name) - 9),
		pickle->name);
	order = wl_zip_find(&z, prefix);
	if (order && (order->size != 6 || memcmp(order->data, "little", 6))) {
		wl_err_set(err, WL_ECKPT,
			"%s: the storages are not little-endian; save it again on a common machine",
			p->path);
		return NULL;
	}
	snprintf(prefix, sizeof prefix, "%.*s/data/", (int)(strlen(pickle->name) - 9),
		pickle->name);
	if (list_members(p, &z, prefix, err) < 0)
		return NULL;
	snprintf(where, sizeof where, "%.500s (data.pkl)", p->path);
	return wl_pickle_load(pickle->data, pickle->size, &used, where, &p->arena, err);
}

static int is_int(const struct wl_pk_value *v, int64_t value)
{
	return v->kind == WL_PK_INT && !v->text && v->i == value;
}

/* The system record must say little-endian. */
static int check_system(const struct wl_pth *p, const struct wl_pk_value *v, struct wl_err *err)
{
	for (size_t i = 0; v->kind == WL_PK_DICT && i + 1 < v->count; i += 2)
		if (v->items[i]->kind == WL_PK_STR &&
			!strcmp(v->items[i]->text, "little_endian") &&
			v->items[i + 1]->kind == WL_PK_BOOL && v->items[i + 1]->i == 1)
			return 0;
	return wl_err_set(err, WL_ECKPT,
		"%s: the file does not say that it is little-endian; save it again on a common "
		"machine",
		p->path);
}

/* Element sizes of the storages that the pickle mentions: the legacy stream gives a count of
 * elements only. Collected by the walk over all values reachable from the object. */
struct key_size {
	const char *key;
	size_t bytes;
};

struct key_sizes {
	struct key_size *v;
	size_t n, cap;
};

static int by_key_size(const void *a, const void *b)
{
	const struct key_size *x = a, *y = b;

	return strcmp(x->key, y->key);
}

static int collect_sizes(struct key_sizes *k, struct wl_pk_value *v, int depth,
	struct wl_err *err)
{
	if (v->storage) {
		WL_TRY(WL_GROW(k->v, k->n, k->cap, "the list of storages", err));
		k->v[k->n++] = (struct key_size){
			v->storage->key, wl_saved_dtype_bytes(v->storage->dtype)};
	}
	if (v->visited == SIZED || depth > 4 * DEPTH_MAX)
		return 0;
	v->visited = SIZED;
	for (size_t i = 0; i < v->count; i++)
		WL_TRY(collect_sizes(k, v->items[i], depth + 1, err));
	return 0;
}

static int legacy_storages(struct wl_pth *p, const struct wl_pk_value *keys,
	const struct key_sizes *sizes, const uint8_t *at, const uint8_t *end, struct wl_err *err)
{
	p->storages = wl_arena_calloc(&p->arena, keys->count + 1, sizeof *p->storages, err);
	if (!p->storages)
		return -1;
	for (size_t i = 0; i < keys->count; i++) {
		struct key_size key = {.key = keys->items[i]->text}, *found = NULL;
		int64_t numel = -1;
		uint64_t bytes;

		if (keys->items[i]->kind == WL_PK_STR && sizes->n)
			found = bsearch(&key, sizes->v, sizes->n, sizeof key, by_key_size);
		if (!found)
			return wl_err_set(err, WL_ECKPT,
				"%s: storage %zu of %zu belongs to no tensor, so its size is "
				"unknown; save the file again with a current PyTorch",
				p->path, i, keys->count);
		if (end - at >= 8)
			memcpy(&numel, at, 8);
		if (numel < 0 ||
			__builtin_mul_overflow((uint64_t)numel, found->bytes, &bytes) ||
			bytes > (uint64_t)(end - at - 8))
			return wl_err_set(err, WL_ECKPT,
				"%s: storage %zu of %zu is cut short at byte %zu; fetch the file "
				"again",
				p->path, i, keys->count, p->map.size - (size_t)(end - at));
		p->storages[p->storage_count++] = (struct storage_bytes){
			found->key, at + 8, (size_t)bytes};
		at += 8 + bytes;
	}
	qsort(p->storages, p->storage_count, sizeof *p->storages, by_key);
	return 0;
}

/* Five pickles one after the other (magic, protocol, system, object, storage keys), then the
 * storages in the order of the keys. */
static struct wl_pk_value *open_legacy(struct wl_pth *p, const uint8_t *bytes, size_t n,
	struct wl_err *err)
{
	struct key_sizes sizes = {0};
	struct wl_pk_value *v[5], *result = NULL;
	size_t at = 0, used = 0;

	for (int i = 0; i < 5; i++) {
		v[i] = wl_pickle_load(bytes + at, n - at, &used, p->path, &p->arena, err);
		if (!v[i])
			return NULL;
		at += used;
		if (i == 0 && (v[0]->kind != WL_PK_INT || v[0]->len != sizeof legacy_magic ||
				memcmp(v[0]->text, legacy_magic, sizeof legacy_magic))) {
			wl_err_set(err, WL_ECKPT,
				"%s: this is a pickle but torch.save did not write it; name a .pth "
				"or .safetensors file",
				p->path);
			return NULL;
		}
	}
	if (!is_int(v[1], LEGACY_PROTOCOL) || v[4]->kind != WL_PK_LIST) {
		wl_err_set(err, WL_ECKPT,
			"%s: the stream has an unknown protocol version; save it again with a "
			"current PyTorch",
			p->path);
		return NULL;
	}
	if (check_system(p, v[2], err) < 0 || collect_sizes(&sizes, v[3], 0, err) < 0)
		goto out;
	if (sizes.n)
		qsort(sizes.v, sizes.n, sizeof *sizes.v, by_key_size);
	if (legacy_storages(p, v[4], &sizes, bytes + at, bytes + n, err) == 0)
		result = v[3];
out:
	free(sizes.v);
	return result;
}

static int parse(struct wl_pth *p, const uint8_t *bytes, size_t n, struct wl_err *err)
{
	struct wl_pk_value *object;
	char name[NAME_MAX_BYTES] = "";

	if (n >= 4 && !memcmp(bytes, "PK\3\4", 4))
		object = open_zip(p, bytes, n, err);
	else if (n >= 2 && bytes[0] == 0x80)
		object = open_legacy(p, bytes, n, err);
	else
		return wl_err_set(err, WL_ECKPT,
			"%s: neither a ZIP archive nor a pickle (%zu bytes), so torch.save did not "
			"write it; name a .pth or .safetensors file",
			p->path, n);
	if (!object)
		return -1;
	WL_TRY(walk(p, object, name, 0, 0, err));
	if (!p->list.count)
		return wl_err_set(err, WL_ECKPT,
			"%s: the file holds no named tensor; save model.state_dict() into "
			"it", p->path);
	return wl_saved_sort(&p->list, p->path, err);
}

static struct wl_pth *new_reader(const char *path, struct wl_err *err)
{
	struct wl_pth *p = calloc(1, sizeof *p);

	if (!p || !(p->path = strdup(path))) {
		free(p);
		wl_err_nomem(err, "a .pth reader", sizeof *p);
		return NULL;
	}
	return p;
}

struct wl_pth *wl_pth_open(const char *path, struct wl_err *err)
{
	struct wl_pth *p = new_reader(path, err);

	if (!p)
		return NULL;
	if (wl_mapped_open(&p->map, path, err) < 0 ||
		parse(p, p->map.data, p->map.size, err) < 0) {
		wl_pth_close(p);
		return NULL;
	}
	return p;
}

struct wl_pth *wl_pth_parse(const void *bytes, size_t n, const char *path, struct wl_err *err)
{
	struct wl_pth *p = new_reader(path, err);

	if (!p)
		return NULL;
	if (parse(p, bytes, n, err) < 0) {
		wl_pth_close(p);
		return NULL;
	}
	return p;
}

void wl_pth_close(struct wl_pth *p)
{
	if (!p)
		return;
	free(p->list.items);
	wl_arena_release(&p->arena);
	wl_mapped_close(&p->map);
	free(p->path);
	free(p);
}

const struct wl_saved_list *wl_pth_list(const struct wl_pth *p)
{
	return &p->list;
}

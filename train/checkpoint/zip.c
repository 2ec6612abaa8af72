/* ZIP's central directory, with ZIP64.  See zip.h; field offsets are from
 * PKWARE's APPNOTE 6.3.9, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3. */
#include "train/checkpoint/zip.h"

#include <stdlib.h>
#include <string.h>

static uint64_t le(const uint8_t *p, int n)
{
	uint64_t v = 0;

	for (int i = 0; i < n; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

struct archive {
	const uint8_t *bytes;
	size_t n;
	const char *path;
	struct wl_err *err;
};

static int bad(const struct archive *a, const char *what, uint64_t at)
{
	wl_err_set(a->err, WL_ECKPT,
		"%s: the ZIP archive %s (byte %llu of %zu); it was cut short or damaged, so fetch "
		"it again",
		a->path, what, (unsigned long long)at, a->n);
	return -1;
}

/* True when [at, at + len) lies inside the archive. */
static int inside(const struct archive *a, uint64_t at, uint64_t len)
{
	return at <= a->n && len <= a->n - at;
}

/* Finds the end record, which a comment of up to 64 KiB may follow. */
static int find_end(const struct archive *a, size_t *at)
{
	size_t lowest = a->n > 65557 ? a->n - 65557 : 0;

	for (size_t i = a->n < 22 ? 0 : a->n - 21; i-- > lowest;)
		if (!memcmp(a->bytes + i, "PK\5\6", 4)) {
			*at = i;
			return 0;
		}
	return bad(a, "has no end-of-directory record", a->n);
}

/* Where the directory starts and how many entries it has, from the ZIP64 record if need be. */
static int locate_directory(const struct archive *a, uint64_t *start, uint64_t *entries)
{
	uint64_t record;
	size_t end;

	WL_TRY(find_end(a, &end));
	*entries = le(a->bytes + end + 10, 2);
	*start = le(a->bytes + end + 16, 4);
	if (*entries == 0xffff || *start == 0xffffffff) {
		if (end < 20 || memcmp(a->bytes + end - 20, "PK\6\7", 4))
			return bad(a, "has no ZIP64 locator where one is needed", end);
		record = le(a->bytes + end - 20 + 8, 8);
		if (!inside(a, record, 56) || memcmp(a->bytes + record, "PK\6\6", 4))
			return bad(a, "has no ZIP64 record where its locator points", record);
		*entries = le(a->bytes + record + 32, 8);
		*start = le(a->bytes + record + 48, 8);
	}
	/* 46 bytes is the least an entry takes: bounds the allocation that follows. */
	if (!inside(a, *start, 0) || *entries > (a->n - *start) / 46)
		return bad(a, "has a directory that does not fit", *start);
	return 0;
}

/* Replaces the 32-bit fields that are all ones by those of the ZIP64 extra field. */
static int apply_zip64(const struct archive *a, const uint8_t *extra, size_t len, uint64_t *usize,
	uint64_t *csize, uint64_t *header)
{
	uint64_t *fields[3] = {usize, csize, header};

	while (len >= 4) {
		size_t size = (size_t)le(extra + 2, 2), at = 4;

		if (size > len - 4)
			break;
		if (le(extra, 2) == 1) {
			for (int i = 0; i < 3; i++) {
				if (*fields[i] != 0xffffffff)
					continue;
				if (at + 8 > 4 + size)
					return bad(a, "has a short ZIP64 field", 0);
				*fields[i] = le(extra + at, 8);
				at += 8;
			}
			return 0;
		}
		extra += 4 + size;
		len -= 4 + size;
	}
	return 0;
}

static int read_member(const struct archive *a, uint64_t *at, struct wl_zip_member *m,
	struct wl_arena *arena)
{
	const uint8_t *e = a->bytes + *at;
	uint64_t csize, usize, header, data;
	size_t nlen, xlen, clen;

	if (!inside(a, *at, 46) || memcmp(e, "PK\1\2", 4))
		return bad(a, "has a damaged directory entry", *at);
	csize = le(e + 20, 4);
	usize = le(e + 24, 4);
	nlen = (size_t)le(e + 28, 2);
	xlen = (size_t)le(e + 30, 2);
	clen = (size_t)le(e + 32, 2);
	header = le(e + 42, 4);
	if (!inside(a, *at + 46, nlen + xlen + clen))
		return bad(a, "has a directory entry that is cut short", *at);
	WL_TRY(apply_zip64(a, e + 46 + nlen, xlen, &usize, &csize, &header));
	if (le(e + 10, 2) != 0 || csize != usize || le(e + 8, 2) & 1)
		return bad(a, "has a compressed or encrypted member, unlike torch.save's",
			*at);
	if (!inside(a, header, 30) || memcmp(a->bytes + header, "PK\3\4", 4))
		return bad(a, "has a directory entry that points at no member", *at);
	data = header + 30 + le(a->bytes + header + 26, 2) + le(a->bytes + header + 28, 2);
	if (!inside(a, data, csize))
		return bad(a, "has a member that reaches past its end", header);
	m->name = wl_arena_strndup(arena, (const char *)e + 46, nlen, a->err);
	m->data = a->bytes + data;
	m->size = (size_t)csize;
	*at += 46 + nlen + xlen + clen;
	return m->name ? 0 : -1;
}

static int by_name(const void *a, const void *b)
{
	const struct wl_zip_member *x = a, *y = b;

	return strcmp(x->name, y->name);
}

int wl_zip_parse(struct wl_zip *z, const uint8_t *bytes, size_t n, const char *path,
	struct wl_arena *arena, struct wl_err *err)
{
	struct archive a = {bytes, n, path, err};
	uint64_t at, entries;

	*z = (struct wl_zip){0};
	WL_TRY(locate_directory(&a, &at, &entries));
	z->members = wl_arena_calloc(arena, entries + 1, sizeof *z->members, err);
	if (!z->members)
		return -1;
	for (uint64_t i = 0; i < entries; i++)
		WL_TRY(read_member(&a, &at, &z->members[i], arena));
	z->count = entries;
	if (entries)
		qsort(z->members, z->count, sizeof *z->members, by_name);
	return 0;
}

const struct wl_zip_member *wl_zip_find(const struct wl_zip *z, const char *name)
{
	struct wl_zip_member key = {.name = name};

	return z->count ? bsearch(&key, z->members, z->count, sizeof key, by_name) : NULL;
}

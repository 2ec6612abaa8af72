/* See rows.h. */
#include "clean/rows.h"

#include "ops/file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void wl_rows_init(struct wl_rows *r, size_t width, size_t memory, const char *dir)
{
	memset(r, 0, sizeof(*r));
	r->width = width;
	r->memory = memory;
	r->dir = dir;
	r->fd = -1;
}

void wl_rows_release(struct wl_rows *r)
{
	free(r->mem);
	if (r->fd >= 0)
		close(r->fd);
	memset(r, 0, sizeof(*r));
	r->fd = -1;
}

static int open_nameless(struct wl_rows *r, struct wl_err *err)
{
	char *path = wl_strf(err, "%s/spill-XXXXXX", r->dir);

	if (!path)
		return -1;
	r->fd = mkostemp(path, O_CLOEXEC);
	if (r->fd < 0)
		wl_err_errno(err, "%s: cannot be made for what does not fit into --memory", path);
	else
		unlink(path);
	free(path);
	return r->fd < 0 ? -1 : 0;
}

static int spill(struct wl_rows *r, struct wl_err *err)
{
	size_t rows = r->n - r->on_disk;

	if (r->fd < 0)
		WL_TRY(open_nameless(r, err));
	WL_TRY(wl_pwrite_full(r->fd, r->mem, rows * r->width, (int64_t)(r->on_disk * r->width),
		r->dir, err));
	r->on_disk = r->n;
	return 0;
}

int wl_rows_add(struct wl_rows *r, const void *row, struct wl_err *err)
{
	size_t held = r->n - r->on_disk;

	if (held == r->cap) {
		size_t cap = r->cap ? 2 * r->cap : 64;
		char *p;
		if (cap * r->width > r->memory && held) {
			WL_TRY(spill(r, err));
			held = 0;
		} else {
			p = realloc(r->mem, cap * r->width);
			if (!p)
				return wl_err_nomem(err, "signatures", cap * r->width);
			r->mem = p;
			r->cap = cap;
		}
	}
	memcpy(r->mem + held * r->width, row, r->width);
	r->n++;
	return 0;
}

int wl_rows_read(const struct wl_rows *r, size_t from, size_t n, void *out, const void **at,
	struct wl_err *err)
{
	size_t disk = from >= r->on_disk ? 0 : r->on_disk - from < n ? r->on_disk - from : n;

	if (!disk) {
		*at = r->mem + (from - r->on_disk) * r->width;
		return 0;
	}
	*at = out;
	WL_TRY(wl_pread_full(r->fd, out, disk * r->width, (int64_t)(from * r->width), r->dir, err));
	if (disk < n)
		memcpy((char *)out + disk * r->width, r->mem, (n - disk) * r->width);
	return 0;
}

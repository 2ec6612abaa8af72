/* Any bytes as an archive, plain or compressed: read to the end, every slice in memory that can be
 * read, places that grow, and from the place after a record the next one is the same. */
#include "ingest/warc.h"
#include "ingest/warc_images.h"
#include "ops/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static uint64_t hash(const struct wl_warc_record *r)
{
	uint64_t h = wl_hash64(r->body, r->n, (uint64_t)r->type);

	for (size_t i = 0; i < r->fields->n; i++) {
		h = wl_hash64(r->fields->v[i].name.p, r->fields->v[i].name.n, h);
		h = wl_hash64(r->fields->v[i].value.p, r->fields->v[i].value.n, h);
	}
	if (r->uri.p)
		h = wl_hash64(r->uri.p, r->uri.n, h);
	return h ^ (uint64_t)(r->damage != NULL);
}

/* The record after this place must have this hash; 0: there must be none. */
static void check_place(const char *path, int64_t member, int64_t inside, uint64_t want, bool any)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_warc_record r;
	struct wl_warc w;

	if (wl_warc_open(&w, path, member, inside, &err) < 0)
		abort();
	int more = wl_warc_next(&w, &r, &err);
	if (more < 0 || (more > 0) != any || (any && hash(&r) != want))
		abort();
	wl_warc_close(&w);
}

static void read_all(const char *path)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_warc_record r;
	struct wl_warc w;
	int64_t member = 0, inside = 0;
	int more, records = 0;

	if (wl_warc_open(&w, path, 0, 0, &err) < 0) {
		if (!err.msg[0])
			abort();
		return;
	}
	while ((more = wl_warc_next(&w, &r, &err)) > 0) {
		if (records++ < 8)
			check_place(path, member, inside, hash(&r), true);
		member = r.next_member;
		inside = r.next_inside;
	}
	if (more < 0)
		abort(); /* memory and files do not fail here */
	check_place(path, member, inside, 0, false);
	wl_warc_close(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	enum wl_warc_image_found found;
	struct wl_buf image;
	char path[64];
	int fd = memfd_create("fuzz", 0);

	if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
		abort();
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	read_all(path);
	struct wl_warc_images *x = wl_warc_images_open(path, &err);
	wl_buf_init(&image, 1 << 20);
	if (x && wl_warc_images_get(x, "http://x/a.jpg", &image, &found, &err) < 0 && !err.msg[0])
		abort();
	wl_buf_release(&image);
	wl_warc_images_close(x);
	close(fd);
	return 0;
}

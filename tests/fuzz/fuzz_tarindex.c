/* Any bytes as a tar of images: an error, or members that can be read as long as they say. */
#include "ingest/tarindex.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_tarindex x;
	struct wl_buf b;
	char path[64];
	int fd = memfd_create("fuzz", 0);

	if (fd < 0 || write(fd, data, n) != (ssize_t)n)
		abort();
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	wl_buf_init(&b, 1 << 20);
	if (wl_tarindex_open(&x, path, &err) < 0) {
		if (err.code == WL_OK || !err.msg[0])
			abort();
	} else {
		for (size_t i = 0; i < x.n; i++) {
			/* Of two members with one name the last is found. */
			if (wl_tarindex_find(&x, x.v[i].name) != &x.v[i])
				abort();
			if ((size_t)x.v[i].size > b.max)
				continue;
			if (wl_tarindex_read(&x, &x.v[i], &b, &err) == 0 &&
				b.len != (size_t)x.v[i].size)
				abort();
		}
		wl_tarindex_close(&x);
	}
	wl_buf_release(&b);
	close(fd);
	return 0;
}

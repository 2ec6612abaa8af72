/* Any bytes as a shard's tar: walked to its end, or refused with a sentence; what the walk
 * says of members lies inside the file.  Each input is tried as it is and with the sums of its
 * headers made right, since a fuzzer hardly ever guesses those. */
#include "shards/sample_walk.h"
#include "shards/tar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void walk_members(int fd, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_tar_member m;
	struct wl_tar_walk w;
	int rc = wl_tar_walk_init(&w, fd, "fuzz", &err);

	while (rc == 0 && (rc = wl_tar_walk_next(&w, &m, &err)) > 0) {
		if (m.offset < WL_TAR_BLOCK || m.length < 0 || m.offset + m.length > (int64_t)n)
			abort();
		rc = 0;
	}
	if (rc < 0 && !err.msg[0])
		abort();
}

static void walk_samples(int fd)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_sample_walk w;
	struct wl_shard_row row;
	int rc = wl_sample_walk_open_fd(&w, fd, "fuzz", "train-000000", &err);

	if (rc == 0) {
		while ((rc = wl_sample_walk_next(&w, &row, &err)) > 0)
			if (!w.json || !row.source || !row.url)
				abort();
		wl_sample_walk_close(&w);
	}
	if (rc < 0 && !err.msg[0])
		abort();
}

static void try(const uint8_t *bytes, size_t n)
{
	int fd = memfd_create("fuzz", 0);

	if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
		abort();
	walk_members(fd, n);
	walk_samples(fd); /* closes it */
}

/* The sum of every block that has ustar's mark. */
static void mend_sums(uint8_t *bytes, size_t n)
{
	for (size_t at = 0; at + WL_TAR_BLOCK <= n; at += WL_TAR_BLOCK) {
		uint8_t *b = bytes + at;
		unsigned sum = 8 * ' ';

		if (memcmp(b + 257, "ustar", 5))
			continue;
		for (size_t i = 0; i < WL_TAR_BLOCK; i++)
			sum += i < 148 || i >= 156 ? b[i] : 0;
		snprintf((char *)b + 148, 8, "%06o", sum & 0777777);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	uint8_t *copy = malloc(n + 1);

	try(bytes, n);
	if (copy) {
		memcpy(copy, bytes, n);
		mend_sums(copy, n);
		try(copy, n);
	}
	free(copy);
	return 0;
}

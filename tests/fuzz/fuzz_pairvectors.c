/* Any bytes as a file of embeddings: every pair that it names has a row that can be read or is
 * refused with a sentence. */
#include "clean/pairvectors.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void read_all(const struct wl_pair_vectors *v)
{
	int64_t dim = wl_pair_vectors_dim(v);
	float *row = malloc((size_t)dim * sizeof(*row));
	struct wl_err err = WL_ERR_INIT;

	for (int64_t id = 0; row && id < 64; id++) {
		uint32_t at = wl_pair_vectors_find(v, WL_VECTORS_OWN, (int)(id & 3), id);
		if (at == WL_NO_VECTOR)
			continue;
		if (wl_pair_vectors_read(v, at, row, NULL, &err) < 0 && !err.msg[0])
			abort();
		wl_pair_vectors_unit(v, at, row);
	}
	free(row);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	char path[64];
	const char *p = path;
	const struct wl_vector_paths sets[WL_VECTORS_SETS] = {{&p, 1}, {&p, 1}};

	if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (int side = 0; side < 2; side++) {
		struct wl_err err = WL_ERR_INIT;
		struct wl_pair_vectors *v =
			wl_pair_vectors_open(sets, (enum wl_vector_side)side, &err);
		if (!v && !err.msg[0])
			abort();
		if (v)
			read_all(v);
		wl_pair_vectors_close(v);
	}
	close(fd);
	return 0;
}

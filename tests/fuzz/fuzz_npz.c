/* Any bytes as a .npz: refused, or an array that .npy's reader refuses or reads. */
#include "eval/npy.h"
#include "eval/npz.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_saved_tensor t;
	struct wl_buf b;

	wl_buf_init(&b, 1 << 26); /* what a small zip may grow to */
	if (!wl_npz_read_memory(bytes, n, "fuzz.npz", NULL, &b, &err) &&
		!wl_npy_parse(b.data, b.len, "fuzz.npz", &t, &err)) {
		float *values = malloc((size_t)t.count * sizeof *values + 1);

		if (values && wl_saved_to_f32(&t, values, &err) < 0)
			abort();
		free(values);
	}
	wl_buf_release(&b);
	return 0;
}

/* Any bytes as a .npy file: refused, or every element can be read. */
#include "eval/npy.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_saved_tensor t;

	if (wl_npy_parse(bytes, n, "fuzz.npy", &t, &err) == 0) {
		/* The count is bounded by the bytes, so this is no large allocation, except for
		 * shapes with a zero, whose count is 0. */
		float *values = malloc((size_t)t.count * sizeof *values + 1);

		if (values && wl_saved_to_f32(&t, values, &err) < 0)
			abort();
		free(values);
	}
	return 0;
}

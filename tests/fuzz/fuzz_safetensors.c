/* Any bytes as a safetensors file: read or refused with a sentence. */
#include "ops/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_safetensors *st = wl_safetensors_parse(bytes, n, "fuzz", &err);

	if (!st && !err.msg[0])
		abort();
	for (size_t i = 0; st && i < wl_safetensors_list(st)->count; i++) {
		const struct wl_saved_tensor *t = &wl_safetensors_list(st)->items[i];
		float *v = malloc((size_t)t->count * sizeof *v + 1);

		if (v && wl_saved_to_f32(t, v, &err) < 0 && t->dtype != WL_SAVED_OTHER)
			abort();
		free(v);
	}
	wl_safetensors_close(st);
	return 0;
}

/* Any bytes cut into words that cover them, with and without the model. */
#include "clean/segment.h"
#include "ops/err.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct wl_segment *s;
	static struct wl_cuts cuts;

	if (!s)
		s = wl_segment_open(NULL, NULL, 0, NULL);
	for (unsigned flags = 0; s && flags < 2; flags++) {
		uint32_t at = 0;
		if (wl_segment_cut(s, (const char *)data, size, flags, &cuts, NULL) < 0)
			return 0;
		for (size_t i = 0; i < cuts.n; at = cuts.end[i++])
			WL_ASSERT(cuts.end[i] > at);
		WL_ASSERT(at == size);
	}
	return 0;
}

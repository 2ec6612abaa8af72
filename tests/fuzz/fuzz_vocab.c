/* Any bytes as a vocabulary: either a clear error, or one that tokenises within its bounds. */
#include "clean/wordpiece.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_vocab *v = wl_vocab_parse((const char *)data, n, "fuzz", &err);
	int32_t ids[64];

	if (!v) {
		if (err.code == WL_OK || !err.msg[0])
			abort();
		return 0;
	}
	for (size_t i = 0; i < wl_vocab_size(v); i++)
		if (wl_vocab_id(v, wl_vocab_token(v, (int32_t)i)) != (int32_t)i)
			abort();
	wl_wordpiece(v, (const char *)data, n, ids, 64);
	for (size_t i = 0; i < 64; i++)
		if (!wl_vocab_token(v, ids[i]))
			abort();
	wl_vocab_free(v);
	return 0;
}

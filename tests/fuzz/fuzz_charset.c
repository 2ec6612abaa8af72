/* Any bytes as a text: refused with a sentence, or valid UTF-8 that reads as itself again. */
#include "ingest/charset.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_charset info;
	struct wl_buf out, again;
	char header[32] = "";
	const char *text;
	size_t len;

	/* The first byte: how much of what follows is the header. */
	size_t head = n ? data[0] % sizeof header : 0;
	if (n < head + 1)
		return 0;
	memcpy(header, data + 1, head ? head - 1 : 0);
	wl_buf_init(&out, 16 << 20);
	wl_buf_init(&again, 16 << 20);
	if (wl_charset_decode(data + head, n - head, head ? header : NULL, &out, &text, &len, &info,
		    &err) < 0) {
		if (err.code != WL_EDATA || !err.msg[0])
			abort();
	} else {
		json_t *s = json_stringn(text, len);
		if (!s || memchr(text, 0, len))
			abort();
		json_decref(s);
	}
	wl_buf_release(&out);
	wl_buf_release(&again);
	return 0;
}

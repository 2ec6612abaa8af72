/* Region decoding and resizing of arbitrary bytes: the first four choose the crop. */
#include "loader/decode.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void drop(void *sink, int y, const float *const rgb[3])
{
	(void)sink;
	(void)y;
	(void)rgb;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct wl_decoder *d;
	static struct wl_resizer *r;
	struct wl_region g;
	int w, h;

	if (!d) {
		d = wl_decoder_new(NULL);
		r = wl_resizer_new(32, NULL);
	}
	if (!d || !r || size < 4)
		return 0;
	if (wl_decoder_open(d, data + 4, size - 4, &w, &h, NULL) < 0 || (int64_t)w * h > 1 << 20)
		return 0;
	int x = data[0] * (w - 1) / 255, y = data[1] * (h - 1) / 255;
	int cw = 1 + data[2] * (w - x - 1) / 255, ch = 1 + data[3] * (h - y - 1) / 255;
	if (wl_decoder_region(d, x, y, cw, ch, 32, data[0] & 1, &g, NULL) == 0 &&
		wl_resizer_run(r, &g, data[1] & 1, wl_decoder_strip, d, drop, NULL, NULL) < 0)
		return 0;
	return 0;
}

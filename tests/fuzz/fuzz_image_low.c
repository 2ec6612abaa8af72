/* Any bytes as a JPEG of which the low frequencies are asked: what is taken, the library takes
 * too, with the same size. */
#include "ingest/image_low.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_image_info info;
	struct wl_image_low low;
	int width, height, by = n & 1 ? 4 : 8;
	bool sized = wl_image_low_size(data, n, &width, &height);

	if (sized && (int64_t)width * height > 1 << 20)
		return 0;
	if (wl_image_low(data, n, by, &low, &err) != 1)
		return 0;
	if (wl_image_check(data, n, &info, &err) < 0)
		abort();
	if (!sized || low.width != width || low.height != height || info.width != width ||
		info.height != height || low.luma.width != (width + by - 1) / by)
		abort();
	wl_image_low_release(&low);
	return 0;
}

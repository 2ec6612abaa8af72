/* Any bytes as an image: an error, or a picture of the size that the probe said. */
#include "ingest/image.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_image_info info, by_structure;
	struct wl_image im = {0}, small = {0};
	struct wl_buf jpg;

	/* It may be any size: nothing is decoded. */
	int whole = wl_image_check_by(data, n, WL_IMAGE_STRUCTURE, &by_structure, &err);
	if (wl_image_probe(data, n, &info, &err) < 0) {
		if (err.code == WL_OK || !err.msg[0])
			abort();
		return 0;
	}
	/* Large pictures say nothing that small ones do not, and are slow. */
	if ((int64_t)info.width * info.height > 1 << 20)
		return 0;
	if (wl_image_decode(data, n, &im, &err) < 0)
		return 0;
	/* What decodes is whole, and the same picture. */
	if (whole < 0 || by_structure.width != info.width || by_structure.height != info.height ||
		by_structure.format != info.format)
		abort();
	if (im.width != info.width || im.height != info.height || im.channels != 3)
		abort();
	if (wl_image_resize_lanczos(&im, 9, 8, &small, &err) < 0)
		abort();
	wl_image_release(&small);
	wl_image_release(&im);
	wl_buf_init(&jpg, 64 << 20);
	if (wl_image_to_jpeg(data, n, 90, &jpg, &err) < 0)
		abort();
	/* Copied bytes are what they were; encoded ones are upright and plain. */
	if (wl_image_probe(jpg.data, jpg.len, &info, &err) < 0 || !info.jpeg_plain)
		abort();
	wl_buf_release(&jpg);
	return 0;
}

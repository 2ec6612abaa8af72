/* What nvjpeg.cu does, by the loader's own decoder: whole planes as they are stored. */
#include "train/backend/cuda/cuda.h"

#define noreturn __attribute__((noreturn))
extern "C" {
#include "loader/decode.h"
}
#undef noreturn

extern "C" int wl_cuda_jpegs_open(struct cuda_jpegs **to, int64_t, struct wl_err *err)
{
	*to = (struct cuda_jpegs *)wl_decoder_new(err);
	return *to ? 0 : -1;
}

extern "C" void wl_cuda_jpegs_close(struct cuda_jpegs *j)
{
	wl_decoder_free((struct wl_decoder *)j);
}

static int decode(struct wl_decoder *d, const struct cuda_jpeg *j, struct wl_err *err)
{
	uint8_t *strip[3][16], *const *rows[3] = {strip[0], strip[1], strip[2]};
	struct wl_region g;
	int w, h, y = 0;

	WL_TRY(wl_decoder_open(d, j->bytes, j->n, &w, &h, err));
	WL_TRY(wl_decoder_region(d, 0, 0, w, h, 1, 0, &g, err));
	for (; y * g.plane[0].strip < g.plane[0].height; y++) {
		uint8_t *space = (uint8_t *)malloc(3 * 16 * (size_t)g.plane[0].stride);

		for (int i = 0; i < 3 * 16; i++)
			strip[i / 16][i % 16] = space + i * g.plane[0].stride;
		if (wl_decoder_strip(d, rows, err) < 0) {
			free(space);
			return -1;
		}
		for (int p = 0; p < g.planes; p++)
			for (int k = 0; k < g.plane[p].strip; k++) {
				int row = y * g.plane[p].strip + k;

				if (row < g.plane[p].height)
					memcpy(j->plane[p] + (size_t)row * j->pitch[p],
						strip[p][k], (size_t)g.plane[p].width);
			}
		free(space);
	}
	return 0;
}

extern "C" int wl_cuda_jpegs_decode(struct cuda_jpegs *j, const struct cuda_jpeg *list, int64_t n,
	cudaStream_t, struct wl_err *err)
{
	int ret = 0;

	emulated_enter(); /* it writes the device's memory */
	for (int64_t i = 0; i < n && ret == 0; i++)
		ret = decode((struct wl_decoder *)j, &list[i], err);
	emulated_leave();
	return ret;
}

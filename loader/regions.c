/* A box that the crop cuts is clipped to it; one outside is dropped. */
#include "loader/regions.h"

#include <math.h>
#include <string.h>

static double clip(double v, double hi)
{
	return v < 0 ? 0 : v > hi ? hi : v;
}

static int read_box(const json_t *box, size_t i, double v[4], struct wl_err *err)
{
	size_t k;

	if (!json_is_array(box) || json_array_size(box) != 4)
		return wl_err_set(err, WL_EDATA, "boxes[%zu] is not a list of four numbers", i);
	for (k = 0; k < 4; k++) {
		const json_t *n = json_array_get(box, k);

		if (!json_is_number(n))
			return wl_err_set(err, WL_EDATA, "boxes[%zu][%zu] is not a number", i, k);
		v[k] = json_number_value(n);
	}
	return 0;
}

/* Source pixels to the picture's; false when nothing of it is left. */
static bool place_box(const double v[4], const struct wl_augment_params *p, int side,
	float out[4])
{
	double sx = (double)side / p->crop_w, sy = (double)side / p->crop_h;
	double x1 = clip((v[0] - p->crop_x) * sx, side), y1 = clip((v[1] - p->crop_y) * sy, side);
	double x2 = clip((v[2] - p->crop_x) * sx, side), y2 = clip((v[3] - p->crop_y) * sy, side);

	if (!(x2 - x1 >= 1 && y2 - y1 >= 1)) /* also when a coordinate is NaN */
		return false;
	out[0] = (float)(p->flip ? side - x2 : x1);
	out[1] = (float)y1;
	out[2] = (float)(p->flip ? side - x1 : x2);
	out[3] = (float)y2;
	return true;
}

static int place_grid(int side, int grid, float *out)
{
	float cell = (float)side / (float)grid;
	int x, y;

	for (y = 0; y < grid; y++)
		for (x = 0; x < grid; x++, out += 4) {
			out[0] = (float)x * cell;
			out[1] = (float)y * cell;
			out[2] = (float)(x + 1) * cell;
			out[3] = (float)(y + 1) * cell;
		}
	return grid * grid;
}

int wl_regions(const json_t *boxes, const struct wl_augment_params *p, int side, int regions,
	int grid, float *out, float *mask, struct wl_err *err)
{
	const float whole[4] = {0, 0, (float)side, (float)side};
	int n = 0, i;

	if (boxes && !json_is_null(boxes) && !json_is_array(boxes))
		return wl_err_set(err, WL_EDATA, "boxes is not a list");
	for (i = 0; i < (int)json_array_size(boxes) && n < regions - 1; i++) {
		double v[4];

		WL_TRY(read_box(json_array_get(boxes, (size_t)i), (size_t)i, v, err));
		if (place_box(v, p, side, out + 4 * n))
			n++;
	}
	if (n == 0)
		n = place_grid(side, grid, out);
	memcpy(out + 4 * n, whole, sizeof(whole));
	n++;
	memset(out + 4 * n, 0, (size_t)(regions - n) * sizeof(whole));
	for (i = 0; i < regions; i++)
		mask[i] = i < n ? 1 : 0;
	return 0;
}

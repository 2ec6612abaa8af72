/*
 * A picture as a GPU takes it: the stored samples of the crop (luma and smaller chroma, as the
 * JPEG has them), the weights of the resize, and what was drawn for it.  The processor then only
 * decodes; resizing, colours, blur and normalising are kernels (train/backend/cuda/augment.cu),
 * with the weights and the formulas of the loader's own path, so both give the same picture.
 *
 * Each picture of a batch has an area of wl_planes_area(S) bytes, in memory that the caller may
 * lend (pinned, so that a GPU can fetch it while computing); of it `bytes` are used.  All offsets
 * are bytes from the area's start and multiples of 16.  A picture that would not fit (a panorama)
 * is resized here instead and stored as floats, which always fit.
 *
 * Plain data only: nvcc reads this header.
 */
#ifndef WL_LOADER_PLANES_H
#define WL_LOADER_PLANES_H

#include <stddef.h>
#include <stdint.h>

enum wl_jitter_part { WL_BRIGHTNESS, WL_CONTRAST, WL_SATURATION, WL_HUE, WL_JITTER_PARTS };

/* What was drawn for one picture: enough to repeat it elsewhere (a GPU) bit for bit. */
struct wl_augment_params {
	int32_t crop_x, crop_y, crop_w, crop_h; /* pixels of the upright source */
	int32_t flip;                           /* 1: mirrored left to right (crops are already) */
	int32_t order[4];  /* enum wl_jitter_part in the order of application; -1: none */
	float factor[4];   /* by part: brightness, contrast, saturation (1: none), hue (0: none) */
	int32_t grey;      /* 1: grayed after the jitter */
	float blur_sigma;  /* in output pixels; 0: no blur */
};

/* One axis of a resize to S: output i is the sum of weight[i * taps + j] * sample[start[i] + j],
 * the flip included. */
struct wl_axis {
	int32_t taps;
	uint32_t start, weight; /* where int32_t [S] and float [S, taps] lie */
};

struct wl_stored_plane {
	uint32_t data;  /* where its bytes lie, rows of `pitch` */
	int32_t pitch;
	struct wl_axis across, down; /* down's weights include 1/255 */
};

struct wl_planes {
	int64_t area;     /* which area of the batch holds it */
	uint32_t bytes;   /* used of the area */
	/* The JPEG itself, where the GPU decodes (jpegs of the loader's options), else no bytes.
	 * The planes' data then is where they come to lie, whole, in an area of the GPU's own. */
	uint32_t jpeg, jpeg_bytes;
	int32_t planes;   /* 1: grey, 3; 0: floats in [0,1], resized and flipped, [3,S,S] at
	                   * plane[0].data */
	int32_t ycc;      /* the planes are YCbCr, else RGB */
	struct wl_stored_plane plane[3];
	int32_t radius;   /* of the blur, -1: none */
	uint32_t kernel;  /* where float [radius + 1] lies: half of the blur, centre first */
	struct wl_augment_params params;
};

/* Bytes of an area: at most what S x S pixels of floats take, and the blur's kernel. */
static inline size_t wl_planes_area(int side)
{
	size_t s = (size_t)side;

	return (12 * s * s + 4 * s + 64 + 4095) / 4096 * 4096;
}

#endif

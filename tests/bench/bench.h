/* What the benchmark programs have in common.  Inline: each of them is one file. */
#ifndef WL_TESTS_BENCH_H
#define WL_TESTS_BENCH_H

#include "ingest/image.h"
#include "ops/buf.h"
#include "ops/clock.h"
#include "ops/err.h"
#include "ops/hash.h"

#include <stdio.h>
#include <stdlib.h>

/* Ends the program with the error's sentence when the call failed. */
static inline void must(int ret, const struct wl_err *err)
{
	if (ret >= 0)
		return;
	fprintf(stderr, "%s\n", err->msg);
	exit(1);
}

/* A JPEG of 500 x 375 and about 100 KB, with details that a function of i draws. */
static inline void make_picture(int i, struct wl_buf *out)
{
	struct wl_image im = {.width = 500, .height = 375, .channels = 3};
	size_t n = (size_t)im.width * (size_t)im.height * 3;
	struct wl_err err = WL_ERR_INIT;

	im.data = malloc(n);
	for (size_t k = 0; im.data && k < n; k++)
		im.data[k] = (uint8_t)((k / 7 + (wl_rand64(1, (uint64_t)i, k) & 63)) & 255);
	wl_buf_init(out, 1 << 22);
	must(im.data ? wl_image_encode_jpeg(&im, 75, out, &err)
		     : wl_err_nomem(&err, "a picture", n),
		&err);
	free(im.data);
}

#endif

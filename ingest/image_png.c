/*
 * PNG through libpng.  Checksums of all chunks count: a damaged file is refused, not guessed.
 * Every colour type becomes 8-bit RGB, alpha is laid on white.
 */
#include "ingest/image_codec.h"

#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct png_reader {
	png_structp png;
	png_infop info;
	const uint8_t *p;
	size_t n, at;
	png_bytep *rows;
	uint8_t *rgba; /* whole picture when there is alpha: interlaced files need it at once */
	char msg[160];
	jmp_buf jmp;
};

static void png_trap(png_structp png, png_const_charp msg)
{
	struct png_reader *r = png_get_error_ptr(png);
	snprintf(r->msg, sizeof r->msg, "%s", msg);
	longjmp(r->jmp, 1);
}

static void png_hush(png_structp png, png_const_charp msg)
{
	(void)png;
	(void)msg;
}

static void png_feed(png_structp png, png_bytep dst, png_size_t n)
{
	struct png_reader *r = png_get_io_ptr(png);
	if (n > r->n - r->at)
		png_error(png, "it is cut off");
	memcpy(dst, r->p + r->at, n);
	r->at += n;
}

static void reader_release(struct png_reader *r)
{
	png_destroy_read_struct(&r->png, &r->info, NULL);
	free(r->rows);
	free(r->rgba);
}

static int reader_failed(const struct png_reader *r, struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA, "the PNG is damaged: %s (near byte %zu of %zu)", r->msg,
		r->at, r->n);
}

static int reader_init(struct png_reader *r, const uint8_t *p, size_t n, struct wl_err *err)
{
	r->p = p;
	r->n = n;
	r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, png_trap, png_hush);
	r->info = r->png ? png_create_info_struct(r->png) : NULL;
	if (!r->info) {
		reader_release(r);
		return wl_err_nomem(err, "a PNG reader", 0);
	}
	return 0;
}

/* Everything up to the first IDAT; called under the caller's setjmp. */
static void reader_header(struct png_reader *r)
{
	png_set_read_fn(r->png, r, png_feed);
	png_set_crc_action(r->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
	png_set_user_limits(r->png, WL_IMAGE_MAX_SIDE_PX, WL_IMAGE_MAX_SIDE_PX);
	png_set_chunk_malloc_max(r->png, 16u << 20); /* text chunks are bombs' favourite place */
	png_set_chunk_cache_max(r->png, 128);
	/* Colour profiles are not used and often malformed; a bad one must not cost the picture. */
	png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, (png_const_bytep) "iCCP", 1);
	png_set_benign_errors(r->png, 1);
	png_read_info(r->png, r->info);
}

static bool reader_alpha(struct png_reader *r)
{
	return (png_get_color_type(r->png, r->info) & PNG_COLOR_MASK_ALPHA) ||
	       png_get_valid(r->png, r->info, PNG_INFO_tRNS);
}

static int reader_orientation(struct png_reader *r)
{
	png_uint_32 len = 0;
	png_bytep exif = NULL;
	if (png_get_eXIf_1(r->png, r->info, &len, &exif))
		return wl_exif_orientation(exif, len);
	return 1;
}

int wl_png_probe(const uint8_t *p, size_t n, struct wl_image_info *info, struct wl_err *err)
{
	struct png_reader r = {0};
	WL_TRY(reader_init(&r, p, n, err));
	if (setjmp(r.jmp)) {
		reader_release(&r);
		return reader_failed(&r, err);
	}
	reader_header(&r);
	info->format = WL_IMAGE_PNG;
	info->width = (int)png_get_image_width(r.png, r.info);
	info->height = (int)png_get_image_height(r.png, r.info);
	info->orientation = reader_orientation(&r);
	info->has_alpha = reader_alpha(&r);
	info->jpeg_plain = false;
	reader_release(&r);
	return 0;
}

/* Asks libpng for 8-bit RGB or RGBA and reads the whole picture. */
static void reader_pixels(struct png_reader *r, uint8_t *dst, size_t height, size_t stride)
{
	for (size_t y = 0; y < height; y++)
		r->rows[y] = dst + y * stride;
	png_read_image(r->png, r->rows);
	png_read_end(r->png, NULL); /* the last checksums, and whether it ends at all */
}

static void reader_transforms(struct png_reader *r)
{
	png_set_expand(r->png);
	png_set_scale_16(r->png);
	png_set_gray_to_rgb(r->png);
	(void)png_set_interlace_handling(r->png);
	png_read_update_info(r->png, r->info);
}

int wl_png_decode(const uint8_t *p, size_t n, struct wl_image *out, struct wl_err *err)
{
	struct png_reader r = {0};
	WL_TRY(reader_init(&r, p, n, err));
	if (setjmp(r.jmp)) {
		wl_image_release(out);
		reader_release(&r);
		return reader_failed(&r, err);
	}
	reader_header(&r);
	size_t w = png_get_image_width(r.png, r.info), h = png_get_image_height(r.png, r.info);
	bool alpha = reader_alpha(&r);
	if (wl_image_check_size("PNG", (int64_t)w, (int64_t)h, err) < 0 ||
		wl_image_alloc(out, (int)w, (int)h, 3, err) < 0) {
		reader_release(&r);
		return -1;
	}
	reader_transforms(&r);
	r.rows = calloc(h, sizeof *r.rows);
	r.rgba = alpha ? malloc(w * h * 4) : NULL;
	if (!r.rows || (alpha && !r.rgba)) {
		wl_image_release(out);
		reader_release(&r);
		return wl_err_nomem(err, "the pixels of a PNG", w * h * 4);
	}
	if (png_get_rowbytes(r.png, r.info) != w * (alpha ? 4u : 3u))
		png_error(r.png, "its rows are not of the size that its header says");
	reader_pixels(&r, alpha ? r.rgba : out->data, h, w * (alpha ? 4u : 3u));
	if (alpha)
		wl_image_rgba_on_white(out->data, r.rgba, w * h);
	reader_release(&r);
	return 0;
}

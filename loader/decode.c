/*
 * libjpeg-turbo's own interface (not the TurboJPEG one, which cannot skip rows).  Its errors
 * arrive by longjmp: every call into it sits in a function that sets the jump first.
 */
#include "loader/decode.h"

#include "ingest/image.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

enum {
	MARGIN_PX = 2,   /* fancy upsampling looks one chroma sample = two pixels aside */
	MAX_SCANS = 200, /* a progressive bomb has thousands of scans over one tiny file */
};

struct wl_decoder {
	struct jpeg_decompress_struct c; /* first: callbacks get a pointer to it */
	struct jpeg_error_mgr mgr;
	struct jpeg_progress_mgr progress;
	jmp_buf jump;
	char reason[JMSG_LENGTH_MAX]; /* what libjpeg said; "" while all is well */
	bool created;
	const void *bytes;
	size_t n_bytes;
	int width, height;     /* upright */
	bool slow;             /* through wl_image_decode */
	struct wl_image whole; /* the slow path's picture */
	int slow_x, slow_y, slow_w;
};

static void on_error(j_common_ptr c)
{
	struct wl_decoder *d = (struct wl_decoder *)c;

	c->err->format_message(c, d->reason);
	longjmp(d->jump, 1);
}

/* Warnings mean that pixels were invented, except for bytes that were merely superfluous. */
static void on_message(j_common_ptr c, int level)
{
	struct wl_decoder *d = (struct wl_decoder *)c;

	if (level >= 0 || c->err->msg_code == JWRN_EXTRANEOUS_DATA)
		return;
	if (c->err->msg_code == JWRN_JFIF_MAJOR || c->err->msg_code == JWRN_ADOBE_XFORM)
		return;
	if (!d->reason[0])
		c->err->format_message(c, d->reason);
}

static void on_output(j_common_ptr c)
{
	(void)c;
}

static void on_progress(j_common_ptr c)
{
	struct wl_decoder *d = (struct wl_decoder *)c;

	if (d->c.input_scan_number <= MAX_SCANS)
		return;
	snprintf(d->reason, sizeof(d->reason), "more than %d progressive scans", (int)MAX_SCANS);
	longjmp(d->jump, 1);
}

static int jpeg_create(struct wl_decoder *d)
{
	if (setjmp(d->jump))
		return -1;
	jpeg_create_decompress(&d->c);
	d->created = true;
	d->c.progress = &d->progress;
	/* The first bytes of APP1 tell whether there is EXIF, and so maybe a turn. */
	jpeg_save_markers(&d->c, JPEG_APP0 + 1, 16);
	return 0;
}

struct wl_decoder *wl_decoder_new(struct wl_err *err)
{
	struct wl_decoder *d = calloc(1, sizeof(*d));

	if (!d) {
		wl_err_nomem(err, "the JPEG decoder", sizeof(*d));
		return NULL;
	}
	d->c.err = jpeg_std_error(&d->mgr);
	d->mgr.error_exit = on_error;
	d->mgr.emit_message = on_message;
	d->mgr.output_message = on_output;
	d->progress.progress_monitor = on_progress;
	if (jpeg_create(d) < 0) {
		wl_err_set(err, WL_EFAIL, "libjpeg could not be set up: %s", d->reason);
		wl_decoder_free(d);
		return NULL;
	}
	return d;
}

void wl_decoder_free(struct wl_decoder *d)
{
	if (!d)
		return;
	if (d->created)
		jpeg_destroy_decompress(&d->c);
	wl_image_release(&d->whole);
	free(d);
}

static int bad_jpeg(const struct wl_decoder *d, struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA, "the JPEG of %zu bytes is damaged: %s; pack the sample "
		"again from its source or take it down", d->n_bytes, d->reason);
}

static int read_header(struct wl_decoder *d)
{
	if (setjmp(d->jump))
		return -1;
	jpeg_abort_decompress(&d->c);
	jpeg_mem_src(&d->c, d->bytes, (unsigned long)d->n_bytes);
	jpeg_read_header(&d->c, TRUE);
	return 0;
}

static bool has_exif(const struct wl_decoder *d)
{
	const struct jpeg_marker_struct *m;

	for (m = d->c.marker_list; m; m = m->next)
		if (m->data_length >= 6 && !memcmp(m->data, "Exif\0", 6))
			return true;
	return false;
}

static bool fast_space(const struct wl_decoder *d)
{
	return d->c.jpeg_color_space == JCS_YCbCr || d->c.jpeg_color_space == JCS_GRAYSCALE ||
		d->c.jpeg_color_space == JCS_RGB;
}

/* What the fast path cannot do is first asked of ingest. */
static int open_slow(struct wl_decoder *d, struct wl_err *err)
{
	struct wl_image_info info;

	WL_TRY(wl_image_probe(d->bytes, d->n_bytes, &info, err));
	if (info.width < 1 || info.height < 1) /* GIF and SVG are named, not measured */
		return wl_err_set(err, WL_EDATA, "the picture is %s, which is not decoded; "
			"shards hold JPEG", wl_image_format_name(info.format));
	d->slow = info.format != WL_IMAGE_JPEG || info.orientation != 1 || !fast_space(d);
	d->width = info.width;
	d->height = info.height;
	return 0;
}

int wl_decoder_open(struct wl_decoder *d, const void *bytes, size_t n, int *width, int *height,
	struct wl_err *err)
{
	const uint8_t *b = bytes;

	wl_image_release(&d->whole);
	d->whole = (struct wl_image){0};
	d->bytes = bytes;
	d->n_bytes = n;
	d->slow = false;
	d->reason[0] = 0;
	if (n > WL_IMAGE_MAX_BYTES)
		return wl_err_set(err, WL_EDATA, "the picture has %zu bytes, over the limit of %d",
			n, (int)WL_IMAGE_MAX_BYTES);
	if (n >= 2 && b[0] == 0xff && b[1] == 0xd8) {
		if (read_header(d) < 0)
			return bad_jpeg(d, err);
		d->width = (int)d->c.image_width;
		d->height = (int)d->c.image_height;
		if (has_exif(d) || !fast_space(d))
			WL_TRY(open_slow(d, err));
	} else {
		WL_TRY(open_slow(d, err));
	}
	if (d->width > WL_IMAGE_MAX_SIDE_PX || d->height > WL_IMAGE_MAX_SIDE_PX ||
		(int64_t)d->width * d->height > WL_IMAGE_MAX_PIXELS)
		return wl_err_set(err, WL_EDATA,
			"the picture claims %d x %d pixels, over the limits (%d a side, %d in all)",
			d->width, d->height, (int)WL_IMAGE_MAX_SIDE_PX, (int)WL_IMAGE_MAX_PIXELS);
	*width = d->width;
	*height = d->height;
	return 0;
}

/* Column and row of the rectangle's corner in the scaled picture become whole numbers
 * (rounded out, with a margin); decoding starts at the left on a block's edge. */
static int start(struct wl_decoder *d, double x, double y, double w, double h, unsigned denom,
	struct wl_region *out)
{
	JDIMENSION left, width, top, bottom;

	if (setjmp(d->jump))
		return -1;
	d->c.scale_num = 1;
	d->c.scale_denom = denom;
	d->c.out_color_space = JCS_EXT_RGBX;
	d->c.dct_method = JDCT_ISLOW;
	jpeg_start_decompress(&d->c);
	left = x > MARGIN_PX ? (JDIMENSION)x - MARGIN_PX : 0;
	width = (JDIMENSION)(x + w) + MARGIN_PX + 1;
	width = (width < d->c.output_width ? width : d->c.output_width) - left;
	if (left > 0 || width < d->c.output_width)
		jpeg_crop_scanline(&d->c, &left, &width);
	top = (JDIMENSION)y;
	bottom = (JDIMENSION)(y + h) + 1;
	bottom = bottom < d->c.output_height ? bottom : d->c.output_height;
	if (top > 0)
		jpeg_skip_scanlines(&d->c, top);
	*out = (struct wl_region){(int)width, (int)(bottom - top), x - left, y - top, w, h};
	return 0;
}

static int region_slow(struct wl_decoder *d, int x, int y, int w, int h, struct wl_region *out,
	struct wl_err *err)
{
	if (!d->whole.data)
		WL_TRY(wl_image_decode(d->bytes, d->n_bytes, &d->whole, err));
	d->slow_x = x;
	d->slow_y = y;
	d->slow_w = w;
	*out = (struct wl_region){w, h, 0, 0, w, h};
	return 0;
}

int wl_decoder_region(struct wl_decoder *d, int x, int y, int w, int h, int side, double reserve,
	struct wl_region *out, struct wl_err *err)
{
	unsigned denom = 1;
	double least = reserve * side;

	WL_ASSERT(x >= 0 && y >= 0 && w > 0 && h > 0 && x + w <= d->width && y + h <= d->height);
	if (d->slow)
		return region_slow(d, x, y, w, h, out, err);
	while (reserve > 0 && denom < 8 && w / (2 * denom) >= least && h / (2 * denom) >= least)
		denom *= 2;
	if (start(d, (double)x / denom, (double)y / denom, (double)w / denom, (double)h / denom,
			denom, out) < 0)
		return bad_jpeg(d, err);
	return 0;
}

/* The RGB or grey picture's rows as RGBX. */
static void rows_slow(struct wl_decoder *d, uint8_t *const *rows, int n)
{
	int ch = d->whole.channels, i, k;

	for (k = 0; k < n; k++) {
		const uint8_t *s = d->whole.data + ((size_t)d->slow_y++ * (size_t)d->whole.width +
			(size_t)d->slow_x) * (size_t)ch;

		for (i = 0; i < d->slow_w; i++, s += ch) {
			rows[k][4 * i] = s[0];
			rows[k][4 * i + 1] = s[ch == 3];
			rows[k][4 * i + 2] = s[ch == 3 ? 2 : 0];
			rows[k][4 * i + 3] = 255;
		}
	}
}

/* Some of the n rows: libjpeg gives one or two a call.  How many, or -1. */
static int read_some(struct wl_decoder *d, uint8_t *const *rows, int n)
{
	int done;

	if (setjmp(d->jump))
		return -1;
	/* libjpeg takes the array of pointers without const, but does not change it. */
	done = (int)jpeg_read_scanlines(&d->c, (JSAMPARRAY)(uintptr_t)rows, (JDIMENSION)n);
	return d->reason[0] ? -1 : done;
}

int wl_decoder_rows(void *decoder, uint8_t *const *rows, int n, struct wl_err *err)
{
	struct wl_decoder *d = decoder;
	int done = 0, k;

	if (d->slow) {
		rows_slow(d, rows, n);
		return 0;
	}
	while (done < n) {
		k = read_some(d, rows + done, n - done);
		if (k < 0)
			return bad_jpeg(d, err);
		done += k;
	}
	return 0;
}

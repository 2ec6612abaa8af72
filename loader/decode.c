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
	MAX_SCANS = 200, /* a progressive bomb has thousands of scans over one tiny file */
	STATE_SCANNING = 205, /* libjpeg's DSTATE_SCANNING, the same since its version 5 */
	LEAST_BLOCKS = 4, /* a narrower part is not cut out: libjpeg then changes its upsampler */
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
	int slow_y;            /* its next row */
	int skip;              /* rows of blocks before the region */
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

/* Sampling factors that do not divide (3:2) are left to the slow path. */
static bool even_sampling(const struct wl_decoder *d)
{
	const struct jpeg_decompress_struct *c = &d->c;
	int i;

	for (i = 0; i < c->num_components; i++)
		if (c->max_h_samp_factor % c->comp_info[i].h_samp_factor ||
			c->max_v_samp_factor % c->comp_info[i].v_samp_factor)
			return false;
	return true;
}

static bool fast_form(const struct wl_decoder *d)
{
	return even_sampling(d) && (d->c.jpeg_color_space == JCS_YCbCr ||
		d->c.jpeg_color_space == JCS_GRAYSCALE || d->c.jpeg_color_space == JCS_RGB);
}

/* What the fast path cannot do is first asked of ingest. */
static int open_slow(struct wl_decoder *d, struct wl_err *err)
{
	struct wl_image_info info;

	WL_TRY(wl_image_probe(d->bytes, d->n_bytes, &info, err));
	if (info.width < 1 || info.height < 1) /* GIF and SVG are named, not measured */
		return wl_err_set(err, WL_EDATA, "the picture is %s, which is not decoded; "
			"shards hold JPEG", wl_image_format_name(info.format));
	d->slow = info.format != WL_IMAGE_JPEG || info.orientation != 1 || !fast_form(d);
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
		if (has_exif(d) || !fast_form(d))
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

bool wl_decoder_plain(const struct wl_decoder *d)
{
	const struct jpeg_decompress_struct *c = &d->c;
	bool grey = c->jpeg_color_space == JCS_GRAYSCALE;
	int i;

	if (d->slow || c->progressive_mode || c->arith_code || c->data_precision != 8 ||
		(!grey && c->jpeg_color_space != JCS_YCbCr) || c->max_h_samp_factor > 2 ||
		c->max_v_samp_factor > 2)
		return false;
	for (i = 1; i < c->num_components; i++)
		if (c->comp_info[i].h_samp_factor != 1 || c->comp_info[i].v_samp_factor != 1)
			return false;
	return !grey || c->max_h_samp_factor * c->max_v_samp_factor == 1;
}

/* What component i of the started decoder gives. */
static void plane_of(const struct wl_decoder *d, int i, struct wl_plane *p)
{
	const struct jpeg_decompress_struct *c = &d->c;
	const jpeg_component_info *m = &c->comp_info[i];
	int across = c->max_h_samp_factor * c->min_DCT_scaled_size;
	int down = c->max_v_samp_factor * c->min_DCT_scaled_size;
	bool fancy = c->min_DCT_scaled_size > 1;

	*p = (struct wl_plane){
		.width = (int)m->downsampled_width,
		.height = (int)m->downsampled_height,
		.stride = (int)m->width_in_blocks * m->DCT_scaled_size,
		.strip = m->v_samp_factor * m->DCT_scaled_size,
		.h = across / (m->h_samp_factor * m->DCT_scaled_size),
		.v = down / (m->v_samp_factor * m->DCT_scaled_size),
	};
	/* Where libjpeg-turbo (jdsample.c) would smooth: 2:1, 2:2 and 1:2. */
	p->smooth_x = fancy && p->h == 2 && p->v <= 2 && p->width > 2;
	p->smooth_y = fancy && p->v == 2 && (p->h == 1 || p->smooth_x);
}

/* Rows of blocks above the region are read and not transformed: what component_needed is for. */
static void need_components(struct wl_decoder *d, bool needed)
{
	int i;

	for (i = 0; i < d->c.num_components; i++)
		d->c.comp_info[i].component_needed = needed;
}

/* Blocks left and right of the region are read and not transformed.  libjpeg-turbo has a call for
 * that; it refuses those who take planes as they are stored, for no other reason than that the
 * state has another number then. */
static void cut_columns(struct wl_decoder *d, unsigned denom, struct wl_region *g)
{
	struct jpeg_decompress_struct *c = &d->c;
	JDIMENSION block = (JDIMENSION)(c->max_h_samp_factor * c->min_DCT_scaled_size);
	int state = c->global_state, i;
	double x0 = g->x / denom, x1 = (g->x + g->w) / denom;
	/* Smoothing looks one sample of chroma aside. */
	int margin = 2 * c->max_h_samp_factor, from = (int)x0 - margin, to = (int)x1 + 1 + margin;
	JDIMENSION left = from > 0 ? (JDIMENSION)from : 0, width;

	if (to > (int)c->output_width)
		to = (int)c->output_width;
	width = (JDIMENSION)to - left;
	if (width < LEAST_BLOCKS * block || c->output_width - width < block)
		return;
	c->global_state = STATE_SCANNING;
	jpeg_crop_scanline(c, &left, &width);
	c->global_state = state;
	for (i = 0; i < g->planes; i++)
		g->plane[i].left = (int)left / g->plane[i].h;
}

static int start(struct wl_decoder *d, int y, unsigned denom, struct wl_region *g)
{
	int i, per_strip, strips;

	if (setjmp(d->jump))
		return -1;
	d->c.scale_num = 1;
	d->c.scale_denom = denom;
	d->c.raw_data_out = TRUE;
	d->c.out_color_space = d->c.jpeg_color_space;
	d->c.dct_method = JDCT_ISLOW;
	jpeg_start_decompress(&d->c);
	per_strip = d->c.max_v_samp_factor * d->c.min_DCT_scaled_size;
	/* Smoothing looks at the chroma row above. */
	strips = (int)((double)y / denom - 1) / per_strip;
	strips = strips > 0 ? strips : 0;
	g->planes = d->c.num_components;
	g->ycc = d->c.jpeg_color_space == JCS_YCbCr;
	for (i = 0; i < g->planes; i++) {
		plane_of(d, i, &g->plane[i]);
		g->plane[i].first = strips * g->plane[i].strip;
	}
	cut_columns(d, denom, g);
	d->skip = strips;
	return 0;
}

/* One row of blocks of every component; what is skipped goes nowhere. */
static int read_strip(struct wl_decoder *d, uint8_t *const *const rows[WL_PLANES_MAX])
{
	JSAMPARRAY planes[WL_PLANES_MAX];
	JDIMENSION lines = (JDIMENSION)(d->c.max_v_samp_factor * d->c.min_DCT_scaled_size);
	int i;

	if (setjmp(d->jump))
		return -1;
	/* libjpeg takes the pointers without const, but does not change them. */
	for (i = 0; i < d->c.num_components; i++)
		planes[i] = (JSAMPARRAY)(uintptr_t)rows[i];
	if (d->skip > 0) {
		need_components(d, false);
		for (; d->skip > 0; d->skip--)
			jpeg_read_raw_data(&d->c, planes, lines);
		need_components(d, true);
	}
	jpeg_read_raw_data(&d->c, planes, lines);
	return d->reason[0] ? -1 : 0;
}

static int region_slow(struct wl_decoder *d, struct wl_region *g, struct wl_err *err)
{
	int p;

	if (!d->whole.data)
		WL_TRY(wl_image_decode(d->bytes, d->n_bytes, &d->whole, err));
	g->planes = d->whole.channels == 3 ? 3 : 1;
	g->ycc = false;
	d->slow_y = (int)g->y;
	for (p = 0; p < g->planes; p++)
		g->plane[p] = (struct wl_plane){.width = d->width, .height = d->height,
			.stride = d->width, .strip = 1, .first = d->slow_y, .h = 1, .v = 1};
	return 0;
}

int wl_decoder_region(struct wl_decoder *d, int x, int y, int w, int h, int side, double reserve,
	struct wl_region *g, struct wl_err *err)
{
	unsigned denom = 1;
	double least = reserve * side;

	WL_ASSERT(x >= 0 && y >= 0 && w > 0 && h > 0 && x + w <= d->width && y + h <= d->height);
	*g = (struct wl_region){.x = x, .y = y, .w = w, .h = h};
	if (d->slow)
		return region_slow(d, g, err);
	while (reserve > 0 && denom < 8 && w / (2 * denom) >= least && h / (2 * denom) >= least)
		denom *= 2;
	if (start(d, y, denom, g) < 0)
		return bad_jpeg(d, err);
	g->x /= denom;
	g->y /= denom;
	g->w /= denom;
	g->h /= denom;
	return 0;
}

/* The next row of the picture in memory, a plane a channel. */
static void row_slow(struct wl_decoder *d, uint8_t *const *const rows[WL_PLANES_MAX])
{
	int ch = d->whole.channels, n = d->whole.width, i, p;
	const uint8_t *s = d->whole.data + (size_t)d->slow_y++ * (size_t)n * (size_t)ch;

	for (p = 0; p < (ch == 3 ? 3 : 1); p++)
		for (i = 0; i < n; i++)
			rows[p][0][i] = s[i * ch + p];
}

int wl_decoder_strip(void *decoder, uint8_t *const *const rows[WL_PLANES_MAX],
	struct wl_err *err)
{
	struct wl_decoder *d = decoder;

	if (d->slow) {
		row_slow(d, rows);
		return 0;
	}
	return read_strip(d, rows) < 0 ? bad_jpeg(d, err) : 0;
}

/*
 * JPEG through libjpeg-turbo's libjpeg interface, which (unlike TurboJPEG) tells arithmetic
 * coding, component ids and each warning's code.
 *
 * libjpeg goes on after damage with a warning and a half grey picture.  Here a warning that
 * means lost picture data ends the decoding; warnings about untidy but complete files do not.
 */
#include "ingest/image_codec.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* stdio first: libjpeg's headers need FILE. */
#include <jpeglib.h>

#include <jerror.h>

/* Progressive files with thousands of scans are decompression bombs (libjpeg-turbo's fuzzers
 * stop at 500; encoders write about ten). */
enum { MAX_SCANS = 500 };

struct jpeg_trap {
	struct jpeg_error_mgr base; /* first: libjpeg hands back a pointer to it */
	jmp_buf jmp;
	char msg[JMSG_LENGTH_MAX];
};

static void trap_exit(j_common_ptr c)
{
	struct jpeg_trap *t = (struct jpeg_trap *)c->err;
	t->base.format_message(c, t->msg);
	longjmp(t->jmp, 1);
}

static void trap_message(j_common_ptr c, int level)
{
	if (level >= 0)
		return;
	switch (c->err->msg_code) {
	case JWRN_ADOBE_XFORM:
	case JWRN_BOGUS_PROGRESSION:
	case JWRN_EXTRANEOUS_DATA:
	case JWRN_JFIF_MAJOR:
	case JWRN_NOT_SEQUENTIAL:
	case JWRN_TOO_MUCH_DATA:
	case JWRN_BOGUS_ICC:
		return;
	default:
		trap_exit(c);
	}
}

static void trap_init(struct jpeg_trap *t)
{
	jpeg_std_error(&t->base);
	t->base.error_exit = trap_exit;
	t->base.emit_message = trap_message;
	t->msg[0] = '\0';
}

struct jpeg_reader {
	struct jpeg_decompress_struct c;
	struct jpeg_trap trap;
	struct jpeg_progress_mgr progress;
	uint8_t *row; /* one CMYK row; NULL otherwise */
};

static void reader_scans(j_common_ptr c)
{
	struct jpeg_decompress_struct *d = (struct jpeg_decompress_struct *)c;
	if (d->input_scan_number > MAX_SCANS) {
		struct jpeg_trap *t = (struct jpeg_trap *)c->err;
		snprintf(t->msg, sizeof t->msg, "more than %d scans", MAX_SCANS);
		longjmp(t->jmp, 1);
	}
}

static void reader_release(struct jpeg_reader *r)
{
	jpeg_destroy_decompress(&r->c);
	free(r->row);
}

static int reader_failed(const struct jpeg_reader *r, struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA, "the JPEG is damaged: %s", r->trap.msg);
}

/* Everything up to the first scan; called under the caller's setjmp. */
static void reader_header(struct jpeg_reader *r, const uint8_t *p, size_t n)
{
	jpeg_create_decompress(&r->c);
	r->progress.progress_monitor = reader_scans;
	r->c.progress = &r->progress;
	jpeg_save_markers(&r->c, JPEG_APP0 + 1, 0xffff);
	jpeg_mem_src(&r->c, p, n);
	(void)jpeg_read_header(&r->c, TRUE);
}

static int orientation_of(const struct jpeg_decompress_struct *c)
{
	for (const struct jpeg_marker_struct *m = c->marker_list; m; m = m->next)
		if (m->data_length > 6 && memcmp(m->data, "Exif\0\0", 6) == 0)
			return wl_exif_orientation(m->data + 6, m->data_length - 6);
	return 1;
}

static bool has_12_bits(const struct jpeg_reader *r)
{
	return r->trap.base.msg_code == JERR_BAD_PRECISION && r->c.data_precision == 12;
}

int wl_jpeg_probe(const uint8_t *p, size_t n, struct wl_image_info *info, struct wl_err *err)
{
	struct jpeg_reader r = {0};
	trap_init(&r.trap);
	r.c.err = &r.trap.base;
	if (setjmp(r.trap.jmp)) {
		bool deep = has_12_bits(&r);
		reader_release(&r);
		return deep ? wl_jpeg12_probe(p, n, info, err) : reader_failed(&r, err);
	}
	reader_header(&r, p, n);
	info->format = WL_IMAGE_JPEG;
	info->width = (int)r.c.image_width;
	info->height = (int)r.c.image_height;
	info->orientation = orientation_of(&r.c);
	info->has_alpha = false;
	info->jpeg_plain =
		r.c.data_precision == 8 && !r.c.arith_code && info->orientation == 1 &&
		(r.c.jpeg_color_space == JCS_YCbCr || r.c.jpeg_color_space == JCS_GRAYSCALE);
	reader_release(&r);
	return 0;
}

/* CMYK as Adobe writes it (255 = no ink), which is what every CMYK JPEG in the wild is; the
 * same assumption and formula as Pillow's "CMYK;I" then convert("RGB"). */
static void cmyk_row(uint8_t *dst, const uint8_t *src, size_t pixels)
{
	for (size_t i = 0; i < pixels; i++, dst += 3, src += 4) {
		unsigned k = src[3];
		for (int ch = 0; ch < 3; ch++) {
			/* x / 255 rounded, exact for x <= 255 * 255 */
			unsigned x = (255u - src[ch]) * k + 128u;
			unsigned v = k - (((x >> 8) + x) >> 8);
			dst[ch] = (uint8_t)v;
		}
	}
}

static void read_rows(struct jpeg_reader *r, struct wl_image *out)
{
	size_t stride = (size_t)out->width * 3;
	while (r->c.output_scanline < r->c.output_height) {
		uint8_t *dst = out->data + r->c.output_scanline * stride;
		JSAMPROW row = r->row ? r->row : dst;
		(void)jpeg_read_scanlines(&r->c, &row, 1);
		if (r->row)
			cmyk_row(dst, r->row, (size_t)out->width);
	}
}

int wl_jpeg_decode(const uint8_t *p, size_t n, struct wl_image *out, struct wl_err *err)
{
	return wl_jpeg_decode_by(p, n, 1, out, err);
}

int wl_jpeg_decode_by(
	const uint8_t *p, size_t n, int by, struct wl_image *out, struct wl_err *err)
{
	struct jpeg_reader r = {0};
	trap_init(&r.trap);
	r.c.err = &r.trap.base;
	if (setjmp(r.trap.jmp)) {
		bool deep = has_12_bits(&r);
		wl_image_release(out);
		reader_release(&r);
		return deep ? wl_jpeg12_decode(p, n, out, err) : reader_failed(&r, err);
	}
	reader_header(&r, p, n);
	bool cmyk = r.c.jpeg_color_space == JCS_CMYK || r.c.jpeg_color_space == JCS_YCCK;
	r.c.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
	r.c.dct_method = JDCT_ISLOW; /* the same bits in C and in every SIMD version */
	r.c.scale_num = 1;
	r.c.scale_denom = (unsigned)by;
	jpeg_calc_output_dimensions(&r.c);
	if (wl_image_check_size("JPEG", r.c.image_width, r.c.image_height, err) < 0 ||
		wl_image_alloc(out, (int)r.c.output_width, (int)r.c.output_height, 3, err) < 0) {
		reader_release(&r);
		return -1;
	}
	if (cmyk) {
		r.row = malloc((size_t)out->width * 4);
		if (!r.row) {
			wl_image_release(out);
			reader_release(&r);
			return wl_err_nomem(err, "a row of pixels", (size_t)r.c.image_width * 4);
		}
	}
	(void)jpeg_start_decompress(&r.c);
	read_rows(&r, out);
	(void)jpeg_finish_decompress(&r.c); /* reads on to the end marker: finds a cut-off file */
	reader_release(&r);
	return 0;
}

/* Huffman-decodes all of it, but makes only the grey pixels of a picture an eighth as large: the
 * same damage is found, since libjpeg finds it in the coded data. */
int wl_jpeg_check(const uint8_t *p, size_t n, struct wl_err *err)
{
	struct jpeg_reader r = {0};
	trap_init(&r.trap);
	r.c.err = &r.trap.base;
	if (setjmp(r.trap.jmp)) {
		reader_release(&r);
		return reader_failed(&r, err);
	}
	reader_header(&r, p, n);
	bool cmyk = r.c.jpeg_color_space == JCS_CMYK || r.c.jpeg_color_space == JCS_YCCK;
	bool colour = r.c.jpeg_color_space == JCS_YCbCr || r.c.jpeg_color_space == JCS_GRAYSCALE;
	r.c.out_color_space = cmyk ? JCS_CMYK : colour ? JCS_GRAYSCALE : JCS_RGB;
	r.c.scale_num = 1;
	r.c.scale_denom = 8;
	r.c.dct_method = JDCT_ISLOW;
	if (wl_image_check_size("JPEG", r.c.image_width, r.c.image_height, err) < 0) {
		reader_release(&r);
		return -1;
	}
	(void)jpeg_start_decompress(&r.c);
	r.row = malloc((size_t)r.c.output_width * (size_t)r.c.output_components);
	while (r.row && r.c.output_scanline < r.c.output_height) {
		JSAMPROW row = r.row;
		(void)jpeg_read_scanlines(&r.c, &row, 1);
	}
	size_t bytes = r.c.output_width;
	bool done = r.row != NULL;
	if (done)
		(void)jpeg_finish_decompress(&r.c);
	reader_release(&r);
	return done ? 0 : wl_err_nomem(err, "a row of pixels", bytes);
}

struct jpeg_writer {
	struct jpeg_compress_struct c;
	struct jpeg_trap trap;
	unsigned char *mem;
	unsigned long len;
};

static void write_all(struct jpeg_writer *w, const struct wl_image *im, int quality)
{
	jpeg_create_compress(&w->c);
	jpeg_mem_dest(&w->c, &w->mem, &w->len);
	w->c.image_width = (JDIMENSION)im->width;
	w->c.image_height = (JDIMENSION)im->height;
	w->c.input_components = im->channels;
	w->c.in_color_space = im->channels == 3 ? JCS_RGB : JCS_GRAYSCALE;
	jpeg_set_defaults(&w->c);
	jpeg_set_quality(&w->c, quality, TRUE);
	w->c.dct_method = JDCT_ISLOW;
	for (int i = 0; i < w->c.num_components; i++) { /* 4:4:4: drawings have sharp colours */
		w->c.comp_info[i].h_samp_factor = 1;
		w->c.comp_info[i].v_samp_factor = 1;
	}
	jpeg_start_compress(&w->c, TRUE);
	size_t stride = (size_t)im->width * (size_t)im->channels;
	while (w->c.next_scanline < w->c.image_height) {
		JSAMPROW row = im->data + w->c.next_scanline * stride;
		(void)jpeg_write_scanlines(&w->c, &row, 1);
	}
	jpeg_finish_compress(&w->c);
}

int wl_image_encode_jpeg(
	const struct wl_image *im, int quality, struct wl_buf *out, struct wl_err *err)
{
	struct jpeg_writer w = {0};
	if (quality < 1 || quality > 100)
		return wl_err_set(err, WL_EUSAGE, "a JPEG quality is 1 to 100, not %d", quality);
	if ((im->channels != 1 && im->channels != 3) || im->width < 1 || im->height < 1)
		return wl_err_set(err, WL_EDATA,
			"an image of %dx%d pixels and %d channels cannot be written as JPEG",
			im->width, im->height, im->channels);
	trap_init(&w.trap);
	w.c.err = &w.trap.base;
	if (setjmp(w.trap.jmp)) {
		jpeg_destroy_compress(&w.c);
		free(w.mem);
		return wl_err_set(err, WL_EFAIL, "encoding as JPEG failed: %s", w.trap.msg);
	}
	write_all(&w, im, quality);
	jpeg_destroy_compress(&w.c);
	int ret = wl_buf_add(out, w.mem, w.len, err);
	free(w.mem);
	return ret;
}

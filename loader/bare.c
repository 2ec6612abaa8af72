#include "loader/bare.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

enum {
	MARGIN_PX = 2, /* upsampling looks one chroma sample = two pixels aside */
	ROWS = 8,      /* asked for in one call */
};

struct bare {
	struct jpeg_decompress_struct c; /* first: callbacks get a pointer to it */
	struct jpeg_error_mgr mgr;
	jmp_buf jump;
	char reason[JMSG_LENGTH_MAX];
	uint8_t *line; /* ROWS rows */
};

static void on_error(j_common_ptr c)
{
	struct bare *b = (struct bare *)c;

	c->err->format_message(c, b->reason);
	longjmp(b->jump, 1);
}

static void on_message(j_common_ptr c, int level)
{
	(void)c;
	(void)level;
}

static int decode(struct bare *b, const void *jpg, size_t n, const int32_t box[4], unsigned denom)
{
	JDIMENSION d = denom, left, width, top, bottom;
	JSAMPROW rows[ROWS];

	if (setjmp(b->jump))
		return -1;
	jpeg_create_decompress(&b->c);
	jpeg_mem_src(&b->c, jpg, (unsigned long)n);
	jpeg_read_header(&b->c, TRUE);
	b->c.scale_num = 1;
	b->c.scale_denom = denom;
	b->c.out_color_space = JCS_EXT_RGBX;
	jpeg_start_decompress(&b->c);
	left = (JDIMENSION)box[0] / d;
	left = left > MARGIN_PX ? left - MARGIN_PX : 0;
	width = (JDIMENSION)(box[0] + box[2]) / d + MARGIN_PX + 1;
	width = (width < b->c.output_width ? width : b->c.output_width) - left;
	top = (JDIMENSION)box[1] / d;
	bottom = (JDIMENSION)(box[1] + box[3]) / d + 1;
	bottom = bottom < b->c.output_height ? bottom : b->c.output_height;
	if (left > 0 || width < b->c.output_width)
		jpeg_crop_scanline(&b->c, &left, &width);
	if (top > 0)
		jpeg_skip_scanlines(&b->c, top);
	b->line = malloc((size_t)width * 4 * ROWS);
	for (int k = 0; k < ROWS; k++)
		rows[k] = b->line + (size_t)k * width * 4;
	while (b->line && b->c.output_scanline < bottom)
		jpeg_read_scanlines(&b->c, rows, ROWS);
	return 0;
}

int wl_bare_decode(const void *jpg, size_t n, const int32_t box[4], unsigned denom,
	struct wl_err *err)
{
	struct bare b = {.reason = ""};
	int rc;

	b.c.err = jpeg_std_error(&b.mgr);
	b.mgr.error_exit = on_error;
	b.mgr.emit_message = on_message;
	rc = decode(&b, jpg, n, box, denom);
	jpeg_destroy_decompress(&b.c);
	free(b.line);
	return rc < 0 ? wl_err_set(err, WL_EDATA, "libjpeg-turbo alone cannot decode a JPEG of "
		"%zu bytes: %s; run wenlan-shard verify", n, b.reason) : 0;
}

/*
 * GIF through giflib: the first frame, on white.
 *
 * Only what comes before the end of the first frame is read: later frames of an animation may be
 * damaged without harm, and cannot be bombs.
 */
#include "ingest/image_codec.h"

#include <gif_lib.h>
#include <stdlib.h>
#include <string.h>

struct gif_reader {
	const uint8_t *p;
	size_t n, at;
	GifFileType *g;
	int transparent;   /* palette index, -1 none */
	int width, height; /* of the canvas */
};

static int read_bytes(GifFileType *g, GifByteType *out, int want)
{
	struct gif_reader *r = g->UserData;
	size_t n = (size_t)want < r->n - r->at ? (size_t)want : r->n - r->at;
	memcpy(out, r->p + r->at, n);
	r->at += n;
	return (int)n;
}

static int damaged(const struct gif_reader *r, int code, struct wl_err *err)
{
	const char *why = GifErrorString(r->g ? r->g->Error : code);
	if (r->at >= r->n)
		why = "it is cut off";
	return wl_err_set(
		err, WL_EDATA, "the GIF is damaged: %s", why ? why : "its blocks make no sense");
}

/* Blocks before a picture; of interest is the graphics control extension (GIF89a, 23). */
static int read_extension(struct gif_reader *r, struct wl_err *err)
{
	enum { GRAPHICS = 0xf9, HAS_TRANSPARENT = 1 };
	GifByteType *data;
	int code;
	if (DGifGetExtension(r->g, &code, &data) == GIF_ERROR)
		return damaged(r, 0, err);
	if (code == GRAPHICS && data && data[0] >= 4)
		r->transparent = data[1] & HAS_TRANSPARENT ? data[4] : -1;
	while (data)
		if (DGifGetExtensionNext(r->g, &data) == GIF_ERROR)
			return damaged(r, 0, err);
	return 0;
}

/* Up to the first frame's pixels. */
static int read_header(struct gif_reader *r, struct wl_err *err)
{
	int code = 0;
	r->transparent = -1;
	r->g = DGifOpen(r, read_bytes, &code);
	if (!r->g)
		return damaged(r, code, err);
	for (GifRecordType type = UNDEFINED_RECORD_TYPE; type != IMAGE_DESC_RECORD_TYPE;) {
		if (DGifGetRecordType(r->g, &type) == GIF_ERROR)
			return damaged(r, 0, err);
		if (type == TERMINATE_RECORD_TYPE)
			return wl_err_set(err, WL_EDATA, "the GIF has no picture in it");
		if (type == EXTENSION_RECORD_TYPE)
			WL_TRY(read_extension(r, err));
	}
	if (DGifGetImageDesc(r->g) == GIF_ERROR)
		return damaged(r, 0, err);
	const GifImageDesc *d = &r->g->Image;
	if (d->Width < 1 || d->Height < 1)
		return wl_err_set(
			err, WL_EDATA, "the GIF is damaged: its first frame has no pixels");
	/* Some writers leave the screen's size 0, or smaller than the picture. */
	r->width = d->Left + d->Width > r->g->SWidth ? d->Left + d->Width : r->g->SWidth;
	r->height = d->Top + d->Height > r->g->SHeight ? d->Top + d->Height : r->g->SHeight;
	if (!d->ColorMap && !r->g->SColorMap)
		return wl_err_set(err, WL_EDATA, "the GIF is damaged: it has no palette");
	return 0;
}

static void reader_release(struct gif_reader *r)
{
	int code;
	if (r->g)
		(void)DGifCloseFile(r->g, &code);
}

int wl_gif_probe(const uint8_t *p, size_t n, struct wl_image_info *info, struct wl_err *err)
{
	struct gif_reader r = {.p = p, .n = n};
	int ret = read_header(&r, err);
	if (ret == 0) {
		const GifImageDesc *d = &r.g->Image;
		info->format = WL_IMAGE_GIF;
		info->width = r.width;
		info->height = r.height;
		info->has_alpha = r.transparent >= 0 || d->Width < r.width || d->Height < r.height;
	}
	reader_release(&r);
	return ret;
}

/* The first frame's coded data is a row of blocks, each led by its length, ended by one of none
 * (GIF89a, 15). */
int wl_gif_structure(const uint8_t *p, size_t n, struct wl_err *err)
{
	struct gif_reader r = {.p = p, .n = n};
	int ret = read_header(&r, err);
	while (ret == 0 && r.at < n && p[r.at])
		r.at += 1 + (size_t)p[r.at];
	if (ret == 0 && r.at >= n)
		ret = wl_err_set(err, WL_EDATA, "the GIF is damaged: it is cut off");
	reader_release(&r);
	return ret;
}

static void put_row(struct wl_image *out, const struct gif_reader *r, int y, const uint8_t *row)
{
	const GifImageDesc *d = &r->g->Image;
	const ColorMapObject *map = d->ColorMap ? d->ColorMap : r->g->SColorMap;
	size_t at = ((size_t)(d->Top + y) * (size_t)out->width + (size_t)d->Left) * 3;
	uint8_t *dst = out->data + at;
	for (int x = 0; x < d->Width; x++, dst += 3) {
		if (row[x] == r->transparent)
			continue;
		/* An index past the palette is black, as in browsers. */
		GifColorType c = {0};
		if (row[x] < map->ColorCount)
			c = map->Colors[row[x]];
		dst[0] = c.Red;
		dst[1] = c.Green;
		dst[2] = c.Blue;
	}
}

static int read_rows(struct gif_reader *r, struct wl_image *out, uint8_t *row, struct wl_err *err)
{
	/* Interlaced rows come in four passes (GIF89a, appendix E). */
	static const int first[] = {0, 4, 2, 1}, step[] = {8, 8, 4, 2};
	const GifImageDesc *d = &r->g->Image;
	int passes = d->Interlace ? 4 : 1;
	for (int p = 0; p < passes; p++) {
		for (int y = d->Interlace ? first[p] : 0; y < d->Height;
			y += d->Interlace ? step[p] : 1) {
			if (DGifGetLine(r->g, row, d->Width) == GIF_ERROR)
				return damaged(r, 0, err);
			put_row(out, r, y, row);
		}
	}
	return 0;
}

int wl_gif_decode(const uint8_t *p, size_t n, struct wl_image *out, struct wl_err *err)
{
	struct gif_reader r = {.p = p, .n = n};
	uint8_t *row = NULL;
	int ret = -1;
	WL_TRY_OUT(read_header(&r, err));
	WL_TRY_OUT(wl_image_check_size("GIF", r.width, r.height, err));
	WL_TRY_OUT(wl_image_alloc(out, r.width, r.height, 3, err));
	memset(out->data, 255, (size_t)r.width * (size_t)r.height * 3);
	row = malloc((size_t)r.g->Image.Width + 1);
	if (!row) {
		wl_err_nomem(err, "a row of pixels", (size_t)r.g->Image.Width);
		goto out;
	}
	ret = read_rows(&r, out, row, err);
out:
	if (ret < 0)
		wl_image_release(out);
	free(row);
	reader_release(&r);
	return ret;
}

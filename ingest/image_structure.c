/*
 * Is a picture whole?  Told from its structure, without decoding it: several hundred times as fast
 * as a decoder, so that reading a crawl in costs what reading costs.
 *
 * What is found: any file that ends too early, chunks with a wrong checksum, lengths that lead
 * nowhere, scans with too few restart markers or too few bytes for their blocks.  What is not:
 * wrong bits inside coded data.  Those are found by the next stage, which decodes every picture
 * (dedup drops such a pair by name), so nothing broken comes near a shard.
 *
 * Whoever passes wl_image_decode passes here; tests compare the two on files cut and poked at
 * random.
 */
#include "ingest/image_codec.h"

#include <libdeflate.h>
#include <string.h>

static unsigned be16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)be16(p) << 16 | be16(p + 2);
}

static uint32_t le32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- JPEG (ITU-T T.81, annex B) ---- */

enum { MAX_COMPONENTS = 4, MAX_SCANS = 500 /* as image_jpeg.c */ };

struct jpeg_walk {
	const uint8_t *p;
	size_t n, at;
	int width, height, n_comp;
	struct {
		int id, h, v;
	} comp[MAX_COMPONENTS];
	int h_max, v_max;
	bool sequential_huffman;
	unsigned restart; /* MCUs between restart markers; 0: none */
	int scans;
};

static int jpeg_cut(const struct jpeg_walk *w, struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA,
		"the JPEG is damaged: it is cut off, its %zu bytes end without an end marker",
		w->n);
}

/* To the byte after the next marker's code; what is no marker is passed over, as decoders do. */
static int jpeg_next_marker(struct jpeg_walk *w, struct wl_err *err)
{
	for (;;) {
		const uint8_t *f = w->at < w->n ? memchr(w->p + w->at, 0xff, w->n - w->at) : NULL;
		if (!f)
			return jpeg_cut(w, err);
		w->at = (size_t)(f - w->p) + 1;
		while (w->at < w->n && w->p[w->at] == 0xff)
			w->at++;
		if (w->at >= w->n)
			return jpeg_cut(w, err);
		if (w->p[w->at++])
			return w->p[w->at - 1];
	}
}

/* The segment at w->at, its length included; w->at moves behind it. */
static int jpeg_segment(struct jpeg_walk *w, const uint8_t **body, size_t *len, struct wl_err *err)
{
	size_t n = w->n - w->at >= 2 ? be16(w->p + w->at) : 0;
	if (n > w->n - w->at || w->n - w->at < 2)
		return jpeg_cut(w, err);
	if (n < 2)
		return wl_err_set(err, WL_EDATA,
			"the JPEG is damaged: the segment at byte %zu says it has %zu bytes, at "
			"least 2 are needed",
			w->at, n);
	*body = w->p + w->at + 2;
	*len = n - 2;
	w->at += n;
	return 0;
}

static int jpeg_frame(
	struct jpeg_walk *w, int marker, const uint8_t *b, size_t n, struct wl_err *err)
{
	if (n < 6 || n < 6 + 3 * (size_t)b[5] || b[5] < 1 || b[5] > MAX_COMPONENTS)
		return wl_err_set(err, WL_EDATA,
			"the JPEG is damaged: its frame header of %zu bytes is for %d components",
			n, n < 6 ? 0 : b[5]);
	w->height = (int)be16(b + 1);
	w->width = (int)be16(b + 3);
	w->n_comp = b[5];
	w->h_max = w->v_max = 1;
	for (int i = 0; i < w->n_comp; i++) {
		const uint8_t *c = b + 6 + 3 * i;
		int h = c[1] >> 4, v = c[1] & 15;
		if (h < 1 || h > 4 || v < 1 || v > 4)
			return wl_err_set(err, WL_EDATA,
				"the JPEG is damaged: component %d is sampled %dx%d", c[0], h, v);
		w->comp[i].id = c[0];
		w->comp[i].h = h;
		w->comp[i].v = v;
		w->h_max = h > w->h_max ? h : w->h_max;
		w->v_max = v > w->v_max ? v : w->v_max;
	}
	w->sequential_huffman = marker == 0xc0 || marker == 0xc1;
	return 0;
}

static int64_t parts(int64_t n, int64_t of)
{
	return (n + of - 1) / of;
}

/* MCUs of the scan whose header is b, and blocks in them (T.81, A.2); 0: it makes no sense. */
static int64_t jpeg_scan_size(
	const struct jpeg_walk *w, const uint8_t *b, size_t n, int64_t *blocks)
{
	int64_t per_mcu = 0;
	int used = n ? b[0] : 0, c = 0;
	*blocks = 0;
	if (used < 1 || used > w->n_comp || n < 4 + 2 * (size_t)used)
		return 0;
	for (int i = 0; i < used; i++) {
		for (c = 0; c < w->n_comp && w->comp[c].id != b[1 + 2 * i]; c++)
			;
		if (c == w->n_comp)
			return 0;
		per_mcu += w->comp[c].h * w->comp[c].v;
	}
	int64_t mcus;
	if (used == 1) {
		per_mcu = 1;
		mcus = parts(parts((int64_t)w->width * w->comp[c].h, w->h_max), 8) *
		       parts(parts((int64_t)w->height * w->comp[c].v, w->v_max), 8);
	} else {
		mcus = parts(w->width, 8 * w->h_max) * parts(w->height, 8 * w->v_max);
	}
	*blocks = mcus * per_mcu;
	return mcus;
}

/* Over the coded data to the marker that ends it: restart markers must come in turn. */
static int jpeg_coded(struct jpeg_walk *w, int64_t mcus, int64_t blocks, struct wl_err *err)
{
	const uint8_t *at = w->p + w->at, *end = w->p + w->n;
	int64_t restarts = 0, start = (int64_t)w->at;
	for (;;) {
		at = at < end ? memchr(at, 0xff, (size_t)(end - at)) : NULL;
		if (!at || at + 1 >= end)
			return jpeg_cut(w, err);
		int m = at[1];
		if (m == 0) {
			at += 2;
		} else if (m == 0xff) {
			at++;
		} else if (m >= 0xd0 && m <= 0xd7) {
			if (!w->restart || (m & 7) != (restarts & 7))
				return wl_err_set(err, WL_EDATA,
					"the JPEG is damaged: restart marker %d at byte %zu is not "
					"the one in turn",
					m & 7, (size_t)(at - w->p));
			restarts++;
			at += 2;
		} else {
			break;
		}
	}
	w->at = (size_t)(at - w->p);
	int64_t bytes = (int64_t)w->at - start;
	if (w->restart && restarts < parts(mcus, w->restart) - 1)
		return wl_err_set(err, WL_EDATA,
			"the JPEG is damaged: a scan has %lld restart markers, %lld are needed",
			(long long)restarts, (long long)(parts(mcus, w->restart) - 1));
	/* A block has a code for its first coefficient and one that ends it. */
	if (w->sequential_huffman && bytes * 8 < 2 * blocks)
		return wl_err_set(err, WL_EDATA,
			"the JPEG is damaged: %lld bytes are too few for %lld blocks of a scan",
			(long long)bytes, (long long)blocks);
	return 0;
}

static int jpeg_scan(struct jpeg_walk *w, const uint8_t *b, size_t n, struct wl_err *err)
{
	int64_t blocks, mcus = jpeg_scan_size(w, b, n, &blocks);
	if (!mcus)
		return wl_err_set(err, WL_EDATA,
			"the JPEG is damaged: the header of scan %d names components that the "
			"frame has not",
			w->scans + 1);
	if (++w->scans > MAX_SCANS)
		return wl_err_set(
			err, WL_EDATA, "the JPEG is damaged: more than %d scans", MAX_SCANS);
	return jpeg_coded(w, mcus, blocks, err);
}

int wl_jpeg_structure(const uint8_t *p, size_t n, struct wl_err *err)
{
	struct jpeg_walk w = {.p = p, .n = n, .at = 2};
	const uint8_t *body = NULL;
	size_t len = 0;
	for (;;) {
		int m = jpeg_next_marker(&w, err);
		WL_TRY(m);
		if (m == 0xd9)
			break;
		if (m == 0x01 || (m >= 0xd0 && m <= 0xd8))
			continue; /* they stand alone */
		WL_TRY(jpeg_segment(&w, &body, &len, err));
		if (m == 0xda)
			WL_TRY(jpeg_scan(&w, body, len, err));
		else if (m == 0xdd && len >= 2)
			w.restart = be16(body);
		else if (m >= 0xc0 && m <= 0xcf && m != 0xc4 && m != 0xc8 && m != 0xcc)
			WL_TRY(jpeg_frame(&w, m, body, len, err));
	}
	if (!w.scans)
		return wl_err_set(
			err, WL_EDATA, "the JPEG is damaged: it ends before its first scan");
	return 0;
}

/* ---- PNG (ISO 15948) ---- */

struct png_walk {
	const uint8_t *p;
	size_t n, at;
	struct wl_image_info *info;
	int depth, colour;
	bool interlaced, palette, ended;
	uint64_t coded; /* bytes of IDAT so far */
};

static int png_damaged(const struct png_walk *w, const char *why, struct wl_err *err)
{
	return wl_err_set(
		err, WL_EDATA, "the PNG is damaged: %s (near byte %zu of %zu)", why, w->at, w->n);
}

static int png_head(struct png_walk *w, const uint8_t *b, size_t n, struct wl_err *err)
{
	/* For each colour type the depths that are allowed, as a set of bits (11.2.2). */
	static const unsigned depths[7] = {[0] = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 8 | 1 << 16,
		[2] = 1 << 8 | 1 << 16,
		[3] = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 8,
		[4] = 1 << 8 | 1 << 16,
		[6] = 1 << 8 | 1 << 16};
	if (n != 13 || be32(b) > INT32_MAX || be32(b + 4) > INT32_MAX)
		return png_damaged(w, "its header makes no sense", err);
	w->depth = b[8];
	w->colour = b[9];
	w->interlaced = b[12] == 1;
	if (w->depth > 16 || w->colour > 6 || !(depths[w->colour] >> w->depth & 1) || b[10] ||
		b[11] || b[12] > 1)
		return png_damaged(w, "its header names a kind of pixels that there is not", err);
	w->info->width = (int)be32(b);
	w->info->height = (int)be32(b + 4);
	w->info->has_alpha = w->colour & 4;
	return wl_image_check_size("PNG", w->info->width, w->info->height, err);
}

static bool is_chunk(const uint8_t *type, const char *name)
{
	return memcmp(type, name, 4) == 0;
}

static int png_chunk(
	struct png_walk *w, const uint8_t *type, const uint8_t *b, size_t n, struct wl_err *err)
{
	for (int i = 0; i < 4; i++)
		if (!((type[i] | 32) >= 'a' && (type[i] | 32) <= 'z'))
			return png_damaged(w, "a chunk has no name", err);
	if (is_chunk(type, "PLTE")) {
		w->palette = n && n % 3 == 0;
	} else if (is_chunk(type, "tRNS") && !w->coded) {
		w->info->has_alpha = true;
	} else if (is_chunk(type, "eXIf") && !w->coded) {
		w->info->orientation = wl_exif_orientation(b, n);
	} else if (is_chunk(type, "IDAT")) {
		/* The two bytes of zlib's header (RFC 1950). */
		if (!w->coded && n >= 2 && ((b[0] & 15) != 8 || be16(b) % 31))
			return png_damaged(w, "its data is not compressed as PNG's is", err);
		w->coded += n;
	} else if (is_chunk(type, "IEND")) {
		w->ended = true;
	} else if (!(type[0] & 32)) {
		return png_damaged(w, "it has a critical chunk that is not known", err);
	}
	return 0;
}

/* Whether the data may hold all rows: deflate packs at most 1032 to 1 (zlib's technical notes). */
static bool png_has_room(const struct png_walk *w)
{
	static const int channels[7] = {1, 0, 3, 1, 2, 0, 4};
	uint64_t row =
		((uint64_t)w->info->width * (unsigned)(channels[w->colour] * w->depth) + 7) / 8;
	return w->coded * 1032 + 1032 >= (row + 1) * (uint64_t)w->info->height;
}

int wl_png_structure(const uint8_t *p, size_t n, struct wl_image_info *info, struct wl_err *err)
{
	struct png_walk w = {.p = p, .n = n, .at = 8, .info = info};
	while (!w.ended) {
		if (n - w.at < 12)
			return png_damaged(&w, "it is cut off", err);
		size_t len = be32(p + w.at);
		const uint8_t *type = p + w.at + 4;
		if (len > n - w.at - 12)
			return png_damaged(&w, "it is cut off", err);
		if (libdeflate_crc32(0, type, len + 4) != be32(type + 4 + len))
			return png_damaged(&w, "a checksum is wrong", err);
		if (w.at == 8 && !is_chunk(type, "IHDR"))
			return png_damaged(&w, "it does not begin with its header", err);
		if (w.at == 8)
			WL_TRY(png_head(&w, type + 4, len, err));
		else
			WL_TRY(png_chunk(&w, type, type + 4, len, err));
		w.at += 12 + len;
	}
	if (!w.coded || (w.colour == 3 && !w.palette) || !png_has_room(&w))
		return png_damaged(&w, "its data is too short for its size", err);
	return 0;
}

/* ---- containers ---- */

int wl_webp_structure(const uint8_t *p, size_t n, struct wl_err *err)
{
	size_t end = 8 + (size_t)le32(p + 4), at = 12;
	bool picture = false;
	if (end < 12 || end > n)
		return wl_err_set(err, WL_EDATA,
			"the WebP is damaged: it is cut off: it says it has %zu bytes, and has %zu",
			end, n);
	while (end - at >= 8) {
		size_t len = le32(p + at + 4), room = end - at - 8;
		if (len > room)
			return wl_err_set(err, WL_EDATA,
				"the WebP is damaged: it is cut off: the chunk at byte %zu has %zu "
				"bytes, %zu are left",
				at, len, room);
		picture =
			picture || memcmp(p + at, "VP8", 3) == 0 || memcmp(p + at, "ANMF", 4) == 0;
		at += 8 + len + (len & 1 && len < room);
	}
	return picture ? 0 : wl_err_set(err, WL_EDATA, "the WebP has no picture in it");
}

int wl_avif_structure(const uint8_t *p, size_t n, struct wl_err *err)
{
	/* Boxes of ISO 14496-12, 4.2: size 1 says that 64 bits follow, 0 that it is the last. */
	for (size_t at = 0; n - at >= 8;) {
		uint64_t len = be32(p + at), left = n - at;
		if (len == 1 && left >= 16)
			len = (uint64_t)be32(p + at + 8) << 32 | be32(p + at + 12);
		if (len == 0)
			len = left;
		if (len < 8 || len > left)
			return wl_err_set(err, WL_EDATA,
				"the AVIF is damaged: it is cut off: the box at byte %zu has %llu "
				"bytes, %llu are left",
				at, (unsigned long long)len, (unsigned long long)left);
		at += (size_t)len;
	}
	return 0;
}

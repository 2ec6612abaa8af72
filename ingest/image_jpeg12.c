/*
 * JPEG with 12 bits a sample, sequential and Huffman coded (SOF1; ITU-T T.81), as medical and
 * photographic programs write it.  libjpeg-turbo is built for 8 bits, so this one is ours; it
 * reads what the standard's sequential process allows and refuses the rest with a sentence.
 * Speed does not matter here: such files are rare.
 */
#include "ingest/image_codec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COMPONENTS = 3, MAX_PIXELS = 40 * 1000 * 1000, LEVELS = 4096 };

struct huffman {
	bool defined;
	int32_t max_code[17]; /* largest code of each length, -1 none */
	int32_t offset[17];   /* index of a code's symbol is code + offset */
	uint8_t symbols[256];
};

struct component {
	int id, h, v, quant, dc, ac;
	size_t blocks_w, blocks_h; /* of the component itself */
	size_t stride, rows;	   /* samples, filled up to whole MCUs */
	uint16_t *samples;	   /* [rows, stride]; owned */
	int32_t pred;
	bool scanned;
};

struct reader {
	const uint8_t *p;
	size_t n, at;
	struct wl_err *err;
	int width, height, orientation, transform; /* transform: Adobe's, -1 not said */
	int n_components, h_max, v_max;
	struct component c[MAX_COMPONENTS];
	uint16_t quant[4][64];
	bool has_quant[4];
	struct huffman dc[4], ac[4];
	unsigned restart;
	uint32_t bits;
	int n_bits;
	float cosine[8][8];
};

static int damaged(struct reader *r, const char *why)
{
	return wl_err_set(r->err, WL_EDATA, "the JPEG (12 bits) is damaged: %s", why);
}

static unsigned u16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

/* ---- segments ---- */

static int read_quant(struct reader *r, const uint8_t *s, size_t n)
{
	while (n) {
		bool wide = s[0] >> 4;
		unsigned id = s[0] & 15;
		size_t need = 1 + (wide ? 128 : 64);
		if (id > 3 || n < need)
			return damaged(r, "a quantisation table does not fit");
		for (size_t i = 0; i < 64; i++)
			r->quant[id][i] = (uint16_t)(wide ? u16(s + 1 + 2 * i) : s[1 + i]);
		r->has_quant[id] = true;
		s += need;
		n -= need;
	}
	return 0;
}

/* Annex C: codes of each length follow one another. */
static int read_huffman(struct reader *r, const uint8_t *s, size_t n)
{
	while (n) {
		size_t total = 0;
		if (n < 17 || s[0] >> 4 > 1 || (s[0] & 15) > 3)
			return damaged(r, "a Huffman table does not fit");
		struct huffman *h = s[0] >> 4 ? &r->ac[s[0] & 15] : &r->dc[s[0] & 15];
		int32_t code = 0;
		for (int len = 1; len <= 16; len++) {
			unsigned count = s[len];
			h->offset[len] = (int32_t)total - code;
			h->max_code[len] = count ? code + (int32_t)count - 1 : -1;
			total += count;
			code += (int32_t)count;
			if (total > 256 || code > 1 << len)
				return damaged(r, "a Huffman table has too many codes");
			code <<= 1;
		}
		if (n < 17 + total)
			return damaged(r, "a Huffman table is cut off");
		memcpy(h->symbols, s + 17, total);
		h->defined = true;
		s += 17 + total;
		n -= 17 + total;
	}
	return 0;
}

static int read_frame(struct reader *r, const uint8_t *s, size_t n)
{
	if (r->n_components || n < 6)
		return damaged(r, "a second or short frame header");
	r->height = (int)u16(s + 1);
	r->width = (int)u16(s + 3);
	int nc = s[5];
	if ((nc != 1 && nc != 3) || n != 6 + 3 * (size_t)nc)
		return wl_err_set(r->err, WL_EDATA,
			"a JPEG of 12 bits with %d components is not decoded", nc);
	WL_TRY(wl_image_check_size("JPEG", r->width, r->height, r->err));
	if ((int64_t)r->width * r->height > MAX_PIXELS)
		return wl_err_set(r->err, WL_EDATA,
			"the JPEG is too large: %dx%d pixels of 12 bits, at most %d are taken",
			r->width, r->height, MAX_PIXELS);
	for (int i = 0; i < nc; i++) {
		const uint8_t *q = s + 6 + 3 * i;
		struct component *c = &r->c[i];
		*c = (struct component){.id = q[0], .h = q[1] >> 4, .v = q[1] & 15, .quant = q[2]};
		if (c->h < 1 || c->h > 4 || c->v < 1 || c->v > 4 || c->quant > 3)
			return damaged(r, "a component's sampling makes no sense");
		r->h_max = c->h > r->h_max ? c->h : r->h_max;
		r->v_max = c->v > r->v_max ? c->v : r->v_max;
	}
	r->n_components = nc;
	return 0;
}

static size_t up(size_t a, size_t b)
{
	return (a + b - 1) / b;
}

static int alloc_planes(struct reader *r)
{
	size_t mcus_w = up((size_t)r->width, 8 * (size_t)r->h_max);
	size_t mcus_h = up((size_t)r->height, 8 * (size_t)r->v_max);
	for (int i = 0; i < r->n_components; i++) {
		struct component *c = &r->c[i];
		size_t h = (size_t)c->h, v = (size_t)c->v;
		c->blocks_w = up(up((size_t)r->width * h, (size_t)r->h_max), 8);
		c->blocks_h = up(up((size_t)r->height * v, (size_t)r->v_max), 8);
		c->stride = mcus_w * h * 8;
		c->rows = mcus_h * v * 8;
		c->samples = calloc(c->stride * c->rows, sizeof *c->samples);
		if (!c->samples)
			return wl_err_nomem(
				r->err, "the samples of a JPEG", c->stride * c->rows * 2);
	}
	return 0;
}

/* ---- bits ---- */

static int next_bit(struct reader *r)
{
	if (!r->n_bits) {
		if (r->at >= r->n)
			return damaged(r, "it is cut off");
		uint8_t b = r->p[r->at];
		if (b == 0xff) {
			if (r->at + 1 >= r->n || r->p[r->at + 1] != 0)
				return damaged(r, "the picture's data end too early");
			r->at++;
		}
		r->at++;
		r->bits = b;
		r->n_bits = 8;
	}
	r->n_bits--;
	return (int)(r->bits >> r->n_bits & 1);
}

static int next_symbol(struct reader *r, const struct huffman *h)
{
	int32_t code = 0;
	for (int len = 1; len <= 16; len++) {
		int bit = next_bit(r);
		WL_TRY(bit);
		code = code << 1 | bit;
		if (h->max_code[len] >= 0 && code <= h->max_code[len] && code + h->offset[len] >= 0)
			return h->symbols[(code + h->offset[len]) & 255];
	}
	return damaged(r, "a code that no table has");
}

/* F.2.2.1: `size` bits, of which the lower half stands for negative values. */
static int next_value(struct reader *r, int size, int32_t *out)
{
	int32_t v = 0;
	for (int i = 0; i < size; i++) {
		int bit = next_bit(r);
		WL_TRY(bit);
		v = v << 1 | bit;
	}
	if (size && v < 1 << (size - 1))
		v -= (1 << size) - 1;
	*out = v;
	return 0;
}

/* ---- blocks ---- */

static const uint8_t zigzag[64] = {0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19,
	26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29,
	22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

/* A.3.3, one dimension after the other. */
static void inverse_dct(const struct reader *r, const float in[64], uint16_t *dst, size_t stride)
{
	float half[64];
	for (int v = 0; v < 8; v++) {
		for (int x = 0; x < 8; x++) {
			float sum = 0;
			for (int u = 0; u < 8; u++)
				sum += r->cosine[u][x] * in[8 * v + u];
			half[8 * v + x] = sum;
		}
	}
	for (int x = 0; x < 8; x++) {
		for (int y = 0; y < 8; y++) {
			float sum = LEVELS / 2 + 0.5f;
			for (int v = 0; v < 8; v++)
				sum += r->cosine[v][y] * half[8 * v + x];
			sum = sum < 0 ? 0 : sum > LEVELS - 1 ? LEVELS - 1 : sum;
			dst[(size_t)y * stride + (size_t)x] = (uint16_t)sum;
		}
	}
}

static int read_block(struct reader *r, struct component *c, size_t bx, size_t by)
{
	float block[64] = {0};
	const uint16_t *q = r->quant[c->quant];
	int32_t v;
	int size = next_symbol(r, &r->dc[c->dc]);
	WL_TRY(size);
	if (size > 16)
		return damaged(r, "a coefficient is too large");
	WL_TRY(next_value(r, size, &v));
	c->pred += v;
	if (c->pred > 1 << 20 || c->pred < -(1 << 20))
		return damaged(r, "a coefficient is too large");
	block[0] = (float)c->pred * (float)q[0];
	for (int k = 1; k < 64; k++) {
		int rs = next_symbol(r, &r->ac[c->ac]);
		WL_TRY(rs);
		size = rs & 15;
		if (!size) {
			if (rs != 0xf0)
				break;
			k += 15;
			continue;
		}
		k += rs >> 4;
		if (k > 63)
			return damaged(r, "a block has too many coefficients");
		WL_TRY(next_value(r, size, &v));
		block[zigzag[k]] = (float)v * (float)q[k];
	}
	inverse_dct(r, block, c->samples + by * 8 * c->stride + bx * 8, c->stride);
	return 0;
}

/* ---- scans ---- */

static int restart(struct reader *r, struct component **scan, int n, unsigned count)
{
	r->n_bits = 0;
	if (r->n - r->at < 2 || r->p[r->at] != 0xff || r->p[r->at + 1] != 0xd0 + (count - 1) % 8)
		return damaged(r, "a restart marker is missing");
	r->at += 2;
	for (int i = 0; i < n; i++)
		scan[i]->pred = 0;
	return 0;
}

static int read_mcu(struct reader *r, struct component **scan, int n, size_t mx, size_t my)
{
	if (n == 1)
		return read_block(r, scan[0], mx, my);
	for (int i = 0; i < n; i++) {
		size_t h = (size_t)scan[i]->h, v = (size_t)scan[i]->v;
		for (size_t y = 0; y < v; y++)
			for (size_t x = 0; x < h; x++)
				WL_TRY(read_block(r, scan[i], mx * h + x, my * v + y));
	}
	return 0;
}

static int read_scan_data(struct reader *r, struct component **scan, int n)
{
	size_t w = up((size_t)r->width, 8 * (size_t)r->h_max);
	size_t h = up((size_t)r->height, 8 * (size_t)r->v_max);
	unsigned done = 0, count = 0;
	if (n == 1) { /* A.2.2: a scan of one component has its own blocks, not filled up */
		w = scan[0]->blocks_w;
		h = scan[0]->blocks_h;
	}
	r->n_bits = 0;
	for (size_t y = 0; y < h; y++) {
		for (size_t x = 0; x < w; x++, done++) {
			if (r->restart && done && done % r->restart == 0)
				WL_TRY(restart(r, scan, n, ++count));
			WL_TRY(read_mcu(r, scan, n, x, y));
		}
	}
	return 0;
}

static int read_scan(struct reader *r, const uint8_t *s, size_t n)
{
	struct component *scan[MAX_COMPONENTS];
	int ns = n ? s[0] : 0;
	if (!r->n_components || ns < 1 || ns > r->n_components || n != 4 + 2 * (size_t)ns)
		return damaged(r, "a scan header makes no sense");
	for (int i = 0; i < ns; i++) {
		struct component *c = NULL;
		for (int k = 0; k < r->n_components; k++)
			if (r->c[k].id == s[1 + 2 * i])
				c = &r->c[k];
		if (!c || c->scanned)
			return damaged(r, "a scan names no component, or one twice");
		c->dc = s[2 + 2 * i] >> 4;
		c->ac = s[2 + 2 * i] & 15;
		if (c->dc > 3 || c->ac > 3 || !r->dc[c->dc].defined || !r->ac[c->ac].defined ||
			!r->has_quant[c->quant])
			return damaged(r, "a table is missing");
		c->scanned = true;
		c->pred = 0;
		scan[i] = c;
	}
	if (!r->c[0].samples)
		WL_TRY(alloc_planes(r));
	return read_scan_data(r, scan, ns);
}

/* ---- the file ---- */

static int read_segment(struct reader *r, int marker, const uint8_t *s, size_t n)
{
	switch (marker) {
	case 0xdb:
		return read_quant(r, s, n);
	case 0xc4:
		return read_huffman(r, s, n);
	case 0xc1:
		return read_frame(r, s, n);
	case 0xdd:
		if (n != 2)
			return damaged(r, "a restart interval makes no sense");
		r->restart = u16(s);
		return 0;
	case 0xe1:
		if (n > 6 && memcmp(s, "Exif\0\0", 6) == 0)
			r->orientation = wl_exif_orientation(s + 6, n - 6);
		return 0;
	case 0xee:
		if (n >= 12 && memcmp(s, "Adobe", 5) == 0)
			r->transform = s[11];
		return 0;
	default:
		if (marker >= 0xc0 && marker <= 0xcf)
			return wl_err_set(r->err, WL_EDATA,
				"a JPEG of 12 bits is only decoded when it is sequential and "
				"Huffman coded (SOF1), not by process SOF%d",
				marker - 0xc0);
		return 0;
	}
}

/* Up to the frame header (header_only) or to the end marker. */
static int read_file(struct reader *r, bool header_only)
{
	r->at = 2;
	while (r->n - r->at >= 2) {
		if (r->p[r->at] != 0xff)
			return damaged(r, "a marker is missing");
		int marker = r->p[r->at + 1];
		if (marker == 0xff) { /* fill bytes */
			r->at++;
			continue;
		}
		r->at += 2;
		if (marker == 0xd9) {
			for (int i = 0; i < r->n_components; i++)
				if (!r->c[i].scanned)
					return damaged(r, "a component has no scan");
			return r->n_components ? 0 : damaged(r, "it has no frame");
		}
		if (r->n - r->at < 2 || u16(r->p + r->at) < 2 || u16(r->p + r->at) > r->n - r->at)
			return damaged(r, "it is cut off");
		const uint8_t *s = r->p + r->at + 2;
		size_t n = u16(r->p + r->at) - 2;
		r->at += n + 2;
		if (marker == 0xda) {
			if (header_only)
				return r->n_components ? 0 : damaged(r, "it has no frame");
			WL_TRY(read_scan(r, s, n));
		} else {
			WL_TRY(read_segment(r, marker, s, n));
		}
	}
	return damaged(r, "it is cut off");
}

/* ---- pixels ---- */

/* The component's value at a pixel: linear between its samples, whose centres lie evenly. */
static float sample(const struct reader *r, const struct component *c, int x, int y)
{
	float sx = ((float)x + 0.5f) * (float)c->h / (float)r->h_max - 0.5f;
	float sy = ((float)y + 0.5f) * (float)c->v / (float)r->v_max - 0.5f;
	size_t w = up((size_t)r->width * (size_t)c->h, (size_t)r->h_max) - 1;
	size_t h = up((size_t)r->height * (size_t)c->v, (size_t)r->v_max) - 1;
	sx = sx < 0 ? 0 : sx;
	sy = sy < 0 ? 0 : sy;
	size_t x0 = (size_t)sx < w ? (size_t)sx : w, y0 = (size_t)sy < h ? (size_t)sy : h;
	size_t x1 = x0 < w ? x0 + 1 : w, y1 = y0 < h ? y0 + 1 : h;
	float fx = sx - (float)x0, fy = sy - (float)y0;
	const uint16_t *a = c->samples + y0 * c->stride, *b = c->samples + y1 * c->stride;
	float upper = (float)a[x0] + fx * ((float)a[x1] - (float)a[x0]);
	float lower = (float)b[x0] + fx * ((float)b[x1] - (float)b[x0]);
	return upper + fy * (lower - upper);
}

static uint8_t to_8_bits(float v)
{
	v = v * (255.0f / (LEVELS - 1)) + 0.5f;
	return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void put_pixels(const struct reader *r, struct wl_image *out)
{
	bool rgb =
		r->transform == 0 || (r->transform < 0 && r->c[0].id == 'R' && r->c[1].id == 'G');
	uint8_t *dst = out->data;
	for (int y = 0; y < r->height; y++) {
		for (int x = 0; x < r->width; x++, dst += 3) {
			float v[3] = {0};
			for (int i = 0; i < r->n_components; i++)
				v[i] = sample(r, &r->c[i], x, y);
			if (r->n_components == 1) {
				v[1] = v[2] = v[0];
			} else if (!rgb) { /* JFIF 1.02, with 12 bits' middle */
				float cb = v[1] - LEVELS / 2, cr = v[2] - LEVELS / 2, l = v[0];
				v[0] = l + 1.402f * cr;
				v[1] = l - 0.344136f * cb - 0.714136f * cr;
				v[2] = l + 1.772f * cb;
			}
			for (int i = 0; i < 3; i++)
				dst[i] = to_8_bits(v[i]);
		}
	}
}

static void reader_release(struct reader *r)
{
	for (int i = 0; i < MAX_COMPONENTS; i++)
		free(r->c[i].samples);
	free(r);
}

static struct reader *reader_new(const uint8_t *p, size_t n, struct wl_err *err)
{
	struct reader *r = calloc(1, sizeof *r);
	if (!r) {
		wl_err_nomem(err, "a JPEG reader", sizeof *r);
		return NULL;
	}
	r->p = p;
	r->n = n;
	r->err = err;
	r->orientation = 1;
	r->transform = -1;
	for (int u = 0; u < 8; u++)
		for (int x = 0; x < 8; x++)
			r->cosine[u][x] =
				(float)((u ? 0.5 : 0.5 * sqrt(0.5)) *
					cos((2 * x + 1) * u * (3.14159265358979323846 / 16)));
	return r;
}

int wl_jpeg12_probe(const uint8_t *p, size_t n, struct wl_image_info *info, struct wl_err *err)
{
	struct reader *r = reader_new(p, n, err);
	int ret = r ? read_file(r, true) : -1;
	if (ret == 0) {
		info->format = WL_IMAGE_JPEG;
		info->width = r->width;
		info->height = r->height;
		info->orientation = r->orientation;
		info->has_alpha = info->jpeg_plain = false;
	}
	if (r)
		reader_release(r);
	return ret;
}

int wl_jpeg12_decode(const uint8_t *p, size_t n, struct wl_image *out, struct wl_err *err)
{
	struct reader *r = reader_new(p, n, err);
	int ret = r ? read_file(r, false) : -1;
	if (ret == 0)
		ret = wl_image_alloc(out, r->width, r->height, 3, err);
	if (ret == 0)
		put_pixels(r, out);
	if (r)
		reader_release(r);
	return ret;
}

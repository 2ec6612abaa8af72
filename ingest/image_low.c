/*
 * See image_low.h.
 *
 * ISO/IEC 10918-1 (ITU T.81), sequential DCT.  The scan's bytes are first copied without their
 * stuffing, so that bits are fetched eight bytes at a time without a look at each.  A code and
 * the bits that follow it are stepped over by one look-up of the next LOOK bits, which says how
 * many bits and coefficients to go; where several symbols fit into these bits, it goes over all
 * of them.
 */
#include "ingest/image_low_priv.h"

#include "ingest/image_codec.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* ---- tables ---- */

/* T.81 F.2.2.1: the first `size` bits of v (from the top) as a signed number. */
static inline int extend(uint64_t v, int size)
{
	int low = (int)(v >> 1 >> (63 - size)), negative = ~(int)((int64_t)v >> 63);

	return low - (negative & ((1 << size) - 1));
}

/* One symbol with all that is behind it: the code must be in the entry, its value need not. */
static inline uint32_t step_one(uint32_t look)
{
	uint32_t run = look >> 12, size = look >> 8 & 15;
	uint32_t bits = (look & 0xff) + size, go = size | run ? run + 1 : END;
	bool bad = (look == 0) | ((size == 0) & (run != 0) & (run != 15));

	return bad ? 0 : bits | go << 8;
}

/* Steps go on by one more symbol where it is all in the bits that are known.  Without branches,
 * for nothing here can be foretold, and such that a compiler takes many at once. */
static void steps_extend(const uint32_t *restrict first, uint32_t *restrict steps)
{
	enum { MASK = (1 << LOOK) - 1 };

	for (uint32_t i = 0; i <= MASK; i++) {
		uint32_t s = steps[i], bits = s & 0xff, go = s >> 8;
		uint32_t next = first[(i << (bits & 31)) & MASK];
		bool fits = (bits != 0) & (next != 0) & (go <= SAFE_GO) &
			    (bits + (next & 0xff) <= LOOK);
		steps[i] = s + (fits ? next : 0);
	}
}

static void steps_make(const struct huffman *h, wl_step *out)
{
	uint32_t first[1 << LOOK];

	for (uint32_t i = 0; i < 1 << LOOK; i++)
		out[i] = first[i] = step_one(h->look[i >> (LOOK - FIRST)]);
	for (int more = 1; more < SYMBOLS; more++)
		steps_extend(first, out);
	for (uint32_t i = 0; i < 1 << LOOK; i++)
		out[i] |= first[i] << 16;
}

/* ---- bits ---- */

struct bits {
	const uint8_t *p;
	uint64_t v; /* the next bits, from the top */
	int n;	    /* of them; 56 at least after fill */
};

/* Fabian Giesen's third variant: the bits that do not fit are read again next time. */
static inline void fill(struct bits *b)
{
	uint64_t next;

	memcpy(&next, b->p, 8);
	b->v |= __builtin_bswap64(next) >> b->n;
	b->p += (63 - b->n) >> 3;
	b->n |= 56;
}

static inline void drop(struct bits *b, int n)
{
	b->v <<= n;
	b->n -= n;
}

/* A symbol whose code is long, or -1. */
static __attribute__((noinline, cold)) int symbol_long(const struct huffman *h, struct bits *b)
{
	for (int len = FIRST + 1; len <= 16; len++) {
		int32_t code = (int32_t)(b->v >> (64 - len));
		if (code <= h->max_code[len]) {
			int at = code + h->offset[len];
			drop(b, len);
			return at >= 0 && at < 256 ? h->symbol[at] : -1;
		}
	}
	return -1;
}

/* By way of a copy, for what a call is given the address of cannot stay in registers. */
static inline int symbol_slow(const struct huffman *h, struct bits *b)
{
	struct bits copy = *b;
	int s = symbol_long(h, &copy);

	*b = copy;
	return s;
}

static inline int symbol(const struct huffman *h, struct bits *b)
{
	unsigned e = h->look[b->v >> (64 - FIRST)];

	if (__builtin_expect(!e, 0))
		return symbol_slow(h, b);
	drop(b, e & 0xff);
	return e >> 8;
}

/* The difference of means; false for a bad code. */
static inline bool read_mean(const struct huffman *h, struct bits *b, int *diff)
{
	unsigned e;
	int size, code;

	fill(b);
	e = h->look[b->v >> (64 - FIRST)];
	if (__builtin_expect(!e, 0)) {
		size = symbol_slow(h, b);
		if (size < 0 || size > 15)
			return false;
		code = 0;
	} else {
		size = (int)(e >> 8); /* 15 at most: read_huffman */
		code = (int)(e & 0xff);
	}
	*diff = extend(b->v << code, size);
	drop(b, code + size);
	return true;
}

/* The lowest AC coefficients into low[1..4], by place in zigzag order.  Gives the place reached,
 * -1 for a bad code. */
static inline int read_low(const struct huffman *h, struct bits *b, int16_t *low)
{
	int k = 1;

	low[1] = low[2] = low[3] = low[4] = 0;
	while (k < LOW_END) {
		int s, run, size;
		fill(b);
		s = symbol(h, b);
		run = s >> 4;
		size = s & 15;
		if (s < 0 || (!size && run && run != 15))
			return -1;
		k += s ? run + 1 : END;
		low[k - 1] = (int16_t)extend(b->v, size);
		drop(b, size);
	}
	return k;
}

/* A symbol that is in no entry, 31 bits at most: the place after it, -1 for a bad code. */
static __attribute__((noinline, cold)) int step_long(
	const struct huffman *h, struct bits *b, int k)
{
	int s = symbol(h, b), run = s >> 4, size = s & 15;

	if (s < 0 || (!size && run && run != 15))
		return -1;
	drop(b, size);
	fill(b);
	return k + (s ? run + 1 : END);
}

static inline int step_slow(const struct huffman *h, struct bits *b, int k)
{
	struct bits copy = *b;

	k = step_long(h, &copy, k);
	*b = copy;
	return k;
}

/* One look-up over symbols whose values do not matter, FIRST + 15 bits at most. */
static inline int step_over(const struct huffman *h, const wl_step *steps, struct bits *b, int k)
{
	wl_step s = steps[b->v >> (64 - LOOK)];

	if (__builtin_expect(!s, 0))
		return step_slow(h, b, k);
	b->v <<= s & 63;
	b->n -= s & 0xff;
	return k + (int)(s >> 8 & 0xff);
}

/* Steps over the rest of a block from place k: in great steps, two between fills, as long as
 * none can go past the end. */
static inline bool skip_rest(
	const struct huffman *h, const wl_step *steps, struct bits *b, int k)
{
	enum { SAFE = COEFFICIENTS - SAFE_GO };

	while ((unsigned)k < SAFE) {
		fill(b);
		k = step_over(h, steps, b, k);
		if ((unsigned)k >= SAFE)
			break;
		k = step_over(h, steps, b, k);
	}
	while ((unsigned)k < COEFFICIENTS) {
		wl_step s;
		fill(b);
		s = steps[b->v >> (64 - LOOK)] >> 16;
		if (!s) {
			k = step_slow(h, b, k);
			continue;
		}
		drop(b, s & 0xff);
		k += (int)(s >> 8);
	}
	return k == COEFFICIENTS || k >= END;
}

/* ---- pixels ---- */

static inline uint8_t clip(int v)
{
	return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void put(struct wl_image *im, int x, int y, int v)
{
	if (x < im->width && y < im->height)
		im->data[(size_t)y * (size_t)im->width + (size_t)x] = clip(v);
}

/* The means of a block's quarters, without its higher frequencies: 1/8 of the mean coefficient;
 * of the others the mean of their cosine over half a block, 0.64073, times 1/4, and 1/sqrt(2)
 * where one index is 0.  In 1/8192. */
static void put_quarters(
	struct wl_image *im, int x, int y, int mean, int across, int down, int both)
{
	enum { ONE_WAY = 928, BOTH = 841, HALF = 4096 };
	int64_t m = (int64_t)mean * 1024 + HALF + (128 << 13);
	int64_t h = (int64_t)across * ONE_WAY, v = (int64_t)down * ONE_WAY,
		d = (int64_t)both * BOTH;

	put(im, x, y, (int)((m + h + v + d) >> 13));
	put(im, x + 1, y, (int)((m - h + v - d) >> 13));
	put(im, x, y + 1, (int)((m + h - v - d) >> 13));
	put(im, x + 1, y + 1, (int)((m - h - v + d) >> 13));
}

/* What a component's blocks are read with. */
struct reader {
	struct component *c;
	const struct huffman *dc, *ac;
	const wl_step *steps;
	const uint16_t *quant;
	bool quarters;
};

/* Block (x, y).  The bits are given and taken by value, so that they stay in registers. */
static inline bool read_block(const struct reader *r, struct bits *io, int x, int y)
{
	struct component *c = r->c;
	struct bits b = *io;
	int diff, k = 1, mean;

	if (!read_mean(r->dc, &b, &diff))
		return false;
	c->last = (int16_t)(c->last + diff);
	mean = c->last * r->quant[0];
	if (r->quarters) {
		int16_t low[COEFFICIENTS + END + 1];
		k = read_low(r->ac, &b, low);
		put_quarters(c->plane, 2 * x, 2 * y, mean, low[1] * r->quant[1],
			low[2] * r->quant[2], low[4] * r->quant[4]);
	} else {
		put(c->plane, x, y, ((mean + 4) >> 3) + 128);
	}
	if (k < 0 || !skip_rest(r->ac, r->steps, &b, k))
		return false;
	*io = b;
	return true;
}

static bool read_mcu(const struct reader *r, int components, struct bits *b, int mx, int my)
{
	for (int i = 0; i < components; i++, r++) {
		int h = r->c->h, v = r->c->v;
		for (int y = my * v; y < (my + 1) * v; y++)
			for (int x = mx * h; x < (mx + 1) * h; x++)
				if (!read_block(r, b, x, y))
					return false;
	}
	return true;
}

/* All of the scan; every restart interval must end where its bytes do. */
static bool read_mcus(struct low *l, const uint16_t *q[3])
{
	int wide = (l->width + 8 * l->c[0].h - 1) / (8 * l->c[0].h);
	int high = (l->height + 8 * l->c[0].v - 1) / (8 * l->c[0].v), x = 0, y = 0;
	int64_t total = (int64_t)wide * high, each = l->restart ? l->restart : total, at = 0;
	struct reader r[3];

	if ((total + each - 1) / each != (int64_t)l->segments)
		return false;
	for (int i = 0; i < l->components; i++)
		r[i] = (struct reader){&l->c[i], &l->dc[l->c[i].dc], &l->ac[l->c[i].ac],
			l->step[l->c[i].ac], q[i], i == 0 && l->by == 4};
	for (size_t s = 0; s < l->segments; s++) {
		const uint8_t *from = l->bytes + l->segment[s];
		int64_t bits = (int64_t)(l->segment[s + 1] - l->segment[s]) * 8, used;
		struct bits b = {from, 0, 0};
		for (int i = 0; i < l->components; i++)
			l->c[i].last = 0;
		for (int64_t to = at + each; at < to && at < total; at++) {
			if ((b.p - from) * 8 - b.n > bits ||
				!read_mcu(r, l->components, &b, x, y))
				return false;
			y += x + 1 == wide;
			x = x + 1 == wide ? 0 : x + 1;
		}
		used = (b.p - from) * 8 - b.n;
		if (used > bits || bits - used >= 8)
			return false;
	}
	return true;
}

static int planes_make(struct low *l, struct wl_image_low *out, struct wl_err *err)
{
	int h = 8 * l->c[0].h, v = 8 * l->c[0].v;

	WL_TRY(wl_image_alloc(&out->luma, (l->width + l->by - 1) / l->by,
		(l->height + l->by - 1) / l->by, 1, err));
	l->c[0].plane = &out->luma;
	if (l->components == 1)
		return 0;
	l->c[1].plane = &out->cb;
	l->c[2].plane = &out->cr;
	for (int i = 1; i < 3; i++)
		WL_TRY(wl_image_alloc(l->c[i].plane, (l->width + h - 1) / h,
			(l->height + v - 1) / v, 1, err));
	return 0;
}

bool wl_image_low_size(const void *bytes, size_t n, int *width, int *height)
{
	const uint8_t *p = bytes, *end = p + n;

	if (n < 4 || p[0] != 0xff || p[1] != 0xd8)
		return false;
	for (p += 2; end - p >= 9 && p[0] == 0xff; p += 2 + u16(p + 2)) {
		if (p[1] == 0xc0 || p[1] == 0xc1) {
			*height = (int)u16(p + 5);
			*width = (int)u16(p + 7);
			return *width > 0 && *height > 0;
		}
		if (p[1] < 0xc4 || p[1] == 0xda || u16(p + 2) > end - p - 2)
			return false;
	}
	return false;
}

int wl_image_low(
	const void *bytes, size_t n, int by, struct wl_image_low *out, struct wl_err *err)
{
	struct low *l = malloc(sizeof(*l));
	const uint16_t *q[3] = {NULL};
	int ret = 0;

	memset(out, 0, sizeof(*out));
	if (!l)
		return wl_err_nomem(err, "a JPEG's tables", sizeof(*l));
	memset(l, 0, offsetof(struct low, step));
	l->bytes = NULL;
	l->segment = NULL;
	l->segments = 0;
	l->p = bytes;
	l->end = l->p + n;
	l->by = by;
	if (n > WL_IMAGE_MAX_BYTES || !wl_low_read_headers(l, q))
		goto out;
	ret = wl_low_unstuff(l, err);
	if (ret <= 0)
		goto out;
	for (int i = 0; i < 2; i++)
		if (l->ac[i].known)
			steps_make(&l->ac[i], l->step[i]);
	ret = -1;
	WL_TRY_OUT(planes_make(l, out, err));
	out->width = l->width;
	out->height = l->height;
	ret = read_mcus(l, q);
out:
	free(l->bytes);
	free(l->segment);
	free(l);
	if (ret != 1)
		wl_image_low_release(out);
	return ret;
}

void wl_image_low_release(struct wl_image_low *l)
{
	if (!l)
		return;
	wl_image_release(&l->luma);
	wl_image_release(&l->cb);
	wl_image_release(&l->cr);
}

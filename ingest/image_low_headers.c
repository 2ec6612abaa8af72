/* See image_low_priv.h: tables, headers, and the scan's bytes without their stuffing. */
#include "ingest/image_low_priv.h"

#include "ingest/image_codec.h"

#include <stdlib.h>
#include <string.h>

static bool huffman_make(struct huffman *h, const uint8_t counts[16], const uint8_t *symbols)
{
	int code = 0, k = 0;

	memset(h, 0, sizeof(*h));
	for (int len = 1; len <= 16; len++) {
		h->offset[len] = k - code;
		for (int i = 0; i < counts[len - 1]; i++, k++, code++) {
			/* No code is all ones (T.81 C.2); libjpeg insists on it too. */
			if (k >= 256 || code >= (1 << len) - 1)
				return false;
			h->symbol[k] = symbols[k];
			if (len > FIRST)
				continue;
			size_t from = (size_t)code << (FIRST - len), n = (size_t)1 << (FIRST - len);
			for (size_t e = from; e < from + n; e++)
				h->look[e] = (uint16_t)(symbols[k] << 8 | len);
		}
		h->max_code[len] = counts[len - 1] ? code - 1 : -1;
		code <<= 1;
	}
	h->known = true;
	return true;
}

static bool read_quant(struct low *l, const uint8_t *p, size_t n)
{
	while (n) {
		int wide = p[0] >> 4, id = p[0] & 15;
		size_t need = 1 + (size_t)COEFFICIENTS * (wide ? 2 : 1);
		if (id > 3 || wide > 1 || n < need)
			return false;
		for (int i = 0; i < COEFFICIENTS; i++)
			l->quant[id][i] = (uint16_t)(wide ? u16(p + 1 + 2 * i) : p[1 + i]);
		l->has_quant[id] = true;
		p += need;
		n -= need;
	}
	return true;
}

static bool read_huffman(struct low *l, const uint8_t *p, size_t n)
{
	while (n) {
		int ac = p[0] >> 4, id = p[0] & 15;
		size_t count = 0;
		if (n < 17 || ac > 1 || id > 1)
			return false;
		for (int i = 1; i <= 16; i++)
			count += p[i];
		if (n < 17 + count || count > 256)
			return false;
		if (!huffman_make(ac ? &l->ac[id] : &l->dc[id], p + 1, p + 17))
			return false;
		for (size_t i = 0; !ac && i < count; i++)
			if (p[17 + i] > 15)
				return false;
		p += 17 + count;
		n -= 17 + count;
	}
	return true;
}

static bool read_frame(struct low *l, const uint8_t *p, size_t n)
{
	if (l->has_frame || n < 6 || p[0] != 8)
		return false;
	l->height = (int)u16(p + 1);
	l->width = (int)u16(p + 3);
	l->components = p[5];
	if ((l->components != 1 && l->components != 3) || n != 6 + 3 * (size_t)l->components)
		return false;
	if (l->width < 1 || l->height < 1 || l->width > WL_IMAGE_MAX_SIDE_PX ||
		l->height > WL_IMAGE_MAX_SIDE_PX ||
		(int64_t)l->width * l->height > WL_IMAGE_MAX_PIXELS)
		return false;
	for (int i = 0; i < l->components; i++) {
		struct component *c = &l->c[i];
		c->id = p[6 + 3 * i];
		c->h = p[7 + 3 * i] >> 4;
		c->v = p[7 + 3 * i] & 15;
		if (p[8 + 3 * i] > 3 || !l->has_quant[p[8 + 3 * i]])
			return false;
		if (i && (c->h != 1 || c->v != 1))
			return false;
		if (c->h < 1 || c->h > 2 || c->v < 1 || c->v > 2)
			return false;
		c->quant = p[8 + 3 * i];
	}
	if (l->components == 1) /* a scan of one component is not interleaved */
		l->c[0].h = l->c[0].v = 1;
	l->has_frame = true;
	return true;
}

/* Gives the quantiser of each component in *q. */
static bool read_scan(struct low *l, const uint8_t *p, size_t n, const uint16_t *q[3])
{
	size_t k = (size_t)l->components;

	if (!l->has_frame || n != 4 + 2 * k || p[0] != k || p[n - 3] != 0 || p[n - 2] != 63 ||
		p[n - 1] != 0)
		return false;
	for (size_t i = 0; i < k; i++) {
		struct component *c = &l->c[i];
		int dc = p[2 + 2 * i] >> 4, ac = p[2 + 2 * i] & 15;
		if (p[1 + 2 * i] != c->id || dc > 1 || ac > 1 || !l->dc[dc].known ||
			!l->ac[ac].known)
			return false;
		q[i] = l->quant[c->quant];
		c->dc = dc;
		c->ac = ac;
	}
	/* Without either mark the ids tell the colours (as libjpeg guesses). */
	return k == 1 || l->jfif || l->adobe ||
	       (l->c[0].id == 1 && l->c[1].id == 2 && l->c[2].id == 3);
}

/* APPn: false when it says that this is nothing for us. */
static bool read_app(struct low *l, int marker, const uint8_t *p, size_t n)
{
	if (marker == 0xe0 && n >= 5 && memcmp(p, "JFIF", 5) == 0)
		l->jfif = true;
	if (marker == 0xe1 && n > 6 && memcmp(p, "Exif\0", 6) == 0)
		return wl_exif_orientation(p + 6, n - 6) == 1;
	if (marker == 0xee && n >= 12 && memcmp(p, "Adobe", 5) == 0) {
		l->adobe = true;
		return p[11] == 1 || l->components == 1;
	}
	return true;
}

bool wl_low_read_headers(struct low *l, const uint16_t *q[3])
{
	bool ok = l->end - l->p > 4 && l->p[0] == 0xff && l->p[1] == 0xd8;

	l->p += 2;
	while (ok && l->end - l->p >= 4) {
		int marker = l->p[1];
		size_t n = u16(l->p + 2);
		const uint8_t *body = l->p + 4;
		if (l->p[0] != 0xff || n < 2 || n > (size_t)(l->end - l->p) - 2)
			return false;
		l->p += 2 + n;
		n -= 2;
		if (marker == 0xda)
			return read_scan(l, body, n, q);
		if (marker == 0xdb)
			ok = read_quant(l, body, n);
		else if (marker == 0xc4)
			ok = read_huffman(l, body, n);
		else if (marker == 0xc0 || marker == 0xc1)
			ok = read_frame(l, body, n);
		else if (marker == 0xdd && n == 2)
			l->restart = (int)u16(body);
		else if (marker >= 0xe0 && marker <= 0xef)
			ok = read_app(l, marker, body, n);
		else if (marker != 0xfe)
			return false;
	}
	return false;
}

int wl_low_unstuff(struct low *l, struct wl_err *err)
{
	size_t left = (size_t)(l->end - l->p), n = 0, cap = 64;

	l->bytes = malloc(left + PAD);
	l->segment = malloc((cap + 1) * sizeof(*l->segment));
	if (!l->bytes || !l->segment)
		return wl_err_nomem(err, "a JPEG's coded data", left);
	l->segment[0] = 0;
	for (;;) {
		const uint8_t *ff = memchr(l->p, 0xff, left);
		if (!ff || ff + 1 >= l->end)
			return 0;
		size_t run = (size_t)(ff - l->p) + (ff[1] == 0);
		memcpy(l->bytes + n, l->p, run);
		n += run;
		left -= (size_t)(ff - l->p) + 2;
		l->p = ff + 2;
		if (ff[1] == 0)
			continue;
		l->segment[++l->segments] = n;
		if (ff[1] == 0xd9)
			break;
		/* Restart markers count 0 to 7. */
		if (!l->restart || ff[1] != (0xd0 | ((l->segments - 1) & 7)) ||
			l->segments >= RESTARTS_MAX)
			return 0;
		if (l->segments == cap) {
			size_t *s = realloc(l->segment, (2 * cap + 1) * sizeof(*s));
			if (!s)
				return wl_err_nomem(err, "restart intervals", cap * sizeof(*s));
			l->segment = s;
			cap *= 2;
		}
	}
	memset(l->bytes + n, 0, PAD);
	return 1;
}

/* See minhash.h. */
#include "clean/minhash.h"

#include "clean/utf8.h"
#include "ops/hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- characters and shingles ---- */

size_t wl_key_chars(const char *key, size_t n)
{
	size_t chars = 0;

	for (size_t i = 0; i < n; i++)
		chars += ((uint8_t)key[i] & 0xc0) != 0x80 && key[i] != '\n';
	return chars;
}

bool wl_key_is_short(const char *key, size_t n)
{
	/* No character is under one byte: a long text is not counted through. */
	return n < WL_TEXT_SHORT * WL_UTF8_MAX && !memchr(key, '\n', n) &&
	       wl_key_chars(key, n) < WL_TEXT_SHORT;
}

static size_t within(size_t n)
{
	return n < WL_TEXT_KEY_MAX ? n : WL_TEXT_KEY_MAX;
}

/* Three code points of 21 bits in one number: exact, not a hash.  A caption of one or two
 * characters beside others is one shingle.  out: [n + 1]. */
static size_t shingles(const char *key, size_t n, uint64_t *out)
{
	const uint64_t mask = ((uint64_t)1 << 21 * WL_SHINGLE) - 1;
	uint64_t run = 0;
	size_t count = 0, have = 0;

	for (size_t i = 0; i < n;) {
		uint32_t c = wl_utf8_next(key, n, &i, NULL);
		if (c == '\n') {
			if (have && have < WL_SHINGLE)
				out[count++] = run;
			run = have = 0;
			continue;
		}
		run = (run << 21 | c) & mask;
		if (++have >= WL_SHINGLE)
			out[count++] = run;
	}
	if (have && have < WL_SHINGLE)
		out[count++] = run;
	return count;
}

/* ---- MinHash ---- */

int wl_minhash(const char *key, size_t n, uint32_t out[WL_MINHASH], struct wl_err *err)
{
	uint32_t mul[WL_MINHASH], add[WL_MINHASH], low[WL_MINHASH];
	uint64_t few[512], *s = few;
	size_t count;

	n = within(n);
	if (n >= sizeof(few) / sizeof(*few)) {
		s = malloc((n + 1) * sizeof(*s));
		if (!s)
			return wl_err_nomem(err, "the shingles of a text", n * sizeof(*s));
	}
	count = shingles(key, n, s);
	for (int k = 0; k < WL_MINHASH; k++) {
		uint64_t r = wl_rand64(0x6d696e68, 1, (uint64_t)k);
		mul[k] = (uint32_t)r | 1;
		add[k] = (uint32_t)(r >> 32);
		low[k] = UINT32_MAX;
	}
	/* The order of 32-bit hashes is told by their high bits, which the product mixes well. */
	for (size_t i = 0; i < count; i++) {
		uint32_t x = (uint32_t)(wl_mix64(s[i]) >> 32);
		for (int k = 0; k < WL_MINHASH; k++) {
			uint32_t h = x * mul[k] + add[k];
			low[k] = h < low[k] ? h : low[k];
		}
	}
	memcpy(out, low, sizeof(low));
	if (s != few)
		free(s);
	return 0;
}

double wl_bands_recall(struct wl_bands b, double jaccard)
{
	return 1 - pow(1 - pow(jaccard, b.rows), b.bands);
}

struct wl_bands wl_bands_for(double jaccard)
{
	struct wl_bands b = {WL_MINHASH, 1};

	/* The more rows, the fewer false candidates. */
	for (int rows = 2; rows <= WL_MINHASH; rows++) {
		struct wl_bands t = {WL_MINHASH / rows, rows};
		if (wl_bands_recall(t, jaccard) < .99)
			break;
		b = t;
	}
	return b;
}

uint64_t wl_band_key(const uint32_t sig[WL_MINHASH], struct wl_bands b, int band)
{
	uint64_t h = (uint64_t)band + 1;

	for (int k = 0; k < b.rows; k++)
		h = wl_mix64(h ^ sig[band * b.rows + k]);
	return h;
}

/* ---- the exact index ---- */

static int by_number(const void *p, const void *q)
{
	uint64_t a = *(const uint64_t *)p, b = *(const uint64_t *)q;

	return (a > b) - (a < b);
}

static size_t shingle_set(const char *key, size_t n, uint64_t *out)
{
	size_t count = shingles(key, n, out), kept = 0;

	qsort(out, count, sizeof(*out), by_number);
	for (size_t i = 0; i < count; i++)
		if (i == 0 || out[i] != out[i - 1])
			out[kept++] = out[i];
	return kept;
}

double wl_jaccard(const char *a, size_t na, const char *b, size_t nb, struct wl_err *err)
{
	size_t i = 0, k = 0, both = 0;
	uint64_t *x, *y;

	na = within(na);
	nb = within(nb);
	x = malloc((na + nb + 2) * sizeof(*x));
	if (!x)
		return wl_err_nomem(err, "the shingles of two texts", (na + nb) * sizeof(*x));
	y = x + na + 1;
	na = shingle_set(a, na, x);
	nb = shingle_set(b, nb, y);
	while (i < na && k < nb) {
		both += x[i] == y[k];
		if (x[i] < y[k])
			i++;
		else if (x[i] > y[k])
			k++;
		else
			i++, k++;
	}
	free(x);
	return na + nb ? (double)both / (double)(na + nb - both) : 1;
}

/* ---- short keys ---- */

static int code_points(const char *key, size_t n, uint32_t out[WL_TEXT_SHORT])
{
	int count = 0;

	for (size_t i = 0; i < n && count < WL_TEXT_SHORT;)
		out[count++] = wl_utf8_next(key, n, &i, NULL);
	return count;
}

int wl_key_variants(const char *key, size_t n, uint64_t out[WL_TEXT_VARIANTS])
{
	uint32_t c[WL_TEXT_SHORT];
	int chars = code_points(key, n, c);

	if (chars < WL_TEXT_EDIT_MIN)
		return 0;
	for (int skip = 0; skip <= chars; skip++) { /* chars: none is left out */
		uint64_t h = 0x73686f7274;
		for (int i = 0; i < chars; i++)
			if (i != skip)
				h = wl_mix64(h ^ c[i]);
		out[skip] = h;
	}
	return chars + 1;
}

static bool is_number(uint32_t c)
{
	static const uint32_t numerals[] = {0x3007, 0x96f6, 0x4e00, 0x4e8c, 0x4e09, 0x56db, 0x4e94,
		0x516d, 0x4e03, 0x516b, 0x4e5d, 0x5341, 0x767e, 0x5343, 0x4e07, 0x4e24};

	if (c >= '0' && c <= '9')
		return true;
	for (size_t i = 0; i < sizeof(numerals) / sizeof(*numerals); i++)
		if (c == numerals[i])
			return true;
	return false;
}

/* One insertion, deletion or substitution, of something that is no number. */
static bool one_edit(const uint32_t *a, int na, const uint32_t *b, int nb)
{
	int head = 0, tail = 0;

	if (na > nb)
		return one_edit(b, nb, a, na);
	while (head < na && a[head] == b[head])
		head++;
	while (tail < na - head && a[na - 1 - tail] == b[nb - 1 - tail])
		tail++;
	if (nb - head - tail > 1)
		return false;
	return head + tail == nb ||
	       (!is_number(b[head]) && (na - head - tail == 0 || !is_number(a[head])));
}

int wl_keys_near(const char *a, size_t na, const char *b, size_t nb, double jaccard,
	struct wl_err *err)
{
	uint32_t x[WL_TEXT_SHORT], y[WL_TEXT_SHORT];
	double j;

	if (na == nb && memcmp(a, b, na) == 0)
		return 1;
	if (wl_key_is_short(a, na) != wl_key_is_short(b, nb))
		return 0;
	if (wl_key_is_short(a, na)) {
		int nx = code_points(a, na, x), ny = code_points(b, nb, y);
		return nx >= WL_TEXT_EDIT_MIN && ny >= WL_TEXT_EDIT_MIN && one_edit(x, nx, y, ny);
	}
	j = wl_jaccard(a, na, b, nb, err);
	return j < 0 ? -1 : j >= jaccard;
}

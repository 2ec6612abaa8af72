/* See measure.h. */
#include "clean/measure.h"

#include "clean/utf8.h"
#include "ops/hash.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unicode/uchar.h>

enum { GRAM = 4, MIN_GRAMS = 8 };

/* Debug fillings and replacement characters gone through GBK. */
static bool has_filling(const char *text)
{
	return strstr(text, "锟斤拷") || strstr(text, "烫烫烫") || strstr(text, "屯屯屯");
}

/* What the bytes 80 to BF are in Latin-1 or in Windows-1252. */
static bool latin_tail(uint32_t c)
{
	static const uint16_t windows[] = {0x152, 0x153, 0x160, 0x161, 0x178, 0x17d, 0x17e, 0x192,
		0x2c6, 0x2dc, 0x2013, 0x2014, 0x2018, 0x2019, 0x201a, 0x201c, 0x201d, 0x201e,
		0x2020, 0x2021, 0x2022, 0x2026, 0x2030, 0x2039, 0x203a, 0x20ac, 0x2122};

	if (c >= 0x80 && c <= 0xbf)
		return true;
	for (size_t i = 0; i < sizeof(windows) / sizeof(*windows); i++)
		if (windows[i] == c)
			return true;
	return false;
}

struct trace {
	size_t bad, latin, pairs, high;
	uint32_t last, half; /* the last character; the first of a pair, 0: none is open */
};

/* latin: UTF-8 read as Latin-1 is a run of such letters and signs, two and two; pairs: GBK read
 * as Latin-1, two letters of which are one everyday character. */
static void trace_char(struct trace *t, uint32_t c)
{
	t->bad += c == WL_UTF8_BAD;
	t->latin += t->last >= 0xc2 && t->last <= 0xef && latin_tail(c);
	t->high += c >= 0xa1 && c <= 0xff;
	if (t->half && c >= 0xa1 && c <= 0xff) {
		t->pairs++;
		t->half = 0;
	} else {
		t->half = c >= 0xb0 && c <= 0xd7 ? c : 0;
	}
	t->last = c;
}

/* Whether the characters' GBK bytes are mostly well-formed UTF-8 of Chinese text: then it was
 * UTF-8 that somebody decoded as GBK.  Genuine Chinese gives such bytes by rare chance only; a
 * third is enough where the characters are rare ones as well (some bytes are lost on the way). */
static int read_as_gbk(const struct wl_text *tx, const uint32_t *c, size_t n, bool rare,
	bool *garbled, struct wl_err *err)
{
	char *bytes = malloc(2 * n + 1);
	size_t len = 0, good = 0, i = 0;

	if (!bytes)
		return wl_err_nomem(err, "a text", 2 * n);
	for (size_t k = 0; k < n; k++) {
		uint32_t g = wl_text_gbk(tx, c[k]);
		if (c[k] == 0x20ac) {
			bytes[len++] = (char)0x80; /* the euro of code page 936 */
			continue;
		}
		if (!g)
			continue;
		bytes[len++] = (char)(g >> 8);
		bytes[len++] = (char)(g & 0xff);
	}
	while (i < len) {
		bool ok = true;
		uint32_t u = wl_utf8_next(bytes, len, &i, &ok);
		good += ok && (wl_is_cjk(u) || (u >= 0x3000 && u <= 0x303f) || u >= 0xff01);
	}
	free(bytes);
	*garbled = good >= 3 && good * 3 * 10 >= len * (rare ? 3 : 6);
	return 0;
}

/* Share of the GRAM-grams of letters that have stood before. */
static int measure_repeat(const uint32_t *c, size_t n, double *share, struct wl_err *err)
{
	size_t grams = n < GRAM ? 0 : n - GRAM + 1, slots = 16, seen = 0;
	uint64_t *set;

	*share = 0;
	if (grams < MIN_GRAMS)
		return 0;
	while (slots < 2 * grams)
		slots *= 2;
	set = calloc(slots, sizeof(*set));
	if (!set)
		return wl_err_nomem(err, "a text's n-grams", slots * sizeof(*set));
	for (size_t i = 0; i < grams; i++) {
		uint64_t h = wl_hash64(c + i, GRAM * sizeof(*c), 0) | 1;
		size_t k = (size_t)h / 2 & (slots - 1);
		while (set[k] && set[k] != h)
			k = (k + 1) & (slots - 1);
		seen += set[k] != 0;
		set[k] = h;
	}
	free(set);
	*share = (double)seen / (double)grams;
	return 0;
}

static void measure_letter(const struct wl_text *tx, struct wl_measure *m, uint32_t c)
{
	uint32_t g = wl_text_gbk(tx, c);

	m->letters++;
	if (wl_is_cjk(c)) {
		m->han++;
		m->common += g >> 8 >= 0xb0 && g >> 8 <= 0xd7 && (g & 0xff) >= 0xa1;
	} else if (c >= 0x250 && !(c >= 0xff10 && c <= 0xff5a) && u_isalpha((UChar32)c)) {
		m->foreign++;
	}
}

int wl_measure(const struct wl_text *tx, const char *text, size_t len, struct wl_measure *m,
	struct wl_err *err)
{
	uint32_t *letters = malloc((2 * len + 2) * sizeof(*letters)), last = 0;
	uint32_t *all = letters ? letters + len + 1 : NULL; /* no spaces */
	struct trace t = {0};
	size_t i = 0, run = 0;
	bool garbled = false;
	int ret;

	memset(m, 0, sizeof(*m));
	if (!letters)
		return wl_err_nomem(err, "a text", 2 * len * sizeof(*letters));
	while (i < len) {
		uint32_t c = wl_utf8_next(text, len, &i, NULL);
		trace_char(&t, c);
		if (c == ' ')
			continue;
		all[m->chars++] = c;
		run = c == last ? run + 1 : 1;
		last = c;
		if (!wl_is_cjk(c) && !u_isalnum((UChar32)c))
			continue;
		m->run = run > m->run ? run : m->run;
		letters[m->letters] = c;
		measure_letter(tx, m, c);
	}
	ret = read_as_gbk(tx, all, m->chars, m->common * 10 < m->han * 6, &garbled, err);
	m->garbled = garbled || t.bad > 0 || (t.latin >= 3 && t.latin * 5 >= m->chars) ||
		     (t.pairs >= 4 && t.pairs * 5 >= t.high * 2 && t.high * 2 >= m->chars) ||
		     has_filling(text);
	if (ret == 0)
		ret = measure_repeat(letters, m->letters, &m->repeat, err);
	free(letters);
	return ret;
}

/* ---- names of files ---- */

static size_t skip(const char *s, size_t i, size_t n, const char *set)
{
	while (i < n && strchr(set, s[i]) && s[i])
		i++;
	return i;
}

bool wl_is_file_name(const char *s, size_t n)
{
	static const char *const ends[] = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif",
		".tiff", ".heic", ".mp4", ".pdf", ".doc", ".psd"};
	static const char *const starts[] = {"img", "dsc", "dscn", "dscf", "dcim", "pic", "image",
		"photo", "mmexport", "screenshot", "untitled", "wx_camera", "qq图片", "qq截图",
		"微信图片", "微信截图", "未标题", "未命名", "无标题", "截图", "图片", "照片",
		"屏幕截图", "新建位图图像", "捕获", "幻灯片"};

	for (size_t k = 0; k < sizeof(ends) / sizeof(*ends); k++) {
		size_t len = strlen(ends[k]);
		if (n > len && strncasecmp(s + n - len, ends[k], len) == 0 &&
			!memchr(s, ' ', n - len))
			return true;
	}
	for (size_t k = 0; k < sizeof(starts) / sizeof(*starts); k++) {
		size_t len = strlen(starts[k]);
		if (n >= len && strncasecmp(s, starts[k], len) == 0 &&
			skip(s, len, n, "0123456789_-. ()") == n)
			return true;
	}
	return n > 0 && skip(s, 0, n, "0123456789_-.") == n;
}

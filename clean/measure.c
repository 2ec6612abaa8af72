/* See measure.h. */
#include "clean/measure.h"

#include "clean/utf8.h"
#include "ops/hash.h"

#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>

enum { GRAM = 4, MIN_GRAMS = 8 };

/* UTF-8 read as GBK: the usual beginnings of "，", "。", "、", "的", "是", "了", "不", quotes come
 * out as these characters, which hardly occur otherwise. */
static bool gbk_trace(uint32_t c)
{
	static const uint16_t traces[] = {0x951b /* 锛 */, 0x9286 /* 銆 */, 0x9225 /* 鈥 */,
		0x9428 /* 鐨 */, 0x93c4 /* 鏄 */, 0x6d93 /* 涓 */, 0x6d5c /* 浜 */, 0x6d60 /* 浠 */,
		0x7039 /* 瀹 */, 0x6d94 /* 涔 */, 0x6fb6 /* 澶 */, 0x9365 /* 鍥 */,
		0x93c2 /* 鏂 */};

	for (size_t i = 0; i < sizeof(traces) / sizeof(*traces); i++)
		if (traces[i] == c)
			return true;
	return false;
}

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
	size_t bad, gbk, latin;
	uint32_t last;
};

/* latin: UTF-8 read as Latin-1 is a run of such letters and signs, two and two. */
static void trace_char(struct trace *t, uint32_t c)
{
	t->bad += c == WL_UTF8_BAD;
	t->gbk += gbk_trace(c);
	t->latin += t->last >= 0xc2 && t->last <= 0xef && latin_tail(c);
	t->last = c;
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

int wl_measure(const char *text, size_t len, struct wl_measure *m, struct wl_err *err)
{
	uint32_t *letters = malloc((len + 1) * sizeof(*letters)), last = 0;
	struct trace t = {0};
	size_t i = 0, run = 0;
	int ret;

	memset(m, 0, sizeof(*m));
	if (!letters)
		return wl_err_nomem(err, "a text", len * sizeof(*letters));
	while (i < len) {
		uint32_t c = wl_utf8_next(text, len, &i, NULL);
		trace_char(&t, c);
		if (c == ' ')
			continue;
		m->chars++;
		run = c == last ? run + 1 : 1;
		last = c;
		if (!wl_is_cjk(c) && !u_isalnum((UChar32)c))
			continue;
		m->run = run > m->run ? run : m->run;
		m->han += wl_is_cjk(c);
		letters[m->letters++] = c;
	}
	m->garbled = t.bad > 0 || (t.gbk >= 3 && t.gbk * 5 >= m->han) ||
		     (t.latin >= 3 && t.latin * 5 >= m->chars) || has_filling(text);
	ret = measure_repeat(letters, m->letters, &m->repeat, err);
	free(letters);
	return ret;
}

/*
 * One table over the planes that have letters (0 to 2), filled by asking ICU once for each
 * character; the Han and Hangul blocks, which NFKC leaves alone, are filled without it.
 */
#include "clean/fold.h"

#include "clean/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/uscript.h>
#include <unicode/uspoof.h>
#include <unicode/ustring.h>

enum { PLANES_END = 0x30000, SEVERAL_MAX = 2048, ICU_MAX = 40 };

struct several {
	uint32_t c, n, to[WL_FOLD_MAX];
};

struct wl_fold {
	uint32_t at[PLANES_END];
	struct several several[SEVERAL_MAX]; /* by c */
	size_t n_several;
};

struct builder {
	struct wl_fold *f;
	const struct wl_text *tx;
	const UNormalizer2 *nfkc_cf, *nfkd;
	USpoofChecker *spoof;
};

/* ---- one character ---- */

static uint32_t separator(uint32_t c)
{
	static const uint32_t hard[] = {'\n', '\r', ',', ';', ':', '!', '?', 0x2028, 0x2029, 0x3001,
		0x3002, 0xff01, 0xff0c, 0xff1a, 0xff1b, 0xff1f, 0xff61, 0xff64};

	for (size_t i = 0; i < sizeof(hard) / sizeof(*hard); i++)
		if (hard[i] == c)
			return WL_FOLD_HARD;
	return WL_FOLD_SOFT;
}

/* A letter of another script that looks like a Latin one, as that; otherwise c. */
static uint32_t look_alike(const struct builder *b, uint32_t c)
{
	UErrorCode st = U_ZERO_ERROR;
	UScriptCode script = uscript_getScript((UChar32)c, &st);
	UChar in[2], out[ICU_MAX];
	int32_t n = 0, got;

	if (U_FAILURE(st) || c < 0x80 ||
		(script != USCRIPT_LATIN && script != USCRIPT_GREEK && script != USCRIPT_CYRILLIC &&
			script != USCRIPT_COPTIC && script != USCRIPT_CHEROKEE))
		return c;
	U16_APPEND_UNSAFE(in, n, c);
	got = uspoof_getSkeleton(b->spoof, 0, in, n, out, ICU_MAX, &st);
	if (U_FAILURE(st) || got != 1 || out[0] >= 0x80 || !u_isalpha(out[0]))
		return c;
	return (uint32_t)u_tolower(out[0]);
}

/* Appends the letters and digits of s, marks dropped. */
static size_t letters_of(const struct builder *b, const UChar *s, int32_t len, uint32_t *out)
{
	size_t n = 0;
	int32_t i = 0;

	while (i < len && n < WL_FOLD_MAX) {
		UChar32 c;
		uint32_t m;
		U16_NEXT(s, i, len, c);
		m = U_GET_GC_MASK(c);
		if (m & (U_GC_L_MASK | U_GC_N_MASK))
			out[n++] = look_alike(b, wl_text_simple(b->tx, (uint32_t)c));
	}
	return n;
}

static int fold_one(struct builder *b, uint32_t c, struct wl_err *err)
{
	UErrorCode st = U_ZERO_ERROR;
	UChar in[2], mid[ICU_MAX], out[ICU_MAX];
	struct several s = {.c = c};
	int32_t n = 0, got;

	U16_APPEND_UNSAFE(in, n, c);
	got = unorm2_normalize(b->nfkc_cf, in, n, mid, ICU_MAX, &st);
	got = unorm2_normalize(b->nfkd, mid, got, out, ICU_MAX, &st);
	/* Hangul comes apart under NFKD; its syllables are filled in whole. */
	if (U_SUCCESS(st))
		s.n = (uint32_t)letters_of(b, out, got, s.to);
	if (s.n == 0)
		b->f->at[c] = separator(c);
	else if (s.n == 1)
		b->f->at[c] = s.to[0];
	else if (b->f->n_several == SEVERAL_MAX)
		return wl_err_set(err, WL_EFAIL,
			"This version of ICU unfolds more than %d characters to several; raise "
			"SEVERAL_MAX in clean/fold.c.",
			SEVERAL_MAX);
	else
		b->f->several[b->f->n_several++] = s;
	return 0;
}

/* ---- the table ---- */

static int fill(struct builder *b, struct wl_err *err)
{
	for (uint32_t c = 0; c < PLANES_END; c++) {
		if ((c >= 0x3400 && c <= 0x4dbf) || (c >= 0x4e00 && c <= 0x9fff))
			b->f->at[c] = wl_text_simple(b->tx, c);
		else if ((c >= 0xac00 && c <= 0xd7a3) || (c >= 0x20000 && c <= 0x2f7ff))
			b->f->at[c] = c;
		else if ((c & 0xfffff800u) == 0xd800 || u_charType((UChar32)c) == U_UNASSIGNED)
			b->f->at[c] = WL_FOLD_SOFT;
		else
			WL_TRY(fold_one(b, c, err));
	}
	return 0;
}

struct wl_fold *wl_fold_new(const struct wl_text *tx, struct wl_err *err)
{
	struct builder b = {.tx = tx, .f = calloc(1, sizeof(*b.f))};
	UErrorCode st = U_ZERO_ERROR;
	int ret = -1;

	if (!b.f) {
		wl_err_nomem(err, "the table of folded characters", sizeof(*b.f));
		return NULL;
	}
	b.nfkc_cf = unorm2_getNFKCCasefoldInstance(&st);
	b.nfkd = unorm2_getNFKDInstance(&st);
	b.spoof = uspoof_open(&st);
	if (U_FAILURE(st))
		wl_err_set(err, WL_EFAIL,
			"ICU has no data of confusable letters (%s); reinstall "
			"libicu72.",
			u_errorName(st));
	else
		ret = fill(&b, err);
	uspoof_close(b.spoof);
	if (ret == 0)
		return b.f;
	wl_fold_free(b.f);
	return NULL;
}

void wl_fold_free(struct wl_fold *f)
{
	free(f);
}

uint32_t wl_fold_at(const struct wl_fold *f, uint32_t c)
{
	return c < PLANES_END ? f->at[c] : WL_FOLD_SOFT;
}

size_t wl_fold_several(const struct wl_fold *f, uint32_t c, uint32_t out[WL_FOLD_MAX])
{
	size_t lo = 0, hi = f->n_several;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (f->several[mid].c < c)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == f->n_several || f->several[lo].c != c)
		return 0;
	memcpy(out, f->several[lo].to, f->several[lo].n * sizeof(*out));
	return f->several[lo].n;
}

int wl_fold_unspaced(uint32_t c)
{
	return wl_is_cjk(c) || (c >= 0x3041 && c <= 0x30ff) || (c >= 0xac00 && c <= 0xd7a3) ||
	       (c >= 0x1100 && c <= 0x11ff) || c == 0x3007 || c == 0x3005;
}

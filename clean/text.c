/*
 * The text is worked on as an array of code points, one pass per rule; captions are short, and
 * passes that are easy to read one by one beat one clever automaton.  ICU is asked only for
 * characters outside the ranges that Chinese captions are made of.
 */
#include "clean/text.h"

#include "clean/entities.h"
#include "clean/text_cut.h"
#include "clean/utf8.h"

#include <opencc/opencc.h>
#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>
#include <unicode/ucnv.h>
#include <unicode/unorm2.h>
#include <unicode/ustring.h>

enum { HAN_FIRST = 0x3400, HAN_LAST = 0x9fff, HAN_COUNT = HAN_LAST - HAN_FIRST + 1 };

struct wl_text {
	opencc_t t2s;
	const UNormalizer2 *nfc, *nfkc_cf; /* ICU's, never freed */
	int8_t script[HAN_COUNT];	   /* 1 Traditional only, -1 Simplified only, 0 both */
	uint16_t simple[HAN_COUNT];	   /* the Simplified form, 0: the character itself */
	uint16_t gbk[0x10000];		   /* lead and trail byte, 0: none */
};

/* ---- opening ---- */

static bool opencc_failed(opencc_t o)
{
	return o == (opencc_t)-1;
}

/* Marks with `mark` the characters that the conversion changes, and notes what t2s makes of
 * them.  One call for all of them, a newline between two, so that no phrase matches. */
static int mark_script(struct wl_text *t, opencc_t cc, int8_t mark, struct wl_err *err)
{
	char *in = malloc(HAN_COUNT * 4 + 1), *out = NULL;
	size_t n = 0, i = 0;
	int ret = -1;

	if (!in)
		return wl_err_nomem(err, "a table of scripts", HAN_COUNT * 4);
	for (uint32_t c = HAN_FIRST; c <= HAN_LAST; c++) {
		n += wl_utf8_put(c, in + n);
		in[n++] = '\n';
	}
	out = opencc_convert_utf8(cc, in, n);
	if (!out) {
		wl_err_set(err, WL_EFAIL, "OpenCC cannot convert: %s.", opencc_error());
		goto out;
	}
	n = strlen(out);
	for (uint32_t c = HAN_FIRST; c <= HAN_LAST; c++) {
		if (i >= n || (i > 0 && out[i - 1] != '\n')) {
			wl_err_set(err, WL_EFAIL,
				"OpenCC's dictionaries do not keep lines apart; "
				"reinstall libopencc-data.");
			goto out;
		}
		uint32_t to = wl_utf8_next(out, n, &i, NULL);
		if (to != c && mark > 0 && to < 0x10000)
			t->simple[c - HAN_FIRST] = (uint16_t)to;
		if (to != c && !t->script[c - HAN_FIRST])
			t->script[c - HAN_FIRST] = mark;
		while (i < n && out[i++] != '\n')
			;
	}
	ret = 0;
out:
	opencc_convert_utf8_free(out);
	free(in);
	return ret;
}

static int fill_gbk(struct wl_text *t, struct wl_err *err)
{
	UErrorCode st = U_ZERO_ERROR;
	UConverter *cv = ucnv_open("GBK", &st);

	for (uint32_t lead = 0x81; lead <= 0xfe && U_SUCCESS(st); lead++)
		for (uint32_t trail = 0x40; trail <= 0xfe; trail++) {
			char bytes[2] = {(char)lead, (char)trail};
			UErrorCode one = U_ZERO_ERROR;
			UChar out[4];
			int32_t n = ucnv_toUChars(cv, out, 4, bytes, 2, &one);
			if (U_SUCCESS(one) && n == 1 && out[0] != 0xfffd && out[0] >= 0x80)
				t->gbk[out[0]] = (uint16_t)(lead << 8 | trail);
		}
	ucnv_close(cv);
	if (U_FAILURE(st))
		return wl_err_set(err, WL_EFAIL,
			"ICU has no converter for GBK (%s); reinstall libicu72.", u_errorName(st));
	return 0;
}

struct wl_text *wl_text_open(struct wl_err *err)
{
	struct wl_text *t = calloc(1, sizeof(*t));
	UErrorCode st = U_ZERO_ERROR;
	opencc_t s2t = (opencc_t)-1;
	bool ok = false;

	if (!t) {
		wl_err_nomem(err, "the text tables", sizeof(*t));
		return NULL;
	}
	t->t2s = opencc_open("t2s.json");
	s2t = opencc_open("s2t.json");
	t->nfc = unorm2_getNFCInstance(&st);
	t->nfkc_cf = unorm2_getNFKCCasefoldInstance(&st);
	if (opencc_failed(t->t2s) || opencc_failed(s2t))
		wl_err_set(err, WL_EFAIL,
			"OpenCC's t2s.json and s2t.json cannot be opened (%s); "
			"install libopencc-data.",
			opencc_error());
	else if (U_FAILURE(st))
		wl_err_set(err, WL_EFAIL, "ICU has no normalisation data (%s); reinstall libicu72.",
			u_errorName(st));
	else
		/* A character that both conversions change (only t2s knows 乾 -> 干) counts as
		 * Traditional: t2s goes first. */
		ok = mark_script(t, t->t2s, 1, err) == 0 && mark_script(t, s2t, -1, err) == 0 &&
		     fill_gbk(t, err) == 0;
	if (!opencc_failed(s2t))
		opencc_close(s2t);
	if (ok)
		return t;
	wl_text_close(t);
	return NULL;
}

void wl_text_close(struct wl_text *t)
{
	if (!t)
		return;
	if (t->t2s && !opencc_failed(t->t2s))
		opencc_close(t->t2s);
	free(t);
}

int wl_text_script(const struct wl_text *t, uint32_t c)
{
	return c >= HAN_FIRST && c <= HAN_LAST ? t->script[c - HAN_FIRST] : 0;
}

uint32_t wl_text_simple(const struct wl_text *t, uint32_t c)
{
	uint32_t to = c >= HAN_FIRST && c <= HAN_LAST ? t->simple[c - HAN_FIRST] : 0;

	return to ? to : c;
}

uint32_t wl_text_gbk(const struct wl_text *t, uint32_t c)
{
	return c < 0x10000 ? t->gbk[c] : 0;
}

/* ---- code points ---- */

static int cps_reserve(struct wl_cps *t, size_t n, struct wl_err *err)
{
	uint32_t *p;

	if (n <= t->cap)
		return 0;
	p = realloc(t->c, n * sizeof(*p));
	if (!p)
		return wl_err_nomem(err, "a text", n * sizeof(*p));
	t->c = p;
	t->cap = n;
	return 0;
}

/* "&name;", "&#123;", "&#x1f;" at s[i], '&' itself not being looked at again.  Returns the code
 * point and moves *i behind the semicolon; 0 leaves *i. */
static uint32_t entity_at(const char *s, size_t n, size_t *i)
{
	char name[WL_ENTITY_NAME_MAX];
	size_t k = *i + 1, len = 0;
	uint32_t c = 0;

	while (k < n && len < sizeof(name) - 1 && s[k] != ';' && (unsigned char)s[k] < 0x80)
		name[len++] = s[k++];
	if (k >= n || s[k] != ';' || len == 0)
		return 0;
	name[len] = 0;
	if (name[0] == '#') {
		bool hex = name[1] == 'x' || name[1] == 'X';
		char *end, *digits = name + (hex ? 2 : 1);
		unsigned long v = strtoul(digits, &end, hex ? 16 : 10);
		if (*end || end == digits || digits[0] == '-' || digits[0] == '+' || v == 0 ||
			v > 0x10ffff || (v & ~0x7fful) == 0xd800)
			return 0;
		c = (uint32_t)v;
	} else {
		c = wl_entity(name);
	}
	if (c)
		*i = k + 1;
	return c;
}

/* UTF-8 to code points with entities resolved, also those that were escaped twice: an '&' that
 * comes out of an entity is looked at again in its place. */
static int decode(struct wl_cps *t, const char *text, size_t len, struct wl_text_facts *facts,
	struct wl_err *err)
{
	char *s = malloc(len + 1);
	size_t i = 0;

	if (!s || cps_reserve(t, len + 1, err) < 0) {
		free(s);
		return wl_err_nomem(err, "a text", len * 5);
	}
	memcpy(s, text, len);
	while (i < len) {
		bool ok = true;
		uint32_t c = s[i] == '&' ? entity_at(s, len, &i) : 0;
		if (c == '&') {
			s[--i] = '&';
			continue;
		}
		if (!c)
			c = wl_utf8_next(s, len, &i, &ok);
		facts->bad_bytes += !ok;
		t->c[t->n++] = c;
	}
	free(s);
	return 0;
}

/* What a reader cannot see: 0 drop, ' ' a space, otherwise c itself. */
static uint32_t visible(uint32_t c)
{
	if ((c > 0x20 && c < 0x7f) || (c >= 0x3001 && c <= 0x9fff) || (c >= 0xff01 && c <= 0xffef))
		return c;
	if ((c >= 9 && c <= 13) || c == 0x85)
		return ' ';
	if (c >= 0xfe00 && c <= 0xfe0f) /* variation selectors */
		return 0;
	switch (u_charType((UChar32)c)) {
	case U_SPACE_SEPARATOR:
	case U_LINE_SEPARATOR:
	case U_PARAGRAPH_SEPARATOR:
		return ' ';
	case U_CONTROL_CHAR:
	case U_FORMAT_CHAR:
	case U_PRIVATE_USE_CHAR:
	case U_SURROGATE:
	case U_UNASSIGNED:
		return 0;
	default:
		return c;
	}
}

static void drop_invisible(struct wl_cps *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++) {
		uint32_t c = visible(t->c[i]);
		if (c)
			t->c[n++] = c;
	}
	t->n = n;
}

/* One space for a run, none at the ends. */
static void squeeze_spaces(struct wl_cps *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++)
		if (t->c[i] != ' ' || (n && t->c[n - 1] != ' '))
			t->c[n++] = t->c[i];
	if (n && t->c[n - 1] == ' ')
		n--;
	t->n = n;
}

/* Characters that no composition touches, whatever stands beside them. */
static bool inert(uint32_t c)
{
	return c < 0x300 || (c >= 0x2010 && c <= 0x2027) || (c >= 0x3000 && c <= 0x3029) ||
	       (c >= 0x4e00 && c <= 0x9fff) || (c >= 0xff00 && c <= 0xffef);
}

/* Through ICU: `n` code points to their form under `nf`. */
static int through_icu(struct wl_cps *t, const UNormalizer2 *nf, struct wl_err *err)
{
	UErrorCode st = U_ZERO_ERROR;
	size_t n16 = 2 * t->n + 1, room = 0;
	UChar *in = malloc(n16 * sizeof(*in)), *out = NULL;
	int32_t got = 0, len = 0;
	int ret = -1;

	if (!in)
		return wl_err_nomem(err, "a text", n16 * sizeof(*in));
	u_strFromUTF32(in, (int32_t)n16, &got, (const UChar32 *)t->c, (int32_t)t->n, &st);
	len = unorm2_normalize(nf, in, got, NULL, 0, &st);
	if (st == U_BUFFER_OVERFLOW_ERROR || st == U_STRING_NOT_TERMINATED_WARNING)
		st = U_ZERO_ERROR;
	room = (size_t)len + 1;
	out = malloc(room * sizeof(*out));
	if (!out || cps_reserve(t, room, err) < 0) {
		wl_err_nomem(err, "a text", room * sizeof(*out));
		goto out;
	}
	len = unorm2_normalize(nf, in, got, out, (int32_t)room, &st);
	u_strToUTF32((UChar32 *)t->c, (int32_t)t->cap, &got, out, len, &st);
	if (U_FAILURE(st)) {
		wl_err_set(err, WL_EFAIL, "ICU cannot normalise a text of %zu characters (%s).",
			t->n, u_errorName(st));
		goto out;
	}
	t->n = (size_t)got;
	ret = 0;
out:
	free(in);
	free(out);
	return ret;
}

static int compose(const struct wl_text *tx, struct wl_cps *t, struct wl_err *err)
{
	size_t i = 0;

	while (i < t->n && inert(t->c[i]))
		i++;
	return i == t->n ? 0 : through_icu(t, tx->nfc, err);
}

/* ---- Traditional to Simplified ---- */

/* Kana in a tenth of the characters: Japanese, whose characters are not Traditional Chinese. */
static bool is_traditional(const struct wl_text *tx, const struct wl_cps *t)
{
	size_t trad = 0, simp = 0, kana = 0, han = 0;

	for (size_t i = 0; i < t->n; i++) {
		uint32_t c = t->c[i];
		int s = wl_text_script(tx, c);
		trad += s > 0;
		simp += s < 0;
		kana += c >= 0x3041 && c <= 0x30ff;
		han += wl_is_cjk(c);
	}
	return trad > simp && kana * 9 <= han;
}

static int to_simplified(const struct wl_text *tx, struct wl_buf *out, struct wl_err *err)
{
	char *s = opencc_convert_utf8(tx->t2s, out->data, out->len);
	int ret;

	if (!s)
		return wl_err_set(err, WL_EFAIL, "OpenCC cannot convert a text of %zu bytes: %s.",
			out->len, opencc_error());
	wl_buf_reset(out);
	ret = wl_buf_puts(out, s, err);
	opencc_convert_utf8_free(s);
	return ret;
}

/* ---- the verbs ---- */

static int encode(const struct wl_cps *t, struct wl_buf *out, struct wl_err *err)
{
	wl_buf_reset(out);
	WL_TRY(wl_buf_reserve(out, t->n * WL_UTF8_MAX, err));
	for (size_t i = 0; i < t->n; i++) {
		char s[WL_UTF8_MAX];
		WL_TRY(wl_buf_add(out, s, wl_utf8_put(t->c[i], s), err));
	}
	return 0;
}

static size_t cut_at_char(const char *text, size_t len, size_t max)
{
	if (len <= max)
		return len;
	while (max > 0 && ((unsigned char)text[max] & 0xc0) == 0x80)
		max--;
	return max;
}

const char *const wl_cut_names[WL_CUTS + 1] = {
	"urls", "mentions", "topics", "codes", "emoji", "reposts", "references", "bylines", NULL};

struct wl_text_style wl_text_style_of(const char *source)
{
	if (!source || strncmp(source, "weibo", 5) != 0)
		return (struct wl_text_style){0};
	return (struct wl_text_style){.mentions = true,
		.codes = true,
		.short_urls = true,
		.reposts = true,
		.topics = WL_TOPICS_WORDS};
}

int wl_text_clean(const struct wl_text *tx, const struct wl_text_work *w, const char *text,
	size_t len, struct wl_buf *out, struct wl_text_facts *facts, struct wl_err *err)
{
	struct wl_text_facts unused, *f = facts ? facts : &unused;
	struct wl_cps t = {0};
	int ret = -1;

	memset(f, 0, sizeof(*f));
	WL_TRY_OUT(decode(&t, text, cut_at_char(text, len, WL_TEXT_MAX_BYTES), f, err));
	drop_invisible(&t);
	WL_TRY_OUT(compose(tx, &t, err));
	wl_cut_tags(&t);
	wl_cut_urls(&t, w->style.short_urls, f);
	squeeze_spaces(&t); /* numbers may be written in groups */
	wl_personal_mask(&t, w->look, w->mask, f->personal);
	wl_cut_style(&t, &w->style, f); /* behind the masks: an '@' may belong to an address */
	squeeze_spaces(&t);
	/* What was cut may have stood inside a number. */
	wl_personal_mask(&t, w->mask, w->mask, f->personal);
	squeeze_spaces(&t);
	f->traditional = is_traditional(tx, &t);
	WL_TRY_OUT(encode(&t, out, err));
	if (f->traditional && !w->keep_traditional)
		WL_TRY_OUT(to_simplified(tx, out, err));
	ret = 0;
out:
	free(t.c);
	return ret;
}

int wl_text_normalise(const struct wl_text *tx, const char *source, const char *text, size_t len,
	unsigned flags, struct wl_buf *out, struct wl_text_facts *facts, struct wl_err *err)
{
	unsigned kinds = WL_PERSONAL_BIT(WL_MOBILE) | WL_PERSONAL_BIT(WL_ID_CARD) |
			 WL_PERSONAL_BIT(WL_EMAIL);
	struct wl_text_work w = {.style = wl_text_style_of(source),
		.look = kinds,
		.mask = flags & WL_TEXT_KEEP_PII ? 0 : kinds,
		.keep_traditional = flags & WL_TEXT_KEEP_TRADITIONAL};

	return wl_text_clean(tx, &w, text, len, out, facts, err);
}

int wl_text_fold(const struct wl_text *tx, const char *text, size_t len, struct wl_buf *out,
	struct wl_err *err)
{
	struct wl_cps t = {0};
	size_t i = 0;
	int ret = -1;

	len = cut_at_char(text, len, WL_TEXT_MAX_BYTES);
	WL_TRY_OUT(cps_reserve(&t, len + 1, err));
	while (i < len)
		t.c[t.n++] = wl_utf8_next(text, len, &i, NULL);
	WL_TRY_OUT(through_icu(&t, tx->nfkc_cf, err));
	ret = encode(&t, out, err);
out:
	free(t.c);
	return ret;
}

/* The key's character for c: 0 none; UINT32_MAX: ask ICU. */
static uint32_t key_char(uint32_t c)
{
	if (c >= 0xff01 && c <= 0xff5e)
		c -= 0xff01 - 0x21; /* full-width ASCII */
	if (c >= 'A' && c <= 'Z')
		return c + 32;
	if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 0x4e00 && c <= 0x9fff))
		return c;
	if (c < 0x80 || (c >= 0x2010 && c <= 0x2027) || (c >= 0x3000 && c <= 0x3004) ||
		(c >= 0x3008 && c <= 0x3020))
		return 0;
	return UINT32_MAX;
}

int wl_text_key(const struct wl_text *tx, const char *text, size_t len, struct wl_buf *out,
	struct wl_err *err)
{
	struct wl_cps t = {0};
	size_t i = 0, n = 0;
	int ret = -1;

	len = cut_at_char(text, len, WL_TEXT_MAX_BYTES);
	WL_TRY_OUT(cps_reserve(&t, len + 1, err));
	while (i < len)
		t.c[t.n++] = wl_utf8_next(text, len, &i, NULL);
	for (i = 0; i < t.n && key_char(t.c[i]) != UINT32_MAX; i++)
		;
	if (i < t.n)
		WL_TRY_OUT(through_icu(&t, tx->nfkc_cf, err));
	for (size_t k = 0; k < t.n; k++) {
		uint32_t c = i < t.n || key_char(t.c[k]) == UINT32_MAX ? t.c[k] : key_char(t.c[k]);
		uint32_t m = c ? U_GET_GC_MASK((UChar32)c) : 0;
		if ((m & (U_GC_L_MASK | U_GC_N_MASK)) || (n && (m & U_GC_M_MASK)))
			t.c[n++] = c;
	}
	t.n = n;
	ret = encode(&t, out, err);
out:
	free(t.c);
	return ret;
}

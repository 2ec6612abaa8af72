/* See charset.h.  Detection and conversion are ICU's; what is ours is the order of belief. */
#include "ingest/charset.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unicode/ucnv.h>
#include <unicode/ucsdet.h>

enum {
	META_BYTES = 4096,    /* WHATWG looks at 1024; Chinese portals put scripts first */
	DETECT_BYTES = 65536, /* more makes the detector slower, not better */
	LABEL_MAX = 40,
};

/* ---- UTF-8 as it stands ---- */

struct utf8_facts {
	size_t multi; /* well-formed sequences of 2 to 4 bytes */
	size_t bad;   /* places that are in none (a sequence cut off by the end is no such) */
	size_t nul, control;
};

/* Length of the well-formed sequence at p (Unicode table 3-7), 0: none; *cut: it would be one if
 * the text did not end. */
static size_t utf8_len(const uint8_t *p, size_t left, bool *cut)
{
	uint8_t c = p[0], lo = 0x80, hi = 0xbf;
	size_t len;
	*cut = false;
	if (c < 0x80)
		return 1;
	if (c >= 0xc2 && c <= 0xdf)
		len = 2;
	else if (c >= 0xe0 && c <= 0xef)
		len = 3;
	else if (c >= 0xf0 && c <= 0xf4)
		len = 4;
	else
		return 0;
	if (c == 0xe0)
		lo = 0xa0;
	else if (c == 0xed)
		hi = 0x9f;
	else if (c == 0xf0)
		lo = 0x90;
	else if (c == 0xf4)
		hi = 0x8f;
	for (size_t i = 1; i < len; i++, lo = 0x80, hi = 0xbf) {
		if (i == left) {
			*cut = true;
			return 0;
		}
		if (p[i] < lo || p[i] > hi)
			return 0;
	}
	return len;
}

/* Bytes at p that are plain ASCII text, eight at a time: no high bit, no control below blank but
 * those of text (which are looked at one by one). */
static size_t plain_run(const uint8_t *p, size_t n)
{
	size_t i = 0;
	for (; i + 8 <= n; i += 8) {
		uint64_t w;
		memcpy(&w, p + i, 8);
		/* (w - 0x20..) borrows into the high bit where a byte is below 0x20. */
		if ((w | (w - UINT64_C(0x2020202020202020))) & UINT64_C(0x8080808080808080))
			break;
	}
	return i;
}

/* Bytes at p that are well-formed sequences of three without exceptions (U+1000 .. U+CFFF: all
 * Chinese characters and their punctuation). */
static size_t han_run(const uint8_t *p, size_t n)
{
	size_t i = 0;
	for (; i + 3 <= n; i += 3)
		if ((uint8_t)(p[i] - 0xe1) > 0xec - 0xe1 || (p[i + 1] & 0xc0) != 0x80 ||
			(p[i + 2] & 0xc0) != 0x80)
			break;
	return i;
}

static bool is_text_control(uint8_t c)
{
	return c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v' || c == 0x1b;
}

/* Takes 64 bytes at p when all are ASCII, counting as utf8_look does (the compiler makes vectors
 * of it); pages are mostly markup. */
static bool ascii_block(const uint8_t *p, struct utf8_facts *f)
{
	uint8_t high = 0, nul = 0, low = 0, text = 0;
	for (int i = 0; i < 64; i++) {
		high |= p[i];
		nul = (uint8_t)(nul + (p[i] == 0));
		low = (uint8_t)(low + (p[i] < 0x20));
		bool is_text = (uint8_t)(p[i] - 9) <= 13 - 9 || p[i] == 0x1b;
		text = (uint8_t)(text + is_text);
	}
	if (high & 0x80)
		return false;
	f->nul += nul;
	f->control += (size_t)(low - nul - text);
	return true;
}

static struct utf8_facts utf8_look(const uint8_t *p, size_t n)
{
	struct utf8_facts f = {0};
	for (size_t i = 0; i < n;) {
		bool cut;
		size_t plain = plain_run(p + i, n - i);
		i += plain;
		while (plain && i + 64 <= n && ascii_block(p + i, &f))
			i += 64;
		if (i >= n)
			break;
		size_t run = han_run(p + i, n - i);
		if (run) {
			f.multi += run / 3;
			i += run;
			continue;
		}
		size_t len = utf8_len(p + i, n - i, &cut);
		if (cut)
			break;
		f.multi += len > 1;
		f.bad += len == 0;
		f.nul += p[i] == 0;
		f.control += p[i] && p[i] < 0x20 && !is_text_control(p[i]);
		i += len ? len : 1;
		while (!len && i < n && (p[i] & 0xc0) == 0x80) /* the rest of one broken sequence */
			i++;
	}
	return f;
}

/* Copies with U+FFFD for what is no UTF-8 and a blank for NUL. */
static int utf8_repair(
	const uint8_t *p, size_t n, struct wl_buf *out, size_t *replaced, struct wl_err *err)
{
	size_t start = 0, i = 0;
	while (i < n) {
		bool cut;
		size_t len = p[i] ? utf8_len(p + i, n - i, &cut) : 0;
		if (len) {
			i += len;
			continue;
		}
		WL_TRY(wl_buf_add(out, p + start, i - start, err));
		WL_TRY(p[i] ? wl_buf_add(out, "\xef\xbf\xbd", 3, err) : wl_buf_putc(out, ' ', err));
		++*replaced;
		start = ++i;
		/* The rest of one broken sequence is one replacement. */
		while (i < n && (p[i] & 0xc0) == 0x80)
			start = ++i;
	}
	return wl_buf_add(out, p + start, n - start, err);
}

/* ---- names ---- */

static bool is_one_of(const char *s, const char *const *list)
{
	for (; *list; list++)
		if (strcasecmp(s, *list) == 0)
			return true;
	return false;
}

/* A label as people write it into a converter's name; -1: no converter. */
static int known_name(const char *label, size_t n, char name[40])
{
	static const char *const gb[] = {"gb2312", "gbk", "gb18030", "x-gbk", "gb_2312-80",
		"gb-2312", "gb2312-80", "cp936", "ms936", "windows-936", "euc-cn", "chinese",
		"csgb2312", "iso-ir-58", "x-euc-cn", NULL};
	static const char *const big5[] = {"big5", "big5-hkscs", "cn-big5", "x-x-big5", "big-5",
		"csbig5", "big5hkscs", "cp950", "windows-950", NULL};
	static const char *const latin[] = {
		"iso-8859-1", "iso8859-1", "latin1", "us-ascii", "ascii", "l1", "cp1252", NULL};
	/* UTF-7 is an attack; a <meta> that can be read is in no UTF-16. */
	static const char *const never[] = {"utf-7", "utf7", "utf-16", "utf-16le", "utf-16be",
		"utf-32", "unicode", "none", "undefined", "null", NULL};
	char s[LABEL_MAX];
	while (n && strchr(" \t\r\n\"'", *label))
		label++, n--;
	while (n && strchr(" \t\r\n\"'/;", label[n - 1]))
		n--;
	if (!n || n >= sizeof s)
		return -1;
	memcpy(s, label, n);
	s[n] = '\0';
	if (strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:") != n ||
		is_one_of(s, never))
		return -1;
	const char *is = is_one_of(s, gb)      ? "gb18030"
			 : is_one_of(s, big5)  ? "Big5-HKSCS"
			 : is_one_of(s, latin) ? "windows-1252"
			 : strcasecmp(s, "utf8") == 0 || strcasecmp(s, "utf-8") == 0 ? "UTF-8"
										     : s;
	UErrorCode rc = U_ZERO_ERROR;
	UConverter *cnv = ucnv_open(is, &rc);
	ucnv_close(cnv);
	if (U_FAILURE(rc))
		return -1;
	memmove(name, is, strlen(is) + 1);
	return 0;
}

/* What follows "charset" [blanks] "=" at p, up to a delimiter. */
static int name_after(const char *p, const char *end, char name[40])
{
	while (p < end && strchr(" \t\r\n", *p))
		p++;
	if (p == end || *p++ != '=')
		return -1;
	while (p < end && strchr(" \t\r\n", *p))
		p++;
	char quote = p < end && (*p == '"' || *p == '\'') ? *p++ : '\0';
	const char *s = p;
	while (p < end && *p && (quote ? *p != quote : !strchr(" \t\r\n;,>\"'", *p)))
		p++;
	return known_name(s, (size_t)(p - s), name);
}

/* The first `word` in [p, end), any case; NULL: none. */
static const char *find_word(const char *p, const char *end, const char *word)
{
	size_t n = strlen(word);
	for (; (size_t)(end - p) >= n; p++)
		if (strncasecmp(p, word, n) == 0)
			return p;
	return NULL;
}

int wl_charset_of_header(const char *content_type, char name[40])
{
	if (!content_type)
		return -1;
	const char *end = content_type + strlen(content_type);
	const char *p = find_word(content_type, end, "charset");
	return p ? name_after(p + 7, end, name) : -1;
}

/* One tag's text between < and >. */
static int of_tag(const char *p, const char *end, char name[40])
{
	if (strncasecmp(p, "?xml", 4) == 0) {
		const char *e = find_word(p, end, "encoding");
		return e ? name_after(e + 8, end, name) : -1;
	}
	if (strncasecmp(p, "meta", 4) != 0 || !strchr(" \t\r\n/", p[4]))
		return -1;
	for (const char *c = p; (c = find_word(c, end, "charset")) != NULL; c += 7)
		if (name_after(c + 7, end, name) == 0)
			return 0;
	return -1;
}

int wl_charset_of_meta(const void *bytes, size_t n, char name[40])
{
	const char *p = bytes, *end = p + (n < META_BYTES ? n : META_BYTES);
	while ((p = memchr(p, '<', (size_t)(end - p))) != NULL) {
		p++;
		if (end - p >= 3 && memcmp(p, "!--", 3) == 0) {
			const char *close = memmem(p, (size_t)(end - p), "-->", 3);
			if (!close)
				return -1;
			p = close;
			continue;
		}
		const char *gt = memchr(p, '>', (size_t)(end - p));
		if (!gt)
			return -1;
		if (gt - p > 5 && of_tag(p, gt, name) == 0)
			return 0;
	}
	return -1;
}

/* ---- converting ---- */

/* The whole text at once into out, which is emptied first. */
static int convert(const char *name, const uint8_t *p, size_t n, struct wl_buf *out,
	size_t *replaced, struct wl_err *err)
{
	UErrorCode rc = U_ZERO_ERROR;
	UConverter *cnv = ucnv_open(name, &rc);
	if (U_FAILURE(rc))
		return wl_err_set(err, WL_EDATA, "no converter knows the encoding \"%s\"", name);
	wl_buf_reset(out);
	/* No encoding here gives more than three bytes of UTF-8 for one of its own. */
	size_t room = 3 * n < out->max ? 3 * n : out->max;
	if (room > INT32_MAX)
		room = INT32_MAX;
	int ret = wl_buf_reserve(out, room, err);
	int32_t got = 0;
	if (ret == 0)
		got = ucnv_toAlgorithmic(
			UCNV_UTF8, cnv, out->data, (int32_t)room, (const char *)p, (int32_t)n, &rc);
	ucnv_close(cnv);
	if (ret < 0)
		return -1;
	if (U_FAILURE(rc) || (size_t)got > room)
		return wl_err_set(
			err, WL_EDATA, "the text cannot be read as %s: %s", name, u_errorName(rc));
	out->len = (size_t)got;
	out->data[out->len] = '\0';
	/* U+FFFD is ICU's mark for what it could not read; some tables have SUB for one byte. */
	*replaced = 0;
	for (size_t i = 0; i < out->len; i++) {
		if (out->data[i] == 0x1a || out->data[i] == 0)
			out->data[i] = ' ', ++*replaced;
		else if (out->data[i] == '\xef' && i + 2 < out->len &&
			 memcmp(out->data + i, "\xef\xbf\xbd", 3) == 0)
			++*replaced;
	}
	return 0;
}

/* A declared encoding is believed while at most one sequence in fifty does not exist in it:
 * real pages have a few halves of characters where a text was cut by bytes. */
static bool fits(size_t replaced, size_t len)
{
	return replaced <= 2 || replaced < len / 3 / 50;
}

static int try_name(const char *name, enum wl_charset_from from, const uint8_t *p, size_t n,
	struct wl_buf *out, struct wl_charset *info, struct wl_err *err)
{
	size_t replaced;
	if (strcmp(name, "UTF-8") == 0)
		return 0; /* looked at before: it was not */
	WL_TRY(convert(name, p, n, out, &replaced, err));
	if (!fits(replaced, out->len))
		return 0;
	memmove(info->name, name, strlen(name) + 1);
	info->from = from;
	info->replaced = replaced;
	return 1;
}

/* ---- ICU's detector ---- */

/* Characters that are in every Chinese text, and are rare when another encoding's bytes are
 * misread: the 60 most frequent of modern Chinese, simplified and traditional. */
static size_t common_chars(const char *s, size_t n)
{
	static const char common[] =
		"的一是不了在人有我他这中大来上个国到说们为子和你地出道也时年得就那要下以生会自着"
		"去之过家学对可她里后小么心多天而能好都然没日于起还发成事只作当想看文無這個來國說"
		"們為時會過學對後發還沒當點開與從樣經體實現種動問進電話網新聞臺灣中文最報";
	size_t hits = 0;
	for (size_t i = 0; i + 2 < n; i++) {
		if ((uint8_t)s[i] < 0xe3 || (uint8_t)s[i] > 0xe9)
			continue;
		for (const char *c = common; *c; c += 3) {
			if (memcmp(c, s + i, 3) == 0) {
				hits++;
				break;
			}
		}
		i += 2;
	}
	return hits;
}

/* The candidates in ICU's order; each is converted, and the one with the most common Chinese
 * characters for what could not be read wins, ICU's order deciding ties. */
static int detect(
	const uint8_t *p, size_t n, struct wl_buf *out, struct wl_charset *info, struct wl_err *err)
{
	static const char *const chinese[] = {"gb18030", "Big5-HKSCS"};
	size_t look = n < DETECT_BYTES ? n : DETECT_BYTES;
	UErrorCode rc = U_ZERO_ERROR;
	UCharsetDetector *d = ucsdet_open(&rc);
	const UCharsetMatch **found = NULL;
	int32_t n_found = 0;
	char best[LABEL_MAX] = "", name[LABEL_MAX];
	double best_score = 0;
	int ret = -1;
	ucsdet_setText(d, (const char *)p, (int32_t)look, &rc);
	ucsdet_enableInputFilter(d, true); /* without the tags */
	found = ucsdet_detectAll(d, &n_found, &rc);
	if (U_FAILURE(rc))
		n_found = 0;
	rc = U_ZERO_ERROR;
	for (int32_t i = -2; i < n_found && i < 4; i++) {
		const char *label = i < 0 ? chinese[i + 2] : ucsdet_getName(found[i], &rc);
		int32_t sure = i < 0 ? 0 : ucsdet_getConfidence(found[i], &rc);
		size_t replaced;
		if (!label || known_name(label, strlen(label), name) < 0 ||
			strcmp(name, "UTF-8") == 0)
			continue;
		WL_TRY_OUT(convert(name, p, look, out, &replaced, err));
		if (!fits(replaced, out->len))
			continue;
		double score = sure +
			       300.0 * (double)common_chars(wl_buf_str(out), out->len) /
				       (double)(out->len / 3 + 1) -
			       5.0 * (double)replaced;
		if (!*best || score > best_score) {
			best_score = score;
			memcpy(best, name, sizeof best);
		}
	}
	ret = *best ? try_name(best, WL_CHARSET_DETECTOR, p, n, out, info, err) : 0;
out:
	ucsdet_close(d);
	return ret;
}

/* ---- the order of belief ---- */

static size_t bom(const uint8_t *p, size_t n, const char **name)
{
	*name = n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0	  ? "UTF-8"
		: n >= 4 && memcmp(p, "\xff\xfe\0\0", 4) == 0	  ? "UTF-32LE"
		: n >= 4 && memcmp(p, "\0\0\xfe\xff", 4) == 0	  ? "UTF-32BE"
		: n >= 4 && memcmp(p, "\x84\x31\x95\x33", 4) == 0 ? "gb18030"
		: n >= 2 && memcmp(p, "\xff\xfe", 2) == 0	  ? "UTF-16LE"
		: n >= 2 && memcmp(p, "\xfe\xff", 2) == 0	  ? "UTF-16BE"
								  : NULL;
	if (!*name)
		return 0;
	return (*name)[0] == 'g' || strncmp(*name, "UTF-32", 6) == 0 ? 4
	       : strcmp(*name, "UTF-8") == 0			     ? 3
								     : 2;
}

/* UTF-16 without a mark: markup makes every other byte zero. */
static const char *utf16_by_zeros(const uint8_t *p, size_t n)
{
	size_t look = n < 512 ? n & ~(size_t)1 : 512, zero[2] = {0};
	for (size_t i = 0; i < look; i++)
		zero[i & 1] += p[i] == 0;
	if (look < 8)
		return NULL;
	if (zero[1] > look / 16 && zero[0] <= zero[1] / 3)
		return "UTF-16LE";
	return zero[0] > look / 16 && zero[1] <= zero[0] / 3 ? "UTF-16BE" : NULL;
}

/* As UTF-8, without a copy where nothing is broken. */
static int as_utf8(const uint8_t *p, size_t n, const struct utf8_facts *f, struct wl_buf *out,
	const char **text, size_t *len, struct wl_charset *info, struct wl_err *err)
{
	bool cut = false;
	size_t tail = 0;
	memcpy(info->name, "UTF-8", 6);
	/* utf8_look stops where the end cuts a character in two. */
	for (size_t back = 1; back <= 3 && back <= n && !cut; back++) {
		(void)utf8_len(p + n - back, back, &cut);
		tail = cut ? back : 0;
	}
	if (!f->bad && !f->nul) {
		*text = (const char *)p;
		*len = n - tail;
		return 0;
	}
	WL_TRY(utf8_repair(p, n - tail, out, &info->replaced, err));
	*text = wl_buf_str(out);
	*len = out->len;
	return 0;
}

/* More sequences than another encoding gives by accident: of GBK's characters one in seven is a
 * valid sequence of two bytes, so there are six broken ones for each good one. */
static bool is_utf8(const struct utf8_facts *f)
{
	return f->multi >= 10 * f->bad;
}

static int convert_other(const uint8_t *p, size_t n, const char *content_type, struct wl_buf *out,
	struct wl_charset *info, struct wl_err *err)
{
	char name[LABEL_MAX];
	int done = 0;
	/* Apache's AddDefaultCharset says ISO-8859-1 of whatever lies on the server. */
	if (wl_charset_of_header(content_type, name) == 0 && strcmp(name, "windows-1252") != 0)
		done = try_name(name, WL_CHARSET_HEADER, p, n, out, info, err);
	if (done == 0 && wl_charset_of_meta(p, n, name) == 0 && strcmp(name, "windows-1252") != 0)
		done = try_name(name, WL_CHARSET_META, p, n, out, info, err);
	if (done == 0)
		done = detect(p, n, out, info, err);
	WL_TRY(done);
	if (done)
		return 0;
	memcpy(info->name, "windows-1252", 13);
	info->from = WL_CHARSET_DEFAULT;
	return convert(info->name, p, n, out, &info->replaced, err);
}

int wl_charset_decode(const void *bytes, size_t n, const char *content_type, struct wl_buf *out,
	const char **text, size_t *len, struct wl_charset *info, struct wl_err *err)
{
	const uint8_t *p = bytes;
	const char *name;
	memset(info, 0, sizeof *info);
	wl_buf_reset(out);
	if (n > INT32_MAX / 4)
		return wl_err_set(err, WL_EDATA, "the text has %zu bytes, at most %d are taken", n,
			INT32_MAX / 4);
	info->skip = bom(p, n, &name);
	p += info->skip;
	n -= info->skip;
	struct utf8_facts f = utf8_look(p, n);
	if (!name && (name = utf16_by_zeros(p, n)) != NULL)
		info->from = WL_CHARSET_DETECTOR;
	if (!name && f.nul + f.control > 4 + n / 100)
		return wl_err_set(err, WL_EDATA,
			"this is no text: %zu of %zu bytes are control characters",
			f.nul + f.control, n);
	if (name ? strcmp(name, "UTF-8") == 0 : is_utf8(&f)) {
		info->from = name ? WL_CHARSET_BOM : WL_CHARSET_CONTENT;
		return as_utf8(p, n, &f, out, text, len, info, err);
	}
	if (name) {
		memcpy(info->name, name, strlen(name) + 1);
		WL_TRY(convert(name, p, n, out, &info->replaced, err));
	} else {
		WL_TRY(convert_other(p, n, content_type, out, info, err));
	}
	*text = wl_buf_str(out);
	*len = out->len;
	return 0;
}

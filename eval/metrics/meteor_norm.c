/*
 * METEOR's English normaliser: see meteor.h.  It is a chain of substitutions over the whole
 * line (in the jar: regular expressions after the Moses tokeniser), each from left to right without
 * overlap, so that the third of "a-b-c" stays joined; they are done here one by one on code
 * points, to meet the same corner cases.
 */
#include "clean/utf8.h"
#include "eval/metrics/meteor.h"
#include "ops/grow.h"

#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>

/* A run of n >= 2 dots is one letter DOTS + n while the rules run. */
enum { DOTS = 0x110000, DOTS_MAX = 1000 };

struct line {
	uint32_t *c;
	size_t n, cap;
};

static int put(struct line *l, uint32_t c, struct wl_err *err)
{
	WL_TRY(WL_GROW(l->c, l->n, l->cap, "a caption being normalised", err));
	l->c[l->n++] = c;
	return 0;
}

static int put_text(struct line *l, const char *s, struct wl_err *err)
{
	for (; *s; s++)
		WL_TRY(put(l, (uint8_t)*s, err));
	return 0;
}

static bool is_digit(uint32_t c)
{
	return c >= '0' && c <= '9';
}

/* Latin of western Europe and Cyrillic, as the jar lists them. */
static bool is_alpha(uint32_t c)
{
	if (c < 0x80)
		return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
	return (c >= 0xc0 && c <= 0x17e && c != 0xd7 && c != 0xf7) || (c >= 0x400 && c <= 0x527) ||
	       (c >= 0xa640 && c <= 0xa66e) || (c >= 0xa67e && c <= 0xa697) ||
	       (c >= 0x1d00 && c <= 0x1d7f);
}

static bool is_not_digit(uint32_t c)
{
	return !is_digit(c);
}

static bool is_not_alpha(uint32_t c)
{
	return !is_alpha(c);
}

static bool is_neither(uint32_t c)
{
	return !is_alpha(c) && !is_digit(c);
}

static bool is_alnum_or_dot(uint32_t c)
{
	return is_alpha(c) || is_digit(c) || c == '.';
}

static bool is_alnum(uint32_t c)
{
	return is_alpha(c) || is_digit(c);
}

static bool is_s(uint32_t c)
{
	return c == 's';
}

/* Stays where it is in the first step. */
static bool is_kept(uint32_t c)
{
	return is_alnum(c) || (c >= 9 && c <= 13) || c == ' ' || c == '.' || c == '\'' ||
	       c == '`' || c == ',' || c == '-' || c == 0x2018 || c == 0x2019;
}

/* left, `mid`, right become left, `with`, right. */
struct rule {
	bool (*left)(uint32_t);
	bool (*right)(uint32_t);
	const char *with;
	char mid;
};

static int apply(const struct rule *r, struct line *from, struct line *to, struct wl_err *err)
{
	struct line swap;

	to->n = 0;
	for (size_t i = 0; i < from->n;) {
		const uint32_t *c = from->c + i;

		if (i + 2 < from->n && c[1] == (uint32_t)r->mid && r->left(c[0]) &&
			r->right(c[2])) {
			WL_TRY(put(to, c[0], err));
			WL_TRY(put_text(to, r->with, err));
			WL_TRY(put(to, c[2], err));
			i += 3;
		} else {
			WL_TRY(put(to, c[0], err));
			i++;
		}
	}
	swap = *from;
	*from = *to;
	*to = swap;
	return 0;
}

/* Blanks around every sign that stands alone; runs of dots become one letter. */
static int separate(const char *text, size_t n, struct line *l, bool *special, struct wl_err *err)
{
	WL_TRY(put(l, ' ', err));
	for (size_t i = 0; i < n;) {
		uint32_t c = wl_utf8_next(text, n, &i, NULL), dots = 1;

		for (; c == '.' && i < n && text[i] == '.' && dots < DOTS_MAX; i++)
			dots++;
		*special |= c == '.' || c == '\'' || c == '`' || c == ',' || c == '-' ||
			    (c >= 0x2013 && c <= 0x201d);
		if (dots > 1)
			c = DOTS + dots;
		if (is_kept(c)) {
			WL_TRY(put(l, c, err));
			continue;
		}
		WL_TRY(put(l, ' ', err));
		WL_TRY(put(l, c, err));
		WL_TRY(put(l, ' ', err));
	}
	return put(l, ' ', err);
}

/* One kind of single quote, of double quote, and of dash. */
static int unify(struct line *from, struct line *to, struct wl_err *err)
{
	struct line swap;

	for (size_t i = 0; i < from->n; i++)
		if (from->c[i] == '`' || from->c[i] == 0x2018 || from->c[i] == 0x2019)
			from->c[i] = '\'';
	to->n = 0;
	for (size_t i = 0; i < from->n; i++) {
		uint32_t c = from->c[i], next = i + 1 < from->n ? from->c[i + 1] : 0;

		if (c == 0x201c || c == 0x201d || (c == '\'' && next == '\'')) {
			WL_TRY(put_text(to, " \" ", err));
			i += c == '\'';
			continue;
		}
		WL_TRY(put(to, c == 0x2013 ? '-' : c, err));
	}
	swap = *from;
	*from = *to;
	*to = swap;
	to->n = 0;
	for (size_t i = 0; i < from->n; i++) {
		WL_TRY(put(to, from->c[i], err));
		i += from->c[i] == '-' && i + 1 < from->n && from->c[i + 1] == '-';
	}
	swap = *from;
	*from = *to;
	*to = swap;
	return 0;
}

static int split_signs(struct line *l, struct line *spare, struct wl_err *err)
{
	static const struct rule commas[] = {{is_not_digit, is_not_digit, " , ", ','},
		{is_digit, is_not_digit, " , ", ','}, {is_not_digit, is_digit, " , ", ','}};
	static const struct rule rest[] = {{is_alnum_or_dot, is_alnum, " ", '-'},
		{is_not_alpha, is_not_alpha, " ' ", '\''}, {is_neither, is_alpha, " ' ", '\''},
		{is_alpha, is_not_alpha, " ' ", '\''}, {is_alpha, is_alpha, " '", '\''},
		{is_digit, is_s, " '", '\''}};

	for (size_t i = 0; i < sizeof commas / sizeof *commas; i++)
		WL_TRY(apply(&commas[i], l, spare, err));
	WL_TRY(unify(l, spare, err));
	for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
		WL_TRY(apply(&rest[i], l, spare, err));
	return 0;
}

static bool is_blank(uint32_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

/* Spaces of Unicode, which vanish at the end only. */
static bool is_wide_blank(uint32_t c)
{
	return (c >= 0x2000 && c <= 0x200a) || c == 0x202f || c == 0x205f || c == 0x3000 ||
	       c == 0xa0;
}

static bool equals(const uint32_t *c, size_t n, const char *s)
{
	for (size_t i = 0; i < n; i++)
		if (!s[i] || c[i] != (uint8_t)s[i])
			return false;
	return !s[n];
}

/* What becomes of the dot that ends a word: 0 it stays, 1 it is split off, 2 all dots go
 * ("u.s." is "us").  next: the following word's first letter, 0 at the end.  Of the list of
 * abbreviations (Moses) those that are lower case: text comes here in lower case. */
static int last_dot(const uint32_t *c, size_t n, uint32_t next)
{
	static const char *const keep[] = {"v", "vs", "rev"};
	bool dot = false, alpha = false;

	for (size_t i = 0; i + 1 < n; i++) {
		dot |= c[i] == '.';
		alpha |= is_alpha(c[i]);
	}
	if (dot && alpha)
		return 2;
	if (next >= 'a' && next <= 'z')
		return 0;
	for (size_t i = 0; i < sizeof keep / sizeof *keep; i++)
		if (equals(c, n - 1, keep[i]))
			return 0;
	return equals(c, n - 1, "pp") && is_digit(next) ? 0 : 1;
}

static int emit(uint32_t c, struct wl_buf *out, struct wl_err *err)
{
	if (c > DOTS) {
		for (c -= DOTS; c; c--)
			WL_TRY(wl_buf_putc(out, '.', err));
		return 0;
	}
	c = c < 0x80 ? (c >= 'A' && c <= 'Z' ? c + 32 : c) : (uint32_t)u_tolower((UChar32)c);
	if (c < 0x80)
		return wl_buf_putc(out, (char)c, err);
	if (c < 0x800) {
		WL_TRY(wl_buf_putc(out, (char)(0xc0 | c >> 6), err));
	} else {
		if (c < 0x10000) {
			WL_TRY(wl_buf_putc(out, (char)(0xe0 | c >> 12), err));
		} else {
			WL_TRY(wl_buf_putc(out, (char)(0xf0 | c >> 18), err));
			WL_TRY(wl_buf_putc(out, (char)(0x80 | (c >> 12 & 0x3f)), err));
		}
		WL_TRY(wl_buf_putc(out, (char)(0x80 | (c >> 6 & 0x3f)), err));
	}
	return wl_buf_putc(out, (char)(0x80 | (c & 0x3f)), err);
}

/* One word [c, c+n), a blank before it unless it is the first. */
static int emit_word(
	const uint32_t *c, size_t n, size_t start, struct wl_buf *out, struct wl_err *err)
{
	bool fresh = true;

	for (size_t i = 0; i < n; i++) {
		if (is_wide_blank(c[i])) {
			fresh = true;
			continue;
		}
		if (fresh && out->len > start)
			WL_TRY(wl_buf_putc(out, ' ', err));
		fresh = false;
		WL_TRY(emit(c[i], out, err));
	}
	return 0;
}

static int emit_line(const struct line *l, size_t start, struct wl_buf *out, struct wl_err *err)
{
	static const uint32_t dot = '.';

	for (size_t i = 0; i < l->n;) {
		const uint32_t *w = l->c + i;
		size_t n = 0, gap = 0;
		int what = 0;

		while (i + n < l->n && !is_blank(w[n]))
			n++;
		while (i + n + gap < l->n && is_blank(w[n + gap]))
			gap++;
		if (n > 1 && w[n - 1] == '.')
			what = last_dot(w, n, i + n + gap < l->n ? w[n + gap] : 0);
		if (what == 2) {
			uint32_t *mine = l->c + i;
			size_t kept = 0;

			for (size_t k = 0; k < n; k++)
				if (w[k] != '.')
					mine[kept++] = w[k];
			WL_TRY(emit_word(mine, kept, start, out, err));
		} else {
			WL_TRY(emit_word(w, n - (what == 1), start, out, err));
			if (what == 1)
				WL_TRY(emit_word(&dot, 1, start, out, err));
		}
		i += n + gap;
	}
	return 0;
}

int wl_meteor_normalize(const char *text, size_t n, struct wl_buf *out, struct wl_err *err)
{
	struct line l = {0}, spare = {0};
	bool special = false;
	int ret = -1;

	WL_TRY_OUT(separate(text, n, &l, &special, err));
	if (special)
		WL_TRY_OUT(split_signs(&l, &spare, err));
	ret = emit_line(&l, out->len, out, err);
out:
	free(l.c);
	free(spare.c);
	return ret;
}

/* Words of a relative frequency of 1/1000 or more in English text, METEOR's definition. */
bool wl_meteor_is_function(const char *word, size_t n)
{
	static const char *const list[] = {"the", ",", ".", "to", "of", "and", "a", "in", "that",
		"for", "\"", "is", "on", "'s", "it", "with", "was", "as", "said", "at", "he", "by",
		"be", "from", "have", "has", "are", "his", "but", "an", "this", "not", "i", "will",
		"\xe2\x80\x99", "they", ")", "-rrb-", "(", "-lrb-", "who", "their", "had", "we",
		"which", "were", "been", "more", "or", "s", "its", "would", "about", "new", "one",
		"after", "you", ":", "also", "up", "when", "there", "than", "$", "all", "out",
		"her", "people", "she", "year", "two", "-", "can", "if", "last", "first",
		"\xe2\x80\x9c", "over", "other", "\xe2\x80\x9d", "into", "some", "what", "so", "--",
		"no", "time", "years", "could", "?", "'t", "\xe2\x80\x94", "'"};

	for (size_t i = 0; i < sizeof list / sizeof *list; i++)
		if (strlen(list[i]) == n && !memcmp(list[i], word, n))
			return true;
	return false;
}

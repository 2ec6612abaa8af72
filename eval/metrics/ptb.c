/* A scanner that takes the longest of a few patterns at each place: see ptb.h. */
#include "eval/metrics/ptb.h"
#include "clean/utf8.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>

struct scan {
	uint32_t *c; /* [n], lower case, with two zeros after it */
	size_t *at;  /* [n + 1]: byte offset in `text` */
	size_t n;
	char *text;   /* lower case UTF-8 */
	size_t start; /* of this line in out */
};

/* Signs that are tokens of their own; what is in neither list nor a letter vanishes. */
static const uint16_t sign[][2] = {{0x24, 0x27}, {0x2a, 0x2c}, {0x2f, 0x2f}, {0x3a, 0x3e},
	{0x40, 0x40}, {0x5c, 0x5c}, {0x5e, 0x60}, {0x7c, 0x7c}, {0x7e, 0x7e}, {0xa1, 0xa1},
	{0xa5, 0xa9}, {0xac, 0xac}, {0xae, 0xb4}, {0xb6, 0xb9}, {0xbf, 0xbf}, {0xd7, 0xd7},
	{0xf7, 0xf7}, {0x37e, 0x37e}, {0x387, 0x387}, {0x589, 0x589}, {0x5be, 0x5be},
	{0x5c0, 0x5c0}, {0x5c3, 0x5c3}, {0x5c6, 0x5c6}, {0x5f3, 0x5f4}, {0x600, 0x603},
	{0x606, 0x60c}, {0x614, 0x614}, {0x61b, 0x61b}, {0x61e, 0x61f}, {0x66a, 0x66a},
	{0x66d, 0x66d}, {0x6d4, 0x6d4}, {0x700, 0x70d}, {0x7f6, 0x7f8}, {0x964, 0x965},
	{0xe3f, 0xe3f}, {0xe4f, 0xe4f}, {0x1fbd, 0x1fbd}, {0x2016, 0x2017}, {0x201a, 0x201a},
	{0x201e, 0x2023}, {0x2030, 0x2038}, {0x203b, 0x203b}, {0x203e, 0x2042}, {0x2044, 0x2044},
	{0x2070, 0x2070}, {0x2074, 0x207e}, {0x2080, 0x208e}, {0x20a4, 0x20a4}, {0x2100, 0x2101},
	{0x2103, 0x2106}, {0x2108, 0x2109}, {0x2114, 0x2114}, {0x2116, 0x2118}, {0x211e, 0x2123},
	{0x2125, 0x2125}, {0x2127, 0x2127}, {0x2129, 0x2129}, {0x212e, 0x212e}, {0x213a, 0x213b},
	{0x2140, 0x2144}, {0x214a, 0x214d}, {0x214f, 0x214f}, {0x2155, 0x215e}, {0x2190, 0x2bff},
	{0x3001, 0x3002}, {0x3012, 0x3012}, {0x30fb, 0x30fb}, {0xff01, 0xff0f}, {0xff1a, 0xff20},
	{0xff3b, 0xff40}, {0xff5b, 0xff65}, {0xffe0, 0xffe1}, {0xffe5, 0xffe6}};

/* Signs that are written otherwise; "" is punctuation that is dropped. */
static const struct {
	uint16_t c;
	const char *as;
} rewritten[] = {{'"', ""}, {'\'', ""}, {'`', ""}, {',', ""}, {'-', ""}, {'.', ""}, {':', ""},
	{';', ""}, {'(', "-lrb-"}, {')', "-rrb-"}, {'[', "-lsb-"}, {']', "-rsb-"}, {'{', "-lcb-"},
	{'}', "-rcb-"}, {0x80, "$"}, {0x91, ""}, {0x92, ""}, {0x93, ""}, {0x94, ""}, {0x96, ""},
	{0x97, ""}, {0xa2, "cents"}, {0xa3, "#"}, {0xa4, "$"}, {0xab, ""}, {0xad, ""}, {0xbb, ""},
	{0xbc, "1/4"}, {0xbd, "1/2"}, {0xbe, "3/4"}, {0x2013, ""}, {0x2014, ""}, {0x2015, ""},
	{0x2018, ""}, {0x2019, ""}, {0x201b, ""}, {0x201c, ""}, {0x201d, ""}, {0x2026, ""},
	{0x2039, ""}, {0x203a, ""}, {0x20a0, "$"}, {0x20ac, "$"}, {0x2153, "1/3"}, {0x2154, "2/3"}};

static bool is_ascii_digit(uint32_t c)
{
	return c >= '0' && c <= '9';
}

static bool is_ascii_letter(uint32_t c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_ascii(uint32_t c)
{
	return is_ascii_digit(c) || is_ascii_letter(c);
}

static bool is_cjk(uint32_t c)
{
	return c >= 0x2e80 && c < 0xff00;
}

static bool is_digit(uint32_t c)
{
	return is_ascii_digit(c) || (c >= 0x80 && c < 0x10000 && u_isdigit((UChar32)c));
}

static bool is_letter(uint32_t c)
{
	if (c < 0x80)
		return is_ascii_letter(c);
	if (c >= 0x10000) /* outside the tool's world: dropped */
		return false;
	return u_isalpha((UChar32)c) || ((U_GC_M_MASK >> u_charType((UChar32)c)) & 1);
}

static bool is_alnum(uint32_t c)
{
	return is_letter(c) || is_digit(c);
}

static bool is_quote(uint32_t c)
{
	return c == '\'' || c == 0x2019;
}

/* The end of a run of letters and digits from i. */
static size_t run(const struct scan *s, size_t i)
{
	while (is_alnum(s->c[i]))
		i++;
	return i;
}

/* 12, 3.5, 1,000, 10:30, .5; i itself when there is none. */
static size_t number(const struct scan *s, size_t i)
{
	size_t k = i;

	while (is_digit(s->c[k]))
		k++;
	while ((s->c[k] == '.' || s->c[k] == ',' || s->c[k] == ':') && is_digit(s->c[k + 1]))
		for (k++; is_digit(s->c[k]);)
			k++;
	return k;
}

/* Runs joined by hyphens (t-shirt, 3-2), but not between two Chinese characters; by a slash or an
 * underscore in ASCII. */
static size_t compound(const struct scan *s, size_t i)
{
	size_t k = run(s, i);

	for (;;) {
		uint32_t left = s->c[k - 1], sign_ = s->c[k], right = s->c[k] ? s->c[k + 1] : 0;
		bool hyphen = sign_ == '-' && is_alnum(right) && !(is_cjk(left) && is_cjk(right));
		bool joined = (sign_ == '/' || sign_ == '_') && is_ascii(left) && is_ascii(right);

		if (!hyphen && !joined)
			return k;
		k = run(s, k + 1);
	}
}

/* A word that goes on after . ! ? when a letter follows at once (a.b.c). */
static size_t dotted(const struct scan *s, size_t i)
{
	size_t k = run(s, i);

	if (!is_letter(s->c[i]))
		return k;
	while ((s->c[k] == '.' || s->c[k] == '!' || s->c[k] == '?') && is_letter(s->c[k + 1]))
		k = run(s, k + 1);
	return k;
}

static bool word_is(const struct scan *s, size_t i, size_t end, const char *const *list)
{
	size_t n = s->at[end] - s->at[i];

	for (; *list; list++)
		if (strlen(*list) == n && !memcmp(s->text + s->at[i], *list, n))
			return true;
	return false;
}

/* Whether the dot after [i, end) belongs to the word: one letter, letters with dots between, or
 * a known abbreviation. */
static bool keeps_dot(const struct scan *s, size_t i, size_t end)
{
	static const char *const known[] = {"mr", "mrs", "ms", "dr", "st", "jr", "sr", "inc", "co",
		"ltd", "corp", "vs", "etc", "prof", "gen", "sgt", "capt", "lt", "col", "gov", "sen",
		"rep", "rev", "ave", "blvd", "rd", "mt", "ft", "jan", "feb", "mar", "apr", "jun",
		"jul", "aug", "sep", "sept", "oct", "nov", "dec", "mon", "tue", "tues", "wed",
		"thu", "thurs", "fri", "ph.d", "bros", "dept", "cal", "calif", "fla", "mass", "tex",
		"va", "wash", "pa", NULL};
	static const char *const before_number[] = {"no", "nos", "vol", "pp", "art", "fig", NULL};
	bool letters = true;

	if (s->c[end] != '.')
		return false;
	for (size_t k = i; k < end; k++)
		letters &= (k - i) % 2 ? s->c[k] == '.' : is_ascii_letter(s->c[k]);
	if (letters && (end - i) % 2)
		return true;
	if (word_is(s, i, end, known))
		return true;
	return word_is(s, i, end, before_number) &&
	       (is_digit(s->c[end + 1]) || (s->c[end + 1] == ' ' && is_digit(s->c[end + 2])));
}

/* 's 'm 'd 're 've 'll at i, not followed by a letter: its end, else i. */
static size_t clitic(const struct scan *s, size_t i)
{
	static const char *const known[] = {"s", "m", "d", "re", "ve", "ll", NULL};
	size_t k = i + 1;

	if (!is_quote(s->c[i]))
		return i;
	while (is_ascii_letter(s->c[k]))
		k++;
	return !is_alnum(s->c[k]) && word_is(s, i + 1, k, known) ? k : i;
}

static int add(struct scan *s, const char *t, size_t n, struct wl_buf *out, struct wl_err *err)
{
	if (!n)
		return 0;
	if (out->len > s->start)
		WL_TRY(wl_buf_putc(out, ' ', err));
	return wl_buf_add(out, t, n, err);
}

static int add_span(struct scan *s, size_t i, size_t end, struct wl_buf *out, struct wl_err *err)
{
	return add(s, s->text + s->at[i], s->at[end] - s->at[i], out, err);
}

/* don't, cannot, gonna: one word as two tokens; 0 when it is none of them. */
static size_t split_word(const struct scan *s, size_t i, size_t end)
{
	static const struct {
		const char *word;
		size_t first;
	} known[] = {{"cannot", 3}, {"gonna", 3}, {"gotta", 3}, {"wanna", 3}, {"gimme", 3},
		{"lemme", 3}};
	size_t n = s->at[end] - s->at[i];

	for (size_t k = 0; k < sizeof known / sizeof *known; k++)
		if (strlen(known[k].word) == n && !memcmp(s->text + s->at[i], known[k].word, n))
			return i + known[k].first;
	return 0;
}

static int take_word(struct scan *s, size_t *at, struct wl_buf *out, struct wl_err *err)
{
	size_t i = *at, end = run(s, i), other, cut;

	/* o'clock, d'or */
	if (end == i + 1 && (s->c[i] == 'o' || s->c[i] == 'd' || s->c[i] == 'l') &&
		is_quote(s->c[end]) && is_ascii_letter(s->c[end + 1]) &&
		is_ascii_letter(s->c[end + 2])) {
		*at = run(s, end + 1);
		return add_span(s, i, *at, out, err);
	}
	if (s->c[end - 1] == 'n' && end > i + 1 && is_quote(s->c[end]) && s->c[end + 1] == 't' &&
		!is_alnum(s->c[end + 2])) {
		WL_TRY(add_span(s, i, end - 1, out, err));
		WL_TRY(add(s, "n't", 3, out, err));
		*at = end + 2;
		return 0;
	}
	if ((other = compound(s, i)) > end)
		end = other;
	if ((other = dotted(s, i)) > end)
		end = other;
	if (is_digit(s->c[i]) && (other = number(s, i)) > end)
		end = other;
	if (s->c[i] == 'c' && end == i + 1) /* C++, C# */
		end += s->c[end] == '+' && s->c[end + 1] == '+' ? 2 : s->c[end] == '#';
	if (keeps_dot(s, i, end))
		end++;
	cut = split_word(s, i, end);
	if (cut) {
		WL_TRY(add_span(s, i, cut, out, err));
		i = cut;
	}
	WL_TRY(add_span(s, i, end, out, err));
	other = clitic(s, end);
	if (other > end) { /* always written with the plain quote */
		WL_TRY(add(s, "'", 1, out, err));
		WL_TRY(wl_buf_add(
			out, s->text + s->at[end + 1], s->at[other] - s->at[end + 1], err));
		end = other;
	}
	*at = end;
	return 0;
}

static const char *rewrite(uint32_t c)
{
	for (size_t k = 0; k < sizeof rewritten / sizeof *rewritten; k++)
		if (rewritten[k].c == c)
			return rewritten[k].as;
	return NULL;
}

static bool is_sign(uint32_t c)
{
	for (size_t k = 0; k < sizeof sign / sizeof *sign && c >= sign[k][0]; k++)
		if (c <= sign[k][1])
			return true;
	return false;
}

static int take_sign(struct scan *s, size_t *at, struct wl_buf *out, struct wl_err *err)
{
	size_t i = *at, end = i + 1;
	uint32_t c = s->c[i];
	const char *as;

	if (c == '!' || c == '?') {
		while (s->c[end] == '!' || s->c[end] == '?')
			end++;
		*at = end;
		return end - i > 1 ? add_span(s, i, end, out, err) : 0;
	}
	if ((c == '+' || c == '-' || c == '.') && (end = number(s, i + (c != '.'))) > i + 1) {
		*at = end;
		return add_span(s, i, end, out, err);
	}
	end = i + 1;
	if ((c == '#' && is_ascii_letter(s->c[end])) || (c == '@' && is_ascii_letter(s->c[end]))) {
		while (is_ascii_letter(s->c[end]) || (c == '@' && is_ascii_digit(s->c[end])))
			end++;
		*at = end;
		return add_span(s, i, end, out, err);
	}
	if (c == '\'' && is_ascii_digit(s->c[end]) && is_ascii_digit(s->c[end + 1])) { /* '90s */
		end += 2 + (s->c[end + 2] == 's');
		*at = end;
		return add_span(s, i, end, out, err);
	}
	if (c == '_')
		while (s->c[end] == '_')
			end++;
	*at = end;
	as = rewrite(c);
	if (as)
		return add(s, as, strlen(as), out, err);
	return is_sign(c) || c == '#' ? add_span(s, i, end, out, err) : 0;
}

/* Soft hyphens inside words go; all else stands in lower case. */
static int decode(struct scan *s, const char *text, size_t n, struct wl_err *err)
{
	size_t len = 0;

	s->c = malloc((n + 8) * sizeof *s->c);
	s->at = malloc((n + 8) * sizeof *s->at);
	s->text = malloc(n * 3 + WL_UTF8_MAX); /* lower case may be longer (U+023A: 2 bytes to 3) */
	if (!s->c || !s->at || !s->text)
		return wl_err_nomem(err, "a caption being tokenised", n * 16);
	for (size_t i = 0; i < n;) {
		uint32_t c = wl_utf8_next(text, n, &i, NULL);

		if (c == 0)
			continue;
		c = c < 0x80 ? (c >= 'A' && c <= 'Z' ? c + 32 : c)
			     : (uint32_t)u_tolower((UChar32)c);
		s->at[s->n] = len;
		s->c[s->n++] = c;
		len += wl_utf8_put(c, s->text + len);
	}
	for (size_t k = 0; k < 4; k++) {
		s->c[s->n + k] = 0;
		s->at[s->n + k] = len;
	}
	return 0;
}

int wl_ptb_tokens(const char *text, size_t n, struct wl_buf *out, struct wl_err *err)
{
	struct scan s = {.start = out->len};
	int ret = -1;

	WL_TRY_OUT(decode(&s, text, n, err));
	for (size_t i = 0; i < s.n;) {
		if (is_alnum(s.c[i]))
			WL_TRY_OUT(take_word(&s, &i, out, err));
		else
			WL_TRY_OUT(take_sign(&s, &i, out, err));
	}
	ret = 0;
out:
	free(s.c);
	free(s.at);
	free(s.text);
	return ret;
}

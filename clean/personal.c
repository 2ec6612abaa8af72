/*
 * A number is read once with its groups ("138 1234 5678"); each kind then says whether the
 * first groups are one of its own, ending where no other digit is glued on.
 */
#include "clean/personal.h"

#include "clean/personal_priv.h"

const char *const wl_personal_names[WL_PERSONAL_KINDS + 1] = {"mobile", "landline", "id_card",
	"bank_card", "email", "qq", "wechat", "address", "plate", NULL};

enum { GROUPS_MAX = 8, DIGITS_MAX = 32, FILL_MAX = 6 };

struct number {
	int d[DIGITS_MAX];	  /* all digits */
	int len[GROUPS_MAX];	  /* digits of a group */
	size_t end[GROUPS_MAX];	  /* behind it in the text */
	uint32_t sep[GROUPS_MAX]; /* before it; 0 for the first */
	int groups;
};

/* ---- reading ---- */

size_t wl_word_before(
	const struct wl_cps *t, size_t i, const char *const *words, const char *fill, bool *marked)
{
	size_t len = strlen(fill);

	*marked = false;
	for (int k = 0; k <= FILL_MAX; k++) {
		size_t at = 0;
		uint32_t c;
		size_t longest = 0;
		bool filler = false;
		for (const char *const *w = words; *w; w++) {
			size_t n = 0, b = 0, bytes = strlen(*w);
			for (; b < bytes; n++)
				wl_utf8_next(*w, bytes, &b, NULL);
			if (n <= i && n > longest && wl_word_at(t, i - n, *w))
				longest = n;
		}
		if (longest)
			return i - longest;
		if (i == 0)
			break;
		i--;
		c = wl_half(t->c[i]);
		c |= wl_ascii_alpha(c) ? 32 : 0;
		while (at < len && !filler)
			filler = wl_utf8_next(fill, len, &at, NULL) == c;
		if (!filler)
			break;
		*marked |= c == ':' || c == 0x53f7 /* 号 */;
	}
	return SIZE_MAX;
}

static size_t digits_at(const struct wl_cps *t, size_t i)
{
	size_t n = 0;

	while (i + n < t->n && wl_digit(t->c[i + n]) >= 0)
		n++;
	return n;
}

/* Groups of digits with one space or hyphen between them. */
static void read_number(const struct wl_cps *t, size_t i, struct number *x)
{
	int n = 0;

	x->groups = 0;
	for (uint32_t sep = 0; x->groups < GROUPS_MAX;) {
		size_t run = digits_at(t, i);
		if (!run || n + run > DIGITS_MAX)
			break;
		for (size_t k = 0; k < run; k++)
			x->d[n++] = wl_digit(t->c[i + k]);
		i += run;
		x->sep[x->groups] = sep;
		x->len[x->groups] = (int)run;
		x->end[x->groups++] = i;
		sep = i < t->n ? wl_half(t->c[i]) : 0;
		if (sep != ' ' && sep != '-')
			break;
		i++;
	}
}

/* Letters right before a number that may be there: what it is. */
static bool labelled(const struct wl_cps *t, size_t i)
{
	static const char *const labels[] = {"tel", "phone", "mobile", "mob", "vx", "wx", "qq", "v",
		"q", "weixin", "wechat", "call", "no", "id", "card", NULL};
	bool marked;
	size_t at = wl_word_before(t, i, labels, "", &marked);

	return at != SIZE_MAX && (at == 0 || !wl_ascii_alpha(wl_half(t->c[at - 1])));
}

/* Nothing before i makes the number there the end of something longer. */
static bool starts_fresh(const struct wl_cps *t, size_t i)
{
	uint32_t c = i ? wl_half(t->c[i - 1]) : ' ';

	if (wl_digit(c) >= 0 || c == '_')
		return false;
	if ((c == '.' || c == '-' || c == '/') && i > 1 && wl_digit(t->c[i - 2]) >= 0)
		return false;
	return !wl_ascii_alpha(c) || labelled(t, i);
}

/* Nothing at i makes the number before it the beginning of something longer. */
static bool ends_clean(const struct wl_cps *t, size_t i)
{
	uint32_t c = i < t->n ? wl_half(t->c[i]) : ' ';

	if (wl_digit(c) >= 0 || wl_ascii_alpha(c) || c == '_' || c == '%' || c == '@')
		return false;
	return (c != '.' && c != '-') || i + 1 >= t->n || wl_digit(t->c[i + 1]) < 0;
}

/* ---- what the digits are ---- */

static bool groups_are(const struct number *x, int from, int n, const int *want, int len)
{
	for (int i = 0; i < len; i++)
		if (from + i >= n || x->len[from + i] != want[i])
			return false;
	return from + len == n;
}

/* Assigned series: 13x, 145-149, 15x but 154, 162 165-167, 17x but 179, 18x, 19x but 194. */
static bool is_mobile(const int *d)
{
	switch (d[0] == 1 ? d[1] : 0) {
	case 3:
	case 8:
		return true;
	case 4:
		return d[2] >= 5;
	case 5:
		return d[2] != 4;
	case 6:
		return d[2] == 2 || (d[2] >= 5 && d[2] <= 7);
	case 7:
		return d[2] != 9;
	case 9:
		return d[2] != 4;
	default:
		return false;
	}
}

/* How many of the leading digits and groups are China's code. */
static int country(const struct number *x, int *groups)
{
	*groups = 0;
	if (x->d[0] == 8 && x->d[1] == 6 && x->len[0] >= 2) {
		*groups = x->len[0] == 2;
		return 2;
	}
	if (x->len[0] >= 4 && !x->d[0] && !x->d[1] && x->d[2] == 8 && x->d[3] == 6) {
		*groups = x->len[0] == 4;
		return 4;
	}
	return 0;
}

static bool mobile(const struct number *x, int n, int digits)
{
	static const int split[][3] = {{3, 4, 4}, {4, 4, 3}, {3, 3, 5}};
	static const int halves[][2] = {{3, 8}, {7, 4}, {4, 7}};
	int skip, g, c = country(x, &g);

	for (skip = 0;; skip = c, c = 0) {
		int from = skip ? g : 0, first = skip && !g ? x->len[0] - skip : x->len[from];
		bool ok = digits - skip == 11 && is_mobile(x->d + skip) && n > from;
		bool form = n - from == 1 && first == 11;
		for (int i = 0; i < 3 && !form; i++)
			form = groups_are(x, from, n, split[i], 3) ||
			       groups_are(x, from, n, halves[i], 2);
		if (ok && form)
			return true;
		if (!c)
			return false;
	}
}

/* Digits of an area code at d: 010 and 02x have three, others four; 0 when it is none. */
static int area_code(const int *d)
{
	if (d[0] != 0 || d[1] == 0)
		return 0;
	if (d[1] == 1)
		return d[2] == 0 ? 3 : 0;
	return d[1] == 2 ? 3 : 4;
}

/* area: whether brackets or a separator follow the area code. */
static bool landline(const struct number *x, int n, int digits)
{
	int a = area_code(x->d), rest;

	if (!a)
		return false;
	rest = digits - a;
	if (rest != 8 && !(rest == 7 && a == 4))
		return false;
	if (x->d[a] < 2 || x->d[a] > 8)
		return false;
	if (n == 1)
		return true;
	if (x->len[0] != a)
		return false;
	return n == 2 || (n == 3 && x->len[2] == 4);
}

static bool is_date(int year, int month, int day)
{
	static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return year >= 1900 && year <= 2099 && month >= 1 && month <= 12 && day >= 1 &&
	       day <= days[month - 1];
}

static bool is_province(const int *d)
{
	static const int codes[] = {11, 12, 13, 14, 15, 21, 22, 23, 31, 32, 33, 34, 35, 36, 37, 41,
		42, 43, 44, 45, 46, 50, 51, 52, 53, 54, 61, 62, 63, 64, 65, 71, 81, 82, 83};

	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
		if (codes[i] == d[0] * 10 + d[1])
			return true;
	return false;
}

/* GB 11643: 17 digits and a check character, ISO 7064 MOD 11-2. */
static bool id_card(const struct number *x, int n, int digits, int last)
{
	static const int split[] = {6, 8, 4}, split_x[] = {6, 8, 3};
	int sum = 0, need = last == 10 ? 17 : 18;

	if (digits != need || !is_province(x->d) ||
		!(n == 1 || groups_are(x, 0, n, last == 10 ? split_x : split, 3)))
		return false;
	for (int i = 0; i < 18; i++)
		sum = (sum * 2 + (i == 17 ? (last == 10 ? 10 : x->d[17]) : x->d[i])) % 11;
	return sum == 1 && is_date(x->d[6] * 1000 + x->d[7] * 100 + x->d[8] * 10 + x->d[9],
				   x->d[10] * 10 + x->d[11], x->d[12] * 10 + x->d[13]);
}

static bool luhn(const int *d, int n)
{
	int sum = 0;

	for (int i = 0; i < n; i++) {
		int x = d[n - 1 - i] * (1 + i % 2);
		sum += x > 9 ? x - 9 : x;
	}
	return sum % 10 == 0;
}

/* Whether a scheme issues cards of this beginning and length (ISO/IEC 7812). */
static bool is_scheme(const int *d, int n)
{
	int two = d[0] * 10 + d[1], four = two * 100 + d[2] * 10 + d[3];

	return (two == 62 && n >= 16) || (d[0] == 4 && (n == 13 || n == 16)) ||
	       (((two >= 51 && two <= 55) || (four >= 2221 && four <= 2720)) && n == 16) ||
	       (four >= 3528 && four <= 3589 && n == 16) || ((two == 34 || two == 37) && n == 15) ||
	       (four == 9558 && n == 19) || (two == 60 && n >= 16) || (two == 36 && n == 14);
}

static bool bank_card(const struct wl_cps *t, size_t i, const struct number *x, int n, int digits)
{
	static const char *const words[] = {"卡号", "卡", "账号", "帐号", "账户", "帐户", "card",
		"银行", "visa", "mastercard", NULL};
	bool fours = n >= 4, marked;

	if (digits < 13 || digits > 19 || !is_scheme(x->d, digits) || !luhn(x->d, digits))
		return false;
	for (int k = 0; k + 1 < n; k++)
		fours = fours && x->len[k] == 4;
	if (n > 1 && !fours && !(n == 2 && x->len[0] == 6))
		return false;
	return (x->d[0] == 6 && x->d[1] == 2) || fours ||
	       wl_word_before(t, i, words, " :为是号码(（=", &marked) != SIZE_MAX;
}

/* ---- a number in its place ---- */

static bool called(const struct wl_cps *t, size_t i, const char *const *words)
{
	bool marked;

	return wl_word_before(t, i, words, " :为是号码(=#", &marked) != SIZE_MAX;
}

/* 7 or 8 digits that are a number because the text says so. */
static bool called_landline(const struct wl_cps *t, size_t i, const struct number *x)
{
	static const char *const words[] = {"电话", "座机", "热线", "固话", "传真", "tel", "phone",
		"电話", "電話", "致电", "fax", NULL};

	return (x->len[0] == 7 || x->len[0] == 8) && x->d[0] >= 2 && x->d[0] <= 8 &&
	       called(t, i, words);
}

static bool called_qq(const struct wl_cps *t, size_t i, const struct number *x)
{
	static const char *const words[] = {"qq", "q q", "qq号", "扣扣", "企鹅", "q号", "qq群",
		"q群", "扣群", "群号", "球球", "口口", "q", NULL};
	bool marked;
	size_t at;

	if (x->len[0] < 5 || x->len[0] > 11 || x->d[0] == 0)
		return false;
	at = wl_word_before(t, i, words, " :为是号码群加(=#-.联系", &marked);
	if (at == SIZE_MAX || (at > 0 && wl_ascii_alpha(wl_half(t->c[at - 1]))))
		return false;
	/* A lone Q is much else. */
	return marked || i - at > 1;
}

static bool called_wechat(const struct wl_cps *t, size_t i, const struct number *x)
{
	bool marked;

	return x->len[0] >= 6 && x->len[0] <= 11 && wl_wechat_before(t, i, &marked) && marked;
}

/* 15 digits of before 1999: date without its century, no check. */
static bool called_old_id(const struct wl_cps *t, size_t i, const struct number *x)
{
	static const char *const words[] = {"身份证", "身份證", "证件", "id", NULL};

	return x->len[0] == 15 && is_province(x->d) &&
	       is_date(1900 + x->d[6] * 10 + x->d[7], x->d[8] * 10 + x->d[9],
		       x->d[10] * 10 + x->d[11]) &&
	       called(t, i, words);
}

/* An extension ("-801", "转801") behind a landline. */
static size_t extension_at(const struct wl_cps *t, size_t i)
{
	size_t n = i + 1 < t->n && (wl_half(t->c[i]) == '-' || t->c[i] == 0x8f6c /* 转 */)
			   ? digits_at(t, i + 1)
			   : 0;

	return n >= 1 && n <= 5 ? 1 + n : 0;
}

/* Whether an e-mail address goes on from here: it is masked as a whole at its '@'. */
static bool in_email(const struct wl_cps *t, size_t i)
{
	for (size_t k = i; k < t->n && k - i < 64; k++) {
		uint32_t c = wl_half(t->c[k]);
		struct wl_span s;
		if (c == '@')
			return wl_email_at(t, k, i, &s);
		if (c >= 0x80 || !(wl_letter_or_digit(c) || strchr("._%+-", (int)c)))
			return false;
	}
	return false;
}

/* By the first groups of the number; the longest that is one wins. */
static int number_kind(
	const struct wl_cps *t, size_t i, const struct number *x, unsigned look, struct wl_span *s)
{
	for (int n = x->groups; n > 0; n--) {
		size_t end = x->end[n - 1], ext;
		int digits = 0, kind = -1;
		bool last_x = end < t->n && (wl_half(t->c[end]) | 32) == 'x';
		for (int k = 0; k < n; k++)
			digits += x->len[k];
		if ((look & WL_PERSONAL_BIT(WL_ID_CARD)) && last_x && id_card(x, n, digits, 10) &&
			ends_clean(t, end + 1)) {
			s->to = end + 1;
			return WL_ID_CARD;
		}
		ext = landline(x, n, digits) ? extension_at(t, end) : 0;
		if (!ends_clean(t, end + ext))
			continue;
		if (id_card(x, n, digits, 0) || (n == 1 && called_old_id(t, i, x)))
			kind = WL_ID_CARD;
		else if (mobile(x, n, digits))
			kind = WL_MOBILE;
		else if (landline(x, n, digits) || (n == 1 && called_landline(t, i, x)))
			kind = WL_LANDLINE;
		else if (bank_card(t, i, x, n, digits))
			kind = WL_BANK_CARD;
		else if (n == 1 && called_qq(t, i, x))
			kind = WL_QQ;
		else if (n == 1 && called_wechat(t, i, x))
			kind = WL_WECHAT;
		if (kind >= 0 && (look & WL_PERSONAL_BIT(kind))) {
			s->to = end + (kind == WL_LANDLINE ? ext : 0);
			return kind;
		}
	}
	return -1;
}

/* "(010) 12345678": the number begins behind the bracket, the span at it. */
static bool bracketed_at(const struct wl_cps *t, size_t i, struct wl_span *s)
{
	size_t area = digits_at(t, i + 1), k = i + 1 + area, n, m;
	struct number x = {.groups = 1};

	if (area < 3 || area > 4 || k >= t->n || wl_half(t->c[k]) != ')')
		return false;
	k++;
	k += k < t->n && (t->c[k] == ' ' || t->c[k] == '-');
	n = digits_at(t, k);
	if (n != 7 && n != 8)
		return false;
	for (size_t j = 0; j < area; j++)
		x.d[j] = wl_digit(t->c[i + 1 + j]);
	for (size_t j = 0; j < n; j++)
		x.d[area + j] = wl_digit(t->c[k + j]);
	m = k + n + extension_at(t, k + n);
	if (area_code(x.d) != (int)area || !landline(&x, 1, (int)(area + n)) || !ends_clean(t, m))
		return false;
	*s = (struct wl_span){i, m};
	return true;
}

/* Eleven Chinese numerals that are a mobile number: 一三八一二三四五六七八. */
static bool spelled_mobile_at(const struct wl_cps *t, size_t i, struct wl_span *s)
{
	static const char digits[] = "〇零一二三四五六七八九幺";
	static const int value[] = {0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1};
	int d[12];
	size_t n = 0;

	for (; i + n < t->n && n < 12; n++) {
		size_t at = 0;
		int k = 0, found = -1;
		for (; at < sizeof(digits) - 1 && found < 0; k++)
			if (wl_utf8_next(digits, sizeof(digits) - 1, &at, NULL) == t->c[i + n])
				found = value[k];
		if (found < 0)
			break;
		d[n] = found;
	}
	*s = (struct wl_span){i, i + n};
	return n == 11 && is_mobile(d);
}

/* ---- the pass ---- */

static int number_at(const struct wl_cps *t, size_t i, unsigned look, struct wl_span *s)
{
	struct number x;

	s->from = i;
	if (!starts_fresh(t, i) || in_email(t, i))
		return -1;
	read_number(t, i, &x);
	return x.groups ? number_kind(t, i, &x, look, s) : -1;
}

/* The kind that stands at i, in *s, or -1. */
static int kind_at(const struct wl_cps *t, size_t i, size_t floor, unsigned look, struct wl_span *s)
{
	uint32_t c = wl_half(t->c[i]);
	bool digit = wl_digit(c) >= 0;
	int kind =
		digit && (i == floor || wl_digit(t->c[i - 1]) < 0) ? number_at(t, i, look, s) : -1;

	if (kind >= 0)
		return kind;
	if (c == '@' && (look & WL_PERSONAL_BIT(WL_EMAIL)) && wl_email_at(t, i, floor, s))
		return WL_EMAIL;
	if (c == '(' && (look & WL_PERSONAL_BIT(WL_LANDLINE)) && bracketed_at(t, i, s))
		return WL_LANDLINE;
	if (c >= 0x3007 && (look & WL_PERSONAL_BIT(WL_MOBILE)) && (c == 0x4e00 || c == 0x5e7a) &&
		spelled_mobile_at(t, i, s))
		return WL_MOBILE;
	if ((look & WL_PERSONAL_BIT(WL_ADDRESS)) && wl_address_at(t, i, floor, s))
		return WL_ADDRESS;
	if (wl_ascii_alpha(c) && (look & WL_PERSONAL_BIT(WL_WECHAT)) && wl_wechat_at(t, i, s))
		return WL_WECHAT;
	if (c > 0x4e00 && (look & WL_PERSONAL_BIT(WL_PLATE)) && wl_plate_at(t, i, s))
		return WL_PLATE;
	return -1;
}

void wl_personal_mask(struct wl_cps *t, unsigned look, unsigned mask, int counts[WL_PERSONAL_KINDS])
{
	size_t read = 0, write = 0, floor = 0;

	while (read < t->n) {
		struct wl_span s = {read, read};
		int kind = kind_at(t, read, floor, look, &s);
		if (kind < 0) {
			t->c[write++] = t->c[read++];
			continue;
		}
		counts[kind]++;
		if (mask & WL_PERSONAL_BIT(kind)) {
			write -= read - s.from;
			for (size_t k = 0; k < 3 && k < s.to - s.from; k++)
				t->c[write++] = '*';
		} else {
			while (read < s.to)
				t->c[write++] = t->c[read++];
		}
		read = floor = s.to;
	}
	t->n = write;
}

/*
 * Cutting and masking.  Everything cut leaves one space (squeezed later), so that words on both
 * sides do not grow together.
 */
#include "clean/text_cut.h"

#include "clean/utf8.h"

#include <string.h>
#include <unicode/uchar.h>

/* ---- helpers ---- */

static bool ascii_alpha(uint32_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A decimal digit, ASCII or full-width, as 0..9; -1 otherwise. */
static int digit_of(uint32_t c)
{
	if (c >= '0' && c <= '9')
		return (int)c - '0';
	return c >= 0xff10 && c <= 0xff19 ? (int)c - 0xff10 : -1;
}

static bool letter_or_digit(uint32_t c)
{
	if (c < 0x80)
		return ascii_alpha(c) || (c >= '0' && c <= '9');
	return wl_is_cjk(c) || u_isalnum((UChar32)c);
}

/* Whether the ASCII word (lower case) stands at i, in any case. */
static bool at_word(const struct wl_cps *t, size_t i, const char *word)
{
	for (; *word; word++, i++)
		if (i >= t->n || (t->c[i] | (ascii_alpha(t->c[i]) ? 32 : 0)) != (uint32_t)*word)
			return false;
	return true;
}

/* As above for a word of any script, exactly; returns its length in characters, or 0. */
static size_t at_text(const struct wl_cps *t, size_t i, const char *word)
{
	size_t k = 0, len = strlen(word), n = 0;

	while (k < len) {
		if (i + n >= t->n || t->c[i + n] != wl_utf8_next(word, len, &k, NULL))
			return 0;
		n++;
	}
	return n;
}

/* A pass reads ahead of where it writes, in the same array. */
struct cutter {
	struct wl_cps *t;
	size_t read, write;
};

static void keep(struct cutter *k)
{
	k->t->c[k->write++] = k->t->c[k->read++];
}

static void cut(struct cutter *k, size_t n)
{
	k->read += n;
	k->t->c[k->write++] = ' ';
}

static void done(struct cutter *k)
{
	k->t->n = k->write;
}

/* ---- tags ---- */

enum { TAG_MAX = 2000 };

/* Length of an HTML tag or comment at i, 0 when '<' is only a sign ("<3", "a<b"). */
static size_t tag_at(const struct wl_cps *t, size_t i)
{
	static const char *const names[] = {"a", "b", "big", "blockquote", "br", "center", "code",
		"div", "em", "embed", "figure", "font", "h1", "h2", "h3", "h4", "h5", "h6", "hr",
		"i", "iframe", "img", "input", "label", "li", "ol", "object", "p", "param", "pre",
		"s", "script", "section", "small", "source", "span", "strong", "style", "sub",
		"sup", "table", "tbody", "td", "th", "tr", "u", "ul", "video", "wbr", NULL};
	size_t k = i + 1, name;
	bool known = false;

	if (at_word(t, i, "<!--") || at_word(t, i, "<!doctype")) {
		known = true;
		name = 0;
	} else {
		if (k < t->n && t->c[k] == '/')
			k++;
		for (name = k; k < t->n && (ascii_alpha(t->c[k]) || digit_of(t->c[k]) >= 0); k++)
			;
		for (const char *const *w = names; *w && !known; w++)
			known = strlen(*w) == k - name && at_word(t, name, *w);
	}
	if (!known || k >= t->n)
		return 0;
	if (name && t->c[k] != '>' && t->c[k] != '/' && t->c[k] != ' ')
		return 0;
	for (; k < t->n && k - i < TAG_MAX; k++) {
		if (t->c[k] == '>')
			return k + 1 - i;
		if (t->c[k] == '<')
			return 0;
	}
	return 0;
}

void wl_cut_tags(struct wl_cps *t)
{
	struct cutter k = {.t = t};

	while (k.read < t->n) {
		size_t n = t->c[k.read] == '<' ? tag_at(t, k.read) : 0;
		if (n)
			cut(&k, n);
		else
			keep(&k);
	}
	done(&k);
}

/* ---- URLs ---- */

static size_t url_at(const struct wl_cps *t, size_t i)
{
	size_t k = i, start;

	if (at_word(t, i, "https://"))
		k += 8;
	else if (at_word(t, i, "http://"))
		k += 7;
	else if (at_word(t, i, "www.") && (i == 0 || !ascii_alpha(t->c[i - 1])))
		k += 4;
	else
		return 0;
	for (start = k; k < t->n && t->c[k] > ' ' && t->c[k] < 0x7f &&
			!strchr("<>\"[]{}|\\^`", (int)t->c[k]);
		k++)
		;
	return k > start || t->c[i] != 'w' ? k - i : 0;
}

void wl_cut_urls(struct wl_cps *t)
{
	struct cutter k = {.t = t};

	while (k.read < t->n) {
		uint32_t c = t->c[k.read] | 32;
		size_t n = c == 'h' || c == 'w' ? url_at(t, k.read) : 0;
		if (n)
			cut(&k, n);
		else
			keep(&k);
	}
	done(&k);
}

/* ---- personal numbers ---- */

/* GB 11643: 17 digits and a check character, ISO 7064 MOD 11-2; a plausible birth date. */
static bool is_id_card(const uint32_t *c)
{
	int d[18], sum = 0, century, month, day;

	for (int i = 0; i < 18; i++) {
		d[i] = digit_of(c[i]);
		if (i == 17 && (c[i] == 'X' || c[i] == 'x' || c[i] == 0xff38 || c[i] == 0xff58))
			d[i] = 10;
		if (d[i] < 0)
			return false;
		sum = (sum * 2 + d[i]) % 11;
	}
	century = d[6] * 10 + d[7];
	month = d[10] * 10 + d[11];
	day = d[12] * 10 + d[13];
	return sum == 1 && d[0] >= 1 && (century == 19 || century == 20) && month >= 1 &&
	       month <= 12 && day >= 1 && day <= 31;
}

static size_t digits_at(const struct wl_cps *t, size_t i)
{
	size_t n = 0;

	while (i + n < t->n && digit_of(t->c[i + n]) >= 0)
		n++;
	return n;
}

static bool mobile_start(const struct wl_cps *t, size_t i)
{
	return digit_of(t->c[i]) == 1 && digit_of(t->c[i + 1]) >= 3;
}

/* Length of a Chinese mobile number at i, where a run of `run` digits begins: 11 digits, or
 * with 86 before, or in groups of 3, 4, 4. */
static size_t mobile_at(const struct wl_cps *t, size_t i, size_t run)
{
	if (run == 11 && mobile_start(t, i))
		return 11;
	if (run == 13 && digit_of(t->c[i]) == 8 && digit_of(t->c[i + 1]) == 6 &&
		mobile_start(t, i + 2))
		return 13;
	if (run == 3 && mobile_start(t, i) && i + 13 <= t->n) {
		uint32_t sep = t->c[i + 3];
		if ((sep == '-' || sep == ' ') && digits_at(t, i + 4) == 4 && t->c[i + 8] == sep &&
			digits_at(t, i + 9) == 4)
			return 13;
	}
	return 0;
}

static bool mail_local(uint32_t c)
{
	return c && c < 0x80 && (letter_or_digit(c) || strchr("._%+-", (int)c));
}

/* The '@' at i of an e-mail address: how many characters before (from `first` on) and behind it
 * belong to it.  The domain has two labels or more, the last one of letters. */
static bool mail_at(const struct wl_cps *t, size_t i, size_t first, size_t *before, size_t *behind)
{
	size_t k = i + 1, label = i + 1;
	bool alpha = true;

	*before = *behind = 0;
	while (i - *before > first && *before < 64 && mail_local(t->c[i - *before - 1]))
		++*before;
	for (; k < t->n && k - i < 255; k++) {
		uint32_t c = t->c[k];
		bool end_of_label = c == '.' && k > label;
		if (end_of_label && label > i + 1 && alpha && k - label >= 2)
			*behind = k - i - 1;
		if (end_of_label) {
			label = k + 1;
			alpha = true;
		} else if (c < 0x80 && (letter_or_digit(c) || c == '-')) {
			alpha = alpha && ascii_alpha(c);
		} else {
			break;
		}
	}
	if (label > i + 1 && alpha && k - label >= 2)
		*behind = k - i - 1;
	return *before > 0 && *behind > 0;
}

/* "***", or fewer where less was there. */
static void mask(struct cutter *k, size_t n, bool keep_it)
{
	if (keep_it) {
		while (n--)
			keep(k);
		return;
	}
	for (size_t i = 0; i < 3 && i < n; i++)
		k->t->c[k->write++] = '*';
	k->read += n;
}

void wl_mask_pii(struct wl_cps *t, bool keep_it, struct wl_text_facts *facts)
{
	struct cutter k = {.t = t};
	size_t fresh = 0; /* behind the last masked one: an address does not reach back past it */

	while (k.read < t->n) {
		size_t i = k.read, run = digits_at(t, i), n, before, behind;

		if (t->c[i] == '@' && mail_at(t, i, fresh, &before, &behind)) {
			facts->emails++;
			if (!keep_it) {
				k.read -= before;
				k.write -= before;
			} else {
				before = 0;
			}
			mask(&k, before + 1 + behind, keep_it);
			fresh = k.read;
		} else if ((run == 18 || run == 17) && i + 18 <= t->n && is_id_card(t->c + i)) {
			facts->id_cards++;
			mask(&k, 18, keep_it);
			fresh = k.read;
		} else if (run && (n = mobile_at(t, i, run))) {
			facts->mobiles++;
			mask(&k, n, keep_it);
			fresh = k.read;
		} else if (run) {
			while (run--)
				keep(&k);
		} else {
			keep(&k);
		}
	}
	done(&k);
}

/* ---- Weibo ---- */

enum { NAME_MAX_CHARS = 30, EMOJI_MAX_CHARS = 8, TOPIC_MAX_CHARS = 60 };

static size_t user_name_at(const struct wl_cps *t, size_t i)
{
	size_t n = 0;

	while (i + n < t->n && n < NAME_MAX_CHARS &&
		(letter_or_digit(t->c[i + n]) || t->c[i + n] == '_' || t->c[i + n] == '-' ||
			t->c[i + n] == 0xb7))
		n++;
	return n;
}

static bool is_colon(const struct wl_cps *t, size_t i)
{
	return i < t->n && (t->c[i] == ':' || t->c[i] == 0xff1a);
}

/* "@name", with a colon that follows; not the middle of an address. */
static size_t mention_at(const struct wl_cps *t, size_t i)
{
	size_t n = user_name_at(t, i + 1), before, behind;

	if (!n || (i > 0 && mail_at(t, i, i - 1, &before, &behind)))
		return 0;
	return 1 + n + is_colon(t, i + 1 + n);
}

/* "[泪]", "[good]": an emoji's code. */
static size_t emoji_at(const struct wl_cps *t, size_t i)
{
	size_t k = i + 1;

	while (k < t->n && k - i <= EMOJI_MAX_CHARS && letter_or_digit(t->c[k]))
		k++;
	return k > i + 1 && k < t->n && t->c[k] == ']' ? k + 1 - i : 0;
}

/* What stands at i and is no word of the writer's: its length, or 0. */
static size_t weibo_machinery_at(const struct wl_cps *t, size_t i)
{
	static const char *const phrases[] = {"转发微博", "轉發微博", "Repost", "网页链接",
		"網頁鏈接", "分享图片", "分享圖片", "秒拍视频", "秒拍視頻", NULL};
	size_t n;

	switch (t->c[i]) {
	case '@':
		return mention_at(t, i);
	case '[':
		return emoji_at(t, i);
	case 0x56de: /* 回复@name: */
		return at_text(t, i, "回复@") && (n = mention_at(t, i + 2)) ? 2 + n : 0;
	default:
		for (const char *const *p = phrases; *p; p++)
			if ((n = at_text(t, i, *p)))
				return n;
		return 0;
	}
}

/* Whether [from, to) has a word of the writer's own. */
static bool has_words(const struct wl_cps *t, size_t from, size_t to)
{
	struct wl_cps part = {t->c, to, 0};

	while (from < to) {
		size_t n = weibo_machinery_at(&part, from);
		if (n)
			from += n;
		else if (letter_or_digit(t->c[from++]))
			return true;
	}
	return false;
}

/* A chain "mine//@a:his//@b:hers" keeps the first part that says something. */
static void cut_reposts(struct wl_cps *t)
{
	size_t from = 0, i = 0;

	for (; i + 2 < t->n; i++) {
		if (t->c[i] != '/' || t->c[i + 1] != '/' || t->c[i + 2] != '@')
			continue;
		if (has_words(t, from, i)) {
			t->n = i;
			break;
		}
		from = i + 2;
	}
	memmove(t->c, t->c + from, (t->n - from) * sizeof(*t->c));
	t->n -= from;
}

void wl_cut_weibo(struct wl_cps *t)
{
	struct cutter k = {.t = t};
	size_t open = SIZE_MAX; /* where an unpaired '#' was kept */

	cut_reposts(t);
	while (k.read < t->n) {
		size_t n = weibo_machinery_at(t, k.read);
		if (n) {
			cut(&k, n);
			continue;
		}
		if (t->c[k.read] == '#') {
			if (open != SIZE_MAX && k.write - open - 1 <= TOPIC_MAX_CHARS &&
				k.write > open + 1) {
				t->c[open] = ' ';
				cut(&k, 1);
				open = SIZE_MAX;
				continue;
			}
			open = k.write;
		}
		keep(&k);
	}
	done(&k);
}

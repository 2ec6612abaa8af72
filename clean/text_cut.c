/*
 * Cutting.  Everything cut leaves one space (squeezed later), so that words on both
 * sides do not grow together.
 */
#include "clean/text_cut.h"

#include "clean/personal_priv.h"

#include <string.h>
#include <unicode/uchar.h>

/* ---- helpers ---- */

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

	if (wl_word_at(t, i, "<!--") || wl_word_at(t, i, "<!doctype")) {
		known = true;
		name = 0;
	} else {
		if (k < t->n && t->c[k] == '/')
			k++;
		for (name = k; k < t->n && (wl_ascii_alpha(t->c[k]) || wl_digit(t->c[k]) >= 0); k++)
			;
		for (const char *const *w = names; *w && !known; w++)
			known = strlen(*w) == k - name && wl_word_at(t, name, *w);
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

	if (wl_word_at(t, i, "https://"))
		k += 8;
	else if (wl_word_at(t, i, "http://"))
		k += 7;
	else if (wl_word_at(t, i, "www.") && (i == 0 || !wl_ascii_alpha(t->c[i - 1])))
		k += 4;
	else
		return 0;
	for (start = k; k < t->n && t->c[k] > ' ' && t->c[k] < 0x7f &&
			!strchr("<>\"[]{}|\\^`", (int)t->c[k]);
		k++)
		;
	return k > start || t->c[i] != 'w' ? k - i : 0;
}

/* "t.cn/zjKyD4R": links that Weibo and others shorten, written without their scheme. */
static size_t short_url_at(const struct wl_cps *t, size_t i)
{
	static const char *const hosts[] = {"t.cn/", "url.cn/", "sinaurl.cn/", "dwz.cn/", "suo.im/",
		"bit.ly/", "goo.gl/", "tinyurl.com/", "t.co/", "is.gd/", "ow.ly/", "163.fm/", NULL};
	size_t n = 0, k;

	if (i > 0 && (wl_ascii_alpha(t->c[i - 1]) || wl_digit(t->c[i - 1]) >= 0 ||
			     t->c[i - 1] == '.' || t->c[i - 1] == '-'))
		return 0;
	for (const char *const *h = hosts; *h && !n; h++)
		n = wl_word_at(t, i, *h);
	for (k = i + n; n && k < t->n && (wl_ascii_alpha(t->c[k]) || wl_digit(t->c[k]) >= 0); k++)
		;
	return k > i + n ? k - i : 0;
}

void wl_cut_urls(struct wl_cps *t, bool short_ones, struct wl_text_facts *facts)
{
	struct cutter k = {.t = t};

	while (k.read < t->n) {
		uint32_t c = t->c[k.read] | 32;
		size_t n = c == 'h' || c == 'w' ? url_at(t, k.read) : 0;
		if (!n && short_ones && c < 0x80)
			n = short_url_at(t, k.read);
		facts->cut[WL_CUT_URL] += n > 0;
		if (n)
			cut(&k, n);
		else
			keep(&k);
	}
	done(&k);
}

/* ---- machinery of networks and pages ---- */

enum { NAME_MAX_CHARS = 30, CODE_MAX_CHARS = 8, TOPIC_MAX_CHARS = 60 };

static size_t user_name_at(const struct wl_cps *t, size_t i)
{
	size_t n = 0;

	while (i + n < t->n && n < NAME_MAX_CHARS &&
		(wl_letter_or_digit(t->c[i + n]) || t->c[i + n] == '_' || t->c[i + n] == '-' ||
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
	size_t n = user_name_at(t, i + 1);
	struct wl_span s;

	if (!n || (i > 0 && wl_email_at(t, i, i - 1, &s)))
		return 0;
	return 1 + n + is_colon(t, i + 1 + n);
}

/* "[泪]", "[good]": an emoji's code. */
static size_t code_at(const struct wl_cps *t, size_t i)
{
	size_t k = i + 1;

	while (k < t->n && k - i <= CODE_MAX_CHARS && wl_letter_or_digit(t->c[k]))
		k++;
	return k > i + 1 && k < t->n && t->c[k] == ']' ? k + 1 - i : 0;
}

/* "[1]", "[12-13]", "[注 2]", "（）": what an encyclopedia's page leaves in its text. */
static size_t reference_at(const struct wl_cps *t, size_t i)
{
	size_t k = i + 1, digits = 0;

	if (t->c[i] == 0xff08 || t->c[i] == '(') {
		while (k < t->n && (t->c[k] == ' ' || t->c[k] == 0xff0c || t->c[k] == 0xff1b))
			k++;
		return k < t->n && wl_half(t->c[k]) == ')' ? k + 1 - i : 0;
	}
	if (t->c[i] != '[')
		return 0;
	if (wl_word_at(t, i, "[来源请求]") || wl_word_at(t, i, "[編輯]") ||
		wl_word_at(t, i, "[编辑]"))
		return t->c[i + 3] == ']' ? 4 : 6;
	k += wl_word_at(t, k, "注") + wl_word_at(t, k, "註");
	for (; k < t->n && k - i < 10; k++) {
		if (wl_digit(t->c[k]) >= 0)
			digits++;
		else if (t->c[k] != '-' && t->c[k] != ',' && t->c[k] != ' ')
			break;
	}
	return digits && k < t->n && t->c[k] == ']' ? k + 1 - i : 0;
}

/* Emoji and pictographs; not the signs of old (© ™). */
static bool is_emoji(uint32_t c)
{
	if (c < 0x203c || (c >= 0x2e80 && c < 0x1f000 && c != 0x3030 && c != 0x303d))
		return false;
	return u_hasBinaryProperty((UChar32)c, UCHAR_EMOJI_PRESENTATION) ||
	       u_hasBinaryProperty((UChar32)c, UCHAR_EMOJI_MODIFIER) ||
	       (c >= 0x1f1e6 && c <= 0x1f1ff) || c == 0x20e3 ||
	       (c != 0x2122 && c != 0x2139 &&
		       u_hasBinaryProperty((UChar32)c, UCHAR_EXTENDED_PICTOGRAPHIC));
}

/* What stands at i and is no word of the writer's: its length, or 0; which, in *what. */
static size_t machinery_at(
	const struct wl_cps *t, size_t i, const struct wl_text_style *y, enum wl_text_cut *what)
{
	static const char *const phrases[] = {"转发微博", "轉發微博", "repost", "网页链接",
		"網頁鏈接", "分享图片", "分享圖片", "秒拍视频", "秒拍視頻", NULL};
	uint32_t c = t->c[i];
	size_t n;

	*what = WL_CUT_MENTION;
	if (y->mentions && c == '@' && (n = mention_at(t, i)))
		return n;
	if (y->mentions && c == 0x56de && wl_word_at(t, i, "回复@") && (n = mention_at(t, i + 2)))
		return 2 + n;
	*what = WL_CUT_CODE;
	if (y->codes && c == '[' && (n = code_at(t, i)))
		return n;
	*what = WL_CUT_REFERENCE;
	if (y->references && (n = reference_at(t, i)))
		return n;
	*what = WL_CUT_EMOJI;
	if (y->emoji && is_emoji(c))
		return 1;
	*what = WL_CUT_REPOST;
	if (!y->reposts || (c != 0x8f6c && c != 0x8f49 && (c | 32) != 'r' && c != 0x7f51 &&
				   c != 0x7db2 && c != 0x5206 && c != 0x79d2))
		return 0; /* none of the phrases begins so */
	for (const char *const *p = phrases; *p; p++)
		if ((n = wl_word_at(t, i, *p)))
			return n;
	return 0;
}

/* Whether [from, to) has a word of the writer's own. */
static bool has_words(
	const struct wl_cps *t, size_t from, size_t to, const struct wl_text_style *style)
{
	struct wl_cps part = {t->c, to, 0};
	enum wl_text_cut what;

	while (from < to) {
		size_t n = machinery_at(&part, from, style, &what);
		if (n)
			from += n;
		else if (wl_letter_or_digit(t->c[from++]))
			return true;
	}
	return false;
}

/* A chain "mine//@a:his//@b:hers" keeps the first part that says something. */
static void cut_reposts(
	struct wl_cps *t, const struct wl_text_style *style, struct wl_text_facts *facts)
{
	size_t from = 0, i = 0, n = t->n;

	for (; i + 2 < t->n; i++) {
		if (t->c[i] != '/' || t->c[i + 1] != '/' || t->c[i + 2] != '@')
			continue;
		if (has_words(t, from, i, style)) {
			t->n = i;
			break;
		}
		from = i + 2;
	}
	facts->cut[WL_CUT_REPOST] += from > 0 || t->n < n;
	memmove(t->c, t->c + from, (t->n - from) * sizeof(*t->c));
	t->n -= from;
}

/* #topics#: the signs go, and the words between them too when the style says so. */
static void cut_topics(
	struct wl_cps *t, const struct wl_text_style *style, struct wl_text_facts *facts)
{
	struct cutter k = {.t = t};
	size_t open = SIZE_MAX; /* where an unpaired '#' was kept */

	while (k.read < t->n) {
		if (t->c[k.read] != '#') {
			keep(&k);
			continue;
		}
		if (open != SIZE_MAX && k.write - open - 1 <= TOPIC_MAX_CHARS &&
			k.write > open + 1) {
			t->c[open] = ' ';
			if (style->topics == WL_TOPICS_CUT)
				k.write = open + 1;
			cut(&k, 1);
			facts->cut[WL_CUT_TOPIC]++;
			open = SIZE_MAX;
			continue;
		}
		open = k.write;
		keep(&k);
	}
	done(&k);
}

static void cut_machinery(
	struct wl_cps *t, const struct wl_text_style *style, struct wl_text_facts *facts)
{
	struct cutter k = {.t = t};
	enum wl_text_cut what;

	while (k.read < t->n) {
		size_t n = machinery_at(t, k.read, style, &what);
		facts->cut[what] += n > 0;
		if (n)
			cut(&k, n);
		else
			keep(&k);
	}
	done(&k);
}

void wl_cut_style(struct wl_cps *t, const struct wl_text_style *style, struct wl_text_facts *facts)
{
	if (style->reposts)
		cut_reposts(t, style, facts);
	if (style->mentions || style->codes || style->references || style->emoji || style->reposts)
		cut_machinery(t, style, facts);
	if (style->topics != WL_TOPICS_KEEP)
		cut_topics(t, style, facts);
	if (style->bylines)
		wl_cut_bylines(t, facts);
}

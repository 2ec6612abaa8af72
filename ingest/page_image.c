/*
 * What an <img> says of itself: which URL is the picture, how large it is, and whether it is
 * furniture.
 */
#include "ingest/page_priv.h"

#include "ingest/url.h"
#include "ops/file.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

void wl_image_place_release(struct wl_image_place *p)
{
	free(p->url);
	free(p->other);
	*p = (struct wl_image_place){0};
}

/* ---- which URL ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

/* The largest of a srcset: "URL 2x, URL 640w"; a URL may hold commas, but not end in one
 * (WHATWG 4.8.4.3).  NULL: none; to be freed. */
static char *largest_of(const char *srcset, struct wl_err *err, bool *failed)
{
	const char *best = NULL;
	size_t best_n = 0;
	double best_size = -1;
	for (const char *p = srcset; *p;) {
		while (is_blank(*p) || *p == ',')
			p++;
		const char *url = p;
		while (*p && !is_blank(*p))
			p++;
		size_t n = (size_t)(p - url);
		bool bare = n && url[n - 1] == ',';
		while (n && url[n - 1] == ',')
			n--;
		double size = 1;
		if (!bare) {
			p += strspn(p, " \t\r\n\f");
			char *end;
			double v = strtod(p, &end);
			if (end > p && v > 0 && v < 1e6)
				size = *end == 'w' || *end == 'h' ? v : v * 1000;
			while (*p && *p != ',')
				p++;
		}
		if (n && size > best_size && strncasecmp(url, "data:", 5) != 0) {
			best = url;
			best_n = n;
			best_size = size;
		}
	}
	if (!best)
		return NULL;
	char *s = wl_strf(err, "%.*s", (int)(best_n < WL_URL_MAX ? best_n : WL_URL_MAX), best);
	*failed = !s;
	return s;
}

static bool is_data(const char *s)
{
	s += strspn(s, " \t\r\n\f");
	return strncasecmp(s, "data:", 5) == 0 || strncasecmp(s, "blob:", 5) == 0 ||
	       strncasecmp(s, "about:", 6) == 0;
}

/* s in lower case, cut to a URL's length: looking for many parts is quicker by bytes. */
static const char *lower(const char *s, char out[WL_URL_MAX + 1])
{
	size_t n = 0;
	for (; s[n] && n < WL_URL_MAX; n++)
		out[n] = s[n] >= 'A' && s[n] <= 'Z' ? (char)(s[n] | 0x20) : s[n];
	out[n] = '\0';
	return out;
}

static bool has_part(const struct wl_strings *parts, const char *text)
{
	char buf[WL_URL_MAX + 1];
	const char *s = lower(text, buf);
	for (size_t i = 0; i < parts->n; i++)
		if (strstr(s, parts->v[i]))
			return true;
	return false;
}

/* Lazy-loading attributes also hold flags and JSON: a URL has a slash or a picture's suffix, and
 * nothing that no URL has. */
static bool looks_like_url(const char *s)
{
	size_t n = strlen(s);
	const char *dot = strrchr(s, '.');
	if (n < 5 || n > WL_URL_MAX || strpbrk(s, "<>{}\"\\") || is_data(s))
		return false;
	return strchr(s, '/') || (dot && strlen(dot) >= 4 && strlen(dot) <= 5);
}

/* srcset of the <picture>'s sources, in their order: the first that has a picture. */
static char *of_sources(const wl_node *picture, struct wl_err *err, bool *failed)
{
	for (const wl_node *n = picture->child; n; n = n->next) {
		if (n->tag_id != MyHTML_TAG_SOURCE)
			continue;
		const char *set = wl_dom_attr(n, "srcset");
		set = set ? set : wl_dom_attr(n, "data-srcset");
		char *url = set ? largest_of(set, err, failed) : NULL;
		if (url || *failed)
			return url;
	}
	return NULL;
}

/* The best of what the element names, as written; NULL: nothing usable.  *only_data: there was a
 * data: URL. */
static char *choose(const struct wl_walk *w, const struct wl_img *img, bool *only_data,
	struct wl_err *err, bool *failed)
{
	static const char *const sets[] = {"data-srcset", "data-original-set", "srcset"};
	const struct wl_profile *p = w->profile;
	const char *src = wl_dom_attr(img->node, "src");
	char *url = NULL;
	*only_data = src && is_data(src);
	for (size_t i = 0; i < sizeof sets / sizeof *sets && !url && !*failed; i++) {
		const char *set = wl_dom_attr(img->node, sets[i]);
		url = set ? largest_of(set, err, failed) : NULL;
		if (url && (!looks_like_url(url) || has_part(&p->placeholders, url))) {
			free(url);
			url = NULL;
		}
	}
	for (size_t i = 0; i < p->lazy.n && !url && !*failed; i++) {
		const char *v = wl_dom_attr(img->node, p->lazy.v[i]);
		if (!v || !looks_like_url(v) || has_part(&p->placeholders, v))
			continue;
		url = wl_strf(err, "%s", v);
		*failed = !url;
	}
	if (!url && !*failed && src && *src && !*only_data && !has_part(&p->placeholders, src)) {
		url = wl_strf(err, "%s", src);
		*failed = !url;
	}
	if (!url && !*failed && img->picture)
		url = of_sources(img->picture, err, failed);
	return url;
}

/* Browsers drop tabs and line ends from URLs, and blanks around them. */
static void tidy_url(char *s)
{
	char *w = s;
	for (const char *p = s + strspn(s, " \t\r\n\f"); *p; p++)
		if (*p != '\t' && *p != '\r' && *p != '\n')
			*w++ = *p;
	while (w > s && w[-1] == ' ')
		w--;
	*w = '\0';
}

/* Absolute and normalised, in fresh memory; NULL: it is no http(s) URL here (*failed: or there is
 * no memory). */
static char *resolve(const char *base, char *ref, struct wl_err *err, bool *failed)
{
	struct wl_err why = WL_ERR_INIT;
	struct wl_url u;
	tidy_url(ref);
	/* "https:foo" and "httpss://": real mistakes that no server answers. */
	int ret = *base ? wl_url_resolve(&u, base, ref, &why) : wl_url_parse(&u, ref, &why);
	if (ret < 0) {
		*failed = why.code != WL_EDATA;
		if (*failed)
			wl_err_set(err, why.code, "%s", why.msg);
		return NULL;
	}
	char *text = u.text;
	u.text = NULL;
	wl_url_release(&u);
	return text;
}

/* ---- how large ---- */

/* "600", "600px"; percentages and the like say nothing: 0. */
static int pixels(const char *s)
{
	if (!s)
		return 0;
	char *end;
	double v = strtod(s, &end);
	end += strspn(end, " ");
	if (end == s || !(v >= 0 && v < 100000) || (*end && strncasecmp(end, "px", 2) != 0))
		return 0;
	return v < 1 ? 1 : (int)v;
}

/* The value of width or height in a style attribute; max-width and line-height are others. */
static int style_pixels(const char *style, const char *name)
{
	for (const char *p = style; p && (p = strcasestr(p, name)) != NULL; p++) {
		if (p > style && !strchr("; \t\r\n", p[-1]))
			continue;
		const char *v = p + strlen(name);
		v += strspn(v, " \t");
		if (*v != ':')
			continue;
		v++;
		v += strspn(v, " \t");
		size_t n = strcspn(v, "; !");
		char value[24];
		if (n >= sizeof value)
			return 0;
		memcpy(value, v, n);
		value[n] = '\0';
		return pixels(value);
	}
	return 0;
}

static int side(const wl_node *n, const char *name, const char *const *more)
{
	int v = pixels(wl_dom_attr(n, name));
	for (; !v && *more; more++)
		v = pixels(wl_dom_attr(n, *more));
	return v ? v : style_pixels(wl_dom_attr(n, "style"), name);
}

/* ---- furniture ---- */

/* The lowest bit's reason; the order of enum wl_page_skip is the order of precedence. */
static enum wl_page_skip first_reason(unsigned mask)
{
	for (int i = 0; i < WL_SKIP_COUNT; i++)
		if (mask & 1u << i)
			return (enum wl_page_skip)i;
	return WL_SKIP_COUNT;
}

static unsigned parts_in(const struct wl_words *parts, const char *text)
{
	char buf[WL_URL_MAX + 1];
	const char *s = lower(text, buf);
	unsigned mask = 0;
	for (size_t i = 0; i < parts->cap; i++)
		if (parts->v[i].text && strstr(s, parts->v[i].text))
			mask |= parts->v[i].mask;
	return mask;
}

/* Meanings of the URL's words (host and path; a query is for the server) and parts. */
static unsigned url_reasons(const struct wl_profile *p, const char *url)
{
	char path[WL_URL_MAX + 1];
	snprintf(path, sizeof path, "%.*s", (int)strcspn(url, "?#"), url);
	return wl_words_of(&p->words[WL_IN_URL], path) | parts_in(&p->words[WL_IN_URL_PART], url);
}

static enum wl_page_skip furniture(
	const struct wl_walk *w, const struct wl_img *img, const struct wl_image_place *place)
{
	const struct wl_profile *p = w->profile;
	const char *alt = wl_dom_attr(img->node, "alt");
	int wide = place->width, high = place->height;
	unsigned mask = url_reasons(p, place->url) | wl_walk_reasons(w, img->mark) |
			(img->near & ~(1u << WL_SKIP_CHROME | 1u << WL_SKIP_ADVERT));
	if (alt)
		mask |= parts_in(&p->words[WL_IN_ALT], alt);
	if ((wide && wide <= 2) || (high && high <= 2))
		mask |= 1u << WL_SKIP_TRACKER;
	if (img->hidden)
		mask |= 1u << WL_SKIP_CHROME;
	if ((wide && wide < p->min_side) || (high && high < p->min_side))
		mask |= 1u << WL_SKIP_TINY;
	if (wide && high) {
		double longer = wide > high ? wide : high, shorter = wide > high ? high : wide;
		if (longer > p->max_ratio * shorter)
			mask |= 1u << WL_SKIP_RATIO;
	}
	return first_reason(mask & ((1u << WL_SKIP_COUNT) - 1));
}

int wl_image_place(const struct wl_walk *w, const struct wl_img *img, const char *base,
	struct wl_image_place *p, enum wl_page_skip *skip, struct wl_err *err)
{
	static const char *const widths[] = {"data-width", "data-w", "data-rawwidth", NULL};
	static const char *const heights[] = {"data-height", "data-h", "data-rawheight", NULL};
	bool failed = false, only_data;
	*p = (struct wl_image_place){0};
	p->width = side(img->node, "width", widths);
	p->height = side(img->node, "height", heights);
	char *ref = choose(w, img, &only_data, err, &failed);
	if (failed)
		return -1;
	if (!ref) {
		/* A placeholder of 1x1 with nothing behind it is a beacon all the same. */
		*skip = only_data ? WL_SKIP_DATA_URL : WL_SKIP_NO_URL;
		return 0;
	}
	p->url = resolve(base, ref, err, &failed);
	const char *src = wl_dom_attr(img->node, "src");
	if (p->url && src && !is_data(src) && strcmp(src, ref) != 0 && strlen(src) <= WL_URL_MAX) {
		char *copy = wl_strf(err, "%s", src);
		failed = !copy;
		p->other = copy ? resolve(base, copy, err, &failed) : NULL;
		free(copy);
	}
	free(ref);
	if (failed)
		return -1;
	*skip = p->url ? furniture(w, img, p) : WL_SKIP_BAD_URL;
	return 0;
}

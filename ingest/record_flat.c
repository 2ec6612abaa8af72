/*
 * The quick way through the JSON form of a record: one pass, no tree.
 *
 * Nearly every message of a crawl is a flat object of known members, strings and lists of texts.
 * Such an object is taken apart where it stands, and what is stored of it is made byte for byte as
 * the tree would make it (record_json.c); anything else, wrong or merely unusual (members that
 * mean nothing here, boxes, meta, a member twice, numbers but whole ones), is left to the tree,
 * which also says what is wrong.  A fuzz target compares the two.
 */
#include "ingest/record_priv.h"

#include <string.h>

enum member {
	SOURCE,
	URL,
	PAGE_URL,
	IMAGE,
	IMAGE_ID,
	IMAGE_URL,
	IMAGE_B64,
	SPLIT,
	TITLE, /* from here on: texts */
	TEXT,
	CAPTION,
	CAPTIONS,
	SENTENCES,
	FETCHED_AT,
	BOXES, /* only as null */
	BBOX,
	META,
	N_MEMBERS
};
static const struct {
	const char *name;
	size_t len;
} names[N_MEMBERS] = {
#define NAME(s)                                                                                    \
	{                                                                                          \
		s, sizeof s - 1                                                                    \
	}
	[SOURCE] = NAME("source"),
	[URL] = NAME("url"),
	[PAGE_URL] = NAME("page_url"),
	[IMAGE] = NAME("image"),
	[IMAGE_ID] = NAME("image_id"),
	[IMAGE_URL] = NAME("image_url"),
	[IMAGE_B64] = NAME("image_b64"),
	[SPLIT] = NAME("split"),
	[TITLE] = NAME("title"),
	[TEXT] = NAME("text"),
	[CAPTION] = NAME("caption"),
	[CAPTIONS] = NAME("captions"),
	[SENTENCES] = NAME("sentences"),
	[FETCHED_AT] = NAME("fetched_at"),
	[BOXES] = NAME("boxes"),
	[BBOX] = NAME("bbox"),
	[META] = NAME("meta"),
#undef NAME
};

/* A string as it stands in the text, without its quotes. */
struct slice {
	const char *p; /* NULL: absent, or null */
	size_t n;
	bool escaped; /* a backslash is in it */
};

enum { MAX_TEXTS = 64 };
struct flat {
	const char *at, *end;
	struct slice member[N_MEMBERS];
	unsigned seen;	    /* bits of members */
	int64_t fetched_at; /* -1: absent, or null */
	struct {
		enum member of;
		struct slice kind, text;
	} text[MAX_TEXTS];
	size_t n_texts;
};

/* ---- the grammar; false: leave it to the tree ---- */

static void skip_blanks(struct flat *f)
{
	while (f->at < f->end &&
		(*f->at == ' ' || *f->at == '\n' || *f->at == '\r' || *f->at == '\t'))
		f->at++;
}

static bool take(struct flat *f, char c)
{
	skip_blanks(f);
	if (f->at == f->end || *f->at != c)
		return false;
	f->at++;
	return true;
}

/* The length of the UTF-8 sequence at p (RFC 3629), which does not reach past end; 0: none. */
static size_t utf8_length(const char *s, const char *end)
{
	const uint8_t *p = (const uint8_t *)s;
	size_t n = (size_t)(end - s), want = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (p[0] < 0xc2 || p[0] > 0xf4 || n < want)
		return 0;
	for (size_t i = 1; i < want; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
		(p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return want;
}

static int hex4(const char *p)
{
	int v = 0;
	for (int i = 0; i < 4; i++) {
		char c = p[i];
		int d = c >= '0' && c <= '9'   ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
			: c >= 'A' && c <= 'F' ? c - 'A' + 10
					       : -1;
		if (d < 0)
			return -1;
		v = v << 4 | d;
	}
	return v;
}

/* The escape at p (a backslash): its length, 0 when it is none that JSON knows or stands for
 * nothing that may be stored (half of a surrogate pair, NUL). */
static size_t escape_length(const char *p, const char *end)
{
	if (end - p < 2)
		return 0;
	if (p[1] != 'u')
		return p[1] && strchr("\"\\/bfnrt", p[1]) ? 2 : 0;
	int u = end - p < 6 ? -1 : hex4(p + 2);
	if (u <= 0 || (u >= 0xdc00 && u <= 0xdfff))
		return 0;
	if (u < 0xd800 || u > 0xdbff)
		return 6;
	int low = end - p < 12 || p[6] != '\\' || p[7] != 'u' ? -1 : hex4(p + 8);
	return low >= 0xdc00 && low <= 0xdfff ? 12 : 0;
}

/* Eight bytes at once that need no second look: ASCII, no control, no quote, no backslash. */
static bool all_plain(const char *p)
{
	const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
	uint64_t v;
	memcpy(&v, p, sizeof v);
	uint64_t quote = v ^ ones * '"', slash = v ^ ones * '\\';
	/* A byte below k makes its high bit when k is taken from it (Mycroft, 1987). */
	return !((v | (v - ones * 0x20) | (quote - ones) | (slash - ones)) & high);
}

static bool take_string(struct flat *f, struct slice *out)
{
	if (!take(f, '"'))
		return false;
	const char *p = f->at, *end = f->end;
	*out = (struct slice){.p = p};
	while (p < end && *p != '"') {
		size_t n = 1;
		if (end - p >= 8 && all_plain(p)) {
			p += 8;
			continue;
		}
		if ((unsigned char)*p >= 0x80)
			n = utf8_length(p, end);
		else if (*p == '\\')
			n = escape_length(p, end), out->escaped = true;
		else if ((unsigned char)*p < 0x20)
			n = 0;
		if (!n)
			return false;
		p += n;
	}
	if (p == end)
		return false;
	out->n = (size_t)(p - f->at);
	f->at = p + 1;
	return true;
}

static bool take_null(struct flat *f)
{
	skip_blanks(f);
	if (f->end - f->at < 4 || memcmp(f->at, "null", 4) != 0)
		return false;
	f->at += 4;
	return true;
}

/* Up to 18 digits: what has more, a sign, a point or an exponent is unusual. */
static bool take_whole(struct flat *f, int64_t *out)
{
	skip_blanks(f);
	const char *p = f->at;
	int64_t v = 0;
	while (p < f->end && *p >= '0' && *p <= '9' && p - f->at < 18)
		v = 10 * v + (*p++ - '0');
	if (p == f->at || p == f->end || (*f->at == '0' && p - f->at > 1) ||
		!memchr(",} \t\r\n", *p, 6))
		return false;
	f->at = p;
	*out = v;
	return true;
}

static bool add_text(struct flat *f, enum member of, struct slice kind, struct slice text)
{
	if (f->n_texts == MAX_TEXTS)
		return false;
	f->text[f->n_texts].of = of;
	f->text[f->n_texts].kind = kind;
	f->text[f->n_texts++].text = text;
	return true;
}

/* An element of a list of texts: "text" or ["kind", "text"]. */
static bool take_element(struct flat *f, enum member of)
{
	struct slice kind = {0}, text;
	if (!take(f, '['))
		return take_string(f, &text) && add_text(f, of, kind, text);
	return take_string(f, &kind) && take(f, ',') && take_string(f, &text) && take(f, ']') &&
	       add_text(f, of, kind, text);
}

static bool take_texts(struct flat *f, enum member of)
{
	struct slice kind = {0}, text;
	if (of == TITLE || !take(f, '['))
		return take_string(f, &text) && add_text(f, of, kind, text);
	if (take(f, ']'))
		return true;
	do {
		if (!take_element(f, of))
			return false;
	} while (take(f, ','));
	return take(f, ']');
}

static enum member find_member(const struct slice *s)
{
	enum member m = 0;
	while (m < N_MEMBERS && (names[m].len != s->n || memcmp(names[m].name, s->p, s->n) != 0))
		m++;
	return m;
}

static bool take_member(struct flat *f)
{
	struct slice key;
	if (!take_string(f, &key) || key.escaped)
		return false;
	enum member m = find_member(&key);
	if (m == N_MEMBERS || f->seen >> m & 1 || !take(f, ':'))
		return false;
	f->seen |= 1u << m;
	if (take_null(f))
		return true;
	if (m >= BOXES)
		return false;
	if (m == FETCHED_AT)
		return take_whole(f, &f->fetched_at);
	return m >= TITLE ? take_texts(f, m) : take_string(f, &f->member[m]);
}

static bool take_object(struct flat *f)
{
	if (!take(f, '{'))
		return false;
	do {
		if (!take_member(f))
			return false;
	} while (take(f, ','));
	if (!take(f, '}'))
		return false;
	skip_blanks(f);
	return f->at == f->end;
}

/* ---- what it says ---- */

static char *put_utf8(char *w, int u)
{
	if (u < 0x80) {
		*w++ = (char)u;
	} else if (u < 0x800) {
		*w++ = (char)(0xc0 | u >> 6);
		*w++ = (char)(0x80 | (u & 63));
	} else if (u < 0x10000) {
		*w++ = (char)(0xe0 | u >> 12);
		*w++ = (char)(0x80 | (u >> 6 & 63));
		*w++ = (char)(0x80 | (u & 63));
	} else {
		*w++ = (char)(0xf0 | u >> 18);
		*w++ = (char)(0x80 | (u >> 12 & 63));
		*w++ = (char)(0x80 | (u >> 6 & 63));
		*w++ = (char)(0x80 | (u & 63));
	}
	return w;
}

/* The character that an escape stands for; *n: the bytes it takes. */
static int unescape(const char *p, size_t *n)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	*n = 2;
	if (p[1] != 'u')
		return to[strchr(from, p[1]) - from];
	int u = hex4(p + 2);
	*n = 6;
	if (u < 0xd800 || u > 0xdfff)
		return u;
	*n = 12;
	return 0x10000 + ((u - 0xd800) << 10) + (hex4(p + 8) - 0xdc00);
}

/* A character in a JSON string, as jansson writes it. */
static char *put_json(char *w, int u)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt", hex[] = "0123456789ABCDEF";
	const char *e = u < 0x80 ? strchr(from, u) : NULL;
	if (e) {
		*w++ = '\\';
		*w++ = to[e - from];
		return w;
	}
	if (u >= 0x20)
		return put_utf8(w, u);
	memcpy(w, "\\u00", 4);
	w[4] = hex[u >> 4];
	w[5] = hex[u & 15];
	return w + 6;
}

/* Its characters, never more bytes than it has itself. */
static char *put_slice(char *w, const struct slice *s, char *(*put)(char *, int))
{
	size_t n;
	if (!s->escaped) {
		memcpy(w, s->p, s->n);
		return w + s->n;
	}
	for (size_t i = 0; i < s->n; i += n) {
		n = 1;
		if (s->p[i] == '\\')
			w = put(w, unescape(s->p + i, &n));
		else
			*w++ = s->p[i];
	}
	return w;
}

static const char *string_of(struct wl_record *r, const struct slice *s, struct wl_err *err)
{
	char *out = wl_arena_alloc(&r->mem, s->n + 1, err);
	if (out)
		*put_slice(out, s, put_utf8) = '\0';
	return out;
}

/* Absent or null leaves *out alone. */
static int set_string(struct wl_record *r, const struct flat *f, enum member m, const char **out,
	struct wl_err *err)
{
	if (!f->member[m].p)
		return 0;
	*out = string_of(r, &f->member[m], err);
	return *out ? 0 : -1;
}

static bool is_blank(const struct slice *s)
{
	size_t n = 1;
	for (size_t i = 0; i < s->n; i += n) {
		int c = s->p[i];
		n = 1;
		if (c == '\\')
			c = unescape(s->p + i, &n);
		if (c <= 0 || c >= 0x80 || !strchr(" \t\r\n\v\f", c))
			return false;
	}
	return true;
}

static char *put_text(char *w, const struct flat *f, size_t i)
{
	static const struct slice caption = {"caption", 7, false}, title = {"title", 5, false};
	const struct slice *kind = &f->text[i].kind;
	if (!kind->p)
		kind = f->text[i].of == TITLE ? &title : &caption;
	memcpy(w, ",[\"", 3);
	w = put_slice(w + 3, kind, put_json);
	memcpy(w, "\",\"", 3);
	w = put_slice(w + 3, &f->text[i].text, put_json);
	memcpy(w, "\"]", 2);
	return w + 2;
}

/* [[kind, text], ...]: captions first, the title last, as record_json.c orders them. */
static int set_texts(struct wl_record *r, const struct flat *f, struct wl_err *err)
{
	static const enum member order[] = {CAPTIONS, CAPTION, TEXT, SENTENCES, TITLE};
	enum { AROUND = 16 /* of kind and text: punctuation, "caption" */ };
	size_t room = 4;
	for (size_t i = 0; i < f->n_texts; i++)
		room += f->text[i].kind.n + f->text[i].text.n + AROUND;
	char *out = wl_arena_alloc(&r->mem, room, err), *w = out;
	if (!out)
		return -1;
	for (size_t k = 0; k < sizeof order / sizeof *order; k++)
		for (size_t i = 0; i < f->n_texts; i++)
			if (f->text[i].of == order[k] && !is_blank(&f->text[i].text))
				w = put_text(w, f, i);
	if (w == out)
		return 0;
	*out = '['; /* over the first comma, which is one too many */
	w[0] = ']';
	w[1] = '\0';
	r->pair.texts = out;
	return 0;
}

/* 1: it has one, or needs none; 0: it is not plain base64, which the tree's way reports. */
static int set_image(
	struct wl_record *r, const struct flat *f, struct wl_image_ref *ref, struct wl_err *err)
{
	const struct slice *b64 = &f->member[IMAGE_B64];
	WL_TRY(set_string(r, f, IMAGE, &ref->path, err));
	WL_TRY(set_string(r, f, IMAGE_URL, &ref->url, err));
	if (b64->p && !r->has_image) {
		if (b64->escaped || !wl_base64_plain(b64->p, b64->n, &r->image, err))
			return 0;
		r->has_image = true;
	} else if (!ref->path) {
		WL_TRY(set_string(r, f, IMAGE_ID, &ref->path, err));
	}
	return 1;
}

int wl_record_flat(struct wl_record *r, const char *text, size_t n, struct wl_image_ref *ref,
	struct wl_err *err)
{
	struct flat f;
	f.at = text;
	f.end = text + n;
	f.seen = 0;
	f.n_texts = 0;
	f.fetched_at = -1;
	memset(f.member, 0, sizeof f.member);
	if (!take_object(&f))
		return 0;
	const char *split =
		wl_record_split(f.member[SPLIT].p ? f.member[SPLIT].p : "", f.member[SPLIT].n);
	if (!split)
		return 0;
	int done = set_image(r, &f, ref, err);
	if (done <= 0) {
		*ref = (struct wl_image_ref){0};
		return done;
	}
	r->pair.split_hint = split;
	if (f.fetched_at >= 0)
		r->pair.fetched_at = f.fetched_at;
	WL_TRY(set_string(r, &f, SOURCE, &r->pair.source, err));
	WL_TRY(set_string(r, &f, URL, &r->pair.url, err));
	WL_TRY(set_string(r, &f, PAGE_URL, &r->pair.page_url, err));
	WL_TRY(set_texts(r, &f, err));
	if (ref->url && !*r->pair.url)
		r->pair.url = ref->url;
	return 1;
}

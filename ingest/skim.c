/* See skim.h. */
#include "ingest/skim.h"
#include "ops/grow.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* A mark is MARK, the run's number, END: private-use characters, which are no one's (the page's
 * own become U+FFFD).  Shorter runs are not worth one. */
#define MARK "\xef\xa3\xb0"
#define END "\xef\xa3\xb1"
enum { SHORT_RUN = 24 };

/* Elements by a hash of their name, open ones counted: an end tag closes one of its own name. */
struct open_tags {
	unsigned n[256];
	size_t depth;
};

struct skimmer {
	struct wl_skim *s;
	const char *text, *p, *end;
	size_t max_depth;
	bool all;
	struct open_tags open;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* What is to be known of a tag's name. */
enum {
	FLAT = 1,    /* does not nest: holds nothing, or only text, or its like closes it */
	FULL = 2,    /* all of its attributes are read */
	MUTE = 4,    /* goes whole, with its text; may stand in <head> */
	EMPTIED = 8, /* stays without its text: it opens the <body> */
	TEXT = 16,   /* holds text, which is read */
	REST = 32,   /* all of the page from here on is its text */
};
/* In order of length: first_of_length says where those of a length begin. */
static const struct tag_fact {
	char name[15]; /* without its 0 where it is that long */
	unsigned char flags;
} tag_facts[] = {
	{"a", FLAT}, {"p", FLAT}, {"li", FLAT}, {"br", FLAT}, {"td", FLAT}, {"tr", FLAT},
	{"dd", FLAT}, {"dt", FLAT}, {"hr", FLAT}, {"th", FLAT}, {"img", FLAT | FULL},
	{"col", FLAT}, {"wbr", FLAT}, {"xmp", FLAT | EMPTIED}, {"link", FLAT | FULL},
	{"meta", FLAT | FULL}, {"base", FLAT | FULL}, {"area", FLAT}, {"body", FLAT},
	{"head", FLAT}, {"html", FLAT}, {"image", FLAT | FULL}, {"input", FLAT | FULL},
	{"title", FLAT | TEXT}, {"style", FLAT | MUTE}, {"tbody", FLAT}, {"tfoot", FLAT},
	{"thead", FLAT}, {"embed", FLAT}, {"frame", FLAT}, {"param", FLAT}, {"track", FLAT},
	{"script", FLAT | MUTE}, {"source", FLAT | FULL}, {"iframe", FLAT | EMPTIED},
	{"option", FLAT}, {"keygen", FLAT}, {"amp-img", FULL}, {"noembed", FLAT | EMPTIED},
	{"bgsound", FLAT}, {"optgroup", FLAT}, {"noframes", FLAT | MUTE}, {"basefont", FLAT},
	{"menuitem", FLAT}, {"textarea", FLAT | EMPTIED}, {"plaintext", REST},
	{"annotation-xml", FULL}};
enum { LONGEST_NAME = 14 };
static const unsigned char first_of_length[LONGEST_NAME + 2] = {
	0, 0, 2, 10, 14, 21, 32, 37, 40, 45, 46, 46, 46, 46, 46, 47};

static unsigned facts_of(const char *name, size_t n)
{
	char low[LONGEST_NAME];
	if (n > LONGEST_NAME)
		return 0;
	for (size_t i = 0; i < n; i++)
		low[i] = (char)(name[i] | 0x20);
	for (size_t i = first_of_length[n]; i < first_of_length[n + 1]; i++)
		if (tag_facts[i].name[0] == low[0] && memcmp(tag_facts[i].name, low, n) == 0)
			return tag_facts[i].flags;
	return 0;
}

/* ---- depth ---- */

static void count_tag(struct open_tags *o, const char *name, size_t n, bool is_end)
{
	unsigned h = 0;
	for (size_t i = 0; i < n; i++)
		h = h * 31 + ((unsigned char)name[i] | 0x20);
	h &= 255;
	if (!is_end) {
		o->n[h]++;
		o->depth++;
	} else if (o->n[h]) {
		o->n[h]--;
		o->depth--;
	}
}

/* ---- text ---- */

/* Many and short: in place while there is room. */
static inline int put(struct skimmer *k, const char *s, size_t n, struct wl_err *err)
{
	struct wl_buf *b = &k->s->text;
	if (b->cap - b->len <= n)
		return wl_buf_add(b, s, n, err);
	memcpy(b->data + b->len, s, n);
	b->len += n;
	return 0;
}

/* The first two bytes of a mark; n: none. */
static size_t find_mark(const char *s, size_t n)
{
	const char *p = s, *end = s + n;
	while ((p = memchr(p, (unsigned char)MARK[0], (size_t)(end - p))) != NULL && p + 1 < end) {
		if (p[1] == MARK[1])
			return (size_t)(p - s);
		p++;
	}
	return n;
}

/* As it stands, but for characters that would look like marks. */
static int put_literal(struct skimmer *k, const char *s, size_t n, struct wl_err *err)
{
	for (;;) {
		size_t at = find_mark(s, n);
		WL_TRY(put(k, s, at, err));
		if (at == n)
			return 0;
		const char *m = s + at;
		bool ours = n - at >= 3 && (m[2] == MARK[2] || m[2] == END[2]);
		WL_TRY(put(k, ours ? "\xef\xbf\xbd" : m, ours ? 3 : 2, err));
		at += ours ? 3 : 2;
		s += at;
		n -= at;
	}
}

static int put_mark(struct skimmer *k, const char *s, size_t n, struct wl_err *err)
{
	struct wl_skim *sk = k->s;
	char mark[32];
	WL_TRY(WL_GROW(sk->spans, sk->n, sk->cap, "a page's texts", err));
	int len = snprintf(mark, sizeof mark, MARK "%zu" END, sk->n);
	sk->spans[sk->n++] = (struct wl_span){s, n};
	return put(k, mark, (size_t)len, err);
}

/* Characters between tags.  References (&amp;) are left to the parser. */
static int put_text(struct skimmer *k, const char *s, size_t n, struct wl_err *err)
{
	size_t blank = 0;
	while (blank < n && is_blank(s[blank]))
		blank++;
	if (blank == n && n > 1 && !k->all)
		return put(k, memchr(s, '\n', n) ? "\n" : " ", 1, err);
	if (n - blank >= SHORT_RUN && !k->all && !memchr(s, '&', n))
		return put_mark(k, s, n, err);
	return put_literal(k, s, n, err);
}

/* ---- tags ---- */

struct attr {
	const char *name, *value;
	size_t name_n, value_n;
};

/* The next attribute at *p; false: the tag's '>' (or the end of the page) is at *p. */
static bool next_attr(const char **p, const char *end, struct attr *a)
{
	const char *s = *p;
	while (s < end && (is_blank(*s) || *s == '/'))
		s++;
	*a = (struct attr){.name = s};
	if (s == end || *s == '>') {
		*p = s;
		return false;
	}
	s++; /* a '=' here is part of the name */
	while (s < end && !is_blank(*s) && *s != '/' && *s != '>' && *s != '=')
		s++;
	a->name_n = (size_t)(s - a->name);
	const char *eq = s;
	while (eq < end && is_blank(*eq))
		eq++;
	if (eq < end && *eq == '=') {
		for (s = eq + 1; s < end && is_blank(*s);)
			s++;
		char quote = s < end && (*s == '"' || *s == '\'') ? *s : '\0';
		a->value = s += quote != '\0';
		while (s < end && (quote ? *s != quote : !is_blank(*s) && *s != '>'))
			s++;
		a->value_n = (size_t)(s - a->value);
		s += quote && s < end;
	}
	*p = s;
	return true;
}

static bool has(const struct attr *a, const char *word)
{
	return memmem(a->value, a->value_n, word, strlen(word)) != NULL;
}

/* What is read of an element (page_walk.c, page_image.c), and what the parser itself looks at. */
static bool is_wanted(unsigned facts, const struct attr *a)
{
	if (facts & FULL)
		return true;
	switch (a->name_n) {
	case 2:
		return strncasecmp(a->name, "id", 2) == 0;
	case 5:
		if (strncasecmp(a->name, "class", 5) == 0 || strncasecmp(a->name, "align", 5) == 0)
			return true;
		/* display, visibility, text-align */
		return strncasecmp(a->name, "style", 5) == 0 && a->value_n &&
		       (has(a, "isp") || has(a, "ISP") || has(a, "lig") || has(a, "LIG") ||
			       has(a, "isib") || has(a, "ISIB"));
	default:
		return false;
	}
}

static int put_attr(struct skimmer *k, const struct attr *a, struct wl_err *err)
{
	WL_TRY(put(k, " ", 1, err));
	WL_TRY(put(k, a->name, a->name_n, err));
	if (!a->value_n)
		return 0;
	/* Only an unquoted value can hold both quotes. */
	bool twice = memchr(a->value, '"', a->value_n) && memchr(a->value, '\'', a->value_n);
	const char *quote = memchr(a->value, '"', a->value_n) ? "'" : "\"";
	WL_TRY(put(k, "=", 1, err));
	if (!twice)
		WL_TRY(put(k, quote, 1, err));
	WL_TRY(put(k, a->value, a->value_n, err));
	return twice ? 0 : put(k, quote, 1, err);
}

/* From the end tag of `name` on; the end of the page when there is none. */
static const char *end_of_raw(const char *p, const char *end, const char *name, size_t n)
{
	while ((p = memmem(p, (size_t)(end - p), "</", 2)) != NULL) {
		const char *after = p + 2 + n;
		if (after <= end && strncasecmp(p + 2, name, n) == 0 &&
			(after == end || is_blank(*after) || *after == '/' || *after == '>'))
			return p;
		p += 2;
	}
	return end;
}

/* Elements whose content is text up to their end tag.  What is in them says nothing to us; those
 * that may stand in <head> go whole, the others stay, empty, since they open the <body>. */
static int raw_content(struct skimmer *k, const char *name, size_t n, unsigned facts, size_t mark,
	struct wl_err *err)
{
	if (facts & REST) {
		WL_TRY(put_literal(k, k->p, (size_t)(k->end - k->p), err));
		k->p = k->end;
	}
	if (!(facts & (MUTE | EMPTIED | TEXT)))
		return 0;
	const char *close = end_of_raw(k->p, k->end, name, n);
	if (facts & MUTE && !k->all) {
		k->s->text.len = mark; /* its start tag too */
		const char *gt = memchr(close, '>', (size_t)(k->end - close));
		k->p = gt ? gt + 1 : k->end;
		return 0;
	}
	if (k->all || facts & TEXT)
		WL_TRY(put_literal(k, k->p, (size_t)(close - k->p), err));
	k->p = close;
	return 0;
}

/* k->p is behind '<' or "</", at a letter. */
static int tag(struct skimmer *k, bool is_end, struct wl_err *err)
{
	const char *start = k->p - 1 - is_end, *name = k->p;
	size_t mark = k->s->text.len;
	struct attr a;
	while (k->p < k->end && !is_blank(*k->p) && *k->p != '/' && *k->p != '>')
		k->p++;
	size_t n = (size_t)(k->p - name);
	unsigned facts = facts_of(name, n);
	if (!(facts & FLAT))
		count_tag(&k->open, name, n, is_end);
	if (k->open.depth > k->max_depth) {
		k->s->cut_at = (size_t)(start - k->text);
		k->p = k->end;
		return 0;
	}
	WL_TRY(put(k, start, (size_t)(name - start) + n, err));
	while (next_attr(&k->p, k->end, &a))
		if (!is_end && (k->all || is_wanted(facts, &a)))
			WL_TRY(put_attr(k, &a, err));
	if (k->p == k->end) { /* it never ends: no tag at all */
		k->s->text.len = mark;
		return 0;
	}
	/* "/>" closes elements of SVG; the blank keeps it out of an unquoted value. */
	WL_TRY(k->p[-1] == '/' ? put(k, " />", 3, err) : put(k, ">", 1, err));
	k->p++;
	return is_end ? 0 : raw_content(k, name, n, facts, mark, err);
}

/* Behind "<!--": to the comment's end (13.2.5.43 ff.). */
static const char *end_of_comment(const char *p, const char *end)
{
	if (p < end && *p == '>')
		return p + 1;
	if (end - p >= 2 && p[0] == '-' && p[1] == '>')
		return p + 2;
	while ((p = memmem(p, (size_t)(end - p), "--", 2)) != NULL) {
		if (end - p >= 3 && p[2] == '>')
			return p + 3;
		if (end - p >= 4 && p[2] == '!' && p[3] == '>')
			return p + 4;
		p++;
	}
	return end;
}

/* k->p is at a '<'. */
static int markup(struct skimmer *k, struct wl_err *err)
{
	const char *p = k->p + 1, *gt;
	size_t left = (size_t)(k->end - p);
	if (left && is_letter(*p)) {
		k->p = p;
		return tag(k, false, err);
	}
	if (left >= 2 && *p == '/' && is_letter(p[1])) {
		k->p = p + 1;
		return tag(k, true, err);
	}
	if (left >= 3 && memcmp(p, "!--", 3) == 0) {
		k->p = end_of_comment(p + 3, k->end);
		return 0;
	}
	if (!left || (*p != '!' && *p != '?' && *p != '/')) {
		k->p++;
		return put(k, "<", 1, err);
	}
	/* The doctype decides about quirks; other declarations are comments. */
	gt = memchr(p, '>', left);
	gt = gt ? gt + 1 : k->end;
	if (left >= 8 && strncasecmp(p, "!doctype", 8) == 0)
		WL_TRY(put(k, k->p, (size_t)(gt - k->p), err));
	k->p = gt;
	return 0;
}

int wl_skim_page(struct wl_skim *s, const char *text, size_t n, size_t max_depth, bool all,
	struct wl_err *err)
{
	struct skimmer k = {.s = s,
		.text = text,
		.p = text,
		.end = text + n,
		.max_depth = max_depth,
		.all = all};
	s->n = 0;
	s->cut_at = n;
	s->text.max = 4 * n + 4096;
	wl_buf_reset(&s->text);
	WL_TRY(wl_buf_reserve(&s->text, n / 2 + 64, err));
	while (k.p < k.end) {
		const char *lt = memchr(k.p, '<', (size_t)(k.end - k.p));
		size_t run = (size_t)((lt ? lt : k.end) - k.p);
		if (run)
			WL_TRY(put_text(&k, k.p, run, err));
		k.p += run;
		if (lt)
			WL_TRY(markup(&k, err));
	}
	s->text.data[s->text.len] = '\0';
	return 0;
}

void wl_skim_release(struct wl_skim *s)
{
	wl_buf_release(&s->text);
	free(s->spans);
	s->spans = NULL;
	s->n = s->cap = 0;
}

bool wl_skim_piece(const struct wl_skim *s, const char **at, struct wl_span *piece)
{
	const char *p = *at;
	if (!*p)
		return false;
	if (strncmp(p, MARK, 3) == 0) {
		char *end;
		size_t i = strtoul(p + 3, &end, 10);
		if (end > p + 3 && strncmp(end, END, 3) == 0 && i < s->n) {
			*at = end + 3;
			*piece = s->spans[i];
			return true;
		}
	}
	const char *next = p + 1;
	while ((next = strchr(next, (unsigned char)MARK[0])) != NULL && strncmp(next, MARK, 3) != 0)
		next++;
	size_t n = next ? (size_t)(next - p) : strlen(p);
	*piece = (struct wl_span){p, n};
	*at = p + n;
	return true;
}

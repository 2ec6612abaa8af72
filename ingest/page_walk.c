/*
 * One walk over a page's tree: blocks of text, images, regions of furniture.  Without recursion:
 * the tree's own parent pointers lead back up.
 */
#include "ingest/page_priv.h"

#include "ops/grow.h"
#include "ops/hash.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* What enter() changes and leave() takes back, by depth. */
struct level {
	int mark, content, box;
	bool centred, caption, hidden, opened_link, is_block;
	const wl_node *figure, *figcaption, *picture;
	unsigned near;      /* meanings of this element's own class */
	size_t chars_before; /* walk->chars on entering an element that is a mark */
	int own_mark;       /* the mark that this element is, -1 */
	const wl_node *node, *child; /* child: the next to go into */
};

/* What a class or id says, by a hash of it: on a page the same few come again and again. */
struct known_name {
	uint64_t hash; /* 0: empty */
	unsigned words, whole;
};
enum { KNOWN_NAMES = 256 };

struct walker {
	struct wl_walk *w;
	const struct wl_dom *dom;
	struct level *stack;
	size_t depth, cap;
	size_t start;        /* where the open block's text starts */
	size_t chars, link_chars;
	size_t pending_imgs; /* the images from here on stand in the open block */
	int links;           /* open <a> */
	int n_content, n_boxes;
	int heading;         /* level of the open heading, 0 none */
	int blank_pending;   /* a blank came after text: written once more text comes */
	bool h1;
	struct known_name names[KNOWN_NAMES];
};

/* ---- growing ---- */

#define GROW(v, n, cap, err) WL_TRY(WL_GROW(v, n, cap, "a page's lists", err))

/* ---- elements ---- */

/* Elements whose start and end are a line's end. */
static bool is_block_tag(myhtml_tag_id_t t)
{
	switch (t) {
	case MyHTML_TAG_ADDRESS: case MyHTML_TAG_ARTICLE: case MyHTML_TAG_ASIDE:
	case MyHTML_TAG_BLOCKQUOTE: case MyHTML_TAG_BODY: case MyHTML_TAG_BR:
	case MyHTML_TAG_CENTER: case MyHTML_TAG_DD: case MyHTML_TAG_DETAILS:
	case MyHTML_TAG_DIR: case MyHTML_TAG_DIV: case MyHTML_TAG_DL:
	case MyHTML_TAG_DT: case MyHTML_TAG_FIELDSET: case MyHTML_TAG_FIGCAPTION:
	case MyHTML_TAG_FIGURE: case MyHTML_TAG_FOOTER: case MyHTML_TAG_FORM:
	case MyHTML_TAG_H1: case MyHTML_TAG_H2: case MyHTML_TAG_H3:
	case MyHTML_TAG_H4: case MyHTML_TAG_H5: case MyHTML_TAG_H6:
	case MyHTML_TAG_HEADER: case MyHTML_TAG_HR: case MyHTML_TAG_LI:
	case MyHTML_TAG_MAIN: case MyHTML_TAG_MENU: case MyHTML_TAG_NAV:
	case MyHTML_TAG_OL: case MyHTML_TAG_P: case MyHTML_TAG_PRE:
	case MyHTML_TAG_SECTION: case MyHTML_TAG_SUMMARY: case MyHTML_TAG_TABLE:
	case MyHTML_TAG_TBODY: case MyHTML_TAG_TD: case MyHTML_TAG_TFOOT:
	case MyHTML_TAG_TH: case MyHTML_TAG_THEAD: case MyHTML_TAG_TR:
	case MyHTML_TAG_UL:
		return true;
	default:
		return false;
	}
}

/* Elements with nothing in them that is said to a reader. */
static bool is_mute(myhtml_tag_id_t t)
{
	switch (t) {
	case MyHTML_TAG_SCRIPT: case MyHTML_TAG_STYLE: case MyHTML_TAG_TEMPLATE:
	case MyHTML_TAG_SELECT: case MyHTML_TAG_TEXTAREA: case MyHTML_TAG_SVG:
	case MyHTML_TAG_IFRAME: case MyHTML_TAG_OBJECT: case MyHTML_TAG_HEAD:
	case MyHTML_TAG_TITLE: case MyHTML_TAG_NOFRAMES: case MyHTML_TAG_MATH:
		return true;
	default:
		return false;
	}
}

static int heading_level(myhtml_tag_id_t t)
{
	switch (t) {
	case MyHTML_TAG_H1: return 1;
	case MyHTML_TAG_H2: return 2;
	case MyHTML_TAG_H3: return 3;
	case MyHTML_TAG_H4: return 4;
	case MyHTML_TAG_H5: return 5;
	case MyHTML_TAG_H6: return 6;
	default: return 0;
	}
}

/* Furniture by what the element is. */
static unsigned tag_reasons(myhtml_tag_id_t t)
{
	switch (t) {
	case MyHTML_TAG_NAV: case MyHTML_TAG_FOOTER: case MyHTML_TAG_ASIDE:
	case MyHTML_TAG_HEADER: case MyHTML_TAG_BUTTON:
		return 1u << WL_SKIP_CHROME;
	default:
		return 0;
	}
}

/* Whole tokens of a class attribute, without '-' and '_': "image_desc" is "imagedesc". */
static unsigned whole_tokens(const struct wl_words *w, const char *s)
{
	unsigned mask = 0;
	while (*s) {
		char token[40];
		size_t n = 0;
		for (; *s && !strchr(" \t\r\n", *s); s++)
			if (*s != '-' && *s != '_' && n < sizeof token)
				token[n++] = *s >= 'A' && *s <= 'Z' ? (char)(*s | 0x20) : *s;
		if (n && n < sizeof token)
			mask |= wl_word_meaning(w, token, n);
		s += strspn(s, " \t\r\n");
	}
	return mask;
}

/* Whether style has "name: value" (blanks anywhere). */
static bool style_has(const char *style, const char *name, const char *value)
{
	const char *p = style ? strcasestr(style, name) : NULL;
	if (!p)
		return false;
	p += strlen(name);
	p += strspn(p, " \t:");
	return strncasecmp(p, value, strlen(value)) == 0;
}

/* What is read of every element, found in one pass over its attributes; NULL: not there. */
struct looks {
	const char *class, *id, *style, *align;
};

static struct looks looks_of(const wl_node *n)
{
	struct looks l = {0};
	const struct myhtml_token_attr *a = n->token ? n->token->attr_first : NULL;
	for (; a; a = a->next) {
		const char **to = NULL;
		if (a->key.length == 2 && memcmp(a->key.data, "id", 2) == 0)
			to = &l.id;
		else if (a->key.length != 5)
			continue;
		else if (memcmp(a->key.data, "class", 5) == 0)
			to = &l.class;
		else if (memcmp(a->key.data, "style", 5) == 0)
			to = &l.style;
		else if (memcmp(a->key.data, "align", 5) == 0)
			to = &l.align;
		if (to && !*to)
			*to = a->value.data;
	}
	return l;
}

static bool is_centred(const wl_node *n, const struct looks *l)
{
	return n->tag_id == MyHTML_TAG_CENTER ||
	       (l->align && strcasecmp(l->align, "center") == 0) ||
	       style_has(l->style, "text-align", "center");
}

static bool is_hidden(const struct looks *l)
{
	return l->style && (style_has(l->style, "display", "none") ||
				   style_has(l->style, "visibility", "hidden"));
}

/* ---- text ---- */

/* Length of the blank at s (ASCII blanks, U+00A0, U+3000, zero-width ones), 0: none. */
static size_t blank_len(const char *s, size_t left)
{
	unsigned char c = (unsigned char)s[0];
	if (c <= ' ' || c == 0x7f)
		return 1;
	if (c == 0xc2 && left >= 2 && (unsigned char)s[1] == 0xa0)
		return 2;
	if (left < 3)
		return 0;
	if (memcmp(s, "\xe3\x80\x80", 3) == 0 || memcmp(s, "\xef\xbb\xbf", 3) == 0 ||
		memcmp(s, "\xe2\x80\xa8", 3) == 0)
		return 3;
	/* U+2000 .. U+200F: spaces of all widths, zero-width ones, direction marks */
	return c == 0xe2 && s[1] == '\x80' && (unsigned char)s[2] <= 0x8f ? 3 : 0;
}

/* The first bytes of blanks, quickly. */
static bool may_be_blank(unsigned char c)
{
	return c <= ' ' || (c >= 0x7f && (c == 0x7f || c == 0xc2 || c == 0xe2 || c == 0xe3 ||
						 c == 0xef));
}

/* Between two characters of more than one byte a line's end is no blank. */
static bool joins(const struct wl_buf *text, char next, bool newline)
{
	return newline && text->len && (text->data[text->len - 1] & 0x80) && (next & 0x80);
}

size_t wl_utf8_chars(const char *s, size_t n)
{
	size_t chars = 0;
	for (size_t i = 0; i < n; i++)
		chars += (s[i] & 0xc0) != 0x80;
	return chars;
}

/* Adds text to what stands from `start` on, runs of blanks as one, none at the start;
 * *pending: a blank waits for what follows it (2: one with a line's end in it). */
static int add_squeezed(struct wl_buf *out, size_t start, const char *s, size_t n, int *pending,
	struct wl_err *err)
{
	for (size_t i = 0; i < n;) {
		size_t blank = blank_len(s + i, n - i);
		if (blank) {
			*pending |= s[i] == '\n' || s[i] == '\r' ? 2 : 1;
			i += blank;
			continue;
		}
		size_t from = i;
		while (i < n && (!may_be_blank((unsigned char)s[i]) || !blank_len(s + i, n - i)))
			i++;
		if (*pending && out->len > start && !joins(out, s[from], *pending & 2))
			WL_TRY(wl_buf_putc(out, ' ', err));
		*pending = 0;
		WL_TRY(wl_buf_add(out, s + from, i - from, err));
	}
	return 0;
}

int wl_text_squeeze(const char *s, size_t n, struct wl_buf *out, struct wl_err *err)
{
	int pending = 0;
	wl_buf_reset(out);
	return add_squeezed(out, 0, s, n, &pending, err);
}

static int add_text(struct walker *k, const char *s, struct wl_err *err)
{
	struct wl_buf *text = &k->w->text;
	size_t before = text->len;
	struct wl_span piece;
	while (wl_skim_piece(&k->dom->skim, &s, &piece))
		WL_TRY(add_squeezed(text, k->start, piece.p, piece.n, &k->blank_pending, err));
	size_t chars = wl_utf8_chars(wl_buf_str(text) + before, text->len - before);
	k->chars += chars;
	if (k->links)
		k->link_chars += chars;
	else
		k->w->chars += chars;
	return 0;
}

static struct level *top(struct walker *k)
{
	return &k->stack[k->depth - 1];
}

/* Ends the open block; text makes it one. */
static int flush(struct walker *k, struct wl_err *err)
{
	struct wl_walk *w = k->w;
	const struct level *l = top(k);
	if (w->text.len > k->start) {
		GROW(w->blocks, w->n_blocks, w->cap_blocks, err);
		w->blocks[w->n_blocks++] = (struct wl_block){.at = k->start,
			.len = w->text.len - k->start,
			.chars = k->chars,
			.link_chars = k->link_chars,
			.mark = l->mark,
			.content = l->content,
			.box = l->box,
			.heading = k->heading > 0,
			.centred = l->centred,
			.caption = l->caption,
			.figure = l->figcaption ? l->figure : NULL};
		w->centred += l->centred;
		for (size_t i = k->pending_imgs; i < w->n_imgs; i++)
			w->imgs[i].own = true;
		if (k->heading == 1 && !w->h1_len) {
			w->h1_at = k->start;
			w->h1_len = w->text.len - k->start;
		}
		WL_TRY(wl_buf_putc(&w->text, '\n', err));
	}
	k->start = w->text.len;
	k->chars = k->link_chars = 0;
	k->blank_pending = 0;
	k->pending_imgs = w->n_imgs;
	return 0;
}

/* ---- images ---- */

static int add_image(struct walker *k, const wl_node *n, struct wl_err *err)
{
	struct wl_walk *w = k->w;
	const struct level *l = top(k);
	unsigned near = 0;
	GROW(w->imgs, w->n_imgs, w->cap_imgs, err);
	for (size_t i = 0; i < 3 && i + 1 < k->depth; i++)
		near |= k->stack[k->depth - 1 - i].near;
	w->imgs[w->n_imgs++] = (struct wl_img){.node = n,
		.picture = l->picture,
		.figure = l->figure,
		.next = w->n_blocks,
		.mark = l->mark,
		.content = l->content,
		.box = l->box,
		.near = near,
		.hidden = l->hidden};
	return 0;
}

/* ---- the head ---- */

static void see_meta(struct wl_walk *w, const wl_node *n)
{
	const char *what = wl_dom_attr(n, "property"), *content = wl_dom_attr(n, "content");
	if (!what)
		what = wl_dom_attr(n, "name");
	if (!what || !content || !*content)
		return;
	if (!w->og_title && strcasecmp(what, "og:title") == 0)
		w->og_title = content;
	if (!w->og_url && strcasecmp(what, "og:url") == 0)
		w->og_url = content;
}

static void see_head(struct wl_walk *w, const wl_node *n)
{
	const char *rel, *href;
	switch (n->tag_id) {
	case MyHTML_TAG_TITLE:
		if (!w->title)
			w->title = n;
		return;
	case MyHTML_TAG_META:
		see_meta(w, n);
		return;
	case MyHTML_TAG_BASE:
		if (!w->base)
			w->base = wl_dom_attr(n, "href");
		return;
	case MyHTML_TAG_LINK:
		rel = wl_dom_attr(n, "rel");
		href = wl_dom_attr(n, "href");
		if (!w->canonical && rel && href && strcasecmp(rel, "canonical") == 0)
			w->canonical = href;
		return;
	default:
		return;
	}
}

/* ---- up and down ---- */

static int add_mark(struct walker *k, struct level *l, unsigned reasons, struct wl_err *err)
{
	struct wl_walk *w = k->w;
	GROW(w->marks, w->n_marks, w->cap_marks, err);
	w->marks[w->n_marks] = (struct wl_mark){.reasons = reasons, .parent = l->mark};
	l->own_mark = l->mark = (int)w->n_marks++;
	l->chars_before = w->chars;
	return 0;
}

/* Only these reasons spread from an element to all that is in it; an icon's or an avatar's class
 * speaks of what is close (wl_img.near). */
enum { SPREADS = 1u << WL_SKIP_CHROME | 1u << WL_SKIP_ADVERT };

/* What its class and id say: words by the furniture lists, whole names by the caption and
 * content lists.  <html> and <body> speak of the page, not of a part of it. */
static unsigned class_words(
	struct walker *k, const wl_node *n, const struct looks *looks, unsigned *whole)
{
	const char *const names[] = {looks->class, looks->id};
	const struct wl_profile *p = k->w->profile;
	unsigned words = tag_reasons(n->tag_id);
	*whole = 0;
	if (n->tag_id == MyHTML_TAG_BODY || n->tag_id == MyHTML_TAG_HTML)
		return words;
	for (size_t i = 0; i < 2; i++) {
		if (!names[i] || !*names[i])
			continue;
		uint64_t hash = wl_hash64(names[i], strlen(names[i]), 21) | 1;
		struct known_name *known = &k->names[hash >> 8 & (KNOWN_NAMES - 1)];
		if (known->hash != hash)
			*known = (struct known_name){hash,
				wl_words_of(&p->words[WL_IN_CLASS], names[i]),
				whole_tokens(&p->whole, names[i])};
		words |= known->words;
		*whole |= known->whole;
	}
	return words;
}

static int push(struct walker *k, const wl_node *n, const struct looks *looks, unsigned words,
	unsigned whole, struct wl_err *err)
{
	myhtml_tag_id_t tag = n->tag_id;
	GROW(k->stack, k->depth, k->cap, err);
	struct level *l = &k->stack[k->depth];
	*l = k->depth ? k->stack[k->depth - 1] : (struct level){.mark = -1};
	k->depth++;
	l->own_mark = -1;
	l->node = n;
	l->child = n->child;
	l->opened_link = tag == MyHTML_TAG_A;
	l->is_block = is_block_tag(tag) || whole & WL_CLASS_CAPTION;
	l->near = words;
	if (words & SPREADS)
		WL_TRY(add_mark(k, l, words & SPREADS, err));
	l->caption = l->caption || whole & WL_CLASS_CAPTION;
	if (whole & WL_CLASS_CONTENT)
		l->content = ++k->n_content;
	l->centred = l->centred || is_centred(n, looks);
	l->hidden = l->hidden || is_hidden(looks);
	if (tag == MyHTML_TAG_LI || tag == MyHTML_TAG_DL || tag == MyHTML_TAG_TD)
		l->box = ++k->n_boxes;
	if (tag == MyHTML_TAG_FIGURE)
		l->figure = n;
	if (tag == MyHTML_TAG_FIGCAPTION)
		l->figcaption = n;
	if (wl_dom_is_named(k->dom, n, "picture"))
		l->picture = n;
	k->links += l->opened_link;
	return 0;
}

static int enter(struct walker *k, const wl_node *n, struct wl_err *err)
{
	myhtml_tag_id_t tag = n->tag_id;
	unsigned whole, words;
	see_head(k->w, n);
	if (is_mute(tag) && tag != MyHTML_TAG_HEAD)
		return 0;
	struct looks looks = looks_of(n);
	words = class_words(k, n, &looks, &whole);
	if ((is_block_tag(tag) || whole & WL_CLASS_CAPTION) && k->depth)
		WL_TRY(flush(k, err));
	if (heading_level(tag))
		k->heading = heading_level(tag);
	WL_TRY(push(k, n, &looks, words, whole, err));
	if (tag == MyHTML_TAG_IMG || wl_dom_is_named(k->dom, n, "amp-img"))
		WL_TRY(add_image(k, n, err));
	return 0;
}

static int leave(struct walker *k, const wl_node *n, struct wl_err *err)
{
	const struct level *l = top(k);
	if (l->is_block)
		WL_TRY(flush(k, err));
	if (heading_level(n->tag_id))
		k->heading = 0;
	if (l->own_mark >= 0)
		k->w->marks[l->own_mark].chars = k->w->chars - l->chars_before;
	k->links -= l->opened_link;
	k->depth--;
	return 0;
}

static int visit(struct walker *k, const wl_node *n, struct wl_err *err)
{
	if (wl_node_is_text(n))
		return k->depth ? add_text(k, wl_node_text(n), err) : 0;
	return wl_node_is_element(n) ? enter(k, n, err) : 0;
}

static int walk(struct walker *k, const wl_node *root, struct wl_err *err)
{
	WL_TRY(visit(k, root, err));
	while (k->depth) {
		struct level *l = top(k);
		const wl_node *child = l->child;
		if (child) {
			l->child = child->next;
			WL_TRY(visit(k, child, err));
		} else {
			WL_TRY(leave(k, l->node, err));
		}
	}
	return 0;
}

int wl_walk_page(struct wl_walk *w, const struct wl_dom *dom, struct wl_err *err)
{
	struct walker k = {.w = w, .dom = dom};
	*w = (struct wl_walk){.profile = w->profile,
		.text = w->text,
		.blocks = w->blocks,
		.imgs = w->imgs,
		.marks = w->marks,
		.cap_blocks = w->cap_blocks,
		.cap_imgs = w->cap_imgs,
		.cap_marks = w->cap_marks};
	w->text.max = 4 * (size_t)WL_PAGE_MAX_BYTES;
	wl_buf_reset(&w->text);
	int ret = wl_buf_reserve(&w->text, 4096, err); /* data is never NULL below */
	if (ret == 0)
		ret = walk(&k, dom->root, err);
	free(k.stack);
	return ret;
}

void wl_walk_release(struct wl_walk *w)
{
	wl_buf_release(&w->text);
	free(w->blocks);
	free(w->imgs);
	free(w->marks);
}

unsigned wl_walk_reasons(const struct wl_walk *w, int mark)
{
	unsigned reasons = 0;
	for (; mark >= 0; mark = w->marks[mark].parent)
		if (2 * w->marks[mark].chars <= w->chars)
			reasons |= w->marks[mark].reasons;
	return reasons;
}

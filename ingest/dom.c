/* See dom.h. */
#include "ingest/dom.h"

#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- the heap ---- */

enum { BLOCK = 256 * 1024, ALIGN = 16 };

struct wl_dom_block {
	struct wl_dom_block *next;
	size_t used, size;
	_Alignas(ALIGN) char data[];
};

struct heap {
	struct wl_dom *d;
	jmp_buf full;
};

static struct wl_dom_block *new_block(struct heap *h, size_t need)
{
	size_t size = need > BLOCK ? need : BLOCK;
	if (h->d->used_bytes + size > h->d->max_bytes)
		longjmp(h->full, 1);
	struct wl_dom_block *b = malloc(sizeof *b + size);
	if (!b)
		longjmp(h->full, 2);
	*b = (struct wl_dom_block){.size = size};
	h->d->used_bytes += size;
	/* One that is full at once goes behind the one that has room. */
	if (h->d->blocks && need > BLOCK / 2) {
		b->next = h->d->blocks->next;
		h->d->blocks->next = b;
	} else {
		b->next = h->d->blocks;
		h->d->blocks = b;
	}
	return b;
}

static void *heap_alloc(void *ctx, size_t n)
{
	struct heap *h = ctx;
	struct wl_dom_block *b = h->d->blocks;
	n = (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	if (!b || b->size - b->used < n)
		b = new_block(h, n);
	void *p = b->data + b->used;
	b->used += n;
	return p;
}

/* Everything is dropped at once. */
static void heap_free(void *ctx, void *p)
{
	(void)ctx;
	(void)p;
}

/* ---- depth, before parsing ---- */

/* Elements that never hold others, or that the next of their kind closes: they do not nest. */
static bool nests(const char *name, size_t n)
{
	static const char *const flat[] = {"area", "base", "basefont", "bgsound", "body", "br",
		"col", "dd", "dt", "embed", "frame", "head", "hr", "html", "img", "image", "input",
		"keygen", "li", "link", "menuitem", "meta", "optgroup", "option", "p", "param",
		"source", "tbody", "td", "tfoot", "th", "thead", "tr", "track", "wbr", NULL};
	for (const char *const *f = flat; *f; f++)
		if (strlen(*f) == n && strncasecmp(*f, name, n) == 0)
			return false;
	return true;
}

/* Elements whose content is text up to their end tag. */
static bool is_raw(const char *name, size_t n)
{
	static const char *const raw[] = {"script", "style", "textarea", "title", "xmp", "iframe",
		"noembed", "noframes", NULL};
	for (const char *const *r = raw; *r; r++)
		if (strlen(*r) == n && strncasecmp(*r, name, n) == 0)
			return true;
	return false;
}

/* The end of the tag that starts at p (after its '<'); quotes may hold '>'. */
static const char *tag_end(const char *p, const char *end)
{
	char quote = '\0', before = '\0';
	for (; p < end; p++) {
		if (quote) {
			quote = *p == quote ? '\0' : quote;
			continue;
		}
		if (*p == '>')
			return p;
		if ((*p == '"' || *p == '\'') && before == '=')
			quote = *p;
		if (!strchr(" \t\r\n\f", *p))
			before = *p;
	}
	return end;
}

static const char *skip_raw(const char *p, const char *end, const char *name, size_t n)
{
	while ((p = memchr(p, '<', (size_t)(end - p))) != NULL) {
		if ((size_t)(end - p) > n + 2 && p[1] == '/' && strncasecmp(p + 2, name, n) == 0)
			return p;
		p++;
	}
	return end;
}

static size_t name_len(const char *p, const char *end)
{
	const char *s = p;
	while (p < end && !strchr(" \t\r\n\f/>", *p))
		p++;
	return (size_t)(p - s);
}

/* Open elements by a hash of their name: an end tag closes one of its own name only. */
struct open_tags {
	unsigned n[256];
	size_t depth;
};

static void count_tag(struct open_tags *o, const char *name, size_t n, bool is_end)
{
	unsigned h = 0;
	for (size_t i = 0; i < n; i++)
		h = h * 31 + ((unsigned char)name[i] | 0x20);
	h &= 255;
	if (!nests(name, n))
		return;
	if (!is_end) {
		o->n[h]++;
		o->depth++;
	} else if (o->n[h]) {
		o->n[h]--;
		o->depth--;
	}
}

size_t wl_dom_depth_limit(const char *text, size_t n, size_t max_depth)
{
	const char *p = text, *end = text + n;
	struct open_tags open = {{0}, 0};
	while ((p = memchr(p, '<', (size_t)(end - p))) != NULL) {
		const char *start = p++;
		if (end - p >= 3 && memcmp(p, "!--", 3) == 0) {
			const char *close = memmem(p + 1, (size_t)(end - p) - 1, "-->", 3);
			p = close ? close + 3 : end;
			continue;
		}
		bool is_end = p < end && *p == '/';
		p += is_end;
		if (p == end || !strchr("abcdefghijklmnopqrstuvwxyz", *p | 0x20) || !*p)
			continue;
		const char *name = p;
		size_t len = name_len(p, end);
		p = tag_end(p + len, end);
		count_tag(&open, name, len, is_end);
		if (open.depth > max_depth)
			return (size_t)(start - text);
		if (!is_end && is_raw(name, len))
			p = skip_raw(p, end, name, len);
	}
	return n;
}

/* ---- parsing ---- */

int wl_dom_parse(struct wl_dom *d, const char *text, size_t n, struct wl_err *err)
{
	struct heap h = {.d = d};
	GumboOptions opt = kGumboDefaultOptions;
	*d = (struct wl_dom){.max_bytes = WL_DOM_MAX_BYTES};
	size_t limit = wl_dom_depth_limit(text, n, WL_DOM_MAX_DEPTH);
	d->cut = limit < n;
	opt.allocator = heap_alloc;
	opt.deallocator = heap_free;
	opt.userdata = &h;
	opt.max_errors = 0;
	int why = setjmp(h.full);
	if (why) {
		wl_dom_release(d);
		return why == 2 ? wl_err_nomem(err, "a page's tree", BLOCK)
				: wl_err_set(err, WL_EDATA,
					  "the page's tree needs more than %d MiB of memory",
					  WL_DOM_MAX_BYTES >> 20);
	}
	const GumboOutput *out = gumbo_parse_with_options(&opt, text, limit);
	d->root = out->root;
	return 0;
}

void wl_dom_release(struct wl_dom *d)
{
	while (d && d->blocks) {
		struct wl_dom_block *b = d->blocks;
		d->blocks = b->next;
		free(b);
	}
	if (d)
		*d = (struct wl_dom){0};
}

const char *wl_dom_attr(const GumboNode *element, const char *name)
{
	if (element->type != GUMBO_NODE_ELEMENT)
		return NULL;
	const GumboVector *v = &element->v.element.attributes;
	for (unsigned i = 0; i < v->length; i++) {
		const GumboAttribute *a = v->data[i];
		if (strcasecmp(a->name, name) == 0)
			return a->value;
	}
	return NULL;
}

bool wl_dom_is(const GumboNode *node, GumboTag tag)
{
	return node->type == GUMBO_NODE_ELEMENT && node->v.element.tag == tag;
}

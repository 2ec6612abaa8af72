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

/* ---- parsing ---- */

static int parse(struct wl_dom *d, const char *text, size_t n, bool all, struct wl_err *err)
{
	struct heap h = {.d = d};
	GumboOptions opt = kGumboDefaultOptions;
	*d = (struct wl_dom){.max_bytes = WL_DOM_MAX_BYTES};
	if (wl_skim_page(&d->skim, text, n, WL_DOM_MAX_DEPTH, all, err) < 0) {
		wl_dom_release(d);
		return -1;
	}
	d->cut = d->skim.cut_at < n;
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
	const GumboOutput *out =
		gumbo_parse_with_options(&opt, d->skim.text.data, d->skim.text.len);
	d->root = out->root;
	return 0;
}

int wl_dom_parse(struct wl_dom *d, const char *text, size_t n, struct wl_err *err)
{
	return parse(d, text, n, false, err);
}

int wl_dom_parse_all(struct wl_dom *d, const char *text, size_t n, struct wl_err *err)
{
	return parse(d, text, n, true, err);
}

void wl_dom_release(struct wl_dom *d)
{
	while (d && d->blocks) {
		struct wl_dom_block *b = d->blocks;
		d->blocks = b->next;
		free(b);
	}
	if (d) {
		wl_skim_release(&d->skim);
		*d = (struct wl_dom){0};
	}
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

/* See dom.h. */
#include "ingest/dom.h"

#include <myhtml/callback.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

/* A parser that has held a larger page gives its memory back. */
enum { KEPT_NODES = 1 << 16 };

struct limit {
	struct wl_dom *d;
	jmp_buf full;
};

/* MyHTML cannot be told to stop, and a page of a few megabytes can make it add nodes without end
 * (each <p> opens all unclosed <font> again), so what is left of the parse is jumped over. */
static void count_node(struct myhtml_tree *tree, wl_node *node, void *ctx)
{
	struct limit *l = ctx;
	(void)tree;
	(void)node;
	if (++l->d->nodes > WL_DOM_MAX_NODES)
		longjmp(l->full, 1);
}

static void drop_parser(struct wl_dom *d)
{
	if (d->tree)
		myhtml_tree_destroy(d->tree);
	if (d->parser)
		myhtml_destroy(d->parser);
	d->tree = NULL;
	d->parser = NULL;
	d->root = NULL;
}

static int make_parser(struct wl_dom *d, struct wl_err *err)
{
	d->parser = myhtml_create();
	if (!d->parser || myhtml_init(d->parser, MyHTML_OPTIONS_PARSE_MODE_SINGLE, 1, 0))
		goto fail;
	d->tree = myhtml_tree_create();
	if (!d->tree || myhtml_tree_init(d->tree, d->parser))
		goto fail;
	return 0;
fail:
	drop_parser(d);
	return wl_err_nomem(err, "a parser of pages", 0);
}

static int build(struct wl_dom *d, struct wl_err *err)
{
	struct limit l = {.d = d};
	d->nodes = 0;
	if (!d->tree)
		WL_TRY(make_parser(d, err));
	myhtml_callback_tree_node_insert_set(d->tree, count_node, &l);
	if (setjmp(l.full)) {
		drop_parser(d);
		return wl_err_set(err, WL_EDATA,
			"the page's tree has more than %d nodes", (int)WL_DOM_MAX_NODES);
	}
	if (myhtml_parse_single(
		    d->tree, MyENCODING_UTF_8, d->skim.text.data, d->skim.text.len)) {
		drop_parser(d);
		return wl_err_nomem(err, "a page's tree", d->skim.text.len);
	}
	d->root = d->tree->node_html;
	return d->root ? 0 : wl_err_set(err, WL_EDATA, "the page makes no tree");
}

static int parse(struct wl_dom *d, const char *text, size_t n, bool all, struct wl_err *err)
{
	if (d->nodes > KEPT_NODES)
		drop_parser(d);
	WL_TRY(wl_skim_page(&d->skim, text, n, WL_DOM_MAX_DEPTH, all, err));
	d->cut = d->skim.cut_at < n;
	return build(d, err);
}

void wl_dom_init(struct wl_dom *d)
{
	*d = (struct wl_dom){0};
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
	if (!d)
		return;
	drop_parser(d);
	wl_skim_release(&d->skim);
	wl_dom_init(d);
}

const char *wl_dom_attr(const wl_node *element, const char *name)
{
	const struct myhtml_token_attr *a = element->token ? element->token->attr_first : NULL;
	if (!a || !wl_node_is_element(element))
		return NULL;
	size_t n = strlen(name);
	for (; a; a = a->next)
		if (a->key.length == n && memcmp(a->key.data, name, n) == 0)
			return a->value.data ? a->value.data : "";
	return NULL;
}

bool wl_dom_is_named(const struct wl_dom *d, const wl_node *node, const char *name)
{
	size_t n = 0;
	if (node->tag_id < MyHTML_TAG_LAST_ENTRY)
		return false;
	const char *is = myhtml_tag_name_by_id(d->tree, node->tag_id, &n);
	return is && n == strlen(name) && memcmp(is, name, n) == 0;
}

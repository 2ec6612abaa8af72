/*
 * A trie whose edges live in one open-addressed table, with failure links.  Words that end at a
 * node are found along its chain of output links, longest first.
 */
#include "clean/words.h"

#include "ops/hash.h"

#include <stdlib.h>
#include <string.h>

struct node {
	uint32_t fail, out; /* out: next node on the failure chain where a word ends; 0: none */
	uint32_t depth;	    /* bytes from the root */
	int32_t tag;	    /* -1: no word ends here */
};

struct edge {
	uint32_t parent, child; /* child 0: free */
	uint8_t byte;
};

struct wl_words {
	struct node *nodes;
	struct edge *edges;
	size_t n_nodes, cap_nodes, n_edges, slots, words;
};

static struct edge *slot_of(struct edge *edges, size_t slots, uint32_t parent, uint8_t byte)
{
	size_t i = (size_t)wl_mix64((uint64_t)parent << 8 | byte) & (slots - 1);

	while (edges[i].child && (edges[i].parent != parent || edges[i].byte != byte))
		i = (i + 1) & (slots - 1);
	return &edges[i];
}

static uint32_t child_of(const struct wl_words *w, uint32_t node, uint8_t byte)
{
	return slot_of(w->edges, w->slots, node, byte)->child;
}

struct wl_words *wl_words_new(struct wl_err *err)
{
	struct wl_words *w = calloc(1, sizeof(*w));

	if (w) {
		w->slots = 1024;
		w->cap_nodes = 512;
		w->edges = calloc(w->slots, sizeof(*w->edges));
		w->nodes = calloc(w->cap_nodes, sizeof(*w->nodes));
	}
	if (!w || !w->edges || !w->nodes) {
		wl_words_free(w);
		wl_err_nomem(err, "a word list", sizeof(*w));
		return NULL;
	}
	w->n_nodes = 1;
	w->nodes[0].tag = -1;
	return w;
}

void wl_words_free(struct wl_words *w)
{
	if (!w)
		return;
	free(w->nodes);
	free(w->edges);
	free(w);
}

/* Room for one more node and edge; the table stays at most half full. */
static int grow(struct wl_words *w, struct wl_err *err)
{
	if (w->n_nodes == w->cap_nodes) {
		struct node *p = realloc(w->nodes, 2 * w->cap_nodes * sizeof(*p));
		if (!p)
			return wl_err_nomem(err, "a word list", 2 * w->cap_nodes * sizeof(*p));
		w->nodes = p;
		w->cap_nodes *= 2;
	}
	if (2 * (w->n_edges + 1) > w->slots) {
		struct edge *p = calloc(2 * w->slots, sizeof(*p));
		if (!p)
			return wl_err_nomem(err, "a word list", 2 * w->slots * sizeof(*p));
		for (size_t i = 0; i < w->slots; i++)
			if (w->edges[i].child)
				*slot_of(p, 2 * w->slots, w->edges[i].parent, w->edges[i].byte) =
					w->edges[i];
		free(w->edges);
		w->edges = p;
		w->slots *= 2;
	}
	return 0;
}

int wl_words_add(struct wl_words *w, const char *word, size_t n, int32_t tag, struct wl_err *err)
{
	uint32_t node = 0;

	WL_ASSERT(n > 0 && tag >= 0);
	for (size_t i = 0; i < n; i++) {
		struct edge *e;
		WL_TRY(grow(w, err));
		e = slot_of(w->edges, w->slots, node, (uint8_t)word[i]);
		if (!e->child) {
			*e = (struct edge){node, (uint32_t)w->n_nodes, (uint8_t)word[i]};
			w->nodes[w->n_nodes] = (struct node){.depth = (uint32_t)i + 1, .tag = -1};
			w->n_nodes++;
			w->n_edges++;
		}
		node = e->child;
	}
	if (w->nodes[node].tag < 0) {
		w->nodes[node].tag = tag;
		w->words++;
	}
	return 0;
}

size_t wl_words_count(const struct wl_words *w)
{
	return w->words;
}

static int by_depth(const void *p, const void *q, void *nodes)
{
	const struct edge *a = *(struct edge *const *)p, *b = *(struct edge *const *)q;
	uint32_t da = ((struct node *)nodes)[a->child].depth;
	uint32_t db = ((struct node *)nodes)[b->child].depth;

	return da != db ? (da < db ? -1 : 1) : (a->child > b->child) - (a->child < b->child);
}

int wl_words_build(struct wl_words *w, struct wl_err *err)
{
	struct edge **order = malloc((w->n_edges + 1) * sizeof(*order));
	size_t n = 0;

	if (!order)
		return wl_err_nomem(err, "a word list", w->n_edges * sizeof(*order));
	for (size_t i = 0; i < w->slots; i++)
		if (w->edges[i].child)
			order[n++] = &w->edges[i];
	qsort_r(order, n, sizeof(*order), by_depth, w->nodes);
	/* Breadth first: a node's failure link is shorter, so it is there already. */
	for (size_t i = 0; i < n; i++) {
		struct node *node = &w->nodes[order[i]->child];
		uint32_t f = order[i]->parent;
		while (f && !child_of(w, w->nodes[f].fail, order[i]->byte))
			f = w->nodes[f].fail;
		f = f ? child_of(w, w->nodes[f].fail, order[i]->byte) : 0;
		node->fail = f;
		node->out = w->nodes[f].tag >= 0 ? f : w->nodes[f].out;
	}
	free(order);
	return 0;
}

static bool alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool wl_words_find(
	const struct wl_words *w, const char *text, size_t n, bool bounded, struct wl_match *m)
{
	uint32_t node = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t next;
		while (!(next = child_of(w, node, (uint8_t)text[i])) && node)
			node = w->nodes[node].fail;
		node = next;
		for (uint32_t e = w->nodes[node].tag >= 0 ? node : w->nodes[node].out; e;
			e = w->nodes[e].out) {
			size_t len = w->nodes[e].depth, at = i + 1 - len;
			if (bounded && ((at > 0 && alnum(text[at - 1]) && alnum(text[at])) ||
					       (i + 1 < n && alnum(text[i + 1]) && alnum(text[i]))))
				continue;
			*m = (struct wl_match){w->nodes[e].tag, at, len};
			return true;
		}
	}
	return false;
}

/* Between segment.c (cutting), segment_dict.c (the words) and segment_hmm.c (the model). */
#ifndef WL_CLEAN_SEGMENT_PRIV_H
#define WL_CLEAN_SEGMENT_PRIV_H

#include "clean/segment.h"
#include "ops/buf.h"

#include <stdbool.h>

/* ---- characters ---- */

/* jieba's re_han_default, [\u4E00-\u9FD5a-zA-Z0-9+#&\._%\-], and the parts of it. */
static inline bool seg_is_han(uint32_t c)
{
	return c - 0x4e00 <= 0x9fd5 - 0x4e00;
}

static inline bool seg_is_digit(uint32_t c)
{
	return c - '0' <= 9;
}

static inline bool seg_is_eng(uint32_t c)
{
	return (c | 0x20) - 'a' < 26 || seg_is_digit(c);
}

static inline bool seg_in_block(uint32_t c)
{
	return seg_is_han(c) || seg_is_eng(c) || c == '+' || c == '#' || c == '&' || c == '.' ||
	       c == '_' || c == '%' || c == '-';
}

/* ---- the dictionary: a trie over code points ---- */

/* A node and what is known of it, 0: no such node.  In jieba's terms a node is a key of FREQ, a
 * word is one whose frequency is not 0. */
typedef uint32_t wl_ref;
#define WL_REF_KIDS 0x80000000u
#define WL_REF_WORD 0x40000000u
#define WL_REF_NODE 0x3fffffffu

struct dict_at {
	wl_ref ref;
	uint32_t rank; /* of a word's frequency among all that occur; set by dict_freeze */
};

struct dict_edge {
	uint64_t key; /* parent << 21 | code point; 0: free (the root's edges are in root[]) */
	struct dict_at at;
};

enum { DICT_ROOTS = 0x10000, DICT_MAX_WORD = 1024 /* code points */ };

struct dict {
	struct dict_at *root; /* [DICT_ROOTS]: each first character of the BMP */
	struct dict_edge *edges;
	uint64_t *filter; /* bits of the keys that are there */
	double *weight;	  /* by rank: ln(frequency) - ln(total) */
	int64_t *freq;	  /* by node */
	bool *force;	  /* by node: jieba's Force_Split_Words */
	size_t slots, n_edges, n_nodes, cap_nodes, n_force;
	int64_t total;
	double log_total;
	bool frozen;
};

int dict_init(struct dict *d, struct wl_err *err);
void dict_release(struct dict *d);

/* Reads jieba's dictionary (text, kept in b while reading); what: its path. */
int dict_read(struct dict *d, const struct wl_buf *b, const char *what, struct wl_err *err);
/* jieba's load_userdict; may be called until dict_freeze. */
int dict_read_user(struct dict *d, const struct wl_buf *b, const char *what, struct wl_err *err);
int dict_freeze(struct dict *d, struct wl_err *err);

wl_ref dict_find_edge(const struct dict *d, uint32_t node, uint32_t c);

static inline wl_ref dict_first(const struct dict *d, uint32_t c)
{
	return c < DICT_ROOTS ? d->root[c].ref : dict_find_edge(d, 0, c);
}

static inline wl_ref dict_next(const struct dict *d, wl_ref ref, uint32_t c)
{
	return ref & WL_REF_KIDS ? dict_find_edge(d, ref & WL_REF_NODE, c) : 0;
}

/* The node of the whole string, 0: none. */
wl_ref dict_find(const struct dict *d, const uint32_t *c, size_t n);

/* The likeliest path over n > 0 code points: next[i] is where the word that starts at i ends.
 * score: scratch of n + 1. */
void dict_route(const struct dict *d, const uint32_t *c, size_t n, double *score, uint32_t *next);

/* Where the word at i ends when there is no model (__cut_DAG_NO_HMM): single letters and digits
 * that stand together are one. */
static inline size_t dict_plain_end(const uint32_t *c, size_t n, const uint32_t *next, size_t i)
{
	size_t end = next[i];

	if (end == i + 1 && seg_is_eng(c[i]))
		while (end < n && seg_is_eng(c[end]) && next[end] == end + 1)
			end++;
	return end;
}

/* ---- the model ---- */

enum { HMM_B, HMM_E, HMM_M, HMM_S, HMM_STATES, HMM_CHARS = 0x9fd5 - 0x4e00 + 1 };

struct hmm {
	double start[HMM_STATES], trans[HMM_STATES][HMM_STATES];
	double (*emit)[HMM_STATES]; /* [HMM_CHARS] */
};

/* which: "start", "trans" or "emit"; text: that file. */
int hmm_read(struct hmm *h, const char *which, const struct wl_buf *text, const char *what,
	struct wl_err *err);
void hmm_release(struct hmm *h);

/* The likeliest states of n > 0 Chinese characters; from: scratch of n. */
void hmm_states(const struct hmm *h, const uint32_t *c, size_t n, uint8_t *from, uint8_t *state);

#endif

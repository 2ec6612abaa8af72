/* Between words.c (building) and words_scan.c (matching). */
#ifndef WL_CLEAN_WORDS_PRIV_H
#define WL_CLEAN_WORDS_PRIV_H

#include "clean/utf8.h"
#include "clean/words.h"
#include "ops/hash.h"

enum {
	TABLE_END = 0x30000,
	/* What the table says beside letters' numbers (from 1): */
	SYM_BREAK = 0,	      /* a letter of no word */
	SYM_SKIP = 0xffff,    /* a separator */
	SYM_SIGN = 0xfffe,    /* @ $ !: between Latin letters one of them, else a separator */
	SYM_SEVERAL = 0xfffd, /* unfolds to several letters */
	SYM_MAX = 0xfff0,
	LEET_MIN = 3, /* Latin letters of a word in which some may be written as digits */
	SPELLED_MIN = 3,
};

struct word {
	uint32_t at, n; /* letters[at .. at + n) */
	uint32_t next;	/* another word that ends at the same node; 0: none */
	int32_t tag;
	bool spaced;
	uint16_t latin; /* a..z among its letters */
};

struct edge {
	uint32_t node, child; /* child 0: free */
	uint32_t end;	      /* first word that ends at the child, once built; 0: none */
	uint16_t sym;
};

struct wl_words {
	const struct wl_fold *fold;
	uint16_t *number; /* [TABLE_END] of a letter's class */
	uint16_t *table;  /* [TABLE_END + 1] of a character; gathers read past it by two bytes */
	uint32_t symbols;
	struct word *words; /* from 1 */
	size_t n_words, cap_words;
	uint32_t *letters; /* folded; GAP: the word has a separator before it */
	size_t n_letters, cap_letters;
	uint32_t *ends; /* by node: first word that ends there; 0: none */
	size_t n_nodes, cap_nodes;
	struct edge *edges; /* open addressing, at most half full */
	size_t n_edges, slots;
	uint32_t *first_child; /* by number: the node behind the root */
	uint32_t *begins;      /* [1 << (32 - shift)] cells, see begin_hash */
	unsigned shift;
	uint32_t *again; /* bitmap of another hash of the same, see again_bit */
	unsigned again_shift;
};

static const uint32_t GAP = 1u << 31;

/* The letter for which a digit or sign may stand; letters that look alike share one. */
static inline uint32_t class_of(uint32_t c)
{
	switch (c) {
	case '0':
		return 'o';
	case '1':
	case 'l':
	case '!':
		return 'i';
	case '2':
		return 'z';
	case '3':
		return 'e';
	case '4':
	case '@':
		return 'a';
	case '5':
	case '$':
		return 's';
	case '7':
		return 't';
	case '8':
		return 'b';
	case '9':
		return 'g';
	default:
		return c;
	}
}

static inline bool latin(uint32_t c)
{
	return c >= 'a' && c <= 'z';
}

static inline bool latin_any(char c)
{
	return latin((uint32_t)(unsigned char)c | 32);
}

static inline bool sign(uint32_t c)
{
	return c == '@' || c == '$' || c == '!';
}

/* ---- reading a text letter by letter ---- */

struct letter {
	uint32_t c;	     /* folded; a digit or sign is itself */
	size_t at, end;	     /* the bytes of its character */
	uint32_t soft, hard; /* separators before it */
	bool inside, more;   /* it shares its character with a letter before, behind */
};

struct reader {
	const struct wl_fold *fold;
	const char *text;
	size_t n, i;
	uint32_t several[WL_FOLD_MAX];
	size_t n_several, k;
	size_t at; /* of the character that several came from */
};

/* A sign with Latin letters on both sides is a letter. */
static inline bool sign_is_letter(const char *text, size_t n, size_t at)
{
	return at > 0 && at + 1 < n && latin_any(text[at - 1]) && latin_any(text[at + 1]);
}

/* The next letter; false at the end. */
static inline bool read_letter(struct reader *r, struct letter *l)
{
	l->soft = l->hard = 0;
	if (r->k < r->n_several) {
		l->c = r->several[r->k++];
		l->inside = true;
		l->more = r->k < r->n_several;
		l->at = r->at;
		l->end = r->i;
		return true;
	}
	while (r->i < r->n) {
		size_t at = r->i;
		bool ok = true;
		uint32_t c = wl_utf8_next(r->text, r->n, &r->i, &ok), f;
		f = ok ? wl_fold_at(r->fold, c) : WL_FOLD_SOFT;
		if (sign(c) && sign_is_letter(r->text, r->n, at))
			f = c;
		if (f == WL_FOLD_SOFT || f == WL_FOLD_HARD) {
			l->soft += f == WL_FOLD_SOFT;
			l->hard += f == WL_FOLD_HARD;
			continue;
		}
		l->at = r->at = at;
		l->end = r->i;
		if (!f) {
			r->n_several = wl_fold_several(r->fold, c, r->several);
			r->k = 1;
			f = r->several[0];
		}
		l->c = f;
		l->inside = false;
		l->more = r->k < r->n_several;
		return true;
	}
	return false;
}

static inline size_t edge_slot(size_t slots, uint32_t node, uint32_t sym)
{
	return (size_t)wl_mix64((uint64_t)node << 16 | sym) & (slots - 1);
}

static inline struct edge *edge_of(struct edge *edges, size_t slots, uint32_t node, uint32_t sym)
{
	size_t i = edge_slot(slots, node, sym);

	while (edges[i].child && (edges[i].node != node || edges[i].sym != sym))
		i = (i + 1) & (slots - 1);
	return &edges[i];
}

/* How words begin, in one look: the numbers of two letters choose a cell of 32 bits, and in it one
 * bit says that these two are a word, another that they and this third one begin a longer one.
 * About one place in a hundred says so in vain. */
static inline uint32_t begin_hash(uint32_t a, uint32_t b)
{
	return (a | b << 16) * 0x9e3779b1u;
}

static inline uint32_t two_bit(uint32_t hash)
{
	return (hash ^ hash >> 7) >> 4 & 31;
}

static inline uint32_t three_bit(uint32_t hash, uint32_t c)
{
	return (hash ^ c * 0xc2b2ae3du) * 0x27d4eb2fu >> 27;
}

/* The bit of another hash, for the few places that pass the first; c is 0 for words of two. */
static inline uint32_t again_bit(uint32_t a, uint32_t b, uint32_t c, unsigned shift)
{
	uint64_t x = (uint64_t)a << 32 | b << 16 | c;

	return (uint32_t)(x * 0xd6e8feb86659fd93u >> 32) >> shift;
}

static inline bool begins_again(const struct wl_words *w, uint32_t a, uint32_t b, uint32_t c)
{
	uint32_t two = again_bit(a, b, 0, w->again_shift);
	uint32_t three = again_bit(a, b, c, w->again_shift);

	return (w->again[two / 32] >> two % 32 | w->again[three / 32] >> three % 32) & 1;
}

#endif

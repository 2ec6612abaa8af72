/*
 * WordPiece over two tables that are made once, when the vocabulary is loaded:
 *
 *   - for every code point of the basic plane, what the rules make of it.  Asking ICU for each
 *     character of each caption costs ten times what the rest costs; captions are almost
 *     wholly Chinese characters, and for those the table holds the token's id itself;
 *   - a trie over the tokens' bytes whose edges live in one open-addressed table, so that the
 *     longest match is one walk along the word.  Continuations ("##x") start at the node that
 *     "##" leads to.
 *
 * The rules look at one character at a time.  So do Hugging Face's tokenisers: both lower-case
 * character by character, so capital sigma never becomes a final sigma.  Canonical reordering
 * of combining marks is left out: marks of category Mn are dropped anyway, and the few others
 * with a combining class do not occur together in any script.  Special tokens written out in
 * a caption ("[SEP]") are text like any other.
 */
#include "clean/wordpiece.h"

#include "clean/utf8.h"
#include "ops/buf.h"
#include "ops/file.h"
#include "ops/hash.h"

#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/ustring.h>

enum {
	VOCAB_MAX_BYTES = 64 << 20,
	WORD_MAX_CHARS = 100, /* longer words are [UNK] (FACTS 10, step 6) */
	BMP = 0x10000,
	EXPANSION_MAX = 16, /* code points that lower-casing and NFD may make of one; 4 occur */
};

/* What becomes of a character; the upper bits of a table entry, the payload below. */
enum char_class {
	CLASS_PLAIN,  /* part of a word, as it is */
	CLASS_DROP,   /* vanishes without ending the word: controls, combining marks */
	CLASS_SPACE,  /* ends the word */
	CLASS_ALONE,  /* a token of its own; payload: its id */
	CLASS_MAPPED, /* other characters of a word; payload: where they are in `mapped` */
};
#define ENTRY(class, payload) ((uint32_t)(class) << 29 | (uint32_t)(payload))
#define ENTRY_CLASS(e) ((enum char_class)((e) >> 29))
#define ENTRY_PAYLOAD(e) ((e)&0x1fffffffu)

struct edge {
	uint32_t parent, child; /* child 0: the slot is free (the root is nobody's child) */
	uint8_t byte;
};

struct wl_vocab {
	char *text;   /* all tokens, each closed by a 0; owned */
	uint32_t *at; /* [n] where each token starts in text */
	size_t n;
	struct edge *edges;
	size_t edge_mask;     /* slots - 1, a power of two less one */
	int32_t *node_id;     /* [nodes] the token that ends here, or -1 */
	uint32_t nodes, cont; /* cont: the node of "##", 0 when there is none */
	int32_t pad, unk, cls, sep;
	const UNormalizer2 *nfd; /* ICU's, never freed */
	uint32_t bmp[BMP];
	uint32_t *mapped; /* runs of code points, each preceded by its length */
	size_t mapped_len, mapped_cap;
};

/* ---- the trie ---- */

static struct edge *edge_slot(const struct wl_vocab *v, uint32_t parent, uint8_t byte)
{
	size_t i = (size_t)wl_mix64((uint64_t)parent << 8 | byte) & v->edge_mask;

	while (v->edges[i].child && (v->edges[i].parent != parent || v->edges[i].byte != byte))
		i = (i + 1) & v->edge_mask;
	return &v->edges[i];
}

/* The node that s leads to from `node`; 0 when there is none. */
static uint32_t trie_walk(const struct wl_vocab *v, uint32_t node, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		node = edge_slot(v, node, (uint8_t)s[i])->child;
		if (!node)
			return 0;
	}
	return node;
}

static uint32_t trie_add(struct wl_vocab *v, const char *s)
{
	uint32_t node = 0;

	for (; *s; s++) {
		struct edge *e = edge_slot(v, node, (uint8_t)*s);
		if (!e->child) {
			e->parent = node;
			e->byte = (uint8_t)*s;
			e->child = v->nodes++;
		}
		node = e->child;
	}
	return node;
}

int32_t wl_vocab_id(const struct wl_vocab *v, const char *token)
{
	uint32_t node = trie_walk(v, 0, token, strlen(token));

	return node ? v->node_id[node] : -1;
}

static int32_t id_or_unk(const struct wl_vocab *v, const char *s, size_t n)
{
	uint32_t node = trie_walk(v, 0, s, n);

	return node && v->node_id[node] >= 0 ? v->node_id[node] : v->unk;
}

static int trie_build(struct wl_vocab *v, size_t text_len, const char *what, struct wl_err *err)
{
	size_t slots = 1024;

	while (slots < 2 * text_len)
		slots *= 2;
	v->edges = calloc(slots, sizeof(*v->edges));
	v->node_id = malloc((text_len + 1) * sizeof(*v->node_id));
	if (!v->edges || !v->node_id)
		return wl_err_nomem(err, "a vocabulary's trie", slots * sizeof(*v->edges));
	v->edge_mask = slots - 1;
	memset(v->node_id, 0xff, (text_len + 1) * sizeof(*v->node_id));
	v->nodes = 1;
	for (size_t i = 0; i < v->n; i++) {
		uint32_t node = trie_add(v, v->text + v->at[i]);
		if (v->node_id[node] >= 0)
			return wl_err_set(err, WL_EDATA,
				"%s, line %zu: the token \"%.100s\" is on line %d already; each "
				"token may stand once.",
				what, i + 1, v->text + v->at[i], v->node_id[node] + 1);
		v->node_id[node] = (int32_t)i;
	}
	v->cont = trie_walk(v, 0, "##", 2);
	return 0;
}

/* ---- the character table ---- */

/* Lower-case, NFD, Mn dropped: at most EXPANSION_MAX code points; returns how many. */
static size_t fold_char(const struct wl_vocab *v, uint32_t c, uint32_t out[EXPANSION_MAX])
{
	UChar in[2], low[EXPANSION_MAX], dec[2 * EXPANSION_MAX];
	UErrorCode st = U_ZERO_ERROR;
	int32_t n = 0, i = 0;
	size_t count = 0;

	if (c < BMP)
		in[n++] = (UChar)c;
	else {
		in[n++] = (UChar)U16_LEAD(c);
		in[n++] = (UChar)U16_TRAIL(c);
	}
	n = u_strToLower(low, EXPANSION_MAX, in, n, "", &st);
	n = unorm2_normalize(v->nfd, low, n, dec, 2 * EXPANSION_MAX, &st);
	if (U_FAILURE(st))
		WL_BUG("ICU cannot fold U+%04X: %s", c, u_errorName(st));
	while (i < n && count < EXPANSION_MAX) {
		UChar32 d;
		U16_NEXT(dec, i, n, d);
		if (u_charType(d) != U_NON_SPACING_MARK)
			out[count++] = (uint32_t)d;
	}
	return count;
}

/* FACTS 10, step 5: ASCII symbols count as punctuation although Unicode says S*. */
static bool is_punct(uint32_t c)
{
	if (c < 0x80)
		return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
		       (c >= 123 && c <= 126);
	return u_ispunct((UChar32)c);
}

static uint32_t alone_entry(const struct wl_vocab *v, uint32_t c)
{
	char s[WL_UTF8_MAX];
	size_t n = wl_utf8_put(c, s);

	return ENTRY(CLASS_ALONE, id_or_unk(v, s, n));
}

/* The class of c by the rules, in their order; for CLASS_MAPPED out[*n] are its characters. */
static uint32_t classify(
	const struct wl_vocab *v, uint32_t c, uint32_t out[EXPANSION_MAX], size_t *n)
{
	int8_t type = u_charType((UChar32)c);

	*n = 0;
	if (c == '\t' || c == '\n' || c == '\r' || type == U_SPACE_SEPARATOR ||
		type == U_LINE_SEPARATOR || type == U_PARAGRAPH_SEPARATOR)
		return ENTRY(CLASS_SPACE, 0);
	if (c == WL_UTF8_BAD || type == U_UNASSIGNED || type == U_CONTROL_CHAR ||
		type == U_FORMAT_CHAR || type == U_PRIVATE_USE_CHAR || type == U_SURROGATE)
		return ENTRY(CLASS_DROP, 0);
	*n = fold_char(v, c, out);
	if (*n == 0)
		return ENTRY(CLASS_DROP, 0);
	if (*n == 1 && (is_punct(out[0]) || wl_is_cjk(c)))
		return alone_entry(v, out[0]);
	if (*n == 1 && out[0] == c)
		return ENTRY(CLASS_PLAIN, 0);
	return ENTRY(CLASS_MAPPED, 0);
}

static int table_build(struct wl_vocab *v, struct wl_err *err)
{
	for (uint32_t c = 0; c < BMP; c++) {
		uint32_t out[EXPANSION_MAX];
		size_t n;
		uint32_t e = classify(v, c, out, &n);
		if (ENTRY_CLASS(e) == CLASS_MAPPED) {
			if (v->mapped_len + n + 1 > v->mapped_cap) {
				size_t cap = v->mapped_cap ? 2 * v->mapped_cap : 1 << 15;
				uint32_t *p = realloc(v->mapped, cap * sizeof(*p));
				if (!p)
					return wl_err_nomem(err, "a character table", cap * 4);
				v->mapped = p;
				v->mapped_cap = cap;
			}
			e = ENTRY(CLASS_MAPPED, v->mapped_len);
			v->mapped[v->mapped_len++] = (uint32_t)n;
			memcpy(v->mapped + v->mapped_len, out, n * sizeof(*out));
			v->mapped_len += n;
		}
		v->bmp[c] = e;
	}
	return 0;
}

/* ---- loading ---- */

/* Cuts the lines into tokens: v->text, v->at, v->n. */
static int split_lines(
	struct wl_vocab *v, const char *text, size_t len, const char *what, struct wl_err *err)
{
	size_t lines = 0, start = 0, to = 0;

	for (size_t i = 0; i < len; i++)
		lines += text[i] == '\n';
	v->text = malloc(len + 2);
	v->at = malloc((lines + 1) * sizeof(*v->at));
	if (!v->text || !v->at)
		return wl_err_nomem(err, "a vocabulary", len);
	while (start < len) {
		const char *nl = memchr(text + start, '\n', len - start);
		size_t end = nl ? (size_t)(nl - text) : len, next = end + 1, i = start;
		bool ok = true;

		if (end > start && text[end - 1] == '\r')
			end--;
		if (end == start)
			return wl_err_set(err, WL_EDATA,
				"%s, line %zu: the line is empty; a "
				"vocabulary has one token on each line.",
				what, v->n + 1);
		while (i < end)
			ok = wl_utf8_next(text, end, &i, &ok) != 0 && ok;
		if (!ok)
			return wl_err_set(err, WL_EDATA,
				"%s, line %zu: the token is not valid "
				"UTF-8 text; save the vocabulary as UTF-8.",
				what, v->n + 1);
		v->at[v->n++] = (uint32_t)to;
		memcpy(v->text + to, text + start, end - start);
		to += end - start;
		v->text[to++] = 0;
		start = next;
	}
	return 0;
}

static int find_specials(struct wl_vocab *v, const char *what, struct wl_err *err)
{
	const struct {
		const char *token;
		int32_t *id;
	} special[] = {
		{"[PAD]", &v->pad}, {"[UNK]", &v->unk}, {"[CLS]", &v->cls}, {"[SEP]", &v->sep}};

	for (size_t i = 0; i < sizeof(special) / sizeof(*special); i++) {
		*special[i].id = wl_vocab_id(v, special[i].token);
		if (*special[i].id < 0)
			return wl_err_set(err, WL_EDATA,
				"%s: the token %s is missing among %zu "
				"lines; a BERT vocabulary has [PAD], [UNK], [CLS] and [SEP].",
				what, special[i].token, v->n);
	}
	return 0;
}

struct wl_vocab *wl_vocab_parse(const char *text, size_t len, const char *what, struct wl_err *err)
{
	struct wl_vocab *v = NULL;
	UErrorCode st = U_ZERO_ERROR;

	if (len > VOCAB_MAX_BYTES) {
		wl_err_set(err, WL_EDATA, "%s has %zu bytes; a vocabulary has at most %d.", what,
			len, VOCAB_MAX_BYTES);
		return NULL;
	}
	v = calloc(1, sizeof(*v));
	if (!v) {
		wl_err_nomem(err, "a vocabulary", sizeof(*v));
		return NULL;
	}
	v->nfd = unorm2_getNFDInstance(&st);
	if (U_FAILURE(st)) {
		wl_err_set(err, WL_EFAIL, "ICU has no NFD data (%s); reinstall libicu72.",
			u_errorName(st));
		goto bad;
	}
	if (split_lines(v, text, len, what, err) < 0 || trie_build(v, len, what, err) < 0 ||
		find_specials(v, what, err) < 0 || table_build(v, err) < 0)
		goto bad;
	return v;
bad:
	wl_vocab_free(v);
	return NULL;
}

struct wl_vocab *wl_vocab_load(const char *path, struct wl_err *err)
{
	struct wl_vocab *v = NULL;
	struct wl_buf b;

	wl_buf_init(&b, VOCAB_MAX_BYTES);
	if (wl_read_file(path, &b, err) == 0)
		v = wl_vocab_parse(wl_buf_str(&b), b.len, path, err);
	wl_buf_release(&b);
	return v;
}

void wl_vocab_free(struct wl_vocab *v)
{
	if (!v)
		return;
	free(v->text);
	free(v->at);
	free(v->edges);
	free(v->node_id);
	free(v->mapped);
	free(v);
}

size_t wl_vocab_size(const struct wl_vocab *v)
{
	return v->n;
}

const char *wl_vocab_token(const struct wl_vocab *v, int32_t id)
{
	return id >= 0 && (size_t)id < v->n ? v->text + v->at[id] : NULL;
}

/* ---- tokenising ---- */

struct out {
	const struct wl_vocab *v;
	int32_t *ids;
	size_t n, max; /* max leaves room for [SEP] */
	/* the word being collected, folded; past WORD_MAX_CHARS only the count goes on */
	char word[WORD_MAX_CHARS * WL_UTF8_MAX];
	size_t word_len, word_chars;
};

static void put_id(struct out *o, int32_t id)
{
	if (o->n < o->max)
		o->ids[o->n++] = id;
}

/* The collected word as pieces, longest match first; [UNK] whole if any rest does not match. */
static void end_word(struct out *o)
{
	const struct wl_vocab *v = o->v;
	size_t start = 0, first = o->n;
	bool whole = o->word_chars <= WORD_MAX_CHARS;

	if (!o->word_chars)
		return;
	while (whole && start < o->word_len) {
		uint32_t node = start ? v->cont : 0;
		size_t end = start;
		int32_t id = -1;

		if (start && !node)
			break;
		for (size_t i = start; i < o->word_len; i++) {
			node = edge_slot(v, node, (uint8_t)o->word[i])->child;
			if (!node)
				break;
			if (v->node_id[node] >= 0) {
				id = v->node_id[node];
				end = i + 1;
			}
		}
		if (id < 0)
			break;
		put_id(o, id);
		start = end;
	}
	if (!whole || start < o->word_len) {
		o->n = first;
		put_id(o, v->unk);
	}
	o->word_len = o->word_chars = 0;
}

static void add_char(struct out *o, uint32_t c)
{
	if (o->word_chars++ < WORD_MAX_CHARS)
		o->word_len += wl_utf8_put(c, o->word + o->word_len);
}

static void add_folded(struct out *o, const uint32_t *c, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (is_punct(c[i])) {
			end_word(o);
			put_id(o, (int32_t)ENTRY_PAYLOAD(alone_entry(o->v, c[i])));
		} else {
			add_char(o, c[i]);
		}
	}
}

size_t wl_wordpiece(
	const struct wl_vocab *v, const char *text, size_t len, int32_t *ids, size_t max)
{
	struct out o = {.v = v, .ids = ids, .max = max - 1};
	size_t i = 0, used;

	WL_ASSERT(max >= 2);
	put_id(&o, v->cls);
	while (i < len && o.n < o.max) {
		uint32_t folded[EXPANSION_MAX];
		size_t n = 0;
		uint32_t c = wl_utf8_next(text, len, &i, NULL);
		uint32_t e = c < BMP ? v->bmp[c] : classify(v, c, folded, &n);

		switch (ENTRY_CLASS(e)) {
		case CLASS_ALONE:
			end_word(&o);
			put_id(&o, (int32_t)ENTRY_PAYLOAD(e));
			break;
		case CLASS_PLAIN:
			add_char(&o, c);
			break;
		case CLASS_SPACE:
			end_word(&o);
			break;
		case CLASS_MAPPED:
			if (c < BMP) {
				const uint32_t *run = v->mapped + ENTRY_PAYLOAD(e);
				add_folded(&o, run + 1, run[0]);
			} else {
				add_folded(&o, folded, n);
			}
			break;
		case CLASS_DROP:
			break;
		}
	}
	end_word(&o);
	o.ids[o.n++] = v->sep;
	used = o.n;
	while (o.n < max)
		ids[o.n++] = v->pad;
	return used;
}

/* ---- words only ---- */

struct words {
	struct out o; /* collects the word */
	wl_word_fn fn;
	void *ctx;
};

static int give_word(struct words *w, struct wl_err *err)
{
	struct out *o = &w->o;
	int ret = 0;

	if (o->word_chars && o->word_chars <= WORD_MAX_CHARS)
		ret = w->fn(w->ctx, o->word, o->word_len, err);
	o->word_len = o->word_chars = 0;
	return ret;
}

/* The characters that c becomes, each a part of a word or alone. */
static int give_char(struct words *w, uint32_t c, struct wl_err *err)
{
	uint32_t folded[EXPANSION_MAX];
	size_t n;
	enum char_class class = ENTRY_CLASS(classify(w->o.v, c, folded, &n));

	if (class == CLASS_SPACE)
		return give_word(w, err);
	for (size_t i = 0; i < n; i++) {
		bool alone = class == CLASS_ALONE || is_punct(folded[i]);
		if (alone)
			WL_TRY(give_word(w, err));
		add_char(&w->o, folded[i]);
		if (alone)
			WL_TRY(give_word(w, err));
	}
	return 0;
}

int wl_wordpiece_words(const struct wl_vocab *v, const char *text, size_t len, wl_word_fn fn,
	void *ctx, struct wl_err *err)
{
	struct words w = {.o = {.v = v}, .fn = fn, .ctx = ctx};
	size_t i = 0;

	while (i < len)
		WL_TRY(give_char(&w, wl_utf8_next(text, len, &i, NULL), err));
	return give_word(&w, err);
}

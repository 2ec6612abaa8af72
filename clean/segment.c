/* See segment.h.  Function by function this is jieba's Tokenizer.cut and finalseg.cut. */
#include "clean/segment_priv.h"

#include "clean/utf8.h"
#include "ops/file.h"
#include "ops/hash.h"

#include <stdlib.h>
#include <string.h>

static const char debian_dir[] = "/usr/lib/python3/dist-packages/jieba";
enum { FILE_MAX_BYTES = 256 << 20 };

struct wl_segment {
	struct dict dict;
	struct hmm hmm;
	char id[WL_SHA256_HEX];
};

/* ---- opening ---- */

static int read_file(const char *path, struct wl_buf *b, struct wl_sha256 *h, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];

	wl_buf_reset(b);
	WL_TRY(wl_read_file(path, b, err));
	wl_sha256(wl_buf_str(b), b->len, digest);
	wl_sha256_add(h, digest, sizeof(digest));
	return 0;
}

static int read_model(struct wl_segment *s, const char *dir, struct wl_buf *b, struct wl_sha256 *h,
	struct wl_err *err)
{
	static const char *const tables[] = {"start", "trans", "emit"};

	for (int i = 0; i < 3; i++) {
		char *path = wl_strf(err, "%s/finalseg/prob_%s.py", dir, tables[i]);
		int ret = path ? read_file(path, b, h, err) : -1;
		if (ret == 0)
			ret = hmm_read(&s->hmm, tables[i], b, path, err);
		free(path);
		WL_TRY(ret);
	}
	return 0;
}

static int read_all(struct wl_segment *s, const char *dir, const char *const *user, size_t n_user,
	struct wl_buf *b, struct wl_sha256 *h, struct wl_err *err)
{
	char *path = wl_strf(err, "%s/dict.txt", dir);
	int ret = path ? read_file(path, b, h, err) : -1;

	if (ret < 0)
		wl_err_prefix(err,
			"jieba's tables are needed (Debian: apt-get install python3-jieba; "
			"elsewhere set WENLAN_JIEBA to the folder of its dict.txt)");
	if (ret == 0)
		ret = dict_read(&s->dict, b, path, err);
	free(path);
	WL_TRY(ret);
	WL_TRY(read_model(s, dir, b, h, err));
	for (size_t i = 0; i < n_user; i++) {
		WL_TRY(read_file(user[i], b, h, err));
		WL_TRY(dict_read_user(&s->dict, b, user[i], err));
	}
	return dict_freeze(&s->dict, err);
}

struct wl_segment *wl_segment_open(
	const char *dir, const char *const *user, size_t n_user, struct wl_err *err)
{
	struct wl_segment *s = calloc(1, sizeof(*s));
	struct wl_sha256 h = {0};
	uint8_t digest[WL_SHA256_BYTES];
	struct wl_buf b;
	int ret = -1;

	wl_buf_init(&b, FILE_MAX_BYTES);
	if (!s) {
		wl_err_nomem(err, "the dictionary", sizeof(*s));
		return NULL;
	}
	if (!dir)
		dir = getenv("WENLAN_JIEBA");
	if (!dir || !*dir)
		dir = debian_dir;
	WL_TRY_OUT(wl_sha256_init(&h, err));
	WL_TRY_OUT(dict_init(&s->dict, err));
	WL_TRY_OUT(read_all(s, dir, user, n_user, &b, &h, err));
	wl_sha256_final(&h, digest);
	wl_hex(digest, sizeof(digest), s->id);
	ret = 0;
out:
	wl_sha256_release(&h);
	wl_buf_release(&b);
	if (ret == 0)
		return s;
	wl_segment_close(s);
	return NULL;
}

void wl_segment_close(struct wl_segment *s)
{
	if (!s)
		return;
	dict_release(&s->dict);
	hmm_release(&s->hmm);
	free(s);
}

const char *wl_segment_id(const struct wl_segment *s)
{
	return s->id;
}

/* ---- scratch and output ---- */

/* One allocation, cut into arrays for a block of up to cap_chars characters. */
struct scratch {
	uint32_t *c, *end; /* code point, byte just behind it */
	double *score;
	uint32_t *next;
	uint8_t *from, *state;
};

void wl_cuts_release(struct wl_cuts *cuts)
{
	free(cuts->end);
	free(cuts->scratch);
	memset(cuts, 0, sizeof(*cuts));
}

/* Room for every byte to be a word and for all of them to be in one block. */
static int reserve(struct wl_cuts *cuts, size_t len, struct wl_err *err)
{
	size_t cap = len < 1000 ? 1000 : len + len / 4, bytes = cap * sizeof(*cuts->end);
	size_t a_char = sizeof(double) + 3 * sizeof(uint32_t) + 2;

	if (len <= cuts->cap && cuts->end)
		return 0;
	wl_cuts_release(cuts);
	cuts->end = malloc(bytes);
	cuts->scratch = malloc((cap + 1) * a_char);
	if (!cuts->end || !cuts->scratch) {
		wl_cuts_release(cuts);
		return wl_err_nomem(err, "the words of a text", (cap + 1) * a_char);
	}
	cuts->cap = cap;
	cuts->cap_chars = cap + 1;
	return 0;
}

static struct scratch scratch_of(const struct wl_cuts *cuts)
{
	struct scratch w;
	size_t n = cuts->cap_chars;

	w.score = cuts->scratch;
	w.c = (uint32_t *)(w.score + n);
	w.end = w.c + n;
	w.next = w.end + n;
	w.from = (uint8_t *)(w.next + n);
	w.state = w.from + n;
	return w;
}

static inline void put(struct wl_cuts *cuts, uint32_t end)
{
	cuts->end[cuts->n++] = end;
}

/* ---- finalseg.cut: what the dictionary left in single characters ---- */

/* The characters [i, end) of the block as one word, or one by one when a user's dictionary says
 * that this is no word. */
static void put_word(const struct wl_segment *s, const struct scratch *w, size_t i, size_t end,
	struct wl_cuts *cuts)
{
	wl_ref ref = s->dict.n_force ? dict_find(&s->dict, w->c + i, end - i) : 0;

	if (ref && s->dict.force[ref & WL_REF_NODE])
		for (; i < end; i++)
			put(cuts, w->end[i]);
	else
		put(cuts, w->end[end - 1]);
}

/* A run of Chinese characters, cut as the model says. */
static void cut_states(const struct wl_segment *s, const struct scratch *w, size_t i, size_t end,
	struct wl_cuts *cuts)
{
	size_t start = i, begin = i;

	hmm_states(&s->hmm, w->c + i, end - i, w->from, w->state);
	for (; i < end; i++) {
		uint8_t st = w->state[i - start];
		if (st == HMM_B)
			begin = i;
		else if (st == HMM_E)
			put_word(s, w, begin, i + 1, cuts);
		else if (st == HMM_S)
			put_word(s, w, i, i + 1, cuts);
	}
}

/* A run of the other characters: "([a-zA-Z0-9]+(?:\.\d+)?%?)" and what is between. */
static void cut_latin(const struct scratch *w, size_t i, size_t end, struct wl_cuts *cuts)
{
	while (i < end) {
		size_t start = i;
		while (i < end && !seg_is_eng(w->c[i]))
			i++;
		if (i > start) {
			put(cuts, w->end[i - 1]);
			continue;
		}
		while (i < end && seg_is_eng(w->c[i]))
			i++;
		if (i + 1 < end && w->c[i] == '.' && seg_is_digit(w->c[i + 1]))
			for (i++; i < end && seg_is_digit(w->c[i]);)
				i++;
		if (i < end && w->c[i] == '%')
			i++;
		put(cuts, w->end[i - 1]);
	}
}

static void cut_rest(const struct wl_segment *s, const struct scratch *w, size_t i, size_t end,
	struct wl_cuts *cuts)
{
	if (end - i == 1) {
		put(cuts, w->end[i]);
		return;
	}
	if (dict_find(&s->dict, w->c + i, end - i) & WL_REF_WORD) {
		for (; i < end; i++)
			put(cuts, w->end[i]);
		return;
	}
	while (i < end) {
		size_t start = i;
		bool han = seg_is_han(w->c[i]);
		while (i < end && seg_is_han(w->c[i]) == han)
			i++;
		if (han)
			cut_states(s, w, start, i, cuts);
		else
			cut_latin(w, start, i, cuts);
	}
}

/* ---- Tokenizer.cut ---- */

/* __cut_DAG: words of the dictionary; runs of single characters through cut_rest. */
static void cut_block(
	const struct wl_segment *s, const struct scratch *w, size_t n, struct wl_cuts *cuts)
{
	size_t rest = 0, i = 0;

	while (i < n) {
		size_t end = w->next[i];
		if (end > i + 1) {
			if (rest < i)
				cut_rest(s, w, rest, i, cuts);
			put(cuts, w->end[end - 1]);
			rest = end;
		}
		i = end;
	}
	if (rest < n)
		cut_rest(s, w, rest, n, cuts);
}

/* __cut_DAG_NO_HMM */
static void cut_block_plain(const struct scratch *w, size_t n, struct wl_cuts *cuts)
{
	size_t end;

	for (size_t i = 0; i < n; i = end) {
		end = dict_plain_end(w->c, n, w->next, i);
		put(cuts, w->end[end - 1]);
	}
}

/* Decodes the block at *at, which may be empty, and moves *at behind it. */
static size_t take_block(const char *text, size_t len, size_t *at, const struct scratch *w)
{
	size_t n = 0, next = *at;

	while (next < len) {
		uint32_t c = wl_utf8_next(text, len, &next, NULL);
		if (!seg_in_block(c))
			break;
		w->c[n] = c;
		w->end[n++] = (uint32_t)next;
		*at = next;
	}
	return n;
}

int wl_segment_cut(const struct wl_segment *s, const char *text, size_t len, unsigned flags,
	struct wl_cuts *cuts, struct wl_err *err)
{
	struct scratch w;
	size_t at = 0;

	if (len > WL_SEGMENT_MAX_BYTES)
		return wl_err_set(err, WL_EDATA,
			"A text of %zu bytes is too long to be cut into words, at most %d; cut it "
			"into paragraphs.",
			len, WL_SEGMENT_MAX_BYTES);
	WL_TRY(reserve(cuts, len, err));
	w = scratch_of(cuts);
	cuts->n = 0;
	while (at < len) {
		size_t n = take_block(text, len, &at, &w);
		if (n) {
			dict_route(&s->dict, w.c, n, w.score, w.next);
			if (flags & WL_SEGMENT_NO_HMM)
				cut_block_plain(&w, n, cuts);
			else
				cut_block(s, &w, n, cuts);
		}
		if (at == len)
			break;
		/* Anything else is a word by itself; a line end of two bytes is one. */
		if (wl_utf8_next(text, len, &at, NULL) == '\r' && at < len && text[at] == '\n')
			at++;
		put(cuts, (uint32_t)at);
	}
	return 0;
}

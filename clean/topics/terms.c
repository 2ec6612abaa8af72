/* See terms.h. */
#include "clean/topics/terms.h"

#include "clean/utf8.h"
#include "ops/buf.h"
#include "ops/file.h"
#include "ops/hash.h"

#include <stdlib.h>
#include <string.h>

enum { LIST_MAX_BYTES = 256 << 20 };

void wl_terms_release(struct wl_terms *t)
{
	free(t->bytes);
	free(t->at);
	free(t->count);
	free(t->slot);
	memset(t, 0, sizeof(*t));
}

/* ---- the table ---- */

static uint32_t *slot_of(const struct wl_terms *t, const char *word, size_t n)
{
	size_t i = (size_t)wl_hash64(word, n, 1) & (t->slots - 1);

	for (;; i = (i + 1) & (t->slots - 1)) {
		uint32_t id = t->slot[i];
		if (!id)
			return &t->slot[i];
		const char *w = wl_terms_word(t, id - 1);
		if (strncmp(w, word, n) == 0 && !w[n])
			return &t->slot[i];
	}
}

static int grow(struct wl_terms *t, struct wl_err *err)
{
	size_t cap = t->cap ? 2 * t->cap : 1024, slots = 4 * cap;
	size_t *at = realloc(t->at, cap * sizeof(*at));
	struct wl_term_count *count;
	uint32_t *slot;

	if (at)
		t->at = at;
	count = at ? realloc(t->count, cap * sizeof(*count)) : NULL;
	if (count)
		t->count = count;
	slot = count ? calloc(slots, sizeof(*slot)) : NULL;
	if (!slot || cap > UINT32_MAX / 2) {
		free(slot);
		return wl_err_nomem(err, "a list of words", slots * sizeof(*slot));
	}
	free(t->slot);
	t->slot = slot;
	t->slots = slots;
	t->cap = cap;
	for (size_t i = 0; i < t->n; i++) {
		const char *w = wl_terms_word(t, i);
		*slot_of(t, w, strlen(w)) = (uint32_t)i + 1;
	}
	return 0;
}

int64_t wl_terms_find(const struct wl_terms *t, const char *word, size_t n)
{
	return t->n ? (int64_t)*slot_of(t, word, n) - 1 : -1;
}

int wl_terms_add(struct wl_terms *t, const char *word, size_t n, uint32_t *id, struct wl_err *err)
{
	uint32_t *slot;

	if (t->n == t->cap)
		WL_TRY(grow(t, err));
	slot = slot_of(t, word, n);
	if (*slot) {
		*id = *slot - 1;
		return 0;
	}
	if (t->len + n + 1 > t->cap_bytes) {
		size_t cap = 2 * t->cap_bytes + n + 4096;
		char *p = realloc(t->bytes, cap);
		if (!p)
			return wl_err_nomem(err, "a list of words", cap);
		t->bytes = p;
		t->cap_bytes = cap;
	}
	memcpy(t->bytes + t->len, word, n);
	t->bytes[t->len + n] = 0;
	t->at[t->n] = t->len;
	t->count[t->n] = (struct wl_term_count){0};
	t->len += n + 1;
	*id = (uint32_t)t->n;
	*slot = (uint32_t)++t->n;
	return 0;
}

/* ---- the words of a text ---- */

/* Writes the word with ASCII in small letters; false when it can be no term. */
static bool fold(const struct wl_term_rules *r, const char *word, size_t n, char *out)
{
	int64_t chars = 0;
	bool letter = false;

	if (n > WL_TERM_MAX_BYTES)
		return false;
	for (size_t i = 0; i < n;) {
		bool ok = true;
		uint32_t c = wl_utf8_next(word, n, &i, &ok);
		if (!ok)
			return false;
		letter = letter || wl_is_cjk(c) || (c | 0x20) - 'a' < 26;
		chars++;
	}
	if (!letter || chars < r->min_chars)
		return false;
	for (size_t i = 0; i < n; i++)
		out[i] = word[i] >= 'A' && word[i] <= 'Z' ? (char)(word[i] | 0x20) : word[i];
	return !r->stop || wl_terms_find(r->stop, out, n) < 0;
}

int wl_terms_of_text(const struct wl_segment *s, const struct wl_term_rules *r, const char *text,
	size_t len, struct wl_cuts *cuts,
	int (*fn)(void *user, const char *word, size_t n, struct wl_err *err), void *user,
	struct wl_err *err)
{
	char word[WL_TERM_MAX_BYTES];
	size_t at = 0;

	WL_TRY(wl_segment_cut(s, text, len, 0, cuts, err));
	for (size_t i = 0; i < cuts->n; at = cuts->end[i++])
		if (fold(r, text + at, cuts->end[i] - at, word))
			WL_TRY(fn(user, word, cuts->end[i] - at, err));
	return 0;
}

/* Calls fn for each line without what follows `comment` (0: nothing does) and spaces around. */
static int each_line(const struct wl_buf *b, char comment,
	int (*fn)(struct wl_terms *t, const char *s, size_t n, size_t line, const char *path,
		struct wl_err *err),
	struct wl_terms *t, const char *path, struct wl_err *err)
{
	size_t line = 0;

	for (size_t at = 0, end; at < b->len; at = end + 1) {
		const char *nl = memchr(b->data + at, '\n', b->len - at), *hash;
		size_t stop;
		end = stop = nl ? (size_t)(nl - b->data) : b->len;
		hash = comment ? memchr(b->data + at, comment, stop - at) : NULL;
		if (hash)
			stop = (size_t)(hash - b->data);
		while (stop > at && strchr(" \t\r", b->data[stop - 1]))
			stop--;
		while (at < stop && strchr(" \t", b->data[at]))
			at++;
		line++;
		if (stop > at)
			WL_TRY(fn(t, b->data + at, stop - at, line, path, err));
	}
	return 0;
}

static int add_listed(struct wl_terms *t, const char *s, size_t n, size_t line, const char *path,
	struct wl_err *err)
{
	bool ok = true;
	uint32_t id;

	if (memchr(s, 0, n))
		return wl_err_set(err, WL_EDATA, "%s, line %zu: a 0 byte; is this a list of words?",
			path, line);
	/* Such a word is never found, so that the list would do nothing and say nothing. */
	for (size_t i = 0; i < n;)
		wl_utf8_next(s, n, &i, &ok);
	if (!ok)
		return wl_err_set(err, WL_EDATA, "%s, line %zu is not UTF-8: save the list of "
			"words as UTF-8", path, line);
	return wl_terms_add(t, s, n, &id, err);
}

static int read_lines(struct wl_terms *t, const char *path, char comment,
	int (*fn)(struct wl_terms *t, const char *s, size_t n, size_t line, const char *path,
		struct wl_err *err),
	struct wl_err *err)
{
	struct wl_buf b;
	int ret = -1;

	wl_buf_init(&b, LIST_MAX_BYTES);
	WL_TRY_OUT(wl_read_file(path, &b, err));
	ret = each_line(&b, comment, fn, t, path, err);
out:
	wl_buf_release(&b);
	return ret;
}

int wl_terms_read_list(struct wl_terms *t, const char *path, struct wl_err *err)
{
	return read_lines(t, path, '#', add_listed, err);
}

/* ---- vocabularies ---- */

/* The terms and counts of all ranks in one table. */
static int add_up(
	const struct wl_terms *t, struct wl_comm *comm, struct wl_terms *sum, struct wl_err *err)
{
	size_t entry = sizeof(struct wl_term_count), bytes = t->n * entry + t->len;
	size_t *of = calloc((size_t)wl_comm_size(comm), sizeof(*of));
	char *mine = malloc(bytes ? bytes : 1), *p = mine, *all = NULL;
	size_t total = 0;
	int ret = -1;

	if (!of || !mine) {
		wl_err_nomem(err, "a vocabulary", bytes);
		goto out;
	}
	for (size_t i = 0; i < t->n; i++) {
		size_t n = strlen(wl_terms_word(t, i)) + 1;
		memcpy(p, &t->count[i], entry);
		memcpy(p + entry, wl_terms_word(t, i), n);
		p += entry + n;
	}
	WL_TRY_OUT(wl_comm_all_gatherv(comm, mine, bytes, (void **)&all, of, err));
	for (int r = 0; r < wl_comm_size(comm); r++)
		total += of[r];
	for (p = all; p < all + total;) {
		struct wl_term_count c;
		size_t n = strlen(p + entry);
		uint32_t id;
		memcpy(&c, p, entry);
		WL_TRY_OUT(wl_terms_add(sum, p + entry, n, &id, err));
		sum->count[id].occurrences += c.occurrences;
		sum->count[id].docs += c.docs;
		p += entry + n + 1;
	}
	ret = 0;
out:
	free(of);
	free(mine);
	free(all);
	return ret;
}

struct ranked {
	uint64_t occurrences;
	const char *word;
	uint32_t id;
};

static int by_rank(const void *p, const void *q)
{
	const struct ranked *a = p, *b = q;

	if (a->occurrences != b->occurrences)
		return a->occurrences > b->occurrences ? -1 : 1;
	return strcmp(a->word, b->word);
}

/* Those within bounds, best first. */
static int take(const struct wl_terms *sum, const struct wl_term_bounds *bounds, uint64_t docs,
	struct wl_terms *out, struct wl_err *err)
{
	struct ranked *v = malloc((sum->n + 1) * sizeof(*v));
	size_t n = 0;
	int ret = 0;

	if (!v)
		return wl_err_nomem(err, "a vocabulary", sum->n * sizeof(*v));
	for (size_t i = 0; i < sum->n; i++)
		if (sum->count[i].docs >= (uint64_t)bounds->min_docs &&
			(double)sum->count[i].docs <= bounds->max_share * (double)docs)
			v[n++] = (struct ranked){
				sum->count[i].occurrences, wl_terms_word(sum, i), (uint32_t)i};
	qsort(v, n, sizeof(*v), by_rank);
	for (size_t i = 0; i < n && i < (size_t)bounds->max_words && ret == 0; i++) {
		uint32_t id = 0;
		ret = wl_terms_add(out, v[i].word, strlen(v[i].word), &id, err);
		if (ret == 0)
			out->count[id] = sum->count[v[i].id];
	}
	free(v);
	return ret;
}

int wl_terms_choose(const struct wl_terms *t, const struct wl_term_bounds *bounds, uint64_t docs,
	struct wl_comm *comm, struct wl_terms *out, uint32_t *map, struct wl_err *err)
{
	struct wl_terms sum = {0};
	int ret = -1;

	memset(out, 0, sizeof(*out));
	WL_TRY_OUT(add_up(t, comm, &sum, err));
	WL_TRY_OUT(take(&sum, bounds, docs, out, err));
	for (size_t i = 0; i < t->n; i++) {
		const char *w = wl_terms_word(t, i);
		map[i] = (uint32_t)wl_terms_find(out, w, strlen(w));
	}
	ret = 0;
out:
	wl_terms_release(&sum);
	if (ret < 0)
		wl_terms_release(out);
	return ret;
}

int wl_terms_save(const struct wl_terms *t, const char *path, struct wl_err *err)
{
	struct wl_outfile f;

	WL_TRY(wl_outfile_open(&f, path, err));
	for (size_t i = 0; i < t->n; i++)
		fprintf(f.fp, "%s\t%llu\t%llu\n", wl_terms_word(t, i),
			(unsigned long long)t->count[i].occurrences,
			(unsigned long long)t->count[i].docs);
	return wl_outfile_commit(&f, err);
}

static int add_counted(struct wl_terms *t, const char *s, size_t n, size_t line, const char *path,
	struct wl_err *err)
{
	const char *tab = memchr(s, '\t', n);
	unsigned long long occurrences, docs;
	size_t before = t->n;
	char rest[64], end;
	uint32_t id;

	if (tab && (size_t)(s + n - tab) < sizeof(rest)) {
		memcpy(rest, tab, (size_t)(s + n - tab));
		rest[s + n - tab] = 0;
		if (!memchr(s, 0, n) &&
			sscanf(rest, "\t%llu\t%llu%c", &occurrences, &docs, &end) == 2) {
			WL_TRY(wl_terms_add(t, s, (size_t)(tab - s), &id, err));
			t->count[id] = (struct wl_term_count){occurrences, docs};
			if (t->n > before)
				return 0;
		}
	}
	return wl_err_set(err, WL_EDATA,
		"%s, line %zu: expected a word (once), a tab, its occurrences, a tab and its "
		"documents; train the topics again.",
		path, line);
}

int wl_terms_load(struct wl_terms *t, const char *path, struct wl_err *err)
{
	return read_lines(t, path, 0, add_counted, err);
}

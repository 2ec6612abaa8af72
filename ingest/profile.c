/*
 * Profiles: what of a page becomes a pair, and what furniture looks like, from YAML.
 *
 * `extends: NAME` loads another profile first; then scalars and lists of kinds replace, lists of
 * words add.
 */
#include "ingest/page_priv.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/opt.h"

#include <stdlib.h>
#include <string.h>

const char *const wl_kind_names[WL_KIND_COUNT + 1] = {
	"caption", "alt_text", "sur_text", "easy", "first", "content", "title", NULL};

/* ---- words ---- */

static struct wl_word *slot_of(const struct wl_words *w, const char *s, size_t n)
{
	size_t i = wl_hash64(s, n, 7) & (w->cap - 1);
	while (w->v[i].text && (strncmp(w->v[i].text, s, n) != 0 || w->v[i].text[n]))
		i = (i + 1) & (w->cap - 1);
	return &w->v[i];
}

unsigned wl_word_meaning(const struct wl_words *w, const char *s, size_t n)
{
	return w->cap ? slot_of(w, s, n)->mask : 0;
}

static void lower_ascii(char *s)
{
	for (; *s; s++)
		if (*s >= 'A' && *s <= 'Z')
			*s = (char)(*s | 0x20);
}

/* s is in lower case. */
static int words_add(struct wl_words *w, const char *s, unsigned mask, struct wl_err *err)
{
	if (2 * (w->n + 1) > w->cap) {
		struct wl_words old = *w;
		w->cap = old.cap ? 2 * old.cap : 64;
		w->v = calloc(w->cap, sizeof *w->v);
		if (!w->v) {
			*w = old;
			return wl_err_nomem(err, "a profile", 2 * old.cap * sizeof *w->v);
		}
		for (size_t i = 0; i < old.cap; i++)
			if (old.v[i].text)
				*slot_of(w, old.v[i].text, strlen(old.v[i].text)) = old.v[i];
		free(old.v);
	}
	struct wl_word *slot = slot_of(w, s, strlen(s));
	if (!slot->text) {
		slot->text = strdup(s);
		if (!slot->text)
			return wl_err_nomem(err, "a profile", strlen(s));
		w->n++;
	}
	slot->mask |= mask;
	return 0;
}

static void words_release(struct wl_words *w)
{
	for (size_t i = 0; i < w->cap; i++)
		free(w->v[i].text);
	free(w->v);
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

unsigned wl_words_of(const struct wl_words *w, const char *s)
{
	enum { LONGEST = 32 };
	unsigned mask = 0;
	for (const char *p = s; *p;) {
		char word[LONGEST];
		size_t n = 0;
		while (*p && !is_letter(*p))
			p++;
		const char *start = p;
		for (; is_letter(*p); p++) {
			bool upper = *p < 'a';
			/* "newsList": a capital after a small letter starts a word. */
			if (p > start && upper && p[-1] >= 'a')
				break;
			if (n < LONGEST)
				word[n] = (char)(*p | 0x20);
			n++;
		}
		if (n < 2 || n > LONGEST)
			continue;
		bool touched = is_letter(*p) || is_digit(*p) ||
			       (start > s && (is_letter(start[-1]) || is_digit(start[-1])));
		if (n > 2 || !touched)
			mask |= wl_word_meaning(w, word, n);
	}
	return mask;
}

/* ---- reading ---- */

struct reader {
	struct wl_profile *p;
	const char *path;
	struct wl_err *err;
};

static int strings_add(struct wl_strings *l, const char *s, struct wl_err *err)
{
	char **grown = realloc(l->v, (l->n + 1) * sizeof *grown);
	if (grown)
		l->v = grown;
	char *copy = grown ? strdup(s) : NULL;
	if (!copy)
		return wl_err_nomem(err, "a profile", strlen(s));
	l->v[l->n++] = copy;
	return 0;
}

/* The list of strings at key, "" elements refused; NULL: it is not there (or *bad). */
static const json_t *string_list(
	const struct reader *r, const json_t *o, const char *key, bool *bad)
{
	const json_t *v = json_object_get(o, key), *e;
	size_t i;
	*bad = false;
	if (!v || json_is_null(v))
		return NULL;
	*bad = !json_is_array(v);
	for (i = 0; !*bad && i < json_array_size(v); i++) {
		e = json_array_get(v, i);
		*bad = !json_is_string(e) || !*json_string_value(e);
	}
	if (*bad)
		wl_err_set(r->err, WL_EUSAGE, "%s: \"%s\" must be a list of strings", r->path, key);
	return *bad ? NULL : v;
}

static int read_strings(
	const struct reader *r, const json_t *o, const char *key, struct wl_strings *out)
{
	bool bad;
	const json_t *v = string_list(r, o, key, &bad);
	for (size_t i = 0; i < json_array_size(v); i++)
		WL_TRY(strings_add(out, json_string_value(json_array_get(v, i)), r->err));
	return bad ? -1 : 0;
}

static int read_words(const struct reader *r, const json_t *o, const char *key,
	struct wl_words *out, unsigned mask)
{
	bool bad;
	const json_t *v = string_list(r, o, key, &bad);
	for (size_t i = 0; i < json_array_size(v); i++) {
		char *s = wl_strf(r->err, "%s", json_string_value(json_array_get(v, i)));
		if (s)
			lower_ascii(s);
		int ret = s ? words_add(out, s, mask, r->err) : -1;
		free(s);
		WL_TRY(ret);
	}
	return bad ? -1 : 0;
}

static int read_kinds(
	const struct reader *r, const json_t *o, const char *key, enum wl_kind *out, size_t *n)
{
	bool bad;
	const json_t *v = string_list(r, o, key, &bad);
	if (!v)
		return bad ? -1 : 0;
	*n = 0;
	for (size_t i = 0; i < json_array_size(v); i++) {
		const char *s = json_string_value(json_array_get(v, i)), *near;
		size_t k = 0;
		while (k < WL_KIND_COUNT && strcmp(s, wl_kind_names[k]) != 0)
			k++;
		if (k == WL_KIND_COUNT) {
			near = wl_nearest_name(s, wl_kind_names);
			return wl_err_set(r->err, WL_EUSAGE,
				"%s: \"%s\" names no kind of text: \"%s\"%s%s%s", r->path, key, s,
				near ? "; did you mean \"" : "", near ? near : "",
				near ? "\"?" : "");
		}
		for (size_t j = 0; j < *n; j++)
			if (out[j] == k)
				return wl_err_set(r->err, WL_EUSAGE, "%s: \"%s\" has \"%s\" twice",
					r->path, key, s);
		out[(*n)++] = (enum wl_kind)k;
	}
	return 0;
}

static int read_int(const struct reader *r, const json_t *o, const char *key, int64_t min,
	int64_t max, int64_t *out)
{
	int64_t v;
	if (wl_json_int_or(o, key, r->path, *out, &v, r->err) < 0) {
		if (r->err)
			r->err->code = WL_EUSAGE;
		return -1;
	}
	if (v < min || v > max)
		return wl_err_set(r->err, WL_EUSAGE, "%s: \"%s\" is %lld, it must be %lld to %lld",
			r->path, key, (long long)v, (long long)min, (long long)max);
	*out = v;
	return 0;
}

static int read_furniture(const struct reader *r, const json_t *furniture)
{
	static const char *const where[] = {"class", "url", "url_part", "alt", NULL};
	const char *names[WL_SKIP_COUNT + 1] = {0};
	const char *reason;
	json_t *lists;
	for (int i = 0; i < WL_SKIP_COUNT; i++)
		names[i] = wl_page_skip_name((enum wl_page_skip)i);
	if (furniture && !json_is_object(furniture))
		return wl_err_set(r->err, WL_EUSAGE,
			"%s: \"furniture\" must be a mapping from "
			"reasons to lists of words",
			r->path);
	json_object_foreach((json_t *)furniture, reason, lists)
	{
		int k = 0;
		while (k < WL_SKIP_COUNT && strcmp(reason, names[k]) != 0)
			k++;
		if (k == WL_SKIP_COUNT) {
			const char *near = wl_nearest_name(reason, names);
			return wl_err_set(r->err, WL_EUSAGE,
				"%s: furniture \"%s\" is no reason%s%s%s", r->path, reason,
				near ? "; did you mean \"" : "", near ? near : "",
				near ? "\"?" : "");
		}
		if (!json_is_object(lists))
			return wl_err_set(r->err, WL_EUSAGE,
				"%s: furniture \"%s\" must have class, url, url_part or alt",
				r->path, reason);
		WL_TRY(wl_json_only_keys(lists, where, r->path, r->err));
		for (int i = 0; i < WL_WHERE_COUNT; i++)
			WL_TRY(read_words(r, lists, where[i], &r->p->words[i], 1u << k));
	}
	return 0;
}

static int read_profile(const struct reader *r, const json_t *o)
{
	static const char *const keys[] = {"name", "extends", "use", "besides", "min_chars",
		"max_chars", "caption_chars", "before", "after", "min_side", "max_ratio",
		"max_images", "max_pages", "lazy_attributes", "placeholders", "caption_class",
		"caption_marks", "caption_closers", "credits", "content_class", "alt_noise",
		"furniture", NULL};
	struct wl_profile *p = r->p;
	struct wl_words *whole = &p->whole;
	if (!json_is_object(o))
		return wl_err_set(r->err, WL_EUSAGE, "%s: a profile is a mapping", r->path);
	WL_TRY(wl_json_only_keys(o, keys, r->path, r->err));
	WL_TRY(read_kinds(r, o, "use", p->use, &p->n_use));
	WL_TRY(read_kinds(r, o, "besides", p->besides, &p->n_besides));
	WL_TRY(read_int(r, o, "min_chars", 1, 1000, &p->min_chars));
	WL_TRY(read_int(r, o, "max_chars", 16, 100000, &p->max_chars));
	WL_TRY(read_int(r, o, "caption_chars", 4, 10000, &p->caption_chars));
	WL_TRY(read_int(r, o, "before", 0, 20, &p->before));
	WL_TRY(read_int(r, o, "after", 0, 20, &p->after));
	WL_TRY(read_int(r, o, "min_side", 0, 10000, &p->min_side));
	WL_TRY(read_int(r, o, "max_images", 1, 100000, &p->max_images));
	WL_TRY(read_int(r, o, "max_pages", 0, 1000000000, &p->max_pages));
	double ratio;
	WL_TRY(wl_json_num_or(o, "max_ratio", r->path, p->max_ratio, &ratio, r->err));
	if (ratio < 1)
		return wl_err_set(r->err, WL_EUSAGE,
			"%s: \"max_ratio\" is %g, it must be at least 1 (longer side by shorter)",
			r->path, ratio);
	p->max_ratio = ratio;
	WL_TRY(read_strings(r, o, "lazy_attributes", &p->lazy));
	WL_TRY(read_strings(r, o, "placeholders", &p->placeholders));
	for (size_t i = 0; i < p->placeholders.n; i++)
		lower_ascii(p->placeholders.v[i]);
	WL_TRY(read_strings(r, o, "caption_marks", &p->marks));
	WL_TRY(read_strings(r, o, "caption_closers", &p->closers));
	WL_TRY(read_strings(r, o, "credits", &p->credits));
	WL_TRY(read_strings(r, o, "alt_noise", &p->alt_noise));
	WL_TRY(read_words(r, o, "caption_class", whole, WL_CLASS_CAPTION));
	WL_TRY(read_words(r, o, "content_class", whole, WL_CLASS_CONTENT));
	return read_furniture(r, json_object_get(o, "furniture"));
}

/* ---- files ---- */

static char *profile_path(const char *name, struct wl_err *err)
{
	size_t n = strlen(name);
	if (strchr(name, '/') || (n > 5 && strcmp(name + n - 5, ".yaml") == 0))
		return wl_strf(err, "%s", name);
	char *in_share = wl_strf(err, "ingest/profiles/%s.yaml", name);
	char *path = in_share ? wl_share_path(in_share, NULL) : NULL;
	free(in_share);
	if (path)
		return path;
	static const char *const shipped[] = {"news", "baike", "weibo", "common", NULL};
	const char *near = wl_nearest_name(name, shipped);
	wl_err_set(err, WL_EUSAGE,
		"there is no profile \"%s\"%s%s%s; there are news, baike and weibo, or give the "
		"path of a .yaml file",
		name, near ? " (did you mean \"" : "", near ? near : "", near ? "\"?)" : "");
	return NULL;
}

static int load(struct wl_profile *p, const char *name, int depth, struct wl_err *err)
{
	enum { MAX_EXTENDS = 8 };
	char *path = profile_path(name, err);
	json_t *o = path ? wl_yaml_load(path, err) : NULL;
	const char *base = json_string_value(json_object_get(o, "extends"));
	int ret = -1;
	if (!o) {
		if (err && err->code == WL_EDATA)
			err->code = WL_EUSAGE;
		goto out;
	}
	if (depth > MAX_EXTENDS) {
		wl_err_set(err, WL_EUSAGE, "%s: profiles extend one another in a circle", path);
		goto out;
	}
	if (base)
		WL_TRY_OUT(load(p, base, depth + 1, err));
	struct reader r = {.p = p, .path = path, .err = err};
	WL_TRY_OUT(read_profile(&r, o));
	const char *said = json_string_value(json_object_get(o, "name"));
	free(p->name);
	p->name = wl_strf(err, "%s", said ? said : name);
	ret = p->name ? 0 : -1;
out:
	json_decref(o);
	free(path);
	return ret;
}

struct wl_profile *wl_profile_load(const char *name_or_path, struct wl_err *err)
{
	struct wl_profile *p = calloc(1, sizeof *p);
	if (!p) {
		wl_err_nomem(err, "a profile", sizeof *p);
		return NULL;
	}
	*p = (struct wl_profile){.min_chars = 4,
		.max_chars = 500,
		.caption_chars = 120,
		.before = 1,
		.after = 1,
		.min_side = 60,
		.max_ratio = 6,
		.max_images = 1000,
		.max_pages = 30};
	p->rooms = wl_page_rooms_new(err);
	if (!p->rooms ||
		load(p, name_or_path && *name_or_path ? name_or_path : "news", 0, err) < 0) {
		wl_profile_free(p);
		return NULL;
	}
	if (!p->n_use) {
		wl_err_set(err, WL_EUSAGE,
			"profile %s uses no kind of text: say use: [caption, ...]", p->name);
		wl_profile_free(p);
		return NULL;
	}
	return p;
}

static void strings_release(struct wl_strings *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
}

void wl_profile_free(struct wl_profile *p)
{
	if (!p)
		return;
	for (int i = 0; i < WL_WHERE_COUNT; i++)
		words_release(&p->words[i]);
	words_release(&p->whole);
	struct wl_strings *lists[] = {
		&p->lazy, &p->marks, &p->closers, &p->credits, &p->alt_noise, &p->placeholders};
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		strings_release(lists[i]);
	wl_page_rooms_free(p->rooms);
	free(p->name);
	free(p);
}

const char *wl_profile_name(const struct wl_profile *p)
{
	return p->name;
}

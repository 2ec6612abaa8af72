/* Reading the rules.  Every key has a default that lets everything pass, so that a file says
 * what it drops. */
#include "clean/rules_priv.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"

#include <stdlib.h>
#include <string.h>

enum { LIST_MAX_BYTES = 64 << 20 };

/* ---- values ---- */

static int one_of(const json_t *o, const char *key, const char *where, const char *const *names,
	int *out, struct wl_err *err)
{
	const char *s;

	WL_TRY(wl_json_str_or(o, key, where, names[0], &s, err));
	for (int i = 0; names[i]; i++)
		if (strcmp(names[i], s) == 0) {
			*out = i;
			return 0;
		}
	return wl_err_set(err, WL_EUSAGE, "%s: \"%s\" is \"%s\", expected %s, %s or %s.", where,
		key, s, names[0], names[1], names[2]);
}

static int share(const json_t *o, const char *key, const char *where, double fallback, double *out,
	struct wl_err *err)
{
	WL_TRY(wl_json_num_or(o, key, where, fallback, out, err));
	if (!(*out >= 0 && *out <= 1))
		return wl_err_set(err, WL_EUSAGE, "%s: \"%s\" is %g, expected a share from 0 to 1.",
			where, key, *out);
	return 0;
}

static int count(const json_t *o, const char *key, const char *where, int64_t fallback,
	int64_t *out, struct wl_err *err)
{
	WL_TRY(wl_json_int_or(o, key, where, fallback, out, err));
	if (*out < 0)
		return wl_err_set(err, WL_EUSAGE, "%s: \"%s\" is %lld, expected 0 or more.", where,
			key, (long long)*out);
	return 0;
}

/* The mapping under `key`, NULL when there is none; `where` is filled with its name. */
static int section(const json_t *root, const char *key, const char *const *known, const char *path,
	char *where, size_t n, const json_t **out, struct wl_err *err)
{
	*out = json_object_get(root, key);
	snprintf(where, n, "%s, %s", path, key);
	if (!*out || json_is_null(*out)) {
		*out = NULL;
		return 0;
	}
	if (!json_is_object(*out))
		return wl_err_set(err, WL_EUSAGE, "%s: expected keys and values below it.", where);
	return wl_json_only_keys(*out, known, where, err);
}

static int read_text(struct wl_rules *r, const json_t *root, const char *path, struct wl_err *err)
{
	static const char *const known[] = {"min_letters", "min_chars", "max_chars", "max_run",
		"min_chinese", "max_symbols", "max_repeat", "garbled", "pii", "traditional", NULL};
	static const char *const pii[] = {"mask", "drop", "keep", NULL};
	static const char *const traditional[] = {"convert", "keep", "drop", NULL};
	struct text_rules *t = &r->text;
	char where[600];
	const json_t *o;
	int p, tr;

	WL_TRY(section(root, "text", known, path, where, sizeof(where), &o, err));
	WL_TRY(count(o, "min_letters", where, 1, &t->min_letters, err));
	WL_TRY(count(o, "min_chars", where, 1, &t->min_chars, err));
	WL_TRY(count(o, "max_chars", where, INT32_MAX, &t->max_chars, err));
	WL_TRY(count(o, "max_run", where, INT32_MAX, &t->max_run, err));
	WL_TRY(share(o, "min_chinese", where, 0, &t->min_chinese, err));
	WL_TRY(share(o, "max_symbols", where, 1, &t->max_symbols, err));
	WL_TRY(share(o, "max_repeat", where, 1, &t->max_repeat, err));
	WL_TRY(wl_json_bool_or(o, "garbled", where, true, &t->garbled, err));
	WL_TRY(one_of(o, "pii", where, pii, &p, err));
	WL_TRY(one_of(o, "traditional", where, traditional, &tr, err));
	t->pii = (enum pii_policy)p;
	t->traditional = (enum traditional_policy)tr;
	return 0;
}

static int read_image(struct wl_rules *r, const json_t *root, const char *path, struct wl_err *err)
{
	static const char *const known[] = {
		"min_side", "max_aspect", "min_spread", "min_bytes", "max_bytes", NULL};
	struct image_rules *im = &r->image;
	char where[600];
	const json_t *o;

	WL_TRY(section(root, "image", known, path, where, sizeof(where), &o, err));
	WL_TRY(count(o, "min_side", where, 1, &im->min_side, err));
	WL_TRY(count(o, "min_bytes", where, 0, &im->min_bytes, err));
	WL_TRY(count(o, "max_bytes", where, INT64_MAX, &im->max_bytes, err));
	WL_TRY(wl_json_num_or(o, "max_aspect", where, 1e9, &im->max_aspect, err));
	WL_TRY(wl_json_num_or(o, "min_spread", where, 0, &im->min_spread, err));
	if (!(im->max_aspect >= 1))
		return wl_err_set(err, WL_EUSAGE,
			"%s: \"max_aspect\" is %g, expected 1 (square) or "
			"more.",
			where, im->max_aspect);
	return 0;
}

/* ---- word lists ---- */

static bool all_ascii(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] >= 0x80)
			return false;
	return true;
}

/* A word as it will be looked for: see struct wl_rules. */
static int add_word(
	struct wl_rules *r, const char *word, size_t n, int32_t list, struct wl_err *err)
{
	struct wl_buf norm, key;
	int ret = -1;

	wl_buf_init(&norm, 4 * n + 64);
	wl_buf_init(&key, 80 * n + 64);
	if (all_ascii(word, n)) {
		WL_TRY_OUT(wl_text_fold(r->tx, word, n, &key, err));
		if (key.len >= 2)
			WL_TRY_OUT(wl_words_add(r->ascii, key.data, key.len, list, err));
	} else {
		WL_TRY_OUT(
			wl_text_normalise(r->tx, "", word, n, WL_TEXT_KEEP_PII, &norm, NULL, err));
		WL_TRY_OUT(wl_text_key(r->tx, wl_buf_str(&norm), norm.len, &key, err));
		/* One character alone would be found everywhere. */
		if (key.len > 3)
			WL_TRY_OUT(wl_words_add(r->keys, key.data, key.len, list, err));
	}
	ret = 0;
out:
	wl_buf_release(&norm);
	wl_buf_release(&key);
	return ret;
}

/* One word a line; spaces around it and empty lines do not count. */
static int add_lines(
	struct wl_rules *r, const char *text, size_t len, int32_t list, struct wl_err *err)
{
	size_t start = 0;

	while (start < len) {
		const char *nl = memchr(text + start, '\n', len - start);
		size_t end = nl ? (size_t)(nl - text) : len, next = end + 1;
		while (start < end && strchr(" \t\r", text[start]))
			start++;
		while (end > start && strchr(" \t\r", text[end - 1]))
			end--;
		if (end > start)
			WL_TRY(add_word(r, text + start, end - start, list, err));
		start = next;
	}
	return 0;
}

static int read_file_list(struct wl_rules *r, const char *path, const char *file, int32_t list,
	json_t *hashes, struct wl_err *err)
{
	const char *slash = strrchr(path, '/');
	char *dir = wl_strf(err, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	char *full = dir ? wl_path_join(dir, file, err) : NULL;
	uint8_t digest[WL_SHA256_BYTES];
	char hex[WL_SHA256_HEX];
	struct wl_buf b;
	int ret = -1;

	wl_buf_init(&b, LIST_MAX_BYTES);
	if (!full)
		goto out;
	WL_TRY_OUT(wl_read_file(full, &b, err));
	WL_TRY_OUT(add_lines(r, wl_buf_str(&b), b.len, list, err));
	wl_sha256(wl_buf_str(&b), b.len, digest);
	wl_hex(digest, sizeof(digest), hex);
	ret = json_object_set_new(hashes, file, json_string(hex)) < 0
		      ? wl_err_nomem(err, "rules", 0)
		      : 0;
out:
	wl_buf_release(&b);
	free(dir);
	free(full);
	return ret;
}

static int read_list(struct wl_rules *r, const char *path, const char *name, const json_t *o,
	json_t *hashes, struct wl_err *err)
{
	static const char *const known[] = {"file", "words", NULL};
	int32_t list = (int32_t)r->n_lists;
	const json_t *words = json_object_get(o, "words"), *w;
	char where[600];
	const char *file;
	size_t i;

	snprintf(where, sizeof(where), "%s, sensitive, %s", path, name);
	if (!json_is_object(o))
		return wl_err_set(
			err, WL_EUSAGE, "%s: expected \"file\" or \"words\" below it.", where);
	WL_TRY(wl_json_only_keys(o, known, where, err));
	WL_TRY(wl_json_str_or(o, "file", where, NULL, &file, err));
	r->lists[list].name = strdup(name);
	if (!r->lists[list].name)
		return wl_err_nomem(err, "rules", strlen(name));
	r->n_lists++;
	if (words && !json_is_array(words))
		return wl_err_set(err, WL_EUSAGE, "%s: \"words\" is no list.", where);
	json_array_foreach(words, i, w)
	{
		if (!json_is_string(w) || !json_string_length(w))
			return wl_err_set(err, WL_EUSAGE,
				"%s: word %zu is no text; put it in quotes.", where, i + 1);
		WL_TRY(add_word(r, json_string_value(w), json_string_length(w), list, err));
	}
	return file ? read_file_list(r, path, file, list, hashes, err) : 0;
}

static int read_sensitive(struct wl_rules *r, const json_t *root, const char *path, json_t *hashes,
	struct wl_err *err)
{
	json_t *o = json_object_get(root, "sensitive"), *list;
	const char *name;

	r->keys = wl_words_new(err);
	r->ascii = r->keys ? wl_words_new(err) : NULL;
	if (!r->ascii)
		return -1;
	if (o && !json_is_null(o) && !json_is_object(o))
		return wl_err_set(err, WL_EUSAGE,
			"%s, sensitive: expected NAME: {file: ..., words: [...]} below it.", path);
	r->lists = calloc(json_object_size(o) + 1, sizeof(*r->lists));
	if (!r->lists)
		return wl_err_nomem(err, "rules", 0);
	json_object_foreach(o, name, list)
	{
		if (strlen(name) > WL_REASON_MAX - 12 ||
			strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != strlen(name))
			return wl_err_set(err, WL_EUSAGE,
				"%s, sensitive: \"%s\" is no name for a "
				"reason; use up to %d small letters, digits and -.",
				path, name, WL_REASON_MAX - 12);
		WL_TRY(read_list(r, path, name, list, hashes, err));
	}
	WL_TRY(wl_words_build(r->keys, err));
	return wl_words_build(r->ascii, err);
}

/* ---- the file ---- */

static int read_rules(struct wl_rules *r, const char *path, struct wl_err *err)
{
	static const char *const known[] = {"version", "text", "image", "sensitive", NULL};
	json_t *root = wl_yaml_load(path, err), *hashes = json_object();
	int64_t version;
	int ret = -1;

	if (!root || !hashes)
		goto out;
	if (!json_is_object(root)) {
		wl_err_set(err, WL_EUSAGE,
			"%s: expected version, text, image and sensitive with "
			"their rules below.",
			path);
		goto out;
	}
	WL_TRY_OUT(wl_json_only_keys(root, known, path, err));
	WL_TRY_OUT(wl_json_int(root, "version", path, &version, err));
	if (version != 1) {
		wl_err_set(err, WL_EUSAGE, "%s is of version %lld; this program reads version 1.",
			path, (long long)version);
		goto out;
	}
	WL_TRY_OUT(read_text(r, root, path, err));
	WL_TRY_OUT(read_image(r, root, path, err));
	WL_TRY_OUT(read_sensitive(r, root, path, hashes, err));
	r->params = json_pack("{s:i, s:O, s:O}", "rules_version", WL_RULES_VERSION, "rules", root,
		"lists", hashes);
	ret = r->params ? 0 : wl_err_nomem(err, "rules", 0);
out:
	json_decref(root);
	json_decref(hashes);
	return ret;
}

struct wl_rules *wl_rules_load(const char *path, const struct wl_text *tx, struct wl_err *err)
{
	struct wl_rules *r = calloc(1, sizeof(*r));

	if (!r) {
		wl_err_nomem(err, "rules", sizeof(*r));
		return NULL;
	}
	r->tx = tx;
	if (read_rules(r, path, err) == 0)
		return r;
	/* Rules are configuration, whatever is wrong in them. */
	if (err && err->code == WL_EDATA)
		err->code = WL_EUSAGE;
	wl_rules_free(r);
	return NULL;
}

void wl_rules_free(struct wl_rules *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n_lists; i++)
		free(r->lists[i].name);
	free(r->lists);
	wl_words_free(r->keys);
	wl_words_free(r->ascii);
	json_decref(r->params);
	free(r);
}

const json_t *wl_rules_params(const struct wl_rules *r)
{
	return r->params;
}

bool wl_rules_want_look(const struct wl_rules *r)
{
	return r->image.min_spread > 0;
}

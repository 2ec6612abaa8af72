/* Reading a rules file: its lists, its sources; the sections are read in rules_read.c. */
#include "clean/rules_priv.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_MAX_BYTES = 64 << 20 };

/* ---- words ---- */

/* A word of a sensitive list. */
static int add_word(
	struct wl_rules *r, const char *word, size_t n, int32_t list, struct wl_err *err)
{
	int added;

	WL_TRY(added = wl_words_add(r->words, word, n, list, err));
	r->lists[list].words += (size_t)added;
	return 0;
}

/* A phrase of advertisements, "PHRASE" or "PHRASE<TAB>WEIGHT". */
static int add_ad(
	struct wl_rules *r, const char *line, size_t n, int32_t unused, struct wl_err *err)
{
	const char *tab = memchr(line, '\t', n);
	double weight = 1;
	char *end, number[32];
	int added;

	(void)unused;
	if (tab) {
		snprintf(number, sizeof(number), "%.*s", (int)(n - (size_t)(tab + 1 - line)),
			tab + 1);
		weight = strtod(number, &end);
		if (*end || end == number || !(weight > 0 && weight <= 1000))
			return wl_err_set(err, WL_EUSAGE,
				"an advertisement's phrase has the weight \"%s\", expected a "
				"number "
				"over 0, to 1000.",
				number);
		n = (size_t)(tab - line);
	}
	if (r->n_ads % 64 == 0) {
		double *p = realloc(r->ad_weights, (r->n_ads + 64) * sizeof(*p));
		if (!p)
			return wl_err_nomem(err, "rules", (r->n_ads + 64) * sizeof(*p));
		r->ad_weights = p;
	}
	r->ad_weights[r->n_ads] = weight;
	WL_TRY(added = wl_words_add(r->ads, line, n, (int32_t)r->n_ads, err));
	r->n_ads += (size_t)added;
	return 0;
}

typedef int add_fn(
	struct wl_rules *r, const char *word, size_t n, int32_t list, struct wl_err *err);

/* One word a line; spaces around it, empty lines and a byte order mark do not count. */
static int add_lines(struct wl_rules *r, add_fn *add, const char *text, size_t len, int32_t list,
	struct wl_err *err)
{
	size_t start = len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;

	while (start < len) {
		const char *nl = memchr(text + start, '\n', len - start);
		size_t end = nl ? (size_t)(nl - text) : len, next = end + 1;
		while (start < end && strchr(" \t\r", text[start]))
			start++;
		while (end > start && strchr(" \t\r", text[end - 1]))
			end--;
		if (end > start)
			WL_TRY(add(r, text + start, end - start, list, err));
		start = next;
	}
	return 0;
}

static int read_file_list(struct wl_rules *r, add_fn *add, const char *path, const char *file,
	int32_t list, json_t *hashes, struct wl_err *err)
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
	if (add_lines(r, add, wl_buf_str(&b), b.len, list, err) < 0) {
		wl_err_prefix(err, "%s", full);
		goto out;
	}
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

/* {file: ..., words: [...]} below `where`. */
static int read_words(struct wl_rules *r, add_fn *add, const char *path, const char *where,
	const json_t *o, int32_t list, json_t *hashes, struct wl_err *err)
{
	static const char *const known[] = {"file", "words", NULL};
	const json_t *words = json_object_get(o, "words"), *w;
	const char *file;
	size_t i;

	if (!json_is_object(o))
		return wl_err_set(
			err, WL_EUSAGE, "%s: expected \"file\" or \"words\" below it.", where);
	WL_TRY(wl_json_only_keys(o, known, where, err));
	WL_TRY(wl_json_str_or(o, "file", where, NULL, &file, err));
	if (words && !json_is_array(words))
		return wl_err_set(err, WL_EUSAGE, "%s: \"words\" is no list.", where);
	json_array_foreach(words, i, w)
	{
		if (!json_is_string(w) || !json_string_length(w))
			return wl_err_set(err, WL_EUSAGE,
				"%s: word %zu is no text; put it in quotes.", where, i + 1);
		WL_TRY(add(r, json_string_value(w), json_string_length(w), list, err));
	}
	return file ? read_file_list(r, add, path, file, list, hashes, err) : 0;
}

static int empty_list(const char *where, struct wl_err *err)
{
	return wl_err_set(err, WL_EUSAGE,
		"%s: the list has no word of two letters or more, so it would find nothing; fill "
		"it "
		"or take it out.",
		where);
}

static int read_list(struct wl_rules *r, const char *path, const char *name, const json_t *o,
	json_t *hashes, struct wl_err *err)
{
	int32_t list = (int32_t)r->n_lists;
	char where[600];

	snprintf(where, sizeof(where), "%s, sensitive, %s", path, name);
	r->lists[list].name = strdup(name);
	if (!r->lists[list].name)
		return wl_err_nomem(err, "rules", strlen(name));
	r->n_lists++;
	WL_TRY(read_words(r, add_word, path, where, o, list, hashes, err));
	return r->lists[list].words ? 0 : empty_list(where, err);
}

static int read_sensitive(struct wl_rules *r, const json_t *root, const char *path, json_t *hashes,
	struct wl_err *err)
{
	json_t *o = json_object_get(root, "sensitive"), *list;
	const char *name;

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
	return wl_words_build(r->words, err);
}

static int read_ads(struct wl_rules *r, const json_t *root, const char *path, json_t *hashes,
	struct wl_err *err)
{
	const json_t *o = json_object_get(root, "ads");
	bool asked = false;
	char where[600];

	snprintf(where, sizeof(where), "%s, ads", path);
	if (o && !json_is_null(o)) {
		WL_TRY(read_words(r, add_ad, path, where, o, 0, hashes, err));
		if (!r->n_ads)
			return empty_list(where, err);
	}
	for (size_t i = 0; i < r->n_sources; i++)
		asked |= isfinite(r->sources[i].text.max_ad);
	if (asked && !r->n_ads)
		return wl_err_set(err, WL_EUSAGE,
			"%s: \"max_ad\" asks for the phrases of advertisements; name them under "
			"\"ads\" as clean/rules/default.yaml does.",
			path);
	return wl_words_build(r->ads, err);
}

/* ---- sections ---- */

/* The mapping under `key` of `o`, NULL when there is none; `where` is filled with its name. */
static int section(const json_t *o, const char *key, const char *above, char *where, size_t n,
	const json_t **out, struct wl_err *err)
{
	*out = json_object_get(o, key);
	snprintf(where, n, "%s, %s", above, key);
	if (!*out || json_is_null(*out)) {
		*out = NULL;
		return 0;
	}
	if (!json_is_object(*out))
		return wl_err_set(err, WL_EUSAGE, "%s: expected keys and values below it.", where);
	return 0;
}

/* text, image, agreement and style over what s says already. */
static int read_source(
	struct source_rules *s, const json_t *o, const char *above, struct wl_err *err)
{
	const json_t *below;
	char where[1000];

	WL_TRY(section(o, "text", above, where, sizeof(where), &below, err));
	if (below)
		WL_TRY(wl_read_text_rules(&s->text, below, where, err));
	WL_TRY(section(o, "image", above, where, sizeof(where), &below, err));
	if (below)
		WL_TRY(wl_read_image_rules(&s->image, below, where, err));
	WL_TRY(section(o, "agreement", above, where, sizeof(where), &below, err));
	if (below)
		WL_TRY(wl_read_agreement(&s->agreement, below, where, err));
	WL_TRY(section(o, "style", above, where, sizeof(where), &below, err));
	return wl_read_style(s, below, where, err);
}

static const struct source_rules lets_all_pass = {
	.text = {.min_letters = 1,
		.min_chars = 1,
		.max_chars = INT32_MAX,
		.max_words = INT32_MAX,
		.max_run = INT32_MAX,
		.max_foreign = 1,
		.max_symbols = 1,
		.max_repeat = 1,
		.garbled = true,
		.max_ad = INFINITY},
	.image = {.min_side = 1,
		.max_bytes = INT64_MAX,
		.max_aspect = 1e9,
		.max_text = 1,
		.max_qr = 1},
	.agreement = {.min = -INFINITY, .max = INFINITY},
};

static int read_sources(
	struct wl_rules *r, const json_t *root, const char *path, struct wl_err *err)
{
	static const char *const known[] = {"text", "image", "style", "agreement", NULL};
	const json_t *o;
	json_t *v;
	const char *name;
	char where[600], below[800];

	WL_TRY(section(root, "sources", path, where, sizeof(where), &o, err));
	r->sources = calloc(json_object_size(o) + 1, sizeof(*r->sources));
	if (!r->sources)
		return wl_err_nomem(err, "rules", 0);
	r->sources[0] = lets_all_pass;
	r->sources[0].source = strdup("");
	r->n_sources = 1;
	WL_TRY(read_source(&r->sources[0], root, path, err));
	json_object_foreach((json_t *)o, name, v)
	{
		struct source_rules *s = &r->sources[r->n_sources];
		snprintf(below, sizeof(below), "%s, %s", where, name);
		if (!json_is_object(v) || !*name)
			return wl_err_set(err, WL_EUSAGE,
				"%s: expected text, image, style or agreement below a "
				"source's name.",
				below);
		*s = r->sources[0];
		s->source = strdup(name);
		r->n_sources++;
		/* Its own style begins with what is usual for such a source. */
		if (!s->has_style)
			s->style = wl_text_style_of(name);
		WL_TRY(wl_json_only_keys(v, known, below, err));
		WL_TRY(read_source(s, v, below, err));
	}
	for (size_t i = 0; i < r->n_sources; i++)
		if (!r->sources[i].source)
			return wl_err_nomem(err, "rules", 0);
	return 0;
}

/* Words are counted as jieba cuts them, where a rule counts words at all. */
static int open_segment(struct wl_rules *r, json_t *hashes, struct wl_err *err)
{
	bool asked = false;

	for (size_t i = 0; i < r->n_sources; i++)
		asked |= r->sources[i].text.min_words > 0 ||
			 r->sources[i].text.max_words < INT32_MAX;
	if (!asked)
		return 0;
	r->segment = wl_segment_open(NULL, NULL, 0, err);
	if (!r->segment)
		return -1;
	if (json_object_set_new(hashes, "segment", json_string(wl_segment_id(r->segment))) < 0)
		return wl_err_nomem(err, "rules", 0);
	return 0;
}

const struct source_rules *wl_rules_of_source(const struct wl_rules *r, const char *source)
{
	const struct source_rules *best = &r->sources[0];

	for (size_t i = 1; i < r->n_sources; i++) {
		size_t n = strlen(r->sources[i].source);
		if (n > strlen(best->source) && strncmp(source, r->sources[i].source, n) == 0)
			best = &r->sources[i];
	}
	return best;
}

/* ---- the file ---- */

static int read_rules(struct wl_rules *r, json_t *root, const char *path, struct wl_err *err)
{
	static const char *const known[] = {"version", "text", "image", "style", "sources",
		"sensitive", "ads", "agreement", "topics", NULL};
	json_t *hashes = json_object();
	const json_t *topics;
	char where[600];
	int64_t version;
	int ret = -1;

	if (!hashes)
		return wl_err_nomem(err, "rules", 0);
	if (!json_is_object(root)) {
		wl_err_set(err, WL_EUSAGE,
			"%s: expected version, text, image and others with "
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
	r->fold = wl_fold_new(r->tx, err);
	r->words = r->fold ? wl_words_new(r->fold, err) : NULL;
	r->ads = r->words ? wl_words_new(r->fold, err) : NULL;
	if (!r->ads)
		goto out;
	WL_TRY_OUT(read_sources(r, root, path, err));
	WL_TRY_OUT(open_segment(r, hashes, err));
	WL_TRY_OUT(read_sensitive(r, root, path, hashes, err));
	WL_TRY_OUT(read_ads(r, root, path, hashes, err));
	WL_TRY_OUT(section(root, "topics", path, where, sizeof(where), &topics, err));
	WL_TRY_OUT(wl_topic_rule_read(&r->topics, topics, path, where, hashes, err));
	r->params = json_pack("{s:i, s:O, s:O}", "rules_version", WL_RULES_VERSION, "rules", root,
		"lists", hashes);
	ret = r->params ? 0 : wl_err_nomem(err, "rules", 0);
out:
	json_decref(hashes);
	return ret;
}

static struct wl_rules *rules_of(
	json_t *root, const char *path, const struct wl_text *tx, struct wl_err *err)
{
	struct wl_rules *r = root ? calloc(1, sizeof(*r)) : NULL;
	int ret = -1;

	if (root && !r)
		wl_err_nomem(err, "rules", sizeof(*r));
	if (r) {
		r->tx = tx;
		ret = read_rules(r, root, path, err);
	}
	json_decref(root);
	if (ret == 0)
		return r;
	/* Rules are configuration, whatever is wrong in them. */
	if (err && err->code == WL_EDATA)
		err->code = WL_EUSAGE;
	wl_rules_free(r);
	return NULL;
}

struct wl_rules *wl_rules_parse(const char *yaml, size_t len, const char *path,
	const struct wl_text *tx, struct wl_err *err)
{
	return rules_of(wl_yaml_parse(yaml, len, path, err), path, tx, err);
}

struct wl_rules *wl_rules_load(const char *path, const struct wl_text *tx, struct wl_err *err)
{
	return rules_of(wl_yaml_load(path, err), path, tx, err);
}

void wl_rules_free(struct wl_rules *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n_lists; i++)
		free(r->lists[i].name);
	for (size_t i = 0; i < r->n_sources; i++)
		free(r->sources[i].source);
	free(r->sources);
	free(r->lists);
	free(r->ad_weights);
	wl_words_free(r->words);
	wl_words_free(r->ads);
	wl_fold_free(r->fold);
	wl_segment_close(r->segment);
	wl_topic_rule_release(&r->topics);
	json_decref(r->params);
	json_decref(r->lowest);
	free(r);
}

const json_t *wl_rules_params(const struct wl_rules *r)
{
	return r->params;
}

bool wl_rules_want_look(const struct wl_rules *r)
{
	for (size_t i = 0; i < r->n_sources; i++)
		if (r->sources[i].image.min_spread > 0)
			return true;
	return false;
}

bool wl_rules_want_picture(const struct wl_rules *r, const char *source)
{
	const struct image_rules *im = &wl_rules_of_source(r, source)->image;

	return im->min_sharpness > 0 || im->min_entropy > 0 || im->max_text < 1 || im->max_qr < 1;
}

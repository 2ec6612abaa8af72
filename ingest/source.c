/* The table of kinds, and KIND:PATH?key=value on the command line. */
#include "ingest/source.h"

#include "ingest/kafka.h"
#include "ops/file.h"
#include "ops/opt.h"
#include "ops/path.h"

#include <stdlib.h>
#include <string.h>

static const struct wl_source_ops *const kinds[] = {
	&wl_source_aic, &wl_source_coco, &wl_source_dir, &wl_source_html, &wl_source_jsonl,
	&wl_source_kafka, &wl_source_stamps, &wl_source_tar, &wl_source_urls, &wl_source_warc,
	&wl_source_zip};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

const struct wl_source_ops *const *wl_source_kinds(size_t *n)
{
	*n = N_KINDS;
	return kinds;
}

void *wl_source_new(const struct wl_origin *o, size_t bytes, struct wl_err *err)
{
	struct wl_source *s = calloc(1, bytes);

	if (!s) {
		wl_err_nomem(err, "a source", bytes);
		return NULL;
	}
	*s = (struct wl_source){.ops = o->ops, .origin = o};
	return s;
}

int64_t wl_place_number(const char *place, const char *word)
{
	size_t n = strlen(word);
	char *end;
	if (strncmp(place, word, n) != 0 || place[n] != ' ' || place[n + 1] < '0' ||
		place[n + 1] > '9')
		return -1;
	long long v = strtoll(place + n + 1, &end, 10);
	return *end ? -1 : v;
}

static const struct wl_source_ops *find_kind(const char *spec, size_t len, struct wl_err *err)
{
	const char *names[N_KINDS + 1] = {0};
	char word[32], list[256] = "";
	snprintf(word, sizeof word, "%.*s", (int)len, spec);
	for (size_t i = 0; i < N_KINDS; i++) {
		names[i] = kinds[i]->kind;
		if (strcmp(word, kinds[i]->kind) == 0)
			return kinds[i];
		snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s:", i ? ", " : "",
			kinds[i]->kind);
	}
	const char *near = wl_nearest_name(word, names);
	if (near)
		wl_err_set(err, WL_EUSAGE, "source %s: there is no kind \"%s\"; did you mean %s:?",
			spec, word, near);
	else
		wl_err_set(err, WL_EUSAGE, "source %s: there is no kind \"%s\"; there are %s", spec,
			word, list);
	return NULL;
}

/* Takes "./", "//" and a closing "/" out, so that two spellings of one path that people really
 * use name one origin; ".." stays, since it may cross a link. */
static char *tidy(const char *path, struct wl_err *err)
{
	char *s = wl_strf(err, "%s", path), *w = s;
	if (!s)
		return NULL;
	for (const char *p = path; *p;) {
		bool at_start = w == s || w[-1] == '/';
		if (at_start && p[0] == '.' && p[1] == '/')
			p += 2;
		else if (w > s && w[-1] == '/' && *p == '/')
			p++;
		else
			*w++ = *p++;
	}
	while (w > s + 1 && w[-1] == '/')
		w--;
	if (w == s)
		*w++ = '.';
	*w = '\0';
	return s;
}

/* What may follow the path, and where it goes. */
static const struct {
	const char *key;
	size_t at;
} params[] = {
	{"images", offsetof(struct wl_origin, images)},
	{"root", offsetof(struct wl_origin, root)},
	{"profile", offsetof(struct wl_origin, profile)},
	{"index", offsetof(struct wl_origin, index)},
	{"split", offsetof(struct wl_origin, split)},
};
enum { N_PARAMS = sizeof params / sizeof *params };

static char **param_of(struct wl_origin *o, size_t i)
{
	return (char **)((char *)o + params[i].at);
}

/* Whether the word stands in a list of words. */
static bool is_listed(const char *list, const char *word, size_t n)
{
	while (list && *list) {
		size_t len = strcspn(list, " ");
		if (len == n && memcmp(list, word, n) == 0)
			return true;
		list += len + strspn(list + len, " ");
	}
	return false;
}

static int set_param(struct wl_origin *o, const char *kv, const char *spec, struct wl_err *err)
{
	const char *eq = strchr(kv, '=');
	size_t n = eq ? (size_t)(eq - kv) : 0;
	for (size_t i = 0; i < N_PARAMS && is_listed(o->ops->params, kv, n); i++) {
		char **dst = param_of(o, i);
		if (strlen(params[i].key) != n || memcmp(params[i].key, kv, n) != 0)
			continue;
		free(*dst);
		*dst = wl_strf(err, "%s", eq + 1);
		return *dst ? 0 : -1;
	}
	return wl_err_set(err, WL_EUSAGE, "source %s: unknown parameter \"%s\"; %s: takes %s", spec,
		kv, o->ops->kind, o->ops->params ? o->ops->params : "none");
}

/* Splits "PATH?images=..&root=.." in place; a '?' that no '=' follows is the glob's. */
static int parse_params(char *path, struct wl_origin *o, const char *spec, struct wl_err *err)
{
	char *q = strrchr(path, '?');
	if (!q || !strchr(q, '='))
		return 0;
	*q++ = '\0';
	for (char *save = NULL, *kv = strtok_r(q, "&", &save); kv;
		kv = strtok_r(NULL, "&", &save))
		WL_TRY(set_param(o, kv, spec, err));
	return 0;
}

static void origin_release(struct wl_origin *o)
{
	free(o->path);
	free(o->name);
	for (size_t i = 0; i < N_PARAMS; i++)
		free(*param_of(o, i));
}

static int origins_add(
	struct wl_origins *out, const struct wl_origin *proto, const char *path, struct wl_err *err)
{
	struct wl_origin o = {.ops = proto->ops, .source = proto->source}, given = *proto;
	struct wl_origin *grown = realloc(out->v, (out->n + 1) * sizeof *grown);
	if (!grown)
		return wl_err_nomem(err, "the list of sources", (out->n + 1) * sizeof *grown);
	out->v = grown;
	o.path = tidy(path, err);
	o.name = o.path ? wl_strf(err, "%s:%s", o.ops->kind, o.path) : NULL;
	bool whole = o.name != NULL;
	for (size_t i = 0; i < N_PARAMS && whole; i++) {
		const char *value = *param_of(&given, i);
		char **dst = param_of(&o, i);
		*dst = value ? wl_strf(err, "%s", value) : NULL;
		whole = !value || *dst;
	}
	if (!whole) {
		origin_release(&o);
		return -1;
	}
	out->v[out->n++] = o;
	return 0;
}

/* A path that no glob found is of the sort that its kind reads, or the user is told now. */
static int check_named(const char *path, enum wl_path_want want, const char *mend,
	const char *spec, struct wl_err *err)
{
	if (wl_path_check(path, want, mend, err) == 0)
		return 0;
	wl_err_prefix(err, "source %s", spec);
	if (err)
		err->code = WL_EUSAGE;
	return -1;
}

static int check_kind_of_path(const struct wl_source_ops *ops, const char *path, const char *spec,
	struct wl_err *err)
{
	if (ops == &wl_source_html)
		return check_named(path, WL_PATH_ANY, "html: reads a page or a directory of them",
			spec, err);
	if (ops == &wl_source_dir || ops == &wl_source_stamps)
		return check_named(path, WL_PATH_DIR, "dir: and stamps: read directories; for "
			"files there are jsonl:, tar:, zip:, urls:, warc: and html:", spec, err);
	return check_named(path, WL_PATH_FILE, wl_path_check(path, WL_PATH_DIR, NULL, NULL) == 0
		? "directories are read by dir:, html: and stamps:, and a quoted glob names the "
		  "files in one, as in 'tar:DIR/*.tar'"
		: "check the path; a quoted glob names several, as in 'tar:DIR/*.tar'", spec, err);
}

static int add_paths(struct wl_origins *out, const struct wl_origin *proto, const char *path,
	const char *spec, struct wl_err *err)
{
	struct wl_names found = {0};
	int ret = 0;
	if (wl_exists(path) || !strpbrk(path, "*?[")) {
		WL_TRY(check_kind_of_path(proto->ops, path, spec, err));
		return origins_add(out, proto, path, err);
	}
	WL_TRY(wl_glob(path, &found, err));
	for (size_t i = 0; i < found.n && ret == 0; i++)
		ret = origins_add(out, proto, found.v[i], err);
	wl_names_release(&found);
	return ret;
}

/* A topic is one source of many origins: ingest_kafka.c takes it apart. */
static int add_topic(struct wl_origins *out, const struct wl_origin *proto, const char *spec,
	struct wl_err *err)
{
	struct wl_kafka_url u;
	struct wl_origin o = {.ops = proto->ops, .source = proto->source};
	struct wl_origin *grown = realloc(out->v, (out->n + 1) * sizeof *grown);
	if (!grown)
		return wl_err_nomem(err, "the list of sources", (out->n + 1) * sizeof *grown);
	out->v = grown;
	WL_TRY(wl_kafka_url_parse(&u, spec, err));
	o.path = wl_strf(err, "%s", spec);
	o.name = wl_strf(err, "kafka:%s", u.topic);
	wl_kafka_url_release(&u);
	if (!o.path || !o.name) {
		origin_release(&o);
		return -1;
	}
	out->v[out->n++] = o;
	return 0;
}

static int parse_spec(
	struct wl_origins *out, const char *spec, const char *label, struct wl_err *err)
{
	struct wl_origin proto = {0};
	const char *colon = strchr(spec, ':');
	char *path = NULL;
	int ret = -1;
	if (!colon || !colon[1])
		return wl_err_set(err, WL_EUSAGE,
			"source \"%s\" is not KIND:PATH, for instance jsonl:data/pairs.jsonl",
			spec);
	proto.ops = find_kind(spec, (size_t)(colon - spec), err);
	if (!proto.ops)
		return -1;
	proto.source = label && *label ? label : proto.ops->kind;
	if (proto.ops == &wl_source_kafka)
		return add_topic(out, &proto, spec, err);
	path = wl_strf(err, "%s", colon + 1);
	if (!path)
		return -1;
	WL_TRY_OUT(parse_params(path, &proto, spec, err));
	if (proto.images)
		WL_TRY_OUT(check_named(proto.images, WL_PATH_ANY, "?images= names a tar or a "
			"directory", spec, err));
	if (proto.root)
		WL_TRY_OUT(check_named(proto.root, WL_PATH_DIR, "?root= names the directory of the "
			"pictures", spec, err));
	if (proto.index)
		WL_TRY_OUT(check_named(proto.index, WL_PATH_FILE, "?index= names lines of JSON "
			"with \"file\" and \"url\"", spec, err));
	ret = add_paths(out, &proto, path, spec, err);
out:
	free(path);
	origin_release(&proto);
	return ret;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct wl_origin *)a)->name, ((const struct wl_origin *)b)->name);
}

int wl_origins_parse(struct wl_origins *out, const char *const *specs, size_t n, const char *label,
	struct wl_err *err)
{
	*out = (struct wl_origins){0};
	for (size_t i = 0; i < n; i++) {
		if (parse_spec(out, specs[i], label, err) < 0) {
			wl_origins_release(out);
			return -1;
		}
	}
	if (out->n)
		qsort(out->v, out->n, sizeof *out->v, by_name);
	size_t kept = 0;
	for (size_t i = 0; i < out->n; i++) {
		if (kept && by_name(&out->v[kept - 1], &out->v[i]) == 0)
			origin_release(&out->v[i]);
		else
			out->v[kept++] = out->v[i];
	}
	out->n = kept;
	return 0;
}

void wl_origins_release(struct wl_origins *o)
{
	for (size_t i = 0; o && i < o->n; i++)
		origin_release(&o->v[i]);
	if (o) {
		free(o->v);
		*o = (struct wl_origins){0};
	}
}

/* See page_message.h. */
#include "ingest/page_message.h"

#include "ingest/page_record.h"
#include "ingest/url.h"

#include <string.h>
#include <strings.h>

/* Of a message with more pictures only these are matched, so that none takes hours. */
enum { MOST_IMAGES = 1000 };

struct work {
	const json_t *images;
	const char *page_url;
	bool used[MOST_IMAGES]; /* by some <img> of the page */
};

bool wl_is_page_message(const json_t *o)
{
	return json_is_string(json_object_get(o, "html")) ||
	       json_is_string(json_object_get(o, "html_b64"));
}

/* A header's value by name, whatever its case; of several values the first. */
static const char *header(const json_t *headers, const char *name)
{
	const char *key;
	json_t *v;
	json_object_foreach((json_t *)(uintptr_t)headers, key, v)
	{
		if (strcasecmp(key, name) != 0)
			continue;
		return json_string_value(json_is_array(v) ? json_array_get(v, 0) : v);
	}
	return NULL;
}

/* Whether `ref`, as the message names a picture, means the address `want` (normalised). */
static int means(const struct work *w, const char *ref, const char *want, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	struct wl_url u;
	int rc = *w->page_url ? wl_url_resolve(&u, w->page_url, ref, &why)
			      : wl_url_parse(&u, ref, &why);
	if (rc < 0)
		return why.code == WL_EDATA ? 0 : wl_err_set(err, why.code, "%s", why.msg);
	rc = strcmp(u.text, want) == 0;
	wl_url_release(&u);
	return rc;
}

/* The picture of this address among those that came with the page; *b64 NULL: it did not come. */
static int find_image(
	struct work *w, const char *url, const char **b64, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	struct wl_url want;
	int same = 0;
	size_t i;
	json_t *e;
	*b64 = NULL;
	if (!json_array_size(w->images))
		return 0;
	if (wl_url_parse(&want, url, &why) < 0)
		return why.code == WL_EDATA ? 0 : wl_err_set(err, why.code, "%s", why.msg);
	json_array_foreach((json_t *)(uintptr_t)w->images, i, e)
	{
		if (i == MOST_IMAGES)
			break;
		const char *ref = json_string_value(json_object_get(e, "url"));
		*b64 = json_string_value(json_object_get(e, "b64"));
		if (!ref || !*b64)
			continue;
		same = strcmp(ref, url) == 0 ? 1 : means(w, ref, want.text, err);
		if (same > 0)
			w->used[i] = true;
		if (same)
			break;
	}
	if (same <= 0)
		*b64 = NULL;
	wl_url_release(&want);
	return same < 0 ? -1 : 0;
}

static int attach(void *ctx, struct wl_record *y, const char *url, struct wl_err *err)
{
	const char *b64;
	WL_TRY(find_image(ctx, url, &b64, err));
	if (!b64)
		return 0;
	WL_TRY(wl_record_base64(y, b64, "the image", &y->image, err));
	y->has_image = !y->reason;
	return 0;
}

/* Pictures that came and did not become part of a pair are counted, by why. */
static int count_unused(const struct work *w, struct wl_record *r, struct wl_err *err)
{
	int64_t unusable = 0, unshown = 0, more = 0;
	size_t i;
	json_t *e;
	json_array_foreach((json_t *)(uintptr_t)w->images, i, e)
	{
		bool usable = json_is_string(json_object_get(e, "url")) &&
			      json_is_string(json_object_get(e, "b64"));
		if (i >= MOST_IMAGES)
			more++;
		else if (!usable)
			unusable++;
		else if (!w->used[i])
			unshown++;
	}
	if (unusable)
		WL_TRY(wl_record_tally(
			r, "pictures of messages without url or b64", unusable, err));
	if (unshown)
		WL_TRY(wl_record_tally(
			r, "pictures of messages that no pair of the page uses", unshown, err));
	if (more)
		WL_TRY(wl_record_tally(
			r, "pictures of messages past the first thousand", more, err));
	return 0;
}

/* Members that are there must be what they are called; the page's own are seen to by page_bytes. */
static int check_members(struct wl_record *r, const json_t *o, struct wl_err *err)
{
	static const struct {
		const char *name;
		json_type type;
		const char *what;
	} members[] = {{"url", JSON_STRING, "a string"}, {"source", JSON_STRING, "a string"},
		{"encoding", JSON_STRING, "a string"}, {"headers", JSON_OBJECT, "an object"},
		{"images", JSON_ARRAY, "a list"},
		{"fetched_at", JSON_INTEGER, "a whole number of seconds"}};
	for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
		const json_t *v = json_object_get(o, members[i].name);
		if (v && !json_is_null(v) && json_typeof(v) != members[i].type)
			return wl_record_reject(r, err, "wrong JSON: \"%s\" is not %s",
				members[i].name, members[i].what);
	}
	return 0;
}

/* The page's bytes: decoded into r->text (which also is what a quarantine shows), or borrowed. */
static int page_bytes(
	struct wl_record *r, const json_t *o, struct wl_page *page, struct wl_err *err)
{
	const json_t *b64 = json_object_get(o, "html_b64"), *html = json_object_get(o, "html");
	const char *encoding = json_string_value(json_object_get(o, "encoding"));
	if (!json_is_string(b64)) {
		const char *s = json_string_value(html);
		size_t n = json_string_length(html);
		if (!(encoding && strcasecmp(encoding, "base64") == 0) &&
			(memchr(s, '<', n) || !n)) {
			page->bytes = s;
			page->n = n;
			page->content_type = "text/html; charset=utf-8";
			return 0;
		}
		b64 = html;
	}
	WL_TRY(wl_record_base64(r, json_string_value(b64), "html", &r->text, err));
	page->bytes = wl_buf_str(&r->text);
	page->n = r->text.len;
	page->content_type = header(json_object_get(o, "headers"), "content-type");
	return 0;
}

int wl_page_message(const struct wl_profile *profile, struct wl_record *r, const json_t *o,
	const char *origin, struct wl_err *err)
{
	const char *url = json_string_value(json_object_get(o, "url"));
	const char *source = json_string_value(json_object_get(o, "source"));
	struct work w = {.images = json_object_get(o, "images"),
		.page_url = url ? url : ""};
	struct wl_page page = {.url = url};
	r->pair.fetched_at = json_integer_value(json_object_get(o, "fetched_at"));
	WL_TRY(check_members(r, o, err));
	if (r->reason)
		return 0;
	if (source) {
		r->pair.source = wl_arena_strdup(&r->mem, source, err);
		if (!r->pair.source)
			return -1;
	}
	WL_TRY(page_bytes(r, o, &page, err));
	if (r->reason)
		return 0;
	WL_TRY(wl_record_page(r, profile, &page, origin, attach, &w, err));
	return r->reason ? 0 : count_unused(&w, r, err);
}

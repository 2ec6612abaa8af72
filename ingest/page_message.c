/* See page_message.h. */
#include "ingest/page_message.h"

#include "ingest/url.h"
#include "ops/file.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct work {
	struct wl_record *r;
	const json_t *images;
	const char *page_url, *origin;
	int64_t fetched_at;
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
	const struct work *w, const char *url, const char **b64, struct wl_err *err)
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
		const char *ref = json_string_value(json_object_get(e, "url"));
		*b64 = json_string_value(json_object_get(e, "b64"));
		if (!ref || !*b64)
			continue;
		same = strcmp(ref, url) == 0 ? 1 : means(w, ref, want.text, err);
		if (same)
			break;
	}
	if (same <= 0)
		*b64 = NULL;
	wl_url_release(&want);
	return same < 0 ? -1 : 0;
}

static int copy(struct wl_record *y, const char **dst, const char *s, struct wl_err *err)
{
	*dst = wl_arena_strdup(&y->mem, s, err);
	return *dst ? 0 : -1;
}

/* Called for each content picture of the page. */
static int on_pair(void *ctx, const struct wl_page_pair *pair, struct wl_err *err)
{
	struct work *w = ctx;
	struct wl_record *y = wl_record_yield(w->r, err);
	if (!y)
		return -1;
	char *origin = wl_strf(err, "%s#%s", w->origin, pair->image_url);
	int ret = origin ? copy(y, &y->image_origin, origin, err) : -1;
	free(origin);
	WL_TRY(ret);
	WL_TRY(copy(y, &y->pair.page_url, pair->page_url, err));
	WL_TRY(copy(y, &y->pair.texts, pair->texts, err));
	WL_TRY(copy(y, &y->pair.meta, pair->meta, err));
	WL_TRY(copy(y, &y->pair.url, pair->image_url, err));
	y->pair.fetched_at = w->fetched_at;
	y->ordinal = w->r->ordinal; /* a URL comes once a page, so the two name the pair */
	const char *b64;
	WL_TRY(find_image(w, pair->image_url, &b64, err));
	if (b64) {
		WL_TRY(wl_record_base64(y, b64, "the image", &y->image, err));
		y->has_image = !y->reason;
	} else {
		WL_TRY(wl_record_image_url(y, pair->image_url, err));
	}
	return wl_record_finish(y, err);
}

/* wl_page_pairs' callback has no place for an error of its own. */
struct emit_ctx {
	struct work *w;
	struct wl_err *err;
};

static int emit(void *ctx, const struct wl_page_pair *pair)
{
	struct emit_ctx *c = ctx;
	return on_pair(c->w, pair, c->err);
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

static int tally(struct wl_record *r, const struct wl_page_counts *n, struct wl_err *err)
{
	for (int i = 0; i < WL_SKIP_COUNT; i++)
		if (n->skipped[i])
			WL_TRY(wl_record_tally(r, wl_page_skip_name((enum wl_page_skip)i),
				n->skipped[i], err));
	return 0;
}

static int take_page(const struct wl_profile *profile, struct wl_record *r, struct work *w,
	struct wl_page *page, struct wl_err *err)
{
	struct wl_page_counts n = {0};
	struct wl_err why = WL_ERR_INIT, emitting = WL_ERR_INIT;
	struct emit_ctx ctx = {w, &emitting};
	if (wl_page_pairs(profile, page, emit, &ctx, &n, &why) < 0) {
		if (emitting.code)
			return wl_err_set(err, emitting.code, "%s", emitting.msg);
		if (why.code != WL_EDATA)
			return wl_err_set(err, why.code, "%s", why.msg);
		return wl_record_reject(r, err, "the page cannot be read: %s", why.msg);
	}
	WL_TRY(tally(r, &n, err));
	return r->n_yield ? 0 : wl_record_pass(r, "pages without pictures", err);
}

int wl_page_message(const struct wl_profile *profile, struct wl_record *r, const json_t *o,
	const char *origin, struct wl_err *err)
{
	const char *url = json_string_value(json_object_get(o, "url"));
	const char *source = json_string_value(json_object_get(o, "source"));
	struct work w = {.r = r,
		.images = json_object_get(o, "images"),
		.page_url = url ? url : "",
		.origin = origin,
		.fetched_at = json_integer_value(json_object_get(o, "fetched_at"))};
	struct wl_page page = {.url = url};
	r->pair.page_url = "";
	if (w.images && !json_is_array(w.images) && !json_is_null(w.images))
		return wl_record_reject(r, err, "wrong JSON: \"images\" is not a list");
	if (source) {
		r->pair.source = wl_arena_strdup(&r->mem, source, err);
		if (!r->pair.source)
			return -1;
	}
	WL_TRY(page_bytes(r, o, &page, err));
	return r->reason ? 0 : take_page(profile, r, &w, &page, err);
}

/*
 * warc: web archives.  HTML responses are pages, whose pictures come out of the same archive when
 * it has them (ingest/warc_images.h) and wait to be fetched when it has not.  All other records
 * are passed over and counted; damaged ones are quarantined with what there is of them.
 *
 * A position is "MEMBER INSIDE", where the next record begins (ingest/inflate.h): for .warc.gz
 * the file offset of its gzip member and 0.  All pairs of a page commit with the page's position.
 */
#include "ingest/source.h"

#include "ingest/http_message.h"
#include "ingest/page_record.h"
#include "ingest/warc.h"
#include "ingest/warc_images.h"
#include "ops/file.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct warc_source {
	struct wl_source base;
	struct wl_warc w;
	struct wl_warc_images *images; /* NULL until the first record is read */
	struct wl_profile *profile;
	struct wl_http *http;          /* of the record being read */
	const char *label;             /* pairs' source */
};

static void warc_close(struct wl_source *base)
{
	struct warc_source *s = (struct warc_source *)base;
	wl_warc_close(&s->w);
	wl_warc_images_close(s->images);
	wl_profile_free(s->profile);
	free(s->http);
	free(s);
}

static int open_all(struct warc_source *s, const char *position, struct wl_err *err)
{
	const struct wl_origin *o = s->base.origin;
	long long member = 0, inside = 0;
	if (*position &&
		(sscanf(position, "%lld %lld", &member, &inside) != 2 || member < 0 || inside < 0))
		return wl_err_set(err, WL_EDATA,
			"the catalog's position of %s is \"%s\", expected \"MEMBER INSIDE\"",
			o->name, position);
	s->http = malloc(sizeof *s->http);
	if (!s->http)
		return wl_err_nomem(err, "a message", sizeof *s->http);
	s->profile = wl_profile_load(o->profile, err);
	if (!s->profile)
		return -1;
	/* Nobody gave a label: what the profile says they are. */
	s->label = strcmp(o->source, o->ops->kind) == 0 ? wl_profile_name(s->profile) : o->source;
	return wl_warc_open(&s->w, o->path, member, inside, err);
}

static struct wl_source *warc_open(
	const struct wl_origin *o, const char *position, struct wl_err *err)
{
	struct warc_source *s = wl_source_new(o, sizeof *s, err);

	if (!s)
		return NULL;
	if (open_all(s, position, err) < 0) {
		warc_close(&s->base);
		return NULL;
	}
	return &s->base;
}

/* ---- next: which records are pages ---- */

/* "2024-01-31T12:00:00Z"; 0: not of this form. */
static int64_t parse_date(struct wl_slice s)
{
	struct tm t = {0};
	char text[32];
	snprintf(text, sizeof text, "%.*s", (int)(s.n < 31 ? s.n : 31), s.p ? s.p : "");
	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour,
		    &t.tm_min, &t.tm_sec) != 6)
		return 0;
	t.tm_year -= 1900;
	t.tm_mon--;
	return (int64_t)timegm(&t);
}

static const char *const NO_PAGE[WL_WARC_TYPES] = {
	[WL_WARC_WARCINFO] = "warcinfo records",
	[WL_WARC_RESPONSE] = "responses that are no HTTP",
	[WL_WARC_RESOURCE] = "resources that are no pages",
	[WL_WARC_REQUEST] = "request records",
	[WL_WARC_METADATA] = "metadata records",
	[WL_WARC_REVISIT] = "revisit records",
	[WL_WARC_CONVERSION] = "conversion records",
	[WL_WARC_CONTINUATION] = "continuation records",
	[WL_WARC_OTHER] = "records of unknown types",
};

static bool is_html_type(struct wl_slice type)
{
	char text[128];
	snprintf(text, sizeof text, "%.*s", (int)(type.n < 127 ? type.n : 127),
		type.p ? type.p : "");
	return wl_page_is_html(text, NULL, 0);
}

/* NULL: it may be a page; else the class it is passed over as. */
static const char *why_no_page(
	struct warc_source *s, const struct wl_warc_record *w, struct wl_slice *type)
{
	struct wl_err ignored = WL_ERR_INIT;
	const char *of_status[] = {"responses of status 1xx", NULL, "responses of status 3xx",
		"responses of status 4xx", "responses of status 5xx"};
	struct wl_slice at = w->uri;
	*type = w->content_type;
	if (w->type != WL_WARC_RESPONSE && w->type != WL_WARC_RESOURCE)
		return NO_PAGE[w->type];
	if (!wl_slice_begins(at, "http:") && !wl_slice_begins(at, "https:"))
		return NO_PAGE[w->type];
	if (w->type == WL_WARC_RESPONSE) {
		/* What does not begin as HTTP is judged, and refused, by prepare. */
		if (wl_http_parse(s->http, w->body, w->n, &ignored) < 0)
			return NULL;
		int hundreds = s->http->status / 100;
		if (s->http->status != 200)
			return hundreds == 2 ? "responses of status 2xx but 200"
				: hundreds >= 1 && hundreds <= 5 ? of_status[hundreds - 1]
								 : "responses of odd status";
		*type = wl_fields_get(&s->http->fields, "content-type");
	}
	if (wl_slice_begins(*type, "image/"))
		return "pictures of the archive";
	if (type->n && !is_html_type(*type))
		return w->type == WL_WARC_RESPONSE ? "responses of other types" : NO_PAGE[w->type];
	if (w->type == WL_WARC_RESPONSE && wl_http_forbids_use(s->http))
		return "pages whose server forbids this use";
	return NULL;
}

static char *dup_slice(struct wl_record *r, struct wl_slice s, struct wl_err *err)
{
	return wl_arena_strndup(&r->mem, s.p ? s.p : "", s.n, err);
}

/* Where it is, for people and for the catalog. */
static int name_record(struct warc_source *s, struct wl_record *r, const struct wl_warc_record *w,
	struct wl_err *err)
{
	char text[64];
	if (!wl_inflate_is_compressed(&s->w.in))
		snprintf(text, sizeof text, "byte %lld", (long long)w->inside);
	else if (!w->inside)
		snprintf(text, sizeof text, "byte %lld", (long long)w->member);
	else
		snprintf(text, sizeof text, "byte %lld + %lld", (long long)w->member,
			(long long)w->inside);
	r->place = wl_arena_strdup(&r->mem, text, err);
	snprintf(text, sizeof text, "%lld %lld", (long long)w->next_member,
		(long long)w->next_inside);
	r->position = wl_arena_strdup(&r->mem, text, err);
	return r->place && r->position ? 0 : -1;
}

/* Copies what prepare needs, or says why it needs nothing. */
static int take_record(struct warc_source *s, struct wl_record *r, const struct wl_warc_record *w,
	struct wl_err *err)
{
	struct wl_slice type;
	if (w->mended)
		WL_TRY(wl_record_tally(r, "records whose Content-Length is wrong", 1, err));
	if (w->damage) {
		size_t n = w->n < WL_WARC_EVIDENCE ? w->n : WL_WARC_EVIDENCE;
		WL_TRY(wl_buf_add(&r->text, w->body, n, err));
		return wl_record_reject(r, err, "%s", w->damage);
	}
	const char *class = why_no_page(s, w, &type);
	if (class)
		return wl_record_pass(r, class, err);
	if (w->n > r->text.max)
		return wl_record_reject(r, err, "the page is too large: %zu bytes", w->n);
	r->pair.page_url = dup_slice(r, w->uri, err);
	r->pair.fetched_at = parse_date(wl_fields_get(w->fields, "warc-date"));
	/* A resource has no HTTP head: its type goes along. */
	r->file = w->type == WL_WARC_RESOURCE ? dup_slice(r, type, err) : NULL;
	if (!r->pair.page_url || (w->type == WL_WARC_RESOURCE && !r->file))
		return -1;
	r->has_text = true;
	return wl_buf_add(&r->text, w->body, w->n, err);
}

static int warc_next(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	struct warc_source *s = (struct warc_source *)base;
	struct wl_warc_record w;
	int more = wl_warc_next(&s->w, &w, err);
	if (more <= 0)
		return more;
	/* Not at open: a finished archive need not be read again. */
	if (!s->images) {
		s->images = wl_warc_images_open(base->origin->path, err);
		if (!s->images)
			return -1;
	}
	r->pair.source = s->label;
	WL_TRY(name_record(s, r, &w, err));
	return take_record(s, r, &w, err) < 0 ? -1 : 1;
}

/* ---- prepare: the pairs of a page ---- */

/* The picture from the same archive, when it is there. */
static int find_image(void *ctx, struct wl_record *y, const char *url, struct wl_err *err)
{
	struct warc_source *s = ctx;
	struct wl_err why = WL_ERR_INIT;
	enum wl_warc_image_found found;
	if (wl_warc_images_get(s->images, url, &y->image, &found, &why) < 0) {
		if (why.code != WL_EDATA)
			return wl_err_set(err, why.code, "%s", why.msg);
		return wl_record_reject(
			y, err, "the picture in the archive cannot be read: %s", why.msg);
	}
	if (found == WL_WARC_IMAGE_FORBIDDEN)
		return wl_record_reject(
			y, err, "the picture's server forbids this use: X-Robots-Tag");
	y->has_image = found == WL_WARC_IMAGE_FOUND;
	return 0;
}

static int read_page(
	struct warc_source *s, struct wl_record *r, const struct wl_page *page, struct wl_err *err)
{
	if (!page->content_type && !wl_page_is_html(NULL, page->bytes, page->n))
		return wl_record_pass(r, "responses of other types", err);
	return wl_record_page(r, s->profile, page, s->base.origin->name, find_image, s, err);
}

static int read_response(struct warc_source *s, struct wl_record *r, struct wl_http *h,
	struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	struct wl_http_body body;
	int ret = -1;
	if (wl_http_parse(h, r->text.data, r->text.len, &why) < 0)
		return wl_record_reject(r, err, "%s", why.msg);
	wl_http_body_init(&body, WL_PAGE_MAX_BYTES);
	if (wl_http_body_decode(&body, h, &why) < 0) {
		ret = why.code == WL_EDATA
			? wl_record_reject(r, err, "the body cannot be decoded: %s", why.msg)
			: wl_err_set(err, why.code, "%s", why.msg);
		goto out;
	}
	struct wl_slice type = wl_fields_get(&h->fields, "content-type");
	const char *text = type.n ? dup_slice(r, type, err) : NULL;
	if (type.n && !text)
		goto out;
	if (!body.n) {
		ret = wl_record_pass(r, "responses without a body", err);
		goto out;
	}
	struct wl_page page = {
		.url = r->pair.page_url, .bytes = body.p, .n = body.n, .content_type = text};
	if (body.cut)
		WL_TRY_OUT(wl_record_tally(r, "pages whose body is cut off", 1, err));
	ret = read_page(s, r, &page, err);
out:
	wl_http_body_release(&body);
	return ret;
}

static int warc_prepare(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	struct warc_source *s = (struct warc_source *)base;
	if (r->has_text && !r->reason && r->file) {
		struct wl_page page = {.url = r->pair.page_url,
			.bytes = r->text.data,
			.n = r->text.len,
			.content_type = *r->file ? r->file : NULL};
		WL_TRY(read_page(s, r, &page, err));
	} else if (r->has_text && !r->reason) {
		struct wl_http *h = malloc(sizeof *h);
		int ret = h ? read_response(s, r, h, err) : wl_err_nomem(err, "a message", 0);
		free(h);
		WL_TRY(ret);
	}
	return r->many && !r->reason ? 0 : wl_record_finish(r, err);
}

const struct wl_source_ops wl_source_warc = {
	.kind = "warc",
	.about = "warc:FILE[?profile=news|baike|weibo]  web archives, .warc, .warc.gz, .warc.zst",
	.params = "profile",
	.open = warc_open,
	.next = warc_next,
	.prepare = warc_prepare,
	.close = warc_close,
};

/*
 * html: saved pages, one file or a tree of them.  Their pictures are fetched later.
 *
 * Where a page came from is told by ?index=FILE, lines of JSON with "file" and "url", else by
 * the page's canonical link.  Positions are those of ingest/listing.h.
 */
#include "ingest/listing.h"
#include "ingest/page_record.h"
#include "ingest/source.h"

#include "ops/file.h"
#include "ops/json.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

struct html_source {
	struct wl_source base;
	struct wl_profile *profile;
	struct wl_tree_walk walk;
	json_t *urls; /* file -> url; or NULL */
	bool alone;   /* the source is one file */
};

static void html_close(struct wl_source *base)
{
	struct html_source *s = (struct html_source *)base;
	wl_listing_release(&s->walk.files);
	wl_profile_free(s->profile);
	json_decref(s->urls);
	free(s);
}

/* What a "saved from url=(0042)http://..." comment leaves behind: "-->", and what no URL has. */
static size_t url_len(const char *url)
{
	size_t n = strcspn(url, " \t\r\n<>\"");
	while (n && url[n - 1] == '-')
		n--;
	return n;
}

static int index_line(struct html_source *s, const char *line, size_t n, const char *path,
	size_t number, struct wl_err *err)
{
	json_error_t why;
	json_t *o = json_loadb(line, n, 0, &why);
	const char *file = json_string_value(json_object_get(o, "file"));
	const char *url = json_string_value(json_object_get(o, "url"));
	int ret = 0;
	if (!json_is_object(o) || !file)
		ret = wl_err_set(err, WL_EUSAGE,
			"%s, line %zu: expected {\"file\": NAME, \"url\": URL}%s%s", path, number,
			o ? "" : ", found no JSON: ", o ? "" : why.text);
	else if (url && json_object_set_new(s->urls, file, json_stringn(url, url_len(url))) < 0)
		ret = wl_err_nomem(err, "the index of pages", n);
	json_decref(o);
	return ret;
}

static int read_index(struct html_source *s, const char *path, struct wl_err *err)
{
	struct wl_buf b;
	size_t number = 0;
	int ret = -1;
	wl_buf_init(&b, (size_t)1 << 30);
	s->urls = json_object();
	if (!s->urls) {
		wl_err_nomem(err, "the index of pages", 0);
		goto out;
	}
	WL_TRY_OUT(wl_read_file(path, &b, err));
	for (const char *p = wl_buf_str(&b); *p;) {
		size_t n = strcspn(p, "\n");
		number++;
		if (strspn(p, " \t\r") < n)
			WL_TRY_OUT(index_line(s, p, n, path, number, err));
		p += n + (p[n] == '\n');
	}
	ret = 0;
out:
	wl_buf_release(&b);
	return ret;
}

static int list_pages(struct html_source *s, const char *path, struct wl_err *err)
{
	struct stat st;
	s->alone = stat(path, &st) == 0 && S_ISREG(st.st_mode);
	return s->alone ? wl_listing_file(&s->walk.files, path, err)
			: wl_listing_read(&s->walk.files, path, err);
}

static struct wl_source *html_open(
	const struct wl_origin *o, const char *position, struct wl_err *err)
{
	struct html_source *s = wl_source_new(o, sizeof *s, err);

	if (!s)
		return NULL;
	s->profile = wl_profile_load(o->profile, err);
	if (!s->profile || (o->index && read_index(s, o->index, err) < 0) ||
		list_pages(s, o->path, err) < 0) {
		html_close(&s->base);
		return NULL;
	}
	wl_tree_walk_start(&s->walk, position);
	return &s->base;
}

/* A single file is a page whatever its name. */
static bool is_page(const void *ctx, const char *path)
{
	const struct html_source *s = ctx;
	static const char *const ext[] = {".html", ".htm", ".shtml", ".xhtml"};
	size_t n = strlen(path);
	if (s->alone)
		return true;
	for (size_t i = 0; i < sizeof ext / sizeof *ext; i++) {
		size_t m = strlen(ext[i]);
		if (n > m && strcasecmp(path + n - m, ext[i]) == 0)
			return true;
	}
	return false;
}

static int html_next(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	struct html_source *s = (struct html_source *)base;
	return wl_tree_walk_next(&s->walk, is_page, s, r, err);
}

static const char *html_end(struct wl_source *base)
{
	return ((struct html_source *)base)->walk.digest;
}

static int html_prepare(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	const struct html_source *s = (const struct html_source *)base;
	const struct wl_origin *o = base->origin;
	char *full = s->alone ? wl_strf(err, "%s", o->path) : wl_path_join(o->path, r->file, err);
	r->pair.source = o->source;
	int ret = full ? wl_record_load(r, full, "page", &r->text, err) : -1;
	free(full);
	if (ret < 0 || r->reason)
		return ret;
	struct wl_page page = {.url = json_string_value(json_object_get(s->urls, r->file)),
		.bytes = wl_buf_str(&r->text),
		.n = r->text.len};
	return wl_record_page(r, s->profile, &page, o->name, NULL, NULL, err);
}

const struct wl_source_ops wl_source_html = {
	.kind = "html",
	.about = "html:FILE|DIR[?profile=NAME][&index=FILE]  saved pages; profiles news, baike, "
		 "weibo",
	.params = "profile index",
	.open = html_open,
	.next = html_next,
	.prepare = html_prepare,
	.end = html_end,
	.close = html_close,
	.walks_again = true,
};

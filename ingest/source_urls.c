/*
 * urls: a list of pictures' addresses, in the forms that img2dataset takes: a URL a line, URL and
 * caption with a tab between, CSV or TSV with a header, or JSON lines; also compressed.
 *
 * The form is told by the content: a first line that begins with '{' means JSON; one that has a
 * field named url, or image_url, is a header; all else is a plain list.  A record is never a pair
 * at once: it waits for the fetch.  One without a caption waits too: what its URL gives may be a
 * page.
 *
 * Positions are those of jsonl: "BYTES LINES".
 */
#include "ingest/source.h"

#include "ingest/csv.h"
#include "ingest/lines.h"
#include "ingest/page.h"
#include "ops/file.h"
#include "ops/json.h"

#include <stdlib.h>
#include <string.h>

enum form { FORM_PLAIN, FORM_JSON, FORM_TABLE };
enum { ROW_LINES_MAX = 1000 }; /* of one CSV row; a stray quote must not swallow the file */

struct urls_source {
	struct wl_source base;
	struct wl_lines lines;
	struct wl_buf line; /* of a row of several lines */
	enum form form;
	char separator;
	struct wl_arena mem; /* of the header */
	struct wl_csv_row header;
	int url, caption; /* columns; caption -1: none */
	/* ?profile=NAME, for URLs of pages: what goes into meta, and the label if there is none */
	char *page_meta, *page_source;
};

static void urls_close(struct wl_source *base)
{
	struct urls_source *s = (struct urls_source *)base;
	wl_lines_close(&s->lines);
	wl_buf_release(&s->line);
	wl_arena_release(&s->mem);
	free(s->page_meta);
	free(s->page_source);
	free(s);
}

/* ---- what form it has ---- */

static int try_header(
	struct urls_source *s, const struct wl_buf *line, char separator, struct wl_err *err)
{
	static const char *const urls[] = {
		"url", "image_url", "img_url", "image_link", "imageurl", NULL};
	static const char *const captions[] = {
		"caption", "text", "captions", "alt_text", "alt", "title", "description", NULL};
	WL_TRY(wl_csv_split(&s->header, line->data, line->len, separator, &s->mem, err));
	s->url = wl_csv_column(&s->header, urls);
	s->caption = wl_csv_column(&s->header, captions);
	s->separator = separator;
	return s->url >= 0;
}

/* Reads the first line with something on it and puts it back unless it is a header. */
static int find_form(struct urls_source *s, const struct wl_origin *o, struct wl_err *err)
{
	struct wl_buf *b = &s->line;
	bool too_long = false;
	int more;
	WL_TRY(wl_lines_open(&s->lines, o->path, 0, 0, err));
	do {
		more = wl_lines_next(&s->lines, b, &too_long, err);
		if (more > 0 && s->lines.line == 1)
			wl_lines_strip_bom(b);
	} while (more > 0 && wl_lines_is_blank(b));
	WL_TRY(more);
	s->form = FORM_PLAIN;
	if (more == 0)
		return 0;
	if (!too_long && b->data[0] == '{')
		s->form = FORM_JSON;
	if (too_long || s->form == FORM_JSON) {
		wl_lines_put_back(&s->lines, b, too_long);
		return 0;
	}
	int is_table = try_header(s, b, '\t', err);
	if (is_table == 0)
		is_table = try_header(s, b, ',', err);
	WL_TRY(is_table);
	if (is_table)
		s->form = FORM_TABLE;
	else
		wl_lines_put_back(&s->lines, b, false);
	return 0;
}

/* The fetch reads pages by it: it must be there. */
static int take_profile(struct urls_source *s, const struct wl_origin *o, struct wl_err *err)
{
	struct wl_profile *p = wl_profile_load(o->profile, err);
	json_t *meta;
	if (!p)
		return -1;
	if (strcmp(o->source, o->ops->kind) == 0)
		s->page_source = wl_strf(err, "%s", wl_profile_name(p));
	wl_profile_free(p);
	if (!o->profile)
		return 0;
	meta = json_pack("{s:s}", "profile", o->profile);
	s->page_meta = meta ? wl_json_text(meta, err) : NULL;
	json_decref(meta);
	return s->page_meta ? 0 : -1;
}

static struct wl_source *urls_open(
	const struct wl_origin *o, const char *position, struct wl_err *err)
{
	struct urls_source *s = wl_source_new(o, sizeof *s, err);
	int64_t offset = 0, line = 0;

	if (!s)
		return NULL;
	s->lines.fd = -1;
	wl_buf_init(&s->line, WL_RECORD_MAX_TEXT);
	WL_TRY_OUT(wl_lines_parse_position(position, o->name, &offset, &line, err));
	WL_TRY_OUT(take_profile(s, o, err));
	WL_TRY_OUT(find_form(s, o, err));
	if (offset > 0)
		WL_TRY_OUT(wl_lines_move_to(&s->lines, offset, line, err));
	return &s->base;
out:
	urls_close(&s->base);
	return NULL;
}

/* ---- reading ---- */

/* The lines after the first of a CSV row that has line breaks inside quotes. */
static int read_rest_of_row(struct urls_source *s, struct wl_record *r, struct wl_err *err)
{
	bool open = wl_csv_is_open(r->json.data, r->json.len, false), too_long = false;
	for (int i = 0; open && i < ROW_LINES_MAX; i++) {
		int more = wl_lines_next(&s->lines, &s->line, &too_long, err);
		WL_TRY(more);
		if (!more || too_long || r->json.len + s->line.len + 1 > r->json.max)
			break;
		WL_TRY(wl_buf_putc(&r->json, '\n', err));
		WL_TRY(wl_buf_add(&r->json, wl_buf_str(&s->line), s->line.len, err));
		open = wl_csv_is_open(wl_buf_str(&s->line), s->line.len, true);
	}
	if (open)
		return wl_record_reject(r, err, "a quote in the row is never closed");
	return 0;
}

static int urls_next(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	struct urls_source *s = (struct urls_source *)base;
	int more = wl_lines_next_record(&s->lines, r, err);
	if (more <= 0)
		return more;
	if (s->form == FORM_TABLE && s->separator == ',' && !r->reason)
		WL_TRY(read_rest_of_row(s, r, err));
	return wl_lines_end_record(&s->lines, r, err) < 0 ? -1 : 1;
}

/* ---- making records ---- */

/* Columns that are neither URL nor caption stay with the pair, as meta. */
static int take_columns(struct urls_source *s, struct wl_record *r, const struct wl_csv_row *row,
	struct wl_err *err)
{
	json_t *meta = json_object();
	char *text = NULL;
	if (!meta)
		return wl_err_nomem(err, "meta", 0);
	for (size_t i = 0; i < row->n && i < s->header.n; i++)
		if ((int)i != s->url && (int)i != s->caption && *row->v[i])
			/* What is not UTF-8 cannot be said in JSON. */
			(void)json_object_set_new(meta, s->header.v[i], json_string(row->v[i]));
	if (json_object_size(meta)) {
		text = wl_json_text(meta, err);
		r->pair.meta = text ? wl_arena_strdup(&r->mem, text, err) : NULL;
	}
	free(text);
	json_decref(meta);
	return r->pair.meta ? 0 : -1;
}

static int from_table(
	struct urls_source *s, struct wl_record *r, const char **url, struct wl_err *err)
{
	struct wl_csv_row row;
	WL_TRY(wl_csv_split(&row, r->json.data, r->json.len, s->separator, &r->mem, err));
	if ((size_t)s->url >= row.n)
		return wl_record_reject(r, err, "the row has no column %s: it has %zu of %zu",
			s->header.v[s->url], row.n, s->header.n);
	*url = row.v[s->url];
	if (s->caption >= 0 && (size_t)s->caption < row.n)
		WL_TRY(wl_record_captions(r, row.v[s->caption], strlen(row.v[s->caption]), err));
	return take_columns(s, r, &row, err);
}

static int from_json(struct wl_record *r, const char **url, struct wl_err *err)
{
	struct wl_image_ref ref = {0};
	WL_TRY(wl_record_json(r, wl_buf_str(&r->json), r->json.len, &ref, err));
	*url = ref.url ? ref.url : r->pair.url;
	return 0;
}

static int from_line(struct wl_record *r, const char **url, struct wl_err *err)
{
	const char *tab = memchr(r->json.data, '\t', r->json.len);
	size_t n = tab ? (size_t)(tab - r->json.data) : r->json.len;
	*url = wl_arena_strndup(&r->mem, r->json.data, n, err);
	if (!*url)
		return -1;
	return tab ? wl_record_captions(r, tab + 1, r->json.len - n - 1, err) : 0;
}

static int urls_prepare(struct wl_source *base, struct wl_record *r, struct wl_err *err)
{
	struct urls_source *s = (struct urls_source *)base;
	const char *url = "";
	r->pair.source = base->origin->source;
	if (!r->reason)
		WL_TRY(s->form == FORM_TABLE   ? from_table(s, r, &url, err)
			: s->form == FORM_JSON ? from_json(r, &url, err)
					       : from_line(r, &url, err));
	if (!r->reason && !r->has_image)
		WL_TRY(wl_record_image_url(r, url, err));
	char *origin = wl_strf(err, "%s#%s", base->origin->name, r->pair.url);
	r->image_origin = origin ? wl_arena_strdup(&r->mem, origin, err) : NULL;
	free(origin);
	if (!r->image_origin)
		return -1;
	/* Without a caption it still may be a page's URL: the fetch shows. */
	if (!r->reason && !r->has_image && strcmp(r->pair.texts, "[]") == 0) {
		if (s->page_meta)
			r->pair.meta = s->page_meta;
		if (s->page_source && r->pair.source == base->origin->source)
			r->pair.source = s->page_source;
		r->pair.id =
			wl_pair_id(r->pair.source, r->pair.page_url, r->image_origin, r->ordinal);
		return 0;
	}
	return wl_record_finish(r, err);
}

static int64_t urls_recall(const char *place)
{
	return wl_place_number(place, "line");
}

const struct wl_source_ops wl_source_urls = {
	.kind = "urls",
	.params = "profile",
	.about = "urls:FILE  addresses of pictures with captions (URL<TAB>caption, CSV, TSV, "
		 "JSONL), or "
		 "of pages; ?profile=NAME",
	.open = urls_open,
	.next = urls_next,
	.prepare = urls_prepare,
	.recall = urls_recall,
	.close = urls_close,
};

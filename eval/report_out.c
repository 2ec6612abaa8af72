/* See report_out.h. */
#include "eval/report_out.h"
#include "ops/file.h"
#include "ops/grow.h"
#include "ops/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MD_MAX = 1 << 26 };

int wl_report_out_init(struct wl_report_out *r, const char *title, struct wl_err *err)
{
	*r = (struct wl_report_out){.json = json_object()};
	wl_buf_init(&r->md, MD_MAX);
	if (!r->json || json_object_set_new(r->json, "title", json_string(title)))
		return wl_err_nomem(err, "a report", 0);
	WL_TRY(wl_html_init(&r->html, title, err));
	return wl_buf_printf(&r->md, err, "# %s\n", title);
}

void wl_report_out_release(struct wl_report_out *r)
{
	wl_html_release(&r->html);
	wl_buf_release(&r->md);
	json_decref(r->json);
}

int wl_report_heading(struct wl_report_out *r, int level, const char *text, struct wl_err *err)
{
	WL_TRY(wl_html_heading(&r->html, level, text, err));
	return wl_buf_printf(&r->md, err, "\n%.*s %s\n", level, "######", text);
}

int wl_report_para(struct wl_report_out *r, const char *text, struct wl_err *err)
{
	WL_TRY(wl_html_para(&r->html, text, err));
	return wl_buf_printf(&r->md, err, "\n%s\n", text);
}

int wl_cell(struct wl_cells *c, struct wl_err *err, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	WL_TRY(WL_GROW_IN(&c->arena, c->v, c->n, c->cap, err));
	c->v[c->n] = wl_arena_strdup(&c->arena, text, err);
	return c->v[c->n++] ? 0 : -1;
}

/* A cell of Markdown: no line break, bars escaped. */
static int md_cell(struct wl_buf *b, const char *s, struct wl_err *err)
{
	for (; *s; s++) {
		if (*s == '|')
			WL_TRY(wl_buf_putc(b, '\\', err));
		WL_TRY(wl_buf_putc(b, (char)(*s == '\n' ? ' ' : *s), err));
	}
	return 0;
}

static int md_table(struct wl_buf *b, const struct wl_cells *c, const char *caption,
	struct wl_err *err)
{
	if (caption)
		WL_TRY(wl_buf_printf(b, err, "\n%s\n", caption));
	WL_TRY(wl_buf_putc(b, '\n', err));
	for (size_t i = 0; i < c->n; i++) {
		WL_TRY(wl_buf_puts(b, "| ", err));
		WL_TRY(md_cell(b, c->v[i], err));
		WL_TRY(wl_buf_puts(b, (i + 1) % c->cols ? " " : " |\n", err));
		if (i + 1 == c->cols)
			for (size_t k = 0; k < c->cols; k++)
				WL_TRY(wl_buf_puts(b, k + 1 == c->cols ? (k ? "|--:|\n" : "|---|\n")
					: k ? "|--:" : "|---", err));
	}
	return 0;
}

int wl_report_table(struct wl_report_out *r, struct wl_cells *c, const char *caption,
	struct wl_err *err)
{
	size_t rows = c->cols ? c->n / c->cols : 0;
	int ret = -1;

	WL_ASSERT(rows * c->cols == c->n);
	if (!wl_html_table(&r->html, rows, c->cols, c->v, caption, err))
		ret = md_table(&r->md, c, caption, err);
	wl_arena_release(&c->arena);
	return ret;
}

int wl_report_out_save(struct wl_report_out *r, const char *path, struct wl_err *err)
{
	const char *dot = strrchr(path, '.'), *slash = strrchr(path, '/');
	size_t stem = dot && (!slash || dot > slash) ? (size_t)(dot - path) : strlen(path);
	char *md = wl_strf(err, "%.*s.md", (int)stem, path);
	char *json = md ? wl_strf(err, "%.*s.json", (int)stem, path) : NULL;
	int ret = -1;

	if (!json)
		goto out;
	WL_TRY_OUT(wl_html_save(&r->html, path, err));
	WL_TRY_OUT(wl_write_file(md, r->md.data, r->md.len, err));
	ret = wl_json_save(json, r->json, err);
out:
	free(md);
	free(json);
	return ret;
}

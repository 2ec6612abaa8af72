/* Self-contained pages: see html.h.  Charts are in html_chart.c. */
#include "ops/html.h"
#include "ops/file.h"

#include <stdlib.h>
#include <string.h>

/* A report with some hundred inline photographs stays below this. */
enum { PAGE_MAX = 256 << 20 };

static const char head[] =
	"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
	"<style>\n"
	":root{color-scheme:light dark;--fg:#1a1a1a;--bg:#fff;--soft:#667;--line:#d5d9e0;"
	"--s0:#1f6fb4;--s1:#d1622b;--s2:#2f8a4c;--s3:#8a4fb0;--s4:#b0881a;--s5:#c03a5c}\n"
	"@media(prefers-color-scheme:dark){:root{--fg:#e6e6e6;--bg:#16181c;--soft:#9aa3b2;"
	"--line:#3a3f48;--s0:#6cb2ee;--s1:#f0975f;--s2:#6fce8d;--s3:#c394e6;--s4:#e0bd58;"
	"--s5:#f0839c}}\n"
	"body{font:16px/1.5 system-ui,\"Noto Sans CJK SC\",sans-serif;color:var(--fg);"
	"background:var(--bg);max-width:60rem;margin:2rem auto;padding:0 1rem}\n"
	"table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}\n"
	"caption{text-align:left;color:var(--soft);padding-bottom:.3rem}\n"
	"th,td{padding:.2rem .8rem .2rem 0;border-bottom:1px solid var(--line);text-align:left;"
	"vertical-align:top}\n"
	"td.n,th.n{text-align:right}\nimg{max-width:100%;vertical-align:top}\n"
	"svg{width:100%;height:auto;max-width:45rem;display:block;margin:1rem 0}\n"
	"svg text{fill:var(--fg);font-size:12px}\nsvg .g{stroke:var(--line);stroke-width:1}\n"
	"table.b{width:100%;max-width:45rem}table.b td{border:0;padding:.1rem .6rem .1rem 0}"
	"table.b td.w{width:60%}table.b div{background:var(--s0);height:.9rem}\n"
	".k{display:flex;flex-wrap:wrap;gap:1rem;margin:1rem 0}\n.k figure{margin:0;width:9rem}\n"
	"figcaption{font-size:13px;color:var(--soft)}\n"
	"</style>\n<title>";

static int escape(struct wl_buf *b, const char *s, struct wl_err *err)
{
	for (; *s; s++) {
		switch (*s) {
		case '&':
			WL_TRY(wl_buf_puts(b, "&amp;", err));
			break;
		case '<':
			WL_TRY(wl_buf_puts(b, "&lt;", err));
			break;
		case '>':
			WL_TRY(wl_buf_puts(b, "&gt;", err));
			break;
		case '"':
			WL_TRY(wl_buf_puts(b, "&quot;", err));
			break;
		case '\'':
			WL_TRY(wl_buf_puts(b, "&#39;", err));
			break;
		default:
			WL_TRY(wl_buf_putc(b, *s, err));
		}
	}
	return 0;
}

int wl_html_init(struct wl_html *h, const char *title, struct wl_err *err)
{
	wl_buf_init(&h->b, PAGE_MAX);
	WL_TRY(wl_buf_puts(&h->b, head, err));
	WL_TRY(escape(&h->b, title, err));
	WL_TRY(wl_buf_puts(&h->b, "</title>\n</head>\n<body>\n", err));
	return wl_html_heading(h, 1, title, err);
}

void wl_html_release(struct wl_html *h)
{
	if (h)
		wl_buf_release(&h->b);
}

static int element(struct wl_html *h, const char *tag, const char *text, struct wl_err *err)
{
	WL_TRY(wl_buf_printf(&h->b, err, "<%s>", tag));
	WL_TRY(escape(&h->b, text, err));
	return wl_buf_printf(&h->b, err, "</%s>\n", tag);
}

int wl_html_heading(struct wl_html *h, int level, const char *text, struct wl_err *err)
{
	const char tag[] = {'h', (char)('0' + (level < 1 ? 1 : level > 6 ? 6 : level)), 0};

	return element(h, tag, text, err);
}

int wl_html_para(struct wl_html *h, const char *text, struct wl_err *err)
{
	return element(h, "p", text, err);
}

int wl_html_raw(struct wl_html *h, const char *html, struct wl_err *err)
{
	return wl_buf_puts(&h->b, html, err);
}

int wl_html_text(struct wl_html *h, const char *text, struct wl_err *err)
{
	return escape(&h->b, text, err);
}

/* "12", "-0.5", "81.2 %": right-aligned. */
static bool looks_numeric(const char *s)
{
	size_t digits = 0;

	for (const char *p = s; *p; p++) {
		if (*p >= '0' && *p <= '9')
			digits++;
		else if (!strchr("+-.,%eE ", *p))
			return false;
	}
	return digits > 0;
}

/* A column is numeric when every cell below the header is, or is empty or a dash. */
static bool column_numeric(size_t rows, size_t cols, const char *const *cells, size_t c)
{
	bool any = false;

	for (size_t r = 1; r < rows; r++) {
		const char *s = cells[r * cols + c];

		if (!s || !*s || !strcmp(s, "-") || !strcmp(s, "–"))
			continue;
		if (!looks_numeric(s))
			return false;
		any = true;
	}
	return any;
}

int wl_html_table(struct wl_html *h, size_t rows, size_t cols, const char *const *cells,
	const char *caption, struct wl_err *err)
{
	WL_TRY(wl_html_raw(h, "<table>\n", err));
	if (caption)
		WL_TRY(element(h, "caption", caption, err));
	for (size_t r = 0; r < rows; r++) {
		const char *tag = r ? "td" : "th";

		WL_TRY(wl_html_raw(h, "<tr>", err));
		for (size_t c = 0; c < cols; c++) {
			const char *s = cells[r * cols + c];
			bool n = column_numeric(rows, cols, cells, c);

			WL_TRY(wl_buf_printf(&h->b, err, "<%s%s>", tag, n ? " class=\"n\"" : ""));
			WL_TRY(escape(&h->b, s ? s : "", err));
			WL_TRY(wl_buf_printf(&h->b, err, "</%s>", tag));
		}
		WL_TRY(wl_html_raw(h, "</tr>\n", err));
	}
	return wl_html_raw(h, "</table>\n", err);
}

int wl_html_bars(struct wl_html *h, const char *title, const char *const *names,
	const double *values, size_t n, struct wl_err *err)
{
	double most = 0, sum = 0;

	for (size_t i = 0; i < n; i++) {
		most = values[i] > most ? values[i] : most;
		sum += values[i];
	}
	WL_TRY(wl_html_raw(h, "<table class=\"b\">\n", err));
	WL_TRY(element(h, "caption", title, err));
	for (size_t i = 0; i < n; i++) {
		WL_TRY(wl_html_raw(h, "<tr><td>", err));
		WL_TRY(escape(&h->b, names[i], err));
		WL_TRY(wl_buf_printf(&h->b, err,
			"</td><td class=\"w\"><div style=\"width:%.1f%%\"></div></td>"
			"<td class=\"n\">%.0f</td><td class=\"n\">%.1f %%</td></tr>\n",
			most > 0 ? 100 * values[i] / most : 0, values[i],
			sum > 0 ? 100 * values[i] / sum : 0));
	}
	return wl_html_raw(h, "</table>\n", err);
}

static int base64(struct wl_buf *b, const unsigned char *p, size_t n, struct wl_err *err)
{
	static const char digit[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	WL_TRY(wl_buf_reserve(b, (n + 2) / 3 * 4, err));
	for (; n; p += 3) {
		unsigned v = (unsigned)p[0] << 16 | (n > 1 ? (unsigned)p[1] << 8 : 0) |
			(n > 2 ? (unsigned)p[2] : 0);
		const char out[4] = {digit[v >> 18], digit[v >> 12 & 63],
			n > 1 ? digit[v >> 6 & 63] : '=', n > 2 ? digit[v & 63] : '='};

		WL_TRY(wl_buf_add(b, out, 4, err));
		n -= n < 3 ? n : 3;
	}
	return 0;
}

int wl_html_image(struct wl_html *h, const void *bytes, size_t n, const char *mime,
	const char *alt, int width_px, struct wl_err *err)
{
	WL_TRY(wl_html_raw(h, "<img", err));
	if (width_px > 0)
		WL_TRY(wl_buf_printf(&h->b, err, " width=\"%d\"", width_px));
	WL_TRY(wl_html_raw(h, " alt=\"", err));
	WL_TRY(escape(&h->b, alt, err));
	WL_TRY(wl_html_raw(h, "\" src=\"data:", err));
	WL_TRY(escape(&h->b, mime, err));
	WL_TRY(wl_html_raw(h, ";base64,", err));
	WL_TRY(base64(&h->b, bytes, n, err));
	return wl_html_raw(h, "\">\n", err);
}

int wl_html_save(struct wl_html *h, const char *path, struct wl_err *err)
{
	WL_TRY(wl_html_raw(h, "</body>\n</html>\n", err));
	return wl_write_file(path, h->b.data, h->b.len, err);
}

/* HTTP responses out of archives: see http_message.h. */
#include "ingest/http_message.h"

#include "ingest/robots.h"

#include <string.h>

/* ---- the head ---- */

/* "HTTP/1.1 200 OK", "HTTP/2 200", and ICY's; the reason does not matter. */
static int parse_status(const char *p, size_t n)
{
	size_t at = n > 5 && memcmp(p, "HTTP/", 5) == 0 ? 5 : 0;
	int status = 0, digits = 0;
	if (!at)
		return -1;
	while (at < n && ((p[at] >= '0' && p[at] <= '9') || p[at] == '.'))
		at++;
	while (at < n && p[at] == ' ')
		at++;
	for (; at < n && p[at] >= '0' && p[at] <= '9' && digits < 4; at++, digits++)
		status = 10 * status + (p[at] - '0');
	return digits == 3 ? status : -1;
}

int wl_http_parse(struct wl_http *h, const char *p, size_t n, struct wl_err *err)
{
	const char *nl = memchr(p, '\n', n < 4096 ? n : 4096);
	size_t line = nl ? (size_t)(nl - p) : n;
	h->status = parse_status(p, line);
	h->fields.n = 0;
	h->raw = p + n;
	h->raw_n = 0;
	if (h->status < 0)
		return wl_err_set(err, WL_EDATA,
			"no HTTP response: it begins with \"%.*s\", expected \"HTTP/1.1 200 OK\"",
			(int)(line < 40 ? line : 40), p);
	if (!nl)
		return 0;
	size_t head = wl_fields_parse(&h->fields, nl + 1, n - line - 1);
	if (head) {
		h->raw = nl + 1 + head;
		h->raw_n = n - line - 1 - head;
	}
	return 0;
}

/* ---- the body ---- */

void wl_http_body_init(struct wl_http_body *b, size_t max)
{
	*b = (struct wl_http_body){.p = ""};
	wl_buf_init(&b->buf, max);
	wl_buf_init(&b->other, max);
}

void wl_http_body_release(struct wl_http_body *b)
{
	if (!b)
		return;
	wl_buf_release(&b->buf);
	wl_buf_release(&b->other);
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9'	? c - '0'
		: c >= 'a' && c <= 'f' ? c - 'a' + 10
		: c >= 'A' && c <= 'F' ? c - 'A' + 10
				       : -1;
}

/* "1f40;ext\r\n"; the bytes taken, 0: no such line. */
static size_t chunk_size(const char *p, size_t n, size_t *size)
{
	size_t at = 0, v = 0;
	const char *nl = memchr(p, '\n', n < 1024 ? n : 1024);
	while (at < n && hex_value(p[at]) >= 0 && at < 8)
		v = v << 4 | (size_t)hex_value(p[at++]);
	size_t digits = at;
	while (at < n && (p[at] == ' ' || p[at] == '\t'))
		at++;
	if (!digits || !nl || (p[at] != ';' && p[at] != '\r' && p[at] != '\n'))
		return 0;
	*size = v;
	return (size_t)(nl + 1 - p);
}

/* 1: all chunks, to the last one of size 0; 0: chunks up to where they break off; -1.  A body
 * whose first line is no chunk size was not chunked: -2. */
static int unchunk(const char *p, size_t n, struct wl_buf *out, struct wl_err *err)
{
	size_t at = 0, size, line;
	wl_buf_reset(out);
	while ((line = chunk_size(p + at, n - at, &size)) > 0) {
		at += line;
		if (!size)
			return 1;
		if (size > n - at) {
			WL_TRY(wl_buf_add(out, p + at, n - at, err));
			return 0;
		}
		WL_TRY(wl_buf_add(out, p + at, size, err));
		at += size;
		at += at < n && p[at] == '\r';
		at += at < n && p[at] == '\n';
	}
	if (!at)
		return -2;
	/* Not where the last chunk said that it ends: the rest is content all the same, as when
	 * only the first part of a body was chunked. */
	WL_TRY(wl_buf_add(out, p + at, n - at, err));
	return 0;
}

static int undo_chunks(struct wl_http_body *b, const struct wl_http *h, struct wl_err *err)
{
	struct wl_slice te = wl_fields_get(&h->fields, "transfer-encoding");
	if (!wl_slice_is(te, "chunked") && !wl_slice_begins(te, "chunked,"))
		return 0;
	int whole = unchunk(b->p, b->n, &b->buf, err);
	if (whole == -1)
		return -1;
	if (whole == -2) {
		b->plain = b->n > 0;
		return 0;
	}
	b->cut |= !whole;
	b->p = wl_buf_str(&b->buf);
	b->n = b->buf.len;
	return 0;
}

/* Text, by its first bytes: no control characters but blanks. */
static bool looks_like_text(const char *p, size_t n)
{
	for (size_t i = 0; i < n && i < 512; i++) {
		unsigned char c = (unsigned char)p[i];
		if (c < 32 && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != 27)
			return false;
	}
	return n > 0;
}

/* An image keeps its bytes when a crawler has decoded it and left the header. */
static bool looks_decoded(const char *p, size_t n)
{
	static const char *const magic[] = {"\xff\xd8\xff", "\x89PNG", "GIF8", "RIFF"};
	for (size_t i = 0; i < sizeof magic / sizeof *magic; i++)
		if (n >= 4 && memcmp(p, magic[i], strlen(magic[i])) == 0)
			return true;
	return looks_like_text(p, n);
}

static int undo_coding(struct wl_http_body *b, struct wl_slice name, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	enum wl_coding c = wl_coding_find(name);
	if (c == WL_CODING_IDENTITY || !b->n)
		return 0;
	/* Into the buffer that the bytes are not in. */
	struct wl_buf *to = b->buf.data && b->p == b->buf.data ? &b->other : &b->buf;
	int whole = wl_coding_decode(c, b->p, b->n, to, &why);
	if (whole < 0) {
		if (why.code == WL_EDATA && looks_decoded(b->p, b->n) &&
			to->len < to->max) {
			b->plain = true;
			return 0;
		}
		return wl_err_set(err, why.code, "%s", why.msg);
	}
	b->cut |= !whole;
	b->p = wl_buf_str(to);
	b->n = to->len;
	return 0;
}

/* "gzip, br" was applied from the left, so it is undone from the right. */
static int undo_codings(struct wl_http_body *b, struct wl_slice list, struct wl_err *err)
{
	enum { MOST = 4 };
	for (int i = 0; list.p && list.n && i < MOST; i++) {
		const char *comma = memrchr(list.p, ',', list.n);
		const char *from = comma ? comma + 1 : list.p;
		struct wl_slice one = {from, (size_t)(list.p + list.n - from)};
		while (one.n && (*one.p == ' ' || *one.p == '\t'))
			one = (struct wl_slice){one.p + 1, one.n - 1};
		while (one.n && (one.p[one.n - 1] == ' ' || one.p[one.n - 1] == '\t'))
			one.n--;
		WL_TRY(undo_coding(b, one, err));
		list.n = comma ? (size_t)(comma - list.p) : 0;
	}
	return 0;
}

int wl_http_body_decode(struct wl_http_body *b, const struct wl_http *h, struct wl_err *err)
{
	b->p = h->raw;
	b->n = h->raw_n;
	b->cut = b->plain = false;
	WL_TRY(undo_chunks(b, h, err));
	return undo_codings(b, wl_fields_get(&h->fields, "content-encoding"), err);
}

/* ---- robots ---- */

bool wl_http_forbids_use(const struct wl_http *h)
{
	char word[WL_ROBOTS_TOKEN];
	for (size_t i = 0; i < h->fields.n; i++) {
		const struct wl_field *f = &h->fields.v[i];
		if (wl_slice_is(f->name, "x-robots-tag") &&
			wl_robots_tag_denies(f->value.p, f->value.n, "wenlan-ingest", word))
			return true;
	}
	return false;
}

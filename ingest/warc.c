/*
 * WARC records out of a window of decompressed bytes: see warc.h.
 *
 * A record is taken where it lies, without a copy, when its length is right, which one look at
 * what follows it tells.  All else is the slow path: the end of the record is searched for, and
 * what is too large or no record goes through `evidence`, so that memory stays bounded.
 *
 * After a member that is damaged the reader stands in the next one before the record is handed
 * out, so that the place after it never points into damage: a reader opened there must not tell
 * of the same damage again.
 */
#include "ingest/warc.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
	LOOK = 48,	   /* bytes after a record that tell whether it ends there */
	VERSION_LINE = 24, /* no version line is longer */
	STEP = 256 << 10,
	HEAD_LOOK = 512,      /* a head is told by its version and its first field */
	MEND_AHEAD = 1 << 20, /* how far past a wrong length the end is searched for */
};

static const char SYNC[] = "WARC/";

static const char *const TYPE_NAMES[WL_WARC_TYPES] = {"warcinfo", "response", "resource", "request",
	"metadata", "revisit", "conversion", "continuation", "other", "garbage"};

const char *wl_warc_type_name(enum wl_warc_type t)
{
	return TYPE_NAMES[t];
}

static void tell(struct wl_warc *w, struct wl_warc_record *r, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void tell(struct wl_warc *w, struct wl_warc_record *r, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(w->why, sizeof w->why, fmt, ap);
	va_end(ap);
	r->damage = w->why;
}

/* ---- heads ---- */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "WARC/1.1" and a line end; the bytes of the line, 0: it is none. */
static size_t version_line(const char *p, size_t n)
{
	size_t at = sizeof SYNC - 1;
	if (n < at + 4 || memcmp(p, SYNC, at) != 0 || !is_digit(p[at]) || p[at + 1] != '.' ||
		!is_digit(p[at + 2]))
		return 0;
	for (at += 2; at < n && is_digit(p[at]) && at < VERSION_LINE; at++)
		;
	while (at < n && (p[at] == ' ' || p[at] == '\r') && at < VERSION_LINE)
		at++;
	return at < n && p[at] == '\n' ? at + 1 : 0;
}

/* A version line with a named field after it, so that a page that speaks of WARC is none. */
static bool is_head(const char *p, size_t n)
{
	size_t at = version_line(p, n), from = at;
	if (!at)
		return false;
	while (at < n && p[at] > ' ' && p[at] != ':' && p[at] < 127 && at < HEAD_LOOK)
		at++;
	return at > from && at < n && p[at] == ':';
}

/* The first head that begins a line in p[from .. n), from >= 1; n when there is none. */
static size_t find_head(const char *p, size_t from, size_t n)
{
	while (from < n) {
		const char *hit = memmem(p + from - 1, n - from + 1, "\nWARC/", 6);
		if (!hit)
			return n;
		size_t at = (size_t)(hit + 1 - p);
		if (is_head(p + at, n - at))
			return at;
		from = at + 1;
	}
	return n;
}

static enum wl_warc_type type_of(struct wl_slice name)
{
	/* The common ones first. */
	static const enum wl_warc_type order[] = {WL_WARC_RESPONSE, WL_WARC_REQUEST,
		WL_WARC_METADATA, WL_WARC_REVISIT, WL_WARC_RESOURCE, WL_WARC_WARCINFO,
		WL_WARC_CONVERSION, WL_WARC_CONTINUATION};
	for (size_t i = 0; i < sizeof order / sizeof *order; i++)
		if (wl_slice_is(name, TYPE_NAMES[order[i]]))
			return order[i];
	return WL_WARC_OTHER;
}

/* Fields of the head at p into the record; the bytes of the head, 0: it has no end in n bytes
 * (the fields that are there are taken). */
static size_t take_head(struct wl_warc *w, struct wl_warc_record *r, const char *p, size_t n)
{
	if (n > WL_WARC_MAX_HEAD)
		n = WL_WARC_MAX_HEAD;
	size_t line = version_line(p, n), head = 0;
	if (!line)
		return 0;
	w->head_at = p;
	head = wl_fields_parse(&w->fields, p + line, n - line);
	r->type = type_of(wl_fields_get(&w->fields, "warc-type"));
	r->content_type = wl_fields_get(&w->fields, "content-type");
	r->uri = wl_fields_get(&w->fields, "warc-target-uri");
	if (r->uri.n >= 2 && r->uri.p[0] == '<' && r->uri.p[r->uri.n - 1] == '>')
		r->uri = (struct wl_slice){r->uri.p + 1, r->uri.n - 2};
	r->length = -1;
	if (!wl_slice_number(wl_fields_get(&w->fields, "content-length"), &r->length))
		r->length = -1;
	return head ? line + head : 0;
}

/* ---- handing out ---- */

/* The record is the first `taken` visible bytes, of which `head` are its head and `end` its
 * head and body. */
static void hand_out(
	struct wl_warc *w, struct wl_warc_record *r, size_t head, size_t end, size_t taken)
{
	const char *p = w->in.p;
	/* The window may have moved since the head was read. */
	if (head && w->head_at != p)
		take_head(w, r, p, w->in.n);
	r->body = p + head;
	r->n = end - head;
	w->taken = taken;
	r->next_member = w->in.member;
	r->next_inside = w->in.inside + (int64_t)taken;
}

/* All that is visible is the record (its body up to `end`), and the member ends in damage, which
 * is told with it. */
static int leave_member(
	struct wl_warc *w, struct wl_warc_record *r, size_t head, size_t end, struct wl_err *err)
{
	size_t n = w->in.n;
	int more = wl_inflate_next(&w->in, err);
	WL_TRY(more);
	hand_out(w, r, head, end, n);
	if (!more) {
		r->next_member = w->in.size;
		r->next_inside = 0;
		w->at_end = true;
	}
	return 1;
}

/* The end of a mended body, without the two line ends that close a record. */
static size_t trim_end(const char *p, size_t head, size_t end)
{
	for (int i = 0; i < 2 && end > head && p[end - 1] == '\n'; i++) {
		end--;
		if (end > head && p[end - 1] == '\r')
			end--;
	}
	return end;
}

/* ---- runs: what is too large, or no record ---- */

static int keep(struct wl_warc *w, size_t k, struct wl_err *err)
{
	size_t left = WL_WARC_EVIDENCE - w->evidence.len;
	WL_TRY(wl_buf_add(&w->evidence, w->in.p, k < left ? k : left, err));
	wl_inflate_consume(&w->in, k);
	return 0;
}

/* Moves everything up to the next head, or to the member's end, into the evidence. */
static int run(struct wl_warc *w, int64_t *bytes, struct wl_err *err)
{
	*bytes = 0;
	for (;;) {
		WL_TRY(wl_inflate_need(&w->in, STEP, err));
		size_t n = w->in.n, at = find_head(w->in.p, 1, n);
		bool found = at < n;
		/* A head near the edge is judged once more can be seen, as is the line end
		 * before one. */
		if (!found && !w->in.ended)
			at = n - HEAD_LOOK;
		*bytes += (int64_t)at;
		WL_TRY(keep(w, at, err));
		if (found || w->in.ended)
			return 0;
	}
}

/* Hands out what is in the evidence. */
static int hand_out_run(struct wl_warc *w, struct wl_warc_record *r, struct wl_err *err)
{
	size_t head = 0;
	bool told = w->in.damage && w->in.ended && !w->in.n;
	if (told)
		WL_TRY(leave_member(w, r, 0, 0, err));
	else
		hand_out(w, r, 0, 0, 0);
	if (r->type != WL_WARC_GARBAGE) {
		head = take_head(w, r, w->evidence.data, w->evidence.len);
		head = head ? head : w->evidence.len;
	}
	r->body = wl_buf_str(&w->evidence) + head;
	r->n = w->evidence.len - head;
	return 1;
}

static int garbage(struct wl_warc *w, struct wl_warc_record *r, struct wl_err *err)
{
	int64_t bytes;
	r->type = WL_WARC_GARBAGE;
	wl_buf_reset(&w->evidence);
	bool raw = w->in.raw;
	WL_TRY(run(w, &bytes, err));
	const char *damage = w->in.ended && !w->in.n ? w->in.damage : NULL;
	tell(w, r, "no WARC record: %lld bytes %s%s%s", (long long)bytes,
		raw ? "between members, which do not decompress" : "that begin none",
		damage ? "; " : "", damage ? damage : "");
	return hand_out_run(w, r, err);
}

/* A record whose length is not known: it is all up to the next head. */
static int unknown_length(struct wl_warc *w, struct wl_warc_record *r, struct wl_err *err)
{
	int64_t bytes, length = r->length;
	wl_buf_reset(&w->evidence);
	WL_TRY(run(w, &bytes, err));
	int ret = hand_out_run(w, r, err);
	if (length < 0)
		tell(w, r, "a WARC record without a Content-Length that can be read");
	else
		tell(w, r,
			"a WARC record whose Content-Length is wrong: %lld bytes, there are "
			"%lld with its head",
			(long long)length, (long long)bytes);
	return ret;
}

/* ---- where a record ends ---- */

static size_t line_ends(const char *p, size_t n)
{
	size_t k = 0;
	while (k < n && (p[k] == '\r' || p[k] == '\n'))
		k++;
	return k;
}

/* Whether a record may end before these n bytes. */
static bool is_boundary(const char *p, size_t n)
{
	size_t skip = line_ends(p, n);
	p += skip;
	n -= skip;
	if (n >= VERSION_LINE)
		return version_line(p, n) > 0;
	size_t k = n < sizeof SYNC - 1 ? n : sizeof SYNC - 1;
	return memcmp(p, SYNC, k) == 0;
}

/* The next member's first bytes continue the record, unless they begin one. */
static int goes_on(struct wl_warc *w, struct wl_err *err)
{
	size_t n = w->in.n;
	int more = wl_inflate_next(&w->in, err);
	if (more <= 0)
		return more;
	if (w->in.raw)
		return 0;
	WL_TRY(wl_inflate_need(&w->in, n + LOOK, err));
	return w->in.n > n && !is_boundary(w->in.p + n, w->in.n - n);
}

static void tell_cut(struct wl_warc *w, struct wl_warc_record *r, size_t have)
{
	tell(w, r, "a WARC record cut off: %zu of its %lld bytes are there%s%s", have,
		(long long)r->length, w->in.damage ? "; " : "", w->in.damage ? w->in.damage : "");
}

/* The member ends before the record does. */
static int short_record(
	struct wl_warc *w, struct wl_warc_record *r, size_t head, size_t total, struct wl_err *err)
{
	while (w->in.n < total) {
		size_t n = w->in.n, at = find_head(w->in.p, head, n);
		if (at < n) {
			r->mended = true;
			hand_out(w, r, head, trim_end(w->in.p, head, at), at);
			return 1;
		}
		tell_cut(w, r, n - head);
		if (w->in.damage)
			return leave_member(w, r, head, n, err);
		int on = goes_on(w, err);
		WL_TRY(on);
		if (!on) {
			hand_out(w, r, head, n, n);
			return 1;
		}
		r->damage = NULL;
		WL_TRY(wl_inflate_need(&w->in, total + LOOK, err));
	}
	hand_out(w, r, head, total, total);
	return 1;
}

/* Two line ends, which close every record. */
static bool is_close(const char *p, size_t n)
{
	return (n >= 4 && memcmp(p, "\r\n\r\n", 4) == 0) || (n >= 2 && memcmp(p, "\n\n", 2) == 0);
}

/* What follows the record is no boundary: either garbage follows it, or its length is wrong. */
static int mend(
	struct wl_warc *w, struct wl_warc_record *r, size_t head, size_t total, struct wl_err *err)
{
	size_t limit = total + MEND_AHEAD;
	WL_TRY(wl_inflate_need(&w->in, limit, err));
	bool to_end = w->in.ended && w->in.n <= limit;
	limit = to_end ? w->in.n : limit;
	size_t at = find_head(w->in.p, head, limit);
	bool is_closed = is_close(w->in.p + total, w->in.n - total);
	if (at >= total && (is_closed || (at == limit && !to_end))) {
		/* The length stands, and what follows is garbage. */
		hand_out(w, r, head, total, total);
		return 1;
	}
	r->mended = true;
	if (at == limit && w->in.damage) {
		tell_cut(w, r, at - head);
		return leave_member(w, r, head, at, err);
	}
	hand_out(w, r, head, trim_end(w->in.p, head, at), at);
	return 1;
}

/* Too large to be held: passed over, its beginning kept. */
static int giant(struct wl_warc *w, struct wl_warc_record *r, size_t head, struct wl_err *err)
{
	int64_t left = r->length + (int64_t)head;
	wl_buf_reset(&w->evidence);
	while (left > 0) {
		WL_TRY(wl_inflate_need(&w->in, left < STEP ? (size_t)left : STEP, err));
		size_t k = (int64_t)w->in.n < left ? w->in.n : (size_t)left;
		WL_TRY(keep(w, k, err));
		left -= (int64_t)k;
		if (left > 0 && w->in.ended && !w->in.n) {
			int on = w->in.damage ? 0 : goes_on(w, err);
			WL_TRY(on);
			if (!on)
				break;
		}
	}
	if (left == 0) {
		WL_TRY(wl_inflate_need(&w->in, LOOK, err));
		if (is_boundary(w->in.p, w->in.n)) {
			int ret = hand_out_run(w, r, err);
			tell(w, r, "a WARC record is too large: %lld bytes, at most %d are read",
				(long long)r->length, WL_WARC_MAX_BODY);
			return ret;
		}
	}
	/* The length was no more than a number. */
	WL_TRY(wl_inflate_seek(&w->in, r->member, r->inside, err));
	return unknown_length(w, r, err);
}

/* ---- reading ---- */

/* To the first byte that is no line end, through as many members as it takes.  0: the end; 2: a
 * member ended in damage of which no record has told. */
static int to_record(struct wl_warc *w, struct wl_err *err)
{
	for (;;) {
		WL_TRY(wl_inflate_need(&w->in, LOOK, err));
		wl_inflate_consume(&w->in, line_ends(w->in.p, w->in.n));
		if (w->in.n)
			return 1;
		if (!w->in.ended)
			continue;
		if (w->in.damage)
			return 2;
		int more = wl_inflate_next(&w->in, err);
		if (more <= 0)
			return more;
	}
}

static int bare_damage(struct wl_warc *w, struct wl_warc_record *r, struct wl_err *err)
{
	r->type = WL_WARC_GARBAGE;
	tell(w, r, "no WARC record: %s", w->in.damage);
	return leave_member(w, r, 0, 0, err);
}

/* Reads the head at the window's start; *head 0: it has no end. */
static int read_head(struct wl_warc *w, struct wl_warc_record *r, size_t *head, struct wl_err *err)
{
	size_t want = HEAD_LOOK;
	*head = 0;
	for (;;) {
		WL_TRY(wl_inflate_need(&w->in, want, err));
		*head = take_head(w, r, w->in.p, w->in.n);
		if (*head || w->in.ended || w->in.n >= WL_WARC_MAX_HEAD)
			return 0;
		want = 2 * w->in.n;
	}
}

static int whole_record(
	struct wl_warc *w, struct wl_warc_record *r, size_t head, struct wl_err *err)
{
	size_t total = head + (size_t)r->length;
	WL_TRY(wl_inflate_need(&w->in, total + LOOK, err));
	size_t n = w->in.n;
	if (n < total)
		return short_record(w, r, head, total, err);
	if (!is_boundary(w->in.p + total, n - total))
		return mend(w, r, head, total, err);
	if (w->in.damage && n < total + LOOK &&
		total + line_ends(w->in.p + total, n - total) == n) {
		tell(w, r, "a WARC record that may be wrong: %s", w->in.damage);
		return leave_member(w, r, head, total, err);
	}
	hand_out(w, r, head, total, total);
	return 1;
}

int wl_warc_next(struct wl_warc *w, struct wl_warc_record *r, struct wl_err *err)
{
	size_t head;
	*r = (struct wl_warc_record){.fields = &w->fields, .length = -1, .body = ""};
	w->fields.n = 0;
	wl_inflate_consume(&w->in, w->taken);
	w->taken = 0;
	if (w->at_end)
		return 0;
	int more = to_record(w, err);
	if (more <= 0)
		return more;
	r->member = w->in.member;
	r->inside = w->in.inside;
	if (more == 2)
		return bare_damage(w, r, err);
	WL_TRY(read_head(w, r, &head, err));
	if (!version_line(w->in.p, w->in.n))
		return garbage(w, r, err);
	if (!head || r->length < 0)
		return unknown_length(w, r, err);
	if (r->length > WL_WARC_MAX_BODY)
		return giant(w, r, head, err);
	return whole_record(w, r, head, err);
}

int wl_warc_open(
	struct wl_warc *w, const char *path, int64_t member, int64_t inside, struct wl_err *err)
{
	*w = (struct wl_warc){.taken = 0};
	wl_buf_init(&w->evidence, WL_WARC_EVIDENCE);
	return wl_inflate_open(&w->in, path, SYNC, member, inside, err);
}

int wl_warc_seek(struct wl_warc *w, int64_t member, int64_t inside, struct wl_err *err)
{
	w->taken = 0;
	w->at_end = false;
	return wl_inflate_seek(&w->in, member, inside, err);
}

void wl_warc_close(struct wl_warc *w)
{
	if (!w)
		return;
	wl_inflate_close(&w->in);
	wl_buf_release(&w->evidence);
}

/*
 * robots.txt, see robots.h.  Paths and patterns are compared in one normal form (RFC 9309, 2.2.2):
 * what is escaped needlessly is plain, everything else that is not plain is escaped in upper case.
 * A pattern is cut at its stars, so that matching is linear and no file can make us slow.
 */
#include "ingest/robots.h"

#include "ingest/url.h"
#include "ops/buf.h"
#include "ops/grow.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_DELAY_MS = 60 * 1000 };

struct rule {
	bool allow;
	size_t at, len; /* the pattern in text; len also is how specific it is */
};

struct rules {
	struct rule *v;
	size_t n, cap;
	int delay_ms;
	bool any; /* a group for this crawler was there, even if it had no rules */
};

struct wl_robots {
	struct rules rules;
	struct wl_buf text; /* patterns, one after the other */
};

void wl_robots_token(const char *user_agent, char token[WL_ROBOTS_TOKEN])
{
	size_t n = 0;
	for (; n < WL_ROBOTS_TOKEN - 1 && (isalpha((unsigned char)user_agent[n]) ||
						  user_agent[n] == '-' || user_agent[n] == '_');
		n++)
		token[n] = (char)tolower((unsigned char)user_agent[n]);
	token[n] = '\0';
}

/* ---- the normal form ---- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Appends the normal form of s[0..n). */
static int add_normal(struct wl_buf *out, const char *s, size_t n, struct wl_err *err)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];
		bool escaped = c == '%' && i + 2 < n && hex(s[i + 1]) >= 0 && hex(s[i + 2]) >= 0;
		if (escaped) {
			c = (unsigned char)(hex(s[i + 1]) << 4 | hex(s[i + 2]));
			i += 2;
		}
		bool plain =
			escaped ? isalnum(c) || (c && strchr("-._~", c)) : c > 0x20 && c < 0x7f;
		if (plain && c < 0x80)
			WL_TRY(wl_buf_putc(out, (char)c, err));
		else
			WL_TRY(wl_buf_printf(out, err, "%%%02X", c));
	}
	return 0;
}

/* ---- reading ---- */

/* Who the group at hand speaks for. */
struct reader {
	const char *token;
	struct wl_buf *text;
	struct rules mine, everyones;
	bool in_agents; /* the last line that counts was a user-agent line */
	bool for_me, for_all;
};

static int add_rule(struct reader *rd, struct rules *to, bool allow, const char *s, size_t n,
	struct wl_err *err)
{
	WL_TRY(WL_GROW(to->v, to->n, to->cap, "rules of a robots.txt", err));
	struct rule *r = &to->v[to->n];
	*r = (struct rule){.allow = allow, .at = rd->text->len};
	WL_TRY(add_normal(rd->text, s, n, err));
	r->len = rd->text->len - r->at;
	to->n++;
	return 0;
}

static void take_agent(struct reader *rd, const char *s, size_t n)
{
	char name[WL_ROBOTS_TOKEN], value[WL_ROBOTS_TOKEN];
	if (!rd->in_agents)
		rd->for_me = rd->for_all = false;
	rd->in_agents = true;
	if (n && s[0] == '*' && (n == 1 || isspace((unsigned char)s[1]))) {
		rd->for_all = rd->everyones.any = true;
		return;
	}
	snprintf(value, sizeof value, "%.*s", (int)(n < sizeof value ? n : sizeof value - 1), s);
	wl_robots_token(value, name);
	if (*name && strcmp(name, rd->token) == 0)
		rd->for_me = rd->mine.any = true;
}

static void take_delay(struct reader *rd, const char *s, size_t n)
{
	char value[32];
	snprintf(value, sizeof value, "%.*s", (int)(n < sizeof value ? n : sizeof value - 1), s);
	double d = strtod(value, NULL);
	int ms = d > 0 ? d * 1000 < MAX_DELAY_MS ? (int)(d * 1000) : MAX_DELAY_MS : 0;
	if (rd->for_me)
		rd->mine.delay_ms = ms;
	if (rd->for_all)
		rd->everyones.delay_ms = ms;
}

static int take_rule(struct reader *rd, bool allow, const char *s, size_t n, struct wl_err *err)
{
	rd->in_agents = false;
	/* An empty pattern says nothing; one that no path is as long as cannot match. */
	if (n == 0 || n > WL_URL_MAX)
		return 0;
	if (rd->for_me)
		WL_TRY(add_rule(rd, &rd->mine, allow, s, n, err));
	if (rd->for_all)
		WL_TRY(add_rule(rd, &rd->everyones, allow, s, n, err));
	return 0;
}

static bool is_key(const char *line, size_t n, const char *key)
{
	return n == strlen(key) && strncasecmp(line, key, n) == 0;
}

static void trim(const char **s, size_t *n)
{
	for (; *n && isspace((unsigned char)**s); (*s)++)
		(*n)--;
	for (; *n && isspace((unsigned char)(*s)[*n - 1]);)
		(*n)--;
}

static int take_line(struct reader *rd, const char *line, size_t n, struct wl_err *err)
{
	const char *hash = memchr(line, '#', n), *colon, *value;
	size_t key_n, value_n;
	if (hash)
		n = (size_t)(hash - line);
	colon = memchr(line, ':', n);
	if (!colon)
		return 0;
	key_n = (size_t)(colon - line);
	value = colon + 1;
	value_n = n - key_n - 1;
	trim(&line, &key_n);
	trim(&value, &value_n);
	if (is_key(line, key_n, "user-agent"))
		take_agent(rd, value, value_n);
	else if (is_key(line, key_n, "crawl-delay"))
		take_delay(rd, value, value_n);
	else if (is_key(line, key_n, "allow") || is_key(line, key_n, "disallow"))
		return take_rule(rd, key_n == 5, value, value_n, err);
	return 0;
}

static int read_all(struct reader *rd, const char *s, size_t n, struct wl_err *err)
{
	if (n > WL_ROBOTS_MAX_BYTES)
		n = WL_ROBOTS_MAX_BYTES;
	if (n >= 3 && memcmp(s, "\xef\xbb\xbf", 3) == 0) {
		s += 3;
		n -= 3;
	}
	for (size_t at = 0; at < n;) {
		size_t end = at;
		while (end < n && s[end] != '\n' && s[end] != '\r')
			end++;
		WL_TRY(take_line(rd, s + at, end - at, err));
		at = end + 1;
	}
	return 0;
}

struct wl_robots *wl_robots_parse(
	const char *bytes, size_t n, const char *token, struct wl_err *err)
{
	struct wl_robots *r = calloc(1, sizeof *r);
	struct reader rd = {.token = token};
	if (!r) {
		wl_err_nomem(err, "a robots.txt", sizeof *r);
		return NULL;
	}
	/* Escapes may triple a pattern, and it may stand in both lists. */
	wl_buf_init(&r->text, 6 * (size_t)WL_ROBOTS_MAX_BYTES);
	rd.text = &r->text;
	int ret = read_all(&rd, bytes, n, err);
	r->rules = rd.mine.any ? rd.mine : rd.everyones;
	free(rd.mine.any ? rd.everyones.v : rd.mine.v);
	if (ret < 0) {
		wl_robots_free(r);
		return NULL;
	}
	return r;
}

void wl_robots_free(struct wl_robots *r)
{
	if (!r)
		return;
	free(r->rules.v);
	wl_buf_release(&r->text);
	free(r);
}

size_t wl_robots_bytes(const struct wl_robots *r)
{
	return r ? sizeof *r + r->rules.cap * sizeof *r->rules.v + r->text.cap : 0;
}

int wl_robots_delay_ms(const struct wl_robots *r)
{
	return r ? r->rules.delay_ms : 0;
}

/* ---- matching ---- */

/* A pattern: pieces between stars.  The first stands at the start, the others anywhere after the
 * one before (leftmost is best), the last at the end when '$' closes the pattern. */
static bool matches(const char *p, size_t p_n, const char *path, size_t n)
{
	bool to_end = p_n && p[p_n - 1] == '$', first = true;
	size_t at = 0;
	if (to_end)
		p_n--;
	for (;;) {
		const char *star = memchr(p, '*', p_n);
		size_t piece = star ? (size_t)(star - p) : p_n;
		bool last = !star;
		if (piece > n - at)
			return false;
		if (last && to_end && !first)
			return memcmp(path + n - piece, p, piece) == 0;
		const char *hit = first ? memcmp(path, p, piece) == 0 ? path : NULL
					: memmem(path + at, n - at, p, piece);
		if (!hit)
			return false;
		at = (size_t)(hit - path) + piece;
		if (last)
			return !to_end || at == n;
		p += piece + 1;
		p_n -= piece + 1;
		first = false;
	}
}

bool wl_robots_allows(const struct wl_robots *r, const char *path)
{
	struct wl_buf normal;
	const struct rule *best = NULL;
	if (!r || strcmp(path, "/robots.txt") == 0)
		return true;
	wl_buf_init(&normal, 3 * WL_URL_MAX);
	/* What cannot be compared is not fetched. */
	if (add_normal(&normal, path, strlen(path), NULL) < 0) {
		wl_buf_release(&normal);
		return false;
	}
	for (size_t i = 0; i < r->rules.n; i++) {
		const struct rule *x = &r->rules.v[i];
		if (best && (x->len < best->len || (x->len == best->len && best->allow)))
			continue;
		if (matches(r->text.data + x->at, x->len, wl_buf_str(&normal), normal.len))
			best = x;
	}
	wl_buf_release(&normal);
	return !best || best->allow;
}

/* ---- X-Robots-Tag ---- */

/* Directives that have a value after a colon, so that the word before it is no crawler. */
static bool has_value(const char *s, size_t n)
{
	static const char *const names[] = {
		"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (is_key(s, n, names[i]))
			return true;
	return false;
}

bool wl_robots_tag_denies(
	const char *value, size_t n, const char *token, char word[WL_ROBOTS_TOKEN])
{
	static const char *const denials[] = {
		"noai", "noimageai", "noindex", "noimageindex", "none"};
	bool for_us = true;
	for (size_t at = 0; at < n;) {
		const char *comma = memchr(value + at, ',', n - at), *s = value + at;
		size_t len = comma ? (size_t)(comma - s) : n - at;
		at += len + 1;
		const char *colon = memchr(s, ':', len);
		size_t name = colon ? (size_t)(colon - s) : 0;
		const char *who = s;
		trim(&who, &name);
		if (colon && !has_value(who, name)) {
			for_us = (name == 1 && *who == '*') || is_key(who, name, token);
			len -= (size_t)(colon + 1 - s);
			s = colon + 1;
		}
		trim(&s, &len);
		for (size_t i = 0; for_us && i < sizeof denials / sizeof *denials; i++) {
			if (!is_key(s, len, denials[i]))
				continue;
			snprintf(word, WL_ROBOTS_TOKEN, "%s", denials[i]);
			return true;
		}
	}
	return false;
}

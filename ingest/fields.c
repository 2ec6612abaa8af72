/* Named fields as slices: see fields.h. */
#include "ingest/fields.h"

#include <string.h>
#include <strings.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct wl_slice trim(const char *p, const char *end)
{
	while (p < end && is_blank(*p))
		p++;
	while (end > p && is_blank(end[-1]))
		end--;
	return (struct wl_slice){p, (size_t)(end - p)};
}

/* One line without its end goes into f; a folded one widens the value before it. */
static void take_line(struct wl_fields *f, const char *p, const char *end)
{
	if (*p == ' ' || *p == '\t') {
		if (f->n && f->n < WL_FIELDS_MAX) {
			struct wl_slice *value = &f->v[f->n - 1].value;
			*value = trim(value->p, end);
		}
		return;
	}
	const char *colon = memchr(p, ':', (size_t)(end - p));
	if (!colon || f->n == WL_FIELDS_MAX)
		return;
	f->v[f->n++] = (struct wl_field){trim(p, colon), trim(colon + 1, end)};
}

size_t wl_fields_parse(struct wl_fields *f, const char *p, size_t n)
{
	const char *at = p, *end = p + n;
	f->n = 0;
	while (at < end) {
		const char *nl = memchr(at, '\n', (size_t)(end - at));
		if (!nl)
			return 0;
		if (nl == at || (nl == at + 1 && *at == '\r'))
			return (size_t)(nl + 1 - p);
		take_line(f, at, nl);
		at = nl + 1;
	}
	return 0;
}

bool wl_slice_is(struct wl_slice s, const char *text)
{
	return s.p && strlen(text) == s.n && strncasecmp(s.p, text, s.n) == 0;
}

bool wl_slice_begins(struct wl_slice s, const char *text)
{
	size_t n = strlen(text);
	return s.p && s.n >= n && strncasecmp(s.p, text, n) == 0;
}

struct wl_slice wl_fields_get(const struct wl_fields *f, const char *name)
{
	size_t n = strlen(name);
	for (size_t i = 0; i < f->n; i++)
		if (f->v[i].name.n == n && strncasecmp(f->v[i].name.p, name, n) == 0)
			return f->v[i].value;
	return (struct wl_slice){NULL, 0};
}

bool wl_slice_number(struct wl_slice s, int64_t *out)
{
	int64_t v = 0;
	if (!s.p)
		return false;
	s = trim(s.p, s.p + s.n);
	if (!s.n)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9' || v > ((int64_t)1 << 62) / 10 - 1)
			return false;
		v = 10 * v + (s.p[i] - '0');
	}
	*out = v;
	return true;
}

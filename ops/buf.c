/* Doubling growth under a hard maximum: see buf.h. */
#include "ops/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void wl_buf_init(struct wl_buf *b, size_t max)
{
	*b = (struct wl_buf){.max = max};
}

void wl_buf_release(struct wl_buf *b)
{
	if (!b)
		return;
	free(b->data);
	wl_buf_init(b, b->max);
}

void wl_buf_reset(struct wl_buf *b)
{
	b->len = 0;
	if (b->data)
		b->data[0] = 0;
}

int wl_buf_reserve(struct wl_buf *b, size_t extra, struct wl_err *err)
{
	size_t need, cap;
	char *p;

	if (extra > b->max - b->len)
		return wl_err_set(err, WL_EDATA,
			"a value grows past the %zu bytes allowed for it (%zu and %zu more)",
			b->max, b->len, extra);
	need = b->len + extra + 1;
	if (need <= b->cap)
		return 0;
	cap = b->cap < 64 ? 64 : b->cap;
	while (cap < need)
		cap *= 2;
	p = realloc(b->data, cap);
	if (!p)
		return wl_err_nomem(err, "a buffer", cap);
	if (!b->data)
		p[0] = 0;
	b->data = p;
	b->cap = cap;
	return 0;
}

int wl_buf_add(struct wl_buf *b, const void *bytes, size_t n, struct wl_err *err)
{
	WL_TRY(wl_buf_reserve(b, n, err));
	if (n)
		memcpy(b->data + b->len, bytes, n);
	b->len += n;
	b->data[b->len] = 0;
	return 0;
}

int wl_buf_puts(struct wl_buf *b, const char *s, struct wl_err *err)
{
	return wl_buf_add(b, s, strlen(s), err);
}

int wl_buf_putc(struct wl_buf *b, char c, struct wl_err *err)
{
	return wl_buf_add(b, &c, 1, err);
}

int wl_buf_printf(struct wl_buf *b, struct wl_err *err, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return wl_err_set(err, WL_EFAIL, "a message could not be formatted");
	WL_TRY(wl_buf_reserve(b, (size_t)n, err));
	va_start(ap, fmt);
	vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
	return 0;
}

const char *wl_buf_str(const struct wl_buf *b)
{
	return b->data ? b->data : "";
}

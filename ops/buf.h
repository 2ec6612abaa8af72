/*
 * A growable run of bytes with a mandatory maximum (after curl's dynbuf): no
 * input can make it grow past what its owner said.  Always followed by a 0
 * byte once something was added, so that it can be read as a C string.
 */
#ifndef WL_OPS_BUF_H
#define WL_OPS_BUF_H

#include "ops/err.h"

#include <stdint.h>

struct wl_buf {
	char *data; /* NULL while nothing was added; owned by the buffer */
	size_t len, cap, max;
};

/* max: the most bytes it may ever hold, not counting the closing 0. */
void wl_buf_init(struct wl_buf *b, size_t max);
/* Frees the bytes; the buffer may be used again with the same max. */
void wl_buf_release(struct wl_buf *b);
/* Length 0, memory kept. */
void wl_buf_reset(struct wl_buf *b);

/* Memory for `extra` more bytes, and bytes added at the end: a span, a string, a character, a
 * formatted text.  Where that is more than max, or memory is out, WL_EDATA or an error of memory,
 * and the buffer is as it was. */
WL_MUST_CHECK int wl_buf_reserve(struct wl_buf *b, size_t extra, struct wl_err *err);
WL_MUST_CHECK int wl_buf_add(struct wl_buf *b, const void *bytes, size_t n, struct wl_err *err);
WL_MUST_CHECK int wl_buf_puts(struct wl_buf *b, const char *s, struct wl_err *err);
WL_MUST_CHECK int wl_buf_putc(struct wl_buf *b, char c, struct wl_err *err);
WL_MUST_CHECK int wl_buf_printf(struct wl_buf *b, struct wl_err *err, const char *fmt, ...)
	WL_PRINTF(3, 4);
/* The bytes as a C string, "" when empty; valid until the next change. */
const char *wl_buf_str(const struct wl_buf *b);

#endif

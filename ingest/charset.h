/*
 * The encoding of a page, and its text as UTF-8.
 *
 * Order of belief (each step must also fit the bytes):
 *   1. a byte-order mark;
 *   2. bytes that are UTF-8 all through and hold enough of it not to be chance, whatever the
 *      page says: pages that declare gb2312 and are UTF-8 are common (saved by a browser, moved
 *      to a new server), the opposite does not happen by accident;
 *   3. the HTTP header, unless it says the server's default (ISO-8859-1, US-ASCII);
 *   4. <meta charset>, <meta http-equiv>, <?xml encoding?> in the first 4 KiB;
 *   5. ICU's detector, its candidates checked by converting;
 *   6. windows-1252, with which everything can be read.
 * gb2312 and gbk are read as gb18030, ISO-8859-1 as windows-1252 (WHATWG Encoding).
 */
#ifndef WL_INGEST_CHARSET_H
#define WL_INGEST_CHARSET_H

#include "ops/buf.h"
#include "ops/err.h"

enum wl_charset_from {
	WL_CHARSET_BOM,
	WL_CHARSET_CONTENT, /* it is UTF-8 (or ASCII) as it stands */
	WL_CHARSET_HEADER,
	WL_CHARSET_META,
	WL_CHARSET_DETECTOR,
	WL_CHARSET_DEFAULT,
};

struct wl_charset {
	char name[40]; /* "UTF-8", "gb18030", "Big5-HKSCS", ...: a name that ICU knows */
	enum wl_charset_from from;
	size_t skip;	 /* bytes of the byte-order mark */
	size_t replaced; /* sequences that the encoding does not have, now U+FFFD (NUL: a blank) */
};

/* The charset parameter of a Content-Type value, or the name in a page's first bytes, as ICU is
 * to be asked for it; 0: found, -1: none or one that no converter knows. */
int wl_charset_of_header(const char *content_type, char name[40]);
int wl_charset_of_meta(const void *bytes, size_t n, char name[40]);

/*
 * Guesses and converts.  *text (with *len bytes, valid UTF-8 without NUL, no 0 promised after
 * it) is `bytes` itself when nothing had to be changed, else it lies in out (whose max bounds
 * it).  content_type: the header's value or NULL.  WL_EDATA when the bytes are no text.
 */
WL_MUST_CHECK int wl_charset_decode(const void *bytes, size_t n, const char *content_type,
	struct wl_buf *out, const char **text, size_t *len, struct wl_charset *info,
	struct wl_err *err);

#endif

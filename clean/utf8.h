/*
 * UTF-8, strictly (RFC 3629: no overlong forms, no surrogates, nothing past U+10FFFF), small
 * enough to be inlined into the loops that read captions.
 */
#ifndef WL_CLEAN_UTF8_H
#define WL_CLEAN_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WL_UTF8_MAX = 4, WL_UTF8_BAD = 0xfffd };

/* The code point at s[*i], *i < n; moves *i past it.  A bad byte gives WL_UTF8_BAD and moves by
 * one; then *ok (may be NULL) is set to false, otherwise it is left alone. */
static inline uint32_t wl_utf8_next(const char *s, size_t n, size_t *i, bool *ok)
{
	const uint8_t *p = (const uint8_t *)s + *i;
	size_t left = n - *i;
	uint32_t c = p[0];

	*i += 1;
	if (c < 0x80)
		return c;
	if (c >= 0xe0 && c < 0xf0 && left >= 3 && (p[1] & 0xc0) == 0x80 && (p[2] & 0xc0) == 0x80) {
		c = (c & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
		if (c >= 0x800 && (c & 0xf800) != 0xd800) {
			*i += 2;
			return c;
		}
	} else if (c >= 0xc2 && c < 0xe0 && left >= 2 && (p[1] & 0xc0) == 0x80) {
		*i += 1;
		return (c & 0x1f) << 6 | (p[1] & 0x3f);
	} else if (c >= 0xf0 && c < 0xf5 && left >= 4 && (p[1] & 0xc0) == 0x80 &&
		   (p[2] & 0xc0) == 0x80 && (p[3] & 0xc0) == 0x80) {
		c = (c & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 |
		    (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
		if (c >= 0x10000 && c <= 0x10ffff) {
			*i += 3;
			return c;
		}
	}
	if (ok)
		*ok = false;
	return WL_UTF8_BAD;
}

/* Writes the code point's bytes; returns how many (1..4). */
static inline size_t wl_utf8_put(uint32_t c, char out[WL_UTF8_MAX])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* The blocks that BERT's tokeniser calls Chinese (FACTS 10, step 2). */
static inline bool wl_is_cjk(uint32_t c)
{
	return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
	       (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
	       (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b820 && c <= 0x2ceaf) ||
	       (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

#endif

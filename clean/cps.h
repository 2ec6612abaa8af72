/* Code points of a text, and what the passes over them ask of one: for text*.c, personal*.c. */
#ifndef WL_CLEAN_CPS_H
#define WL_CLEAN_CPS_H

#include "clean/utf8.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unicode/uchar.h>

struct wl_cps {
	uint32_t *c; /* owned */
	size_t n, cap;
};

/* Full-width ASCII as ASCII. */
static inline uint32_t wl_half(uint32_t c)
{
	return c >= 0xff01 && c <= 0xff5e ? c - 0xff01 + 0x21 : c;
}

static inline bool wl_ascii_alpha(uint32_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A decimal digit, ASCII or full-width, as 0..9; -1 otherwise. */
static inline int wl_digit(uint32_t c)
{
	c = wl_half(c);
	return c >= '0' && c <= '9' ? (int)c - '0' : -1;
}

static inline bool wl_letter_or_digit(uint32_t c)
{
	if (c < 0x80)
		return wl_ascii_alpha(c) || (c >= '0' && c <= '9');
	return wl_is_cjk(c) || u_isalnum((UChar32)c);
}

/* Whether `word` (ASCII in lower case, or any other script) stands at i, in any case and width:
 * its length in characters, or 0. */
static inline size_t wl_word_at(const struct wl_cps *t, size_t i, const char *word)
{
	size_t k = 0, len = strlen(word), n = 0;

	while (k < len) {
		uint32_t c = i + n < t->n ? wl_half(t->c[i + n]) : 0;
		if (wl_ascii_alpha(c))
			c |= 32;
		if (c != wl_utf8_next(word, len, &k, NULL))
			return 0;
		n++;
	}
	return n;
}

#endif

/* Between personal.c (numbers) and personal_name.c (ids, addresses, plates). */
#ifndef WL_CLEAN_PERSONAL_PRIV_H
#define WL_CLEAN_PERSONAL_PRIV_H

#include "clean/cps.h"
#include "clean/personal.h"

struct wl_span {
	size_t from, to;
};

/* Whether one of the words (NULL ends the list) ends right before i, or before characters of
 * `fill` there (six at most).  *marked: a colon or 号 was among these.  Returns where the word
 * begins, or SIZE_MAX. */
size_t wl_word_before(
	const struct wl_cps *t, size_t i, const char *const *words, const char *fill, bool *marked);

/* Each: whether such a thing stands at i (may reach back, to `floor` at most). */
bool wl_email_at(const struct wl_cps *t, size_t i, size_t floor, struct wl_span *s);
bool wl_wechat_at(const struct wl_cps *t, size_t i, struct wl_span *s);
bool wl_address_at(const struct wl_cps *t, size_t i, size_t floor, struct wl_span *s);
bool wl_plate_at(const struct wl_cps *t, size_t i, struct wl_span *s);

/* Whether words before i say that a WeChat id or number follows. */
bool wl_wechat_before(const struct wl_cps *t, size_t i, bool *marked);

#endif

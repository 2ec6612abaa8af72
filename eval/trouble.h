/*
 * What is wrong with a file from outside, by kind: how often, and the first three names, so that
 * one sentence says all of it.
 */
#ifndef WL_EVAL_TROUBLE_H
#define WL_EVAL_TROUBLE_H

#include <stddef.h>
#include <stdint.h>

struct wl_trouble {
	const char *what; /* "images come twice" */
	int64_t n;
	char first[3][72];
};

/* One more; of a long name the beginning is kept. */
void wl_trouble_note(struct wl_trouble *t, const char *name);
/* "2 images come twice (a.jpg, b.jpg); 1 label ..." into text, which is cut where it is full; what
 * did not occur is left out.  The length of it: 0 where nothing is wrong. */
size_t wl_trouble_text(const struct wl_trouble *t, int kinds, char *text, size_t size);

#endif

/* Kinds of trouble, counted: see trouble.h. */
#include "eval/trouble.h"

#include <stdio.h>

void wl_trouble_note(struct wl_trouble *t, const char *name)
{
	if (t->n < 3)
		snprintf(t->first[t->n], sizeof *t->first, "%.64s",
			*name ? name : "(an empty name)");
	t->n++;
}

size_t wl_trouble_text(const struct wl_trouble *t, int kinds, char *text, size_t size)
{
	size_t n = 0;

	text[0] = 0;
	for (; kinds > 0; kinds--, t++) {
		if (!t->n || n >= size - 1)
			continue;
		n += (size_t)snprintf(text + n, size - n, "%s%lld %s (%s%s%s%s%s%s)",
			n ? "; " : "", (long long)t->n, t->what, t->first[0], t->n > 1 ? ", " : "",
			t->first[1], t->n > 2 ? ", " : "", t->first[2], t->n > 3 ? ", ..." : "");
	}
	return n;
}

/* See pairtext.h. */
#include "clean/pairtext.h"

#include <stdlib.h>
#include <string.h>

int wl_text_kind_rank(const char *kind)
{
	/* A profile may have chosen another kind as the text; a page's title is the last resort,
	 * since all its pictures share it. */
	static const char *const order[] = {"caption", "alt_text", "sur_text"};

	for (int i = 0; i < 3; i++)
		if (strcmp(kind, order[i]) == 0)
			return i;
	return strcmp(kind, "title") ? 3 : 4;
}

static int not_texts(const char *what, const char *found, struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA,
		"pair %s: its texts are %s, expected a list of [kind, text] pairs; ingest the "
		"source "
		"again",
		what, found);
}

int wl_pairtext_parse(
	struct wl_pairtext *p, const char *texts, const char *what, struct wl_err *err)
{
	size_t n, i;
	json_t *e;

	memset(p, 0, sizeof(*p));
	p->root = json_loads(texts, JSON_ALLOW_NUL, NULL);
	if (!json_is_array(p->root)) {
		wl_pairtext_release(p);
		return not_texts(what, "not a JSON list", err);
	}
	n = json_array_size(p->root);
	p->v = calloc(n ? n : 1, sizeof(*p->v));
	if (!p->v) {
		wl_pairtext_release(p);
		return wl_err_nomem(err, "a pair's texts", n * sizeof(*p->v));
	}
	for (int rank = 0; rank <= 4; rank++) {
		json_array_foreach(p->root, i, e)
		{
			const json_t *kind = json_array_get(e, 0), *text = json_array_get(e, 1);
			if (!json_is_string(kind) || !json_is_string(text)) {
				wl_pairtext_release(p);
				return not_texts(what, "a list with other things in it", err);
			}
			if (wl_text_kind_rank(json_string_value(kind)) != rank)
				continue;
			p->v[p->n++] = (struct wl_caption){json_string_value(kind),
				json_string_value(text), json_string_length(text)};
		}
	}
	while (p->first_kind < p->n &&
		wl_text_kind_rank(p->v[p->first_kind].kind) == wl_text_kind_rank(p->v[0].kind))
		p->first_kind++;
	return 0;
}

void wl_pairtext_release(struct wl_pairtext *p)
{
	json_decref(p->root);
	free(p->v);
	memset(p, 0, sizeof(*p));
}

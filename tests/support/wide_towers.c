/* See wide_towers.h. */
#include "tests/support/wide_towers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static wl_tid image_tower(struct wl_graph *g, const void *model, wl_tid images, wl_tid boxes,
	wl_tid mask)
{
	const struct wide *w = model;
	struct wl_towers tiny;
	char name[64];
	wl_tid x;

	tiny_towers(&tiny);
	x = tiny.image(g, NULL, images, boxes, mask);
	for (int i = 0; i < w->depth + 2; i++) {
		bool last = i == w->depth + 1;
		int64_t in = i ? w->width : TINY_DIM, out = last ? TINY_DIM : w->width;

		snprintf(name, sizeof name, "image.deep.%d.weight", i);
		x = wl_g_linear(g, x, wl_g_param(g, name, WL_LAYOUT_PLAIN, WL_SHAPE(out, in),
			WL_PARAM_WEIGHT), WL_NONE, last ? WL_ACT_NONE : WL_ACT_GELU);
	}
	return wl_g_l2_normalize(g, x, 1e-12f);
}

static wl_tid text_tower(struct wl_graph *g, const void *model, wl_tid ids, wl_tid mask)
{
	struct wl_towers tiny;

	(void)model;
	tiny_towers(&tiny);
	return tiny.text(g, NULL, ids, mask);
}

static int init(struct wl_params *p, const void *model, uint64_t seed, struct wl_err *e)
{
	(void)model;
	(void)e;
	for (int i = 0; i < p->n; i++) {
		const struct wl_param *entry = &p->item[i];
		bool one = strstr(entry->name, "bn.weight") || strstr(entry->name, "running_var");
		bool weight = entry->flags & WL_PARAM_DECAY;
		float *v = malloc((size_t)entry->count * sizeof *v);
		struct wl_rng_key key = wl_rng_key_name(seed, entry->name);

		for (int64_t k = 0; k < entry->count; k++)
			v[k] = one ? 1 : weight ? 0.1f *
				wl_rng_normal(key, (uint64_t)k) : 0;
		wl_param_from_torch(p, i, v);
		free(v);
	}
	return 0;
}

void wide_towers(struct wl_towers *t, const struct wide *w)
{
	tiny_towers(t);
	t->model = w;
	t->image = image_tower;
	t->text = text_tower;
	t->init = init;
}

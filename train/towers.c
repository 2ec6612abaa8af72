/* BriVL behind struct wl_towers: see towers.h. */
#include "train/towers.h"

#include "train/model/brivl.h"
#include "train/model/init.h"

static wl_tid image(struct wl_graph *g, const void *model, wl_tid images, wl_tid boxes,
	wl_tid mask)
{
	return wl_brivl_image(g, model, images, boxes, mask);
}

static wl_tid text(struct wl_graph *g, const void *model, wl_tid ids, wl_tid mask)
{
	return wl_brivl_text(g, model, ids, mask);
}

static int init(struct wl_params *params, const void *model, uint64_t seed, struct wl_err *err)
{
	return wl_model_init(params, model, seed, err);
}

static int freeze(struct wl_params *params, const void *model, struct wl_err *err)
{
	return wl_model_freeze(params, model, err);
}

void wl_brivl_towers(struct wl_towers *t, const struct wl_model_config *c)
{
	*t = (struct wl_towers){
		.model = c,
		.image = image,
		.text = text,
		.init = init,
		.freeze = freeze,
		.image_px = c->image.px,
		.regions = c->image.regions,
		.text_len = c->text.length,
	};
}

json_t *wl_preprocess_json(const struct wl_model_config *c, bool use_boxes)
{
	const float *m = c->image.mean, *s = c->image.std;

	return json_pack("{s:i,s:i,s:i,s:b,s:i,s:[f,f,f],s:[f,f,f]}", "image_px", c->image.px,
		"regions", c->image.regions, "grid", c->image.grid, "use_boxes", use_boxes,
		"text_len", c->text.length, "mean", (double)m[0], (double)m[1], (double)m[2], "std",
		(double)s[0], (double)s[1], (double)s[2]);
}

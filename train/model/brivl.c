/* BriVL's towers.  See brivl.h. */
#include "train/model/brivl.h"

#include "train/model/build.h"
#include "train/model/encoder.h"

static const float unit_eps = 1e-12f; /* torch.nn.functional.normalize */

/* Pools the feature map over each box. The reference applies its 1x1 convolution to each of the
 * 16 samples and then averages; the convolution is linear, so it follows the mean here. */
static wl_tid regions(struct wl_graph *g, const struct wl_image_config *c, wl_tid map,
	wl_tid boxes, wl_tid images)
{
	struct wl_shape in = wl_g_shape(g, images), s = wl_g_shape(g, map);
	int64_t channels = wl_shape_last(&s), out = c->region_width ? c->region_width : channels;
	wl_tid x, w, b;

	if (s.rank == 4 && (s.dim[1] < 2 || s.dim[2] < 2))
		return wl_g_fail(g,
			"the feature map is %lldx%lld, but RoI pooling needs 2x2 or more; raise "
			"model.image.px",
			(long long)s.dim[1], (long long)s.dim[2]);
	x = (c->roi_align ? wl_g_roi_align : wl_g_roi_grid)(
		g, map, boxes, (float)in.dim[2], (float)in.dim[1]);
	w = wl_m_param(g, "imgencoder.learnable.max_pool.0", ".weight", WL_LAYOUT_CONV,
		WL_SHAPE(out, channels, 1, 1), WL_PARAM_WEIGHT);
	b = wl_m_param(g, "imgencoder.learnable.max_pool.0", ".bias", WL_LAYOUT_PLAIN,
		WL_SHAPE(out), WL_PARAM_GAIN);
	return wl_g_linear(g, x, w, b, WL_ACT_NONE);
}

wl_tid wl_brivl_image(struct wl_graph *g, const struct wl_model_config *c, wl_tid images,
	wl_tid boxes, wl_tid mask)
{
	const struct wl_image_encoder *e = wl_image_encoder_find(c->image.encoder, NULL);
	wl_tid x;

	if (!e)
		return wl_g_fail(g, "there is no image encoder \"%s\"", c->image.encoder);
	x = e->features(g, &c->image, "imgencoder.backbone.", images);
	x = regions(g, &c->image, x, boxes, images);
	x = wl_g_l2_normalize(g, x, unit_eps);
	x = wl_m_transformer(g, "imgencoder.learnable.imgAtt", &c->image.attention, x, mask);
	x = wl_g_masked_mean(g, x, mask);
	x = wl_m_mlp(g, "imgencoder.learnable.imgFC", x, c->dim);
	return wl_g_l2_normalize(g, x, unit_eps);
}

wl_tid wl_brivl_text(struct wl_graph *g, const struct wl_model_config *c, wl_tid ids, wl_tid mask)
{
	const struct wl_text_encoder *e = wl_text_encoder_find(c->text.encoder, NULL);
	wl_tid x;

	if (!e)
		return wl_g_fail(g, "there is no text encoder \"%s\"", c->text.encoder);
	x = e->features(g, &c->text, "textencoder.backbone.bert.", ids,
		c->text.pad_mask ? mask : WL_NONE);
	x = wl_g_l2_normalize(g, x, unit_eps);
	x = wl_m_transformer(g, "textencoder.learnable.textAtt", &c->text.attention, x, mask);
	x = wl_g_masked_mean(g, x, mask);
	x = wl_m_mlp(g, "textencoder.learnable.textFC", x, c->dim);
	return wl_g_l2_normalize(g, x, unit_eps);
}

static struct wl_graph *inference_graph(const char *name, struct wl_params *params,
	enum wl_dtype compute_dtype, struct wl_err *err)
{
	return wl_graph_new(name, params,
		&(struct wl_graph_options){.train = false, .compute_dtype = compute_dtype}, err);
}

struct wl_graph *wl_brivl_image_graph(const struct wl_model_config *c, struct wl_params *params,
	int64_t batch, enum wl_dtype compute_dtype, struct wl_err *err)
{
	struct wl_graph *g = inference_graph("embed images", params, compute_dtype, err);
	int64_t px = c->image.px, r = c->image.regions;
	wl_tid images, boxes, mask;

	if (!g)
		return NULL;
	images = wl_g_input(g, "images", WL_F32, WL_SHAPE(batch, px, px, 3));
	boxes = wl_g_input(g, "boxes", WL_F32, WL_SHAPE(batch, r, 4));
	mask = wl_g_input(g, "mask", WL_F32, WL_SHAPE(batch, r));
	wl_g_output(g, wl_brivl_image(g, c, images, boxes, mask), "embeddings");
	return g;
}

struct wl_graph *wl_brivl_text_graph(const struct wl_model_config *c, struct wl_params *params,
	int64_t batch, enum wl_dtype compute_dtype, struct wl_err *err)
{
	struct wl_graph *g = inference_graph("embed texts", params, compute_dtype, err);
	wl_tid ids, mask;

	if (!g)
		return NULL;
	ids = wl_g_input(g, "ids", WL_I32, WL_SHAPE(batch, c->text.length));
	mask = wl_g_input(g, "mask", WL_F32, WL_SHAPE(batch, c->text.length));
	wl_g_output(g, wl_brivl_text(g, c, ids, mask), "embeddings");
	return g;
}

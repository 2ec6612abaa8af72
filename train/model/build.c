/* Building blocks of the models.  See build.h. */
#include "train/model/build.h"

#include <stdio.h>

struct wl_name wl_m_name(const char *fmt, ...)
{
	struct wl_name name;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(name.s, sizeof name.s, fmt, ap);
	va_end(ap);
	/* Prefixes and names come from this folder, so a longer one is our defect. */
	WL_ASSERT(n >= 0 && (size_t)n < sizeof name.s);
	return name;
}

wl_tid wl_m_param(struct wl_graph *g, const char *prefix, const char *name, enum wl_layout layout,
	struct wl_shape torch_shape, unsigned flags)
{
	return wl_g_param(g, wl_m_name("%s%s", prefix, name).s, layout, torch_shape, flags);
}

wl_tid wl_m_linear(struct wl_graph *g, const char *prefix, wl_tid x, int64_t out, enum wl_act act)
{
	struct wl_shape s = wl_g_shape(g, x);
	wl_tid w = wl_m_param(g, prefix, ".weight", WL_LAYOUT_PLAIN,
		WL_SHAPE(out, wl_shape_last(&s)), WL_PARAM_WEIGHT);
	wl_tid b = wl_m_param(g, prefix, ".bias", WL_LAYOUT_PLAIN, WL_SHAPE(out), WL_PARAM_GAIN);

	return wl_g_linear(g, x, w, b, act);
}

wl_tid wl_m_layer_norm(struct wl_graph *g, const char *prefix, wl_tid x, wl_tid residual,
	float dropout, float eps)
{
	struct wl_shape s = wl_g_shape(g, x);
	struct wl_ln ln = {.eps = eps, .residual = residual, .dropout = dropout};

	ln.gamma = wl_m_param(g, prefix, ".weight", WL_LAYOUT_PLAIN, WL_SHAPE(wl_shape_last(&s)),
		WL_PARAM_GAIN);
	ln.beta = wl_m_param(g, prefix, ".bias", WL_LAYOUT_PLAIN, WL_SHAPE(wl_shape_last(&s)),
		WL_PARAM_GAIN);
	return wl_g_layer_norm(g, x, &ln);
}

static wl_tid encoder_layer(struct wl_graph *g, const char *prefix, const struct wl_sa_config *c,
	wl_tid x, wl_tid mask)
{
	struct wl_shape s = wl_g_shape(g, x);
	int64_t d = wl_shape_last(&s);
	wl_tid qkv, h, w, b;

	w = wl_m_param(g, prefix, ".self_attn.in_proj_weight", WL_LAYOUT_PLAIN, WL_SHAPE(3 * d, d),
		WL_PARAM_WEIGHT);
	b = wl_m_param(g, prefix, ".self_attn.in_proj_bias", WL_LAYOUT_PLAIN, WL_SHAPE(3 * d),
		WL_PARAM_GAIN);
	qkv = wl_g_linear(g, x, w, b, WL_ACT_NONE);
	h = wl_g_attention(g, &(struct wl_attn){.q = qkv, .k = qkv, .v = qkv, .mask = mask,
		.heads = c->heads, .dropout = c->dropout});
	h = wl_m_linear(g, wl_m_name("%s.self_attn.out_proj", prefix).s, h, d, WL_ACT_NONE);
	x = wl_m_layer_norm(g, wl_m_name("%s.norm1", prefix).s, h, x, c->dropout, 1e-5f);

	h = wl_m_linear(g, wl_m_name("%s.linear1", prefix).s, x, c->ffn, WL_ACT_RELU);
	if (c->dropout > 0)
		h = wl_g_dropout(g, h, c->dropout);
	h = wl_m_linear(g, wl_m_name("%s.linear2", prefix).s, h, d, WL_ACT_NONE);
	return wl_m_layer_norm(g, wl_m_name("%s.norm2", prefix).s, h, x, c->dropout, 1e-5f);
}

wl_tid wl_m_transformer(struct wl_graph *g, const char *prefix, const struct wl_sa_config *c,
	wl_tid x, wl_tid mask)
{
	for (int i = 0; i < c->layers; i++) {
		wl_g_block(g);
		x = encoder_layer(g, wl_m_name("%s.layers.%d", prefix, i).s, c, x, mask);
	}
	wl_g_block_end(g);
	return x;
}

wl_tid wl_m_mlp(struct wl_graph *g, const char *prefix, wl_tid x, int64_t dim)
{
	x = wl_m_linear(g, wl_m_name("%s.fc1", prefix).s, x, dim, WL_ACT_RELU);
	return wl_m_linear(g, wl_m_name("%s.fc2", prefix).s, x, dim, WL_ACT_NONE);
}

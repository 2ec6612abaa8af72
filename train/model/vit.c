/* The vision transformer.  See vit.h. */
#include "train/model/vit.h"

#include "train/model/build.h"
#include "train/model/init.h"

#include <math.h>
#include <string.h>

static const float ln_eps = 1e-6f; /* timm's; torch's default is 1e-5 */
enum { MLP_RATIO = 4 };

/* Table 1 of the paper, and timm's tiny and small. */
static const struct {
	const char *name;
	struct wl_vit_config shape; /* patch, hidden, layers, heads */
} sizes[] = {
	{"vit-ti16", {16, 192, 12, 3}}, {"vit-s16", {16, 384, 12, 6}},
	{"vit-b16", {16, 768, 12, 12}}, {"vit-b32", {32, 768, 12, 12}},
	{"vit-l16", {16, 1024, 24, 16}},
};

static int find(const char *name)
{
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		if (!strcmp(name, sizes[i].name))
			return (int)i;
	return -1;
}

bool wl_vit_known(const char *name)
{
	return find(name) >= 0;
}

/* timm's ViTs take pixels in [-1, 1]. */
static int defaults(struct wl_image_config *c, struct wl_err *err)
{
	int i = find(c->encoder);

	if (i < 0)
		return wl_err_set(err, WL_EUSAGE, "there is no vision transformer \"%s\"",
			c->encoder);
	c->vit = sizes[i].shape;
	for (int k = 0; k < 3; k++)
		c->mean[k] = c->std[k] = 0.5f;
	return 0;
}

static int check(const struct wl_image_config *c, struct wl_err *err)
{
	const struct wl_vit_config *v = &c->vit;

	if (v->patch < 1 || v->layers < 1 || v->hidden < 1 || v->heads < 1)
		return wl_err_set(err, WL_EUSAGE,
			"model.image has vit_patch %d, vit_hidden %d, vit_layers %d, vit_heads %d; "
			"each must be at least 1",
			v->patch, v->hidden, v->layers, v->heads);
	if (v->hidden > 1 << 16 || v->layers > 512)
		return wl_err_set(err, WL_EUSAGE,
			"model.image has vit_hidden %d and vit_layers %d; the most are 65536 and "
			"512",
			v->hidden, v->layers);
	if (v->hidden % v->heads)
		return wl_err_set(err, WL_EUSAGE,
			"model.image.vit_heads is %d, which does not divide vit_hidden %d; choose "
			"a divisor",
			v->heads, v->hidden);
	if (c->px % v->patch || c->px / v->patch < 2)
		return wl_err_set(err, WL_EUSAGE,
			"model.image.px is %d, and patches are %d pixels wide; choose a multiple, "
			"at least twice as large",
			c->px, v->patch);
	return 0;
}

static int width(const struct wl_image_config *c)
{
	return c->vit.hidden;
}

/* x + attention(norm1(x)), then x + mlp(norm2(x)). */
static wl_tid layer(struct wl_graph *g, const struct wl_vit_config *v, const char *prefix, wl_tid x)
{
	wl_tid h, qkv;

	h = wl_m_layer_norm(g, wl_m_name("%s.norm1", prefix).s, x, WL_NONE, 0, ln_eps);
	qkv = wl_m_linear(g, wl_m_name("%s.attn.qkv", prefix).s, h, 3 * (int64_t)v->hidden,
		WL_ACT_NONE);
	h = wl_g_attention(g, &(struct wl_attn){.q = qkv, .k = qkv, .v = qkv, .heads = v->heads});
	h = wl_m_linear(g, wl_m_name("%s.attn.proj", prefix).s, h, v->hidden, WL_ACT_NONE);
	x = wl_g_add(g, x, h);
	h = wl_m_layer_norm(g, wl_m_name("%s.norm2", prefix).s, x, WL_NONE, 0, ln_eps);
	h = wl_m_linear(g, wl_m_name("%s.mlp.fc1", prefix).s, h, MLP_RATIO * (int64_t)v->hidden,
		WL_ACT_GELU);
	h = wl_m_linear(g, wl_m_name("%s.mlp.fc2", prefix).s, h, v->hidden, WL_ACT_NONE);
	return wl_g_add(g, x, h);
}

static wl_tid features(struct wl_graph *g, const struct wl_image_config *c, const char *prefix,
	wl_tid images)
{
	const struct wl_vit_config *v = &c->vit;
	int64_t batch = wl_g_shape(g, images).dim[0], side = c->px / v->patch, d = v->hidden;
	wl_tid w, b, cls, pos, x;

	w = wl_m_param(g, prefix, "patch_embed.proj.weight", WL_LAYOUT_CONV,
		WL_SHAPE(d, 3, v->patch, v->patch), WL_PARAM_WEIGHT);
	b = wl_m_param(g, prefix, "patch_embed.proj.bias", WL_LAYOUT_PLAIN, WL_SHAPE(d),
		WL_PARAM_GAIN);
	/* timm leaves these two out of weight decay. */
	cls = wl_m_param(g, prefix, "cls_token", WL_LAYOUT_PLAIN, WL_SHAPE(1, 1, d), WL_PARAM_GAIN);
	pos = wl_m_param(g, prefix, "pos_embed", WL_LAYOUT_PLAIN, WL_SHAPE(1, side * side + 1, d),
		WL_PARAM_GAIN);
	x = wl_g_conv2d(g, images, w, b, v->patch);
	x = wl_g_tokens(g, wl_g_reshape(g, x, WL_SHAPE(batch, side * side, d)), cls, pos);
	for (int i = 0; i < v->layers; i++) {
		wl_g_block(g);
		x = layer(g, v, wl_m_name("%sblocks.%d", prefix, i).s, x);
	}
	wl_g_block_end(g);
	x = wl_m_layer_norm(g, wl_m_name("%snorm", prefix).s, x, WL_NONE, 0, ln_eps);
	x = wl_g_slice(g, x, 1, 1, side * side);
	return wl_g_reshape(g, x, WL_SHAPE(batch, side, side, d));
}

/* timm's _init_vit_weights: normals of 0.02 cut at two deviations, biases 0, norms 1 and 0; the
 * patch convolution as torch starts one. */
static struct wl_rule init(const char *name, const struct wl_shape *s)
{
	if (s->rank == 4)
		return (struct wl_rule){WL_START_UNIFORM,
			1 / sqrtf((float)(s->dim[1] * s->dim[2] * s->dim[3]))};
	if (s->rank > 1)
		return (struct wl_rule){WL_START_TRUNC, 0.02f};
	if (strstr(name, "norm") && strstr(name, ".weight"))
		return (struct wl_rule){WL_START_CONST, 1};
	return (struct wl_rule){WL_START_CONST, 0};
}

const struct wl_image_encoder wl_vit_encoder = {.name = "vit", .defaults = defaults,
	.check = check, .width = width, .features = features, .init = init};

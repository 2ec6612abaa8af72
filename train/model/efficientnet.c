/* EfficientNet.  See efficientnet.h. */
#include "train/model/efficientnet.h"

#include "train/model/build.h"
#include "train/model/init.h"

#include <math.h>
#include <string.h>

static const float bn_eps = 1e-3f, bn_momentum = 0.1f; /* timm's tf_ models */

/* Tan, Le 2019, table 1 and section 5: width, depth and own resolution of each. */
static const struct {
	const char *name;
	bool lite;
	double width, depth;
} scalings[] = {
	{"b0", false, 1.0, 1.0},    {"b1", false, 1.0, 1.1},    {"b2", false, 1.1, 1.2},
	{"b3", false, 1.2, 1.4},    {"b4", false, 1.4, 1.8},    {"b5", false, 1.6, 2.2},
	{"b6", false, 1.8, 2.6},    {"b7", false, 2.0, 3.1},    {"lite0", true, 1.0, 1.0},
	{"lite1", true, 1.0, 1.1},  {"lite2", true, 1.1, 1.2},  {"lite3", true, 1.2, 1.4},
	{"lite4", true, 1.4, 1.8},
};

/* B0's stages before scaling: kernel, stride, expansion, channels out, repeats. */
static const struct {
	int kernel, stride, expand, out, repeats;
} base[WL_EFFNET_STAGES] = {
	{3, 1, 1, 16, 1}, {3, 2, 6, 24, 2}, {5, 2, 6, 40, 2}, {3, 2, 6, 80, 3},
	{5, 1, 6, 112, 3}, {5, 2, 6, 192, 4}, {3, 1, 6, 320, 1}};

/* To a multiple of 8, at least 8, never below 90 % of the target. */
static int round_channels(double channels)
{
	int rounded = (int)(channels + 4) / 8 * 8;

	if (rounded < 8)
		rounded = 8;
	return rounded < 0.9 * channels ? rounded + 8 : rounded;
}

void wl_effnet_plan(const struct wl_effnet_config *c, struct wl_effnet_plan *out)
{
	int in;

	*out = (struct wl_effnet_plan){0};
	out->stem = in = c->lite ? 32 : round_channels(32 * c->width);
	out->head = c->head ? c->head : c->lite ? 1280 : round_channels(1280 * c->width);
	for (int i = 0; i < WL_EFFNET_STAGES; i++) {
		bool fixed = c->lite && (i == 0 || i == WL_EFFNET_STAGES - 1);
		struct wl_effnet_stage *s = &out->stage[i];

		s->kernel = base[i].kernel;
		s->stride = base[i].stride;
		s->expand = base[i].expand;
		s->in = in;
		s->out = in = round_channels(base[i].out * c->width);
		s->blocks = fixed ? base[i].repeats : (int)ceil(base[i].repeats * c->depth);
		out->blocks += s->blocks;
	}
}

/* What all blocks of one network share. */
struct net {
	struct wl_graph *g;
	const struct wl_effnet_config *c;
	enum wl_act act;
};

static wl_tid conv(const struct net *n, const char *prefix, const char *name, wl_tid x, int out,
	int kernel, int stride)
{
	struct wl_shape s = wl_g_shape(n->g, x);
	wl_tid w = wl_m_param(n->g, prefix, name, WL_LAYOUT_CONV,
		WL_SHAPE(out, wl_shape_last(&s), kernel, kernel), WL_PARAM_WEIGHT);

	return wl_g_conv2d(n->g, x, w, WL_NONE, stride);
}

static wl_tid depthwise(const struct net *n, const char *prefix, wl_tid x, int kernel, int stride)
{
	struct wl_shape s = wl_g_shape(n->g, x);
	wl_tid w = wl_m_param(n->g, prefix, "conv_dw.weight", WL_LAYOUT_DEPTHWISE,
		WL_SHAPE(wl_shape_last(&s), 1, kernel, kernel), WL_PARAM_WEIGHT);

	return wl_g_depthwise(n->g, x, w, stride);
}

static wl_tid batch_norm(const struct net *n, const char *prefix, const char *name, wl_tid x,
	enum wl_act act, wl_tid residual, float drop_path)
{
	struct wl_shape s = wl_g_shape(n->g, x), channels = WL_SHAPE(wl_shape_last(&s));
	struct wl_bn bn = {.eps = bn_eps, .momentum = bn_momentum, .act = act,
		.residual = residual, .drop_path = drop_path, .use_running = n->c->frozen_bn};
	struct wl_name full;

	full = wl_m_name("%s%s", prefix, name);
	bn.gamma = wl_m_param(n->g, full.s, ".weight", WL_LAYOUT_PLAIN, channels, WL_PARAM_GAIN);
	bn.beta = wl_m_param(n->g, full.s, ".bias", WL_LAYOUT_PLAIN, channels, WL_PARAM_GAIN);
	bn.mean = wl_m_param(n->g, full.s, ".running_mean", WL_LAYOUT_PLAIN, channels,
		WL_PARAM_BUFFER);
	bn.var = wl_m_param(n->g, full.s, ".running_var", WL_LAYOUT_PLAIN, channels,
		WL_PARAM_BUFFER);
	return wl_g_batch_norm(n->g, x, &bn);
}

/* A biased 1x1 convolution of a [N,C] vector: the two layers of squeeze-excite. */
static wl_tid se_conv(const struct net *n, const char *prefix, const char *name, wl_tid x, int out,
	enum wl_act act)
{
	struct wl_shape s = wl_g_shape(n->g, x);
	struct wl_name full;
	wl_tid w, b;

	full = wl_m_name("%sse.%s", prefix, name);
	w = wl_m_param(n->g, full.s, ".weight", WL_LAYOUT_CONV,
		WL_SHAPE(out, wl_shape_last(&s), 1, 1), WL_PARAM_WEIGHT);
	b = wl_m_param(n->g, full.s, ".bias", WL_LAYOUT_PLAIN, WL_SHAPE(out), WL_PARAM_GAIN);
	return wl_g_linear(n->g, x, w, b, act);
}

/* x * sigmoid(expand(act(reduce(mean(x))))); a quarter of the block's input channels between. */
static wl_tid squeeze_excite(const struct net *n, const char *prefix, wl_tid x, int block_in)
{
	struct wl_shape s = wl_g_shape(n->g, x);
	wl_tid gate;

	if (n->c->lite)
		return x;
	gate = wl_g_mean_hw(n->g, x);
	gate = se_conv(n, prefix, "conv_reduce", gate, (int)lrint(block_in * 0.25), n->act);
	gate = se_conv(n, prefix, "conv_expand", gate, (int)wl_shape_last(&s), WL_ACT_NONE);
	return wl_g_channel_scale(n->g, x, gate);
}

/* One block. Expansion 1 is timm's DepthwiseSeparable, else its InvertedResidual: the same
 * chain, but the names move up by one. */
static wl_tid block(const struct net *n, const char *prefix, wl_tid x,
	const struct wl_effnet_stage *s, bool first, float drop_path)
{
	int in = first ? s->in : s->out, stride = first ? s->stride : 1;
	wl_tid residual = stride == 1 && in == s->out ? x : WL_NONE, h = x;
	bool expands = s->expand > 1;

	if (residual == WL_NONE)
		drop_path = 0;
	if (expands) {
		h = conv(n, prefix, "conv_pw.weight", h, in * s->expand, 1, 1);
		h = batch_norm(n, prefix, "bn1", h, n->act, WL_NONE, 0);
	}
	h = depthwise(n, prefix, h, s->kernel, stride);
	h = batch_norm(n, prefix, expands ? "bn2" : "bn1", h, n->act, WL_NONE, 0);
	h = squeeze_excite(n, prefix, h, in);
	h = conv(n, prefix, expands ? "conv_pwl.weight" : "conv_pw.weight", h, s->out, 1, 1);
	return batch_norm(n, prefix, expands ? "bn3" : "bn2", h, WL_ACT_NONE, residual, drop_path);
}

static wl_tid features(struct wl_graph *g, const struct wl_image_config *c, const char *prefix,
	wl_tid x)
{
	struct net n = {g, &c->effnet, c->effnet.lite ? WL_ACT_RELU6 : WL_ACT_SILU};
	struct wl_effnet_plan plan;
	int done = 0;

	wl_effnet_plan(&c->effnet, &plan);
	wl_g_block(g);
	x = conv(&n, prefix, "conv_stem.weight", x, plan.stem, 3, 2);
	x = batch_norm(&n, prefix, "bn1", x, n.act, WL_NONE, 0);
	for (int i = 0; i < WL_EFFNET_STAGES; i++)
		for (int k = 0; k < plan.stage[i].blocks; k++, done++) {
			struct wl_name name = wl_m_name("%sblocks.%d.%d.", prefix, i, k);

			wl_g_block(g);
			x = block(&n, name.s, x, &plan.stage[i], k == 0,
				c->effnet.drop_path * (float)done / (float)plan.blocks);
		}
	wl_g_block_end(g);
	x = conv(&n, prefix, "conv_head.weight", x, plan.head, 1, 1);
	return batch_norm(&n, prefix, "bn2", x, n.act, WL_NONE, 0);
}

static int find(const char *name)
{
	for (size_t i = 0; i < sizeof scalings / sizeof *scalings; i++)
		if (!strcmp(name, scalings[i].name))
			return (int)i;
	return -1;
}

bool wl_effnet_known(const char *name)
{
	return find(name) >= 0;
}

/* Lite was trained on pixels in [-1, 1], the others on ImageNet's mean and deviation. */
static int defaults(struct wl_image_config *c, struct wl_err *err)
{
	static const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
	int i = find(c->encoder);

	if (i < 0)
		return wl_err_set(err, WL_EUSAGE, "there is no EfficientNet \"%s\"", c->encoder);
	c->effnet.lite = scalings[i].lite;
	c->effnet.width = scalings[i].width;
	c->effnet.depth = scalings[i].depth;
	for (int k = 0; k < 3; k++) {
		c->mean[k] = scalings[i].lite ? 0.5f : mean[k];
		c->std[k] = scalings[i].lite ? 0.5f : std[k];
	}
	return 0;
}

static int check(const struct wl_image_config *c, struct wl_err *err)
{
	const struct wl_effnet_config *e = &c->effnet;

	if (!(e->width >= 0.1 && e->width <= 16 && e->depth > 0 && e->depth <= 16))
		return wl_err_set(err, WL_EUSAGE,
			"model.image has width %g and depth %g; both are scalings of B0, 0.1 to 16",
			e->width, e->depth);
	if (!(e->drop_path >= 0 && e->drop_path < 1))
		return wl_err_set(err, WL_EUSAGE,
			"model.image.drop_path is %g; it is a probability below 1",
			(double)e->drop_path);
	return 0;
}

static int width(const struct wl_image_config *c)
{
	struct wl_effnet_plan plan;

	wl_effnet_plan(&c->effnet, &plan);
	return plan.head;
}

/* timm's _init_weight_goog: convolutions normal with variance 2 / fan_out, where fan_out of a
 * depthwise one is k*k (one output channel a group); biases 0; batch norm 1, 0. */
static struct wl_rule init(const char *name, const struct wl_shape *s)
{
	size_t n = strlen(name);

	if (s->rank == 4) {
		bool depthwise_weight = strstr(name, "conv_dw.") != NULL;
		int64_t fan_out = s->dim[2] * s->dim[3] * (depthwise_weight ? 1 : s->dim[0]);

		return (struct wl_rule){WL_START_NORMAL, sqrtf(2.0f / (float)fan_out)};
	}
	if (n > 7 && (!strcmp(name + n - 7, ".weight") || !strcmp(name + n - 4, "_var")))
		return (struct wl_rule){WL_START_CONST, 1};
	return (struct wl_rule){WL_START_CONST, 0};
}

const struct wl_image_encoder wl_effnet_encoder = {.name = "efficientnet", .defaults = defaults,
	.check = check, .width = width, .features = features, .init = init};

/* How parameters start, and which ones stay as they are.  See init.h. */
#include "train/model/init.h"

#include "train/model/encoder.h"

#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), k = strlen(suffix);

	return n >= k && !strcmp(s + n - k, suffix);
}

static int64_t fan_in(const struct wl_shape *torch_shape)
{
	return wl_shape_count(torch_shape) / torch_shape->dim[0];
}

/* torch.nn's defaults for the SA blocks and MLPs: Xavier-uniform for the packed in_proj,
 * kaiming_uniform(a = sqrt 5) = uniform in 1/sqrt(fan_in) for linear layers; biases of the
 * attention 0, of linear layers uniform in 1/sqrt(fan_in of their weight). */
static struct wl_rule torch_rule(const struct wl_params *p, const struct wl_param *e)
{
	char weight[512];
	size_t n = strlen(e->name);
	int64_t in;
	int w;

	if (strstr(e->name, ".norm"))
		return (struct wl_rule){WL_START_CONST, has_suffix(e->name, "weight") ? 1.f : 0.f};
	if (has_suffix(e->name, "in_proj_weight"))
		return (struct wl_rule){WL_START_UNIFORM,
			sqrtf(6.0f / (float)(e->torch_shape.dim[0] + e->torch_shape.dim[1]))};
	if (has_suffix(e->name, "in_proj_bias") || has_suffix(e->name, "out_proj.bias"))
		return (struct wl_rule){WL_START_CONST, 0};
	in = e->torch_shape.rank > 1 ? fan_in(&e->torch_shape) : 1;
	if (has_suffix(e->name, ".bias") && n + 3 < sizeof weight) {
		memcpy(weight, e->name, n - 4);
		memcpy(weight + n - 4, "weight", 7);
		w = wl_params_find(p, weight);
		if (w >= 0)
			in = fan_in(&p->item[w].torch_shape);
	}
	return (struct wl_rule){WL_START_UNIFORM, 1 / sqrtf((float)in)};
}

static void fill(const struct wl_rule *r, struct wl_rng_key key, int64_t n, float *out)
{
	for (int64_t i = 0; i < n; i++)
		switch (r->kind) {
		case WL_START_CONST:
			out[i] = r->scale;
			break;
		case WL_START_NORMAL:
			out[i] = r->scale * wl_rng_normal(key, (uint64_t)i);
			break;
		case WL_START_TRUNC:
			out[i] = wl_rng_trunc_normal(key, (uint64_t)i, r->scale);
			break;
		case WL_START_UNIFORM:
			out[i] = r->scale * (2 * wl_rng_uniform(key, (uint64_t)i) - 1);
			break;
		}
}

/* The rule of entry e; false when the entry is not the model's. */
static bool find_rule(const struct wl_params *p, const struct wl_param *e,
	const struct wl_image_encoder *ie, const struct wl_text_encoder *te, struct wl_rule *rule)
{
	static const char image[] = "imgencoder.backbone.", text[] = "textencoder.backbone.bert.";

	if (!strncmp(e->name, image, sizeof image - 1))
		*rule = ie->init(e->name + sizeof image - 1, &e->torch_shape);
	else if (!strncmp(e->name, text, sizeof text - 1))
		*rule = te->init(e->name + sizeof text - 1, &e->torch_shape);
	else if (!strncmp(e->name, "imgencoder.", 11) || !strncmp(e->name, "textencoder.", 12))
		*rule = torch_rule(p, e);
	else
		return false;
	return true;
}

int wl_model_init(struct wl_params *p, const struct wl_model_config *c, uint64_t seed,
	struct wl_err *err)
{
	const struct wl_image_encoder *ie = wl_image_encoder_find(c->image.encoder, err);
	const struct wl_text_encoder *te = wl_text_encoder_find(c->text.encoder, err);
	int64_t most = 1;
	float *host;

	if (!ie || !te)
		return -1;
	for (int i = 0; i < p->n; i++)
		most = p->item[i].count > most ? p->item[i].count : most;
	host = malloc((size_t)most * sizeof *host);
	if (!host)
		return wl_err_nomem(err, "initial weights", (size_t)most * sizeof *host);
	for (int i = 0; i < p->n; i++) {
		const struct wl_param *e = &p->item[i];
		struct wl_rule rule;

		if (!find_rule(p, e, ie, te, &rule))
			continue;
		fill(&rule, wl_rng_key_name(seed, e->name), e->count, host);
		wl_param_from_torch(p, i, host);
	}
	free(host);
	return 0;
}

int wl_model_freeze(struct wl_params *p, const struct wl_model_config *c, struct wl_err *err)
{
	int frozen = 0;

	for (int k = 0; k < c->n_freeze; k++) {
		int matched = 0;

		for (int i = 0; i < p->n; i++) {
			if (fnmatch(c->freeze[k], p->item[i].name, 0))
				continue;
			matched++;
			if (p->item[i].flags & WL_PARAM_TRAINABLE)
				frozen++;
			p->item[i].flags &= ~(unsigned)WL_PARAM_TRAINABLE;
		}
		if (!matched)
			return wl_err_set(err, WL_EUSAGE,
				"the pattern \"%s\" of model.freeze matches none of the %d "
				"parameters; names look like \"%.100s\"",
				c->freeze[k], p->n, p->n ? p->item[0].name : "");
	}
	return frozen;
}

/*
 * The model's configuration.  See config.h.  A table per mapping (key, kind,
 * place) serves reading, writing and the list of valid keys at once.
 */
#include "train/model/config.h"

#include "ops/json.h"
#include "train/model/encoder.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum kind { K_INT, K_NUM, K_DOUBLE, K_BOOL };

struct field {
	const char *key;
	enum kind kind;
	size_t place;
};

#define F(type, key, kind, member) {key, kind, offsetof(type, member)}
static const struct field image_fields[] = {
	F(struct wl_image_config, "px", K_INT, px),
	F(struct wl_image_config, "grid", K_INT, grid),
	F(struct wl_image_config, "regions", K_INT, regions),
	F(struct wl_image_config, "region_width", K_INT, region_width),
	F(struct wl_image_config, "width", K_DOUBLE, effnet.width),
	F(struct wl_image_config, "depth", K_DOUBLE, effnet.depth),
	F(struct wl_image_config, "head", K_INT, effnet.head),
	F(struct wl_image_config, "drop_path", K_NUM, effnet.drop_path),
	F(struct wl_image_config, "vit_patch", K_INT, vit.patch),
	F(struct wl_image_config, "vit_hidden", K_INT, vit.hidden),
	F(struct wl_image_config, "vit_layers", K_INT, vit.layers),
	F(struct wl_image_config, "vit_heads", K_INT, vit.heads),
	F(struct wl_image_config, "roi_align", K_BOOL, roi_align),
	F(struct wl_image_config, "frozen_bn", K_BOOL, effnet.frozen_bn),
};
static const struct field text_fields[] = {
	F(struct wl_text_config, "length", K_INT, length),
	F(struct wl_text_config, "pad_mask", K_BOOL, pad_mask),
	F(struct wl_text_config, "vocab", K_INT, bert.vocab),
	F(struct wl_text_config, "hidden", K_INT, bert.hidden),
	F(struct wl_text_config, "layers", K_INT, bert.layers),
	F(struct wl_text_config, "heads", K_INT, bert.heads),
	F(struct wl_text_config, "ffn", K_INT, bert.ffn),
	F(struct wl_text_config, "positions", K_INT, bert.positions),
	F(struct wl_text_config, "types", K_INT, bert.types),
	F(struct wl_text_config, "ln_eps", K_NUM, bert.ln_eps),
	F(struct wl_text_config, "dropout", K_NUM, bert.dropout),
	F(struct wl_text_config, "attention_dropout", K_NUM, bert.attention_dropout),
};
static const struct field sa_fields[] = {
	F(struct wl_sa_config, "layers", K_INT, layers),
	F(struct wl_sa_config, "heads", K_INT, heads),
	F(struct wl_sa_config, "ffn", K_INT, ffn),
	F(struct wl_sa_config, "dropout", K_NUM, dropout),
};
#undef F
#define COUNT(a) (sizeof(a) / sizeof *(a))

/* --- presets --- */

static const struct wl_bert_config bert_base = {.vocab = 21128, .hidden = 768, .layers = 12,
	.heads = 12, .ffn = 3072, .positions = 512, .types = 2, .ln_eps = 1e-12f, .dropout = 0.1f,
	.attention_dropout = 0.1f};

static int add_freeze(struct wl_model_config *c, const char *pattern)
{
	if (c->n_freeze == WL_FREEZE_MAX || strlen(pattern) >= WL_FREEZE_TEXT)
		return -1;
	snprintf(c->freeze[c->n_freeze++], WL_FREEZE_TEXT, "%s", pattern);
	return 0;
}

/* What the published runs froze (FACTS section 5): the CNN's stem, stages 0 to 2 and head, and
 * all of BERT below its last four layers. */
static void freeze_as_published(struct wl_model_config *c, bool large)
{
	static const char *const always[] = {
		"imgencoder.backbone.conv_stem.*", "imgencoder.backbone.bn1.*",
		"imgencoder.backbone.blocks.[0-2].*", "imgencoder.backbone.conv_head.*",
		"imgencoder.backbone.bn2.*", "textencoder.backbone.bert.embeddings.*"};
	static const char *const base[] = {"textencoder.backbone.bert.encoder.layer.[0-7].*"};
	static const char *const top[] = {"textencoder.backbone.bert.encoder.layer.[0-9].*",
		"textencoder.backbone.bert.encoder.layer.1[0-9].*"};
	int full = 0;

	for (size_t i = 0; i < COUNT(always); i++)
		full |= add_freeze(c, always[i]);
	for (size_t i = 0; large && i < COUNT(top); i++)
		full |= add_freeze(c, top[i]);
	if (!large)
		full |= add_freeze(c, base[0]);
	WL_ASSERT(full == 0);
}

static void preset_published(struct wl_model_config *c, bool paper)
{
	struct wl_sa_config sa = {.layers = 4, .heads = 4, .ffn = 2048, .dropout = 0.1f};

	c->dim = paper ? 2560 : 2048;
	c->image.px = paper ? 600 : 380; /* paper: not stated; 600 is B7's own */
	c->image.grid = 6;
	c->image.regions = 37;
	c->image.attention = c->text.attention = sa;
	c->text.bert = bert_base;
	if (paper) {
		c->text.bert.hidden = 1024;
		c->text.bert.layers = 24;
		c->text.bert.heads = 16;
		c->text.bert.ffn = 4096;
	}
	c->text.length = 80;
	c->text.pad_mask = paper;
	freeze_as_published(c, paper);
}

/* Ours: what one machine without an accelerator trains in minutes to hours. */
static void preset_small(struct wl_model_config *c)
{
	struct wl_sa_config sa = {.layers = 2, .heads = 4, .ffn = 512, .dropout = 0.1f};

	c->dim = 256;
	c->image.px = 128;
	c->image.grid = 6;
	c->image.regions = 37;
	c->image.effnet.head = 256;
	c->image.attention = c->text.attention = sa;
	c->text.bert = bert_base;
	c->text.bert.vocab = 0;
	c->text.bert.hidden = 256;
	c->text.bert.layers = 4;
	c->text.bert.heads = 4;
	c->text.bert.ffn = 1024;
	c->text.bert.positions = 128;
	c->text.length = 32;
	c->text.pad_mask = true;
}

/* Sets the encoder and what goes with it: the scalings and the input's normalisation. */
static int set_image_encoder(struct wl_image_config *c, const char *name, struct wl_err *err)
{
	const struct wl_image_encoder *e = wl_image_encoder_find(name, err);

	if (!e)
		return -1;
	snprintf(c->encoder, sizeof c->encoder, "%s", name);
	return e->defaults(c, err);
}

static int set_text_encoder(struct wl_text_config *c, const char *name, struct wl_err *err)
{
	if (!wl_text_encoder_find(name, err))
		return -1;
	snprintf(c->encoder, sizeof c->encoder, "%s", name);
	return 0;
}

int wl_model_preset(const char *name, struct wl_model_config *c, struct wl_err *err)
{
	const char *image;

	*c = (struct wl_model_config){0};
	if (!strcmp(name, "paper")) {
		preset_published(c, true);
		image = "b7";
	} else if (!strcmp(name, "public")) {
		preset_published(c, false);
		image = "b5";
	} else if (!strcmp(name, "small")) {
		preset_small(c);
		image = "b0";
	} else {
		return wl_err_set(err, WL_EUSAGE,
			"there is no model preset \"%.60s\"; the presets are paper, public and "
			"small",
			name);
	}
	snprintf(c->preset, sizeof c->preset, "%s", name);
	WL_TRY(set_text_encoder(&c->text, "bert", err));
	return set_image_encoder(&c->image, image, err);
}

/* --- reading --- */

static int read_field(const json_t *o, const char *where, const struct field *f, void *base,
	struct wl_err *err)
{
	char *at = (char *)base + f->place;
	int64_t i;
	double d;

	switch (f->kind) {
	case K_INT:
		WL_TRY(wl_json_int_or(o, f->key, where, *(int *)(void *)at, &i, err));
		if (i < 0 || i > 1 << 24)
			return wl_err_set(err, WL_EUSAGE, "%s.%s is %lld; it must be 0 to 16777216",
				where, f->key, (long long)i);
		*(int *)(void *)at = (int)i;
		return 0;
	case K_NUM:
		WL_TRY(wl_json_num_or(o, f->key, where, *(float *)(void *)at, &d, err));
		*(float *)(void *)at = (float)d;
		return 0;
	case K_DOUBLE:
		return wl_json_num_or(o, f->key, where, *(double *)(void *)at,
			(double *)(void *)at, err);
	default:
		return wl_json_bool_or(o, f->key, where, *(bool *)(void *)at, (bool *)(void *)at,
			err);
	}
}

/* Reads the table's keys from mapping o; `more` are other valid keys, NULL-terminated. */
static int read_fields(const json_t *o, const char *where, const struct field *f, size_t n,
	const char *const *more, void *base, struct wl_err *err)
{
	const char *known[32];
	size_t k = 0;

	if (!json_is_object(o))
		return wl_err_set(err, WL_EUSAGE, "%s must be a mapping of keys to values", where);
	for (size_t i = 0; i < n; i++)
		known[k++] = f[i].key;
	while (more && *more)
		known[k++] = *more++;
	known[k] = NULL;
	WL_TRY(wl_json_only_keys(o, known, where, err));
	for (size_t i = 0; i < n; i++)
		WL_TRY(read_field(o, where, &f[i], base, err));
	return 0;
}

static int read_triple(const json_t *o, const char *key, float out[3], struct wl_err *err)
{
	const json_t *v = json_object_get(o, key);

	if (!v || json_is_null(v))
		return 0;
	for (size_t i = 0; i < 3; i++) {
		if (json_array_size(v) != 3 || !json_is_number(json_array_get(v, i)))
			return wl_err_set(err, WL_EUSAGE,
				"model.image.%s must be a list of three numbers, one a "
				"colour", key);
		out[i] = (float)json_number_value(json_array_get(v, i));
	}
	return 0;
}

static int parse_image(const json_t *o, struct wl_image_config *c, struct wl_err *err)
{
	static const char *const more[] = {"encoder", "mean", "std", "attention", NULL};
	const char *encoder;
	const json_t *sa;

	if (!o || json_is_null(o))
		return 0;
	WL_TRY(wl_json_str_or(o, "encoder", "model.image", c->encoder, &encoder, err));
	if (strcmp(encoder, c->encoder))
		WL_TRY(set_image_encoder(c, encoder, err));
	WL_TRY(read_fields(o, "model.image", image_fields, COUNT(image_fields), more, c, err));
	WL_TRY(read_triple(o, "mean", c->mean, err));
	WL_TRY(read_triple(o, "std", c->std, err));
	sa = json_object_get(o, "attention");
	return !sa ? 0 : read_fields(sa, "model.image.attention", sa_fields, COUNT(sa_fields),
		NULL, &c->attention, err);
}

static int parse_text(const json_t *o, struct wl_text_config *c, struct wl_err *err)
{
	static const char *const more[] = {"encoder", "attention", NULL};
	const char *encoder;
	const json_t *sa;

	if (!o || json_is_null(o))
		return 0;
	WL_TRY(wl_json_str_or(o, "encoder", "model.text", c->encoder, &encoder, err));
	if (strcmp(encoder, c->encoder))
		WL_TRY(set_text_encoder(c, encoder, err));
	WL_TRY(read_fields(o, "model.text", text_fields, COUNT(text_fields), more, c, err));
	sa = json_object_get(o, "attention");
	return !sa ? 0 : read_fields(sa, "model.text.attention", sa_fields, COUNT(sa_fields), NULL,
		&c->attention, err);
}

static int parse_freeze(const json_t *list, struct wl_model_config *c, struct wl_err *err)
{
	const json_t *v;
	size_t i;

	if (!list || json_is_null(list))
		return 0;
	if (!json_is_array(list))
		return wl_err_set(err, WL_EUSAGE,
			"model.freeze must be a list of name patterns; write [] to freeze nothing");
	c->n_freeze = 0; /* a list given replaces the preset's */
	json_array_foreach(list, i, v)
		if (!json_is_string(v) || add_freeze(c, json_string_value(v)) < 0)
			return wl_err_set(err, WL_EUSAGE,
				"model.freeze entry %zu must be a pattern of at most %d "
				"characters, and there may be %d",
				i, WL_FREEZE_TEXT - 1, WL_FREEZE_MAX);
	return 0;
}

int wl_model_parse(const json_t *v, struct wl_model_config *c, struct wl_err *err)
{
	static const char *const known[] = {"preset", "dim", "freeze", "image", "text", NULL};
	const char *preset;
	int64_t dim;

	if (!v || json_is_null(v))
		return wl_model_preset("small", c, err);
	if (json_is_string(v))
		return wl_model_preset(json_string_value(v), c, err);
	if (!json_is_object(v))
		return wl_err_set(err, WL_EUSAGE,
			"model must be a preset's name (paper, public, small) or a mapping");
	WL_TRY(wl_json_only_keys(v, known, "model", err));
	WL_TRY(wl_json_str_or(v, "preset", "model", "small", &preset, err));
	WL_TRY(wl_model_preset(preset, c, err));
	WL_TRY(wl_json_int_or(v, "dim", "model", c->dim, &dim, err));
	if (dim < 1 || dim > 1 << 20)
		return wl_err_set(err, WL_EUSAGE, "model.dim is %lld; it must be 1 to 1048576",
			(long long)dim);
	c->dim = (int)dim;
	WL_TRY(parse_freeze(json_object_get(v, "freeze"), c, err));
	WL_TRY(parse_image(json_object_get(v, "image"), &c->image, err));
	WL_TRY(parse_text(json_object_get(v, "text"), &c->text, err));
	return wl_model_check(c, err);
}

/* --- writing --- */

/* A float as the shortest decimal that reads back as the same float: 0.1, not 0.100000001. */
static json_t *float_json(float f)
{
	double d = f;
	char text[32];

	for (int digits = 6; digits <= 9; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, (double)f);
		if (sscanf(text, "%lf", &d) == 1 && (float)d == f)
			break;
	}
	return json_real(d);
}

static int write_fields(json_t *o, const struct field *f, size_t n, const void *base)
{
	int bad = 0;

	for (size_t i = 0; i < n; i++) {
		const void *at = (const char *)base + f[i].place;
		json_t *v;

		switch (f[i].kind) {
		case K_INT:
			v = json_integer(*(const int *)at);
			break;
		case K_NUM:
			v = float_json(*(const float *)at);
			break;
		case K_DOUBLE:
			v = json_real(*(const double *)at);
			break;
		default:
			v = json_boolean(*(const bool *)at);
		}
		bad |= json_object_set_new(o, f[i].key, v);
	}
	return bad;
}

json_t *wl_model_to_json(const struct wl_model_config *c)
{
	json_t *o = json_object(), *image = json_object(), *text = json_object();
	json_t *sa_image = json_object(), *sa_text = json_object(), *freeze = json_array();
	json_t *mean = json_array(), *std = json_array();
	int bad = 0;

	for (int i = 0; i < c->n_freeze; i++)
		bad |= json_array_append_new(freeze, json_string(c->freeze[i]));
	for (int i = 0; i < 3; i++) {
		bad |= json_array_append_new(mean, float_json(c->image.mean[i]));
		bad |= json_array_append_new(std, float_json(c->image.std[i]));
	}
	bad |= write_fields(sa_image, sa_fields, COUNT(sa_fields), &c->image.attention);
	bad |= write_fields(sa_text, sa_fields, COUNT(sa_fields), &c->text.attention);
	bad |= json_object_set_new(image, "encoder", json_string(c->image.encoder));
	bad |= write_fields(image, image_fields, COUNT(image_fields), &c->image);
	bad |= json_object_set_new(image, "mean", mean);
	bad |= json_object_set_new(image, "std", std);
	bad |= json_object_set_new(image, "attention", sa_image);
	bad |= json_object_set_new(text, "encoder", json_string(c->text.encoder));
	bad |= write_fields(text, text_fields, COUNT(text_fields), &c->text);
	bad |= json_object_set_new(text, "attention", sa_text);
	bad |= json_object_set_new(o, "preset", json_string(c->preset));
	bad |= json_object_set_new(o, "dim", json_integer(c->dim));
	bad |= json_object_set_new(o, "freeze", freeze);
	bad |= json_object_set_new(o, "image", image);
	bad |= json_object_set_new(o, "text", text);
	if (!bad)
		return o;
	json_decref(o);
	return NULL;
}

/* --- checking --- */

static int between(const char *what, double v, double low, double high, struct wl_err *err)
{
	if (v >= low && v <= high) /* false for NaN */
		return 0;
	wl_err_set(err, WL_EUSAGE, "model.%s is %g; it must be %g to %g", what, v, low, high);
	return -1;
}

static int check_attention(const char *what, const struct wl_sa_config *sa, int width,
	struct wl_err *err)
{
	char name[64];

	snprintf(name, sizeof name, "%s.attention.layers", what);
	WL_TRY(between(name, sa->layers, 0, 64, err));
	snprintf(name, sizeof name, "%s.attention.ffn", what);
	WL_TRY(between(name, sa->ffn, 1, 1 << 16, err));
	snprintf(name, sizeof name, "%s.attention.dropout", what);
	WL_TRY(between(name, (double)sa->dropout, 0, 0.9, err));
	if (sa->heads < 1 || width % sa->heads)
		return wl_err_set(err, WL_EUSAGE,
			"model.%s.attention.heads is %d, which does not divide the %d channels "
			"that the block works on; choose a divisor",
			what, sa->heads, width);
	return 0;
}

int wl_model_check(const struct wl_model_config *c, struct wl_err *err)
{
	const struct wl_image_encoder *ie = wl_image_encoder_find(c->image.encoder, err);
	const struct wl_text_encoder *te = wl_text_encoder_find(c->text.encoder, err);
	int width;

	if (!ie || !te)
		return -1;
	WL_TRY(between("image.px", c->image.px, 64, 4096, err));
	WL_TRY(between("image.grid", c->image.grid, 1, 64, err));
	WL_TRY(between("image.regions", c->image.regions, 1, 4097, err));
	for (int i = 0; i < 3; i++)
		WL_TRY(between("image.std", (double)c->image.std[i], 1e-3, 1e3, err));
	WL_TRY(between("text.length", c->text.length, 3, 4096, err));
	WL_TRY(ie->check(&c->image, err));
	WL_TRY(te->check(&c->text, err));
	width = c->image.region_width ? c->image.region_width : ie->width(&c->image);
	WL_TRY(check_attention("image", &c->image.attention, width, err));
	return check_attention("text", &c->text.attention, te->width(&c->text), err);
}

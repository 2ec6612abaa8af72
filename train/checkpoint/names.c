/* Names of weights in other projects' files.  See names.h. */
#include "train/checkpoint/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char image_scope[] = "imgencoder.backbone.";
static const char text_scope[] = "textencoder.backbone.bert.";

/* A name that ends so gives the style away. More specific ones first. */
static const struct {
	const char *tail;
	enum wl_names_style style;
} marks[] = {
	{"imgencoder.backbone.conv_stem.weight", WL_NAMES_BRIVL},
	{"imgencoder.backbone.patch_embed.proj.weight", WL_NAMES_BRIVL},
	{"textencoder.backbone.bert.embeddings.word_embeddings.weight", WL_NAMES_BRIVL},
	{"_conv_stem.weight", WL_NAMES_EFFNET},
	{"conv_stem.weight", WL_NAMES_TIMM},
	{"patch_embed.proj.weight", WL_NAMES_TIMM},
	{"embeddings.word_embeddings.weight", WL_NAMES_BERT},
};

const char *wl_names_style_text(enum wl_names_style style)
{
	static const char *const text[] = {"BriVL", "timm", "EfficientNet-PyTorch",
		"Hugging Face BERT"};

	return text[style];
}

/* How many bytes come before the tail, -1 when the name does not end so. */
static int before_tail(const char *name, const char *tail)
{
	size_t n = strlen(name), k = strlen(tail);

	return n >= k && !strcmp(name + n - k, tail) ? (int)(n - k) : -1;
}

static void count_blocks(struct wl_names_map *m, const struct wl_params *p)
{
	char name[128];

	for (int s = 0; s < WL_NAMES_EFFNET_STAGES; s++)
		for (m->blocks[s] = 0;; m->blocks[s]++) {
			snprintf(name, sizeof name, "%sblocks.%d.%d.bn1.weight", image_scope, s,
				m->blocks[s]);
			if (wl_params_find(p, name) < 0)
				break;
		}
}

int wl_names_detect(struct wl_names_map *m, const struct wl_saved_list *list,
	const struct wl_params *p, const char *path, struct wl_err *err)
{
	*m = (struct wl_names_map){0};
	for (size_t k = 0; k < sizeof marks / sizeof *marks; k++)
		for (size_t i = 0; i < list->count; i++) {
			const char *name = list->items[i].name;
			int strip = before_tail(name, marks[k].tail);

			/* "imgencoder_mom." ends in none of these; "mom." before one is a copy. */
			if (strip < 0 || strip >= (int)sizeof m->before ||
				(strip && name[strip - 1] != '.'))
				continue;
			m->style = marks[k].style;
			m->strip = (size_t)strip;
			memcpy(m->before, name, m->strip);
			m->scope = m->style == WL_NAMES_BRIVL  ? "" :
				   m->style == WL_NAMES_BERT ? text_scope :
							       image_scope;
			if (m->style == WL_NAMES_EFFNET)
				count_blocks(m, p);
			return 0;
		}
	return wl_err_set(err, WL_ECKPT,
		"%s: its %zu tensor names (the first is \"%.100s\") are those of no model known "
		"here; give weights of BriVL, an EfficientNet (timm or EfficientNet-PyTorch) or a "
		"BERT",
		path, list->count, list->count ? list->items[0].name : "");
}

/* "_conv_stem" -> "conv_stem" and so on: a table of whole beginnings. */
static bool replace_begin(const char *name, const char *const (*table)[2], size_t n, char *out,
	size_t size)
{
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(table[i][0]);

		if (strncmp(name, table[i][0], len))
			continue;
		snprintf(out, size, "%s%s", table[i][1], name + len);
		return true;
	}
	return false;
}

/* _blocks.N.x -> blocks.S.B.y. In the first stage, which does not expand, timm numbers the norms
 * from the depthwise one and calls the projection conv_pw. */
static bool effnet_block(const struct wl_names_map *m, const char *name, char *out, size_t size)
{
	static const char *const plain[][2] = {{"_depthwise_conv.", "conv_dw."}, {"_bn1.", "bn1."},
		{"_se_reduce.", "se.conv_reduce."}, {"_se_expand.", "se.conv_expand."},
		{"_project_conv.", "conv_pw."}, {"_bn2.", "bn2."}};
	static const char *const expanded[][2] = {{"_expand_conv.", "conv_pw."}, {"_bn0.", "bn1."},
		{"_depthwise_conv.", "conv_dw."}, {"_bn1.", "bn2."},
		{"_se_reduce.", "se.conv_reduce."}, {"_se_expand.", "se.conv_expand."},
		{"_project_conv.", "conv_pwl."}, {"_bn2.", "bn3."}};
	char rest[WL_NAMES_BYTES], *end;
	long n = strtol(name, &end, 10);
	int stage = 0;
	bool known;

	if (end == name || *end != '.' || n < 0)
		return false;
	while (stage < WL_NAMES_EFFNET_STAGES && n >= m->blocks[stage])
		n -= m->blocks[stage++];
	if (stage == WL_NAMES_EFFNET_STAGES)
		return false;
	known = stage ? replace_begin(end + 1, expanded, sizeof expanded / sizeof *expanded, rest,
				sizeof rest) :
			replace_begin(end + 1, plain, sizeof plain / sizeof *plain, rest,
				sizeof rest);
	if (!known)
		return false;
	return snprintf(out, size, "blocks.%d.%ld.%s", stage, n, rest) < (int)size;
}

static bool effnet_name(const struct wl_names_map *m, const char *name, char *out, size_t size)
{
	static const char *const top[][2] = {{"_conv_stem.", "conv_stem."}, {"_bn0.", "bn1."},
		{"_conv_head.", "conv_head."}, {"_bn1.", "bn2."}};

	if (!strncmp(name, "_blocks.", 8))
		return effnet_block(m, name + 8, out, size);
	return replace_begin(name, top, sizeof top / sizeof *top, out, size);
}

/* Hugging Face's names, with TensorFlow's gamma and beta of older files made weight and bias. */
static bool bert_name(const char *name, char *out, size_t size)
{
	int n = before_tail(name, "LayerNorm.gamma");

	if (n >= 0)
		return snprintf(out, size, "%.*sLayerNorm.weight", n, name) < (int)size;
	n = before_tail(name, "LayerNorm.beta");
	if (n >= 0)
		return snprintf(out, size, "%.*sLayerNorm.bias", n, name) < (int)size;
	return snprintf(out, size, "%s", name) < (int)size;
}

/* Parts that files carry and no tower uses. */
static bool unused(const char *name)
{
	return before_tail(name, "num_batches_tracked") >= 0 ||
	       before_tail(name, "embeddings.position_ids") >= 0 ||
	       !strncmp(name, "classifier.", 11) || !strncmp(name, "head.", 5) ||
	       !strncmp(name, "pre_logits.", 11) || !strncmp(name, "_fc.", 4) ||
	       !strncmp(name, "pooler.", 7) || !strncmp(name, "cls.", 4) ||
	       strstr(name, ".backbone.classifier.") || strstr(name, ".bert.pooler.") ||
	       !strncmp(name, "imgencoder_mom.", 15) || !strncmp(name, "textencoder_mom.", 16);
}

bool wl_names_translate(const struct wl_names_map *m, const char *name, char out[WL_NAMES_BYTES])
{
	char own[WL_NAMES_BYTES];
	bool known;

	if (strncmp(name, m->before, m->strip) || unused(name) || unused(name + m->strip))
		return false;
	name += m->strip;
	if (m->style == WL_NAMES_EFFNET)
		known = effnet_name(m, name, own, sizeof own);
	else if (m->style == WL_NAMES_BERT)
		known = bert_name(name, own, sizeof own);
	else
		known = snprintf(own, sizeof own, "%s", name) < (int)sizeof own;
	/* A name that the style does not have stays as it is, and is reported as unexpected. */
	return snprintf(out, WL_NAMES_BYTES, "%s%s", m->scope, known ? own : name) < WL_NAMES_BYTES;
}

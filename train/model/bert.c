/* BERT.  See bert.h; names are BertModel's. */
#include "train/model/bert.h"

#include "train/model/build.h"
#include "train/model/init.h"

#include <string.h>

static wl_tid dense(struct wl_graph *g, const char *layer, const char *name, wl_tid x, int64_t out,
	enum wl_act act)
{
	return wl_m_linear(g, wl_m_name("%s.%s", layer, name).s, x, out, act);
}

static wl_tid norm(struct wl_graph *g, const char *layer, const char *name, wl_tid x,
	wl_tid residual, const struct wl_bert_config *c)
{
	return wl_m_layer_norm(g, wl_m_name("%s.%s", layer, name).s, x, residual,
		residual == WL_NONE ? 0 : c->dropout, c->ln_eps);
}

static wl_tid embeddings(struct wl_graph *g, const struct wl_bert_config *c, const char *prefix,
	wl_tid ids)
{
	wl_tid word, pos, type, x;

	word = wl_m_param(g, prefix, "embeddings.word_embeddings.weight", WL_LAYOUT_PLAIN,
		WL_SHAPE(c->vocab, c->hidden), WL_PARAM_WEIGHT);
	pos = wl_m_param(g, prefix, "embeddings.position_embeddings.weight", WL_LAYOUT_PLAIN,
		WL_SHAPE(c->positions, c->hidden), WL_PARAM_WEIGHT);
	type = wl_m_param(g, prefix, "embeddings.token_type_embeddings.weight", WL_LAYOUT_PLAIN,
		WL_SHAPE(c->types, c->hidden), WL_PARAM_WEIGHT);
	x = wl_g_embedding(g, ids, word, pos, type);
	x = norm(g, wl_m_name("%sembeddings", prefix).s, "LayerNorm", x, WL_NONE, c);
	return c->dropout > 0 ? wl_g_dropout(g, x, c->dropout) : x;
}

static wl_tid bert_layer(struct wl_graph *g, const struct wl_bert_config *c, const char *layer,
	wl_tid x, wl_tid mask)
{
	struct wl_attn at = {.mask = mask, .heads = c->heads, .dropout = c->attention_dropout};
	wl_tid h;

	at.q = dense(g, layer, "attention.self.query", x, c->hidden, WL_ACT_NONE);
	at.k = dense(g, layer, "attention.self.key", x, c->hidden, WL_ACT_NONE);
	at.v = dense(g, layer, "attention.self.value", x, c->hidden, WL_ACT_NONE);
	h = wl_g_attention(g, &at);
	h = dense(g, layer, "attention.output.dense", h, c->hidden, WL_ACT_NONE);
	x = norm(g, layer, "attention.output.LayerNorm", h, x, c);
	h = dense(g, layer, "intermediate.dense", x, c->ffn, WL_ACT_GELU);
	h = dense(g, layer, "output.dense", h, c->hidden, WL_ACT_NONE);
	return norm(g, layer, "output.LayerNorm", h, x, c);
}

static wl_tid features(struct wl_graph *g, const struct wl_text_config *c, const char *prefix,
	wl_tid ids, wl_tid mask)
{
	wl_tid x;

	if (!c->bert.vocab)
		return wl_g_fail(g,
			"model.text.vocab is 0, so the number of words is not known; set it to the "
			"number of lines of vocab.txt");
	x = embeddings(g, &c->bert, prefix, ids);
	for (int i = 0; i < c->bert.layers; i++) {
		struct wl_name layer = wl_m_name("%sencoder.layer.%d", prefix, i);

		wl_g_block(g);
		x = bert_layer(g, &c->bert, layer.s, x, mask);
	}
	wl_g_block_end(g);
	return x;
}

static int width(const struct wl_text_config *c)
{
	return c->bert.hidden;
}

static int check(const struct wl_text_config *c, struct wl_err *err)
{
	const struct wl_bert_config *b = &c->bert;

	if (b->hidden < 1 || b->layers < 1 || b->ffn < 1 || b->types < 1)
		return wl_err_set(err, WL_EUSAGE,
			"model.text has hidden %d, layers %d, ffn %d, types %d; each must be at "
			"least 1",
			b->hidden, b->layers, b->ffn, b->types);
	if (b->hidden > 1 << 16 || b->layers > 512 || b->ffn > 1 << 18)
		return wl_err_set(err, WL_EUSAGE,
			"model.text has hidden %d, layers %d, ffn %d; the most are 65536, 512 and "
			"262144",
			b->hidden, b->layers, b->ffn);
	if (b->heads < 1 || b->hidden % b->heads)
		return wl_err_set(err, WL_EUSAGE,
			"model.text.heads is %d, which does not divide model.text.hidden %d; "
			"choose a divisor",
			b->heads, b->hidden);
	if (c->length > b->positions)
		return wl_err_set(err, WL_EUSAGE,
			"model.text.length is %d but there are %d position embeddings; raise "
			"model.text.positions or shorten the captions",
			c->length, b->positions);
	if (!(b->dropout >= 0 && b->dropout < 1 && b->attention_dropout >= 0 &&
		    b->attention_dropout < 1))
		return wl_err_set(err, WL_EUSAGE,
			"model.text.dropout and attention_dropout are probabilities below 1");
	return 0;
}

/* BertPreTrainedModel._init_weights with initializer_range 0.02, truncated as in Google's
 * original (modeling.py, create_initializer). */
static struct wl_rule init(const char *name, const struct wl_shape *torch_shape)
{
	(void)torch_shape;
	if (strstr(name, "LayerNorm.weight"))
		return (struct wl_rule){WL_START_CONST, 1};
	if (strlen(name) > 5 && !strcmp(name + strlen(name) - 5, ".bias"))
		return (struct wl_rule){WL_START_CONST, 0};
	return (struct wl_rule){WL_START_TRUNC, 0.02f};
}

const struct wl_text_encoder wl_bert_encoder = {
	.name = "bert", .check = check, .width = width, .features = features, .init = init};

/*
 * The few steps that every model here is built of: a named parameter, a linear
 * layer, a layer norm, torch's transformer encoder, the two-layer MLP.  Names
 * are printf-formatted from a prefix, exactly as PyTorch's state_dict has them.
 */
#ifndef WL_TRAIN_MODEL_BUILD_H
#define WL_TRAIN_MODEL_BUILD_H

#include "train/model/config.h"
#include "train/nn/graph.h"

/* A parameter's name or the beginning of one, printf-formatted. */
struct wl_name {
	char s[256];
};
struct wl_name wl_m_name(const char *fmt, ...) WL_PRINTF(1, 2);

/* The parameter prefix + name. */
wl_tid wl_m_param(struct wl_graph *g, const char *prefix, const char *name, enum wl_layout layout,
	struct wl_shape torch_shape, unsigned flags);

/* act(x W^T + b) with W = prefix.weight [out, in], b = prefix.bias: x [..., in] -> [..., out]. */
wl_tid wl_m_linear(struct wl_graph *g, const char *prefix, wl_tid x, int64_t out,
	enum wl_act act);

/* LayerNorm(dropout(x) + residual) with prefix.weight and prefix.bias; residual may be
 * WL_NONE. */
wl_tid wl_m_layer_norm(struct wl_graph *g, const char *prefix, wl_tid x, wl_tid residual,
	float dropout, float eps);

/* torch.nn.TransformerEncoder without a final norm: layers prefix.layers.0 ... of post-norm
 * self-attention and ReLU FFN, LayerNorm eps 1e-5. x [B,S,D], mask f32 [B,S] 1 = a valid key. */
wl_tid wl_m_transformer(struct wl_graph *g, const char *prefix, const struct wl_sa_config *c,
	wl_tid x, wl_tid mask);

/* Linear to D, ReLU, Linear to D: prefix.fc1, prefix.fc2. */
wl_tid wl_m_mlp(struct wl_graph *g, const char *prefix, wl_tid x, int64_t dim);

#endif

/* What the two attentions share: attention.cu for short sequences, attention_long.cu for others. */
#ifndef WL_TRAIN_BACKEND_CUDA_ATTENTION_H
#define WL_TRAIN_BACKEND_CUDA_ATTENTION_H

#include "train/backend/cuda/cuda.h"

enum { CUDA_ATTENTION_KEYS = 128 }; /* the longest sequence of the short one */

struct attn {
	int64_t b, s, d, dh, heads;
	int64_t ld_q, ld_k, ld_v;
	int q_col, k_col, v_col; /* first columns of q, k, v in their rows */
	float scale;
	struct cuda_act q, k, v;
	struct cuda_act o;	/* [b,s,d]; backward: its gradient */
	const float *mask;	/* [b,s]: 0 where no key is; NULL: all are */
	float *lse; /* short: log-sum-exp [b,heads,s]; long: probabilities [b,heads,s,s] */
	float *dot;		/* short, backward: row sums of p dp [b,heads,s] */
};

/* Gradients of q, k, v; absent where p is NULL. */
struct attn_grads {
	struct cuda_act q, k, v;
	bool acc_q, acc_k, acc_v;
};

size_t wl_cuda_long_scratch(const struct attn *a, bool drops);
size_t wl_cuda_long_bwd_scratch(const struct attn *a, bool drops);
void wl_cuda_long_attention(
	struct cuda *c, const struct attn *a, struct cuda_draw draw, void *scratch);
void wl_cuda_long_attention_bwd(struct cuda *c, const struct attn *a, const struct attn_grads *g,
	struct cuda_draw draw, void *scratch);

#endif

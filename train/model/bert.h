/*
 * BERT as Hugging Face's BertModel computes it (FACTS section 10): word,
 * position and type embeddings, then post-norm layers with the erf GELU.  The
 * Chinese RoBERTa-wwm-ext models have this form.  The pooler is left out, since
 * no BriVL uses it; an import names it among the tensors not used.
 */
#ifndef WL_TRAIN_MODEL_BERT_H
#define WL_TRAIN_MODEL_BERT_H

#include "train/model/encoder.h"

extern const struct wl_text_encoder wl_bert_encoder;

#endif

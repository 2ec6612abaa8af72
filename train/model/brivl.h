/*
 * BriVL's two towers (FACTS sections 2 and 3), built on a graph.  The same
 * functions serve the online towers, the momentum towers (a second store with
 * the same names) and inference; what differs is the graph's store and mode.
 *
 * Names are those of the public release: imgencoder.backbone.<timm>,
 * imgencoder.learnable.{max_pool.0,imgAtt,imgFC}, textencoder.backbone.bert.<HF>,
 * textencoder.learnable.{textAtt,textFC}.
 */
#ifndef WL_TRAIN_MODEL_BRIVL_H
#define WL_TRAIN_MODEL_BRIVL_H

#include "train/model/config.h"
#include "train/nn/graph.h"

/* images f32 [N,S,S,3] normalised; boxes f32 [N,R,4] x1 y1 x2 y2 in input pixels; mask f32
 * [N,R], 1 = a region -> embeddings [N,D] of unit length. */
wl_tid wl_brivl_image(struct wl_graph *g, const struct wl_model_config *c, wl_tid images,
	wl_tid boxes, wl_tid mask);

/* ids i32 [B,L]; mask f32 [B,L], 1 = a token, [CLS] and [SEP] included -> [B,D], unit length. */
wl_tid wl_brivl_text(struct wl_graph *g, const struct wl_model_config *c, wl_tid ids,
	wl_tid mask);

/* A graph of one tower for inference, with its inputs named "images", "boxes", "mask" or "ids",
 * "mask", and its output "embeddings". Not compiled yet; NULL on failure. */
struct wl_graph *wl_brivl_image_graph(const struct wl_model_config *c, struct wl_params *params,
	int64_t batch, enum wl_dtype compute_dtype, struct wl_err *err);
struct wl_graph *wl_brivl_text_graph(const struct wl_model_config *c, struct wl_params *params,
	int64_t batch, enum wl_dtype compute_dtype, struct wl_err *err);

#endif

/*
 * BriVL's two towers as MoCo, validation and wenlan-embed see a model, and the
 * two files by which a checkpoint tells how to prepare its inputs.
 */
#ifndef WL_TRAIN_TOWERS_H
#define WL_TRAIN_TOWERS_H

#include "train/moco/moco.h"
#include "train/model/config.h"

/* c is borrowed and must outlive the towers' use. */
void wl_brivl_towers(struct wl_towers *t, const struct wl_model_config *c);

/* What preprocess.json holds: {image_px, regions, grid, use_boxes, text_len, mean, std}.
 * A new reference, NULL without memory. */
json_t *wl_preprocess_json(const struct wl_model_config *c, bool use_boxes);

#endif

/* Label names and which images have them, out of text files. */
#ifndef WL_EVAL_LABELS_H
#define WL_EVAL_LABELS_H

#include "eval/metrics/intern.h"

struct wl_labels {
	struct wl_intern names; /* number = row of the label's embedding */
};

/* One name a line; blank lines are skipped.  WL_EDATA for a name that comes twice or none. */
WL_MUST_CHECK int wl_labels_load(struct wl_labels *l, const char *path, struct wl_err *err);
void wl_labels_release(struct wl_labels *l);

/* True labels: JSON lines {"image_id": ID, "labels": [NAME, ...]} (or "label": NAME).  ids
 * [n_images]: what the embeddings call their images.  Pairs in fresh memory that the caller frees.
 * WL_EDATA with counts and the first offenders for images that the embeddings lack, labels that
 * are not in the list, and images that come twice. */
WL_MUST_CHECK int wl_labels_truth(const struct wl_labels *l, const char *path,
	const int64_t *ids, int64_t n_images, int64_t **pair_image, int64_t **pair_label,
	int64_t *n_pairs, struct wl_err *err);

#endif

/* R@K during training: see validate.h. */
#include "train/validate.h"

#include "eval/metrics/retrieval.h"

#include <stdlib.h>

static json_t *direction(const struct wl_recall *r)
{
	return json_pack("{s:f,s:f,s:f,s:f}", "r1", r->r1, "r5", r->r5, "r10", r->r10,
		"median_rank", r->median_rank);
}

json_t *wl_retrieval_json(
	const struct wl_embeddings *v, struct wl_backend *be, struct wl_err *err)
{
	struct wl_retrieval_in in = {
		.images = v->images,
		.texts = v->texts,
		.n_images = v->n_images,
		.n_texts = v->n_texts,
		.dim = v->dim,
		.pair_image = v->text_image,
		.n_pairs = v->n_texts,
		.backend = be,
	};
	int64_t *each = malloc((size_t)(v->n_texts + 1) * sizeof *each), i;
	struct wl_retrieval r;
	json_t *o = NULL;

	if (!each) {
		wl_err_nomem(err, "pairs", (size_t)v->n_texts * sizeof *each);
		return NULL;
	}
	for (i = 0; i < v->n_texts; i++)
		each[i] = i;
	in.pair_text = each;
	if (wl_retrieval_measure(&in, &r, err) == 0) {
		o = json_pack("{s:o,s:o,s:f,s:I,s:I}", "i2t", direction(&r.i2t), "t2i",
			direction(&r.t2i), "mean_recall", r.mean_recall, "images",
			(json_int_t)r.images, "texts", (json_int_t)r.texts);
		if (!o)
			wl_err_nomem(err, "recalls", 0);
	}
	free(each);
	return o;
}

int wl_validate(struct wl_encoder *e, struct wl_feed *f, struct wl_dist *dist, json_t **out,
	struct wl_err *err)
{
	struct wl_loader_pos start = {0};
	struct wl_embeddings v = {0};
	int ret = -1;

	*out = NULL;
	WL_TRY_OUT(wl_feed_seek(f, &start, err));
	if (dist) {
		WL_TRY_OUT(wl_encode_share(e, f, dist, &v, err));
		WL_TRY_OUT(wl_embeddings_join(&v, wl_dist_comm(dist), err));
	} else {
		WL_TRY_OUT(wl_encode_split(e, f, false, &v, err));
	}
	if (wl_dist_rank(dist) == 0)
		*out = wl_retrieval_json(&v, e->backend, err);
	ret = wl_dist_rank(dist) == 0 && !*out ? -1 : 0;
out:
	wl_embeddings_release(&v);
	return ret;
}

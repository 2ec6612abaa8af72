/*
 * wenlan-embed: a split of shards, a set of pictures, or a file of texts, to a
 * safetensors file with
 *
 *   image_embeddings F32 [N,D], image_ids I64 [N]
 *   text_embeddings F32 [M,D], text_ids I64 [M], text_image I64 [M]
 *
 * Rows are of unit length.  From shards: ids are pair ids, every caption of a sample is a text,
 * and text_image[t] is the row of its picture.  From pictures or texts alone: ids are the
 * places in the list (pictures sorted by path, lines counted from 0), text_image is -1, and the
 * other side has no rows; the metadata key "sources" holds the paths as a JSON list.
 *
 * A corpus gives scores, or a directory of such files: see embed_corpus.h.
 */
#ifndef WL_EVAL_EMBED_H
#define WL_EVAL_EMBED_H

#include "ops/opt.h"

struct wl_embed_opts {
	const char *ckpt, *shards, *cache, *split, *texts, *corpus, *out;
	const char *precision, *device, *store;
	struct wl_strs images; /* files, directories or globs */
	int64_t batch, threads, limit, cache_size;
	bool replace; /* an out of another model, of a corpus */
	bool vectors; /* of a corpus: embeddings instead of scores */
};

/* All that wenlan-embed does: o->out appears whole, or not at all. */
WL_MUST_CHECK int wl_embed_run(const struct wl_embed_opts *o, struct wl_err *err);

#endif

/* Agreement of picture and text, for every pair of a corpus: what wenlan-filter --score-model asks
 * for; or the embeddings of both: what wenlan-dedup --embeddings asks for. */
#ifndef WL_EVAL_EMBED_CORPUS_H
#define WL_EVAL_EMBED_CORPUS_H

#include "eval/embed.h"
#include "eval/model.h"

/* Appends lines "PAIR_ID,COSINE" to o->out for all pairs of o->corpus that it lacks, at most
 * o->limit (0: all); "# PAIR_ID: why" for one without a text or with a picture that cannot be
 * decoded.  The text is the pair's best one, normalised; boxes are the grid's.  WL_EUSAGE when the
 * file is of another model and o->replace is not set.  0 done, 1 stopped on request.
 *
 * With o->vectors o->out is a directory to which files of embeddings are added (embed_vectors.h);
 * a pair without a text, or with a picture that cannot be decoded, has the other embedding. */
WL_MUST_CHECK int wl_embed_corpus(
	struct wl_eval_model *m, const struct wl_embed_opts *o, struct wl_err *err);

#endif
